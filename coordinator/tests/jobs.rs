//! Jobs from end to end, with workers that only pretend.

mod scene;

use futures::StreamExt;
use holdfast_client::ControlApi;
use holdfast_collection::CollectionStore;
use holdfast_proto::v1;
use holdfast_types::{ErrorCode, LayerPath};
use scene::{Manner, Scene, full, incremental, play, until};

const EU: &str = "region=eu";
const US: &str = "region=us";

#[test]
fn a_backup_runs_to_its_manifest_and_leaves_nothing_else() {
    play(async {
        let scene = Scene::start(&[EU, US]).await;
        let _eu = scene.worker("w-eu", EU, Manner::Diligent(5)).await;
        let us = scene.worker("w-us", US, Manner::Diligent(3)).await;
        let submitted = scene.api.submit_backup(full()).await.expect("accepted");
        let job = scene.job_in(submitted.job, "succeeded").await;
        assert!((job.fraction_completed - 1.0).abs() < 1e-9);
        assert_eq!((job.tasks_total, job.tasks_done, job.rows), (8, 8, 8));
        assert_eq!(job.bytes_redone, 0);
        assert_eq!(job.path, submitted.path);
        let shown = scene
            .api
            .show_backup(v1::ShowBackupRequest {
                collection: "memory://vault".into(),
                subdir: String::new(),
                check_files: true,
                more_collections: Vec::new(),
                encryption: None,
            })
            .await
            .expect("a chain");
        assert_eq!(shown.problems, Vec::<String>::new());
        assert_eq!((shown.layers[0].rows, shown.layers[0].objects), (8, 8));
        let rows: Vec<u64> = shown.layers[0].tables.iter().map(|t| t.rows).collect();
        assert_eq!(rows, [5, 3]);
        until("the hold is released", || async {
            let status = scene.api.cluster_status().await.expect("a status");
            status.holds.is_empty().then_some(())
        })
        .await;
        assert_eq!(us.seen.borrow().holds_released, 1);

        // An incremental continues it.
        let second = scene.submit(incremental()).await;
        let second = scene.job_in(second, "succeeded").await;
        assert!(second.path.starts_with("incrementals/"), "{}", second.path);
        let chains = scene
            .api
            .list_backups("memory://vault")
            .await
            .expect("listed");
        assert_eq!((chains.chains.len(), chains.chains[0].layers), (1, 2));
        assert!(chains.chains[0].latest);

        // A verification of the chain needs any worker.
        let verify = scene
            .api
            .submit_verify(v1::SubmitVerifyRequest {
                from: "memory://vault".into(),
                ..v1::SubmitVerifyRequest::default()
            })
            .await
            .expect("accepted");
        scene.job_in(verify.job, "succeeded").await;
        scene.handle.shutdown().await;
    });
}

#[test]
fn a_job_says_why_it_waits_and_goes_on_when_a_worker_comes() {
    play(async {
        let scene = Scene::start(&[EU, US]).await;
        let _eu = scene.worker("w-eu", EU, Manner::Diligent(2)).await;
        let job = scene.submit(full()).await;
        let waiting = until("the reason is shown", || async {
            let job = scene.job(job).await;
            job.waiting.first().cloned()
        })
        .await;
        assert_eq!(
            waiting,
            "no live worker in locality region=us for member m2"
        );
        let _us = scene.worker("w-us", US, Manner::Diligent(2)).await;
        let done = scene.job_in(job, "succeeded").await;
        assert!(done.waiting.is_empty());
    });
}

#[test]
fn paused_is_shown_only_when_the_last_lease_is_gone() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let deaf = scene.worker("w", EU, Manner::Deaf(3)).await;
        let job = scene.submit(full()).await;
        until("spans are leased", || async {
            (deaf.held().len() == 3).then_some(())
        })
        .await;
        assert!(!scene.control(job, "pause").await.no_op);
        until("the worker is told", || async {
            (deaf.seen.borrow().stops.len() >= 3).then_some(())
        })
        .await;
        let asked = scene.job(job).await;
        assert_eq!(asked.state, "pause-requested");
        assert!(
            asked.waiting[0].contains("waiting for worker w to let go"),
            "{:?}",
            asked.waiting
        );
        // Two let go, one does not: it is waited for until the worker is silent for longer than its lease.
        let held = deaf.held();
        for lease in &held[..2] {
            deaf.report(*lease, holdfast_proto::LeaseReportBody::Released)
                .await;
        }
        until("two are released", || async {
            (scene.job(job).await.tasks_leased == 1).then_some(())
        })
        .await;
        assert_eq!(scene.job(job).await.state, "pause-requested");
        deaf.fall_silent();
        scene.job_in(job, "paused").await;
        assert!(scene.control(job, "pause").await.no_op);

        // What comes under the ended lease is refused.
        let stale = held[2];
        let grant = deaf.seen.borrow().held[&stale].clone();
        drop(deaf);
        let worker = scene.worker("w2", EU, Manner::Diligent(3)).await;
        let late = scene::FakeWorker::transfer(&scene.place(), &grant).await;
        worker.report(stale, late).await;
        let refusal = until("the report is refused", || async {
            worker.seen.borrow().refused.first().cloned()
        })
        .await;
        assert_eq!(refusal.code, ErrorCode::StaleEpoch);

        scene.control(job, "resume").await;
        let done = scene.job_in(job, "succeeded").await;
        assert_eq!((done.tasks_done, done.rows), (3, 3));
    });
}

