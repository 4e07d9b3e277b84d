//! The primitive fields that all files are made of: little-endian integers, variable-length integers, length-prefixed bytes.

use bytes::Bytes;
use holdfast_types::{Digest, ErrorCode, Fault, Hlc, Lsn, Position, PositionKind, Timestamp};

/// The byte that says that a position is a hybrid logical timestamp.
const POSITION_HLC: u8 = 1;
/// The byte that says that a position is a log sequence number.
const POSITION_LSN: u8 = 2;

/// Builds the error for bytes that are not what they should be.
pub(crate) fn corrupted(what: &str, why: &str) -> Fault {
    Fault::new(ErrorCode::Corrupted, format!("{what} is damaged: {why}"))
}

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Encoder(pub(crate) Vec<u8>);

impl Encoder {
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Seven bits a byte, low bits first, the top bit set on all bytes but the last.
    pub(crate) fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    /// A length as varint, then the bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.varint(bytes.len() as u64).raw(bytes)
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.raw(&digest.0)
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.u8(u8::from(flag))
    }

    pub(crate) fn hlc(&mut self, hlc: Hlc) -> &mut Self {
        self.u64(hlc.wall.as_micros()).u32(hlc.logical)
    }

    pub(crate) fn position(&mut self, position: Position) -> Result<&mut Self, Fault> {
        let code = position_code(position.kind())?;
        let (major, minor) = split_position(position)?;
        Ok(self.u8(code).u64(major).u32(minor))
    }

    /// One byte that says whether the field follows, then the field.
    pub(crate) fn option<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut Self, T) -> Result<(), Fault>,
    ) -> Result<&mut Self, Fault> {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value)?;
        }
        Ok(self)
    }

    /// A count as varint, then the items.
    pub(crate) fn list<T>(
        &mut self,
        items: &[T],
        mut write: impl FnMut(&mut Self, &T) -> Result<(), Fault>,
    ) -> Result<&mut Self, Fault> {
        self.varint(items.len() as u64);
        items.iter().try_for_each(|item| write(self, item))?;
        Ok(self)
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// The byte that says which kind of position follows.
///
/// # Errors
/// `Unsupported` for a kind that this format version cannot hold.
pub(crate) fn position_code(kind: PositionKind) -> Result<u8, Fault> {
    match kind {
        PositionKind::Hlc => Ok(POSITION_HLC),
        PositionKind::Lsn => Ok(POSITION_LSN),
        _ => Err(unknown_position()),
    }
}

/// The kind of position that a byte stands for.
pub(crate) fn position_kind(code: u8) -> Option<PositionKind> {
    match code {
        POSITION_HLC => Some(PositionKind::Hlc),
        POSITION_LSN => Some(PositionKind::Lsn),
        _ => None,
    }
}

/// A position as two numbers, whatever its kind: wall time in microseconds and counter, or log sequence number and ordinal.
///
/// # Errors
/// `Unsupported` for a kind that this format version cannot hold.
pub(crate) fn split_position(position: Position) -> Result<(u64, u32), Fault> {
    match position {
        Position::Hlc(hlc) => Ok((hlc.wall.as_micros(), hlc.logical)),
        Position::Lsn(lsn) => Ok((lsn.lsn, lsn.ordinal)),
        _ => Err(unknown_position()),
    }
}

fn unknown_position() -> Fault {
    Fault::new(
        ErrorCode::Unsupported,
        "the format has no form for this kind of position",
    )
}

/// Takes fields off a byte string. Every method fails, and none panics, when the bytes are not what they should be.
#[derive(Debug, Clone)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn damaged(&self, why: &str) -> Fault {
        corrupted(self.what, why)
    }

    pub(crate) fn raw(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        match self.rest.split_at_checked(length) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(self.damaged("it ends too early")),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(self.damaged("it ends too early")),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0u64;
        for shift in (0..64u32).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit; a last byte of zero would be a second spelling of the same number.
            if (shift == 63 && bits > 1) || (shift > 0 && byte == 0) {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged("a variable-length integer is malformed"))
    }

    /// A length that is bounded by a limit and by what is left.
    pub(crate) fn length(&mut self, limit: usize) -> Result<usize, Fault> {
        let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if length > limit {
            return Err(self.damaged("a length exceeds its limit"));
        }
        if length > self.remaining() {
            return Err(self.damaged("it ends too early"));
        }
        Ok(length)
    }

    pub(crate) fn bytes(&mut self, limit: usize) -> Result<&'a [u8], Fault> {
        let length = self.length(limit)?;
        self.raw(length)
    }

    pub(crate) fn text(&mut self, limit: usize) -> Result<&'a str, Fault> {
        let bytes = self.bytes(limit)?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged("a text is not UTF-8"))
    }

    /// A text that is parsed into a checked name.
    pub(crate) fn parsed<T: std::str::FromStr>(&mut self, limit: usize) -> Result<T, Fault> {
        let text = self.text(limit)?;
        text.parse()
            .map_err(|_| self.damaged("a name is not a legal one"))
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, Fault> {
        self.array().map(Digest)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Fault> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.damaged("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn hlc(&mut self) -> Result<Hlc, Fault> {
        let wall = self.u64()?;
        let logical = self.u32()?;
        self.hlc_from(wall, logical)
    }

    fn hlc_from(&self, wall: u64, logical: u32) -> Result<Hlc, Fault> {
        let time = Timestamp::from_micros(wall);
        if time.as_micros() != wall {
            return Err(self.damaged("a time lies beyond the calendar"));
        }
        Ok(Hlc {
            wall: time,
            logical,
        })
    }

    /// Puts a position together again that [`split_position`] took apart.
    pub(crate) fn position_from(
        &self,
        kind: PositionKind,
        major: u64,
        minor: u32,
    ) -> Result<Position, Fault> {
        match kind {
            PositionKind::Hlc => self.hlc_from(major, minor).map(Position::Hlc),
            PositionKind::Lsn => Ok(Position::Lsn(Lsn {
                lsn: major,
                ordinal: minor,
            })),
            _ => Err(self.damaged("a position is of an unknown kind")),
        }
    }

    pub(crate) fn position(&mut self) -> Result<Position, Fault> {
        let code = self.u8()?;
        let kind =
            position_kind(code).ok_or_else(|| self.damaged("a position is of an unknown kind"))?;
        let (major, minor) = (self.u64()?, self.u32()?);
        self.position_from(kind, major, minor)
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A counted list. Every item takes at least one byte, so that the count is bounded by what is left.
    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let count = self.length(usize::MAX)?;
        // Items are pushed one by one: a hostile count must not reserve memory by itself.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// Fails unless everything was taken.
    pub(crate) fn end(&self) -> Result<(), Fault> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.damaged("there are bytes after its end"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_variable_length_have_one_spelling() {
        for value in [0, 1, 127, 128, 300, 1 << 32, u64::MAX - 1, u64::MAX] {
            let mut encoder = Encoder::default();
            encoder.varint(value);
            let mut decoder = Decoder::new(&encoder.0, "a test");
            assert_eq!(decoder.varint().expect("readable"), value);
            decoder.end().expect("all taken");
        }
        for bad in [&[0x80u8, 0][..], &[0xff; 10], &[0xff; 3], &[]] {
            assert!(Decoder::new(bad, "a test").varint().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hostile_counts_and_lengths_are_errors() {
        let mut encoder = Encoder::default();
        encoder.varint(u64::MAX);
        let mut decoder = Decoder::new(&encoder.0, "a test");
        assert!(decoder.clone().bytes(10).is_err());
        assert!(decoder.list(|decoder| decoder.u8()).is_err());
    }
}
