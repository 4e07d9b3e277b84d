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
        // A session that has expired is renewed, or its renewal is what is tried again.
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. }
            if is_expired(&error.to_string()) =>
        {
            at(ErrorCode::Unavailable, &shortened(error.to_string()))
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
            // Some clients say of some requests no more than what the server said.
            _ => match said(&error.to_string()) {
                Said::Denied => denied(action, place),
                Said::NoBucket => at(
                    ErrorCode::FailedPrecondition,
                    "there is no such bucket or container",
                )
                .hint("make the bucket first: Holdfast makes none"),
                Said::Elsewhere => at(
                    ErrorCode::FailedPrecondition,
                    "the bucket is in another region",
                )
                .hint("give the region of the bucket with AWS_REGION"),
                // Everything else may pass: networks, busy disks, servers that restart, sessions that are renewed.
                Said::Else => at(ErrorCode::Unavailable, &shortened(error.to_string())),
            },
        },
    }
}

/// What a server's answer means, as far as an error repeats it.
enum Said {
    Denied,
    NoBucket,
    Elsewhere,
    Else,
}

fn said(text: &str) -> Said {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if is_expired(text) {
        Said::Else
    } else if has(&[
        "NoSuchBucket",
        "ContainerNotFound",
        "The specified bucket does not exist",
    ]) {
        Said::NoBucket
    } else if has(&["403 Forbidden", "401 Unauthorized"]) {
        Said::Denied
    } else if has(&["301 Moved Permanently", "PermanentRedirect"]) {
        Said::Elsewhere
    } else {
        Said::Else
    }
}

/// The longest text of a store that an error repeats.
const LONGEST: usize = 600;

fn shortened(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
    }
}

/// Whether credentials were good once.
fn is_expired(text: &str) -> bool {
    [
        "ExpiredToken",
        "RequestTimeTooSkewed",
        "TokenRefreshRequired",
    ]
    .iter()
    .any(|word| text.contains(word))
}

fn denied(action: &str, place: &str) -> Fault {
    Fault::new(
        ErrorCode::FailedPrecondition,
        format!("{action} {place}: permission denied"),
    )
    .hint("let whoever holdfast is there (its user, its keys or its role) list, read and write the collection's location")
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
    fn what_a_server_said_decides_where_a_client_does_not() {
        let generic = |text: &str| Error::Generic {
            store: "S3",
            source: text.to_owned().into(),
        };
        let denied = |text: &str| Error::PermissionDenied {
            path: "x".to_owned(),
            source: text.to_owned().into(),
        };
        let cases = [
            (
                generic("403 Forbidden: AccessDenied"),
                ErrorCode::FailedPrecondition,
            ),
            (
                generic("404 Not Found: NoSuchBucket"),
                ErrorCode::FailedPrecondition,
            ),
            (
                generic("301 Moved Permanently"),
                ErrorCode::FailedPrecondition,
            ),
            (
                generic("400 Bad Request: ExpiredToken"),
                ErrorCode::Unavailable,
            ),
            (generic("500: 403 is not its code"), ErrorCode::Unavailable),
            (
                denied("403 Forbidden: ExpiredToken"),
                ErrorCode::Unavailable,
            ),
            (denied("403 Forbidden"), ErrorCode::FailedPrecondition),
        ];
        for (error, code) in cases {
            let fault = fault("listing", "x", &error);
            assert_eq!(fault.code, code, "{fault}");
        }
        let long = fault("listing", "x", &generic(&"é".repeat(5000)));
        assert!(long.message.len() < 1500, "{}", long.message.len());
    }

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
