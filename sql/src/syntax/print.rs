//! The canonical form of a statement: capitals, one order of options, `WITH OPTIONS (…)`, and no secrets unless they are asked for.

mod expressions;
mod secrets;
mod statements;

use std::fmt;

use super::ast::{
    AlterSchedule, Backup, BackupDetail, CreateSchedule, CreateSource, FullCadence, Into, JobSet,
    Member, Restore, ScheduleCommand, ShowBackup, ShowBackups, ShowJobs, Statement, TablePattern,
    Targets,
};
use super::expression::{Expr, Str};
use super::options::{OptionKind, OptionValue, Options, Truth};
use super::words::is_plain;

/// What stands for a secret.
const HIDDEN: &str = "'*****'";

/// Whether secrets are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// Passphrases, passwords and URIs are hidden.
    Hidden,
    /// Everything is printed as it is: for statements that hold no secrets, such as those of schedules, which know addresses only.
    Shown,
}

/// A statement to print.
pub(crate) struct Printed<'a>(pub(crate) &'a Statement, pub(crate) Secrets);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = Printer {
            out: f,
            secrets: self.1,
        };
        printer.statement(self.0)
    }
}

struct Printer<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    secrets: Secrets,
}

impl Printer<'_, '_> {
    fn put(&mut self, text: &str) -> fmt::Result {
        self.out.write_str(text)
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        match is_plain(name) {
            true => self.put(name),
            false => write!(self.out, "\"{}\"", name.replace('"', "\"\"")),
        }
    }

    /// A name with dots, as settings have.
    fn dotted(&mut self, name: &str) -> fmt::Result {
        for (index, part) in name.split('.').enumerate() {
            if index > 0 {
                self.put(".")?;
            }
            self.name(part)?;
        }
        Ok(())
    }

    fn literal(&mut self, text: &str) -> fmt::Result {
        write!(self.out, "'{}'", text.replace('\'', "''"))
    }

    fn text(&mut self, text: &Str) -> fmt::Result {
        match text {
            Str::Literal(text) => self.literal(text),
            Str::Placeholder(number) => write!(self.out, "${number}"),
        }
    }

    /// A text that is hidden as a whole.
    fn secret(&mut self, text: &Str) -> fmt::Result {
        match (text, self.secrets) {
            (Str::Literal(_), Secrets::Hidden) => self.put(HIDDEN),
            (text, _) => self.text(text),
        }
    }

    /// A URI of which only the secrets in it are hidden.
    fn redacted(&mut self, uri: &Str) -> fmt::Result {
        match (uri, self.secrets) {
            (Str::Literal(uri), Secrets::Hidden) => self.literal(&secrets::redacted(uri)),
            (uri, _) => self.text(uri),
        }
    }

