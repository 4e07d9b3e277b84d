//! Jobs of sources whose history is a log, with workers that only pretend.

mod scene;

use holdfast_client::ControlApi;
use holdfast_proto::v1;
use holdfast_proto::v1::submit_backup_request::Layer;
use holdfast_types::{ErrorCode, JobSpec, Position, SourceKind};
use scene::{AHEAD, BARE, FakeWorker, LOOSE, Manner, Scene, play, until};
use std::path::Path;

const EU: &str = "region=eu";
const US: &str = "region=us";
const CANARY: &str = "canary-5ecret";

fn servers(name: &str, members: &[(&str, &str)]) -> v1::RegisterSourceRequest {
    v1::RegisterSourceRequest {
        name: name.into(),
        kind: "postgres".into(),
        members: members
            .iter()
            .map(|(name, locality)| v1::Member {
                name: (*name).into(),
                locality: (*locality).into(),
                address: format!("postgres://app@{name}.example/bank"),
                password: CANARY.into(),
                ..v1::Member::default()
            })
            .collect(),
    }
}

fn full() -> v1::SubmitBackupRequest {
    v1::SubmitBackupRequest {
        source: "pg".into(),
        ..scene::full()
    }
}

fn incremental() -> v1::SubmitBackupRequest {
    v1::SubmitBackupRequest {
        layer: Some(Layer::AppendToLatest(true)),
        revision_history: true,
        ..full()
    }
}

fn restore() -> v1::SubmitRestoreRequest {
    v1::SubmitRestoreRequest {
        from: "memory://vault".into(),
        ..v1::SubmitRestoreRequest::default()
    }
}

fn target(databases: &[&str], tables: &[&str]) -> Option<v1::Target> {
    Some(v1::Target {
        databases: databases.iter().map(ToString::to_string).collect(),
        tables: tables.iter().map(ToString::to_string).collect(),
    })
}

/// A coordinator with source `pg`, whose members are `s1` in eu and, of two, `s2` in us; and a worker for each.
async fn start(members: usize) -> (Scene, Vec<FakeWorker>) {
    let scene = Scene::start(&[EU]).await;
    let all = [("s1", EU), ("s2", US)];
    let request = servers("pg", &all[..members]);
    scene
        .api
        .register_source(request)
        .await
        .expect("registered");
    let mut workers = Vec::new();
    for (name, place) in &all[..members] {
        workers.push(
            scene
                .worker(&format!("w-{name}"), place, Manner::Diligent(1))
                .await,
        );
    }
    (scene, workers)
}

async fn run(scene: &Scene, request: v1::SubmitBackupRequest) -> v1::Job {
    let job = scene.submit(request).await;
    scene.job_in(job, "succeeded").await
}

async fn shown(scene: &Scene) -> v1::ShowBackupResponse {
    let request = v1::ShowBackupRequest {
        collection: "memory://vault".into(),
        subdir: String::new(),
        check_files: true,
        more_collections: Vec::new(),
        encryption: None,
    };
    scene.api.show_backup(request).await.expect("a chain")
}

async fn refusal(scene: &Scene, request: v1::SubmitBackupRequest) -> holdfast_types::Fault {
    let fault = scene.api.submit_backup(request).await.expect_err("refused");
    assert!(fault.hint.is_some(), "{fault}");
    fault
}

#[test]
fn a_chain_ends_where_its_servers_are_and_keeps_their_log() {
    play(async {
        let (scene, workers) = start(1).await;
        let began = scene.env.clock.now();
        let first = run(&scene, full()).await;
        let base = shown(&scene).await;
        let end = base.layers[0].end.clone();
        let at: holdfast_types::Timestamp = end.parse().expect("a time");
        assert!(
            at > began,
            "{at} is when it was all read, not when it began at {began}"
        );
        assert_eq!(base.restorable, std::slice::from_ref(&end));
        assert_eq!(
            first
                .as_of
                .parse::<holdfast_types::AsOf>()
                .and_then(|as_of| as_of.instant(at))
                .map(|end| end.wall),
            Ok(at)
        );
        let tables: Vec<(&str, u64)> = (base.layers[0].tables.iter())
            .map(|table| (table.table.as_str(), table.rows))
            .collect();
        assert_eq!(tables, [("", 1), ("public.accounts", 1)]);
        // The chain keeps its hold, and the server is told what may go.
        until("the hold is moved", || async {
            (workers[0].seen.borrow().holds_advanced == 1).then_some(())
        })
        .await;
        let status = scene.api.cluster_status().await.expect("a status");
        assert_eq!(status.holds.len(), 1);
        assert_eq!(status.holds[0].state, "active");

        run(&scene, incremental()).await;
        until("the hold is moved again", || async {
            (workers[0].seen.borrow().holds_advanced == 2).then_some(())
        })
        .await;
        let chain = shown(&scene).await;
        assert_eq!(chain.problems, Vec::<String>::new());
        let newest = chain.layers[1].end.clone();
        assert_eq!(chain.layers[1].start, end);
        assert_eq!(
            chain.restorable,
            [end.clone(), format!("({end}, {newest}]")]
        );
        restores(&scene, &workers[0], &end, &newest).await;
        scene.handle.shutdown().await;
    });
}

