//! Schedules: CREATE SCHEDULE FOR BACKUP, ALTER BACKUP SCHEDULE, SHOW SCHEDULES, and PAUSE, RESUME and DROP.

use holdfast_client::v1;

use super::submit::one_encryption;
use super::targets::{Naming, wire_target};
use super::{Answer, Run, columns};
use crate::error::{SqlError, state};
use crate::rows::{Rows, Value};
use crate::syntax::ast::{
    AlterSchedule, Backup, CreateSchedule, FullCadence, Into, ScheduleCommand, ScheduleOption,
    ScheduleState, ScheduleVerb, ShowSchedules, Statement, TablePattern, Targets,
};
use crate::syntax::expression::{Expr, Query, Str};
use crate::syntax::options::{self, OptionValue, Options, Truth};
use crate::syntax::words::nearest;
use crate::syntax::{Printed, Secrets};

/// The options after WITH SCHEDULE OPTIONS.
const OPTIONS: [&str; 4] = [
    "first_run",
    "on_execution_failure",
    "on_previous_running",
    "ignore_existing_backups",
];

/// The options of a backup that its schedules cannot have.
const REFUSED: [(&str, &str); 2] = [
    (
        "updates_cluster_monitoring_metrics",
        "there are no such metrics",
    ),
    ("start_chain", "scheduled fulls always start a chain"),
];

/// A cadence, as the cluster reads it.
fn cadence(run: &Run<'_>, full: &FullCadence) -> Result<String, SqlError> {
    match full {
        FullCadence::Always => Ok("ALWAYS".to_owned()),
        FullCadence::Cron(cron) => run.text(cron),
    }
}

/// Options after WITH SCHEDULE OPTIONS, each at most once.
#[derive(Default)]
struct Wishes {
    first_run: Option<String>,
    on_failure: Option<String>,
    on_previous: Option<String>,
    ignores_existing: bool,
}

impl Wishes {
    fn take(&mut self, run: &Run<'_>, option: &ScheduleOption) -> Result<(), SqlError> {
        let (name, value) = option;
        let lower = name.to_ascii_lowercase();
        let text = |value: &Option<Str>| match value {
            Some(value) => run.text(value),
            None => Err(SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!("schedule option {lower} needs a value"),
            )),
        };
        let slot = match lower.as_str() {
            "first_run" => &mut self.first_run,
            "on_execution_failure" => &mut self.on_failure,
            "on_previous_running" => &mut self.on_previous,
            "ignore_existing_backups" => {
                self.ignores_existing = true;
                return Ok(());
            }
            "updates_cluster_last_backup_time_metric" => {
                return Err(SqlError::unsupported(format_args!(
                    "schedule option {lower}: there is no such metric"
                )));
            }
            _ => {
                let error = SqlError::new(
                    state::INVALID_PARAMETER_VALUE,
                    format!("there is no schedule option {}", name.escape_debug()),
                );
                return Err(match nearest(&lower, OPTIONS) {
                    Some(meant) => error.hint(format!("did you mean {meant}?")),
                    None => error.hint(format!("the options are {}", OPTIONS.join(", "))),
                });
            }
        };
        if slot.is_some() {
            return Err(twice(&format!("schedule option {lower}")));
        }
        *slot = Some(text(value)?);
        Ok(())
    }
}

/// One statement says the same twice.
fn twice(what: &str) -> SqlError {
    SqlError::new(
        state::INVALID_PARAMETER_VALUE,
        format!("can specify {what} at most once"),
    )
}

