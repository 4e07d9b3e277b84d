//! Full disks, damaged files, members that are gone, and messages that make no sense.

use crate::model::world;
use bytes::Bytes;
use futures::StreamExt;
use holdfast_env::{Env, MemoryDisk};
use holdfast_mvcc::{MAX_ROW_LENGTH, Mutation, MvccClient, MvccStore, StoreOptions, serve};
use holdfast_proto::v1::mvcc_member_client::MvccMemberClient;
use holdfast_proto::{CallKind, ChannelOptions, channel, status_to_fault, v1};
use holdfast_source::{Change, Source};
use holdfast_types::{
    ByteCount, ErrorCode, Hlc, HoldId, KeyRange, Millis, Position, TableName, Window,
};
use std::sync::Arc;

fn table() -> TableName {
    TableName {
        database: "app".to_owned(),
        table: "t".to_owned(),
    }
}

fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

async fn open(env: Env, options: StoreOptions) -> MvccStore {
    let store = MvccStore::open(env, "m", options).await;
    store.expect("a store")
}

async fn with_table(env: Env, options: StoreOptions) -> MvccStore {
    let store = open(env, options).await;
    store.create_database("app").await.expect("database");
    store.create_table(&table(), "").await.expect("table");
    store
}

fn in_memory(disk: MemoryDisk) -> Env {
    Env {
        disk: Arc::new(disk),
        ..Env::system()
    }
}

