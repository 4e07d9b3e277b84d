//! What is printed, as data: the documents of `--json`, and their texts.
//!
//! Field names are those of `proto/holdfast/v1/control.proto`. Ids of jobs and holds are strings, because they exceed what many
//! JSON readers take for an integer; what is empty in the protocol is null.

mod backups;
mod check;
mod cluster;
mod connection;
mod hold;
mod job;
mod keys;
mod schedule;
mod source;
mod user;

pub(crate) use backups::{ChainsView, ExpiryView, ShownChainView};
pub(crate) use check::{CheckView, DryRunView};
pub(crate) use cluster::{MembersView, SettingsView, StatusView};
pub(crate) use connection::{CheckedStoresView, ConnectionsView, ResidencyView};
pub(crate) use hold::{DroppedHoldView, HoldsView};
pub(crate) use job::{ControlledView, JobView, JobsView, StepView, SubmittedView};
pub(crate) use keys::KeysView;
pub(crate) use schedule::{ControlledScheduleView, ScheduleView, SchedulesView};
pub(crate) use source::{SourceView, SourcesView};
pub(crate) use user::UsersView;

/// An empty text is no text.
fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Lines of `name: value`, values aligned; empty values are left out.
fn sheet<const N: usize>(lines: [(&str, String); N]) -> String {
    let width = lines
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, _)| name.len() + 1)
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        let name = format!("{name}:");
        text.push_str(&format!("{name:width$}  {value}\n"));
    }
    text
}

/// A duration in seconds, as people say it.
fn seconds(value: f64) -> String {
    match value {
        value if value < 120.0 => format!("{value:.1} s"),
        value if value < 7200.0 => format!("{:.0} min", value / 60.0),
        value if value < 172_800.0 => format!("{:.1} h", value / 3600.0),
        value => format!("{:.1} d", value / 86_400.0),
    }
}
