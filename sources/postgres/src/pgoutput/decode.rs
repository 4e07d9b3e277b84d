//! Bytes to messages.

use bytes::{Buf, Bytes};
use holdfast_types::{ErrorCode, Fault};

use super::{Cell, Column, Message, Old, Relation};
use crate::layout::{Lsn, Oid};

/// Why bytes are no message; the caller adds what it was.
type Malformed = &'static str;

const SHORT: Malformed = "it ends too early";

/// Reads one message. Values are slices of `bytes`, nothing is copied.
///
/// # Errors
/// [`ErrorCode::Corrupted`] if the bytes are not exactly one message of protocol version 1.
pub fn decode(bytes: Bytes) -> Result<Message, Fault> {
    let kind = bytes.first().copied().unwrap_or_default();
    let mut input = Input(bytes);
    message(&mut input)
        .and_then(|message| {
            if input.0.is_empty() {
                Ok(message)
            } else {
                Err("bytes follow its end")
            }
        })
        .map_err(|why| {
            Fault::new(
                ErrorCode::Corrupted,
                format!(
                    "a message '{}' of the change stream is malformed: {why}",
                    char::from(kind).escape_default()
                ),
            )
        })
}

fn message(input: &mut Input) -> Result<Message, Malformed> {
    Ok(match input.u8()? {
        b'B' => Message::Begin {
            commit: input.lsn()?,
            time: input.i64()?,
            xid: input.u32()?,
        },
        b'C' => {
            // Flags, none of which is defined.
            input.u8()?;
            Message::Commit {
                commit: input.lsn()?,
                end: input.lsn()?,
                time: input.i64()?,
            }
        }
        b'O' => Message::Origin {
            commit: input.lsn()?,
            name: input.text()?,
        },
        b'R' => Message::Relation(relation(input)?),
        b'Y' => Message::Type {
            oid: input.oid()?,
            schema: input.text()?,
            name: input.text()?,
        },
        b'I' => {
            let relation = input.oid()?;
            input.expect(b'N')?;
            Message::Insert {
                relation,
                new: cells(input)?,
            }
        }
        b'U' => update(input)?,
        b'D' => {
            let relation = input.oid()?;
            let kind = input.u8()?;
            Message::Delete {
                relation,
                old: old(kind, input)?.ok_or("a deletion has no old row")?,
            }
        }
        b'T' => truncate(input)?,
        b'M' => Message::Logical {
            transactional: input.u8()? & 1 != 0,
            lsn: input.lsn()?,
            prefix: input.text()?,
            content: {
                let length = input.u32()?;
                input.bytes(length)?
            },
        },
        _ => return Err("it is of no known kind"),
    })
}

fn relation(input: &mut Input) -> Result<Relation, Malformed> {
    let (oid, schema, name) = (input.oid()?, input.text()?, input.text()?);
    let identity = input.u8()?;
    let count = input.u16()?;
    let mut columns = Vec::with_capacity(input.at_most(count, 10));
    for _ in 0..count {
        columns.push(Column {
            is_key: input.u8()? & 1 != 0,
            name: input.text()?,
            type_oid: input.oid()?,
            typmod: input.u32()?.cast_signed(),
        });
    }
    Ok(Relation {
        oid,
        schema,
        name,
        identity,
        columns,
    })
}

fn update(input: &mut Input) -> Result<Message, Malformed> {
    let relation = input.oid()?;
    let kind = input.u8()?;
    let old = old(kind, input)?;
    if old.is_some() {
        input.expect(b'N')?;
    }
    Ok(Message::Update {
        relation,
        old,
        new: cells(input)?,
    })
}

/// The old row that a mark announces; `None` if it announces the new one.
fn old(kind: u8, input: &mut Input) -> Result<Option<Old>, Malformed> {
    match kind {
        b'K' => cells(input).map(Old::Key).map(Some),
        b'O' => cells(input).map(Old::Row).map(Some),
        b'N' => Ok(None),
        _ => Err("a row is of no known kind"),
    }
}

fn cells(input: &mut Input) -> Result<Vec<Cell>, Malformed> {
    let count = input.u16()?;
    let mut cells = Vec::with_capacity(input.at_most(count, 1));
    for _ in 0..count {
        cells.push(match input.u8()? {
            b'n' => Cell::Null,
            b'u' => Cell::Unchanged,
            b't' => {
                let length = input.u32()?;
                Cell::Text(input.bytes(length)?)
            }
            b'b' => {
                let length = input.u32()?;
                Cell::Binary(input.bytes(length)?)
            }
            _ => return Err("a value is of no known kind"),
        });
    }
    Ok(cells)
}

