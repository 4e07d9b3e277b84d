//! Checks of restores.

use super::{
    Application, Fixture, assert_code, assert_tiles, changes, contents, delete, now, put, read,
    relation, snapshot, table, with_table,
};
use crate::row::{Change, Row};
use crate::source::{RestoreTable, Source};
use bytes::Bytes;
use holdfast_types::{
    ByteCount, ErrorCode, JobId, KeyRange, Relation, RowCount, RowSum, TableName, Target,
};
use std::sync::Arc;

fn restore_table(relation: &Relation, name: &TableName) -> RestoreTable {
    RestoreTable {
        relation: relation.clone(),
        name: name.clone(),
    }
}

fn target_table(name: &str) -> TableName {
    TableName {
        database: "restored".to_owned(),
        table: name.to_owned(),
    }
}

/// A source with rows in one table: those rows, and the table as a backup describes it.
async fn with_rows(
    fixture: &mut dyn Fixture,
) -> (
    Arc<dyn Source>,
    Arc<dyn Application>,
    TableName,
    Relation,
    Vec<Row>,
) {
    let (source, application, name) = with_table(fixture).await;
    let writes = (0..500u32).map(|n| put(&name, n, vec![n as u8; 50 + n as usize]));
    application.write(writes.collect()).await;
    application
        .write((0..50).map(|n| delete(&name, n * 10)).collect())
        .await;
    let at = now(&*source).await;
    let described = relation(&*source, &name, at).await;
    let rows = read(&*source, described.id, snapshot(at)).await;
    assert_eq!(rows.len(), 450);
    (source, application, name, described, rows)
}

pub(super) async fn restores_are_invisible_until_published(fixture: &mut dyn Fixture) {
    let (source, application, _, described, rows) = with_rows(fixture).await;
    let (job, name, other) = (JobId(7), target_table("t"), target_table("u"));
    let tables = [
        restore_table(&described, &name),
        restore_table(&described, &other),
    ];
    let prepare = || source.prepare_restore(job, &tables, false);
    prepare().await.expect("prepare");
    prepare().await.expect("prepare again");
    source.load(job, &name, rows.clone()).await.expect("load");
    prepare().await.expect("prepare after loading");
    let before = now(&*source).await;
    let seen = source.describe(&Target::Source, before).await;
    assert_eq!(seen.expect("describe").len(), 1, "only the original");
    assert_eq!(source.databases(before).await.expect("databases"), ["app"]);
    assert_eq!(application.rows(&name).await, None);

    source.publish(job).await.expect("publish");
    let published = relation(&*source, &name, now(&*source).await).await;
    source.publish(job).await.expect("publish again");
    let after = now(&*source).await;
    let same = relation(&*source, &name, after).await;
    assert_eq!(published, same, "publishing again changes nothing");
    let twin = relation(&*source, &other, after).await;
    assert_eq!(published.created_at, twin.created_at, "all at once");
    assert_eq!(
        published.definition, described.definition,
        "the definition is restored"
    );
    assert!(before < published.created_at && published.created_at <= after);
    assert_eq!(application.rows(&name).await, Some(contents(&rows)));
    assert_eq!(application.rows(&other).await, Some(vec![]));
    source.discard_restore(job).await.expect("too late");
    prepare().await.expect("prepare when all is done");
    assert_eq!(application.rows(&name).await, Some(contents(&rows)));
    let load = source.load(job, &name, rows).await;
    assert_code(
        load,
        ErrorCode::FailedPrecondition,
        "loading what is published",
    );
}

pub(super) async fn loading_is_idempotent_and_in_any_order(fixture: &mut dyn Fixture) {
    let (source, application, _, described, rows) = with_rows(fixture).await;
    let (job, name) = (JobId(8), target_table("t"));
    let load = source.load(job, &name, rows.clone()).await;
    assert_code(load, ErrorCode::NotFound, "loading without preparing");
    source
        .prepare_restore(job, &[restore_table(&described, &name)], false)
        .await
        .expect("prepare");
    let spans: Vec<_> = rows.chunks(60).collect();
    for span in spans.iter().rev() {
        source.load(job, &name, span.to_vec()).await.expect("load");
    }
    // A worker that lost its answers does some of it again, in its own pieces.
    for part in rows[100..300].chunks(7) {
        source.load(job, &name, part.to_vec()).await.expect("again");
    }
    let wrong_job = source.load(JobId(9), &name, rows.clone()).await;
    assert!(wrong_job.is_err(), "another job cannot write it");
    source.publish(job).await.expect("publish");
    assert_eq!(application.rows(&name).await, Some(contents(&rows)));
}

pub(super) async fn discard_leaves_nothing(fixture: &mut dyn Fixture) {
    let (source, application, _, described, rows) = with_rows(fixture).await;
    let (job, name) = (JobId(10), target_table("t"));
    let tables = [restore_table(&described, &name)];
    source.discard_restore(job).await.expect("nothing to undo");
    source
        .prepare_restore(job, &tables, false)
        .await
        .expect("prepare");
    source.load(job, &name, rows.clone()).await.expect("load");
    source.discard_restore(job).await.expect("discard");
    source.discard_restore(job).await.expect("discard again");
    let late = source.load(job, &name, rows.clone()).await;
    assert_code(late, ErrorCode::NotFound, "a late load");
    let print = source
        .fingerprint(Some(job), &name, KeyRange::all(), None)
        .await;
    assert_code(print, ErrorCode::NotFound, "a fingerprint of nothing");
    source.publish(job).await.expect("nothing to publish");
    let at = now(&*source).await;
    assert_eq!(source.databases(at).await.expect("databases"), ["app"]);
    // The names are free, and nothing of the old rows shines through.
    application.create_database("restored").await;
    application.create_table(&name).await;
    assert_eq!(application.rows(&name).await, Some(vec![]));
}

