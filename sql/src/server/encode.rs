//! Rows as messages.

use bytes::{BufMut, BytesMut};
use pgwire::messages::data::{DataRow, FieldDescription, RowDescription};
use postgres_protocol::IsNull;
use postgres_protocol::types;

use super::parameters::{EPOCH, oid};
use crate::error::{SqlError, state};
use crate::rows::{Column, ColumnType, Value};
use crate::times::{show_interval, show_time};

/// In which format a client wants each column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Formats(Vec<i16>);

impl Formats {
    /// From what Bind says: nothing is text, one is for all.
    pub(super) fn new(codes: Vec<i16>) -> Self {
        Self(codes)
    }

    /// Whether they fit so many columns.
    ///
    /// # Errors
    /// They are of another number, or no formats.
    pub(super) fn check(&self, columns: usize) -> Result<(), SqlError> {
        let fits = self.0.len() <= 1 || self.0.len() == columns;
        if !fits || self.0.iter().any(|code| !matches!(code, 0 | 1)) {
            return Err(SqlError::new(
                state::PROTOCOL_VIOLATION,
                format!(
                    "bind message has {} result formats, and the statement gives {columns} columns",
                    self.0.len()
                ),
            ));
        }
        Ok(())
    }

    fn code(&self, column: usize) -> i16 {
        match self.0.as_slice() {
            [] => 0,
            [all] => *all,
            codes => codes.get(column).copied().unwrap_or(0),
        }
    }
}

/// A type's number, and its length if all its values have one.
fn type_of(kind: ColumnType) -> (u32, i16) {
    match kind {
        ColumnType::Bool => (oid::BOOL, 1),
        ColumnType::Int => (oid::INT8, 8),
        ColumnType::Float => (oid::FLOAT8, 8),
        ColumnType::Text => (oid::TEXT, -1),
        ColumnType::Time => (oid::TIMESTAMPTZ, 8),
        ColumnType::Interval => (oid::INTERVAL, 16),
        ColumnType::Json => (oid::JSONB, -1),
        ColumnType::TextArray => (oid::TEXT_ARRAY, -1),
    }
}

/// What a client is told of the columns.
pub(super) fn description(columns: &[Column], formats: &Formats) -> RowDescription {
    let fields = columns.iter().enumerate().map(|(index, column)| {
        let (type_id, size) = type_of(column.kind);
        let code = formats.code(index);
        FieldDescription::new(column.name.clone(), 0, 0, type_id, size, -1, code)
    });
    RowDescription::new(fields.collect())
}

/// A row as a message.
///
/// # Errors
/// A value is not of its column's type.
pub(super) fn row(
    columns: &[Column],
    formats: &Formats,
    values: &[Value],
) -> Result<DataRow, SqlError> {
    let mut data = BytesMut::new();
    for (index, (column, value)) in columns.iter().zip(values).enumerate() {
        if value.is_null() {
            data.put_i32(-1);
            continue;
        }
        let at = data.len();
        data.put_i32(0);
        match formats.code(index) {
            1 => binary(column, value, &mut data)?,
            _ => data.put_slice(text(value).as_bytes()),
        }
        let length = data.len() - at - 4;
        let length = i32::try_from(length).map_err(|_| {
            SqlError::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                "a value is too long to be sent",
            )
        })?;
        data[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
    let count = i16::try_from(columns.len()).unwrap_or(i16::MAX);
    Ok(DataRow::new(data, count))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "t".to_owned(),
        Value::Bool(false) => "f".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Text(text) | Value::Json(text) => text.clone(),
        Value::Time(time) => show_time(*time),
        Value::Interval(micros) => show_interval(*micros),
        Value::TextArray(texts) => array(texts),
    }
}

/// `{a,"b c"}`
fn array(texts: &[String]) -> String {
    let quoted = texts.iter().map(|text| {
        let is_plain = !text.is_empty()
            && !text.eq_ignore_ascii_case("null")
            && !text.contains(|c: char| c.is_whitespace() || "{}\",\\".contains(c));
        match is_plain {
            true => text.clone(),
            false => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        }
    });
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}

