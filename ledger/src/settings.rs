//! Cluster settings: typed, named, bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use holdfast_types::{ErrorCode, Fault, Millis};
use serde::{Deserialize, Serialize};

/// A setting. Append variants at the end only: their order is part of the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Setting {
    /// How long a worker may be silent before its leases end.
    LeaseTtl,
    /// How often a task may fail without having made progress before its job fails.
    MaxTaskAttempts,
    /// How long a failed task rests before it is leased again; doubled with each failure in a row.
    TaskBackoff,
    /// Logical bytes after which a worker closes a part and checkpoints it.
    PartSize,
    /// Logical bytes that a planner aims at for one span.
    SpanSize,
    /// Objects of finished tasks after which they are moved from the ledger to a part of the file list.
    PartListThreshold,
    /// How long terminal jobs are kept.
    JobRetention,
    /// How many jobs may be under way at once.
    MaxJobs,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const DAY_MS: u64 = 24 * 3600 * 1000;

impl Setting {
    /// Every setting.
    pub const ALL: [Self; 8] = [
        Self::LeaseTtl,
        Self::MaxTaskAttempts,
        Self::TaskBackoff,
        Self::PartSize,
        Self::SpanSize,
        Self::PartListThreshold,
        Self::JobRetention,
        Self::MaxJobs,
    ];

    /// Its name, ending in its unit.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LeaseTtl => "lease_ttl_ms",
            Self::MaxTaskAttempts => "max_task_attempts",
            Self::TaskBackoff => "task_backoff_ms",
            Self::PartSize => "part_size_bytes",
            Self::SpanSize => "span_size_bytes",
            Self::PartListThreshold => "part_list_threshold",
            Self::JobRetention => "job_retention_ms",
            Self::MaxJobs => "max_jobs",
        }
    }

    /// What it does, as one sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::LeaseTtl => "how long a worker may be silent before its leases end",
            Self::MaxTaskAttempts => {
                "how often a task may fail without progress before its job fails"
            }
            Self::TaskBackoff => {
                "how long a failed task rests before it is tried again; doubled with each failure in a row"
            }
            Self::PartSize => "logical bytes after which a worker closes a part and checkpoints it",
            Self::SpanSize => "logical bytes that a planner aims at for one span",
            Self::PartListThreshold => {
                "objects after which the file list of a backup is moved to the collection"
            }
            Self::JobRetention => "how long finished jobs are kept",
            Self::MaxJobs => "how many jobs may be under way at once",
        }
    }

    /// Its value until somebody changes it.
    #[must_use]
    pub fn default_value(self) -> u64 {
        match self {
            Self::LeaseTtl => 10_000,
            Self::MaxTaskAttempts => 5,
            Self::TaskBackoff => 2_000,
            Self::PartSize => 16 * MIB,
            Self::SpanSize => 64 * MIB,
            Self::PartListThreshold => 8_192,
            Self::JobRetention => 14 * DAY_MS,
            Self::MaxJobs => 1_000,
        }
    }

    /// The values it takes.
    #[must_use]
    pub fn range(self) -> RangeInclusive<u64> {
        match self {
            Self::LeaseTtl => 500..=600_000,
            Self::MaxTaskAttempts => 1..=1_000_000,
            Self::TaskBackoff => 0..=600_000,
            Self::PartSize => KIB..=1024 * MIB,
            Self::SpanSize => KIB..=TIB,
            Self::PartListThreshold => 1..=1_000_000,
            Self::JobRetention => 60_000..=3_650 * DAY_MS,
            Self::MaxJobs => 1..=10_000,
        }
    }

    /// The setting of this name.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], listing the names that there are.
    pub fn from_name(name: &str) -> Result<Self, Fault> {
        Self::ALL
            .into_iter()
            .find(|setting| setting.name() == name)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.into_iter().map(Self::name).collect();
                Fault::new(
                    ErrorCode::NotFound,
                    format!("there is no setting \"{}\"", name.escape_debug()),
                )
                .hint(format!("the settings are {}", names.join(", ")))
            })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The values of all settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Settings {
    changed: BTreeMap<Setting, u64>,
}

impl Settings {
    /// The value of a setting, in the unit that its name ends in.
    #[must_use]
    pub fn get(&self, setting: Setting) -> u64 {
        self.changed
            .get(&setting)
            .copied()
            .unwrap_or_else(|| setting.default_value())
    }

    /// Every setting with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Setting, u64)> + '_ {
        Setting::ALL
            .into_iter()
            .map(|setting| (setting, self.get(setting)))
    }

    /// How long a worker may be silent before its leases end.
    #[must_use]
    pub fn lease_ttl(&self) -> Millis {
        Millis(self.get(Setting::LeaseTtl))
    }

    /// How long a task rests after `attempts` failures in a row: doubled with each, up to [`MAX_BACKOFF`].
    #[must_use]
    pub fn backoff(&self, attempts: u32) -> Millis {
        let Some(doublings) = attempts.checked_sub(1) else {
            return Millis(0);
        };
        let base = self.get(Setting::TaskBackoff);
        // The largest base shifted this far stays below 2^64.
        Millis(
            (base << doublings.min(MAX_DOUBLINGS))
                .min(MAX_BACKOFF.0)
                .max(base),
        )
    }

    /// Changes a setting; whether that made a difference.
    pub(crate) fn set(&mut self, name: &str, value: u64) -> Result<bool, Fault> {
        let setting = Setting::from_name(name)?;
        let range = setting.range();
        if !range.contains(&value) {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("{value} is out of range for the setting {setting}"),
            )
            .hint(format!(
                "it takes {} to {}, and is {} by default",
                range.start(),
                range.end(),
                setting.default_value()
            )));
        }
        let before = self.get(setting);
        if value == setting.default_value() {
            self.changed.remove(&setting);
        } else {
            self.changed.insert(setting, value);
        }
        Ok(before != value)
    }
}

/// The longest rest of a failed task: long enough to spare a source that is down, short enough to notice its return.
pub const MAX_BACKOFF: Millis = Millis(60_000);

const MAX_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_lie_in_their_ranges() {
        for setting in Setting::ALL {
            assert!(
                setting.range().contains(&setting.default_value()),
                "{setting}"
            );
            assert_eq!(Setting::from_name(setting.name()), Ok(setting));
        }
    }

    #[test]
    fn unknown_names_and_bad_values_are_named() {
        let mut settings = Settings::default();
        let fault = settings.set("part_size", 1).expect_err("unknown");
        assert!(fault.hint.expect("a hint").contains("part_size_bytes"));
        let fault = settings.set("max_jobs", 0).expect_err("out of range");
        assert!(fault.message.contains("max_jobs"));
        assert_eq!(settings.set("max_jobs", 7), Ok(true));
        assert_eq!(settings.get(Setting::MaxJobs), 7);
        assert_eq!(settings.set("max_jobs", 1_000), Ok(true));
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        let settings = Settings::default();
        assert_eq!(settings.backoff(0), Millis(0));
        assert_eq!(settings.backoff(1), Millis(2_000));
        assert_eq!(settings.backoff(3), Millis(8_000));
        assert_eq!(settings.backoff(u32::MAX), MAX_BACKOFF);
    }
}
