//! Answers of the catalogs, as text: one round trip, no prepared statement, the same over every version.

use crate::layout::Oid;
use crate::session::{STATEMENT_DEADLINE, Session};
use holdfast_types::{ErrorCode, Fault};
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::SimpleQueryMessage;

/// How long a statement of a restore may take: an index over a table of terabytes.
pub(crate) const LONG_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

/// One row of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    cells: Vec<Option<String>>,
}

impl Answer {
    /// A cell that may be null.
    pub(crate) fn maybe(&self, column: usize) -> Option<&str> {
        self.cells.get(column).and_then(Option::as_deref)
    }

    /// A cell; null reads as the empty text.
    pub(crate) fn text(&self, column: usize) -> String {
        self.maybe(column).unwrap_or_default().to_owned()
    }

    /// A boolean cell; null reads as false.
    pub(crate) fn flag(&self, column: usize) -> bool {
        self.maybe(column) == Some("t")
    }

    /// A number.
    pub(crate) fn number<T: FromStr>(&self, column: usize) -> Result<T, Fault> {
        self.maybe(column)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| {
                Fault::new(
                    ErrorCode::Internal,
                    format!("the server's answer has no number in column {column}"),
                )
            })
    }

    /// An object id.
    pub(crate) fn oid(&self, column: usize) -> Result<Oid, Fault> {
        self.number(column).map(Oid)
    }

    /// A list that was made by `array_to_json` or `json_agg` of texts.
    pub(crate) fn list(&self, column: usize) -> Result<Vec<String>, Fault> {
        match self.maybe(column) {
            None => Ok(Vec::new()),
            Some(text) => parse_list(text).ok_or_else(|| {
                Fault::new(
                    ErrorCode::Internal,
                    format!("the server's answer has no list in column {column}"),
                )
            }),
        }
    }
}

/// Asks, and gives all rows. For catalogs: the answer is held in memory.
///
/// # Errors
/// What the server says, with `context` before it.
pub(crate) async fn ask(session: &Session, context: &str, sql: &str) -> Result<Vec<Answer>, Fault> {
    let messages = session
        .within(STATEMENT_DEADLINE, session.client().simple_query(sql))
        .await
        .map_err(|fault| fault.context(context))?;
    let mut rows = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            let cell = |column| row.try_get(column).ok().flatten().map(str::to_owned);
            rows.push(Answer {
                cells: (0..row.len()).map(cell).collect(),
            });
        }
    }
    Ok(rows)
}

/// Runs statements whose rows nobody needs. They may take long: an index, the check of a foreign key.
///
/// # Errors
/// What the server says, with `context` before it.
pub(crate) async fn run(session: &Session, context: &str, sql: &str) -> Result<(), Fault> {
    session
        .execute_within(LONG_DEADLINE, sql)
        .await
        .map_err(|fault| fault.context(context))
}

/// A JSON array of strings, as PostgreSQL writes it.
fn parse_list(text: &str) -> Option<Vec<String>> {
    let mut letters = text.trim().strip_prefix('[')?.strip_suffix(']')?.chars();
    let mut list = Vec::new();
    while let Some(letter) = letters.next() {
        match letter {
            ',' | ' ' | '\n' => {}
            '"' => list.push(parse_string(&mut letters)?),
            _ => return None,
        }
    }
    Some(list)
}

fn parse_string(letters: &mut std::str::Chars<'_>) -> Option<String> {
    let mut text = String::new();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => text.push(match letters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => {
                    let digits: String = letters.by_ref().take(4).collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                other => other,
            }),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_every_letter() {
        assert_eq!(
            parse_list(r#"["a","b\"c, d","é\n\u0001]",""]"#),
            Some(vec![
                "a".to_owned(),
                "b\"c, d".to_owned(),
                "é\n\u{1}]".to_owned(),
                String::new()
            ])
        );
        assert_eq!(parse_list("[]"), Some(Vec::new()));
        assert_eq!(parse_list(r#"["a"#), None);
        assert_eq!(parse_list("[null]"), None);
    }
}
