//! The log: transactions, what they do, and what a slot gives of them.

use holdfast_postgres::changes::{ChangePosition, Event, RowChange, Transaction, Truncation};
use holdfast_postgres::layout::{Layout, Lsn, Oid};
use holdfast_types::{Fault, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::rows::{COLUMNS, ModelRow, Rows, extra_column, key, tuple};

/// What a transaction does to one row or table.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// The row is there with this content. With `None` as its big value that is as it was, and is not logged.
    Put {
        /// The table.
        table: Oid,
        /// Its key from now on.
        key: u64,
        /// The key it had, if that was another one.
        old_key: Option<u64>,
        /// What it holds.
        balance: u64,
        /// The big value, if it is written.
        ballast: Option<Vec<u8>>,
        /// What is in columns that were added. The server fills it: how many there are is known when it commits.
        extra: Vec<u64>,
    },
    /// The row is gone.
    Delete {
        /// The table.
        table: Oid,
        /// Its key.
        key: u64,
    },
    /// All rows are gone, and the table has another file.
    Truncate {
        /// The table.
        table: Oid,
    },
    /// The table is written anew into another file, with the same rows. The log does not say so.
    Rewrite {
        /// The table.
        table: Oid,
    },
    /// The table has one more column, with this value in every row. No row is written.
    AddColumn {
        /// The table.
        table: Oid,
        /// Its number, which the server gives.
        attnum: i16,
        /// What is in it.
        value: u64,
    },
    /// The table loses the last column that was added, if there is one.
    DropColumn {
        /// The table.
        table: Oid,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Logged {
    pub(super) commit: Lsn,
    pub(super) time: Timestamp,
    pub(super) xid: u32,
    pub(super) writes: Vec<Write>,
}

impl Write {
    pub(super) fn makes_file(&self, oid: Oid) -> bool {
        matches!(self, Self::Truncate { table } | Self::Rewrite { table } if *table == oid)
    }
}

/// The numbers of the columns that were added to each table.
pub(super) type Columns = BTreeMap<Oid, Vec<i16>>;

/// Follows what a write does to the columns.
pub(super) fn note_columns(columns: &mut Columns, write: &Write) {
    match write {
        Write::AddColumn { table, attnum, .. } => columns.entry(*table).or_default().push(*attnum),
        Write::DropColumn { table } => drop(columns.entry(*table).or_default().pop()),
        _ => {}
    }
}

/// Gives a layout these added columns.
pub(super) fn set_columns(layout: &mut Layout, added: Option<&Vec<i16>>) {
    layout.columns.truncate(COLUMNS);
    let added = added.into_iter().flatten();
    layout
        .columns
        .extend(added.map(|attnum| extra_column(*attnum)));
}

/// Does to rows what a write says.
pub(super) fn apply(rows: &mut Rows, write: &Write) {
    match write {
        Write::Put {
            table,
            key,
            old_key,
            balance,
            ballast,
            extra,
        } => {
            let rows = rows.entry(*table).or_default();
            let before = rows.remove(&old_key.unwrap_or(*key));
            let kept = || before.map(|row| row.ballast).unwrap_or_default();
            let row = ModelRow {
                balance: *balance,
                ballast: ballast.clone().unwrap_or_else(kept),
                extra: extra.clone(),
            };
            rows.insert(*key, row);
        }
        Write::Delete { table, key } => {
            rows.entry(*table).or_default().remove(key);
        }
        Write::Truncate { table } => rows.entry(*table).or_default().clear(),
        Write::Rewrite { .. } => {}
        Write::AddColumn { table, value, .. } => {
            for row in rows.entry(*table).or_default().values_mut() {
                row.extra.push(*value);
            }
        }
        Write::DropColumn { table } => {
            for row in rows.entry(*table).or_default().values_mut() {
                row.extra.pop();
            }
        }
    }
}

impl Logged {
    /// What the log says of it. Changes of a table in another form than planned are left out, and that is said.
    pub(super) fn events(
        &self,
        events: &mut Vec<Event>,
        columns: &mut Columns,
        planned: &BTreeMap<Oid, Arc<Layout>>,
    ) -> Result<(), Fault> {
        let transaction = Transaction {
            commit: self.commit,
            time: self.time,
            xid: self.xid,
        };
        events.push(Event::Begin(transaction));
        for (write, ordinal) in self.writes.iter().zip(1..) {
            let position = ChangePosition {
                commit: self.commit,
                ordinal,
            };
            note_columns(columns, write);
            if let Write::Put { table, .. } | Write::Delete { table, .. } = write {
                let added = columns.get(table).into_iter().flatten().copied();
                let is_planned = planned.get(table).is_none_or(|layout| {
                    let wanted = layout.columns.iter().skip(COLUMNS);
                    wanted.map(|column| column.attnum).eq(added)
                });
                if !is_planned {
                    let relation = *table;
                    events.push(Event::Reshaped { relation, position });
                    continue;
                }
            }
            match write {
                Write::Put {
                    table,
                    key: number,
                    old_key,
                    balance,
                    ballast,
                    extra,
                } => events.push(Event::Row(RowChange {
                    relation: *table,
                    position,
                    key: key(*number)?,
                    old_key: old_key.map(key).transpose()?,
                    new: Some(tuple(*number, *balance, ballast.as_deref(), extra)?),
                })),
                Write::Delete { table, key: number } => events.push(Event::Row(RowChange {
                    relation: *table,
                    position,
                    key: key(*number)?,
                    old_key: None,
                    new: None,
                })),
                Write::Truncate { table } => events.push(Event::Truncate(Truncation {
                    relations: vec![*table],
                    position,
                    xid: self.xid,
                    restart_identity: false,
                })),
                Write::Rewrite { .. } | Write::AddColumn { .. } | Write::DropColumn { .. } => {}
            }
        }
        events.push(Event::Commit(transaction));
        Ok(())
    }
}
