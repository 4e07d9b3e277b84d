//! Expressions and queries. What holds an operator is in parentheses wherever it is part of something else, so that nobody has to know precedences.

use std::fmt;

use super::Printer;
use crate::syntax::expression::{
    Call, Expr, From, Order, Query, RowSource, Select, SelectItem, UnaryOperator,
};

impl Printer<'_, '_> {
    /// An expression where any may stand.
    pub(super) fn expr(&mut self, expr: &Expr) -> fmt::Result {
        match expr {
            Expr::Null => self.put("NULL"),
            Expr::Bool(true) => self.put("true"),
            Expr::Bool(false) => self.put("false"),
            Expr::Number(number) => self.put(number),
            Expr::Text(text) => self.literal(text),
            Expr::Placeholder(number) => write!(self.out, "${number}"),
            Expr::Interval(text) => {
                self.put("INTERVAL ")?;
                self.literal(text)
            }
            Expr::Column(column) => {
                if let Some(table) = &column.table {
                    self.name(table)?;
                    self.put(".")?;
                }
                self.column_name(&column.name)
            }
            Expr::Unary(UnaryOperator::Minus, operand) => {
                self.put("-")?;
                self.part(operand)
            }
            Expr::Unary(UnaryOperator::Not, operand) => {
                self.put("NOT ")?;
                self.part(operand)
            }
            Expr::Binary(operator, left, right) => {
                self.part(left)?;
                write!(self.out, " {} ", operator.as_str())?;
                self.part(right)
            }
            Expr::IsNull {
                operand,
                is_negated,
            } => {
                self.part(operand)?;
                self.put(if *is_negated {
                    " IS NOT NULL"
                } else {
                    " IS NULL"
                })
            }
            Expr::In {
                operand,
                list,
                is_negated,
            } => {
                self.part(operand)?;
                self.put(if *is_negated { " NOT IN (" } else { " IN (" })?;
                self.list(list, Self::expr)?;
                self.put(")")
            }
            Expr::Call(call) => self.call(call),
            Expr::Cast(operand, name) => {
                self.part(operand)?;
                write!(self.out, "::{}", name.as_str())
            }
        }
    }

    /// Words that would be read as something else where a column stands are quoted.
    fn column_name(&mut self, name: &str) -> fmt::Result {
        const SPECIAL: [&str; 5] = [
            "interval",
            "current_timestamp",
            "current_user",
            "session_user",
            "current_catalog",
        ];
        match SPECIAL.contains(&name) {
            true => write!(self.out, "\"{name}\""),
            false => self.name(name),
        }
    }

    /// An expression as a part of another.
    fn part(&mut self, expr: &Expr) -> fmt::Result {
        let is_simple = matches!(
            expr,
            Expr::Null
                | Expr::Bool(_)
                | Expr::Number(_)
                | Expr::Text(_)
                | Expr::Placeholder(_)
                | Expr::Interval(_)
                | Expr::Column(_)
                | Expr::Call(_)
        );
        if is_simple {
            return self.expr(expr);
        }
        self.put("(")?;
        self.expr(expr)?;
        self.put(")")
    }

    /// An expression where comparisons would end it.
    pub(super) fn operand(&mut self, expr: &Expr) -> fmt::Result {
        let is_operand = matches!(expr, Expr::Unary(UnaryOperator::Minus, _) | Expr::Cast(..));
        match is_operand {
            true => self.expr(expr),
            false => self.part(expr),
        }
    }

    fn call(&mut self, call: &Call) -> fmt::Result {
        self.name(&call.function)?;
        self.put("(")?;
        if call.is_of_rows {
            self.put("*")?;
        }
        if call.is_distinct {
            self.put("DISTINCT ")?;
        }
        self.list(&call.arguments, Self::expr)?;
        self.put(")")
    }

    pub(super) fn query(&mut self, query: &Query) -> fmt::Result {
        match query {
            Query::Values(rows) => {
                self.put("VALUES ")?;
                self.list(rows, |printer, row| {
                    printer.put("(")?;
                    printer.list(row, Self::expr)?;
                    printer.put(")")
                })
            }
            Query::Select(select) => self.select(select),
        }
    }

    fn rows(&mut self, rows: &RowSource) -> fmt::Result {
        match rows {
            RowSource::Statement(statement) => self.statement(statement),
            RowSource::Query(query) => self.query(query),
            RowSource::Named(name) => self.name(name),
        }
    }

    fn select(&mut self, select: &Select) -> fmt::Result {
        if !select.with.is_empty() {
            self.put("WITH ")?;
            self.list(&select.with, |printer, (name, rows)| {
                printer.name(name)?;
                printer.put(" AS (")?;
                printer.rows(rows)?;
                printer.put(")")
            })?;
            self.put(" ")?;
        }
        self.put("SELECT ")?;
        if select.is_distinct {
            self.put("DISTINCT ")?;
        }
        self.list(&select.items, Self::item)?;
        if let Some(from) = &select.from {
            self.from(from)?;
        }
        if let Some(filter) = &select.filter {
            self.put(" WHERE ")?;
            self.expr(filter)?;
        }
        if !select.group_by.is_empty() {
            self.put(" GROUP BY ")?;
            self.list(&select.group_by, Self::expr)?;
        }
        if !select.order_by.is_empty() {
            self.put(" ORDER BY ")?;
            self.list(&select.order_by, Self::order)?;
        }
        if let Some(limit) = &select.limit {
            self.put(" LIMIT ")?;
            self.operand(limit)?;
        }
        if let Some(offset) = &select.offset {
            self.put(" OFFSET ")?;
            self.operand(offset)?;
        }
        Ok(())
    }

    fn item(&mut self, item: &SelectItem) -> fmt::Result {
        match item {
            SelectItem::All => self.put("*"),
            SelectItem::Expr { expr, alias } => {
                self.expr(expr)?;
                self.alias(alias.as_ref())
            }
        }
    }

    fn alias(&mut self, alias: Option<&String>) -> fmt::Result {
        match alias {
            Some(alias) => {
                self.put(" AS ")?;
                self.name(alias)
            }
            None => Ok(()),
        }
    }

    fn from(&mut self, from: &From) -> fmt::Result {
        self.put(" FROM ")?;
        let (open, close) = match from.rows {
            RowSource::Statement(_) => ("[", "]"),
            RowSource::Query(_) => ("(", ")"),
            RowSource::Named(_) => ("", ""),
        };
        self.put(open)?;
        self.rows(&from.rows)?;
        self.put(close)?;
        self.alias(from.alias.as_ref())
    }

    fn order(&mut self, order: &Order) -> fmt::Result {
        self.expr(&order.expr)?;
        if order.is_descending {
            self.put(" DESC")?;
        }
        match order.nulls_first {
            None => Ok(()),
            Some(true) => self.put(" NULLS FIRST"),
            Some(false) => self.put(" NULLS LAST"),
        }
    }
}
