//! The client against coordinators that refuse, lose answers, hang, and fall behind, over real loopback sockets.

use futures::stream::{BoxStream, StreamExt};
use holdfast_client::{ClientOptions, ControlApi, GrpcClient, v1};
use holdfast_env::Env;
use holdfast_proto::v1::control_server::{Control, ControlServer};
use holdfast_proto::{fault_to_status, incoming};
use holdfast_types::{ErrorCode, Fault};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::{Request, Response, Status};

/// What a fake coordinator does with its next call.
#[derive(Debug, Clone)]
enum Act {
    Serve,
    NoLeader,
    /// Do it, and lose the answer.
    LoseAnswer,
    Hang,
    Refuse(ErrorCode),
}

/// What several fake coordinators share.
#[derive(Debug, Default)]
struct Ledger {
    keys: BTreeMap<String, u64>,
    settings: u32,
}

#[derive(Debug, Clone)]
struct Fake {
    ledger: Arc<Mutex<Ledger>>,
    script: Arc<Mutex<VecDeque<Act>>>,
    watch: Vec<v1::Job>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Fake {
    async fn act<T>(&self, apply: impl FnOnce(&mut Ledger) -> T) -> Answer<T> {
        let act = self.script.lock().expect("lock").pop_front();
        match act.unwrap_or(Act::Serve) {
            Act::Serve => Ok(Response::new(apply(&mut self.ledger.lock().expect("lock")))),
            Act::NoLeader => Err(fault_to_status(&Fault::new(
                ErrorCode::NoLeader,
                "no leader",
            ))),
            Act::LoseAnswer => {
                apply(&mut self.ledger.lock().expect("lock"));
                Err(Status::unavailable("connection reset"))
            }
            Act::Hang => std::future::pending().await,
            Act::Refuse(code) => Err(fault_to_status(
                &Fault::new(code, "refused").hint("way out"),
            )),
        }
    }
}

macro_rules! unused {
    ($($method:ident($request:ident) -> $answer:ident),* $(,)?) => {$(
        // As `async_trait` writes it: the attribute does not see into macros.
        fn $method<'a, 'b>(
            &'a self,
            _: Request<v1::$request>,
        ) -> Pin<Box<dyn Future<Output = Answer<v1::$answer>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(Status::unimplemented(stringify!($method))) })
        }
    )*};
}

