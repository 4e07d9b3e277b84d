//! [`ControlApi`] in process.

use async_trait::async_trait;
use holdfast_client::{ControlApi, Credential, JobStream, Verifiers};
use holdfast_ledger::{Action, Job, Outcome};
use holdfast_proto::v1;
use holdfast_types::{
    ControlVerb, ErrorCode, Fault, HoldId, JobEvent, JobId, JobState, Millis, NodeId, ScheduledRun,
    SourceName, SourceRecord, Timestamp, Verdict,
};
use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::job_view::{Seen, job_view};
use super::passing::LeaderLine;
use super::{check, cluster, collections, connections, holds, keys, residency, users, watch};
use crate::core::Core;
use crate::replica::unexpected;
use crate::{retention, schedule, submit};

/// Jobs listed if the request does not say how many.
const DEFAULT_LIMIT: usize = 100;
/// Jobs listed at most.
const MAX_LIMIT: usize = 1000;
/// Jobs that ended longer ago are listed on request only, as in the model system.
const LISTED_FOR: Millis = Millis(12 * 3600 * 1000);
/// How long a read waits to be sure that it is current before this node answers with what it has.
const FRESH_WAIT: Duration = Duration::from_secs(2);
/// The longest reason that is kept with a job.
const MAX_REASON: usize = 1024;

/// One coordinator's [`ControlApi`]. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator {
    core: Arc<Core>,
    /// The line to the leader; absent in the variant that answers what was passed on already.
    line: Option<Arc<LeaderLine>>,
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("node", &self.core.config.raft.node)
            .field("passes_on", &self.line.is_some())
            .finish()
    }
}

impl Coordinator {
    /// The API of a node; `passes_on` says whether questions that the leader answers better are passed on to it.
    pub(crate) fn new(core: Arc<Core>, passes_on: bool) -> Self {
        Self {
            core,
            line: passes_on.then(Arc::default),
        }
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    pub(super) fn passes_on(&self) -> bool {
        self.line.is_some()
    }

    /// Asks the leader, if it is another node; `None` if this node has to answer by itself.
    pub(super) async fn ask<Q, A, F>(
        &self,
        question: Q,
        call: impl FnOnce(
            v1::control_client::ControlClient<tonic::transport::Channel>,
            tonic::Request<Q>,
        ) -> F,
    ) -> Option<Result<A, Fault>>
    where
        F: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
    {
        self.line.as_ref()?.ask(&self.core, question, call).await
    }

    /// This node's own view of a job.
    pub(super) fn own_view(&self, job: JobId) -> Option<v1::Job> {
        self.with_seen(|core, seen| {
            core.replica
                .read(|ledger| Some(job_view(ledger, ledger.job(job)?, seen)))
        })
    }

    fn with_seen<T>(&self, view: impl FnOnce(&Core, Seen<'_>) -> T) -> T {
        let present = self.core.desk.present();
        let seen = Seen {
            now: self.core.env.clock.now(),
            monotonic: self.core.env.clock.monotonic(),
            office: present.as_ref().map(|present| &*present.office),
        };
        view(&self.core, seen)
    }

    /// Waits until this node's state is current, for a while. What it says is right either way, only perhaps not the newest.
    async fn freshen(&self) -> Result<(), Fault> {
        match tokio::time::timeout(FRESH_WAIT, self.core.replica.linearizable()).await {
            Ok(result) => result,
            Err(_) => Err(Fault::new(
                ErrorCode::NoLeader,
                "no leader confirmed in time that this coordinator's state is current",
            )
            .hint("try again in a moment, or see `holdfast status`")),
        }
    }

    /// A job's view from this node. A job that is not here is missing only if the state is known to be current.
    async fn find_job(&self, job: JobId) -> Result<v1::Job, Fault> {
        let fresh = self.freshen().await;
        match self.own_view(job) {
            Some(view) => Ok(view),
            None => {
                fresh?;
                Err(no_such_job(job))
            }
        }
    }

    async fn change_source(
        &self,
        request: v1::RegisterSourceRequest,
        before: Option<&SourceRecord>,
        action: impl FnOnce(SourceRecord) -> Action,
    ) -> Result<v1::Source, Fault> {
        let (key, now) = (&self.core.config.cluster_key, self.core.env.clock.now());
        let source = submit::read_source(request, before, key, now)?;
        let name = source.name.clone();
        let view = submit::source_view(&source);
        self.core.replica.make(action(source)).await?;
        // As registered, if this node has applied it already: an update keeps the time of the registration.
        Ok(self
            .core
            .replica
            .read(|ledger| ledger.source(&name).map(submit::source_view))
            .unwrap_or(view))
    }

    async fn members(&self) -> v1::MembersResponse {
        let status = self.core.replica.status().await;
        v1::MembersResponse {
            coordinators: cluster::coordinators(&status),
        }
    }
}

fn no_such_job(job: JobId) -> Fault {
    Fault::new(ErrorCode::NotFound, format!("there is no job {job}"))
        .hint("list the jobs with `holdfast job list --all`")
}

fn read_verb(text: &str) -> Result<ControlVerb, Fault> {
    match text {
        "pause" => Ok(ControlVerb::Pause),
        "resume" => Ok(ControlVerb::Resume),
        "cancel" => Ok(ControlVerb::Cancel),
        other => Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!(
                "\"{}\" is nothing a job can be asked for",
                other.escape_debug()
            ),
        )
        .hint("ask for pause, resume or cancel")),
    }
}

