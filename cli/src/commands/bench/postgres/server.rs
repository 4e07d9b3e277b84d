//! The server that is measured, and the bench's databases on it.

use holdfast_postgres::dsn::Secret;
use holdfast_types::Fault;
use std::cell::RefCell;
use std::collections::BTreeSet;

use super::processor;
use super::program::Program;
use crate::args::{ServerAddress, Unread};

/// What the names of the bench's databases begin with.
const PREFIX: &str = "holdfast_bench";
/// How often the server's processes are looked for: one may end while it is looked at.
const LOOKS: usize = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Server {
    /// Without the password, with the database to ask from.
    address: String,
    password: Option<Secret>,
    /// Databases that are to be dropped.
    made: RefCell<BTreeSet<String>>,
}

impl Server {
    /// Reads where it is; asks nothing.
    pub(super) fn new(server: &Unread, password: Option<&Unread>) -> Result<Self, Fault> {
        let ServerAddress {
            address,
            password: own,
            ..
        } = server.postgres()?;
        Ok(Self {
            address,
            password: own.or_else(|| password.and_then(Unread::secret)),
            made: RefCell::default(),
        })
    }

    /// The connection string of a database.
    pub(super) fn url(&self, database: &str) -> String {
        with_database(&self.address, database)
    }

    /// The connection string that was given, without the password.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The name of one of the bench's databases, which is dropped in the end, whoever made it.
    pub(super) fn scratch(&self, what: &str) -> String {
        let name = format!("{PREFIX}_{}_{what}", std::process::id());
        self.made.borrow_mut().insert(name.clone());
        name
    }

    /// Makes an empty database.
    pub(super) async fn create(&self, what: &str) -> Result<String, Fault> {
        let name = self.scratch(what);
        let statement = format!("CREATE DATABASE {name} TEMPLATE template0");
        self.ask(None, &[statement]).await?;
        Ok(name)
    }

    /// Drops a database, and what keeps it: slots, and sessions that are not gone yet.
    pub(super) async fn drop(&self, name: &str) -> Result<(), Fault> {
        let slots = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{name}' AND NOT active"
        );
        let database = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        self.ask(None, &[slots, database]).await?;
        self.made.borrow_mut().remove(name);
        Ok(())
    }

    /// Drops every database of the bench that is left; tells of the first that could not be dropped.
    pub(super) async fn clean(&self) -> Result<(), Fault> {
        let names: Vec<String> = self.made.borrow().iter().cloned().collect();
        let mut outcome = Ok(());
        for name in names {
            let dropped = self.drop(&name).await;
            outcome = outcome.and(dropped.map_err(|fault| {
                fault.hint(format!("drop the database {name} and its slot by hand"))
            }));
        }
        outcome
    }

    /// Runs statements in a database, or in the one that was given; gives their rows.
    pub(super) async fn ask(
        &self,
        database: Option<&str>,
        statements: &[String],
    ) -> Result<String, Fault> {
        self.psql(database, statements).text().await
    }

    /// A psql that runs statements, one transaction each.
    pub(super) fn psql(&self, database: Option<&str>, statements: &[String]) -> Program {
        let url = database.map_or_else(|| self.address.clone(), |name| self.url(name));
        let fixed = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"];
        let commands = statements.iter().flat_map(|text| ["-c", text.as_str()]);
        let program = Program::new("psql").args(fixed).args([url]).args(commands);
        self.sealed(program)
    }

    /// Gives a program the password.
    pub(super) fn sealed(&self, program: Program) -> Program {
        match &self.password {
            Some(password) => program.env("PGPASSWORD", password.expose()),
            None => program,
        }
    }

    /// The server's first process, if it is on this machine.
    pub(super) async fn postmaster(&self) -> Result<Option<u32>, Fault> {
        let processes = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()".to_owned();
        for _ in 0..LOOKS {
            let answer = self.ask(None, std::slice::from_ref(&processes)).await?;
            let sessions: Vec<u32> = answer
                .lines()
                .filter_map(|line| line.parse().ok())
                .collect();
            if let Some(postmaster) = processor::postmaster(&sessions) {
                return Ok(Some(postmaster));
            }
        }
        Ok(None)
    }
}

/// The same server and role, another database.
fn with_database(address: &str, database: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("postgres", address));
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = place.split('/').next().unwrap_or_default();
    match query {
        "" => format!("{scheme}://{authority}/{database}"),
        query => format!("{scheme}://{authority}/{database}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_of_the_same_server() {
        for (address, expected) in [
            ("postgres://u@h:5/d", "postgres://u@h:5/x"),
            ("postgres://u@h", "postgres://u@h/x"),
            (
                "postgresql://u@h/?sslmode=require",
                "postgresql://u@h/x?sslmode=require",
            ),
            (
                "postgres:///d?host=/run/pg&user=a",
                "postgres:///x?host=/run/pg&user=a",
            ),
        ] {
            assert_eq!(with_database(address, "x"), expected);
        }
    }

    #[test]
    fn the_password_stands_in_no_address() {
        let read = |text: &str| text.parse::<Unread>().expect("any text");
        let server = Server::new(&read("postgres://u:s3cret@h/d"), Some(&read("other")));
        let server = server.expect("legal");
        assert_eq!(server.address(), "postgres://u@h/d");
        assert!(!format!("{server:?}").contains("s3cret"));
        assert_eq!(server.password.as_ref().map(Secret::expose), Some("s3cret"));
        assert!(Server::new(&read("h:1"), None).is_err());
    }
}
