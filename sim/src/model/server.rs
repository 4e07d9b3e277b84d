//! The server: heaps of pages, a log of transactions, slots.

use holdfast_postgres::changes::Event;
use holdfast_postgres::layout::{Column, FileNode, Layout, Lsn, Oid};
use holdfast_postgres::tuple::Tuple;
use holdfast_types::{ErrorCode, Fault, HoldId, JobId, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::log::{Columns, Logged, Write, apply, note_columns, set_columns};
use super::rows::{COLUMNS, ModelRow, Rows, extra_column, layout, tuple};
use crate::libc_override;
use crate::trace;

/// Rows of a page.
const PAGE_ROWS: usize = 8;
/// Bytes of log that a transaction takes.
const RECORD: u64 = 64;
/// Files of transactions are numbered from here.
const FIRST_FILE: u32 = 100_000;
/// How long a commit may be in the log before it is seen.
const LONGEST_INVISIBLE: u64 = 60;
/// Part of the commits that wait for something else, a standby for instance, and how long.
const WAITING: f64 = 0.03;
const WAITS: std::ops::RangeInclusive<u64> = 300..=2_500;

#[derive(Debug, Clone)]
struct Heap {
    layout: Layout,
    /// The transaction that gave it its file.
    file_xid: u32,
    pages: Vec<Vec<(u64, ModelRow)>>,
}

/// A replication slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Where the log that it has begins.
    pub(crate) confirmed: Lsn,
}

/// A database that restores make.
#[derive(Debug, Clone, Default)]
pub(crate) struct Restored {
    /// What was loaded, by table.
    pub(crate) rows: Rows,
    /// The position of the source that it is.
    pub(crate) at: u64,
    /// Whether applications see it.
    pub(crate) is_published: bool,
    /// The job.
    pub(crate) job: u64,
}

#[derive(Debug)]
struct State {
    heaps: BTreeMap<Oid, Heap>,
    log: Vec<Logged>,
    /// All tables after all of the log.
    present: Arc<Rows>,
    /// Commits that are in the log and not seen yet, and when they will be.
    invisible: Vec<(Duration, Logged)>,
    end: Lsn,
    next_xid: u32,
    next_attnum: i16,
    /// The numbers of the columns that were added, after all of the log.
    columns: Columns,
    slots: BTreeMap<HoldId, Slot>,
    databases: BTreeMap<String, Restored>,
    rng: StdRng,
    connection_loss: f64,
    violation: Option<String>,
    /// Whether slots were ever lost: then those that are there may be younger than what rests on them.
    lost_slots: bool,
    moves: u64,
}

/// A server. Clones share it; it outlives every process that uses it.
#[derive(Debug, Clone)]
pub(crate) struct ModelServer(Arc<Mutex<State>>);

