//! Takes the few statements of pg_dump apart that a restore runs in another way: unique constraints (index first, then the
//! constraint on it) and foreign keys (added without looking at rows, then validated). What is not recognised runs as it is.

use super::entry::Entry;
use crate::identifier::quote;

/// A primary key or unique constraint, in two steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UniqueConstraint {
    /// The table, qualified and quoted.
    pub(crate) table: String,
    /// Makes the index, alongside other indexes of the table.
    pub(crate) index: String,
    /// Makes the constraint out of the index, at once; then whatever else the definition says (clustering, replica identity).
    pub(crate) constraint: String,
}

/// A foreign key or check, in two steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validated {
    /// The table, qualified and quoted.
    pub(crate) table: String,
    /// Adds the constraint for new rows.
    pub(crate) add: String,
    /// Checks the rows that are there.
    pub(crate) validate: String,
}

/// The statement that gives an object to its owner; `None` for what has no owner of its own.
pub(crate) fn owner(entry: &Entry) -> Option<String> {
    let owner = entry.owner.as_deref()?;
    if entry.drop.is_empty() {
        return None;
    }
    let object = match entry.label.as_str() {
        "COLLATION"
        | "CONVERSION"
        | "DOMAIN"
        | "FOREIGN TABLE"
        | "MATERIALIZED VIEW"
        | "SEQUENCE"
        | "STATISTICS"
        | "TABLE"
        | "TEXT SEARCH DICTIONARY"
        | "TEXT SEARCH CONFIGURATION"
        | "TYPE"
        | "VIEW"
        | "PROCEDURAL LANGUAGE"
        | "SCHEMA"
        | "EVENT TRIGGER"
        | "FOREIGN DATA WRAPPER"
        | "SERVER"
        | "PUBLICATION"
        | "SUBSCRIPTION" => {
            let schema = entry.schema.as_deref().map(|schema| quote(schema) + ".");
            format!(
                "{} {}{}",
                entry.label,
                schema.unwrap_or_default(),
                quote(&entry.name)
            )
        }
        // Their names need argument types, which the statement that drops them spells out.
        "AGGREGATE" | "FUNCTION" | "OPERATOR" | "OPERATOR CLASS" | "OPERATOR FAMILY"
        | "PROCEDURE" => entry
            .drop
            .strip_prefix("DROP ")?
            .trim_end_matches([';', '\n'])
            .to_owned(),
        _ => return None,
    };
    Some(format!("ALTER {object} OWNER TO {}", quote(owner)))
}

/// Splits a unique constraint into index and constraint.
pub(crate) fn unique_constraint(definition: &str) -> Option<UniqueConstraint> {
    let mut scan = Scanner::new(definition);
    let (table, name) = scan.add_constraint()?;
    let primary = scan.words("PRIMARY KEY");
    if !primary && !scan.words("UNIQUE") {
        return None;
    }
    let nulls = if scan.words("NULLS NOT DISTINCT") {
        " NULLS NOT DISTINCT"
    } else {
        ""
    };
    let columns = scan.parentheses()?;
    if columns.contains("WITHOUT OVERLAPS") {
        return None;
    }
    let mut clauses = String::new();
    let mut with = String::new();
    if scan.words("INCLUDE") {
        clauses = format!(" INCLUDE {}", scan.parentheses()?);
    }
    if scan.words("WITH") {
        with = format!(" WITH {}", scan.parentheses()?);
    }
    let mut timing = String::new();
    for words in ["DEFERRABLE", "INITIALLY DEFERRED"] {
        if scan.words(words) {
            timing = format!("{timing} {words}");
        }
    }
    let rest = scan.end()?;
    let kind = if primary { "PRIMARY KEY" } else { "UNIQUE" };
    Some(UniqueConstraint {
        index: format!(
            "CREATE UNIQUE INDEX {name} ON {table} USING btree {columns}{clauses}{nulls}{with}"
        ),
        constraint: format!(
            "ALTER TABLE ONLY {table} ADD CONSTRAINT {name} {kind} USING INDEX {name}{timing};\n{rest}"
        ),
        table,
    })
}

/// Splits a foreign key into adding and validating it. `None` for one that is not valid at the source either.
pub(crate) fn foreign_key(definition: &str) -> Option<Validated> {
    let mut scan = Scanner::new(definition);
    let (table, name) = scan.add_constraint()?;
    if !scan.words("FOREIGN KEY") {
        return None;
    }
    let body = definition.trim_end().strip_suffix(';')?;
    if body.ends_with("NOT VALID") || body.ends_with("NOT ENFORCED") {
        return None;
    }
    Some(Validated {
        add: format!("{body} NOT VALID"),
        validate: format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"),
        table,
    })
}

