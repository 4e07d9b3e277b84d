//! A backup as simple as can be (everything under one snapshot, held in memory), to test restores with.

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use holdfast_env::Env;
use holdfast_postgres::catalog;
use holdfast_postgres::copy::CopyRows;
use holdfast_postgres::dsn::Dsn;
use holdfast_postgres::fingerprint::fingerprint;
use holdfast_postgres::globals::DatabaseFacts;
use holdfast_postgres::large_objects::{self, LargeObject, LargeObjectChunk};
use holdfast_postgres::layout::{Layout, Oid};
use holdfast_postgres::restore::{
    DatabaseRestore, IndexLanes, LoadTarget, Marks, MaterializedView, Progress, RestoreName,
    Target, load,
};
use holdfast_postgres::schema::{Archive, DumpOptions, DumpTool, Plan, PlanOptions, dump};
use holdfast_postgres::sequences::{self, SequenceValue, SetTo};
use holdfast_postgres::session::{Purpose, Session};
use holdfast_postgres::tuple::Tuple;
use holdfast_postgres_testing::Server;
use holdfast_types::{Fault, JobId, RowSum};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const EVERYTHING: &str = concat!(
    include_str!("../fixtures/every_object_kind.sql"),
    include_str!("../fixtures/more_object_kinds.sql")
);

pub(crate) const LANES: IndexLanes = IndexLanes {
    lanes: 3,
    memory: 192,
};

/// Rows of a part: small, so that tables have several.
const PART: usize = 120;

pub(crate) fn dsn(server: &Server, database: &str) -> Dsn {
    server.dsn(database).parse().expect("a connection string")
}

pub(crate) fn target(server: &Server) -> Target {
    Target::new(Env::system(), dsn(server, "postgres"))
}

pub(crate) async fn session(server: &Server, database: &str) -> Session {
    Session::connect(&Env::system(), &dsn(server, database), Purpose::Control)
        .await
        .expect("connects")
}

/// A session whose texts are never converted.
pub(crate) async fn data_session(server: &Server, database: &str) -> Session {
    Session::connect(&Env::system(), &dsn(server, database), Purpose::Data)
        .await
        .expect("connects")
}

/// Makes a database of the fixture, and the roles that it needs.
pub(crate) fn make_everything(server: &Server) -> String {
    for role in ["hf_owner", "hf_reader", "\"hf Odd\"\"Role\""] {
        // Another test may have made it.
        let _ = server.try_psql("postgres", &format!("CREATE ROLE {role}"));
    }
    let database = server.create_database("everything");
    server.psql(&database, EVERYTHING);
    server.psql(
        &database,
        &format!(
            "ALTER DATABASE {database} SET timezone = 'Asia/Tokyo'; COMMENT ON DATABASE {database} IS 'all of it';
             ALTER DATABASE {database} OWNER TO hf_owner; GRANT CREATE ON DATABASE {database} TO hf_reader;
             ALTER ROLE hf_reader IN DATABASE {database} SET search_path = app, \"$user\", public"
        ),
    );
    database
}

pub(crate) struct Table {
    pub layout: Layout,
    pub target: LoadTarget,
    pub oid: Oid,
    pub rows: Vec<Tuple>,
}

pub(crate) struct Backup {
    pub facts: DatabaseFacts,
    pub archive: Archive,
    pub views: Vec<MaterializedView>,
    pub sequences: Vec<SequenceValue>,
    pub tables: Vec<Table>,
    pub objects: Vec<LargeObject>,
    pub chunks: Vec<LargeObjectChunk>,
}

impl Backup {
    pub(crate) async fn take(server: &Server, database: &str) -> Self {
        let env = Env::system();
        let session = session(server, database).await;
        let facts = DatabaseFacts::capture(&session).await.expect("facts");
        let newer = holdfast_postgres_testing::client_tools_18();
        let preferred = (facts.server_major > 15).then(|| newer.display().to_string());
        let tool = DumpTool::find(&env, facts.server_major, preferred.as_deref())
            .await
            .expect("pg_dump");
        let bytes = dump(&tool, &dsn(server, database), &DumpOptions::default())
            .await
            .expect("dumped");
        let archive = Archive::parse(&bytes).expect("parsed");
        let objects = large_objects::list(&session, Oid(0), 1000)
            .await
            .expect("large objects");
        let all = (Oid(0), Oid(u32::MAX));
        assert!(
            large_objects::can_read_pages(&session)
                .await
                .expect("asked")
        );
        let chunks = large_objects::read_pages(&session, all.0, all.1)
            .await
            .expect("pages")
            .try_collect()
            .await
            .expect("pages");
        Self {
            archive,
            views: MaterializedView::capture(&session).await.expect("views"),
            sequences: sequences::capture(&session, &|_| true)
                .await
                .expect("sequences"),
            tables: tables(&session, &data_session(server, database).await, &facts).await,
            objects,
            chunks,
            facts,
        }
    }
}

