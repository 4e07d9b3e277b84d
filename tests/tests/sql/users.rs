//! Users, passwords and TLS, as `psql` meets them.

use super::place::Place;
use holdfast_tests::{free_ports, run};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Passwords that must be seen nowhere.
const CANARIES: [&str; 3] = [
    "canary-of-ann-7d1f",
    "canary-of-bob-93ab",
    "canary-of-bob-c042",
];

/// Files beside the cluster: certificates and passwords.
struct Files(TempDir);

impl Files {
    /// Two authorities, of which the first has signed the server's certificate.
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a temporary directory"));
        let authority = authority("test authority");
        files.put("ca.pem", &authority.pem());
        files.put("stranger.pem", &self::authority("stranger").pem());
        let (certificate, key) = issue(&authority);
        files.put("server.pem", &certificate);
        files.put("server.key", &key);
        files.put("password", &format!("{}\n", CANARIES[0]));
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

fn issue(authority: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// What `psql` says to a user: results and errors.
fn psql(place: &Place, user: &str, password: &str, how: &str, statement: &str) -> String {
    let port = place.sql_port();
    let at = format!("host=localhost hostaddr=127.0.0.1 port={port} user={user} dbname=bank {how}");
    let output = Command::new("psql")
        .args(["-X", "-w", "-At", "-d", &at, "-c", statement])
        .env("PGCONNECT_TIMEOUT", "20")
        .env("PGPASSWORD", password)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .expect("psql starts: run `apt-get install postgresql-15`");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).trim().to_owned()
}

/// Asserts that nothing below a directory holds a text.
fn nowhere_below(directory: &Path, texts: &[&str]) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            nowhere_below(&path, texts);
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file");
        for text in texts {
            let found = bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            assert!(!found, "{text} is in {}", path.display());
        }
    }
}

#[test]
fn users_log_in_over_tls_and_leave_no_password_behind() {
    let files = Files::new();
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let (certificate, key) = (files.path("server.pem"), files.path("server.key"));
    let mut place = Place::start(&[
        "--sql-addr",
        &address,
        "--sql-cert",
        &certificate,
        "--sql-key",
        &key,
    ]);
    let full = format!("sslmode=verify-full sslrootcert={}", files.path("ca.pem"));
    let [ann, bob, bob_next] = CANARIES;
    let current = "SELECT current_user";

    let said = psql(&place, "ann", ann, &full, current);
    assert!(said.contains("there are no users yet"), "{said}");
    let added = place.holdfast(&[
        "user",
        "add",
        "ann",
        "--password-file",
        &files.path("password"),
    ]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    let again = place.holdfast(&[
        "user",
        "add",
        "ann",
        "--password-file",
        &files.path("password"),
    ]);
    assert_eq!(again.code, 4, "{}", again.stderr);
    let listed = place.holdfast(&["--json", "user", "list"]);
    assert_eq!(listed.json()["users"][0]["name"], "ann");

    for how in ["", " channel_binding=require", " channel_binding=disable"] {
        let said = psql(&place, "ann", ann, &format!("{full}{how}"), current);
        assert_eq!(said, "ann", "{how}");
    }
    let clear = psql(&place, "ann", ann, "sslmode=disable", current);
    assert_eq!(clear, "ann", "from this machine");
    for (user, password) in [("ann", bob), ("nobody", ann)] {
        let said = psql(&place, user, password, &full, current);
        let expected = format!("password authentication failed for user \"{user}\"");
        assert!(said.contains(&expected), "{said}");
    }
    let stranger = format!(
        "sslmode=verify-full sslrootcert={}",
        files.path("stranger.pem")
    );
    let said = psql(&place, "ann", ann, &stranger, current);
    assert!(said.contains("certificate verify failed"), "{said}");

    let made = psql(
        &place,
        "ann",
        ann,
        &full,
        &format!("CREATE USER bob PASSWORD '{bob}'"),
    );
    assert_eq!(made, "CREATE ROLE");
    assert_eq!(psql(&place, "bob", bob, &full, current), "bob");
    change_password(&place, &full);
    let said = psql(&place, "bob", bob, &full, current);
    assert!(said.contains("password authentication failed"), "{said}");

    place.restart();
    place.until_psql(|| psql(&place, "bob", bob_next, &full, current) == "bob");
    assert_eq!(psql(&place, "ann", ann, &full, current), "ann");
    let users = psql(
        &place,
        "bob",
        bob_next,
        &full,
        "SELECT username FROM [SHOW USERS]",
    );
    assert_eq!(users, "ann\nbob");
    let dropped = psql(&place, "bob", bob_next, &full, "DROP USER ann");
    assert_eq!(dropped, "DROP ROLE");
    let said = psql(&place, "ann", ann, &full, current);
    assert!(said.contains("password authentication failed"), "{said}");

    let seen = [added.stdout, added.stderr, again.stderr, listed.stdout].concat();
    assert!(CANARIES.iter().all(|canary| !seen.contains(canary)));
    let log = place.log();
    assert!(log.contains("a password for SQL is wrong"), "{log}");
    // Neither passwords nor what they are checked against.
    nowhere_below(place.directory(), &[ann, bob, bob_next, "SCRAM-SHA-256$"]);
}

/// `\password` of psql: the client sends what the server shall check the password against.
fn change_password(place: &Place, how: &str) {
    let [_, bob, bob_next] = CANARIES;
    let port = place.sql_port();
    let at = format!("host=localhost hostaddr=127.0.0.1 port={port} user=bob dbname=bank {how}");
    // Without a terminal psql asks on its standard input.
    let mut psql = Command::new("setsid")
        .args(["--wait", "psql", "-X", "-w", "-d", &at, "-c", "\\password"])
        .env("PGPASSWORD", bob)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql starts");
    let mut stdin = psql.stdin.take().expect("a pipe");
    write!(stdin, "{bob_next}\n{bob_next}\n").expect("psql reads");
    drop(stdin);
    let output = psql.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("ERROR"), "{said}");
}

