//! SELECT, VALUES and expressions.

use super::{Parsed, Parser};
use crate::error::SqlError;
use crate::syntax::ast::Statement;
use crate::syntax::expression::{
    BinaryOperator, Call, ColumnName, Expr, From, Order, Query, RowSource, Select, SelectItem,
    TypeName, UnaryOperator,
};
use crate::syntax::token::TokenKind;

impl Parser<'_> {
    /// Whether a query begins here.
    pub(super) fn starts_query(&mut self) -> bool {
        for word in ["SELECT", "VALUES", "WITH"] {
            if self.peek_is(0, word) {
                return true;
            }
        }
        self.expecting("SELECT");
        self.expecting("VALUES");
        matches!(self.peek(), TokenKind::Symbol("("))
    }

    pub(super) fn query(&mut self) -> Parsed<Query> {
        self.nested(|parser| {
            if parser.symbol("(") {
                let query = parser.query()?;
                parser.expect_symbol(")")?;
                return Ok(query);
            }
            if parser.word("VALUES") {
                return parser.list(Self::values_row).map(Query::Values);
            }
            let with = match parser.word("WITH") {
                true => parser.list(Self::with_item)?,
                false => Vec::new(),
            };
            parser.expect("SELECT")?;
            let select = parser.select(with)?;
            Ok(Query::Select(Box::new(select)))
        })
    }

    fn values_row(&mut self) -> Parsed<Vec<Expr>> {
        self.expect_symbol("(")?;
        let row = self.list(Self::expr)?;
        self.expect_symbol(")")?;
        Ok(row)
    }

    fn with_item(&mut self) -> Parsed<(String, RowSource)> {
        let name = self.name("a name")?;
        self.expect("AS")?;
        self.expect_symbol("(")?;
        let rows = self.inner_rows()?;
        self.expect_symbol(")")?;
        Ok((name, rows))
    }

    /// A query, or a statement that gives rows.
    fn inner_rows(&mut self) -> Parsed<RowSource> {
        if self.starts_query() {
            return self.query().map(RowSource::Query);
        }
        let start = self.at;
        let statement = self.statement()?;
        if let Some(error) = refuse_as_rows(&statement) {
            return Err(self.point_at(error, start));
        }
        Ok(RowSource::Statement(Box::new(statement)))
    }

    fn select(&mut self, with: Vec<(String, RowSource)>) -> Parsed<Select> {
        let is_distinct = self.word("DISTINCT");
        let items = self.list(Self::select_item)?;
        let from = match self.word("FROM") {
            true => Some(self.from()?),
            false => None,
        };
        let filter = match self.word("WHERE") {
            true => Some(self.expr()?),
            false => None,
        };
        let group_by = match self.phrase("GROUP", "BY")? {
            true => self.list(Self::expr)?,
            false => Vec::new(),
        };
        if self.peek_is(0, "HAVING") {
            return Err(self.point(SqlError::unsupported("HAVING")));
        }
        let order_by = match self.phrase("ORDER", "BY")? {
            true => self.list(Self::order)?,
            false => Vec::new(),
        };
        let (mut limit, mut offset) = (None, None);
        // In either order, as PostgreSQL has it.
        for _ in 0..2 {
            if limit.is_none() && self.word("LIMIT") {
                limit = Some(self.operand()?);
            }
            if offset.is_none() && self.word("OFFSET") {
                offset = Some(self.operand()?);
            }
        }
        for what in ["UNION", "INTERSECT", "EXCEPT", "JOIN"] {
            if self.peek_is(0, what) {
                return Err(self.point(SqlError::unsupported(what)));
            }
        }
        Ok(Select {
            with,
            is_distinct,
            items,
            from,
            filter,
            group_by,
            order_by,
            limit,
            offset,
        })
    }

    fn select_item(&mut self) -> Parsed<SelectItem> {
        if self.symbol("*") {
            return Ok(SelectItem::All);
        }
        let expr = self.expr()?;
        let alias = self.alias()?;
        Ok(SelectItem::Expr { expr, alias })
    }

    /// `AS name`, or a bare name that no clause begins with.
    fn alias(&mut self) -> Parsed<Option<String>> {
        if self.word("AS") {
            return self.name("a name").map(Some);
        }
        match self.peek() {
            TokenKind::Name(_) => self.name("a name").map(Some),
            TokenKind::Word(word)
                if !super::is_reserved(word)
                    && !["union", "intersect", "except", "join", "having", "options"]
                        .contains(&word.as_str()) =>
            {
                self.name("a name").map(Some)
            }
            _ => Ok(None),
        }
    }

    fn from(&mut self) -> Parsed<From> {
        let rows = if self.symbol("[") {
            let rows = self.inner_rows()?;
            self.expect_symbol("]")?;
            rows
        } else if self.symbol("(") {
            let query = self.query()?;
            self.expect_symbol(")")?;
            RowSource::Query(query)
        } else {
            self.expecting("[SHOW JOBS]");
            RowSource::Named(self.name("a name of WITH")?)
        };
        let alias = self.alias()?;
        if matches!(self.peek(), TokenKind::Symbol(",")) {
            return Err(self.point(SqlError::unsupported("more than one table in FROM")));
        }
        Ok(From { rows, alias })
    }

    fn order(&mut self) -> Parsed<Order> {
        let expr = self.expr()?;
        let is_descending = self.word("DESC");
        if !is_descending {
            self.word("ASC");
        }
        let nulls_first = match self.word("NULLS") {
            false => None,
            true if self.word("FIRST") => Some(true),
            true => {
                self.expect("LAST")?;
                Some(false)
            }
        };
        Ok(Order {
            expr,
            is_descending,
            nulls_first,
        })
    }

    /// An expression.
    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.nested(|parser| {
            let mut left = parser.conjunction()?;
            while parser.word("OR") {
                let right = parser.conjunction()?;
                left = binary(BinaryOperator::Or, left, right);
            }
            Ok(left)
        })
    }

    fn conjunction(&mut self) -> Parsed<Expr> {
        let mut left = self.negation()?;
        while self.word("AND") {
            let right = self.negation()?;
            left = binary(BinaryOperator::And, left, right);
        }
        Ok(left)
    }

    fn negation(&mut self) -> Parsed<Expr> {
        if self.word("NOT") {
            let operand = self.nested(Self::negation)?;
            return Ok(Expr::Unary(UnaryOperator::Not, Box::new(operand)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parsed<Expr> {
        let left = self.operand()?;
        const SYMBOLS: [(&str, BinaryOperator); 7] = [
            ("=", BinaryOperator::Equal),
            ("<>", BinaryOperator::Unequal),
            ("!=", BinaryOperator::Unequal),
            ("<=", BinaryOperator::LessOrEqual),
            (">=", BinaryOperator::GreaterOrEqual),
            ("<", BinaryOperator::Less),
            (">", BinaryOperator::Greater),
        ];
        for (symbol, operator) in SYMBOLS {
            if self.symbol(symbol) {
                let right = self.operand()?;
                return Ok(binary(operator, left, right));
            }
        }
        if self.word("IS") {
            let is_negated = self.word("NOT");
            self.expect("NULL")?;
            return Ok(Expr::IsNull {
                operand: Box::new(left),
                is_negated,
            });
        }
        let is_negated = self.word("NOT");
        if self.word("IN") {
            self.expect_symbol("(")?;
            if matches!(self.peek(), TokenKind::Word(word) if word == "select" || word == "with") {
                return Err(self.point(SqlError::unsupported("a query in IN: list the values")));
            }
            let list = self.list(Self::expr)?;
            self.expect_symbol(")")?;
            return Ok(Expr::In {
                operand: Box::new(left),
                list,
                is_negated,
            });
        }
        if self.word("LIKE") {
            let operator = if is_negated {
                BinaryOperator::NotLike
            } else {
                BinaryOperator::Like
            };
            return Ok(binary(operator, left, self.operand()?));
        }
        if self.word("ILIKE") {
            let operator = if is_negated {
                BinaryOperator::NotIlike
            } else {
                BinaryOperator::Ilike
            };
            return Ok(binary(operator, left, self.operand()?));
        }
        if self.word("BETWEEN") {
            let low = self.operand()?;
            self.expect("AND")?;
            let high = self.operand()?;
            let above = binary(BinaryOperator::GreaterOrEqual, left.clone(), low);
            let below = binary(BinaryOperator::LessOrEqual, left, high);
            let between = binary(BinaryOperator::And, above, below);
            return Ok(match is_negated {
                true => Expr::Unary(UnaryOperator::Not, Box::new(between)),
                false => between,
            });
        }
        match is_negated {
            true => Err(self.unexpected()),
            false => Ok(left),
        }
    }

    /// An expression without comparisons and AND, OR, NOT outside of parentheses.
    pub(super) fn operand(&mut self) -> Parsed<Expr> {
        let mut left = self.product()?;
        loop {
            let operator = if self.symbol("+") {
                BinaryOperator::Plus
            } else if self.symbol("-") {
                BinaryOperator::Minus
            } else if self.symbol("||") {
                BinaryOperator::Concat
            } else {
                return Ok(left);
            };
            left = binary(operator, left, self.product()?);
        }
    }

    fn product(&mut self) -> Parsed<Expr> {
        let mut left = self.signed()?;
        loop {
            let operator = if self.symbol("*") {
                BinaryOperator::Times
            } else if self.symbol("/") {
                BinaryOperator::Divide
            } else if self.symbol("%") {
                BinaryOperator::Modulo
            } else {
                return Ok(left);
            };
            left = binary(operator, left, self.signed()?);
        }
    }

    fn signed(&mut self) -> Parsed<Expr> {
        if self.symbol("-") {
            let operand = self.nested(Self::signed)?;
            return Ok(Expr::Unary(UnaryOperator::Minus, Box::new(operand)));
        }
        self.symbol("+");
        let mut expr = self.primary()?;
        while self.symbol("::") {
            let name = self.type_name()?;
            expr = Expr::Cast(Box::new(expr), name);
        }
        Ok(expr)
    }

    fn type_name(&mut self) -> Parsed<TypeName> {
        let start = self.at;
        let name = self.name("a type")?;
        if name == "timestamp" && self.word("WITH") {
            self.expect("TIME ZONE")?;
        }
        let known = TypeName::ALL
            .into_iter()
            .find(|(_, names)| names.contains(&name.as_str()));
        match known {
            Some((known, _)) => Ok(known),
            None => Err(self.point_at(
                SqlError::new(
                    crate::error::state::UNDEFINED_OBJECT,
                    format!("type \"{name}\" does not exist"),
                ),
                start,
            )),
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let expr = match self.peek() {
            TokenKind::Text(text) => Expr::Text(text.clone()),
            TokenKind::Number(number) => Expr::Number(number.clone()),
            TokenKind::Placeholder(number) => Expr::Placeholder(*number),
            TokenKind::Symbol("(") => {
                self.advance();
                let expr = self.expr()?;
                self.expect_symbol(")")?;
                return Ok(expr);
            }
            TokenKind::Word(word) => match word.as_str() {
                "null" => Expr::Null,
                "true" => Expr::Bool(true),
                "false" => Expr::Bool(false),
                "interval" => match &self.token(1).kind {
                    TokenKind::Text(text) => {
                        let text = text.clone();
                        self.advance();
                        Expr::Interval(text)
                    }
                    _ => return self.column_or_call(),
                },
                _ => return self.column_or_call(),
            },
            TokenKind::Name(_) => return self.column_or_call(),
            _ => {
                self.expecting("an expression");
                return Err(self.unexpected());
            }
        };
        self.advance();
        Ok(expr)
    }

    fn column_or_call(&mut self) -> Parsed<Expr> {
        let is_quoted = matches!(self.peek(), TokenKind::Name(_));
        let name = self.name("an expression")?;
        if !is_quoted && self.symbol("(") {
            return self.call(name);
        }
        if self.symbol(".") {
            let inner = self.name("a column")?;
            if self.symbol("(") {
                // `pg_catalog.version()`
                return self.call(inner);
            }
            return Ok(Expr::Column(ColumnName {
                table: Some(name),
                name: inner,
            }));
        }
        // These take no parentheses.
        let is_function = [
            "current_timestamp",
            "current_user",
            "session_user",
            "current_catalog",
        ];
        if !is_quoted && is_function.contains(&name.as_str()) {
            return Ok(Expr::Call(Call {
                function: name,
                arguments: Vec::new(),
                is_of_rows: false,
                is_distinct: false,
            }));
        }
        Ok(Expr::Column(ColumnName { table: None, name }))
    }

    fn call(&mut self, function: String) -> Parsed<Expr> {
        let mut call = Call {
            function,
            arguments: Vec::new(),
            is_of_rows: false,
            is_distinct: false,
        };
        if self.symbol("*") {
            call.is_of_rows = true;
        } else if !matches!(self.peek(), TokenKind::Symbol(")")) {
            call.is_distinct = self.word("DISTINCT");
            call.arguments = self.list(Self::expr)?;
        }
        self.expect_symbol(")")?;
        Ok(Expr::Call(call))
    }
}

fn binary(operator: BinaryOperator, left: Expr, right: Expr) -> Expr {
    Expr::Binary(operator, Box::new(left), Box::new(right))
}

/// Whether a statement can stand where rows are read from: it must only look.
fn refuse_as_rows(statement: &Statement) -> Option<SqlError> {
    let looks = matches!(
        statement,
        Statement::ShowBackups(_)
            | Statement::ShowBackup(_)
            | Statement::ShowJobs(_)
            | Statement::ShowSchedules(_)
            | Statement::ShowSchedule(_)
            | Statement::ShowCreateSchedules(_)
            | Statement::ShowConnections(_)
            | Statement::ShowCreateConnections(_)
            | Statement::CheckConnection { .. }
            | Statement::ShowSources(_)
            | Statement::ShowCreateSource(_)
            | Statement::CheckSource { .. }
            | Statement::ShowHolds
            | Statement::ShowWorkers
            | Statement::ShowCluster
            | Statement::ShowCoordinators
            | Statement::ShowClusterSettings(_)
            | Statement::ShowUsers
    );
    (!looks).then(|| SqlError::syntax("rows are read from a SHOW statement, and this is none"))
}
