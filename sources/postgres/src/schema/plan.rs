//! Cuts a schema archive into the phases of a restore.
//!
//! The order inside each phase is the archive's, which pg_dump made from the dependencies in `pg_depend`.

use super::archive::Archive;
use super::entry::{Entry, EntryId, Kind, Section};
use super::statement::{self, UniqueConstraint, Validated};
use crate::identifier::{literal, qualified, quote};
use std::collections::{BTreeMap, BTreeSet};

/// Publications whose names begin like this are our own: they are not restored.
pub(crate) const OWN_PUBLICATIONS: &str = "holdfast_";

/// What of an archive is restored, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOptions {
    /// Whether rights are granted as they were.
    pub rights: bool,
    /// Whether objects get their owners; otherwise everything belongs to the role that restores.
    pub owners: bool,
    /// Whether a database whose owner does not exist belongs to the role that restores; otherwise that is an error.
    pub skip_missing_roles: bool,
    /// The tablespaces that the target has; objects of others go to the default one.
    pub tablespaces: BTreeSet<String>,
    /// Whether publications are made.
    pub publications: bool,
    /// Whether subscriptions are made (disabled, as pg_dump writes them).
    pub subscriptions: bool,
    /// Entries to leave out.
    pub without: BTreeSet<EntryId>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            rights: true,
            owners: true,
            skip_missing_roles: false,
            tablespaces: BTreeSet::new(),
            publications: true,
            subscriptions: true,
            without: BTreeSet::new(),
        }
    }
}

/// Statements that run in one transaction, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its mark: unique in the restore, the same whenever the plan is made again.
    pub mark: String,
    /// What it makes, for messages and progress.
    pub name: String,
    /// The statements, each ended by a semicolon.
    pub sql: String,
}

/// An index to be built: the long part of a restore after the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexStep {
    /// Its statements.
    pub step: Step,
    /// The table, qualified and quoted, where it is known: larger ones come first.
    pub table: Option<String>,
    /// Whether the step can run as planned: an index on a partitioned table cannot be made a constraint.
    pub split: Option<SplitConstraint>,
}

/// The second half of a unique constraint, and the whole for where halves are not possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitConstraint {
    /// Makes the constraint from the index.
    pub attach: Step,
    /// Index and constraint in one.
    pub whole: Step,
}

/// A step after the rows that runs in order; a foreign key has its validation apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedStep {
    /// The object as the archive has it.
    pub step: Step,
    /// For a foreign key: adding it without validation, and the validation.
    pub validated: Option<ValidatedStep>,
}

/// A foreign key in two steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedStep {
    /// The table, qualified and quoted: partitioned ones cannot (before 18).
    pub table: String,
    /// Adds it for new rows.
    pub add: Step,
    /// Checks the rows.
    pub validate: Step,
}

/// A restore of a schema, phase by phase. Rows go between `before` and `indexes`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Schemas, types, functions, tables without indexes and constraints, views.
    pub before: Vec<Step>,
    /// Indexes, and the constraints that rest on them. Each can be built beside all others.
    pub indexes: Vec<IndexStep>,
    /// Everything else after the rows, in order: attached indexes, foreign keys, triggers, rules, policies, publications.
    pub after: Vec<OrderedStep>,
    /// Comments, labels and rights.
    pub rights: Vec<Step>,
    /// Event triggers, and what is said of them: the very last, since they fire at every step.
    pub event_triggers: Vec<Step>,
}

