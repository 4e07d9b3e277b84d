//! What the modules of this crate agree on: positions in the write-ahead log, and the layout of a relation's rows.
//!
//! A row is `key` and `value`. The key is, for each key column in key order, its length (u32 BE) and the bytes of its
//! type's send function; keys are compared byte by byte and never ordered. The value is the tuple as in `COPY … BINARY`: the number
//! of columns (i16 BE), then for each column of [`Layout::columns`] its length (i32 BE, −1 for null) and its bytes. All text is in
//! the encoding of the database, never converted. Generated columns are in neither.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A position in a server's write-ahead log, in bytes since its beginning. Prints as PostgreSQL does: `16/B374D848`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before everything; PostgreSQL's "invalid" position.
    pub const ZERO: Self = Self(0);

    /// Bytes of log from `earlier` to here; zero if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The position `bytes` further on.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not a position in a write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseLsnError;

impl fmt::Display for ParseLsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a position in a write-ahead log, such as 16/B374D848")
    }
}

impl std::error::Error for ParseLsnError {}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let half = |digits: &str| {
            // `from_str_radix` takes a sign, PostgreSQL does not.
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain
                .then(|| u32::from_str_radix(digits, 16).ok())
                .flatten()
                .ok_or(ParseLsnError)
        };
        let (high, low) = text.split_once('/').ok_or(ParseLsnError)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

/// An object id of PostgreSQL's catalogs, valid in one database of one server.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Oid(pub u32);

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The number of the file that holds a relation's rows. A rewrite (`VACUUM FULL`, `TRUNCATE`, most `ALTER … TYPE`) gives a new
/// one. Zero where there is no file (partitioned parents, views, foreign tables).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct FileNode(pub u32);

impl fmt::Display for FileNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A column whose values are stored (not dropped, not generated).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its number in the relation; stays for good, dropped columns leave gaps.
    pub attnum: i16,
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: Oid,
    /// The type's modifier (length, precision), −1 without.
    pub typmod: i32,
    /// The type with its modifier, as PostgreSQL spells it with an empty search path: `character varying(20)`, `app.mood`.
    pub type_name: String,
    /// The collation with its schema, quoted, where it is not the type's default.
    pub collation: Option<String>,
    /// Whether the column is declared `NOT NULL`.
    pub not_null: bool,
    /// Whether values are copied and kept in text form (`column::text`): the type has no binary form, or its binary form holds
    /// numbers of catalog rows that mean nothing elsewhere (`regclass` and its like).
    pub as_text: bool,
}

/// Why the rows of a relation are copied whole under the exact snapshot F.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WholeReason {
    /// No primary key.
    NoKey,
    /// The primary key is deferrable: keys may be double for a while.
    DeferrableKey,
    /// `REPLICA IDENTITY FULL`: changes carry no key of their own.
    IdentityFull,
    /// `REPLICA IDENTITY USING INDEX`: changes carry another key.
    IdentityIndex,
    /// `REPLICA IDENTITY NOTHING`: changes carry no key.
    IdentityNothing,
    /// Unlogged: there are no changes in the log.
    Unlogged,
    /// A configuration table of an extension: only some of its rows are the user's.
    ExtensionConfiguration,
    /// A column's type makes changes come in another form than the copy (`regclass` and its like), or not at all (an array of a type
    /// without binary form).
    ColumnForm,
    /// The role may read the relation but not publish it: it is not its owner.
    NotOwner,
    /// The table's storage is not the built-in heap, so that it has no page ranges.
    AccessMethod,
    /// The member is backed up in snapshot mode: nothing is published.
    SnapshotMode,
}

/// Why only the definition of a relation is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefinitionReason {
    /// Partitioned: the rows are in its partitions.
    Partitioned,
    /// Foreign: the rows are on another server.
    Foreign,
    /// A materialized view: filled again after the restore.
    MaterializedView,
    /// Made by an extension, which makes it again.
    ExtensionMember,
    /// Unlogged, on a standby: its rows are on the primary alone.
    UnloggedOnStandby,
}