impl Run<'_> {
    pub(super) async fn create_schedule(
        &self,
        create: &CreateSchedule,
    ) -> Result<Answer, SqlError> {
        let options = &create.options;
        self.refuse_options(options, &REFUSED)?;
        one_encryption(options)?;
        let mut wishes = Wishes::default();
        for option in &create.schedule_options {
            wishes.take(self, option)?;
        }
        let source = self.source_to_read(create.source.as_deref()).await?;
        let naming = Naming::of_kind(&source.kind);
        let label = create.label.as_ref().map(|label| self.text(label));
        let label = label.transpose()?.unwrap_or_default();
        let (into, more_into) = self.stores(&create.collection)?;
        let request = v1::CreateScheduleRequest {
            label: label.clone(),
            if_not_exists: create.if_not_exists,
            target: Some(wire_target(&create.targets, naming)?),
            source: source.name,
            into,
            more_into,
            revision_history: self
                .option_bool(options, "revision_history")?
                .unwrap_or(false),
            execution_locality: self.execution_locality(options)?,
            recurring: self.text(&create.recurring)?,
            full_backup: match &create.full {
                Some(full) => cadence(self, full)?,
                None => String::new(),
            },
            first_run: wishes.first_run.unwrap_or_default(),
            on_execution_failure: wishes.on_failure.unwrap_or_default(),
            on_previous_running: wishes.on_previous.unwrap_or_default(),
            ignore_existing_backups: wishes.ignores_existing,
            encryption: self.encryption(options)?,
        };
        let made = self.api().create_schedule(request).await?;
        if made.existed {
            let message = format!("schedule \"{label}\" already exists, skipping");
            self.notice(message, None).await;
        }
        Ok(Answer::Rows {
            tag: "CREATE SCHEDULE",
            rows: made_rows(made.schedules),
        })
    }

    pub(super) async fn alter_schedule(&self, alter: &AlterSchedule) -> Result<Answer, SqlError> {
        let schedule = alter.id.parse().map_err(|_| {
            SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!("{} is no id of a schedule", alter.id),
            )
        })?;
        let mut request = v1::AlterScheduleRequest {
            schedule,
            ..v1::AlterScheduleRequest::default()
        };
        let mut wishes = Wishes::default();
        // Whether it is to run now, and whether that is the fulls' half.
        let mut now: Option<bool> = None;
        for command in &alter.commands {
            let (what, is_again) = match command {
                ScheduleCommand::Label(label) => (
                    "SET LABEL",
                    request.label.replace(self.text(label)?).is_some(),
                ),
                ScheduleCommand::Into(uris) => {
                    let (into, more_into) = self.stores(uris)?;
                    request.more_into = more_into;
                    ("SET INTO", request.into.replace(into).is_some())
                }
                ScheduleCommand::Recurring(cron) => (
                    "SET RECURRING",
                    request.recurring.replace(self.text(cron)?).is_some(),
                ),
                ScheduleCommand::FullBackup(full) => (
                    "SET FULL BACKUP",
                    request.full_backup.replace(cadence(self, full)?).is_some(),
                ),
                ScheduleCommand::With(options) => {
                    let (history, keys) = self.altered_options(options)?;
                    let is_again = [
                        history.is_some() && request.revision_history.is_some(),
                        keys.is_some() && request.encryption.is_some(),
                    ];
                    request.revision_history = history.or(request.revision_history);
                    request.encryption = keys.or(request.encryption);
                    match is_again {
                        [true, _] => ("SET WITH revision_history", true),
                        [_, is_again] => ("SET WITH encryption_passphrase or kms", is_again),
                    }
                }
                ScheduleCommand::Option(option) => {
                    wishes.take(self, option)?;
                    ("SET SCHEDULE OPTION", false)
                }
                ScheduleCommand::Execute { is_full } => {
                    ("EXECUTE IMMEDIATELY", now.replace(*is_full).is_some())
                }
            };
            if is_again {
                return Err(twice(what));
            }
        }
        if wishes.first_run.is_some() || wishes.ignores_existing {
            return Err(SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                "first_run and ignore_existing_backups are options of CREATE SCHEDULE only",
            ));
        }
        request.on_execution_failure = wishes.on_failure;
        request.on_previous_running = wishes.on_previous;
        let changed = self.api().alter_schedule(request).await?.schedules;
        let changed = match now {
            None => changed,
            Some(is_full) => self.run_now(changed, is_full).await?,
        };
        Ok(Answer::Rows {
            tag: "ALTER SCHEDULE",
            rows: made_rows(changed),
        })
    }

    /// EXECUTE [FULL] IMMEDIATELY: the incrementals of a pair, unless it says FULL.
    async fn run_now(
        &self,
        schedules: Vec<v1::Schedule>,
        is_full: bool,
    ) -> Result<Vec<v1::Schedule>, SqlError> {
        // Of a pair the incrementals come first.
        let chosen = match is_full {
            true => schedules.last(),
            false => schedules.first(),
        };
        let Some(chosen) = chosen.map(|schedule| schedule.id) else {
            return Ok(schedules);
        };
        let request = v1::ControlScheduleRequest {
            schedule: chosen,
            verb: "run".to_owned(),
        };
        let answer = self.api().control_schedule(request).await?;
        let run = |before: v1::Schedule| match &answer.schedule {
            Some(after) if after.id == before.id => after.clone(),
            _ => before,
        };
        Ok(schedules.into_iter().map(run).collect())
    }

    /// The options of a backup that its schedule can change: whether it keeps every version, and all of its keys.
    fn altered_options(
        &self,
        options: &Options,
    ) -> Result<(Option<bool>, Option<v1::EncryptionKeys>), SqlError> {
        let changeable = ["revision_history", "encryption_passphrase", "kms"];
        let other = options
            .iter()
            .find(|(option, _)| !changeable.contains(&option.name));
        if let Some((option, _)) = other {
            return Err(SqlError::unsupported(format_args!(
                "SET WITH {}: a schedule's revision_history, encryption_passphrase and kms can be changed",
                option.name
            )));
        }
        one_encryption(options)?;
        let history = self.option_bool(options, "revision_history")?;
        let keys = self.encryption(options)?;
        let is_empty =
            |keys: &v1::EncryptionKeys| keys.passphrase.is_empty() && keys.kms.is_empty();
        if keys.as_ref().is_some_and(is_empty) {
            return Err(SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                "the passphrase is empty",
            )
            .hint("a schedule whose backups are not to be encrypted any more is dropped, and made again without keys"));
        }
        Ok((history, keys))
    }

    pub(super) async fn show_schedules(
        &self,
        show: &ShowSchedules,
        mut rows: Rows,
    ) -> Result<Rows, SqlError> {
        for schedule in self.api().list_schedules().await?.schedules {
            let is_shown = match show.state {
                None => true,
                Some(ScheduleState::Running) => schedule.status == "ACTIVE",
                Some(ScheduleState::Paused) => schedule.status == "PAUSED",
            };
            if is_shown {
                rows.push(row(schedule, show.is_for_backup));
            }
        }
        Ok(rows)
    }

    pub(super) async fn show_schedule(&self, id: &Expr, mut rows: Rows) -> Result<Rows, SqlError> {
        rows.push(row(self.find_schedule(id).await?, false));
        Ok(rows)
    }

    async fn find_schedule(&self, id: &Expr) -> Result<v1::Schedule, SqlError> {
        let id = self.number(id, "the id of a schedule")?;
        let all = self.api().list_schedules().await?.schedules;
        all.into_iter().find(|it| it.id == id).ok_or_else(|| {
            SqlError::new(
                state::UNDEFINED_OBJECT,
                format!("schedule {id} does not exist"),
            )
            .hint("SHOW SCHEDULES shows all")
        })
    }

    pub(super) async fn show_create_schedules(
        &self,
        id: Option<&Expr>,
        mut rows: Rows,
    ) -> Result<Rows, SqlError> {
        let all = self.api().list_schedules().await?.schedules;
        let shown = match id {
            Some(id) => vec![self.find_schedule(id).await?],
            None => all.clone(),
        };
        for schedule in shown {
            let partner = all.iter().find(|other| other.id == schedule.partner);
            let statement = created(&schedule, partner);
            let printed = Printed(&statement, Secrets::Shown).to_string();
            rows.push(vec![Value::count(schedule.id), Value::Text(printed)]);
        }
        Ok(rows)
    }

    pub(super) async fn control_schedules(
        &self,
        verb: ScheduleVerb,
        schedules: &Query,
    ) -> Result<Answer, SqlError> {
        let wish = match verb {
            ScheduleVerb::Pause => "pause",
            ScheduleVerb::Resume => "resume",
            ScheduleVerb::Drop => "drop",
            ScheduleVerb::Execute => {
                return Err(SqlError::meaningless(
                    "backup schedules are run by ALTER BACKUP SCHEDULE … EXECUTE IMMEDIATELY",
                ));
            }
        };
        let ids = Box::pin(self.ids(schedules)).await?;
        let mut gone: Vec<u64> = Vec::new();
        let mut count = 0;
        for id in ids {
            // The fulls' schedule took it along.
            if gone.contains(&id) {
                count += 1;
                continue;
            }
            let request = v1::ControlScheduleRequest {
                schedule: id,
                verb: wish.to_owned(),
            };
            match self.api().control_schedule(request).await {
                Ok(answer) => {
                    count += 1;
                    let full = answer.schedule.filter(|it| it.backup_type == "FULL");
                    if let (ScheduleVerb::Drop, Some(full)) = (verb, full) {
                        gone.push(full.partner);
                    }
                }
                Err(fault) => {
                    let mut error = SqlError::from(fault);
                    if count > 0 {
                        error = error.detail(format!("{count} schedules before it were changed"));
                    }
                    return Err(error);
                }
            }
        }
        Ok(Answer::Done(format!("{} SCHEDULES {count}", verb.as_str())))
    }

    /// The jobs of schedules.
    pub(super) async fn jobs_of_schedules(
        &self,
        schedules: &Query,
    ) -> Result<Vec<v1::Job>, SqlError> {
        let ids = Box::pin(self.ids(schedules)).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let request = v1::ListJobsRequest {
            all: true,
            schedules: ids,
            ..v1::ListJobsRequest::default()
        };
        Ok(self.api().list_jobs(request).await?.jobs)
    }
}

