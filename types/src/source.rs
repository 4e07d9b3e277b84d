//! Sources, their members, and what is in them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::error::{ErrorCode, Fault};
use crate::ids::{MemberName, RelationId, SourceName};
use crate::locality::Locality;
use crate::position::PositionKind;
use crate::seal::Sealed;
use crate::time::Timestamp;

/// The kind of database that a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SourceKind {
    /// The embedded multi-version store.
    Mvcc,
    /// PostgreSQL servers.
    Postgres,
}

impl SourceKind {
    /// What the positions of its members are.
    #[must_use]
    pub const fn position_kind(self) -> PositionKind {
        match self {
            Self::Mvcc => PositionKind::Hlc,
            Self::Postgres => PositionKind::Lsn,
        }
    }

    /// Whether its history is a log: it cannot be read as of the past, and knows where a backup ends only when it is there. What a
    /// backup of it consists of is settled at its end, database by database.
    #[must_use]
    pub const fn is_logged(self) -> bool {
        match self {
            Self::Mvcc => false,
            Self::Postgres => true,
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mvcc => "mvcc",
            Self::Postgres => "postgres",
        })
    }
}

impl FromStr for SourceKind {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self, Fault> {
        match text {
            "mvcc" => Ok(Self::Mvcc),
            "postgres" => Ok(Self::Postgres),
            other => Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("unknown kind of source \"{}\"", other.escape_debug()),
            )
            .hint("the kinds are mvcc and postgres")),
        }
    }
}

/// One server of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Its name, unique in the source.
    pub name: MemberName,
    /// Where it is; its data is read and written by workers there.
    pub locality: Locality,
    /// How workers reach it: `host:port` for `mvcc`, a connection string without password for `postgres`.
    pub address: String,
    /// Its password, sealed with the cluster key for this address.
    pub secret: Option<Sealed>,
    /// What backups may take of it.
    #[serde(default)]
    pub limits: MemberLimits,
}

/// Bounds of what backups take of a member. `None`: what is usual for its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemberLimits {
    /// Streams of data that one worker reads at once: a session each.
    #[serde(default)]
    pub streams: Option<u32>,
    /// Bytes of rows that one worker reads a second.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
    /// Bytes of log that a hold may keep on the member's disk before it is given up.
    #[serde(default)]
    pub wal_budget: Option<u64>,
}

/// A registered source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Its name, unique in the cluster.
    pub name: SourceName,
    /// What it is.
    pub kind: SourceKind,
    /// Its members, in the order of their names.
    pub members: Vec<MemberRecord>,
    /// When it was registered.
    pub registered_at: Timestamp,
}

/// The name of a database in a source.
pub type DatabaseName = String;

/// A table, qualified by its database. Prints as `database.table`.
///
/// With an empty `table` it names the database itself, and prints as the database: see [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The database.
    pub database: DatabaseName,
    /// The table in it.
    pub table: String,
}

impl TableName {
    /// The name of a database itself.
    #[must_use]
    pub fn of_database(database: impl Into<DatabaseName>) -> Self {
        Self {
            database: database.into(),
            table: String::new(),
        }
    }

    /// Whether it names a database itself, and no table in it.
    #[must_use]
    pub fn is_database(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether it stands for many tables: `database.*`, or, where tables are in schemas, `database.schema.*`.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.prefix().is_some()
    }

    /// Whether it is a table, or stands for it. A pattern also stands for a narrower one, and for no database itself.
    #[must_use]
    pub fn covers(&self, name: &Self) -> bool {
        if self == name {
            return true;
        }
        let is_of = |prefix: &str| !name.is_database() && name.table.starts_with(prefix);
        self.database == name.database && self.prefix().is_some_and(is_of)
    }

    /// How the tables that a pattern stands for begin.
    fn prefix(&self) -> Option<&str> {
        let prefix = self.table.strip_suffix('*')?;
        (prefix.is_empty() || prefix.ends_with('.')).then_some(prefix)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_database() {
            return f.write_str(&self.database);
        }
        write!(f, "{}.{}", self.database, self.table)
    }
}

