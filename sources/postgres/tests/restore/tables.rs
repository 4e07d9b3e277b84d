//! Single tables into a database that lives.

use crate::support::{
    Backup, LANES, Watch, contents, load_table, make_everything, schema_text, target,
};
use holdfast_env::Env;
use holdfast_postgres::restore::{RestoreName, StagedTable, TableRestore};
use holdfast_postgres::schema::DumpTool;
use holdfast_postgres_testing::Server;
use holdfast_types::{ErrorCode, Fault, JobId};

fn staged(
    backup: &Backup,
    schema: &str,
    name: &str,
    to_schema: &str,
    to_name: &str,
) -> StagedTable {
    let entry = backup
        .archive
        .entries
        .iter()
        .find(|entry| {
            entry.label == "TABLE" && entry.schema.as_deref() == Some(schema) && entry.name == name
        })
        .expect("such a table");
    StagedTable {
        oid: entry.oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        to_schema: to_schema.to_owned(),
        to_name: to_name.to_owned(),
    }
}

fn restore(
    server: &Server,
    backup: &Backup,
    job: u64,
    database: &str,
    tables: &[StagedTable],
) -> TableRestore {
    let name = RestoreName::new(JobId(job), 0);
    TableRestore::new(
        target(server),
        name,
        backup.facts.clone(),
        database,
        tables.to_vec(),
    )
}

async fn fill(
    backup: &Backup,
    restore: &TableRestore,
    tables: &[StagedTable],
    watch: &Watch,
) -> Result<(), Fault> {
    let tool = DumpTool::find(&Env::system(), 15, None).await?;
    restore.prepare(&backup.archive, &tool, watch).await?;
    watch.tick();
    let session = restore.session().await?;
    for table in tables {
        if let Some(rows) = backup.tables.iter().find(|other| other.oid == table.oid) {
            let target = restore.load_target(&rows.layout).expect("a stage");
            load_table(
                &session,
                restore.marks(),
                &crate::support::Table {
                    target,
                    oid: rows.oid,
                    layout: rows.layout.clone(),
                    rows: rows.rows.clone(),
                },
            )
            .await?;
            watch.tick();
        }
    }
    restore.sequences(&backup.sequences).await?;
    restore.finish(LANES, watch).await
}

