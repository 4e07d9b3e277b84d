//! Errors as a PostgreSQL client sees them.

use holdfast_types::{ErrorCode, Fault};

/// A SQLSTATE: five characters.
pub(crate) type SqlState = &'static str;

/// The SQLSTATEs that are used, by PostgreSQL's names.
pub(crate) mod state {
    use super::SqlState;

    pub(crate) const PROTOCOL_VIOLATION: SqlState = "08P01";
    pub(crate) const FEATURE_NOT_SUPPORTED: SqlState = "0A000";
    pub(crate) const ACTIVE_TRANSACTION: SqlState = "25001";
    pub(crate) const IN_FAILED_TRANSACTION: SqlState = "25P02";
    pub(crate) const INVALID_STATEMENT_NAME: SqlState = "26000";
    pub(crate) const INVALID_AUTHORIZATION: SqlState = "28000";
    pub(crate) const INVALID_PASSWORD: SqlState = "28P01";
    pub(crate) const INVALID_CURSOR_NAME: SqlState = "34000";
    pub(crate) const UNKNOWN_OUTCOME: SqlState = "40003";
    pub(crate) const SYNTAX_ERROR: SqlState = "42601";
    pub(crate) const UNDEFINED_COLUMN: SqlState = "42703";
    pub(crate) const UNDEFINED_FUNCTION: SqlState = "42883";
    pub(crate) const UNDEFINED_OBJECT: SqlState = "42704";
    pub(crate) const UNDEFINED_TABLE: SqlState = "42P01";
    pub(crate) const UNDEFINED_PARAMETER: SqlState = "42P02";
    pub(crate) const DUPLICATE_OBJECT: SqlState = "42710";
    pub(crate) const DATATYPE_MISMATCH: SqlState = "42804";
    pub(crate) const GROUPING_ERROR: SqlState = "42803";
    pub(crate) const INVALID_NAME: SqlState = "42602";
    pub(crate) const NUMERIC_OUT_OF_RANGE: SqlState = "22003";
    pub(crate) const INVALID_PARAMETER_VALUE: SqlState = "22023";
    pub(crate) const INVALID_TEXT: SqlState = "22P02";
    pub(crate) const DIVISION_BY_ZERO: SqlState = "22012";
    pub(crate) const DUPLICATE_STATEMENT: SqlState = "42P05";
    pub(crate) const DUPLICATE_CURSOR: SqlState = "42P03";
    pub(crate) const INSUFFICIENT_RESOURCES: SqlState = "53000";
    pub(crate) const DISK_FULL: SqlState = "53100";
    pub(crate) const TOO_MANY_CONNECTIONS: SqlState = "53300";
    pub(crate) const PROGRAM_LIMIT_EXCEEDED: SqlState = "54000";
    pub(crate) const STATEMENT_TOO_COMPLEX: SqlState = "54001";
    pub(crate) const NOT_IN_PREREQUISITE_STATE: SqlState = "55000";
    pub(crate) const QUERY_CANCELED: SqlState = "57014";
    pub(crate) const ADMIN_SHUTDOWN: SqlState = "57P01";
    pub(crate) const CANNOT_CONNECT_NOW: SqlState = "57P03";
    pub(crate) const SYSTEM_ERROR: SqlState = "58000";
    pub(crate) const UNDEFINED_FILE: SqlState = "58P01";
    pub(crate) const INTERNAL_ERROR: SqlState = "XX000";
    pub(crate) const DATA_CORRUPTED: SqlState = "XX001";
}

/// What went wrong with a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqlError {
    /// What kind of error it is, as a program reads it.
    pub(crate) state: SqlState,
    /// What is wrong with what.
    pub(crate) message: String,
    /// More of it.
    pub(crate) detail: Option<String>,
    /// The way out.
    pub(crate) hint: Option<String>,
    /// Which character of what was typed it is about, counted from 1.
    pub(crate) position: Option<usize>,
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SqlError {}

impl SqlError {
    /// An error of this kind.
    pub(crate) fn new(state: SqlState, message: impl Into<String>) -> Self {
        Self {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
        }
    }

    /// Something that is not SQL as it is spoken here.
    pub(crate) fn syntax(message: impl Into<String>) -> Self {
        Self::new(state::SYNTAX_ERROR, message)
    }

    /// Something that is understood, and not done. The message says so.
    pub(crate) fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new(
            state::FEATURE_NOT_SUPPORTED,
            format!("not supported yet: {what}"),
        )
    }

    /// Something that has no meaning here, and why.
    pub(crate) fn meaningless(what: impl Into<String>) -> Self {
        Self::new(state::FEATURE_NOT_SUPPORTED, what)
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Points at a byte of the text.
    #[must_use]
    pub(crate) fn at(mut self, sql: &str, byte: usize) -> Self {
        let before = sql.get(..byte).unwrap_or(sql);
        self.position = Some(before.chars().count() + 1);
        self
    }
}

impl From<Fault> for SqlError {
    fn from(fault: Fault) -> Self {
        Self {
            state: state_of(&fault),
            message: fault.message,
            detail: None,
            hint: fault.hint,
            position: None,
        }
    }
}

/// The SQLSTATE of a fault: the model system's where it has one of its own, otherwise PostgreSQL's closest.
fn state_of(fault: &Fault) -> SqlState {
    match fault.code {
        ErrorCode::NotFound if fault.message.contains("completed latest backup") => {
            state::UNDEFINED_FILE
        }
        ErrorCode::InvalidArgument | ErrorCode::NotCovered => state::INVALID_PARAMETER_VALUE,
        ErrorCode::NotFound => state::UNDEFINED_OBJECT,
        ErrorCode::AlreadyExists => state::DUPLICATE_OBJECT,
        ErrorCode::FailedPrecondition
        | ErrorCode::ChainRule
        | ErrorCode::HistoryGone
        | ErrorCode::WrongCluster
        | ErrorCode::StaleEpoch => state::NOT_IN_PREREQUISITE_STATE,
        ErrorCode::NoLeader => state::CANNOT_CONNECT_NOW,
        ErrorCode::Unknown => state::UNKNOWN_OUTCOME,
        ErrorCode::Unavailable | ErrorCode::DeadlineExceeded => state::SYSTEM_ERROR,
        ErrorCode::ResourceExhausted => state::INSUFFICIENT_RESOURCES,
        ErrorCode::StorageFull => state::DISK_FULL,
        ErrorCode::Corrupted => state::DATA_CORRUPTED,
        ErrorCode::Cancelled => state::QUERY_CANCELED,
        ErrorCode::Unsupported => state::FEATURE_NOT_SUPPORTED,
        // `ErrorCode` may grow: one that this table does not know is a defect.
        _ => state::INTERNAL_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_state_of_its_own_kind() {
        for code in ErrorCode::ALL {
            let error = SqlError::from(Fault::new(code, "x").hint("y"));
            assert_eq!(error.state.len(), 5);
            assert_eq!(
                error.state == state::INTERNAL_ERROR,
                code == ErrorCode::Internal,
                "{code:?}"
            );
            assert_eq!(error.hint.as_deref(), Some("y"));
        }
        let latest = Fault::new(
            ErrorCode::NotFound,
            "path does not contain a completed latest backup",
        );
        assert_eq!(SqlError::from(latest).state, "58P01");
    }

    #[test]
    fn positions_count_characters() {
        let error = SqlError::syntax("x").at("äö b", 5);
        assert_eq!(error.position, Some(4));
    }
}
