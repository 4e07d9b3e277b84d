//! Everything that is in a database, and where in the log a time is.

use holdfast_postgres_testing::Server;
use std::collections::BTreeMap;
use std::process::Command;

/// Rows of every table, and the schema.
pub(crate) struct Truth {
    tables: BTreeMap<String, Vec<String>>,
    schema: Vec<String>,
}

impl Truth {
    pub(crate) fn read(server: &Server, database: &str) -> Self {
        let names = server.psql(
            database,
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
        );
        let rows = |name: &str| {
            let sql = format!("SELECT t::text FROM ONLY {name} t ORDER BY t::text COLLATE \"C\"");
            let text = server.psql(database, &sql);
            text.lines().map(ToOwned::to_owned).collect()
        };
        Self {
            tables: names
                .lines()
                .map(|name| (name.to_owned(), rows(name)))
                .collect(),
            schema: schema(server, database),
        }
    }

    /// The rows of all tables but these, and no schema.
    pub(crate) fn without(mut self, tables: &[&str]) -> Self {
        self.tables.retain(|name, _| {
            !tables
                .iter()
                .any(|table| *name == format!("public.{table}"))
        });
        self.schema.clear();
        self
    }

    /// Fails, naming the first difference, if the other is not the same.
    pub(crate) fn assert_is(&self, got: &Self, what: &str) {
        let names = |truth: &Self| truth.tables.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(got), names(self), "{what}: other tables");
        for (name, want) in &self.tables {
            let got = &got.tables[name];
            let missing: Vec<_> = want.iter().filter(|row| !got.contains(row)).collect();
            let extra: Vec<_> = got.iter().filter(|row| !want.contains(row)).collect();
            let start = |rows: &[&String]| {
                let row = rows
                    .first()
                    .map(|row| row.chars().take(80).collect::<String>());
                row.unwrap_or_default()
            };
            assert!(
                want == got,
                "{what}: {name}: of {} rows {} are missing (\"{}\"), {} too many (\"{}\")",
                want.len(),
                missing.len(),
                start(&missing),
                extra.len(),
                start(&extra)
            );
        }
        for (want, got) in self.schema.iter().zip(&got.schema) {
            assert_eq!(got, want, "{what}: another schema");
        }
        assert_eq!(
            got.schema.len(),
            self.schema.len(),
            "{what}: another schema"
        );
    }
}

/// What `pg_dump` says, without our own publication, which is there while the hold is.
fn schema(server: &Server, database: &str) -> Vec<String> {
    let output = Command::new(server.binaries().join("pg_dump"))
        .args(["--schema-only", "--dbname", &server.dsn(database)])
        .output()
        .expect("pg_dump starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).expect("text");
    let unwanted = ["--", "\\restrict ", "\\unrestrict "];
    let lines = text.lines().filter(|line| {
        let is_ours = line.contains("PUBLICATION holdfast_");
        !line.is_empty() && !is_ours && !unwanted.iter().any(|it| line.starts_with(it))
    });
    lines.map(ToOwned::to_owned).collect()
}

/// The position of the first commit record behind `start` whose time is later: a restore as of that time stops before it.
pub(crate) fn first_commit_after(server: &Server, start: &str, time: &str) -> String {
    server.psql("postgres", "SELECT pg_switch_wal()");
    let output = Command::new(server.binaries().join("pg_waldump"))
        .args(["--rmgr=Transaction", "--start", start, "--path"])
        .arg(server.data().join("pg_wal"))
        .env("TZ", "UTC")
        .output()
        .expect("pg_waldump starts");
    // It ends with an error where the log ends.
    let text = String::from_utf8_lossy(&output.stdout);
    let time = time.replace('T', " ").replace('Z', "");
    for line in text.lines() {
        let Some((head, commit)) = line.split_once("desc: COMMIT") else {
            continue;
        };
        // `COMMIT 2026-…` or `COMMIT_PREPARED 733: 2026-…`.
        let commit = commit.trim_start_matches("_PREPARED");
        let at = match commit.split_once(": 2") {
            Some((transaction, rest)) if !transaction.trim().contains(' ') => format!("2{rest}"),
            _ => commit.trim_start().to_owned(),
        };
        if at.get(..26).is_some_and(|at| at > time.as_str()) {
            let (_, lsn) = head.split_once("lsn: ").expect("a position");
            let (lsn, _) = lsn.split_once(',').expect("a position");
            return lsn.to_owned();
        }
    }
    panic!("nothing was committed after {time}");
}
