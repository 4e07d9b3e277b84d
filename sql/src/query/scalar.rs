//! Expressions over one row.

use std::cmp::Ordering;

use holdfast_types::Timestamp;

use super::compare::{compare, name_of, read_as, type_of};
use super::like::like;
use crate::error::{SqlError, state};
use crate::rows::{Column, ColumnType, Value};
use crate::syntax::expression::{BinaryOperator, Call, ColumnName, Expr, TypeName, UnaryOperator};
use crate::syntax::words::nearest;
use crate::times::{show_interval, show_time};

/// What a statement knows besides its rows.
#[derive(Debug, Clone)]
pub(crate) struct Known<'a> {
    /// The values of its placeholders.
    pub(crate) parameters: &'a [Value],
    pub(crate) now: Timestamp,
    pub(crate) user: &'a str,
    pub(crate) database: &'a str,
    pub(crate) version: &'a str,
}

/// A row with its columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) columns: &'a [Column],
    pub(super) alias: Option<&'a str>,
    pub(super) values: &'a [Value],
}

/// The value of an expression that names no columns.
pub(crate) fn constant(known: &Known<'_>, expr: &Expr) -> Result<Value, SqlError> {
    let row = Row {
        columns: &[],
        alias: None,
        values: &[],
    };
    scalar(known, row, expr)
}

/// The place of a column.
pub(super) fn find_column(
    columns: &[Column],
    alias: Option<&str>,
    column: &ColumnName,
) -> Result<usize, SqlError> {
    if let Some(table) = &column.table
        && alias != Some(table.as_str())
    {
        return Err(SqlError::new(
            state::UNDEFINED_TABLE,
            format!("no such table in FROM: \"{table}\""),
        ));
    }
    let place = columns.iter().position(|known| known.name == column.name);
    place.ok_or_else(|| {
        let error = SqlError::new(
            state::UNDEFINED_COLUMN,
            format!("column \"{}\" does not exist", column.name),
        );
        match nearest(
            &column.name,
            columns.iter().map(|known| known.name.as_str()),
        ) {
            Some(meant) => error.hint(format!("did you mean {meant}?")),
            None => error,
        }
    })
}

/// The value of an expression in a row.
pub(super) fn scalar(known: &Known<'_>, row: Row<'_>, expr: &Expr) -> Result<Value, SqlError> {
    match expr {
        Expr::Null => Ok(Value::Null),
        Expr::Bool(value) => Ok(Value::Bool(*value)),
        Expr::Number(number) => self::number(number),
        Expr::Text(text) => Ok(Value::text(text.as_str())),
        Expr::Placeholder(number) => parameter(known.parameters, *number),
        Expr::Interval(text) => read_as(text, ColumnType::Interval),
        Expr::Column(column) => {
            let place = find_column(row.columns, row.alias, column)?;
            Ok(row.values.get(place).cloned().unwrap_or(Value::Null))
        }
        Expr::Unary(UnaryOperator::Minus, operand) => negative(scalar(known, row, operand)?),
        Expr::Unary(UnaryOperator::Not, operand) => {
            let truth = truth(scalar(known, row, operand)?)?;
            Ok(truth.map_or(Value::Null, |truth| Value::Bool(!truth)))
        }
        Expr::Binary(operator @ (BinaryOperator::And | BinaryOperator::Or), left, right) => {
            let decided = *operator == BinaryOperator::Or;
            let left = truth(scalar(known, row, left)?)?;
            if left == Some(decided) {
                return Ok(Value::Bool(decided));
            }
            let right = truth(scalar(known, row, right)?)?;
            Ok(match (left, right) {
                (_, Some(right)) if right == decided => Value::Bool(decided),
                (Some(_), Some(_)) => Value::Bool(!decided),
                _ => Value::Null,
            })
        }
        Expr::Binary(operator, left, right) => binary(
            *operator,
            &scalar(known, row, left)?,
            &scalar(known, row, right)?,
        ),
        Expr::IsNull {
            operand,
            is_negated,
        } => Ok(Value::Bool(
            scalar(known, row, operand)?.is_null() != *is_negated,
        )),
        Expr::In {
            operand,
            list,
            is_negated,
        } => {
            let value = scalar(known, row, operand)?;
            let mut has_null = value.is_null();
            for item in list {
                match compare(&value, &scalar(known, row, item)?)? {
                    Some(Ordering::Equal) => return Ok(Value::Bool(!is_negated)),
                    Some(_) => {}
                    None => has_null = true,
                }
            }
            Ok(match has_null {
                true => Value::Null,
                false => Value::Bool(*is_negated),
            })
        }
        Expr::Call(call) => self::call(known, row, call),
        Expr::Cast(operand, name) => cast(scalar(known, row, operand)?, *name),
    }
}