/// What CREATE and ALTER give: of a pair the incrementals first.
fn made_rows(schedules: Vec<v1::Schedule>) -> Rows {
    let mut rows = Rows::new(columns::columns_of_made_schedules());
    for schedule in schedules {
        let status = match (schedule.status.as_str(), schedule.state.as_str()) {
            ("PAUSED", state) if !state.is_empty() => format!("PAUSED: {state}"),
            (status, _) => status.to_owned(),
        };
        let statement = backup_of(&schedule);
        rows.push(vec![
            Value::count(schedule.id),
            Value::Text(schedule.label),
            Value::Text(status),
            Value::time(&schedule.next_run),
            Value::Text(schedule.recurrence),
            Value::Text(statement),
        ]);
    }
    rows
}

/// The row of a schedule, in the order of the columns of SHOW SCHEDULES.
fn row(schedule: v1::Schedule, is_for_backup: bool) -> Vec<Value> {
    let statement = backup_of(&schedule);
    let command = match is_for_backup {
        true => Value::Text(statement),
        false => {
            let mut json = serde_json::json!({ "backup_statement": statement });
            if schedule.backup_type == "INCREMENTAL" {
                json["backup_type"] = 1.into();
            }
            if schedule.partner != 0 {
                json["dependent_schedule_id"] = schedule.partner.into();
            }
            Value::Json(json.to_string())
        }
    };
    let on_previous = match schedule.on_previous_running.as_str() {
        "start" => "NO_WAIT".to_owned(),
        other => other.to_ascii_uppercase(),
    };
    let on_failure = match schedule.on_execution_failure.as_str() {
        "retry" => "RETRY_SOON",
        "pause" => "PAUSE_SCHED",
        _ => "RETRY_SCHED",
    };
    let mut row = vec![
        Value::count(schedule.id),
        Value::Text(schedule.label),
        Value::Text(schedule.status),
        Value::time(&schedule.next_run),
        Value::some_text(schedule.state),
        Value::Text(schedule.recurrence),
        Value::count(schedule.running.len()),
        // Schedules have no owners.
        Value::Null,
        Value::time(&schedule.created),
        Value::Text(on_previous),
        Value::text(on_failure),
        command,
    ];
    if is_for_backup {
        row.push(Value::Text(schedule.backup_type));
    }
    row
}

