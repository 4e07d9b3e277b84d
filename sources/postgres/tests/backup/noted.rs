//! What a backup says of itself to whoever asked for it.

use bytes::Bytes;
use holdfast_postgres_testing::{Options, Server};
use holdfast_source::LoggedSource;
use holdfast_types::Relation;
use std::time::Duration;

use crate::standby::follows;
use crate::store::SharedLayer;
use crate::support::Job;

fn count(notes: &[String], sign: &str) -> usize {
    notes.iter().filter(|note| note.contains(sign)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relations_that_were_rewritten_are_named_and_a_repeated_plan_says_the_same() {
    let server = Server::shared();
    let database = server.create_database("noted");
    server.psql(
        &database,
        "CREATE TABLE kept (id int PRIMARY KEY); CREATE TABLE moved (id int PRIMARY KEY);
         CREATE TABLE widened (id int PRIMARY KEY, v int); CREATE TABLE dropped (id int PRIMARY KEY);
         CREATE TABLE numbers (id int PRIMARY KEY, o oid);
         INSERT INTO kept VALUES (1); INSERT INTO moved VALUES (1); INSERT INTO widened VALUES (1, 1)",
    );
    let mut job = Job::new(server, &database, 171);
    let backup = job.backup(false);
    job.member.begin(&backup).await.expect("a plan");
    let first = backup.notes.take();
    let relations = job.member.begin(&backup).await.expect("the same plan");
    let oids = format!("database {database}: public.numbers: columns of type oid");
    assert_eq!(count(&first, &oids), 1, "{first:?}");
    assert_eq!(count(&backup.notes.take(), &oids), 1);

    let layer = SharedLayer::default();
    job.read_all(&relations, &layer).await;
    server.psql(&database, "VACUUM FULL moved");
    server.psql(
        &database,
        "ALTER TABLE widened ALTER v TYPE bigint; DROP TABLE dropped",
    );
    let planned: Vec<Relation> = relations
        .iter()
        .filter(|it| !it.settles)
        .map(|it| it.relation.clone())
        .collect();
    let settling = relations.iter().find(|it| it.settles);
    let settling = &settling.expect("a database").relation;
    let mut span = layer.span(settling.id, Bytes::new(), None);
    let settle = job.member.settle(&backup, settling, &planned, &mut span);
    settle.await.expect("settled");
    span.settled();
    let notes = backup.notes.take();
    let copied = format!(
        "database {database}: copied whole, because they were rewritten, altered or published anew since they were planned: \
         public.moved, public.widened"
    );
    assert!(notes.contains(&copied), "{notes:?}");
    assert_eq!(backup.steps.look().0, None, "nothing is under way");
    job.member.release(job.hold).await.expect("released");
}

/// Whoever is waited for is shown at once, and noted after ten seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_up_a_slot_is_shown_and_noted() {
    let server: &'static Server = Box::leak(Box::new(Server::start(Options::default())));
    let database = server.create_database("held_up");
    server.psql(&database, "CREATE TABLE t (id int PRIMARY KEY)");
    server.psql(
        &database,
        "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'in the way'",
    );
    let job = Job::new(server, &database, 172);
    let backup = job.backup(false);
    let begun = tokio::spawn({
        let (member, backup) = (job.member.clone(), backup.clone());
        async move { member.begin(&backup).await }
    });
    let mut shown = None;
    let mut notes = Vec::new();
    for _ in 0..600 {
        shown = shown.or_else(|| {
            let step = backup.steps.look().0?;
            step.phase.starts_with("waiting for").then_some(step)
        });
        notes.extend(backup.notes.take());
        if count(&notes, "had to wait") > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.psql(&database, "COMMIT PREPARED 'in the way'");
    begun.await.expect("no panic").expect("a plan");
    let shown = shown.expect("what is waited for");
    assert!(shown.now[0].contains("gid in the way"), "{shown:?}");
    let waited = "had to wait for transactions that write: prepared transaction";
    assert_eq!(count(&notes, waited), 1, "{notes:?}");
    let prepared = "prepared transaction in the way: prepared at";
    assert_eq!(count(&notes, prepared), 1, "{notes:?}");
    job.member.release(job.hold).await.expect("released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_says_why_it_is_in_snapshot_mode_and_what_it_has_not() {
    let primary: &'static Server = Box::leak(Box::new(Server::start_alike(Options::default())));
    let database = primary.create_database("standby_notes");
    primary.psql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY); CREATE UNLOGGED TABLE gone (id int);
         CREATE UNLOGGED TABLE gone_too (id int)",
    );
    let standby: &'static Server = Box::leak(Box::new(Server::standby_of(primary)));
    follows(primary, standby).await;
    let job = Job::new(standby, &database, 173);
    let backup = job.backup(false);
    job.member.begin(&backup).await.expect("a plan");
    let notes = backup.notes.take();
    let mode =
        "backed up in snapshot mode, so that no incremental can follow: server: it is a standby";
    assert_eq!(count(&notes, mode), 1, "{notes:?}");
    let unlogged = format!("database {database}: public.gone, public.gone_too: it is unlogged");
    assert_eq!(count(&notes, &unlogged), 1, "{notes:?}");
}
