//! SHOW, PAUSE, RESUME and CANCEL, which are about jobs and schedules; and all other SHOW.

use super::{Parsed, Parser};
use crate::error::SqlError;
use crate::syntax::ast::{
    ControlJobs, JobSet, JobType, JobVerb, ScheduleVerb, ShowJobs, Statement,
};
use crate::syntax::expression::{Expr, Query};
use crate::syntax::options::{self, Options};

/// `PAUSE JOB a` is `PAUSE JOBS VALUES (a)`.
pub(super) fn one_row(expr: Expr) -> Query {
    Query::Values(vec![vec![expr]])
}

impl Parser<'_> {
    /// What follows SHOW.
    pub(super) fn show(&mut self) -> Parsed<Statement> {
        match () {
            () if self.word("BACKUPS") => self.show_backups(),
            () if self.word("BACKUP") => self.show_backup(),
            () if self.word("AUTOMATIC") => {
                self.expect("JOBS")?;
                Ok(show_jobs(ShowJobs {
                    is_automatic: true,
                    ..usual_jobs()
                }))
            }
            () if self.word("JOBS") => self.show_jobs(),
            () if self.word("JOB") => self.show_job(),
            () => match self.show_schedules()? {
                Some(statement) => Ok(statement),
                None => self.show_object(),
            },
        }
    }

    fn show_jobs(&mut self) -> Parsed<Statement> {
        if self.phrase("WHEN", "COMPLETE")? {
            let jobs = JobSet::Query(self.query()?);
            return Ok(show_jobs(ShowJobs {
                when_complete: true,
                jobs: Some(jobs),
                ..usual_jobs()
            }));
        }
        if let Some(schedules) = self.for_schedules()? {
            return Ok(show_jobs(ShowJobs {
                jobs: Some(schedules),
                ..usual_jobs()
            }));
        }
        // `WITH x AS (…) SELECT …` is a query, `WITH EXECUTION DETAILS` is none.
        let has_options = self.peek_is(0, "WITH") && self.is_jobs_option(1);
        let jobs = match !has_options && self.starts_query() {
            true => Some(JobSet::Query(self.query()?)),
            false => None,
        };
        let options = self.with_options(&options::SHOW_JOBS)?;
        Ok(show_jobs(ShowJobs {
            jobs,
            options,
            ..usual_jobs()
        }))
    }

    fn is_jobs_option(&self, ahead: usize) -> bool {
        let is_option = |ahead: usize| {
            self.peek_is(ahead, "EXECUTION") && self.peek_is(ahead + 1, "DETAILS")
                || self.peek_is(ahead, "RESOLVED") && self.peek_is(ahead + 1, "TIMESTAMP")
        };
        is_option(ahead) || self.peek_is(ahead, "OPTIONS")
    }

    fn show_job(&mut self) -> Parsed<Statement> {
        let when_complete = self.phrase("WHEN", "COMPLETE")?;
        let job = self.operand()?;
        let options = match when_complete {
            true => Options::none(&options::SHOW_JOBS),
            false => self.with_options(&options::SHOW_JOBS)?,
        };
        Ok(show_jobs(ShowJobs {
            is_automatic: false,
            when_complete,
            jobs: Some(JobSet::Query(one_row(job))),
            options,
        }))
    }

    /// `FOR SCHEDULE 1` or `FOR SCHEDULES SELECT …`.
    fn for_schedules(&mut self) -> Parsed<Option<JobSet>> {
        if !self.word("FOR") {
            return Ok(None);
        }
        let schedules = match self.word("SCHEDULE") {
            true => one_row(self.operand()?),
            false => {
                self.expect("SCHEDULES")?;
                self.query()?
            }
        };
        Ok(Some(JobSet::ForSchedules(schedules)))
    }

    pub(super) fn pause(&mut self) -> Parsed<Statement> {
        self.control(JobVerb::Pause, ScheduleVerb::Pause)
    }

    pub(super) fn resume(&mut self) -> Parsed<Statement> {
        self.control(JobVerb::Resume, ScheduleVerb::Resume)
    }

    pub(super) fn cancel(&mut self) -> Parsed<Statement> {
        self.control_jobs(JobVerb::Cancel)
    }

    fn control(&mut self, verb: JobVerb, schedules: ScheduleVerb) -> Parsed<Statement> {
        match self.control_schedules(schedules)? {
            Some(statement) => Ok(statement),
            None => self.control_jobs(verb),
        }
    }

    fn control_jobs(&mut self, verb: JobVerb) -> Parsed<Statement> {
        let jobs = if self.word("ALL") {
            let kind = self.job_type()?;
            self.expect("JOBS")?;
            JobSet::All(kind)
        } else if self.word("JOB") {
            JobSet::Query(one_row(self.operand()?))
        } else {
            self.expect("JOBS")?;
            match self.for_schedules()? {
                Some(schedules) => schedules,
                None => JobSet::Query(self.query()?),
            }
        };
        let takes_reason = verb == JobVerb::Pause && matches!(jobs, JobSet::Query(_));
        let mut reason = None;
        if takes_reason && self.phrase("WITH", "REASON")? {
            self.expect_symbol("=")?;
            reason = Some(self.text("a reason")?);
        }
        Ok(Statement::ControlJobs(ControlJobs { verb, jobs, reason }))
    }

    fn job_type(&mut self) -> Parsed<JobType> {
        for kind in JobType::ALL {
            if self.word(kind.as_str()) {
                return Ok(kind);
            }
        }
        for foreign in ["IMPORT", "CHANGEFEED"] {
            if self.peek_is(0, foreign) {
                return Err(self.point(SqlError::meaningless(format!(
                    "there are no {foreign} jobs here"
                ))));
            }
        }
        Err(self.unexpected())
    }
}

fn show_jobs(jobs: ShowJobs) -> Statement {
    Statement::ShowJobs(jobs)
}

fn usual_jobs() -> ShowJobs {
    ShowJobs {
        is_automatic: false,
        when_complete: false,
        jobs: None,
        options: Options::none(&options::SHOW_JOBS),
    }
}
