//! Values of sequences. They are in no change stream and follow no snapshot, so they are read when a backup ends: what is read is
//! never behind what the rows were made with.

use crate::answer::{ask, run};
use crate::identifier::{literal, qualified, quote};
use crate::layout::Oid;
use crate::session::Session;
use holdfast_types::Fault;
use serde::{Deserialize, Serialize};

/// Sequences read or set by one statement.
const BATCH: usize = 200;

/// The value of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceValue {
    /// Its identity in its database.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The last value given out, or the first one to be.
    pub last_value: i64,
    /// Whether `last_value` was given out.
    pub is_called: bool,
    /// By how much it grows; negative for one that falls.
    pub increment: i64,
    /// The column that it belongs to: schema, table and column.
    pub owned_by: Option<(String, String, String)>,
}

/// A sequence, and what is needed to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceFacts {
    /// Its value is not read yet.
    value: SequenceValue,
    /// Tables that it belongs to, or whose defaults take from it: `schema.table`.
    users: Vec<String>,
    /// The role may use its schema.
    pub schema: bool,
    /// The role may read it.
    pub select: bool,
    /// It is unlogged, and the server is a standby: its value is on the primary alone.
    pub is_elsewhere: bool,
}

impl SequenceFacts {
    /// Its schema and name.
    #[must_use]
    pub fn name(&self) -> (&str, &str) {
        (&self.value.schema, &self.value.name)
    }

    /// Its name as tables have theirs: `schema.name`.
    #[must_use]
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.value.schema, self.value.name)
    }

    /// Whether a table of a kind takes from it.
    pub fn serves(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        self.users.iter().any(|table| is_meant(table))
    }
}

/// What was dropped since has no rights, and needs none.
const SEQUENCES: &str = "
SELECT c.oid, n.nspname, c.relname, s.seqincrement, tn.nspname, t.relname, a.attname,
       (SELECT coalesce(pg_catalog.json_agg(un.nspname || '.' || u.relname), '[]') FROM (
          SELECT f.adrelid AS oid FROM pg_catalog.pg_depend AS w JOIN pg_catalog.pg_attrdef AS f ON f.oid = w.objid
          WHERE w.classid = 'pg_catalog.pg_attrdef'::regclass AND w.refclassid = 'pg_catalog.pg_class'::regclass AND w.refobjid = c.oid
          UNION SELECT t.oid) AS x
        JOIN pg_catalog.pg_class AS u ON u.oid = x.oid JOIN pg_catalog.pg_namespace AS un ON un.oid = u.relnamespace),
       coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), true),
       coalesce(pg_catalog.has_sequence_privilege(c.oid, 'SELECT'), true),
       c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery()
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_sequence AS s ON s.seqrelid = c.oid
LEFT JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
  AND d.objsubid = 0 AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')
LEFT JOIN pg_catalog.pg_class AS t ON t.oid = d.refobjid LEFT JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.relnamespace
LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
WHERE c.relkind = 'S' AND c.relpersistence <> 't'
  AND NOT starts_with(n.nspname, 'holdfast_restore_') AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS e
    WHERE e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY c.oid";

/// Lists all sequences of the database, without those of extensions.
///
/// # Errors
/// What the server says.
pub async fn list(session: &Session) -> Result<Vec<SequenceFacts>, Fault> {
    let rows = ask(session, "cannot list sequences", SEQUENCES).await?;
    let facts = |row: &crate::answer::Answer| {
        let value = SequenceValue {
            oid: row.oid(0)?,
            schema: row.text(1),
            name: row.text(2),
            last_value: 0,
            is_called: false,
            increment: row.number(3)?,
            owned_by: row
                .maybe(6)
                .map(|column| (row.text(4), row.text(5), column.to_owned())),
        };
        Ok(SequenceFacts {
            value,
            users: row.list(7)?,
            schema: row.flag(8),
            select: row.flag(9),
            is_elsewhere: row.flag(10),
        })
    };
    rows.iter().map(facts).collect()
}