/// The statement that a schedule performs. It has the collection's address, which holds no secrets.
fn backup_of(schedule: &v1::Schedule) -> String {
    let statement = Statement::Backup(Backup {
        targets: targets_of(schedule),
        source: Some(schedule.source.clone()),
        into: match schedule.backup_type.as_str() {
            "INCREMENTAL" => Into::Latest,
            _ => Into::Full,
        },
        collection: vec![Str::Literal(schedule.into.clone())],
        as_of: None,
        options: options_of(schedule, true),
    });
    Printed(&statement, Secrets::Shown).to_string()
}

/// The statement that would make a schedule, with its pair.
fn created(schedule: &v1::Schedule, partner: Option<&v1::Schedule>) -> Statement {
    let cron = |text: &str| Str::Literal(text.to_owned());
    let is_full = schedule.backup_type == "FULL";
    let (recurring, full, fulls) = match (is_full, partner) {
        (true, Some(partner)) => (
            &partner.recurrence,
            FullCadence::Cron(cron(&schedule.recurrence)),
            schedule,
        ),
        (false, Some(partner)) => (
            &schedule.recurrence,
            FullCadence::Cron(cron(&partner.recurrence)),
            partner,
        ),
        (_, None) => (&schedule.recurrence, FullCadence::Always, schedule),
    };
    let option = |name: &str, value: &str| (name.to_owned(), Some(cron(value)));
    Statement::CreateSchedule(CreateSchedule {
        if_not_exists: false,
        label: Some(cron(&schedule.label)),
        targets: targets_of(schedule),
        source: Some(schedule.source.clone()),
        collection: vec![cron(&schedule.into)],
        options: options_of(schedule, false),
        recurring: cron(recurring),
        full: Some(full),
        schedule_options: vec![
            option("on_execution_failure", &fulls.on_execution_failure),
            option("on_previous_running", &fulls.on_previous_running),
        ],
    })
}

