//! What a restore says of itself to whoever asked for it.

use holdfast_postgres_testing::{Options, Server};
use holdfast_source::{LoggedSource, StepProgress};
use holdfast_types::{HoldId, JobId, Target};
use std::time::Duration;

use crate::store::{Counted, Store};
use crate::{member, renamed, restorer};

/// An index that is not ready while a file is there, a key that the rows do not satisfy, rights and a tablespace that will be gone.
const SOURCE: &str = "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, parent int CONSTRAINT child_parent REFERENCES parent);
    SET session_replication_role = replica; INSERT INTO child VALUES (1, 1); RESET session_replication_role;
    CREATE FUNCTION waits(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
        WHILE (pg_catalog.pg_stat_file('gate', true)).size IS NOT NULL LOOP PERFORM pg_catalog.pg_sleep(0.05); END LOOP; RETURN $1; END $$;
    CREATE INDEX gated ON child (waits(id));
    CREATE FUNCTION moody(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
        IF pg_catalog.current_query() LIKE 'ANALYZE%' THEN RAISE 'not now'; END IF; RETURN $1; END $$;
    CREATE TABLE asked (id int); INSERT INTO asked VALUES (1); CREATE INDEX ON asked (moody(id));
    GRANT SELECT ON child TO gone_role;
    CREATE TABLE placed (id int PRIMARY KEY) TABLESPACE gone_space;
    CREATE EXTENSION citext; UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'citext'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn differences_are_noted_and_phases_are_shown() {
    let server = Server::start(Options::default());
    let space = server.directory().join("space");
    server.psql("postgres", "CREATE ROLE gone_role");
    server.psql(
        "postgres",
        &format!(
            "COPY (SELECT 1) TO PROGRAM 'cat > made && mkdir {0}'; CREATE TABLESPACE gone_space LOCATION '{0}'",
            space.display()
        ),
    );
    let database = server.create_database("noted");
    server.psql(&database, SOURCE);
    let source = member(&server, "noted");
    let mut store = Store::default();
    let target = Target::Databases(vec![database.clone()]);
    store.backup(&source, 31, target, false, |_| {}).await;
    source.release(HoldId(31)).await.expect("released");
    server.psql(
        &database,
        "DROP TABLE placed; DROP OWNED BY gone_role; DROP ROLE gone_role",
    );
    server.psql("postgres", "DROP TABLESPACE gone_space");
    server.psql("postgres", "COPY (SELECT 1) TO PROGRAM 'cat > gate'");

    let restore = renamed(910, &database, "again", None);
    let restorer = restorer(&server);
    let mut counted = Counted::default();
    store
        .load(&restorer, &restore, &mut counted)
        .await
        .expect("loaded");
    let begun = restore.notes.take();
    let has = |notes: &[String], note: &str| notes.iter().any(|it| it.starts_with(note));
    let version = server.psql(
        "postgres",
        "SELECT default_version FROM pg_available_extensions WHERE name = 'citext'",
    );
    let extension = format!("database again: extension citext: version {version} instead of 0.9");
    for note in [
        extension.as_str(),
        "database again: rights: those of roles that do not exist are left out: gone_role",
        "database again: table public.placed: its tablespace gone_space does not exist; the default one is used",
    ] {
        assert!(has(&begun, note), "{note}: {begun:?}");
    }
    let look = async {
        loop {
            let step = restore.steps.look().0.unwrap_or_default();
            let is_held = step.now.iter().any(|name| name.contains("gated"));
            if is_held && step.done + 1 == step.total {
                server.psql(
                    "postgres",
                    "COPY (SELECT 1) TO PROGRAM 'cat > gone && rm gone gate'",
                );
                return step;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let look = tokio::time::timeout(Duration::from_secs(60), look);
    let (finished, seen) = tokio::join!(restorer.finish(&restore, &store), look);
    finished.expect("finished");
    let seen: StepProgress = seen.expect("the index that waits is shown");
    assert_eq!(seen.phase, "indexes of database again");
    assert_eq!((seen.done, seen.total, seen.now.len()), (4, 5, 1));
    // Each index counts as its table, of which all but one here have a page at most.
    assert!(seen.bytes_done < seen.bytes_total, "{seen:?}");
    let finish = restore.notes.take();
    assert_eq!(finish.len(), 2, "{finish:?}");
    let statistics = "SELECT string_agg(DISTINCT tablename, ' ' ORDER BY tablename) FROM pg_stats WHERE schemaname = 'public'";
    assert_eq!(server.psql("again", statistics), "child gated");
    let asked = "database again: not analyzed: cannot gather statistics of public.asked";
    assert!(has(&finish, asked), "{finish:?}");
    assert!(
        has(&finish, "database again: put back NOT VALID: ") && finish[0].contains("child_parent"),
        "{finish:?}"
    );
    assert_eq!(restore.steps.look().0, None);

    // Once more from the beginning: the same words.
    let again = renamed(911, &database, "again_2", None);
    store.restore(&restorer, &again).await.expect("restored");
    let same: Vec<String> = again.notes.take();
    let renamed = |note: &String| note.replace("again_2", "again");
    let same: Vec<String> = same.iter().map(renamed).collect();
    assert!(begun.iter().all(|note| same.contains(note)), "{same:?}");
    restorer.discard(JobId(911)).await.expect("nothing is left");
}