/// What is done with the rows of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", content = "why", rename_all = "snake_case")]
pub enum Handling {
    /// Page ranges at different snapshots, made exact by the change stream. The relation is published.
    Keyed,
    /// Copied whole under the exact snapshot F. The relation is not published.
    Whole(WholeReason),
    /// No rows are kept, the definition is.
    Definition(DefinitionReason),
}

impl Handling {
    /// Whether rows of the relation are in a backup.
    #[must_use]
    pub const fn has_rows(self) -> bool {
        !matches!(self, Self::Definition(_))
    }
}

impl fmt::Display for Handling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyed => "page ranges, made exact by its changes",
            Self::Whole(reason) => match reason {
                WholeReason::NoKey => "copied whole: no primary key",
                WholeReason::DeferrableKey => "copied whole: its primary key is deferrable",
                WholeReason::IdentityFull => "copied whole: replica identity full",
                WholeReason::IdentityIndex => "copied whole: replica identity using an index",
                WholeReason::IdentityNothing => "copied whole: replica identity nothing",
                WholeReason::Unlogged => "copied whole: unlogged",
                WholeReason::ExtensionConfiguration => "copied whole: settings of an extension",
                WholeReason::ColumnForm => "copied whole: the form of a column's type",
                WholeReason::NotOwner => "copied whole: the role does not own it",
                WholeReason::AccessMethod => "copied whole: not stored in PostgreSQL's heap",
                WholeReason::SnapshotMode => "copied under the snapshot",
            },
            Self::Definition(reason) => match reason {
                DefinitionReason::Partitioned => "definition only: rows are in its partitions",
                DefinitionReason::Foreign => "definition only: rows are on another server",
                DefinitionReason::MaterializedView => {
                    "definition only: filled again after a restore"
                }
                DefinitionReason::ExtensionMember => "definition only: made by its extension",
                DefinitionReason::UnloggedOnStandby => {
                    "definition only: unlogged, and its rows are on the primary"
                }
            },
        })
    }
}

/// A relation at one moment, and the form that its rows have in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Its identity in its database; names may move, this does not.
    pub oid: Oid,
    /// The schema's name.
    pub schema: String,
    /// Its name in the schema.
    pub name: String,
    /// The file that holds its rows.
    pub file_node: FileNode,
    /// The columns of its rows, by attnum.
    pub columns: Vec<Column>,
    /// The key columns in key order, as indexes into `columns`. Empty where there is no usable key.
    pub key: Vec<usize>,
    /// Names of generated columns (stored or virtual), which are computed again on load.
    pub generated: Vec<String>,
    /// Which rows are the user's, as a condition in SQL: for configuration tables of extensions.
    pub filter: Option<String>,
    /// What is done with its rows.
    pub handling: Handling,
}

impl Layout {
    /// Whether the relation belongs into the publication: its changes make its page ranges exact.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.handling == Handling::Keyed
    }

    /// The key columns in key order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|index| self.columns.get(*index))
    }

    /// The schema and name, for messages: `public.orders`.
    #[must_use]
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Whether rows of `other` have the same form and the same key: the same columns by attnum, with equal types and forms.
    /// Names may differ.
    #[must_use]
    pub fn same_form(&self, other: &Self) -> bool {
        let form = |column: &Column| {
            (
                column.attnum,
                column.type_oid,
                column.typmod,
                column.as_text,
            )
        };
        self.key == other.key
            && self
                .columns
                .iter()
                .map(form)
                .eq(other.columns.iter().map(form))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_print_so_that_they_can_be_read_back(position: u64) {
            prop_assert_eq!(Lsn(position).to_string().parse(), Ok(Lsn(position)));
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "1/2/3",
            "G/0",
            "+1/0",
            "100000000/0",
            "0/100000000",
        ] {
            assert_eq!(text.parse::<Lsn>(), Err(ParseLsnError), "{text}");
        }
        assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
    }
}
