//! What a restore would make of everything, before anything is made: the beginning of a restore refuses by it, and a dry run shows it.

use holdfast_source::{CheckFinding, CheckLevel, Inlet, LoggedRestore, MemberCheck};
use holdfast_types::{ErrorCode, Fault, Target};
use std::collections::BTreeSet;

use super::begin::{Definitions, OWN_DATABASES, is_bare};
use super::plan::{DatabasePlan, Into, RestorePlan};
use super::{Restorer, Told, large_objects};
use crate::globals::Globals;
use crate::member::catalog::from_json;
use crate::restore::{Finding, MISSING_ROLE, Progress, Report, TargetFacts, Verdict, Wish};
use crate::session::Session;

/// Objects of a database that are named though they come back as they were; the others are counted.
const FINE_NAMED: usize = 1000;

/// Objects that one error names.
const REFUSED_NAMED: usize = 100;

/// See the module.
pub(super) struct Survey<'a> {
    pub(super) offers: TargetFacts,
    /// Roles and tablespaces that are made.
    pub(super) globals: Option<Globals>,
    /// Databases that are made, or get tables.
    pub(super) made: Vec<(&'a DatabasePlan, Definitions)>,
    /// What becomes of the server's objects, and of each database's.
    findings: Vec<(Option<String>, Finding)>,
}

/// Whether an error says that the restore is not possible as it is wished, and another one may be.
fn is_objection(fault: &Fault) -> bool {
    matches!(
        fault.code,
        ErrorCode::InvalidArgument
            | ErrorCode::NotFound
            | ErrorCode::AlreadyExists
            | ErrorCode::FailedPrecondition
            | ErrorCode::NotCovered
            | ErrorCode::Unsupported
    )
}

/// An error as what stands against a restore; those that say nothing of that stay errors.
pub(super) fn objection(fault: Fault) -> Result<Verdict, Fault> {
    match is_objection(&fault) {
        true => Ok(Verdict::Refused {
            why: fault.message,
            hint: fault.hint.unwrap_or_default(),
        }),
        false => Err(fault),
    }
}

impl Survey<'_> {
    /// One error for everything that stands against the restore.
    ///
    /// # Errors
    /// `FailedPrecondition` if anything does.
    pub(super) fn refuse(&self) -> Result<(), Fault> {
        let (mut list, mut hints, mut unnamed) = (Vec::new(), Vec::<&str>::new(), 0);
        for (database, Finding { object, verdict }) in &self.findings {
            let Verdict::Refused { why, hint } = verdict else {
                continue;
            };
            if list.len() == REFUSED_NAMED {
                unnamed += 1;
                continue;
            }
            list.push(format!("{}: {why}", placed(database.as_deref(), object)));
            if !hint.is_empty() && !hints.contains(&hint.as_str()) {
                hints.push(hint);
            }
        }
        if list.is_empty() {
            return Ok(());
        }
        if unnamed > 0 {
            list.push(format!("and {unnamed} more, which a dry run names"));
        }
        let fault = Fault::new(
            ErrorCode::FailedPrecondition,
            format!("the backup cannot be restored here: {}", list.join("; ")),
        );
        Err(match hints.is_empty() {
            true => fault,
            false => fault.hint(hints.join("; ")),
        })
    }

    /// Notes what comes back with a difference, and what the options leave out. Nothing else carries it: a restore's result is a sum of rows.
    pub(super) fn note(&self, restore: &LoggedRestore) {
        for (database, Finding { object, verdict }) in &self.findings {
            match (verdict, database) {
                // Whether one can be made is only known, and noted, when it is tried.
                (Verdict::Changed { .. }, None) if object.starts_with("tablespace ") => {}
                (Verdict::Changed { how }, Some(name)) => {
                    Told::of(restore, name).warning(&format!("{object}: {how}"));
                }
                (Verdict::Changed { how }, None) => restore.notes.add(format!("{object}: {how}")),
                _ => {}
            }
        }
        for (database, definitions) in &self.made {
            for Finding { object, verdict } in &definitions.differences {
                if let Verdict::LeftOut { why } = verdict {
                    let told = Told::of(restore, &database.name);
                    told.warning(&format!("{object} is left out: {why}"));
                }
            }
        }
    }

    /// As a member's report: what stands against the restore first.
    fn report(self) -> Vec<CheckFinding> {
        let mut findings: Vec<CheckFinding> = Vec::new();
        let mut fine: Option<(Option<String>, usize)> = None;
        let tell_rest = |fine: Option<(Option<String>, usize)>| {
            let (database, count) = fine?;
            let unnamed = count.checked_sub(FINE_NAMED).filter(|more| *more > 0)?;
            Some(CheckFinding {
                object: placed(database.as_deref(), "others"),
                level: CheckLevel::Fine,
                what: format!("{unnamed} more objects are restored as they were"),
                remedy: None,
            })
        };
        for (database, finding) in self.findings {
            if fine.as_ref().is_none_or(|(of, _)| *of != database) {
                findings.extend(tell_rest(fine.take()));
                fine = Some((database.clone(), 0));
            }
            if let (Verdict::Restored, Some((_, count))) = (&finding.verdict, &mut fine) {
                *count += 1;
                if *count > FINE_NAMED {
                    continue;
                }
            }
            findings.push(check_finding(database.as_deref(), finding));
        }
        findings.extend(tell_rest(fine));
        findings.sort_by_key(|finding| finding.level != CheckLevel::Blocks);
        findings
    }
}