impl ModelServer {
    /// A server with these empty tables.
    pub(crate) fn new(seed: u64, tables: &[(Oid, &str)]) -> Self {
        let heap = |(oid, name): &(Oid, &str)| {
            let layout = layout(*oid, name);
            let heap = Heap {
                layout,
                file_xid: 0,
                pages: Vec::new(),
            };
            (*oid, heap)
        };
        Self(Arc::new(Mutex::new(State {
            heaps: tables.iter().map(heap).collect(),
            log: Vec::new(),
            present: Arc::new(
                tables
                    .iter()
                    .map(|(oid, _)| (*oid, BTreeMap::new()))
                    .collect(),
            ),
            invisible: Vec::new(),
            end: Lsn(RECORD),
            next_xid: 1_000,
            next_attnum: COLUMNS as i16 + 1,
            columns: Columns::new(),
            slots: BTreeMap::new(),
            databases: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            connection_loss: 0.0,
            violation: None,
            lost_slots: false,
            moves: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.see(trace::now());
        state
    }

    /// What a statement goes through: it takes a while, and the connection may be lost.
    pub(crate) async fn gate(&self) -> Result<(), Fault> {
        let (delay, is_lost) = {
            let mut state = self.lock();
            let loss = state.connection_loss;
            (state.rng.random_range(1..=25), state.rng.random_bool(loss))
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
        match is_lost {
            true => Err(Fault::new(
                ErrorCode::Unavailable,
                "the connection to the model's server was lost",
            )),
            false => Ok(()),
        }
    }

    /// Part of the statements whose connection is lost from now on.
    pub(crate) fn lose_connections(&self, part: f64) {
        self.lock().connection_loss = part;
    }

    /// Commits a transaction: it is in the log now, and seen a little later.
    pub(crate) fn commit(&self, mut writes: Vec<Write>) {
        let mut state = self.lock();
        state.complete(&mut writes);
        let now = trace::now();
        let logged = Logged {
            commit: state.end,
            time: Timestamp::from_micros(libc_override::wall(now).as_micros() as u64),
            xid: state.next_xid,
            writes,
        };
        state.end = state.end.plus(RECORD);
        state.next_xid += 1;
        let delay = match state.rng.random_bool(WAITING) {
            true => state.rng.random_range(WAITS),
            false => state.rng.random_range(0..=LONGEST_INVISIBLE),
        };
        // What is committed later may be seen earlier, unless both write the same rows: then one has waited for the other.
        let until = now + Duration::from_millis(delay);
        let present = Arc::make_mut(&mut state.present);
        for write in &logged.writes {
            apply(present, write);
        }
        state.log.push(logged.clone());
        state.invisible.push((until, logged));
    }

    /// Tables as an application sees them now: what is committed and not seen yet counts, for its rows are locked.
    pub(crate) fn present(&self) -> Arc<Rows> {
        Arc::clone(&self.lock().present)
    }

    /// Tables after all commits before a position.
    pub(crate) fn at(&self, end: Lsn) -> Rows {
        let state = self.lock();
        let mut rows: Rows = state
            .heaps
            .keys()
            .map(|oid| (*oid, BTreeMap::new()))
            .collect();
        for logged in state.log.iter().filter(|logged| logged.commit < end) {
            for write in &logged.writes {
                apply(&mut rows, write);
            }
        }
        rows
    }

    /// The layout and the transaction of each table's file, as a snapshot at this position shows them.
    pub(crate) fn layouts_at(&self, end: Lsn) -> BTreeMap<Oid, (Layout, u32)> {
        let state = self.lock();
        let mut layouts: BTreeMap<_, _> = state
            .heaps
            .iter()
            .map(|(oid, heap)| (*oid, (heap.layout.clone(), heap.file_xid)))
            .collect();
        // Files are numbered by the transaction that made them: go back to the last one before the position.
        let columns = state.columns_at(end);
        for (oid, (layout, xid)) in &mut layouts {
            set_columns(layout, columns.get(oid));
            let last = state.log.iter().rfind(|logged| {
                let mut writes = logged.writes.iter();
                logged.commit < end && writes.any(|write| write.makes_file(*oid))
            });
            *xid = last.map_or(0, |logged| logged.xid);
            layout.file_node =
                last.map_or(FileNode(oid.0), |logged| FileNode(FIRST_FILE + logged.xid));
        }
        layouts
    }

    /// Whether a table has another file now than a snapshot at this position shows: then that snapshot sees none of its rows.
    pub(crate) fn is_emptied_since(&self, table: Oid, end: Lsn) -> bool {
        let state = self.lock();
        state
            .log
            .iter()
            .filter(|logged| logged.commit >= end)
            .any(|logged| logged.writes.iter().any(|write| write.makes_file(table)))
    }

    /// The layouts as they are now.
    pub(crate) fn layouts(&self) -> Vec<Layout> {
        let state = self.lock();
        state
            .heaps
            .values()
            .map(|heap| heap.layout.clone())
            .collect()
    }

    /// How many pages a table has.
    pub(crate) fn pages(&self, table: Oid) -> u32 {
        let state = self.lock();
        let pages = state.heaps.get(&table).map_or(0, |heap| heap.pages.len());
        u32::try_from(pages).unwrap_or(u32::MAX)
    }

    /// The rows of some pages as they are seen now, in the columns that were planned; nothing if the table has another file, or one of them is gone.
    pub(crate) fn read_pages(
        &self,
        planned: &Layout,
        start: u32,
        end: Option<u32>,
    ) -> Result<Option<Vec<Tuple>>, Fault> {
        let state = self.lock();
        let Some(heap) = state
            .heaps
            .get(&planned.oid)
            .filter(|heap| heap.layout.file_node == planned.file_node)
        else {
            return Ok(None);
        };
        let added = heap.layout.columns.get(COLUMNS..).unwrap_or_default();
        let wanted = planned.columns.get(COLUMNS..).unwrap_or_default();
        let place = |column: &Column| added.iter().position(|it| it.attnum == column.attnum);
        let Some(places) = wanted.iter().map(place).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let end = end
            .map_or(heap.pages.len(), |end| end as usize)
            .min(heap.pages.len());
        let pages = heap.pages.get(start as usize..end).unwrap_or_default();
        let rows = pages.iter().flatten();
        rows.map(|(number, row)| {
            let extra = places.iter().filter_map(|place| row.extra.get(*place));
            let extra: Vec<u64> = extra.copied().collect();
            tuple(*number, row.balance, Some(&row.ballast), &extra)
        })
        .collect::<Result<_, _>>()
        .map(Some)
    }

    /// Makes a slot, or finds it, and gives its confirmed position and the transactions that are not seen yet.
    pub(crate) fn make_slot(&self, hold: HoldId) -> (Slot, BTreeSet<u32>) {
        let mut state = self.lock();
        let confirmed = state.end;
        let slot = *state.slots.entry(hold).or_insert(Slot { confirmed });
        (slot, state.unseen())
    }

    /// Transactions that are committed and not seen yet.
    pub(crate) fn unseen(&self) -> BTreeSet<u32> {
        self.lock().unseen()
    }

    /// The slot of a hold.
    pub(crate) fn slot(&self, hold: HoldId) -> Option<Slot> {
        self.lock().slots.get(&hold).copied()
    }

    /// Lets log go.
    pub(crate) fn confirm(&self, hold: HoldId, to: Lsn) {
        if let Some(slot) = self.lock().slots.get_mut(&hold) {
            slot.confirmed = slot.confirmed.max(to);
        }
    }

    /// Drops a slot.
    pub(crate) fn drop_slot(&self, hold: HoldId) {
        self.lock().slots.remove(&hold);
    }

    /// The end of the log.
    pub(crate) fn end(&self) -> Lsn {
        self.lock().end
    }

    /// What was committed in a window, as a slot gives it: what was confirmed is left out, without a word. Changes of a table that has another form
    /// than planned are left out too, and that is said.
    pub(crate) fn changes(
        &self,
        hold: HoldId,
        (from, to): (Lsn, Lsn),
        planned: &BTreeMap<Oid, Arc<Layout>>,
    ) -> Result<Vec<Event>, Fault> {
        let state = self.lock();
        let slot = state.slots.get(&hold).ok_or_else(|| {
            Fault::new(
                ErrorCode::HistoryGone,
                format!("the model has no slot {hold}"),
            )
        })?;
        let from = from.max(slot.confirmed);
        let mut events = Vec::new();
        let mut columns = state.columns_at(from);
        for logged in state
            .log
            .iter()
            .filter(|logged| logged.commit >= from && logged.commit < to)
        {
            logged.events(&mut events, &mut columns, planned)?;
        }
        Ok(events)
    }

    /// Works on a database that a restore makes.
    pub(crate) fn with_database<T>(&self, name: &str, work: impl FnOnce(&mut Restored) -> T) -> T {
        work(self.lock().databases.entry(name.to_owned()).or_default())
    }

    /// A database that was restored.
    pub(crate) fn database(&self, name: &str) -> Option<Restored> {
        self.lock().databases.get(name).cloned()
    }

    /// Undoes what a job restored, unless it is published.
    pub(crate) fn discard(&self, job: JobId) {
        let mut state = self.lock();
        state
            .databases
            .retain(|_, database| database.is_published || database.job != job.0);
    }

    /// Publishes what a job restored.
    pub(crate) fn publish(&self, job: JobId) {
        for database in self.lock().databases.values_mut() {
            database.is_published |= database.job == job.0;
        }
    }

    /// Drops all slots, as a failover to a server without them does.
    pub(crate) fn drop_slots(&self) {
        let mut state = self.lock();
        state.slots.clear();
        state.lost_slots = true;
    }

    /// Notes that something happened that may not, unless slots were lost.
    pub(crate) fn violated(&self, what: String) {
        let mut state = self.lock();
        if !state.lost_slots {
            state.violation.get_or_insert(what);
        }
    }

    /// What may not happen, if it did.
    pub(crate) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    /// Rows that moved to another page.
    pub(crate) fn moves(&self) -> u64 {
        self.lock().moves
    }
}

impl State {
    /// Columns that were added by all commits before a position.
    fn columns_at(&self, end: Lsn) -> Columns {
        let mut columns = Columns::new();
        let before = self.log.iter().filter(|logged| logged.commit < end);
        for write in before.flat_map(|logged| &logged.writes) {
            note_columns(&mut columns, write);
        }
        columns
    }

    /// Fills in what only the server knows: the numbers of new columns, and what a row has in those that were added.
    fn complete(&mut self, writes: &mut [Write]) {
        for write in writes {
            if let Write::AddColumn { attnum, .. } = write {
                *attnum = self.next_attnum;
                self.next_attnum += 1;
            }
            note_columns(&mut self.columns, write);
            if let Write::Put {
                table,
                balance,
                extra,
                ..
            } = write
            {
                let added = self.columns.get(table).into_iter().flatten();
                *extra = added
                    .map(|attnum| *balance ^ attnum.unsigned_abs() as u64)
                    .collect();
            }
        }
    }

    fn unseen(&self) -> BTreeSet<u32> {
        self.invisible
            .iter()
            .map(|(_, logged)| logged.xid)
            .collect()
    }

    /// Makes visible what is to be seen by now, in the order of commits: transactions of the model write the same few rows.
    fn see(&mut self, now: Duration) {
        while self
            .invisible
            .first()
            .is_some_and(|(until, _)| *until <= now)
        {
            let (_, logged) = self.invisible.remove(0);
            for write in &logged.writes {
                self.write(write, &logged);
            }
        }
    }

    fn write(&mut self, write: &Write, logged: &Logged) {
        match write {
            Write::Put {
                table,
                key,
                old_key,
                balance,
                ballast,
                extra,
            } => {
                let row = ModelRow {
                    balance: *balance,
                    ballast: ballast.clone().unwrap_or_default(),
                    extra: extra.clone(),
                };
                self.put(
                    *table,
                    (old_key.unwrap_or(*key), *key),
                    row,
                    ballast.is_none(),
                );
            }
            Write::AddColumn {
                table,
                attnum,
                value,
            } => {
                if let Some(heap) = self.heaps.get_mut(table) {
                    heap.layout.columns.push(extra_column(*attnum));
                    heap.rows_mut().for_each(|row| row.extra.push(*value));
                }
            }
            Write::DropColumn { table } => {
                if let Some(heap) = self.heaps.get_mut(table)
                    && heap.layout.columns.len() > COLUMNS
                {
                    heap.layout.columns.pop();
                    for row in heap.rows_mut() {
                        row.extra.pop();
                    }
                }
            }
            Write::Delete { table, key } => {
                if let Some(heap) = self.heaps.get_mut(table) {
                    heap.take(*key);
                }
            }
            Write::Truncate { table } | Write::Rewrite { table } => {
                let file = FileNode(FIRST_FILE + logged.xid);
                let Some(heap) = self.heaps.get_mut(table) else {
                    return;
                };
                heap.layout.file_node = file;
                heap.file_xid = logged.xid;
                let rows: Vec<_> = std::mem::take(&mut heap.pages)
                    .into_iter()
                    .flatten()
                    .collect();
                if matches!(write, Write::Rewrite { .. }) {
                    heap.pages = rows.chunks(PAGE_ROWS).map(<[_]>::to_vec).collect();
                }
            }
        }
    }

    /// A new version of a row: on any page that has room, or on a new one.
    fn put(&mut self, table: Oid, (old_key, key): (u64, u64), mut row: ModelRow, keeps: bool) {
        let Some(heap) = self.heaps.get_mut(&table) else {
            return;
        };
        let before = heap.take(old_key);
        let home = before.as_ref().map(|(page, _)| *page);
        if keeps {
            row.ballast = before.map(|(_, row)| row.ballast).unwrap_or_default();
        }
        let roomy: Vec<_> = (0..heap.pages.len())
            .filter(|page| {
                heap.pages
                    .get(*page)
                    .is_some_and(|rows| rows.len() < PAGE_ROWS)
            })
            .collect();
        let place = match roomy.is_empty() || self.rng.random_bool(0.02) {
            true => heap.pages.len(),
            false => roomy[self.rng.random_range(0..roomy.len())],
        };
        if place == heap.pages.len() {
            heap.pages.push(Vec::new());
        }
        self.moves += u64::from(home.is_some_and(|home| home != place));
        if let Some(page) = heap.pages.get_mut(place) {
            page.push((key, row));
        }
    }
}

impl Heap {
    fn rows_mut(&mut self) -> impl Iterator<Item = &mut ModelRow> {
        self.pages.iter_mut().flatten().map(|(_, row)| row)
    }

    /// Takes a row away; the page that it was on.
    fn take(&mut self, key: u64) -> Option<(usize, ModelRow)> {
        self.pages
            .iter_mut()
            .enumerate()
            .find_map(|(number, page)| {
                let at = page.iter().position(|(other, _)| *other == key)?;
                Some((number, page.remove(at).1))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::row;
    use super::*;

    const TABLE: Oid = Oid(5);

    fn put(key: u64, balance: u64, ballast: Option<&[u8]>) -> Write {
        Write::Put {
            table: TABLE,
            key,
            old_key: None,
            balance,
            ballast: ballast.map(<[u8]>::to_vec),
            extra: Vec::new(),
        }
    }

    fn later() {
        libc_override::set_elapsed(trace::now() + Duration::from_secs(3));
    }

    fn seen(server: &ModelServer) -> Vec<u64> {
        let layout = server.layouts().remove(0);
        let pages = server.read_pages(&layout, 0, None).expect("good rows");
        let mut rows: Vec<_> = pages
            .expect("its file")
            .iter()
            .map(|tuple| row(tuple).expect("whole").0)
            .collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn commits_are_logged_before_they_are_seen_and_unchanged_values_are_not_logged() {
        let server = ModelServer::new(1, &[(TABLE, "t")]);
        let hold = HoldId(1);
        let (slot, _) = server.make_slot(hold);
        let planned = BTreeMap::from([(TABLE, Arc::new(server.layouts().remove(0)))]);
        server.commit(vec![put(1, 10, Some(b"big"))]);
        server.commit(vec![put(1, 20, None)]);
        assert!(!server.unseen().is_empty() || seen(&server) == [1]);
        later();
        assert!(server.unseen().is_empty());
        assert_eq!(seen(&server), [1]);
        assert_eq!(server.present()[&TABLE][&1].ballast, b"big");
        let events = server
            .changes(hold, (slot.confirmed, server.end()), &planned)
            .expect("a slot");
        let rows: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Row(change) => change.new.as_ref().map(Tuple::is_whole),
                _ => None,
            })
            .collect();
        assert_eq!(rows, [true, false]);
        server.confirm(hold, server.end());
        let none = server
            .changes(hold, (slot.confirmed, server.end()), &planned)
            .expect("a slot");
        assert!(none.is_empty(), "confirmed log is left out without a word");
        server.drop_slot(hold);
        assert!(
            server
                .changes(hold, (slot.confirmed, server.end()), &planned)
                .is_err()
        );
    }

    #[test]
    fn a_truncation_gives_another_file_which_older_snapshots_do_not_see() {
        let server = ModelServer::new(1, &[(TABLE, "t")]);
        server.commit(vec![put(1, 10, Some(b"big"))]);
        let before = server.end();
        let planned = server.layouts().remove(0);
        let file = planned.file_node;
        server.commit(vec![Write::Truncate { table: TABLE }]);
        later();
        assert!(server.is_emptied_since(TABLE, before));
        assert!(!server.is_emptied_since(TABLE, server.end()));
        assert_eq!(server.read_pages(&planned, 0, None), Ok(None));
        assert_eq!(server.at(before)[&TABLE].len(), 1);
        assert!(server.present()[&TABLE].is_empty());
        assert_eq!(server.layouts_at(before)[&TABLE].0.file_node, file);
    }

    #[test]
    fn columns_come_and_go_without_a_row_being_written() {
        let server = ModelServer::new(1, &[(TABLE, "t")]);
        let hold = HoldId(1);
        let (slot, _) = server.make_slot(hold);
        let plain = server.layouts().remove(0);
        let planned = BTreeMap::from([(TABLE, Arc::new(plain.clone()))]);
        server.commit(vec![put(1, 10, Some(b"big"))]);
        let before = server.end();
        let (table, attnum, value) = (TABLE, 0, 7);
        server.commit(vec![Write::AddColumn {
            table,
            attnum,
            value,
        }]);
        server.commit(vec![put(2, 20, Some(b"big"))]);
        later();
        let wide = server.layouts().remove(0);
        assert!(!wide.same_form(&plain) && wide.file_node == plain.file_node);
        assert_eq!(server.layouts_at(before)[&TABLE].0, plain);
        assert_eq!(server.layouts_at(server.end())[&TABLE].0, wide);
        assert_eq!(server.at(server.end())[&TABLE][&1].extra, [7]);
        let narrow = server.read_pages(&plain, 0, None).expect("good rows");
        let narrow = narrow.expect("its columns are there");
        assert!(narrow.iter().all(|tuple| tuple.fields().count() == COLUMNS));
        let events = server.changes(hold, (slot.confirmed, server.end()), &planned);
        let is_reshaped = |event: &Event| matches!(event, Event::Reshaped { .. });
        assert!(events.expect("a slot").iter().any(is_reshaped));
        server.commit(vec![Write::DropColumn { table }]);
        later();
        assert_eq!(server.layouts(), [plain]);
        assert_eq!(server.read_pages(&wide, 0, None), Ok(None));
        assert!(server.at(server.end())[&TABLE][&2].extra.is_empty());
    }
}
