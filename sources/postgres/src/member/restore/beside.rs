//! What becomes of tables that go into a database which exists, and of what they need there.

use holdfast_types::{Fault, RestoreOptions};
use std::collections::{BTreeMap, BTreeSet};

use super::Restorer;
use super::survey::objection;
use crate::answer::ask;
use crate::identifier::{qualified, quote};
use crate::layout::Oid;
use crate::restore::{Finding, Report, StagedTable, TargetFacts, Verdict, Wish, exists, names_in};
use crate::schema::{Archive, Entry, EntryId, Kind};
use crate::session::Session;

/// Of what comes along only if it is not there.
const THERE: &str = "the one that is there is used";

const CONTEXT: &str = "cannot look at the database that the tables go to";

fn refused(why: impl Into<String>, hint: impl Into<String>) -> Verdict {
    Verdict::Refused {
        why: why.into(),
        hint: hint.into(),
    }
}

fn left_out(why: &str) -> Verdict {
    Verdict::LeftOut {
        why: why.to_owned(),
    }
}

/// How the server finds an object that tables may need, and the reference to it; `None` for other kinds.
fn reference(entry: &Entry) -> Option<(&'static str, String)> {
    let schema = entry.schema.as_deref()?;
    let finder = match (entry.kind(), entry.label.as_str()) {
        (Kind::Type, _) => "to_regtype",
        (Kind::Sequence | Kind::Table | Kind::ForeignTable, _) => "to_regclass",
        (_, "COLLATION") => "to_regcollation",
        (Kind::Function, _) => {
            // Its name needs argument types, which the statement that drops it spells out.
            let rest = entry.drop.trim_end().strip_suffix(';')?;
            let rest = ["DROP FUNCTION ", "DROP PROCEDURE ", "DROP AGGREGATE "]
                .iter()
                .find_map(|start| rest.strip_prefix(start))?;
            return Some(("to_regprocedure", rest.replace("(*)", "()")));
        }
        _ => return None,
    };
    Some((finder, qualified(schema, &entry.name)))
}

impl Restorer {
    /// Says what becomes of tables, and of all that comes with them.
    ///
    /// # Errors
    /// What the server says, other than that something is not possible.
    pub(super) async fn check_beside(
        &self,
        wish: &Wish<'_>,
        tables: &[StagedTable],
        options: &RestoreOptions,
        offers: &TargetFacts,
        report: &mut Report,
    ) -> Result<(), Fault> {
        let chosen: BTreeSet<Oid> = tables.iter().map(|table| table.oid).collect();
        let all = wish.archive;
        let ids = all.own(&chosen);
        let mut own = all.clone();
        // Other tables are made too, for a moment and without rows, and with them the extensions that they need.
        own.entries
            .retain(|entry| ids.contains(&entry.id) || entry.kind() == Kind::Extension);
        let wish = &Wish {
            archive: &own,
            ..*wish
        };
        let name = wish.name.escape_debug();
        let object = format!("database {name}");
        check_server(wish, offers, &object, report);
        report.findings.extend(wish.check_objects(offers).findings);
        if !offers.databases.contains(wish.name) {
            let verdict = refused(
                "it does not exist",
                "create it, or restore the whole database",
            );
            report.add(object, verdict);
            return Ok(());
        }
        let session = match self.target.session(wish.name).await {
            Ok(session) => session,
            Err(fault) if fault.is_retryable() => return Err(fault),
            Err(fault) => {
                report.add(object, objection(fault)?);
                return Ok(());
            }
        };
        let sql = "SELECT pg_catalog.has_database_privilege(current_database(), 'CREATE')";
        let may_create = ask(&session, CONTEXT, sql).await?;
        if !may_create.first().is_some_and(|row| row.flag(0)) {
            let hint = format!(
                "GRANT CREATE ON DATABASE {} TO {}",
                quote(wish.name),
                quote(&session.info().user)
            );
            report.add(
                object,
                refused("the role may not create schemas in it", hint),
            );
        }
        check_taken(&session, tables, report).await?;
        check_extensions(&session, wish, report).await?;
        let mut stages = BTreeSet::new();
        for table in tables {
            stages.extend([table.schema.as_str(), table.to_schema.as_str()]);
        }
        let beside = Beside {
            session: &session,
            all,
            own: &own,
            chosen: &chosen,
            stages,
            options,
        };
        beside.check_needs(report).await?;
        beside.check_foreign_keys(report).await
    }
}

