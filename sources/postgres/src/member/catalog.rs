//! What a layer of a member says of one of its databases: all that a restore, or the next backup of the chain, needs to know.
//!
//! A catalog is one object of JSON. Its version only grows, and every version that was ever written can be read.

use bytes::Bytes;
use holdfast_types::{ErrorCode, Fault, Hlc, Position, RelationId, RowSum, Settled, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::changes::ChangePosition;
use crate::globals::DatabaseFacts;
use crate::hold::HoldNames;
use crate::layout::{Layout, Lsn, Oid};
use crate::restore::MaterializedView;

/// The version that is written.
pub const VERSION: u32 = 1;

/// One database in one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabaseCatalog {
    /// [`VERSION`] when it was written.
    pub version: u32,
    /// The cluster's own number.
    pub system_id: u64,
    /// Its timeline.
    pub timeline: u32,
    /// `server_version_num`.
    pub server_version: u32,
    /// The database's object id: with it the name is the same database still.
    pub database: Oid,
    /// How the database was made.
    pub facts: DatabaseFacts,
    /// How the log of it is kept; `None` in snapshot mode, after which no incremental can follow.
    pub hold: Option<HoldState>,
    /// Where the window of changes begins, inclusive: the hold's start, or the parent's [`Self::end`].
    pub start: Lsn,
    /// Where it ends, exclusive: F. In snapshot mode an upper bound.
    pub end: Lsn,
    /// By the server's clock: what was committed until then is in the layer, and of relations with changes nothing that was committed later.
    /// It is the time just before F was begun to be taken, or the latest commit in the window if that is later: read after F, it would
    /// claim commits between the two, which are not in the layer.
    pub ended_at: Timestamp,
    /// Whether an older layer of the chain comes before this one.
    pub continues: bool,
    /// Whether [`Self::versions`] holds every change of the window, so that each commit in it can be restored.
    pub history: bool,
    /// The relations as of F, those without rows included.
    pub relations: Vec<RelationEntry>,
    /// Row objects: for each row that changed in the window what became of it as of F, whole. See [`super::rows`].
    pub rows: Vec<String>,
    /// Row objects: with history every version in the window, values that were left unchanged missing. See [`super::rows`].
    pub versions: Vec<String>,
    /// With history, every truncation in the window, by relation and position.
    pub truncations: Vec<(Oid, ChangePosition)>,
    /// When the transactions of the window were committed, with history.
    pub commit_times: Vec<CommitTimes>,
    /// The object that pg_dump made of the schema (`-Fc`).
    pub schema: String,
    /// The object with the server's [`crate::globals::Globals`], as JSON.
    pub globals: String,
    /// The object with the sequences (a list of [`crate::sequences::SequenceValue`]), as JSON.
    pub sequences: String,
    /// Materialised views.
    pub matviews: Vec<MaterializedView>,
    /// Large objects, all of them in every layer.
    pub large_objects: LargeObjectParts,
}

/// How a chain keeps the log of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldState {
    /// Slot and publication.
    pub names: HoldNames,
    /// Which publication it is.
    pub publication: PublicationMark,
}

/// A publication with these numbers was not changed in between: object id, and the transaction that wrote its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationMark {
    /// Its object id.
    pub oid: Oid,
    /// 32 bits of the transaction.
    pub xid: u32,
}

/// One relation in one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RelationEntry {
    /// Its form and names as of F.
    pub layout: Layout,
    /// What its rows are made of.
    pub content: Content,
    /// The last truncation in the window. Older rows than that (of the base, of older layers) are gone.
    pub truncated: Option<ChangePosition>,
    /// What tells whether the next window of changes is complete.
    pub standing: Standing,
    /// Rows, where they were counted.
    pub rows: Option<u64>,
    /// Their sum ([`crate::fingerprint::RowForms`]), where it was made.
    pub sum: Option<RowSum>,
}

/// What the rows of a relation are made of, as of F.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    /// No rows are kept.
    Definition,
    /// The tuple objects that this layer's spans of the relation wrote (by [`relation_id`]), without the rows whose key is in
    /// [`DatabaseCatalog::rows`], and none if it was truncated; and those of that which are not deleted.
    Base,
    /// What it was at the end of the layer before, in the same way. It was not rewritten since.
    Continued,
    /// These tuple objects, in the place of all that is older. With history its states inside the window are not there.
    Whole {
        /// Their names, none for an empty relation.
        objects: Vec<String>,
    },
}