fn number(text: &str) -> Result<Value, SqlError> {
    if text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(number) = text.parse()
    {
        return Ok(Value::Int(number));
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Value::Float(number)),
        _ => Err(SqlError::new(
            state::NUMERIC_OUT_OF_RANGE,
            format!("number {text} is out of range"),
        )),
    }
}

/// The value of a placeholder.
pub(crate) fn parameter(parameters: &[Value], number: u16) -> Result<Value, SqlError> {
    let value = parameters.get(usize::from(number).wrapping_sub(1));
    value.cloned().ok_or_else(|| {
        SqlError::new(
            state::UNDEFINED_PARAMETER,
            format!("there is no parameter ${number}"),
        )
    })
}

/// A value as a truth value; `None` of NULL.
pub(super) fn truth(value: Value) -> Result<Option<bool>, SqlError> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(truth) => Ok(Some(truth)),
        Value::Text(text) => match read_as(&text, ColumnType::Bool)? {
            Value::Bool(truth) => Ok(Some(truth)),
            _ => Ok(None),
        },
        other => Err(mismatch("a condition must be of type bool, not", &other)),
    }
}

pub(super) fn mismatch(what: &str, value: &Value) -> SqlError {
    let name = type_of(value).map_or("unknown", name_of);
    SqlError::new(state::DATATYPE_MISMATCH, format!("{what} {name}"))
}

fn out_of_range() -> SqlError {
    SqlError::new(state::NUMERIC_OUT_OF_RANGE, "the result is out of range")
}

fn negative(value: Value) -> Result<Value, SqlError> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Int(number) => number
            .checked_neg()
            .map(Value::Int)
            .ok_or_else(out_of_range),
        Value::Float(number) => Ok(Value::Float(-number)),
        Value::Interval(micros) => micros
            .checked_neg()
            .map(Value::Interval)
            .ok_or_else(out_of_range),
        other => Err(mismatch("there is no operator - for type", &other)),
    }
}

fn binary(operator: BinaryOperator, left: &Value, right: &Value) -> Result<Value, SqlError> {
    use BinaryOperator as Op;
    let compared = |holds: fn(Ordering) -> bool| {
        let ordering = compare(left, right)?;
        Ok(ordering.map_or(Value::Null, |ordering| Value::Bool(holds(ordering))))
    };
    match operator {
        Op::Equal => compared(Ordering::is_eq),
        Op::Unequal => compared(Ordering::is_ne),
        Op::Less => compared(Ordering::is_lt),
        Op::LessOrEqual => compared(Ordering::is_le),
        Op::Greater => compared(Ordering::is_gt),
        Op::GreaterOrEqual => compared(Ordering::is_ge),
        _ if left.is_null() || right.is_null() => Ok(Value::Null),
        Op::Like => Ok(Value::Bool(like(left, right, false)?)),
        Op::NotLike => Ok(Value::Bool(!like(left, right, false)?)),
        Op::Ilike => Ok(Value::Bool(like(left, right, true)?)),
        Op::NotIlike => Ok(Value::Bool(!like(left, right, true)?)),
        Op::Concat => Ok(Value::Text(show(left) + &show(right))),
        Op::Plus | Op::Minus | Op::Times | Op::Divide | Op::Modulo => {
            arithmetic(operator, left, right)
        }
        // Decided by the caller, where the right side need not be looked at.
        Op::And | Op::Or => Ok(Value::Null),
    }
}

