//! Sessions on real sockets, with a real client on the other side; and bytes that no client would send.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures::StreamExt;
use holdfast_client::v1;
use holdfast_env::{Env, Socket};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage};
use tokio_util::codec::Decoder;

mod far;
mod logins;
mod tls;
mod users;

use super::codec::{Codec, MAX_MESSAGE, WireError};
use super::{Access, SqlOptions, SqlServer};
use crate::exec::fake::FakeCluster;
use users::FakeUsers;

/// Everybody from this machine.
const TRUSTING: Access = Access {
    trusts_loopback: true,
    allows_plaintext: false,
};

struct Scene {
    cluster: Arc<FakeCluster>,
    users: Arc<FakeUsers>,
    server: SqlServer,
    env: Env,
}

impl Scene {
    async fn start(options: SqlOptions) -> Self {
        Self::start_in(Env::system(), options).await
    }

    async fn start_in(env: Env, options: SqlOptions) -> Self {
        let cluster = Arc::new(FakeCluster::new());
        let users = Arc::new(FakeUsers::default());
        let api = Arc::clone(&cluster) as Arc<dyn holdfast_client::ControlApi>;
        let verifiers = Arc::clone(&users) as Arc<dyn holdfast_client::Verifiers>;
        let server = SqlServer::start(options, env.clone(), api, verifiers).await;
        Self {
            cluster,
            users,
            server: server.expect("a free port"),
            env,
        }
    }

    async fn usual() -> Self {
        Self::start(SqlOptions::new("127.0.0.1:0", TRUSTING)).await
    }

    async fn socket(&self) -> Box<dyn Socket> {
        let connection = self.env.net.connect(self.server.address()).await;
        connection.expect("it listens").socket
    }

    /// A client, and the notices that it gets.
    async fn connect(
        &self,
    ) -> Result<(Client, tokio::sync::mpsc::Receiver<String>), tokio_postgres::Error> {
        let mut config = Config::new();
        config.user("ann").dbname("bank").application_name("test");
        let (client, mut connection) = config.connect_raw(self.socket().await, NoTls).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(100);
        tokio::spawn(async move {
            let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
            while let Some(message) = messages.next().await {
                if let Ok(AsyncMessage::Notice(notice)) = message {
                    let _ = sender.send(notice.message().to_owned()).await;
                }
            }
        });
        Ok((client, receiver))
    }

    async fn client(&self) -> Client {
        self.connect().await.expect("let in").0
    }
}

fn code(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", SqlState::code)
}

#[tokio::test]
async fn a_driver_prepares_binds_and_reads_binary_results() {
    let scene = Scene::usual().await;
    let client = scene.client().await;
    let row = client
        .query_one(
            "BACKUP INTO $1 AS OF SYSTEM TIME $2",
            &[&"file:///x", &"-10s"],
        )
        .await;
    let row = row.expect("a backup");
    assert_eq!(row.get::<_, i64>("job_id"), 7);
    assert_eq!(row.get::<_, &str>("status"), "succeeded");
    assert_eq!(row.get::<_, f64>("fraction_completed"), 1.0);
    assert_eq!(row.get::<_, i64>("rows"), 10);

    let statement = client.prepare("SELECT job_id, job_type, execution_errors, created, error FROM [SHOW JOBS] WHERE job_id = $1").await;
    let statement = statement.expect("prepared");
    assert_eq!(statement.params(), [Type::TEXT]);
    let types: Vec<Type> = statement
        .columns()
        .iter()
        .map(|column| column.type_().clone())
        .collect();
    assert_eq!(
        types,
        [
            Type::INT8,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::TIMESTAMPTZ,
            Type::TEXT
        ]
    );
    let rows = client.query(&statement, &[&"7"]).await.expect("rows");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<_, Vec<String>>(2), Vec::<String>::new());
    assert_eq!(rows[0].get::<_, Option<&str>>(4), None);
    let created: std::time::SystemTime = rows[0].get(3);
    let micros = created
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    assert_eq!(micros, 1_795_460_880);

    let typed = client
        .prepare_typed("SHOW JOB $1", &[Type::INT8])
        .await
        .expect("prepared");
    assert_eq!(client.query(&typed, &[&7i64]).await.expect("rows").len(), 1);
    assert_eq!(client.query(&typed, &[&8i64]).await.expect("rows").len(), 0);
    assert_eq!(client.execute("RESET ALL", &[]).await.expect("done"), 0);
}

