//! How often fulls are taken, and how often incrementals between them.

use holdfast_types::{ErrorCode, Fault, Millis, Timestamp};

use super::cron::Cron;

const HOUR: Millis = Millis(3_600_000);
const DAY: Millis = Millis(24 * 3_600_000);

/// What is wished of fulls.
#[derive(Debug, Clone)]
pub(crate) enum Fulls {
    /// What fits the cadence.
    Fitting,
    /// Every run is one.
    Always,
    /// They have their own cadence.
    At(Box<Cron>),
}

impl Fulls {
    /// Reads a wish: empty, `ALWAYS`, or a cadence.
    ///
    /// # Errors
    /// `InvalidArgument` for what is none.
    pub(crate) fn read(text: &str) -> Result<Self, Fault> {
        match text.trim() {
            "" => Ok(Self::Fitting),
            word if word.eq_ignore_ascii_case("always") => Ok(Self::Always),
            cron => Cron::read(cron).map(|cron| Self::At(Box::new(cron))),
        }
    }
}

/// The cadences of a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    pub(crate) full: Cron,
    /// `None`: every run is a full.
    pub(crate) incremental: Option<Cron>,
    /// Whether the fulls' cadence was chosen for the user: then the first is taken at once, as in the model system.
    pub(crate) is_chosen: bool,
}

impl Pace {
    /// What a cadence and a wish of fulls amount to.
    ///
    /// # Errors
    /// `InvalidArgument` if fulls would be taken as often as incrementals.
    pub(crate) fn of(recurring: Cron, fulls: Fulls, now: Timestamp) -> Result<Self, Fault> {
        let single = |full| Self {
            full,
            incremental: None,
            is_chosen: false,
        };
        let chosen = match fulls {
            Fulls::Always => return Ok(single(recurring)),
            Fulls::At(full) => {
                if recurring.gap(now) >= full.gap(now) {
                    return Err(Fault::new(
                        ErrorCode::InvalidArgument,
                        format!(
                            "incremental backups must occur more often than full backups: '{recurring}' does not come more often than '{full}'"
                        ),
                    )
                    .hint("take fulls less often, or every time with ALWAYS"));
                }
                return Ok(Self {
                    full: *full,
                    incremental: Some(recurring),
                    is_chosen: false,
                });
            }
            Fulls::Fitting => match recurring.gap(now) {
                Some(gap) if gap <= HOUR => "@daily",
                Some(gap) if gap <= DAY => "@weekly",
                _ => return Ok(single(recurring)),
            },
        };
        Ok(Self {
            full: Cron::read(chosen)?,
            incremental: Some(recurring),
            is_chosen: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fulls_are_as_often_as_the_model_system_has_them() {
        /// What recurs, what is wished of fulls, and the cadences of both.
        type Case = (
            &'static str,
            &'static str,
            Option<(&'static str, Option<&'static str>)>,
        );
        let cases: [Case; 9] = [
            ("@hourly", "", Some(("@daily", Some("@hourly")))),
            ("*/10 * * * *", "", Some(("@daily", Some("*/10 * * * *")))),
            ("0 */2 * * *", "", Some(("@weekly", Some("0 */2 * * *")))),
            ("@daily", "", Some(("@weekly", Some("@daily")))),
            ("@weekly", "", Some(("@weekly", None))),
            ("@hourly", "ALWAYS", Some(("@hourly", None))),
            ("@hourly", "0 3 * * *", Some(("0 3 * * *", Some("@hourly")))),
            ("@daily", "@daily", None),
            ("@daily", "@hourly", None),
        ];
        let now = "2026-12-01T08:00:00Z".parse().expect("a time");
        for (recurring, full, expected) in cases {
            let recurring = Cron::read(recurring).expect("a cadence");
            let pace = Fulls::read(full).and_then(|fulls| Pace::of(recurring, fulls, now));
            match (pace, expected) {
                (Ok(pace), Some((full, incremental))) => {
                    assert_eq!(pace.full.to_string(), full);
                    let found = pace.incremental.map(|cron| cron.to_string());
                    assert_eq!(found.as_deref(), incremental);
                }
                (Err(fault), None) => assert!(fault.message.contains("more often"), "{fault}"),
                (pace, expected) => panic!("{expected:?}: {pace:?}"),
            }
        }
    }
}
