//! `holdfast bench postgres` on very little data: what `docs/BENCHMARKS.md` shows can be done again, and nothing is left on the server.

use holdfast_postgres_testing::{Options, Server};
use holdfast_tests::run;
use serde_json::Value;

/// What a server has that the bench may have left.
const LEFT: &str = "SELECT concat_ws(' ', (SELECT string_agg(datname, ',') FROM pg_database WHERE datname LIKE 'holdfast%'), \
    (SELECT string_agg(slot_name, ',') FROM pg_replication_slots))";

#[test]
fn everything_is_measured_and_nothing_is_left() {
    let server = Server::start(Options::default());
    let to = server.dsn("postgres");
    let line = ["bench", "postgres", "--server", &to, "--json"];
    let little = ["--size-mib", "2", "--rounds", "1"];
    let output = run(&[&line[..], &little].concat());
    assert_eq!(output.code, 0, "{}", output.stderr);
    let view: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let is_near = |bytes: u64| bytes.abs_diff(2 << 20) < 400_000;
    assert!(view["data_bytes"].as_u64().is_some_and(is_near), "{view}");
    assert_eq!(view["machine"]["server_is_here"], true);
    let figures = view["figures"].as_array().expect("figures");
    let of = |name: &str| {
        let mut all = figures.iter();
        let is_it = |figure: &&Value| figure["name"].as_str().is_some_and(|it| it.contains(name));
        all.find(is_it)
            .unwrap_or_else(|| panic!("no {name}: {view}"))
    };
    for name in [
        "COPY TO",
        "holdfast backup",
        "-Z0",
        "-Z1",
        "COPY FROM",
        "pg_restore",
        "holdfast restore",
    ] {
        assert!(
            of(name)["seconds"]
                .as_f64()
                .is_some_and(|seconds| seconds > 0.0),
            "{name}"
        );
        assert!(of(name)["server_cpu_seconds"].is_number(), "{name}");
    }
    let stored = |name: &str| of(name)["stored_bytes"].as_u64().expect("stored bytes");
    assert!(stored("holdfast backup") < stored("-Z0"));
    let unchanged = stored("incremental, unchanged rows, all");
    assert!(unchanged < stored("incremental, scattered rows, all"));
    assert!(
        of("holdfast backup")["peak_bytes"]
            .as_u64()
            .is_some_and(|peak| peak > 1 << 20)
    );
    let ratios = view["ratios"].as_array().expect("ratios");
    let unknown: Vec<_> = ratios
        .iter()
        .filter(|ratio| ratio["ratio"].is_null())
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert_eq!(server.psql("postgres", LEFT).trim(), "");
}

#[test]
fn a_failed_bench_leaves_nothing_either() {
    // Chains need the server's whole log: the bench finds out when the first databases are there.
    let server = Server::start(Options::default().set("wal_level", "replica"));
    let to = server.dsn("postgres");
    let line = ["bench", "postgres", "--server", &to, "--json"];
    let output = run(&[&line[..], &["--size-mib", "1", "--rounds", "1"]].concat());
    assert_ne!(output.code, 0, "{}", output.stdout);
    assert_eq!(
        server.psql("postgres", LEFT).trim(),
        "",
        "{}",
        output.stderr
    );
}
