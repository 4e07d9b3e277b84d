//! Places in the write-ahead log of a PostgreSQL server.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::error::{ErrorCode, Fault};

/// A place in the history of a PostgreSQL server: the log sequence number of a transaction's commit record, and the order of a
/// change inside that transaction.
///
/// Commit records are ordered, so this is the order in which other sessions could first see each change. It holds no wall time:
/// what a clock said at a commit is known from the change stream only.
///
/// Prints as PostgreSQL does, `16/B374D848`, with `+<ordinal>` after it unless the ordinal is 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Lsn {
    /// Log sequence number of the commit record: a byte offset in the log.
    pub lsn: u64,
    /// Order in the transaction, from 0.
    pub ordinal: u32,
}

impl Lsn {
    /// Before everything.
    pub const ZERO: Self = Self { lsn: 0, ordinal: 0 };

    /// The first change of the transaction whose commit record is here; as a bound, before all of them.
    #[must_use]
    pub const fn at(lsn: u64) -> Self {
        Self { lsn, ordinal: 0 }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.lsn >> 32, self.lsn & 0xffff_ffff)?;
        match self.ordinal {
            0 => Ok(()),
            ordinal => write!(f, "+{ordinal}"),
        }
    }
}

/// One half of a number as PostgreSQL reads it: one to eight hexadecimal digits, in either case.
fn half(digits: &str) -> Option<u64> {
    let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// The number after the plus sign: decimal digits and nothing else.
fn ordinal(digits: &str) -> Option<u32> {
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit());
    is_plain.then(|| digits.parse().ok())?
}

impl FromStr for Lsn {
    type Err = Fault;

    /// Reads what PostgreSQL writes, leading zeros included, and our ordinal after it.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let parse = || {
            let (place, suffix) = match text.split_once('+') {
                None => (text, None),
                Some((place, digits)) => (place, Some(digits)),
            };
            let (high, low) = place.split_once('/')?;
            Some(Self {
                lsn: half(high)? << 32 | half(low)?,
                ordinal: suffix.map_or(Some(0), ordinal)?,
            })
        };
        parse().ok_or_else(|| {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("\"{}\" is not a log sequence number", text.escape_debug()),
            )
            .hint("write it as PostgreSQL does, such as 16/B374D848")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_as_postgresql_does_and_is_read_back() {
        let cases = [
            ("0/0", Lsn::ZERO),
            ("16/B374D848", Lsn::at(0x16_b374_d848)),
            (
                "16/B374D848+7",
                Lsn {
                    lsn: 0x16_b374_d848,
                    ordinal: 7,
                },
            ),
            (
                "FFFFFFFF/FFFFFFFF+4294967295",
                Lsn {
                    lsn: u64::MAX,
                    ordinal: u32::MAX,
                },
            ),
            ("1/2", Lsn::at(0x1_0000_0002)),
        ];
        for (text, lsn) in cases {
            assert_eq!(lsn.to_string(), text);
            assert_eq!(text.parse(), Ok(lsn), "{text}");
        }
        // PostgreSQL 19 writes the low half in eight digits.
        assert_eq!("1/00000002".parse(), Ok(Lsn::at(0x1_0000_0002)));
        assert_eq!("a/b".parse(), Ok(Lsn::at(0xa_0000_000b)));
    }

    #[test]
    fn what_is_none_is_refused() {
        let bad = [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "1/2/3",
            "1/+2",
            "1/2+",
            "1/2+-1",
            "1/2++1",
            "+1/2",
            "1/ 2",
            "g/1",
            "123456789/0",
            "0/123456789",
            "1/2+4294967296",
            "0x1/2",
            "1/2+1+1",
        ];
        for text in bad {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn order_is_that_of_commits_then_of_changes() {
        let order = [
            Lsn::ZERO,
            Lsn { lsn: 5, ordinal: 1 },
            Lsn { lsn: 5, ordinal: 2 },
            Lsn::at(6),
            Lsn::at(1 << 40),
        ];
        assert!(order.is_sorted_by(|left, right| left < right));
    }
}
