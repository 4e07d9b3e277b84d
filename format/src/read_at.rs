//! Bytes that can be read at offsets.

use bytes::Bytes;
use holdfast_types::Fault;
use std::fmt::Debug;

use crate::wire::corrupted;

/// Bytes at offsets.
pub trait ReadAt: Debug {
    /// The total length.
    fn length(&self) -> u64;

    /// Exactly `length` bytes from `offset`.
    ///
    /// # Errors
    /// Whatever reading failed with; `Corrupted` if there are fewer bytes.
    fn read_at(&self, offset: u64, length: u64) -> Result<Bytes, Fault>;
}

impl ReadAt for Bytes {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, length: u64) -> Result<Bytes, Fault> {
        let range = offset
            .checked_add(length)
            .filter(|end| *end <= self.len() as u64)
            .and_then(|end| Some(usize::try_from(offset).ok()?..usize::try_from(end).ok()?));
        match range {
            Some(range) => Ok(self.slice(range)),
            None => Err(corrupted("a data object", "it ends too early")),
        }
    }
}
