//! Loads rows, each part in a transaction with its mark.

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use holdfast_source::{Inlet, LoadProgress, LoggedRestore, TupleBlock};
use holdfast_types::{ByteCount, ErrorCode, Fault, KeyRange, Relation, RowCount, RowSum};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::begin::{base_objects, bound};
use super::plan::{DatabasePlan, RelationPlan, RestorePlan};
use super::touched::{Changed, ChangedParts, unchanged};
use super::{Destination, Restorer, lock};
use crate::fingerprint::RowForms;
use crate::layout::Oid;
use crate::member::catalog::{split_relation_id, to_json};
use crate::restore::{
    LoadOutcome, LoadTarget, RowBlock, load_noted, prefer_fast_compression, verify_noted,
};
use crate::session::Session;
use crate::tuple::take;

/// Blocks that are prepared while one is sent.
const AHEAD: usize = 2;

/// What a range of a relation covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Covered {
    /// Base objects, the end exclusive.
    base: (u32, u32),
    /// Parts of changed rows, the end exclusive.
    changed: (u32, u32),
}

impl Covered {
    fn of(range: &KeyRange) -> Result<Self, Fault> {
        let start = match range.start.is_empty() {
            true => (0, 0),
            false => read_bound(&range.start)?,
        };
        let end = match range.end.is_empty() {
            true => (1, u32::MAX),
            false => read_bound(&range.end)?,
        };
        Ok(Self {
            base: (
                if start.0 == 0 { start.1 } else { u32::MAX },
                if end.0 == 0 { end.1 } else { u32::MAX },
            ),
            changed: (
                if start.0 == 0 { 0 } else { start.1 },
                if end.0 == 0 { 0 } else { end.1 },
            ),
        })
    }
}

fn read_bound(bytes: &[u8]) -> Result<(u8, u32), Fault> {
    let mut rest = bytes;
    let parsed = take::<1>(&mut rest).zip(take::<4>(&mut rest));
    match parsed {
        Some(([kind @ 0..=1], number)) if rest.is_empty() => Ok((kind, u32::from_be_bytes(number))),
        _ => Err(Fault::new(
            ErrorCode::InvalidArgument,
            "the bounds are not those of a restore",
        )),
    }
}

/// The part of a base object; that of changed rows; and the one that says that there are no more.
fn base_part(oid: Oid, number: u32) -> String {
    format!("{oid}/b/{number}")
}

fn changed_part(oid: Oid, number: u32) -> String {
    format!("{oid}/c/{number}")
}

fn last_part(oid: Oid) -> String {
    format!("{oid}/c/end")
}

/// Loads parts of one relation.
struct Loader<'a> {
    restorer: &'a Restorer,
    session: Session,
    destination: Destination,
    target: LoadTarget,
    forms: Arc<RowForms>,
    oid: Oid,
    /// Whether rows are written; otherwise they are read and summed as if.
    writes: bool,
    inlet: &'a dyn Inlet,
}

/// What a part was.
#[derive(Debug, Clone, Copy, Default)]
struct Loaded {
    read: u64,
    sum: RowSum,
}

impl Restorer {
    /// See [`holdfast_source::LoggedSource::load`].
    ///
    /// # Errors
    /// What the server or the inlet says; `Corrupted` for layers that contradict each other; a full or failing disk.
    pub async fn load(
        &self,
        restore: &LoggedRestore,
        relation: &Relation,
        range: KeyRange,
        inlet: &dyn Inlet,
        progress: &mut dyn LoadProgress,
    ) -> Result<(), Fault> {
        let plan = self.plan(restore, inlet).await?;
        let (database, relation) = find(&plan, relation)?;
        self.load_range(restore, database, relation, &range, inlet, progress)
            .await
    }

