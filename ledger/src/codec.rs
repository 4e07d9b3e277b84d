//! The versioned encoding of commands and outcomes: a version (u16, little endian), then the postcard encoding of the value.
//!
//! We write the newest version and read all that were ever written; `tests/compat/` keeps a fixture of each.

use std::cell::Cell;

use holdfast_types::{ErrorCode, Fault};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};

use crate::command::{Action, Command};
use crate::outcome::Outcome;

/// The version of commands that is written.
pub const COMMAND_VERSION: u16 = 1;
/// The version of outcomes that is written.
pub const OUTCOME_VERSION: u16 = 1;

/// Encodes a command.
#[must_use]
pub fn encode_command(command: &Command) -> Vec<u8> {
    encode(COMMAND_VERSION, command)
}

/// Decodes a command.
///
/// # Errors
/// [`ErrorCode::Corrupted`] for bytes that are not a command, [`ErrorCode::Unsupported`] for a newer version's.
pub fn decode_command(bytes: &[u8]) -> Result<Command, Fault> {
    decode(COMMAND_VERSION, "command", bytes)
}

/// Encodes an outcome.
#[must_use]
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    encode(OUTCOME_VERSION, outcome)
}

/// Decodes an outcome.
///
/// # Errors
/// [`ErrorCode::Corrupted`] for bytes that are not an outcome, [`ErrorCode::Unsupported`] for a newer version's.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, Fault> {
    decode(OUTCOME_VERSION, "outcome", bytes)
}

fn encode<T: Serialize>(version: u16, value: &T) -> Vec<u8> {
    append(value, version.to_le_bytes().to_vec())
}

/// Appends the encoding of a value.
pub(crate) fn append<T: Serialize>(value: &T, bytes: Vec<u8>) -> Vec<u8> {
    // Writing to memory cannot fail, and every type here is plain data of known length.
    postcard::to_extend(value, bytes).expect("plain data is always encodable")
}

fn decode<T: DeserializeOwned>(newest: u16, what: &str, bytes: &[u8]) -> Result<T, Fault> {
    let Some((version, payload)) = bytes.split_first_chunk::<2>() else {
        return Err(Fault::new(
            ErrorCode::Corrupted,
            format!("the {what} has no version"),
        ));
    };
    let version = u16::from_le_bytes(*version);
    if version > newest {
        return Err(Fault::new(
            ErrorCode::Unsupported,
            format!("the {what} has version {version}, and this build reads up to {newest}"),
        )
        .hint("run the newest release on every coordinator"));
    }
    if version == 0 {
        return Err(Fault::new(
            ErrorCode::Corrupted,
            format!("the {what} has no known version"),
        ));
    }
    decode_all(payload).map_err(|error| error.context(format_args!("the {what} is damaged")))
}

/// Decodes a value that fills the bytes.
pub(crate) fn decode_all<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    let corrupted = |what: String| Fault::new(ErrorCode::Corrupted, what);
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|error| {
        // The error names a kind of damage, never content.
        corrupted(error.to_string())
    })?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(corrupted(format!("{} bytes too many", rest.len())))
    }
}

thread_local! {
    static INSIDE_BATCH: Cell<bool> = const { Cell::new(false) };
}

/// Decodes the actions of a batch, and refuses a batch among them: a few bytes each, nested batches would exhaust the stack.
pub(crate) fn flat_batch<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Action>, D::Error> {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            INSIDE_BATCH.with(|inside| inside.set(false));
        }
    }
    if INSIDE_BATCH.with(|inside| inside.replace(true)) {
        return Err(D::Error::custom("a batch cannot hold a batch"));
    }
    let _leave = Leave;
    Vec::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{ClusterId, Timestamp};

    fn command(action: Action) -> Command {
        Command {
            at: Timestamp::from_millis(7),
            action,
        }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let init = command(Action::InitCluster {
            cluster: ClusterId([7; 16]),
        });
        let batch = command(Action::Batch(vec![
            init.action.clone(),
            init.action.clone(),
        ]));
        for value in [init, batch] {
            assert_eq!(decode_command(&encode_command(&value)), Ok(value));
        }
    }

    #[test]
    fn damage_is_named() {
        let bytes = encode_command(&command(Action::Batch(Vec::new())));
        for cut in 0..bytes.len() {
            let fault = decode_command(&bytes[..cut]).expect_err("cut short");
            assert_eq!(fault.code, ErrorCode::Corrupted);
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(
            decode_command(&longer).expect_err("too long").code,
            ErrorCode::Corrupted
        );
        let mut newer = bytes;
        newer[0] = 200;
        assert_eq!(
            decode_command(&newer).expect_err("newer").code,
            ErrorCode::Unsupported
        );
    }

    #[test]
    fn nested_batches_do_not_exhaust_the_stack() {
        // Version, time, then "batch of one" a million times over.
        let mut bytes = vec![1, 0, 0];
        for _ in 0..1_000_000 {
            bytes.extend_from_slice(&[1, 1]);
        }
        assert!(decode_command(&bytes).is_err());
        let flat = command(Action::Batch(Vec::new()));
        assert_eq!(
            decode_command(&encode_command(&flat)),
            Ok(flat),
            "the guard is lifted afterwards"
        );
    }
}
