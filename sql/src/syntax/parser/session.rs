//! Statements about the session itself.

use super::{Parsed, Parser};
use crate::syntax::ast::Statement;
use crate::syntax::token::TokenKind;
use crate::syntax::words::VARIABLES;

impl Parser<'_> {
    /// A statement about the session, if one begins here.
    pub(super) fn session_statement(&mut self) -> Parsed<Option<Statement>> {
        let statement = match () {
            () if self.word("SET") => self.set()?,
            () if self.word("RESET") => match self.word("ALL") {
                true => Statement::Reset("all".to_owned()),
                false => Statement::Reset(self.variable()?),
            },
            () if self.word("BEGIN") => {
                self.skip_transaction();
                Statement::Begin
            }
            () if self.word("START") => {
                self.expect("TRANSACTION")?;
                self.skip_modes();
                Statement::Begin
            }
            () if self.word("COMMIT") || self.word("END") => {
                self.skip_transaction();
                Statement::Commit
            }
            () if self.word("ROLLBACK") || self.word("ABORT") => {
                self.skip_transaction();
                Statement::Rollback
            }
            () if self.word("DISCARD") => {
                self.expect("ALL")?;
                Statement::Discard
            }
            () if self.word("DEALLOCATE") => {
                self.word("PREPARE");
                match self.word("ALL") {
                    true => Statement::Deallocate(None),
                    false => {
                        Statement::Deallocate(Some(self.name("the name of a prepared statement")?))
                    }
                }
            }
            () => return Ok(None),
        };
        Ok(Some(statement))
    }

    fn skip_transaction(&mut self) {
        let _ = self.word("TRANSACTION") || self.word("WORK");
        self.skip_modes();
    }

    /// Modes of a transaction: there is nothing that they could change.
    fn skip_modes(&mut self) {
        const MODES: [&str; 11] = [
            "isolation",
            "level",
            "serializable",
            "repeatable",
            "read",
            "committed",
            "uncommitted",
            "only",
            "write",
            "deferrable",
            "not",
        ];
        loop {
            let is_mode =
                matches!(self.peek(), TokenKind::Word(word) if MODES.contains(&word.as_str()));
            if !is_mode && !matches!(self.peek(), TokenKind::Symbol(",")) {
                return;
            }
            self.advance();
        }
    }

    fn set(&mut self) -> Parsed<Statement> {
        if self.phrase("CLUSTER", "SETTING")? {
            let name = self.setting_name()?;
            if !self.symbol("=") {
                self.expect("TO")?;
            }
            let value = self.operand()?;
            return Ok(Statement::SetClusterSetting { name, value });
        }
        let is_session = self.word("SESSION");
        if !is_session {
            self.word("LOCAL");
        }
        if is_session && self.phrase("CHARACTERISTICS", "AS TRANSACTION")? {
            self.skip_modes();
            return Ok(transaction_modes());
        }
        if self.word("TRANSACTION") {
            self.skip_modes();
            return Ok(transaction_modes());
        }
        let variable = match self.phrase("TIME", "ZONE")? {
            true => "timezone".to_owned(),
            false => {
                let variable = self.variable()?;
                if !self.symbol("=") {
                    self.expect("TO")?;
                }
                variable
            }
        };
        let values = self.list(Self::variable_value)?;
        Ok(Statement::Set {
            variable,
            value: values.join(", "),
        })
    }

    fn variable(&mut self) -> Parsed<String> {
        self.setting_name().map(|name| name.to_lowercase())
    }

    fn variable_value(&mut self) -> Parsed<String> {
        let sign = if self.symbol("-") { "-" } else { "" };
        let value = match self.peek() {
            TokenKind::Word(word) | TokenKind::Name(word) | TokenKind::Text(word) => word.clone(),
            TokenKind::Number(number) => format!("{sign}{number}"),
            _ => {
                self.expecting("a value");
                return Err(self.unexpected());
            }
        };
        self.advance();
        Ok(value)
    }

    /// `SHOW name`, `SHOW TRANSACTION ISOLATION LEVEL`, `SHOW TIME ZONE`.
    pub(super) fn show_variable(&mut self) -> Parsed<Statement> {
        let variable = match () {
            () if self.phrase("TRANSACTION", "ISOLATION LEVEL")? => {
                "transaction_isolation".to_owned()
            }
            () if self.phrase("TIME", "ZONE")? => "timezone".to_owned(),
            () => {
                // What is no variable, and followed by something, is another SHOW with a typing error.
                let unexpected = self.unexpected();
                let variable = self.variable()?;
                let ends = matches!(
                    self.peek(),
                    TokenKind::End | TokenKind::Symbol(";" | "]" | ")")
                );
                let is_known = VARIABLES.binary_search(&variable.as_str()).is_ok();
                if !ends || !is_known && unexpected.hint.is_some() {
                    return Err(unexpected);
                }
                variable
            }
        };
        Ok(Statement::ShowVariable(variable))
    }
}

fn transaction_modes() -> Statement {
    Statement::Set {
        variable: "transaction_isolation".to_owned(),
        value: "serializable".to_owned(),
    }
}
