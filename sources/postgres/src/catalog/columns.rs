//! The columns of relations.

use holdfast_types::Fault;
use std::collections::BTreeMap;

use super::types::{Form, Types};
use crate::layout::{Column, Oid};
use crate::session::Session;

/// The columns of one relation.
#[derive(Default)]
pub(super) struct Columns {
    /// Those whose values are stored.
    pub(super) stored: Vec<Column>,
    /// Names of generated ones.
    pub(super) generated: Vec<String>,
    /// Names of stored ones whose changes come in another form than their copy.
    pub(super) copy_only: Vec<String>,
}

/// The columns of all ordinary tables (or of one relation), by relation.
pub(super) async fn columns(
    session: &Session,
    types: &Types,
    only: Option<Oid>,
) -> Result<BTreeMap<u32, Columns>, Fault> {
    let rows = session
        .query(
            "SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, a.atttypmod,
                    pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> '',
                    CASE WHEN a.attcollation <> t.typcollation
                         THEN pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(co.collname) END
             FROM pg_catalog.pg_attribute a
             JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
             LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
             LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
             WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
               AND a.attnum > 0 AND NOT a.attisdropped AND ($1::oid IS NULL OR c.oid = $1)
             ORDER BY a.attrelid, a.attnum",
            &[&only.map(|oid| oid.0)],
        )
        .await?;
    let mut by_relation: BTreeMap<u32, Columns> = BTreeMap::new();
    for row in rows {
        let columns = by_relation.entry(row.get(0)).or_default();
        let name: String = row.get(2);
        if row.get(7) {
            columns.generated.push(name);
            continue;
        }
        let type_oid = Oid(row.get(3));
        let form = types.form(type_oid);
        if form == Form::CopyOnly {
            columns.copy_only.push(name.clone());
        }
        columns.stored.push(Column {
            attnum: row.get(1),
            name,
            type_oid,
            typmod: row.get(4),
            type_name: row.get(5),
            not_null: row.get(6),
            collation: row.get(8),
            as_text: form != Form::Binary,
        });
    }
    Ok(by_relation)
}
