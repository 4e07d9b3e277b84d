//! The fuzz for hours: `cargo xtask ledger-fuzz` runs it, in a release with assertions.

use std::cell::Cell;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::fuzz::{choices, play, replay};

/// Games of one seed, of at most 400 steps each.
const GAMES: u32 = 20;
/// Steps, unless `HOLDFAST_FUZZ_STEPS` says otherwise: enough to see that it works.
const STEPS: u64 = 2_000;

/// A number from the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "how long to run is no part of the state"
)]
fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|error| panic!("{name} is \"{text}\": {error}")),
        Err(_) => otherwise,
    }
}

/// Plays the games of one seed; gives the steps. A failure is made as small as it gets, and shown.
fn play_seed(seed: u64) -> u64 {
    let steps = Cell::new(0);
    let config = Config {
        cases: GAMES,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let result = TestRunner::new_with_rng(config, rng).run(&choices(), |choices| {
        let mut world = play(choices, |_| {});
        world.run_to_end();
        steps.set(steps.get() + world.log.len() as u64);
        let again = replay(&world);
        if again.digest() != world.ledger.digest() {
            return Err(TestCaseError::fail(
                "the same commands give another digest (R5)",
            ));
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("seed {seed}: {failure}\nagain: cargo xtask ledger-fuzz --seed {seed} --steps 1");
    }
    steps.get()
}

/// Every invariant after every step, for as many steps as are asked for.
#[test]
fn a_marathon_breaks_no_invariant() {
    let wanted = number("HOLDFAST_FUZZ_STEPS", STEPS);
    let mut seed = number("HOLDFAST_FUZZ_SEED", 1);
    let mut steps = 0;
    while steps < wanted {
        steps += play_seed(seed);
        seed += 1;
    }
    println!("{steps} steps, seeds up to {}", seed - 1);
}