#[test]
fn a_cancelled_backup_is_swept() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let idle = scene.worker("w", EU, Manner::Idle(3)).await;
        let job = scene.submit(full()).await;
        until("spans are leased", || async {
            (idle.held().len() == 3).then_some(())
        })
        .await;
        // One object is there, and nobody will ever name it.
        let (_, grant) = idle
            .seen
            .borrow()
            .held
            .iter()
            .next()
            .map(|(l, g)| (*l, g.clone()))
            .expect("a grant");
        let body = scene::FakeWorker::transfer(&scene.place(), &grant).await;
        drop(body);
        scene.control(job, "cancel").await;
        let job = scene.job_in(job, "canceled").await;
        let uri = "memory://vault".parse().expect("a uri");
        let store = CollectionStore::open(&scene.stores, &uri, &scene.env)
            .await
            .expect("open");
        let path = LayerPath::full(job.path.clone());
        until("the claim is swept, and all else before it", || async {
            let claim = store.read_claim(&path).await.expect("readable");
            claim.is_none().then_some(())
        })
        .await;
        // The place can be used again: nothing is left of the job.
        let again = scene
            .api
            .submit_backup(v1::SubmitBackupRequest {
                as_of: job.as_of.clone(),
                ..full()
            })
            .await
            .expect("the directory is free");
        assert_eq!(again.path, job.path);
    });
}

#[test]
fn a_task_that_keeps_failing_fails_its_job() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        scene.set("max_task_attempts", 3).await;
        scene.set("task_backoff_ms", 20).await;
        let _clumsy = scene.worker("w", EU, Manner::Clumsy(1)).await;
        let job = scene.submit(full()).await;
        let failed = scene.job_in(job, "failed").await;
        let error = failed.error.expect("an error");
        assert!(error.message.contains("not at home"), "{error:?}");
        assert!(!failed.execution_errors.is_empty());
    });
}

#[test]
fn a_watch_shows_every_step_forwards_and_ends() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let job = scene.submit(full()).await;
        let mut stream = scene.api.watch_job(job).await.expect("a stream");
        let first = stream.next().await.expect("a view").expect("no error");
        assert!(!first.state.is_empty());
        let _worker = scene.worker("w", EU, Manner::Diligent(20)).await;
        let mut last = first;
        while let Some(view) = stream.next().await {
            let view = view.expect("no error");
            assert!(view.applied_index >= last.applied_index);
            assert!(view.fraction_completed >= last.fraction_completed);
            last = view;
        }
        assert_eq!(last.state, "succeeded");
    });
}