impl Plan {
    /// Plans the restore of an archive.
    #[must_use]
    pub fn of(archive: &Archive, options: &PlanOptions) -> Self {
        let mut plan = Self::default();
        let kept: Vec<&Entry> = archive
            .entries
            .iter()
            .filter(|entry| is_kept(entry, options))
            .collect();
        let left_out: BTreeSet<EntryId> = archive
            .entries
            .iter()
            .filter(|entry| !is_kept(entry, options))
            .map(|entry| entry.id)
            .collect();
        // An index of something that is itself made after the rows (a view that needs a primary key) waits for its turn.
        let mut late = BTreeSet::new();
        let event_triggers: BTreeSet<EntryId> = kept
            .iter()
            .filter(|entry| entry.kind() == Kind::EventTrigger)
            .map(|entry| entry.id)
            .collect();
        let mut last = Vec::new();
        let tables = kept.iter().filter(|entry| entry.label == "TABLE");
        let tables: BTreeMap<EntryId, &Entry> = tables.map(|entry| (entry.id, *entry)).collect();
        for entry in kept {
            let step = || step(entry, options, "", &entry.definition);
            match (entry.kind(), entry.section) {
                (Kind::Session | Kind::Database | Kind::Rows, _) => {}
                // What they speak of is not there.
                (Kind::Rights | Kind::Remark, _)
                    if entry.needs.iter().any(|need| left_out.contains(need)) => {}
                (Kind::Remark, _)
                    if entry.needs.iter().any(|need| event_triggers.contains(need)) =>
                {
                    last.push(step());
                }
                (Kind::Rights, _) | (Kind::Remark, _) => plan.rights.push(step()),
                (Kind::EventTrigger, _) => plan.event_triggers.push(step()),
                (Kind::Index | Kind::Constraint, _)
                    if !entry.needs.iter().any(|need| late.contains(need)) =>
                {
                    plan.indexes.push(index(entry, &tables, options));
                }
                (_, Section::After) => {
                    if matches!(entry.kind(), Kind::MaterializedView | Kind::View) {
                        late.insert(entry.id);
                    }
                    plan.after.push(ordered(entry, options));
                }
                (_, Section::None | Section::Before | Section::Rows) => plan.before.push(step()),
            }
        }
        plan.event_triggers.extend(last);
        plan
    }
}

fn is_kept(entry: &Entry, options: &PlanOptions) -> bool {
    if options.without.contains(&entry.id) {
        return false;
    }
    match entry.kind() {
        Kind::Rights => options.rights,
        Kind::Publication => options.publications && !entry.name.starts_with(OWN_PUBLICATIONS),
        Kind::Subscription => options.subscriptions,
        _ => true,
    }
}

fn index(entry: &Entry, tables: &BTreeMap<EntryId, &Entry>, options: &PlanOptions) -> IndexStep {
    let whole = step(entry, options, "", &entry.definition);
    match statement::unique_constraint(&entry.definition) {
        Some(UniqueConstraint {
            table,
            index,
            constraint,
        }) => IndexStep {
            step: step(entry, options, "/index", &format!("{index};")),
            table: Some(table),
            split: Some(SplitConstraint {
                attach: step(entry, options, "/attach", &constraint),
                whole,
            }),
        },
        None => IndexStep {
            step: whole,
            table: (entry.needs.iter())
                .find_map(|need| tables.get(need))
                .and_then(|table| Some(qualified(table.schema.as_deref()?, &table.name))),
            split: None,
        },
    }
}

fn ordered(entry: &Entry, options: &PlanOptions) -> OrderedStep {
    let validated = match entry.kind() {
        Kind::ForeignKey => statement::foreign_key(&entry.definition),
        _ => None,
    };
    OrderedStep {
        step: step(entry, options, "", &entry.definition),
        validated: validated.map(
            |Validated {
                 table,
                 add,
                 validate,
             }| ValidatedStep {
                table,
                add: step(entry, options, "/add", &format!("{add};")),
                validate: step(entry, options, "/validate", &format!("{validate};")),
            },
        ),
    }
}

