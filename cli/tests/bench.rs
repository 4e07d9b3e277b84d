//! Every bench runs, on very little data: what `docs/BENCHMARKS.md` shows can be done again.

use std::process::{Command, Stdio};

/// Runs a bench with `--json`; gives what it found.
fn bench(arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .arg("bench")
        .args(arguments)
        .arg("--json")
        .env_remove("HOLDFAST_COORDINATOR")
        .env_remove("HOLDFAST_KEY_FILE")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn number(view: &serde_json::Value, name: &str) -> f64 {
    view[name]
        .as_f64()
        .unwrap_or_else(|| panic!("no {name}: {view}"))
}

#[test]
fn copy() {
    let view = bench(&["copy", "--size-mib", "2"]);
    assert!(number(&view, "stored_bytes") > 0.0);
    assert!(number(&view, "backup_against_copy") > 0.0);
    assert!(number(&view, "restore_against_copy") > 0.0);
}

#[test]
fn kills() {
    let view = bench(&[
        "kills",
        "--rounds",
        "1",
        "--size-mib",
        "24",
        "--part-kib",
        "128",
    ]);
    assert!(number(&view, "leader_killed_idle_max_seconds") > 0.0);
    assert!(number(&view, "leader_killed_redone_bytes") < 1.0);
    // A part is closed by the batch of rows that makes it full, which may be as large again.
    assert!(number(&view, "worker_killed_redone_against_parts") <= 10.0);
}

#[test]
fn memory() {
    let view = bench(&["memory", "--sizes-mib", "2", "--slots", "2"]);
    let table = &view["tables"][0];
    assert!(number(table, "backup_peak_bytes") >= number(table, "idle_bytes"));
    assert!(number(table, "restore_peak_bytes") > 0.0);
}

#[test]
fn spans() {
    let view = bench(&[
        "spans",
        "--spans",
        "1200",
        "--workers",
        "2",
        "--slots",
        "32",
        "--coordinators",
        "3",
    ]);
    assert!(number(&view, "checkpoints_per_second") > 0.0);
    assert!(number(&view, "leader_peak_bytes") > 0.0);
    assert!(number(&view, "raft_commits") > 0.0);
}