/// An object with its database before it, unless it is that itself.
fn placed(database: Option<&str>, object: &str) -> String {
    match database {
        Some(name) if object != format!("database {}", name.escape_debug()) => {
            format!("{}: {object}", name.escape_debug())
        }
        _ => object.to_owned(),
    }
}

fn check_finding(database: Option<&str>, finding: Finding) -> CheckFinding {
    let (level, what, remedy) = match finding.verdict {
        Verdict::Restored => (CheckLevel::Fine, "is restored as it was".to_owned(), None),
        Verdict::Changed { how } => (CheckLevel::Handled, how, None),
        Verdict::LeftOut { why } => (CheckLevel::Handled, format!("left out: {why}"), None),
        Verdict::Refused { why, hint } => (
            CheckLevel::Blocks,
            why,
            Some(hint).filter(|hint| !hint.is_empty()),
        ),
    };
    CheckFinding {
        object: placed(database, &finding.object),
        level,
        what,
        remedy,
    }
}

impl Restorer {
    /// See [`holdfast_source::LoggedSource::check_restore`].
    ///
    /// # Errors
    /// What the server or the inlet says, other than that the restore is not possible.
    pub async fn check(
        &self,
        restore: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<MemberCheck, Fault> {
        let maintenance = self.target.maintenance().await?;
        let info = maintenance.info();
        let (major, minor) = (info.major(), info.version % 10_000);
        let address = self.target.dsn().address();
        let mut check = MemberCheck {
            server: format!(
                "PostgreSQL {major}.{minor} at {address}, role {}",
                info.user
            ),
            ..MemberCheck::default()
        };
        // The plan is not kept: there is no job that it would be the plan of.
        let plan = match RestorePlan::read(restore, inlet).await {
            Ok(plan) => plan,
            Err(fault) => {
                let verdict = objection(fault)?;
                let object = "the backup".to_owned();
                let finding = Finding { object, verdict };
                check.findings.push(check_finding(None, finding));
                return Ok(check);
            }
        };
        let survey = self.survey(restore, &plan, &maintenance, inlet).await?;
        check.mode = mode(restore, &survey);
        check.findings = survey.report();
        Ok(check)
    }

    /// Looks at everything. Nothing is changed, on the server or of what is kept of jobs.
    ///
    /// # Errors
    /// What the server or the inlet says, other than that something is not possible.
    pub(super) async fn survey<'a>(
        &self,
        restore: &LoggedRestore,
        plan: &'a RestorePlan,
        maintenance: &Session,
        inlet: &dyn Inlet,
    ) -> Result<Survey<'a>, Fault> {
        let offers = TargetFacts::read(maintenance).await?;
        let globals = globals(restore, plan, inlet).await?;
        let mut server = Report::default();
        if let Some(globals) = &globals {
            globals.check(&offers, &mut server);
        }
        if plan
            .databases
            .iter()
            .any(|it| matches!(it.into, Into::Existing(_)))
            && let Err(fault) = self.tool(offers.major).await
        {
            server.add("pg_dump", objection(fault)?);
        }
        let mut findings: Vec<(Option<String>, Finding)> = Vec::new();
        findings.extend(server.findings.into_iter().map(|finding| (None, finding)));
        let mut made: Vec<(&DatabasePlan, Definitions)> = Vec::new();
        let mut taken = BTreeSet::new();
        for database in &plan.databases {
            let mut report = Report::default();
            let own = globals.as_ref();
            let definitions = self.definitions(restore, database, &offers, own, inlet);
            match definitions.await {
                Ok(found) if is_bare(restore, database, &found.archive) => continue,
                Ok(found) => {
                    self.check_database(restore, database, &found, &offers, own, &mut report)
                        .await?;
                    check_large_objects(restore, database, &found, inlet, &mut report).await?;
                    made.push((database, found));
                }
                // A table that inherits from one that is not restored.
                Err(fault) if fault.code == ErrorCode::FailedPrecondition => {
                    let object = format!("database {}", database.name.escape_debug());
                    report.add(object, objection(fault)?);
                }
                Err(fault) => return Err(fault),
            }
            check_names(database, &mut taken, &mut report);
            let name = Some(database.name.clone());
            let found = report.findings.into_iter();
            findings.extend(found.map(|finding| (name.clone(), finding)));
        }
        Ok(Survey {
            offers,
            globals,
            made,
            findings,
        })
    }

    async fn check_database(
        &self,
        restore: &LoggedRestore,
        database: &DatabasePlan,
        definitions: &Definitions,
        offers: &TargetFacts,
        globals: Option<&Globals>,
        report: &mut Report,
    ) -> Result<(), Fault> {
        let wish = Wish {
            facts: &database.newest()?.catalog.facts,
            archive: &definitions.subset,
            globals,
            name: &database.name,
            options: &definitions.options,
        };
        match &database.into {
            Into::New(chosen) => {
                report.findings = wish.check(offers).findings;
                let is_taken = offers.databases.contains(wish.name);
                if is_taken
                    && restore.target == Target::Source
                    && OWN_DATABASES.contains(&wish.name)
                {
                    name_another(wish.name, report);
                }
                if let Some(chosen) = chosen {
                    let others = definitions.subset.entries.iter();
                    let others =
                        others.filter(|it| it.label == "TABLE" && !chosen.contains(&it.oid));
                    let others = others.map(|entry| Finding {
                        object: entry.display_name(),
                        verdict: needed(),
                    });
                    report.overrule_all(others);
                }
            }
            Into::Existing(tables) => {
                self.check_beside(&wish, tables, &restore.options, offers, report)
                    .await?;
            }
        }
        report.overrule_all(definitions.differences.iter().cloned());
        if !definitions.missing_roles.is_empty() {
            let roles = definitions.missing_roles.iter();
            let roles: Vec<String> = roles.map(|role| role.escape_debug().to_string()).collect();
            let roles = roles.join(", ");
            let how = format!("those of roles that do not exist are left out: {roles}");
            report.add("rights", Verdict::Changed { how });
        }
        lone_parents(database, definitions, report);
        Ok(())
    }
}