/// Lines of a dump without what depends on the name of a table's schema.
fn columns_and_indexes(server: &Server, database: &str, table: &str) -> String {
    server.psql(
        database,
        &format!(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, pg_get_expr(adbin, adrelid), attstorage
                 FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
                 WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname;
             SELECT contype, pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE conrelid = '{table}'::regclass ORDER BY 1, 2;
             SELECT polname, polcmd, polroles::regrole[], pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = '{table}'::regclass ORDER BY 1;
             SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND NOT tgisinternal ORDER BY 1;
             SELECT relacl, relowner::regrole, relrowsecurity, obj_description(oid, 'pg_class') FROM pg_class WHERE oid = '{table}'::regclass;
             SELECT indisunique, indisprimary, pg_get_expr(indpred, indrelid), indkey FROM pg_index WHERE indrelid = '{table}'::regclass ORDER BY 1, 2, 3, 4;
             SELECT md5(string_agg(t::text, '|' ORDER BY t::text COLLATE \"C\")) FROM {table} AS t"
        ),
    )
}

/// In a dropped and added column the order of the numbers differs; there is none in this table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_comes_back_beside_itself_under_a_new_name_and_in_another_schema() {
    let server = Server::shared();
    let database = make_everything(server);
    // The event triggers of the fixture forbid new tables.
    server.psql(&database, "ALTER EVENT TRIGGER no_ddl DISABLE");
    let backup = Backup::take(server, &database).await;
    let before = (
        schema_text(server, &database, None, false),
        contents(server, &database),
    );
    let tables = [
        staged(&backup, "app", "customer", "app", "customer_old"),
        staged(&backup, "app", "tree", "fresh", "tree"),
        staged(&backup, "app", "comment", "fresh", "cömment \"x\""),
    ];
    let restore = restore(server, &backup, 201, &database, &tables);
    fill(&backup, &restore, &tables, &Watch::default())
        .await
        .expect("filled");
    let of = |table: &str| columns_and_indexes(server, &database, table);
    // Nothing is to be seen yet.
    assert_eq!(
        server.psql(
            &database,
            "SELECT to_regclass('app.customer_old'), to_regnamespace('fresh')"
        ),
        "|"
    );
    restore.publish().await.expect("published");
    restore.publish().await.expect("said once more");
    restore.discard().await.expect("nothing to throw away");
    let old = of("app.customer")
        .replace("customer_code_seq", "SEQ")
        .replace("app.customer_id_seq", "SEQ");
    assert_eq!(old, of("app.customer_old"));
    let names = server.psql(
        &database,
        "SELECT c.relname FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid WHERE indrelid = 'app.customer_old'::regclass ORDER BY 1",
    );
    assert!(
        names.contains("customer_old_pkey") && names.contains("customer_old_name"),
        "{names}"
    );
    // A foreign key follows the table that was restored with it.
    let keys = server.psql(
        &database,
        "SELECT confrelid::regclass FROM pg_constraint WHERE conrelid = 'fresh.\"cömment \"\"x\"\"\"'::regclass AND contype = 'f' ORDER BY 1::text",
    );
    assert!(
        keys.contains("app.customer_old") && keys.contains("app.event"),
        "{keys}"
    );
    server.psql(
        &database,
        "INSERT INTO app.customer_old (name, email, level, note) OVERRIDING USER VALUE VALUES ('next', 'next@x', 3, 'n');
         DROP TABLE fresh.\"cömment \"\"x\"\"\", app.customer_old, fresh.tree; DROP SCHEMA fresh",
    );
    // The original did not change by a hair.
    assert_eq!(before.0, schema_text(server, &database, None, false));
    assert_eq!(before.1, contents(server, &database));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_bring_what_they_need_into_another_database_and_can_be_killed_or_discarded() {
    let server = Server::shared();
    let database = make_everything(server);
    let backup = Backup::take(server, &database).await;
    let other = server.create_database("other");
    server.psql(
        &other,
        "CREATE EXTENSION hstore SCHEMA public; CREATE EXTENSION citext SCHEMA public; CREATE SCHEMA app; CREATE TABLE app.hen ();",
    );
    let empty = schema_text(server, &other, None, false);
    let bare = server.create_database("bare");
    let one = [staged(&backup, "app", "customer", "app", "customer")];
    let lacking = restore(server, &backup, 205, &bare, &one);
    let fault = fill(&backup, &lacking, &one, &Watch::default())
        .await
        .expect_err("refused");
    assert!(fault.message.contains("need extension citext"), "{fault}");
    lacking.discard().await.expect("discarded");
    assert_eq!(
        server.psql(
            &bare,
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'holdfast%'"
        ),
        ""
    );
    assert_eq!(
        server.psql(
            "postgres",
            "SELECT datname FROM pg_database WHERE datname LIKE '%_205_%'"
        ),
        ""
    );
    let odd = ("odd \"schema\" naïve", "ta\"ble\n; DROP TABLE x; --");
    let tables = [
        staged(&backup, "app", "customer", "app", "customer"),
        staged(&backup, "app", "event", "app", "event"),
        staged(&backup, "app", "event_2024", "app", "event_2024"),
        staged(&backup, "app", "typed", "app", "typed"),
        staged(&backup, "public", "a_checked", "public", "a_checked"),
        staged(&backup, "public", "a_domain", "public", "a_domain"),
        staged(&backup, "public", "allowed", "public", "allowed"),
        staged(&backup, odd.0, odd.1, odd.0, odd.1),
    ];
    // The foreign key of `event` points to a table that is not there.
    let refused = restore(server, &backup, 202, &other, &tables);
    let fault = fill(&backup, &refused, &tables, &Watch::default())
        .await
        .expect_err("refused");
    assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");
    assert!(
        fault
            .hint
            .expect("a way out")
            .contains("skip_missing_foreign_keys")
    );
    refused.discard().await.expect("discarded");
    assert_eq!(empty, schema_text(server, &other, None, false));

    let mut kills = 0;
    for die_at in (1..).step_by(4) {
        let watch = Watch {
            die_at: Some(die_at),
            ..Watch::default()
        };
        let restore = restore(server, &backup, 203, &other, &tables).skip_missing_foreign_keys();
        let done = tokio::select! {
            biased;
            () = watch.dying.notified() => false,
            outcome = fill(&backup, &restore, &tables, &watch) => { outcome.expect("goes on"); true }
        };
        if kills == 3 {
            restore.discard().await.expect("discarded");
            assert_eq!(empty, schema_text(server, &other, None, false));
        }
        kills += 1;
        if done {
            restore.publish().await.expect("published");
            break;
        }
    }
    assert!(kills > 5, "{kills}");
    for table in [
        "app.customer",
        "app.event",
        "app.event_2024",
        "app.typed",
        "a_checked",
        "a_domain",
        "allowed",
    ] {
        let sum = format!(
            "SET timezone = 'UTC'; SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text COLLATE \"C\")) FROM ONLY {table} AS t"
        );
        assert_eq!(
            server.psql(&database, &sum),
            server.psql(&other, &sum),
            "{table}"
        );
    }
    assert_eq!(
        server
            .psql(&other, "SELECT count(*) FROM app.event")
            .as_str(),
        server
            .psql(&database, "SELECT count(*) FROM app.event_2024")
            .as_str()
    );
    assert_eq!(
        server.psql(
            &other,
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'holdfast%'"
        ),
        ""
    );
    let serial = "SELECT nextval(pg_get_serial_sequence('\"odd \"\"schema\"\" naïve\".\"ta\"\"ble\n; DROP TABLE x; --\"', E'id \" of\\nit'))";
    assert_eq!(server.psql(&other, serial), "31");
    // A name that is taken is refused, and nothing is left of it.
    let again = restore(server, &backup, 204, &other, &tables).skip_missing_foreign_keys();
    let fault = fill(&backup, &again, &tables, &Watch::default())
        .await
        .expect_err("taken");
    assert_eq!(fault.code, ErrorCode::AlreadyExists, "{fault}");
    again.discard().await.expect("discarded");
}
