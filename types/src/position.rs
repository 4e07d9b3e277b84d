//! Points in a source's history.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::error::{ErrorCode, Fault};
use crate::lsn::Lsn;
use crate::time::Timestamp;
use crate::units::Millis;

/// A hybrid logical timestamp: wall time, and a counter that orders events within one microsecond.
///
/// After Kulkarni et al., "Logical Physical Clocks" (OPODIS 2014). Prints as the model system's decimal form,
/// `<microseconds>.<counter, ten digits>`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Hlc {
    /// Wall time.
    pub wall: Timestamp,
    /// Order within the wall time.
    pub logical: u32,
}

impl Hlc {
    /// Before everything.
    pub const ZERO: Self = Self {
        wall: Timestamp::from_micros(0),
        logical: 0,
    };

    /// The position at the very start of a wall time.
    #[must_use]
    pub const fn at(wall: Timestamp) -> Self {
        Self { wall, logical: 0 }
    }

    /// The next position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.logical.checked_add(1) {
            Some(logical) => Self {
                wall: self.wall,
                logical,
            },
            None => Self::at(Timestamp::from_micros(self.wall.as_micros() + 1)),
        }
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:010}", self.wall.as_micros(), self.logical)
    }
}

/// A point in the history of one member.
///
/// Positions of one member are of one kind, and ordered. Those of different kinds never meet in a file, a window or a merge: the
/// format refuses them. The order between kinds (every [`Hlc`] before every [`Lsn`]) says nothing about time; it is there so that
/// positions can stand in sorted collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Position {
    /// An `mvcc` member: a hybrid logical timestamp.
    Hlc(Hlc),
    /// A PostgreSQL server: a commit in its write-ahead log.
    Lsn(Lsn),
}

/// What positions of a member are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PositionKind {
    /// [`Position::Hlc`].
    Hlc,
    /// [`Position::Lsn`].
    Lsn,
}

impl Position {
    /// What it is.
    #[must_use]
    pub const fn kind(self) -> PositionKind {
        match self {
            Self::Hlc(_) => PositionKind::Hlc,
            Self::Lsn(_) => PositionKind::Lsn,
        }
    }

    /// The wall time that the position itself holds: `None` for a log sequence number, which has none.
    #[must_use]
    pub const fn time(self) -> Option<Timestamp> {
        match self {
            Self::Hlc(hlc) => Some(hlc.wall),
            Self::Lsn(_) => None,
        }
    }
}

impl fmt::Display for PositionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hlc => "hlc",
            Self::Lsn => "lsn",
        })
    }
}

impl From<Hlc> for Position {
    fn from(hlc: Hlc) -> Self {
        Self::Hlc(hlc)
    }
}

impl From<Lsn> for Position {
    fn from(lsn: Lsn) -> Self {
        Self::Lsn(lsn)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hlc(hlc) => fmt::Display::fmt(hlc, f),
            Self::Lsn(lsn) => fmt::Display::fmt(lsn, f),
        }
    }
}

/// The part of history that a layer holds: everything in `(after, upto]`. Both positions are of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Exclusive start; `None` for a full layer, which holds what is visible at `upto`.
    pub after: Option<Position>,
    /// Inclusive end.
    pub upto: Position,
    /// Whether every version in the window is kept, or only the last of each row.
    pub history: bool,
}

/// A user's AS OF: an instant, an exact position, a time ago, or a place in a server's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AsOf {
    /// An instant.
    Time(Timestamp),
    /// An exact hybrid logical timestamp.
    Exact(Hlc),
    /// This long before now: `-10s`.
    Ago(Millis),
    /// What was committed before a place in the write-ahead log of one PostgreSQL server: `16/B374D848`. It is what
    /// `pg_current_wal_lsn()` said at that moment.
    Log(Lsn),
}

impl AsOf {
    /// The position meant, if now is `now`.
    #[must_use]
    pub fn resolve(self, now: Timestamp) -> Position {
        match self {
            Self::Time(time) => Hlc::at(time).into(),
            Self::Exact(hlc) => hlc.into(),
            Self::Ago(ago) => Hlc::at(now.minus(ago)).into(),
            Self::Log(lsn) => lsn.into(),
        }
    }

