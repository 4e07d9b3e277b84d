//! Statements, one after the other.

use std::fmt;

use super::Printer;
use crate::syntax::ast::{ScheduleState, Statement};
use crate::syntax::expression::{Query, Str};

impl Printer<'_, '_> {
    fn with_name(&mut self, words: &str, name: &str) -> fmt::Result {
        write!(self.out, "{words} ")?;
        self.name(name)
    }

    fn with_text(&mut self, words: &str, text: &Str) -> fmt::Result {
        write!(self.out, "{words} ")?;
        self.text(text)
    }

    /// All of something, or one of it.
    fn all_or_one(&mut self, all: &str, one: &str, name: Option<&Str>) -> fmt::Result {
        match name {
            None => self.put(all),
            Some(name) => self.with_text(one, name),
        }
    }

    fn ids(&mut self, words: &str, query: &Query) -> fmt::Result {
        write!(self.out, "{words} ")?;
        self.query(query)
    }

    fn password(&mut self, password: Option<&Str>) -> fmt::Result {
        match password {
            Some(password) => {
                self.put(" WITH PASSWORD ")?;
                self.secret(password)
            }
            None => Ok(()),
        }
    }

    pub(super) fn statement(&mut self, statement: &Statement) -> fmt::Result {
        match statement {
            Statement::Backup(backup) => self.backup(backup),
            Statement::Restore(restore) => self.restore(restore),
            Statement::Verify(verify) => {
                self.with_text("VERIFY BACKUP FROM", &verify.subdir)?;
                self.put(" IN ")?;
                self.uris(&verify.collection)?;
                if let Some(layer) = &verify.layer {
                    self.with_text(" LAYER", layer)?;
                }
                self.options(&verify.options)
            }
            Statement::Expire(expire) => {
                self.put("EXPIRE BACKUPS IN ")?;
                self.uris(&expire.collection)?;
                if let Some(age) = &expire.older_than {
                    self.with_text(" OLDER THAN", age)?;
                }
                if let Some(count) = &expire.keep_fulls {
                    self.put(" KEEP LAST ")?;
                    self.operand(count)?;
                    self.put(" FULLS")?;
                }
                if expire.is_dry_run {
                    self.put(" DRY RUN")?;
                }
                self.options(&expire.options)
            }
            Statement::ShowBackups(show) => self.show_backups(show),
            Statement::ShowBackup(show) => self.show_backup(show),
            Statement::AlterBackup(alter) => {
                self.with_text("ALTER BACKUP", &alter.subdir)?;
                if let Some(collection) = &alter.collection {
                    self.put(" IN ")?;
                    self.secret(collection)?;
                }
                self.put(" ADD NEW_KMS = ")?;
                self.uris(&alter.new_kms)?;
                self.put(" WITH OLD_KMS = ")?;
                self.uris(&alter.old_kms)
            }
            Statement::ShowJobs(show) => self.show_jobs(show),
            Statement::ControlJobs(control) => {
                self.put(control.verb.as_str())?;
                self.put(" ")?;
                self.job_set(&control.jobs)?;
                match &control.reason {
                    Some(reason) => {
                        self.put(" WITH REASON = ")?;
                        self.text(reason)
                    }
                    None => Ok(()),
                }
            }
            Statement::AlterJobOwner { job, owner } => {
                self.put("ALTER JOB ")?;
                self.operand(job)?;
                self.with_name(" OWNER TO", owner)
            }
            Statement::CreateSchedule(create) => self.create_schedule(create),
            Statement::AlterSchedule(alter) => self.alter_schedule(alter),
            Statement::ShowSchedules(show) => {
                self.put(match show.state {
                    None => "SHOW SCHEDULES",
                    Some(ScheduleState::Running) => "SHOW RUNNING SCHEDULES",
                    Some(ScheduleState::Paused) => "SHOW PAUSED SCHEDULES",
                })?;
                self.put(if show.is_for_backup {
                    " FOR BACKUP"
                } else {
                    ""
                })
            }
            Statement::ShowSchedule(id) => {
                self.put("SHOW SCHEDULE ")?;
                self.operand(id)
            }
            Statement::ShowCreateSchedules(None) => self.put("SHOW CREATE ALL SCHEDULES"),
            Statement::ShowCreateSchedules(Some(id)) => {
                self.put("SHOW CREATE SCHEDULE ")?;
                self.operand(id)
            }
            Statement::ControlSchedules { verb, schedules } => {
                self.ids(&format!("{} SCHEDULES", verb.as_str()), schedules)
            }
            Statement::CreateConnection(create) => {
                let words = match create.if_not_exists {
                    true => "CREATE EXTERNAL CONNECTION IF NOT EXISTS",
                    false => "CREATE EXTERNAL CONNECTION",
                };
                self.with_text(words, &create.name)?;
                self.put(" AS ")?;
                self.redacted(&create.uri)
            }
            Statement::AlterConnection(alter) => {
                let words = match alter.if_exists {
                    true => "ALTER EXTERNAL CONNECTION IF EXISTS",
                    false => "ALTER EXTERNAL CONNECTION",
                };
                self.with_text(words, &alter.name)?;
                self.put(" AS ")?;
                self.redacted(&alter.uri)
            }
            Statement::DropConnection(name) => self.with_text("DROP EXTERNAL CONNECTION", name),
            Statement::ShowConnections(name) => self.all_or_one(
                "SHOW EXTERNAL CONNECTIONS",
                "SHOW EXTERNAL CONNECTION",
                name.as_ref(),
            ),
            Statement::ShowCreateConnections(name) => self.all_or_one(
                "SHOW CREATE ALL EXTERNAL CONNECTIONS",
                "SHOW CREATE EXTERNAL CONNECTION",
                name.as_ref(),
            ),
            Statement::CheckConnection { name, options } => {
                self.with_text("CHECK EXTERNAL CONNECTION", name)?;
                self.options(options)
            }
            other => self.object(other),
        }
    }

