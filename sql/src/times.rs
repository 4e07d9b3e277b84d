//! Times and time spans as people write them.

use holdfast_types::{AsOf, Timestamp};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo};

use crate::error::{SqlError, state};

/// Digits of a number of microseconds since 1970, for some centuries.
const MICROS_DIGITS: usize = 16;
/// Digits of a number of nanoseconds since 1970, as the model system counts.
const NANOS_DIGITS: usize = 19;

/// Reads a time: with an offset, or in UTC; a date alone is its beginning.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let time = text
        .parse::<jiff::Timestamp>()
        .ok()
        .or_else(|| in_utc(text.parse::<DateTime>().ok()?))
        .or_else(|| {
            in_utc(
                text.parse::<Date>()
                    .ok()?
                    .to_datetime(jiff::civil::Time::midnight()),
            )
        })?;
    u64::try_from(time.as_microsecond())
        .ok()
        .map(Timestamp::from_micros)
}

fn in_utc(time: DateTime) -> Option<jiff::Timestamp> {
    TimeZone::UTC.to_timestamp(time).ok()
}

/// Reads a time span, in microseconds: `-10s`, `1h30m`, `2 days 3 hours`, `-00:00:10`, `PT10S`. A day has 24 hours; months and years have no length.
pub(crate) fn parse_interval(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(micros) = parse_clock(text) {
        return Some(micros);
    }
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    i64::try_from(duration.as_micros()).ok()
}

/// `-01:30:00.5`
fn parse_clock(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let mut parts = digits.split(':');
    let (hours, minutes) = (parts.next()?, parts.next()?);
    let seconds = parts.next().unwrap_or("0");
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let all = [hours, minutes, whole, fraction];
    if parts.next().is_some() || !all.into_iter().all(is_digits) || fraction.len() > 6 {
        return None;
    }
    let number = |text: &str| text.parse::<i64>().ok();
    let fraction = number(&format!("{fraction:0<6}"))?;
    let seconds = number(hours)?
        .checked_mul(3600)?
        .checked_add(number(minutes)?.checked_mul(60)?)?
        .checked_add(number(whole)?)?;
    seconds
        .checked_mul(1_000_000)?
        .checked_add(fraction)?
        .checked_mul(sign)
}

