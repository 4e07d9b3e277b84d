//! Finds a pg_dump that is not older than the server.

use super::process::Program;
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Where distributions keep the programs of one major version, as a directory of directories and what follows the name of one.
const VERSIONED: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr/local/lib/postgresql", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
    ("/Library/PostgreSQL", "bin"),
];

/// Other directories that may hold them.
const PLAIN: [&str; 4] = [
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/pgsql/bin",
    "/opt/bin",
];

/// The Red Hat family's directories: `/usr/pgsql-16/bin`.
const RED_HAT: &str = "/usr";

/// Oldest and newest major versions whose archives are read.
const MAJORS: std::ops::RangeInclusive<u32> = 14..=18;

/// How long a program may take to print its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// A pg_dump that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpTool {
    /// Its path.
    pub path: String,
    /// Its major version.
    pub major: u32,
}

impl DumpTool {
    /// Looks in `preferred` (a directory from the settings, if any), where distributions keep them, and in the directories of `PATH`, and takes the first one
    /// of the server's own major version, or else the next newer. `PATH` comes last: what Debian has there is a script that starts the right one, and takes
    /// longer for that than a small dump.
    ///
    /// # Errors
    /// `Unsupported`, naming what was found and how to install what is missing.
    pub async fn find(
        env: &Env,
        server_major: u32,
        preferred: Option<&str>,
    ) -> Result<Self, Fault> {
        let mut found = BTreeMap::new();
        for directory in directories(env, preferred).await {
            let path = format!("{directory}/pg_dump");
            let (disk, probed) = (env.disk.clone(), path.clone());
            let exists = env
                .blocking(move || disk.exists(&probed).unwrap_or(false))
                .await;
            if !exists {
                continue;
            }
            if let Some(major) = version_of(&path).await {
                // The first directory wins: what the operator named comes before what was found.
                found.entry(major).or_insert(path);
                if major == server_major {
                    break;
                }
            }
        }
        choose(&found, server_major)
    }
}

fn choose(found: &BTreeMap<u32, String>, server_major: u32) -> Result<DumpTool, Fault> {
    let newest = *MAJORS.end();
    if let Some((major, path)) = found.range(server_major..=newest.max(server_major)).next()
        && MAJORS.contains(major)
    {
        return Ok(DumpTool {
            path: path.clone(),
            major: *major,
        });
    }
    let listed = found
        .iter()
        .map(|(major, path)| format!("{path} ({major})"))
        .collect::<Vec<_>>();
    let seen = if listed.is_empty() {
        "none was found".to_owned()
    } else {
        format!("found: {}", listed.join(", "))
    };
    Err(Fault::new(
        ErrorCode::Unsupported,
        format!("no pg_dump of version {server_major} to {newest} for this server; {seen}"),
    )
    .hint(format!(
        "install postgresql-client-{server_major} where the worker runs, or name its directory with --pg-tools DIR (HOLDFAST_PG_TOOLS)"
    )))
}

async fn directories(env: &Env, preferred: Option<&str>) -> Vec<String> {
    let mut list: Vec<String> = preferred.map(str::to_owned).into_iter().collect();
    let disk = env.disk.clone();
    let found = env
        .blocking(move || {
            let mut found = Vec::new();
            for (parent, below) in VERSIONED {
                for name in disk.list(parent).unwrap_or_default() {
                    found.push(format!("{parent}/{name}/{below}"));
                }
            }
            for name in disk.list(RED_HAT).unwrap_or_default() {
                if name.starts_with("pgsql-") {
                    found.push(format!("{RED_HAT}/{name}/bin"));
                }
            }
            found
        })
        .await;
    list.extend(found);
    if let Some(path) = std::env::var_os("PATH") {
        list.extend(
            std::env::split_paths(&path)
                .filter(|directory| directory.is_absolute())
                .map(|directory| directory.to_string_lossy().into_owned()),
        );
    }
    list.extend(PLAIN.map(str::to_owned));
    each_once(list)
}

/// Without those that come again: each is asked for its version.
fn each_once(list: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    list.into_iter()
        .filter(|directory| seen.insert(directory.clone()))
        .collect()
}

async fn version_of(path: &str) -> Option<u32> {
    let asked = Program::new(path).arg("--version").output(1024);
    let answer = tokio::time::timeout(VERSION_DEADLINE, asked).await;
    let text = String::from_utf8(answer.ok()?.ok()?).ok()?;
    parse_version(&text)
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, also of a beta: `19beta1`.
fn parse_version(text: &str) -> Option<u32> {
    let rest = text.trim().strip_prefix("pg_dump (PostgreSQL) ")?;
    let digits = rest
        .find(|letter: char| !letter.is_ascii_digit())
        .map_or(rest, |end| rest.get(..end).unwrap_or_default());
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(majors: &[u32]) -> BTreeMap<u32, String> {
        majors
            .iter()
            .map(|major| (*major, format!("/{major}/pg_dump")))
            .collect()
    }

    #[test]
    fn the_same_major_version_is_preferred_and_an_older_one_refused() {
        let major = |found: &[u32], server| choose(&tools(found), server).map(|tool| tool.major);
        assert_eq!(major(&[14, 15, 16, 18], 15), Ok(15));
        assert_eq!(major(&[14, 16, 18], 15), Ok(16));
        let fault = major(&[13, 14], 15).expect_err("too old");
        assert!(fault.message.contains("/14/pg_dump (14)"), "{fault}");
        assert_eq!(fault.code, ErrorCode::Unsupported);
        assert!(major(&[19], 15).is_err(), "an archive we cannot read");
        assert!(major(&[], 15).is_err());
    }

    #[test]
    fn directories_are_asked_once_in_their_order() {
        let list = ["/b", "/a", "/b", "/c", "/a"].map(str::to_owned);
        assert_eq!(each_once(list.to_vec()), ["/b", "/a", "/c"]);
    }

    #[tokio::test]
    async fn scripts_on_the_path_come_after_the_programs() {
        let list = directories(&Env::system(), Some("/named")).await;
        assert_eq!(list.first().map(String::as_str), Some("/named"));
        let place = |directory: &str| list.iter().position(|listed| listed == directory);
        let plain = place("/usr/bin").expect("listed");
        for version in 14..=18 {
            let program = place(&format!("/usr/lib/postgresql/{version}/bin"));
            assert!(program.is_none_or(|program| program < plain), "{version}");
        }
    }

    #[test]
    fn versions_are_read_as_distributions_print_them() {
        for (text, major) in [
            (
                "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some(15),
            ),
            ("pg_dump (PostgreSQL) 18.6", Some(18)),
            ("pg_dump (PostgreSQL) 19beta1", Some(19)),
            ("pg_dump: command not found", None),
        ] {
            assert_eq!(parse_version(text), major, "{text}");
        }
    }
}
