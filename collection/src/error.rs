//! Errors of stores, as errors of ours.

use holdfast_types::{ErrorCode, Fault};
use object_store::Error;
use std::io;

/// What a store's error means. `action` says what was being done: `writing`, `reading`, `listing`, `removing`.
pub(crate) fn fault(action: &str, place: &str, error: &Error) -> Fault {
    let at = |code, what: &str| Fault::new(code, format!("{action} {place}: {what}"));
    match error {
        Error::NotFound { .. } => at(ErrorCode::NotFound, "there is no such object"),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => {
            at(ErrorCode::AlreadyExists, "the object exists already")
        }
        Error::PermissionDenied { .. } => denied(action, place),
        Error::Unauthenticated { .. } => at(
            ErrorCode::FailedPrecondition,
            "the store does not accept the credentials",
        )
        .hint("check the credentials of the collection's location"),
        Error::NotSupported { .. } | Error::NotImplemented { .. } => at(
            ErrorCode::Unsupported,
            "the store does not offer this operation",
        ),
        Error::InvalidPath { .. } | Error::UnknownConfigurationKey { .. } => {
            at(ErrorCode::InvalidArgument, &error.to_string())
        }
        _ => match io_kind(error) {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                at(ErrorCode::StorageFull, "the store is full")
                    .hint("make room in the collection's location")
            }
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                denied(action, place)
            }
            Some(io::ErrorKind::NotFound) => at(ErrorCode::NotFound, "there is no such object"),
            Some(io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory) => at(
                ErrorCode::FailedPrecondition,
                "a file is where a directory should be, or the other way round",
            )
            .hint("choose another location, or remove what is in the way"),
            // Everything else may pass: networks, busy disks, servers that restart.
            _ => at(ErrorCode::Unavailable, &error.to_string()),
        },
    }
}

fn denied(action: &str, place: &str) -> Fault {
    Fault::new(
        ErrorCode::FailedPrecondition,
        format!("{action} {place}: permission denied"),
    )
    .hint("let the user that holdfast runs as read and write the collection's location")
}

/// The kind of the I/O error at the root of a store's error, if there is one.
fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_an_error_decides() {
        let cases = [
            (io::ErrorKind::StorageFull, ErrorCode::StorageFull),
            (io::ErrorKind::QuotaExceeded, ErrorCode::StorageFull),
            (
                io::ErrorKind::PermissionDenied,
                ErrorCode::FailedPrecondition,
            ),
            (
                io::ErrorKind::ReadOnlyFilesystem,
                ErrorCode::FailedPrecondition,
            ),
            (io::ErrorKind::TimedOut, ErrorCode::Unavailable),
        ];
        for (kind, code) in cases {
            let error = Error::Generic {
                store: "test",
                source: Box::new(io::Error::from(kind)),
            };
            let fault = fault("writing", "x/MANIFEST", &error);
            assert_eq!(fault.code, code);
            assert!(fault.message.contains("x/MANIFEST"));
        }
    }
}
