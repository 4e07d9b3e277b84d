//! The forms of a table's columns in one database.

use super::shape::Shape;
use crate::answer::ask;
use crate::identifier::{Spelling, literal, qualified};
use crate::key::key_into;
use crate::layout::Layout;
use crate::session::Session;
use crate::tuple::{Field, Tuple, fields_of};
use holdfast_types::{ErrorCode, Fault, RowSum};
use std::collections::{BTreeMap, BTreeSet};

/// How deep types are followed; PostgreSQL lets no type contain itself.
const MOST_DEPTH: u32 = 32;

/// A type as the catalog has it: what it is made of.
#[derive(Debug, Clone)]
struct Made {
    how: char,
    of: Vec<u32>,
}

/// How the rows of a table are added up: which of their columns carry numbers of types, and which are the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowForms {
    shapes: Vec<Shape>,
    key: Vec<usize>,
}

impl RowForms {
    /// Reads the forms of a table in the session's database. Rows that come from another database have the same ones.
    ///
    /// # Errors
    /// `NotFound` if a column of the layout is missing; what the server says.
    pub async fn read(
        session: &Session,
        layout: &Layout,
        schema: &str,
        table: &str,
    ) -> Result<Self, Fault> {
        let context = "cannot read the forms of columns";
        let spelling = session.spelling();
        let names: Vec<String> = layout
            .columns
            .iter()
            .enumerate()
            .map(|(number, column)| format!("({number}, {})", text(spelling, &column.name)))
            .collect();
        if names.is_empty() {
            return Ok(Self::plain(layout));
        }
        let sql = format!(
            "SELECT c.number, a.atttypid FROM (VALUES {}) AS c(number, name) \
             JOIN pg_catalog.pg_attribute AS a ON a.attname = c.name::pg_catalog.name \
             WHERE a.attrelid = {}::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped",
            names.join(", "),
            text(spelling, &qualified(schema, table))
        );
        let mut of_column: BTreeMap<usize, u32> = BTreeMap::new();
        for row in ask(session, context, &sql).await? {
            of_column.insert(row.number(0)?, row.oid(1)?.0);
        }
        let types = made_of(session, of_column.values().copied().collect()).await?;
        let mut shapes = Vec::new();
        for (number, column) in layout.columns.iter().enumerate() {
            let oid = of_column.get(&number).ok_or_else(|| {
                Fault::new(
                    ErrorCode::NotFound,
                    format!(
                        "{}.{} has no column {}",
                        schema.escape_debug(),
                        table.escape_debug(),
                        column.name.escape_debug()
                    ),
                )
            })?;
            shapes.push(if column.as_text {
                Shape::Plain
            } else {
                shape(*oid, &types, 0)
            });
        }
        Ok(Self {
            shapes,
            key: layout.key.clone(),
        })
    }

    fn plain(layout: &Layout) -> Self {
        Self {
            shapes: vec![Shape::Plain; layout.columns.len()],
            key: layout.key.clone(),
        }
    }

    /// Adds a row to a sum: by its key, empty without one, and its values.
    ///
    /// # Errors
    /// `Corrupted` if the row has not this form.
    pub fn add(&self, sum: &mut RowSum, row: &Tuple) -> Result<(), Fault> {
        self.add_checked(sum, row.bytes(), &mut Vec::new())
    }

    /// As [`add`](Self::add), for the bytes of a tuple that was checked; `key` is a buffer.
    ///
    /// # Errors
    /// `Corrupted` if the row has not this form.
    pub(crate) fn add_checked(
        &self,
        sum: &mut RowSum,
        row: &[u8],
        key: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if self.shapes.iter().all(Shape::is_plain) {
            return self.add_plain(sum, row, key);
        }
        let malformed = || {
            Fault::new(
                ErrorCode::Corrupted,
                "a value has not the form of its column's type",
            )
        };
        let mut values = Vec::with_capacity(self.shapes.len());
        for (field, shape) in fields_of(row).zip(&self.shapes) {
            values.push(match field {
                Field::Value(value) => Some(shape.neutral(value).ok_or_else(malformed)?),
                Field::Null => None,
                Field::Unchanged => return Err(malformed()),
            });
        }
        let fields = values.iter().map(|value| match value {
            Some(bytes) => Field::Value(bytes),
            None => Field::Null,
        });
        self.add_plain(sum, Tuple::build(fields)?.bytes(), key)
    }

