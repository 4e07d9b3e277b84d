//! Aggregates: one value for many rows.

use std::cmp::Ordering;

use super::compare::order;
use crate::error::{SqlError, state};
use crate::rows::Value;
use crate::syntax::expression::{Call, Expr};

const AGGREGATES: [&str; 7] = ["avg", "bool_and", "bool_or", "count", "max", "min", "sum"];

/// Whether a function is an aggregate.
pub(super) fn is_aggregate(function: &str) -> bool {
    AGGREGATES.contains(&function)
}

/// Whether an expression holds an aggregate.
pub(super) fn holds_aggregate(expr: &Expr) -> bool {
    match expr {
        Expr::Call(call) => {
            is_aggregate(&call.function) || call.arguments.iter().any(holds_aggregate)
        }
        Expr::Unary(_, operand) | Expr::Cast(operand, _) | Expr::IsNull { operand, .. } => {
            holds_aggregate(operand)
        }
        Expr::Binary(_, left, right) => holds_aggregate(left) || holds_aggregate(right),
        Expr::In { operand, list, .. } => {
            holds_aggregate(operand) || list.iter().any(holds_aggregate)
        }
        _ => false,
    }
}

/// The aggregate of the values that its argument has; for `count(*)` any value for each row.
pub(super) fn aggregate(call: &Call, mut values: Vec<Value>) -> Result<Value, SqlError> {
    if !call.is_of_rows {
        values.retain(|value| !value.is_null());
    }
    if call.is_distinct {
        values.sort_by(order);
        values.dedup_by(|left, right| order(left, right) == Ordering::Equal);
    }
    match call.function.as_str() {
        "count" => Ok(Value::count(values.len())),
        "min" => Ok(values.into_iter().min_by(order).unwrap_or(Value::Null)),
        "max" => Ok(values.into_iter().max_by(order).unwrap_or(Value::Null)),
        "sum" => sum(&values),
        "avg" => match sum(&values)? {
            Value::Int(sum) => Ok(Value::Float(sum as f64 / values.len() as f64)),
            Value::Float(sum) => Ok(Value::Float(sum / values.len() as f64)),
            Value::Interval(sum) => Ok(Value::Interval(sum / values.len() as i64)),
            other => Ok(other),
        },
        "bool_and" => all(&values, false),
        "bool_or" => all(&values, true),
        other => Err(super::scalar::unknown_function(other, call.arguments.len())),
    }
}

fn sum(values: &[Value]) -> Result<Value, SqlError> {
    let out_of_range = || SqlError::new(state::NUMERIC_OUT_OF_RANGE, "the sum is out of range");
    let mut sum = Value::Null;
    for value in values {
        sum = match (sum, value) {
            (Value::Null, Value::Int(_) | Value::Float(_) | Value::Interval(_)) => value.clone(),
            (Value::Int(sum), Value::Int(number)) => {
                Value::Int(sum.checked_add(*number).ok_or_else(out_of_range)?)
            }
            (Value::Float(sum), Value::Float(number)) => Value::Float(sum + number),
            (Value::Int(sum), Value::Float(number)) => Value::Float(sum as f64 + number),
            (Value::Float(sum), Value::Int(number)) => Value::Float(sum + *number as f64),
            (Value::Interval(sum), Value::Interval(micros)) => {
                Value::Interval(sum.checked_add(*micros).ok_or_else(out_of_range)?)
            }
            _ => {
                return Err(SqlError::new(
                    state::DATATYPE_MISMATCH,
                    "only numbers and intervals have a sum",
                ));
            }
        };
    }
    Ok(sum)
}

/// `bool_or` if `decided`, otherwise `bool_and`.
fn all(values: &[Value], decided: bool) -> Result<Value, SqlError> {
    let mut result = Value::Null;
    for value in values {
        match value {
            Value::Bool(value) if *value == decided => return Ok(Value::Bool(decided)),
            Value::Bool(_) => result = Value::Bool(!decided),
            _ => {
                return Err(SqlError::new(
                    state::DATATYPE_MISMATCH,
                    "bool_and and bool_or take truth values",
                ));
            }
        }
    }
    Ok(result)
}
