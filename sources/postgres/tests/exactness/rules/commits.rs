//! Rules about commits: where windows meet, and what is visible when.

use super::*;

/// The start of the window is inclusive, its end exclusive: windows that meet at a commit's own position neither lose nor double it.
#[tokio::test(flavor = "multi_thread")]
async fn windows_that_meet_tile_the_history() {
    let (chain, client) = mover("tile").await;
    for n in 1..=3 {
        run(&client, &format!("UPDATE m SET n = {n} WHERE id = {n}")).await;
    }
    let end = exact(&chain, "f").await.position;
    let commits = |window| async {
        let mut stream = chain.stream(window).await;
        let mut commits = Vec::new();
        while let Some(event) = stream.stream.next().await.expect("events") {
            if let holdfast_postgres::changes::Event::Commit(transaction) = event {
                commits.push(transaction.commit);
            }
        }
        commits
    };
    let all = commits(chain.start..end).await;
    assert_eq!(all.len(), 3);
    assert_eq!(commits(chain.start..all[1]).await, all[..1]);
    assert_eq!(commits(all[1]..all[2]).await, all[1..2]);
    assert_eq!(commits(all[1]..end).await, all[1..]);
    // The slot says the same once it was moved there: what is confirmed is what lies before.
    let advance = format!(
        "SELECT pg_replication_slot_advance('hold_{}', '{}')",
        chain.database, all[2]
    );
    run(&client, &advance).await;
    assert_eq!(commits(chain.start..end).await, all[2..]);
}

/// A commit record lies before the slot's position, and its transaction is still not visible, because it waits for a standby: the first pages would
/// be read without it, and the change stream begins behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_hangs_before_the_slot_is_waited_for() {
    let server: &'static Server = Box::leak(Box::new(Server::start(Options::default())));
    let database = server.create_database("hang");
    server.psql(&database, MOVER);
    server.psql(&database, "CREATE PUBLICATION hold FOR TABLE m");
    server.psql(
        "postgres",
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()",
    );
    let local = || async {
        let client = connect(server, &database).await;
        run(&client, "SET synchronous_commit = local").await;
        client
    };
    let (first, second, hanging) = (
        local().await,
        local().await,
        connect(server, &database).await,
    );
    let watcher = local().await;
    let begin = "BEGIN; SELECT pg_current_xact_id()";
    run(&first, begin).await;
    let name = format!("hold_{database}");
    let slot =
        tokio::spawn(async move { Slot::create(server, "hang_1", &name, Life::Lasting).await });
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted";
    until(&watcher, waits).await;
    // The slot waits for `first`. `second` makes it wait once more, and what begins then is not waited for at all.
    run(&second, begin).await;
    run(&first, "COMMIT").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    until(&watcher, waits).await;
    let update = tokio::spawn(async move {
        hanging
            .batch_execute("UPDATE m SET n = 77 WHERE id = 5")
            .await
    });
    until(
        &watcher,
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
    )
    .await;
    run(&second, "COMMIT").await;
    // Servers of 15.20 and its like do not make the slot before the commit is visible: then nothing is left to wait for.
    let mut does_wait = false;
    while !slot.is_finished() && !does_wait {
        does_wait = count(&watcher, SLOT_WAITS_FOR_THE_HANGING).await > 0;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if does_wait {
        server.psql(
            "postgres",
            "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()",
        );
        update.await.expect("no panic").expect("updated");
        slot.await.expect("a slot");
        let first_read = "SELECT count(*) FROM m WHERE n = 77";
        assert_eq!(count(&watcher, first_read).await, 1, "it is visible");
        return;
    }
    let slot = slot.await.expect("a slot");

    let planned = layouts(&watcher, &["m"]).await;
    let layout = planned.values().next().expect("m");
    let updated = |row: &(_, holdfast_postgres::tuple::Tuple)| {
        let n = row.1.fields().nth(1);
        n == Some(holdfast_postgres::tuple::Field::Value(&77i32.to_be_bytes()))
    };
    let reader = session(server, &database, None).await;
    assert!(
        !rows(&reader, layout, "").await.iter().any(updated),
        "it is not visible yet"
    );
    let exact = session(server, &database, Some(&slot.snapshot)).await;
    assert!(
        rows(&exact, layout, "").await.iter().any(updated),
        "by the slot's own snapshot it was committed before the slot: no window has it"
    );
    let released = tokio::spawn(async move {
        wait_for_transactions(&watcher).await;
        watcher
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!released.is_finished(), "the rule waits for it");
    server.psql(
        "postgres",
        "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()",
    );
    released.await.expect("waited");
    update.await.expect("no panic").expect("updated");
    let reader = session(server, &database, None).await;
    assert!(
        rows(&reader, layout, "").await.iter().any(updated),
        "and then it is visible"
    );
}

/// A row that a transaction with `synchronous_commit = off` wrote is visible before its commit record is flushed. A crash undoes it, and nothing in the log
/// says so: a part that has it must not count before the flush.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_counts_when_what_it_saw_is_flushed() {
    // The writer of the log sleeps as long as it can.
    let options = Options::default()
        .set("wal_writer_delay", "10s")
        .set("autovacuum", "off");
    let server: &'static Server = Box::leak(Box::new(Server::start(options)));
    let database = server.create_database("flush");
    server.psql(&database, MOVER);
    let chain = Chain::hold(server, &database, &["m"]).await;
    let layout = Arc::clone(chain.layout("m"));
    let quick = connect(server, &database).await;
    run(&quick, "SET synchronous_commit = off").await;
    run(&quick, "UPDATE m SET n = 1 WHERE id = 1").await;
    let part = || async {
        let session = plain(server, &database).await;
        match open_range(session, &layout, PageRange::ALL)
            .await
            .expect("opened")
        {
            Opened::Reading(mut part) => {
                while part.next().await.is_some() {}
                part
            }
            Opened::Changed(..) => panic!("it is as planned"),
        }
    };
    let finished = tokio::spawn(part().await.finish());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!finished.is_finished(), "it waits for the flush");
    run(
        &connect(server, &database).await,
        "UPDATE m SET n = 2 WHERE id = 2",
    )
    .await;
    finished.await.expect("no panic").expect("flushed");

    // Without the rule: the row is read, and gone after a crash.
    run(&quick, "INSERT INTO m VALUES (99, 99, 'lost', NULL)").await;
    let session = session(server, &database, None).await;
    assert_eq!(rows(&session, &layout, "WHERE id = 99").await.len(), 1);
    drop((session, quick));
    server.kill();
    server.launch();
    let session = plain(server, &database).await;
    assert_eq!(rows(&session, &layout, "WHERE id = 99").await.len(), 0);
}

