//! When a schedule runs: five-field cron in UTC, and words for what is usual.

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds, Year};
use holdfast_types::{ErrorCode, Fault, Millis, Timestamp};
use std::fmt;

/// What the words stand for.
const WORDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

const FIELDS: usize = 5;

/// A cadence: it is kept and shown as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Cron {
    text: String,
    pattern: croner::Cron,
}

impl Cron {
    /// Reads a cadence.
    ///
    /// # Errors
    /// `InvalidArgument` for what is none, or never comes.
    pub(crate) fn read(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        let refuse = |why: String| {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("\"{}\" is no cadence: {why}", text.escape_debug()),
            )
            .hint("write minute, hour, day of the month, month and day of the week, such as '30 2 * * 1', or @hourly, @daily, @weekly, @monthly, @yearly")
        };
        let lower = text.to_ascii_lowercase();
        let word = WORDS.iter().find(|(word, _)| *word == lower);
        let fields = match word {
            Some((_, fields)) => fields,
            None if text.starts_with('@') => return Err(refuse("there is no such word".into())),
            None => text,
        };
        let count = fields.split_whitespace().count();
        if count != FIELDS {
            return Err(refuse(format!("it has {count} fields, not {FIELDS}")));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let pattern = parser
            .parse(fields)
            .map_err(|error| refuse(error.to_string()))?;
        let cron = Self {
            text: text.to_owned(),
            pattern,
        };
        match cron.next_after(Timestamp::default()) {
            Some(_) => Ok(cron),
            None => Err(refuse("it never comes".into())),
        }
    }

    /// The first time after this one.
    pub(crate) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let time: DateTime<Utc> =
            DateTime::from_timestamp_micros(i64::try_from(time.as_micros()).ok()?)?;
        let next = self.pattern.find_next_occurrence(&time, false).ok()?;
        let micros = u64::try_from(next.timestamp_micros()).ok()?;
        Some(Timestamp::from_micros(micros))
    }

    /// From its next time to the one after: what frequencies are compared by, as in the model system.
    pub(crate) fn gap(&self, now: Timestamp) -> Option<Millis> {
        let first = self.next_after(now)?;
        Some(self.next_after(first)?.since(first))
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn next(cron: &str, after: &str) -> String {
        let cron = Cron::read(cron).unwrap_or_else(|fault| panic!("{cron}: {fault}"));
        let next = cron.next_after(time(after)).expect("it comes");
        next.to_string()
    }

    #[test]
    fn times_are_found_in_utc() {
        let cases = [
            ("@hourly", "2026-12-01T08:00:00Z", "2026-12-01T09:00:00Z"),
            ("@daily", "2026-12-01T08:00:00Z", "2026-12-02T00:00:00Z"),
            ("@Weekly", "2026-12-01T08:00:00Z", "2026-12-06T00:00:00Z"),
            ("@yearly", "2026-12-01T08:00:00Z", "2027-01-01T00:00:00Z"),
            (
                "*/15 * * * *",
                "2026-12-01T08:14:59.9Z",
                "2026-12-01T08:15:00Z",
            ),
            (
                "30 2 * * MON",
                "2026-12-01T08:00:00Z",
                "2026-12-07T02:30:00Z",
            ),
            ("0 0 29 2 *", "2026-12-01T08:00:00Z", "2028-02-29T00:00:00Z"),
            // Either day, as cron has always had it.
            ("0 0 13 * 5", "2026-12-01T08:00:00Z", "2026-12-04T00:00:00Z"),
        ];
        for (cron, after, expected) in cases {
            assert_eq!(next(cron, after), expected, "{cron}");
        }
    }

    #[test]
    fn what_is_no_cadence_is_named() {
        for (text, why) in [
            ("", "0 fields"),
            ("0 0 * *", "4 fields"),
            ("0 0 0 * * *", "6 fields"),
            ("61 * * * *", ""),
            ("x * * * *", ""),
            ("@fortnightly", "no such word"),
            ("0 0 30 2 *", "never comes"),
        ] {
            let fault = Cron::read(text).expect_err(text);
            assert_eq!(fault.code, ErrorCode::InvalidArgument);
            assert!(fault.message.contains(why), "{text}: {fault}");
            assert!(fault.hint.is_some());
        }
    }

    #[test]
    fn gaps_tell_which_comes_more_often() {
        let now = time("2026-12-01T08:00:00Z");
        let gap = |text: &str| Cron::read(text).ok().and_then(|cron| cron.gap(now));
        assert!(gap("@hourly") < gap("@daily"));
        assert!(gap("*/5 * * * *") < gap("@hourly"));
        assert_eq!(gap("@daily"), gap("0 5 * * *"));
    }
}