/// All relations with rows of their own, and the rows.
async fn tables(session: &Session, data: &Session, facts: &DatabaseFacts) -> Vec<Table> {
    let mut list = Vec::new();
    for relation in catalog::read(session).await.expect("the catalog") {
        let layout = relation.layout;
        if !layout.handling.has_rows() {
            continue;
        }
        let target = LoadTarget::of(&layout, facts);
        list.push(Table {
            rows: read(data, &target).await,
            oid: layout.oid,
            target,
            layout,
        });
    }
    list
}

pub(crate) async fn read(session: &Session, target: &LoadTarget) -> Vec<Tuple> {
    let spelling = session.spelling();
    let table = spelling.qualified(&target.schema, &target.table);
    if target.columns.is_empty() {
        let sql = format!("SELECT count(*) FROM {table}");
        let count: i64 = session.query_one(&sql, &[]).await.expect("count").get(0);
        let empty = || Tuple::parse(Bytes::from_static(&[0, 0]), 0).expect("empty");
        return (0..count).map(|_| empty()).collect();
    }
    let columns: Vec<String> = target
        .columns
        .iter()
        .map(|column| match column.as_text {
            true => format!("{}::text", spelling.identifier(&column.name)),
            false => spelling.identifier(&column.name),
        })
        .collect();
    let sql = format!(
        "COPY (SELECT {} FROM ONLY {table}) TO STDOUT (FORMAT binary)",
        columns.join(", ")
    );
    let stream = session.copy_out(&sql).await.expect("copy");
    let mut rows = CopyRows::new(stream, target.columns.len());
    let mut list = Vec::new();
    while let Some(row) = rows.next().await.expect("row") {
        list.push(row);
    }
    list
}

pub(crate) fn stream_of(rows: &[Tuple]) -> impl Stream<Item = Result<Tuple, Fault>> + Send + use<> {
    stream::iter(rows.to_vec()).map(Ok)
}

pub(crate) async fn load_table(
    session: &Session,
    marks: &Marks,
    table: &Table,
) -> Result<(), Fault> {
    for (number, part) in table.rows.chunks(PART).enumerate() {
        let mark = format!("{}/{number}", table.oid);
        load(session, marks, &table.target, &mark, stream_of(part)).await?;
    }
    Ok(())
}

/// Counts steps, keeps warnings, and says when to die.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub steps: AtomicUsize,
    pub warnings: Mutex<Vec<String>>,
    pub die_at: Option<usize>,
    pub dying: tokio::sync::Notify,
}

impl Watch {
    pub(crate) fn tick(&self) {
        let now = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if self.die_at == Some(now) {
            self.dying.notify_one();
        }
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().expect("not poisoned").clone()
    }
}

