//! Checks that call functions wait until all rows are there: such a function may look into tables that are not loaded yet.

use super::progress::Progress;
use super::site::Site;
use crate::answer::{ask, run};
use crate::identifier::literal;
use crate::schema::Step;
use holdfast_types::Fault;

/// The mark after which no check is taken away any more: later ones are those that were put back.
const AWAY: &str = "phase/checks taken away";

/// Checks of tables and domains that depend on a function or operator of the user's, without those of extensions. Inherited ones go and
/// come with their parent's.
const CHECKS: &str = "SELECT CASE WHEN c.contypid <> 0 \
       THEN (SELECT format('ALTER DOMAIN %I.%I', n.nspname, t.typname) FROM pg_catalog.pg_type AS t \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace WHERE t.oid = c.contypid) \
       ELSE (SELECT format('ALTER TABLE %I.%I', n.nspname, r.relname) FROM pg_catalog.pg_class AS r \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace WHERE r.oid = c.conrelid) END, \
     quote_ident(c.conname), pg_catalog.pg_get_constraintdef(c.oid) \
     FROM pg_catalog.pg_constraint AS c \
     WHERE c.contype = 'c' AND c.coninhcount = 0 AND c.convalidated AND c.oid >= 16384 \
       AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d \
         WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid = c.oid \
           AND d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass) \
           AND d.refobjid >= 16384 \
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS e WHERE e.classid = d.refclassid AND e.objid = d.refobjid \
             AND e.deptype = 'e')) \
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS e WHERE e.deptype = 'e' AND e.objid IN (c.conrelid, c.contypid) \
         AND e.classid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass))";

/// The schema of a check's table or domain.
const PLACE: &str = "(SELECT n.nspname FROM pg_catalog.pg_namespace AS n WHERE n.oid = COALESCE( \
     (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = c.conrelid), \
     (SELECT typnamespace FROM pg_catalog.pg_type WHERE oid = c.contypid)))";

impl Site {
    /// Takes the checks away, after the tables were made and before rows come.
    pub(super) async fn take_checks_away(&self) -> Result<(), Fault> {
        let session = self.open().await?;
        let context = "cannot put checks off until the rows are there";
        if !self.marks.with_prefix(&session, AWAY).await?.is_empty() {
            return Ok(());
        }
        let mut number = self.marks.with_prefix(&session, "check/").await?.len() / 2;
        let checks = match self.stages.as_slice() {
            [] => CHECKS.to_owned(),
            stages => {
                let names: Vec<String> = stages.iter().map(|stage| literal(stage)).collect();
                format!("{CHECKS} AND {PLACE} IN ({})", names.join(", "))
            }
        };
        // Once a parent's check is gone, a child's own is no longer inherited and is found in the next round.
        loop {
            let checks = ask(&session, context, &checks).await?;
            if checks.is_empty() {
                break;
            }
            for check in checks {
                let (object, name) = (check.text(0), check.text(1));
                let definition = check.text(2);
                let validation = if definition.ends_with("NOT ENFORCED") {
                    ";".to_owned()
                } else {
                    format!("{object} VALIDATE CONSTRAINT {name};")
                };
                let add = if definition.ends_with("NOT ENFORCED") {
                    format!("{object} ADD CONSTRAINT {name} {definition};")
                } else {
                    format!("{object} ADD CONSTRAINT {name} {definition} NOT VALID;")
                };
                let sql = format!(
                    "BEGIN; {} {} {object} DROP CONSTRAINT {name}; COMMIT",
                    self.marks
                        .statement(&format!("check/{number:06}/add"), Some(&add)),
                    self.marks
                        .statement(&format!("check/{number:06}/validate"), Some(&validation)),
                );
                run(&session, context, &sql).await?;
                number += 1;
            }
        }
        self.marks.flush(&session, "checks taken away").await
    }

    /// Puts the checks back, in the opposite order, and lets them see all rows. One that the rows do not satisfy stays without
    /// validation, with a warning: the source held them so.
    pub(super) async fn put_checks_back(&self, progress: &dyn Progress) -> Result<(), Fault> {
        let session = self.open_as_application().await?;
        let mut notes = self.marks.notes(&session, "check/").await?;
        let done = self.marks.with_prefix(&session, "back/").await?;
        // All are added before the first is validated: a parent's takes the children's along.
        notes.reverse();
        let total = notes.len();
        let (adds, validations): (Vec<_>, Vec<_>) = notes
            .into_iter()
            .partition(|(mark, _)| mark.ends_with("/add"));
        progress.phase("checks", total, 0);
        for (mark, sql) in adds.into_iter().chain(validations) {
            let step = Step {
                mark: format!("back/{mark}"),
                name: "a check".to_owned(),
                sql,
            };
            if !done.contains(&step.mark) {
                progress.started(&step.name);
                let outcome = self.marks.run_once(&session, &step).await;
                if mark.ends_with("/validate") {
                    self.or_warn(&session, &step, outcome, progress).await?;
                } else {
                    outcome?;
                }
            }
            progress.ended(&step.name, 0);
        }
        self.marks.flush(&session, "checks").await
    }
}
