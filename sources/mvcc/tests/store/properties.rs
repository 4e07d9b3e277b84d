//! Random transactions, drops, holds, garbage collection, restores, clock jumps and power failures against a naive model.

use crate::model::{FusedDisk, ManualClock, world};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use holdfast_env::Env;
use holdfast_mvcc::{Mutation, MvccStore, StoreOptions};
use holdfast_source::{Change, RestoreTable, Row};
use holdfast_types::{
    ByteCount, ErrorCode, Fault, Hlc, HoldId, JobId, KeyRange, Millis, Position, Relation,
    RelationId, TableName, Target, Window,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const TABLES: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    Write(Vec<(usize, u8, Option<u8>)>),
    /// A transaction during which the power fails after so many disk operations.
    Torn(Vec<(usize, u8, Option<u8>)>, u32, u64),
    Create(usize),
    Drop(usize),
    Restore(usize, Vec<(u8, u8)>, bool),
    Shift(i64),
    Mark,
    Hold(u64, usize),
    Release(u64),
    Collect(u64),
    Crash(u64),
    Reopen,
}

fn writes() -> impl Strategy<Value = Vec<(usize, u8, Option<u8>)>> {
    let write = (0..TABLES, 0u8..8, prop::option::weighted(0.8, any::<u8>()));
    prop::collection::vec(write, 1..6)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => writes().prop_map(Op::Write),
        3 => (writes(), 0u32..12, any::<u64>()).prop_map(|(w, n, s)| Op::Torn(w, n, s)),
        2 => (0..TABLES).prop_map(Op::Create),
        1 => (0..TABLES).prop_map(Op::Drop),
        1 => (0..TABLES, prop::collection::vec((0u8..8, any::<u8>()), 0..8), any::<bool>())
            .prop_map(|(t, rows, publish)| Op::Restore(t, rows, publish)),
        3 => prop_oneof![
            0i64..50,
            -2_000i64..2_000,
            3_600_000i64..7_200_000,
            -7_200_000i64..-3_600_000
        ].prop_map(Op::Shift),
        6 => Just(Op::Mark),
        2 => (0u64..3, 0usize..100).prop_map(|(h, m)| Op::Hold(h, m)),
        2 => (0u64..3).prop_map(Op::Release),
        2 => prop_oneof![Just(0u64), 0u64..8_000_000].prop_map(Op::Collect),
        2 => any::<u64>().prop_map(Op::Crash),
        1 => Just(Op::Reopen),
    ]
}

/// A table as the model knows it.
#[derive(Debug, Clone)]
struct Table {
    created: Hlc,
    dropped: Option<Hlc>,
    /// Every version, oldest first.
    versions: Vec<(Hlc, Bytes, Option<Bytes>)>,
}

struct World {
    env: Env,
    clock: Arc<ManualClock>,
    disk: FusedDisk,
    store: Option<MvccStore>,
    tables: BTreeMap<RelationId, Table>,
    live: [Option<RelationId>; TABLES],
    marks: Vec<Hlc>,
    holds: BTreeMap<u64, Hlc>,
    threshold: Hlc,
    /// The last position that anybody has seen.
    seen: Hlc,
    jobs: u64,
}

fn name(table: usize) -> TableName {
    TableName {
        database: "app".to_owned(),
        table: format!("t{table}"),
    }
}

fn key(number: u8) -> Bytes {
    // With zeros and prefixes of each other.
    Bytes::from([&b"k\0\0"[..], &[0xff, 0, 1]].concat()[..=(number as usize % 6)].to_vec())
        .into_iter()
        .chain((number >= 6).then_some(number))
        .collect()
}

impl World {
    async fn new() -> Self {
        let (env, clock, disk) = world();
        let mut world = Self {
            env,
            clock,
            disk,
            store: None,
            tables: BTreeMap::new(),
            live: [None; TABLES],
            marks: Vec::new(),
            holds: BTreeMap::new(),
            threshold: Hlc::ZERO,
            seen: Hlc::ZERO,
            jobs: 0,
        };
        world.open().await;
        let at = world.store().create_database("app").await;
        world.show(at.expect("database"));
        world
    }

