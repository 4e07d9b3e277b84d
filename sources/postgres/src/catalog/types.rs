//! Which types have a binary form that means the same everywhere.

use holdfast_types::Fault;
use std::collections::BTreeMap;

use crate::layout::Oid;
use crate::session::Session;

/// What is known of a type by itself.
struct Node {
    /// It has a send function.
    sends: bool,
    /// Its binary form is the number of a catalog row.
    names_object: bool,
    /// Its text form has names of roles, which change and leave the rows as they are.
    names_role: bool,
    /// What it is made of: a domain's base, an array's elements, a composite's columns, a range's bounds.
    parts: Vec<u32>,
}

/// In which form values of a type are copied, and in which they come in changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Binary in both.
    Binary,
    /// Text in both: there is no send function.
    Text,
    /// Copied as text, but changes come in binary, or decoding them fails, or an older text does not stand for the value any more: only a
    /// copy under F is of use.
    CopyOnly,
}

/// The types that a set of relations uses.
pub(super) struct Types {
    nodes: BTreeMap<u32, Node>,
}

/// Types nest at most this deep; deeper ones are copied as text. PostgreSQL itself has no cycles among them.
const DEEPEST: usize = 64;

const USED: &str = "
WITH RECURSIVE part(whole, oid) AS (
    SELECT d.oid, d.typbasetype FROM pg_catalog.pg_type d WHERE d.typtype = 'd'
    UNION ALL
    SELECT a.oid, a.typelem FROM pg_catalog.pg_type a WHERE a.typelem <> 0 AND a.typcategory = 'A'
    UNION ALL
    SELECT r.rngtypid, r.rngsubtype FROM pg_catalog.pg_range r
    UNION ALL
    SELECT r.rngmultitypid, r.rngtypid FROM pg_catalog.pg_range r
    UNION ALL
    SELECT c.oid, a.atttypid FROM pg_catalog.pg_type c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.typrelid
    WHERE c.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
), used(oid) AS (
    SELECT a.atttypid FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND a.attnum > 0 AND NOT a.attisdropped AND ($1::oid IS NULL OR c.oid = $1)
    UNION
    SELECT p.oid FROM used u JOIN part p ON p.whole = u.oid
)
SELECT t.oid, t.typsend <> 0,
       t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace AND t.typtype = 'b' AND t.typname ~ '^reg'
         AND t.typcategory = 'N' AND t.typlen = 4,
       coalesce(p.parts, '{}'), t.oid = 'pg_catalog.aclitem'::pg_catalog.regtype
FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
LEFT JOIN (SELECT whole, array_agg(oid) AS parts FROM part GROUP BY whole) p ON p.whole = t.oid";

impl Types {
    /// The types of all columns of ordinary tables, or of one relation.
    pub(super) async fn read(session: &Session, only: Option<Oid>) -> Result<Self, Fault> {
        let rows = session.query(USED, &[&only.map(|oid| oid.0)]).await?;
        let nodes = rows.iter().map(|row| {
            let node = Node {
                sends: row.get(1),
                names_object: row.get(2),
                parts: row.get(3),
                names_role: row.get(4),
            };
            (row.get(0), node)
        });
        Ok(Self {
            nodes: nodes.collect(),
        })
    }

    /// The form of a column's type.
    pub(super) fn form(&self, oid: Oid) -> Form {
        let own = self.nodes.get(&oid.0).is_some_and(|node| node.sends);
        match (own, self.is_portable(oid.0, DEEPEST)) {
            (_, true) => Form::Binary,
            (false, false) if !self.names_role(oid.0, DEEPEST) => Form::Text,
            (_, false) => Form::CopyOnly,
        }
    }

    /// Whether the type, or anything that it is made of, is written with names of roles.
    fn names_role(&self, oid: u32, deepest: usize) -> bool {
        self.nodes.get(&oid).is_some_and(|node| {
            node.names_role
                || deepest > 0
                    && (node.parts.iter()).any(|part| self.names_role(*part, deepest - 1))
        })
    }

    /// Whether the type and all that it is made of have a binary form, and none is the number of a catalog row.
    fn is_portable(&self, oid: u32, deepest: usize) -> bool {
        let Some(node) = self.nodes.get(&oid) else {
            return false;
        };
        deepest > 0
            && node.sends
            && !node.names_object
            && node
                .parts
                .iter()
                .all(|part| self.is_portable(*part, deepest - 1))
    }
}