/// What stands against tables whatever the database is.
fn check_server(wish: &Wish<'_>, offers: &TargetFacts, object: &str, report: &mut Report) {
    if offers.major < wish.facts.server_major {
        let why = format!(
            "the server is PostgreSQL {}, the backup is of {}",
            offers.major, wish.facts.server_major
        );
        let hint = "restore into the same or a newer major version";
        report.add(object, refused(why, hint));
    }
    if offers.in_recovery {
        let verdict = refused("the server is a standby", "restore into the primary");
        report.add(object, verdict);
    }
    if !offers.may_create_databases {
        let why = "the role may not create databases, and the definitions of tables are made ready in one of their own";
        report.add(object, refused(why, "ALTER ROLE … CREATEDB"));
    }
}

/// Names that something in the database has already.
async fn check_taken(
    session: &Session,
    tables: &[StagedTable],
    report: &mut Report,
) -> Result<(), Fault> {
    let mut taken: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut found = Vec::new();
    for table in tables {
        let schema = table.to_schema.as_str();
        if !taken.contains_key(schema) {
            taken.insert(schema, names_in(session, schema).await?);
        }
        let is_taken = taken
            .get(schema)
            .is_some_and(|names| names.contains(&table.to_name));
        if is_taken {
            let verdict = refused(
                "there is a relation or type of that name already",
                "restore it under another name or into another schema, or rename the one that is there",
            );
            let object = table.new_name();
            found.push(Finding { object, verdict });
        }
    }
    report.overrule_all(found);
    Ok(())
}

/// An extension is no part of a table: the database must have it.
async fn check_extensions(
    session: &Session,
    wish: &Wish<'_>,
    report: &mut Report,
) -> Result<(), Fault> {
    let sql = "SELECT extname FROM pg_catalog.pg_extension";
    let there = ask(session, CONTEXT, sql).await?;
    let there: BTreeSet<String> = there.into_iter().map(|row| row.text(0)).collect();
    let mut found = Vec::new();
    let needed = wish.archive.entries.iter();
    for entry in needed.filter(|entry| entry.kind() == Kind::Extension) {
        let verdict = match there.contains(&entry.name) {
            true => left_out(THERE),
            false => refused(
                format!(
                    "the tables need it, and database {} does not have it",
                    wish.name.escape_debug()
                ),
                format!("run CREATE EXTENSION {} there first", quote(&entry.name)),
            ),
        };
        let object = entry.display_name();
        found.push(Finding { object, verdict });
    }
    report.overrule_all(found);
    Ok(())
}

/// Looks for what tables need beside them.
struct Beside<'a> {
    session: &'a Session,
    /// All that the tables need, with the tables that foreign keys point to and sequences belong to.
    all: &'a Archive,
    /// What comes along, unless it is there.
    own: &'a Archive,
    chosen: &'a BTreeSet<Oid>,
    /// Schemas that something goes to: nothing comes along into others.
    stages: BTreeSet<&'a str>,
    options: &'a RestoreOptions,
}

