//! How a [`Fault`] crosses the wire: the status message is its text, and the status details are an encoded
//! [`v1::Fault`], so that code and hint arrive unchanged. A status without such details comes from the transport.

use holdfast_types::{ErrorCode, Fault};
use prost::Message;
use tonic::{Code, Status};

use crate::v1;

/// The longest message or hint that is sent, in bytes: statuses travel in HTTP/2 headers, which peers bound at 16 KiB.
const MAX_TEXT_LENGTH: usize = 3 * 1024;

/// Whether a call changes something, which decides what a lost answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// The call reads, or may be repeated with the same result: a lost answer is `Unavailable`.
    Repeatable,
    /// The call changes something each time: after a lost answer its outcome is `Unknown`.
    Mutation,
}

/// The status that carries a fault.
#[must_use]
pub fn fault_to_status(fault: &Fault) -> Status {
    let wire = fault_to_wire(fault);
    let message = wire.message.clone();
    Status::with_details(grpc_code(fault.code), message, wire.encode_to_vec().into())
}

/// The fault that a status carries, or the fault that a broken transport amounts to.
#[must_use]
pub fn status_to_fault(status: &Status, call: CallKind) -> Fault {
    if let Ok(wire) = v1::Fault::decode(status.details())
        && !wire.code.is_empty()
    {
        return wire_to_fault(wire);
    }
    let code = match status.code() {
        Code::InvalidArgument | Code::OutOfRange => ErrorCode::InvalidArgument,
        Code::NotFound => ErrorCode::NotFound,
        Code::AlreadyExists => ErrorCode::AlreadyExists,
        Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated => {
            ErrorCode::FailedPrecondition
        }
        Code::ResourceExhausted => ErrorCode::ResourceExhausted,
        Code::Unimplemented => ErrorCode::Unsupported,
        Code::DataLoss => ErrorCode::Corrupted,
        // A timeout of the channel arrives as Cancelled: nobody on this side cancels by status.
        Code::DeadlineExceeded | Code::Cancelled => lost(call, ErrorCode::DeadlineExceeded),
        Code::Ok | Code::Unavailable | Code::Aborted | Code::Unknown | Code::Internal => {
            lost(call, ErrorCode::Unavailable)
        }
    };
    Fault::new(code, transport_message(status))
}

/// A fault as a protocol message.
#[must_use]
pub fn fault_to_wire(fault: &Fault) -> v1::Fault {
    v1::Fault {
        code: fault.code.as_str().to_owned(),
        message: cut(&fault.message),
        hint: fault.hint.as_deref().map(cut).unwrap_or_default(),
    }
}

/// A protocol message as a fault; an unknown code (a newer peer's) is [`ErrorCode::Internal`].
#[must_use]
pub fn wire_to_fault(wire: v1::Fault) -> Fault {
    let fault = Fault::new(ErrorCode::from_wire(&wire.code), wire.message);
    if wire.hint.is_empty() {
        fault
    } else {
        fault.hint(wire.hint)
    }
}

fn lost(call: CallKind, otherwise: ErrorCode) -> ErrorCode {
    match call {
        CallKind::Repeatable => otherwise,
        CallKind::Mutation => ErrorCode::Unknown,
    }
}

/// What the transport says, with the innermost cause, which is the one that tells something ("connection refused").
fn transport_message(status: &Status) -> String {
    let mut text = if status.message().is_empty() {
        status.code().description().to_lowercase()
    } else {
        cut(status.message())
    };
    let mut cause = std::error::Error::source(status);
    let mut last = None;
    while let Some(error) = cause {
        last = Some(error.to_string());
        cause = error.source();
    }
    if let Some(last) = last
        && !text.contains(&last)
    {
        text = format!("{text}: {}", cut(&last));
    }
    text
}

fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::AlreadyExists => Code::AlreadyExists,
        ErrorCode::FailedPrecondition
        | ErrorCode::ChainRule
        | ErrorCode::NotCovered
        | ErrorCode::HistoryGone
        | ErrorCode::WrongCluster
        | ErrorCode::StaleEpoch => Code::FailedPrecondition,
        ErrorCode::NoLeader | ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::Unknown => Code::Unknown,
        ErrorCode::ResourceExhausted | ErrorCode::StorageFull => Code::ResourceExhausted,
        ErrorCode::Corrupted => Code::DataLoss,
        ErrorCode::Cancelled => Code::Cancelled,
        ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::Unsupported => Code::Unimplemented,
        // `ErrorCode` may grow: a code that this table does not know yet is a defect, and travels in the details.
        _ => Code::Internal,
    }
}

/// At most [`MAX_TEXT_LENGTH`] bytes of a text, cut between characters.
fn cut(text: &str) -> String {
    if text.len() <= MAX_TEXT_LENGTH {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_TEXT_LENGTH);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire_with_message_and_hint() {
        for code in ErrorCode::ALL {
            for call in [CallKind::Repeatable, CallKind::Mutation] {
                let plain = Fault::new(code, "table \"app.t\" is in the way");
                let hinted = plain.clone().hint("rename it");
                assert_eq!(status_to_fault(&fault_to_status(&plain), call), plain);
                assert_eq!(status_to_fault(&fault_to_status(&hinted), call), hinted);
            }
        }
    }

    #[test]
    fn a_lost_answer_of_a_mutation_is_unknown() {
        for code in [Code::Unavailable, Code::Cancelled, Code::Unknown] {
            let status = Status::new(code, "transport error");
            let mutation = status_to_fault(&status, CallKind::Mutation);
            assert_eq!(mutation.code, ErrorCode::Unknown);
            let read = status_to_fault(&status, CallKind::Repeatable);
            assert!(read.is_retryable() && read.code != ErrorCode::Unknown);
        }
    }

    #[test]
    fn endless_messages_are_cut_between_characters() {
        let fault = Fault::new(ErrorCode::Internal, "ä".repeat(100_000)).hint("ö".repeat(100_000));
        let status = fault_to_status(&fault);
        assert!(status.details().len() < 8 * 1024);
        let back = status_to_fault(&status, CallKind::Repeatable);
        assert!(back.message.ends_with('…'));
    }

    #[test]
    fn garbage_details_are_a_transport_fault() {
        let status =
            Status::with_details(Code::Internal, "boom", b"\xff\xff\xff"[..].to_vec().into());
        let fault = status_to_fault(&status, CallKind::Repeatable);
        assert_eq!(fault.code, ErrorCode::Unavailable);
    }
}