    /// Sources, the cluster, users, the session.
    fn object(&mut self, statement: &Statement) -> fmt::Result {
        match statement {
            Statement::CreateSource(create) => self.create_source(create),
            Statement::AlterSource(alter) => {
                self.with_name("ALTER SOURCE", &alter.name)?;
                self.members(&alter.members)
            }
            Statement::DropSource { name, if_exists } => match if_exists {
                true => self.with_name("DROP SOURCE IF EXISTS", name),
                false => self.with_name("DROP SOURCE", name),
            },
            Statement::ShowSources(None) => self.put("SHOW SOURCES"),
            Statement::ShowSources(Some(name)) => self.with_name("SHOW SOURCE", name),
            Statement::ShowCreateSource(name) => self.with_name("SHOW CREATE SOURCE", name),
            Statement::CheckSource { name, members } => {
                self.with_name("CHECK SOURCE", name)?;
                if members.is_empty() {
                    return Ok(());
                }
                self.put(" MEMBERS (")?;
                self.list(members, |printer, member| printer.name(member))?;
                self.put(")")
            }
            Statement::ShowHolds => self.put("SHOW HOLDS"),
            Statement::DropHold(hold) => {
                self.put("DROP HOLD ")?;
                self.operand(hold)
            }
            Statement::ShowWorkers => self.put("SHOW WORKERS"),
            Statement::ShowCluster => self.put("SHOW CLUSTER"),
            Statement::ShowCoordinators => self.put("SHOW COORDINATORS"),
            Statement::SetClusterSetting { name, value } => {
                self.put("SET CLUSTER SETTING ")?;
                self.dotted(name)?;
                self.put(" = ")?;
                self.operand(value)
            }
            Statement::ShowClusterSettings(None) => self.put("SHOW CLUSTER SETTINGS"),
            Statement::ShowClusterSettings(Some(name)) => {
                self.put("SHOW CLUSTER SETTING ")?;
                self.dotted(name)
            }
            Statement::CreateUser(user) => {
                let words = match user.if_not_exists {
                    true => "CREATE USER IF NOT EXISTS",
                    false => "CREATE USER",
                };
                self.with_name(words, &user.name)?;
                self.password(user.password.as_ref())
            }
            Statement::AlterUser(user) => {
                self.with_name("ALTER USER", &user.name)?;
                self.password(user.password.as_ref())
            }
            Statement::DropUser { name, if_exists } => match if_exists {
                true => self.with_name("DROP USER IF EXISTS", name),
                false => self.with_name("DROP USER", name),
            },
            Statement::ShowUsers => self.put("SHOW USERS"),
            Statement::Set { variable, value } => {
                self.put("SET ")?;
                self.dotted(variable)?;
                self.put(" = ")?;
                self.literal(value)
            }
            Statement::Reset(variable) if variable == "all" => self.put("RESET ALL"),
            Statement::Reset(variable) => {
                self.put("RESET ")?;
                self.dotted(variable)
            }
            Statement::ShowVariable(variable) => {
                self.put("SHOW ")?;
                self.dotted(variable)
            }
            Statement::Begin => self.put("BEGIN"),
            Statement::Commit => self.put("COMMIT"),
            Statement::Rollback => self.put("ROLLBACK"),
            Statement::Discard => self.put("DISCARD ALL"),
            Statement::Deallocate(None) => self.put("DEALLOCATE ALL"),
            Statement::Deallocate(Some(name)) => self.with_name("DEALLOCATE", name),
            Statement::Query(query) => self.query(query),
            Statement::Explain(inner) => {
                self.put("EXPLAIN ")?;
                self.statement(inner)
            }
            // Printed by `statement`.
            _ => Ok(()),
        }
    }
}