fn binary(column: &Column, value: &Value, data: &mut BytesMut) -> Result<(), SqlError> {
    let wrong = || {
        SqlError::new(
            state::DATATYPE_MISMATCH,
            format!(
                "a value of column \"{}\" is not of the column's type: ask for it as text",
                column.name
            ),
        )
    };
    match (column.kind, value) {
        (ColumnType::Bool, Value::Bool(value)) => types::bool_to_sql(*value, data),
        (ColumnType::Int, Value::Int(number)) => types::int8_to_sql(*number, data),
        (ColumnType::Float, Value::Float(number)) => types::float8_to_sql(*number, data),
        (ColumnType::Float, Value::Int(number)) => types::float8_to_sql(*number as f64, data),
        (ColumnType::Time, Value::Time(time)) => {
            let micros = i64::try_from(time.as_micros()).map_err(|_| wrong())?;
            types::timestamp_to_sql(micros - EPOCH, data);
        }
        (ColumnType::Interval, Value::Interval(micros)) => {
            data.put_i64(*micros);
            // No days and no months: all of it is in the microseconds.
            data.put_i32(0);
            data.put_i32(0);
        }
        (ColumnType::Json, Value::Json(json)) => {
            // The version of the format.
            data.put_u8(1);
            types::text_to_sql(json, data);
        }
        (ColumnType::TextArray, Value::TextArray(texts)) => {
            let dimension = types::ArrayDimension {
                len: i32::try_from(texts.len()).map_err(|_| wrong())?,
                lower_bound: 1,
            };
            let dimensions = (!texts.is_empty()).then_some(dimension);
            let element = |text: &String, data: &mut BytesMut| {
                types::text_to_sql(text, data);
                Ok(IsNull::No)
            };
            types::array_to_sql(dimensions, oid::TEXT, texts, element, data)
                .map_err(|_| wrong())?;
        }
        (ColumnType::Text, value) => types::text_to_sql(&text(value), data),
        _ => return Err(wrong()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::Timestamp;

    #[test]
    fn values_are_written_as_postgres_writes_them() {
        let texts =
            |list: &[&str]| Value::TextArray(list.iter().map(ToString::to_string).collect());
        for (value, shown) in [
            (Value::Bool(true), "t"),
            (Value::Int(-7), "-7"),
            (Value::Float(0.5), "0.5"),
            (Value::Float(1.0), "1"),
            (
                Value::Time(Timestamp::from_micros(1_663_594_883_640_000)),
                "2022-09-19 13:41:23.64+00",
            ),
            (Value::Interval(-10_000_000), "-00:00:10"),
            (texts(&[]), "{}"),
            (
                texts(&["a", "b c", "", "null", "q\"\\"]),
                r#"{a,"b c","","null","q\"\\"}"#,
            ),
        ] {
            assert_eq!(text(&value), shown);
        }
    }

    #[test]
    fn binary_values_have_the_length_of_their_type() {
        for (kind, value, length) in [
            (ColumnType::Bool, Value::Bool(true), 1),
            (ColumnType::Int, Value::Int(1), 8),
            (ColumnType::Float, Value::Int(1), 8),
            (ColumnType::Time, Value::Time(Timestamp::from_micros(1)), 8),
            (ColumnType::Interval, Value::Interval(1), 16),
            (ColumnType::Json, Value::Json("{}".into()), 3),
            (ColumnType::Text, Value::Int(12), 2),
            (
                ColumnType::TextArray,
                Value::TextArray(vec!["ab".into()]),
                26,
            ),
            (ColumnType::TextArray, Value::TextArray(Vec::new()), 12),
        ] {
            let column = Column::new("c", kind);
            let formats = Formats::new(vec![1]);
            let row = row(&[column], &formats, std::slice::from_ref(&value)).expect("legal");
            assert_eq!(row.data.len(), 4 + length, "{kind:?} {value:?}");
        }
        let column = Column::new("c", ColumnType::Int);
        let error = row(&[column], &Formats::new(vec![1]), &[Value::text("x")]);
        assert_eq!(error.expect_err("no number").state, "42804");
    }
}
