//! Jobs: what a leader does with them.

use holdfast_format::{Layer, ManifestEntry};
use holdfast_proto::{Lease, LeaseReport, LeaseReportBody, SpanWork, Work};
use holdfast_types::{
    BackupSpec, ByteCount, Fault, Hlc, JobId, JobSpec, KeyRange, LayerPath, Locality, ParentLayer,
    PlannedSpan, Position, Relation, RestoreMember, RestoreOptions, RestoreSpec, RowCount, Sealed,
    SettledDatabase, SourceKind, Target, VerifySpec, Window,
};
use std::collections::BTreeMap;

use super::{Conversation, DATABASE, PART, World, at, backup, checkpoint, grant, key, member};

const FULL: &str = "2026/11/24-010000.00";

/// A full backup, or the incremental on a layer.
pub(crate) fn spec(parent: Option<&Committed>, history: bool) -> BackupSpec {
    let path = match parent {
        None => LayerPath::full(FULL),
        Some(parent) => LayerPath::incremental(
            FULL,
            format!("20261124/0100{:02}.00-20261124-010000.00", parent.depth),
        ),
    };
    let named = parent.map(|parent| ParentLayer {
        path: parent.path.clone(),
        manifest: parent.layer.digest,
        end: parent.end,
    });
    BackupSpec {
        kind: SourceKind::Postgres,
        ..backup(path, named, at(1000), history)
    }
}

/// A layer and where it ended.
pub(crate) struct Committed {
    pub(crate) layer: Layer,
    pub(crate) path: LayerPath,
    pub(crate) position: Position,
    pub(crate) end: Hlc,
    pub(crate) depth: usize,
}

/// Gives tasks of one job, one after another.
pub(crate) struct Job {
    id: u64,
    spec: JobSpec,
    tasks: u32,
}

impl Job {
    pub(crate) fn new(id: u64, spec: impl Into<JobSpecOf>) -> Self {
        Self {
            id,
            spec: spec.into().0,
            tasks: 0,
        }
    }

    pub(crate) fn lease(&mut self) -> Lease {
        self.tasks += 1;
        Lease::new(self.id, self.tasks, 1)
    }

    pub(crate) async fn run(&mut self, leader: &mut Conversation, work: Work) -> Vec<LeaseReport> {
        let lease = self.lease();
        leader.grant(&grant(self.spec.clone(), lease, work)).await;
        leader.accept_all(lease).await
    }

    pub(crate) async fn plan(
        &mut self,
        leader: &mut Conversation,
    ) -> (Vec<Relation>, Vec<PlannedSpan>) {
        self.plan_by(leader, 1 << 20).await
    }

    /// Plans with spans of about so many bytes.
    pub(crate) async fn plan_by(
        &mut self,
        leader: &mut Conversation,
        span_size: u64,
    ) -> (Vec<Relation>, Vec<PlannedSpan>) {
        let work = Work::Plan {
            member: 0,
            span_size: ByteCount(span_size),
        };
        let (mut relations, mut spans) = (Vec::new(), Vec::new());
        for report in self.run(leader, work).await {
            match report.body {
                LeaseReportBody::Plan {
                    relations: some,
                    spans: more,
                    ..
                } => {
                    relations.extend(some);
                    spans.extend(more);
                }
                other => panic!("not a plan: {other:?}"),
            }
        }
        (relations, spans)
    }
}

pub(crate) struct JobSpecOf(JobSpec);

impl From<JobSpec> for JobSpecOf {
    fn from(spec: JobSpec) -> Self {
        Self(spec)
    }
}

impl From<BackupSpec> for JobSpecOf {
    fn from(spec: BackupSpec) -> Self {
        Self(JobSpec::Backup(spec))
    }
}

impl From<VerifySpec> for JobSpecOf {
    fn from(spec: VerifySpec) -> Self {
        Self(JobSpec::Verify(spec))
    }
}

impl From<RestoreSpec> for JobSpecOf {
    fn from(spec: RestoreSpec) -> Self {
        Self(JobSpec::Restore(spec))
    }
}

/// A planned span from a frontier on, as the leader grants it.
pub(crate) fn work(planned: &PlannedSpan, relations: &[Relation], frontier: &Sealed) -> Work {
    let record = relations
        .iter()
        .find(|relation| relation.id == planned.relation);
    let others = relations
        .iter()
        .filter(|relation| planned.settles && relation.id != planned.relation);
    Work::Span(SpanWork {
        member: 0,
        relation: planned.relation,
        start: planned.start.clone(),
        end: planned.end.clone(),
        frontier: frontier.clone(),
        record: record.cloned(),
        settles: planned.settles,
        planned: others.cloned().collect(),
    })
}

/// The objects of a span's checkpoints, as the manifest lists them.
pub(crate) fn entries(planned: &PlannedSpan, reports: &[LeaseReport]) -> Vec<ManifestEntry> {
    let open = |sealed: &Sealed| key().open_bound(sealed).expect("opens").into();
    reports
        .iter()
        .flat_map(|report| {
            let done = checkpoint(&report.body);
            let range = KeyRange {
                start: open(&done.from),
                end: open(&done.to),
            };
            done.objects.into_iter().map(move |object| ManifestEntry {
                member: 0,
                relation: planned.relation,
                range: range.clone(),
                object,
            })
        })
        .collect()
}

