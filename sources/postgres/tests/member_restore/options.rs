//! What the options of a restore make of objects, each with what happens without it.

use holdfast_postgres_testing::Server;
use holdfast_source::{CheckLevel, LoggedRestore, LoggedSource, MemberCheck};
use holdfast_types::{ErrorCode, HoldId, RestoreOptions, TableName, Target};

use crate::store::{Counted, Store};
use crate::{hidden, member, renamed, restorer, rows_of};

async fn backed_up(server: &Server, database: &str, tag: &str, hold: u64) -> Store {
    let source = member(server, tag);
    let mut store = Store::default();
    let target = Target::Databases(vec![database.to_owned()]);
    store.backup(&source, hold, target, false, |_| {}).await;
    source.release(HoldId(hold)).await.expect("released");
    store
}

fn with(restore: LoggedRestore, options: RestoreOptions) -> LoggedRestore {
    LoggedRestore { options, ..restore }
}

/// What a dry run says of an object.
fn said<'a>(check: &'a MemberCheck, object: &str) -> (CheckLevel, &'a str) {
    let mut findings = check.findings.iter();
    let found = findings.find(|finding| finding.object.ends_with(object));
    let found = found.unwrap_or_else(|| panic!("{object} in {:#?}", check.findings));
    (found.level, &found.what)
}

const OWNED: &str = "CREATE EXTENSION postgres_fdw; CREATE SCHEMA s AUTHORIZATION \"R\";
    CREATE TABLE s.t (id int PRIMARY KEY, v text); INSERT INTO s.t SELECT n, 'v' FROM generate_series(1, 100) AS n; ALTER TABLE s.t OWNER TO \"R\";
    ALTER TABLE s.t ENABLE ROW LEVEL SECURITY;
    CREATE POLICY pair ON s.t FOR SELECT TO \"R\", \"K\" USING (id > 1);
    CREATE POLICY one ON s.t AS RESTRICTIVE FOR ALL TO \"R\" USING (id > 2); COMMENT ON POLICY one ON s.t IS 'only for one';
    CREATE POLICY everybody ON s.t FOR DELETE USING (false);
    CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw; ALTER SERVER elsewhere OWNER TO \"K\";
    CREATE USER MAPPING FOR \"R\" SERVER elsewhere; CREATE USER MAPPING FOR \"K\" SERVER elsewhere;
    CREATE FUNCTION s.f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION s.f(int) OWNER TO \"R\";
    SELECT lo_from_bytea(4711, 'large'); ALTER LARGE OBJECT 4711 OWNER TO \"R\"; GRANT SELECT ON LARGE OBJECT 4711 TO \"K\";
    GRANT SELECT ON s.t TO \"K\"; GRANT CREATE ON DATABASE \"D\" TO \"K\"; REVOKE ALL ON DATABASE \"D\" FROM PUBLIC; ALTER DATABASE \"D\" OWNER TO \"R\"";

fn owners(server: &Server, database: &str) -> String {
    server.psql(
        database,
        "SELECT 'schema', nspowner::regrole FROM pg_namespace WHERE nspname = 's' UNION ALL
         SELECT 'table', relowner::regrole FROM pg_class WHERE oid = 's.t'::regclass UNION ALL
         SELECT 'function', proowner::regrole FROM pg_proc WHERE proname = 'f' AND pronamespace = 's'::regnamespace UNION ALL
         SELECT 'object', lomowner::regrole FROM pg_largeobject_metadata UNION ALL
         SELECT 'server', srvowner::regrole FROM pg_foreign_server UNION ALL
         SELECT 'database', datdba::regrole FROM pg_database WHERE datname = current_database()",
    )
}

