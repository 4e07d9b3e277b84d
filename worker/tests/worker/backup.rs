//! Backups: plans, parts, exact resume, stopping.

use holdfast_format::Change;
use holdfast_proto::{Lease, LeaseReportBody, Work};
use holdfast_source::successor;
use holdfast_types::{
    ByteCount, Digest, HoldId, JobSpec, LayerPath, ParentLayer, PlannedSpan, Position, Relation,
};
use std::time::Duration;

use crate::support::{
    Leader, PART, World, at, backup, checkpoint, fill, full, grant, key, local, row_key, span,
};

fn lease(task: u32) -> Lease {
    Lease::new(70, task, 2)
}

#[test]
fn a_plan_describes_every_relation_and_tiles_it() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let large = fill(&world.source, 1, "large", 20_000);
        let empty = fill(&world.source, 2, "empty", 0);
        let mut present = leader.welcomed().await;
        let work = Work::Plan {
            member: 0,
            span_size: ByteCount(1000),
        };
        present
            .grant(&grant(JobSpec::Backup(full()), lease(0), work))
            .await;
        let (mut relations, mut spans) = (Vec::<Relation>::new(), Vec::<PlannedSpan>::new());
        for (index, report) in present.accept_all(lease(0)).await.into_iter().enumerate() {
            let LeaseReportBody::Plan {
                batch,
                relations: some,
                spans: more,
                ..
            } = report.body
            else {
                panic!("not a plan: {:?}", report.body);
            };
            assert_eq!(batch as usize, index);
            assert!(more.len() <= 512);
            relations.extend(some);
            spans.extend(more);
        }
        assert_eq!(relations, [large.clone(), empty]);
        assert!(spans.len() > 1500, "{} spans", spans.len());
        let of_large: Vec<&PlannedSpan> = spans
            .iter()
            .filter(|span| span.relation == large.id)
            .collect();
        assert!(of_large[0].start.is_open_end());
        assert!(of_large.last().expect("spans").end.is_open_end());
        for pair in of_large.windows(2) {
            assert_eq!(pair[0].end, pair[1].start);
            let bound = key().open_bound(&pair[0].end).expect("opens");
            assert_eq!(bound.len(), 4, "a key in clear under the seal");
        }
        assert_eq!(world.source.holds()[&HoldId(5)], Position::from(at(100)));
    });
}

#[test]
fn a_span_is_made_durable_part_by_part() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 500);
        world.source.put(relation.id, 7, at(500), 9);
        let mut present = leader.welcomed().await;
        present
            .grant(&grant(
                JobSpec::Backup(full()),
                lease(4),
                span(&relation, b""),
            ))
            .await;
        let reports = present.accept_all(lease(4)).await;
        assert!(reports.len() > 8, "{} parts", reports.len());
        let mut rows = Vec::new();
        let mut frontier = key().seal_bound(b"");
        for (index, report) in reports.iter().enumerate() {
            let done = checkpoint(&report.body);
            assert_eq!(done.from, frontier);
            frontier = done.to.clone();
            assert_eq!(done.last, index + 1 == reports.len());
            assert!(done.read <= PART + 200, "a part of {} bytes", done.read);
            let mut counted = 0;
            for object in &done.objects {
                assert_eq!(object.name, format!("70-4-2-{index}.hfs"));
                let entries = world.collection.entries(&full(), object).await;
                counted += entries.len() as u64;
                rows.extend(entries.into_iter().map(|entry| match entry.change {
                    Change::Put(value) => (entry.key, value),
                    Change::Delete => panic!("a full holds no deletions"),
                }));
            }
            assert_eq!(counted, done.rows);
        }
        assert!(frontier.is_open_end());
        let expected: Vec<_> = world
            .source
            .visible(relation.id, at(100))
            .into_iter()
            .collect();
        assert_eq!(rows, expected);
        while world.worker.stats().leases > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn the_next_part_is_not_begun_before_the_last_one_counts() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(2, &[&leader]).await;
        let relations = [
            fill(&world.source, 1, "a", 500),
            fill(&world.source, 2, "b", 500),
        ];
        let mut present = leader.welcomed().await;
        for (task, relation) in (0..).zip(&relations) {
            let work = span(relation, b"");
            present
                .grant(&grant(JobSpec::Backup(full()), lease(task), work))
                .await;
        }
        let (one, other) = (present.report().await, present.report().await);
        assert_ne!(one.lease, other.lease);
        for parts in 1..4 {
            // Both streams have one unanswered part: nothing moves.
            present.silence(Duration::from_millis(100)).await;
            world.assert_quiet(Duration::from_millis(100)).await;
            assert_eq!(world.collection.objects().await.len(), 2 * parts);
            let (batches, _) = world.source.activity();
            let limit = 2 * (parts as u64 * (PART + 200) / 1000 + 1);
            assert!(batches <= limit, "{batches} batches for {parts} parts each");
            if parts == 1 {
                present.accept(&one).await;
                present.accept(&other).await;
            } else {
                break;
            }
            present.report().await;
            present.report().await;
        }
    });
}

