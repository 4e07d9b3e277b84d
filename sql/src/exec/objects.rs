//! Sources, holds, and the cluster itself.

use holdfast_client::v1;
use holdfast_proto::wire_to_fault;
use holdfast_types::ErrorCode;

use super::submit::find_source;
use super::{Answer, Run};
use crate::error::{SqlError, state};
use crate::rows::{Rows, Value};
use crate::syntax::ast::{AlterSource, CreateSource, Member, Statement};
use crate::syntax::expression::{Expr, Str};
use crate::syntax::options::{MEMBER, OptionValue, Options};
use crate::syntax::words::nearest;
use crate::syntax::{Printed, Secrets};

/// What begins the connection string of a PostgreSQL server.
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];

impl Run<'_> {
    pub(super) async fn create_source(&self, create: &CreateSource) -> Result<Answer, SqlError> {
        let request = self.source_request(&create.name, create.kind.as_deref(), &create.members)?;
        match self.api().register_source(request).await {
            Ok(_) => {}
            Err(fault) if create.if_not_exists && fault.code == ErrorCode::AlreadyExists => {
                let message = format!("source {} already exists, skipping", create.name);
                self.notice(message, None).await;
            }
            Err(fault) => return Err(fault.into()),
        }
        Ok(Answer::Done("CREATE SOURCE".to_owned()))
    }

    pub(super) async fn alter_source(&self, alter: &AlterSource) -> Result<Answer, SqlError> {
        let sources = self.api().list_sources().await?.sources;
        let source = find_source(sources, &alter.name)?;
        let request = self.source_request(&alter.name, Some(&source.kind), &alter.members)?;
        self.api().update_source(request).await?;
        Ok(Answer::Done("ALTER SOURCE".to_owned()))
    }

    fn source_request(
        &self,
        name: &str,
        kind: Option<&str>,
        members: &[Member],
    ) -> Result<v1::RegisterSourceRequest, SqlError> {
        let mut wire = Vec::new();
        for member in members {
            wire.push(self.member(member)?);
        }
        let is_postgres = |member: &v1::Member| {
            POSTGRES
                .iter()
                .any(|scheme| member.address.starts_with(scheme))
        };
        let kind = match (kind, wire.iter().any(is_postgres)) {
            (Some(kind), _) => kind,
            (None, true) => "postgres",
            (None, false) => "mvcc",
        };
        Ok(v1::RegisterSourceRequest {
            name: name.to_owned(),
            kind: kind.to_owned(),
            members: wire,
        })
    }

    fn member(&self, member: &Member) -> Result<v1::Member, SqlError> {
        let options = &member.options;
        let text = |name| self.option_text(options, name);
        let number = |name| -> Result<Option<u64>, SqlError> {
            let text = text(name)?;
            text.map(|text| bytes(name, &text)).transpose()
        };
        let streams = match number("streams")? {
            None => None,
            Some(streams) => Some(u32::try_from(streams).map_err(|_| {
                SqlError::new(
                    state::INVALID_PARAMETER_VALUE,
                    format!("option streams: {streams} are too many"),
                )
            })?),
        };
        Ok(v1::Member {
            name: member.name.clone(),
            locality: text("locality")?.unwrap_or_default(),
            address: self.text(&member.address)?,
            password: text("password")?.unwrap_or_default(),
            streams,
            bytes_per_second: number("max_rate")?,
            wal_budget: number("wal_budget")?,
            ..v1::Member::default()
        })
    }

    pub(super) async fn drop_source(
        &self,
        name: &str,
        if_exists: bool,
    ) -> Result<Answer, SqlError> {
        match self.api().drop_source(name).await {
            Ok(()) => {}
            Err(fault) if if_exists && fault.code == ErrorCode::NotFound => {
                self.notice(format!("source {name} does not exist, skipping"), None)
                    .await;
            }
            Err(fault) => return Err(fault.into()),
        }
        Ok(Answer::Done("DROP SOURCE".to_owned()))
    }

    pub(super) async fn show_sources(
        &self,
        name: Option<&str>,
        mut rows: Rows,
    ) -> Result<Rows, SqlError> {
        let sources = self.api().list_sources().await?.sources;
        let Some(name) = name else {
            for source in sources {
                let members = source.members.into_iter().map(|member| member.name);
                rows.push(vec![
                    Value::Text(source.name),
                    Value::Text(source.kind),
                    Value::TextArray(members.collect()),
                    Value::time(&source.registered),
                ]);
            }
            return Ok(rows);
        };
        let source = find_source(sources, name)?;
        for member in source.members {
            let limit = |limit: Option<u64>| limit.map_or(Value::Null, Value::count);
            rows.push(vec![
                Value::text(source.name.as_str()),
                Value::text(source.kind.as_str()),
                Value::Text(member.name),
                Value::some_text(member.locality),
                Value::Text(member.address),
                Value::Bool(member.has_password),
                limit(member.streams.map(u64::from)),
                limit(member.bytes_per_second),
                limit(member.wal_budget),
            ]);
        }
        Ok(rows)
    }

    pub(super) async fn show_create_source(
        &self,
        name: &str,
        mut rows: Rows,
    ) -> Result<Rows, SqlError> {
        let sources = self.api().list_sources().await?.sources;
        let source = find_source(sources, name)?;
        let statement = Statement::CreateSource(CreateSource {
            if_not_exists: false,
            name: source.name,
            kind: Some(source.kind),
            members: source.members.into_iter().map(written).collect(),
        });
        let printed = Printed(&statement, Secrets::Hidden).to_string();
        rows.push(vec![Value::text(name), Value::Text(printed)]);
        Ok(rows)
    }

    pub(super) async fn check_source(
        &self,
        name: &str,
        members: &[String],
        mut rows: Rows,
    ) -> Result<Rows, SqlError> {
        let request = v1::CheckSourceRequest {
            name: name.to_owned(),
            members: members.to_vec(),
        };
        for member in self.api().check_source(request).await?.members {
            push_checks(&mut rows, member);
        }
        Ok(rows)
    }

    pub(super) async fn show_holds(&self, mut rows: Rows) -> Result<Rows, SqlError> {
        for hold in self.api().cluster_status().await?.holds {
            rows.push(vec![
                Value::count(hold.id),
                match hold.job {
                    0 => Value::Null,
                    job => Value::count(job),
                },
                Value::Text(hold.source),
                Value::some_text(hold.position),
                Value::Float(hold.age_seconds),
                Value::Text(hold.state),
                Value::some_text(hold.collection),
                Value::some_text(hold.chain),
            ]);
        }
        Ok(rows)
    }

    pub(super) async fn drop_hold(&self, hold: &Expr) -> Result<Answer, SqlError> {
        let hold = self.number(hold, "the id of a hold")?;
        let answer = self.api().drop_hold(hold).await?;
        if !answer.warning.is_empty() {
            self.notice(answer.warning, None).await;
        }
        Ok(Answer::Done("DROP HOLD".to_owned()))
    }

    pub(super) async fn show_workers(&self, mut rows: Rows) -> Result<Rows, SqlError> {
        for worker in self.api().cluster_status().await?.workers {
            rows.push(vec![
                Value::Text(worker.id),
                Value::some_text(worker.locality),
                Value::count(worker.slots),
                Value::count(worker.leases),
                Value::Text(worker.version),
                Value::Bool(worker.connected),
            ]);
        }
        Ok(rows)
    }

    pub(super) async fn show_cluster(&self, mut rows: Rows) -> Result<Rows, SqlError> {
        let status = self.api().cluster_status().await?;
        rows.push(vec![
            Value::some_text(status.cluster_id),
            Value::Text(status.version),
            Value::count(status.node),
            match status.leader {
                0 => Value::Null,
                leader => Value::count(leader),
            },
            Value::some_text(status.leader_address),
            Value::count(status.coordinators.len()),
            Value::count(status.workers.len()),
            Value::count(status.jobs_running),
            Value::count(status.jobs_paused),
            Value::Bool(status.storage_full),
        ]);
        Ok(rows)
    }

    pub(super) async fn show_coordinators(&self, mut rows: Rows) -> Result<Rows, SqlError> {
        for coordinator in self.api().cluster_status().await?.coordinators {
            rows.push(vec![
                Value::count(coordinator.node),
                Value::Text(coordinator.address),
                Value::Bool(coordinator.leader),
                Value::Bool(coordinator.voter),
                match coordinator.matched_index {
                    0 => Value::Null,
                    index => Value::count(index),
                },
            ]);
        }
        Ok(rows)
    }

    pub(super) async fn show_cluster_settings(
        &self,
        name: Option<&str>,
        mut rows: Rows,
    ) -> Result<Rows, SqlError> {
        let settings = self.api().cluster_status().await?.settings;
        let Some(name) = name else {
            let mut settings: Vec<_> = settings.into_iter().collect();
            settings.sort();
            for (name, value) in settings {
                rows.push(vec![Value::Text(name), Value::count(value)]);
            }
            return Ok(rows);
        };
        match settings.get(name) {
            Some(value) => rows.push(vec![Value::count(*value)]),
            None => {
                let error = SqlError::new(
                    state::UNDEFINED_OBJECT,
                    format!("unknown cluster setting '{name}'"),
                );
                return Err(match nearest(name, settings.keys().map(String::as_str)) {
                    Some(meant) => error.hint(format!("did you mean {meant}?")),
                    None => error.hint("SHOW CLUSTER SETTINGS shows all"),
                });
            }
        }
        Ok(rows)
    }

    pub(super) async fn set_cluster_setting(
        &self,
        name: &str,
        value: &Expr,
    ) -> Result<Answer, SqlError> {
        let value = self.number(value, "the value of a setting")?;
        self.api().set_setting(name, value).await?;
        Ok(Answer::Done("SET CLUSTER SETTING".to_owned()))
    }
}

