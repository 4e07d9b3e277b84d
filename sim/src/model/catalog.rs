//! What a layer of a model member says.

use bytes::Bytes;
use holdfast_postgres::changes::ChangePosition;
use holdfast_postgres::layout::{Layout, Lsn, Oid};
use holdfast_types::{ErrorCode, Fault, Relation, RelationId, Settled, TableName, Timestamp};
use holdfast_types::{Hlc, Position};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::rows::DATABASE_OID;

/// What the rows of a table are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Content {
    /// Page ranges, without the rows that were touched.
    Base,
    /// What it was at the end of the layer before, without the rows that were touched.
    Continued,
    /// These objects, in the place of all that is older.
    Whole(Option<String>),
}

/// A table in a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TableEntry {
    pub(super) layout: Layout,
    pub(super) content: Content,
    pub(super) truncated: Option<ChangePosition>,
}

/// A layer of a member.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Catalog {
    /// Where the window begins, inclusive.
    pub(super) start: Lsn,
    /// Where it ends, exclusive.
    pub(super) end: Lsn,
    /// The same by the clock.
    pub(super) ended_at: Timestamp,
    /// Its tables.
    pub(super) tables: BTreeMap<Oid, TableEntry>,
    /// Objects of rows that changed in the window, as of its end.
    pub(super) rows: Vec<String>,
    /// Every change of the window, where it is kept.
    pub(super) history: Option<Versions>,
}

/// Every change of a window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Versions {
    /// Objects of all versions of rows.
    pub(super) objects: Vec<String>,
    /// When tables were emptied.
    pub(super) truncations: Vec<(Oid, ChangePosition)>,
    /// When each transaction was committed.
    pub(super) times: Vec<(Lsn, Timestamp)>,
}

/// What was planned for the database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DatabasePlan {
    /// Where the window begins, inclusive.
    pub(super) start: Lsn,
    /// Whether a layer comes before.
    pub(super) continues: bool,
}

/// The bytes of something.
pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(value).map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))
}

/// Something from its bytes.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| {
        Fault::new(
            ErrorCode::Corrupted,
            format!("the model's catalog: {error}"),
        )
    })
}

/// The number of a table for everybody else; that of the database itself for [`Oid`] zero.
pub(super) fn relation_id(oid: Oid) -> RelationId {
    RelationId(u64::from(DATABASE_OID.0) << 32 | u64::from(oid.0))
}

/// The last position before one.
pub(super) fn last_before(end: Lsn) -> Position {
    Position::Lsn(holdfast_types::Lsn {
        lsn: end.0.saturating_sub(1),
        ordinal: u32::MAX,
    })
}

/// A relation of the member.
pub(super) fn relation(oid: Oid, name: TableName, since: Lsn, definition: Vec<u8>) -> Relation {
    Relation {
        id: relation_id(oid),
        name,
        created_at: Position::Lsn(holdfast_types::Lsn::at(since.0)),
        dropped_at: None,
        definition,
    }
}

impl Catalog {
    /// Where it ended.
    pub(super) fn settled(&self) -> Settled {
        Settled {
            position: last_before(self.end),
            at: Hlc::at(self.ended_at),
        }
    }

    /// Whether all of it lies before an instant, or a position of the log.
    pub(super) fn is_whole_at(&self, as_of: Option<Position>) -> bool {
        match as_of {
            Some(Position::Hlc(at)) => self.ended_at <= at.wall,
            Some(Position::Lsn(at)) => self.end.0 <= at.lsn,
            _ => true,
        }
    }

    /// Where the first commit is that lies after an instant or a position inside of it; nothing if it keeps no history.
    pub(super) fn commit_after(&self, as_of: Option<Position>) -> Option<Lsn> {
        let versions = self.history.as_ref()?;
        Some(match as_of {
            Some(Position::Lsn(at)) => Lsn(at.lsn),
            Some(Position::Hlc(at)) => {
                let later = |(_, time): &&(Lsn, Timestamp)| *time > at.wall;
                let later = versions.times.iter().find(later);
                later.map_or(self.end, |(commit, _)| *commit)
            }
            _ => self.end,
        })
    }

    /// From an object.
    pub(super) fn of(bytes: &Bytes) -> Result<Self, Fault> {
        decode(bytes)
    }
}
