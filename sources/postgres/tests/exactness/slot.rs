//! Slots with exported snapshots, over a replication connection of `psql`.

use holdfast_postgres::layout::Lsn;
use holdfast_postgres_testing::Server;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A replication connection; a temporary slot and an exported snapshot live as long as it does.
pub(crate) struct Replication {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// A slot, with the snapshot of exactly its position.
pub(crate) struct Slot {
    pub(crate) position: Lsn,
    pub(crate) snapshot: String,
    _connection: Replication,
}

impl Replication {
    pub(crate) fn open(server: &Server, database: &str) -> Self {
        let target = format!(
            "host=127.0.0.1 port={} user=postgres dbname={database} replication=database",
            server.port()
        );
        let mut child = Command::new("/usr/lib/postgresql/15/bin/psql")
            .args(["-X", "-q", "-A", "-t", "-d", &target])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("psql starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self {
            _child: child,
            input,
            output,
        }
    }

    pub(crate) async fn command(&mut self, command: &str) -> String {
        let line = format!("{command};\n");
        self.input
            .write_all(line.as_bytes())
            .await
            .expect("psql reads");
        let answer = self.output.next_line().await.expect("psql writes");
        answer.expect("psql gives an answer")
    }
}

impl Slot {
    /// Makes a slot and exports its snapshot.
    pub(crate) async fn create(server: &Server, database: &str, name: &str, kind: &str) -> Self {
        let mut connection = Replication::open(server, database);
        let command =
            format!("CREATE_REPLICATION_SLOT {name} {kind} LOGICAL pgoutput (SNAPSHOT 'export')");
        let answer = connection.command(&command).await;
        let mut cells = answer.split('|').skip(1);
        let position = cells.next().and_then(|text| text.parse().ok());
        Self {
            position: position.expect("a position"),
            snapshot: cells.next().expect("a snapshot").to_owned(),
            _connection: connection,
        }
    }
}