#[test]
fn files_that_cannot_be_used_keep_a_process_from_starting() {
    let files = Files::new();
    let (certificate, key) = (files.path("server.pem"), files.path("server.key"));
    let (missing, stranger) = (files.path("missing.pem"), files.path("stranger.pem"));
    for (certificate, key, named) in [
        (&missing, &key, &missing),
        (&certificate, &missing, &missing),
        (&key, &key, &key),
        (&certificate, &certificate, &certificate),
        (&stranger, &key, &key),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().to_string_lossy().into_owned();
        let output = run(&[
            "start",
            "--single",
            "--data-dir",
            &data,
            "--listen",
            "127.0.0.1:0",
            "--sql-addr",
            "127.0.0.1:0",
            "--sql-cert",
            certificate,
            "--sql-key",
            key,
        ]);
        assert_ne!(output.code, 0, "{}", output.stdout);
        assert!(output.stderr.contains(named.as_str()), "{}", output.stderr);
        assert!(
            !output.stderr.contains("PRIVATE KEY-----\n"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn passwords_come_from_standard_input_too() {
    let place = Place::start(&["--sql-addr", "127.0.0.1:0"]);
    let added = place.holdfast_with(&["user", "add", "ann", "--password-file", "-"], "hunter2\n");
    assert_eq!(added.code, 0, "{}", added.stderr);
    let current = "SELECT current_user";
    assert_eq!(psql(&place, "ann", "hunter2", "", current), "ann");
    let empty = place.holdfast_with(&["user", "password", "ann", "--password-file", "-"], "");
    assert_eq!(empty.code, 2, "{}", empty.stderr);
    let changed = place.holdfast_with(
        &["user", "password", "ann", "--password-file", "-"],
        "other\n",
    );
    assert_eq!(changed.code, 0, "{}", changed.stderr);
    assert_eq!(psql(&place, "ann", "other", "", current), "ann");
    assert_eq!(place.holdfast(&["user", "drop", "ann"]).code, 0);
    assert_eq!(place.holdfast(&["user", "drop", "ann"]).code, 3);
    let listed = place.holdfast(&["user", "list"]);
    assert!(
        listed.stdout.contains("there are no users"),
        "{}",
        listed.stdout
    );
}
