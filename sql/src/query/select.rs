//! SELECT over rows.

use std::cmp::Ordering;

use super::aggregate::{aggregate, holds_aggregate, is_aggregate};
use super::compare::order;
use super::infer::columns_of_select;
use super::scalar::{Known, Row, scalar, to_int, truth};
use crate::error::{SqlError, state};
use crate::rows::{Column, Rows, Value};
use crate::syntax::expression::{Expr, Order, Select, SelectItem};

/// The columns of `VALUES (…), (…)`: of the type that the first value has.
///
/// # Errors
/// The rows are of different lengths.
pub(crate) fn columns_of_values(
    known: &Known<'_>,
    rows: &[Vec<Expr>],
) -> Result<Vec<Column>, SqlError> {
    let width = rows.first().map_or(0, Vec::len);
    if rows.iter().any(|row| row.len() != width) {
        return Err(SqlError::syntax("VALUES lists must all be the same length"));
    }
    let mut columns = Vec::new();
    for (index, expr) in rows.first().into_iter().flatten().enumerate() {
        // A parameter that is known tells more than its placeholder.
        let value = super::scalar::constant(known, expr).ok();
        let kind = match value.as_ref().and_then(super::compare::type_of) {
            Some(kind) => kind,
            None => super::infer::infer(expr, &[], None)?,
        };
        columns.push(Column::new(format!("column{}", index + 1), kind));
    }
    Ok(columns)
}

/// `VALUES (…), (…)`.
///
/// # Errors
/// The rows are of different lengths, or cannot be computed.
pub(crate) fn values(known: &Known<'_>, rows: &[Vec<Expr>]) -> Result<Rows, SqlError> {
    let mut result = Rows::new(columns_of_values(known, rows)?);
    for row in rows {
        let row = row.iter().map(|expr| super::scalar::constant(known, expr));
        result.push(row.collect::<Result<_, _>>()?);
    }
    Ok(result)
}

/// The rows of a SELECT over rows; without FROM over one row that has no columns.
///
/// # Errors
/// Something in it cannot be computed.
pub(crate) fn evaluate(
    known: &Known<'_>,
    select: &Select,
    from: Option<Rows>,
) -> Result<Rows, SqlError> {
    let from = from.unwrap_or_else(|| Rows {
        columns: Vec::new(),
        rows: vec![Vec::new()],
    });
    let columns = columns_of_select(select, &from.columns)?;
    let scope = Scope {
        known,
        columns: &from.columns,
        alias: select.from.as_ref().and_then(|from| from.alias.as_deref()),
    };
    let mut kept = Vec::new();
    for row in &from.rows {
        let passes = match &select.filter {
            Some(filter) if holds_aggregate(filter) => {
                return Err(SqlError::new(
                    state::GROUPING_ERROR,
                    "aggregates are not allowed in WHERE",
                ));
            }
            Some(filter) => truth(scope.scalar(row, filter)?)? == Some(true),
            None => true,
        };
        if passes {
            kept.push(row);
        }
    }
    let groups = scope.groups(select, kept)?;
    let mut results = Vec::new();
    for group in &groups {
        let row = scope.result(select, group)?;
        let keys = scope.sort_keys(select, &columns, group, &row)?;
        results.push((keys, row));
    }
    if select.is_distinct {
        let mut distinct: Vec<(Vec<Value>, Vec<Value>)> = Vec::new();
        for result in results {
            if !distinct.iter().any(|known| same(&known.1, &result.1)) {
                distinct.push(result);
            }
        }
        results = distinct;
    }
    results.sort_by(|(left, _), (right, _)| sort(&select.order_by, left, right));
    let skip = scope.bound(select.offset.as_ref(), "OFFSET")?.unwrap_or(0);
    let take = scope.bound(select.limit.as_ref(), "LIMIT")?;
    let rows = results.into_iter().map(|(_, row)| row).skip(skip);
    let rows = rows.take(take.unwrap_or(usize::MAX)).collect();
    Ok(Rows { columns, rows })
}

fn same(left: &[Value], right: &[Value]) -> bool {
    let equal = |(left, right): (&Value, &Value)| order(left, right) == Ordering::Equal;
    left.len() == right.len() && left.iter().zip(right).all(equal)
}

fn sort(by: &[Order], left: &[Value], right: &[Value]) -> Ordering {
    let keys = left.iter().zip(right).zip(by);
    keys.map(|((left, right), by)| {
        let nulls_first = by.nulls_first.unwrap_or(by.is_descending);
        match (left.is_null(), right.is_null()) {
            (false, false) if by.is_descending => order(right, left),
            (true, false) if nulls_first => Ordering::Less,
            (false, true) if nulls_first => Ordering::Greater,
            _ => order(left, right),
        }
    })
    .find(|ordering| ordering.is_ne())
    .unwrap_or(Ordering::Equal)
}

