//! The messages of PostgreSQL's `pgoutput` plugin, protocol version 1.
//!
//! Version 1 sends a transaction when it commits, whole and in the order of commit records, without what rolled-back savepoints did.

mod decode;

pub use decode::decode;

use bytes::Bytes;
use std::fmt;

use crate::layout::{Lsn, Oid};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A transaction begins.
    Begin {
        /// Where its commit record is.
        commit: Lsn,
        /// When it was committed, in microseconds since 2000-01-01T00:00:00Z by the server's clock.
        time: i64,
        /// Its id (that of the top-level transaction), 32 bits of it.
        xid: u32,
    },
    /// A transaction ends.
    Commit {
        /// Where its commit record is.
        commit: Lsn,
        /// Where its commit record ends.
        end: Lsn,
        /// When it was committed, as in `Begin`.
        time: i64,
    },
    /// The transaction was replayed from elsewhere.
    Origin {
        /// Its commit record there.
        commit: Lsn,
        /// What the origin is called here.
        name: Bytes,
    },
    /// What a relation looks like; comes before its first change, and again after a change of its form.
    Relation(Relation),
    /// What a type that is not built in is called.
    Type {
        /// The type.
        oid: Oid,
        /// Its schema.
        schema: Bytes,
        /// Its name.
        name: Bytes,
    },
    /// A row was inserted.
    Insert {
        /// Into which relation.
        relation: Oid,
        /// The row.
        new: Vec<Cell>,
    },
    /// A row was updated.
    Update {
        /// In which relation.
        relation: Oid,
        /// Its old key if that changed, or the old row with `REPLICA IDENTITY FULL`.
        old: Option<Old>,
        /// The new row.
        new: Vec<Cell>,
    },
    /// A row was deleted.
    Delete {
        /// From which relation.
        relation: Oid,
        /// Its key, or the row with `REPLICA IDENTITY FULL`.
        old: Old,
    },
    /// Relations were emptied.
    Truncate {
        /// Which ones.
        relations: Vec<Oid>,
        /// Whether `CASCADE` was said.
        cascade: bool,
        /// Whether `RESTART IDENTITY` was said.
        restart_identity: bool,
    },
    /// What a program wrote into the log by `pg_logical_emit_message`.
    Logical {
        /// Whether it belongs to the transaction.
        transactional: bool,
        /// Where it is.
        lsn: Lsn,
        /// What kind of message it is.
        prefix: Bytes,
        /// What it says.
        content: Bytes,
    },
}

/// What a relation looks like: its columns by attnum, without dropped and generated ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The relation.
    pub oid: Oid,
    /// Its schema, in the encoding of the database; empty for `pg_catalog`.
    pub schema: Bytes,
    /// Its name, in the encoding of the database.
    pub name: Bytes,
    /// Its replica identity: `d`efault, `n`othing, `f`ull, `i`ndex.
    pub identity: u8,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// A column of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Whether it is part of the replica identity.
    pub is_key: bool,
    /// Its name, in the encoding of the database.
    pub name: Bytes,
    /// Its type.
    pub type_oid: Oid,
    /// The type's modifier.
    pub typmod: i32,
}

/// What is known of a row as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Old {
    /// The columns of its key; all others are null.
    Key(Vec<Cell>),
    /// All of it.
    Row(Vec<Cell>),
}

impl Old {
    /// The values.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        match self {
            Self::Key(cells) | Self::Row(cells) => cells,
        }
    }
}

/// A value.
#[derive(Clone, PartialEq, Eq)]
pub enum Cell {
    /// Null.
    Null,
    /// Unchanged, stored out of line, and not in the log.
    Unchanged,
    /// In text form.
    Text(Bytes),
    /// In binary form.
    Binary(Bytes),
}

impl fmt::Debug for Cell {
    /// Values never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Unchanged => f.write_str("Unchanged"),
            Self::Text(bytes) => write!(f, "Text({} bytes)", bytes.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}
