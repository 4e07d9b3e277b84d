//! A source whose history is a log: what it reads page by page, settles, and takes back.

use holdfast_proto::{Lease, LeaseReportBody, Work};
use holdfast_types::{
    ByteCount, ErrorCode, HoldId, JobSpec, Locality, Lsn, ObjectKind, Target, VerifySpec,
};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::jobs::{
    Job, back_up, commit, entries, failure, fill_log, restore, restored, settled, spec, work,
};
use crate::support::{DATABASE, Leader, Misuse, TABLE, World, at, checkpoint, grant, local, table};

#[test]
fn a_full_is_read_page_by_page_and_settled_last() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        let full = spec(None, false);
        let mut job = Job::new(70, full.clone());
        let (relations, spans) = job.plan(&mut present).await;
        assert_eq!(world.log.holds()[&HoldId(5)], 80, "as the grant says");
        let ids: Vec<_> = relations.iter().map(|relation| relation.id).collect();
        assert_eq!(ids, [TABLE, DATABASE]);
        let settling: Vec<_> = spans.iter().map(|span| span.settles).collect();
        assert_eq!(settling, [false, false, true]);
        assert!(spans[2].start.is_open_end() && spans[2].end.is_open_end());
        assert_eq!(spans[0].end, spans[1].start);

        let mut listed = Vec::new();
        for planned in &spans[..2] {
            // The table changes while it is read.
            world.log.write(3, Some(1000 + listed.len() as u32));
            world.log.write(55, None);
            world.log.write(200 + listed.len() as u32, Some(7));
            let work = work(planned, &relations, &planned.start);
            let reports = job.run(&mut present, work).await;
            assert_eq!(reports.len(), 4, "a checkpoint each page");
            let mut frontier = planned.start.clone();
            for report in &reports {
                let done = checkpoint(&report.body);
                assert_eq!(done.from, frontier);
                frontier = done.to.clone();
                assert_eq!(done.objects.len(), 1);
                assert_eq!(done.objects[0].kind(), ObjectKind::Tuples);
                assert_eq!(
                    (done.objects[0].rows.0, done.read),
                    (done.rows, done.rows * 18)
                );
            }
            assert_eq!(frontier, planned.end);
            listed.extend(entries(planned, &reports));
        }
        assert_eq!(world.log.pages(), (0..8).collect::<Vec<_>>());

        let work = work(&spans[2], &relations, &spans[2].start);
        let reports = job.run(&mut present, work).await;
        assert_eq!(reports.len(), 1, "one step");
        assert_eq!(world.log.planned(), relations[..1], "with its definition");
        let found = settled(&reports[0]);
        assert_eq!(found.end.position, Lsn::at(world.log.end()).into());
        assert_eq!(found.end.at, at(1000 + world.log.end()));
        assert_eq!(found.relations[0].name, table("t"));
        assert!(found.relations[0].definition.is_empty());
        let done = checkpoint(&reports[0].body);
        let kinds: Vec<_> = done.objects.iter().map(|object| object.kind()).collect();
        assert_eq!(kinds[kinds.len() - 1], ObjectKind::Catalog);
        assert!(
            kinds.len() > 2
                && kinds[..kinds.len() - 1]
                    .iter()
                    .all(|kind| *kind == ObjectKind::Rows)
        );
        assert_eq!(done.read, 64);
        listed.extend(entries(&spans[2], &reports));

        let layer = commit(&world, 70, &full, None, &relations[1], (found, listed)).await;
        let spec = restore(&[&layer], layer.end);
        assert_eq!(
            restored(&world, &mut present, 71, spec).await,
            world.log.rows()
        );
    });
}