#[tokio::test]
async fn a_text_of_many_statements_ends_at_the_first_error() {
    let scene = Scene::usual().await;
    let client = scene.client().await;
    let messages = client
        .simple_query("SHOW SOURCES; SELECT 1 AS one; SET application_name = 'x';;")
        .await
        .expect("three");
    let rows: Vec<_> = (messages.iter())
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    assert_eq!(rows, ["bank", "shop", "1"]);
    let error = client
        .simple_query("SHOW WORKERS; SHOW JOB 'x'; DROP HOLD 1")
        .await
        .expect_err("an error");
    assert_eq!(code(&error), "22P02");
    assert!(scene.cluster.asked().is_empty());
    // Nothing of a text is done that is not a text of statements as a whole.
    let error = client
        .simple_query("DROP HOLD 1; SHOW JBOS")
        .await
        .expect_err("an error");
    let error = error.as_db_error().expect("of the server");
    assert_eq!(error.code().code(), "42601");
    assert_eq!(
        error.position(),
        Some(&tokio_postgres::error::ErrorPosition::Original(19))
    );
    assert_eq!(error.hint(), Some("did you mean JOBS?"));
    assert!(scene.cluster.asked().is_empty());
    client.simple_query("").await.expect("an empty text");
}

#[tokio::test]
async fn transactions_and_failed_ones_are_kept_to() {
    let scene = Scene::usual().await;
    let client = scene.client().await;
    client.batch_execute("BEGIN").await.expect("begun");
    let error = client
        .query("BACKUP INTO 'x'", &[])
        .await
        .expect_err("attached");
    assert_eq!(code(&error), "25001");
    let error = client.query("SHOW WORKERS", &[]).await.expect_err("failed");
    assert_eq!(code(&error), "25P02");
    client.batch_execute("ROLLBACK").await.expect("ended");
    client.query("SHOW WORKERS", &[]).await.expect("goes on");
    client
        .batch_execute("BEGIN; BACKUP INTO 'x' WITH detached; COMMIT")
        .await
        .expect("detached");
    let asked = scene.cluster.asked();
    let submitted = asked.iter().filter(|it| it.starts_with("SubmitBackup"));
    assert_eq!(submitted.count(), 1);
}

#[tokio::test]
async fn rows_are_fetched_in_portions() {
    let scene = Scene::usual().await;
    let mut client = scene.client().await;
    let transaction = client.transaction().await.expect("begun");
    let portal = transaction
        .bind("VALUES (1), (2), (3)", &[])
        .await
        .expect("bound");
    for (most, expected) in [(2, vec![1i64, 2]), (2, vec![3])] {
        let rows = transaction.query_portal(&portal, most).await.expect("rows");
        let values: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(values, expected);
    }
}

#[tokio::test]
async fn a_request_to_cancel_ends_the_wait_and_not_the_job() {
    let scene = Scene::usual().await;
    scene.cluster.submitted_become(v1::Job {
        state: "running".to_owned(),
        ..v1::Job::default()
    });
    let client = scene.client().await;
    let token = client.cancel_token();
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let socket = scene.socket().await;
        token.cancel_query_raw(socket, NoTls).await.expect("sent");
    };
    let (answer, ()) = tokio::join!(client.query("BACKUP INTO 'x'", &[]), cancelling);
    let error = answer.expect_err("cancelled");
    let error = error.as_db_error().expect("of the server");
    assert_eq!(error.code().code(), "57014");
    assert_eq!(error.detail(), Some("job 7 goes on in the background"));
    // The session goes on too, and a timeout does the same.
    client
        .batch_execute("SET statement_timeout = '50ms'")
        .await
        .expect("set");
    let error = client
        .query("BACKUP INTO 'x'", &[])
        .await
        .expect_err("late");
    let error = error.as_db_error().expect("of the server");
    assert_eq!(
        error.message(),
        "canceling statement due to statement timeout"
    );
    assert!(
        scene
            .cluster
            .asked()
            .iter()
            .all(|asked| !asked.contains("cancel"))
    );
}

