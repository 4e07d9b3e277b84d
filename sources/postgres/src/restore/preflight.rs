//! What a restore of a database would do with each object, and what stands against it, before the first byte moves.

mod entries;
mod missing_roles;
mod rights;
mod target;

pub use missing_roles::spare_missing_roles;
pub use rights::limit_rights;
pub use target::TargetFacts;

use crate::globals::{DatabaseFacts, Globals};
use crate::schema::{Archive, PlanOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What to do about a role that does not exist.
pub(crate) const MISSING_ROLE: &str = "create the role (a restore of the whole source brings its roles along), or use skip_missing_roles";

/// The longest name that PostgreSQL keeps whole, in bytes.
const LONGEST_NAME: usize = 63;

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is restored as it was.
    Restored,
    /// It is restored, with a difference.
    Changed {
        /// The difference.
        how: String,
    },
    /// It is left out, as wished.
    LeftOut {
        /// Why.
        why: String,
    },
    /// It cannot be restored: the restore is refused.
    Refused {
        /// Why.
        why: String,
        /// What to do about it.
        hint: String,
    },
}

/// An object and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is and its name.
    pub object: String,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of every object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The database first, then all objects in the order in which they are made.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing stands against the restore.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.refusals().next().is_none()
    }

    /// What stands against it.
    pub fn refusals(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| matches!(finding.verdict, Verdict::Refused { .. }))
    }

    /// Puts verdicts in the places of others on the same objects, unless those refuse them already.
    pub(crate) fn overrule_all(&mut self, others: impl IntoIterator<Item = Finding>) {
        let places = self.findings.iter().enumerate();
        let places: BTreeMap<String, usize> = places
            .map(|(place, finding)| (finding.object.clone(), place))
            .collect();
        for other in others {
            let place = places.get(&other.object).copied();
            match place.and_then(|place| self.findings.get_mut(place)) {
                Some(finding) if matches!(finding.verdict, Verdict::Refused { .. }) => {}
                Some(finding) => finding.verdict = other.verdict,
                None => self.findings.push(other),
            }
        }
    }

    pub(crate) fn add(&mut self, object: impl Into<String>, verdict: Verdict) {
        self.findings.push(Finding {
            object: object.into(),
            verdict,
        });
    }
}

/// What is wished for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The database that was backed up.
    pub facts: &'a DatabaseFacts,
    /// Its schema.
    pub archive: &'a Archive,
    /// Roles and tablespaces that are restored with it.
    pub globals: Option<&'a Globals>,
    /// The name that it gets.
    pub name: &'a str,
    /// What of it is restored.
    pub options: &'a PlanOptions,
}

impl Wish<'_> {
    /// Says what becomes of every object on a server.
    #[must_use]
    pub fn check(&self, target: &TargetFacts) -> Report {
        let mut report = Report::default();
        self.check_database(target, &mut report);
        let objects = self.check_objects(target);
        report.findings.extend(objects.findings);
        report
    }

    /// Says what becomes of every object in a database that exists: of a whole schema, or of a subset for some tables.
    #[must_use]
    pub fn check_objects(&self, target: &TargetFacts) -> Report {
        let mut report = Report::default();
        for entry in &self.archive.entries {
            if let Some(verdict) = entries::verdict(self, entry, target) {
                report.add(entry.display_name(), verdict);
            }
        }
        report
    }

    fn check_database(&self, target: &TargetFacts, report: &mut Report) {
        let object = format!("database {}", self.name.escape_debug());
        let before = report.findings.len();
        let mut refuse = |why: String, hint: &str| report.add(object.as_str(), refused(why, hint));
        if target.databases.contains(self.name) {
            refuse(
                "there is a database of that name".to_owned(),
                "restore it under another name, or drop or rename the one that is there",
            );
        }
        if self.name.is_empty() || self.name.len() > LONGEST_NAME {
            refuse(
                format!("its name has not 1 to {LONGEST_NAME} bytes"),
                "choose another name",
            );
        }
        if target.major < self.facts.server_major {
            refuse(
                format!(
                    "the server is PostgreSQL {}, the backup is of {}",
                    target.major, self.facts.server_major
                ),
                "restore into the same or a newer major version",
            );
        }
        if target.in_recovery {
            refuse(
                "the server is a standby".to_owned(),
                "restore into the primary",
            );
        }
        if !target.may_create_databases {
            refuse(
                "the role may not create databases".to_owned(),
                "ALTER ROLE … CREATEDB",
            );
        }
        if let Some((why, hint)) = self.locale_objection(target) {
            refuse(why, hint);
        }
        let owner = self.facts.owner.escape_debug();
        let lacks_owner = self.options.owners && !self.role_exists(&self.facts.owner, target);
        if lacks_owner && !self.options.skip_missing_roles {
            refuse(format!("its owner {owner} does not exist"), MISSING_ROLE);
        }
        if report.findings.len() > before {
            return;
        }
        let mut differences = Vec::new();
        if lacks_owner {
            differences.push(format!(
                "its owner {owner} does not exist: it belongs to the role that restores"
            ));
        }
        if !self.tablespace_exists(&self.facts.tablespace, target) {
            differences.push(format!(
                "its tablespace {} does not exist; the default one is used",
                self.facts.tablespace.escape_debug()
            ));
        }
        let verdict = match differences.is_empty() {
            true => Verdict::Restored,
            false => Verdict::Changed {
                how: differences.join("; "),
            },
        };
        report.add(object, verdict);
    }

    /// Whether a tablespace is there, or is tried to be made before.
    fn tablespace_exists(&self, name: &str, target: &TargetFacts) -> bool {
        let mut brought = self.globals.iter().flat_map(|globals| &globals.tablespaces);
        name == "pg_default"
            || target.tablespaces.contains(name)
            || brought.any(|other| other.name == name)
    }

    fn locale_objection(&self, target: &TargetFacts) -> Option<(String, &'static str)> {
        let locale = &self.facts.locale;
        if locale.provider == 'i' && !target.has_icu {
            return Some((
                "the server was built without ICU".to_owned(),
                "restore into a server with ICU",
            ));
        }
        if locale.provider == 'c' && !target.knows_locale(&locale.collate) {
            return Some((
                format!("the server has no locale {}", locale.collate.escape_debug()),
                "install the locale on the server and restart it, or restore into a server that has it",
            ));
        }
        None
    }

    /// Whether a role is there, or will be made before.
    fn role_exists(&self, role: &str, target: &TargetFacts) -> bool {
        target.roles.contains(role)
            || self
                .globals
                .is_some_and(|globals| globals.roles.iter().any(|other| other.name == role))
    }
}

fn refused(why: impl Into<String>, hint: impl Into<String>) -> Verdict {
    Verdict::Refused {
        why: why.into(),
        hint: hint.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_never_overruled() {
        let finding = |object: &str, verdict: Verdict| Finding {
            object: object.to_owned(),
            verdict,
        };
        let left_out = || Verdict::LeftOut {
            why: "w".to_owned(),
        };
        let mut report = Report {
            findings: vec![
                finding("a", Verdict::Restored),
                finding("b", refused("w", "h")),
            ],
        };
        report.overrule_all([
            finding("b", Verdict::Restored),
            finding("a", left_out()),
            finding("c", left_out()),
        ]);
        let expected = [
            finding("a", left_out()),
            finding("b", refused("w", "h")),
            finding("c", left_out()),
        ];
        assert_eq!(report.findings, expected);
    }
}
