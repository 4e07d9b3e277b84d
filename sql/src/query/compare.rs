//! How values compare.

use std::cmp::Ordering;

use crate::error::{SqlError, state};
use crate::rows::{ColumnType, Value};
use crate::times::{parse_interval, parse_time};

/// The type of a value; `None` of NULL.
pub(super) fn type_of(value: &Value) -> Option<ColumnType> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some(ColumnType::Bool),
        Value::Int(_) => Some(ColumnType::Int),
        Value::Float(_) => Some(ColumnType::Float),
        Value::Text(_) => Some(ColumnType::Text),
        Value::Time(_) => Some(ColumnType::Time),
        Value::Interval(_) => Some(ColumnType::Interval),
        Value::Json(_) => Some(ColumnType::Json),
        Value::TextArray(_) => Some(ColumnType::TextArray),
    }
}

/// A type's name, for errors.
pub(super) fn name_of(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Bool => "bool",
        ColumnType::Int => "int8",
        ColumnType::Float => "float8",
        ColumnType::Text => "text",
        ColumnType::Time => "timestamptz",
        ColumnType::Interval => "interval",
        ColumnType::Json => "jsonb",
        ColumnType::TextArray => "text[]",
    }
}

/// A text as a value of a type.
pub(super) fn read_as(text: &str, kind: ColumnType) -> Result<Value, SqlError> {
    let trimmed = text.trim();
    let value = match kind {
        ColumnType::Text => Some(Value::text(text)),
        ColumnType::Bool => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "on" | "yes" | "1" => Some(Value::Bool(true)),
            "f" | "false" | "off" | "no" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        ColumnType::Int => trimmed.parse().ok().map(Value::Int),
        ColumnType::Float => trimmed.parse().ok().map(Value::Float),
        ColumnType::Time => parse_time(trimmed).map(Value::Time),
        ColumnType::Interval => parse_interval(trimmed).map(Value::Interval),
        ColumnType::Json | ColumnType::TextArray => None,
    };
    value.ok_or_else(|| {
        SqlError::new(
            state::INVALID_TEXT,
            format!(
                "invalid input syntax for type {}: \"{}\"",
                name_of(kind),
                text.escape_debug()
            ),
        )
    })
}

/// Compares; `None` if one of both is NULL. A text beside another type is read as that type.
pub(super) fn compare(left: &Value, right: &Value) -> Result<Option<Ordering>, SqlError> {
    let (Some(left_type), Some(right_type)) = (type_of(left), type_of(right)) else {
        return Ok(None);
    };
    let read;
    let (left, right) = match (left, right) {
        (Value::Text(text), _) if right_type != ColumnType::Text => {
            read = read_as(text, right_type)?;
            (&read, right)
        }
        (_, Value::Text(text)) if left_type != ColumnType::Text => {
            read = read_as(text, left_type)?;
            (left, &read)
        }
        both => both,
    };
    let ordering = match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::Float(left), Value::Float(right)) => left.total_cmp(right),
        (Value::Int(left), Value::Float(right)) => (*left as f64).total_cmp(right),
        (Value::Float(left), Value::Int(right)) => left.total_cmp(&(*right as f64)),
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Time(left), Value::Time(right)) => left.cmp(right),
        (Value::Interval(left), Value::Interval(right)) => left.cmp(right),
        (Value::Json(left), Value::Json(right)) => left.cmp(right),
        (Value::TextArray(left), Value::TextArray(right)) => left.cmp(right),
        _ => {
            return Err(SqlError::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "values of type {} and {} cannot be compared",
                    name_of(left_type),
                    name_of(right_type)
                ),
            ));
        }
    };
    Ok(Some(ordering))
}

/// An order of all values of one column, NULL last.
pub(super) fn order(left: &Value, right: &Value) -> Ordering {
    match (left.is_null(), right.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        // Values of one column are of one type.
        (false, false) => compare(left, right)
            .ok()
            .flatten()
            .unwrap_or(Ordering::Equal),
    }
}
