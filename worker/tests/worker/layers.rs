//! Restores and verifications of layers that workers made.

use holdfast_format::Layer;
use holdfast_proto::{LeaseReportBody, Work};
use holdfast_types::{
    BackupSpec, ByteCount, Digest, ErrorCode, Hlc, JobId, JobSpec, LayerPath, Locality,
    ParentLayer, RelationId, RestoreMember, RestoreOptions, RestoreSpec, RowSum, SourceKind,
    TableName, Target, VerifySpec,
};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::jobs::{Job, entries, work};
use crate::support::{
    Conversation, Leader, PART, World, at, backup, checkpoint, fill, full, grant, local, member,
    row_key, span,
};

/// Backs up, and commits the layer as a leader would.
async fn back_up(world: &World, leader: &mut Conversation, id: u64, spec: &BackupSpec) -> Layer {
    let mut job = Job::new(id, spec.clone());
    let (relations, spans) = job.plan_by(leader, 3 * PART).await;
    let mut listed = Vec::new();
    for planned in &spans {
        let whole = work(planned, &relations, &planned.start);
        listed.extend(entries(planned, &job.run(leader, whole).await));
    }
    world
        .collection
        .commit(JobId(id), spec, &relations, &listed)
        .await
}

/// A chain of a full at 100, an incremental at 200, and one with history at 300; with the layers' places.
async fn chain(world: &World, leader: &mut Conversation) -> Vec<(LayerPath, Digest)> {
    let relation = fill(&world.source, 1, "t", 400);
    fill(&world.source, 2, "empty", 0);
    for number in (0..400).step_by(7) {
        world.source.put(relation.id, number, at(150), 2);
    }
    for number in 100..130 {
        world.source.delete(relation.id, number, at(160));
    }
    let mut late = fill(&world.source, 3, "late", 0);
    late.created_at = at(170).into();
    world.source.create(late.clone());
    for number in 0..90 {
        world.source.put(late.id, number, at(180), 3);
    }
    for step in 0..5u64 {
        for number in 200..240 {
            world
                .source
                .put(relation.id, number, at(250 + step), 10 + step as u8);
        }
    }
    world.source.delete(relation.id, 5, at(280));
    let mut layers: Vec<(LayerPath, Digest)> = Vec::new();
    let name = "2026/11/23-190800.00";
    let ends = [(100, false), (200, false), (300, true)];
    for (index, (end, history)) in ends.into_iter().enumerate() {
        let path = match index {
            0 => full().path,
            _ => {
                LayerPath::incremental(name, format!("20261123/19080{index}.00-20261123-190800.00"))
            }
        };
        let parent = layers.last().map(|(path, manifest)| ParentLayer {
            path: path.clone(),
            manifest: *manifest,
            end: at(end - 100),
        });
        let spec = backup(path.clone(), parent, at(end), history);
        let layer = back_up(world, leader, 80 + index as u64, &spec).await;
        layers.push((path, layer.digest));
    }
    layers
}

fn restore(layers: &[(LayerPath, Digest)], as_of: Hlc) -> RestoreSpec {
    RestoreSpec {
        source: "shop".parse().expect("a name"),
        kind: SourceKind::Mvcc,
        members: vec![RestoreMember {
            member: member(),
            from: "m1".parse().expect("a name"),
        }],
        target: Target::Source,
        collection: "memory://test".to_owned(),
        access: holdfast_types::CollectionAccess::default(),
        layers: layers.to_vec(),
        as_of: as_of.into(),
        renamed: BTreeMap::from([("app".to_owned(), "copy".to_owned())]),
        tables: Default::default(),
        options: RestoreOptions::default(),
        into_existing: false,
        execution_locality: Locality::default(),
        part_size: PART,
        encryption: None,
    }
}

fn copy(table: &str) -> TableName {
    TableName {
        database: "copy".to_owned(),
        table: table.to_owned(),
    }
}