    async fn open(&mut self) {
        let options = StoreOptions {
            cache: ByteCount(1024 * 1024),
            ..StoreOptions::default()
        };
        let store = MvccStore::open(self.env.clone(), "m", options).await;
        self.store = Some(store.expect("a store opens after any crash"));
    }

    fn store(&self) -> MvccStore {
        self.store.clone().expect("open")
    }

    fn show(&mut self, position: Hlc) {
        assert!(position > self.seen, "positions only grow");
        self.seen = position;
    }

    fn mutations(&self, writes: &[(usize, u8, Option<u8>)]) -> Vec<Mutation> {
        writes
            .iter()
            .filter(|(table, _, _)| self.live[*table].is_some())
            .map(|(table, number, value)| match value {
                Some(value) => Mutation::put(name(*table), key(*number), vec![*value; 5]),
                None => Mutation::delete(name(*table), key(*number)),
            })
            .collect()
    }

    fn committed(&mut self, mutations: &[Mutation], at: Hlc) {
        for mutation in mutations {
            let index = (0..TABLES).find(|table| name(*table) == mutation.table);
            let id = index.and_then(|index| self.live[index]).expect("live");
            let versions = &mut self.tables.get_mut(&id).expect("known").versions;
            versions.retain(|(position, key, _)| *position != at || *key != mutation.key);
            versions.push((at, mutation.key.clone(), mutation.value().cloned()));
        }
    }

    async fn step(&mut self, op: &Op) {
        match op {
            Op::Write(writes) => {
                let mutations = self.mutations(writes);
                let at = self.store().write(mutations.clone()).await.expect("write");
                self.show(at);
                self.committed(&mutations, at);
            }
            Op::Torn(writes, operations, seed) => self.torn(writes, *operations, *seed).await,
            Op::Create(table) if self.live[*table].is_none() => {
                let created = self.store().create_table(&name(*table), "").await;
                self.created(*table, &created.expect("create"));
            }
            Op::Create(table) => {
                let fault = self.store().create_table(&name(*table), "").await;
                assert_eq!(fault.expect_err("taken").code, ErrorCode::AlreadyExists);
            }
            Op::Drop(table) => {
                let dropped = self.store().drop_table(&name(*table)).await;
                match self.live[*table].take() {
                    Some(id) => {
                        let at = dropped.expect("drop");
                        self.show(at);
                        self.tables.get_mut(&id).expect("known").dropped = Some(at);
                    }
                    None => assert!(dropped.is_err()),
                }
            }
            Op::Restore(table, rows, publish) => self.restore(*table, rows, *publish).await,
            Op::Shift(millis) => self.clock.shift(*millis),
            Op::Mark => {
                let at = self.store().position(Hlc::ZERO).await.expect("position");
                self.show(at);
                self.marks.push(at);
            }
            Op::Hold(hold, mark) if !self.marks.is_empty() => {
                let at = self.marks[mark % self.marks.len()];
                let held = self.store().hold(HoldId(*hold), at).await;
                if at >= self.threshold {
                    held.expect("hold");
                    self.holds.insert(*hold, at);
                } else {
                    assert_eq!(held.expect_err("gone").code, ErrorCode::HistoryGone);
                }
            }
            Op::Hold(..) => {}
            Op::Release(hold) => {
                self.holds.remove(hold);
                self.store().release(HoldId(*hold)).await.expect("release");
            }
            Op::Collect(ttl) => {
                let ttl = Some(Millis(*ttl));
                let step = self.store().collect_garbage(ttl).await.expect("collect");
                assert!(step.threshold >= self.threshold);
                assert!(self.holds.values().all(|at| step.threshold <= *at));
                self.threshold = step.threshold;
            }
            Op::Crash(seed) => {
                self.store = None;
                self.disk.crash(*seed);
                self.open().await;
            }
            Op::Reopen => {
                self.store = None;
                self.open().await;
            }
        }
    }