fn needed() -> Verdict {
    Verdict::Refused {
        why: "a table that is restored needs it".to_owned(),
        hint: "restore that table too, or skip foreign keys to it with skip_missing_foreign_keys, or let sequences of it come without it with skip_missing_sequence_owners".to_owned(),
    }
}

/// Says what to do about the contents of a database that every server has. That its name is taken is what is said of it first.
fn name_another(name: &str, report: &mut Report) {
    let object = format!("database {name}");
    let mut findings = report.findings.iter_mut();
    if let Some(Finding {
        verdict: Verdict::Refused { why, hint },
        ..
    }) = findings.find(|finding| finding.object == object)
    {
        *why = "every server has a database of that name, and the one in the backup is not empty"
            .to_owned();
        *hint = format!(
            "restore the other databases with --database, and this one under another name with --database {name} --new-db-name NAME; \
             roles come with a whole source only: make them before, or use skip_missing_roles"
        );
    }
}

/// What goes under a name that something else of the same restore gets.
fn check_names(
    database: &DatabasePlan,
    taken: &mut BTreeSet<(String, Option<(String, String)>)>,
    report: &mut Report,
) {
    let name = &database.name;
    let twin = |what: &str| Verdict::Refused {
        why: format!("two {what} of the backup would get that name"),
        hint: "restore them one after the other, under different names".to_owned(),
    };
    match &database.into {
        Into::New(_) => {
            if !taken.insert((name.clone(), None)) {
                let object = format!("database {}", name.escape_debug());
                let verdict = twin("databases");
                report.overrule_all([Finding { object, verdict }]);
            }
        }
        Into::Existing(tables) => {
            let mut twins = Vec::new();
            for table in tables {
                let place = (table.to_schema.clone(), table.to_name.clone());
                if !taken.insert((name.clone(), Some(place))) {
                    let (object, verdict) = (table.new_name(), twin("tables"));
                    twins.push(Finding { object, verdict });
                }
            }
            report.overrule_all(twins);
        }
    }
}