async fn until(client: &Client, wanted: &str) {
    for _ in 0..500 {
        if count(client, wanted).await > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("this never came: {wanted}");
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("a count").get(0)
}

/// Sessions that wait for the transaction whose commit waits for a standby.
const SLOT_WAITS_FOR_THE_HANGING: &str = "SELECT count(*) FROM pg_locks l, pg_stat_activity a
    WHERE a.wait_event = 'SyncRep' AND l.locktype = 'transactionid' AND NOT l.granted AND l.transactionid = a.backend_xid";

/// A window that is read twice folds to the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_read_twice_folds_to_the_same() {
    let (chain, client) = mover("twice").await;
    run(
        &client,
        "UPDATE m SET n = n + 1; DELETE FROM m WHERE id = 1; TRUNCATE m",
    )
    .await;
    run(&client, "INSERT INTO m VALUES (1, 1, 'p', 'b')").await;
    run(&client, "UPDATE m SET id = 2").await;
    let end = exact(&chain, "f").await.position;
    let contents = |folded: &Folded| {
        let mut rows = folded.rows();
        let mut contents = Vec::new();
        while let Some(entry) = rows.next_entry().expect("readable") {
            contents.push(entry);
        }
        (contents, folded.truncated().clone())
    };
    let once = contents(&folded(&chain, end).await);
    let mut twice = chain.fold(Keep::Last, chain.start..end).await;
    let mut stream = chain.stream(chain.start..end).await;
    twice = twice
        .take(&chain.env, &mut stream.stream)
        .await
        .expect("folded");
    assert_eq!(contents(&twice.finish().expect("folded")), once);
    let (rows, truncated) = once;
    assert_eq!(
        truncated.keys().copied().collect::<Vec<Oid>>(),
        [chain.layout("m").oid]
    );
    let puts = rows
        .iter()
        .filter(|entry| matches!(entry.op, Op::Put { .. }));
    assert_eq!((puts.count(), rows.len()), (1, 2));
}
