//! What becomes of one object of a schema.

use super::target::TargetFacts;
use super::{MISSING_ROLE, Verdict, Wish, refused};
use crate::schema::{Entry, Kind};

/// The verdict on an entry; `None` for what is no object of its own.
pub(super) fn verdict(wish: &Wish<'_>, entry: &Entry, target: &TargetFacts) -> Option<Verdict> {
    let options = wish.options;
    let left_out = |why: &str| {
        Some(Verdict::LeftOut {
            why: why.to_owned(),
        })
    };
    match entry.kind() {
        Kind::Session | Kind::Database | Kind::Rows => return None,
        Kind::Rights if !options.rights => return left_out("rights are not restored"),
        Kind::Publication if entry.name.starts_with("holdfast_") => {
            return left_out("it is Holdfast's own");
        }
        Kind::Publication if !options.publications => {
            return left_out("publications are not restored");
        }
        Kind::Subscription if !options.subscriptions => {
            return left_out("subscriptions are not restored");
        }
        _ if options.without.contains(&entry.id) => return left_out("it was not asked for"),
        _ => {}
    }
    let objection = extension(wish, entry, target)
        .or_else(|| superuser(entry, target))
        .or_else(|| roles(wish, entry, target))
        .or_else(|| collation(entry, target))
        .or_else(|| access_method(wish, entry, target));
    Some(objection.unwrap_or_else(|| match &entry.tablespace {
        Some(name) if !name.is_empty() && !wish.tablespace_exists(name, target) => {
            Verdict::Changed {
                how: format!(
                    "its tablespace {} does not exist; the default one is used",
                    name.escape_debug()
                ),
            }
        }
        _ => Verdict::Restored,
    }))
}

fn extension(wish: &Wish<'_>, entry: &Entry, target: &TargetFacts) -> Option<Verdict> {
    if entry.kind() != Kind::Extension {
        return None;
    }
    let Some(available) = target.extensions.get(&entry.name) else {
        return Some(refused(
            "the extension is not installed on the server",
            "install its package on the server",
        ));
    };
    if available.needs_superuser && !target.is_superuser {
        return Some(refused(
            "only a superuser may make the extension",
            "restore as a superuser, or as a role that the provider lets make it",
        ));
    }
    let was = wish
        .facts
        .extensions
        .iter()
        .find(|extension| extension.name == entry.name)?;
    (was.version != available.default_version).then(|| Verdict::Changed {
        how: format!(
            "version {} instead of {}",
            available.default_version, was.version
        ),
    })
}

fn roles(wish: &Wish<'_>, entry: &Entry, target: &TargetFacts) -> Option<Verdict> {
    let owner = entry.own_owner().filter(|_| wish.options.owners);
    if let Some(owner) = owner {
        if !wish.role_exists(owner, target) {
            return Some(refused(
                format!("its owner {} does not exist", owner.escape_debug()),
                MISSING_ROLE,
            ));
        }
        if !target.is_superuser && target.roles.contains(owner) && !target.member_of.contains(owner)
        {
            return Some(refused(
                format!(
                    "the role that restores is no member of its owner {}",
                    owner.escape_debug()
                ),
                "grant it that role",
            ));
        }
    }
    let missing = mentioned_roles(entry)
        .into_iter()
        .find(|role| !wish.role_exists(role, target))?;
    Some(refused(
        format!("role {} does not exist", missing.escape_debug()),
        MISSING_ROLE,
    ))
}

/// Roles that a definition names: who is granted something, whom a policy or a user mapping is for.
fn mentioned_roles(entry: &Entry) -> Vec<String> {
    let (before, stop): (&[&str], &[&str]) = match (entry.kind(), entry.label.as_str()) {
        (Kind::Rights, _) => return roles_of_rights(&entry.definition),
        (_, "POLICY") => (&["TO"], &["USING", "CHECK"]),
        (_, "USER MAPPING") => (&["FOR"], &["SERVER"]),
        _ => return Vec::new(),
    };
    names_after(&entry.definition, before, stop)
}

/// Roles that statements about rights name.
pub(super) fn roles_of_rights(statements: &str) -> Vec<String> {
    names_after(statements, &["TO", "FROM", "ROLE", "AUTHORIZATION"], &[])
}

/// Quoted names after one of some words, and before one of others.
fn names_after(text: &str, before: &[&str], stop: &[&str]) -> Vec<String> {
    let mut roles = Vec::new();
    let mut names_follow = false;
    for token in Tokens(text) {
        match token {
            Token::Word(word) if stop.contains(&word) => break,
            Token::Word(word) => names_follow = before.contains(&word),
            // Everybody, quoted or not: no role has that name.
            Token::Name(name) if names_follow && name == "public" => {}
            Token::Name(name) if names_follow => roles.push(name),
            Token::Name(_) => {}
            // A list of roles goes on after a comma.
            Token::Sign(',') => {}
            Token::Sign(_) => names_follow = false,
        }
    }
    roles.sort();
    roles.dedup();
    roles
}

pub(super) enum Token<'a> {
    Word(&'a str),
    Name(String),
    Sign(char),
}

/// Words, quoted names and signs of a statement; texts in single quotes are one sign.
pub(super) struct Tokens<'a>(pub(super) &'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.0 = self.0.trim_start();
        let first = self.0.chars().next()?;
        if first == '"' || first == '\'' {
            let (text, rest) = quoted(self.0, first);
            self.0 = rest;
            return Some(if first == '"' {
                Token::Name(text)
            } else {
                Token::Sign('\'')
            });
        }
        let end = if first.is_alphanumeric() || first == '_' {
            self.0
                .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .unwrap_or(self.0.len())
        } else {
            first.len_utf8()
        };
        let (token, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(if first.is_alphanumeric() || first == '_' {
            Token::Word(token)
        } else {
            Token::Sign(first)
        })
    }
}