fn arithmetic(operator: BinaryOperator, left: &Value, right: &Value) -> Result<Value, SqlError> {
    use BinaryOperator as Op;
    let checked = |result: Option<i64>| result.map(Value::Int).ok_or_else(out_of_range);
    match (operator, left, right) {
        // A text beside a time is a time span.
        (Op::Plus | Op::Minus, Value::Time(_) | Value::Interval(_), Value::Text(text)) => {
            let right = read_as(text, ColumnType::Interval)?;
            arithmetic(operator, left, &right)
        }
        (_, Value::Text(text), Value::Int(_) | Value::Float(_)) => {
            arithmetic(operator, &read_as(text, ColumnType::Float)?, right)
        }
        (_, Value::Int(_) | Value::Float(_), Value::Text(text)) => {
            arithmetic(operator, left, &read_as(text, ColumnType::Float)?)
        }
        (Op::Plus, Value::Time(time), Value::Interval(micros))
        | (Op::Plus, Value::Interval(micros), Value::Time(time)) => moved(*time, *micros),
        (Op::Minus, Value::Time(time), Value::Interval(micros)) => {
            moved(*time, micros.checked_neg().ok_or_else(out_of_range)?)
        }
        (Op::Minus, Value::Time(left), Value::Time(right)) => {
            let micros = i128::from(left.as_micros()) - i128::from(right.as_micros());
            i64::try_from(micros)
                .map(Value::Interval)
                .map_err(|_| out_of_range())
        }
        (Op::Plus, Value::Interval(left), Value::Interval(right)) => left
            .checked_add(*right)
            .map(Value::Interval)
            .ok_or_else(out_of_range),
        (Op::Minus, Value::Interval(left), Value::Interval(right)) => left
            .checked_sub(*right)
            .map(Value::Interval)
            .ok_or_else(out_of_range),
        (Op::Divide | Op::Modulo, _, Value::Int(0)) => Err(divided_by_zero()),
        (Op::Plus, Value::Int(left), Value::Int(right)) => checked(left.checked_add(*right)),
        (Op::Minus, Value::Int(left), Value::Int(right)) => checked(left.checked_sub(*right)),
        (Op::Times, Value::Int(left), Value::Int(right)) => checked(left.checked_mul(*right)),
        (Op::Modulo, Value::Int(left), Value::Int(right)) => checked(left.checked_rem(*right)),
        _ => match (as_float(left), as_float(right)) {
            (Some(_), Some(0.0)) if matches!(operator, Op::Divide | Op::Modulo) => {
                Err(divided_by_zero())
            }
            (Some(left), Some(right)) => Ok(Value::Float(match operator {
                Op::Plus => left + right,
                Op::Minus => left - right,
                Op::Times => left * right,
                // The model system divides whole numbers so too.
                Op::Divide => left / right,
                _ => left % right,
            })),
            (None, _) => Err(mismatch("there is no such operator for type", left)),
            (_, None) => Err(mismatch("there is no such operator for type", right)),
        },
    }
}

fn divided_by_zero() -> SqlError {
    SqlError::new(state::DIVISION_BY_ZERO, "division by zero")
}

fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

fn moved(time: Timestamp, micros: i64) -> Result<Value, SqlError> {
    let moved = i128::from(time.as_micros()) + i128::from(micros);
    u64::try_from(moved)
        .map(|micros| Value::Time(Timestamp::from_micros(micros)))
        .map_err(|_| out_of_range())
}

/// A value as text.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Text(text) | Value::Json(text) => text.clone(),
        Value::Time(time) => show_time(*time),
        Value::Interval(micros) => show_interval(*micros),
        Value::TextArray(texts) => texts.join(", "),
    }
}

fn cast(value: Value, name: TypeName) -> Result<Value, SqlError> {
    let kind = match name {
        TypeName::Int => ColumnType::Int,
        TypeName::Float => ColumnType::Float,
        TypeName::Text => ColumnType::Text,
        TypeName::Bool => ColumnType::Bool,
        TypeName::Timestamp => ColumnType::Time,
        TypeName::Interval => ColumnType::Interval,
    };
    match value {
        Value::Null => Ok(Value::Null),
        Value::Text(text) => read_as(&text, kind),
        value if type_of(&value) == Some(kind) => Ok(value),
        value if kind == ColumnType::Text => Ok(Value::Text(show(&value))),
        Value::Int(number) if kind == ColumnType::Float => Ok(Value::Float(number as f64)),
        Value::Int(number) if kind == ColumnType::Bool => Ok(Value::Bool(number != 0)),
        Value::Bool(value) if kind == ColumnType::Int => Ok(Value::Int(i64::from(value))),
        Value::Float(number) if kind == ColumnType::Int => {
            let rounded = number.round_ties_even();
            match rounded.abs() < i64::MAX as f64 {
                true => Ok(Value::Int(rounded as i64)),
                false => Err(out_of_range()),
            }
        }
        value => Err(mismatch(
            &format!("a {} cannot be made of type", name_of(kind)),
            &value,
        )),
    }
}

