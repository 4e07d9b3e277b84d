//! A database in memory whose history is a log: a table of pages that is read while it changes, and settled by its log.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use holdfast_source::{
    Change, HoldStanding, Inlet, LoadProgress, LoggedBackup, LoggedRelation, LoggedRestore,
    LoggedSource, MemberCheck, Outlet, Row, SettledDatabase,
};
use holdfast_types::{
    ByteCount, ErrorCode, Fault, HoldId, JobId, KeyRange, Lsn, Position, Relation, RelationId,
    RowCount, RowSum, Settled, TableName, Target,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use super::{at, table};

/// Rows of a page.
const PAGE: u32 = 10;
/// Pages of the table, and where it is cut.
const PAGES: u32 = 8;
const CUT: u32 = 4;
/// The table, and what stands for its database.
pub(crate) const TABLE: RelationId = RelationId((1 << 32) | 7);
pub(crate) const DATABASE: RelationId = RelationId(1 << 32);

/// What a source does that no source may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// Cuts a row in two, and overlooks the error.
    CutsRow,
    /// Says that it is done with an object that it has not ended.
    LeavesOpen,
    /// Writes rows without an object.
    HasNoObject,
    /// Says that it is where it began.
    StandsStill,
    /// Says that it is behind the end of the span.
    RunsAway,
    /// Returns before the end.
    LeavesEarly,
    /// Goes on after the end.
    GoesOn,
    /// Gives up a call, and makes another one.
    GivesUp,
    /// Settles without a catalog.
    HasNoCatalog,
    /// Settles in two steps.
    HasSteps,
    /// Plans spans that settle nothing.
    SettlesNothing,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<u32, u32>,
    log: Vec<(u32, Option<u32>)>,
    holds: BTreeMap<HoldId, u64>,
    restored: BTreeMap<u32, u32>,
    /// Rows that restores have loaded, those of unfinished attempts too.
    loaded: u64,
    published: bool,
    planned: Vec<Relation>,
    pages: Vec<u32>,
    misuse: Option<Misuse>,
}

impl State {
    fn standings(&self) -> Vec<HoldStanding> {
        let holds = self.holds.iter();
        holds
            .map(|(hold, position)| HoldStanding {
                name: hold.to_string(),
                database: "app".to_owned(),
                wal_retained_bytes: self.log.len() as u64 - position,
                wal_budget_bytes: 1 << 20,
                wal_status: "reserved".to_owned(),
                xmin_age: 3,
                active: false,
            })
            .collect()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FakeLog {
    state: Mutex<State>,
    /// One permit is used up by each page that is read, by each settling, and by each part that is loaded.
    pub(crate) permits: Semaphore,
}

impl Default for FakeLog {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
        }
    }
}