/// Partitions that are not restored though their parent is: its rows would be missing without a word.
fn lone_parents(database: &DatabasePlan, definitions: &Definitions, report: &mut Report) {
    let Some(chosen) = database.chosen() else {
        return;
    };
    let tables = definitions.archive.entries.iter();
    let tables: std::collections::BTreeMap<_, _> = tables
        .filter(|entry| matches!(entry.label.as_str(), "TABLE" | "FOREIGN TABLE"))
        .map(|entry| (entry.id, entry))
        .collect();
    let attached = definitions.archive.entries.iter();
    let attached = attached.filter(|entry| entry.label == "TABLE ATTACH");
    let mut named = BTreeSet::new();
    let mut found = Vec::new();
    for attach in attached {
        let tables: Vec<_> = attach
            .needs
            .iter()
            .filter_map(|id| tables.get(id))
            .collect();
        if !tables.iter().any(|table| chosen.contains(&table.oid)) {
            continue;
        }
        for other in tables.iter().filter(|table| !chosen.contains(&table.oid)) {
            if named.insert(other.id) {
                let verdict = Verdict::Refused {
                    why: "it is the parent, or a partition, of a table that is restored".to_owned(),
                    hint: "name a partitioned table together with all of its partitions".to_owned(),
                };
                let object = other.display_name();
                found.push(Finding { object, verdict });
            }
        }
    }
    report.overrule_all(found);
}

/// Large objects, of which the schema says nothing.
async fn check_large_objects(
    restore: &LoggedRestore,
    database: &DatabasePlan,
    definitions: &Definitions,
    inlet: &dyn Inlet,
    report: &mut Report,
) -> Result<(), Fault> {
    let count = database.newest()?.catalog.large_objects.count;
    if !matches!(database.into, Into::New(None)) || restore.options.schema_only || count == 0 {
        return Ok(());
    }
    let mut verdict = Verdict::Restored;
    if restore.options.owners {
        let mut owners = large_objects::owners(database, inlet).await?;
        owners.retain(|owner| !definitions.roles.contains(owner));
        let owners: Vec<String> = owners
            .iter()
            .map(|it| it.escape_debug().to_string())
            .collect();
        let owners = owners.join(", ");
        if !owners.is_empty() {
            verdict = match restore.options.skip_missing_roles {
                true => Verdict::Changed {
                    how: format!(
                        "those of roles that do not exist belong to the role that restores: {owners}"
                    ),
                },
                false => Verdict::Refused {
                    why: format!("owners of some do not exist: {owners}"),
                    hint: MISSING_ROLE.to_owned(),
                },
            };
        }
    }
    report.add(format!("{count} large objects"), verdict);
    Ok(())
}

/// Roles and tablespaces, which come with a whole source.
async fn globals(
    restore: &LoggedRestore,
    plan: &RestorePlan,
    inlet: &dyn Inlet,
) -> Result<Option<Globals>, Fault> {
    match plan.databases.first() {
        Some(database) if restore.target == Target::Source && !restore.into_existing => {
            let newest = database.newest()?;
            let bytes = inlet.blob(newest.layer, &newest.catalog.globals).await?;
            from_json(&bytes).map(Some)
        }
        _ => Ok(None),
    }
}

fn mode(restore: &LoggedRestore, survey: &Survey<'_>) -> String {
    let rows = match (restore.options.schema_only, restore.options.verify_data) {
        (false, _) => "with their rows",
        (true, false) => "without rows",
        (true, true) => "without rows, which are read and compared",
    };
    let databases = survey.made.iter();
    let tables: usize = databases
        .map(|(database, _)| match &database.into {
            Into::New(_) => 0,
            Into::Existing(tables) => tables.len(),
        })
        .sum();
    match (survey.made.len(), tables) {
        (0, _) => "nothing would be restored".to_owned(),
        (1, 0) => format!("1 database would be made, {rows}"),
        (databases, 0) => format!("{databases} databases would be made, {rows}"),
        (_, 1) => format!("1 table would be restored into a database that exists, {rows}"),
        (_, tables) => {
            format!("{tables} tables would be restored into databases that exist, {rows}")
        }
    }
}