/// How a relation stood at a moment. If a part differs at the end of a window, its changes may be incomplete.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// The object id of its row in `pg_publication_rel`: it was published without a break if that is the same.
    pub membership: Option<Oid>,
    /// A digest of which transactions wrote the catalog rows of its columns, and of what their types are made of.
    pub columns: String,
    /// The labels of enums among those types, by object id: which transaction wrote each. A new label changes no row that is there, another
    /// name of an old one does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Standing {
    /// Whether values read since `then` and now have the same form.
    #[must_use]
    pub fn has_form_of(&self, then: &Self) -> bool {
        let is_same = |(label, xid): (&String, &String)| self.labels.get(label) == Some(xid);
        self.columns == then.columns && then.labels.iter().all(is_same)
    }
}

/// Commit times of a part of the window: an object of [`COMMIT_TIME_BYTES`] each, by position: the LSN of the commit record (u64 BE) and
/// microseconds since 1970 (u64 BE).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitTimes {
    /// The object.
    pub object: String,
    /// The first commit in it.
    pub first: Lsn,
    /// The last one.
    pub last: Lsn,
    /// The latest time in it. Times are not in the order of commits.
    pub latest: Timestamp,
}

/// Bytes of one entry of [`CommitTimes`].
pub const COMMIT_TIME_BYTES: usize = 16;

/// Where large objects are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LargeObjectParts {
    /// How many there are.
    pub count: u64,
    /// Objects with lists of [`crate::large_objects::LargeObject`] as JSON, in order of number.
    pub descriptions: Vec<String>,
    /// Tuple objects of three columns: number (u32 BE), offset (u64 BE) and bytes, in that order.
    pub chunks: Vec<String>,
}

impl DatabaseCatalog {
    /// Writes it.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] if it has no form in JSON.
    pub fn encode(&self) -> Result<Bytes, Fault> {
        to_json(self)
    }

    /// Reads one of any version.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupted`] if it is none; [`ErrorCode::Unsupported`] if a newer Holdfast wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let versioned: Versioned = from_json(bytes)?;
        if versioned.version > VERSION {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                format!(
                    "the layer's catalog is of version {}, and {VERSION} is the newest that is known",
                    versioned.version
                ),
            )
            .hint("use the version of Holdfast that made the backup, or a newer one"));
        }
        from_json(bytes)
    }

    /// The entry of a relation.
    #[must_use]
    pub fn relation(&self, oid: Oid) -> Option<&RelationEntry> {
        self.relations.iter().find(|entry| entry.layout.oid == oid)
    }

    /// The number of one of its relations in a backup.
    #[must_use]
    pub fn relation_id(&self, oid: Oid) -> RelationId {
        relation_id(self.database, oid)
    }

    /// Where it ended, as the ledger counts.
    #[must_use]
    pub fn settled(&self) -> Settled {
        Settled {
            position: last_before(self.end),
            at: Hlc::at(self.ended_at),
        }
    }
}

/// The number of a relation in a backup; that of the database itself, and of its settling span, with [`Oid`] zero.
#[must_use]
pub fn relation_id(database: Oid, relation: Oid) -> RelationId {
    RelationId(u64::from(database.0) << 32 | u64::from(relation.0))
}

/// The database and the relation of a number.
#[must_use]
pub fn split_relation_id(id: RelationId) -> (Oid, Oid) {
    let half = |number: u64| Oid(u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default());
    (half(id.0 >> 32), half(id.0))
}

/// The last position before an exclusive end: a commit record may lie exactly there, and belongs to what follows.
#[must_use]
pub fn last_before(end: Lsn) -> Position {
    Position::Lsn(holdfast_types::Lsn {
        lsn: end.0.saturating_sub(1),
        ordinal: u32::MAX,
    })
}

/// The exclusive end after a position, so that nothing of its transaction's later changes is behind it.
///
/// # Errors
/// [`ErrorCode::InvalidArgument`] for the position of another kind of source.
pub fn end_after(position: Position) -> Result<Lsn, Fault> {
    match position {
        Position::Lsn(at) if at.ordinal == u32::MAX => Ok(Lsn(at.lsn.saturating_add(1))),
        Position::Lsn(at) => Ok(Lsn(at.lsn)),
        other => Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("{other} is no position of a PostgreSQL server"),
        )),
    }
}

/// Writes something of ours as JSON.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Bytes, Fault> {
    match serde_json::to_vec(value) {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => Err(Fault::new(
            ErrorCode::Internal,
            "a catalog has no form in json",
        )),
    }
}

/// Reads something of ours from JSON. The error never repeats the content.
pub(crate) fn from_json<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| {
        Fault::new(
            ErrorCode::Corrupted,
            format!(
                "a catalog cannot be read: line {}, column {}",
                error.line(),
                error.column()
            ),
        )
    })
}