/// Which jobs a list shows.
struct Filter {
    states: Vec<JobState>,
    schedules: Vec<u64>,
    all: bool,
    limit: usize,
}

impl Filter {
    fn read(request: &v1::ListJobsRequest) -> Result<Self, Fault> {
        let states = request.states.iter().map(|name| {
            let known = JobState::ALL
                .into_iter()
                .find(|state| state.as_str() == name);
            known.ok_or_else(|| {
                let names: Vec<&str> = JobState::ALL.iter().map(|state| state.as_str()).collect();
                Fault::new(
                    ErrorCode::InvalidArgument,
                    format!("there is no job state \"{}\"", name.escape_debug()),
                )
                .hint(format!("the states are {}", names.join(", ")))
            })
        });
        Ok(Self {
            states: states.collect::<Result<_, _>>()?,
            schedules: request.schedules.clone(),
            all: request.all,
            limit: match request.limit {
                0 => DEFAULT_LIMIT,
                limit => (limit as usize).min(MAX_LIMIT),
            },
        })
    }

    /// Whether it is a run of a schedule that is asked for, if any is.
    fn is_asked_for(&self, job: &Job) -> bool {
        let is_named = |run: ScheduledRun| self.schedules.contains(&run.schedule.0);
        self.schedules.is_empty() || job.scheduled().is_some_and(is_named)
    }

    fn shows(&self, state: JobState, finished: Option<Timestamp>, now: Timestamp) -> bool {
        let recent = finished.is_none_or(|finished| now.since(finished) <= LISTED_FOR);
        (self.all || recent) && (self.states.is_empty() || self.states.contains(&state))
    }
}

#[async_trait]
impl Verifiers for Coordinator {
    async fn credential(&self, user: &str) -> Result<Option<Credential>, Fault> {
        // Of a state that may be old, a user who was dropped could come in, or one whose password was changed by the former one.
        self.freshen().await?;
        users::credential(&self.core, user)
    }
}

#[async_trait]
impl ControlApi for Coordinator {
    async fn submit_backup(
        &self,
        request: v1::SubmitBackupRequest,
    ) -> Result<v1::SubmitJobResponse, Fault> {
        submit::submit_backup(&self.core, request).await
    }

    async fn submit_restore(
        &self,
        request: v1::SubmitRestoreRequest,
    ) -> Result<v1::SubmitJobResponse, Fault> {
        submit::submit_restore(&self.core, request).await
    }

    async fn submit_verify(
        &self,
        request: v1::SubmitVerifyRequest,
    ) -> Result<v1::SubmitJobResponse, Fault> {
        submit::submit_verify(&self.core, request).await
    }

    async fn expire_backups(
        &self,
        request: v1::ExpireBackupsRequest,
    ) -> Result<v1::ExpireBackupsResponse, Fault> {
        retention::expire(&self.core, request).await
    }

    async fn get_job(&self, job: u64) -> Result<v1::Job, Fault> {
        let question = v1::GetJobRequest { job };
        let answer = self
            .ask(question, |mut client, request| async move {
                client.get_job(request).await
            })
            .await;
        match answer {
            Some(answer) => answer,
            None => self.find_job(JobId(job)).await,
        }
    }