/// A value as a whole number.
pub(crate) fn to_int(value: Value) -> Result<i64, SqlError> {
    match cast(value, TypeName::Int)? {
        Value::Int(number) => Ok(number),
        _ => Err(SqlError::new(
            state::INVALID_PARAMETER_VALUE,
            "a number is needed, not NULL",
        )),
    }
}

fn call(known: &Known<'_>, row: Row<'_>, call: &Call) -> Result<Value, SqlError> {
    let arguments: Vec<Value> = (call.arguments.iter())
        .map(|argument| scalar(known, row, argument))
        .collect::<Result<_, _>>()?;
    let text = |text: &str| Ok(Value::text(text));
    match (call.function.as_str(), arguments.as_slice()) {
        ("now" | "current_timestamp" | "statement_timestamp" | "clock_timestamp", []) => {
            Ok(Value::Time(known.now))
        }
        ("version", []) => text(known.version),
        ("current_user" | "session_user", []) => text(known.user),
        ("current_database" | "current_catalog", []) => text(known.database),
        ("current_schema", []) => text("public"),
        ("pg_backend_pid", []) => Ok(Value::Int(0)),
        ("coalesce", values) => {
            let first = values.iter().find(|value| !value.is_null());
            Ok(first.cloned().unwrap_or(Value::Null))
        }
        ("lower" | "upper" | "length" | "abs" | "round" | "floor" | "ceil", [Value::Null]) => {
            Ok(Value::Null)
        }
        ("lower", [Value::Text(text)]) => Ok(Value::Text(text.to_lowercase())),
        ("upper", [Value::Text(text)]) => Ok(Value::Text(text.to_uppercase())),
        ("length", [Value::Text(text)]) => Ok(Value::count(text.chars().count())),
        ("abs", [Value::Int(number)]) => number
            .checked_abs()
            .map(Value::Int)
            .ok_or_else(out_of_range),
        ("abs", [Value::Float(number)]) => Ok(Value::Float(number.abs())),
        ("round" | "floor" | "ceil", [Value::Int(number)]) => Ok(Value::Int(*number)),
        ("round", [Value::Float(number)]) => Ok(Value::Float(number.round_ties_even())),
        ("floor", [Value::Float(number)]) => Ok(Value::Float(number.floor())),
        ("ceil", [Value::Float(number)]) => Ok(Value::Float(number.ceil())),
        (name, _) => Err(unknown_function(name, arguments.len())),
    }
}

/// Functions, for errors and suggestions.
const FUNCTIONS: [&str; 20] = [
    "abs",
    "avg",
    "bool_and",
    "bool_or",
    "ceil",
    "coalesce",
    "count",
    "current_database",
    "current_schema",
    "current_user",
    "floor",
    "length",
    "lower",
    "max",
    "min",
    "now",
    "round",
    "sum",
    "upper",
    "version",
];

pub(super) fn unknown_function(name: &str, arguments: usize) -> SqlError {
    if super::aggregate::is_aggregate(name) {
        return SqlError::new(
            state::GROUPING_ERROR,
            format!(
                "{name}() cannot stand here, or not with {arguments} arguments: aggregates stand in the list of SELECT and in ORDER BY"
            ),
        );
    }
    let error = SqlError::new(
        state::UNDEFINED_FUNCTION,
        format!("there is no function {name}() with such arguments"),
    );
    match nearest(name, FUNCTIONS) {
        Some(meant) => error.hint(format!("did you mean {meant}?")),
        None => error.hint(format!("there are {}", FUNCTIONS.join(", "))),
    }
}
