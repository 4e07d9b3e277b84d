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
pub(crate) fn tuple(number: u64, balance: u64, ballast: Option<&[u8]>) -> Result<Tuple, Fault> {
    let (number, balance) = (number.to_be_bytes(), balance.to_be_bytes());
    let fields = [
        Field::Value(&number),
        Field::Value(&balance),
        ballast.map_or(Field::Unchanged, Field::Value),
    ];
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
        ] => match (number(key), number(balance)) {
            (Some(key), Some(balance)) => Ok((
                key,
                ModelRow {
                    balance,
                    ballast: ballast.to_vec(),
                },
            )),
            _ => Err(malformed()),
        },
        _ => Err(malformed()),
    }
}

fn malformed() -> Fault {
    Fault::new(ErrorCode::Corrupted, "a row is not one of the model's")
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