struct Scope<'a> {
    known: &'a Known<'a>,
    columns: &'a [Column],
    alias: Option<&'a str>,
}

/// Rows that give one row together; without aggregates it is one.
struct Group<'a> {
    rows: Vec<&'a Vec<Value>>,
    is_aggregated: bool,
}

impl<'a> Scope<'a> {
    fn scalar(&self, row: &[Value], expr: &Expr) -> Result<Value, SqlError> {
        let row = Row {
            columns: self.columns,
            alias: self.alias,
            values: row,
        };
        scalar(self.known, row, expr)
    }

    fn groups<'r>(
        &self,
        select: &Select,
        rows: Vec<&'r Vec<Value>>,
    ) -> Result<Vec<Group<'r>>, SqlError> {
        let aggregates = |item: &SelectItem| match item {
            SelectItem::All => false,
            SelectItem::Expr { expr, .. } => holds_aggregate(expr),
        };
        let is_aggregated = !select.group_by.is_empty()
            || select.items.iter().any(aggregates)
            || select
                .order_by
                .iter()
                .any(|order| holds_aggregate(&order.expr));
        if !is_aggregated {
            let alone = |row| Group {
                rows: vec![row],
                is_aggregated,
            };
            return Ok(rows.into_iter().map(alone).collect());
        }
        if select.group_by.is_empty() {
            return Ok(vec![Group {
                rows,
                is_aggregated,
            }]);
        }
        let mut groups: Vec<(Vec<Value>, Group<'r>)> = Vec::new();
        for row in rows {
            let mut key = Vec::new();
            for expr in &select.group_by {
                let expr = self.positional(select, expr)?;
                key.push(self.scalar(row, expr)?);
            }
            match groups.iter_mut().find(|(known, _)| same(known, &key)) {
                Some((_, group)) => group.rows.push(row),
                None => groups.push((
                    key,
                    Group {
                        rows: vec![row],
                        is_aggregated,
                    },
                )),
            }
        }
        Ok(groups.into_iter().map(|(_, group)| group).collect())
    }

    /// `1` in GROUP BY and ORDER BY is the first item.
    fn positional<'s>(&self, select: &'s Select, expr: &'s Expr) -> Result<&'s Expr, SqlError> {
        let Expr::Number(number) = expr else {
            return Ok(expr);
        };
        let item = number
            .parse::<usize>()
            .ok()
            .and_then(|number| number.checked_sub(1));
        match item.and_then(|item| select.items.get(item)) {
            Some(SelectItem::Expr { expr, .. }) => Ok(expr),
            _ => Err(SqlError::syntax(format!(
                "position {number} is not in the list of SELECT"
            ))),
        }
    }

    fn result(&self, select: &Select, group: &Group<'_>) -> Result<Vec<Value>, SqlError> {
        let mut row = Vec::new();
        for item in &select.items {
            match item {
                SelectItem::All if group.is_aggregated => {
                    return Err(SqlError::new(
                        state::GROUPING_ERROR,
                        "* cannot stand beside aggregates: name the columns",
                    ));
                }
                SelectItem::All => {
                    row.extend(
                        group
                            .rows
                            .first()
                            .into_iter()
                            .flat_map(|row| row.iter().cloned()),
                    );
                }
                SelectItem::Expr { expr, .. } => row.push(self.of_group(select, group, expr)?),
            }
        }
        Ok(row)
    }

    /// The value of an expression for a group: aggregates over its rows, everything else must be what it is grouped by.
    fn of_group(&self, select: &Select, group: &Group<'_>, expr: &Expr) -> Result<Value, SqlError> {
        if !group.is_aggregated {
            let row = group.rows.first().map_or(&[][..], |row| row.as_slice());
            return self.scalar(row, expr);
        }
        let mut is_key = expr_is_constant(expr);
        for key in &select.group_by {
            is_key |= self.positional(select, key)? == expr;
        }
        if is_key {
            let row = group.rows.first().map_or(&[][..], |row| row.as_slice());
            return self.scalar(row, expr);
        }
        match expr {
            Expr::Call(call) if is_aggregate(&call.function) => {
                let mut values = Vec::new();
                match call.arguments.as_slice() {
                    [] if call.is_of_rows => values.resize(group.rows.len(), Value::Bool(true)),
                    [argument] if !holds_aggregate(argument) => {
                        for row in &group.rows {
                            values.push(self.scalar(row, argument)?);
                        }
                    }
                    arguments => {
                        return Err(super::scalar::unknown_function(
                            &call.function,
                            arguments.len(),
                        ));
                    }
                }
                aggregate(call, values)
            }
            _ => {
                // What an aggregate is part of is computed over the aggregates' values.
                let mut expr = expr.clone();
                let mut parts = parts(&mut expr);
                if parts.is_empty() {
                    return Err(ungrouped(&expr));
                }
                for part in &mut parts {
                    let value = self.of_group(select, group, part)?;
                    **part = literal(value)?;
                }
                self.scalar(&[], &expr)
            }
        }
    }

    fn sort_keys(
        &self,
        select: &Select,
        columns: &[Column],
        group: &Group<'_>,
        row: &[Value],
    ) -> Result<Vec<Value>, SqlError> {
        let mut keys = Vec::new();
        for by in &select.order_by {
            // The name of a result column comes first, as in PostgreSQL.
            let named = match &by.expr {
                Expr::Column(column) if column.table.is_none() => {
                    columns.iter().position(|known| known.name == column.name)
                }
                Expr::Number(number) => {
                    let place = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                    let place = place.filter(|place| *place < row.len());
                    if place.is_none() {
                        return Err(SqlError::syntax(format!(
                            "ORDER BY position {number} is not in the list of SELECT"
                        )));
                    }
                    place
                }
                _ => None,
            };
            keys.push(match named.and_then(|place| row.get(place)) {
                Some(value) => value.clone(),
                None => self.of_group(select, group, &by.expr)?,
            });
        }
        Ok(keys)
    }

    fn bound(&self, expr: Option<&Expr>, what: &str) -> Result<Option<usize>, SqlError> {
        let Some(expr) = expr else { return Ok(None) };
        let value = super::scalar::constant(self.known, expr)?;
        if value.is_null() {
            return Ok(None);
        }
        usize::try_from(to_int(value)?).map(Some).map_err(|_| {
            SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!("{what} must not be negative"),
            )
        })
    }
}

