//! What a fake worker makes of a source whose history is a log: a database `bank` with a table, settled by a span of its own.

use holdfast_collection::{CollectionStore, DataName, StoreProvider};
use holdfast_env::Env;
use holdfast_format::{Change, Entry, SpanFileOptions, SpanFileWriter};
use holdfast_proto::{Grant, LeaseReportBody, SpanWork};
use holdfast_types::{
    BackupSpec, ByteCount, Hlc, Lsn, Millis, PlannedSpan, Relation, RelationId, RowCount, Sealed,
    Settled, SettledDatabase, TableName,
};
use std::sync::Arc;

/// A member whose clock is an hour ahead.
pub(crate) const AHEAD: &str = "ahead";

/// A member that keeps no log.
pub(crate) const LOOSE: &str = "loose";
/// A member without databases.
pub(crate) const BARE: &str = "bare";

const DATABASE: RelationId = RelationId(1 << 32);
const TABLE: RelationId = RelationId((1 << 32) | 1);

fn relation(id: RelationId, name: TableName) -> Relation {
    Relation {
        id,
        name,
        created_at: Lsn::at(1).into(),
        dropped_at: None,
        definition: Vec::new(),
    }
}

fn table() -> Relation {
    let name = TableName {
        database: "bank".into(),
        table: "public.accounts".into(),
    };
    relation(TABLE, name)
}

/// An incremental has its log only.
pub(crate) fn plan(spec: &BackupSpec, member: u32) -> LeaseReportBody {
    let span = |relation, settles| PlannedSpan {
        relation,
        start: Sealed::open_end(),
        end: Sealed::open_end(),
        weight: ByteCount(100),
        settles,
    };
    let database = relation(DATABASE, TableName::of_database("bank"));
    let is_bare = spec.members[member as usize].member.name.as_str() == BARE;
    let (relations, spans) = match spec.parent {
        _ if is_bare => (vec![], vec![]),
        None => (
            vec![table(), database],
            vec![span(TABLE, false), span(DATABASE, true)],
        ),
        Some(_) => (vec![database], vec![span(DATABASE, true)]),
    };
    LeaseReportBody::Plan {
        batch: 0,
        relations,
        spans,
        last: true,
    }
}

/// Does a span in one part; a settling one ends now, by the clock and by the count of its microseconds.
pub(crate) async fn transfer(
    env: &Env,
    stores: &Arc<dyn StoreProvider>,
    grant: &Grant,
    spec: &BackupSpec,
    span: &SpanWork,
) -> LeaseReportBody {
    let member = &spec.members[span.member as usize].member.name;
    let now = env.clock.now();
    let now = match member.as_str() {
        AHEAD => now.plus(Millis(3_600_000)),
        _ => now,
    };
    let end = Settled {
        position: Lsn::at(now.as_micros()).into(),
        at: Hlc::at(now),
    };
    let uri = spec.collection.parse().expect("a uri");
    let store = CollectionStore::open(stores, &uri, env)
        .await
        .expect("open");
    let mut writer = SpanFileWriter::new(SpanFileOptions::default()).expect("a writer");
    writer
        .push(&Entry {
            key: vec![0].into(),
            position: end.position,
            change: Change::Put(b"value".as_slice().into()),
        })
        .expect("in order");
    let (bytes, summary) = writer.finish().expect("finished");
    let name = DataName::new(grant.lease.task, grant.lease.epoch, 0);
    let object = store
        .put_data(&spec.path, name, vec![bytes], &summary)
        .await
        .expect("put");
    LeaseReportBody::Checkpoint {
        from: span.frontier.clone(),
        to: span.end.clone(),
        last: true,
        objects: vec![object],
        read: ByteCount(100),
        written: ByteCount(50),
        rows: RowCount(1),
        settled: span.settles.then(|| SettledDatabase {
            end,
            relations: vec![table()],
            keeps_history: member.as_str() != LOOSE,
        }),
    }
}