impl FakeLog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the lock")
    }

    /// Writes a row, or deletes it.
    pub(crate) fn write(&self, number: u32, value: Option<u32>) {
        let mut state = self.state();
        match value {
            Some(value) => state.rows.insert(number, value),
            None => state.rows.remove(&number),
        };
        state.log.push((number, value));
    }

    pub(crate) fn rows(&self) -> BTreeMap<u32, u32> {
        self.state().rows.clone()
    }

    /// The rows after so many changes.
    pub(crate) fn rows_at(&self, end: u64) -> BTreeMap<u32, u32> {
        let mut rows = BTreeMap::new();
        for (number, value) in self.state().log.iter().take(end as usize) {
            match value {
                Some(value) => rows.insert(*number, *value),
                None => rows.remove(number),
            };
        }
        rows
    }

    /// How many changes there were.
    pub(crate) fn end(&self) -> u64 {
        self.state().log.len() as u64
    }

    pub(crate) fn restored(&self) -> (BTreeMap<u32, u32>, bool) {
        let state = self.state();
        (state.restored.clone(), state.published)
    }

    /// Rows that restores have loaded so far, each time it was done.
    pub(crate) fn loaded(&self) -> u64 {
        self.state().loaded
    }

    pub(crate) fn holds(&self) -> BTreeMap<HoldId, u64> {
        self.state().holds.clone()
    }

    /// What the settling span was told of its database.
    pub(crate) fn planned(&self) -> Vec<Relation> {
        self.state().planned.clone()
    }

    /// The pages that were read.
    pub(crate) fn pages(&self) -> Vec<u32> {
        self.state().pages.clone()
    }

    pub(crate) fn misbehave(&self, misuse: Option<Misuse>) {
        self.state().misuse = misuse;
    }

    fn misuse(&self) -> Option<Misuse> {
        self.state().misuse
    }

    async fn permit(&self) {
        self.permits.acquire().await.expect("never closed").forget();
    }

    fn page(&self, page: u32) -> Bytes {
        let mut state = self.state();
        state.pages.push(page);
        let mut bytes = Vec::new();
        for (number, value) in state.rows.range(numbers(page)) {
            bytes.extend([0, 2, 0, 0, 0, 4]);
            bytes.extend(number.to_be_bytes());
            bytes.extend([0, 0, 0, 4]);
            bytes.extend(value.to_be_bytes());
        }
        bytes.into()
    }

    /// The changes since a position, by key and the newest first; without history of each key only the newest.
    fn changes(&self, after: u64, history: bool) -> (BTreeMap<u32, Vec<Row>>, u64) {
        let state = self.state();
        let mut changes: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
        for (index, (number, value)) in state.log.iter().enumerate().skip(after as usize) {
            let change = match value {
                Some(value) => Change::Put(value.to_be_bytes().to_vec().into()),
                None => Change::Delete,
            };
            let row = Row {
                key: number.to_be_bytes().to_vec().into(),
                position: Lsn::at(index as u64 + 1).into(),
                change,
            };
            let versions = changes.entry(*number).or_default();
            versions.insert(0, row);
            if !history {
                versions.truncate(1);
            }
        }
        (changes, state.log.len() as u64)
    }

    /// What an instant of the last layer is as a position.
    fn upto(restore: &LoggedRestore) -> u64 {
        match restore.as_of {
            None => u64::MAX,
            Some(Position::Hlc(instant)) => {
                let before = (0..).find(|end| at(1001 + end) > instant);
                before.expect("an instant of the tests")
            }
            Some(other) => panic!("{other} is not by the clock"),
        }
    }

    /// The rows that a restore is to make.
    async fn final_rows(
        restore: &LoggedRestore,
        relation: RelationId,
        inlet: &dyn Inlet,
    ) -> Result<BTreeMap<u32, u32>, Fault> {
        let mut rows = BTreeMap::new();
        for name in inlet.objects(0, relation).await? {
            let mut blocks = inlet.tuples(0, &name);
            while let Some(block) = blocks.next().await.transpose()? {
                for row in block.rows {
                    let row = &block.bytes[row];
                    rows.insert(number_at(row, 6..10), number_at(row, 14..18));
                }
            }
        }
        let upto = Self::upto(restore);
        for layer in 0..inlet.layers() {
            let catalog = inlet.catalogs(layer).await?.remove(0);
            let (_, names) = parse(&catalog);
            let mut batches = inlet.rows(layer, &names, KeyRange::all());
            let mut last: Option<(Bytes, Position)> = None;
            let mut decided = BTreeSet::new();
            while let Some(batch) = batches.next().await.transpose()? {
                for row in batch {
                    if let Some((key, position)) = &last {
                        assert!(*key <= row.key, "in order");
                        assert!(*key != row.key || *position > row.position);
                    }
                    last = Some((row.key.clone(), row.position));
                    let number = number_at(&row.key, 0..4);
                    if row.position > Lsn::at(upto).into() || !decided.insert(number) {
                        continue;
                    }
                    match &row.change {
                        Change::Put(value) => rows.insert(number, number_at(value, 0..4)),
                        Change::Delete => rows.remove(&number),
                    };
                }
            }
        }
        Ok(rows)
    }

    async fn misread(
        &self,
        misuse: Misuse,
        range: &KeyRange,
        outlet: &mut dyn Outlet,
    ) -> Result<(), Fault> {
        let (row, none) = (self.page(0).slice(..18), ByteCount(0));
        match misuse {
            Misuse::CutsRow => {
                outlet.begin_tuples(2).await?;
                // The error may come with a later call.
                let _ = outlet.tuples(row.slice(..11)).await;
                assert!(outlet.end_tuples().await.is_err());
                assert!(outlet.advance(None, none).await.is_err());
                return Ok(());
            }
            Misuse::LeavesOpen => {
                outlet.begin_tuples(2).await?;
                outlet.tuples(row).await?;
                outlet.advance(None, none).await?;
            }
            Misuse::HasNoObject => outlet.tuples(row).await?,
            Misuse::StandsStill => outlet.advance(Some(range.start.clone()), none).await?,
            Misuse::RunsAway => {
                let bound = (PAGES + 1).to_be_bytes().to_vec();
                outlet.advance(Some(bound.into()), none).await?;
            }
            Misuse::LeavesEarly => {}
            Misuse::GoesOn => {
                outlet.advance(None, none).await?;
                outlet.begin_tuples(2).await?;
            }
            Misuse::GivesUp => {
                outlet.begin_tuples(2).await?;
                outlet.tuples(row).await?;
                assert!(outlet.end_tuples().now_or_never().is_none(), "it waits");
                outlet.begin_tuples(2).await?;
                outlet.advance(None, none).await?;
            }
            Misuse::HasNoCatalog | Misuse::HasSteps | Misuse::SettlesNothing => {}
        }
        Ok(())
    }
}