    pub(super) async fn load_range(
        &self,
        restore: &LoggedRestore,
        database: &DatabasePlan,
        relation: &RelationPlan,
        range: &KeyRange,
        inlet: &dyn Inlet,
        progress: &mut dyn LoadProgress,
    ) -> Result<(), Fault> {
        let covered = Covered::of(range)?;
        let layout = &relation.layout;
        let changed = self.changed(restore.job, database, relation, inlet).await?;
        let destination = self.destination(restore, database)?;
        let target = destination.load_target(database, layout)?;
        let session = destination.session().await?;
        prefer_fast_compression(&session).await?;
        let forms = RowForms::read(&session, layout, &target.schema, &target.table).await?;
        let loader = Loader {
            restorer: self,
            session,
            destination,
            target,
            forms: Arc::new(forms),
            oid: layout.oid,
            writes: !restore.options.schema_only,
            inlet,
        };
        let (layer, names) = base_objects(database, relation, inlet).await?;
        for (number, name) in names.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            if number < covered.base.0 || number >= covered.base.1 {
                continue;
            }
            let done = loader.base(number, layer, name, changed.as_ref()).await?;
            loader.tell(progress, bound(0, number + 1), done).await?;
        }
        if let Some(changed) = changed
            && covered.changed.0 < covered.changed.1
        {
            let parts = changed.parts(restore.part_size.0);
            loader.changed(parts, covered.changed, progress).await?;
        }
        let nothing = (ByteCount(0), ByteCount(0), RowCount(0));
        progress
            .advance(None, nothing.0, nothing.1, nothing.2)
            .await
    }
}

fn find<'a>(
    plan: &'a RestorePlan,
    relation: &Relation,
) -> Result<(&'a DatabasePlan, &'a RelationPlan), Fault> {
    let (database, oid) = split_relation_id(relation.id);
    plan.databases
        .iter()
        .filter(|plan| {
            let newest = plan.newest();
            newest.is_ok_and(|newest| newest.catalog.database == database)
        })
        .find_map(|plan| Some((plan, plan.relation(oid)?)))
        .ok_or_else(|| {
            Fault::new(
                ErrorCode::NotFound,
                format!(
                    "relation {} is no part of the restore",
                    relation.name.to_string().escape_debug()
                ),
            )
        })
}

/// The parts that must have been loaded before a relation is whole.
pub(super) async fn parts_of(
    database: &DatabasePlan,
    relation: &RelationPlan,
    inlet: &dyn Inlet,
) -> Result<Vec<String>, Fault> {
    let oid = relation.layout.oid;
    let (_, names) = base_objects(database, relation, inlet).await?;
    let mut parts: Vec<String> = (0..names.len())
        .map(|number| base_part(oid, u32::try_from(number).unwrap_or(u32::MAX)))
        .collect();
    if database.has_changes(relation) {
        parts.push(last_part(oid));
    }
    Ok(parts)
}

