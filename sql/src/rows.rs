//! Rows: what statements give.

use holdfast_types::Timestamp;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Bool,
    Int,
    Float,
    Text,
    /// An instant.
    Time,
    /// A time span.
    Interval,
    Json,
    TextArray,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: ColumnType,
}

impl Column {
    pub(crate) fn new(name: impl Into<String>, kind: ColumnType) -> Self {
        Self {
            name: name.into(),
            kind,
        }
    }
}

/// Columns by name and type.
pub(crate) fn columns(list: &[(&str, ColumnType)]) -> Vec<Column> {
    let column = |(name, kind): &(&str, ColumnType)| Column::new(*name, *kind);
    list.iter().map(column).collect()
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Time(Timestamp),
    /// In microseconds.
    Interval(i64),
    /// As text.
    Json(String),
    TextArray(Vec<String>),
}

impl Value {
    /// A text; NULL if it is empty, as the protocol says "none".
    pub(crate) fn some_text(text: impl Into<String>) -> Self {
        match text.into() {
            text if text.is_empty() => Self::Null,
            text => Self::Text(text),
        }
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A count; as far as the type goes.
    pub(crate) fn count(count: impl TryInto<i64>) -> Self {
        Self::Int(count.try_into().unwrap_or(i64::MAX))
    }

    /// A time of the protocol: RFC 3339, or nothing.
    pub(crate) fn time(text: &str) -> Self {
        text.parse().map_or(Self::Null, Self::Time)
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// Rows of one shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Rows {
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row; it has a value for each column.
    pub(crate) fn push(&mut self, row: Vec<Value>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }
}