/// Restores of the chain that ends at `newest`, with a history since `end`.
async fn restores(scene: &Scene, worker: &FakeWorker, end: &str, newest: &str) {
    let told = || worker.seen.borrow().specs.last().cloned();
    let from: holdfast_types::Timestamp = end.parse().expect("a time");
    let inside = holdfast_types::Timestamp::from_micros(from.as_micros() + 1).to_string();
    for (as_of, layers, expected) in [
        ("", 2, newest),
        (newest, 2, newest),
        (inside.as_str(), 2, inside.as_str()),
        (end, 1, end),
    ] {
        let request = v1::SubmitRestoreRequest {
            as_of: as_of.into(),
            schema_only: true,
            ..restore()
        };
        let job = scene
            .api
            .submit_restore(request)
            .await
            .expect("accepted")
            .job;
        scene.job_in(job, "succeeded").await;
        let Some(JobSpec::Restore(spec)) = told() else {
            panic!("{:?}", told());
        };
        assert_eq!(spec.kind, SourceKind::Postgres);
        let Position::Hlc(as_of) = spec.as_of else {
            panic!("{}", spec.as_of);
        };
        assert_eq!(
            (spec.layers.len(), as_of.wall.to_string()),
            (layers, expected.to_owned())
        );
        assert!(spec.options.schema_only && spec.tables.is_empty());
    }
    let table = v1::SubmitRestoreRequest {
        target: target(&[], &["bank.public.*"]),
        into_db: "copy".into(),
        into_schema: "old".into(),
        ..restore()
    };
    let job = scene
        .api
        .submit_restore(table.clone())
        .await
        .expect("accepted")
        .job;
    scene.job_in(job, "succeeded").await;
    let Some(JobSpec::Restore(spec)) = told() else {
        panic!("{:?}", told());
    };
    let (old, new) = ("bank.public.accounts", "copy.old.accounts");
    let pairs: Vec<_> = (spec.tables.iter())
        .map(|(old, new)| (old.to_string(), new.to_string()))
        .collect();
    assert_eq!(pairs, [(old.to_owned(), new.to_owned())]);
    assert_eq!(spec.target.to_string(), format!("TABLE {old}"));
    assert!(spec.into_existing);
    let late = v1::SubmitRestoreRequest {
        as_of: "2999-01-01T00:00:00Z".into(),
        ..restore()
    };
    let cases = [
        (late, ErrorCode::NotCovered, "do not cover requested time"),
        (
            v1::SubmitRestoreRequest {
                target: target(&[], &["bank.nothing.*"]),
                ..restore()
            },
            ErrorCode::NotFound,
            "failed to resolve targets",
        ),
        (
            v1::SubmitRestoreRequest {
                new_table_name: "x".into(),
                ..table
            },
            ErrorCode::InvalidArgument,
            "exactly one table",
        ),
        (
            v1::SubmitRestoreRequest {
                members: vec!["s9".into()],
                ..restore()
            },
            ErrorCode::NotFound,
            "member s9 of the backup cannot be restored",
        ),
        (
            v1::SubmitRestoreRequest {
                into_source: "bank".into(),
                ..restore()
            },
            ErrorCode::InvalidArgument,
            "is of kind mvcc",
        ),
    ];
    for (request, code, text) in cases {
        let fault = scene.api.submit_restore(request).await.expect_err(text);
        assert_eq!(fault.code, code, "{fault}");
        assert!(fault.message.contains(text), "{fault}");
    }
}

#[test]
fn servers_end_one_after_another_and_only_their_common_history_is_restored() {
    play(async {
        let (scene, _workers) = start(2).await;
        run(&scene, full()).await;
        run(&scene, incremental()).await;
        let chain = shown(&scene).await;
        let (first, last) = (&chain.layers[0].end, &chain.layers[1].end);
        // Both settle at their own moment: the window ends with the first of them, the layer with the last.
        assert_eq!(chain.restorable.len(), 3, "{:?}", chain.restorable);
        assert_eq!(&chain.restorable[0], first);
        assert!(chain.restorable[1].starts_with(&format!("({first}, ")));
        assert_eq!(&chain.restorable[2], last);
        // One of them goes onto another server.
        let spare = servers("spare", &[("x", "region=ap")]);
        scene.api.register_source(spare).await.expect("registered");
        let worker = scene.worker("w-x", "region=ap", Manner::Diligent(1)).await;
        let request = |members: &[&str]| v1::SubmitRestoreRequest {
            into_source: "spare".into(),
            members: members.iter().map(ToString::to_string).collect(),
            ..restore()
        };
        let fault = scene
            .api
            .submit_restore(request(&[]))
            .await
            .expect_err("which one?");
        assert!(fault.message.contains("has no counterpart"), "{fault}");
        let job = scene
            .api
            .submit_restore(request(&["s2=x"]))
            .await
            .expect("accepted")
            .job;
        scene.job_in(job, "succeeded").await;
        let Some(JobSpec::Restore(spec)) = worker.seen.borrow().specs.last().cloned() else {
            panic!("no restore");
        };
        let members: Vec<_> = (spec.members.iter())
            .map(|member| format!("{}>{}", member.from, member.member.name))
            .collect();
        assert_eq!(members, ["s2>x"]);
        assert!(spec.members[0].member.secret.is_some());
        scene.handle.shutdown().await;
    });
}