impl Loader<'_> {
    async fn tell(
        &self,
        progress: &mut dyn LoadProgress,
        upto: bytes::Bytes,
        done: Loaded,
    ) -> Result<(), Fault> {
        let written = match self.writes {
            true => done.sum.bytes,
            false => ByteCount(0),
        };
        progress
            .advance(Some(upto), ByteCount(done.read), written, done.sum.rows)
            .await
    }

    async fn part(
        &self,
        part: &str,
        rows: BoxStream<'_, Result<RowBlock, Fault>>,
        sum: &Mutex<RowSum>,
    ) -> Result<LoadOutcome, Fault> {
        // The first rows are ready when the stream is.
        let mut rows = rows.peekable();
        Pin::new(&mut rows).peek().await;
        let stream = self.restorer.stream().await?;
        let note = || {
            // All rows have passed: what is left is to make them durable.
            drop(stream);
            let json = to_json(&*lock(sum)).ok()?;
            String::from_utf8(json.into()).ok()
        };
        let marks = self.destination.marks();
        if !self.writes {
            return verify_noted(&self.session, marks, part, rows, note).await;
        }
        load_noted(&self.session, marks, &self.target, part, rows, note).await
    }

    /// Loads what is still valid of a base object.
    async fn base(
        &self,
        number: u32,
        layer: usize,
        name: &str,
        changed: Option<&Arc<Changed>>,
    ) -> Result<Loaded, Fault> {
        let sum = Arc::new(Mutex::new(RowSum::default()));
        let read = Arc::new(AtomicU64::new(0));
        let columns = self.target.columns.len();
        let blocks = self.inlet.tuples(layer, name);
        let rows = blocks.map_ok(|block| {
            let (changed, forms) = (changed.cloned(), Arc::clone(&self.forms));
            let (sum, env) = (Arc::clone(&sum), self.restorer.env().clone());
            read.fetch_add(block.bytes.len() as u64, Ordering::Relaxed);
            async move {
                let work = move || {
                    let mut own = RowSum::default();
                    let TupleBlock { bytes, rows } = &block;
                    let kept = match changed {
                        Some(changed) => changed.filter(bytes, rows, &forms, &mut own)?,
                        None => unchanged(bytes, rows, columns, &forms, &mut own)?,
                    };
                    lock(&sum).merge(&own);
                    Ok::<_, Fault>(kept)
                };
                env.blocking(work).await
            }
        });
        let rows = rows.try_buffered(AHEAD);
        let part = base_part(self.oid, number);
        let outcome = self.part(&part, rows.boxed(), &sum).await?;
        Ok(loaded(outcome, read.load(Ordering::Relaxed), &sum))
    }

    /// Loads the rows that changed, part by part.
    async fn changed(
        &self,
        parts: ChangedParts,
        covered: (u32, u32),
        progress: &mut dyn LoadProgress,
    ) -> Result<(), Fault> {
        let parts = Arc::new(Mutex::new(parts));
        let mut number = 0;
        while lock(&parts).begin() {
            if number >= covered.1 {
                return Ok(());
            }
            let sum = Arc::new(Mutex::new(RowSum::default()));
            if number >= covered.0 {
                let rows = stream::try_unfold((), |()| async {
                    let batch = self.batch(&parts, &sum).await?;
                    Ok::<_, Fault>((batch.rows > 0).then_some((batch, ())))
                });
                let part = changed_part(self.oid, number);
                let outcome = self.part(&part, rows.boxed(), &sum).await?;
                let read = lock(&sum).bytes.0;
                let done = loaded(outcome, read, &sum);
                self.tell(progress, bound(1, number + 1), done).await?;
            }
            // What was loaded before, or lies before the range, is passed over.
            while self.batch(&parts, &sum).await?.rows > 0 {}
            number += 1;
        }
        let none = Mutex::new(RowSum::default());
        let part = last_part(self.oid);
        self.part(&part, stream::empty().boxed(), &none).await?;
        Ok(())
    }

    async fn batch(
        &self,
        parts: &Arc<Mutex<ChangedParts>>,
        sum: &Arc<Mutex<RowSum>>,
    ) -> Result<RowBlock, Fault> {
        let (parts, sum) = (Arc::clone(parts), Arc::clone(sum));
        let forms = Arc::clone(&self.forms);
        let work = move || {
            let mut own = RowSum::default();
            let batch = lock(&parts).next_rows(&forms, &mut own)?;
            lock(&sum).merge(&own);
            Ok(batch)
        };
        self.restorer.env().blocking(work).await
    }
}

fn loaded(outcome: LoadOutcome, read: u64, sum: &Mutex<RowSum>) -> Loaded {
    match outcome {
        LoadOutcome::Loaded { .. } => Loaded {
            read,
            sum: *lock(sum),
        },
        LoadOutcome::AlreadyLoaded => Loaded::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn ranges_are_of_objects_and_then_of_changed_rows() {
        let of = |start: Bytes, end: Bytes| {
            let covered = Covered::of(&KeyRange { start, end }).expect("bounds of ours");
            (covered.base, covered.changed)
        };
        let open = Bytes::new;
        assert_eq!(of(open(), open()), ((0, u32::MAX), (0, u32::MAX)));
        assert_eq!(of(open(), bound(0, 8)), ((0, 8), (0, 0)));
        assert_eq!(of(bound(0, 8), bound(1, 0)), ((8, u32::MAX), (0, 0)));
        assert_eq!(of(bound(0, 3), open()), ((3, u32::MAX), (0, u32::MAX)));
        assert_eq!(
            of(bound(1, 2), open()),
            ((u32::MAX, u32::MAX), (2, u32::MAX))
        );
        for bad in [&b"\x02\0\0\0\0"[..], b"\0", b"\0\0\0\0\0\0"] {
            let start = Bytes::copy_from_slice(bad);
            assert!(Covered::of(&KeyRange { start, end: open() }).is_err());
        }
    }
}
