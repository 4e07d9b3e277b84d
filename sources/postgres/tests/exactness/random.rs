//! Seeded workloads.

use holdfast_postgres::changes::Event;
use holdfast_postgres::fold::{DEFAULT_MEMORY, Fold, Keep};
use holdfast_postgres::key::Key;
use holdfast_postgres::layout::{Lsn, Oid};
use holdfast_postgres::session::Session;
use holdfast_postgres::tuple::Tuple;
use holdfast_postgres_testing::{Options, Server, Version};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_postgres::Client;

use crate::backup::{
    Base, Chain, Layer, MEMORY, apply, apply_history, needs_new_snapshot, restore,
};
use crate::database::{State, assert_same, session, truth};
use crate::slot::{Life, Slot};
use crate::workload::{self, TABLES, Truncating, Workload};

/// Page ranges of a table.
const RANGES: u32 = 6;

/// Instants inside of the history window at which it is compared with what the server had.
const INSTANTS: usize = 3;

/// Commits of the history window at which it is compared with a plain replay.
const COMMITS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_incremental_and_history_are_exact_while_writers_run() {
    let number = |name: &str, usual: u64| {
        let text = std::env::var(name).ok();
        text.map_or(usual, |text| text.parse().expect("a number"))
    };
    let first = number("HOLDFAST_EXACTNESS_FIRST", 1);
    for seed in first..first + number("HOLDFAST_EXACTNESS_SEEDS", 3) {
        println!("seed {seed}");
        run(seed).await;
    }
}

/// The server: Debian's, or the version that `HOLDFAST_EXACTNESS_VERSION` names.
fn server() -> &'static Server {
    static OTHER: OnceLock<Server> = OnceLock::new();
    let Ok(wanted) = std::env::var("HOLDFAST_EXACTNESS_VERSION") else {
        return Server::shared();
    };
    let version = Version::ALL
        .into_iter()
        .find(|it| it.major().to_string() == wanted);
    OTHER.get_or_init(|| Server::start(Options::of(version.expect("14 to 18"))))
}

async fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let server = server();
    let database = server.create_database("exact");
    workload::create(server, &database);
    let truncating = Truncating {
        one_in: 20,
        is_paused: Arc::default(),
    };
    let workload = Workload::start(server, &database, seed, 4, &truncating);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut chain = Chain::hold(server, &database, &TABLES).await;
    let base = read_base(&chain, &mut random).await;

    let (f, layer, want) = finish(&chain, chain.start, &base, &mut random).await;
    let full = restore(&base, &layer);
    assert_same(
        &format!("seed {seed}: full at {f}"),
        &full,
        &want,
        &chain.planned,
    );

    // The incremental begins with the tables as they were at F.
    chain.planned = layer.layouts;
    let mut instants = Vec::new();
    for number in 0..INSTANTS {
        pause(&mut random).await;
        let slot = Slot::create(
            server,
            &database,
            &format!("i{number}_{database}"),
            Life::Temporary,
        )
        .await;
        let client = session(server, &database, Some(&slot.snapshot)).await;
        instants.push((slot.position, truth(&client, &chain.planned).await));
    }
    let none = Base::default();
    let (t, layer, want) = finish(&chain, f, &none, &mut random).await;
    let incremental = apply(&full, &layer);
    assert_same(
        &format!("seed {seed}: incremental at {t}"),
        &incremental,
        &want,
        &chain.planned,
    );

    let transactions = workload.stop().await;
    instants.push((t, want));
    history(&chain, &full, f..t, instants, seed, &mut random).await;
    println!(
        "seed {seed}: {transactions} transactions, log {} bytes",
        t.since(chain.start)
    );
    server.psql(
        &database,
        &format!("SELECT pg_drop_replication_slot('hold_{database}')"),
    );
}

async fn pause(random: &mut StdRng) {
    tokio::time::sleep(Duration::from_millis(random.random_range(20..150))).await;
}

/// Reads page ranges in random order, each at its own snapshot, with vacuum in between.
async fn read_base(chain: &Chain, random: &mut StdRng) -> Base {
    let admin = holdfast_postgres_testing::connect(chain.server, &chain.database).await;
    let mut ranges = Vec::new();
    for oid in chain.planned.keys() {
        let pages = chain.pages(&admin, *oid).await;
        let step = pages / RANGES + 1;
        for number in 0..RANGES {
            let end = (number + 1 < RANGES).then_some((number + 1) * step);
            ranges.push((*oid, number * step, end));
        }
    }
    ranges.shuffle(random);
    let rewrite = random.random_range(0..ranges.len() * 2);
    let mut base = Base::default();
    for (number, (oid, from, to)) in ranges.into_iter().enumerate() {
        chain.read_pages(&mut base, oid, from, to).await;
        match random.random_range(0..4u32) {
            0 => vacuum(&admin, "VACUUM fm").await,
            1 => vacuum(&admin, "VACUUM fu, fg, ft").await,
            _ => pause(random).await,
        }
        if number == rewrite {
            let table = TABLES[random.random_range(0..TABLES.len())];
            vacuum(&admin, &format!("VACUUM FULL {table}")).await;
        }
    }
    base
}

async fn vacuum(admin: &Client, sql: &str) {
    // It may lose against the writers in a deadlock; that it ran is not what is tested.
    let _ = admin.batch_execute(sql).await;
}

/// Attempts at a finish after which the tables are locked, so that truncations wait.
const PATIENCE: u32 = 2;

