//! `docs/SQL.md`, run from its first statement to its last.
//!
//! In a block of kind `console` a line that begins with the prompt `bank=> ` is a statement, which goes on in lines that begin with `bank-> `; what
//! follows is what `psql` says. `JOB` stands for the number of the last job that was shown, and `SUBDIR` for the last directory.

use super::place::Place;
use holdfast_postgres_testing::Server;
use std::path::PathBuf;

const PROMPT: &str = "bank=> ";
const GOES_ON: &str = "bank-> ";
/// Where the document's collection is.
const COLLECTION: &str = "file:///backups/bank";
/// Where the document's server is.
const SERVER: &str = "postgres://backup@db.example:5432/postgres";
/// Digits of a number that differs from run to run.
const LONG: usize = 3;
/// Digits of a digest.
const DIGEST: usize = 32;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/SQL.md")
}

/// One line after the other: text, or a statement with what it gives.
enum Part {
    Line(String),
    Statement {
        shown: Vec<String>,
        output: Vec<String>,
    },
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut is_console = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_console = line == "```console";
            parts.push(Part::Line(line.to_owned()));
        } else if is_console && line.starts_with(PROMPT) {
            parts.push(Part::Statement {
                shown: vec![line.to_owned()],
                output: Vec::new(),
            });
        } else if is_console {
            match parts.last_mut() {
                Some(Part::Statement { shown, output })
                    if output.is_empty() && line.starts_with(GOES_ON) =>
                {
                    shown.push(line.to_owned());
                }
                Some(Part::Statement { output, .. }) => output.push(line.to_owned()),
                _ => panic!("a block begins with no statement: {line}"),
            }
        } else {
            parts.push(Part::Line(line.to_owned()));
        }
    }
    parts
}

pub(crate) fn check(place: &Place, server: &Server) {
    let text = std::fs::read_to_string(path()).expect("the document");
    let writes = std::env::var_os("HOLDFAST_WRITE_DOCS").is_some();
    let mut known = Known {
        collection: place.collection(),
        server: server.dsn_as("backup", "postgres"),
        job: String::new(),
        subdir: String::new(),
    };
    let mut written = String::new();
    let mut count = 0;
    for part in parts(&text) {
        match part {
            Part::Line(line) => written.push_str(&format!("{line}\n")),
            Part::Statement { shown, output } => {
                count += 1;
                let statement = known.statement(&shown);
                let said = known.read(&place.psql(&[&statement]));
                for line in &shown {
                    written.push_str(&format!("{line}\n"));
                }
                for line in &said {
                    written.push_str(&format!("{line}\n"));
                }
                if !writes {
                    assert_eq!(
                        alike(&said),
                        alike(&output),
                        "{statement}\ngives\n{}\nbut the document shows\n{}",
                        said.join("\n"),
                        output.join("\n")
                    );
                }
            }
        }
    }
    assert!(count > 30, "the document shows {count} statements only");
    if writes {
        std::fs::write(path(), written).expect("the document can be written");
    }
}

/// What this run calls what the document has names for.
struct Known {
    collection: String,
    server: String,
    job: String,
    subdir: String,
}

impl Known {
    fn statement(&self, shown: &[String]) -> String {
        let lines = shown.iter().map(|line| {
            let line = line
                .strip_prefix(PROMPT)
                .or_else(|| line.strip_prefix(GOES_ON));
            line.unwrap_or_default()
        });
        let statement = lines.collect::<Vec<_>>().join("\n");
        statement
            .replace(COLLECTION, &self.collection)
            .replace(SERVER, &self.server)
            .replace("JOB;", &format!("{};", self.job))
            .replace("JOB]", &format!("{}]", self.job))
            .replace("JOB WITH", &format!("{} WITH", self.job))
            .replace("'SUBDIR'", &format!("'{}'", self.subdir))
    }

    /// What was said, in the document's words.
    fn read(&mut self, said: &str) -> Vec<String> {
        let said = said
            .replace(&self.collection, COLLECTION)
            .replace(&self.server, SERVER);
        let words = said.split(|c: char| c.is_whitespace() || "|',;".contains(c));
        for word in words {
            if word.len() >= 15 && word.bytes().all(|byte| byte.is_ascii_digit()) {
                word.clone_into(&mut self.job);
            }
            let subdir = word.trim_start_matches('/');
            if subdir.len() == 20 && subdir.matches('/').count() == 2 && subdir.starts_with("20") {
                subdir.clone_into(&mut self.subdir);
            }
        }
        let mut lines: Vec<String> = (said.lines())
            .map(|line| line.trim_end().to_owned())
            .collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }
}

/// Lines without what differs from run to run: long numbers, times, and the widths of columns, which follow from them.
fn alike(lines: &[String]) -> Vec<String> {
    let lines = lines.iter().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let words = line.split_whitespace().map(word);
            words.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

fn word(word: &str) -> String {
    if word.chars().all(|c| "-+".contains(c)) {
        return "-".to_owned();
    }
    let is_digest =
        |part: &str| part.len() >= DIGEST && part.bytes().all(|b| b.is_ascii_hexdigit());
    if word
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(is_digest)
    {
        return "DIGEST".to_owned();
    }
    let longest = word
        .split(|c: char| !c.is_ascii_digit())
        .map(str::len)
        .max()
        .unwrap_or(0);
    let is_time = word.matches(':').count() == 2 && word.starts_with(|c: char| c.is_ascii_digit());
    if longest < LONG && !is_time {
        return word.to_owned();
    }
    let mut alike = String::new();
    for c in word.chars() {
        match c {
            '0'..='9' if alike.ends_with('N') => {}
            '0'..='9' => alike.push('N'),
            '.' if alike.ends_with('N') => {}
            c => alike.push(c),
        }
    }
    alike
}
