//! What names a role that does not exist, where that is to be no error.

use super::entries::{Token, Tokens};
use super::{Finding, Verdict};
use crate::schema::{Archive, Entry, EntryId};
use std::collections::BTreeSet;

/// Lets objects of roles that do not exist belong to the role that restores. Policies are for the roles that exist; one that is for none of
/// them is left out, like the user mapping of such a role: it would have nobody to be for, and must never be for everybody. Gives what differs.
pub fn spare_missing_roles(
    archive: &mut Archive,
    owners: bool,
    exists: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut gone: BTreeSet<EntryId> = BTreeSet::new();
    for entry in &mut archive.entries {
        let is_told = owners && entry.own_owner().is_some();
        if let Some(owner) = entry.owner.take_if(|owner| !exists(owner))
            && is_told
        {
            let how = format!(
                "its owner {} does not exist: it belongs to the role that restores",
                owner.escape_debug()
            );
            found.push(finding(entry, Verdict::Changed { how }));
        }
        let Some(cut) = without_missing(entry, &exists) else {
            continue;
        };
        let roles: Vec<String> = cut.missing.iter().map(|it| escaped(it)).collect();
        let roles = roles.join(", ");
        let verdict = match cut.definition {
            Some(definition) => {
                entry.definition = definition;
                Verdict::Changed {
                    how: format!("it is not for roles that do not exist: {roles}"),
                }
            }
            None => {
                gone.insert(entry.id);
                Verdict::LeftOut {
                    why: format!("it is only for roles that do not exist: {roles}"),
                }
            }
        };
        found.push(finding(entry, verdict));
    }
    archive.remove(&gone);
    found
}

fn escaped(name: &str) -> String {
    name.escape_debug().to_string()
}

fn finding(entry: &Entry, verdict: Verdict) -> Finding {
    Finding {
        object: entry.display_name(),
        verdict,
    }
}

struct Cut {
    missing: Vec<String>,
    /// What is left; `None` if it is for nobody.
    definition: Option<String>,
}

/// A policy or user mapping without the roles that do not exist; `None` if there are none of them in it.
fn without_missing(entry: &Entry, exists: impl Fn(&str) -> bool) -> Option<Cut> {
    let (before, stop): (&str, &[&str]) = match entry.label.as_str() {
        "POLICY" => ("TO", &["USING", "WITH"]),
        "USER MAPPING" => ("FOR", &["SERVER"]),
        _ => return None,
    };
    let text = entry.definition.as_str();
    let mut tokens = Tokens(text);
    loop {
        match tokens.next()? {
            Token::Word(word) if stop.contains(&word) => return None,
            Token::Word(word) if word == before => break,
            _ => {}
        }
    }
    let at = |tokens: &Tokens<'_>| text.len() - tokens.0.len();
    let start = at(&tokens);
    let (mut end, mut kept, mut missing) = (start, Vec::new(), Vec::new());
    loop {
        let from = at(&tokens);
        match tokens.next() {
            Some(Token::Name(name)) => {
                end = at(&tokens);
                match exists(&name) {
                    true => kept.push(text.get(from..end)?.trim()),
                    false => missing.push(name),
                }
            }
            // A word in the list is everybody.
            Some(Token::Word(word)) if !stop.contains(&word) => return None,
            Some(Token::Sign(',')) => {}
            _ => break,
        }
    }
    if missing.is_empty() {
        return None;
    }
    let definition = match kept.is_empty() {
        true => None,
        false => {
            let (head, tail) = (text.get(..start)?, text.get(end..)?);
            Some(format!("{head} {}{tail}", kept.join(", ")))
        }
    };
    Some(Cut {
        missing,
        definition,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Oid;
    use crate::schema::Section;

    fn entry(id: EntryId, label: &str, definition: &str, needs: &[EntryId]) -> Entry {
        Entry {
            id,
            catalog: Oid(0),
            oid: Oid(0),
            name: format!("n{id}"),
            label: label.to_owned(),
            section: Section::After,
            definition: definition.to_owned(),
            drop: "DROP IT;".to_owned(),
            schema: None,
            tablespace: None,
            access_method: None,
            relation_kind: None,
            owner: Some("lost".to_owned()),
            needs: needs.to_vec(),
        }
    }

    #[test]
    fn policies_are_for_roles_that_exist_and_never_for_everybody() {
        let of = |label: &str, definition: &str| {
            let entry = entry(1, label, definition, &[]);
            without_missing(&entry, |role| ["a", "c"].contains(&role))
                .map(|cut| (cut.missing.join("|"), cut.definition))
        };
        let policy = "CREATE POLICY \"p TO \"\"x\" ON \"s\".\"TO\" FOR SELECT TO \"a\", \"b,\"\"\", \"c\" USING ((\"b\" TO \"z\"));";
        assert_eq!(
            of("POLICY", policy),
            Some((
                "b,\"".to_owned(),
                Some("CREATE POLICY \"p TO \"\"x\" ON \"s\".\"TO\" FOR SELECT TO \"a\", \"c\" USING ((\"b\" TO \"z\"));".to_owned())
            ))
        );
        let nobody = "CREATE POLICY \"p\" ON \"s\".\"t\" TO \"b\" WITH CHECK (true);";
        assert_eq!(of("POLICY", nobody), Some(("b".to_owned(), None)));
        let everybody = "CREATE POLICY \"p\" ON \"s\".\"t\" USING ((\"x\" TO \"b\"));";
        assert_eq!(of("POLICY", everybody), None);
        let all_there = "CREATE POLICY \"p\" ON \"s\".\"t\" TO \"a\" USING (true);";
        assert_eq!(of("POLICY", all_there), None);
        let mapping =
            "CREATE USER MAPPING FOR \"b\" SERVER \"e\" OPTIONS (\n    \"user\" 'FOR'\n);";
        assert_eq!(of("USER MAPPING", mapping), Some(("b".to_owned(), None)));
        let public = "CREATE USER MAPPING FOR PUBLIC SERVER \"e\";";
        assert_eq!(of("USER MAPPING", public), None);
    }

    #[test]
    fn owners_that_do_not_exist_are_told_once_and_comments_go_with_what_goes() {
        let mut archive = Archive {
            database: "d".to_owned(),
            server_version: "15".to_owned(),
            dump_version: "15".to_owned(),
            entries: vec![
                entry(1, "TABLE", "CREATE TABLE \"t\" ();", &[]),
                entry(2, "ACL", "GRANT ALL ON TABLE \"t\" TO \"a\";", &[1]),
                entry(
                    3,
                    "POLICY",
                    "CREATE POLICY \"p\" ON \"t\" TO \"lost\";",
                    &[1],
                ),
                entry(
                    4,
                    "COMMENT",
                    "COMMENT ON POLICY \"p\" ON \"t\" IS 'x';",
                    &[3],
                ),
            ],
        };
        let found = spare_missing_roles(&mut archive, true, |role| role == "a");
        let ids: Vec<EntryId> = archive.entries.iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [1, 2]);
        assert!(archive.entries.iter().all(|entry| entry.owner.is_none()));
        let objects: Vec<&str> = found.iter().map(|it| it.object.as_str()).collect();
        assert_eq!(objects, ["table n1", "policy n3"]);
    }
}