/// Finishes the window that begins at `from`: gives where it ends, the layer, and what the server had there. Most of the window is folded
/// before the snapshot is taken, so that little can happen between it and the reads. In half of the cases the holder of the snapshot dies, and a later one
/// takes over what was folded.
async fn finish(chain: &Chain, from: Lsn, base: &Base, random: &mut StdRng) -> (Lsn, Layer, State) {
    let early = Slot::create(
        chain.server,
        &chain.database,
        &format!("early_{}", chain.database),
        Life::Temporary,
    )
    .await
    .position;
    let mut done = (chain.fold(Keep::Last, from..early).await, early);
    let mut is_killed = random.random_bool(0.5);
    for attempt in 0..10 {
        let name = format!("f{attempt}_{}_{}", from.0, chain.database);
        let slot = Slot::create(chain.server, &chain.database, &name, Life::Temporary).await;
        let client = session(chain.server, &chain.database, Some(&slot.snapshot)).await;
        if attempt >= PATIENCE {
            let lock = format!(
                "LOCK TABLE {} IN ACCESS SHARE MODE",
                TABLES.map(|name| format!("public.{name}")).join(", ")
            );
            client.execute(&lock).await.expect("locks");
        }
        let at = slot.position;
        let (fold, until) = done;
        let mut stream = chain.stream(until..at).await;
        let fold = fold
            .take(&chain.env, &mut stream.stream)
            .await
            .expect("folded");
        let folded = fold.finish().expect("folded");
        if std::mem::take(&mut is_killed) {
            // The holder dies: what was folded stays, and goes on to the next snapshot.
            drop(client);
            done = (
                Fold::resume(folded, &chain.directory(), MEMORY).expect("resumed"),
                at,
            );
            continue;
        }
        match chain.finish_in(&client, folded, at, &base.rewritten).await {
            Ok(layer) => {
                // In the same session: another one could wait behind a TRUNCATE that waits for this one.
                let want = truth(&client, &chain.planned).await;
                // What it saw is only the truth if nothing took rows away from its snapshot.
                if is_whole(chain, &client).await {
                    return (at, layer, want);
                }
            }
            Err(fault) if needs_new_snapshot(&fault) => {}
            Err(fault) => panic!("{fault}"),
        }
        done = (chain.fold(Keep::Last, from..at).await, at);
    }
    panic!("no snapshot lasted");
}

/// Whether no relation was truncated since the session's snapshot.
async fn is_whole(chain: &Chain, session: &Session) -> bool {
    for layout in chain.planned.values() {
        if let Err(fault) = holdfast_postgres::fixup::check_file_node(session, layout).await {
            assert!(needs_new_snapshot(&fault), "{fault}");
            return false;
        }
    }
    true
}

/// Compares a history window with what the server had at some instants, and with a plain replay at some commits.
async fn history(
    chain: &Chain,
    start: &State,
    window: Range<Lsn>,
    instants: Vec<(Lsn, State)>,
    seed: u64,
    random: &mut StdRng,
) {
    let fold = chain.fold(Keep::All, window.clone()).await;
    let history = fold.finish_history().expect("sorted");
    let rewritten = history.reshaped().clone();
    assert!(rewritten.is_empty(), "the workload changes no table's form");
    for (at, want) in &instants {
        let resolved = history
            .as_of(*at, &chain.directory(), MEMORY)
            .expect("resolved");
        let got = apply_history(start, &resolved);
        // A truncation after the instant took rows away from the truth, not from the history.
        let want: State = want
            .iter()
            .filter(|(oid, rows)| !rows.is_empty() || got.get(oid).is_none_or(BTreeMap::is_empty))
            .map(|(oid, rows)| (*oid, rows.clone()))
            .collect();
        assert_same(
            &format!("seed {seed}: history at {at}"),
            &got,
            &want,
            &chain.planned,
        );
    }
    let events = read_all(chain, window).await;
    let mut ends: Vec<Lsn> = events
        .iter()
        .filter_map(|event| match event {
            Event::Commit(transaction) => Some(Lsn(transaction.commit.0 + 1)),
            _ => None,
        })
        .collect();
    ends.shuffle(random);
    for end in ends.into_iter().take(COMMITS) {
        let want = replay(start, &events, end);
        let resolved = history
            .as_of(end, &chain.directory(), DEFAULT_MEMORY)
            .expect("resolved");
        let got = apply_history(start, &resolved);
        assert_same(
            &format!("seed {seed}: replay to {end}"),
            &got,
            &want,
            &chain.planned,
        );
    }
}

async fn read_all(chain: &Chain, window: Range<Lsn>) -> Vec<Event> {
    let mut stream = chain.stream(window).await;
    let mut events = Vec::new();
    while let Some(event) = stream.stream.next().await.expect("events") {
        events.push(event);
    }
    events
}

/// What a plain row-by-row replay gives.
fn replay(start: &State, events: &[Event], end: Lsn) -> State {
    let mut state: BTreeMap<Oid, BTreeMap<Key, Tuple>> = start.clone();
    for event in events {
        match event {
            Event::Row(change) if change.position.commit < end => {
                let rows = state.entry(change.relation).or_default();
                let old = rows.remove(change.old_key.as_ref().unwrap_or(&change.key));
                if let Some(new) = &change.new {
                    let row = match (new.is_whole(), old) {
                        (true, _) => new.clone(),
                        (false, old) => new.filled_from(&old.expect("there")).expect("columns"),
                    };
                    rows.insert(change.key.clone(), row);
                }
            }
            Event::Truncate(truncation) if truncation.position.commit < end => {
                for relation in &truncation.relations {
                    state.remove(relation);
                }
            }
            _ => {}
        }
    }
    state
}