/// A time span as PostgreSQL shows it: `1 day 02:03:04.5`.
pub(crate) fn show_interval(micros: i64) -> String {
    const SECOND: u64 = 1_000_000;
    const DAY: u64 = 86_400 * SECOND;
    let sign = if micros < 0 { "-" } else { "" };
    let size = micros.unsigned_abs();
    let (days, rest) = (size / DAY, size % DAY);
    let days = match days {
        0 => String::new(),
        1 => format!("{sign}1 day "),
        days => format!("{sign}{days} days "),
    };
    let seconds = rest / SECOND;
    let fraction = format!("{:06}", rest % SECOND);
    let fraction = match fraction.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    format!(
        "{days}{sign}{:02}:{:02}:{:02}{fraction}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// A time as PostgreSQL shows it: `2026-11-23 19:08:00.5+00`.
pub(crate) fn show_time(time: Timestamp) -> String {
    let fraction = format!("{:06}", time.as_micros() % 1_000_000);
    let fraction = match fraction.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    format!("{}{fraction}+00", time.format("%Y-%m-%d %H:%M:%S"))
}

/// The AS OF of a text, as the cluster reads it.
///
/// # Errors
/// It is neither a time, nor a position, nor a time ago.
pub(crate) fn as_of_text(text: &str) -> Result<String, SqlError> {
    let text = text.trim();
    if let Some(position) = position(text) {
        return Ok(position);
    }
    if text.parse::<AsOf>().is_ok() {
        return Ok(text.to_owned());
    }
    if let Some(micros) = parse_interval(text) {
        return ago(micros, text);
    }
    match parse_time(text) {
        Some(time) => Ok(time.to_string()),
        None => Err(SqlError::new(
            state::INVALID_PARAMETER_VALUE,
            format!(
                "AS OF SYSTEM TIME: \"{}\" is neither a timestamp, nor a decimal, nor an interval",
                text.escape_debug()
            ),
        )
        .hint(
            "write a time such as '2026-11-23 19:08:00', a time ago such as '-10s', an exact position such as \
             1763924880500000.0000000000, or a place in a PostgreSQL server's log such as '16/B374D848'",
        )),
    }
}

/// A time span before now.
///
/// # Errors
/// It does not lie in the past.
pub(crate) fn ago(micros: i64, shown: &str) -> Result<String, SqlError> {
    if micros >= 0 {
        return Err(SqlError::new(
            state::INVALID_PARAMETER_VALUE,
            format!(
                "AS OF SYSTEM TIME: interval value '{}' must be negative",
                shown.escape_debug()
            ),
        )
        .hint("write '-10s' for ten seconds ago"));
    }
    Ok(format!("-{}ms", micros.unsigned_abs().div_ceil(1000)))
}

/// A number as a position: microseconds since 1970, or nanoseconds, as the model system counts; after a point ten digits that order what happened at once.
fn position(text: &str) -> Option<String> {
    let (wall, logical) = text.split_once('.').unwrap_or((text, "0000000000"));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(wall) || !is_digits(logical) || logical.len() != 10 {
        return None;
    }
    match wall.len() {
        MICROS_DIGITS => Some(format!("{wall}.{logical}")),
        NANOS_DIGITS => Some(format!("{}.{logical}", &wall[..MICROS_DIGITS])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_offset() {
        for (text, shown) in [
            ("2026-11-23T19:08:00.5Z", "2026-11-23 19:08:00.5+00"),
            ("2026-11-23 19:08:00", "2026-11-23 19:08:00+00"),
            ("2026-11-23 19:08:00+02", "2026-11-23 17:08:00+00"),
            (
                "2026-11-23 19:08:00.123456+00:00",
                "2026-11-23 19:08:00.123456+00",
            ),
            ("2026-11-23 19:08", "2026-11-23 19:08:00+00"),
            ("2026-11-23", "2026-11-23 00:00:00+00"),
        ] {
            assert_eq!(
                parse_time(text).map(show_time).as_deref(),
                Some(shown),
                "{text}"
            );
        }
        for text in ["", "soon", "2026-13-01", "1960-01-01", "-10s"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn time_spans_are_read_in_every_usual_form() {
        for (text, micros) in [
            ("-10s", -10_000_000),
            ("10s", 10_000_000),
            ("1h30m", 5_400_000_000),
            ("-1 day", -86_400_000_000),
            ("2 days 3 hours", 183_600_000_000),
            ("-00:00:10", -10_000_000),
            ("01:30:00.5", 5_400_500_000),
            ("PT10S", 10_000_000),
            ("-250ms", -250_000),
            ("10s ago", -10_000_000),
        ] {
            assert_eq!(parse_interval(text), Some(micros), "{text}");
        }
        for text in [
            "",
            "10",
            "1 month",
            "a:b",
            "1:2:3:4",
            "99999999999999999:00",
        ] {
            assert_eq!(parse_interval(text), None, "{text}");
        }
        assert_eq!(show_interval(-10_000_000), "-00:00:10");
        assert_eq!(show_interval(93_784_500_000), "1 day 02:03:04.5");
    }

    #[test]
    fn every_form_of_as_of_becomes_one_that_the_cluster_reads() {
        for (text, expected) in [
            ("-10s", "-10s"),
            ("-1h30m", "-5400000ms"),
            ("-1 day", "-86400000ms"),
            ("-1us", "-1ms"),
            ("2026-11-23 19:08:00", "2026-11-23T19:08:00Z"),
            ("2026-11-23", "2026-11-23T00:00:00Z"),
            ("1763924880500000", "1763924880500000.0000000000"),
            ("1763924880500000.0000000007", "1763924880500000.0000000007"),
            (
                "1763924880500000123.0000000007",
                "1763924880500000.0000000007",
            ),
            ("1763924880500000123", "1763924880500000.0000000000"),
            ("16/B374D848", "16/B374D848"),
        ] {
            assert_eq!(as_of_text(text).as_deref(), Ok(expected), "{text}");
            assert!(expected.parse::<AsOf>().is_ok(), "{expected}");
        }
        for (text, what) in [
            ("10s", "must be negative"),
            ("0s", "must be negative"),
            ("soon", "neither"),
            ("", "neither"),
            ("12", "neither"),
        ] {
            let error = as_of_text(text).expect_err(text);
            assert_eq!(error.state, "22023");
            assert!(error.message.contains(what), "{text}: {}", error.message);
        }
    }
}