fn relation(id: RelationId, name: TableName) -> Relation {
    Relation {
        id,
        name,
        created_at: Lsn::at(0).into(),
        dropped_at: None,
        definition: b"definition".to_vec(),
    }
}

fn number_at(bytes: &[u8], range: Range<usize>) -> u32 {
    u32::from_be_bytes(bytes[range].try_into().expect("four bytes"))
}

/// What is on a page; the last one is open.
fn numbers(page: u32) -> Range<u32> {
    let end = match page + 1 < PAGES {
        true => (page + 1) * PAGE,
        false => u32::MAX,
    };
    page * PAGE..end
}

fn page_of(bound: &[u8], open: u32) -> u32 {
    match bound.is_empty() {
        true => open,
        false => number_at(bound, 0..4),
    }
}

/// The layer's end, and the objects with its changes.
fn parse(catalog: &[u8]) -> (u64, Vec<String>) {
    let text = std::str::from_utf8(catalog).expect("text");
    let mut words = text.split(' ').map(str::to_owned);
    let end = words.next().expect("an end").parse().expect("a number");
    (end, words.collect())
}

/// Two spans, cut at a page.
fn cut(bound: u32) -> Vec<(KeyRange, ByteCount)> {
    let bound = Bytes::copy_from_slice(&bound.to_be_bytes());
    let range = |start: &Bytes, end: &Bytes| KeyRange {
        start: start.clone(),
        end: end.clone(),
    };
    vec![
        (range(&Bytes::new(), &bound), ByteCount(800)),
        (range(&bound, &Bytes::new()), ByteCount(800)),
    ]
}

#[async_trait]
impl LoggedSource for FakeLog {
    async fn check(&self) -> Result<MemberCheck, Fault> {
        self.permit().await;
        let state = self.state();
        if state.misuse.is_some() {
            return Err(Fault::new(ErrorCode::Unavailable, "nobody answers"));
        }
        Ok(MemberCheck {
            server: "a log".to_owned(),
            holds: state.standings(),
            ..MemberCheck::default()
        })
    }

    async fn look_after_hold(&self, hold: HoldId) -> Result<Vec<HoldStanding>, Fault> {
        let mut standings = self.state().standings();
        standings.retain(|standing| standing.name == hold.to_string());
        Ok(standings)
    }

    async fn begin(&self, backup: &LoggedBackup) -> Result<Vec<LoggedRelation>, Fault> {
        let named = match &backup.target {
            Target::Databases(names) => names.iter().any(|name| name == "app"),
            _ => true,
        };
        if !named && backup.partial {
            return Ok(Vec::new());
        }
        assert!(named, "a single member must have what is named");
        let mut state = self.state();
        let now = state.log.len() as u64;
        state.holds.entry(backup.hold).or_insert(now);
        let spans = match backup.parent.is_empty() {
            true => cut(CUT),
            false => Vec::new(),
        };
        let database = LoggedRelation {
            relation: relation(DATABASE, TableName::of_database("app")),
            spans: vec![(KeyRange::all(), ByteCount(100))],
            settles: state.misuse != Some(Misuse::SettlesNothing),
        };
        let table = LoggedRelation {
            relation: relation(TABLE, table("t")),
            spans,
            settles: false,
        };
        Ok(vec![database, table])
    }

    async fn read(
        &self,
        _: &LoggedBackup,
        _: &Relation,
        range: KeyRange,
        outlet: &mut dyn Outlet,
    ) -> Result<(), Fault> {
        if let Some(misuse) = self.misuse() {
            return self.misread(misuse, &range, outlet).await;
        }
        let (first, end) = (page_of(&range.start, 0), page_of(&range.end, PAGES));
        for page in first..end {
            self.permit().await;
            let rows = self.page(page);
            let length = rows.len() as u64;
            outlet.begin_tuples(2).await?;
            outlet.tuples(rows).await?;
            let name = outlet.end_tuples().await?;
            assert_eq!(name.is_some(), length > 0);
            let next = (page + 1).to_be_bytes().to_vec().into();
            let upto = (page + 1 < end).then_some(next);
            outlet.advance(upto, ByteCount(length)).await?;
        }
        Ok(())
    }