fn rights(server: &Server, database: &str) -> String {
    server.psql(
        database,
        "SELECT polname, polpermissive, array_to_string(ARRAY(SELECT r::regrole::text FROM unnest(polroles) AS r), ',') FROM pg_policy ORDER BY 1;
         SELECT usename FROM pg_user_mappings ORDER BY 1;
         SELECT lo_get(4711)",
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_roles_that_are_gone_is_refused_or_the_restoring_roles() {
    let server = Server::shared();
    let database = server.create_database("owned");
    let (lost, kept) = (format!("{database}_lost"), format!("{database}_kept"));
    server.psql(
        "postgres",
        &format!("CREATE ROLE \"{lost}\"; CREATE ROLE \"{kept}\""),
    );
    let names = [("\"R\"", &lost), ("\"K\"", &kept), ("\"D\"", &database)];
    let sql = names.iter().fold(OWNED.to_owned(), |sql, (from, to)| {
        sql.replace(from, &format!("\"{to}\""))
    });
    server.psql(&database, &sql);
    let store = backed_up(server, &database, "options1", 20).await;
    let options = RestoreOptions::default;
    let worker = restorer(server);

    // Everything belongs to whoever restores, though the owners are there.
    let name = format!("{database}_mine");
    let mine = RestoreOptions {
        owners: false,
        ..options()
    };
    let restore = with(renamed(2000, &database, &name, None), mine);
    store.restore(&worker, &restore).await.expect("restored");
    let all_mine = owners(server, &name);
    assert!(
        all_mine.lines().count() == 6 && all_mine.lines().all(|line| line.ends_with("|postgres")),
        "{all_mine}"
    );
    assert_eq!(rights(server, &name), rights(server, &database));
    assert_eq!(
        server.psql(
            "postgres",
            &format!("SELECT has_database_privilege('{kept}', '{name}', 'CREATE'), has_database_privilege('{lost}', '{name}', 'CONNECT')")
        ),
        "t|f",
        "as closed as it was"
    );

    server.psql("postgres", &format!("DROP DATABASE \"{name}\""));
    server.psql(
        &database,
        &format!("REASSIGN OWNED BY \"{lost}\" TO postgres; DROP OWNED BY \"{lost}\"; DROP USER MAPPING IF EXISTS FOR \"{lost}\" SERVER elsewhere; DROP ROLE \"{lost}\""),
    );
    // Refused, with all that stands against it, and nothing is made.
    let restore = renamed(2001, &database, &name, None);
    let fault = worker.begin(&restore, &store).await.expect_err("no owner");
    for object in [
        "database",
        "schema s",
        "table s.t",
        "function s.f(a int",
        "policy s.t pair",
        "user mapping",
        "large objects",
    ] {
        let start = object.split('(').next().unwrap_or_default();
        assert!(fault.message.contains(start), "{object}: {fault}");
    }
    let hint = fault.hint.clone().unwrap_or_default();
    assert!(hint.contains("skip_missing_roles"), "{hint}");
    assert_eq!(hidden(server, 2001, &[]), "");
    let check = worker.check(&restore, &store).await.expect("looked at");
    assert_eq!(said(&check, "table s.t").0, CheckLevel::Blocks);
    // Without owners what names a missing role still stands in the way.
    let restore = with(restore, mine);
    let check = worker.check(&restore, &store).await.expect("looked at");
    let blocking: Vec<_> = check.blocking().map(|it| it.object.as_str()).collect();
    assert!(
        blocking.len() == 3
            && blocking
                .iter()
                .all(|it| it.contains("policy") || it.contains("user mapping")),
        "{blocking:?}"
    );

    let skip = RestoreOptions {
        skip_missing_roles: true,
        ..options()
    };
    let restore = with(renamed(2002, &database, &name, None), skip);
    let check = worker.check(&restore, &store).await.expect("looked at");
    assert_eq!(check.blocking().count(), 0, "{:#?}", check.findings);
    for (object, what) in [
        ("table s.t", "belongs to the role that restores"),
        (name.as_str(), "belongs to the role that restores"),
        ("policy s.t pair", "not for roles that do not exist"),
        ("policy s.t one", "left out"),
        ("1 large objects", "belong to the role that restores"),
    ] {
        let (level, text) = said(&check, object);
        assert!(
            level == CheckLevel::Handled && text.contains(what),
            "{object}: {text}"
        );
    }
    store.restore(&worker, &restore).await.expect("restored");
    let kept_owns = format!("server|{kept}");
    for line in owners(server, &name).lines() {
        assert!(
            line.ends_with("|postgres") || line.replace('"', "") == kept_owns,
            "{line}"
        );
    }
    let policies = server.psql(
        &name,
        "SELECT polname, array_to_string(ARRAY(SELECT r::regrole::text FROM unnest(polroles) AS r), ',') FROM pg_policy ORDER BY 1",
    );
    assert_eq!(
        policies.replace('"', ""),
        format!("everybody|-\npair|{kept}"),
        "never for everybody"
    );
    assert_eq!(
        server.psql(&name, "SELECT usename FROM pg_user_mappings"),
        kept
    );
    let object = "SELECT lo_get(4711), has_table_privilege('ROLE', 's.t', 'SELECT'), lomacl::text LIKE '%ROLE%' FROM pg_largeobject_metadata";
    assert_eq!(
        server.psql(&name, &object.replace("ROLE", &kept)),
        "\\x6c61726765|t|t"
    );
    assert_eq!(rows_of(server, &name), rows_of(server, &database));
}

const BORROWERS: &str = "CREATE SCHEMA far; CREATE SEQUENCE far.free; CREATE SEQUENCE near_free; SELECT nextval('near_free') FROM generate_series(1, 40);
    CREATE TABLE lender (id serial PRIMARY KEY); INSERT INTO lender SELECT FROM generate_series(1, 30);
    CREATE TABLE borrower (id int PRIMARY KEY DEFAULT nextval('near_free'), a int DEFAULT nextval('lender_id_seq'));
    CREATE TABLE distant (id serial PRIMARY KEY, b int DEFAULT nextval('far.free'));
    INSERT INTO borrower SELECT FROM generate_series(1, 10); INSERT INTO distant SELECT FROM generate_series(1, 10)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_of_others_come_along_without_their_owner_or_are_left_out_or_refused() {
    let server = Server::shared();
    let database = server.create_database("borrow");
    server.psql(&database, BORROWERS);
    let store = backed_up(server, &database, "options2", 21).await;
    let worker = restorer(server);
    let tables = |job: u64, into: &str, names: &[&str], options: RestoreOptions| LoggedRestore {
        target: Target::Tables(
            names
                .iter()
                .map(|name| TableName {
                    database: database.clone(),
                    table: format!("public.{name}"),
                })
                .collect(),
        ),
        into_existing: true,
        options,
        ..renamed(job, &database, into, None)
    };
    let plain = RestoreOptions::default();
    let unowned = RestoreOptions {
        skip_missing_sequence_owners: true,
        ..plain
    };
    let without = RestoreOptions {
        skip_missing_sequences: true,
        ..plain
    };
    let defaults = |database: &str| {
        server.psql(
            database,
            "SELECT c.relname, a.attname, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d JOIN pg_class AS c ON c.oid = adrelid
                 JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = adnum ORDER BY 1, 2",
        )
    };

    // Refused by dry run and beginning alike, naming the sequence.
    let other = server.create_database("borrowed1");
    let restore = tables(2100, &other, &["borrower"], plain);
    let check = worker.check(&restore, &store).await.expect("looked at");
    let (level, what) = said(&check, "sequence public.lender_id_seq");
    assert!(
        level == CheckLevel::Blocks && what.contains("table public.lender"),
        "{what}"
    );
    assert_eq!(check.blocking().count(), 1, "{:#?}", check.findings);
    let fault = worker.begin(&restore, &store).await.expect_err("refused");
    assert!(fault.message.contains("lender_id_seq"), "{fault}");
    assert_eq!(hidden(server, 2100, &[&other]), "");

    // Without its owner; and both sequences go on where they were.
    let restore = tables(2101, &other, &["borrower"], unowned);
    let check = worker.check(&restore, &store).await.expect("looked at");
    let (level, what) = said(&check, "sequence public.lender_id_seq");
    assert!(
        level == CheckLevel::Handled && what.contains("belongs to no column"),
        "{what}"
    );
    store.restore(&worker, &restore).await.expect("restored");
    assert_eq!(
        defaults(&other),
        "borrower|a|nextval('lender_id_seq'::regclass)\nborrower|id|nextval('near_free'::regclass)"
    );
    assert_eq!(
        server.psql(
            &other,
            "INSERT INTO borrower DEFAULT VALUES RETURNING id, a"
        ),
        "51|41",
        "no number is given out twice"
    );

    // The default is left out, of the sequence of another table and of one that is out of reach; others stay.
    let other = server.create_database("borrowed2");
    let both = ["borrower", "distant"];
    let restore = tables(2102, &other, &both, unowned);
    let fault = worker.begin(&restore, &store).await.expect_err("far away");
    assert!(fault.message.contains("far.free"), "{fault}");
    let restore = tables(2103, &other, &both, without);
    let check = worker.check(&restore, &store).await.expect("looked at");
    assert_eq!(check.blocking().count(), 0, "{:#?}", check.findings);
    for sequence in ["sequence far.free", "sequence public.lender_id_seq"] {
        let (level, what) = said(&check, sequence);
        assert!(
            level == CheckLevel::Handled && what.contains("defaults that use it are left out"),
            "{sequence}: {what}"
        );
    }
    store.restore(&worker, &restore).await.expect("restored");
    assert_eq!(
        defaults(&other),
        "borrower|id|nextval('near_free'::regclass)\ndistant|id|nextval('distant_id_seq'::regclass)"
    );

    // Where the sequences are they are used, whatever the options say.
    server.psql(&database, "DROP TABLE borrower, distant");
    let restore = tables(2104, &database, &both, plain);
    let check = worker.check(&restore, &store).await.expect("looked at");
    let (_, what) = said(&check, "sequence far.free");
    assert!(what.contains("the one that is there is used"), "{what}");
    store.restore(&worker, &restore).await.expect("restored");
    assert_eq!(defaults(&database).lines().count(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_verified_and_written_nowhere() {
    let server = Server::shared();
    let database = server.create_database("verified");
    server.psql(
        &database,
        "CREATE TABLE keyed (id int PRIMARY KEY, v text); INSERT INTO keyed SELECT n, repeat(md5(n::text), 9) FROM generate_series(1, 900) AS n;
         CREATE TABLE whole (v text); INSERT INTO whole SELECT md5(n::text) FROM generate_series(1, 700) AS n;
         CREATE UNLOGGED TABLE fleeting (v text); INSERT INTO fleeting SELECT md5(n::text) FROM generate_series(1, 70) AS n;
         SELECT lo_from_bytea(4712, 'large')",
    );
    let mut store = backed_up(server, &database, "options3", 22).await;
    let verify = RestoreOptions {
        schema_only: true,
        verify_data: true,
        ..RestoreOptions::default()
    };
    let name = format!("{database}_v");
    let restore = with(renamed(2200, &database, &name, None), verify);
    // Stopped in the middle, by one worker, and gone on with by another: what was read is not read again.
    let mut progress = Counted {
        stop_at: Some(3),
        ..Counted::default()
    };
    let stopped = store.load(&restorer(server), &restore, &mut progress).await;
    stopped.expect_err("stopped");
    let before = progress.rows;
    let worker = restorer(server);
    let mut progress = Counted::default();
    let after = store.load(&worker, &restore, &mut progress).await;
    let after = after.expect("read");
    assert!(before > 0 && after > 0, "{before} {after}");
    assert_eq!(before + after, 1670);
    let sum = worker.finish(&restore, &store).await.expect("the same");
    assert_eq!(sum.rows.0, 1670);
    let counts = "SELECT (SELECT count(*) FROM keyed), (SELECT count(*) FROM whole), (SELECT count(*) FROM fleeting),
         (SELECT count(*) FROM pg_largeobject_metadata)";
    assert_eq!(server.psql(&name, counts), "0|0|0|0");

    // Without the option nothing is read, so that what is lost is not noticed; with it, it is.
    store.lose_rows(0);
    let plain = RestoreOptions {
        verify_data: false,
        ..verify
    };
    let name = format!("{database}_p");
    let restore = with(renamed(2201, &database, &name, None), plain);
    store.restore(&worker, &restore).await.expect("no row");
    assert_eq!(server.psql(&name, counts), "0|0|0|0");
    let name = format!("{database}_d");
    let restore = with(renamed(2202, &database, &name, None), verify);
    let fault = store.restore(&worker, &restore).await;
    let fault = fault.expect_err("rows are missing");
    assert_eq!(fault.code, ErrorCode::Corrupted, "{fault}");
    assert!(fault.message.contains("whole"), "{fault}");
    worker.discard(restore.job).await.expect("discarded");
    assert_eq!(hidden(server, 2202, &[]), "");
}
