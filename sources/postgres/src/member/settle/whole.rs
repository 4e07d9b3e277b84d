//! Relations that are copied whole under F: several parts at once, of one relation or of many.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use holdfast_source::{Outlet, TupleOutlet};
use holdfast_types::{ErrorCode, Fault, RowSum};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Settling;
use super::view::View;
use crate::copy::{CopyBlocks, rows_of};
use crate::exact::{HeldSnapshot, import};
use crate::fingerprint::RowForms;
use crate::layout::{Handling, Layout, WholeReason};
use crate::member::catalog::{Content, DatabaseCatalog};
use crate::member::read::RowWriter;
use crate::pages::{self, Opened, PageRange, open_range_within, open_whole};
use crate::session::Session;

/// Parts that are read at once beside the first, as far as nobody else uses the member's streams: the snapshot is not held for longer because another
/// job reads.
const MORE_LANES: usize = 3;

/// A part of a relation.
struct Piece {
    /// The relation's place in the catalog, and the part's place in the relation.
    place: (usize, usize),
    layout: Layout,
    range: Option<PageRange>,
    /// About how many bytes it has, for people.
    bytes: u64,
}

impl Piece {
    fn name(&self) -> String {
        let name = self.layout.display_name();
        match self.range {
            Some(_) => format!("{name}, part {}", self.place.1 + 1),
            None => name,
        }
    }
}

/// What became of a part.
#[derive(Default)]
struct Copied {
    objects: Vec<String>,
    sum: RowSum,
    bytes: u64,
}

/// What reads a part and writes it.
struct Lane {
    outlet: Box<dyn TupleOutlet>,
    session: Option<Session>,
}

struct Lanes<'a> {
    settling: &'a Settling<'a>,
    idle: Mutex<Vec<Lane>>,
    /// What is imported: the holder of the snapshot may become another.
    snapshot: Mutex<String>,
}

/// Copies all relations of the catalog that are to be whole, and writes down where they are. Gives their bytes.
pub(super) async fn copy_all(
    settling: &Settling<'_>,
    view: &View,
    held: &mut HeldSnapshot,
    catalog: &mut DatabaseCatalog,
    outlet: &mut dyn Outlet,
) -> Result<u64, Fault> {
    let pieces = pieces(catalog, view);
    let count = pieces.len();
    let bytes = pieces.iter().map(|piece| piece.bytes).sum();
    (settling.backup.steps).begin("copying relations whole", count as u64, bytes);
    let more = (settling.member.share).idle_streams(MORE_LANES.min(count.saturating_sub(1)));
    let mut idle = Vec::new();
    for _ in 0..=more.len() {
        idle.push(Lane {
            outlet: outlet.lane()?,
            session: None,
        });
    }
    let at_once = idle.len();
    let lanes = Lanes {
        settling,
        idle: Mutex::new(idle),
        snapshot: Mutex::new(held.id()?.to_owned()),
    };
    let mut copying = stream::iter(pieces)
        .map(|piece| lanes.copy(piece))
        .buffer_unordered(at_once);
    let mut copied: BTreeMap<(usize, usize), Copied> = BTreeMap::new();
    while let Some((place, part)) = copying.try_next().await? {
        copied.insert(place, part);
        settling.see_to_budget().await?;
        held.keep(&settling.member.env, &settling.dsn).await?;
        held.id()?.clone_into(&mut lock(&lanes.snapshot));
    }
    drop(copying);
    let mut bytes = 0;
    for (number, entry) in catalog.relations.iter_mut().enumerate() {
        let Content::Whole { objects } = &mut entry.content else {
            continue;
        };
        let mut sum = RowSum::default();
        for (_, part) in copied.range_mut((number, 0)..(number + 1, 0)) {
            objects.append(&mut part.objects);
            sum.merge(&part.sum);
            bytes += part.bytes;
        }
        entry.rows = Some(sum.rows.0);
        entry.sum = Some(sum);
    }
    Ok(bytes)
}

