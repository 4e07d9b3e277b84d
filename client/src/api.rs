//! The interface.

use async_trait::async_trait;
use futures::stream::BoxStream;
use holdfast_proto::v1;
use holdfast_types::Fault;
use std::fmt::Debug;

/// A job after each of its changes, ending when it is terminal.
pub type JobStream = BoxStream<'static, Result<v1::Job, Fault>>;

/// What can be asked of a cluster. Implemented by the coordinator in process, and by [`crate::GrpcClient`] from anywhere.
///
/// A mutating call that failed after it was sent is `Unknown`, never a failure: repeat it with the same request key, or look. All
/// methods are cancel-safe in that sense.
#[async_trait]
pub trait ControlApi: Debug + Send + Sync {
    /// Starts a backup.
    async fn submit_backup(
        &self,
        request: v1::SubmitBackupRequest,
    ) -> Result<v1::SubmitJobResponse, Fault>;
    /// Starts a restore.
    async fn submit_restore(
        &self,
        request: v1::SubmitRestoreRequest,
    ) -> Result<v1::SubmitJobResponse, Fault>;
    /// Starts a verification.
    async fn submit_verify(
        &self,
        request: v1::SubmitVerifyRequest,
    ) -> Result<v1::SubmitJobResponse, Fault>;
    /// Says which chains of a collection have expired, and starts the job that removes them.
    async fn expire_backups(
        &self,
        request: v1::ExpireBackupsRequest,
    ) -> Result<v1::ExpireBackupsResponse, Fault>;
    /// One job.
    async fn get_job(&self, job: u64) -> Result<v1::Job, Fault>;
    /// Jobs, unfinished first, then newest first.
    async fn list_jobs(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, Fault>;
    /// A job now and after each change, until it is terminal.
    async fn watch_job(&self, job: u64) -> Result<JobStream, Fault>;
    /// Pauses, resumes or cancels.
    async fn control_job(
        &self,
        request: v1::ControlJobRequest,
    ) -> Result<v1::ControlJobResponse, Fault>;
    /// Registers a source.
    async fn register_source(
        &self,
        request: v1::RegisterSourceRequest,
    ) -> Result<v1::Source, Fault>;
    /// Replaces a source's members.
    async fn update_source(&self, request: v1::RegisterSourceRequest) -> Result<v1::Source, Fault>;
    /// Forgets a source.
    async fn drop_source(&self, name: &str) -> Result<(), Fault>;
    /// All sources.
    async fn list_sources(&self) -> Result<v1::ListSourcesResponse, Fault>;
    /// Has a source's members looked at, each by a worker near it.
    async fn check_source(
        &self,
        request: v1::CheckSourceRequest,
    ) -> Result<v1::CheckSourceResponse, Fault>;
    /// What a restore would make of every object; nothing is made.
    async fn check_restore(
        &self,
        request: v1::SubmitRestoreRequest,
    ) -> Result<v1::CheckRestoreResponse, Fault>;
    /// Stores a URI under a name, or changes one.
    async fn put_connection(
        &self,
        request: v1::PutConnectionRequest,
    ) -> Result<v1::Connection, Fault>;
    /// Forgets a connection.
    async fn drop_connection(&self, name: &str) -> Result<(), Fault>;
    /// All connections without their secrets, or, unless the name is empty, one.
    async fn list_connections(&self, name: &str) -> Result<v1::ListConnectionsResponse, Fault>;
    /// Has every worker try a store out.
    async fn check_connection(
        &self,
        request: v1::CheckConnectionRequest,
    ) -> Result<v1::CheckConnectionResponse, Fault>;
    /// Which bytes of a chain lie in which store.
    async fn check_residency(
        &self,
        request: v1::CheckResidencyRequest,
    ) -> Result<v1::CheckResidencyResponse, Fault>;
    /// Makes a user of the SQL port, or gives one another password.
    async fn put_user(&self, request: v1::PutUserRequest) -> Result<v1::User, Fault>;
    /// Forgets a user.
    async fn drop_user(&self, name: &str) -> Result<(), Fault>;
    /// All users, without anything of their passwords.
    async fn list_users(&self) -> Result<v1::ListUsersResponse, Fault>;
    /// Gives up a chain's hold; [`ControlApi::cluster_status`] lists them.
    async fn drop_hold(&self, hold: u64) -> Result<v1::DropHoldResponse, Fault>;
    /// Makes a schedule of backups, or a pair.
    async fn create_schedule(
        &self,
        request: v1::CreateScheduleRequest,
    ) -> Result<v1::CreateScheduleResponse, Fault>;
    /// Changes a schedule, and what it shares with its pair.
    async fn alter_schedule(
        &self,
        request: v1::AlterScheduleRequest,
    ) -> Result<v1::ListSchedulesResponse, Fault>;
    /// Pauses, resumes, runs or drops a schedule.
    async fn control_schedule(
        &self,
        request: v1::ControlScheduleRequest,
    ) -> Result<v1::ControlScheduleResponse, Fault>;
    /// All schedules.
    async fn list_schedules(&self) -> Result<v1::ListSchedulesResponse, Fault>;
    /// The chains of a collection.
    async fn list_backups(&self, collection: &str) -> Result<v1::ListBackupsResponse, Fault>;
    /// The layers of a chain.
    async fn show_backup(
        &self,
        request: v1::ShowBackupRequest,
    ) -> Result<v1::ShowBackupResponse, Fault>;
    /// Which keys open a chain.
    async fn show_keys(&self, request: v1::ShowKeysRequest) -> Result<v1::ChainKeys, Fault>;
    /// Adds keys to those that open a chain, or drops some.
    async fn change_keys(
        &self,
        request: v1::ChangeKeysRequest,
    ) -> Result<v1::ChangeKeysResponse, Fault>;
    /// Coordinators, workers, holds, settings.
    async fn cluster_status(&self) -> Result<v1::ClusterStatusResponse, Fault>;
    /// Gives a fresh set of coordinators its identity.
    async fn init_cluster(
        &self,
        request: v1::InitClusterRequest,
    ) -> Result<v1::InitClusterResponse, Fault>;
    /// Adds (or replaces) a coordinator.
    async fn add_member(&self, request: v1::AddMemberRequest)
    -> Result<v1::MembersResponse, Fault>;
    /// Removes a coordinator.
    async fn remove_member(&self, node: u64) -> Result<v1::MembersResponse, Fault>;
    /// Changes a setting.
    async fn set_setting(&self, name: &str, value: u64) -> Result<(), Fault>;
}
