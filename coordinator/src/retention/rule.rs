//! The rule by which chains expire.

use holdfast_types::{ErrorCode, Fault, Millis, Timestamp};
use std::fmt;

const MINUTE: u64 = 60_000;
/// The longest age: about a century. What is older than nothing can be is a mistake.
const LONGEST: Millis = Millis(36_500 * 24 * 60 * MINUTE);

/// Which chains may go. A chain goes if everything that is said allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Those that end before this instant: everything that could be restored since then stays restorable.
    pub(crate) before: Option<Timestamp>,
    /// Those that have at least so many newer fulls of the same.
    pub(crate) keep_fulls: Option<u32>,
}

impl Rule {
    /// Reads what a request says: an age or a time, and how many fulls stay; empty and 0: nothing is said.
    ///
    /// # Errors
    /// `InvalidArgument` if neither is said, or one is not understood.
    pub(crate) fn read(older_than: &str, keep_fulls: u32, now: Timestamp) -> Result<Self, Fault> {
        let before = match older_than.trim() {
            "" => None,
            text => Some(read_instant(text, now)?),
        };
        let keep_fulls = (keep_fulls > 0).then_some(keep_fulls);
        if before.is_none() && keep_fulls.is_none() {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                "nothing says which backups expire",
            )
            .hint("say how old they are (OLDER THAN '30d'), or how many fulls stay (KEEP LAST 8 FULLS), or both"));
        }
        Ok(Self { before, keep_fulls })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.before.map(|before| format!("OLDER THAN '{before}'"));
        let keep = self
            .keep_fulls
            .map(|keep| format!("KEEP LAST {keep} FULLS"));
        let said: Vec<String> = before.into_iter().chain(keep).collect();
        f.write_str(&said.join(" "))
    }
}

fn read_instant(text: &str, now: Timestamp) -> Result<Timestamp, Fault> {
    if let Some(age) = read_age(text) {
        return Ok(now.minus(age));
    }
    let time: Timestamp = text.parse().map_err(|_| {
        Fault::new(
            ErrorCode::InvalidArgument,
            format!("\"{}\" is neither an age nor a time", text.escape_debug()),
        )
        .hint("write an age such as 30d (w, d, h or m), or a time such as 2026-11-23T19:08:00Z")
    })?;
    match time <= now {
        true => Ok(time),
        false => Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("{time} is in the future: it is {now} now"),
        )
        .hint("write a time of the past, or an age such as 30d")),
    }
}

/// An age of weeks, days, hours or minutes: `30d`. More than nothing, and less than a century.
pub(crate) fn read_age(text: &str) -> Option<Millis> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let minutes = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        "w" => 7 * 24 * 60,
        _ => return None,
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = is_number.then(|| number.parse().ok())??;
    let age = Millis(number.checked_mul(minutes)?.checked_mul(MINUTE)?);
    (age.0 > 0 && age <= LONGEST).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_times_are_read() {
        let now: Timestamp = "2026-12-01T00:00:00Z".parse().expect("a time");
        let cases = [
            ("30d", "2026-11-01T00:00:00Z"),
            ("2w", "2026-11-17T00:00:00Z"),
            ("36h", "2026-11-29T12:00:00Z"),
            ("90m", "2026-11-30T22:30:00Z"),
            ("2026-11-23T19:08:00Z", "2026-11-23T19:08:00Z"),
        ];
        for (text, expected) in cases {
            let rule = Rule::read(text, 0, now).expect(text);
            let expected: Timestamp = expected.parse().expect("a time");
            assert_eq!(rule.before, Some(expected), "{text}");
            assert_eq!(rule.to_string(), format!("OLDER THAN '{expected}'"));
        }
        let both = Rule::read("1d", 8, now).expect("legal");
        assert_eq!(
            both.to_string(),
            "OLDER THAN '2026-11-30T00:00:00Z' KEEP LAST 8 FULLS"
        );
        for wrong in [
            "0d",
            "-1d",
            "d",
            "1",
            "1y",
            "+1d",
            "1.5d",
            "99999999999999999999d",
            "4000000d",
            "yesterday",
            "2027-01-01T00:00:00Z",
            "é",
        ] {
            let fault = Rule::read(wrong, 0, now).expect_err(wrong);
            assert_eq!(fault.code, ErrorCode::InvalidArgument, "{wrong}");
            assert!(fault.hint.is_some(), "{wrong}");
        }
        assert!(Rule::read("", 0, now).is_err(), "nothing is said");
    }
}