impl FromStr for TableName {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self, Fault> {
        match text.split_once('.') {
            Some((database, table)) if !database.is_empty() && !table.is_empty() => Ok(Self {
                database: database.to_owned(),
                table: table.to_owned(),
            }),
            _ => Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "table \"{}\" must be written as database.table",
                    text.escape_debug()
                ),
            )),
        }
    }
}

/// What a backup or restore covers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Target {
    /// Everything in the source.
    #[default]
    Source,
    /// Whole databases: later layers may gain or lose tables freely.
    Databases(Vec<DatabaseName>),
    /// Single tables, and patterns ([`TableName::is_pattern`]): later layers may gain or lose tables that these stand for.
    Tables(Vec<TableName>),
}

impl Target {
    /// Whether a table, or all that a pattern stands for, is covered.
    #[must_use]
    pub fn covers(&self, name: &TableName) -> bool {
        match self {
            Self::Source => true,
            Self::Databases(databases) => databases.contains(&name.database),
            Self::Tables(tables) => tables.iter().any(|table| table.covers(name)),
        }
    }

    /// A pattern in it, if there is one.
    #[must_use]
    pub fn pattern(&self) -> Option<&TableName> {
        match self {
            Self::Source | Self::Databases(_) => None,
            Self::Tables(tables) => tables.iter().find(|table| table.is_pattern()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: Vec<String>| names.join(", ");
        match self {
            Self::Source => f.write_str("the whole source"),
            Self::Databases(names) => write!(f, "DATABASE {}", names.join(", ")),
            Self::Tables(names) => {
                write!(
                    f,
                    "TABLE {}",
                    list(names.iter().map(ToString::to_string).collect())
                )
            }
        }
    }
}

/// A relation as a member describes it at a position.
///
/// A database itself is one too, without rows, under a name without a table: so layers hold databases that have no tables, and restores make
/// them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Relation {
    /// The member's number for it. A table that was dropped and made again has a new one.
    pub id: RelationId,
    /// Its name at that position.
    pub name: TableName,
    /// When it was created: an incremental reads a relation created in its window from the beginning.
    pub created_at: crate::position::Position,
    /// When it was dropped, if that lies before the end of what the description covers: a layer with history also lists the
    /// relations that were dropped in its window. `None` while it exists.
    pub dropped_at: Option<crate::position::Position>,
    /// Definition in the source's own terms, opaque to everything but the source.
    pub definition: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> TableName {
        text.parse().expect("a table")
    }

    #[test]
    fn patterns_stand_for_tables_and_for_narrower_patterns() {
        let cases = [
            ("shop.*", "shop.orders", true),
            ("shop.*", "shop.public.orders", true),
            ("shop.*", "shop.public.*", true),
            ("shop.*", "shop.*", true),
            ("shop.*", "bank.orders", false),
            ("shop.public.*", "shop.public.orders", true),
            ("shop.public.*", "shop.publicity.orders", false),
            ("shop.public.*", "shop.orders", false),
            ("shop.public.*", "shop.*", false),
            ("shop.public.orders", "shop.public.orders", true),
            ("shop.public.orders", "shop.public.*", false),
            // A star anywhere else is a name's.
            ("shop.ord*", "shop.orders", false),
            ("shop.ord*", "shop.ord*", true),
        ];
        for (pattern, name, expected) in cases {
            let target = Target::Tables(vec![table("x.y"), table(pattern)]);
            assert_eq!(target.covers(&table(name)), expected, "{pattern} {name}");
        }
        assert!(table("shop.*").is_pattern() && table("shop.public.*").is_pattern());
        assert!(!table("shop.public.orders").is_pattern() && !table("shop.ord*").is_pattern());
        let whole = TableName::of_database("shop");
        assert!(!Target::Tables(vec![table("shop.*")]).covers(&whole));
        assert!(Target::Databases(vec!["shop".into()]).covers(&whole));
        assert!(Target::Databases(vec!["shop".into()]).covers(&table("shop.public.*")));
    }

    #[test]
    fn a_target_says_whether_it_has_a_pattern() {
        let target =
            |names: &[&str]| Target::Tables(names.iter().map(|name| table(name)).collect());
        let found = target(&["a.b", "a.c.*"]);
        assert_eq!(found.pattern(), Some(&table("a.c.*")));
        assert_eq!(target(&["a.b"]).pattern(), None);
        assert_eq!(Target::Source.pattern(), None);
    }
}