/// A number of bytes: `100`, `64MiB`.
pub(super) fn bytes(option: &str, text: &str) -> Result<u64, SqlError> {
    const UNITS: [(&str, u32); 9] = [
        ("kib", 10),
        ("mib", 20),
        ("gib", 30),
        ("tib", 40),
        ("kb", 10),
        ("mb", 20),
        ("gb", 30),
        ("tb", 40),
        ("b", 0),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let (digits, shift) = UNITS
        .iter()
        .find_map(|(unit, shift)| Some((lower.strip_suffix(unit)?, *shift)))
        .unwrap_or((lower.as_str(), 0));
    let number: Option<u64> = digits.trim().parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| {
            SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!(
                    "option {option}: \"{}\" is no number, and no size such as 64MiB",
                    text.escape_debug()
                ),
            )
        })
}

/// A member as a statement would have it. Passwords are not given back.
fn written(member: v1::Member) -> Member {
    let mut options = Options::none(&MEMBER);
    let mut give = |name: &str, text: String| {
        if let Some(place) = MEMBER.options.iter().position(|option| option.name == name)
            && !text.is_empty()
        {
            let value = OptionValue::Text(Str::Literal(text));
            options.given.insert(place, value);
        }
    };
    give("locality", member.locality);
    if member.has_password {
        give("password", "*****".to_owned());
    }
    let shown = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    give("streams", shown(member.streams.map(u64::from)));
    give("max_rate", shown(member.bytes_per_second));
    give("wal_budget", shown(member.wal_budget));
    Member {
        name: member.name,
        address: Str::Literal(member.address),
        options,
    }
}

/// What is said of a member: a row for each finding.
pub(super) fn push_checks(rows: &mut Rows, member: v1::CheckedMember) {
    let head = [
        Value::Text(member.name),
        Value::some_text(member.locality),
        Value::some_text(member.worker),
    ];
    let mut push = |tail: [Value; 5]| rows.push(head.iter().cloned().chain(tail).collect());
    if let Some(fault) = member.fault {
        let fault = wire_to_fault(fault).to_string();
        push([
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Text(fault),
        ]);
        return;
    }
    // The form is `holdfast_source::MemberCheck`'s, of which only texts are shown.
    let report: serde_json::Value = serde_json::from_str(&member.report).unwrap_or_default();
    let text = |value: &serde_json::Value| Value::some_text(value.as_str().unwrap_or_default());
    push([
        Value::text("server"),
        Value::text("fine"),
        text(&report["server"]),
        text(&report["mode"]),
        Value::Null,
    ]);
    for finding in report["findings"].as_array().into_iter().flatten() {
        push([
            text(&finding["object"]),
            text(&finding["level"]),
            text(&finding["what"]),
            text(&finding["remedy"]),
            Value::Null,
        ]);
    }
}
