//! Conversions between the types of this workspace and the messages of `mvcc.proto`.

use bytes::Bytes;
use holdfast_proto::v1;
use holdfast_source::{Change, Row};
use holdfast_types::{
    ByteCount, Digest, ErrorCode, Fault, Hlc, HoldId, KeyRange, Millis, Position, Relation,
    RelationId, RowCount, RowSum, TableName, Target, Timestamp, Window,
};

use crate::counters::RelationCount;
use crate::mutation::Mutation;
use crate::read::hlc;
use crate::store::{MemberStatus, RelationStatus};

/// The fault for a message that lacks something.
pub(crate) fn missing(what: &str) -> Fault {
    Fault::new(
        ErrorCode::InvalidArgument,
        format!("the message lacks {what}"),
    )
}

pub(crate) fn position_to_wire(position: Hlc) -> v1::MvccPosition {
    v1::MvccPosition {
        micros: position.wall.as_micros(),
        logical: position.logical,
    }
}

pub(crate) fn position_from_wire(position: v1::MvccPosition) -> Hlc {
    Hlc {
        wall: Timestamp::from_micros(position.micros),
        logical: position.logical,
    }
}

pub(crate) fn required(position: Option<v1::MvccPosition>, what: &str) -> Result<Hlc, Fault> {
    position
        .map(position_from_wire)
        .ok_or_else(|| missing(what))
}

pub(crate) fn table_to_wire(name: &TableName) -> v1::MvccTableName {
    v1::MvccTableName {
        database: name.database.clone(),
        table: name.table.clone(),
    }
}

pub(crate) fn table_from_wire(name: Option<v1::MvccTableName>) -> Result<TableName, Fault> {
    let name = name.ok_or_else(|| missing("a table name"))?;
    Ok(TableName {
        database: name.database,
        table: name.table,
    })
}

pub(crate) fn range_to_wire(range: &KeyRange) -> v1::MvccKeyRange {
    v1::MvccKeyRange {
        start: range.start.clone(),
        end: range.end.clone(),
    }
}

pub(crate) fn range_from_wire(range: Option<v1::MvccKeyRange>) -> KeyRange {
    let range = range.unwrap_or_default();
    KeyRange {
        start: range.start,
        end: range.end,
    }
}

pub(crate) fn window_to_wire(window: Window) -> Result<v1::MvccWindow, Fault> {
    Ok(v1::MvccWindow {
        after: window.after.map(hlc).transpose()?.map(position_to_wire),
        upto: Some(position_to_wire(hlc(window.upto)?)),
        history: window.history,
    })
}

pub(crate) fn window_from_wire(window: Option<v1::MvccWindow>) -> Result<Window, Fault> {
    let window = window.ok_or_else(|| missing("a window"))?;
    Ok(Window {
        after: window
            .after
            .map(|after| Position::Hlc(position_from_wire(after))),
        upto: Position::Hlc(required(window.upto, "the end of the window")?),
        history: window.history,
    })
}

pub(crate) fn target_to_wire(target: &Target) -> (Vec<String>, Vec<v1::MvccTableName>) {
    match target {
        Target::Source => (Vec::new(), Vec::new()),
        Target::Databases(databases) => (databases.clone(), Vec::new()),
        Target::Tables(tables) => (Vec::new(), tables.iter().map(table_to_wire).collect()),
    }
}

pub(crate) fn target_from_wire(
    databases: Vec<String>,
    tables: Vec<v1::MvccTableName>,
) -> Result<Target, Fault> {
    match (databases.is_empty(), tables.is_empty()) {
        (true, true) => Ok(Target::Source),
        (false, true) => Ok(Target::Databases(databases)),
        (true, false) => tables
            .into_iter()
            .map(|name| table_from_wire(Some(name)))
            .collect::<Result<_, _>>()
            .map(Target::Tables),
        (false, false) => Err(Fault::new(
            ErrorCode::InvalidArgument,
            "a target names databases or tables, not both",
        )),
    }
}

pub(crate) fn relation_to_wire(relation: &Relation) -> Result<v1::MvccRelation, Fault> {
    Ok(v1::MvccRelation {
        id: relation.id.0,
        name: Some(table_to_wire(&relation.name)),
        created_at: Some(position_to_wire(hlc(relation.created_at)?)),
        definition: Bytes::copy_from_slice(&relation.definition),
        dropped_at: relation
            .dropped_at
            .map(hlc)
            .transpose()?
            .map(position_to_wire),
    })
}