/// A quoted text without its quotes, and what follows it.
fn quoted(text: &str, quote: char) -> (String, &str) {
    let mut content = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter != quote {
            content.push(letter);
        } else if letters.next_if(|(_, next)| *next == quote).is_some() {
            content.push(quote);
        } else {
            return (content, text.get(at + 1..).unwrap_or_default());
        }
    }
    (content, "")
}

fn superuser(entry: &Entry, target: &TargetFacts) -> Option<Verdict> {
    if target.is_superuser {
        return None;
    }
    let what = match (entry.kind(), entry.label.as_str()) {
        (Kind::EventTrigger, _) => "an event trigger",
        (_, "PUBLICATION") if entry.definition.contains(" FOR ALL TABLES") => {
            "a publication of all tables"
        }
        (_, "PUBLICATION TABLES IN SCHEMA") => "a publication of a schema",
        (Kind::Subscription, _) => "a subscription",
        (_, "FOREIGN DATA WRAPPER" | "PROCEDURAL LANGUAGE" | "CAST" | "OPERATOR CLASS")
        | (
            _,
            "OPERATOR FAMILY" | "ACCESS METHOD" | "TEXT SEARCH TEMPLATE" | "TEXT SEARCH PARSER",
        ) => "it",
        (Kind::Function, _) if entry.definition.contains("LANGUAGE \"c\"") => {
            "a function of the server's own code"
        }
        (Kind::Type, "TYPE") if entry.definition.contains("INPUT = ") => "a base type",
        _ => return None,
    };
    Some(refused(
        format!("only a superuser may make {what}"),
        "restore as a superuser, or leave it out",
    ))
}

fn collation(entry: &Entry, target: &TargetFacts) -> Option<Verdict> {
    if entry.label != "COLLATION" {
        return None;
    }
    if entry.definition.contains("provider = icu") && !target.has_icu {
        return Some(refused(
            "the server was built without ICU",
            "restore into a server with ICU",
        ));
    }
    if !entry.definition.contains("provider = libc") {
        return None;
    }
    let (_, rest) = entry
        .definition
        .split_once("locale = ")
        .or_else(|| entry.definition.split_once("lc_collate = "))?;
    let (locale, _) = quoted(rest, '\'');
    (!target.knows_locale(&locale)).then(|| {
        refused(
            format!("the server has no locale {}", locale.escape_debug()),
            "install the locale on the server and run pg_import_system_collations",
        )
    })
}

fn access_method(wish: &Wish<'_>, entry: &Entry, target: &TargetFacts) -> Option<Verdict> {
    let method = entry.access_method.as_ref()?;
    // One that an extension or the schema itself brings is not there yet.
    let brought = wish
        .archive
        .entries
        .iter()
        .any(|other| other.kind() == Kind::Extension || other.label == "ACCESS METHOD");
    (!brought && !target.access_methods.contains(method)).then(|| {
        refused(
            format!("the server has no access method {}", method.escape_debug()),
            "install the extension that brings it",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Oid;
    use crate::schema::Section;

    fn roles_of(label: &str, definition: &str) -> Vec<String> {
        mentioned_roles(&Entry {
            id: 1,
            catalog: Oid(0),
            oid: Oid(0),
            name: "n".to_owned(),
            label: label.to_owned(),
            section: Section::After,
            definition: definition.to_owned(),
            drop: String::new(),
            schema: None,
            tablespace: None,
            access_method: None,
            relation_kind: None,
            owner: None,
            needs: Vec::new(),
        })
    }

    #[test]
    fn roles_are_found_wherever_a_definition_names_them() {
        assert_eq!(
            roles_of(
                "ACL",
                "REVOKE ALL ON TABLE \"from\".\"t\" FROM PUBLIC;\nGRANT SELECT(\"to\") ON TABLE \"s\".\"a TO b\" TO \"hf \"\"Odd\" WITH GRANT OPTION;\n\
                 SET SESSION AUTHORIZATION \"x;y\";\n"
            ),
            ["hf \"Odd", "x;y"]
        );
        assert_eq!(
            roles_of(
                "POLICY",
                "CREATE POLICY \"p\" ON \"s\".\"t\" FOR SELECT TO \"a\", \"b\" USING (EXISTS (SELECT FROM \"u\" WHERE x TO \"c\"));"
            ),
            ["a", "b"]
        );
        assert_eq!(
            roles_of(
                "DEFAULT ACL",
                "ALTER DEFAULT PRIVILEGES FOR ROLE \"o\" IN SCHEMA \"app\" GRANT SELECT ON TABLES  TO \"r\";"
            ),
            ["o", "r"]
        );
        assert_eq!(
            roles_of(
                "USER MAPPING",
                "CREATE USER MAPPING FOR \"o\" SERVER \"elsewhere\" OPTIONS (\"user\" 'FOR');"
            ),
            ["o"]
        );
        let everybody = "CREATE USER MAPPING FOR \"public\" SERVER \"elsewhere\";";
        assert!(roles_of("USER MAPPING", everybody).is_empty());
        assert!(roles_of("TABLE", "CREATE TABLE \"x\" (\"a\" TO \"b\");").is_empty());
    }
}
