//! Page ranges of a relation, part by part, each at a snapshot of its own.

use bytes::{Bytes, BytesMut};
use holdfast_source::{LoggedBackup, Outlet, TupleOutlet};
use holdfast_types::{ByteCount, ErrorCode, Fault, KeyRange, Relation};

use super::catalog::split_relation_id;
use super::cut::page_bound;
use super::plan::{RelationPlan, relation_plan};
use super::share::Share;
use super::{PostgresMember, budget, share};
use crate::catalog;
use crate::copy::CopyBlocks;
use crate::layout::Layout;
use crate::pages::{Change, Opened, PartRead, open_range};

/// Bytes of rows that are handed on at once.
const BLOCK: usize = 256 << 10;

/// How often a part is tried under the relation's present name, while it is renamed again and again.
const RENAMES: usize = 5;

/// See [`holdfast_source::LoggedSource::read`].
pub(super) async fn read(
    member: &PostgresMember,
    backup: &LoggedBackup,
    relation: &Relation,
    range: KeyRange,
    outlet: &mut dyn Outlet,
) -> Result<(), Fault> {
    let _reader = member.share.reader().await?;
    let mut plan = relation_plan(relation)?;
    let database = relation.name.database.as_str();
    let start = page(&range.start)?.unwrap_or(0);
    let parts = plan.parts(start, page(&range.end)?);
    let hold = member.hold_names(backup.hold, split_relation_id(relation.id).0)?;
    let mut session = member.data(database).await?;
    share::leave_room(&session).await?;
    let mut renames = 0;
    let mut parts = parts.into_iter().peekable();
    while let Some(part) = parts.peek().copied() {
        budget::check_now_and_then(member, &session, backup.hold, &hold, &backup.notes).await?;
        let stream = member.share.stream().await?;
        let mut opened = match open_range(session, &plan.layout, part).await? {
            Opened::Reading(opened) => opened,
            Opened::Changed(back, Change::Gone) => {
                renames += 1;
                if !follow(member, database, &mut plan, renames).await? {
                    break;
                }
                session = *back;
                continue;
            }
            // Nothing of it counts: it is read whole when the backup settles, or a truncation explains it, which empties it.
            Opened::Changed(..) => break,
        };
        let mut rows = RowWriter::begin(outlet, &plan.layout).await?;
        copy(&mut opened, &member.share, &mut rows).await?;
        // The rows count when what they came from is flushed.
        session = opened.finish().await?;
        drop(stream);
        let read = rows.end().await?;
        parts.next();
        let upto = parts.peek().map(|next| page_bound(next.start));
        let is_over = upto.is_none();
        outlet.advance(upto, ByteCount(read)).await?;
        if is_over {
            member.idle.give_back(session);
            return Ok(());
        }
    }
    outlet.advance(None, ByteCount(0)).await
}

/// Gives the plan the relation's present name; `false` if the relation is gone.
async fn follow(
    member: &PostgresMember,
    database: &str,
    plan: &mut RelationPlan,
    renames: usize,
) -> Result<bool, Fault> {
    let session = member.control(database).await?;
    session
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let Some(now) = catalog::read_one(&session, plan.layout.oid).await? else {
        return Ok(false);
    };
    if renames > RENAMES {
        return Err(Fault::new(
            ErrorCode::Unavailable,
            format!("{} is renamed all the time", plan.layout.display_name()),
        ));
    }
    plan.layout.schema = now.layout.schema;
    plan.layout.name = now.layout.name;
    // Columns are read by name.
    for column in &mut plan.layout.columns {
        let mut same = now.layout.columns.iter();
        if let Some(same) = same.find(|same| same.attnum == column.attnum) {
            column.name.clone_from(&same.name);
        }
    }
    Ok(true)
}

/// The page of a bound; `None` for the open one.
fn page(bound: &Bytes) -> Result<Option<u32>, Fault> {
    match (bound.is_empty(), bound.first_chunk()) {
        (true, _) => Ok(None),
        (false, Some(bytes)) if bound.len() == bytes.len() => Ok(Some(u32::from_be_bytes(*bytes))),
        _ => Err(Fault::new(
            ErrorCode::InvalidArgument,
            "the bound of a span is no page number",
        )),
    }
}

/// Hands on all rows of a read.
async fn copy(part: &mut PartRead, share: &Share, rows: &mut RowWriter<'_>) -> Result<(), Fault> {
    let mut blocks = CopyBlocks::default();
    while let Some(chunk) = part.next().await {
        let chunk = chunk?;
        share.pass(chunk.len() as u64).await;
        if let Some(block) = blocks.feed(chunk)? {
            rows.push(block).await?;
        }
    }
    match blocks.finish()? {
        Some(block) => rows.push(block).await,
        None => Ok(()),
    }
}

/// Writes a tuple object in blocks.
pub(super) struct RowWriter<'a> {
    outlet: &'a mut dyn TupleOutlet,
    block: BytesMut,
    bytes: u64,
}

impl<'a> RowWriter<'a> {
    /// Begins an object of rows of a relation.
    pub(super) async fn begin(
        outlet: &'a mut dyn TupleOutlet,
        layout: &Layout,
    ) -> Result<Self, Fault> {
        let columns = u16::try_from(layout.columns.len()).map_err(|_| {
            Fault::new(
                ErrorCode::Corrupted,
                format!("{} has too many columns", layout.display_name()),
            )
        })?;
        outlet.begin_tuples(columns).await?;
        Ok(Self {
            outlet,
            block: BytesMut::new(),
            bytes: 0,
        })
    }

    /// Adds rows.
    pub(super) async fn push(&mut self, rows: Bytes) -> Result<(), Fault> {
        self.bytes += rows.len() as u64;
        if self.block.is_empty() && rows.len() >= BLOCK / 2 {
            return self.outlet.tuples(rows).await;
        }
        self.block.extend_from_slice(&rows);
        match self.block.len() >= BLOCK {
            true => self.outlet.tuples(self.block.split().freeze()).await,
            false => Ok(()),
        }
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the object, adds its name and bytes to those before, and begins another one.
    pub(super) async fn next(
        mut self,
        layout: &Layout,
        names: &mut Vec<String>,
        bytes: &mut u64,
    ) -> Result<Self, Fault> {
        *bytes += self.bytes;
        if !self.block.is_empty() {
            self.outlet.tuples(self.block.split().freeze()).await?;
        }
        names.extend(self.outlet.end_tuples().await?);
        Self::begin(self.outlet, layout).await
    }

    /// Ends the object; gives its bytes.
    pub(super) async fn end(self) -> Result<u64, Fault> {
        Ok(self.end_named().await?.1)
    }

    /// Ends the object; gives its name, if it has rows, and its bytes.
    pub(super) async fn end_named(mut self) -> Result<(Option<String>, u64), Fault> {
        if !self.block.is_empty() {
            self.outlet.tuples(self.block.split().freeze()).await?;
        }
        Ok((self.outlet.end_tuples().await?, self.bytes))
    }
}
