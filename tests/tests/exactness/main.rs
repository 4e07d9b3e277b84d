//! Backups and restores by a cluster of real processes are exact, byte by byte, whatever is killed, frozen, cut or paused meanwhile.
//!
//! Random workloads write to a server all the while. The truth about every position is PostgreSQL's own recovery to it, from a copy of the files that
//! was made before the first transaction.

mod cluster;
mod ddl;
mod trouble;
mod truth;
// The writers of the harness that tries the same without processes.
#[path = "../../../sources/postgres/tests/exactness/workload.rs"]
mod workload;

use holdfast_postgres_testing::{ColdCopy, Options, Server};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;

use cluster::World;
use truth::Truth;

/// Every other seed changes the tables themselves too. `HOLDFAST_EXACTNESS_SEEDS` says how many there are, and `HOLDFAST_EXACTNESS_FIRST` where they begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_databases_are_the_truth_whatever_is_killed() {
    let number = |name: &str, usual: u64| {
        let text = std::env::var(name).ok();
        text.map_or(usual, |text| text.parse().expect("a number"))
    };
    // The gate has time for one: one that changes the tables.
    let first = number("HOLDFAST_EXACTNESS_FIRST", 2);
    for seed in first..first + number("HOLDFAST_EXACTNESS_SEEDS", 1) {
        println!("seed {seed}");
        run(seed, seed.is_multiple_of(2)).await;
    }
}

/// An incremental, full or history layer, and what it must hold.
struct Layer {
    /// Where it ends, as `AS OF` takes it.
    as_of: String,
    /// Its F.
    end: String,
}

async fn run(seed: u64, with_ddl: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    // The whole log is kept: the truth is made of it.
    let options = Options::default().set("wal_keep_size", "16GB");
    let server: &'static Server = Box::leak(Box::new(Server::start_alike(options)));
    let database = server.create_database("exact");
    workload::create(server, &database);
    if with_ddl {
        ddl::create(server, &database);
    }
    let cold = ColdCopy::of(server);
    let mut world = World::start(server, &database).await;
    let late = Arc::clone(&world.is_late);
    let truncating = workload::Truncating {
        one_in: 200,
        is_paused: Arc::clone(&late),
    };
    let writers = workload::Workload::start(server, &database, seed, 4, &truncating);
    let ddl = with_ddl.then(|| ddl::Changes::start(server, &database, seed, late));

    let mut layers = Vec::new();
    let mut instants = Vec::new();
    for number in 0..3 {
        let history = !with_ddl && number == 2;
        if history {
            instants = world.instants(&mut random).await;
        }
        layers.push(world.backup(number > 0, history, &mut random).await);
        let pause = Duration::from_millis(random.random_range(0..800));
        tokio::time::sleep(pause).await;
    }
    if let Some(ddl) = ddl {
        ddl.stop().await;
    }
    let transactions = writers.stop().await;

    let mut positions: Vec<(String, String)> = layers
        .into_iter()
        .map(|layer| (layer.as_of, layer.end))
        .collect();
    for instant in instants {
        let end = truth::first_commit_after(server, &positions[1].1, &instant);
        positions.push((instant, end));
    }
    for (number, (as_of, lsn)) in positions.iter().enumerate() {
        let name = format!("then_{number}");
        let missing = world.restore(as_of, &name, &mut random).await;
        let truth = cold.recovered_to(server, lsn);
        let (mut want, mut got) = (Truth::read(&truth, &database), Truth::read(server, &name));
        if !missing.is_empty() {
            // Truncated within a savepoint: the history has it only as of its end.
            assert!(number > 2 && missing == ["ft"], "seed {seed}: {missing:?}");
            println!("seed {seed}: as of {as_of} without {missing:?}");
            (want, got) = (want.without(&missing), got.without(&missing));
        }
        want.assert_is(&got, &format!("seed {seed}: as of {as_of} ({lsn})"));
    }
    println!("seed {seed}: {transactions} transactions, {}", world.told());
}
