//! Names and texts inside SQL. Statements that take no parameters (COPY, DDL, the replication protocol) are built with these and nothing else.

use std::borrow::Cow;

/// The encoding of a session, as far as it decides how names are spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// Statements are sent as UTF-8, or the server takes bytes as they are: names stand as they are.
    Direct,
    /// Statements are read in another encoding: what is not ASCII is escaped (`U&"d\0101"`), which the server turns into its own.
    Escaped,
}

impl Spelling {
    /// The spelling for a session whose `client_encoding` is `encoding`.
    #[must_use]
    pub fn of(encoding: &str) -> Self {
        match encoding {
            "UTF8" | "SQL_ASCII" => Self::Direct,
            _ => Self::Escaped,
        }
    }

    /// A name in double quotes.
    #[must_use]
    pub fn identifier(self, name: &str) -> String {
        if self == Self::Direct || name.is_ascii() {
            return quote(name);
        }
        let mut quoted = String::with_capacity(name.len() + 8);
        quoted.push_str("U&\"");
        for character in name.chars() {
            match character {
                '"' => quoted.push_str("\"\""),
                '\\' => quoted.push_str("\\\\"),
                _ if character.is_ascii() => quoted.push(character),
                _ => quoted.push_str(&format!("\\+{:06X}", u32::from(character))),
            }
        }
        quoted.push('"');
        quoted
    }

    /// A schema and a name in it.
    #[must_use]
    pub fn qualified(self, schema: &str, name: &str) -> String {
        format!("{}.{}", self.identifier(schema), self.identifier(name))
    }
}

/// A name in double quotes, always: no list of reserved words is needed, and no version's list is wrong.
#[must_use]
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A schema and a name in it.
#[must_use]
pub fn qualified(schema: &str, name: &str) -> String {
    Spelling::Direct.qualified(schema, name)
}

/// A text in single quotes, right whatever `standard_conforming_strings` says.
#[must_use]
pub fn literal(text: &str) -> String {
    let quotes = text.replace('\'', "''");
    if quotes.contains('\\') {
        format!(" E'{}'", quotes.replace('\\', "\\\\"))
    } else {
        format!("'{quotes}'")
    }
}

/// A value for `pgoutput`'s list of publication names and the like: names in double quotes, separated by commas.
#[must_use]
pub fn identifier_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(quote).collect();
    quoted.join(",")
}

/// A name that fits in PostgreSQL's 63 bytes, cut at a character.
#[must_use]
pub fn cut(name: &str) -> Cow<'_, str> {
    const LONGEST: usize = 63;
    Cow::Borrowed(&name[..name.floor_char_boundary(LONGEST)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_stay_names() {
        assert_eq!(
            quote("a\"; DROP TABLE t; --"),
            "\"a\"\"; DROP TABLE t; --\""
        );
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(Spelling::Escaped.identifier("plain"), "\"plain\"");
        assert_eq!(
            Spelling::Escaped.identifier("ä\\\""),
            "U&\"\\+0000E4\\\\\"\"\""
        );
        assert_eq!(identifier_list(["a", "b\"c"]), "\"a\",\"b\"\"c\"");
        assert_eq!(cut(&"ä".repeat(40)).len(), 62);
    }
}
