//! Checks of reads, windows and plans.

use super::{
    Fixture, assert_code, assert_tiles, changes, contents, delete, key, now, put, read, relation,
    snapshot, try_read, with_table,
};
use crate::row::{Change, Row};
use crate::source::{ReadRequest, successor};
use bytes::Bytes;
use futures::StreamExt;
use holdfast_types::{ByteCount, ErrorCode, KeyRange, Position};
use std::collections::BTreeMap;

pub(super) async fn reads_are_exact_while_writers_run(fixture: &mut dyn Fixture) {
    const ACCOUNTS: u32 = 300;
    const TOTAL: u64 = ACCOUNTS as u64 * 100;
    let (source, application, name) = with_table(fixture).await;
    let balance = |amount: u64| {
        let mut value = amount.to_be_bytes().to_vec();
        // Long enough for several batches.
        value.resize(8 * 1024, 0xa5);
        value
    };
    let opening = (0..ACCOUNTS).map(|number| put(&name, number, balance(100)));
    for chunk in opening.collect::<Vec<_>>().chunks(100) {
        application.write(chunk.to_vec()).await;
    }
    let id = relation(&*source, &name, now(&*source).await).await.id;

    let transfers = async {
        let mut balances = vec![100u64; ACCOUNTS as usize];
        for round in 0..150u32 {
            let (from, to) = (round % ACCOUNTS, (round * 7 + 13) % ACCOUNTS);
            if from == to || balances[from as usize] == 0 {
                continue;
            }
            balances[from as usize] -= 1;
            balances[to as usize] += 1;
            application
                .write(vec![
                    put(&name, from, balance(balances[from as usize])),
                    put(&name, to, balance(balances[to as usize])),
                ])
                .await;
        }
    };
    let reads = async {
        for _ in 0..6 {
            let at = now(&*source).await;
            let first = contents(&read(&*source, id, snapshot(at)).await);
            let sum: u64 = first
                .iter()
                .map(|(_, value)| u64::from_be_bytes(value[..8].try_into().expect("eight bytes")))
                .sum();
            assert_eq!(first.len(), ACCOUNTS as usize);
            assert_eq!(sum, TOTAL, "money is conserved at {at}");
            let second = contents(&read(&*source, id, snapshot(at)).await);
            assert!(first == second, "a read at {at} can be repeated");
        }
    };
    futures::join!(transfers, reads);
}

pub(super) async fn resume_gives_the_remainder(fixture: &mut dyn Fixture) {
    let (source, application, name) = with_table(fixture).await;
    let start = now(&*source).await;
    for base in 0..3 {
        let writes = (0..200)
            .filter(|number| number % 3 == base % 3 || base == 0)
            .map(|number| put(&name, number, vec![base as u8; 64]));
        application.write(writes.collect()).await;
    }
    application
        .write((0..50).map(|n| delete(&name, n * 4)).collect())
        .await;
    let at = now(&*source).await;
    let id = relation(&*source, &name, at).await.id;
    for window in [
        snapshot(at),
        changes(start, at, false),
        changes(start, at, true),
    ] {
        let all = read(&*source, id, window).await;
        assert!(all.len() > 100);
        for index in (0..all.len()).step_by(17) {
            let range = KeyRange {
                start: successor(&all[index].key),
                end: Bytes::new(),
            };
            let rest = try_read(&*source, id, range, window).await.expect("resume");
            let expected: Vec<Row> = all
                .iter()
                .filter(|row| row.key > all[index].key)
                .cloned()
                .collect();
            assert!(rest == expected, "the remainder after key {index}");
        }
    }
}

pub(super) async fn plans_tile(fixture: &mut dyn Fixture) {
    let (source, application, name) = with_table(fixture).await;
    let start = now(&*source).await;
    let id = relation(&*source, &name, start).await.id;
    let empty = source
        .plan(id, snapshot(start), ByteCount(100))
        .await
        .expect("plan");
    assert_tiles(&empty);
    for number in 0..10u32 {
        let writes = (0..100).map(|n| put(&name, number * 100 + n, vec![7u8; 100]));
        application.write(writes.collect()).await;
    }
    let at = now(&*source).await;
    for window in [
        snapshot(at),
        changes(start, at, false),
        changes(start, at, true),
    ] {
        let whole = read(&*source, id, window).await;
        let bytes: u64 = whole.iter().map(|row| row.logical_len() as u64).sum();
        for target in [1_000, 10_000, 100_000_000] {
            let ranges = source
                .plan(id, window, ByteCount(target))
                .await
                .expect("plan");
            assert_tiles(&ranges);
            let expected = (bytes / target).max(1);
            let count = ranges.len() as u64;
            assert!(
                count >= expected / 3 && count <= expected * 3 + 1,
                "{count} ranges for {bytes} bytes at {target}"
            );
            let mut rows = Vec::new();
            for (range, _) in ranges {
                rows.extend(try_read(&*source, id, range, window).await.expect("read"));
            }
            assert!(rows == whole, "the ranges hold what the whole holds");
        }
    }
}