#[test]
fn incrementals_go_on_from_what_the_parent_says_and_history_has_every_instant() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        let change = |index: usize| {
            let salt = 100 * (index as u32 + 1);
            world.log.write(1 + index as u32, Some(salt));
            world.log.write(42, Some(salt + 1));
            world.log.write(61, None);
        };
        let full = back_up(&world, &mut present, 70, &spec(None, false), None, change).await;
        let after_full = world.log.rows();
        let read = world.log.pages().len();

        // The changes between the layers are none of a span's.
        for number in (0..80).step_by(3) {
            world.log.write(number, Some(5000 + number));
            world.log.write(number, Some(6000 + number));
        }
        world.log.write(42, None);
        let one_spec = spec(Some(&full), false);
        let one = back_up(&world, &mut present, 71, &one_spec, Some(&full), |_| {}).await;
        assert_eq!(world.log.pages().len(), read, "no page is read again");
        let after_one = world.log.rows();

        let begun = world.log.end();
        for step in 0..30 {
            world.log.write(7, Some(7000 + step));
            world.log.write(step, (step % 4 != 0).then_some(step));
        }
        let two_spec = spec(Some(&one), true);
        let two = back_up(&world, &mut present, 72, &two_spec, Some(&one), |_| {}).await;

        let chain = [&full, &one, &two];
        let cases = [(1, full.end, after_full), (2, one.end, after_one)];
        for (depth, end, expected) in cases {
            let spec = restore(&chain[..depth], end);
            let rows = restored(&world, &mut present, 80 + depth as u64, spec).await;
            assert_eq!(rows, expected, "{depth} layers");
        }
        for instant in [
            begun,
            begun + 1,
            begun + 17,
            world.log.end() - 1,
            world.log.end(),
        ] {
            let spec = restore(&chain, at(1000 + instant));
            let rows = restored(&world, &mut present, 90 + instant, spec).await;
            assert_eq!(rows, world.log.rows_at(instant), "after {instant} changes");
        }
    });
}

#[test]
fn a_span_goes_on_where_its_last_checkpoint_was() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        let full = spec(None, false);
        let mut job = Job::new(70, full.clone());
        let (relations, spans) = job.plan(&mut present).await;

        // Two pages count; the third is durable and reported, and the stop comes before the answer; then nothing more is read.
        let first = job.lease();
        let begun = work(&spans[0], &relations, &spans[0].start);
        present
            .grant(&grant(JobSpec::Backup(full.clone()), first, begun))
            .await;
        let mut listed = Vec::new();
        let mut frontier = spans[0].start.clone();
        for page in 0..3 {
            let report = present.report().await;
            frontier = checkpoint(&report.body).to;
            if page == 2 {
                present.stop(first).await;
                present.silence(Duration::from_millis(200)).await;
            }
            listed.extend(entries(&spans[0], std::slice::from_ref(&report)));
            present.accept(&report).await;
        }
        let released = present.report().await;
        assert_eq!(released.body, LeaseReportBody::Released);
        world.assert_quiet(Duration::from_millis(200)).await;
        present.accept(&released).await;
        world.assert_quiet(Duration::from_millis(200)).await;
        assert_eq!(world.log.pages(), [0, 1, 2]);

        // The other way to stop: while a page is being read.
        world.log.permits.forget_permits(usize::MAX);
        let second = Lease::new(70, first.task.index, 2);
        let again = work(&spans[0], &relations, &frontier);
        present
            .grant(&grant(JobSpec::Backup(full.clone()), second, again.clone()))
            .await;
        present.silence(Duration::from_millis(200)).await;
        present.stop(second).await;
        let released = present.report().await;
        assert_eq!(released.body, LeaseReportBody::Released);
        present.accept(&released).await;
        world.log.permits.add_permits(1000);
        world.assert_quiet(Duration::from_millis(200)).await;

        let third = Lease::new(70, first.task.index, 3);
        present
            .grant(&grant(JobSpec::Backup(full.clone()), third, again))
            .await;
        let reports = present.accept_all(third).await;
        assert_eq!(checkpoint(&reports[0].body).from, frontier);
        listed.extend(entries(&spans[0], &reports));
        assert_eq!(world.log.pages(), [0, 1, 2, 3], "each page once");

        for planned in &spans[1..] {
            let rest = work(planned, &relations, &planned.start);
            let reports = job.run(&mut present, rest).await;
            listed.extend(entries(planned, &reports));
            if planned.settles {
                let found = settled(&reports[0]);
                let taken = (found, std::mem::take(&mut listed));
                let layer = commit(&world, 70, &full, None, &relations[1], taken).await;
                let spec = restore(&[&layer], layer.end);
                let rows = restored(&world, &mut present, 71, spec).await;
                assert_eq!(rows, world.log.rows());
            }
        }
    });
}

