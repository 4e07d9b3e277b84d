//! What a run is beside its seed: a profile, a script, a mutant. Handed on to the process of each seed as it was said.

use clap::{Args, ValueEnum};

use crate::config::{Config, Faults};
use crate::mutant::Mutant;
use crate::scenario::Scenario;
use std::time::Duration;

/// Which faults there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Each class is on or off, as the seed says.
    Swarm,
    /// None.
    Calm,
    /// All classes, one fault after the other.
    Storm,
    /// Only the network fails.
    Network,
    /// Processes and disks fail.
    Processes,
    /// Only the object store fails.
    Store,
    /// As the seed says, for five minutes.
    Long,
}

/// What a run is beside its seed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Variant {
    /// Which faults there are
    #[arg(long, value_enum, default_value_t = Profile::Swarm)]
    pub(crate) profile: Profile,
    /// A script of faults in the place of drawn ones
    #[arg(long, value_enum)]
    pub(crate) scenario: Option<Scenario>,
    /// Break a promise of the world: the run must fail
    #[arg(long, value_enum)]
    pub(crate) mutant: Option<Mutant>,
}

/// Coordinators that wait to be added, where members change.
const SPARES: u64 = 3;

fn name_of(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

impl Variant {
    /// As a seed is without further words.
    pub(crate) const PLAIN: Self = Self {
        profile: Profile::Swarm,
        scenario: None,
        mutant: None,
    };

    /// The words on the command line that say it.
    pub(crate) fn arguments(self) -> Vec<String> {
        let mut words = Vec::new();
        if self.profile != Profile::Swarm {
            words.push(format!("--profile={}", name_of(&self.profile)));
        }
        words.extend(
            self.scenario
                .map(|scenario| format!("--scenario={}", name_of(&scenario))),
        );
        words.extend(
            self.mutant
                .map(|mutant| format!("--mutant={}", name_of(&mutant))),
        );
        words
    }

    /// The parameters of a run.
    pub(crate) fn config(self, seed: u64) -> Config {
        let drawn = Config {
            mutant: self.mutant,
            ..Config::from_seed(seed)
        };
        let drawn = Config {
            log_source: drawn.log_source || self.mutant.is_some_and(Mutant::needs_log),
            ..drawn
        };
        let shaped = self.profile.shape(drawn);
        let shaped = match self.scenario {
            Some(scenario) => scenario.shape(shaped),
            None => shaped,
        };
        Config {
            spares: match shaped.faults.membership {
                true => SPARES,
                false => 0,
            },
            ..shaped
        }
    }
}

impl Profile {
    fn shape(self, config: Config) -> Config {
        let faults = config.faults;
        let faults = match self {
            Self::Swarm | Self::Long => faults,
            Self::Calm => Faults::NONE,
            Self::Storm => Faults::ALL,
            Self::Network => Faults {
                partitions: true,
                one_way_partitions: true,
                isolations: true,
                pauses: true,
                region_cuts: true,
                slow_links: true,
                loss: true,
                ..Faults::NONE
            },
            Self::Processes => Faults {
                source_connections: true,
                coordinator_crashes: true,
                worker_crashes: true,
                member_crashes: true,
                blackouts: true,
                full_disks: true,
                slow_disks: true,
                membership: true,
                rolling_restarts: true,
                ..Faults::NONE
            },
            Self::Store => Faults {
                store_rejections: true,
                store_lost_answers: true,
                store_delays: true,
                store_cut_reads: true,
                store_holds: true,
                store_throttling: true,
                store_flipped_bits: true,
                ..Faults::NONE
            },
        };
        let config = Config { faults, ..config };
        match self {
            Self::Storm => Config {
                fault_interval: Duration::from_millis(400),
                ..config
            },
            Self::Long => Config {
                chaos: Duration::from_secs(300),
                ..config
            },
            _ => config,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_on_says_the_same() {
        #[derive(clap::Parser)]
        struct Words {
            #[command(flatten)]
            variant: Variant,
        }
        for profile in Profile::value_variants() {
            let variant = Variant {
                profile: *profile,
                scenario: Some(Scenario::Zombie),
                mutant: Some(Mutant::LyingDisk),
            };
            let words = std::iter::once("sim".to_owned()).chain(variant.arguments());
            let read = <Words as clap::Parser>::try_parse_from(words)
                .expect("good words")
                .variant;
            assert_eq!(read.config(7), variant.config(7));
        }
        assert!(Variant::PLAIN.arguments().is_empty());
    }

    #[test]
    fn a_calm_run_has_no_faults_and_a_storm_has_all() {
        let with = |profile| {
            Variant {
                profile,
                ..Variant::PLAIN
            }
            .config(1)
            .faults
            .named()
        };
        assert!(with(Profile::Calm).iter().all(|(_, on)| !on));
        assert!(with(Profile::Storm).iter().all(|(_, on)| *on));
    }
}
