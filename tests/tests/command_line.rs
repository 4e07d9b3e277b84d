//! The command line as a user meets it: results on stdout, errors that name the thing and the way out, exit codes.

use holdfast_tests::{Accounts, Cluster, Output, Process, Shape, free_ports, run};
use std::time::Duration;

const SMALL: Shape = Shape {
    coordinators: 1,
    zones: 1,
    workers_per_zone: 1,
    slots: 2,
};

/// The binary's commands against one cluster.
struct Cli {
    coordinator: String,
}

impl Cli {
    fn of(cluster: &Cluster) -> Self {
        Self {
            coordinator: cluster.coordinator_addresses().join(","),
        }
    }

    fn run(&self, line: &str) -> Output {
        let mut arguments = vec!["--coordinator", &self.coordinator];
        arguments.extend(line.split_whitespace());
        run(&arguments)
    }

    fn succeeds(&self, line: &str) -> Output {
        let output = self.run(line);
        assert_eq!(output.code, 0, "{line}: {}", output.stderr);
        output
    }

    /// Asserts that a command fails with this exit code, and that its message holds these words.
    fn fails(&self, line: &str, code: i32, words: &[&str]) {
        let output = self.run(line);
        assert_eq!(
            output.code, code,
            "{line}: {}{}",
            output.stdout, output.stderr
        );
        for word in words {
            assert!(
                output.stderr.contains(word),
                "{line}: \"{word}\" is not in: {}",
                output.stderr
            );
        }
        // A job that was followed has its own lines before it.
        assert!(
            output.stderr.lines().any(|it| it.starts_with("error: ")),
            "{line}: {}",
            output.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_named_and_changes_nothing() {
    let cluster = Cluster::start(SMALL).await;
    Accounts::create(cluster.member_addresses(), "bank", 200, 100).await;
    let cli = Cli::of(&cluster);
    let into = cluster.collection();

    cli.fails("job show 4711", 3, &["4711"]);
    cli.fails("job pause 4711", 3, &["4711"]);
    cli.fails(&format!("backup nowhere --into {into}"), 3, &["nowhere"]);
    cli.fails(
        &format!("backup bank --into {into} --table bank.nothing"),
        1,
        &["member m0", "bank.nothing", "hint: "],
    );
    cli.fails(
        "backup bank --into gopher://x/y",
        1,
        &["gopher", "file:///"],
    );
    cli.fails(
        &format!("backup bank --into {into} --append"),
        3,
        &["path does not contain a completed latest backup", &into],
    );
    cli.fails(
        &format!("backup bank --into {into} --as-of 2999-01-01T00:00:00Z"),
        2,
        &["future"],
    );
    cli.fails(&format!("backups show {into}"), 3, &[&into]);
    cli.fails(&format!("restore --from {into}"), 3, &[&into]);
    cli.fails(&format!("verify --from {into}"), 3, &[&into]);

    let full = cli
        .succeeds(&format!("--json backup bank --into {into}"))
        .json();
    let end = full["as_of"].as_str().expect("an end").to_owned();
    // The same end names the same directory.
    cli.fails(
        &format!("backup bank --into {into} --as-of {end}"),
        4,
        &["A full backup already exists in"],
    );
    cli.fails(
        &format!("backup bank --into {into} --append --as-of {end}"),
        4,
        &["must be greater than the previous backup's end time"],
    );
    // Inside the full, which has no history; and after the last layer.
    for (time, reason) in [
        ("2020-01-01T00:00:00Z", "'revision_history' option"),
        (
            "2999-01-01T00:00:00Z",
            "supplied backups do not cover requested time",
        ),
    ] {
        cli.fails(
            &format!("restore --from {into} --database bank --new-db-name x --as-of {time}"),
            4,
            &["invalid RESTORE timestamp", reason],
        );
    }
    cli.fails(
        &format!("restore --from {into} --database bank"),
        1,
        &["database \"bank\" already exists", "hint: "],
    );
    cli.fails(
        &format!("restore --from {into} --database vault --new-db-name x"),
        3,
        &["vault"],
    );
    cli.fails(
        &format!("restore --from {into} --table bank.accounts --into-db nowhere"),
        1,
        &["a database named \"nowhere\" needs to exist to restore table \"accounts\""],
    );
    cli.fails("source add bank --member m0=127.0.0.1:1", 4, &["bank"]);
    cli.fails("source drop nowhere", 3, &["nowhere"]);
    cli.fails("setting set no_such_setting 1", 3, &["no_such_setting"]);
    cli.fails("setting set lease_ttl_ms 1", 2, &["lease_ttl_ms", "500"]);
    cli.fails("init", 4, &["already"]);

    // A time inside an incremental without history names the nearest times that work.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    cli.succeeds(&format!("backup bank --into {into} --append"));
    let wall = end
        .split('.')
        .next()
        .expect("micros")
        .parse::<u64>()
        .expect("micros");
    cli.fails(
        &format!(
            "restore --from {into} --database bank --new-db-name x --as-of {}.0000000000",
            wall + 500_000
        ),
        4,
        &["invalid RESTORE timestamp", "revision_history"],
    );
    let jobs = cli.succeeds("--json job list --all").json();
    assert!(jobs.to_string().contains("succeeded"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_outlives_its_cluster() {
    let mut cluster = Cluster::start(SMALL).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", 2_000, 200).await;
    let cli = Cli::of(&cluster);
    let into = cluster.collection();
    let full = cli
        .succeeds(&format!("--json backup bank --into {into}"))
        .json();
    let end = full["as_of"].as_str().expect("an end").to_owned();
    for process in cluster.workers.iter_mut().chain(&mut cluster.coordinators) {
        process.kill();
    }

    let list = run(&["--json", "backups", "list", &into, "--local"]);
    assert_eq!(list.code, 0, "{}", list.stderr);
    let show = run(&[
        "--json",
        "backups",
        "show",
        &into,
        "--local",
        "--check-files",
    ]);
    assert_eq!(show.code, 0, "{}", show.stderr);
    let verify = run(&["verify", "--local", "--from", &into]);
    assert_eq!(verify.code, 0, "{}", verify.stderr);
    let member = format!("m0={}@zone=z0", cluster.member_addresses()[0]);
    let restore = run(&[
        "restore",
        "--local",
        "--from",
        &into,
        "--member",
        &member,
        "--database",
        "bank",
        "--new-db-name",
        "copy",
    ]);
    assert_eq!(restore.code, 0, "{}", restore.stderr);
    accounts.assert_restored("copy", &end).await;

    // A damaged object is found, named, and never served.
    let object = find(&cluster.directory().join("backups"), "hfs").expect("a span file");
    let mut bytes = std::fs::read(&object).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&object, bytes).expect("writable");
    let name = object
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let verify = run(&["verify", "--local", "--from", &into]);
    assert_eq!(verify.code, 6, "{}", verify.stderr);
    assert!(verify.stderr.contains(&name), "{}", verify.stderr);
    let restore = run(&[
        "restore",
        "--local",
        "--from",
        &into,
        "--member",
        &member,
        "--database",
        "bank",
        "--new-db-name",
        "damaged",
    ]);
    assert_eq!(restore.code, 6, "{}", restore.stderr);
    assert!(restore.stderr.contains(&name), "{}", restore.stderr);
}

fn find(directory: &std::path::Path, extension: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(directory).ok()?.flatten() {
        let path = entry.path();
        let found = if path.is_dir() {
            find(&path, extension)
        } else {
            path.extension()
                .is_some_and(|it| it == extension)
                .then_some(path)
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_a_duplicate_id_and_a_stranger_are_sent_away() {
    let cluster = Cluster::start(SMALL).await;
    let key = cluster
        .directory()
        .join("cluster.key")
        .to_string_lossy()
        .into_owned();
    let join = cluster.coordinator_addresses().join(",");
    let worker = |name: &str| {
        [
            "start",
            "--role",
            "worker",
            "--worker-id",
            name,
            "--join",
            &join,
            "--key-file",
            &key,
        ]
        .map(ToOwned::to_owned)
        .to_vec()
    };
    let mut twin = Process::start("twin", cluster.directory(), worker("w0-0"));
    assert_ne!(twin.wait(Duration::from_secs(20)), 0);
    assert!(twin.log().contains("w0-0"), "{}", twin.log_tail());

    // A coordinator of another cluster is not added.
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let data = cluster
        .directory()
        .join("stranger")
        .to_string_lossy()
        .into_owned();
    let arguments = [
        "start",
        "--role",
        "coordinator",
        "--node-id",
        "9",
        "--listen",
        &address,
        "--data-dir",
        &data,
        "--key-file",
        &key,
    ];
    let _stranger = Process::start(
        "stranger",
        cluster.directory(),
        arguments.map(ToOwned::to_owned).to_vec(),
    );
    let mut made = run(&["--coordinator", &address, "init"]);
    for _ in 0..50 {
        if made.code == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        made = run(&["--coordinator", &address, "init"]);
    }
    assert_eq!(made.code, 0, "{}", made.stderr);
    let cli = Cli::of(&cluster);
    cli.fails(&format!("member add 9={address}"), 4, &["cluster"]);
}