#[tonic::async_trait]
impl Control for Fake {
    async fn submit_backup(
        &self,
        request: Request<v1::SubmitBackupRequest>,
    ) -> Answer<v1::SubmitJobResponse> {
        let key = request.into_inner().request_key;
        assert!(!key.is_empty(), "every submission carries a key");
        self.act(|ledger| {
            let next = ledger.keys.len() as u64 + 1;
            let existed = ledger.keys.contains_key(&key);
            let job = *ledger.keys.entry(key).or_insert(next);
            v1::SubmitJobResponse {
                job,
                existed,
                path: String::new(),
            }
        })
        .await
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Answer<v1::Job> {
        let id = request.into_inner().job;
        self.act(|_| v1::Job {
            id,
            ..v1::Job::default()
        })
        .await
    }

    async fn set_setting(
        &self,
        _: Request<v1::SetSettingRequest>,
    ) -> Answer<v1::SetSettingResponse> {
        self.act(|ledger| {
            ledger.settings += 1;
            v1::SetSettingResponse {}
        })
        .await
    }

    type WatchJobStream = BoxStream<'static, Result<v1::Job, Status>>;

    async fn watch_job(
        &self,
        _: Request<v1::GetJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let jobs = self.watch.clone().into_iter().map(Ok);
        self.act(|_| futures::stream::iter(jobs).boxed()).await
    }

    unused! {
        submit_restore(SubmitRestoreRequest) -> SubmitJobResponse,
        submit_verify(SubmitVerifyRequest) -> SubmitJobResponse,
        expire_backups(ExpireBackupsRequest) -> ExpireBackupsResponse,
        list_jobs(ListJobsRequest) -> ListJobsResponse,
        control_job(ControlJobRequest) -> ControlJobResponse,
        register_source(RegisterSourceRequest) -> Source,
        update_source(RegisterSourceRequest) -> Source,
        drop_source(DropSourceRequest) -> DropSourceResponse,
        list_sources(ListSourcesRequest) -> ListSourcesResponse,
        create_schedule(CreateScheduleRequest) -> CreateScheduleResponse,
        alter_schedule(AlterScheduleRequest) -> ListSchedulesResponse,
        control_schedule(ControlScheduleRequest) -> ControlScheduleResponse,
        list_schedules(ListSchedulesRequest) -> ListSchedulesResponse,
        check_source(CheckSourceRequest) -> CheckSourceResponse,
        check_restore(SubmitRestoreRequest) -> CheckRestoreResponse,
        put_connection(PutConnectionRequest) -> Connection,
        drop_connection(DropConnectionRequest) -> DropConnectionResponse,
        list_connections(ListConnectionsRequest) -> ListConnectionsResponse,
        put_user(PutUserRequest) -> User,
        drop_user(DropUserRequest) -> DropUserResponse,
        list_users(ListUsersRequest) -> ListUsersResponse,
        check_connection(CheckConnectionRequest) -> CheckConnectionResponse,
        check_residency(CheckResidencyRequest) -> CheckResidencyResponse,
        drop_hold(DropHoldRequest) -> DropHoldResponse,
        list_backups(ListBackupsRequest) -> ListBackupsResponse,
        show_backup(ShowBackupRequest) -> ShowBackupResponse,
        show_keys(ShowKeysRequest) -> ChainKeys,
        change_keys(ChangeKeysRequest) -> ChangeKeysResponse,
        cluster_status(ClusterStatusRequest) -> ClusterStatusResponse,
        init_cluster(InitClusterRequest) -> InitClusterResponse,
        add_member(AddMemberRequest) -> MembersResponse,
        remove_member(RemoveMemberRequest) -> MembersResponse,
    }
}

/// Starts a fake coordinator and gives its address.
async fn start(
    env: &Env,
    ledger: &Arc<Mutex<Ledger>>,
    script: &[Act],
    watch: &[v1::Job],
) -> String {
    let listener = env.net.listen("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_address();
    let fake = Fake {
        ledger: Arc::clone(ledger),
        script: Arc::new(Mutex::new(script.iter().cloned().collect())),
        watch: watch.to_vec(),
    };
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(ControlServer::new(fake))
            .serve_with_incoming(incoming(listener)),
    );
    address
}

fn client(env: &Env, addresses: &[String]) -> GrpcClient {
    let options = ClientOptions {
        call_timeout: Duration::from_millis(300),
        long_call_timeout: Duration::from_millis(300),
        patience: Duration::from_secs(2),
        watch_silence: Duration::from_millis(200),
        ..ClientOptions::default()
    };
    GrpcClient::new(env.clone(), addresses, options).expect("legal addresses")
}

/// An address that nobody listens on.
async fn dead(env: &Env) -> String {
    let listener = env.net.listen("127.0.0.1:0").await.expect("a free port");
    listener.local_address()
}

fn backup() -> v1::SubmitBackupRequest {
    v1::SubmitBackupRequest::default()
}

fn job_at(applied_index: u64, state: &str) -> v1::Job {
    v1::Job {
        applied_index,
        state: state.into(),
        ..v1::Job::default()
    }
}

#[tokio::test]
async fn dead_leaderless_and_hanging_coordinators_are_passed_over() {
    let env = Env::system();
    let ledger = Arc::default();
    let addresses = [
        dead(&env).await,
        start(&env, &ledger, &[Act::NoLeader], &[]).await,
        start(&env, &ledger, &[Act::Hang], &[]).await,
        start(&env, &ledger, &[], &[]).await,
    ];
    let client = client(&env, &addresses);
    assert_eq!(client.get_job(7).await.expect("an answer").id, 7);
}

#[tokio::test]
async fn a_submission_whose_answer_was_lost_makes_one_job() {
    let env = Env::system();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let script = [Act::LoseAnswer, Act::LoseAnswer];
    let addresses = [start(&env, &ledger, &script, &[]).await];
    let client = client(&env, &addresses);
    let answer = client.submit_backup(backup()).await.expect("in the end");
    assert!(answer.existed);
    assert_eq!(ledger.lock().expect("lock").keys.len(), 1);
    // Another submission is another job.
    let other = client.submit_backup(backup()).await.expect("accepted");
    assert_ne!(other.job, answer.job);
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_unknown_and_not_repeated() {
    let env = Env::system();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let addresses = [
        start(&env, &ledger, &[Act::LoseAnswer, Act::Hang], &[]).await,
        start(&env, &ledger, &[], &[]).await,
    ];
    let client = client(&env, &addresses);
    for _ in 0..2 {
        let fault = client.set_setting("x", 1).await.expect_err("lost");
        assert_eq!(fault.code, ErrorCode::Unknown, "{fault}");
        assert!(fault.hint.is_some());
    }
    assert_eq!(ledger.lock().expect("lock").settings, 1);
}

#[tokio::test]
async fn a_change_that_surely_did_not_arrive_is_repeated() {
    let env = Env::system();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let addresses = [
        dead(&env).await,
        start(&env, &ledger, &[Act::NoLeader], &[]).await,
    ];
    client(&env, &addresses)
        .set_setting("x", 1)
        .await
        .expect("done");
    assert_eq!(ledger.lock().expect("lock").settings, 1);
}

#[tokio::test]
async fn a_refusal_arrives_with_code_and_hint_at_once() {
    let env = Env::system();
    let script = [Act::Refuse(ErrorCode::ChainRule)];
    let addresses = [start(&env, &Arc::default(), &script, &[]).await];
    let fault = client(&env, &addresses)
        .submit_backup(backup())
        .await
        .expect_err("refused");
    assert_eq!(fault.code, ErrorCode::ChainRule);
    assert_eq!(fault.hint.as_deref(), Some("way out"));
}

#[tokio::test]
async fn nobody_there_is_unavailable_by_name_within_the_patience() {
    let env = Env::system();
    let address = dead(&env).await;
    let started = env.clock.monotonic();
    let fault = client(&env, std::slice::from_ref(&address))
        .get_job(1)
        .await
        .expect_err("nobody");
    assert_eq!(fault.code, ErrorCode::Unavailable);
    assert!(fault.message.contains(&address), "{fault}");
    assert!(env.clock.monotonic() - started < Duration::from_secs(10));
}

#[tokio::test]
async fn a_watch_goes_on_elsewhere_and_never_backwards() {
    let env = Env::system();
    let ledger = Arc::default();
    let first = [job_at(5, "running"), job_at(8, "running")];
    // The second lags behind, then catches up.
    let second = [
        job_at(3, "pending"),
        job_at(8, "running"),
        job_at(9, "paused"),
        job_at(12, "succeeded"),
        job_at(13, "must not be asked for"),
    ];
    let addresses = [
        start(&env, &ledger, &[], &first).await,
        start(&env, &ledger, &[Act::NoLeader], &second).await,
    ];
    let watched: Vec<u64> = client(&env, &addresses)
        .watch_job(1)
        .await
        .expect("a stream")
        .map(|job| job.expect("a job").applied_index)
        .collect()
        .await;
    assert!(watched.is_sorted(), "{watched:?}");
    assert_eq!(watched.first(), Some(&5));
    assert_eq!(watched.last(), Some(&12));
}

#[tokio::test]
async fn watching_what_does_not_exist_fails_at_once() {
    let env = Env::system();
    let script = [Act::Refuse(ErrorCode::NotFound)];
    let addresses = [start(&env, &Arc::default(), &script, &[]).await];
    let Err(fault) = client(&env, &addresses).watch_job(1).await else {
        panic!("there is no such job");
    };
    assert_eq!(fault.code, ErrorCode::NotFound);
}
