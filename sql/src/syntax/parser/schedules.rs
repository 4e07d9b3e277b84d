//! Schedules.

use super::jobs::one_row;
use super::{Parsed, Parser};
use crate::error::SqlError;
use crate::syntax::ast::{
    AlterSchedule, CreateSchedule, FullCadence, ScheduleCommand, ScheduleOption, ScheduleState,
    ScheduleVerb, ShowSchedules, Statement,
};
use crate::syntax::expression::Expr;
use crate::syntax::options::{self, Options};
use crate::syntax::token::TokenKind;

impl Parser<'_> {
    /// What follows CREATE SCHEDULE.
    pub(super) fn create_schedule(&mut self) -> Parsed<Statement> {
        let start = self.at;
        let if_not_exists = self.phrase("IF", "NOT EXISTS")?;
        let label = match self.peek_is(0, "FOR") {
            true => None,
            false => Some(self.text("a label")?),
        };
        if if_not_exists && label.is_none() {
            let error = SqlError::syntax("IF NOT EXISTS needs a label to look for");
            return Err(self.point_at(error, start));
        }
        self.expect("FOR")?;
        for foreign in ["CHANGEFEED", "SQL"] {
            if self.peek_is(0, foreign) {
                return Err(self.point(SqlError::meaningless(
                    "only backups are scheduled here: CREATE SCHEDULE … FOR BACKUP",
                )));
            }
        }
        self.expect("BACKUP")?;
        let targets = self.backup_targets()?;
        let source = self.of_source()?;
        self.expect("INTO")?;
        let collection = self.uris()?;
        if self.peek_is(0, "AS") {
            return Err(self.point(SqlError::syntax(
                "a schedule has no AS OF SYSTEM TIME: each of its backups is as of when it was due",
            )));
        }
        let options = self.with_options(&options::BACKUP)?;
        self.expect("RECURRING")?;
        let recurring = self.text("a cron expression such as '@daily'")?;
        let full = match self.phrase("FULL", "BACKUP")? {
            true => Some(self.full_cadence()?),
            false => None,
        };
        let mut schedule_options = Vec::new();
        if self.phrase("WITH", "SCHEDULE OPTIONS")? {
            let is_closed = self.symbol("(");
            schedule_options = self.list(Self::schedule_option)?;
            if is_closed {
                self.expect_symbol(")")?;
            }
        }
        Ok(Statement::CreateSchedule(CreateSchedule {
            if_not_exists,
            label,
            targets,
            source,
            collection,
            options,
            recurring,
            full,
            schedule_options,
        }))
    }

    fn full_cadence(&mut self) -> Parsed<FullCadence> {
        if self.word("ALWAYS") {
            return Ok(FullCadence::Always);
        }
        let cron = self.text("a cron expression such as '@weekly'")?;
        Ok(FullCadence::Cron(cron))
    }

    fn schedule_option(&mut self) -> Parsed<ScheduleOption> {
        let name = match self.peek() {
            TokenKind::Text(name) => {
                let name = name.clone();
                self.advance();
                name
            }
            _ => self.name("a schedule option")?,
        };
        let value = match self.symbol("=") {
            true => Some(self.text("a text")?),
            false => None,
        };
        Ok((name, value))
    }

    /// What follows ALTER BACKUP SCHEDULE.
    pub(super) fn alter_schedule(&mut self) -> Parsed<Statement> {
        let id = match self.peek() {
            TokenKind::Number(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                let id = number.clone();
                self.advance();
                id
            }
            _ => {
                self.expecting("the id of a schedule");
                return Err(self.unexpected());
            }
        };
        let commands = self.list(Self::schedule_command)?;
        Ok(Statement::AlterSchedule(AlterSchedule { id, commands }))
    }

    fn schedule_command(&mut self) -> Parsed<ScheduleCommand> {
        if self.word("EXECUTE") {
            let is_full = self.word("FULL");
            self.expect("IMMEDIATELY")?;
            return Ok(ScheduleCommand::Execute { is_full });
        }
        self.expect("SET")?;
        match () {
            () if self.word("LABEL") => self.text("a label").map(ScheduleCommand::Label),
            () if self.word("INTO") => self.uris().map(ScheduleCommand::Into),
            () if self.word("RECURRING") => {
                let cron = self.text("a cron expression such as '@daily'")?;
                Ok(ScheduleCommand::Recurring(cron))
            }
            () if self.phrase("FULL", "BACKUP")? => {
                self.full_cadence().map(ScheduleCommand::FullBackup)
            }
            () if self.phrase("SCHEDULE", "OPTION")? => {
                self.schedule_option().map(ScheduleCommand::Option)
            }
            () if self.word("WITH") => {
                let (place, value) = self.option(&options::BACKUP)?;
                let mut options = Options::none(&options::BACKUP);
                options.given.extend(value.map(|value| (place, value)));
                Ok(ScheduleCommand::With(options))
            }
            () => Err(self.unexpected()),
        }
    }

    /// SHOW SCHEDULES and what is like it, if that follows SHOW.
    pub(super) fn show_schedules(&mut self) -> Parsed<Option<Statement>> {
        let state = if self.word("RUNNING") {
            Some(ScheduleState::Running)
        } else if self.word("PAUSED") {
            Some(ScheduleState::Paused)
        } else {
            None
        };
        if state.is_none() && self.word("SCHEDULE") {
            return self.operand().map(Statement::ShowSchedule).map(Some);
        }
        if state.is_some() {
            self.expect("SCHEDULES")?;
        } else if !self.word("SCHEDULES") {
            return Ok(None);
        }
        let mut is_for_backup = false;
        if self.word("FOR") {
            for foreign in ["CHANGEFEED", "SQL"] {
                if self.peek_is(0, foreign) {
                    return Err(self.point(SqlError::meaningless(
                        "only backups are scheduled here: SHOW SCHEDULES FOR BACKUP",
                    )));
                }
            }
            self.expect("BACKUP")?;
            is_for_backup = true;
        }
        Ok(Some(Statement::ShowSchedules(ShowSchedules {
            state,
            is_for_backup,
        })))
    }

    /// PAUSE SCHEDULE and what is like it, if that follows the verb.
    pub(super) fn control_schedules(&mut self, verb: ScheduleVerb) -> Parsed<Option<Statement>> {
        let schedules = if self.word("SCHEDULE") {
            let schedule: Expr = self.operand()?;
            one_row(schedule)
        } else if self.word("SCHEDULES") {
            self.query()?
        } else {
            return Ok(None);
        };
        Ok(Some(Statement::ControlSchedules { verb, schedules }))
    }

    pub(super) fn execute_schedules(&mut self) -> Parsed<Statement> {
        match self.control_schedules(ScheduleVerb::Execute)? {
            Some(statement) => Ok(statement),
            None => Err(self.unexpected()),
        }
    }
}