fn ungrouped(expr: &Expr) -> SqlError {
    let what = match expr {
        Expr::Column(column) => format!("column \"{}\"", column.name),
        _ => "an expression".to_owned(),
    };
    SqlError::new(
        state::GROUPING_ERROR,
        format!("{what} must appear in the GROUP BY clause or be used in an aggregate function"),
    )
}

/// Whether an expression names no column and no aggregate.
fn expr_is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => false,
        Expr::Call(call) => {
            !is_aggregate(&call.function) && call.arguments.iter().all(expr_is_constant)
        }
        Expr::Unary(_, operand) | Expr::Cast(operand, _) | Expr::IsNull { operand, .. } => {
            expr_is_constant(operand)
        }
        Expr::Binary(_, left, right) => expr_is_constant(left) && expr_is_constant(right),
        Expr::In { operand, list, .. } => {
            expr_is_constant(operand) && list.iter().all(expr_is_constant)
        }
        _ => true,
    }
}

/// What an expression is made of.
fn parts(expr: &mut Expr) -> Vec<&mut Expr> {
    match expr {
        Expr::Call(call) => call.arguments.iter_mut().collect(),
        Expr::Unary(_, operand) | Expr::Cast(operand, _) | Expr::IsNull { operand, .. } => {
            vec![operand]
        }
        Expr::Binary(_, left, right) => vec![left, right],
        Expr::In { operand, list, .. } => {
            let mut parts = vec![operand.as_mut()];
            parts.extend(list);
            parts
        }
        _ => Vec::new(),
    }
}

/// A value as an expression.
fn literal(value: Value) -> Result<Expr, SqlError> {
    use crate::syntax::expression::TypeName;
    let cast = |text: String, kind| Expr::Cast(Box::new(Expr::Text(text)), kind);
    Ok(match value {
        Value::Null => Expr::Null,
        Value::Bool(value) => Expr::Bool(value),
        Value::Int(number) => cast(number.to_string(), TypeName::Int),
        Value::Float(number) => cast(number.to_string(), TypeName::Float),
        Value::Text(text) => Expr::Text(text),
        Value::Time(time) => cast(time.to_string(), TypeName::Timestamp),
        Value::Interval(micros) => cast(format!("{micros}us"), TypeName::Interval),
        Value::Json(_) | Value::TextArray(_) => {
            return Err(SqlError::new(
                state::DATATYPE_MISMATCH,
                "a value of this type cannot be part of an aggregated expression",
            ));
        }
    })
}