pub(crate) fn relation_from_wire(relation: v1::MvccRelation) -> Result<Relation, Fault> {
    Ok(Relation {
        id: RelationId(relation.id),
        name: table_from_wire(relation.name)?,
        created_at: Position::Hlc(required(relation.created_at, "a creation position")?),
        dropped_at: relation
            .dropped_at
            .map(|at| Position::Hlc(position_from_wire(at))),
        definition: relation.definition.into(),
    })
}

pub(crate) fn row_to_wire(row: Row) -> Result<v1::MvccRow, Fault> {
    let position = Some(position_to_wire(hlc(row.position)?));
    let (value, deleted) = match row.change {
        Change::Put(value) => (value, false),
        Change::Delete => (Bytes::new(), true),
    };
    Ok(v1::MvccRow {
        key: row.key,
        position,
        value,
        deleted,
    })
}

pub(crate) fn row_from_wire(row: v1::MvccRow) -> Row {
    Row {
        key: row.key,
        position: Position::Hlc(row.position.map(position_from_wire).unwrap_or_default()),
        change: if row.deleted {
            Change::Delete
        } else {
            Change::Put(row.value)
        },
    }
}

pub(crate) fn mutation_to_wire(mutation: Mutation) -> v1::MvccMutation {
    v1::MvccMutation {
        table: Some(table_to_wire(&mutation.table)),
        key: mutation.key,
        change: Some(match mutation.change {
            Change::Put(value) => v1::mvcc_mutation::Change::Put(value),
            Change::Delete => v1::mvcc_mutation::Change::Delete(true),
        }),
    }
}

pub(crate) fn mutation_from_wire(mutation: v1::MvccMutation) -> Result<Mutation, Fault> {
    Ok(Mutation {
        table: table_from_wire(mutation.table)?,
        key: mutation.key,
        change: match mutation.change {
            Some(v1::mvcc_mutation::Change::Put(value)) => Change::Put(value),
            Some(v1::mvcc_mutation::Change::Delete(true)) => Change::Delete,
            Some(v1::mvcc_mutation::Change::Delete(false)) | None => {
                return Err(missing("a mutation's change"));
            }
        },
    })
}

pub(crate) fn sum_from_wire(rows: u64, bytes: u64, digest: &[u8]) -> Result<RowSum, Fault> {
    let digest = digest
        .try_into()
        .map_err(|_| missing("a digest of 32 bytes"))?;
    Ok(RowSum {
        rows: RowCount(rows),
        bytes: ByteCount(bytes),
        digest: Digest(digest),
    })
}

pub(crate) fn status_to_wire(status: MemberStatus) -> v1::MvccStatusResponse {
    v1::MvccStatusResponse {
        position: Some(position_to_wire(status.position)),
        threshold: Some(position_to_wire(status.threshold)),
        ttl_ms: status.ttl.0,
        holds: status
            .holds
            .iter()
            .map(|(hold, at)| v1::MvccHold {
                hold: hold.0,
                at: Some(position_to_wire(*at)),
            })
            .collect(),
        relations: status
            .relations
            .iter()
            .map(|relation| v1::MvccRelationStatus {
                id: relation.id.0,
                name: relation.name.as_ref().map(table_to_wire),
                state: relation.state.to_owned(),
                rows_read: relation.count.rows_read.0,
                bytes_read: relation.count.bytes_read.0,
                rows_written: relation.count.rows_written.0,
                bytes_written: relation.count.bytes_written.0,
            })
            .collect(),
        stored_bytes: status.stored.0,
        commits: status.commits,
    }
}

pub(crate) fn status_from_wire(status: v1::MvccStatusResponse) -> Result<MemberStatus, Fault> {
    let holds = status
        .holds
        .into_iter()
        .map(|hold| Ok((HoldId(hold.hold), required(hold.at, "a hold's position")?)))
        .collect::<Result<_, Fault>>()?;
    let relations = status
        .relations
        .into_iter()
        .map(|relation| {
            Ok(RelationStatus {
                id: RelationId(relation.id),
                name: relation
                    .name
                    .map(|name| table_from_wire(Some(name)))
                    .transpose()?,
                state: match relation.state.as_str() {
                    "online" => "online",
                    "restoring" => "restoring",
                    _ => "dropped",
                },
                count: RelationCount {
                    rows_read: RowCount(relation.rows_read),
                    bytes_read: ByteCount(relation.bytes_read),
                    rows_written: RowCount(relation.rows_written),
                    bytes_written: ByteCount(relation.bytes_written),
                },
            })
        })
        .collect::<Result<_, Fault>>()?;
    Ok(MemberStatus {
        position: required(status.position, "a position")?,
        threshold: required(status.threshold, "a threshold")?,
        ttl: Millis(status.ttl_ms),
        holds,
        relations,
        stored: ByteCount(status.stored_bytes),
        commits: status.commits,
    })
}
