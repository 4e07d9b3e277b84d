//! SELECT, clause by clause.

use super::{Known, columns_of_select, evaluate, values};
use crate::error::SqlError;
use crate::rows::ColumnType::{Float, Int, Text, Time};
use crate::rows::{Rows, Value, columns};
use crate::syntax::ast::Statement;
use crate::syntax::expression::Query;
use crate::syntax::parse;

use holdfast_types::Timestamp;

/// Jobs as a list of them has them, in small.
fn jobs() -> Rows {
    let mut rows = Rows::new(columns(&[
        ("job_id", Int),
        ("job_type", Text),
        ("status", Text),
        ("created", Time),
        ("fraction_completed", Float),
        ("error", Text),
    ]));
    for (id, kind, status, created, fraction, error) in [
        (1, "BACKUP", "succeeded", 100, 1.0, None),
        (2, "BACKUP", "failed", 200, 0.25, Some("disk is full")),
        (3, "RESTORE", "running", 300, 0.5, None),
        (4, "BACKUP", "running", 400, 0.0, None),
    ] {
        rows.push(vec![
            Value::Int(id),
            Value::text(kind),
            Value::text(status),
            Value::Time(Timestamp::from_millis(created * 1000)),
            Value::Float(fraction),
            error.map_or(Value::Null, Value::text),
        ]);
    }
    rows
}

fn run_with(sql: &str, parameters: &[Value]) -> Result<Rows, SqlError> {
    let known = Known {
        parameters,
        now: Timestamp::from_millis(500_000),
        user: "ann",
        database: "bank",
        version: "Holdfast x",
    };
    let statement = parse(sql)?.remove(0);
    match statement {
        Statement::Query(Query::Values(rows)) => values(&known, &rows),
        Statement::Query(Query::Select(select)) => {
            let from = select.from.as_ref().map(|_| jobs());
            let inferred = columns_of_select(
                &select,
                &from.clone().map_or_else(Vec::new, |rows| rows.columns),
            )?;
            let rows = evaluate(&known, &select, from)?;
            // What clients are told before is what comes.
            assert_eq!(rows.columns, inferred, "{sql}");
            for row in &rows.rows {
                for (value, column) in row.iter().zip(&rows.columns) {
                    let kind = super::compare::type_of(value);
                    assert!(
                        kind.is_none_or(|kind| kind == column.kind),
                        "{sql}: {value:?} {column:?}"
                    );
                }
            }
            Ok(rows)
        }
        other => panic!("{other:?}"),
    }
}

