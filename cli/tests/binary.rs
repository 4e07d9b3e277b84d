//! The built binary: exit codes, what goes to stdout and what to stderr.

use std::process::{Command, Output, Stdio};

/// An address that nobody listens on: bound for a moment, then let go.
fn dead_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

fn holdfast(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(arguments)
        .env_remove("HOLDFAST_COORDINATOR")
        .env_remove("HOLDFAST_KEY_FILE")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn version_is_data() {
    let text = holdfast(&["version"]);
    assert_eq!(code(&text), Some(0));
    assert_eq!(
        stdout(&text),
        format!("holdfast {}\n", env!("CARGO_PKG_VERSION"))
    );
    let json = holdfast(&["version", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn completions_know_the_commands() {
    let output = holdfast(&["completions", "bash"]);
    assert_eq!(code(&output), Some(0));
    assert!(stdout(&output).contains("revision-history"));
}

#[test]
fn bad_usage_is_2_and_says_how() {
    for arguments in [
        &["backup", "bank"][..],
        &["fly"],
        &["restore", "--local", "--from", "file:///nowhere"],
        &["job", "list", "--state", "flying"],
        &["start", "--role", "coordinator"],
        &["start", "--data-dir", "d"],
        &["status", "--coordinator", "nonsense"],
    ] {
        let output = holdfast(arguments);
        assert_eq!(code(&output), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{arguments:?}");
        assert!(stderr(&output).contains("error"), "{arguments:?}");
    }
}

#[test]
fn nobody_there_is_5_with_a_hint_on_stderr() {
    let address = dead_address();
    let output = holdfast(&["mvcc", "status", "--member", &address]);
    assert_eq!(code(&output), Some(5), "{}", stderr(&output));
    assert!(stdout(&output).is_empty());
    assert!(
        stderr(&output).starts_with("error: "),
        "{}",
        stderr(&output)
    );

    let output = holdfast(&["status", "--json", "--coordinator", &address]);
    assert_eq!(code(&output), Some(5), "{}", stderr(&output));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(error["error"]["code"], "unavailable");
    let message = error["error"]["message"].as_str().expect("a message");
    assert!(message.contains(&address), "{message}");
    assert!(error["error"]["hint"].is_string());
}

#[test]
fn a_key_file_is_made_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cluster.key");
    let path = path.to_str().expect("UTF-8");
    assert_eq!(code(&holdfast(&["init", "--key-file", path])), Some(0));
    let key = std::fs::read_to_string(path).expect("a key file");
    assert_eq!(key.len(), 64);
    let again = holdfast(&["init", "--key-file", path]);
    assert_eq!(code(&again), Some(4));
    assert!(stderr(&again).contains("hint: "), "{}", stderr(&again));
    assert_eq!(std::fs::read_to_string(path).expect("a key file"), key);
}

#[test]
fn a_missing_key_file_is_3() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let output = holdfast(&[
        "start",
        "--role",
        "coordinator",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        &path("data"),
        "--key-file",
        &path("missing"),
    ]);
    assert_eq!(code(&output), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("missing"));
}
