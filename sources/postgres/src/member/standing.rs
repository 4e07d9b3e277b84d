//! Whether relations were published without a break, and had the same columns throughout.

use holdfast_types::Fault;
use std::collections::BTreeMap;

use super::catalog::{PublicationMark, Standing, from_json};
use crate::layout::Oid;
use crate::session::Session;

/// How a relation stands, and the transaction that last changed its row in `pg_class`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// How it stands.
    pub(super) standing: Standing,
    /// 32 bits of the transaction.
    pub(super) file_node_xid: u32,
    /// Whether any of it may have been changed after the slot in question was made.
    pub(super) is_recent: bool,
}

/// What is seen of the relations of a database, and of a publication in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standings {
    /// The publication, if it exists.
    pub(super) publication: Option<PublicationMark>,
    /// Tables by object id.
    pub(super) relations: BTreeMap<Oid, Seen>,
}

/// A digest of which transactions wrote the columns' rows goes into the standing: a column that was added and dropped again leaves no other
/// trace. So do the rows of what their types are made of: another label of an enum, or another attribute of a composite type, changes the binary
/// form of values and nothing of the table. The slot keeps the catalogs' rows from its own beginning on, so that what its `catalog_xmin` does not
/// precede may be newer than it. One that is published with a filter of rows or columns (14 has neither) is as good as unpublished. Numbers that are too old to be compared count as new: then a relation is read whole without need.
const STANDINGS: &str = "
WITH RECURSIVE part(whole, oid) AS (
    SELECT d.oid, d.typbasetype FROM pg_catalog.pg_type d WHERE d.typtype = 'd'
    UNION ALL
    SELECT a.oid, a.typelem FROM pg_catalog.pg_type a WHERE a.typelem <> 0 AND a.typcategory = 'A'
    UNION ALL
    SELECT r.rngtypid, r.rngsubtype FROM pg_catalog.pg_range r
    UNION ALL
    SELECT r.rngmultitypid, r.rngtypid FROM pg_catalog.pg_range r
    UNION ALL
    SELECT t.oid, a.atttypid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid
    WHERE t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped AND t.oid >= 16384
), used(relation, oid) AS (
    SELECT a.attrelid, a.atttypid FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.oid >= 16384 AND a.attnum > 0 AND a.atttypid >= 16384
    UNION
    SELECT u.relation, p.oid FROM used u JOIN part p ON p.whole = u.oid WHERE p.oid >= 16384
), made(relation, name, xid) AS (
    SELECT u.relation, 'a' || t.oid || '.' || a.attnum, a.xmin
    FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid AND t.typtype = 'c'
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0
    UNION ALL
    SELECT u.relation, 't' || t.oid, t.xmin
    FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid AND t.typtype = 'b' AND t.typcategory <> 'A'
    UNION ALL
    SELECT a.attrelid, 'c' || a.attnum, a.xmin
    FROM pg_catalog.pg_attribute a WHERE a.attrelid >= 16384 AND a.attnum > 0
), form(relation, digest, age) AS (
    SELECT relation, pg_catalog.encode(pg_catalog.sha256(pg_catalog.string_agg(
               name || ':' || xid::pg_catalog.text, ',' ORDER BY name COLLATE \"C\")::pg_catalog.bytea), 'hex'), min(pg_catalog.age(xid))
    FROM made GROUP BY relation
), labels(relation, labels, age) AS (
    SELECT u.relation, pg_catalog.jsonb_object_agg(e.oid::pg_catalog.text, e.xmin::pg_catalog.text)::pg_catalog.text, min(pg_catalog.age(e.xmin))
    FROM used u JOIN pg_catalog.pg_enum e ON e.enumtypid = u.oid GROUP BY u.relation
)
SELECT c.oid,
       CASE WHEN coalesce(pg_catalog.to_jsonb(m) ->> 'prqual', pg_catalog.to_jsonb(m) ->> 'prattrs') IS NULL THEN m.oid END,
       coalesce(f.digest, ''), coalesce(l.labels, '{}'), c.xmin::pg_catalog.text::pg_catalog.int8,
       coalesce(least(pg_catalog.age(c.xmin), pg_catalog.age(m.xmin), pg_catalog.age(p.xmin), f.age, l.age)
                <= pg_catalog.age(s.catalog_xmin), false)
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_publication p ON p.pubname = $1
LEFT JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid AND m.prrelid = c.oid
LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $2
LEFT JOIN form f ON f.relation = c.oid
LEFT JOIN labels l ON l.relation = c.oid
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.oid >= 16384";

/// Reads how all tables stand, as the session's snapshot shows it.
///
/// # Errors
/// What the server says.
pub(super) async fn read(
    session: &Session,
    publication: &str,
    slot: &str,
) -> Result<Standings, Fault> {
    let xid = |wide: i64| u32::try_from(wide).unwrap_or_default();
    let rows = session
        .query(
            "SELECT oid, xmin::pg_catalog.text::pg_catalog.int8 FROM pg_catalog.pg_publication WHERE pubname = $1",
            &[&publication],
        )
        .await?;
    let publication_mark = rows.first().map(|row| PublicationMark {
        oid: Oid(row.get(0)),
        xid: xid(row.get(1)),
    });
    let rows = session.query(STANDINGS, &[&publication, &slot]).await?;
    let seen = |row: &tokio_postgres::Row| {
        let seen = Seen {
            standing: Standing {
                membership: row.get::<_, Option<u32>>(1).map(Oid),
                columns: row.get(2),
                labels: from_json(row.get::<_, &str>(3).as_bytes())?,
            },
            file_node_xid: xid(row.get(4)),
            is_recent: row.get(5),
        };
        Ok((Oid(row.get(0)), seen))
    };
    Ok(Standings {
        publication: publication_mark,
        relations: rows.iter().map(seen).collect::<Result<_, Fault>>()?,
    })
}
