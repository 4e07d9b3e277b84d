//! What is written in a statement, with its placeholders filled in.

use holdfast_client::v1;
use holdfast_types::AsOf;

use super::Run;
use crate::error::{SqlError, state};
use crate::query::{constant, to_int};
use crate::rows::Value;
use crate::syntax::expression::{Expr, Str};
use crate::syntax::options::{OptionValue, Options, Truth};
use crate::times::{ago, as_of_text};

fn wrong_type(number: u16, what: &str) -> SqlError {
    SqlError::new(
        state::INVALID_PARAMETER_VALUE,
        format!("parameter ${number} must be {what}"),
    )
}

impl Run<'_> {
    fn parameter(&self, number: u16) -> Result<Value, SqlError> {
        constant(&self.known(), &Expr::Placeholder(number))
    }

    pub(super) fn text(&self, text: &Str) -> Result<String, SqlError> {
        match text {
            Str::Literal(text) => Ok(text.clone()),
            Str::Placeholder(number) => match self.parameter(*number)? {
                Value::Text(text) => Ok(text),
                Value::Int(number) => Ok(number.to_string()),
                Value::Bool(value) => Ok(value.to_string()),
                _ => Err(wrong_type(*number, "a text")),
            },
        }
    }

    /// The URI of a collection's default store, and those of its stores for localities.
    pub(super) fn stores(&self, uris: &[Str]) -> Result<(String, Vec<String>), SqlError> {
        let mut all = Vec::new();
        for uri in uris {
            all.push(self.text(uri)?);
        }
        let mut all = all.into_iter();
        match all.next() {
            Some(first) => Ok((first, all.collect())),
            None => Err(SqlError::syntax("a collection needs a URI")),
        }
    }

    pub(super) fn option_text(
        &self,
        options: &Options,
        name: &str,
    ) -> Result<Option<String>, SqlError> {
        match options.get(name) {
            Some(OptionValue::Text(text)) => self.text(text).map(Some),
            _ => Ok(None),
        }
    }

    /// What encrypts a backup, or opens it.
    pub(super) fn encryption(
        &self,
        options: &Options,
    ) -> Result<Option<v1::EncryptionKeys>, SqlError> {
        let passphrase = self.option_text(options, "encryption_passphrase")?;
        let mut kms = Vec::new();
        if let Some(OptionValue::Uris(uris)) = options.get("kms") {
            for uri in uris {
                kms.push(self.text(uri)?);
            }
        }
        let is_given = passphrase.is_some() || !kms.is_empty();
        Ok(is_given.then(|| v1::EncryptionKeys {
            passphrase: passphrase.unwrap_or_default(),
            kms,
            kdf: String::new(),
        }))
    }

    pub(super) fn option_bool(
        &self,
        options: &Options,
        name: &str,
    ) -> Result<Option<bool>, SqlError> {
        match options.get(name) {
            Some(OptionValue::Bool(Truth::Value(value))) => Ok(Some(*value)),
            Some(OptionValue::Bool(Truth::Placeholder(number))) => {
                let is_bool = |text: &str| match text {
                    "true" | "t" => Some(true),
                    "false" | "f" => Some(false),
                    _ => None,
                };
                let value = match self.parameter(*number)? {
                    Value::Bool(value) => Some(value),
                    Value::Text(text) => is_bool(&text.to_ascii_lowercase()),
                    _ => None,
                };
                value
                    .map(Some)
                    .ok_or_else(|| wrong_type(*number, "true or false"))
            }
            _ => Ok(None),
        }
    }

    /// Refuses options that cannot be honoured; none is ever ignored.
    pub(super) fn refuse_options(
        &self,
        options: &Options,
        refused: &[(&str, &str)],
    ) -> Result<(), SqlError> {
        for (name, why) in refused {
            if options.has(name) {
                return Err(SqlError::unsupported(format_args!("option {name}: {why}")));
            }
        }
        Ok(())
    }

    /// `AS OF SYSTEM TIME`, as the cluster reads it; empty if it was not said.
    pub(super) fn as_of(&self, as_of: Option<&Expr>) -> Result<String, SqlError> {
        let Some(expr) = as_of else {
            return Ok(String::new());
        };
        // A decimal has more digits than a number of ours.
        if let Expr::Number(number) = expr {
            return as_of_text(number);
        }
        match constant(&self.known(), expr)? {
            Value::Text(text) => as_of_text(&text),
            Value::Int(number) => as_of_text(&number.to_string()),
            Value::Time(time) => Ok(time.to_string()),
            Value::Interval(micros) => ago(micros, &crate::times::show_interval(micros)),
            Value::Null
            | Value::Bool(_)
            | Value::Float(_)
            | Value::Json(_)
            | Value::TextArray(_) => Err(SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                "AS OF SYSTEM TIME: the value is neither a timestamp, nor a decimal, nor an interval",
            )),
        }
    }

    /// An instant in the past or future, for NEWER THAN and OLDER THAN.
    pub(super) fn instant(&self, expr: &Expr) -> Result<holdfast_types::Timestamp, SqlError> {
        let text = self.as_of(Some(expr))?;
        let as_of: AsOf = text.parse().map_err(SqlError::from)?;
        let now = self.executor.env.clock.now();
        Ok(as_of.instant(now).map_err(SqlError::from)?.wall)
    }

    /// A number that counts or identifies something.
    pub(super) fn number(&self, expr: &Expr, what: &str) -> Result<u64, SqlError> {
        let number = to_int(constant(&self.known(), expr)?)?;
        u64::try_from(number).map_err(|_| {
            SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!("{what} must not be negative, and {number} is"),
            )
        })
    }
}
