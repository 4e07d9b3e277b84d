//! Reads the table of contents of an archive in pg_dump's custom format.
//!
//! `pg_restore -l` prints the same, but with line breaks in names replaced, without dependencies and without the statements. Here
//! names are exact, every object runs as its own transaction over our own connection, and nothing is ever passed to `psql`.

use super::entry::{Entry, EntryId, Section};
use crate::layout::Oid;
use holdfast_types::{ErrorCode, Fault};

/// The first bytes of every archive.
const MAGIC: &[u8] = b"PGDMP";

/// Most entries that an archive may say it has: guards the memory against a damaged count.
const MOST_ENTRIES: usize = 10_000_000;

/// The custom format among pg_dump's formats.
const FORMAT_CUSTOM: u8 = 1;

/// Archive format of PostgreSQL 12, which knows access methods of tables.
const VERSION_ACCESS_METHOD: u32 = version(1, 14);

/// Archive format of PostgreSQL 16, which names the compression.
const VERSION_COMPRESSION: u32 = version(1, 15);

/// Archive format of PostgreSQL 17, which says the kind of each relation.
const VERSION_RELATION_KIND: u32 = version(1, 16);

const fn version(major: u8, minor: u8) -> u32 {
    (major as u32) << 8 | minor as u32
}

/// A schema as pg_dump wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The database that was dumped.
    pub database: String,
    /// The version of its server, as that reports it.
    pub server_version: String,
    /// The version of the pg_dump that wrote it.
    pub dump_version: String,
    /// The objects, in an order in which they can be made.
    pub entries: Vec<Entry>,
}

impl Archive {
    /// Reads the table of contents.
    ///
    /// # Errors
    /// `Corrupted` if it is cut off or not an archive; `Unsupported` if it is of another format, or not in UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::open(bytes)?;
        for _ in 0..7 {
            // The time of the dump, by the client's clock: seconds to years, and summer time.
            reader.int()?;
        }
        let database = reader.text()?.unwrap_or_default();
        let server_version = reader.text()?.unwrap_or_default();
        let dump_version = reader.text()?.unwrap_or_default();
        let count = reader.int()?;
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= MOST_ENTRIES)
            .ok_or_else(|| damaged("an impossible number of entries"))?;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(reader.entry()?);
        }
        Ok(Self {
            database,
            server_version,
            dump_version,
            entries,
        })
    }

    /// The entry with a number.
    #[must_use]
    pub fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }
}

fn damaged(what: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("the schema archive is damaged: {what}"),
    )
}

struct Reader<'a> {
    rest: &'a [u8],
    version: u32,
    int_size: usize,
    offset_size: usize,
}