/// Cuts all that is to be copied.
fn pieces(catalog: &DatabaseCatalog, view: &View) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (number, entry) in catalog.relations.iter().enumerate() {
        if !matches!(entry.content, Content::Whole { .. }) {
            continue;
        }
        let layout = &entry.layout;
        let (heap, total) = view.sizes.get(&layout.oid).copied().unwrap_or_default();
        // Ranges are of the built-in heap's pages, and a condition of its own tells which rows are the user's.
        let has_pages = layout.handling != Handling::Whole(WholeReason::AccessMethod);
        let ranges = match has_pages && layout.filter.is_none() {
            true => pages::plan(heap, total, view.page_bytes),
            false => vec![PageRange::ALL],
        };
        let is_cut = ranges.len() > 1;
        let bytes = total / ranges.len().max(1) as u64;
        pieces.extend(ranges.into_iter().enumerate().map(|(part, range)| Piece {
            place: (number, part),
            layout: layout.clone(),
            range: is_cut.then_some(range),
            bytes,
        }));
    }
    pieces
}

impl Lanes<'_> {
    async fn copy(&self, piece: Piece) -> Result<((usize, usize), Copied), Fault> {
        let lane = lock(&self.idle).pop();
        let mut lane = lane.ok_or_else(|| {
            Fault::new(
                ErrorCode::Internal,
                "more parts are read than there are lanes",
            )
        })?;
        let session = match lane.session.take() {
            Some(session) => session,
            None => {
                let settling = self.settling;
                settling.member.data(&settling.plan.name).await?
            }
        };
        let (steps, name) = (&self.settling.backup.steps, piece.name());
        steps.started(&name);
        // A transaction each: no relation is locked for longer than it is read.
        let snapshot = lock(&self.snapshot).clone();
        import(&session, &snapshot).await?;
        let (session, copied) = self.read(&piece, session, lane.outlet.as_mut()).await?;
        session.execute("COMMIT").await?;
        lane.session = Some(session);
        lock(&self.idle).push(lane);
        steps.ended(&name, piece.bytes);
        Ok((piece.place, copied))
    }

    async fn read(
        &self,
        piece: &Piece,
        session: Session,
        outlet: &mut dyn TupleOutlet,
    ) -> Result<(Session, Copied), Fault> {
        let (settling, layout) = (self.settling, &piece.layout);
        let forms = RowForms::read(&session, layout, &layout.schema, &layout.name).await?;
        let forms = Arc::new(forms);
        let opened = match piece.range {
            Some(range) => open_range_within(session, layout, range).await?,
            None => open_whole(session, layout).await?,
        };
        let Opened::Reading(mut part) = opened else {
            return Err(Fault::new(
                ErrorCode::HistoryGone,
                format!(
                    "{} was truncated, rewritten, renamed or dropped after the snapshot that it was to be read under",
                    layout.display_name()
                ),
            )
            .hint("the finish is repeated under a newer snapshot"));
        };
        let columns = layout.columns.len();
        let mut copied = Copied::default();
        let mut writer = RowWriter::begin(outlet, layout).await?;
        let mut blocks = Some(CopyBlocks::default());
        while let Some(reader) = &mut blocks {
            let rows = match part.next().await.transpose()? {
                Some(chunk) => {
                    settling.member.share.pass(chunk.len() as u64).await;
                    reader.feed(chunk)?
                }
                None => blocks.take().unwrap_or_default().finish()?,
            };
            let Some(rows) = rows else {
                continue;
            };
            let (forms, own) = (Arc::clone(&forms), rows.clone());
            let summing = (settling.member.env).blocking(move || sum_of(&forms, &own, columns));
            let (sum, ()) = futures::try_join!(summing, writer.push(rows))?;
            copied.sum.merge(&sum);
            if writer.bytes() >= settling.backup.part_size.0 {
                writer = writer
                    .next(layout, &mut copied.objects, &mut copied.bytes)
                    .await?;
            }
        }
        let (name, bytes) = writer.end_named().await?;
        copied.objects.extend(name);
        copied.bytes += bytes;
        Ok((part.finish().await?, copied))
    }
}

fn sum_of(forms: &RowForms, rows: &Bytes, columns: usize) -> Result<RowSum, Fault> {
    let (mut sum, mut key) = (RowSum::default(), Vec::new());
    for row in rows_of(rows, columns) {
        forms.add_checked(&mut sum, row?, &mut key)?;
    }
    Ok(sum)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
