//! What tells the key of an encrypted chain from others, and how a job carries it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::error::{ErrorCode, Fault};
use crate::seal::Sealed;

/// Which data key. It follows from the key, and tells nothing of it; it may be seen by anybody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 16]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let malformed = || {
            let message = format!("\"{}\" is not the id of a key", text.escape_debug());
            Fault::new(ErrorCode::InvalidArgument, message)
        };
        if text.len() != 32 || !text.is_ascii() {
            return Err(malformed());
        }
        let mut id = [0; 16];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| malformed())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
        }
        Ok(Self(id))
    }
}

/// The key of an encrypted chain, as a job carries it through the ledger and to its workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainKey {
    /// Which key.
    pub id: KeyId,
    /// The data key, sealed with the cluster key. Empty when the job is over and needs it no more.
    pub sealed: Sealed,
    /// Of a full: the first key info object of its chain, which the collection gets with the claim. It holds no key that is not wrapped.
    pub info: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_as_it_was_written() {
        let id = KeyId([0xa5; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "a5", &"g".repeat(32), &"ä".repeat(16)] {
            assert!(text.parse::<KeyId>().is_err(), "{text}");
        }
    }
}