#[test]
fn work_goes_on_at_the_committed_frontier() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 300);
        let mut present = leader.welcomed().await;
        let frontier = successor(&row_key(123));
        present
            .grant(&grant(
                JobSpec::Backup(full()),
                lease(1),
                span(&relation, &frontier),
            ))
            .await;
        let reports = present.accept_all(lease(1)).await;
        let read = world.source.reads();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].range.start, frontier);
        let mut keys = Vec::new();
        for report in &reports {
            for object in &checkpoint(&report.body).objects {
                let entries = world.collection.entries(&full(), object).await;
                keys.extend(entries.into_iter().map(|entry| entry.key));
            }
        }
        assert_eq!(keys, (124..300).map(row_key).collect::<Vec<_>>());
        let first = checkpoint(&reports[0].body);
        assert_eq!(first.from, key().seal_bound(&frontier));
    });
}

#[test]
fn an_incremental_reads_changes_and_new_relations_whole() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let old = fill(&world.source, 1, "old", 50);
        world.source.put(old.id, 3, at(150), 2);
        world.source.delete(old.id, 4, at(160));
        let mut new = fill(&world.source, 2, "new", 0);
        new.created_at = at(120).into();
        world.source.create(new.clone());
        world.source.put(new.id, 1, at(130), 1);
        world.source.put(new.id, 2, at(130), 1);
        world.source.delete(new.id, 2, at(140));
        let parent = ParentLayer {
            path: LayerPath::full("2026/11/23-190800.00"),
            manifest: Digest::default(),
            end: at(100),
        };
        let path = LayerPath::incremental(
            "2026/11/23-190800.00",
            "20261123/190900.00-20261123-190800.00",
        );
        let spec = backup(path, Some(parent), at(200), false);
        let mut present = leader.welcomed().await;
        let mut seen = Vec::new();
        for (task, relation) in (0..).zip([&old, &new]) {
            let work = span(relation, b"");
            present
                .grant(&grant(JobSpec::Backup(spec.clone()), lease(task), work))
                .await;
            for report in present.accept_all(lease(task)).await {
                for object in &checkpoint(&report.body).objects {
                    for entry in world.collection.entries(&spec, object).await {
                        seen.push((task, entry.key, entry.change.value().is_some()));
                    }
                }
            }
        }
        assert_eq!(
            seen,
            [
                (0, row_key(3), true),
                (0, row_key(4), false),
                (1, row_key(1), true)
            ]
        );
        let windows: Vec<_> = world
            .source
            .reads()
            .iter()
            .map(|read| read.window.after)
            .collect();
        assert_eq!(windows, [Some(at(100).into()), None]);
    });
}

#[test]
fn an_empty_span_is_finished_without_an_object() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 0);
        let mut present = leader.welcomed().await;
        present
            .grant(&grant(
                JobSpec::Backup(full()),
                lease(1),
                span(&relation, b""),
            ))
            .await;
        let reports = present.accept_all(lease(1)).await;
        let done = checkpoint(&reports[0].body);
        assert!(done.last && done.objects.is_empty() && done.rows == 0);
        assert!(world.collection.objects().await.is_empty());
    });
}

#[test]
fn after_released_nothing_moves() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 5000);
        world.source.permits.forget_permits(usize::MAX);
        world.source.permits.add_permits(7);
        let mut present = leader.welcomed().await;
        present
            .grant(&grant(
                JobSpec::Backup(full()),
                lease(1),
                span(&relation, b""),
            ))
            .await;
        // In the middle of the second part.
        let report = present.report().await;
        present.accept(&report).await;
        present.silence(Duration::from_millis(200)).await;
        present.stop(lease(1)).await;
        let released = present.report().await;
        assert_eq!(released.body, LeaseReportBody::Released);
        world.source.permits.add_permits(1000);
        world.assert_quiet(Duration::from_millis(300)).await;
        present.accept(&released).await;
        world.assert_quiet(Duration::from_millis(300)).await;
        assert_eq!(world.collection.objects().await.len(), 1);
        assert_eq!(world.worker.stats().released, 1);
    });
}
