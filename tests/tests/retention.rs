//! Chains that expire, with real processes: a leader that is killed meanwhile, a collection of several stores, and objects that are locked.

use holdfast_client::{ControlApi, v1};
use holdfast_store_testing::Seaweed;
use holdfast_tests::{Accounts, Cluster, Shape, eventually, run};
use v1::submit_backup_request::Layer;

const ACCOUNTS: u64 = 2_000;
const ROW: usize = 1_000;

async fn start(coordinators: usize, zones: usize) -> (Cluster, Accounts) {
    let shape = Shape {
        coordinators,
        zones,
        workers_per_zone: 1,
        slots: 2,
    };
    let cluster = Cluster::start(shape).await;
    // Many small objects.
    cluster.small_parts(16 << 10, 256 << 10).await;
    let accounts = Accounts::create(cluster.member_addresses(), "bank", ACCOUNTS, ROW).await;
    (cluster, accounts)
}

async fn backup(cluster: &Cluster, stores: &[String], layer: Layer) -> v1::Job {
    let request = v1::SubmitBackupRequest {
        into: stores[0].clone(),
        more_into: stores[1..].to_vec(),
        layer: Some(layer),
        ..cluster.backup_request(false, false)
    };
    let submitted = cluster.client().submit_backup(request).await;
    cluster.succeeded(submitted.expect("a job").job).await
}

/// The expiry's job, once nobody needs any more the chains that are to go: what their jobs have left is swept after a lease's time.
async fn expire(cluster: &Cluster, stores: &[String], count: usize) -> u64 {
    let request = v1::ExpireBackupsRequest {
        collection: stores[0].clone(),
        more_collections: stores[1..].to_vec(),
        keep_fulls: 1,
        ..v1::ExpireBackupsRequest::default()
    };
    eventually("nobody needs the chains", || async {
        let looked = v1::ExpireBackupsRequest {
            dry_run: true,
            ..request.clone()
        };
        let looked = cluster.client().expire_backups(looked).await.ok()?;
        let going = looked.chains.iter().filter(|chain| chain.expires);
        (going.count() == count).then_some(())
    })
    .await;
    let answer = cluster.client().expire_backups(request).await;
    answer.expect("an expiry").job
}

fn listed(collection: &str) -> Vec<String> {
    let shown = run(&["backups", "list", collection, "--local", "--json"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let shown = shown.json();
    let chains = shown["chains"].as_array().expect("chains").iter();
    chains
        .map(|chain| chain["subdir"].as_str().expect("a text").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_while_chains_are_removed() {
    let (mut cluster, accounts) = start(3, 2).await;
    let home = format!("file://{}/home", cluster.directory().display());
    let zone = format!("file://{}/zone", cluster.directory().display());
    let stores = [
        format!("{home}?HOLDFAST_LOCALITY=default"),
        format!("{zone}?HOLDFAST_LOCALITY=zone%3Dz1"),
    ];
    let mut last = None;
    for _ in 0..3 {
        backup(&cluster, &stores, Layer::Full(true)).await;
        last = Some(backup(&cluster, &stores, Layer::AppendToLatest(true)).await);
    }
    let last = last.expect("a backup");
    let before = listed(&home);
    assert_eq!(before.len(), 3);
    let coordinator = cluster.coordinator_addresses().join(",");
    let expire_dry = ["backups", "expire", &home, "--keep-fulls", "1", "--dry-run"];
    let mut arguments = vec!["--coordinator", &coordinator];
    arguments.extend(expire_dry);
    // What the backups have left is swept first: until then they need their chains.
    eventually("only a store is missing", || async {
        let dry = run(&arguments);
        assert_eq!(dry.code, 0, "{}", dry.stderr);
        dry.stdout.contains("give the URIs of all").then_some(())
    })
    .await;
    let plain = [home.clone(), zone.clone()];
    let job = expire(&cluster, &plain, 2).await;
    let leader = cluster.leader().await;
    cluster.coordinators[leader].kill();
    let done = cluster.succeeded(job).await;
    cluster.coordinators[leader].restart();
    let removed: Vec<&str> = done.expired.iter().map(|it| it.subdir.as_str()).collect();
    assert_eq!(removed, [before[0].as_str(), &before[1]]);
    assert_eq!(listed(&home), [before[2].as_str()]);
    // No object of them is left in either store.
    for place in ["home", "zone"] {
        for gone in &before[..2] {
            for below in [gone.clone(), format!("incrementals/{gone}")] {
                let directory = cluster.directory().join(place).join(below);
                let found = files_below(&directory);
                assert_eq!(found, Vec::<String>::new());
            }
        }
    }
    let restore = v1::SubmitRestoreRequest {
        from: plain[0].clone(),
        more_from: vec![plain[1].clone()],
        ..cluster.restore_request(&last.as_of, "copy")
    };
    let restore = cluster.client().submit_restore(restore).await;
    cluster.succeeded(restore.expect("a job").job).await;
    accounts.assert_restored("copy", &last.as_of).await;
}

fn files_below(directory: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else {
        return found;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path.display().to_string()),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_locked_does_not_expire() {
    let weed = Seaweed::shared();
    let (cluster, _) = start(1, 1).await;
    let lock = "HOLDFAST_OBJECT_LOCK_MODE=GOVERNANCE&HOLDFAST_OBJECT_LOCK_RETAIN_DAYS=1";
    let locked = [weed.uri(&weed.locked_bucket(), lock)];
    let free = [weed.uri(&weed.bucket(), "")];
    for stores in [&locked, &free] {
        backup(&cluster, stores, Layer::Full(true)).await;
        backup(&cluster, stores, Layer::Full(true)).await;
    }
    let coordinator = cluster.coordinator_addresses().join(",");
    let expire = |collection: &str| {
        run(&[
            "--coordinator",
            &coordinator,
            "backups",
            "expire",
            collection,
            "--keep-fulls",
            "1",
        ])
    };
    let said = eventually("nobody needs the chain any more", || async {
        let said = expire(&locked[0]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        (!said.stdout.contains("needs it")).then_some(said.stdout)
    })
    .await;
    assert!(said.contains("its objects are locked until"), "{said}");
    assert!(said.contains("nothing to remove"), "{said}");
    assert_eq!(listed(&locked[0]).len(), 2);
    eventually("the other is gone", || async {
        let said = expire(&free[0]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        (listed(&free[0]).len() == 1).then_some(())
    })
    .await;
}
