use holdfast_postgres::hold::{
    HoldNames, SlotState, Waiting, WalStatus, advance, place, publish, published, release, state,
    unpublish_unidentified, verify,
};
use holdfast_postgres::layout::{Layout, Lsn, Oid};
use holdfast_postgres::replication::ReplicationSession;
use holdfast_postgres_testing::{Options, Server, connect};
use holdfast_types::ErrorCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::{PATIENCE, all, control, dsn, env};

fn silent(_: &Waiting) {}

async fn layouts(server: &Server, database: &str) -> Vec<Layout> {
    all(server, database)
        .await
        .into_iter()
        .map(|facts| facts.layout)
        .collect()
}

fn names(tag: &str) -> HoldNames {
    HoldNames::new(tag, Oid(5)).expect("names")
}

#[test]
fn tags_of_holds_fit_into_names_of_slots() {
    for tag in ["", "A", "a-b", "ä", &"x".repeat(41)] {
        assert!(HoldNames::new(tag, Oid(1)).is_err(), "{tag}");
    }
    let longest = HoldNames::new(&"x".repeat(40), Oid(u32::MAX)).expect("it fits");
    assert!(longest.slot.len() <= 63);
}

/// Trap 37: only what has a key is published, one by one, so that the application's updates go on.
#[tokio::test]
async fn a_hold_is_placed_moved_on_and_released() {
    let server = Server::shared();
    let database = server.create_database("hold");
    server.psql(
        &database,
        "CREATE TABLE keyed (id int PRIMARY KEY, a int); CREATE TABLE keyless (a int); CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY);
         CREATE TABLE parent (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF parent FOR VALUES FROM (0) TO (9);
         CREATE TABLE base (id int PRIMARY KEY); CREATE TABLE heir (a int) INHERITS (base);
         INSERT INTO keyed VALUES (1, 1); INSERT INTO keyless VALUES (1)",
    );
    let (dsn, names) = (dsn(server, &database), names("placed"));
    let placed = place(
        &env(),
        &dsn,
        &names,
        &layouts(server, &database).await,
        PATIENCE,
        &silent,
    )
    .await
    .expect("a hold");
    assert!(placed.start > Lsn::ZERO);
    let session = control(server, &database).await;
    let list = published(&session, &names.publication)
        .await
        .expect("a list");
    let mut tables: Vec<&str> = list.iter().map(|state| state.name.as_str()).collect();
    tables.sort_unstable();
    assert_eq!(tables, ["base", "keyed", "leaf"]);
    // The application creates a table without a key, and updates all of them.
    server.psql(
        &database,
        "CREATE TABLE made_later (a int); INSERT INTO made_later VALUES (1); UPDATE made_later SET a = 2; DELETE FROM made_later;
         UPDATE keyless SET a = 2; UPDATE keyed SET a = 2; INSERT INTO heir VALUES (1); UPDATE heir SET a = 1; INSERT INTO parent VALUES (1)",
    );
    let changes = |publication: &str| {
        format!(
            "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('{}', NULL, NULL, 'proto_version', '1', 'publication_names', '{publication}')
             WHERE get_byte(data, 0) IN (ascii('I'), ascii('U'), ascii('D'))",
            names.slot
        )
    };
    assert_eq!(
        server.psql(&database, &changes(&names.publication)),
        "2",
        "of keyed and leaf"
    );

    // A publication follows what is keyed now; a second hold under the same names is refused.
    let fault = place(
        &env(),
        &dsn,
        &names,
        &layouts(server, &database).await,
        PATIENCE,
        &silent,
    )
    .await
    .expect_err("taken");
    assert_eq!(fault.code, ErrorCode::AlreadyExists, "{fault}");

    let before = state(&session, &names.slot)
        .await
        .expect("asks")
        .expect("it is there");
    assert_eq!(before.wal_status, WalStatus::Reserved);
    assert_eq!(before.confirmed, placed.start);
    let mut slots = ReplicationSession::connect(&env(), &dsn)
        .await
        .expect("a session");
    let now = slots.identify().await.expect("answers");
    verify(
        Some(&before),
        &database,
        placed.start,
        &placed.identity,
        &now,
    )
    .expect("it is whole");
    let moved = advance(&session, &names.slot, now.flushed)
        .await
        .expect("moves on");
    assert!(moved > placed.start && moved <= now.flushed);
    assert_eq!(
        advance(&session, &names.slot, placed.start).await,
        Ok(moved),
        "never back"
    );
    assert_eq!(server.psql(&database, &changes(&names.publication)), "0");
    let after = state(&session, &names.slot)
        .await
        .expect("asks")
        .expect("it is there");

    // Traps 49 and 50: whatever breaks the chain is said.
    let gone = |state: Option<&SlotState>, from, now: &_| {
        verify(state, &database, from, &placed.identity, now)
            .expect_err("broken")
            .code
    };
    assert_eq!(
        gone(Some(&after), placed.start, &now),
        ErrorCode::HistoryGone,
        "read by others"
    );
    assert_eq!(
        gone(None, placed.start, &now),
        ErrorCode::HistoryGone,
        "dropped"
    );
    for change in 0..3 {
        let (mut slot, mut identity) = (before.clone(), now.clone());
        match change {
            0 => identity.timeline += 1,
            1 => identity.system_id += 1,
            _ => slot.wal_status = WalStatus::Lost,
        }
        assert_eq!(
            gone(Some(&slot), placed.start, &identity),
            ErrorCode::HistoryGone
        );
    }
    verify(
        Some(&before),
        "another",
        placed.start,
        &placed.identity,
        &now,
    )
    .expect_err("another's slot");

    release(&session, &names).await.expect("released");
    release(&session, &names)
        .await
        .expect("nothing to release is no error");
    assert_eq!(state(&session, &names.slot).await, Ok(None));
    assert!(
        published(&session, &names.publication)
            .await
            .expect("asks")
            .is_empty()
    );
}

/// A relation that loses its key while it is published breaks the application's updates; taking it out mends that.
#[tokio::test]
async fn a_relation_that_lost_its_key_is_taken_out() {
    let server = Server::shared();
    let database = server.create_database("lost_key");
    server.psql(&database, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let session = control(server, &database).await;
    let names = names("lost_key");
    publish(
        &session,
        &names.publication,
        &layouts(server, &database).await,
    )
    .await
    .expect("published");
    server.psql(&database, "ALTER TABLE t DROP CONSTRAINT t_pkey");
    server
        .try_psql(&database, "UPDATE t SET id = 2")
        .expect_err("the trap");
    let out = unpublish_unidentified(&session, &names.publication)
        .await
        .expect("taken out");
    assert_eq!(out.len(), 1);
    server.psql(&database, "UPDATE t SET id = 2");
    let left = published(&session, &names.publication).await.expect("asks");
    assert_eq!(
        left.iter()
            .map(|state| state.name.as_str())
            .collect::<Vec<_>>(),
        ["u"]
    );
    // Publishing again follows the layouts, and does not touch a publication that others made.
    publish(
        &session,
        &names.publication,
        &layouts(server, &database).await,
    )
    .await
    .expect("published");
    server.psql(
        &database,
        "CREATE PUBLICATION holdfast_foreign FOR ALL TABLES",
    );
    let fault = publish(&session, "holdfast_foreign", &[])
        .await
        .expect_err("not ours");
    assert_eq!(fault.code, ErrorCode::FailedPrecondition);
}

/// Trap 5: who is waited for is named while it lasts and when it has lasted too long; nothing is left behind then.
#[tokio::test]
async fn who_holds_a_hold_up_is_named() {
    let server = Server::start(Options::default());
    server.psql("postgres", "CREATE TABLE t (id int PRIMARY KEY); CREATE DATABASE other; CREATE ROLE app SUPERUSER LOGIN");
    server.psql("other", "CREATE TABLE o (a int)");
    let writer = connect(&server, "other").await;
    writer
        .batch_execute("SET ROLE app; BEGIN; INSERT INTO o VALUES (1)")
        .await
        .expect("writes");
    let pid: i32 = writer
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .expect("a row")
        .get(0);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let show = {
        let seen = seen.clone();
        move |waiting: &Waiting| seen.lock().expect("no panic").push(waiting.clone())
    };
    let (dsn, names) = (dsn(&server, "postgres"), names("waits"));
    let layouts = layouts(&server, "postgres").await;
    let short = Duration::from_millis(1500);
    let fault = place(&env(), &dsn, &names, &layouts, short, &show)
        .await
        .expect_err("too long");
    assert_eq!(fault.code, ErrorCode::DeadlineExceeded);
    assert!(
        fault.message.contains(&format!("process {pid}"))
            && fault.message.contains("database other"),
        "{fault}"
    );
    let named = |waiting: &Waiting| matches!(waiting, Waiting::ForWriters(list) if list.iter().any(|b| b.pid == Some(pid)));
    assert!(seen.lock().expect("no panic").iter().any(named));
    crate::eventually(
        &server,
        "postgres",
        "SELECT count(*) FROM pg_replication_slots",
        "0",
    )
    .await;

    // The same, if it is given up in the middle.
    let given_up = tokio::time::timeout(
        short,
        place(&env(), &dsn, &names, &layouts, PATIENCE, &show),
    )
    .await;
    given_up.expect_err("it waits");
    crate::eventually(
        &server,
        "postgres",
        "SELECT count(*) FROM pg_replication_slots",
        "0",
    )
    .await;

    // Once it ends, the same hold is placed. A prepared transaction is waited for and named like any other (trap 11).
    writer
        .batch_execute("PREPARE TRANSACTION 'forgotten'")
        .await
        .expect("prepares");
    let fault = place(&env(), &dsn, &names, &layouts, short, &show)
        .await
        .expect_err("too long");
    assert!(fault.message.contains("forgotten"), "{fault}");
    server.psql("other", "COMMIT PREPARED 'forgotten'");
    place(&env(), &dsn, &names, &layouts, PATIENCE, &show)
        .await
        .expect("a hold");
}

/// Waits until the maker of a slot waits for the end of this transaction.
async fn slot_waits_for(server: &Server, xid: &str) {
    let waiting = format!(
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE a.backend_type = 'walsender' AND NOT l.granted AND l.transactionid::text = '{xid}'"
    );
    crate::eventually(server, "postgres", &waiting, "1").await;
}

/// A connection with an open transaction that has written, and the transaction's number.
async fn writing(server: &Server) -> (tokio_postgres::Client, String) {
    let client = connect(server, "postgres").await;
    let begin = "BEGIN; INSERT INTO o VALUES (1)";
    client.batch_execute(begin).await.expect("writes");
    let xid = "SELECT pg_current_xact_id()::text";
    let xid = client.query_one(xid, &[]).await.expect("a row").get(0);
    (client, xid)
}

/// ‡ A commit that hangs between its log record and its visibility (here: it waits for a standby that does not exist). Its record lies
/// before the slot's consistent point, so that the slot will not give it; and a read that began now would not see it. Without the
/// rule it would be lost. So the hold is not ready until it is visible.
///
/// To get its record in front of the consistent point, it must be written between the second and the third look that the slot's maker takes at the
/// running transactions; two others hold the maker up at each.
#[tokio::test]
async fn a_commit_between_its_record_and_its_visibility_is_waited_for() {
    let server = Server::start(Options::default());
    server.psql(
        "postgres",
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE o (a int); ALTER ROLE postgres SET synchronous_commit = 'local';
         ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()",
    );
    let (tell, mut told) = tokio::sync::mpsc::channel(1000);
    let show = move |waiting: &Waiting| drop(tell.try_send(waiting.clone()));
    let (dsn, names) = (dsn(&server, "postgres"), names("hung"));
    let layouts = layouts(&server, "postgres").await;
    let (first, first_xid) = writing(&server).await;
    let placing = tokio::spawn({
        let (dsn, names) = (dsn.clone(), names.clone());
        async move { place(&env(), &dsn, &names, &layouts, PATIENCE, &show).await }
    });
    slot_waits_for(&server, &first_xid).await;
    let (second, second_xid) = writing(&server).await;
    first.batch_execute("COMMIT").await.expect("commits");
    slot_waits_for(&server, &second_xid).await;

    let hung = connect(&server, "postgres").await;
    hung.batch_execute("SET synchronous_commit = on; BEGIN; INSERT INTO t VALUES (1)")
        .await
        .expect("writes");
    let pid: i32 = hung
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .expect("a row")
        .get(0);
    let committing = tokio::spawn(async move { hung.batch_execute("COMMIT").await });
    let syncing = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    crate::eventually(&server, "postgres", syncing, "1").await;
    second.batch_execute("COMMIT").await.expect("commits");

    let named = async {
        while let Some(waiting) = told.recv().await {
            match waiting {
                Waiting::ForVisibility(list) => return (true, list),
                Waiting::ForWriters(list) if list.iter().any(|it| it.pid == Some(pid)) => {
                    return (false, list);
                }
                Waiting::ForWriters(_) => {}
            }
        }
        panic!("the hold was ready, and the commit is not visible");
    };
    let (slot_is_made, blockers) = tokio::time::timeout(PATIENCE, named)
        .await
        .expect("in time");
    assert_eq!(
        blockers
            .iter()
            .map(|blocker| blocker.pid)
            .collect::<Vec<_>>(),
        [Some(pid)]
    );
    // Servers of 15.20 and its like do not make the slot before the commit is visible: then nothing is left for the hold to wait for.
    if !slot_is_made {
        assert!(!placing.is_finished());
        server.psql(
            "postgres",
            "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()",
        );
        committing.await.expect("no panic").expect("commits");
        placing.await.expect("no panic").expect("a hold");
        let shown = server.psql("postgres", "SELECT count(*) FROM t");
        assert_eq!(shown, "1", "the first pages have it");
        return;
    }
    // What would be lost: the slot exists and does not give the row, and a snapshot does not show it.
    let given = format!(
        "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('{}', NULL, NULL, 'proto_version', '1', 'publication_names', '{}')
         WHERE get_byte(data, 0) = ascii('I')",
        names.slot, names.publication
    );
    let shown = "SELECT count(*) FROM t";
    let both = |server: &Server| {
        (
            server.psql("postgres", shown),
            server.psql("postgres", &given),
        )
    };
    assert_eq!(both(&server), ("0".to_owned(), "0".to_owned()));
    assert!(!placing.is_finished());

    server.psql(
        "postgres",
        "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()",
    );
    committing.await.expect("no panic").expect("commits");
    placing.await.expect("no panic").expect("a hold");
    assert_eq!(
        both(&server),
        ("1".to_owned(), "0".to_owned()),
        "exactly once"
    );
}

/// A relation that cannot be published because it stays locked is named, with who has it.
#[tokio::test]
async fn who_keeps_a_relation_from_being_published_is_named() {
    let server = Server::shared();
    let database = server.create_database("vacuumed");
    server.psql(
        &database,
        "CREATE TABLE free (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)",
    );
    let layouts = layouts(server, &database).await;
    let session = control(server, &database).await;
    session
        .execute("SET lock_timeout = '100ms'")
        .await
        .expect("sets");
    let vacuum = connect(server, &database).await;
    // The lock that VACUUM takes.
    let lock = "BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE";
    vacuum.batch_execute(lock).await.expect("locks");
    let publication = names("vacuumed").publication;
    let fault = publish(&session, &publication, &layouts)
        .await
        .expect_err("locked");
    assert_eq!(fault.code, ErrorCode::Unavailable);
    assert!(
        fault.message.contains("public.t is locked by process"),
        "{fault}"
    );
    vacuum.batch_execute("COMMIT").await.expect("commits");
    publish(&session, &publication, &layouts)
        .await
        .expect("it is free");
    let list = published(&session, &publication).await.expect("a list");
    assert_eq!(list.len(), 2);
}
