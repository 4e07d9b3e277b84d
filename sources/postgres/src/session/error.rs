//! The server's errors as faults. Texts that can hold row values or secrets are left out.

use holdfast_types::{ErrorCode, Fault};
use tokio_postgres::error::SqlState;

/// How the driver says that it has no password to answer with; there is no other sign of it.
const NO_PASSWORD: &str = "password missing";

/// An error of the server or of the connection, as an operator may see it.
#[must_use]
pub fn fault(error: &tokio_postgres::Error) -> Fault {
    match error.as_db_error() {
        Some(db) => server_fault(db.code(), db.message()),
        None if error.is_closed() => {
            Fault::new(ErrorCode::Unavailable, "the connection to the server ended")
        }
        None => match describe(error) {
            text if text.ends_with(NO_PASSWORD) => Fault::new(
                ErrorCode::FailedPrecondition,
                "the server asks for a password, and none was given",
            )
            .hint("write it into the connection string, or give it in PGPASSWORD"),
            text => Fault::new(code_without_state(error), text),
        },
    }
}

/// A fault from a state and the message that came with it.
pub(crate) fn server_fault(state: &SqlState, message: &str) -> Fault {
    let text = match may_hold_values(state) {
        true => format!("the server reports {}", state.code()),
        false => format!("{message} ({})", state.code()),
    };
    let fault = Fault::new(code(state), text);
    match hint(state) {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

/// What an error says, without anything that may come from a row.
#[must_use]
pub fn describe(error: &tokio_postgres::Error) -> String {
    use std::error::Error;
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => server_fault(db.code(), db.message()).message,
        // The sources that are left are those of sockets, TLS, and the protocol.
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

fn code_without_state(error: &tokio_postgres::Error) -> ErrorCode {
    use std::error::Error;
    match error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>())
    {
        Some(io) if io.kind() == std::io::ErrorKind::InvalidInput => ErrorCode::InvalidArgument,
        Some(_) => ErrorCode::Unavailable,
        None => ErrorCode::FailedPrecondition,
    }
}

/// Messages of data exceptions quote the datum, and those of user code say what they like.
fn may_hold_values(state: &SqlState) -> bool {
    let class = state.code().get(..2).unwrap_or_default();
    // 28 with a password in it has not been seen; 22 and P0 hold values as a matter of course.
    matches!(class, "22" | "P0" | "21" | "44") || *state == SqlState::SYNTAX_ERROR
}

fn code(state: &SqlState) -> ErrorCode {
    match state.code() {
        // The server stops, starts, or has no room; a lock or a conflict got in the way; somebody cancelled.
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "40001" | "40P01" | "55P03" | "57014"
        | "25P03" | "25P04" | "55006" => ErrorCode::Unavailable,
        "53100" => ErrorCode::StorageFull,
        "53200" | "53400" => ErrorCode::ResourceExhausted,
        "3D000" | "3F000" | "42P01" | "42704" | "42883" | "42703" => ErrorCode::NotFound,
        "42P04" | "42P06" | "42P07" | "42710" | "42723" => ErrorCode::AlreadyExists,
        // Statements that were prepared on another connection: somebody shares them out.
        "0A000" | "26000" | "42P05" => ErrorCode::Unsupported,
        "XX001" | "XX002" => ErrorCode::Corrupted,
        other if other.starts_with("08") || other.starts_with("58") => ErrorCode::Unavailable,
        other if other.starts_with("XX") => ErrorCode::Internal,
        _ => ErrorCode::FailedPrecondition,
    }
}

fn hint(state: &SqlState) -> Option<&'static str> {
    Some(match state.code() {
        "28P01" | "28000" => "check the role, its password and pg_hba.conf",
        "42501" => "grant the role what it lacks: `holdfast source check` prints the statement",
        "26000" | "42P05" => {
            "connect to the server directly: a pooler that shares connections cannot be used"
        }
        "53300" => "raise max_connections, or give the source fewer streams",
        "55P03" => "another transaction holds the lock: it is tried again",
        "53400" => {
            "raise max_replication_slots or max_wal_senders, or drop a slot that nobody uses"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_never_reach_a_message() {
        let secret = "invalid input syntax for type integer: \"s3cret\"";
        let fault = server_fault(&SqlState::INVALID_TEXT_REPRESENTATION, secret);
        assert!(!fault.to_string().contains("s3cret"), "{fault}");
        let fault = server_fault(&SqlState::UNDEFINED_TABLE, "relation \"t\" does not exist");
        assert_eq!(fault.code, ErrorCode::NotFound);
        assert!(fault.message.contains("relation \"t\""));
    }

    #[test]
    fn what_passes_by_itself_is_retried() {
        for state in ["57P01", "40001", "55P03", "08006", "53300"] {
            assert!(code(&SqlState::from_code(state)).is_retryable(), "{state}");
        }
        for state in ["28P01", "42501", "XX001", "22P02"] {
            assert!(!code(&SqlState::from_code(state)).is_retryable(), "{state}");
        }
    }
}