    fn created(&mut self, table: usize, relation: &Relation) {
        let Position::Hlc(created) = relation.created_at else {
            panic!("a position of another kind");
        };
        self.show(created);
        self.live[table] = Some(relation.id);
        let fresh = Table {
            created,
            dropped: None,
            versions: Vec::new(),
        };
        assert!(self.tables.insert(relation.id, fresh).is_none(), "a new id");
    }

    /// The power fails during a transaction: all of it happened, or nothing.
    async fn torn(&mut self, writes: &[(usize, u8, Option<u8>)], operations: u32, seed: u64) {
        let mutations = self.mutations(writes);
        if mutations.is_empty() {
            return;
        }
        self.disk.cut_after(operations, seed);
        let outcome = self.store().write(mutations.clone()).await;
        self.store = None;
        self.disk.crash(seed ^ 1);
        self.open().await;
        if let Ok(at) = outcome {
            self.show(at);
            self.committed(&mutations, at);
            return;
        }
        let index = (0..TABLES)
            .find(|table| name(*table) == mutations[0].table)
            .expect("one of the tables");
        let id = self.live[index].expect("live");
        let now = self.store().position(Hlc::ZERO).await.expect("position");
        let window = Window {
            after: Some(Position::Hlc(self.seen)),
            upto: Position::Hlc(now),
            history: false,
        };
        let found = self.read(id, window).await.expect("read");
        if let Some(row) = found.first() {
            let Position::Hlc(at) = row.position else {
                panic!("a position of another kind");
            };
            self.committed(&mutations, at);
        }
        self.show(now);
    }

    async fn restore(&mut self, table: usize, rows: &[(u8, u8)], publish: bool) {
        self.jobs += 1;
        let (job, store) = (JobId(self.jobs), self.store());
        let restored = RestoreTable {
            relation: Relation {
                id: RelationId(0),
                name: name(table),
                created_at: Position::Hlc(Hlc::ZERO),
                dropped_at: None,
                definition: Vec::new(),
            },
            name: name(table),
        };
        let prepared = store.prepare_restore(job, &[restored], true).await;
        if self.live[table].is_some() {
            assert_eq!(prepared.expect_err("taken").code, ErrorCode::AlreadyExists);
            return;
        }
        prepared.expect("prepare");
        let rows: BTreeMap<Bytes, Bytes> = rows
            .iter()
            .map(|(number, value)| (key(*number), Bytes::from(vec![*value; 3])))
            .collect();
        let load = rows.iter().map(|(key, value)| Row {
            key: key.clone(),
            position: Position::Hlc(Hlc::ZERO),
            change: Change::Put(value.clone()),
        });
        for row in load.chain(Vec::new()) {
            let loaded = store.load(job, &name(table), vec![row]).await;
            loaded.expect("load");
        }
        if !publish {
            store.discard_restore(job).await.expect("discard");
            return;
        }
        store.publish(job).await.expect("publish");
        let at = store.position(Hlc::ZERO).await.expect("position");
        let target = Target::Tables(vec![name(table)]);
        let relations = store.describe(&target, at).await.expect("describe");
        self.created(table, &relations[0]);
        self.show(at);
        let model = self.tables.get_mut(&relations[0].id).expect("known");
        let created = model.created;
        let versions = rows.into_iter().map(|(k, v)| (created, k, Some(v)));
        model.versions.extend(versions);
    }

    async fn read(&self, id: RelationId, window: Window) -> Result<Vec<Row>, Fault> {
        let stream = self.store().read(id, KeyRange::all(), window).await?;
        stream.try_concat().await
    }