impl Progress for Watch {
    fn phase(&self, _phase: &'static str, _steps: usize, _bytes: u64) {}

    fn started(&self, _name: &str) {}

    fn ended(&self, _name: &str, _bytes: u64) {
        self.tick();
    }

    fn given_up(&self, _name: &str) {}

    fn warning(&self, text: &str) {
        self.warnings
            .lock()
            .expect("not poisoned")
            .push(text.to_owned());
    }
}

pub(crate) fn restore_of(
    server: &Server,
    backup: &Backup,
    job: u64,
    name: &str,
) -> DatabaseRestore {
    let hidden = RestoreName::new(JobId(job), 0);
    DatabaseRestore::new(target(server), &hidden, backup.facts.clone(), name)
}

/// The whole way, from nothing or from wherever it was left.
pub(crate) async fn run(
    backup: &Backup,
    restore: &DatabaseRestore,
    watch: &Watch,
) -> Result<(), Fault> {
    run_with(backup, restore, &PlanOptions::default(), watch).await
}

pub(crate) async fn run_with(
    backup: &Backup,
    restore: &DatabaseRestore,
    options: &PlanOptions,
    watch: &Watch,
) -> Result<(), Fault> {
    let plan = Plan::of(&backup.archive, options);
    restore.create().await?;
    watch.tick();
    restore.before(&plan, watch).await?;
    watch.tick();
    let session = restore.session().await?;
    // Backwards, so that a check that looks into another table meets it empty.
    for table in backup.tables.iter().rev() {
        load_table(&session, restore.marks(), table).await?;
        watch.tick();
    }
    load_objects(&session, restore, backup).await?;
    watch.tick();
    sequences::restore(&session, &backup.sequences, SetTo::Captured).await?;
    watch.tick();
    restore.indexes(&plan, LANES, watch).await?;
    restore.after(&plan, LANES, watch).await?;
    restore.fill(&plan, &backup.views, LANES, watch).await?;
    watch.tick();
    drop(session);
    restore.finish(&plan).await?;
    watch.tick();
    restore.publish(options.rights, options.owners).await
}

async fn load_objects(
    session: &Session,
    restore: &DatabaseRestore,
    backup: &Backup,
) -> Result<(), Fault> {
    for object in &backup.objects {
        let chunks: Vec<LargeObjectChunk> = backup
            .chunks
            .iter()
            .filter(|chunk| chunk.oid == object.oid)
            .cloned()
            .collect();
        large_objects::restore(
            session,
            restore.marks(),
            &format!("{}", object.oid),
            std::slice::from_ref(object),
            stream::iter(chunks).map(Ok),
            true,
            true,
        )
        .await?;
    }
    Ok(())
}

/// Runs until the watch says to die, then drops everything at once. `true` if it came to its end before.
pub(crate) async fn run_or_die(backup: &Backup, restore: &DatabaseRestore, watch: &Watch) -> bool {
    tokio::select! {
        biased;
        () = watch.dying.notified() => false,
        outcome = run(backup, restore, watch) => {
            outcome.expect("the restore goes on");
            true
        }
    }
}

/// The schema as pg_dump prints it, without the random line that keeps psql from obeying names.
pub(crate) fn schema_text(
    server: &Server,
    database: &str,
    tools: Option<&std::path::Path>,
    create: bool,
) -> String {
    let tools = tools.unwrap_or(server.binaries());
    let mut command = std::process::Command::new(tools.join("pg_dump"));
    command
        .args(["--schema-only", "--encoding=UTF8", "--dbname"])
        .arg(server.dsn(database));
    if create {
        command.arg("--create");
    }
    let output = command.output().expect("pg_dump runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text");
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict "))
        .collect();
    kept.join("\n")
}

/// What every table, sequence, materialized view and large object holds, by PostgreSQL's own text output.
pub(crate) fn contents(server: &Server, database: &str) -> String {
    let list = server.psql(
        database,
        "SELECT string_agg(format('SELECT %L, count(*), md5(string_agg(t::text, ''|'' ORDER BY t::text COLLATE \"C\")) FROM ONLY %I.%I AS t',
             n.nspname || '.' || c.relname, n.nspname, c.relname), ' UNION ALL ' ORDER BY n.nspname, c.relname)
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated) AND n.nspname !~ '^(pg_|information_schema)'",
    );
    let mut text = server.psql(database, &format!("{list} ORDER BY 1"));
    text += &server.psql(
        database,
        "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2;
         SELECT m.oid, lomowner::regrole, lomacl, obj_description(m.oid, 'pg_largeobject'), md5(lo_get(m.oid)), length(lo_get(m.oid))
             FROM pg_largeobject_metadata AS m ORDER BY m.oid;
         SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY 1",
    );
    text
}

/// Sums of all tables, by the layouts of the source, from any database.
pub(crate) async fn sums(
    server: &Server,
    database: &str,
    backup: &Backup,
) -> Vec<(String, RowSum)> {
    let session = data_session(server, database).await;
    let mut list = Vec::new();
    for Table { layout, .. } in &backup.tables {
        let sum = fingerprint(&session, layout, &layout.schema, &layout.name, None).await;
        list.push((layout.display_name(), sum.expect("summed")));
    }
    list
}

/// Names of databases that a restore hides.
pub(crate) fn hidden_databases(server: &Server) -> String {
    server.psql(
        "postgres",
        "SELECT datname FROM pg_database WHERE datname LIKE 'holdfast%'",
    )
}
