//! What a read costs, in bytes read from the disk: that does not depend on how busy the machine is.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use holdfast_mvcc::{Mutation, MvccStore, StoreOptions};
use holdfast_source::{Change, RestoreTable, Row};
use holdfast_types::{
    ByteCount, Hlc, JobId, KeyRange, Millis, Position, Relation, RelationId, TableName, Window,
};

use crate::model::world;

const CHANGES: u32 = 60;

fn key(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

/// Bytes read from the disk by planning and reading an incremental, by reading a full, and by garbage collection.
async fn costs(rows: u32) -> [u64; 3] {
    let (env, clock, disk) = world();
    let options = StoreOptions {
        cache: ByteCount(256 * 1024),
        ..StoreOptions::default()
    };
    let open = async || {
        let store = MvccStore::open(env.clone(), "m", options).await;
        store.expect("a store")
    };
    let store = open().await;
    let name = TableName {
        database: "app".to_owned(),
        table: "t".to_owned(),
    };
    let restored = RestoreTable {
        relation: Relation {
            id: RelationId(0),
            name: name.clone(),
            created_at: Position::Hlc(Hlc::ZERO),
            dropped_at: None,
            definition: Vec::new(),
        },
        name: name.clone(),
    };
    let job = JobId(1);
    let prepared = store.prepare_restore(job, &[restored], false).await;
    prepared.expect("prepare");
    let row = |n| Row {
        key: key(n),
        position: Position::Hlc(Hlc::ZERO),
        change: Change::Put(vec![n as u8; 400].into()),
    };
    let loaded = store.load(job, &name, (0..rows).map(row).collect()).await;
    loaded.expect("load");
    store.publish(job).await.expect("publish");
    let after = store.position(Hlc::ZERO).await.expect("position");
    for change in 0..CHANGES {
        let put = Mutation::put(name.clone(), key(change * (rows / CHANGES)), vec![1; 400]);
        store.write(vec![put]).await.expect("write");
    }
    let upto = store.position(Hlc::ZERO).await.expect("position");
    let everything = holdfast_types::Target::Source;
    let id = store.describe(&everything, upto).await.expect("describe")[0].id;
    drop(store);

    let store = open().await;
    let mut costs = [0; 3];
    for (cost, after, expected) in [(0, Some(after), CHANGES), (1, None, rows)] {
        let before = disk.bytes_read();
        let window = Window {
            after: after.map(Position::Hlc),
            upto: Position::Hlc(upto),
            history: false,
        };
        let plan = store
            .plan(id, window, ByteCount(5_000))
            .await
            .expect("plan");
        let ranges: Vec<_> = plan.try_concat().await.expect("plan");
        let mut seen = 0;
        for (range, _) in ranges {
            let mut stream = store.read(id, range, window).await.expect("read");
            while let Some(batch) = stream.next().await {
                seen += batch.expect("rows").len();
            }
        }
        assert_eq!(seen, expected as usize);
        costs[cost] = disk.bytes_read() - before;
    }
    clock.shift(10_000);
    store.position(Hlc::ZERO).await.expect("position");
    let before = disk.bytes_read();
    let step = store.collect_garbage(Some(Millis(0))).await;
    assert_eq!(step.expect("collect").removed, u64::from(CHANGES));
    costs[2] = disk.bytes_read() - before;
    let all = store.fingerprint(None, &name, KeyRange::all(), None).await;
    assert_eq!(all.expect("fingerprint").rows.0, u64::from(rows));
    costs
}

#[tokio::test]
async fn an_incremental_costs_what_changed_and_not_what_there_is() {
    let small = costs(3_000).await;
    let large = costs(60_000).await;
    assert!(
        large[1] > small[1] * 10,
        "a full grows with the data: {small:?}, {large:?}"
    );
    assert!(
        large[0] < small[0] * 2 && large[2] < small[2] * 2,
        "incrementals and garbage collection do not: {small:?}, {large:?}"
    );
}