    async fn list_jobs(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, Fault> {
        let filter = Filter::read(&request)?;
        let answer = self
            .ask(request, |mut client, request| async move {
                client.list_jobs(request).await
            })
            .await;
        if let Some(answer) = answer {
            return answer;
        }
        // Without a leader the list may be old, and is still what one wants to see then.
        let _ = self.freshen().await;
        Ok(self.with_seen(|core, seen| {
            core.replica.read(|ledger| {
                let mut listed: Vec<&Job> = ledger
                    .jobs()
                    .filter(|job| filter.shows(job.state(), job.finished_at(), seen.now))
                    .filter(|job| filter.is_asked_for(job))
                    .collect();
                listed.sort_by_key(|job| (job.state().is_terminal(), Reverse(job.id())));
                v1::ListJobsResponse {
                    jobs: listed
                        .into_iter()
                        .take(filter.limit)
                        .map(|job| job_view(ledger, job, seen))
                        .collect(),
                }
            })
        }))
    }

    async fn watch_job(&self, job: u64) -> Result<JobStream, Fault> {
        let first = self.get_job(job).await?;
        Ok(watch::watch(self.clone(), first))
    }

    async fn control_job(
        &self,
        request: v1::ControlJobRequest,
    ) -> Result<v1::ControlJobResponse, Fault> {
        let verb = read_verb(&request.verb)?;
        if request.reason.len() > MAX_REASON {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("a reason has at most {MAX_REASON} bytes"),
            ));
        }
        let job = JobId(request.job);
        let action = Action::ControlJob {
            job,
            verb,
            reason: (!request.reason.is_empty()).then_some(request.reason),
        };
        // What the state was just before: the outcome only says what it is now.
        self.freshen().await?;
        let already = self.core.replica.read(|ledger| {
            ledger.job(job).is_some_and(|job| {
                let next = job
                    .state()
                    .next(JobEvent::Control(verb), job.doom().is_some());
                next == Ok(Verdict::NoOp)
            })
        });
        let no_op = match self.core.replica.propose(action).await? {
            Outcome::State(_) | Outcome::Done => already,
            Outcome::NoOp => true,
            Outcome::Refused(fault) => return Err(fault),
            other => return Err(unexpected(&other)),
        };
        // The change is made: that its view cannot be had does not make it undone.
        let view = self.find_job(job).await.ok();
        Ok(v1::ControlJobResponse { job: view, no_op })
    }

    async fn register_source(
        &self,
        request: v1::RegisterSourceRequest,
    ) -> Result<v1::Source, Fault> {
        self.change_source(request, None, |source| Action::RegisterSource { source })
            .await
    }

    async fn update_source(&self, request: v1::RegisterSourceRequest) -> Result<v1::Source, Fault> {
        // Members keep their passwords, which only the state has.
        submit::catch_up(&self.core).await?;
        let name: SourceName = request.name.parse()?;
        let before = self
            .core
            .replica
            .read(|ledger| ledger.source(&name).cloned());
        self.change_source(request, before.as_ref(), |source| Action::UpdateSource {
            source,
        })
        .await
    }

    async fn drop_source(&self, name: &str) -> Result<(), Fault> {
        let source: SourceName = name.parse()?;
        self.core.replica.make(Action::DropSource { source }).await
    }

    async fn list_sources(&self) -> Result<v1::ListSourcesResponse, Fault> {
        self.freshen().await?;
        Ok(self.core.replica.read(|ledger| v1::ListSourcesResponse {
            sources: ledger.sources().map(submit::source_view).collect(),
        }))
    }

    async fn check_source(
        &self,
        request: v1::CheckSourceRequest,
    ) -> Result<v1::CheckSourceResponse, Fault> {
        if let Some(line) = &self.line {
            let limit = check::PASSED_TIMEOUT;
            let asking = line.ask_within(
                &self.core,
                limit,
                request.clone(),
                |mut client, request| async move { client.check_source(request).await },
            );
            if let Some(answer) = asking.await {
                return answer;
            }
        }
        check::check_source(&self.core, &request).await
    }

    async fn check_restore(
        &self,
        request: v1::SubmitRestoreRequest,
    ) -> Result<v1::CheckRestoreResponse, Fault> {
        if let Some(line) = &self.line {
            let limit = check::PASSED_TIMEOUT;
            let asking = line.ask_within(
                &self.core,
                limit,
                request.clone(),
                |mut client, request| async move { client.check_restore(request).await },
            );
            if let Some(answer) = asking.await {
                return answer;
            }
        }
        check::check_restore(&self.core, request).await
    }

    async fn put_connection(
        &self,
        request: v1::PutConnectionRequest,
    ) -> Result<v1::Connection, Fault> {
        connections::put(&self.core, request).await
    }

    async fn drop_connection(&self, name: &str) -> Result<(), Fault> {
        connections::forget(&self.core, name).await
    }

    async fn list_connections(&self, name: &str) -> Result<v1::ListConnectionsResponse, Fault> {
        self.freshen().await?;
        connections::list(&self.core, name)
    }

    async fn check_connection(
        &self,
        request: v1::CheckConnectionRequest,
    ) -> Result<v1::CheckConnectionResponse, Fault> {
        if let Some(line) = &self.line {
            let limit = check::PASSED_TIMEOUT;
            let asking = line.ask_within(
                &self.core,
                limit,
                request.clone(),
                |mut client, request| async move { client.check_connection(request).await },
            );
            if let Some(answer) = asking.await {
                return answer;
            }
        }
        connections::check(&self.core, &request).await
    }

    async fn check_residency(
        &self,
        request: v1::CheckResidencyRequest,
    ) -> Result<v1::CheckResidencyResponse, Fault> {
        self.freshen().await?;
        residency::check(&self.core, request).await
    }

    async fn put_user(&self, request: v1::PutUserRequest) -> Result<v1::User, Fault> {
        users::put(&self.core, request).await
    }

    async fn drop_user(&self, name: &str) -> Result<(), Fault> {
        users::forget(&self.core, name).await
    }

    async fn list_users(&self) -> Result<v1::ListUsersResponse, Fault> {
        self.freshen().await?;
        Ok(users::list(&self.core))
    }

    async fn drop_hold(&self, hold: u64) -> Result<v1::DropHoldResponse, Fault> {
        holds::drop_hold(&self.core, HoldId(hold)).await
    }

    async fn create_schedule(
        &self,
        request: v1::CreateScheduleRequest,
    ) -> Result<v1::CreateScheduleResponse, Fault> {
        schedule::create(&self.core, request).await
    }

    async fn alter_schedule(
        &self,
        request: v1::AlterScheduleRequest,
    ) -> Result<v1::ListSchedulesResponse, Fault> {
        schedule::alter(&self.core, request).await
    }

    async fn control_schedule(
        &self,
        request: v1::ControlScheduleRequest,
    ) -> Result<v1::ControlScheduleResponse, Fault> {
        schedule::control(&self.core, request).await
    }

    async fn list_schedules(&self) -> Result<v1::ListSchedulesResponse, Fault> {
        schedule::list(&self.core).await
    }

    async fn list_backups(&self, collection: &str) -> Result<v1::ListBackupsResponse, Fault> {
        collections::list(&self.core, collection).await
    }

    async fn show_backup(
        &self,
        request: v1::ShowBackupRequest,
    ) -> Result<v1::ShowBackupResponse, Fault> {
        collections::show_chain(&self.core, request).await
    }

    async fn show_keys(&self, request: v1::ShowKeysRequest) -> Result<v1::ChainKeys, Fault> {
        keys::show_keys(&self.core, request).await
    }

    async fn change_keys(
        &self,
        request: v1::ChangeKeysRequest,
    ) -> Result<v1::ChangeKeysResponse, Fault> {
        keys::change_keys(&self.core, request).await
    }

    async fn cluster_status(&self) -> Result<v1::ClusterStatusResponse, Fault> {
        let leaders = self
            .ask(
                v1::ClusterStatusRequest {},
                |mut client, request| async move { client.cluster_status(request).await },
            )
            .await;
        let own = cluster::status(&self.core).await;
        Ok(match leaders {
            Some(Ok(leaders)) => cluster::merge(own, leaders),
            Some(Err(_)) | None => own,
        })
    }

    async fn init_cluster(
        &self,
        request: v1::InitClusterRequest,
    ) -> Result<v1::InitClusterResponse, Fault> {
        let members: Vec<(NodeId, String)> = request
            .members
            .into_iter()
            .map(|member| (NodeId(member.node), member.address))
            .collect();
        let cluster = cluster::init_cluster(&self.core, &members).await?;
        Ok(v1::InitClusterResponse {
            cluster_id: cluster.to_string(),
        })
    }

    async fn add_member(
        &self,
        request: v1::AddMemberRequest,
    ) -> Result<v1::MembersResponse, Fault> {
        let node = self.core.replica.node();
        let new = NodeId(request.node);
        match request.replace {
            0 => node.add_member(new, &request.address).await?,
            old => {
                node.replace_member(NodeId(old), new, &request.address)
                    .await?;
            }
        }
        Ok(self.members().await)
    }

    async fn remove_member(&self, node: u64) -> Result<v1::MembersResponse, Fault> {
        self.core.replica.node().remove_member(NodeId(node)).await?;
        Ok(self.members().await)
    }

    async fn set_setting(&self, name: &str, value: u64) -> Result<(), Fault> {
        let name = name.to_owned();
        self.core
            .replica
            .make(Action::SetSetting { name, value })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_show_what_is_recent_unless_asked_for_all() {
        let now = Timestamp::from_millis(100 * 3600 * 1000);
        let old = Some(now.minus(Millis(13 * 3600 * 1000)));
        let recent = Some(now.minus(Millis(11 * 3600 * 1000)));
        let filter = |all, states: &[&str]| {
            Filter::read(&v1::ListJobsRequest {
                all,
                states: states.iter().map(ToString::to_string).collect(),
                ..v1::ListJobsRequest::default()
            })
        };
        let plain = filter(false, &[]).expect("legal");
        assert!(plain.shows(JobState::Running, None, now));
        assert!(plain.shows(JobState::Succeeded, recent, now));
        assert!(!plain.shows(JobState::Succeeded, old, now));
        let all = filter(true, &["succeeded", "pause-requested"]).expect("legal");
        assert!(all.shows(JobState::Succeeded, old, now));
        assert!(!all.shows(JobState::Running, None, now));
        assert!(filter(true, &["done"]).is_err());
    }
}
