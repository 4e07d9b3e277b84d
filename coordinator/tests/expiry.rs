//! Chains that expire: what goes and what stays, across a change of leader, and against jobs that need them.

mod scene;

use holdfast_client::ControlApi;
use holdfast_collection::faulty::{FaultPlan, FaultyStore, Injection, StoreFault, StoreOp};
use holdfast_collection::{CollectionUri, StoreProvider, SystemStores};
use holdfast_env::Env;
use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Fault, Timestamp};
use object_store::ObjectStore;
use scene::{Manner, Scene, full, incremental, play, until};
use std::sync::Arc;
use std::sync::Mutex;

const EU: &str = "region=eu";

/// What happens to deletes.
#[derive(Debug, Default)]
struct Deletes(Mutex<Option<StoreFault>>);

impl Deletes {
    fn end_with(&self, fault: Option<StoreFault>) {
        *self.0.lock().expect("the lock") = fault;
    }
}

impl FaultPlan for Deletes {
    fn next(&self, operation: StoreOp, _: &str) -> Injection {
        let fault = *self.0.lock().expect("the lock");
        Injection {
            fault: fault.filter(|_| operation == StoreOp::Delete),
            ..Injection::NONE
        }
    }
}

#[derive(Debug)]
struct Stores {
    inner: SystemStores,
    plan: Arc<Deletes>,
}

impl StoreProvider for Stores {
    fn open(&self, uri: &CollectionUri) -> Result<Arc<dyn ObjectStore>, Fault> {
        let plan: Arc<dyn FaultPlan> = Arc::clone(&self.plan) as Arc<dyn FaultPlan>;
        Ok(Arc::new(FaultyStore::new(self.inner.open(uri)?, plan)))
    }

    fn exists(&self, uri: &CollectionUri) -> Result<bool, Fault> {
        self.inner.exists(uri)
    }
}

/// A cluster, what happens to deletes in its collection, and the chains there: one with an incremental, and a full.
async fn with_chains() -> (Scene, Arc<Deletes>, [String; 2]) {
    let plan = Arc::new(Deletes::default());
    let stores = Arc::new(Stores {
        inner: SystemStores::new(Env::system().disk),
        plan: Arc::clone(&plan),
    });
    let scene = Scene::start_with(&[EU], stores).await;
    let worker = scene.worker("w", EU, Manner::Diligent(2)).await;
    let first = scene.submit(full()).await;
    let first = scene.job_in(first, "succeeded").await.path;
    let second = scene.submit(incremental()).await;
    scene.job_in(second, "succeeded").await;
    let third = scene.submit(full()).await;
    let third = scene.job_in(third, "succeeded").await.path;
    // Nothing of them is left to be swept.
    until("the holds are released", || async {
        let status = scene.api.cluster_status().await.expect("a status");
        status.holds.is_empty().then_some(())
    })
    .await;
    drop(worker);
    (scene, plan, [first, third])
}

fn expiry() -> v1::ExpireBackupsRequest {
    v1::ExpireBackupsRequest {
        collection: "memory://vault".into(),
        keep_fulls: 1,
        ..v1::ExpireBackupsRequest::default()
    }
}

/// An expiry that was begun. What a chain was needed for a moment ago may not be settled yet.
async fn begun(scene: &Scene, request: &v1::ExpireBackupsRequest) -> v1::ExpireBackupsResponse {
    until("an expiry is begun", || async {
        let answer = scene.api.expire_backups(request.clone()).await;
        let answer = answer.expect("accepted");
        (answer.job != 0).then_some(answer)
    })
    .await
}

async fn listed(scene: &Scene) -> Vec<String> {
    let listed = scene.api.list_backups("memory://vault").await;
    let chains = listed.expect("listed").chains.into_iter();
    chains.map(|chain| chain.subdir).collect()
}

fn verify(subdir: &str) -> v1::SubmitVerifyRequest {
    v1::SubmitVerifyRequest {
        from: "memory://vault".into(),
        subdir: subdir.into(),
        ..v1::SubmitVerifyRequest::default()
    }
}

#[test]
fn the_older_chain_goes_whole_and_the_newest_stays() {
    play(async {
        let (scene, _, [old, new]) = with_chains().await;
        let looked = until("nobody needs the chain", || async {
            let request = v1::ExpireBackupsRequest {
                dry_run: true,
                ..expiry()
            };
            let looked = scene.api.expire_backups(request).await.expect("looked at");
            looked.chains[0].expires.then_some(looked)
        })
        .await;
        assert_eq!(looked.job, 0);
        let shown: Vec<_> = (looked.chains.iter())
            .map(|chain| (chain.subdir.as_str(), chain.layers, chain.expires))
            .collect();
        assert_eq!(shown, [(old.as_str(), 2, true), (new.as_str(), 1, false)]);
        assert_eq!(
            looked.chains[1].reason,
            "it is the newest that can be restored"
        );
        assert_eq!(listed(&scene).await, [old.as_str(), &new]);

        let answer = begun(&scene, &expiry()).await;
        let job = scene.job_in(answer.job, "succeeded").await;
        assert_eq!(job.kind, "EXPIRE");
        assert!(
            job.description.contains("KEEP LAST 1 FULLS"),
            "{}",
            job.description
        );
        assert_eq!(job.expired.len(), 1);
        assert_eq!(
            (job.expired[0].subdir.as_str(), job.expired[0].refused),
            (old.as_str(), 0)
        );
        assert!(
            job.expired[0].objects > 0 && job.expired[0].bytes > 0,
            "{job:?}"
        );
        assert_eq!(job.notes, Vec::<String>::new());
        assert_eq!(listed(&scene).await, [new.as_str()]);
        let gone = scene
            .api
            .submit_verify(verify(&old))
            .await
            .expect_err("gone");
        assert_eq!(gone.code, ErrorCode::NotFound, "{gone}");
        // Nothing is left to do.
        let again = scene.api.expire_backups(expiry()).await.expect("looked at");
        assert_eq!((again.job, again.chains.len()), (0, 1));
        let worker = scene.worker("w2", EU, Manner::Diligent(2)).await;
        let sound = scene.api.submit_verify(verify(&new)).await.expect("there");
        scene.job_in(sound.job, "succeeded").await;
        drop(worker);
        scene.handle.shutdown().await;
    });
}

