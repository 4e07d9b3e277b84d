//! Wall-clock instants as data. Nothing here reads a clock: that is `env`'s business.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::units::Millis;

/// An instant in microseconds since 1970-01-01T00:00:00Z. Prints as RFC 3339 in UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

/// Why a text is not an instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a time: write it as 2026-11-23T19:08:00.5Z")]
pub struct ParseTimeError {
    text: String,
}

impl Timestamp {
    /// The largest instant that can be printed (9999-12-30).
    pub const MAX: Self = Self(253_402_200_000_000_000);

    /// From microseconds since the Unix epoch; later than [`Timestamp::MAX`] is cut to it.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        if micros > Self::MAX.0 {
            Self::MAX
        } else {
            Self(micros)
        }
    }

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_micros(millis.saturating_mul(1000))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }

    /// This instant moved into the future.
    #[must_use]
    pub const fn plus(self, by: Millis) -> Self {
        Self::from_micros(self.0.saturating_add(by.0.saturating_mul(1000)))
    }

    /// This instant moved into the past, not before the epoch.
    #[must_use]
    pub const fn minus(self, by: Millis) -> Self {
        Self(self.0.saturating_sub(by.0.saturating_mul(1000)))
    }

    /// The time from `earlier` to this instant; zero if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0) / 1000)
    }

    /// The instant as a calendar date and time in UTC, or `None` beyond the calendar.
    fn to_calendar(self) -> Option<jiff::Timestamp> {
        i64::try_from(self.0)
            .ok()
            .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
    }

    /// Formats with a `strftime` pattern in UTC.
    #[must_use]
    pub fn format(self, pattern: &str) -> String {
        self.to_calendar()
            .map(|time| time.strftime(pattern).to_string())
            .unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_calendar() {
            Some(time) => fmt::Display::fmt(&time, f),
            None => write!(f, "{}us", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimeError;

    /// Reads RFC 3339, with `T` or a blank between date and time, or microseconds followed by `us`.
    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let error = || ParseTimeError {
            text: text.to_owned(),
        };
        if let Some(micros) = text.strip_suffix("us") {
            return micros.parse().map(Self::from_micros).map_err(|_| error());
        }
        let time: jiff::Timestamp = text.trim().parse().map_err(|_| error())?;
        u64::try_from(time.as_microsecond())
            .map(Self::from_micros)
            .map_err(|_| error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_rfc_3339() {
        let time = Timestamp::from_micros(1_663_594_883_640_000);
        assert_eq!(time.to_string(), "2022-09-19T13:41:23.64Z");
        assert_eq!("2022-09-19 13:41:23.64Z".parse(), Ok(time));
        assert_eq!(time.format("%Y/%m/%d"), "2022/09/19");
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let error = "yesterday".parse::<Timestamp>().expect_err("not a time");
        assert!(error.to_string().contains("yesterday"));
        assert!("1960-01-01T00:00:00Z".parse::<Timestamp>().is_err());
    }
}
