//! Rows and tables of the model, in the forms of production code.

use holdfast_postgres::key::Key;
use holdfast_postgres::layout::{Column, FileNode, Handling, Layout, Oid};
use holdfast_postgres::tuple::{Field, Tuple};
use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeMap;

/// A row: what it holds, and the big value that updates need not log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelRow {
    /// What the account holds.
    pub(crate) balance: u64,
    /// The big value.
    pub(crate) ballast: Vec<u8>,
    /// What is in columns that were added later, in their order.
    pub(crate) extra: Vec<u64>,
}

/// Rows of the tables, by table and key.
pub(crate) type Rows = BTreeMap<Oid, BTreeMap<u64, ModelRow>>;

fn column(attnum: i16, name: &str, type_oid: u32, type_name: &str) -> Column {
    Column {
        attnum,
        name: name.to_owned(),
        type_oid: Oid(type_oid),
        typmod: -1,
        type_name: type_name.to_owned(),
        collation: None,
        not_null: true,
        as_text: false,
    }
}

/// The number of the database in which all tables are.
pub(crate) const DATABASE_OID: Oid = Oid(16_384);

/// The key of a row.
pub(crate) fn key(number: u64) -> Result<Key, Fault> {
    Key::join(&[Some(&number.to_be_bytes())])
}

/// A row as the log or a page has it.
pub(crate) fn tuple(
    number: u64,
    balance: u64,
    ballast: Option<&[u8]>,
    extra: &[u64],
) -> Result<Tuple, Fault> {
    let (number, balance) = (number.to_be_bytes(), balance.to_be_bytes());
    let extra: Vec<_> = extra.iter().map(|value| value.to_be_bytes()).collect();
    let mut fields = vec![
        Field::Value(&number),
        Field::Value(&balance),
        ballast.map_or(Field::Unchanged, Field::Value),
    ];
    fields.extend(extra.iter().map(|value| Field::Value(value)));
    Tuple::build(fields.into_iter())
}

/// A whole row from a tuple.
pub(crate) fn row(tuple: &Tuple) -> Result<(u64, ModelRow), Fault> {
    let fields: Vec<_> = tuple.fields().collect();
    let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    match fields.as_slice() {
        [
            Field::Value(key),
            Field::Value(balance),
            Field::Value(ballast),
            extra @ ..,
        ] => {
            let value = |field: &Field<'_>| match field {
                Field::Value(bytes) => number(bytes),
                _ => None,
            };
            let extra: Option<Vec<u64>> = extra.iter().map(value).collect();
            match (number(key), number(balance), extra) {
                (Some(key), Some(balance), Some(extra)) => {
                    let ballast = ballast.to_vec();
                    let row = ModelRow {
                        balance,
                        ballast,
                        extra,
                    };
                    Ok((key, row))
                }
                _ => Err(malformed()),
            }
        }
        _ => Err(malformed()),
    }
}

fn malformed() -> Fault {
    Fault::new(ErrorCode::Corrupted, "a row is not one of the model's")
}

/// Columns that every table has for good.
pub(super) const COLUMNS: usize = 3;

/// A column that is added later.
pub(super) fn extra_column(attnum: i16) -> Column {
    column(attnum, &format!("extra_{attnum}"), 20, "bigint")
}

/// How a table is made.
pub(super) fn layout(oid: Oid, name: &str) -> Layout {
    Layout {
        oid,
        schema: "public".to_owned(),
        name: name.to_owned(),
        file_node: FileNode(oid.0),
        columns: vec![
            column(1, "id", 20, "bigint"),
            column(2, "balance", 20, "bigint"),
            column(3, "ballast", 17, "bytea"),
        ],
        key: vec![0],
        generated: Vec::new(),
        filter: None,
        handling: Handling::Keyed,
    }
}