#[test]
fn what_a_log_cannot_do_is_refused() {
    play(async {
        let (scene, workers) = start(1).await;
        let fault = refusal(
            &scene,
            v1::SubmitBackupRequest {
                as_of: "-10s".into(),
                ..full()
            },
        )
        .await;
        assert_eq!(fault.code, ErrorCode::Unsupported, "{fault}");
        // A full that starts no chain cannot be gone on with.
        run(
            &scene,
            v1::SubmitBackupRequest {
                start_chain: Some(false),
                ..full()
            },
        )
        .await;
        until("the hold is released", || async {
            (workers[0].seen.borrow().holds_released == 1).then_some(())
        })
        .await;
        let fault = refusal(&scene, incremental()).await;
        assert_eq!(fault.code, ErrorCode::ChainRule, "{fault}");
        assert!(
            fault.message.contains("does not keep the history"),
            "{fault}"
        );

        // Another one does, until somebody gives it up.
        run(&scene, full()).await;
        run(&scene, incremental()).await;
        let status = scene.api.cluster_status().await.expect("a status");
        let hold = status.holds[0].id;
        scene.api.drop_hold(hold).await.expect("given up");
        let fault = refusal(&scene, incremental()).await;
        assert_eq!(fault.code, ErrorCode::ChainRule, "{fault}");
        scene.handle.shutdown().await;
    });
}

#[test]
fn a_server_whose_clock_is_ahead_is_gone_on_with() {
    play(async {
        let scene = Scene::start(&[EU]).await;
        let request = servers("pg", &[(AHEAD, EU)]);
        scene
            .api
            .register_source(request)
            .await
            .expect("registered");
        let _worker = scene.worker("w", EU, Manner::Diligent(1)).await;
        run(&scene, full()).await;
        let first = run(&scene, incremental()).await;
        let second = run(&scene, incremental()).await;
        let chain = shown(&scene).await;
        assert_eq!(chain.problems, Vec::<String>::new());
        let paths: Vec<&str> = chain
            .layers
            .iter()
            .map(|layer| layer.path.as_str())
            .collect();
        assert_eq!(paths[1..], [first.path.as_str(), second.path.as_str()]);
        assert!(
            paths.is_sorted_by(|a, b| a.len() < b.len() || a < b),
            "{paths:?}"
        );
        let ends: Vec<&str> = chain
            .layers
            .iter()
            .map(|layer| layer.end.as_str())
            .collect();
        assert!(ends.is_sorted_by(|a, b| a < b), "{ends:?}");
        scene.handle.shutdown().await;
    });
}

#[test]
fn a_chain_takes_one_incremental_at_a_time() {
    play(async {
        let (scene, workers) = start(1).await;
        run(&scene, full()).await;
        drop(workers);
        let _idle = scene.worker("w-idle", EU, Manner::Idle(1)).await;
        let job = scene.submit(incremental()).await;
        // In the same hundredth of a second it would be refused for its directory.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let fault = refusal(&scene, incremental()).await;
        assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");
        assert!(
            fault.message.contains(&format!("job {job} is writing")),
            "{fault}"
        );
        // Cancelled, it leaves the chain as it was.
        scene.control(job, "cancel").await;
        scene.job_in(job, "canceled").await;
        let status = scene.api.cluster_status().await.expect("a status");
        assert_eq!(status.holds[0].state, "active");
        drop(_idle);
        let _worker = scene.worker("w-new", EU, Manner::Diligent(1)).await;
        run(&scene, incremental()).await;
        scene.handle.shutdown().await;
    });
}

/// Whether a file under a directory holds the canary.
#[expect(
    clippy::disallowed_methods,
    reason = "what is on the disk is looked for"
)]
fn is_leaked(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return is_leaked(&path);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        let mut windows = bytes.windows(CANARY.len());
        windows.any(|window| window == CANARY.as_bytes())
    })
}