fn run(sql: &str) -> String {
    let rows = run_with(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    show(&rows)
}

fn show(rows: &Rows) -> String {
    let row = |row: &Vec<Value>| {
        let values = row.iter().map(|value| match value {
            Value::Null => "NULL".to_owned(),
            value => super::scalar::show(value),
        });
        values.collect::<Vec<_>>().join(",")
    };
    rows.rows.iter().map(row).collect::<Vec<_>>().join("|")
}

#[test]
fn rows_are_chosen_ordered_and_cut() {
    for (sql, expected) in [
        ("SELECT job_id FROM j", "1|2|3|4"),
        ("SELECT job_id FROM j WHERE status = 'running'", "3|4"),
        ("SELECT job_id FROM j WHERE job_id = '2'", "2"),
        (
            "SELECT job_id FROM j WHERE status IN ('failed', 'succeeded') ORDER BY job_id DESC",
            "2|1",
        ),
        (
            "SELECT job_id FROM j WHERE NOT (status = 'running') AND job_type LIKE 'B%'",
            "1|2",
        ),
        (
            "SELECT job_id FROM j WHERE error IS NULL AND fraction_completed < 1 ORDER BY 1",
            "3|4",
        ),
        ("SELECT job_id FROM j WHERE error <> 'x'", "2"),
        (
            "SELECT job_id FROM j WHERE created > '1970-01-01 00:03:20'",
            "3|4",
        ),
        (
            "SELECT job_id FROM j WHERE created > now() - INTERVAL '3m 20s'",
            "4",
        ),
        (
            "SELECT job_id FROM j WHERE created BETWEEN '1970-01-01 00:01:40' AND '1970-01-01 00:03:20'",
            "1|2",
        ),
        (
            "SELECT x.job_id FROM j x ORDER BY error, job_id LIMIT 2",
            "2|1",
        ),
        (
            "SELECT job_id FROM j ORDER BY error DESC NULLS LAST, job_id DESC LIMIT 2 OFFSET 1",
            "4|3",
        ),
        (
            "SELECT job_id FROM j ORDER BY error DESC, job_id LIMIT 1",
            "1",
        ),
        ("SELECT job_id AS id FROM j ORDER BY id DESC LIMIT 1", "4"),
        (
            "SELECT DISTINCT job_type FROM j ORDER BY job_type",
            "BACKUP|RESTORE",
        ),
        ("SELECT job_id FROM j WHERE status ILIKE 'RUN%' LIMIT 0", ""),
        ("SELECT job_id FROM j WHERE error LIKE '%is\\_full'", ""),
        ("SELECT job_id FROM j WHERE error LIKE '%is_full'", "2"),
        ("SELECT job_id FROM j WHERE NULL", ""),
        ("SELECT job_id FROM j WHERE job_id NOT IN (1, NULL)", ""),
        ("SELECT job_id FROM j WHERE job_id IN (1, NULL)", "1"),
    ] {
        assert_eq!(run(sql), expected, "{sql}");
    }
}

#[test]
fn rows_are_counted_and_summed_up() {
    for (sql, expected) in [
        ("SELECT count(*) FROM j", "4"),
        ("SELECT count(error), count(DISTINCT status) FROM j", "1,3"),
        ("SELECT count(*) FROM j WHERE status = 'paused'", "0"),
        (
            "SELECT max(job_id), min(status), max(created) FROM j WHERE false",
            "NULL,NULL,NULL",
        ),
        (
            "SELECT sum(job_id), avg(fraction_completed) FROM j",
            "10,0.4375",
        ),
        ("SELECT sum(job_id) * 2 + count(*) FROM j", "24"),
        (
            "SELECT job_type, count(*) FROM j GROUP BY job_type ORDER BY 2 DESC",
            "BACKUP,3|RESTORE,1",
        ),
        (
            "SELECT job_type, count(*) AS n FROM j GROUP BY 1 ORDER BY n",
            "RESTORE,1|BACKUP,3",
        ),
        (
            "SELECT lower(job_type), max(created) - min(created) FROM j GROUP BY job_type ORDER BY job_type",
            "backup,00:05:00|restore,00:00:00",
        ),
        (
            "SELECT bool_and(fraction_completed > 0), bool_or(fraction_completed = 1) FROM j",
            "false,true",
        ),
        (
            "SELECT status FROM j GROUP BY status ORDER BY count(*) DESC, status LIMIT 1",
            "running",
        ),
    ] {
        assert_eq!(run(sql), expected, "{sql}");
    }
}

#[test]
fn expressions_have_their_values() {
    for (sql, expected) in [
        ("SELECT 1 + 2 * 3, 7 / 2, 7 % 4, -(-3)", "7,3.5,3,3"),
        ("SELECT 'a' || 'b' || 1", "ab1"),
        (
            "SELECT coalesce(NULL, 'x'), length('äb'), upper('ab')",
            "x,2,AB",
        ),
        (
            "SELECT '12'::int + 1, 1.6::int, true::int, 5::text || ''",
            "13,2,1,5",
        ),
        (
            "SELECT NULL = NULL, NULL IS NULL, 1 IS NOT NULL",
            "NULL,true,true",
        ),
        (
            "SELECT NULL AND false, NULL OR true, NOT NULL::bool",
            "false,true,NULL",
        ),
        (
            "SELECT current_user, current_database(), version()",
            "ann,bank,Holdfast x",
        ),
        (
            "SELECT '2026-11-23'::timestamptz - '1 day'",
            "2026-11-22 00:00:00+00",
        ),
        ("SELECT now()", "1970-01-01 00:08:20+00"),
        ("VALUES (1, 'a'), (2, 'b')", "1,a|2,b"),
        (
            "SELECT round(2.5), floor(-1.5), ceil(1.2), abs(-3)",
            "2,-2,2,3",
        ),
    ] {
        assert_eq!(run(sql), expected, "{sql}");
    }
    let rows = run_with(
        "SELECT job_id FROM j WHERE status = $1 AND job_id > $2",
        &[Value::text("running"), Value::Int(3)],
    );
    assert_eq!(show(&rows.expect("parameters")), "4");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (sql, code, what) in [
        ("SELECT jobid FROM j", "42703", "jobid"),
        ("SELECT y.job_id FROM j x", "42P01", "\"y\""),
        (
            "SELECT job_id, count(*) FROM j",
            "42803",
            "\"job_id\" must appear",
        ),
        ("SELECT * FROM j GROUP BY job_id", "42803", "*"),
        ("SELECT job_id FROM j WHERE count(*) > 1", "42803", "WHERE"),
        ("SELECT sum(status) FROM j", "42804", "sum"),
        ("SELECT job_id FROM j WHERE job_id > 'x'", "22P02", "int8"),
        (
            "SELECT job_id FROM j WHERE created = 1",
            "42804",
            "compared",
        ),
        ("SELECT job_id FROM j WHERE job_id", "42804", "bool"),
        ("SELECT 1 / 0", "22012", "zero"),
        ("SELECT 9223372036854775807 + 1", "22003", "range"),
        ("SELECT frobnicate(1)", "42883", "frobnicate"),
        ("SELECT $1", "42P02", "$1"),
        ("SELECT job_id FROM j ORDER BY 9", "42601", "9"),
        ("SELECT job_id FROM j LIMIT -1", "22023", "LIMIT"),
        ("VALUES (1), (1, 2)", "42601", "length"),
        ("SELECT count(count(*)) FROM j", "42803", "count"),
    ] {
        let error = run_with(sql, &[]).expect_err(sql);
        assert_eq!(error.state, code, "{sql}: {error:?}");
        assert!(error.message.contains(what), "{sql}: {error:?}");
    }
    let error = run_with("SELECT statsu FROM j", &[]).expect_err("a typing error");
    assert_eq!(error.hint.as_deref(), Some("did you mean status?"));
}
