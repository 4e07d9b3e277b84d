//! What the change stream says.

use holdfast_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::Key;
use crate::layout::{Lsn, Oid};
use crate::tuple::Tuple;

/// When a change happened: the total order of a member's history.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ChangePosition {
    /// Where the transaction's commit record is. Neither transaction ids nor commit times are in this order.
    pub commit: Lsn,
    /// Counts the changes of the transaction.
    pub ordinal: u64,
}

impl ChangePosition {
    /// Before everything that was committed at `commit` or later.
    #[must_use]
    pub const fn start_of(commit: Lsn) -> Self {
        Self { commit, ordinal: 0 }
    }
}

/// A transaction of the change stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Transaction {
    /// Where its commit record is.
    pub commit: Lsn,
    /// When it was committed, by the server's clock. Not always later than the one before.
    pub time: Timestamp,
    /// 32 bits of the top-level transaction's id.
    pub xid: u32,
}

/// What happened to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// In which relation.
    pub relation: Oid,
    /// When.
    pub position: ChangePosition,
    /// The row's key afterwards; for a deletion, the key that is gone.
    pub key: Key,
    /// The key that it had before, if an update changed it.
    pub old_key: Option<Key>,
    /// The row afterwards, perhaps with values left unchanged; `None` for a deletion.
    pub new: Option<Tuple>,
}

/// Relations were emptied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncation {
    /// Which ones, as far as they are in the backup.
    pub relations: Vec<Oid>,
    /// When.
    pub position: ChangePosition,
    /// 32 bits of the id of the transaction that did it.
    pub xid: u32,
    /// Whether their sequences began anew.
    pub restart_identity: bool,
}

/// What the change stream says next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A transaction begins.
    Begin(Transaction),
    /// A row was changed.
    Row(RowChange),
    /// Relations were emptied.
    Truncate(Truncation),
    /// From here on a relation has another form, key or replica identity than planned. Its changes are left out: it must be read anew.
    Reshaped {
        /// Which relation.
        relation: Oid,
        /// Before which change this was noticed.
        position: ChangePosition,
    },
    /// A transaction ended.
    Commit(Transaction),
}

impl Event {
    /// Bytes of keys and values in it.
    #[must_use]
    pub fn logical_len(&self) -> usize {
        let Self::Row(change) = self else {
            return 0;
        };
        change.key.bytes().len()
            + change.old_key.as_ref().map_or(0, |key| key.bytes().len())
            + change.new.as_ref().map_or(0, |row| row.bytes().len())
    }
}
