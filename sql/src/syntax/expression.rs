//! Expressions and queries.

use super::ast::Statement;

/// A text, or the placeholder of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Str {
    /// As it was written. A bare word is one too.
    Literal(String),
    /// `$1`
    Placeholder(u16),
}

/// A scalar expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Null,
    Bool(bool),
    /// As it was written, without sign.
    Number(String),
    Text(String),
    Placeholder(u16),
    /// `INTERVAL '10s'`
    Interval(String),
    /// A column.
    Column(ColumnName),
    Unary(UnaryOperator, Box<Expr>),
    Binary(BinaryOperator, Box<Expr>, Box<Expr>),
    IsNull {
        operand: Box<Expr>,
        is_negated: bool,
    },
    In {
        operand: Box<Expr>,
        list: Vec<Expr>,
        is_negated: bool,
    },
    Call(Call),
    Cast(Box<Expr>, TypeName),
}

/// A column's name, and its table's, if that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnName {
    pub(crate) table: Option<String>,
    pub(crate) name: String,
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) function: String,
    pub(crate) arguments: Vec<Expr>,
    /// `count(*)`
    pub(crate) is_of_rows: bool,
    pub(crate) is_distinct: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnaryOperator {
    Minus,
    Not,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BinaryOperator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    NotLike,
    Ilike,
    NotIlike,
    Plus,
    Minus,
    Concat,
    Times,
    Divide,
    Modulo,
}

impl BinaryOperator {
    /// Every operator, for tests.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 18] = [
        Self::Or,
        Self::And,
        Self::Equal,
        Self::Unequal,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::Like,
        Self::NotLike,
        Self::Ilike,
        Self::NotIlike,
        Self::Plus,
        Self::Minus,
        Self::Concat,
        Self::Times,
        Self::Divide,
        Self::Modulo,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Or => "OR",
            Self::And => "AND",
            Self::Equal => "=",
            Self::Unequal => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Like => "LIKE",
            Self::NotLike => "NOT LIKE",
            Self::Ilike => "ILIKE",
            Self::NotIlike => "NOT ILIKE",
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Concat => "||",
            Self::Times => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
        }
    }
}

/// What a value can be made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TypeName {
    Int,
    Float,
    Text,
    Bool,
    Timestamp,
    Interval,
}

impl TypeName {
    /// Every type, and the names that it goes by; the first is printed.
    pub(crate) const ALL: [(Self, &'static [&'static str]); 6] = [
        (
            Self::Int,
            &[
                "int8", "int", "bigint", "integer", "int4", "int2", "smallint",
            ],
        ),
        (
            Self::Float,
            &["float8", "float", "decimal", "numeric", "real", "float4"],
        ),
        (Self::Text, &["text", "string", "varchar", "name"]),
        (Self::Bool, &["bool", "boolean"]),
        (Self::Timestamp, &["timestamptz", "timestamp"]),
        (Self::Interval, &["interval"]),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        let names = Self::ALL.iter().find(|(known, _)| *known == self);
        names
            .and_then(|(_, names)| names.first())
            .copied()
            .unwrap_or_default()
    }
}

/// Rows: `SELECT …` or `VALUES …`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Query {
    Select(Box<Select>),
    Values(Vec<Vec<Expr>>),
}

/// `WITH … SELECT …`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Select {
    pub(crate) with: Vec<(String, RowSource)>,
    pub(crate) is_distinct: bool,
    pub(crate) items: Vec<SelectItem>,
    pub(crate) from: Option<From>,
    pub(crate) filter: Option<Expr>,
    pub(crate) group_by: Vec<Expr>,
    pub(crate) order_by: Vec<Order>,
    pub(crate) limit: Option<Expr>,
    pub(crate) offset: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SelectItem {
    All,
    Expr { expr: Expr, alias: Option<String> },
}

/// What follows FROM.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct From {
    pub(crate) rows: RowSource,
    pub(crate) alias: Option<String>,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RowSource {
    /// `[SHOW JOBS]`
    Statement(Box<Statement>),
    /// `(SELECT …)`
    Query(Query),
    /// A name of WITH.
    Named(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    pub(crate) expr: Expr,
    pub(crate) is_descending: bool,
    /// `None`: as usual, last when ascending.
    pub(crate) nulls_first: Option<bool>,
}
