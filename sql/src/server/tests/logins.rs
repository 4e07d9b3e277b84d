//! Who is let in, and how.

use std::sync::Arc;
use std::time::Duration;

use holdfast_env::{Env, MemoryDisk};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::{Client, Config, NoTls};

use super::far::far;
use super::tls::{Authority, Tls};
use super::{Scene, TRUSTING, read_to_end, startup};
use crate::server::{Access, CertificateFiles, SqlOptions};

fn config(user: &str, password: Option<&str>) -> Config {
    let mut config = Config::new();
    config.user(user).dbname("bank");
    if let Some(password) = password {
        config.password(password);
    }
    config
}

/// Logs in without encryption.
async fn log_in(scene: &Scene, config: &Config) -> Result<Client, tokio_postgres::Error> {
    let mut config = config.clone();
    config.ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect_raw(scene.socket().await, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Logs in with encryption.
async fn log_in_by_tls(
    scene: &Scene,
    config: &Config,
    tls: Tls,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = config.clone();
    config.ssl_mode(SslMode::Require);
    let (client, connection) = config.connect_raw(scene.socket().await, tls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The SQLSTATE and the message that somebody is refused with, and the hint.
fn refusal(refused: Result<Client, tokio_postgres::Error>) -> (String, String, String) {
    let error = refused.expect_err("refused");
    let error = error.as_db_error().expect("the server says so");
    (
        error.code().code().to_owned(),
        error.message().to_owned(),
        error.hint().unwrap_or_default().to_owned(),
    )
}

async fn current_user(client: &Client) -> String {
    let row = client.query_one("SELECT current_user", &[]).await;
    row.expect("a row").get(0)
}

async fn scene(env: Env, access: Access) -> Scene {
    let scene = Scene::start_in(env, SqlOptions::new("127.0.0.1:0", access)).await;
    scene.users.add("ann", "hunter2");
    scene
}

/// A scene with a certificate.
async fn encrypted(mut env: Env, access: Access) -> (Scene, Authority) {
    let authority = Authority::new();
    let disk = MemoryDisk::new();
    for (path, text) in [
        ("c.pem", authority.certificate()),
        ("k.pem", authority.key()),
    ] {
        use holdfast_env::Disk;
        disk.write_atomically(path, text.as_bytes())
            .expect("written");
    }
    env.disk = Arc::new(disk);
    let mut options = SqlOptions::new("127.0.0.1:0", access);
    options.certificate = Some(CertificateFiles {
        certificate: "c.pem".to_owned(),
        key: "k.pem".to_owned(),
    });
    let scene = Scene::start_in(env, options).await;
    scene.users.add("ann", "hunter2");
    (scene, authority)
}

#[tokio::test]
async fn the_right_password_lets_a_user_in_and_no_other_does() {
    let scene = scene(Env::system(), Access::default()).await;
    let client = log_in(&scene, &config("ann", Some("hunter2"))).await;
    assert_eq!(current_user(&client.expect("let in")).await, "ann");
    for (user, password) in [
        ("ann", "Hunter2"),
        ("ann", ""),
        ("bob", "hunter2"),
        ("Ann", "hunter2"),
    ] {
        let began = scene.env.clock.monotonic();
        let (code, message, _) = refusal(log_in(&scene, &config(user, Some(password))).await);
        assert_eq!(code, "28P01");
        let expected = format!("password authentication failed for user \"{user}\"");
        assert_eq!(message, expected);
        assert!(
            scene.env.clock.monotonic() - began >= Duration::from_secs(1),
            "guesses are slow"
        );
    }
    // A client without a password goes away by itself.
    assert!(log_in(&scene, &config("ann", None)).await.is_err());
    // From now on with another one.
    scene.users.add("ann", "correct horse");
    assert!(
        log_in(&scene, &config("ann", Some("hunter2")))
            .await
            .is_err()
    );
    let client = log_in(&scene, &config("ann", Some("correct horse"))).await;
    client.expect("let in");
}

#[tokio::test]
async fn who_cannot_come_in_is_told_why() {
    let options = SqlOptions::new("127.0.0.1:0", Access::default());
    let empty = Scene::start(options).await;
    let (code, message, hint) = refusal(log_in(&empty, &config("ann", Some("x"))).await);
    assert_eq!(code, "28000");
    assert!(message.contains("there are no users yet"), "{message}");
    assert!(hint.contains("holdfast user add"), "{hint}");
    assert!(hint.contains("--sql-trust-loopback"), "{hint}");

    let scene = scene(Env::system(), Access::default()).await;
    scene.users.add_unreadable("carol");
    let (code, message, _) = refusal(log_in(&scene, &config("carol", Some("x"))).await);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("57P03", "there is no leader")
    );
}

#[tokio::test]
async fn this_machine_is_trusted_only_when_asked_for() {
    let near = scene(Env::system(), TRUSTING).await;
    let client = log_in(&near, &config("whoever", None)).await;
    assert_eq!(current_user(&client.expect("let in")).await, "whoever");
    let access = Access {
        allows_plaintext: true,
        ..TRUSTING
    };
    let far = scene(far(), access).await;
    let (code, ..) = refusal(log_in(&far, &config("whoever", Some("x"))).await);
    assert_eq!(code, "28P01");
    let client = log_in(&far, &config("ann", Some("hunter2"))).await;
    client.expect("let in");
}

#[tokio::test]
async fn from_other_machines_sessions_are_encrypted() {
    let ann = config("ann", Some("hunter2"));
    let bare = scene(far(), TRUSTING).await;
    let (code, message, hint) = refusal(log_in(&bare, &ann).await);
    assert_eq!(code, "28000");
    assert!(message.contains("must be encrypted"), "{message}");
    assert!(hint.contains("--sql-cert"), "{hint}");

    let (scene, authority) = encrypted(far(), TRUSTING).await;
    let (code, _, hint) = refusal(log_in(&scene, &ann).await);
    assert_eq!(code, "28000");
    assert!(hint.contains("sslmode"), "{hint}");
    let client = log_in_by_tls(&scene, &ann, authority.client(false)).await;
    assert_eq!(current_user(&client.expect("let in")).await, "ann");
    // Encryption alone lets nobody in.
    let wrong = config("ann", Some("x"));
    let (code, ..) = refusal(log_in_by_tls(&scene, &wrong, authority.client(false)).await);
    assert_eq!(code, "28P01");
}

#[tokio::test]
async fn a_password_is_bound_to_the_channel_if_the_client_can() {
    let (scene, authority) = encrypted(Env::system(), Access::default()).await;
    let mut ann = config("ann", Some("hunter2"));
    for binding in [
        ChannelBinding::Disable,
        ChannelBinding::Prefer,
        ChannelBinding::Require,
    ] {
        ann.channel_binding(binding);
        let client = log_in_by_tls(&scene, &ann, authority.client(false)).await;
        client.expect("let in");
    }
    // Somebody in between would have another certificate.
    let (code, ..) = refusal(log_in_by_tls(&scene, &ann, authority.client(true)).await);
    assert_eq!(code, "08P01");
}

#[tokio::test]
async fn a_statement_is_cancelled_over_an_encrypted_connection_too() {
    let (scene, authority) = encrypted(Env::system(), Access::default()).await;
    scene.cluster.submitted_become(holdfast_client::v1::Job {
        state: "running".to_owned(),
        ..holdfast_client::v1::Job::default()
    });
    let ann = config("ann", Some("hunter2"));
    let client = log_in_by_tls(&scene, &ann, authority.client(false)).await;
    let client = client.expect("let in");
    let token = client.cancel_token();
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let socket = scene.socket().await;
        let tls = authority.client(false);
        token.cancel_query_raw(socket, tls).await.expect("sent");
    };
    let (answer, ()) = tokio::join!(client.query("BACKUP INTO 'x'", &[]), cancelling);
    assert_eq!(super::code(&answer.expect_err("cancelled")), "57014");
}

#[tokio::test]
async fn what_comes_in_clear_before_the_handshake_is_refused() {
    let (scene, _) = encrypted(Env::system(), TRUSTING).await;
    let mut socket = scene.socket().await;
    let request = [0, 0, 0, 8, 4, 210, 22, 47];
    let stuffed = [&request[..], &startup(&[("user", "ann")], 0x0003_0000)].concat();
    socket.write_all(&stuffed).await.expect("sent");
    assert_eq!(socket.read_u8().await.expect("an answer"), b'S');
    let said = read_to_end(socket).await;
    assert!(
        said.contains("unencrypted data after SSL request"),
        "{said}"
    );
    // What is no handshake ends the connection.
    let mut socket = scene.socket().await;
    socket.write_all(&request).await.expect("sent");
    assert_eq!(socket.read_u8().await.expect("an answer"), b'S');
    socket.write_all(&[b'x'; 100]).await.expect("sent");
    let mut rest = Vec::new();
    let reading = socket.read_to_end(&mut rest);
    let read = tokio::time::timeout(Duration::from_secs(5), reading).await;
    let _ = read.expect("the server closes the connection");
    // Others are served on, encrypted or not.
    log_in(&scene, &config("ann", None)).await.expect("trusted");
}

#[tokio::test]
async fn a_client_may_begin_with_the_handshake() {
    let (scene, authority) = encrypted(far(), Access::default()).await;
    let mut ann = config("ann", Some("hunter2"));
    ann.ssl_negotiation(SslNegotiation::Direct);
    let protocol: &[&[u8]] = &[b"postgresql"];
    let client = log_in_by_tls(&scene, &ann, authority.client_of(false, protocol)).await;
    assert_eq!(current_user(&client.expect("let in")).await, "ann");
    // Without a request it must have said that it means this protocol.
    let others: [&[&[u8]]; 2] = [&[], &[b"http/1.1"]];
    for protocols in others {
        let tls = authority.client_of(false, protocols);
        let refused = log_in_by_tls(&scene, &ann, tls).await;
        assert!(refused.is_err(), "{protocols:?}");
    }
    // Without a certificate there is nothing to begin with.
    let bare = self::scene(Env::system(), TRUSTING).await;
    let refused = log_in_by_tls(&bare, &ann, authority.client_of(false, protocol)).await;
    assert!(refused.is_err());
}

/// A message of the client's.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).expect("short");
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

#[tokio::test]
async fn clients_that_break_the_log_in_are_told_and_left() {
    let scene = scene(Env::system(), Access::default()).await;
    let hello = startup(&[("user", "ann")], 0x0003_0000);
    for (sent, code) in [
        // A statement before the log-in.
        (message(b'Q', b"SHOW JOBS\0"), "08P01"),
        // A password in clear.
        (message(b'p', b"hunter2\0"), "08P01"),
        (message(b'p', b"SCRAM-SHA-1\0\0\0\0\x01n"), "08P01"),
        (message(b'p', b"SCRAM-SHA-256-PLUS\0\0\0\0\x01n"), "08P01"),
        (message(b'p', b"SCRAM-SHA-256\0\0\0\0\x01n"), "08P01"),
        (message(b'p', b"SCRAM-SHA-256\0\x7f\xff\xff\xffn"), "08P01"),
        // Who was not let in cannot fill the memory.
        ([&b"p"[..], &100_000i32.to_be_bytes()].concat(), "54000"),
    ] {
        let mut socket = scene.socket().await;
        socket.write_all(&hello).await.expect("sent");
        socket.write_all(&sent).await.expect("sent");
        let said = read_to_end(socket).await;
        assert!(
            said.contains("FATAL") && said.contains(code),
            "{sent:?}: {said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }
}