/// Reads the beginnings of statements as pg_dump writes them with every identifier quoted.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// `ALTER TABLE [ONLY] table ADD CONSTRAINT name`.
    fn add_constraint(&mut self) -> Option<(String, String)> {
        if !self.words("ALTER TABLE") {
            return None;
        }
        self.words("ONLY");
        let schema = self.identifier()?;
        self.rest = self.rest.strip_prefix('.')?;
        let table = self.identifier()?;
        if !self.words("ADD CONSTRAINT") {
            return None;
        }
        Some((format!("{schema}.{table}"), self.identifier()?.to_owned()))
    }

    fn words(&mut self, words: &str) -> bool {
        let mut rest = self.rest;
        for word in words.split(' ') {
            let Some(after) = rest.trim_start().strip_prefix(word) else {
                return false;
            };
            if after.starts_with(|next: char| next.is_alphanumeric() || next == '_') {
                return false;
            }
            rest = after;
        }
        self.rest = rest;
        true
    }

    /// A quoted identifier, with its quotes.
    fn identifier(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end = quoted_end(text, '"')?;
        let (name, rest) = text.split_at_checked(end)?;
        self.rest = rest;
        Some(name)
    }

    /// A balanced list in parentheses, with them.
    fn parentheses(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        if !text.starts_with('(') {
            return None;
        }
        let (mut depth, mut at) = (0usize, 0usize);
        while let Some(letter) = text.get(at..).and_then(|rest| rest.chars().next()) {
            match letter {
                '"' | '\'' => {
                    at += quoted_end(text.get(at..)?, letter)?;
                    continue;
                }
                '(' => depth += 1,
                ')' => depth = depth.checked_sub(1)?,
                _ => {}
            }
            at += letter.len_utf8();
            if depth == 0 {
                let (list, rest) = text.split_at_checked(at)?;
                self.rest = rest;
                return Some(list);
            }
        }
        None
    }

    /// The end of the statement; gives the statements after it.
    fn end(&mut self) -> Option<&'a str> {
        self.rest.trim_start().strip_prefix(';').map(str::trim)
    }
}

/// Where a quoted text that stands at the beginning ends, its quotes included; doubled quotes are part of it.
fn quoted_end(text: &str, quote: char) -> Option<usize> {
    let mut letters = text.char_indices();
    if letters.next()?.1 != quote {
        return None;
    }
    let mut letters = letters.peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            if letters.next_if(|(_, next)| *next == quote).is_some() {
                continue;
            }
            return Some(at + quote.len_utf8());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unique_constraints_become_an_index_and_a_constraint_on_it() {
        let split = unique_constraint(
            "ALTER TABLE ONLY \"a\"\"b\".\"t (x\"\n    ADD CONSTRAINT \"k;\" UNIQUE NULLS NOT DISTINCT (\"x)\", \"y\") \
             INCLUDE (\"z\") WITH (\"fillfactor\"='80') DEFERRABLE INITIALLY DEFERRED;\n\nALTER TABLE \"a\" CLUSTER ON \"k;\";\n",
        )
        .expect("recognised");
        assert_eq!(split.table, "\"a\"\"b\".\"t (x\"");
        assert_eq!(
            split.index,
            "CREATE UNIQUE INDEX \"k;\" ON \"a\"\"b\".\"t (x\" USING btree (\"x)\", \"y\") INCLUDE (\"z\") \
             NULLS NOT DISTINCT WITH (\"fillfactor\"='80')"
        );
        assert_eq!(
            split.constraint,
            "ALTER TABLE ONLY \"a\"\"b\".\"t (x\" ADD CONSTRAINT \"k;\" UNIQUE USING INDEX \"k;\" DEFERRABLE INITIALLY DEFERRED;\n\
             ALTER TABLE \"a\" CLUSTER ON \"k;\";"
        );
    }

    #[test]
    fn what_an_index_cannot_carry_runs_as_it_is() {
        for definition in [
            "ALTER TABLE ONLY \"s\".\"t\"\n    ADD CONSTRAINT \"c\" EXCLUDE USING \"gist\" (\"a\" WITH =);\n",
            "ALTER TABLE ONLY \"s\".\"t\"\n    ADD CONSTRAINT \"c\" PRIMARY KEY (\"a\", \"b\" WITHOUT OVERLAPS);\n",
            "ALTER TABLE ONLY \"s\".\"t\"\n    ADD CONSTRAINT \"c\" UNIQUE (\"a\") SOMETHING NEW;\n",
            "CREATE INDEX \"i\" ON \"s\".\"t\" USING \"btree\" (\"a\");\n",
            "ALTER TABLE ONLY \"s\".\"t\"\n    ADD CONSTRAINT \"c\" UNIQUE (\"a\"",
        ] {
            assert_eq!(unique_constraint(definition), None, "{definition}");
        }
    }

    #[test]
    fn foreign_keys_are_added_before_they_are_validated() {
        let definition = "ALTER TABLE ONLY \"s\".\"t\"\n    ADD CONSTRAINT \"f\" FOREIGN KEY (\"a\") REFERENCES \"s\".\"u\"(\"a\")";
        let split = foreign_key(&format!("{definition};\n")).expect("recognised");
        assert_eq!(split.add, format!("{definition} NOT VALID"));
        assert_eq!(
            split.validate,
            "ALTER TABLE \"s\".\"t\" VALIDATE CONSTRAINT \"f\""
        );
        assert_eq!(foreign_key(&format!("{definition} NOT VALID;\n")), None);
    }
}
