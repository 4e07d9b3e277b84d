//! What the layers' changes make of a relation: its rows that changed, as they are at the end of the restore, and which rows of the base are
//! no longer valid.
//!
//! The changes of all layers are folded into one sorted file on the worker's disk, with a filter and an index in front of it.
//! History may lack values that an update left as they were. They come from the row that had a key at the start of the history: if
//! older layers changed that row, from there, else from the base. Each row of the base that is such an origin is met exactly once, when
//! the base is loaded, and the completed row is loaded in its place.

use futures::TryStreamExt;
use holdfast_env::Env;
use holdfast_source::Inlet;
use holdfast_types::{ErrorCode, Fault, RowSum};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::plan::{Base, DatabasePlan, RelationPlan};
use crate::changes::{Event, Truncation};
use crate::fingerprint::RowForms;
use crate::fold::{Entry, Fold, Folded, FoldedRows, Keep, Op, Touched, Version};
use crate::key::Key;
use crate::layout::{Layout, Lsn};
use crate::member::rooms::Room;
use crate::member::rows::{read_final_row, read_version_row, relation_range};
use crate::restore::RowBlock;
use crate::tuple::{self, Tuple};
use bytes::{Bytes, BytesMut};

/// Bytes of changes of one relation that are sorted in memory before they go to the disk.
const SORT_MEMORY: usize = 16 << 20;

/// Bytes of changed rows that are read from the disk at once.
const BATCH_BYTES: usize = 1 << 20;

fn new_fold(room: &Room, keep: Keep, part: &str) -> Result<Fold, Fault> {
    let disk = Arc::clone(&room.env().disk);
    Ok(Fold::new(keep, disk, &room.part(part)?, SORT_MEMORY))
}

/// The rows of a relation that changed. Its files are removed with it.
#[derive(Debug)]
pub(super) struct Changed {
    layout: Layout,
    rows: Folded,
    /// Whether a row of the base is no longer valid.
    touched: Mutex<Touched>,
    /// Rows that lack values of a row of the base, by the key of that one.
    origins: Option<Touched>,
    /// Dropped after the files.
    _room: Room,
}

impl Changed {
    /// Reads the changes of all layers.
    ///
    /// # Errors
    /// A full or failing disk; `Corrupted` for layers that contradict each other; what the inlet says.
    pub(super) async fn read(
        room: &Room,
        plan: &DatabasePlan,
        relation: &RelationPlan,
        inlet: &dyn Inlet,
    ) -> Result<Self, Fault> {
        let oid = relation.layout.oid;
        let mut older = blocking(room, |room| new_fold(&room, Keep::Last, "older")).await?;
        let mut history = None;
        for place in &relation.changes {
            let layer = plan
                .layers
                .get(*place)
                .ok_or_else(|| super::plan::broken("a layer is missing"))?;
            match plan.history_of(*place) {
                None => {
                    let names = &layer.catalog.rows;
                    let source = Source::new(inlet, layer.layer, names, &relation.layout, None);
                    older = source.into_fold(room.env(), older).await?;
                }
                Some(upto) => {
                    let mut fold =
                        blocking(room, |room| new_fold(&room, Keep::All, "history")).await?;
                    for (of, position) in &layer.catalog.truncations {
                        if *of == oid && position.commit < upto {
                            fold.push(Event::Truncate(Truncation {
                                relations: vec![oid],
                                position: *position,
                                xid: 0,
                                restart_identity: false,
                            }))?;
                        }
                    }
                    let names = &layer.catalog.versions;
                    let source =
                        Source::new(inlet, layer.layer, names, &relation.layout, Some(upto));
                    history = Some((source.into_fold(room.env(), fold).await?, upto));
                }
            }
        }
        let has_base = relation.base != Base::Nothing;
        let layout = relation.layout.clone();
        blocking(room, move |room| {
            let older = older.finish()?;
            let rows = match history {
                None => older,
                Some((fold, upto)) => as_of(&room, older, fold, upto, has_base)?,
            };
            Ok(Self {
                touched: Mutex::new(rows.touched()?),
                origins: origins(&room, &rows)?,
                rows,
                layout,
                _room: room,
            })
        })
        .await
    }

