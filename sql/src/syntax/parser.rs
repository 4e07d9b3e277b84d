//! The parser: recursive descent, one function a production.
//!
//! Whatever is asked for at a token and not found there is remembered, so that an error can say what was expected, and which word was probably meant.

mod backups;
mod jobs;
mod lists;
mod objects;
mod queries;
mod schedules;
mod session;

use super::ast::Statement;
use super::token::{Token, TokenKind, tokens};
use super::words::{is_reserved, nearest};
use crate::error::{SqlError, state};

/// How deep statements and expressions may be nested.
const MAX_DEPTH: usize = 64;
/// Statements in one text.
const MAX_STATEMENTS: usize = 1000;
/// Expected words that an error lists.
const MAX_LISTED: usize = 12;

/// Reads all statements of a text. None are in an empty one.
///
/// # Errors
/// It is not SQL as it is spoken here; the error points at where it stops being that.
pub(crate) fn parse(sql: &str) -> Result<Vec<Statement>, SqlError> {
    let mut parser = Parser::new(sql)?;
    let mut statements = Vec::new();
    loop {
        while parser.symbol(";") {}
        if parser.peek() == &TokenKind::End {
            return Ok(statements);
        }
        if statements.len() == MAX_STATEMENTS {
            return Err(SqlError::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                format!("more than {MAX_STATEMENTS} statements in one text"),
            ));
        }
        statements.push(parser.statement()?);
        if parser.peek() != &TokenKind::End && !parser.symbol(";") {
            return Err(parser.unexpected());
        }
    }
}

/// The highest number of a placeholder in a text.
///
/// # Errors
/// It is not made of tokens.
pub(crate) fn placeholders(sql: &str) -> Result<u16, SqlError> {
    let numbers = tokens(sql)?.into_iter().map(|token| match token.kind {
        TokenKind::Placeholder(number) => number,
        _ => 0,
    });
    Ok(numbers.max().unwrap_or(0))
}

pub(super) struct Parser<'a> {
    sql: &'a str,
    tokens: Vec<Token>,
    at: usize,
    /// What was asked for at this token, in capitals.
    expected: Vec<String>,
    depth: usize,
}

type Parsed<T> = Result<T, SqlError>;

impl<'a> Parser<'a> {
    fn new(sql: &'a str) -> Parsed<Self> {
        Ok(Self {
            sql,
            tokens: tokens(sql)?,
            at: 0,
            expected: Vec::new(),
            depth: 0,
        })
    }

    /// The statement that begins here.
    fn statement(&mut self) -> Parsed<Statement> {
        self.nested(|parser| {
            let start = parser.at;
            if parser.word("EXPLAIN") {
                return Ok(Statement::Explain(Box::new(parser.statement()?)));
            }
            let statement = match () {
                () if parser.word("BACKUP") => parser.backup(),
                () if parser.word("RESTORE") => parser.restore(),
                () if parser.word("VERIFY") => parser.verify(),
                () if parser.word("EXPIRE") => parser.expire(),
                () if parser.word("SHOW") => parser.show(),
                () if parser.word("PAUSE") => parser.pause(),
                () if parser.word("RESUME") => parser.resume(),
                () if parser.word("CANCEL") => parser.cancel(),
                () if parser.word("CREATE") => parser.create(),
                () if parser.word("ALTER") => parser.alter(),
                () if parser.word("DROP") => parser.drop_object(),
                () if parser.word("CHECK") => parser.check(),
                () if parser.word("EXECUTE") => parser.execute_schedules(),
                () => match parser.session_statement()? {
                    Some(statement) => Ok(statement),
                    None if parser.starts_query() => parser.query().map(Statement::Query),
                    None => Err(parser.unexpected()),
                },
            }?;
            debug_assert!(parser.at > start, "a statement has a token");
            Ok(statement)
        })
    }