pub(super) async fn changes_are_complete(fixture: &mut dyn Fixture) {
    let (source, application, name) = with_table(fixture).await;
    let mut log: Vec<(Position, u32, Option<Bytes>)> = Vec::new();
    let mut marks = vec![now(&*source).await];
    for step in 0..60u32 {
        let mut writes = BTreeMap::new();
        for offset in 0..step % 5 + 1 {
            let number = (step * 7 + offset * 11) % 40;
            let deleted = (step + offset) % 4 == 3;
            let value = (!deleted).then(|| Bytes::from(format!("{step}.{offset}")));
            writes.insert(number, value);
        }
        let batch = writes
            .iter()
            .map(|(number, value)| (name.clone(), key(*number), value.clone()))
            .collect();
        let position = application.write(batch).await;
        log.extend(
            writes
                .into_iter()
                .map(|(number, value)| (position, number, value)),
        );
        if step % 9 == 0 {
            marks.push(now(&*source).await);
        }
    }
    marks.push(now(&*source).await);
    let id = relation(&*source, &name, marks[0]).await.id;
    for (index, after) in marks.iter().enumerate() {
        for upto in &marks[index..] {
            let versions = |number: u32| {
                let seen = log.iter().filter(move |(position, n, _)| {
                    *n == number && position > after && position <= upto
                });
                seen.rev().map(|(position, number, value)| Row {
                    key: key(*number),
                    position: *position,
                    change: value.clone().map_or(Change::Delete, Change::Put),
                })
            };
            let mut keys: Vec<u32> = (0..40).collect();
            keys.sort_by_key(|number| key(*number));
            let all: Vec<Row> = keys.iter().flat_map(|n| versions(*n)).collect();
            let last: Vec<Row> = keys.iter().filter_map(|n| versions(*n).next()).collect();
            let found = read(&*source, id, changes(*after, *upto, true)).await;
            assert!(found == all, "every version in ({after}, {upto}]");
            let found = read(&*source, id, changes(*after, *upto, false)).await;
            assert!(found == last, "the last versions in ({after}, {upto}]");
        }
    }
}

pub(super) async fn window_boundaries_are_exact(fixture: &mut dyn Fixture) {
    let (source, application, name) = with_table(fixture).await;
    let one = application.write(vec![put(&name, 1, "one")]).await;
    let two = application.write(vec![put(&name, 2, "two")]).await;
    let three = application.write(vec![delete(&name, 1)]).await;
    let id = relation(&*source, &name, one).await.id;
    let keys = |rows: Vec<Row>| -> Vec<Bytes> { rows.into_iter().map(|row| row.key).collect() };
    let at = |window| read(&*source, id, window);
    assert_eq!(
        keys(at(changes(one, two, true)).await),
        [key(2)],
        "the start does not belong to the window, the end does"
    );
    assert!(at(changes(two, two, true)).await.is_empty());
    assert_eq!(keys(at(changes(two, three, true)).await), [key(1)]);
    assert_eq!(keys(at(snapshot(one)).await), [key(1)]);
    assert_eq!(keys(at(snapshot(two)).await), [key(1), key(2)]);
    assert_eq!(keys(at(snapshot(three)).await), [key(2)]);
    let created = relation(&*source, &name, one).await.created_at;
    let backwards = changes(two, one, false);
    let result = try_read(&*source, id, KeyRange::all(), backwards).await;
    assert_code(result, ErrorCode::InvalidArgument, "a window backwards");
    assert!(created < one);
}

pub(super) async fn a_dropped_stream_stops(fixture: &mut dyn Fixture) {
    let (source, application, name) = with_table(fixture).await;
    for chunk in 0..8u32 {
        let writes = (0..64).map(|n| put(&name, chunk * 64 + n, vec![1u8; 16 * 1024]));
        application.write(writes.collect()).await;
    }
    let at = now(&*source).await;
    let id = relation(&*source, &name, at).await.id;
    for _ in 0..20 {
        let request = ReadRequest {
            relation: id,
            range: KeyRange::all(),
            window: snapshot(at),
        };
        let mut stream = source.read(request).await.expect("read");
        let batch = stream.next().await.expect("a batch").expect("rows");
        assert!(!batch.is_empty());
        drop(stream);
    }
    // Whatever the dropped reads held is free again.
    application.write(vec![put(&name, 1, "still there")]).await;
    assert_eq!(read(&*source, id, snapshot(at)).await.len(), 512);
}

pub(super) async fn large_rows_pass(fixture: &mut dyn Fixture) {
    let (source, application, name) = with_table(fixture).await;
    let value = Bytes::from(vec![0x5a; 7 * 1024 * 1024]);
    let start = now(&*source).await;
    for _ in 0..3 {
        application.write(vec![put(&name, 1, value.clone())]).await;
    }
    application.write(vec![put(&name, 2, "small")]).await;
    let at = now(&*source).await;
    let id = relation(&*source, &name, at).await.id;
    let rows = contents(&read(&*source, id, snapshot(at)).await);
    assert!(rows.len() == 2 && rows[0].1 == value);
    let versions = read(&*source, id, changes(start, at, true)).await;
    assert_eq!(versions.len(), 4, "the versions of one key stay together");
}
