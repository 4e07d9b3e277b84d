//! Rights, as far as there are roles for them.

use super::entries::roles_of_rights;
use crate::schema::{Archive, Kind};
use std::collections::BTreeSet;

/// Leaves in an archive the rights of roles that there are, and of everybody; none with `grants` off. Gives the roles for which something
/// was left out because they do not exist.
pub fn limit_rights(
    archive: &mut Archive,
    grants: bool,
    exists: impl Fn(&str) -> bool,
) -> BTreeSet<String> {
    let mut missing = BTreeSet::new();
    archive.entries.retain_mut(|entry| {
        if entry.kind() != Kind::Rights {
            return true;
        }
        if !grants {
            return false;
        }
        let (kept, absent) = of_known_roles(&entry.definition, &exists);
        if !absent.is_empty() {
            entry.definition = kept;
            missing.extend(absent);
        }
        !entry.definition.trim().is_empty()
    });
    missing
}

/// The statements that name only roles which exist, and the names of the others. What one role granted in place of another is between
/// `SET` and `RESET SESSION AUTHORIZATION`: that goes as a whole.
fn of_known_roles(definition: &str, exists: impl Fn(&str) -> bool) -> (String, BTreeSet<String>) {
    let mut kept = String::new();
    let mut missing = BTreeSet::new();
    let mut is_of_missing = false;
    for statement in statements(definition) {
        let mut absent = roles_of_rights(statement);
        absent.retain(|role| !exists(role));
        let words = statement.trim_start();
        if words.starts_with("SET SESSION AUTHORIZATION") {
            is_of_missing = !absent.is_empty();
        }
        if absent.is_empty() && !is_of_missing {
            kept += statement;
        }
        missing.extend(absent);
        if words.starts_with("RESET SESSION AUTHORIZATION") {
            is_of_missing = false;
        }
    }
    (kept, missing)
}

/// Statements with their semicolons, and what follows the last one.
fn statements(definition: &str) -> Vec<&str> {
    let mut open = None;
    definition
        .split_inclusive(|letter: char| match open {
            // A doubled quote ends the text and begins it again.
            Some(quote) => {
                if letter == quote {
                    open = None;
                }
                false
            }
            None => {
                open = matches!(letter, '"' | '\'').then_some(letter);
                letter == ';'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_of_roles_that_exist_are_left() {
        let definition = "REVOKE ALL ON TABLE \"s\".\"a;b\" FROM PUBLIC;\nGRANT SELECT ON TABLE \"s\".\"a;b\" TO \"here\";\n\
             GRANT SELECT ON TABLE \"s\".\"a;b\" TO \"go\"\";ne\";\nSET SESSION AUTHORIZATION \"lost\";\nGRANT SELECT ON TABLE \"s\".\"a;b\" TO \"here\";\n\
             RESET SESSION AUTHORIZATION;\nSET SESSION AUTHORIZATION \"here\";\nGRANT INSERT ON TABLE \"s\".\"a;b\" TO \"too\";\nRESET SESSION AUTHORIZATION;\n";
        let (kept, missing) = of_known_roles(definition, |role| ["here", "too"].contains(&role));
        assert_eq!(
            kept,
            "REVOKE ALL ON TABLE \"s\".\"a;b\" FROM PUBLIC;\nGRANT SELECT ON TABLE \"s\".\"a;b\" TO \"here\";\
             \nSET SESSION AUTHORIZATION \"here\";\nGRANT INSERT ON TABLE \"s\".\"a;b\" TO \"too\";\nRESET SESSION AUTHORIZATION;\n"
        );
        let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
        assert_eq!(missing, ["go\";ne", "lost"]);
        let (kept, missing) = of_known_roles(definition, |_| true);
        assert_eq!((kept.as_str(), missing.len()), (definition, 0));
    }
}