/// Reads sequences of the database: those that are chosen, without those of extensions, and those whose values are not on this server.
///
/// # Errors
/// What the server says: a role without `SELECT` on a sequence is refused.
pub async fn capture(
    session: &Session,
    is_chosen: &(dyn Fn(&SequenceFacts) -> bool + Sync),
) -> Result<Vec<SequenceValue>, Fault> {
    let all = list(session).await?.into_iter();
    let chosen = all.filter(|facts| !facts.is_elsewhere && is_chosen(facts));
    let mut list: Vec<SequenceValue> = chosen.map(|facts| facts.value).collect();
    for batch in list.chunks_mut(BATCH) {
        let sql: Vec<String> = batch
            .iter()
            .enumerate()
            .map(|(number, sequence)| {
                format!(
                    "SELECT {number}, last_value, is_called FROM {}",
                    qualified(&sequence.schema, &sequence.name)
                )
            })
            .collect();
        for row in ask(session, "cannot read sequences", &sql.join(" UNION ALL ")).await? {
            if let Some(sequence) = batch.get_mut(row.number::<usize>(0)?) {
                sequence.last_value = row.number(1)?;
                sequence.is_called = row.flag(2);
            }
        }
    }
    Ok(list)
}

/// How sequences are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTo {
    /// To what was read: the restore is to the end of a backup.
    Captured,
    /// To what was read, or further if the column that the sequence belongs to has gone further (or fallen, for a falling one): the
    /// restore is to a time between two readings.
    AtLeastColumn,
}

/// Sets sequences; setting them again changes nothing.
///
/// # Errors
/// What the server says, naming the sequence.
pub async fn restore(session: &Session, values: &[SequenceValue], to: SetTo) -> Result<(), Fault> {
    for batch in values.chunks(BATCH) {
        let sql: Vec<String> = batch.iter().map(set_statement).collect();
        run(session, "cannot set sequences", &sql.join(";\n")).await?;
    }
    if to == SetTo::AtLeastColumn {
        for value in values {
            if let Some(sql) = raise_statement(value) {
                let context = format!("cannot set sequence {}.{}", value.schema, value.name);
                run(session, &context, &sql).await?;
            }
        }
    }
    Ok(())
}

fn reference(value: &SequenceValue) -> String {
    format!(
        "{}::pg_catalog.regclass",
        literal(&qualified(&value.schema, &value.name))
    )
}

fn set_statement(value: &SequenceValue) -> String {
    format!(
        "SELECT pg_catalog.setval({}, {}, {})",
        reference(value),
        value.last_value,
        value.is_called
    )
}

/// Goes on to the column's furthest value, if that is further. A column that is no integer never moves the sequence.
fn raise_statement(value: &SequenceValue) -> Option<String> {
    let (schema, table, column) = value.owned_by.as_ref()?;
    let (furthest, beyond) = if value.increment < 0 {
        ("min", "<")
    } else {
        ("max", ">")
    };
    Some(format!(
        "SELECT pg_catalog.setval({}, m.v, true) FROM (SELECT {furthest}({})::bigint AS v FROM {}) AS m \
         WHERE m.v {beyond} {}",
        reference(value),
        quote(column),
        qualified(schema, table),
        value.last_value
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_sequence_follows_the_least_value() {
        let value = SequenceValue {
            oid: Oid(1),
            schema: "s'".to_owned(),
            name: "q\"".to_owned(),
            last_value: -5,
            is_called: true,
            increment: -1,
            owned_by: Some(("s".to_owned(), "t".to_owned(), "c".to_owned())),
        };
        assert_eq!(
            set_statement(&value),
            "SELECT pg_catalog.setval('\"s''\".\"q\"\"\"'::pg_catalog.regclass, -5, true)"
        );
        let raise = raise_statement(&value).expect("owned");
        assert!(
            raise.contains("min(\"c\")") && raise.ends_with("m.v < -5"),
            "{raise}"
        );
    }
}
