//! Backups on schedule, by real processes: a pair from its first full on, and what becomes of its runs when the leader is killed.

use holdfast_client::{ControlApi, v1};
use holdfast_tests::{Accounts, Cluster, Shape, eventually};

const ACCOUNTS: u64 = 500;
const ROW: usize = 100;

struct World {
    cluster: Cluster,
    accounts: Accounts,
}

impl World {
    async fn start() -> Self {
        let cluster = Cluster::start(Shape::default()).await;
        let accounts = Accounts::create(cluster.member_addresses(), "bank", ACCOUNTS, ROW).await;
        Self { cluster, accounts }
    }

    fn request(&self) -> v1::CreateScheduleRequest {
        v1::CreateScheduleRequest {
            label: "nightly".to_owned(),
            source: "bank".to_owned(),
            into: self.cluster.collection(),
            revision_history: true,
            recurring: "@hourly".to_owned(),
            ..v1::CreateScheduleRequest::default()
        }
    }

    /// Makes the pair: its incrementals, and its fulls.
    async fn create(&self, request: v1::CreateScheduleRequest) -> (u64, u64) {
        let client = self.cluster.client();
        let made = client.create_schedule(request).await.expect("a schedule");
        let [incremental, full] = made.schedules.as_slice() else {
            panic!("a pair: {made:#?}");
        };
        assert_eq!(full.partner, incremental.id);
        assert_eq!(
            (full.backup_type.as_str(), incremental.backup_type.as_str()),
            ("FULL", "INCREMENTAL")
        );
        assert_eq!(incremental.status, "PAUSED");
        assert_eq!(incremental.state, "Waiting for initial backup to complete");
        (incremental.id, full.id)
    }

    async fn schedule(&self, id: u64) -> Option<v1::Schedule> {
        let listed = self.cluster.client().list_schedules().await.ok()?;
        listed.schedules.into_iter().find(|it| it.id == id)
    }

    async fn control(&self, schedule: u64, verb: &str) -> v1::ControlScheduleResponse {
        let request = v1::ControlScheduleRequest {
            schedule,
            verb: verb.to_owned(),
        };
        let answer = self.cluster.client().control_schedule(request).await;
        answer.unwrap_or_else(|fault| panic!("{verb}: {fault}"))
    }

    /// The jobs of a schedule, newest first.
    async fn runs(&self, schedule: u64) -> Vec<v1::Job> {
        let request = v1::ListJobsRequest {
            all: true,
            schedules: vec![schedule],
            ..v1::ListJobsRequest::default()
        };
        let listed = self.cluster.client().list_jobs(request).await;
        listed.map(|listed| listed.jobs).unwrap_or_default()
    }

    /// Waits until a schedule has run this often, and its last run has succeeded.
    async fn ran(&self, schedule: u64, times: usize) -> v1::Job {
        let what = format!("run {times} of schedule {schedule}");
        let job = eventually(&what, || async {
            let runs = self.runs(schedule).await;
            (runs.len() >= times).then(|| runs[0].id)
        })
        .await;
        self.cluster.succeeded(job).await
    }

    /// Waits until the incrementals' schedule has its first regular time.
    async fn until_active(&self, schedule: u64) -> v1::Schedule {
        eventually("incrementals are taken", || async {
            let found = self.schedule(schedule).await?;
            let is_active = found.status == "ACTIVE" && !found.next_run.is_empty();
            is_active.then_some(found)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_takes_a_full_first_and_then_incrementals_on_it() {
    let world = World::start().await;
    let (incremental, full) = world.create(world.request()).await;
    // The cadence of fulls was chosen by the cluster: the first is taken at once.
    let first = world.ran(full, 1).await;
    assert_eq!(first.schedule, full);
    let found = world.until_active(incremental).await;
    assert!(found.next_run.ends_with(":00:00Z"), "{}", found.next_run);
    assert_eq!(found.state, "");

    let writers = world.accounts.start_writers(ROW);
    world.control(incremental, "run").await;
    let second = world.ran(incremental, 1).await;
    assert!(writers.stop().await > 0);
    assert!(
        second
            .path
            .starts_with(&format!("incrementals/{}", first.path)),
        "{}",
        second.path
    );
    let restore = world.cluster.restore(&second.as_of, "copy").await;
    world.cluster.succeeded(restore).await;
    world.accounts.assert_restored("copy", &second.as_of).await;

    let paused = world.control(incremental, "pause").await;
    assert_eq!(paused.schedule.expect("a view").status, "PAUSED");
    assert!(world.control(incremental, "pause").await.no_op);
    let request = v1::ControlScheduleRequest {
        schedule: incremental,
        verb: "run".to_owned(),
    };
    let fault = world
        .cluster
        .client()
        .control_schedule(request)
        .await
        .expect_err("it is paused");
    assert!(fault.message.contains("paused"), "{fault}");
    world.control(full, "drop").await;
    assert!(world.schedule(full).await.is_none());
    assert!(world.schedule(incremental).await.is_none());

    // The collection has backups now.
    let client = world.cluster.client();
    let fault = client.create_schedule(world.request()).await;
    let fault = fault.expect_err("backups are there");
    assert!(fault.message.contains("already"), "{fault}");
    let again = v1::CreateScheduleRequest {
        ignore_existing_backups: true,
        full_backup: "ALWAYS".to_owned(),
        ..world.request()
    };
    let made = client.create_schedule(again).await.expect("a schedule");
    assert_eq!(made.schedules.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_made_once_whoever_leads() {
    let mut world = World::start().await;
    // No regular time comes while this runs.
    let request = v1::CreateScheduleRequest {
        recurring: "0 0 1 */6 *".to_owned(),
        full_backup: "0 0 29 2 *".to_owned(),
        first_run: "now".to_owned(),
        ..world.request()
    };
    let (incremental, full) = world.create(request).await;
    world.ran(full, 1).await;
    world.until_active(incremental).await;
    for round in 1..=3 {
        world.control(incremental, "run").await;
        // At whatever instant of the run this is.
        let leader = world.cluster.leader().await;
        world.cluster.coordinators[leader].kill();
        world.ran(incremental, round).await;
        world.cluster.coordinators[leader].restart();
    }
    let runs = world.runs(incremental).await;
    assert_eq!(runs.len(), 3);
    let dues: std::collections::BTreeSet<_> = runs.iter().map(|job| &job.schedule_due).collect();
    assert_eq!(dues.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_schedule_cannot_be_is_refused_by_name() {
    let world = World::start().await;
    type Change = fn(&mut v1::CreateScheduleRequest);
    let cases: [(Change, &str); 6] = [
        (|it| it.source = "nowhere".into(), "nowhere"),
        (|it| it.recurring = "0 0 * *".into(), "4 fields"),
        (
            |it| it.full_backup = "* * * * *".into(),
            "incremental backups must occur more often",
        ),
        (|it| it.first_run = "soon".into(), "soon"),
        (
            |it| it.on_execution_failure = "hope".into(),
            "on_execution_failure",
        ),
        // What is no URI may hold a secret all the same, and is not repeated.
        (|it| it.into = "nonsense".into(), "not a URI"),
    ];
    for (change, text) in cases {
        let mut request = world.request();
        change(&mut request);
        let fault = world.cluster.client().create_schedule(request).await;
        let fault = fault.expect_err(text);
        assert!(fault.message.contains(text), "{text}: {fault}");
    }
    let listed = world.cluster.client().list_schedules().await;
    assert_eq!(listed.expect("a list").schedules, []);
}