#[test]
fn a_settling_that_was_stopped_is_done_again_whole() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        let full = spec(None, false);
        let mut job = Job::new(70, full.clone());
        let (relations, spans) = job.plan(&mut present).await;
        let mut listed = Vec::new();
        for planned in &spans[..2] {
            let work = work(planned, &relations, &planned.start);
            let reports = job.run(&mut present, work).await;
            listed.extend(entries(planned, &reports));
        }
        world.log.write(12, Some(1));
        world.log.write(13, Some(2));
        let objects = world.collection.objects().await.len();
        world.log.permits.forget_permits(usize::MAX);
        let first = job.lease();
        let settling = work(&spans[2], &relations, &spans[2].start);
        present
            .grant(&grant(
                JobSpec::Backup(full.clone()),
                first,
                settling.clone(),
            ))
            .await;
        while world.collection.objects().await.len() < objects + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        present.silence(Duration::from_millis(100)).await;
        present.stop(first).await;
        let released = present.report().await;
        assert_eq!(released.body, LeaseReportBody::Released);
        present.accept(&released).await;
        world.log.permits.add_permits(1000);
        world.assert_quiet(Duration::from_millis(200)).await;

        // The log goes on; what was written before is not of the layer.
        world.log.write(12, Some(3));
        world.log.write(14, None);
        let second = Lease::new(70, first.task.index, 2);
        present
            .grant(&grant(JobSpec::Backup(full.clone()), second, settling))
            .await;
        let reports = present.accept_all(second).await;
        let found = settled(&reports[0]);
        assert_eq!(found.end.position, Lsn::at(84).into());
        for object in checkpoint(&reports[0].body).objects {
            let prefix = format!("70-{}-2-", first.task.index);
            assert!(object.name.starts_with(&prefix), "{}", object.name);
        }
        listed.extend(entries(&spans[2], &reports));
        let layer = commit(&world, 70, &full, None, &relations[1], (found, listed)).await;
        let spec = restore(&[&layer], layer.end);
        assert_eq!(
            restored(&world, &mut present, 71, spec).await,
            world.log.rows()
        );
    });
}

#[test]
fn a_write_in_flight_is_waited_for_and_then_nothing_moves() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        let full = spec(None, false);
        let mut job = Job::new(70, full.clone());
        let (relations, spans) = job.plan(&mut present).await;
        world.stores.slow_down(Duration::from_millis(500));
        let lease = job.lease();
        let begun = work(&spans[0], &relations, &spans[0].start);
        present
            .grant(&grant(JobSpec::Backup(full), lease, begun))
            .await;
        while world.log.pages().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        present.stop(lease).await;
        let mut last = present.report().await;
        while last.body != LeaseReportBody::Released {
            present.accept(&last).await;
            last = present.report().await;
        }
        assert_eq!(
            world.collection.objects().await.len(),
            1,
            "the page in flight"
        );
        world.assert_quiet(Duration::from_millis(700)).await;
        assert_eq!(world.log.pages(), [0]);
    });
}