#[test]
fn passwords_are_kept_sealed_and_shown_to_nobody() {
    play(async {
        let (scene, _workers) = start(1).await;
        run(&scene, full()).await;
        let listed = scene.api.list_sources().await.expect("listed");
        let source = listed.sources.iter().find(|source| source.name == "pg");
        let member = &source.expect("there").members[0];
        assert!(member.has_password && member.password.is_empty());
        let with = |change: &dyn Fn(&mut v1::Member)| {
            let mut request = servers("pg", &[("s1", EU)]);
            request.members[0].password.clear();
            change(&mut request.members[0]);
            request
        };
        let updated = |request| async {
            let view = scene.api.update_source(request).await.expect("updated");
            view.members[0].has_password
        };
        assert!(updated(with(&|_| ())).await, "as before");
        let tls = |member: &mut v1::Member| member.address += "?sslmode=require";
        assert!(updated(with(&tls)).await, "the same server");
        assert!(!updated(with(&|member| member.clear_password = true)).await);
        assert!(!updated(with(&|_| ())).await, "it is forgotten");
        for request in [
            with(&|member| member.address = format!("postgres://app:{CANARY}@h/d")),
            with(&|member| member.address = format!("nowhere {CANARY}")),
        ] {
            let fault = scene.api.update_source(request).await.expect_err("wrong");
            assert_eq!(fault.code, ErrorCode::InvalidArgument);
            assert!(!fault.to_string().contains(CANARY), "{fault}");
        }
        let mvcc = v1::RegisterSourceRequest {
            name: "new".into(),
            kind: "mvcc".into(),
            ..servers("new", &[("s1", EU)])
        };
        let fault = scene
            .api
            .register_source(mvcc)
            .await
            .expect_err("no host:port");
        assert!(!fault.to_string().contains(CANARY), "{fault}");
        let directory = scene.directory.path().to_owned();
        assert!(!is_leaked(&directory), "the raft log holds a password");
        scene.handle.shutdown().await;
    });
}

/// A source of servers in one place, with a worker near them.
async fn fleet(members: &[&str]) -> (Scene, FakeWorker) {
    let scene = Scene::start(&[EU]).await;
    let members: Vec<_> = members.iter().map(|name| (*name, EU)).collect();
    let request = servers("pg", &members);
    scene
        .api
        .register_source(request)
        .await
        .expect("registered");
    let worker = scene.worker("w", EU, Manner::Diligent(1)).await;
    (scene, worker)
}

#[test]
fn servers_need_not_all_have_what_is_backed_up_but_one_must() {
    play(async {
        let (scene, worker) = fleet(&["s1", BARE]).await;
        let named = |name: &str, request: v1::SubmitBackupRequest| v1::SubmitBackupRequest {
            target: target(&[name], &[]),
            ..request
        };
        let job = scene.submit(named("nowhere", full())).await;
        let failed = scene.job_in(job, "failed").await;
        let fault = failed.error.expect("a reason");
        assert!(
            fault
                .message
                .contains("\"nowhere\" does not exist on any member"),
            "{fault:?}"
        );
        run(&scene, named("bank", full())).await;
        run(&scene, named("bank", incremental())).await;
        let chain = shown(&scene).await;
        assert_eq!(chain.problems, Vec::<String>::new());
        assert_eq!(chain.layers.len(), 2);
        until("the hold is moved on the one that has it", || async {
            let status = scene.api.cluster_status().await.expect("a status");
            let moved = worker.seen.borrow().holds_advanced == 2;
            (moved && status.holds.iter().any(|hold| hold.state == "active")).then_some(())
        })
        .await;
        let request = v1::SubmitRestoreRequest {
            target: target(&["bank"], &[]),
            new_db_name: "copy".into(),
            ..restore()
        };
        let job = scene.api.submit_restore(request).await.expect("accepted");
        scene.job_in(job.job, "succeeded").await;
        let Some(JobSpec::Restore(spec)) = worker.seen.borrow().specs.last().cloned() else {
            panic!("no restore");
        };
        let members: Vec<_> = spec.members.iter().map(|it| it.from.to_string()).collect();
        assert_eq!(members, ["s1"]);
        scene.handle.shutdown().await;
    });
}

#[test]
fn nothing_follows_a_backup_in_snapshot_mode() {
    play(async {
        let (scene, worker) = fleet(&["s1", LOOSE]).await;
        run(&scene, full()).await;
        until("the hold is released", || async {
            (worker.seen.borrow().holds_released == 2).then_some(())
        })
        .await;
        let fault = refusal(&scene, incremental()).await;
        assert_eq!(fault.code, ErrorCode::ChainRule, "{fault}");
        assert!(fault.message.contains("snapshot mode"), "{fault}");
        assert_eq!(worker.seen.borrow().holds_advanced, 0);
        scene.handle.shutdown().await;
    });
}
