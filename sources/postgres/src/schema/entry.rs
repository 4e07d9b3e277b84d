//! One object of a schema archive.

use super::statement;
use crate::layout::Oid;
use serde::{Deserialize, Serialize};

/// An archive's own number for an object.
pub type EntryId = i32;

/// Catalogs by their object ids, which never change.
const PG_CLASS: Oid = Oid(1259);

/// What an entry makes, as far as a restore treats it in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Settings of the session that runs the definitions (encoding, search path).
    Session,
    /// The database itself, its settings, comment and rights: made by us, under another name.
    Database,
    /// A schema.
    Schema,
    /// An extension.
    Extension,
    /// A table, also a partitioned one.
    Table,
    /// A foreign table.
    ForeignTable,
    /// A sequence.
    Sequence,
    /// A view.
    View,
    /// A materialized view, not filled.
    MaterializedView,
    /// A type or domain.
    Type,
    /// A function, procedure or aggregate.
    Function,
    /// An index.
    Index,
    /// A primary key, unique or exclusion constraint.
    Constraint,
    /// A foreign key.
    ForeignKey,
    /// A publication, or what belongs to it.
    Publication,
    /// A subscription.
    Subscription,
    /// A trigger on events of the whole database.
    EventTrigger,
    /// Rights.
    Rights,
    /// A comment or a security label.
    Remark,
    /// Rows: in no archive of a schema.
    Rows,
    /// Anything else: run in the archive's order.
    Other,
}

/// Where an entry stands relative to the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// With the object that it belongs to.
    None,
    /// Before the rows.
    Before,
    /// The rows.
    Rows,
    /// After the rows.
    After,
}

/// One object of a schema archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The archive's number for it.
    pub id: EntryId,
    /// The system catalog that it was found in; zero for what has no row of its own.
    pub catalog: Oid,
    /// Its row there.
    pub oid: Oid,
    /// Its name; for constraints, triggers and the like the table's name, a space and its own.
    pub name: String,
    /// What it is, in pg_dump's words: `TABLE`, `FK CONSTRAINT`.
    pub label: String,
    /// Where it stands relative to the rows.
    pub section: Section,
    /// The statements that make it.
    pub definition: String,
    /// The statement that drops it; empty where that goes with another object.
    pub drop: String,
    /// Its schema.
    pub schema: Option<String>,
    /// The tablespace that it does not share with its database. `Some("")` is the database's own.
    pub tablespace: Option<String>,
    /// The access method of a table.
    pub access_method: Option<String>,
    /// The kind of a relation, where the archive says it.
    pub relation_kind: Option<char>,
    /// Its owner.
    pub owner: Option<String>,
    /// What must exist before it.
    pub needs: Vec<EntryId>,
}

impl Entry {
    /// What it makes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.label.as_str() {
            "ENCODING" | "STDSTRINGS" | "SEARCHPATH" => Kind::Session,
            "DATABASE" | "DATABASE PROPERTIES" => Kind::Database,
            "SCHEMA" => Kind::Schema,
            "EXTENSION" => Kind::Extension,
            "TABLE" => Kind::Table,
            "FOREIGN TABLE" => Kind::ForeignTable,
            "SEQUENCE" => Kind::Sequence,
            "VIEW" => Kind::View,
            "MATERIALIZED VIEW" => Kind::MaterializedView,
            "TYPE" | "DOMAIN" | "SHELL TYPE" => Kind::Type,
            "FUNCTION" | "PROCEDURE" | "AGGREGATE" => Kind::Function,
            "INDEX" => Kind::Index,
            "CONSTRAINT" => Kind::Constraint,
            "FK CONSTRAINT" => Kind::ForeignKey,
            "PUBLICATION" | "PUBLICATION TABLE" | "PUBLICATION TABLES IN SCHEMA" => {
                Kind::Publication
            }
            "SUBSCRIPTION" | "SUBSCRIPTION TABLE" => Kind::Subscription,
            "EVENT TRIGGER" => Kind::EventTrigger,
            "ACL" | "DEFAULT ACL" => self.of_database(Kind::Rights),
            "COMMENT" | "SECURITY LABEL" => self.of_database(Kind::Remark),
            "TABLE DATA"
            | "SEQUENCE SET"
            | "BLOB"
            | "BLOBS"
            | "BLOB METADATA"
            | "BLOB COMMENTS"
            | "MATERIALIZED VIEW DATA"
            | "STATISTICS DATA" => Kind::Rows,
            _ => Kind::Other,
        }
    }

    /// Rights, comments and labels of the database itself are not part of its contents.
    fn of_database(&self, otherwise: Kind) -> Kind {
        if self.name.starts_with("DATABASE ") {
            Kind::Database
        } else {
            otherwise
        }
    }

    /// The owner that it is given; `None` for what belongs to whoever owns something else, as an index does.
    #[must_use]
    pub fn own_owner(&self) -> Option<&str> {
        statement::owner(self).and(self.owner.as_deref())
    }

    /// Whether it is the relation with this object id.
    #[must_use]
    pub fn is_relation(&self, oid: Oid) -> bool {
        self.catalog == PG_CLASS && self.oid == oid
    }

    /// The name of a constraint, trigger and the like without its table's.
    #[must_use]
    pub fn own_name(&self, table: &str) -> &str {
        self.name
            .strip_prefix(table)
            .and_then(|rest| rest.strip_prefix(' '))
            .unwrap_or(&self.name)
    }

    /// What it is and its name, for messages: `foreign key public.orders orders_customer_fkey`.
    #[must_use]
    pub fn display_name(&self) -> String {
        let label = match self.label.as_str() {
            "FK CONSTRAINT" => "foreign key".to_owned(),
            "ACL" => "rights on".to_owned(),
            "COMMENT" => "comment on".to_owned(),
            other => other.to_lowercase(),
        };
        let name = self.name.escape_debug();
        match &self.schema {
            Some(schema) => format!("{label} {}.{name}", schema.escape_debug()),
            None => format!("{label} {name}"),
        }
    }
}
