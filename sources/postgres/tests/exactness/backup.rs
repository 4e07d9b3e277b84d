//! A backup as the product makes it, and as a restore puts it together.

use holdfast_env::Env;
use holdfast_postgres::changes::{ChangeStream, WindowRequest, wait_until_flushed};
use holdfast_postgres::copy::CopyReader;
use holdfast_postgres::fixup::{AtF, file_node_xids, fix_up, replaced};
use holdfast_postgres::fold::{Fold, Folded, Keep, Op, Sorter};
use holdfast_postgres::key::Key;
use holdfast_postgres::layout::{Layout, Lsn, Oid};
use holdfast_postgres::pages::{Opened, PageRange, open_range};
use holdfast_postgres::session::Session;
use holdfast_postgres::tuple::Tuple;
use holdfast_postgres_testing::{Server, connect};
use holdfast_types::{ErrorCode, Fault};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use tokio_postgres::Client;

use crate::database::{self, Layouts, State, rows};
use crate::slot::{Life, Slot};

/// So little memory that folds of a few thousand changes write runs of runs.
pub(crate) const MEMORY: usize = 256 << 10;

/// A database under backup.
pub(crate) struct Chain {
    pub(crate) server: &'static Server,
    pub(crate) database: String,
    pub(crate) env: Env,
    pub(crate) planned: Layouts,
    pub(crate) start: Lsn,
    /// As they were planned.
    columns: BTreeMap<Oid, String>,
    directory: tempfile::TempDir,
    directories: std::sync::atomic::AtomicU32,
}

/// A change stream and its session.
pub(crate) struct Changes {
    pub(crate) stream: ChangeStream,
    _session: Session,
}

/// Rows of page ranges, each right in its own snapshot.
#[derive(Default)]
pub(crate) struct Base {
    rows: Vec<(Oid, Key, Tuple)>,
    /// Relations with a range that found another file than planned.
    pub(crate) rewritten: BTreeSet<Oid>,
}

/// Rows above older layers.
pub(crate) struct Layer {
    pub(crate) folded: Folded,
    /// Relations that were read whole, in the place of all older rows.
    pub(crate) whole: State,
    /// The relations as they are at its end: what the next window is planned with.
    pub(crate) layouts: Layouts,
}

impl Chain {
    /// Publishes the tables and makes the slot.
    pub(crate) async fn hold(server: &'static Server, database: &str, tables: &[&str]) -> Self {
        let client = connect(server, database).await;
        let publication = format!("CREATE PUBLICATION hold FOR TABLE {}", tables.join(", "));
        client
            .batch_execute(&publication)
            .await
            .expect("a publication");
        // Before the slot: of a relation that was rewritten after its position, no change before the rewrite may count.
        let planned = database::layouts(&client, tables).await;
        let columns = database::columns(&client, &planned).await;
        let slot = Slot::create(server, database, &format!("hold_{database}"), Life::Lasting).await;
        wait_for_transactions(&client).await;
        Self {
            server,
            database: database.to_owned(),
            env: Env::system(),
            planned,
            start: slot.position,
            columns,
            directory: tempfile::tempdir().expect("a directory"),
            directories: std::sync::atomic::AtomicU32::new(0),
        }
    }