#[test]
fn a_restore_gives_the_rows_of_its_instant() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let mut present = leader.welcomed().await;
        let layers = chain(&world, &mut present).await;
        let cases = [(100, 1), (200, 2), (252, 3), (300, 3)];
        for (index, (instant, depth)) in cases.into_iter().enumerate() {
            let spec = JobSpec::Restore(restore(&layers[..depth], at(instant)));
            let mut job = Job::new(200 + index as u64, spec.clone());
            let (relations, spans) = job.plan_by(&mut present, 2 * PART).await;
            let (prepared, published) = world.source.restored();
            assert!(prepared.contains_key(&copy("empty")) && !published);
            assert!(spans.len() > 3, "{} spans", spans.len());
            let mut rows = 0;
            for planned in &spans {
                let work = work(planned, &relations, &planned.start);
                for report in job.run(&mut present, work).await {
                    rows += checkpoint(&report.body).rows;
                }
            }
            let work = Work::Finish {
                member: 0,
                relations: relations.clone(),
            };
            let done = job.run(&mut present, work).await;
            let (restored, published) = world.source.restored();
            assert!(published);
            let mut sum = RowSum::default();
            for relation in &relations {
                let expected = world.source.visible(relation.id, at(instant));
                assert_eq!(
                    restored[&copy(&relation.name.table)],
                    expected,
                    "{} as of {instant}",
                    relation.name
                );
                expected.iter().for_each(|(key, value)| sum.add(key, value));
            }
            assert_eq!(sum.rows.0, rows, "each row is loaded once");
            assert_eq!(
                done[0].body,
                LeaseReportBody::Done {
                    rows: sum.rows,
                    fingerprint: Some(sum.digest)
                }
            );
            assert_eq!(restored.contains_key(&copy("late")), instant >= 180);
            let reverted = job.run(&mut present, Work::Revert { member: 0 }).await;
            assert!(matches!(reverted[0].body, LeaseReportBody::Done { .. }));
            assert!(world.source.restored().0.is_empty());
        }
    });
}

#[test]
fn a_restore_goes_on_inside_its_span() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let mut present = leader.welcomed().await;
        let layers = chain(&world, &mut present).await;
        let spec = JobSpec::Restore(restore(&layers, at(300)));
        let mut job = Job::new(300, spec.clone());
        let (relations, _) = job.plan_by(&mut present, 1 << 30).await;
        let relation = relations
            .iter()
            .find(|relation| relation.name.table == "t")
            .expect("planned");
        // The first try is stopped after its first part.
        let first = job.lease();
        present
            .grant(&grant(spec.clone(), first, span(relation, b"")))
            .await;
        let report = present.report().await;
        present.stop(first).await;
        present.accept(&report).await;
        let mut last = present.report().await;
        while last.body != LeaseReportBody::Released {
            present.accept(&last).await;
            last = present.report().await;
        }
        present.accept(&last).await;
        world.assert_quiet(Duration::from_millis(200)).await;
        let frontier = checkpoint(&report.body).to;
        let loaded = world.source.restored().0[&copy("t")].len() as u64;
        assert_eq!(loaded, checkpoint(&report.body).rows);

        let Work::Span(mut rest) = span(relation, b"") else {
            unreachable!("a span");
        };
        rest.frontier = frontier.clone();
        let reports = job.run(&mut present, Work::Span(rest)).await;
        assert_eq!(checkpoint(&reports[0].body).from, frontier);
        let expected = world.source.visible(relation.id, at(300));
        assert_eq!(world.source.restored().0[&copy("t")], expected);
        let rows: u64 = reports
            .iter()
            .map(|report| checkpoint(&report.body).rows)
            .sum();
        assert_eq!(
            rows + loaded,
            expected.len() as u64,
            "nothing is loaded twice"
        );
    });
}

#[test]
fn a_damaged_object_is_named_and_never_served() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let mut present = leader.welcomed().await;
        let layers = chain(&world, &mut present).await;
        let objects = world.collection.objects().await;
        let victim = objects
            .iter()
            .find(|name| name.contains("/data/81-"))
            .expect("an object of the incremental");
        world.collection.damage(victim).await;
        let name = victim.rsplit('/').next().expect("a name");

        let verify = JobSpec::Verify(VerifySpec {
            collection: "memory://test".to_owned(),
            access: holdfast_types::CollectionAccess::default(),
            layers: layers.clone(),
            execution_locality: Locality::default(),
            encryption: None,
        });
        let mut job = Job::new(400, verify.clone());
        let (_, spans) = job.plan_by(&mut present, 500).await;
        let mut damaged = Vec::new();
        let mut sound = 0;
        for planned in &spans {
            let reports = job
                .run(&mut present, work(planned, &[], &planned.start))
                .await;
            match &reports.last().expect("a report").body {
                LeaseReportBody::Failed { fault } => damaged.push(fault.clone()),
                _ => sound += 1,
            }
        }
        assert!(sound > 3, "{sound} sound spans");
        assert_eq!(damaged.len(), 1);
        assert_eq!(damaged[0].code, ErrorCode::Corrupted);
        assert!(damaged[0].message.contains(name), "{}", damaged[0]);
        assert!(!damaged[0].is_retryable());

        let spec = JobSpec::Restore(restore(&layers, at(300)));
        let mut job = Job::new(401, spec.clone());
        let (relations, spans) = job.plan_by(&mut present, 1 << 30).await;
        let mut faults = Vec::new();
        for planned in &spans {
            let work = work(planned, &relations, &planned.start);
            let reports = job.run(&mut present, work).await;
            if let LeaseReportBody::Failed { fault } = &reports.last().expect("a report").body {
                faults.push(fault.clone());
            }
        }
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].code, ErrorCode::Corrupted);
        assert!(faults[0].message.contains(name), "{}", faults[0]);
    });
}