impl<'a> Reader<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| damaged("it does not begin as one"))?;
        let mut reader = Self {
            rest,
            version: 0,
            int_size: 0,
            offset_size: 0,
        };
        let (major, minor, _revision) = (reader.byte()?, reader.byte()?, reader.byte()?);
        reader.version = version(major, minor);
        if !(VERSION_ACCESS_METHOD..=VERSION_RELATION_KIND).contains(&reader.version) {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                format!("the schema archive is of format {major}.{minor}"),
            )
            .hint("formats 1.14 to 1.16 are read: use pg_dump of PostgreSQL 14 to 18"));
        }
        reader.int_size = usize::from(reader.byte()?);
        reader.offset_size = usize::from(reader.byte()?);
        if !(1..=8).contains(&reader.int_size) || !(1..=8).contains(&reader.offset_size) {
            return Err(damaged("impossible sizes of numbers"));
        }
        if reader.byte()? != FORMAT_CUSTOM {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                "the schema archive is not in pg_dump's custom format",
            ));
        }
        if reader.version >= VERSION_COMPRESSION {
            reader.byte()?;
        } else {
            reader.int()?;
        }
        Ok(reader)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| damaged("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    /// A sign and the magnitude, least byte first.
    fn int(&mut self) -> Result<i32, Fault> {
        let negative = self.byte()? != 0;
        let size = self.int_size;
        let magnitude = self
            .take(size)?
            .iter()
            .rev()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let magnitude = i32::try_from(magnitude).map_err(|_| damaged("a number too large"))?;
        Ok(if negative { -magnitude } else { magnitude })
    }

    fn text(&mut self) -> Result<Option<String>, Fault> {
        let Ok(length) = usize::try_from(self.int()?) else {
            return Ok(None);
        };
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(Fault::new(
                ErrorCode::Unsupported,
                "a name or definition in the schema is not valid UTF-8",
            )
            .hint("rename the object: in a SQL_ASCII database names can hold any bytes")),
        }
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<Option<T>, Fault> {
        self.text()?
            .map(|text| text.parse().map_err(|_| damaged("not a number")))
            .transpose()
    }

    fn entry(&mut self) -> Result<Entry, Fault> {
        let id = self.int()?;
        let _has_rows = self.int()?;
        let catalog = Oid(self.number()?.unwrap_or_default());
        let oid = Oid(self.number()?.unwrap_or_default());
        let name = self.text()?.unwrap_or_default();
        let label = self.text()?.unwrap_or_default();
        let section = match self.int()? {
            2 => Section::Before,
            3 => Section::Rows,
            4 => Section::After,
            _ => Section::None,
        };
        let definition = self.text()?.unwrap_or_default();
        let drop = self.text()?.unwrap_or_default();
        let _copy = self.text()?;
        let schema = self.text()?.filter(|name| !name.is_empty());
        let tablespace = self.text()?;
        let access_method = self.text()?.filter(|name| !name.is_empty());
        let relation_kind = if self.version >= VERSION_RELATION_KIND {
            let kind = self.int()?;
            u8::try_from(kind)
                .ok()
                .filter(|kind| *kind != 0)
                .map(char::from)
        } else {
            None
        };
        let owner = self.text()?.filter(|name| !name.is_empty());
        let _with_oids = self.text()?;
        let mut needs = Vec::new();
        while let Some(need) = self.number::<EntryId>()? {
            needs.push(need);
        }
        needs.sort_unstable();
        needs.dedup();
        let _data_state = self.byte()?;
        let offset_size = self.offset_size;
        self.take(offset_size)?;
        Ok(Entry {
            id,
            catalog,
            oid,
            name,
            label,
            section,
            definition,
            drop,
            schema,
            tablespace,
            access_method,
            relation_kind,
            owner,
            needs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn int(value: i32) -> Vec<u8> {
        let mut bytes = vec![u8::from(value < 0)];
        bytes.extend(value.unsigned_abs().to_le_bytes());
        bytes
    }

    fn text(value: &str) -> Vec<u8> {
        let mut bytes = int(i32::try_from(value.len()).expect("short"));
        bytes.extend(value.as_bytes());
        bytes
    }

    /// An archive of one table, as pg_dump of the given format writes it.
    fn archive(minor: u8) -> Vec<u8> {
        let mut bytes = b"PGDMP\x01".to_vec();
        bytes.extend([minor, 0, 4, 8, 1]);
        if minor >= 15 {
            bytes.push(0);
        } else {
            bytes.extend(int(-1));
        }
        for part in [1, 2, 3, 4, 5, 126, 0] {
            bytes.extend(int(part));
        }
        ["shop", "15.18", "16.1"]
            .iter()
            .for_each(|name| bytes.extend(text(name)));
        bytes.extend(int(1));
        bytes.extend(int(7));
        bytes.extend(int(0));
        for value in ["1259", "16400", "or\n\"ders", "TABLE"] {
            bytes.extend(text(value));
        }
        bytes.extend(int(2));
        for value in ["CREATE TABLE …;\n", "DROP TABLE …;\n"] {
            bytes.extend(text(value));
        }
        bytes.extend(int(-1));
        bytes.extend(text("public"));
        bytes.extend(text(""));
        bytes.extend(text("heap"));
        if minor >= 16 {
            bytes.extend(int(i32::from(b'r')));
        }
        for value in ["alice", "false", "3", "2", "3"] {
            bytes.extend(text(value));
        }
        bytes.extend(int(-1));
        bytes.extend([3, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn the_formats_of_14_to_18_are_read() {
        for minor in 14..=16 {
            let archive = Archive::parse(&archive(minor)).expect("well-formed");
            assert_eq!(archive.database, "shop");
            let [entry] = archive.entries.as_slice() else {
                panic!("one entry expected");
            };
            assert_eq!(
                (entry.id, entry.name.as_str(), entry.needs.as_slice()),
                (7, "or\n\"ders", [2, 3].as_slice())
            );
            assert_eq!(entry.relation_kind, (minor >= 16).then_some('r'));
            assert!(entry.is_relation(Oid(16400)));
        }
    }

    #[test]
    fn newer_and_older_formats_are_refused_by_name() {
        for minor in [13, 17] {
            let fault = Archive::parse(&archive(minor)).expect_err("refused");
            assert_eq!(fault.code, ErrorCode::Unsupported);
            assert!(fault.message.contains(&format!("1.{minor}")), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn cut_or_damaged_archives_never_panic(cut in 0usize..300, at in 0usize..300, byte: u8) {
            let mut bytes = archive(16);
            let length = bytes.len();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = Archive::parse(&bytes);
            if cut < length {
                prop_assert!(Archive::parse(&archive(16)[..cut]).is_err());
            }
        }
    }
}
