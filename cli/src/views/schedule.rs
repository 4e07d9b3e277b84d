//! Schedules.

use holdfast_client::v1;
use serde::Serialize;
use std::collections::BTreeMap;

use super::{sheet, some};
use crate::output::Table;

/// A schedule.
#[derive(Debug, Serialize)]
pub(crate) struct ScheduleView {
    id: String,
    label: String,
    status: String,
    next_run: Option<String>,
    state: Option<String>,
    recurrence: String,
    backup_type: String,
    partner: Option<String>,
    source: String,
    databases: Vec<String>,
    tables: Vec<String>,
    into: String,
    locality_stores: BTreeMap<String, String>,
    revision_history: bool,
    execution_locality: Option<String>,
    on_execution_failure: String,
    on_previous_running: String,
    created: String,
    last_due: Option<String>,
    last_job: Option<String>,
    running: Vec<String>,
    encryption: Option<ScheduleKeysView>,
}

/// What the chains of a schedule are encrypted with, without anything secret.
#[derive(Debug, Serialize)]
struct ScheduleKeysView {
    passphrase: bool,
    kms: Vec<String>,
    former_keys_kept: bool,
}

impl From<v1::ScheduleKeys> for ScheduleKeysView {
    fn from(keys: v1::ScheduleKeys) -> Self {
        Self {
            passphrase: keys.passphrase,
            kms: keys.kms,
            former_keys_kept: keys.former,
        }
    }
}

impl ScheduleKeysView {
    fn text(&self) -> String {
        let passphrase = self.passphrase.then_some("a passphrase");
        let kms = self.kms.iter().map(String::as_str);
        let all: Vec<&str> = passphrase.into_iter().chain(kms).collect();
        let kept = match self.former_keys_kept {
            true => "; the keys from before are kept for the chain that was begun with them",
            false => "",
        };
        format!("{}{kept}", all.join(", "))
    }
}

/// An id, unless it is none.
fn id(id: u64) -> Option<String> {
    (id != 0).then(|| id.to_string())
}

impl From<v1::Schedule> for ScheduleView {
    fn from(schedule: v1::Schedule) -> Self {
        let target = schedule.target.unwrap_or_default();
        Self {
            id: schedule.id.to_string(),
            label: schedule.label,
            status: schedule.status,
            next_run: some(schedule.next_run),
            state: some(schedule.state),
            recurrence: schedule.recurrence,
            backup_type: schedule.backup_type,
            partner: id(schedule.partner),
            source: schedule.source,
            databases: target.databases,
            tables: target.tables,
            into: schedule.into,
            locality_stores: schedule.locality_stores.into_iter().collect(),
            revision_history: schedule.revision_history,
            execution_locality: some(schedule.execution_locality),
            on_execution_failure: schedule.on_execution_failure,
            on_previous_running: schedule.on_previous_running,
            created: schedule.created,
            last_due: some(schedule.last_due),
            last_job: id(schedule.last_job),
            running: schedule.running.iter().map(u64::to_string).collect(),
            encryption: schedule.keys.map(ScheduleKeysView::from),
        }
    }
}

impl ScheduleView {
    fn covers(&self) -> String {
        match (self.databases.is_empty(), self.tables.is_empty()) {
            (true, true) => String::new(),
            (false, _) => format!("databases {}", self.databases.join(", ")),
            (true, false) => format!("tables {}", self.tables.join(", ")),
        }
    }

    pub(crate) fn text(&self) -> String {
        let shown = |text: &Option<String>| text.clone().unwrap_or_default();
        let stores = self.locality_stores.iter();
        let stores: Vec<String> = stores
            .map(|(tier, address)| format!("{tier} in {address}"))
            .collect();
        let stores = stores.join(", ");
        let history = match self.revision_history {
            true => "every version",
            false => "",
        };
        let keys = self.encryption.as_ref();
        let keys = keys.map(ScheduleKeysView::text).unwrap_or_default();
        sheet([
            ("schedule", self.id.clone()),
            ("label", self.label.clone()),
            ("status", self.status.clone()),
            ("state", shown(&self.state)),
            ("next run", shown(&self.next_run)),
            ("recurs", self.recurrence.clone()),
            ("takes", self.backup_type.clone()),
            ("of", self.source.clone()),
            ("only", self.covers()),
            ("into", self.into.clone()),
            ("stores", stores),
            ("keeps", history.to_owned()),
            ("encrypted with", keys),
            ("workers in", shown(&self.execution_locality)),
            ("pair with", shown(&self.partner)),
            ("after a failure", self.on_execution_failure.clone()),
            ("while one runs", self.on_previous_running.clone()),
            ("created", self.created.clone()),
            ("last due", shown(&self.last_due)),
            ("last job", shown(&self.last_job)),
            ("running", self.running.join(", ")),
        ])
        .trim_end()
        .to_owned()
    }
}

/// Several schedules.
#[derive(Debug, Serialize)]
pub(crate) struct SchedulesView {
    schedules: Vec<ScheduleView>,
}

impl From<Vec<v1::Schedule>> for SchedulesView {
    fn from(schedules: Vec<v1::Schedule>) -> Self {
        Self {
            schedules: schedules.into_iter().map(ScheduleView::from).collect(),
        }
    }
}

impl SchedulesView {
    pub(crate) fn text(&self) -> String {
        if self.schedules.is_empty() {
            return "no schedules".to_owned();
        }
        let header = [
            "schedule", "label", "status", "next run", "recurs", "takes", "of", "into", "running",
            "state",
        ];
        let mut table = Table::new(&header);
        for schedule in &self.schedules {
            table.row([
                schedule.id.clone(),
                schedule.label.clone(),
                schedule.status.clone(),
                schedule.next_run.clone().unwrap_or_default(),
                schedule.recurrence.clone(),
                schedule.backup_type.clone(),
                schedule.source.clone(),
                schedule.into.clone(),
                schedule.running.join(", "),
                schedule.state.clone().unwrap_or_default(),
            ]);
        }
        table.to_string()
    }
}

/// What became of a wish.
#[derive(Debug, Serialize)]
pub(crate) struct ControlledScheduleView {
    schedule: Option<ScheduleView>,
    no_op: bool,
    #[serde(skip)]
    said: String,
}

impl ControlledScheduleView {
    pub(crate) fn new(id: u64, verb: &str, answer: v1::ControlScheduleResponse) -> Self {
        let next = answer.schedule.as_ref().map(|it| it.next_run.clone());
        let next = next.filter(|next| !next.is_empty());
        let next = next.map_or(String::new(), |next| format!("; it runs next at {next}"));
        let said = match (verb, answer.no_op) {
            ("pause", false) => format!("schedule {id} is paused"),
            ("pause", true) => format!("schedule {id} was paused already"),
            ("resume", false) => format!("schedule {id} is resumed{next}"),
            ("resume", true) => format!("schedule {id} was not paused{next}"),
            ("run", _) => format!("schedule {id} runs now"),
            _ => format!("schedule {id} is dropped; its backups stay"),
        };
        Self {
            schedule: answer.schedule.map(ScheduleView::from),
            no_op: answer.no_op,
            said,
        }
    }

    pub(crate) fn text(&self) -> String {
        self.said.clone()
    }
}
