//! Whether relations were published without a break, and had the same columns throughout.

use holdfast_types::Fault;
use std::collections::BTreeMap;

use super::catalog::{PublicationMark, Standing};
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
/// trace. The slot keeps the catalogs' rows from its own beginning on, so that what its `catalog_xmin` does not precede may be newer than it.
/// Numbers that are too old to be compared count as new: then a relation is read whole without need.
const STANDINGS: &str = "
SELECT c.oid, m.oid, coalesce(f.digest, ''), c.xmin::pg_catalog.text::pg_catalog.int8,
       coalesce(least(pg_catalog.age(c.xmin), pg_catalog.age(m.xmin), pg_catalog.age(p.xmin), f.age) <= pg_catalog.age(s.catalog_xmin), false)
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_publication p ON p.pubname = $1
LEFT JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid AND m.prrelid = c.oid
LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $2
LEFT JOIN LATERAL (
    SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.string_agg(
               a.attnum::pg_catalog.text || ':' || a.xmin::pg_catalog.text, ',' ORDER BY a.attnum)::pg_catalog.bytea), 'hex') AS digest,
           min(pg_catalog.age(a.xmin)) AS age
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
) f ON true
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
            },
            file_node_xid: xid(row.get(3)),
            is_recent: row.get(4),
        };
        (Oid(row.get(0)), seen)
    };
    Ok(Standings {
        publication: publication_mark,
        relations: rows.iter().map(seen).collect(),
    })
}
