//! Prepared statements and portals.

use pgwire::messages::extendedquery::{Bind, Parse};

use super::encode::Formats;
use super::parameters::{self, oid};
use crate::error::{SqlError, state};
use crate::rows::{Column, Value};
use crate::syntax::ast::Statement;
use crate::syntax::{parse, placeholders};

/// A prepared statement.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    /// `None`: an empty text.
    pub(super) statement: Option<Statement>,
    /// The types of its placeholders; those that the client left open are texts.
    pub(super) types: Vec<u32>,
}

impl Prepared {
    pub(super) fn read(message: &Parse) -> Result<Self, SqlError> {
        let mut statements = parse(&message.query)?;
        if statements.len() > 1 {
            return Err(SqlError::syntax(
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        let count = usize::from(placeholders(&message.query)?);
        let mut types: Vec<u32> = message.type_oids.clone();
        types.resize(count.max(types.len()), 0);
        for type_id in &mut types {
            if matches!(*type_id, 0 | oid::UNKNOWN) {
                *type_id = oid::TEXT;
            }
        }
        Ok(Self {
            statement: statements.pop(),
            types,
        })
    }

    /// Fills its placeholders in.
    pub(super) fn bind(&self, message: &Bind) -> Result<Portal, SqlError> {
        let formats = &message.parameter_format_codes;
        let count = message.parameters.len();
        let broken = |message: String| Err(SqlError::new(state::PROTOCOL_VIOLATION, message));
        if count != self.types.len() {
            return broken(format!(
                "bind message supplies {count} parameters, but the prepared statement requires {}",
                self.types.len()
            ));
        }
        if formats.len() > 1 && formats.len() != count {
            return broken(format!(
                "bind message has {} parameter formats but {count} parameters",
                formats.len()
            ));
        }
        let mut values = Vec::new();
        let parameters = self.types.iter().zip(&message.parameters);
        for (index, (type_id, bytes)) in parameters.enumerate() {
            let format = match formats.as_slice() {
                [] => 0,
                [all] => *all,
                formats => formats.get(index).copied().unwrap_or(0),
            };
            let is_binary = format == 1;
            values.push(parameters::read(
                index + 1,
                *type_id,
                is_binary,
                bytes.as_ref(),
            )?);
        }
        Ok(Portal {
            statement: self.statement.clone(),
            parameters: values,
            formats: Formats::new(message.result_column_format_codes.clone()),
            progress: Progress::Bound,
        })
    }
}

/// A statement with its values, and what of its rows is still to be sent.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) statement: Option<Statement>,
    pub(super) parameters: Vec<Value>,
    pub(super) formats: Formats,
    pub(super) progress: Progress,
}

#[derive(Debug)]
pub(super) enum Progress {
    /// It has not been executed.
    Bound,
    /// Its rows are being sent.
    Sending(Sending),
    /// Everything is sent.
    Over,
}

/// Rows that are being sent.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) tag: &'static str,
    pub(super) columns: Vec<Column>,
    pub(super) rows: std::vec::IntoIter<Vec<Value>>,
    /// Rows since the last `Execute`.
    pub(super) sent: usize,
}