    fn list<T>(
        &mut self,
        items: &[T],
        mut print: impl FnMut(&mut Self, &T) -> fmt::Result,
    ) -> fmt::Result {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.put(", ")?;
            }
            print(self, item)?;
        }
        Ok(())
    }

    /// One URI bare, several in parentheses.
    fn uris_with(
        &mut self,
        uris: &[Str],
        print: impl FnMut(&mut Self, &Str) -> fmt::Result,
    ) -> fmt::Result {
        let is_list = uris.len() != 1;
        if is_list {
            self.put("(")?;
        }
        self.list(uris, print)?;
        if is_list {
            self.put(")")?;
        }
        Ok(())
    }

    fn uris(&mut self, uris: &[Str]) -> fmt::Result {
        self.uris_with(uris, Self::secret)
    }

    fn option_list(&mut self, options: &Options) -> fmt::Result {
        for (index, (spec, value)) in options.iter().enumerate() {
            if index > 0 {
                self.put(", ")?;
            }
            self.put(spec.name)?;
            match value {
                OptionValue::On => {}
                OptionValue::Bool(Truth::Value(value)) => write!(self.out, " = {value}")?,
                OptionValue::Bool(Truth::Placeholder(number)) => write!(self.out, " = ${number}")?,
                OptionValue::Text(text) => {
                    self.put(" = ")?;
                    match spec.kind {
                        OptionKind::Secret => self.secret(text)?,
                        _ => self.text(text)?,
                    }
                }
                OptionValue::Uris(uris) => {
                    self.put(" = ")?;
                    self.uris(uris)?;
                }
            }
        }
        Ok(())
    }

    /// ` WITH OPTIONS (…)`, if there are any.
    fn options(&mut self, options: &Options) -> fmt::Result {
        if options.given.is_empty() {
            return Ok(());
        }
        self.put(" WITH OPTIONS (")?;
        self.option_list(options)?;
        self.put(")")
    }

    fn as_of(&mut self, as_of: Option<&Expr>) -> fmt::Result {
        let Some(expr) = as_of else { return Ok(()) };
        self.put(" AS OF SYSTEM TIME ")?;
        self.operand(expr)
    }

    fn pattern(&mut self, pattern: &TablePattern) -> fmt::Result {
        for (index, part) in pattern.parts.iter().enumerate() {
            if index > 0 {
                self.put(".")?;
            }
            self.name(part)?;
        }
        if pattern.is_all {
            self.put(if pattern.parts.is_empty() { "*" } else { ".*" })?;
        }
        match &pattern.rename {
            Some(name) => {
                self.put(" AS ")?;
                self.name(name)
            }
            None => Ok(()),
        }
    }

    /// With a blank before, if there is anything.
    fn targets(&mut self, targets: &Targets) -> fmt::Result {
        match targets {
            Targets::All => Ok(()),
            Targets::SystemUsers => self.put(" SYSTEM USERS"),
            Targets::Databases(names) => {
                self.put(" DATABASE ")?;
                self.list(names, |printer, name| printer.name(name))
            }
            Targets::Tables(tables) => {
                self.put(" TABLE ")?;
                self.list(tables, Self::pattern)
            }
        }
    }

    fn source(&mut self, words: &str, source: Option<&String>) -> fmt::Result {
        match source {
            Some(source) => {
                write!(self.out, " {words} ")?;
                self.name(source)
            }
            None => Ok(()),
        }
    }

    fn backup(&mut self, backup: &Backup) -> fmt::Result {
        self.put("BACKUP")?;
        self.targets(&backup.targets)?;
        self.source("OF SOURCE", backup.source.as_ref())?;
        self.put(" INTO ")?;
        match &backup.into {
            Into::Full => {}
            Into::Latest => self.put("LATEST IN ")?,
            Into::Subdir(subdir) => {
                self.text(subdir)?;
                self.put(" IN ")?;
            }
        }
        self.uris(&backup.collection)?;
        self.as_of(backup.as_of.as_ref())?;
        self.options(&backup.options)
    }

    fn restore(&mut self, restore: &Restore) -> fmt::Result {
        self.put("RESTORE")?;
        self.targets(&restore.targets)?;
        self.put(" FROM ")?;
        self.text(&restore.subdir)?;
        self.put(" IN ")?;
        self.uris(&restore.collection)?;
        self.as_of(restore.as_of.as_ref())?;
        self.source("INTO SOURCE", restore.source.as_ref())?;
        self.options(&restore.options)
    }

    fn show_backups(&mut self, show: &ShowBackups) -> fmt::Result {
        self.put("SHOW BACKUPS IN ")?;
        self.uris(&show.collection)?;
        if let Some(expr) = &show.newer_than {
            self.put(" NEWER THAN ")?;
            self.operand(expr)?;
        }
        if let Some(expr) = &show.older_than {
            self.put(" OLDER THAN ")?;
            self.operand(expr)?;
        }
        match show.has_revision_start {
            true => self.put(" WITH OPTIONS (REVISION START TIME)"),
            false => Ok(()),
        }
    }

    fn show_backup(&mut self, show: &ShowBackup) -> fmt::Result {
        self.put(match show.detail {
            BackupDetail::Contents => "SHOW BACKUP FROM ",
            BackupDetail::Schemas => "SHOW BACKUP SCHEMAS FROM ",
            BackupDetail::Files => "SHOW BACKUP FILES FROM ",
            BackupDetail::Ranges => "SHOW BACKUP RANGES FROM ",
            BackupDetail::Validate => "SHOW BACKUP VALIDATE FROM ",
        })?;
        self.text(&show.subdir)?;
        self.put(" IN ")?;
        self.uris(&show.collection)?;
        self.options(&show.options)
    }

    fn job_set(&mut self, jobs: &JobSet) -> fmt::Result {
        match jobs {
            JobSet::Query(query) => {
                self.put("JOBS ")?;
                self.query(query)
            }
            JobSet::ForSchedules(query) => {
                self.put("JOBS FOR SCHEDULES ")?;
                self.query(query)
            }
            JobSet::All(kind) => write!(self.out, "ALL {} JOBS", kind.as_str()),
        }
    }

    fn show_jobs(&mut self, show: &ShowJobs) -> fmt::Result {
        match (&show.jobs, show.is_automatic, show.when_complete) {
            (None, true, _) => self.put("SHOW AUTOMATIC JOBS"),
            (None, false, _) => {
                self.put("SHOW JOBS")?;
                self.options(&show.options)
            }
            (Some(JobSet::Query(query)), _, true) => {
                self.put("SHOW JOBS WHEN COMPLETE ")?;
                self.query(query)
            }
            (Some(jobs), _, _) => {
                self.put("SHOW ")?;
                self.job_set(jobs)?;
                self.options(&show.options)
            }
        }
    }

    fn full_cadence(&mut self, full: &FullCadence) -> fmt::Result {
        match full {
            FullCadence::Always => self.put(" FULL BACKUP ALWAYS"),
            FullCadence::Cron(cron) => {
                self.put(" FULL BACKUP ")?;
                self.text(cron)
            }
        }
    }

    fn schedule_option(&mut self, (name, value): &(String, Option<Str>)) -> fmt::Result {
        self.name(name)?;
        match value {
            Some(value) => {
                self.put(" = ")?;
                self.text(value)
            }
            None => Ok(()),
        }
    }

    fn create_schedule(&mut self, create: &CreateSchedule) -> fmt::Result {
        self.put("CREATE SCHEDULE")?;
        if create.if_not_exists {
            self.put(" IF NOT EXISTS")?;
        }
        if let Some(label) = &create.label {
            self.put(" ")?;
            self.text(label)?;
        }
        self.put(" FOR BACKUP")?;
        self.targets(&create.targets)?;
        self.source("OF SOURCE", create.source.as_ref())?;
        self.put(" INTO ")?;
        self.uris(&create.collection)?;
        if !create.options.given.is_empty() {
            self.put(" WITH ")?;
            self.option_list(&create.options)?;
        }
        self.put(" RECURRING ")?;
        self.text(&create.recurring)?;
        if let Some(full) = &create.full {
            self.full_cadence(full)?;
        }
        if !create.schedule_options.is_empty() {
            self.put(" WITH SCHEDULE OPTIONS ")?;
            self.list(&create.schedule_options, Self::schedule_option)?;
        }
        Ok(())
    }

    fn alter_schedule(&mut self, alter: &AlterSchedule) -> fmt::Result {
        write!(self.out, "ALTER BACKUP SCHEDULE {} ", alter.id)?;
        self.list(&alter.commands, |printer, command| match command {
            ScheduleCommand::Label(label) => {
                printer.put("SET LABEL ")?;
                printer.text(label)
            }
            ScheduleCommand::Into(uris) => {
                printer.put("SET INTO ")?;
                printer.uris_with(uris, Self::redacted)
            }
            ScheduleCommand::With(options) if options.given.is_empty() => {
                // `detached = FALSE` is the only option that is as if it were not there.
                printer.put("SET WITH detached = FALSE")
            }
            ScheduleCommand::With(options) => {
                printer.put("SET WITH ")?;
                printer.option_list(options)
            }
            ScheduleCommand::Recurring(cron) => {
                printer.put("SET RECURRING ")?;
                printer.text(cron)
            }
            ScheduleCommand::FullBackup(full) => {
                printer.put("SET")?;
                printer.full_cadence(full)
            }
            ScheduleCommand::Option(option) => {
                printer.put("SET SCHEDULE OPTION ")?;
                printer.schedule_option(option)
            }
            ScheduleCommand::Execute { is_full: true } => printer.put("EXECUTE FULL IMMEDIATELY"),
            ScheduleCommand::Execute { is_full: false } => printer.put("EXECUTE IMMEDIATELY"),
        })
    }

    fn member(&mut self, member: &Member) -> fmt::Result {
        self.name(&member.name)?;
        self.put(" AT ")?;
        self.redacted(&member.address)?;
        self.options(&member.options)
    }

    fn create_source(&mut self, create: &CreateSource) -> fmt::Result {
        self.put("CREATE SOURCE ")?;
        if create.if_not_exists {
            self.put("IF NOT EXISTS ")?;
        }
        self.name(&create.name)?;
        if let Some(kind) = &create.kind {
            self.put(" KIND ")?;
            self.name(kind)?;
        }
        self.members(&create.members)
    }

    fn members(&mut self, members: &[Member]) -> fmt::Result {
        self.put(" MEMBERS (")?;
        self.list(members, Self::member)?;
        self.put(")")
    }
}
