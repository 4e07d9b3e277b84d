//! Messages of the change stream to events in terms of planned layouts.

use holdfast_types::{ErrorCode, Fault, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{ChangePosition, Event, RowChange, Transaction, Truncation};
use crate::key::Key;
use crate::layout::{Layout, Lsn, Oid};
use crate::pgoutput::{Cell, Message, Old, Relation};
use crate::tuple::{Field, Tuple};

/// 2000-01-01 in microseconds since 1970-01-01: where PostgreSQL's clock begins.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// Whether changes of a relation can be understood by its planned layout.
#[derive(Debug)]
enum Shape {
    Planned(Arc<Layout>),
    Reshaped,
    Unplanned,
}

/// The transaction that the stream is in.
#[derive(Debug)]
struct Open {
    transaction: Transaction,
    /// Ordinal of the next change.
    next: u64,
    is_wanted: bool,
}

/// Turns messages into events: those of transactions with a commit record in a half-open window, in terms of planned layouts.
#[derive(Debug)]
pub struct Translator {
    window: std::ops::Range<Lsn>,
    layouts: BTreeMap<Oid, Arc<Layout>>,
    shapes: BTreeMap<Oid, Shape>,
    open: Option<Open>,
    last_commit: Option<Lsn>,
}

impl Translator {
    /// For transactions whose commit record lies in `window`, and relations with these layouts; what else is published is left out.
    #[must_use]
    pub fn new(
        window: std::ops::Range<Lsn>,
        layouts: impl IntoIterator<Item = Arc<Layout>>,
    ) -> Self {
        Self {
            window,
            layouts: layouts.into_iter().map(|it| (it.oid, it)).collect(),
            shapes: BTreeMap::new(),
            open: None,
            last_commit: None,
        }
    }

    /// Takes a message; gives an event if it makes one.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupted`] if the message cannot follow what came before.
    pub fn translate(&mut self, message: Message) -> Result<Option<Event>, Fault> {
        match message {
            Message::Begin { commit, time, xid } => self.begin(commit, time, xid),
            Message::Commit { commit, .. } => self.commit(commit),
            Message::Relation(relation) => Ok(self.relation(&relation)),
            Message::Insert { relation, new } => self.row(relation, None, Some(&new)),
            Message::Update { relation, old, new } => self.row(relation, old.as_ref(), Some(&new)),
            Message::Delete { relation, old } => self.row(relation, Some(&old), None),
            Message::Truncate {
                relations,
                restart_identity,
                ..
            } => self.truncate(relations, restart_identity),
            Message::Origin { .. } | Message::Type { .. } | Message::Logical { .. } => Ok(None),
        }
    }

    /// Whether the stream may end here.
    #[must_use]
    pub fn is_between_transactions(&self) -> bool {
        self.open.is_none()
    }

    fn begin(&mut self, commit: Lsn, time: i64, xid: u32) -> Result<Option<Event>, Fault> {
        if self.open.is_some() {
            return Err(disorder("a transaction begins inside another one"));
        }
        if self.last_commit.is_some_and(|last| last >= commit) {
            return Err(disorder("commit records are not in order"));
        }
        let micros = u64::try_from(time.saturating_add(POSTGRES_EPOCH)).unwrap_or_default();
        let transaction = Transaction {
            commit,
            time: Timestamp::from_micros(micros),
            xid,
        };
        let is_wanted = self.window.contains(&commit);
        self.open = Some(Open {
            transaction,
            next: 0,
            is_wanted,
        });
        Ok(is_wanted.then_some(Event::Begin(transaction)))
    }

    fn commit(&mut self, commit: Lsn) -> Result<Option<Event>, Fault> {
        match self.open.take() {
            Some(open) if open.transaction.commit == commit => {
                self.last_commit = Some(commit);
                Ok(open.is_wanted.then_some(Event::Commit(open.transaction)))
            }
            _ => Err(disorder("a transaction ends that did not begin")),
        }
    }

    fn relation(&mut self, relation: &Relation) -> Option<Event> {
        let shape = match self.layouts.get(&relation.oid) {
            None => Shape::Unplanned,
            Some(layout) if fits(layout, relation) => Shape::Planned(Arc::clone(layout)),
            Some(_) => Shape::Reshaped,
        };
        let is_reshaped = matches!(shape, Shape::Reshaped);
        self.shapes.insert(relation.oid, shape);
        let open = self.open.as_ref()?;
        // Said for a transaction outside of the window, too: the message is sent once, and a reading too many does no harm.
        is_reshaped.then_some(Event::Reshaped {
            relation: relation.oid,
            position: ChangePosition {
                commit: open.transaction.commit,
                ordinal: open.next,
            },
        })
    }

    /// The position of the change that comes now, and whether it is in the window.
    fn advance(&mut self) -> Result<(ChangePosition, Transaction, bool), Fault> {
        let open = self
            .open
            .as_mut()
            .ok_or_else(|| disorder("a change is in no transaction"))?;
        let position = ChangePosition {
            commit: open.transaction.commit,
            ordinal: open.next,
        };
        open.next += 1;
        Ok((position, open.transaction, open.is_wanted))
    }

    fn row(
        &mut self,
        relation: Oid,
        old: Option<&Old>,
        new: Option<&[Cell]>,
    ) -> Result<Option<Event>, Fault> {
        let (position, _, is_wanted) = self.advance()?;
        let layout = match self.shapes.get(&relation) {
            None => return Err(disorder("a change comes before its relation")),
            Some(Shape::Reshaped | Shape::Unplanned) => return Ok(None),
            Some(Shape::Planned(layout)) => layout,
        };
        if !is_wanted {
            return Ok(None);
        }
        let named = |fault: Fault| fault.context(layout.display_name());
        let old_key = old
            .map(|old| tuple(layout, old.cells(), None).and_then(|row| Key::of(&row, &layout.key)))
            .transpose()
            .map_err(named)?;
        let (key, old_key, new) = match new {
            None => (
                old_key.ok_or_else(|| disorder("a deletion has no key"))?,
                None,
                None,
            ),
            Some(cells) => {
                let row = tuple(layout, cells, old).map_err(named)?;
                let key = Key::of(&row, &layout.key).map_err(named)?;
                let old_key = old_key.filter(|old| *old != key);
                (key, old_key, Some(row))
            }
        };
        Ok(Some(Event::Row(RowChange {
            relation,
            position,
            key,
            old_key,
            new,
        })))
    }

    fn truncate(
        &mut self,
        mut relations: Vec<Oid>,
        restart_identity: bool,
    ) -> Result<Option<Event>, Fault> {
        let (position, transaction, is_wanted) = self.advance()?;
        relations.retain(|relation| self.layouts.contains_key(relation));
        Ok(
            (is_wanted && !relations.is_empty()).then_some(Event::Truncate(Truncation {
                relations,
                position,
                xid: transaction.xid,
                restart_identity,
            })),
        )
    }
}

/// Whether changes of the relation have the planned columns and name the planned key.
fn fits(layout: &Layout, relation: &Relation) -> bool {
    let is_key = |index: usize| match relation.identity {
        b'f' => true,
        _ => layout.key.contains(&index),
    };
    matches!(relation.identity, b'd' | b'f')
        && !layout.key.is_empty()
        && layout.columns.len() == relation.columns.len()
        && layout
            .columns
            .iter()
            .zip(&relation.columns)
            .enumerate()
            .all(|(index, (planned, column))| {
                planned.type_oid == column.type_oid
                    && planned.typmod == column.typmod
                    // Names that are not ASCII come in the encoding of the database.
                && (planned.name.as_bytes() == column.name || !planned.name.is_ascii())
                    && is_key(index) == column.is_key
            })
}

/// A row in the form that it is kept in. What the new row left unchanged is taken from the old one where that has it. A value in another form
/// than planned (a `regclass` comes as a number) counts as unchanged: it will be read again.
fn tuple(layout: &Layout, cells: &[Cell], old: Option<&Old>) -> Result<Tuple, Fault> {
    if cells.len() != layout.columns.len() {
        return Err(disorder("a row has another number of columns"));
    }
    let fields = layout
        .columns
        .iter()
        .zip(cells)
        .enumerate()
        .map(|(index, (column, cell))| {
            let cell = match (cell, old) {
                (Cell::Unchanged, Some(Old::Row(before))) => before.get(index).unwrap_or(cell),
                (Cell::Unchanged, Some(Old::Key(before))) if layout.key.contains(&index) => {
                    before.get(index).unwrap_or(cell)
                }
                _ => cell,
            };
            match cell {
                Cell::Null => Field::Null,
                Cell::Text(value) if column.as_text => Field::Value(value),
                Cell::Binary(value) if !column.as_text => Field::Value(value),
                Cell::Unchanged | Cell::Text(_) | Cell::Binary(_) => Field::Unchanged,
            }
        });
    Tuple::build(fields.collect::<Vec<_>>().into_iter())
}

fn disorder(why: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("the change stream is out of order: {why}"),
    )
}
