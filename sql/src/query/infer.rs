//! The types of what SELECT gives, before there are rows: clients ask for them before they ask for the rows.

use super::scalar::find_column;
use crate::error::SqlError;
use crate::rows::{Column, ColumnType};
use crate::syntax::expression::{
    BinaryOperator, Call, Expr, Select, SelectItem, TypeName, UnaryOperator,
};

/// The columns of a SELECT over these.
///
/// # Errors
/// It names a column that there is not.
pub(crate) fn columns_of_select(
    select: &Select,
    columns: &[Column],
) -> Result<Vec<Column>, SqlError> {
    let alias = select.from.as_ref().and_then(|from| from.alias.as_deref());
    let mut result = Vec::new();
    for item in &select.items {
        match item {
            SelectItem::All => result.extend_from_slice(columns),
            SelectItem::Expr { expr, alias: name } => {
                let name = name.clone().unwrap_or_else(|| name_of(expr));
                result.push(Column::new(name, infer(expr, columns, alias)?));
            }
        }
    }
    Ok(result)
}

/// The name that a column has when it is not said.
fn name_of(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        Expr::Call(call) => call.function.clone(),
        Expr::Cast(operand, kind) => match operand.as_ref() {
            Expr::Column(_) | Expr::Call(_) => name_of(operand),
            _ => kind.as_str().to_owned(),
        },
        _ => "?column?".to_owned(),
    }
}

/// The type of an expression over these columns.
pub(super) fn infer(
    expr: &Expr,
    columns: &[Column],
    alias: Option<&str>,
) -> Result<ColumnType, SqlError> {
    let of = |expr: &Expr| infer(expr, columns, alias);
    Ok(match expr {
        Expr::Null | Expr::Text(_) | Expr::Placeholder(_) => ColumnType::Text,
        Expr::Bool(_) | Expr::IsNull { .. } => ColumnType::Bool,
        Expr::In { operand, list, .. } => {
            of(operand)?;
            for item in list {
                of(item)?;
            }
            ColumnType::Bool
        }
        Expr::Number(number) => match number.parse::<i64>() {
            Ok(_) => ColumnType::Int,
            Err(_) => ColumnType::Float,
        },
        Expr::Interval(_) => ColumnType::Interval,
        Expr::Column(column) => {
            let place = find_column(columns, alias, column)?;
            columns
                .get(place)
                .map_or(ColumnType::Text, |column| column.kind)
        }
        Expr::Unary(UnaryOperator::Not, operand) => {
            of(operand)?;
            ColumnType::Bool
        }
        Expr::Unary(UnaryOperator::Minus, operand) => of(operand)?,
        Expr::Cast(operand, name) => {
            of(operand)?;
            match name {
                TypeName::Int => ColumnType::Int,
                TypeName::Float => ColumnType::Float,
                TypeName::Text => ColumnType::Text,
                TypeName::Bool => ColumnType::Bool,
                TypeName::Timestamp => ColumnType::Time,
                TypeName::Interval => ColumnType::Interval,
            }
        }
        Expr::Binary(operator, left, right) => result_of(*operator, of(left)?, of(right)?),
        Expr::Call(call) => infer_call(call, columns, alias)?,
    })
}

fn result_of(operator: BinaryOperator, left: ColumnType, right: ColumnType) -> ColumnType {
    use BinaryOperator as Op;
    use ColumnType::{Float, Int, Interval, Text, Time};
    match operator {
        Op::Concat => Text,
        Op::Plus | Op::Minus | Op::Times | Op::Divide | Op::Modulo => match (left, right) {
            (Time, Time) => Interval,
            (Time, _) | (_, Time) => Time,
            (Interval, _) | (_, Interval) => Interval,
            (Int, Int) if operator != Op::Divide => Int,
            _ => Float,
        },
        _ => ColumnType::Bool,
    }
}

fn infer_call(
    call: &Call,
    columns: &[Column],
    alias: Option<&str>,
) -> Result<ColumnType, SqlError> {
    let mut arguments = Vec::new();
    for argument in &call.arguments {
        arguments.push(infer(argument, columns, alias)?);
    }
    let first = arguments.first().copied();
    Ok(match call.function.as_str() {
        "count" | "length" | "pg_backend_pid" => ColumnType::Int,
        "bool_and" | "bool_or" => ColumnType::Bool,
        "avg" if first == Some(ColumnType::Interval) => ColumnType::Interval,
        "avg" => ColumnType::Float,
        "now" | "current_timestamp" | "statement_timestamp" | "clock_timestamp" => ColumnType::Time,
        "min" | "max" | "sum" | "abs" | "round" | "floor" | "ceil" | "coalesce" => {
            first.unwrap_or(ColumnType::Text)
        }
        _ => ColumnType::Text,
    })
}