    /// What the model says a window holds.
    fn expected(&self, table: &Table, after: Option<Hlc>, upto: Hlc, history: bool) -> Vec<Row> {
        let mut keys: Vec<&Bytes> = table.versions.iter().map(|(_, key, _)| key).collect();
        keys.sort();
        keys.dedup();
        let mut rows = Vec::new();
        for key in keys {
            let mut versions: Vec<_> = table
                .versions
                .iter()
                .filter(|(at, k, _)| k == key && *at <= upto)
                .collect();
            versions.sort_by_key(|(at, _, _)| std::cmp::Reverse(*at));
            if after.is_none() || !history {
                versions.truncate(1);
            }
            for (at, key, value) in versions {
                let wanted = match after {
                    None => value.is_some(),
                    Some(after) => *at > after,
                };
                if wanted {
                    rows.push(Row {
                        key: key.clone(),
                        position: Position::Hlc(*at),
                        change: value.clone().map_or(Change::Delete, Change::Put),
                    });
                }
            }
        }
        rows
    }

    async fn check_window(&self, id: RelationId, after: Option<Hlc>, upto: Hlc, history: bool) {
        let window = Window {
            after: after.map(Position::Hlc),
            upto: Position::Hlc(upto),
            history,
        };
        let found = self.read(id, window).await;
        let table = &self.tables[&id];
        if after.unwrap_or(upto) < self.threshold {
            assert_eq!(found.expect_err("gone").code, ErrorCode::HistoryGone);
            return;
        }
        let gone = table.dropped.is_some_and(|at| match after {
            None => at <= upto,
            Some(_) => at <= self.threshold,
        });
        if gone || table.created > upto {
            // A dropped table may still be there until its rows have been collected.
            assert!(found.is_err() || after.is_some());
            return;
        }
        let found = found.expect("read");
        let expected = self.expected(table, after, upto, history);
        assert_eq!(found, expected, "relation {id} in ({after:?}, {upto}]");

        let plan = self.store().plan(id, window, ByteCount(20)).await;
        let ranges: Vec<_> = plan.expect("plan").try_concat().await.expect("plan");
        let mut pieces = Vec::new();
        let mut start = Bytes::new();
        for (range, _) in ranges {
            assert_eq!(range.start, start, "ranges tile");
            start = range.end.clone();
            let mut rows = self.store().read(id, range, window).await.expect("read");
            while let Some(batch) = rows.next().await {
                pieces.extend(batch.expect("batch"));
            }
        }
        assert!(start.is_empty(), "the last range is open");
        assert_eq!(pieces, expected, "the planned ranges of relation {id}");
    }

    /// Compares everything that can be read with the model.
    async fn check(&mut self) {
        let now = self.store().position(Hlc::ZERO).await.expect("position");
        self.show(now);
        self.marks.push(now);
        let step = self.marks.len().div_ceil(6);
        let marks: Vec<Hlc> = self.marks.iter().rev().step_by(step).copied().collect();
        for id in self.tables.keys().copied().collect::<Vec<_>>() {
            for upto in &marks {
                self.check_window(id, None, *upto, false).await;
                for after in marks.iter().filter(|after| *after <= upto) {
                    self.check_window(id, Some(*after), *upto, true).await;
                    self.check_window(id, Some(*after), *upto, false).await;
                }
            }
        }
        for (table, id) in self.live.iter().enumerate() {
            let Some(id) = id else { continue };
            let expected: Vec<_> = self
                .expected(&self.tables[id], None, now, false)
                .into_iter()
                .map(|row| match row.change {
                    Change::Put(value) => (row.key, value),
                    Change::Delete => panic!("a snapshot holds no deletions"),
                })
                .collect();
            let rows = self.store().rows(&name(table), Some(now)).await;
            assert_eq!(rows.expect("rows"), expected);
            for (key, value) in expected.iter().take(2) {
                let (_, row) = self
                    .store()
                    .get(&name(table), key, Some(now))
                    .await
                    .expect("get");
                let found = row.map(|row| row.change);
                assert_eq!(found, Some(Change::Put(value.clone())));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_store_is_what_its_history_says(ops in prop::collection::vec(op(), 1..90)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new().await;
            for (index, op) in ops.iter().enumerate() {
                world.step(op).await;
                if index % 30 == 29 {
                    world.check().await;
                }
            }
            world.check().await;
        });
    }
}
