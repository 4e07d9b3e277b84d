//! What many statements have in common: texts, URIs, options, AS OF.

use std::collections::BTreeMap;

use super::{Parsed, Parser};
use crate::error::SqlError;
use crate::syntax::expression::{Expr, Str};
use crate::syntax::options::{OptionKind, OptionTable, OptionValue, Options, Truth};
use crate::syntax::token::TokenKind;
use crate::syntax::words::{is_reserved, nearest};

impl Parser<'_> {
    /// A text, a placeholder, or a bare word that is taken as its text.
    pub(super) fn text(&mut self, what: &str) -> Parsed<Str> {
        let text = match self.peek() {
            TokenKind::Text(text) => Str::Literal(text.clone()),
            TokenKind::Placeholder(number) => Str::Placeholder(*number),
            TokenKind::Name(name) => Str::Literal(name.clone()),
            TokenKind::Word(word) if !is_reserved(word) => Str::Literal(word.clone()),
            _ => {
                self.expecting(what);
                return Err(self.unexpected());
            }
        };
        self.advance();
        Ok(text)
    }

    /// The same, or a number or truth value, as options have them.
    fn value(&mut self) -> Parsed<Str> {
        match self.peek() {
            TokenKind::Number(number) => {
                let text = Str::Literal(number.clone());
                self.advance();
                Ok(text)
            }
            TokenKind::Word(word) if word == "true" || word == "false" => {
                let text = Str::Literal(word.clone());
                self.advance();
                Ok(text)
            }
            _ => self.text("a text"),
        }
    }

    /// A URI, or several in parentheses.
    pub(super) fn uris(&mut self) -> Parsed<Vec<Str>> {
        if self.symbol("(") {
            let uris = self.list(|parser| parser.text("a URI"))?;
            self.expect_symbol(")")?;
            return Ok(uris);
        }
        Ok(vec![self.text("a URI")?])
    }

    /// `AS OF SYSTEM TIME …`
    pub(super) fn as_of(&mut self) -> Parsed<Option<Expr>> {
        if !self.phrase("AS", "OF SYSTEM TIME")? {
            return Ok(None);
        }
        self.operand().map(Some)
    }

    /// `OF SOURCE name`
    pub(super) fn of_source(&mut self) -> Parsed<Option<String>> {
        if !self.phrase("OF", "SOURCE")? {
            return Ok(None);
        }
        self.name("the name of a source").map(Some)
    }

    /// `WITH a, b` or `WITH OPTIONS (a, b)`.
    pub(super) fn with_options(&mut self, table: &'static OptionTable) -> Parsed<Options> {
        // `WITH SCHEDULE OPTIONS` is something else.
        if self.peek_is(0, "WITH") && self.peek_is(1, "SCHEDULE") || !self.word("WITH") {
            return Ok(Options::none(table));
        }
        self.option_list(table)
    }

    /// What follows WITH.
    pub(super) fn option_list(&mut self, table: &'static OptionTable) -> Parsed<Options> {
        if self.word("OPTIONS") {
            self.expect_symbol("(")?;
            return self.closed_options(table);
        }
        if self.symbol("(") {
            return self.closed_options(table);
        }
        self.options(table)
    }

    fn closed_options(&mut self, table: &'static OptionTable) -> Parsed<Options> {
        let options = self.options(table)?;
        self.expect_symbol(")")?;
        Ok(options)
    }

    /// `WITH OPTIONS (a, b)` only: where a comma would be somebody else's.
    pub(super) fn with_closed_options(&mut self, table: &'static OptionTable) -> Parsed<Options> {
        if !self.word("WITH") {
            return Ok(Options::none(table));
        }
        self.word("OPTIONS");
        self.expect_symbol("(")?;
        self.closed_options(table)
    }

    fn options(&mut self, table: &'static OptionTable) -> Parsed<Options> {
        let mut given = BTreeMap::new();
        // Also those that are not kept, such as `detached = FALSE`.
        let mut seen = Vec::new();
        loop {
            let start = self.at;
            let (place, value) = self.option(table)?;
            if seen.contains(&place) {
                let name = table.options.get(place).map_or("", |option| option.name);
                let error = SqlError::syntax(format!("{name} option specified multiple times"));
                return Err(self.point_at(error, start));
            }
            seen.push(place);
            if let Some(value) = value {
                given.insert(place, value);
            }
            if !self.symbol(",") {
                return Ok(Options { table, given });
            }
        }
    }

    /// One option: its place in the table, and what it was given.
    pub(super) fn option(
        &mut self,
        table: &'static OptionTable,
    ) -> Parsed<(usize, Option<OptionValue>)> {
        for refused in table.refused {
            if self.takes_words(refused.name) {
                let words = refused.name.split(' ').count();
                let error = SqlError::meaningless(refused.why);
                return Err(self.point_at(error, self.at - words));
            }
        }
        let alias = |(from, to): &(&'static str, &'static str)| (*from, *to);
        let names = table
            .options
            .iter()
            .map(|option| (option.name, option.name));
        // Longer names first, so that `strict` does not hide `strict storage locality`.
        let mut names: Vec<_> = names.chain(table.aliases.iter().map(alias)).collect();
        names.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        let named = names
            .into_iter()
            .find_map(|(from, to)| self.takes_words(from).then_some(to));
        let place = named.and_then(|name| table.options.iter().position(|o| o.name == name));
        match place {
            Some(place) => {
                let kind = table.options[place].kind;
                Ok((place, self.option_value(kind)?))
            }
            None => Err(self.unknown_option(table)),
        }
    }

    fn unknown_option(&self, table: &'static OptionTable) -> SqlError {
        let names: Vec<&str> = table.options.iter().map(|option| option.name).collect();
        let error = SqlError::syntax(format!("syntax error at or near {}", self.shown()));
        let meant = match self.peek() {
            TokenKind::Word(word) => nearest(word, names.iter().copied()),
            _ => None,
        };
        let error = match meant {
            Some(meant) => error.hint(format!("did you mean {meant}?")),
            None => error,
        };
        self.point(error.detail(format!("expected an option: {}", names.join(", "))))
    }

    /// Whether all words of a name follow; then they are taken.
    fn takes_words(&mut self, name: &str) -> bool {
        let words: Vec<&str> = name.split(' ').collect();
        let all = (words.iter().enumerate()).all(|(ahead, word)| self.peek_is(ahead, word));
        if all {
            for _ in &words {
                self.advance();
            }
        }
        all
    }

    fn option_value(&mut self, kind: OptionKind) -> Parsed<Option<OptionValue>> {
        match kind {
            OptionKind::Flag => Ok(Some(OptionValue::On)),
            OptionKind::Switch if self.symbol("=") => {
                let is_on = self.word("TRUE");
                if !is_on {
                    self.expect("FALSE")?;
                }
                Ok(is_on.then_some(OptionValue::On))
            }
            OptionKind::Switch => Ok(Some(OptionValue::On)),
            OptionKind::Bool if self.symbol("=") => self.truth().map(OptionValue::Bool).map(Some),
            OptionKind::Bool => Ok(Some(OptionValue::Bool(Truth::Value(true)))),
            OptionKind::Text | OptionKind::Secret => {
                self.expect_symbol("=")?;
                self.value().map(OptionValue::Text).map(Some)
            }
            OptionKind::Uris => {
                self.expect_symbol("=")?;
                self.uris().map(OptionValue::Uris).map(Some)
            }
        }
    }

    fn truth(&mut self) -> Parsed<Truth> {
        let truth = match self.peek() {
            TokenKind::Placeholder(number) => Some(Truth::Placeholder(*number)),
            TokenKind::Word(word) | TokenKind::Text(word) => {
                match word.to_ascii_lowercase().as_str() {
                    "true" => Some(Truth::Value(true)),
                    "false" => Some(Truth::Value(false)),
                    _ => None,
                }
            }
            _ => None,
        };
        let Some(truth) = truth else {
            self.expecting("TRUE");
            self.expecting("FALSE");
            return Err(self.unexpected());
        };
        self.advance();
        Ok(truth)
    }
}