    /// What remains of rows of the base: those that were not touched, and those completed by them. Adds what remains to a sum. Blocking.
    ///
    /// # Errors
    /// `Corrupted` for rows of another form; a failing disk.
    pub(super) fn filter(
        &self,
        bytes: &Bytes,
        rows: &[Range<usize>],
        forms: &RowForms,
        sum: &mut RowSum,
    ) -> Result<RowBlock, Fault> {
        if self.rows.entries() == 0 {
            return unchanged(bytes, rows, self.layout.columns.len(), forms, sum);
        }
        let columns = self.layout.columns.len();
        let (mut kept, mut key_bytes) = (Kept::of(bytes), Vec::new());
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        for range in rows {
            let row = parse(bytes, range, columns)?;
            let key = Key::of(&row, &self.layout.key)?;
            let heir = match &self.origins {
                Some(origins) => origins.find(self.layout.oid, &key)?,
                None => None,
            };
            match heir {
                Some(Op::Put { row: heir, .. }) => {
                    let row = heir.filled_from(&row)?;
                    forms.add_checked(sum, row.bytes(), &mut key_bytes)?;
                    kept.put(row.bytes());
                }
                _ if touched.contains(self.layout.oid, &key)? => {}
                _ => {
                    forms.add_checked(sum, row.bytes(), &mut key_bytes)?;
                    kept.keep(range.clone());
                }
            }
        }
        Ok(kept.into_block())
    }

    /// The final rows that changed, cut into parts of about so many bytes.
    pub(super) fn parts(&self, part_size: u64) -> ChangedParts {
        ChangedParts {
            rows: self.rows.rows(),
            part_size: part_size.max(1),
            left: part_size.max(1),
            is_over: false,
        }
    }
}

/// A block of which everything remains; adds it to a sum. Blocking.
///
/// # Errors
/// `Corrupted` for rows of another form.
pub(super) fn unchanged(
    bytes: &Bytes,
    rows: &[Range<usize>],
    columns: usize,
    forms: &RowForms,
    sum: &mut RowSum,
) -> Result<RowBlock, Fault> {
    let (mut kept, mut key) = (Kept::of(bytes), Vec::new());
    for range in rows {
        let row = bytes.get(range.clone()).ok_or_else(outside)?;
        if !tuple::check(row, columns)? {
            return Err(contradiction("a row of the base lacks values"));
        }
        forms.add_checked(sum, row, &mut key)?;
        kept.keep(range.clone());
    }
    Ok(kept.into_block())
}

/// What remains of a block: a piece of it, copied only if something in the middle goes or another row comes.
struct Kept<'a> {
    block: &'a Bytes,
    run: Range<usize>,
    copied: Option<BytesMut>,
    rows: u64,
}

impl<'a> Kept<'a> {
    fn of(block: &'a Bytes) -> Self {
        Self {
            block,
            run: 0..0,
            copied: None,
            rows: 0,
        }
    }

    /// Keeps a row, which lies in the block.
    fn keep(&mut self, row: Range<usize>) {
        if self.copied.is_none() && (self.rows == 0 || self.run.end == row.start) {
            let start = if self.rows == 0 {
                row.start
            } else {
                self.run.start
            };
            self.run = start..row.end;
            self.rows += 1;
        } else {
            let block = self.block;
            self.put(block.get(row).unwrap_or_default());
        }
    }

    /// Takes a row from elsewhere.
    fn put(&mut self, row: &[u8]) {
        let (block, run) = (self.block, self.run.clone());
        let copied = self.copied.get_or_insert_with(|| {
            let mut copied = BytesMut::with_capacity(block.len());
            copied.extend_from_slice(block.get(run).unwrap_or_default());
            copied
        });
        copied.extend_from_slice(row);
        self.rows += 1;
    }

    fn into_block(self) -> RowBlock {
        RowBlock {
            bytes: match self.copied {
                Some(copied) => copied.freeze(),
                None => self.block.slice(self.run),
            },
            rows: self.rows,
        }
    }
}

fn outside() -> Fault {
    Fault::new(ErrorCode::Corrupted, "a row lies outside its block")
}

/// Takes one row out of a block.
pub(super) fn parse(bytes: &Bytes, range: &Range<usize>, columns: usize) -> Result<Tuple, Fault> {
    if range.start > range.end || range.end > bytes.len() {
        return Err(outside());
    }
    Tuple::parse(bytes.slice(range.clone()), columns)
}

async fn blocking<T: Send + 'static>(
    room: &Room,
    work: impl FnOnce(Room) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let own = room.clone();
    room.env().blocking(move || work(own)).await
}

/// One layer's changes of a relation.
struct Source<'a> {
    inlet: &'a dyn Inlet,
    layer: usize,
    names: &'a [String],
    layout: Arc<Layout>,
    /// Every version before this position, or the final rows.
    upto: Option<Lsn>,
}