    async fn settle(
        &self,
        backup: &LoggedBackup,
        _: &Relation,
        planned: &[Relation],
        outlet: &mut dyn Outlet,
    ) -> Result<SettledDatabase, Fault> {
        self.state().planned = planned.to_vec();
        let start = match backup.parent.first() {
            Some(catalog) => parse(catalog).0,
            None => self.holds()[&backup.hold],
        };
        let (changes, end) = self.changes(start, backup.history);
        // In objects that overlap, and such that do not.
        let mut names = Vec::new();
        let groups: [fn(u32) -> bool; 3] = [
            |number| number % 2 == 0 && number < 40,
            |number| number % 2 == 0 && number >= 40,
            |number| number % 2 == 1,
        ];
        for wanted in groups {
            for (_, versions) in changes.iter().filter(|(number, _)| wanted(**number)) {
                outlet.rows(versions.clone()).await?;
            }
            names.extend(outlet.end_rows().await?);
        }
        self.permit().await;
        let misuse = self.misuse();
        if misuse == Some(Misuse::HasSteps) {
            outlet.advance(Some(vec![1].into()), ByteCount(1)).await?;
        }
        if misuse != Some(Misuse::HasNoCatalog) {
            let catalog = format!("{end} {}", names.join(" "));
            outlet.catalog(catalog.trim_end().to_owned().into()).await?;
        }
        outlet.advance(None, ByteCount(64)).await?;
        Ok(SettledDatabase {
            end: Settled {
                position: Lsn::at(end).into(),
                at: at(1000 + end),
            },
            relations: vec![relation(TABLE, table("t"))],
            keeps_history: true,
        })
    }

    async fn advance_hold(&self, hold: HoldId, to: Position) -> Result<(), Fault> {
        let Position::Lsn(to) = to else {
            return Err(Fault::new(ErrorCode::InvalidArgument, "not of the log"));
        };
        self.state().holds.insert(hold, to.lsn);
        Ok(())
    }

    async fn release(&self, hold: HoldId) -> Result<(), Fault> {
        self.state().holds.remove(&hold);
        Ok(())
    }

    async fn begin_restore(
        &self,
        _: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<Vec<LoggedRelation>, Fault> {
        for layer in 0..inlet.layers() {
            assert_eq!(inlet.catalogs(layer).await?.len(), 1);
        }
        self.state().published = false;
        Ok(vec![LoggedRelation {
            relation: relation(TABLE, table("t")),
            spans: cut(CUT),
            settles: false,
        }])
    }

    async fn load(
        &self,
        restore: &LoggedRestore,
        relation: &Relation,
        range: KeyRange,
        inlet: &dyn Inlet,
        progress: &mut dyn LoadProgress,
    ) -> Result<(), Fault> {
        let rows = Self::final_rows(restore, relation.id, inlet).await?;
        let (first, end) = (page_of(&range.start, 0), page_of(&range.end, PAGES));
        for page in first..end {
            self.permit().await;
            let part = rows.range(numbers(page));
            let part: Vec<(u32, u32)> = part.map(|(number, value)| (*number, *value)).collect();
            let count = part.len() as u64;
            {
                let mut state = self.state();
                state.loaded += count;
                state.restored.extend(part);
            }
            let next = (page + 1).to_be_bytes().to_vec().into();
            let (read, written) = (ByteCount(count * 18), ByteCount(count * 8));
            progress
                .advance(
                    (page + 1 < end).then_some(next),
                    read,
                    written,
                    RowCount(count),
                )
                .await?;
        }
        Ok(())
    }

    async fn finish_restore(&self, _: &LoggedRestore, _: &dyn Inlet) -> Result<RowSum, Fault> {
        let mut state = self.state();
        state.published = true;
        Ok(RowSum {
            rows: RowCount(state.restored.len() as u64),
            ..RowSum::default()
        })
    }

    async fn discard_restore(&self, _: JobId) -> Result<(), Fault> {
        let mut state = self.state();
        state.restored.clear();
        state.published = false;
        Ok(())
    }
}
