//! Checks of positions, descriptions and holds.

use super::{
    Fixture, assert_code, changes, contents, now, put, read, relation, snapshot, table, try_read,
    with_table,
};
use holdfast_types::{
    ByteCount, ErrorCode, HoldId, KeyRange, Position, Relation, RelationId, Target,
};

pub(super) async fn describe_is_as_of(fixture: &mut dyn Fixture) {
    let (source, application) = fixture.fresh().await;
    let empty = now(&*source).await;
    application.create_database("app").await;
    application.create_table(&table("a")).await;
    let one = now(&*source).await;
    application.create_table(&table("b")).await;
    let two = now(&*source).await;
    application.drop_table(&table("a")).await;
    let dropped = now(&*source).await;
    application.create_table(&table("a")).await;
    let again = now(&*source).await;

    let names = |relations: Vec<Relation>| -> Vec<String> {
        relations
            .into_iter()
            .map(|relation| relation.name.table)
            .collect()
    };
    let all = Target::Source;
    for (at, expected) in [
        (empty, vec![]),
        (one, vec!["a"]),
        (two, vec!["a", "b"]),
        (dropped, vec!["b"]),
        (again, vec!["b", "a"]),
    ] {
        let relations = source.describe(&all, at).await.expect("describe");
        assert!(
            relations.windows(2).all(|pair| pair[0].id < pair[1].id),
            "relations are sorted by id"
        );
        assert!(relations.iter().all(|relation| relation.created_at <= at));
        assert_eq!(names(relations), expected, "tables at {at}");
    }
    let first = relation(&*source, &table("a"), two).await;
    let second = relation(&*source, &table("a"), again).await;
    assert_ne!(first.id, second.id, "a table made again has a new id");
    let databases = source.databases(again).await.expect("databases");
    assert_eq!(databases, ["app"]);
    assert!(source.databases(empty).await.expect("none").is_empty());
}

pub(super) async fn unknown_targets_are_named(fixture: &mut dyn Fixture) {
    let (source, _application, name) = with_table(fixture).await;
    let at = now(&*source).await;
    for target in [
        Target::Databases(vec!["app".to_owned(), "nosuch".to_owned()]),
        Target::Tables(vec![name.clone(), table("nosuch")]),
    ] {
        let fault = source.describe(&target, at).await.expect_err("unknown");
        assert_eq!(fault.code, ErrorCode::NotFound);
        assert!(
            fault.message.contains("nosuch"),
            "the message names it: {fault}"
        );
    }
    let nowhere = RelationId(u64::MAX - 1);
    let window = snapshot(at);
    let result = try_read(&*source, nowhere, KeyRange::all(), window).await;
    assert_code(result, ErrorCode::NotFound, "reading no relation");
    let plan = source.plan(nowhere, window, ByteCount(1)).await;
    assert_code(plan, ErrorCode::NotFound, "planning no relation");
}

pub(super) async fn positions_grow(fixture: &mut dyn Fixture) {
    let (source, application, name) = with_table(fixture).await;
    let mut last = now(&*source).await;
    for number in 0..20 {
        let committed = application.write(vec![put(&name, number, "v")]).await;
        assert!(committed > last, "a commit lies after what was shown");
        let shown = now(&*source).await;
        assert!(shown >= committed, "what is shown covers what is committed");
        last = shown;
    }
    let shown = source.position(last).await.expect("position");
    assert!(shown >= last);
    assert!(application.write(vec![put(&name, 0, "w")]).await > shown);
    let Position::Hlc(far) = last else { return };
    let far = Position::Hlc(holdfast_types::Hlc::at(
        far.wall.plus(holdfast_types::Millis(3_600_000)),
    ));
    assert_code(
        source.position(far).await,
        ErrorCode::FailedPrecondition,
        "moving the clock by an hour",
    );
}

pub(super) async fn dropped_tables_keep_their_history(fixture: &mut dyn Fixture) {
    let (source, application, name) = with_table(fixture).await;
    let start = now(&*source).await;
    let id = relation(&*source, &name, start).await.id;
    application.write(vec![put(&name, 1, "one")]).await;
    let before = now(&*source).await;
    application.drop_table(&name).await;
    let end = now(&*source).await;
    let dropped = source
        .dropped(&Target::Source, start, end)
        .await
        .expect("dropped");
    assert_eq!(dropped.len(), 1, "the table dropped in the window");
    assert_eq!(dropped[0].id, id);
    let at = dropped[0].dropped_at.expect("when it was dropped");
    assert!(before < at && at <= end);
    let versions = read(&*source, id, changes(start, end, true)).await;
    assert_eq!(versions.len(), 1, "what it held in the window");
    assert_eq!(
        contents(&read(&*source, id, snapshot(before)).await).len(),
        1
    );
    let gone = try_read(&*source, id, KeyRange::all(), snapshot(end)).await;
    assert_code(gone, ErrorCode::NotFound, "reading what was dropped");
}

pub(super) async fn holds_keep_history(fixture: &mut dyn Fixture) {
    let (source, application, name) = with_table(fixture).await;
    let overwrite = |value: &'static str| {
        let writes = (0..30).map(|number| put(&name, number, value));
        application.write(writes.collect())
    };
    overwrite("first").await;
    let old = now(&*source).await;
    let id = relation(&*source, &name, old).await.id;
    source.hold(HoldId(1), old).await.expect("hold");
    source.hold(HoldId(1), old).await.expect("hold again");
    source.hold(HoldId(2), old).await.expect("another hold");
    overwrite("second").await;
    let middle = now(&*source).await;
    overwrite("third").await;
    let late = now(&*source).await;
    source.release(HoldId(2)).await.expect("release");
    application.discard_history().await;
    let seen = contents(&read(&*source, id, snapshot(old)).await);
    assert!(
        seen.len() == 30 && seen.iter().all(|(_, value)| value == "first"),
        "a hold keeps history"
    );
    assert_eq!(read(&*source, id, changes(old, late, true)).await.len(), 60);

    source.hold(HoldId(1), middle).await.expect("move the hold");
    application.discard_history().await;
    let gone = try_read(&*source, id, KeyRange::all(), snapshot(old)).await;
    assert_code(gone, ErrorCode::HistoryGone, "reading what was discarded");
    let window = changes(old, late, false);
    let gone = try_read(&*source, id, KeyRange::all(), window).await;
    assert_code(
        gone,
        ErrorCode::HistoryGone,
        "a window before the threshold",
    );
    let gone = source.plan(id, window, ByteCount(1)).await;
    assert_code(gone, ErrorCode::HistoryGone, "planning such a window");
    let gone = source.hold(HoldId(3), old).await;
    assert_code(gone, ErrorCode::HistoryGone, "holding what is gone");
    assert_eq!(
        read(&*source, id, changes(middle, late, true)).await.len(),
        30,
        "the moved hold keeps what it names"
    );

    source.release(HoldId(1)).await.expect("release");
    source.release(HoldId(1)).await.expect("release again");
    source
        .release(HoldId(99))
        .await
        .expect("release what never was");
    application.discard_history().await;
    let gone = try_read(&*source, id, KeyRange::all(), snapshot(middle)).await;
    assert_code(gone, ErrorCode::HistoryGone, "after the release");
    let at = now(&*source).await;
    let seen = contents(&read(&*source, id, snapshot(at)).await);
    assert!(seen.len() == 30 && seen.iter().all(|(_, value)| value == "third"));
}