fn truncate(input: &mut Input) -> Result<Message, Malformed> {
    let count = input.u32()?;
    let flags = input.u8()?;
    if usize::try_from(count).ok() != Some(input.0.len() / 4) {
        return Err("it names another number of relations");
    }
    let mut relations = Vec::with_capacity(input.0.len() / 4);
    for _ in 0..count {
        relations.push(input.oid()?);
    }
    Ok(Message::Truncate {
        relations,
        cascade: flags & 1 != 0,
        restart_identity: flags & 2 != 0,
    })
}

/// What is left of a message.
struct Input(Bytes);

impl Input {
    fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.0.try_get_u16().map_err(|_| SHORT)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| SHORT)
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        self.0.try_get_i64().map_err(|_| SHORT)
    }

    fn lsn(&mut self) -> Result<Lsn, Malformed> {
        self.0.try_get_u64().map(Lsn).map_err(|_| SHORT)
    }

    fn oid(&mut self) -> Result<Oid, Malformed> {
        self.u32().map(Oid)
    }

    fn expect(&mut self, mark: u8) -> Result<(), Malformed> {
        if self.u8()? == mark {
            Ok(())
        } else {
            Err("a row is not where it should be")
        }
    }

    fn bytes(&mut self, length: u32) -> Result<Bytes, Malformed> {
        match usize::try_from(length) {
            Ok(length) if length <= self.0.len() => Ok(self.0.split_to(length)),
            _ => Err(SHORT),
        }
    }

    /// A text that ends with a zero byte, which is taken off.
    fn text(&mut self) -> Result<Bytes, Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        Ok(text)
    }

    /// How many of the announced items, of at least `size` bytes each, there can be in what is left.
    fn at_most(&self, announced: u16, size: usize) -> usize {
        usize::from(announced).min(self.0.len() / size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn put_text(out: &mut Vec<u8>, text: &Bytes) {
        out.put_slice(text);
        out.put_u8(0);
    }

    fn put_cells(out: &mut Vec<u8>, cells: &[Cell]) {
        out.put_u16(u16::try_from(cells.len()).expect("few"));
        for cell in cells {
            match cell {
                Cell::Null => out.put_u8(b'n'),
                Cell::Unchanged => out.put_u8(b'u'),
                Cell::Text(bytes) | Cell::Binary(bytes) => {
                    let is_text = matches!(cell, Cell::Text(_));
                    out.put_u8(if is_text { b't' } else { b'b' });
                    out.put_u32(u32::try_from(bytes.len()).expect("short"));
                    out.put_slice(bytes);
                }
            }
        }
    }

    fn put_old(out: &mut Vec<u8>, old: &Old) {
        out.put_u8(match old {
            Old::Key(_) => b'K',
            Old::Row(_) => b'O',
        });
        put_cells(out, old.cells());
    }

    /// Written after the protocol's documentation, and only for tests.
    fn encode(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        match message {
            Message::Begin { commit, time, xid } => {
                out.put_u8(b'B');
                out.put_u64(commit.0);
                out.put_i64(*time);
                out.put_u32(*xid);
            }
            Message::Commit { commit, end, time } => {
                out.put_slice(&[b'C', 0]);
                out.put_u64(commit.0);
                out.put_u64(end.0);
                out.put_i64(*time);
            }
            Message::Origin { commit, name } => {
                out.put_u8(b'O');
                out.put_u64(commit.0);
                put_text(&mut out, name);
            }
            Message::Relation(relation) => {
                out.put_u8(b'R');
                out.put_u32(relation.oid.0);
                put_text(&mut out, &relation.schema);
                put_text(&mut out, &relation.name);
                out.put_u8(relation.identity);
                out.put_u16(u16::try_from(relation.columns.len()).expect("few"));
                for column in &relation.columns {
                    out.put_u8(u8::from(column.is_key));
                    put_text(&mut out, &column.name);
                    out.put_u32(column.type_oid.0);
                    out.put_i32(column.typmod);
                }
            }
            Message::Type { oid, schema, name } => {
                out.put_u8(b'Y');
                out.put_u32(oid.0);
                put_text(&mut out, schema);
                put_text(&mut out, name);
            }
            Message::Insert { relation, new } => {
                out.put_u8(b'I');
                out.put_u32(relation.0);
                out.put_u8(b'N');
                put_cells(&mut out, new);
            }
            Message::Update { relation, old, new } => {
                out.put_u8(b'U');
                out.put_u32(relation.0);
                if let Some(old) = old {
                    put_old(&mut out, old);
                }
                out.put_u8(b'N');
                put_cells(&mut out, new);
            }
            Message::Delete { relation, old } => {
                out.put_u8(b'D');
                out.put_u32(relation.0);
                put_old(&mut out, old);
            }
            Message::Truncate {
                relations,
                cascade,
                restart_identity,
            } => {
                out.put_u8(b'T');
                out.put_u32(u32::try_from(relations.len()).expect("few"));
                out.put_u8(u8::from(*cascade) | u8::from(*restart_identity) << 1);
                for relation in relations {
                    out.put_u32(relation.0);
                }
            }
            Message::Logical {
                transactional,
                lsn,
                prefix,
                content,
            } => {
                out.put_slice(&[b'M', u8::from(*transactional)]);
                out.put_u64(lsn.0);
                put_text(&mut out, prefix);
                out.put_u32(u32::try_from(content.len()).expect("short"));
                out.put_slice(content);
            }
        }
        out
    }

    fn text() -> impl Strategy<Value = Bytes> {
        vec(1u8.., 0..10).prop_map(Bytes::from)
    }

    fn content() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..30).prop_map(Bytes::from)
    }

    fn row() -> impl Strategy<Value = Vec<Cell>> {
        let cell = prop_oneof![
            Just(Cell::Null),
            Just(Cell::Unchanged),
            content().prop_map(Cell::Text),
            content().prop_map(Cell::Binary),
        ];
        vec(cell, 0..6)
    }

    fn old_row() -> impl Strategy<Value = Old> {
        prop_oneof![row().prop_map(Old::Key), row().prop_map(Old::Row)]
    }

    fn a_message() -> impl Strategy<Value = Message> {
        let lsn = || any::<u64>().prop_map(Lsn);
        let oid = || any::<u32>().prop_map(Oid);
        let column = (any::<bool>(), text(), oid(), any::<i32>()).prop_map(
            |(is_key, name, type_oid, typmod)| Column {
                is_key,
                name,
                type_oid,
                typmod,
            },
        );
        prop_oneof![
            (lsn(), any::<i64>(), any::<u32>()).prop_map(|(commit, time, xid)| Message::Begin {
                commit,
                time,
                xid
            }),
            (lsn(), lsn(), any::<i64>()).prop_map(|(commit, end, time)| Message::Commit {
                commit,
                end,
                time
            }),
            (lsn(), text()).prop_map(|(commit, name)| Message::Origin { commit, name }),
            (oid(), text(), text(), any::<u8>(), vec(column, 0..5)).prop_map(
                |(oid, schema, name, identity, columns)| Message::Relation(Relation {
                    oid,
                    schema,
                    name,
                    identity,
                    columns
                })
            ),
            (oid(), text(), text()).prop_map(|(oid, schema, name)| Message::Type {
                oid,
                schema,
                name
            }),
            (oid(), row()).prop_map(|(relation, new)| Message::Insert { relation, new }),
            (oid(), proptest::option::of(old_row()), row())
                .prop_map(|(relation, old, new)| Message::Update { relation, old, new }),
            (oid(), old_row()).prop_map(|(relation, old)| Message::Delete { relation, old }),
            (vec(oid(), 0..5), any::<bool>(), any::<bool>()).prop_map(
                |(relations, cascade, restart_identity)| Message::Truncate {
                    relations,
                    cascade,
                    restart_identity
                }
            ),
            (any::<bool>(), lsn(), text(), content()).prop_map(
                |(transactional, lsn, prefix, content)| Message::Logical {
                    transactional,
                    lsn,
                    prefix,
                    content
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn every_message_is_read_as_it_was_written(message in a_message()) {
            prop_assert_eq!(decode(encode(&message).into()), Ok(message));
        }

        #[test]
        fn a_message_that_is_cut_or_longer_is_an_error(
            message in a_message(),
            cut: proptest::sample::Index,
        ) {
            let mut bytes = encode(&message);
            let cut = cut.index(bytes.len());
            prop_assert!(decode(bytes[..cut].to_vec().into()).is_err());
            bytes.push(0);
            prop_assert!(decode(bytes.into()).is_err());
        }

        #[test]
        fn damage_is_an_error_or_another_message(
            message in a_message(),
            at: proptest::sample::Index,
            byte: u8,
        ) {
            let mut bytes = encode(&message);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(bytes.into());
        }

        #[test]
        fn any_bytes_do_no_harm(kind in "[BCORYIUDTM]", bytes: Vec<u8>) {
            let mut all = kind.into_bytes();
            all.extend(bytes);
            let _ = decode(all.into());
        }
    }

    #[test]
    fn a_count_without_content_allocates_nothing() {
        let mut bytes = vec![b'T'];
        bytes.put_u32(u32::MAX);
        bytes.put_u8(0);
        assert!(decode(bytes.into()).is_err());
        let error = decode(Bytes::from_static(b"I\0\0\0\x01N\xff\xff")).expect_err("cut");
        assert_eq!(error.code, ErrorCode::Corrupted);
        assert!(decode(Bytes::new()).is_err());
    }
}