    fn add_plain(&self, sum: &mut RowSum, row: &[u8], key: &mut Vec<u8>) -> Result<(), Fault> {
        key.clear();
        if !self.key.is_empty() {
            key_into(row, &self.key, key)?;
        }
        sum.add(key, row);
        Ok(())
    }
}

/// A text in single quotes, also in a session whose statements are not read as UTF-8.
fn text(spelling: Spelling, value: &str) -> String {
    if spelling == Spelling::Direct || value.is_ascii() {
        return literal(value);
    }
    let escaped: String = value
        .chars()
        .map(|letter| match letter {
            '\'' => "''".to_owned(),
            '\\' => "\\\\".to_owned(),
            _ if letter.is_ascii() => letter.to_string(),
            _ => format!("\\+{:06X}", u32::from(letter)),
        })
        .collect();
    format!("U&'{escaped}'")
}

/// What types are made of, and what those are made of, and so on.
async fn made_of(session: &Session, start: BTreeSet<u32>) -> Result<BTreeMap<u32, Made>, Fault> {
    let mut known: BTreeMap<u32, Made> = BTreeMap::new();
    let mut open = start;
    while !open.is_empty() {
        let list: Vec<String> = open.iter().map(ToString::to_string).collect();
        let sql = format!(
            "SELECT t.oid, CASE WHEN t.typtype = 'b' AND t.typsend = 'pg_catalog.array_send'::pg_catalog.regproc THEN 'a' \
               ELSE t.typtype END, \
             CASE t.typtype WHEN 'd' THEN t.typbasetype::text \
               WHEN 'r' THEN (SELECT rngsubtype::text FROM pg_catalog.pg_range WHERE rngtypid = t.oid) \
               WHEN 'm' THEN (SELECT rngtypid::text FROM pg_catalog.pg_range WHERE rngmultitypid = t.oid) \
               WHEN 'c' THEN (SELECT string_agg(a.atttypid::text, ' ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute AS a \
                 WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) \
               ELSE t.typelem::text END \
             FROM pg_catalog.pg_type AS t WHERE t.oid IN ({})",
            list.join(", ")
        );
        let mut next = BTreeSet::new();
        for row in ask(session, "cannot read types", &sql).await? {
            let of: Vec<u32> = row
                .text(2)
                .split_whitespace()
                .filter_map(|oid| oid.parse().ok())
                .collect();
            let made = Made {
                how: row.text(1).chars().next().unwrap_or('b'),
                of,
            };
            if matches!(made.how, 'a' | 'c' | 'd' | 'm' | 'r') {
                next.extend(made.of.iter().copied());
            }
            known.insert(row.oid(0)?.0, made);
        }
        open = next
            .into_iter()
            .filter(|oid| !known.contains_key(oid))
            .collect();
    }
    Ok(known)
}

fn shape(oid: u32, types: &BTreeMap<u32, Made>, depth: u32) -> Shape {
    let Some(made) = types.get(&oid).filter(|_| depth < MOST_DEPTH) else {
        return Shape::Plain;
    };
    let mut parts = made.of.iter().map(|oid| shape(*oid, types, depth + 1));
    let mut part = || parts.next().unwrap_or(Shape::Plain);
    match made.how {
        'a' => Shape::Array(Box::new(part())),
        'c' => Shape::Record(parts.collect()),
        'd' => part(),
        // Without numbers in its bounds a range has none.
        'r' => match part() {
            Shape::Plain => Shape::Plain,
            bound => Shape::Range(Box::new(bound)),
        },
        'm' => match part() {
            Shape::Plain => Shape::Plain,
            range => Shape::Multirange(Box::new(range)),
        },
        _ => Shape::Plain,
    }
}
