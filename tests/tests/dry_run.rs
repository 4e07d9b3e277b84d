//! Dry runs of PostgreSQL restores on the command line: what they say, their exit codes, and that the restore then does as they said.

use holdfast_postgres_testing::{Options, Server};
use holdfast_tests::{Cluster, Output, Shape, register_servers, run};

const SHOP: &str = "CREATE TABLE customers (id int PRIMARY KEY, name text); INSERT INTO customers SELECT n, 'c' || n FROM generate_series(1, 500) AS n;
    CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers); INSERT INTO orders (customer) SELECT n FROM generate_series(1, 500) AS n;
    ALTER TABLE orders OWNER TO clerk; GRANT SELECT ON customers TO clerk";

fn ok(output: &Output) {
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
}

/// A server with a shop, and what one command makes of it.
fn backed_up(place: &tempfile::TempDir) -> String {
    let server = Server::start(Options::default());
    server.psql(
        "postgres",
        "CREATE ROLE clerk; CREATE DATABASE shop TEMPLATE template0",
    );
    server.psql("shop", SHOP);
    let into = format!("file://{}/backups", place.path().display());
    let state = format!("{}/state", place.path().display());
    let dsn = server.dsn("shop");
    let line = ["backup", "--source", &dsn, "INTO", &into];
    ok(&run(&[&line[..], &["--state-dir", &state]].concat()));
    into
}

/// Databases and roles: what a restore could have made.
fn made(server: &Server) -> String {
    server.psql(
        "postgres",
        "SELECT string_agg(datname, ',' ORDER BY datname), (SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_')
             FROM pg_database",
    )
}

fn findings(output: &Output, level: &str) -> Vec<String> {
    let json = output.json();
    let members = json["members"].as_array().expect("members");
    let findings = members
        .iter()
        .flat_map(|member| member["check"]["findings"].as_array().expect("findings"));
    let found = findings.filter(|it| it["level"] == level);
    found
        .map(|it| it["object"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_restore_with_one_command_does_what_its_dry_run_says() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let from = backed_up(&place);
    let server = Server::start(Options::default());
    let to = server.dsn("postgres");
    let line = ["restore", "FROM", &from, "--to", &to];
    let named = [&line[..], &["--database", "shop"]].concat();
    let before = made(&server);

    // A database alone brings no roles.
    let output = run(&[&named[..], &["--dry-run"]].concat());
    assert_eq!(output.code, 4, "{}\n{}", output.stdout, output.stderr);
    let first = output.stdout.lines().find(|it| it.contains("REFUSED"));
    let first = first.expect("what stands in the way");
    assert!(
        first.contains("orders") && first.contains("skip_missing_roles"),
        "{first}"
    );
    assert!(
        output.stdout.contains("nothing was changed"),
        "{}",
        output.stdout
    );
    let output = run(&[&["--json"], &named[..], &["--dry-run"]].concat());
    assert_eq!(output.code, 4, "{}", output.stderr);
    let blocks = findings(&output, "blocks");
    assert!(
        blocks.contains(&"shop: table public.orders".to_owned()),
        "{blocks:?}"
    );
    let output = run(&named);
    assert_eq!(output.code, 1, "{}", output.stderr);
    for object in blocks {
        assert!(
            output.stderr.contains(&object),
            "{object}: {}",
            output.stderr
        );
    }
    assert_eq!(made(&server), before, "nothing was made by any of them");

    // With each option the dry run says that it can be, and then it is.
    for (name, option) in [("shop_1", "--no-owner"), ("shop_2", "--skip-missing-roles")] {
        let line = [&named[..], &["--new-db-name", name, option]].concat();
        let before = made(&server);
        let output = run(&[&line[..], &["--dry-run"]].concat());
        ok(&output);
        assert!(
            output.stdout.contains("nothing stands in the way"),
            "{}",
            output.stdout
        );
        assert_eq!(made(&server), before, "{name}");
        ok(&run(&line));
        let facts = "SELECT count(*), (SELECT relowner::regrole FROM pg_class WHERE relname = 'orders') FROM orders";
        assert_eq!(server.psql(name, facts), "500|postgres");
    }
    // Rows are read and compared, and written nowhere.
    let verify = [
        "--new-db-name",
        "shop_3",
        "--no-owner",
        "--schema-only",
        "--verify-backup-table-data",
    ];
    ok(&run(&[&named[..], &verify].concat()));
    assert_eq!(server.psql("shop_3", "SELECT count(*) FROM orders"), "0");

    // The whole brings its roles along.
    let output = run(&[&line[..], &["--dry-run"]].concat());
    ok(&output);
    ok(&run(&line));
    let output = run(&[&line[..], &["--dry-run"]].concat());
    assert_eq!(output.code, 4, "it is there now: {}", output.stdout);
    assert!(output.stdout.contains("REFUSED"), "{}", output.stdout);

    // Single tables, another instant, and a member that there is not.
    let tables = [
        &line[..],
        &["--table", "shop.public.orders", "--into-db", "postgres"],
    ]
    .concat();
    let output = run(&[&tables[..], &["--dry-run"]].concat());
    assert_eq!(output.code, 4, "{}", output.stdout);
    assert!(
        output.stdout.contains("orders_customer_fkey"),
        "{}",
        output.stdout
    );
    let skipping = [&tables[..], &["--skip-missing-foreign-keys"]].concat();
    ok(&run(&[&skipping[..], &["--dry-run"]].concat()));
    ok(&run(&skipping));
    assert_eq!(
        server.psql("postgres", "SELECT count(*) FROM orders"),
        "500"
    );
    let past = ["--as-of", "2001-01-01T00:00:00Z", "--dry-run"];
    let output = run(&[&line[..], &past].concat());
    assert_eq!(output.code, 4, "{}\n{}", output.stdout, output.stderr);
    let other = ["--only", "nobody", "--dry-run"];
    let output = run(&[&line[..], &other].concat());
    assert_ne!(output.code, 0, "{}", output.stdout);
    assert!(output.stderr.contains("nobody"), "{}", output.stderr);
    let state = ["--state-dir", "x", "--dry-run"];
    let output = run(&[&line[..], &state].concat());
    assert_eq!(output.code, 2, "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_looks_at_each_member() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let from = backed_up(&place);
    let shape = Shape {
        coordinators: 1,
        zones: 1,
        workers_per_zone: 1,
        slots: 2,
    };
    let cluster = Cluster::start(shape).await;
    let server = Server::start(Options::default());
    register_servers(&cluster, "copy", &[("server", &server, 0)]).await;
    let coordinator = cluster.coordinator_addresses().join(",");
    let line = [
        "--coordinator",
        &coordinator,
        "restore",
        "--from",
        &from,
        "--into-source",
        "copy",
        "--database",
        "shop",
    ];
    let before = made(&server);
    let output = tokio::task::block_in_place(|| run(&[&line[..], &["--dry-run"]].concat()));
    assert_eq!(output.code, 4, "{}\n{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("member server"), "{}", output.stdout);
    server.psql("postgres", "CREATE ROLE clerk");
    let dry = [&["--json"], &line[..], &["--dry-run"]].concat();
    let output = tokio::task::block_in_place(|| run(&dry));
    ok(&output);
    assert!(findings(&output, "blocks").is_empty());
    let fine = findings(&output, "fine");
    assert!(fine.contains(&"database shop".to_owned()), "{fine:?}");
    assert_eq!(made(&server), before.replace("|", "|clerk,"));
    ok(&tokio::task::block_in_place(|| run(&line)));
    assert_eq!(server.psql("shop", "SELECT count(*) FROM orders"), "500");
}