impl Beside<'_> {
    async fn is_there(&self, entry: &Entry) -> Result<bool, Fault> {
        match reference(entry) {
            Some((finder, reference)) => exists(self.session, finder, &reference).await,
            None => Ok(true),
        }
    }

    /// Types, functions, collations and sequences come along beside the tables, if they are not there.
    async fn check_needs(&self, report: &mut Report) -> Result<(), Fault> {
        let mut found = Vec::new();
        for entry in &self.own.entries {
            let is_table = matches!(entry.kind(), Kind::Table | Kind::ForeignTable);
            if is_table || reference(entry).is_none() || self.is_of_own_table(entry) {
                continue;
            }
            let object = entry.display_name();
            if self.is_there(entry).await? {
                let verdict = left_out(THERE);
                found.push(Finding { object, verdict });
                continue;
            }
            let schema = entry.schema.as_deref().unwrap_or_default();
            let verdict = match self.all.foreign_owner(entry, self.chosen) {
                Some(owner) => self.of_another_table(owner),
                None if self.stages.contains(schema) => continue,
                None if entry.kind() == Kind::Sequence => self.out_of_reach(schema),
                None => refused(
                    format!(
                        "a table needs it, and nothing is restored into schema {}",
                        schema.escape_debug()
                    ),
                    "make it there first, or restore a table of that schema too, or the whole database",
                ),
            };
            found.push(Finding { object, verdict });
        }
        report.overrule_all(found);
        Ok(())
    }

    /// Whether it is a sequence of a restored table's column.
    fn is_of_own_table(&self, entry: &Entry) -> bool {
        let is_own = |need: &EntryId| {
            let table = self.own.entry(*need);
            table.is_some_and(|table| matches!(table.kind(), Kind::Table | Kind::ForeignTable))
        };
        entry.kind() == Kind::Sequence && entry.needs.iter().any(is_own)
    }

    fn of_another_table(&self, owner: &Entry) -> Verdict {
        if self.options.skip_missing_sequences {
            return left_out("it is not restored; defaults that use it are left out");
        }
        refused(
            format!(
                "a table uses it, and it belongs to {}, which is not restored",
                owner.display_name()
            ),
            "restore that table too, or let it come without its owner with skip_missing_sequence_owners, \
             or leave out defaults that use it with skip_missing_sequences",
        )
    }

    fn out_of_reach(&self, schema: &str) -> Verdict {
        if self.options.skip_missing_sequences {
            return left_out("it is not restored; defaults that use it are left out");
        }
        refused(
            format!(
                "a default uses it, and nothing is restored into schema {}",
                schema.escape_debug()
            ),
            "make it there first, or leave out defaults that use it with skip_missing_sequences",
        )
    }

    /// Foreign keys to tables that neither are restored nor exist.
    async fn check_foreign_keys(&self, report: &mut Report) -> Result<(), Fault> {
        let mut found = Vec::new();
        let keys = self.own.entries.iter();
        for key in keys.filter(|entry| entry.kind() == Kind::ForeignKey) {
            for need in &key.needs {
                let Some(table) = self.all.entry(*need).filter(|it| it.kind() == Kind::Table)
                else {
                    continue;
                };
                if self.chosen.contains(&table.oid) || self.is_there(table).await? {
                    continue;
                }
                let why = format!(
                    "it points to {}, which neither is restored nor exists",
                    table.display_name()
                );
                let hint = "restore that table too, or use skip_missing_foreign_keys";
                let verdict = match self.options.skip_missing_foreign_keys {
                    true => Verdict::LeftOut { why },
                    false => refused(why, hint),
                };
                let object = key.display_name();
                found.push(Finding { object, verdict });
            }
        }
        report.overrule_all(found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Section;

    #[test]
    fn functions_are_found_by_the_types_of_their_arguments() {
        let of = |label: &str, drop: &str| {
            reference(&Entry {
                id: 1,
                catalog: Oid(0),
                oid: Oid(1),
                name: "a.b".to_owned(),
                label: label.to_owned(),
                section: Section::Before,
                definition: String::new(),
                drop: drop.to_owned(),
                schema: Some("s".to_owned()),
                tablespace: None,
                access_method: None,
                relation_kind: None,
                owner: None,
                needs: Vec::new(),
            })
        };
        let (finder, name) = of(
            "FUNCTION",
            "DROP FUNCTION \"s\".\"a.b\"(integer, \"text\");\n",
        )
        .expect("a function");
        assert_eq!(
            (finder, name.as_str()),
            ("to_regprocedure", "\"s\".\"a.b\"(integer, \"text\")")
        );
        let (_, name) = of("AGGREGATE", "DROP AGGREGATE \"s\".\"a.b\"(*);\n").expect("one");
        assert_eq!(name, "\"s\".\"a.b\"()");
        let (finder, name) = of("DOMAIN", "").expect("a type");
        assert_eq!((finder, name.as_str()), ("to_regtype", "\"s\".\"a.b\""));
        assert_eq!(of("INDEX", "DROP INDEX x;"), None);
    }
}
