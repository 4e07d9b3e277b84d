//! The conformance suite: what every [`Source`] must do, as a program that fails loudly.
//!
//! An implementation brings a [`Fixture`] and calls [`run_all`] from a test of its own. Each check gets a fresh source, so that checks
//! cannot lean on each other. A source without a capability is not asked for it.

mod history;
mod reads;
mod restores;

use crate::row::{Change, Row};
use crate::source::{ReadRequest, Source};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use holdfast_types::{
    ByteCount, ErrorCode, Fault, KeyRange, Position, Relation, RelationId, TableName, Target,
    Window,
};
use std::sync::Arc;

/// The application beside the source: what it does is what a backup must see.
#[async_trait]
pub trait Application: Send + Sync {
    /// Makes a database.
    async fn create_database(&self, name: &str);

    /// Makes a table of rows with a key and a value.
    async fn create_table(&self, name: &TableName);

    /// Drops a table.
    async fn drop_table(&self, name: &TableName);

    /// Commits one transaction (`None` deletes), and tells its position.
    async fn write(&self, writes: Vec<Write>) -> Position;

    /// What the application itself sees of a table now, in key order; `None` if there is no such table.
    async fn rows(&self, name: &TableName) -> Option<Vec<(Bytes, Bytes)>>;

    /// Discards as much history as holds allow, whatever its age.
    async fn discard_history(&self);
}

/// A change of one row: table, key, new content or deletion.
pub type Write = (TableName, Bytes, Option<Bytes>);

/// Makes sources to check.
#[async_trait]
pub trait Fixture: Send {
    /// An empty source, and the application that writes to it.
    async fn fresh(&mut self) -> (Arc<dyn Source>, Arc<dyn Application>);
}

/// Runs every check.
///
/// # Panics
/// With the reason, if the source breaks its contract.
pub async fn run_all(fixture: &mut dyn Fixture) {
    history::describe_is_as_of(fixture).await;
    history::unknown_targets_are_named(fixture).await;
    history::positions_grow(fixture).await;
    reads::reads_are_exact_while_writers_run(fixture).await;
    reads::resume_gives_the_remainder(fixture).await;
    reads::plans_tile(fixture).await;
    reads::changes_are_complete(fixture).await;
    reads::window_boundaries_are_exact(fixture).await;
    history::dropped_tables_keep_their_history(fixture).await;
    history::holds_keep_history(fixture).await;
    reads::a_dropped_stream_stops(fixture).await;
    reads::large_rows_pass(fixture).await;
    let (source, _) = fixture.fresh().await;
    if source.capabilities().restore {
        restores::restores_are_invisible_until_published(fixture).await;
        restores::loading_is_idempotent_and_in_any_order(fixture).await;
        restores::discard_leaves_nothing(fixture).await;
        restores::name_conflicts_are_refused(fixture).await;
        restores::restored_tables_can_be_backed_up(fixture).await;
        restores::fingerprints_add_up(fixture).await;
    }
}

fn table(name: &str) -> TableName {
    TableName {
        database: "app".to_owned(),
        table: name.to_owned(),
    }
}

fn key(number: u32) -> Bytes {
    // Keys with zeros and of different lengths, so that order and escaping are put to the test.
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.truncate(if number.is_multiple_of(768) { 3 } else { 4 });
    bytes.insert(0, b'k');
    bytes.into()
}

fn put(name: &TableName, number: u32, value: impl Into<Bytes>) -> Write {
    (name.clone(), key(number), Some(value.into()))
}

fn delete(name: &TableName, number: u32) -> Write {
    (name.clone(), key(number), None)
}

fn snapshot(upto: Position) -> Window {
    Window {
        after: None,
        upto,
        history: false,
    }
}

fn changes(after: Position, upto: Position, history: bool) -> Window {
    Window {
        after: Some(after),
        upto,
        history,
    }
}

async fn with_table(
    fixture: &mut dyn Fixture,
) -> (Arc<dyn Source>, Arc<dyn Application>, TableName) {
    let (source, application) = fixture.fresh().await;
    application.create_database("app").await;
    application.create_table(&table("t")).await;
    (source, application, table("t"))
}

async fn now(source: &dyn Source) -> Position {
    let zero = Position::Hlc(holdfast_types::Hlc::ZERO);
    source.position(zero).await.expect("the present position")
}

async fn relation(source: &dyn Source, name: &TableName, at: Position) -> Relation {
    let target = Target::Tables(vec![name.clone()]);
    let relations = source.describe(&target, at).await.expect("describe");
    relations.into_iter().next().expect("the table is there")
}

async fn try_read(
    source: &dyn Source,
    relation: RelationId,
    range: KeyRange,
    window: Window,
) -> Result<Vec<Row>, Fault> {
    let request = ReadRequest {
        relation,
        range,
        window,
    };
    let mut stream = source.read(request).await?;
    let mut rows: Vec<Row> = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if let (Some(last), Some(first)) = (rows.last(), batch.first()) {
            assert!(
                last.key < first.key,
                "a batch starts with a new key: the versions of one are never split"
            );
        }
        rows.extend(batch);
    }
    let ordered = rows.windows(2).all(|pair| match pair {
        [a, b] => a.key < b.key || (a.key == b.key && a.position > b.position),
        _ => true,
    });
    assert!(ordered, "rows come by key, the newest version first");
    Ok(rows)
}

async fn read(source: &dyn Source, relation: RelationId, window: Window) -> Vec<Row> {
    try_read(source, relation, KeyRange::all(), window)
        .await
        .expect("read")
}

/// Key and value of rows that are all `Put`s.
fn contents(rows: &[Row]) -> Vec<(Bytes, Bytes)> {
    rows.iter()
        .map(|row| match &row.change {
            Change::Put(value) => (row.key.clone(), value.clone()),
            Change::Delete => panic!("a snapshot holds no deletions"),
        })
        .collect()
}

fn assert_code(result: Result<impl Sized, Fault>, code: ErrorCode, what: &str) {
    match result {
        Ok(_) => panic!("{what} must be refused"),
        Err(fault) => assert_eq!(fault.code, code, "{what}: {fault}"),
    }
}

/// Asserts that ranges tile the key space in order.
fn assert_tiles(ranges: &[(KeyRange, ByteCount)]) {
    let first = ranges.first().expect("at least one range");
    let last = ranges.last().expect("at least one range");
    assert!(first.0.start.is_empty(), "the first range starts open");
    assert!(last.0.end.is_empty(), "the last range ends open");
    for pair in ranges.windows(2) {
        assert!(!pair[0].0.end.is_empty());
        assert_eq!(pair[0].0.end, pair[1].0.start, "no gap, no overlap");
        assert!(pair[0].0.start < pair[0].0.end, "no empty range");
    }
}