    /// The instant meant, if now is `now`, where no log is spoken of.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for a place in a log.
    pub fn instant(self, now: Timestamp) -> Result<Hlc, Fault> {
        match self.resolve(now) {
            Position::Hlc(at) => Ok(at),
            Position::Lsn(lsn) => Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("{lsn} is a place in the log of a PostgreSQL server, and no time"),
            )
            .hint("only restores of such a server go back to one; write a time instead")),
        }
    }
}

impl FromStr for AsOf {
    type Err = Fault;

    /// Reads the model system's forms: a time, a decimal HLC, or a negative interval in `ms`, `s`, `m` or `h`; and a log sequence number as
    /// PostgreSQL writes it.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        let error = || {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("\"{}\" is not a time to go back to", text.escape_debug()),
            )
            .hint(
                "write 2026-11-23T19:08:00.5Z, or -10s, or an exact position such as 1763924880500000.0000000000, \
                 or a place in a PostgreSQL server's log such as 16/B374D848",
            )
        };
        if let Ok(lsn) = text.parse::<Lsn>() {
            // Transactions are restored whole.
            return match lsn.ordinal {
                0 => Ok(Self::Log(lsn)),
                _ => Err(error()),
            };
        }
        if let Some(interval) = text.strip_prefix('-') {
            let digits = interval.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let amount: u64 = digits.parse().map_err(|_| error())?;
            let unit = match &interval[digits.len()..] {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return Err(error()),
            };
            return Ok(Self::Ago(Millis(amount.saturating_mul(unit))));
        }
        if let Some((wall, logical)) = text.split_once('.')
            && wall.bytes().all(|byte| byte.is_ascii_digit())
            && logical.len() == 10
        {
            let wall = Timestamp::from_micros(wall.parse().map_err(|_| error())?);
            let logical = logical.parse().map_err(|_| error())?;
            return Ok(Self::Exact(Hlc { wall, logical }));
        }
        text.parse().map(Self::Time).map_err(|_| error())
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => fmt::Display::fmt(time, f),
            Self::Exact(hlc) => fmt::Display::fmt(hlc, f),
            Self::Ago(ago) => write!(f, "-{}ms", ago.0),
            Self::Log(lsn) => fmt::Display::fmt(lsn, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_as_of_is_read() {
        let now = Timestamp::from_millis(1_000_000);
        let cases = [
            ("-10s", Hlc::at(Timestamp::from_millis(990_000))),
            ("-250ms", Hlc::at(Timestamp::from_millis(999_750))),
            (
                "5000000.0000000007",
                Hlc {
                    wall: Timestamp::from_millis(5_000),
                    logical: 7,
                },
            ),
            (
                "1970-01-01T00:00:01Z",
                Hlc::at(Timestamp::from_millis(1_000)),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(
                text.parse::<AsOf>().expect(text).instant(now),
                Ok(expected),
                "{text}"
            );
        }
        for text in [
            "", "-", "-10", "-s", "-10d", "soon", "1.5", "/", "1/", "1/G", "1/2+3",
        ] {
            assert!(text.parse::<AsOf>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_place_in_a_log_is_no_instant() {
        let as_of = "16/B374D848".parse::<AsOf>().expect("a place");
        assert_eq!(as_of.to_string(), "16/B374D848");
        let now = Timestamp::from_millis(1);
        assert_eq!(as_of.resolve(now), Lsn::at(0x16_B374_D848).into());
        let fault = as_of.instant(now).expect_err("no time");
        assert_eq!(fault.code, ErrorCode::InvalidArgument);
        assert!(fault.message.contains("16/B374D848"), "{fault}");
    }

    #[test]
    fn an_hlc_prints_so_that_it_can_be_read_back() {
        let hlc = Hlc {
            wall: Timestamp::from_millis(1_763_924_880_500),
            logical: 42,
        };
        assert_eq!(hlc.to_string().parse::<AsOf>(), Ok(AsOf::Exact(hlc)));
        assert!(hlc.next() > hlc);
    }

    #[test]
    fn only_a_position_that_holds_a_time_gives_one() {
        let hlc = Hlc::at(Timestamp::from_millis(9));
        assert_eq!(Position::from(hlc).time(), Some(hlc.wall));
        let lsn = Lsn::at(1 << 33);
        assert_eq!(Position::from(lsn).time(), None);
        assert_eq!(Position::from(lsn).to_string(), "2/0");
        assert_ne!(Position::from(lsn).kind(), Position::from(hlc).kind());
        // As documented: kinds never meet, but the order is total.
        assert!(Position::from(hlc) < Position::from(Lsn::ZERO));
    }
}