pub(super) async fn name_conflicts_are_refused(fixture: &mut dyn Fixture) {
    let (source, application, name, described, _) = with_rows(fixture).await;
    let (job, other) = (JobId(11), JobId(12));
    let onto = [restore_table(&described, &name)];
    let result = source.prepare_restore(job, &onto, true).await;
    assert_code(result, ErrorCode::AlreadyExists, "a table that exists");
    let result = source.prepare_restore(job, &onto, false).await;
    assert_code(result, ErrorCode::AlreadyExists, "a database that exists");
    let beside = [restore_table(&described, &table("fresh"))];
    let elsewhere = [restore_table(&described, &target_table("t"))];
    let result = source.prepare_restore(job, &elsewhere, true).await;
    assert_code(
        result,
        ErrorCode::NotFound,
        "a database that does not exist",
    );
    source
        .prepare_restore(job, &beside, true)
        .await
        .expect("a new table in a database that exists");
    let result = source.prepare_restore(other, &beside, true).await;
    assert_code(result, ErrorCode::AlreadyExists, "a name another job took");
    // A refused restore has left nothing behind.
    let both = [beside[0].clone(), restore_table(&described, &table("free"))];
    let result = source.prepare_restore(other, &both, true).await;
    assert_code(result, ErrorCode::AlreadyExists, "one name of two is taken");
    application.create_table(&table("free")).await;
    source.discard_restore(job).await.expect("discard");
    source
        .prepare_restore(other, &beside, true)
        .await
        .expect("the name is free again");
}

pub(super) async fn restored_tables_can_be_backed_up(fixture: &mut dyn Fixture) {
    let (source, application, _, described, rows) = with_rows(fixture).await;
    let (job, name) = (JobId(13), target_table("t"));
    let start = now(&*source).await;
    source
        .prepare_restore(job, &[restore_table(&described, &name)], false)
        .await
        .expect("prepare");
    source.load(job, &name, rows.clone()).await.expect("load");
    source.publish(job).await.expect("publish");
    let published = now(&*source).await;
    let restored = relation(&*source, &name, published).await;
    let changed = rows[3].key.clone();
    application
        .write(vec![(name.clone(), changed.clone(), None)])
        .await;
    let end = now(&*source).await;

    let id = restored.id;
    let full = read(&*source, id, snapshot(published)).await;
    assert_eq!(contents(&full), contents(&rows));
    let new = read(&*source, id, changes(start, published, false)).await;
    assert_eq!(
        contents(&new),
        contents(&rows),
        "a window that saw the table appear holds all of it"
    );
    assert!(new.iter().all(|row| row.position == restored.created_at));
    let later = read(&*source, id, changes(restored.created_at, end, true)).await;
    assert_eq!(
        later.len(),
        1,
        "and one that did not, only what changed since"
    );
    assert!(later[0].key == changed && later[0].change == Change::Delete);
    let all = read(&*source, id, changes(start, end, true)).await;
    assert_eq!(all.len(), rows.len() + 1);
    for window in [changes(start, end, false), changes(published, end, false)] {
        let ranges = source.plan(id, window, ByteCount(1_000)).await;
        assert_tiles(&ranges.expect("plan"));
    }
    application.discard_history().await;
    let at = now(&*source).await;
    let left = read(&*source, id, snapshot(at)).await;
    assert_eq!(left.len(), rows.len() - 1, "after garbage collection");
}

pub(super) async fn fingerprints_add_up(fixture: &mut dyn Fixture) {
    let (source, application, name, described, rows) = with_rows(fixture).await;
    let mut expected = RowSum::default();
    for (key, value) in contents(&rows) {
        expected.add(&key, &value);
    }
    let (job, target) = (JobId(14), target_table("t"));
    source
        .prepare_restore(job, &[restore_table(&described, &target)], false)
        .await
        .expect("prepare");
    source.load(job, &target, rows.clone()).await.expect("load");
    let all = KeyRange::all;
    let prepared = source.fingerprint(Some(job), &target, all(), None).await;
    let prepared = prepared.expect("fingerprint of a prepared table");
    assert_eq!(prepared.rows, expected.rows);
    assert_eq!(prepared.bytes, expected.bytes);
    assert_eq!(prepared.digest, expected.digest);
    source.publish(job).await.expect("publish");
    let published = source.fingerprint(Some(job), &target, all(), None).await;
    assert_eq!(published.expect("of a published table"), prepared);
    let original = source.fingerprint(None, &name, all(), None).await;
    assert_eq!(original.expect("of the original"), prepared);

    let at = now(&*source).await;
    application.write(vec![put(&name, 1, "changed")]).await;
    let now_differs = source.fingerprint(None, &name, all(), None).await;
    assert_ne!(now_differs.expect("now").digest, prepared.digest);
    let then = source.fingerprint(None, &name, all(), Some(at)).await;
    assert_eq!(then.expect("as of then"), prepared);
    let middle = rows[200].key.clone();
    let mut sum = RowSum::default();
    for range in [
        KeyRange {
            start: middle.clone(),
            end: Bytes::new(),
        },
        KeyRange {
            start: Bytes::new(),
            end: middle,
        },
    ] {
        let part = source.fingerprint(None, &name, range, Some(at)).await;
        let part = part.expect("a part");
        assert!(part.rows < RowCount(450));
        sum.merge(&RowSum {
            rows: part.rows,
            bytes: part.bytes,
            digest: part.digest,
        });
    }
    assert_eq!(sum, expected, "parts add up, in any order");
}