#[test]
fn requests_that_cannot_be_are_refused_with_a_way_out() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let worker = scene.worker("w", EU, Manner::Diligent(1)).await;
        let refused = |request: v1::SubmitBackupRequest| {
            let api = scene.api.clone();
            async move { api.submit_backup(request).await.expect_err("refused") }
        };
        let fault = refused(v1::SubmitBackupRequest {
            source: "nobody".into(),
            ..full()
        })
        .await;
        assert!(fault.message.contains("no source named nobody") && fault.hint.is_some());
        let fault = refused(incremental()).await;
        assert!(
            fault
                .message
                .contains("path does not contain a completed latest backup"),
            "{fault}"
        );
        let fault = refused(v1::SubmitBackupRequest {
            as_of: "2999-01-01T00:00:00Z".into(),
            ..full()
        })
        .await;
        assert!(fault.message.contains("is in the future"), "{fault}");
        let fault = refused(v1::SubmitBackupRequest {
            into: "s3://bucket".into(),
            ..full()
        })
        .await;
        assert!(fault.hint.is_some(), "{fault}");

        let fault = refused(v1::SubmitBackupRequest {
            request_key: "schedule-7-100".into(),
            ..full()
        })
        .await;
        assert!(
            fault.message.contains("belongs to runs of schedules"),
            "{fault}"
        );

        let keyed = v1::SubmitBackupRequest {
            request_key: "once".into(),
            ..full()
        };
        let first = scene
            .api
            .submit_backup(keyed.clone())
            .await
            .expect("accepted");
        let second = scene.api.submit_backup(keyed).await.expect("known");
        assert!(!first.existed && second.existed);
        assert_eq!((first.job, first.path.clone()), (second.job, second.path));
        let done = scene.job_in(first.job, "succeeded").await;
        let fault = refused(v1::SubmitBackupRequest {
            as_of: done.as_of.clone(),
            ..full()
        })
        .await;
        assert!(
            fault.message.contains("A full backup already exists in"),
            "{fault}"
        );
        let fault = refused(v1::SubmitBackupRequest {
            as_of: done.as_of.clone(),
            ..incremental()
        })
        .await;
        assert!(fault.message.contains("must be greater than"), "{fault}");
        let fault = refused(v1::SubmitBackupRequest {
            layer: Some(v1::submit_backup_request::Layer::AppendTo(
                "2020/01/01-000000.00".into(),
            )),
            ..full()
        })
        .await;
        assert!(fault.message.contains("no full backup in"), "{fault}");
        restores_that_cannot_be(&scene).await;
        let fault = scene.api.get_job(7).await.expect_err("no such job");
        assert_eq!(fault.code, ErrorCode::NotFound);
        drop(worker);
    });
}

async fn restores_that_cannot_be(scene: &Scene) {
    let restore = v1::SubmitRestoreRequest {
        from: "memory://vault".into(),
        ..v1::SubmitRestoreRequest::default()
    };
    let target = |table: &str| {
        Some(v1::Target {
            databases: Vec::new(),
            tables: vec![table.into()],
        })
    };
    let cases = [
        (
            v1::SubmitRestoreRequest {
                from: "memory://nothing".into(),
                ..restore.clone()
            },
            "does not exist",
        ),
        (
            v1::SubmitRestoreRequest {
                as_of: "2000-01-01T00:00:00Z".into(),
                ..restore.clone()
            },
            "invalid RESTORE timestamp",
        ),
        (
            v1::SubmitRestoreRequest {
                target: target("bank.nothing"),
                ..restore.clone()
            },
            "failed to resolve targets in the BACKUP location",
        ),
        (
            v1::SubmitRestoreRequest {
                into_source: "elsewhere".into(),
                ..restore.clone()
            },
            "no source named elsewhere",
        ),
    ];
    for (request, text) in cases {
        let fault = scene.api.submit_restore(request).await.expect_err(text);
        assert!(fault.message.contains(text), "{fault}");
    }
    // A source whose members are elsewhere and named otherwise has no counterpart.
    let mut other = scene::source("other", &["region=ap"]);
    other.members[0].name = "x1".into();
    scene.api.register_source(other).await.expect("registered");
    let fault = scene
        .api
        .submit_restore(v1::SubmitRestoreRequest {
            into_source: "other".into(),
            ..restore.clone()
        })
        .await
        .expect_err("no counterpart");
    assert!(fault.message.contains("no counterpart"), "{fault}");
    let job = scene
        .api
        .submit_restore(restore)
        .await
        .expect("accepted")
        .job;
    scene.job_in(job, "succeeded").await;
}

#[test]
fn a_backup_whose_objects_are_gone_fails_before_it_has_a_manifest() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let idle = scene.worker("w", EU, Manner::Idle(1)).await;
        let job = scene.submit(full()).await;
        until("the span is leased", || async {
            (idle.held().len() == 1).then_some(())
        })
        .await;
        let lease = idle.held()[0];
        let grant = idle.seen.borrow().held[&lease].clone();
        let mut body = scene::FakeWorker::transfer(&scene.place(), &grant).await;
        let holdfast_proto::LeaseReportBody::Checkpoint { objects, .. } = &mut body else {
            panic!("{body:?}");
        };
        let missing = objects[0].name.replace("-0.hfs", "-7.hfs");
        objects[0].name.clone_from(&missing);
        idle.report(lease, body).await;
        let failed = scene.job_in(job, "failed").await;
        let error = failed.error.expect("an error");
        assert_eq!(error.code, ErrorCode::Corrupted.as_str());
        assert!(
            error.message.contains(&missing) && error.message.contains("is missing"),
            "{error:?}"
        );
        let chains = scene
            .api
            .list_backups("memory://vault")
            .await
            .expect("listed");
        assert!(chains.chains.is_empty());
    });
}