#[test]
fn a_verification_goes_on_past_damage_and_names_all_of_it() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let mut present = leader.welcomed().await;
        fill(&world.source, 1, "t", 1_000);
        let layer = back_up(&world, &mut present, 80, &full()).await;
        let layers = vec![(full().path, layer.digest)];
        let objects = world.collection.objects().await;
        let data = objects.iter().filter(|object| object.contains("/data/"));
        let objects: Vec<&String> = data.collect();
        // More than are read between two checkpoints, and than a report of damage lists.
        assert!(objects.len() > 18, "{} objects", objects.len());
        for object in &objects[2..] {
            world.collection.damage(object).await;
        }
        let verify = JobSpec::Verify(VerifySpec {
            collection: "memory://test".to_owned(),
            access: holdfast_types::CollectionAccess::default(),
            layers,
            execution_locality: Locality::default(),
            encryption: None,
        });
        let mut job = Job::new(401, verify.clone());
        let (_, spans) = job.plan_by(&mut present, 1 << 30).await;
        let mut faults = Vec::new();
        for planned in &spans {
            let reports = job
                .run(&mut present, work(planned, &[], &planned.start))
                .await;
            if let LeaseReportBody::Failed { fault } = &reports.last().expect("a report").body {
                assert_eq!(reports.len(), 1, "damage is never checkpointed away");
                faults.push(fault.clone());
            }
        }
        assert_eq!(faults.len(), 1);
        let message = &faults[0].message;
        let count = format!("{} damaged objects", objects.len() - 2);
        assert!(message.contains(&count), "{message}");
        for object in &objects[2..] {
            let name = object.rsplit('/').next().expect("a name");
            assert!(message.contains(name), "{name} is not in: {message}");
        }
    });
}

#[test]
fn a_verification_reads_every_object_once() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let mut present = leader.welcomed().await;
        let layers = chain(&world, &mut present).await;
        let spec = JobSpec::Verify(VerifySpec {
            collection: "memory://test".to_owned(),
            access: holdfast_types::CollectionAccess::default(),
            layers,
            execution_locality: Locality::default(),
            encryption: None,
        });
        let mut job = Job::new(500, spec.clone());
        let (relations, spans) = job.plan_by(&mut present, 1000).await;
        assert!(relations.is_empty());
        assert!(spans.iter().any(|span| span.relation == RelationId(2)));
        let (mut read, mut rows) = (0, 0);
        for planned in &spans {
            for report in job
                .run(&mut present, work(planned, &[], &planned.start))
                .await
            {
                read += checkpoint(&report.body).read;
                rows += checkpoint(&report.body).rows;
            }
        }
        let weights: u64 = spans.iter().map(|span| span.weight.0).sum();
        assert_eq!(read, weights);
        // 400 rows; 58 + 30 changes (5 of them the same rows) and 90 new ones; 200 versions and a deletion.
        assert!(rows > 700, "{rows} rows");
        assert_eq!(row_key(0).len(), 4);
    });
}

#[test]
fn a_replaced_manifest_is_noticed() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let mut present = leader.welcomed().await;
        let mut layers = chain(&world, &mut present).await;
        layers[1].1 = Digest([1; 32]);
        let spec = JobSpec::Restore(restore(&layers, at(300)));
        let mut job = Job::new(600, spec.clone());
        let work = Work::Plan {
            member: 0,
            span_size: ByteCount(PART),
        };
        let reports = job.run(&mut present, work).await;
        match &reports[0].body {
            LeaseReportBody::Failed { fault } => {
                assert_eq!(fault.code, ErrorCode::Corrupted);
                assert!(fault.message.contains("incrementals"), "{fault}");
            }
            other => panic!("{other:?}"),
        }
        assert!(world.source.restored().0.is_empty());
    });
}