    /// A new directory for runs.
    pub(crate) fn directory(&self) -> String {
        let number = self
            .directories
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.directory.path().join(number.to_string());
        std::fs::create_dir(&path).expect("a directory");
        path.to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn layout(&self, name: &str) -> &Arc<Layout> {
        self.planned
            .values()
            .find(|layout| layout.name == name)
            .expect("planned")
    }

    /// Reads one page range into the base, in a transaction of its own.
    pub(crate) async fn read_pages(&self, base: &mut Base, oid: Oid, start: u32, end: Option<u32>) {
        let layout = &self.planned[&oid];
        let session = database::plain(self.server, &self.database).await;
        let range = PageRange { start, end };
        let mut part = match open_range(session, layout, range).await.expect("opened") {
            Opened::Reading(part) => part,
            Opened::Changed(..) => {
                base.rewritten.insert(oid);
                return;
            }
        };
        let mut reader = CopyReader::new(layout.columns.len());
        while let Some(chunk) = part.next().await {
            reader.feed(chunk.expect("a chunk"));
            while let Some(row) = reader.next_row().expect("rows") {
                let key = Key::of(&row, &layout.key).expect("a key");
                base.rows.push((oid, key, row));
            }
        }
        reader.finish().expect("a trailer");
        part.finish().await.expect("the end");
    }

    /// Pages of a relation, at present.
    pub(crate) async fn pages(&self, client: &Client, oid: Oid) -> u32 {
        let bytes: i64 = client
            .query_one("SELECT pg_relation_size($1::oid)", &[&oid.0])
            .await
            .expect("a size")
            .get(0);
        u32::try_from(bytes / 8192).expect("small")
    }

    /// Opens the change stream of a window.
    pub(crate) async fn stream(&self, window: Range<Lsn>) -> Changes {
        let session = database::plain(self.server, &self.database).await;
        wait_until_flushed(&session, window.end)
            .await
            .expect("flushed");
        let request = WindowRequest {
            slot: format!("hold_{}", self.database),
            publications: vec!["hold".to_owned()],
            window,
        };
        let layouts = self.planned.values().map(Arc::clone);
        let stream = ChangeStream::open(&session, &request, layouts)
            .await
            .expect("a stream");
        Changes {
            stream,
            _session: session,
        }
    }

    /// Folds a window.
    pub(crate) async fn fold(&self, keep: Keep, window: Range<Lsn>) -> Fold {
        let disk = Arc::clone(&self.env.disk);
        let fold = Fold::new(keep, disk, &self.directory(), MEMORY);
        let mut stream = self.stream(window).await;
        fold.take(&self.env, &mut stream.stream)
            .await
            .expect("folded")
    }

    /// Finishes a folded window under a slot's snapshot.
    pub(crate) async fn finish(
        &self,
        folded: Folded,
        slot: &Slot,
        rewritten: &BTreeSet<Oid>,
    ) -> Result<Layer, Fault> {
        let session = database::session(self.server, &self.database, Some(&slot.snapshot)).await;
        self.finish_in(&session, folded, slot.position, rewritten)
            .await
    }

    /// As [`Self::finish`], in a session that has the snapshot.
    pub(crate) async fn finish_in(
        &self,
        session: &Session,
        folded: Folded,
        at: Lsn,
        rewritten: &BTreeSet<Oid>,
    ) -> Result<Layer, Fault> {
        let names: Vec<_> = self.planned.values().map(|it| it.name.as_str()).collect();
        let layouts = database::layouts(session.client(), &names).await;
        let xids = file_node_xids(session).await.expect("transactions");
        let at_f = |(oid, layout): (&Oid, &Arc<Layout>)| {
            let now = AtF {
                layout: Arc::clone(layout),
                file_node_xid: xids[oid],
            };
            (*oid, now)
        };
        let at_f: BTreeMap<_, _> = layouts.iter().map(at_f).collect();
        let columns = database::columns(session.client(), &self.planned).await;
        // Only of what was truncated, so that each rule is tried by itself.
        let altered = |oid: &&Oid| {
            folded.truncated().contains_key(oid) && columns.get(oid) != self.columns.get(oid)
        };
        let mut changed: BTreeSet<_> = self.planned.keys().filter(altered).copied().collect();
        changed.extend(rewritten);
        let replaced = replaced(&self.planned, &at_f, &folded, &changed);
        let mut whole = State::new();
        for oid in &replaced {
            let rows = rows(session, &layouts[oid], "").await;
            whole.insert(*oid, rows.into_iter().collect());
        }
        let disk = Arc::clone(&self.env.disk);
        let fixes = Sorter::new(Keep::Last, disk, &self.directory(), MEMORY);
        let folded = fix_up(&self.env, session, &layouts, folded, &replaced, fixes, at).await?;
        Ok(Layer {
            folded,
            whole,
            layouts,
        })
    }
}

/// Puts a base and a layer together, as a restore does.
pub(crate) fn restore(base: &Base, layer: &Layer) -> State {
    let mut state = State::new();
    let mut touched = layer.folded.touched().expect("an index");
    for (oid, key, row) in &base.rows {
        if layer.whole.contains_key(oid) || touched.contains(*oid, key).expect("the disk works") {
            continue;
        }
        let older = state
            .entry(*oid)
            .or_default()
            .insert(key.clone(), row.clone());
        assert!(
            older.is_none(),
            "an untouched row stands in two page ranges"
        );
    }
    put(&mut state, layer);
    state
}

/// Puts a layer over a state.
pub(crate) fn apply(older: &State, layer: &Layer) -> State {
    let mut state = older.clone();
    for oid in layer.folded.truncated().keys().chain(layer.whole.keys()) {
        state.remove(oid);
    }
    put(&mut state, layer);
    state
}

fn put(state: &mut State, layer: &Layer) {
    let mut rows = layer.folded.rows();
    while let Some(entry) = rows.next_entry().expect("the disk works") {
        let relation = state.entry(entry.version.relation).or_default();
        match entry.op {
            Op::Delete => relation.remove(&entry.version.key),
            Op::Put { row, .. } => {
                assert!(row.is_whole(), "a folded layer holds whole rows");
                relation.insert(entry.version.key, row)
            }
        };
    }
    for (oid, rows) in &layer.whole {
        state.insert(*oid, rows.clone());
    }
}

/// Puts the state at a commit of a history window over that at its start.
pub(crate) fn apply_history(older: &State, resolved: &Folded) -> State {
    let mut state = older.clone();
    for oid in resolved.truncated().keys() {
        state.remove(oid);
    }
    let none = BTreeMap::new();
    let mut rows = resolved.rows();
    while let Some(entry) = rows.next_entry().expect("the disk works") {
        let (oid, key) = (entry.version.relation, entry.version.key);
        match entry.op {
            Op::Delete => state.entry(oid).or_default().remove(&key),
            Op::Put { row, origin } => {
                let row = if row.is_whole() {
                    row
                } else {
                    let before = older.get(&oid).unwrap_or(&none);
                    let before = before
                        .get(origin.as_ref().unwrap_or(&key))
                        .expect("it was there");
                    row.filled_from(before).expect("same columns")
                };
                assert!(row.is_whole());
                state.entry(oid).or_default().insert(key, row)
            }
        };
    }
    state
}

/// Rule ‡ of the hold: waits for every transaction that was in flight when the slot was made. One whose commit record lies before
/// the slot's position may not be visible yet.
pub(crate) async fn wait_for_transactions(client: &Client) {
    let held = "SELECT transactionid::text FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock'";
    let held_now = || async {
        let rows = client.query(held, &[]).await.expect("locks");
        rows.iter()
            .map(|row| row.get(0))
            .collect::<BTreeSet<String>>()
    };
    let waited_for = held_now().await;
    while held_now().await.intersection(&waited_for).next().is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Whether the finish must be repeated under a newer snapshot.
pub(crate) fn needs_new_snapshot(fault: &Fault) -> bool {
    fault.code == ErrorCode::HistoryGone
}