#[test]
fn a_restore_goes_on_inside_its_span() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        let change = |index: usize| world.log.write(index as u32, None);
        let layer = back_up(&world, &mut present, 70, &spec(None, false), None, change).await;
        let spec = restore(&[&layer], layer.end);
        let mut job = Job::new(71, spec.clone());
        let (relations, spans) = job.plan(&mut present).await;

        world.log.permits.forget_permits(usize::MAX);
        world.log.permits.add_permits(2);
        let first = job.lease();
        let begun = work(&spans[1], &relations, &spans[1].start);
        present
            .grant(&grant(JobSpec::Restore(spec.clone()), first, begun))
            .await;
        let mut frontier = spans[1].start.clone();
        for _ in 0..2 {
            let report = present.report().await;
            frontier = checkpoint(&report.body).to;
            present.accept(&report).await;
        }
        present.silence(Duration::from_millis(100)).await;
        present.stop(first).await;
        let released = present.report().await;
        assert_eq!(released.body, LeaseReportBody::Released);
        present.accept(&released).await;
        world.log.permits.add_permits(1000);
        world.assert_quiet(Duration::from_millis(200)).await;
        assert_eq!(world.log.loaded(), 20);

        for (planned, frontier) in [(&spans[1], &frontier), (&spans[0], &spans[0].start)] {
            let work = work(planned, &relations, frontier);
            let reports = job.run(&mut present, work).await;
            assert_eq!(checkpoint(&reports[0].body).from, *frontier);
        }
        let (rows, _) = world.log.restored();
        assert_eq!(rows, world.log.rows());
        assert_eq!(
            world.log.loaded(),
            rows.len() as u64,
            "nothing is loaded twice"
        );
    });
}

#[test]
fn damage_is_found_named_and_never_served() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        let change = |index: usize| world.log.write(index as u32, None);
        let layer = back_up(&world, &mut present, 70, &spec(None, false), None, change).await;
        let verify = || VerifySpec {
            collection: "memory://test".to_owned(),
            access: holdfast_types::CollectionAccess::default(),
            layers: vec![(layer.path.clone(), layer.layer.digest)],
            execution_locality: Locality::default(),
            encryption: None,
        };
        let mut job = Job::new(71, verify());
        let (_, spans) = job.plan(&mut present).await;
        let whole = work(&spans[0], &[], &spans[0].start);
        let sound = job.run(&mut present, whole.clone()).await;
        let data = world.collection.objects().await;
        let data: Vec<String> = data
            .into_iter()
            .filter(|name| name.contains("/data/70-"))
            .collect();
        assert!(data.len() > 9 && spans.len() == 1, "{data:?}");
        let rows = sound.iter().map(|report| checkpoint(&report.body).rows);
        assert!(rows.sum::<u64>() >= 80);

        // One of each kind: of each a page, a change, the catalog.
        let mut kinds = BTreeMap::new();
        for name in &data {
            let (_, kind) = name.rsplit_once('.').expect("a kind");
            kinds.insert(kind, name);
        }
        assert_eq!(kinds.len(), 3, "{kinds:?}");
        for (index, (kind, name)) in (0..).zip(&kinds) {
            world.collection.damage(name).await;
            let name = name.rsplit('/').next().expect("a name");
            let reports = job.run(&mut present, whole.clone()).await;
            let fault = failure(&reports[reports.len() - 1]);
            assert_eq!(fault.code, ErrorCode::Corrupted, "{kind}: {fault}");
            assert!(fault.message.contains(name), "{kind}: {fault}");

            let mut restoring = Job::new(80 + index, restore(&[&layer], layer.end));
            let plan = Work::Plan {
                member: 0,
                span_size: ByteCount(1),
            };
            let mut reports = restoring.run(&mut present, plan).await;
            if let LeaseReportBody::Plan {
                relations, spans, ..
            } = reports[0].body.clone()
            {
                reports.clear();
                for planned in &spans {
                    let work = work(planned, &relations, &planned.start);
                    reports.extend(restoring.run(&mut present, work).await);
                }
            }
            let fault = failure(&reports[reports.len() - 1]);
            assert_eq!(fault.code, ErrorCode::Corrupted, "{kind}: {fault}");
            assert!(fault.message.contains(name), "{kind}: {fault}");
            assert!(!world.log.restored().1, "nothing becomes visible");
            world.collection.damage(kinds[kind]).await;
        }
    });
}