fn targets_of(schedule: &v1::Schedule) -> Targets {
    let target = schedule.target.clone().unwrap_or_default();
    if !target.databases.is_empty() {
        return Targets::Databases(target.databases);
    }
    let pattern = |name: &String| {
        let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        let is_all = parts.last().is_some_and(|last| last == "*");
        if is_all {
            parts.pop();
        }
        TablePattern {
            parts,
            is_all,
            rename: None,
        }
    };
    match target.tables.as_slice() {
        [] => Targets::All,
        tables => Targets::Tables(tables.iter().map(pattern).collect()),
    }
}

fn options_of(schedule: &v1::Schedule, is_detached: bool) -> Options {
    let mut options = Options::none(&options::BACKUP);
    let mut give = |name: &str, value: OptionValue| {
        let mut places = options::BACKUP.options.iter();
        if let Some(place) = places.position(|option| option.name == name) {
            options.given.insert(place, value);
        }
    };
    if schedule.revision_history {
        give("revision_history", OptionValue::Bool(Truth::Value(true)));
    }
    if is_detached {
        give("detached", OptionValue::On);
    }
    if !schedule.execution_locality.is_empty() {
        let locality = Str::Literal(schedule.execution_locality.clone());
        give("execution locality", OptionValue::Text(locality));
    }
    // Neither was secret when the cluster gave it.
    if let Some(keys) = &schedule.keys {
        if keys.passphrase {
            let hidden = Str::Literal("*****".to_owned());
            give("encryption_passphrase", OptionValue::Text(hidden));
        }
        if !keys.kms.is_empty() {
            let uris = keys.kms.iter().cloned().map(Str::Literal);
            give("kms", OptionValue::Uris(uris.collect()));
        }
    }
    options
}
