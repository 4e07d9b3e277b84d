//! The values of placeholders, as clients send them.

use bytes::Bytes;
use holdfast_types::Timestamp;
use postgres_protocol::types;

use crate::error::{SqlError, state};
use crate::rows::Value;

/// PostgreSQL's numbers of types.
pub(super) mod oid {
    pub(crate) const BOOL: u32 = 16;
    pub(crate) const INT8: u32 = 20;
    pub(crate) const INT2: u32 = 21;
    pub(crate) const INT4: u32 = 23;
    pub(crate) const TEXT: u32 = 25;
    pub(crate) const JSON: u32 = 114;
    pub(crate) const FLOAT4: u32 = 700;
    pub(crate) const FLOAT8: u32 = 701;
    pub(crate) const UNKNOWN: u32 = 705;
    pub(crate) const TEXT_ARRAY: u32 = 1009;
    pub(crate) const VARCHAR: u32 = 1043;
    pub(crate) const TIMESTAMP: u32 = 1114;
    pub(crate) const TIMESTAMPTZ: u32 = 1184;
    pub(crate) const INTERVAL: u32 = 1186;
    #[cfg(test)]
    pub(crate) const NUMERIC: u32 = 1700;
    pub(crate) const JSONB: u32 = 3802;
}

/// Microseconds from 1970, from which times are counted here, to 2000, from which they are counted there.
pub(super) const EPOCH: i64 = 946_684_800_000_000;

/// Reads a value; `number` counts from 1.
pub(super) fn read(
    number: usize,
    type_id: u32,
    is_binary: bool,
    bytes: Option<&Bytes>,
) -> Result<Value, SqlError> {
    let Some(bytes) = bytes else {
        return Ok(Value::Null);
    };
    let value = match is_binary {
        true => read_binary(type_id, bytes),
        false => read_text(type_id, bytes),
    };
    value.ok_or_else(|| {
        SqlError::new(
            state::INVALID_TEXT,
            format!("parameter ${number} is malformed, or of a type that is not known here (OID {type_id})"),
        )
    })
}

fn read_text(type_id: u32, bytes: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    if text.contains('\0') {
        return None;
    }
    let trimmed = text.trim();
    Some(match type_id {
        oid::BOOL => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "1" | "on" | "yes" => Value::Bool(true),
            "f" | "false" | "0" | "off" | "no" => Value::Bool(false),
            _ => return None,
        },
        oid::INT2 | oid::INT4 | oid::INT8 => Value::Int(trimmed.parse().ok()?),
        oid::FLOAT4 | oid::FLOAT8 => Value::Float(trimmed.parse().ok()?),
        oid::TIMESTAMP | oid::TIMESTAMPTZ => Value::Time(crate::times::parse_time(trimmed)?),
        // Everything else is a text that is read where it is needed; a decimal so keeps all its digits.
        _ => Value::text(text),
    })
}

fn read_binary(type_id: u32, bytes: &[u8]) -> Option<Value> {
    Some(match type_id {
        oid::BOOL => Value::Bool(types::bool_from_sql(bytes).ok()?),
        oid::INT2 => Value::Int(types::int2_from_sql(bytes).ok()?.into()),
        oid::INT4 => Value::Int(types::int4_from_sql(bytes).ok()?.into()),
        oid::INT8 => Value::Int(types::int8_from_sql(bytes).ok()?),
        oid::FLOAT4 => Value::Float(types::float4_from_sql(bytes).ok()?.into()),
        oid::FLOAT8 => Value::Float(types::float8_from_sql(bytes).ok()?),
        oid::TIMESTAMP | oid::TIMESTAMPTZ => {
            let micros = types::timestamp_from_sql(bytes).ok()?.checked_add(EPOCH)?;
            Value::Time(Timestamp::from_micros(u64::try_from(micros).ok()?))
        }
        0 | oid::TEXT | oid::VARCHAR | oid::UNKNOWN | oid::JSON => {
            let text = types::text_from_sql(bytes).ok()?;
            if text.contains('\0') {
                return None;
            }
            Value::text(text)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_both_formats() {
        let bytes = |bytes: &[u8]| Some(Bytes::copy_from_slice(bytes));
        for (type_id, is_binary, raw, expected) in [
            (oid::INT8, true, &7i64.to_be_bytes()[..], Value::Int(7)),
            (oid::INT2, true, &7i16.to_be_bytes()[..], Value::Int(7)),
            (oid::INT8, false, b"7", Value::Int(7)),
            (oid::BOOL, true, &[1], Value::Bool(true)),
            (oid::BOOL, false, b"f", Value::Bool(false)),
            (
                oid::FLOAT8,
                true,
                &0.5f64.to_be_bytes()[..],
                Value::Float(0.5),
            ),
            (
                oid::TIMESTAMPTZ,
                true,
                &0i64.to_be_bytes()[..],
                Value::Time(Timestamp::from_micros(946_684_800_000_000)),
            ),
            (oid::TEXT, true, "ä".as_bytes(), Value::text("ä")),
            (
                oid::NUMERIC,
                false,
                b"1.0000000000",
                Value::text("1.0000000000"),
            ),
            (0, false, b"x", Value::text("x")),
        ] {
            let read = read(1, type_id, is_binary, bytes(raw).as_ref());
            assert_eq!(read, Ok(expected), "{type_id} {is_binary}");
        }
        assert_eq!(read(1, oid::INT8, true, None), Ok(Value::Null));
        for (type_id, is_binary, raw) in [
            (oid::INT8, true, &b"7"[..]),
            (oid::INT8, false, b"seven"),
            (oid::TEXT, true, &[0xff]),
            (oid::TEXT, false, b"a\0b"),
            (oid::NUMERIC, true, b"xxxx"),
        ] {
            let error = read(3, type_id, is_binary, bytes(raw).as_ref()).expect_err("malformed");
            assert!(error.message.contains("$3"), "{error}");
        }
    }
}