#[test]
fn a_removal_goes_on_under_another_leader_and_nobody_begins_to_need_the_chain() {
    play(async {
        let (scene, plan, [old, new]) = with_chains().await;
        plan.end_with(Some(StoreFault::Reject));
        let job = begun(&scene, &expiry()).await.job;
        until("the trouble is shown", || async {
            let job = scene.job(job).await;
            assert_ne!(job.state, "succeeded");
            let waiting = job.waiting.iter();
            let mut waiting = waiting.filter(|why| why.contains("removing an expired chain"));
            waiting.next().map(|_| ())
        })
        .await;
        assert_eq!(listed(&scene).await, [new.as_str()], "it is marked");
        let append = v1::SubmitBackupRequest {
            layer: Some(v1::submit_backup_request::Layer::AppendTo(old.clone())),
            ..full()
        };
        let fault = scene.api.submit_backup(append).await.expect_err("expired");
        assert!(fault.message.contains("has expired"), "{fault}");
        assert!(scene.api.submit_verify(verify(&old)).await.is_err());
        // Neither is it over before it has ended with the chain.
        scene.control(job, "cancel").await;
        let scene = scene.restart().await;
        assert_eq!(scene.job(job).await.state, "cancel-requested");
        plan.end_with(None);
        let ended = scene.job_in(job, "canceled").await;
        assert_eq!(ended.expired.len(), 1);
        assert_eq!(listed(&scene).await, [new.as_str()]);
        scene.handle.shutdown().await;
    });
}

#[test]
fn what_a_store_does_not_let_go_is_noted_and_tried_again() {
    play(async {
        let (scene, plan, [old, new]) = with_chains().await;
        plan.end_with(Some(StoreFault::Deny));
        let job = begun(&scene, &expiry()).await.job;
        let job = scene.job_in(job, "succeeded").await;
        assert!(job.expired[0].refused > 0, "{job:?}");
        assert!(job.notes[0].contains("did not let"), "{:?}", job.notes);
        assert_eq!(listed(&scene).await, [new.as_str()]);
        plan.end_with(None);
        let again = scene.api.expire_backups(expiry()).await.expect("accepted");
        assert_eq!(again.chains[0].subdir, old);
        assert_eq!(
            again.chains[0].reason,
            "it had expired before, and some of it is left"
        );
        let job = scene.job_in(again.job, "succeeded").await;
        assert_eq!(job.expired[0].refused, 0);
        let last = scene.api.expire_backups(expiry()).await.expect("looked at");
        assert_eq!((last.job, last.chains.len()), (0, 1));
        scene.handle.shutdown().await;
    });
}

#[test]
fn a_chain_that_is_read_stays() {
    play(async {
        let (scene, _, [old, _]) = with_chains().await;
        // Nobody is there to do it.
        let reader = scene
            .api
            .submit_verify(verify(&old))
            .await
            .expect("accepted");
        let looked = scene.api.expire_backups(expiry()).await.expect("looked at");
        assert_eq!(looked.job, 0);
        let reason = &looked.chains[0].reason;
        assert!(
            reason.contains(&format!("job {} (VERIFY)", reader.job)),
            "{reason}"
        );
        scene.control(reader.job, "cancel").await;
        scene.job_in(reader.job, "canceled").await;
        let answer = begun(&scene, &expiry()).await;
        scene.job_in(answer.job, "succeeded").await;
        scene.handle.shutdown().await;
    });
}

#[test]
fn rules_that_say_nothing_or_too_much_are_refused() {
    play(async {
        let (scene, _, [old, new]) = with_chains().await;
        let rule = |older_than: &str, keep_fulls| v1::ExpireBackupsRequest {
            older_than: older_than.into(),
            keep_fulls,
            ..expiry()
        };
        for (older_than, text) in [
            ("", "nothing says which"),
            ("soon", "neither an age nor a time"),
            ("9000-01-01T00:00:00Z", "in the future"),
        ] {
            let fault = scene.api.expire_backups(rule(older_than, 0)).await;
            let fault = fault.expect_err(older_than);
            assert_eq!(fault.code, ErrorCode::InvalidArgument);
            assert!(fault.message.contains(text), "{fault}");
        }
        let nowhere = v1::ExpireBackupsRequest {
            collection: "memory://nowhere".into(),
            ..expiry()
        };
        let fault = scene
            .api
            .expire_backups(nowhere)
            .await
            .expect_err("no collection");
        assert_eq!(fault.code, ErrorCode::NotFound, "{fault}");
        // What is younger stays, whatever may be counted.
        let looked = scene
            .api
            .expire_backups(rule("1h", 1))
            .await
            .expect("looked at");
        assert_eq!(looked.job, 0);
        assert!(
            looked.chains[0].reason.contains("reaches beyond"),
            "{looked:?}"
        );
        let now = scene.env.clock.now();
        let request = rule(&Timestamp::from_millis(now.as_millis()).to_string(), 0);
        let answer = begun(&scene, &request).await;
        scene.job_in(answer.job, "succeeded").await;
        assert_eq!(listed(&scene).await, [new.as_str()]);
        assert_ne!(old, new);
        scene.handle.shutdown().await;
    });
}
