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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Column, FileNode, Handling};
    use crate::pgoutput;
    use bytes::Bytes;

    const TABLE: Oid = Oid(7);
    const INT: Oid = Oid(23);

    /// A table (id int primary key, a int, r regclass).
    fn layout() -> Arc<Layout> {
        let column = |attnum: i16, name: &str, as_text| Column {
            attnum,
            name: name.to_owned(),
            type_oid: INT,
            typmod: -1,
            type_name: "integer".to_owned(),
            collation: None,
            not_null: false,
            as_text,
        };
        Arc::new(Layout {
            oid: TABLE,
            schema: "public".to_owned(),
            name: "t".to_owned(),
            file_node: FileNode(7),
            columns: vec![
                column(1, "id", false),
                column(2, "a", false),
                column(4, "r", true),
            ],
            key: vec![0],
            generated: Vec::new(),
            filter: None,
            handling: Handling::Keyed,
        })
    }

    fn relation(identity: u8, keys: [bool; 3], names: [&'static str; 3]) -> Message {
        let columns = names
            .iter()
            .zip(keys)
            .map(|(name, is_key)| pgoutput::Column {
                is_key,
                name: Bytes::from_static(name.as_bytes()),
                type_oid: INT,
                typmod: -1,
            });
        Message::Relation(Relation {
            oid: TABLE,
            schema: Bytes::from_static(b"public"),
            name: Bytes::from_static(b"t"),
            identity,
            columns: columns.collect(),
        })
    }

    fn as_planned() -> Message {
        relation(b'd', [true, false, false], ["id", "a", "r"])
    }

    fn begin(commit: u64) -> Message {
        Message::Begin {
            commit: Lsn(commit),
            time: 1_000_000,
            xid: 3,
        }
    }

    fn commit(commit: u64) -> Message {
        Message::Commit {
            commit: Lsn(commit),
            end: Lsn(commit + 8),
            time: 1_000_000,
        }
    }

    fn cell(text: &'static str) -> Cell {
        Cell::Binary(Bytes::from_static(text.as_bytes()))
    }

    fn update(old: Option<Old>, new: [Cell; 3]) -> Message {
        Message::Update {
            relation: TABLE,
            old,
            new: new.to_vec(),
        }
    }

    fn key(text: &str) -> Key {
        Key::join(&[Some(text.as_bytes())]).expect("a key")
    }

    fn events(messages: Vec<Message>) -> Result<Vec<Event>, Fault> {
        let mut translator = Translator::new(Lsn(10)..Lsn(20), [layout()]);
        let mut events = Vec::new();
        for message in messages {
            events.extend(translator.translate(message)?);
        }
        Ok(events)
    }

    /// The only row change of some messages in a transaction in the window.
    fn change(messages: Vec<Message>) -> RowChange {
        let mut all = vec![begin(10), as_planned()];
        all.extend(messages);
        let found = events(all)
            .expect("in order")
            .into_iter()
            .find_map(|event| match event {
                Event::Row(change) => Some(change),
                _ => None,
            });
        found.expect("a change")
    }

    #[test]
    fn only_transactions_of_the_window_count_and_each_change_has_its_place() {
        let row = || update(None, [cell("1"), Cell::Null, Cell::Null]);
        let mut messages = Vec::new();
        for at in [9, 10, 19, 20] {
            messages.extend([begin(at), as_planned(), row(), row(), commit(at)]);
        }
        let events = events(messages).expect("in order");
        let positions: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Row(change) => Some((change.position.commit.0, change.position.ordinal)),
                _ => None,
            })
            .collect();
        assert_eq!(positions, [(10, 0), (10, 1), (19, 0), (19, 1)]);
        let Some(Event::Begin(first)) = events.first() else {
            panic!("it begins with a transaction");
        };
        assert_eq!(first.time, Timestamp::from_micros(946_684_801_000_000));
        assert_eq!(events.len(), 2 * 4);
    }

    #[test]
    fn an_update_names_its_old_key_only_if_it_changed() {
        let old = |key| Some(Old::Key(vec![cell(key), Cell::Null, Cell::Null]));
        let new = || [cell("2"), Cell::Unchanged, Cell::Null];
        let moved = change(vec![update(old("1"), new())]);
        assert_eq!((moved.key, moved.old_key), (key("2"), Some(key("1"))));
        assert!(!moved.new.expect("a row").is_whole());
        assert_eq!(change(vec![update(old("2"), new())]).old_key, None);
    }

    #[test]
    fn unchanged_values_come_from_the_old_row_where_it_has_them() {
        let old = Old::Row(vec![cell("1"), cell("big"), Cell::Null]);
        let full = relation(b'f', [true; 3], ["id", "a", "r"]);
        let new = [cell("1"), Cell::Unchanged, Cell::Null];
        let row = change(vec![full, update(Some(old), new)])
            .new
            .expect("a row");
        assert!(row.is_whole());
        // A key that is stored out of line is logged as the old key, and unchanged in the new row.
        let old = Old::Key(vec![cell("long"), Cell::Null, Cell::Null]);
        let new = [Cell::Unchanged, Cell::Unchanged, Cell::Null];
        let kept = change(vec![update(Some(old), new)]);
        assert_eq!((kept.key, kept.old_key), (key("long"), None));
        let fields: Vec<_> = kept.new.as_ref().expect("a row").fields().collect();
        assert_eq!(
            fields,
            [Field::Value(b"long"), Field::Unchanged, Field::Null]
        );
    }

    #[test]
    fn a_value_in_another_form_than_planned_is_read_again() {
        let text = || Cell::Text(Bytes::from_static(b"pg_class"));
        let fields = |new: [Cell; 3]| {
            let row = change(vec![update(None, new)]).new.expect("a row");
            row.fields()
                .map(|field| field == Field::Unchanged)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            fields([cell("1"), cell("2"), text()]),
            [false, false, false]
        );
        assert_eq!(
            fields([cell("1"), cell("2"), cell("\0\0\x04\x05")]),
            [false, false, true]
        );
        assert_eq!(
            fields([cell("1"), text(), Cell::Null]),
            [false, true, false]
        );
    }

    #[test]
    fn another_form_key_or_identity_is_said_and_its_changes_are_left_out() {
        let row = || update(None, [cell("1"), Cell::Null, Cell::Null]);
        for reshaped in [
            relation(b'd', [true, false, false], ["id", "b", "r"]),
            relation(b'd', [false, true, false], ["id", "a", "r"]),
            relation(b'i', [true, false, false], ["id", "a", "r"]),
            relation(b'n', [false, false, false], ["id", "a", "r"]),
        ] {
            let messages = vec![
                begin(10),
                as_planned(),
                row(),
                reshaped,
                row(),
                as_planned(),
                row(),
            ];
            let events = events(messages).expect("in order");
            let rows = events.iter().filter(|event| matches!(event, Event::Row(_)));
            assert_eq!(rows.count(), 2);
            let said = Event::Reshaped {
                relation: TABLE,
                position: ChangePosition {
                    commit: Lsn(10),
                    ordinal: 1,
                },
            };
            assert!(events.contains(&said), "{events:?}");
        }
    }

    #[test]
    fn truncations_name_the_relations_of_the_backup() {
        let truncate = |relations| Message::Truncate {
            relations,
            cascade: true,
            restart_identity: true,
        };
        let messages = vec![
            begin(10),
            truncate(vec![Oid(1), TABLE]),
            truncate(vec![Oid(1)]),
        ];
        let events = events(messages).expect("in order");
        let [_, Event::Truncate(truncation)] = events.as_slice() else {
            panic!("one truncation: {events:?}");
        };
        assert_eq!(
            (truncation.relations.as_slice(), truncation.xid),
            (&[TABLE][..], 3)
        );
    }

    #[test]
    fn a_stream_in_disorder_is_an_error() {
        let row = || update(None, [cell("1"), Cell::Null, Cell::Null]);
        for messages in [
            vec![row()],
            vec![begin(10), row()],
            vec![begin(10), begin(11)],
            vec![commit(10)],
            vec![begin(10), commit(11)],
            vec![begin(11), commit(11), begin(11)],
            vec![
                begin(10),
                as_planned(),
                update(None, [Cell::Unchanged, Cell::Null, Cell::Null]),
            ],
        ] {
            let error = events(messages.clone()).expect_err("in disorder");
            assert_eq!(error.code, ErrorCode::Corrupted, "{messages:?}");
        }
    }
}
