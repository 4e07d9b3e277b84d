//! The relations of a database.

use holdfast_types::{ErrorCode, Fault};
use tokio_postgres::Row;

use super::classify::{Traits, classify};
use super::columns::{Columns, columns};
use super::types::Types;
use crate::layout::{FileNode, Handling, Layout, Oid};
use crate::session::Session;

/// What the role may do with a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// It may read it.
    pub select: bool,
    /// It is the owner or a member of the owner, or a superuser: it may publish it.
    pub owner: bool,
    /// It may use the schema.
    pub schema: bool,
    /// Policies apply to it: it would not see all rows.
    pub row_security: bool,
}

/// A relation, and what a plan needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationFacts {
    /// Its layout and handling.
    pub layout: Layout,
    /// Its owner.
    pub owner: String,
    /// What the role may do.
    pub access: Access,
    /// Whether it is a partition.
    pub is_partition: bool,
    /// Whether tables inherit from it (they are relations of their own).
    pub has_children: bool,
    /// Names of columns of which only a copy is of use: see [`crate::layout::WholeReason::ColumnForm`].
    pub copy_only: Vec<String>,
    /// Names of columns of type `oid`: numbers that may refer to catalog rows.
    pub oid_columns: Vec<String>,
    /// Bytes of its heap now.
    pub heap_bytes: u64,
    /// Bytes of its heap and of values stored out of line now.
    pub total_bytes: u64,
}

/// The functions look past the snapshot and give nothing for what is gone by now.
///
/// Asking for a size waits for whoever has the relation locked, so that one long `ALTER` would hold everything up: the size of such a relation is what the
/// last `VACUUM` saw. (Plans need no more: their last range is open.) A configuration table of an extension has its condition. Rights on what was dropped
/// since are null: nobody lacks them.
const RELATIONS: &str = "
WITH locked AS MATERIALIZED (
    SELECT l.relation FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
    WHERE d.datname = pg_catalog.current_database() AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
), relation AS (
    SELECT c.*, c.oid IN (SELECT relation FROM locked) AS locked FROM pg_catalog.pg_class c
)
SELECT c.oid, n.nspname::text, c.relname::text, c.relfilenode, c.relkind, c.relpersistence, c.relreplident,
       pg_catalog.pg_get_userbyid(c.relowner)::text, coalesce(pg_catalog.pg_has_role(c.relowner, 'USAGE'), false),
       coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT'), true),
       coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), true),
       c.relkind = 'r' AND coalesce(pg_catalog.row_security_active(c.oid), false),
       c.relispartition, c.relhassubclass AND c.relkind = 'r', coalesce(am.amname = 'heap', false),
       x.oid IS NOT NULL, coalesce(c.oid = ANY (x.extconfig), false),
       x.extcondition[pg_catalog.array_position(x.extconfig, c.oid)],
       k.indimmediate,
       CASE WHEN k.indexrelid IS NOT NULL
            THEN ARRAY(SELECT k.indkey[i]::int2 FROM pg_catalog.generate_series(0, k.indnkeyatts - 1) AS i ORDER BY i) END,
       CASE WHEN c.relkind <> 'r' THEN 0
            WHEN c.locked THEN c.relpages::int8 * pg_catalog.current_setting('block_size')::int8
            ELSE coalesce(pg_catalog.pg_relation_size(c.oid), 0) END,
       CASE WHEN c.relkind <> 'r' THEN 0
            WHEN c.locked THEN c.relpages::int8 * pg_catalog.current_setting('block_size')::int8
            ELSE coalesce(pg_catalog.pg_table_size(c.oid), 0) END
FROM relation c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
      AND d.objsubid = 0 AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
LEFT JOIN (pg_catalog.pg_index k JOIN pg_catalog.pg_class kc ON kc.oid = k.indexrelid
           JOIN pg_catalog.pg_am ka ON ka.oid = kc.relam AND ka.amname = 'btree')
      ON k.indrelid = c.oid AND k.indisprimary AND k.indisvalid AND NOT k.indisexclusion
WHERE c.relkind IN ('r', 'p', 'f', 'm') AND c.relpersistence <> 't'
  AND n.nspname !~ '^(pg_|holdfast_restore_)' AND n.nspname <> 'information_schema'
  AND ($1::oid IS NULL OR c.oid = $1)
ORDER BY c.oid";

/// All relations that can hold rows, by object id: tables, partitioned and foreign tables, materialized views. Not those of the system, nor
/// temporary ones.
///
/// Call it inside a repeatable-read transaction: it is several queries.
///
/// # Errors
/// What the server says.
pub async fn read(session: &Session) -> Result<Vec<RelationFacts>, Fault> {
    select(session, None).await
}

/// One relation; `None` if it is gone.
///
/// # Errors
/// As [`read`].
pub async fn read_one(session: &Session, oid: Oid) -> Result<Option<RelationFacts>, Fault> {
    Ok(select(session, Some(oid)).await?.pop())
}

async fn select(session: &Session, only: Option<Oid>) -> Result<Vec<RelationFacts>, Fault> {
    let types = Types::read(session, only).await?;
    let mut columns = columns(session, &types, only).await?;
    let rows = session.query(RELATIONS, &[&only.map(|oid| oid.0)]).await?;
    rows.iter()
        .map(|row| {
            let columns = columns.remove(&row.get(0)).unwrap_or_default();
            facts(row, columns, session.info().in_recovery)
        })
        .collect()
}

/// The type of `oid` itself.
const OID_TYPE: Oid = Oid(26);

fn facts(row: &Row, columns: Columns, in_recovery: bool) -> Result<RelationFacts, Fault> {
    let letter = |index: usize| u8::try_from(row.get::<_, i8>(index)).unwrap_or(0);
    let size = |index: usize| u64::try_from(row.get::<_, i64>(index)).unwrap_or(0);
    let in_extension: bool = row.get(15);
    let key: Option<Vec<i16>> = row.get(19);
    let immediate: Option<bool> = row.get(18);
    let access = Access {
        owner: row.get(8),
        select: row.get(9),
        schema: row.get(10),
        row_security: row.get(11),
    };
    let (handling, key) = classify(&Traits {
        kind: letter(4),
        persistence: letter(5),
        identity: letter(6),
        is_heap: row.get(14),
        extension: in_extension.then(|| row.get(16)),
        key: immediate.zip(key.as_deref()),
        columns: &columns.stored,
        copy_only: !columns.copy_only.is_empty(),
        is_owner: access.owner,
        in_recovery,
    });
    let layout = Layout {
        oid: Oid(row.get(0)),
        schema: row.get(1),
        name: row.get(2),
        file_node: FileNode(row.get(3)),
        key,
        generated: columns.generated,
        filter: row
            .get::<_, Option<String>>(17)
            .filter(|filter| !filter.is_empty()),
        handling,
        columns: columns.stored,
    };
    if layout.handling == Handling::Keyed && layout.key.is_empty() {
        return Err(Fault::new(
            ErrorCode::Internal,
            format!(
                "the primary key of {} has no columns",
                layout.display_name()
            ),
        ));
    }
    Ok(RelationFacts {
        owner: row.get(7),
        access,
        is_partition: row.get(12),
        has_children: row.get(13),
        copy_only: columns.copy_only,
        oid_columns: layout
            .columns
            .iter()
            .filter(|column| column.type_oid == OID_TYPE)
            .map(|column| column.name.clone())
            .collect(),
        layout,
        heap_bytes: size(20),
        total_bytes: size(21),
    })
}