/// The statements of an entry with the settings that pg_restore would have made for it, and its owner.
fn step(entry: &Entry, options: &PlanOptions, part: &str, definition: &str) -> Step {
    let mut sql = String::new();
    if let Some(tablespace) = &entry.tablespace {
        let known = options.tablespaces.contains(tablespace);
        let tablespace = if known { tablespace.as_str() } else { "" };
        sql += &format!("SET LOCAL default_tablespace = {};\n", literal(tablespace));
    }
    let storage_only = entry.relation_kind != Some('p');
    if let (Some(method), true) = (&entry.access_method, storage_only) {
        sql += &format!(
            "SET LOCAL default_table_access_method = {};\n",
            quote(method)
        );
    }
    sql += definition.trim_end();
    if !sql.ends_with(';') {
        // A definition may be nothing but a comment, to the end of its line.
        sql += "\n;";
    }
    if let (Some(method), false) = (&entry.access_method, storage_only) {
        let schema = entry.schema.as_deref().unwrap_or("public");
        sql += &format!(
            "\nALTER TABLE {}.{} SET ACCESS METHOD {};",
            quote(schema),
            quote(&entry.name),
            quote(method)
        );
    }
    if options.owners
        && part.is_empty()
        && let Some(owner) = statement::owner(entry)
    {
        sql += &format!("\n{owner};");
    }
    Step {
        mark: format!("entry/{}{part}", entry.id),
        name: entry.display_name(),
        sql,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Oid;

    fn entry(id: EntryId, label: &str, section: Section, needs: &[EntryId]) -> Entry {
        Entry {
            id,
            catalog: Oid(0),
            oid: Oid(0),
            name: format!("n{id}"),
            label: label.to_owned(),
            section,
            definition: format!("MAKE {id};\n"),
            drop: String::new(),
            schema: Some("s".to_owned()),
            tablespace: None,
            access_method: None,
            relation_kind: None,
            owner: None,
            needs: needs.to_vec(),
        }
    }

    fn archive(entries: Vec<Entry>) -> Archive {
        Archive {
            database: "d".to_owned(),
            server_version: "15".to_owned(),
            dump_version: "15".to_owned(),
            entries,
        }
    }

    #[test]
    fn every_entry_goes_to_its_phase() {
        let (before, after, none) = (Section::Before, Section::After, Section::None);
        let mut database_rights = entry(3, "ACL", none, &[1]);
        database_rights.name = "DATABASE \"d\"".to_owned();
        let mut ours = entry(13, "PUBLICATION", after, &[]);
        ours.name = "holdfast_x".to_owned();
        let plan = Plan::of(
            &archive(vec![
                entry(1, "DATABASE", before, &[]),
                database_rights,
                entry(2, "ENCODING", before, &[]),
                entry(4, "TABLE", before, &[]),
                entry(5, "COMMENT", none, &[4]),
                entry(6, "CONSTRAINT", after, &[4]),
                entry(7, "MATERIALIZED VIEW", after, &[6]),
                entry(8, "INDEX", after, &[7]),
                entry(14, "COMMENT", none, &[9]),
                entry(9, "EVENT TRIGGER", after, &[]),
                entry(10, "TRIGGER", after, &[4]),
                entry(11, "DEFAULT ACL", after, &[]),
                ours,
            ]),
            &PlanOptions::default(),
        );
        let marks = |steps: &[Step]| {
            steps
                .iter()
                .map(|step| step.mark.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(marks(&plan.before), ["entry/4"]);
        assert_eq!(marks(&plan.rights), ["entry/5", "entry/11"]);
        assert_eq!(marks(&plan.event_triggers), ["entry/9", "entry/14"]);
        let indexes: Vec<Step> = plan.indexes.into_iter().map(|index| index.step).collect();
        assert_eq!(marks(&indexes), ["entry/6"]);
        let after: Vec<Step> = plan.after.into_iter().map(|after| after.step).collect();
        assert_eq!(marks(&after), ["entry/7", "entry/8", "entry/10"]);
    }

    #[test]
    fn tablespaces_that_the_target_lacks_are_the_default_there() {
        let mut table = entry(1, "TABLE", Section::Before, &[]);
        table.tablespace = Some("fast".to_owned());
        table.owner = Some("al\"ice".to_owned());
        table.drop = "DROP TABLE;".to_owned();
        let of = |known: &[&str]| {
            let options = PlanOptions {
                tablespaces: known.iter().map(|name| (*name).to_owned()).collect(),
                ..PlanOptions::default()
            };
            let plan = Plan::of(&archive(vec![table.clone()]), &options);
            plan.before.first().expect("one").sql.clone()
        };
        assert!(of(&["fast"]).starts_with("SET LOCAL default_tablespace = 'fast';"));
        assert!(of(&[]).starts_with("SET LOCAL default_tablespace = '';"));
        assert!(of(&[]).ends_with("ALTER TABLE \"s\".\"n1\" OWNER TO \"al\"\"ice\";"));
    }

    #[test]
    fn what_is_left_out_takes_its_comments_along() {
        let options = PlanOptions {
            without: [1].into(),
            rights: false,
            ..PlanOptions::default()
        };
        let entries = vec![
            entry(1, "TABLE", Section::Before, &[]),
            entry(2, "COMMENT", Section::None, &[1]),
            entry(3, "ACL", Section::None, &[4]),
        ];
        assert_eq!(Plan::of(&archive(entries), &options), Plan::default());
    }
}