    /// Something that can hold itself.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            return Err(self.point(SqlError::new(
                state::STATEMENT_TOO_COMPLEX,
                format!("the statement is nested more than {MAX_DEPTH} deep"),
            )));
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn token(&self, ahead: usize) -> &Token {
        let last = self.tokens.len().saturating_sub(1);
        &self.tokens[(self.at + ahead).min(last)]
    }

    fn peek(&self) -> &TokenKind {
        &self.token(0).kind
    }

    fn peek_is(&self, ahead: usize, word: &str) -> bool {
        matches!(&self.token(ahead).kind, TokenKind::Word(w) if w.eq_ignore_ascii_case(word))
    }

    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len().saturating_sub(1));
        self.expected.clear();
    }

    fn expecting(&mut self, what: &str) {
        if !self.expected.iter().any(|known| known == what) {
            self.expected.push(what.to_owned());
        }
    }

    /// Whether this word is here; then it is taken.
    fn word(&mut self, word: &str) -> bool {
        if self.peek_is(0, word) {
            self.advance();
            return true;
        }
        self.expecting(word);
        false
    }

    /// These words, one after the other.
    fn expect(&mut self, words: &str) -> Parsed<()> {
        for word in words.split(' ') {
            if !self.word(word) {
                return Err(self.unexpected());
            }
        }
        Ok(())
    }

    /// `IF NOT EXISTS` and the like: the first word decides, the others must follow.
    fn phrase(&mut self, first: &str, rest: &str) -> Parsed<bool> {
        if !self.word(first) {
            return Ok(false);
        }
        self.expect(rest).map(|()| true)
    }

    /// Whether this symbol is here; then it is taken.
    fn symbol(&mut self, symbol: &str) -> bool {
        if matches!(self.peek(), TokenKind::Symbol(s) if *s == symbol) {
            self.advance();
            return true;
        }
        // Punctuation that merely could follow tells nobody anything.
        false
    }

    fn expect_symbol(&mut self, symbol: &str) -> Parsed<()> {
        if self.symbol(symbol) {
            return Ok(());
        }
        self.expecting(&format!("\"{symbol}\""));
        Err(self.unexpected())
    }

    /// A name that is no reserved word.
    fn name(&mut self, what: &str) -> Parsed<String> {
        match self.peek() {
            TokenKind::Word(word) if !is_reserved(word) => {
                let name = word.clone();
                self.advance();
                Ok(name)
            }
            TokenKind::Name(name) => {
                let name = name.clone();
                self.advance();
                Ok(name)
            }
            _ => {
                self.expecting(what);
                Err(self.unexpected())
            }
        }
    }

    /// A list with commas.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.symbol(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Points an error at the present token.
    fn point(&self, error: SqlError) -> SqlError {
        self.point_at(error, self.at)
    }

    /// Points an error at a token.
    fn point_at(&self, error: SqlError, token: usize) -> SqlError {
        match self.tokens.get(token) {
            Some(token) => error.at(self.sql, token.start),
            None => error,
        }
    }

    /// What this text of the token says, for errors.
    fn shown(&self) -> String {
        let token = self.token(0);
        match &token.kind {
            TokenKind::End => "end of input".to_owned(),
            // It may be a passphrase in the wrong place.
            TokenKind::Text(_) => "a text".to_owned(),
            _ => format!("\"{}\"", &self.sql[token.start..token.end]),
        }
    }

    /// The present token does not belong here.
    fn unexpected(&self) -> SqlError {
        let at = match self.peek() {
            TokenKind::End => "at",
            _ => "at or near",
        };
        let error = SqlError::syntax(format!("syntax error {at} {}", self.shown()));
        let mut listed: Vec<&str> = self.expected.iter().map(String::as_str).collect();
        let meant = match self.peek() {
            TokenKind::Word(word) => {
                let words = listed.iter().copied();
                nearest(
                    word,
                    words.filter(|word| word.starts_with(char::is_alphabetic)),
                )
            }
            _ => None,
        };
        let error = match meant {
            Some(meant) => error.hint(format!("did you mean {meant}?")),
            None => error,
        };
        if listed.is_empty() {
            return self.point(error);
        }
        let left_out = listed.len() > MAX_LISTED;
        listed.truncate(MAX_LISTED);
        let dots = if left_out { ", …" } else { "" };
        self.point(error.detail(format!("expected {}{dots}", listed.join(", "))))
    }
}