impl<'a> Source<'a> {
    fn new(
        inlet: &'a dyn Inlet,
        layer: usize,
        names: &'a [String],
        layout: &Layout,
        upto: Option<Lsn>,
    ) -> Self {
        Self {
            inlet,
            layer,
            names,
            layout: Arc::new(layout.clone()),
            upto,
        }
    }

    async fn into_fold(self, env: &Env, mut fold: Fold) -> Result<Fold, Fault> {
        if self.names.is_empty() {
            return Ok(fold);
        }
        let range = relation_range(self.layout.oid);
        let mut batches = self.inlet.rows(self.layer, self.names, range);
        while let Some(batch) = batches.try_next().await? {
            let (layout, upto) = (Arc::clone(&self.layout), self.upto);
            let work = move || {
                for row in &batch {
                    let entry = match upto {
                        None => read_final_row(row, &layout)?,
                        Some(upto) => {
                            let entry = read_version_row(row, &layout)?;
                            if entry.version.position.commit >= upto {
                                continue;
                            }
                            entry
                        }
                    };
                    fold.put(entry)?;
                }
                Ok::<_, Fault>(fold)
            };
            fold = env.blocking(work).await?;
        }
        Ok(fold)
    }
}

/// The state at an instant in a history, over the older layers' changes. Blocking.
fn as_of(
    room: &Room,
    older: Folded,
    fold: Fold,
    upto: Lsn,
    has_base: bool,
) -> Result<Folded, Fault> {
    let directory = room.part("as_of")?;
    let resolved = fold
        .finish_history()?
        .as_of(upto, &directory, SORT_MEMORY)?;
    let start = older.touched()?;
    let mut fold = Fold::resume(older, &room.part("final")?, SORT_MEMORY)?;
    let mut rows = resolved.rows();
    while let Some(mut entry) = rows.next_entry()? {
        if let Op::Put { row, origin } = &mut entry.op
            && !row.is_whole()
        {
            let key = origin.take().unwrap_or_else(|| entry.version.key.clone());
            match start.find(entry.version.relation, &key)? {
                Some(Op::Put { row: before, .. }) => *row = row.filled_from(&before)?,
                None if has_base => *origin = Some(key),
                Some(Op::Delete) | None => {
                    return Err(contradiction("a changed row was not there before"));
                }
            }
        }
        fold.put(entry)?;
    }
    fold.finish()
}

/// The rows that still lack values, by the key of the row that has them. Blocking.
fn origins(room: &Room, rows: &Folded) -> Result<Option<Touched>, Fault> {
    let mut fold = new_fold(room, Keep::Last, "origins")?;
    let mut any = false;
    let mut reader = rows.rows();
    while let Some(entry) = reader.next_entry()? {
        let Entry {
            version,
            op: Op::Put {
                row,
                origin: Some(key),
            },
        } = entry
        else {
            continue;
        };
        any = true;
        let version = Version { key, ..version };
        fold.put(Entry {
            version,
            op: Op::Put { row, origin: None },
        })?;
    }
    Ok(match any {
        true => Some(fold.finish()?.touched()?),
        false => None,
    })
}

/// Final rows, cut into parts: the same parts whenever they are cut.
#[derive(Debug)]
pub(super) struct ChangedParts {
    rows: FoldedRows,
    part_size: u64,
    /// Bytes that the present part still takes.
    left: u64,
    is_over: bool,
}

impl ChangedParts {
    /// Begins the next part; `false` if there is none.
    pub(super) fn begin(&mut self) -> bool {
        self.left = self.part_size;
        !self.is_over
    }

    /// The next rows of the present part, none at its end; they are added to a sum. Blocking.
    ///
    /// # Errors
    /// A failing disk.
    pub(super) fn next_rows(
        &mut self,
        forms: &RowForms,
        sum: &mut RowSum,
    ) -> Result<RowBlock, Fault> {
        let (mut bytes, mut rows, mut key) = (BytesMut::new(), 0, Vec::new());
        while self.left > 0 && !self.is_over && bytes.len() < BATCH_BYTES {
            let Some(entry) = self.rows.next_entry()? else {
                self.is_over = true;
                break;
            };
            // One that lacks values is loaded with the row of the base that has them.
            if let Op::Put { row, origin: None } = entry.op {
                if !row.is_whole() {
                    return Err(contradiction("a changed row lacks values"));
                }
                forms.add_checked(sum, row.bytes(), &mut key)?;
                bytes.extend_from_slice(row.bytes());
                rows += 1;
                self.left = self.left.saturating_sub(row.bytes().len() as u64);
            }
        }
        Ok(RowBlock {
            bytes: bytes.freeze(),
            rows,
        })
    }
}

fn contradiction(why: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("the layers of a relation contradict each other: {why}"),
    )
}