#[tokio::test]
async fn notices_come_while_a_statement_runs() {
    let scene = Scene::usual().await;
    let (client, mut notices) = scene.connect().await.expect("let in");
    client
        .query("SHOW BACKUP FROM LATEST IN 'x'", &[])
        .await
        .expect("rows");
    let notice = tokio::time::timeout(Duration::from_secs(5), notices.recv()).await;
    assert_eq!(
        notice.expect("in time").as_deref(),
        Some("restorable: 2026-11-23T19:08:00Z")
    );
}

#[tokio::test]
async fn more_sessions_than_there_may_be_are_refused() {
    let mut options = SqlOptions::new("127.0.0.1:0", TRUSTING);
    options.max_sessions = 1;
    let scene = Scene::start(options).await;
    let first = scene.client().await;
    let error = scene.connect().await.expect_err("full");
    assert_eq!(code(&error), "53300");
    drop(first);
    for _ in 0..100 {
        if scene.connect().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place of a session that has ended is not given to another");
}

#[test]
fn only_addresses_of_this_machine_are_loopback() {
    for (peer, expected) in [
        ("127.0.0.1:5", true),
        ("127.9.9.9:5", true),
        ("[::1]:5", true),
        ("[::ffff:127.0.0.1]:5", true),
        ("10.0.0.1:5", false),
        ("[::ffff:10.0.0.1]:5", false),
        ("[fe80::1]:5", false),
        ("localhost:5", false),
        ("", false),
    ] {
        assert_eq!(super::is_loopback(peer), expected, "{peer}");
    }
}

#[tokio::test]
async fn sessions_end_with_the_server_and_are_told_so() {
    let scene = Scene::usual().await;
    scene.cluster.submitted_become(v1::Job {
        state: "running".to_owned(),
        ..v1::Job::default()
    });
    let client = scene.client().await;
    let waiting = client.query("BACKUP INTO 'x'", &[]);
    let closing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        scene.server.shutdown().await;
    };
    let (answer, ()) = tokio::join!(waiting, closing);
    let error = answer.expect_err("ended");
    let error = error.as_db_error().expect("of the server");
    assert_eq!(error.detail(), Some("job 7 goes on in the background"));
}