pub(crate) fn settled(report: &LeaseReport) -> SettledDatabase {
    match &report.body {
        LeaseReportBody::Checkpoint {
            settled: Some(found),
            last: true,
            ..
        } => found.clone(),
        other => panic!("it settles nothing: {other:?}"),
    }
}

pub(crate) fn failure(report: &LeaseReport) -> Fault {
    match &report.body {
        LeaseReportBody::Failed { fault } => fault.clone(),
        other => panic!("no failure: {other:?}"),
    }
}

/// Commits a layer as the leader would.
pub(crate) async fn commit(
    world: &World,
    id: u64,
    spec: &BackupSpec,
    parent: Option<&Committed>,
    database: &Relation,
    (found, entries): (SettledDatabase, Vec<ManifestEntry>),
) -> Committed {
    let window = Window {
        after: parent.map(|parent| parent.position),
        upto: found.end.position,
        history: spec.history,
    };
    let mut relations = vec![Relation {
        definition: Vec::new(),
        ..database.clone()
    }];
    relations.extend(found.relations);
    let end = found.end.at;
    let committing =
        world
            .collection
            .commit_until(JobId(id), spec, &relations, &entries, window, end);
    Committed {
        layer: committing.await,
        path: spec.path.clone(),
        position: found.end.position,
        end,
        depth: parent.map_or(1, |parent| parent.depth + 1),
    }
}

/// Takes a backup, calling `meanwhile` before each span.
pub(crate) async fn back_up(
    world: &World,
    leader: &mut Conversation,
    id: u64,
    spec: &BackupSpec,
    parent: Option<&Committed>,
    mut meanwhile: impl FnMut(usize),
) -> Committed {
    let mut job = Job::new(id, spec.clone());
    let (relations, spans) = job.plan(leader).await;
    let mut listed = Vec::new();
    let mut found = None;
    for (index, planned) in spans.iter().enumerate() {
        meanwhile(index);
        let work = work(planned, &relations, &planned.start);
        let reports = job.run(leader, work).await;
        listed.extend(entries(planned, &reports));
        if planned.settles {
            found = Some(settled(reports.last().expect("a report")));
        }
    }
    let database = relations.iter().find(|relation| relation.id == DATABASE);
    let found = (found.expect("settled"), listed);
    commit(world, id, spec, parent, database.expect("planned"), found).await
}

pub(crate) fn restore(layers: &[&Committed], as_of: Hlc) -> RestoreSpec {
    RestoreSpec {
        source: "shop".parse().expect("a name"),
        kind: SourceKind::Postgres,
        members: vec![RestoreMember {
            member: member(),
            from: "m1".parse().expect("a name"),
        }],
        target: Target::Source,
        collection: "memory://test".to_owned(),
        access: holdfast_types::CollectionAccess::default(),
        layers: layers
            .iter()
            .map(|layer| (layer.path.clone(), layer.layer.digest))
            .collect(),
        as_of: as_of.into(),
        renamed: BTreeMap::new(),
        tables: BTreeMap::new(),
        options: RestoreOptions::default(),
        into_existing: false,
        execution_locality: Locality::default(),
        part_size: PART,
        encryption: None,
    }
}

/// Restores from beginning to end, and undoes it: the rows that were there in between.
pub(crate) async fn restored(
    world: &World,
    leader: &mut Conversation,
    id: u64,
    spec: RestoreSpec,
) -> BTreeMap<u32, u32> {
    let before = world.log.loaded();
    let mut job = Job::new(id, spec);
    let (relations, spans) = job.plan(leader).await;
    assert_eq!(relations.len(), 1);
    let mut counted = 0;
    for planned in &spans {
        let work = work(planned, &relations, &planned.start);
        for report in job.run(leader, work).await {
            counted += checkpoint(&report.body).rows;
        }
    }
    assert!(!world.log.restored().1, "nothing is visible yet");
    let finish = Work::Finish {
        member: 0,
        relations,
    };
    let done = job.run(leader, finish).await;
    let (rows, published) = world.log.restored();
    assert!(published);
    let count = RowCount(rows.len() as u64);
    match &done[0].body {
        LeaseReportBody::Done { rows, fingerprint } => {
            assert_eq!((*rows, fingerprint.is_some()), (count, true));
        }
        other => panic!("not done: {other:?}"),
    }
    assert_eq!(
        (counted, world.log.loaded() - before),
        (count.0, count.0),
        "each row is loaded once"
    );
    job.run(leader, Work::Revert { member: 0 }).await;
    assert_eq!(world.log.restored(), (BTreeMap::new(), false));
    rows
}

/// Eight pages of ten rows.
pub(crate) fn fill_log(world: &World) {
    for number in 0..80 {
        world.log.write(number, Some(number));
    }
}