#[test]
fn a_source_that_breaks_its_contract_is_told_so_and_nothing_counts() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        let mut job = Job::new(70, spec(None, false));
        let (relations, spans) = job.plan(&mut present).await;
        world.stores.slow_down(Duration::from_millis(1));
        let cases = [
            (0, Misuse::CutsRow, "cuts a row in two"),
            (0, Misuse::LeavesOpen, "has not ended an object"),
            (0, Misuse::HasNoObject, "without having begun an object"),
            (1, Misuse::StandsStill, "where the span is not"),
            (0, Misuse::RunsAway, "where the span is not"),
            (0, Misuse::LeavesEarly, "left a span before its end"),
            (0, Misuse::GivesUp, "after a call that it gave up"),
            (2, Misuse::HasNoCatalog, "without a catalog at the end"),
            (2, Misuse::HasSteps, "in more than one step"),
        ];
        for (span, misuse, expected) in cases {
            world.log.misbehave(Some(misuse));
            let planned = &spans[span];
            let work = work(planned, &relations, &planned.start);
            let reports = job.run(&mut present, work).await;
            assert_eq!(reports.len(), 1, "{misuse:?}");
            let fault = failure(&reports[0]);
            assert_eq!(fault.code, ErrorCode::Internal, "{misuse:?}: {fault}");
            assert!(fault.message.contains(expected), "{misuse:?}: {fault}");
            assert!(fault.message.contains("member m1"), "{misuse:?}: {fault}");
        }

        // The last checkpoint counts, whatever comes after it.
        world.log.misbehave(Some(Misuse::GoesOn));
        let beyond = work(&spans[0], &relations, &spans[0].start);
        let reports = job.run(&mut present, beyond).await;
        assert!(checkpoint(&reports[0].body).last);

        world.log.misbehave(Some(Misuse::SettlesNothing));
        let plan = Work::Plan {
            member: 0,
            span_size: ByteCount(1),
        };
        let reports = job.run(&mut present, plan).await;
        let fault = failure(&reports[reports.len() - 1]);
        assert!(
            fault.message.contains("names no database to settle"),
            "{fault}"
        );
    });
}

#[test]
fn a_full_store_fails_the_span_and_names_the_object() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        fill_log(&world);
        let mut present = leader.welcomed().await;
        let mut job = Job::new(70, spec(None, false));
        let (relations, spans) = job.plan(&mut present).await;
        world.stores.fill_up();
        let work = work(&spans[0], &relations, &spans[0].start);
        let reports = job.run(&mut present, work).await;
        let fault = failure(&reports[0]);
        assert!(
            fault.message.contains("reading app.t of member m1"),
            "{fault}"
        );
        assert!(fault.message.contains("70-2-1-0"), "{fault}");
        assert_eq!(world.log.pages(), [0], "it does not read on");
    });
}

#[test]
fn a_member_of_several_may_have_nothing_of_what_is_named() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let mut present = leader.welcomed().await;
        let mut full = spec(None, false);
        let mut other = full.members[0].clone();
        other.member.name = "m2".parse().expect("a name");
        full.members.push(other);
        full.target = Target::Databases(vec!["elsewhere".into()]);
        let mut job = Job::new(70, full);
        let work = Work::Plan {
            member: 0,
            span_size: ByteCount(1 << 20),
        };
        let reports = job.run(&mut present, work).await;
        assert_eq!(reports.len(), 1);
        let nothing = LeaseReportBody::Plan {
            batch: 0,
            relations: Vec::new(),
            spans: Vec::new(),
            last: true,
        };
        assert_eq!(reports[0].body, nothing);
        assert!(world.log.holds().is_empty());
    });
}