#[tokio::test]
async fn a_client_that_goes_frees_its_session() {
    let mut options = SqlOptions::new("127.0.0.1:0", TRUSTING);
    options.max_sessions = 1;
    let scene = Scene::start(options).await;
    scene.cluster.submitted_become(v1::Job {
        state: "running".to_owned(),
        ..v1::Job::default()
    });
    let mut config = Config::new();
    config.user("ann").dbname("bank");
    let (client, connection) = config
        .connect_raw(scene.socket().await, NoTls)
        .await
        .expect("let in");
    let connection = tokio::spawn(connection);
    let waiting = tokio::spawn(async move { client.query("BACKUP INTO 'x'", &[]).await.is_ok() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    connection.abort();
    waiting.abort();
    for _ in 0..100 {
        if scene.connect().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the session of a client that has gone waits for its job still");
}

fn startup(parameters: &[(&str, &str)], version: i32) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i32(version);
    for (name, value) in parameters {
        for text in [name, value] {
            body.put_slice(text.as_bytes());
            body.put_u8(0);
        }
    }
    body.put_u8(0);
    let mut message = BytesMut::new();
    message.put_i32(i32::try_from(body.len() + 4).expect("short"));
    message.put_slice(&body);
    message
}

/// Everything that the server says until it closes the connection.
async fn read_to_end(mut socket: Box<dyn Socket>) -> String {
    let mut bytes = Vec::new();
    let reading = socket.read_to_end(&mut bytes);
    let read = tokio::time::timeout(Duration::from_secs(5), reading).await;
    read.expect("the server closes the connection")
        .expect("readable");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn encryption_is_declined_and_newer_protocols_are_talked_down() {
    let scene = Scene::usual().await;
    let mut socket = scene.socket().await;
    for code in [80_877_103, 80_877_104] {
        socket.write_i32(8).await.expect("sent");
        socket.write_i32(code).await.expect("sent");
        assert_eq!(socket.read_u8().await.expect("an answer"), b'N');
    }
    let message = startup(&[("user", "ann"), ("_pq_.novel", "1")], 0x0003_0002);
    socket.write_all(&message).await.expect("sent");
    assert_eq!(socket.read_u8().await.expect("an answer"), b'v');
    socket.write_all(b"X\0\0\0\x04").await.expect("sent");
    let said = read_to_end(socket).await;
    assert!(
        said.contains("_pq_.novel") && said.contains("server_version"),
        "{said}"
    );
}

#[tokio::test]
async fn clients_that_break_the_protocol_are_told_and_left() {
    let scene = Scene::usual().await;
    let hello = startup(&[("user", "ann")], 0x0003_0000);
    let too_long = i32::try_from(MAX_MESSAGE + 1).expect("short").to_be_bytes();
    for (bytes, code) in [
        (b"Q\0\0\0\x03".to_vec(), "08P01"),
        ([b"Q".as_slice(), &too_long].concat(), "54000"),
        (b"?\0\0\0\x04".to_vec(), "08P01"),
        // A Bind whose lengths lie.
        (
            b"B\0\0\0\x10\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0".to_vec(),
            "08P01",
        ),
        (b"p\0\0\0\x05x".to_vec(), "08P01"),
    ] {
        let mut socket = scene.socket().await;
        socket.write_all(&hello).await.expect("sent");
        socket.write_all(&bytes).await.expect("sent");
        let said = read_to_end(socket).await;
        assert!(
            said.contains("FATAL") && said.contains(code),
            "{bytes:?}: {said}"
        );
    }
    for (message, code) in [
        (startup(&[("database", "x")], 0x0003_0000), "28000"),
        (
            startup(&[("user", "x"), ("replication", "database")], 0x0003_0000),
            "0A000",
        ),
        (startup(&[("user", "x")], 0x0002_0000), "08P01"),
        (BytesMut::from(&b"\0\0\xff\xff...."[..]), "54000"),
    ] {
        let mut socket = scene.socket().await;
        socket.write_all(&message).await.expect("sent");
        let said = read_to_end(socket).await;
        assert!(said.contains("FATAL") && said.contains(code), "{said}");
    }
    // And all others are served on.
    scene
        .client()
        .await
        .query("SHOW WORKERS", &[])
        .await
        .expect("rows");
}

#[tokio::test]
async fn errors_of_the_extended_protocol_skip_to_the_next_sync() {
    let scene = Scene::usual().await;
    let client = scene.client().await;
    for (sql, expected) in [
        ("SELECT 1; SELECT 2", "42601"),
        ("SELECT nonsense", "42703"),
        ("SHOW JOB $1", ""),
    ] {
        match client.prepare(sql).await {
            Ok(_) => assert_eq!(expected, ""),
            Err(error) => assert_eq!(code(&error), expected, "{sql}"),
        }
    }
    let error = client
        .query("SHOW JOB $1", &[&"x"])
        .await
        .expect_err("no number");
    assert_eq!(code(&error), "22P02");
    client.query("SHOW WORKERS", &[]).await.expect("goes on");
}

proptest! {
    #[test]
    fn no_bytes_break_the_codec(is_started: bool, bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in proptest::sample::select(b"QPBDECSHXdcfp".to_vec())) {
        // A frame that is long as it says, with anything in it.
        let mut framed = BytesMut::new();
        if is_started {
            framed.put_u8(kind);
        }
        framed.put_i32(i32::try_from(bytes.len() + 4).expect("short"));
        framed.put_slice(&bytes);
        let length = framed.len();
        let mut codec = Codec { is_started, is_admitted: is_started };
        match codec.decode(&mut framed) {
            // Exactly the frame was taken.
            Ok(Some(_)) => prop_assert!(framed.is_empty(), "{length}"),
            Ok(None) => prop_assert!(false, "the frame was whole"),
            Err(WireError::Broken(error)) => prop_assert_eq!(error.state.len(), 5),
            Err(WireError::Io | WireError::Handshake) => prop_assert!(false, "it is a frame"),
        }
        let mut raw = BytesMut::from(&bytes[..]);
        let _ = codec.decode(&mut raw);
    }
}