fn small() -> StoreOptions {
    StoreOptions {
        cache: ByteCount(1024 * 1024),
        ..StoreOptions::default()
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_serves_reads() {
    let (env, _, disk) = world();
    let store = with_table(env.clone(), small()).await;
    let write = |n: u32| store.write(vec![Mutation::put(table(), number(n), vec![1; 1000])]);
    write(1).await.expect("write");
    disk.set_capacity(disk.used() + 1024 * 1024);
    let fault = write(2).await.expect_err("below the reserve");
    assert_eq!(fault.code, ErrorCode::StorageFull, "{fault}");
    assert!(fault.hint.is_some());
    assert_eq!(store.rows(&table(), None).await.expect("rows").len(), 1);
    store
        .hold(HoldId(1), Hlc::ZERO)
        .await
        .expect("a hold still fits");
    disk.set_capacity(u64::MAX);
    write(3).await.expect("there is room again");
}

#[tokio::test]
async fn a_disk_that_fills_up_within_a_commit_loses_nothing() {
    let (env, _, disk) = world();
    let options = StoreOptions {
        reserve: ByteCount(0),
        ..small()
    };
    let store = with_table(env.clone(), options).await;
    disk.set_capacity(disk.used() + 512 * 1024);
    let (mut kept, mut refused) = (Vec::new(), 0);
    for n in 0..200u32 {
        let write = store.write(vec![Mutation::put(
            table(),
            number(n),
            vec![n as u8; 20_000],
        )]);
        match write.await {
            Ok(_) => kept.push(number(n)),
            Err(fault) => {
                let honest = [
                    ErrorCode::StorageFull,
                    ErrorCode::Unknown,
                    ErrorCode::Unavailable,
                ];
                assert!(honest.contains(&fault.code), "{fault}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && !kept.is_empty());
    disk.set_capacity(u64::MAX);
    store
        .write(vec![Mutation::put(table(), number(1_000), "room")])
        .await
        .expect("the store goes on when there is room");
    let keys = |rows: Vec<(Bytes, Bytes)>| rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let before = keys(store.rows(&table(), None).await.expect("rows"));
    assert!(kept.iter().all(|key| before.contains(key)));
    drop(store);
    let store = open(env, options).await;
    let after = keys(store.rows(&table(), None).await.expect("rows"));
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_damaged_file_is_named_and_not_served() {
    let disk = MemoryDisk::new();
    let store = with_table(in_memory(disk.clone()), small()).await;
    for n in 0..500u32 {
        let put = Mutation::put(table(), number(n), vec![n as u8; 500]);
        store.write(vec![put]).await.expect("write");
    }
    drop(store);
    let options = StoreOptions {
        check_integrity: true,
        ..small()
    };
    drop(open(in_memory(disk.clone()), options).await);
    let length = holdfast_env::Disk::read(&disk, "m/member.redb")
        .expect("read")
        .len() as u64;
    let mut refused = 0;
    for place in 1..20 {
        let offset = length * place / 20;
        disk.corrupt("m/member.redb", offset, 0x40)
            .expect("corrupt");
        if let Err(fault) = MvccStore::open(in_memory(disk.clone()), "m", options).await {
            assert_eq!(fault.code, ErrorCode::Corrupted, "{fault}");
            assert!(fault.message.contains("m/member.redb"));
            refused += 1;
        }
        disk.corrupt("m/member.redb", offset, 0x40).expect("mend");
    }
    assert!(refused > 0, "some of these pages are in use");
    let nonsense = MemoryDisk::new();
    holdfast_env::Disk::write_atomically(&nonsense, "m/member.redb", &[0x5a; 20_000])
        .expect("write");
    let fault = MvccStore::open(in_memory(nonsense), "m", options).await;
    assert_eq!(fault.expect_err("not a store").code, ErrorCode::Corrupted);
}

#[tokio::test]
async fn a_store_is_opened_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().display().to_string();
    let first = MvccStore::open(Env::system(), &path, small()).await;
    let second = MvccStore::open(Env::system(), &path, small()).await;
    let fault = second.expect_err("in use");
    assert_eq!(fault.code, ErrorCode::Unavailable);
    assert!(fault.message.contains("in use"), "{fault}");
    drop(first);
    MvccStore::open(Env::system(), &path, small())
        .await
        .expect("free again");
}

#[tokio::test]
async fn rows_out_of_bounds_are_refused_with_a_reason() {
    let (env, ..) = world();
    let store = with_table(env, small()).await;
    for (key, length) in [
        (Bytes::new(), 1),
        (vec![1; 20_000].into(), 1),
        (number(1), MAX_ROW_LENGTH),
    ] {
        let put = Mutation::put(table(), key, vec![0; length]);
        let fault = store.write(vec![put]).await.expect_err("out of bounds");
        assert_eq!(fault.code, ErrorCode::InvalidArgument, "{fault}");
        assert!(
            fault.message.contains("app.t") && fault.hint.is_some(),
            "{fault}"
        );
    }
    let large = |n| Mutation::put(table(), number(n), vec![0; 5_000_000]);
    let fault = store.write(vec![large(1), large(2), large(3)]).await;
    assert_eq!(
        fault.expect_err("too much").code,
        ErrorCode::InvalidArgument
    );
    assert_eq!(store.rows(&table(), None).await.expect("rows").len(), 0);
}

#[tokio::test]
async fn a_conditional_write_sees_what_came_between() {
    let (env, ..) = world();
    let store = with_table(env, small()).await;
    let put = |value: &'static str| vec![Mutation::put(table(), number(1), value)];
    store.write(put("a")).await.expect("write");
    let (read_at, _) = store.get(&table(), &number(1), None).await.expect("get");
    store.write(put("b")).await.expect("somebody else");
    let fault = store.write_unless_changed(put("c"), read_at).await;
    assert_eq!(
        fault.expect_err("changed").code,
        ErrorCode::FailedPrecondition
    );
    let (read_at, row) = store.get(&table(), &number(1), None).await.expect("get");
    assert_eq!(row.expect("a row").change, Change::Put("b".into()));
    store
        .write_unless_changed(put("c"), read_at)
        .await
        .expect("unchanged since");
}

#[tokio::test]
async fn a_read_that_garbage_collection_overtakes_fails_and_never_lies() {
    let (env, clock, _) = world();
    let store = with_table(env, small()).await;
    for n in 0..400u32 {
        let put = Mutation::put(table(), number(n), vec![1; 20_000]);
        store.write(vec![put]).await.expect("write");
    }
    let at = store.position(Hlc::ZERO).await.expect("position");
    let mut stream = store
        .scan(&table(), KeyRange::all(), Some(at))
        .await
        .expect("scan");
    let first = stream.next().await.expect("a batch").expect("rows");
    assert!(first.len() < 100, "a batch is bounded");
    for n in 0..400u32 {
        let put = Mutation::put(table(), number(n), "new");
        store.write(vec![put]).await.expect("write");
    }
    clock.shift(10_000);
    store.position(Hlc::ZERO).await.expect("position");
    store
        .collect_garbage(Some(Millis(0)))
        .await
        .expect("collect");
    let mut end = None;
    while let Some(batch) = stream.next().await {
        match batch {
            Ok(rows) => assert!(rows.iter().all(|row| row.logical_len() == 20_004)),
            Err(fault) => end = Some(fault),
        }
    }
    let fault = end.expect("the read cannot be completed");
    assert_eq!(fault.code, ErrorCode::HistoryGone);
    assert!(fault.message.contains("discarded"), "{fault}");
}

#[tokio::test]
async fn a_hot_key_and_many_runs_are_read_right() {
    let (env, ..) = world();
    let store = with_table(env, small()).await;
    let start = store.position(Hlc::ZERO).await.expect("position");
    // More keys than a run of the change index takes, twice over, and one key with many versions.
    let keys = 9_000u32;
    let mut middle = start;
    for round in 0..3u8 {
        for chunk in (0..keys).collect::<Vec<_>>().chunks(500) {
            let put = |n: &u32| Mutation::put(table(), number(*n), vec![round; 8]);
            let mut writes: Vec<_> = chunk.iter().map(put).collect();
            writes.push(Mutation::put(table(), number(5), vec![round; 8]));
            middle = store.write(writes).await.expect("write");
        }
        if round == 1 {
            store.position(Hlc::ZERO).await.expect("position");
        }
    }
    let end = store.position(Hlc::ZERO).await.expect("position");
    let id = store
        .describe(&holdfast_types::Target::Source, end)
        .await
        .expect("describe")[0]
        .id;
    let read = async |after: Hlc, history: bool| {
        let window = Window {
            after: Some(Position::Hlc(after)),
            upto: Position::Hlc(end),
            history,
        };
        let mut stream = store.read(id, KeyRange::all(), window).await.expect("read");
        let mut rows = Vec::new();
        while let Some(batch) = stream.next().await {
            rows.extend(batch.expect("rows"));
        }
        rows
    };
    let last = read(start, false).await;
    assert_eq!(last.len(), keys as usize);
    assert!(
        last.iter()
            .all(|row| row.change == Change::Put(vec![2; 8].into()))
    );
    let all = read(start, true).await;
    let hot = all.iter().filter(|row| row.key == number(5)).count();
    assert_eq!(hot, 3 * 18, "one version for every transaction");
    assert_eq!(all.len(), 3 * keys as usize - 3 + hot);
    assert!(read(middle, true).await.is_empty());
    store
        .collect_garbage(Some(Millis(0)))
        .await
        .expect("collect");
    assert_eq!(
        store.rows(&table(), None).await.expect("rows").len(),
        keys as usize
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_transactions_share_syncs_and_are_all_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().display().to_string();
    let store = MvccStore::open(Env::system(), &path, small())
        .await
        .expect("open");
    store.create_database("app").await.expect("database");
    store.create_table(&table(), "").await.expect("table");
    let writers = (0..16u32).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut positions = Vec::new();
            for n in 0..20u32 {
                let put = Mutation::put(table(), number(writer * 100 + n), "v");
                positions.push(store.write(vec![put]).await.expect("write"));
            }
            assert!(positions.is_sorted());
            positions
        })
    });
    let mut positions = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        positions.extend(writer.await.expect("a writer"));
    }
    positions.sort();
    positions.dedup();
    assert_eq!(
        positions.len(),
        320,
        "every transaction has a position of its own"
    );
    let rows = store.rows(&table(), None).await.expect("rows");
    assert_eq!(rows.len(), 320);
    assert_eq!(store.status().expect("status").commits, 320);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_gone_is_unavailable_by_name() {
    let env = Env::system();
    let store = with_table(in_memory(MemoryDisk::new()), small()).await;
    let served = serve(&env, "127.0.0.1:0", store.clone())
        .await
        .expect("serve");
    let client = MvccClient::new(env.net.clone(), served.address()).expect("client");
    let put = || vec![Mutation::put(table(), number(1), "v")];
    client.ping().await.expect("ping");
    client.write(put()).await.expect("write");
    let (_, row) = client.get(&table(), number(1), None).await.expect("get");
    assert_eq!(row.expect("a row").change, Change::Put("v".into()));
    let status = client.status().await.expect("status");
    assert_eq!(status.relations[0].count.rows_read.0, 1);
    assert_eq!(status.relations[0].count.rows_written.0, 1);
    let taken = serve(&env, served.address(), store.clone()).await;
    assert_eq!(taken.expect_err("taken").code, ErrorCode::Unavailable);

    let address = served.address().to_owned();
    served.shutdown().await;
    let fault = client.write(put()).await.expect_err("nobody is there");
    assert_eq!(fault.code, ErrorCode::Unknown, "a lost write: {fault}");
    let zero = Position::Hlc(Hlc::ZERO);
    let fault = client.source().position(zero).await.expect_err("nobody");
    assert_eq!(fault.code, ErrorCode::Unavailable);
    assert!(
        fault.is_retryable() && fault.message.contains(&address),
        "{fault}"
    );
    // It comes back, and the same client finds it.
    let served = serve(&env, &address, store).await.expect("serve again");
    client.ping().await.expect("the member is back");
    served.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_make_no_sense_are_refused() {
    let env = Env::system();
    let store = with_table(in_memory(MemoryDisk::new()), small()).await;
    let served = serve(&env, "127.0.0.1:0", store).await.expect("serve");
    let channel = channel(env.net.clone(), served.address(), ChannelOptions::default());
    let channel = channel.expect("a channel");
    let mut member = MvccMemberClient::new(channel.clone());
    let code = |status: tonic::Status| status_to_fault(&status, CallKind::Repeatable).code;
    let invalid = ErrorCode::InvalidArgument;
    let hold = member.hold(v1::MvccHoldRequest::default()).await;
    assert_eq!(code(hold.expect_err("no position")), invalid);
    let read = member.read(v1::MvccReadRequest::default()).await;
    assert_eq!(code(read.expect_err("no window")), invalid);
    let plan = member.plan(v1::MvccPlanRequest::default()).await;
    assert_eq!(code(plan.expect_err("no window")), invalid);
    let create = member.create_table(v1::MvccCreateTableRequest::default());
    assert_eq!(code(create.await.expect_err("no name")), invalid);
    let mutation = v1::MvccMutation {
        table: Some(v1::MvccTableName {
            database: "app".to_owned(),
            table: "t".to_owned(),
        }),
        key: Bytes::from_static(b"k"),
        change: None,
    };
    let write = member
        .write(v1::MvccWriteRequest {
            mutations: vec![mutation.clone()],
            unless_changed_since: None,
        })
        .await;
    assert_eq!(code(write.expect_err("no change")), invalid);
    let far = Some(v1::MvccPosition {
        micros: u64::MAX,
        logical: u32::MAX,
    });
    let position = member
        .position(v1::MvccPositionRequest { at_least: far })
        .await;
    assert_eq!(
        code(position.expect_err("the end of time")),
        ErrorCode::FailedPrecondition
    );
    let huge = v1::MvccMutation {
        change: Some(v1::mvcc_mutation::Change::Put(vec![0; 20 << 20].into())),
        ..mutation
    };
    let write = member
        .write(v1::MvccWriteRequest {
            mutations: vec![huge],
            unless_changed_since: None,
        })
        .await;
    assert!(write.is_err(), "a message beyond the bound");
    let ping = member.ping(v1::MvccPing { nonce: 5 }).await;
    assert_eq!(ping.expect("still there").into_inner().nonce, 5);
    served.shutdown().await;
}
