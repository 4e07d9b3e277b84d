//! The gRPC client.

use async_trait::async_trait;
use holdfast_env::Env;
use holdfast_proto::v1;
use holdfast_types::Fault;
use std::sync::Arc;
use std::time::Duration;

use crate::retry::{ClientOptions, Endpoints, Nature};
use crate::{ControlApi, JobStream};

/// [`ControlApi`] over gRPC, from anywhere.
///
/// It knows several coordinators and goes on to the next when one cannot be reached or knows no leader. Reads and submissions are
/// repeated within [`ClientOptions::patience`]; a submission without a request key is given a random one, so that its repetition
/// is safe. Other changes are repeated only while they surely have not arrived; a lost answer to them is `Unknown`. Every call has
/// a deadline, every message a bound. Clones share their connections.
#[derive(Debug, Clone)]
pub struct GrpcClient {
    endpoints: Arc<Endpoints>,
}

impl GrpcClient {
    /// A client of the coordinators at these addresses (`host:port`). Connecting is lazy.
    ///
    /// # Errors
    /// No address, too many, or one that is not `host:port`.
    pub fn new(env: Env, addresses: &[String], options: ClientOptions) -> Result<Self, Fault> {
        Ok(Self {
            endpoints: Arc::new(Endpoints::new(env, addresses, options)?),
        })
    }

    fn short(&self) -> Duration {
        self.endpoints.options().call_timeout
    }

    fn long(&self) -> Duration {
        self.endpoints.options().long_call_timeout
    }

    fn keyed(&self, key: String) -> String {
        if key.is_empty() {
            self.endpoints.fresh_key()
        } else {
            key
        }
    }
}

/// One unary call: `call!(self, nature, deadline, method, request)`.
macro_rules! call {
    ($self:ident, $nature:ident, $deadline:ident, $method:ident, $request:expr) => {
        $self
            .endpoints
            .call(
                Nature::$nature,
                $self.$deadline(),
                $request,
                |mut client, request| async move { client.$method(request).await },
            )
            .await
    };
}

#[async_trait]
impl ControlApi for GrpcClient {
    async fn submit_backup(
        &self,
        mut request: v1::SubmitBackupRequest,
    ) -> Result<v1::SubmitJobResponse, Fault> {
        request.request_key = self.keyed(request.request_key);
        call!(self, Repeatable, long, submit_backup, request)
    }

    async fn submit_restore(
        &self,
        mut request: v1::SubmitRestoreRequest,
    ) -> Result<v1::SubmitJobResponse, Fault> {
        request.request_key = self.keyed(request.request_key);
        call!(self, Repeatable, long, submit_restore, request)
    }

    async fn submit_verify(
        &self,
        mut request: v1::SubmitVerifyRequest,
    ) -> Result<v1::SubmitJobResponse, Fault> {
        request.request_key = self.keyed(request.request_key);
        call!(self, Repeatable, long, submit_verify, request)
    }

    async fn expire_backups(
        &self,
        mut request: v1::ExpireBackupsRequest,
    ) -> Result<v1::ExpireBackupsResponse, Fault> {
        request.request_key = self.keyed(request.request_key);
        call!(self, Repeatable, long, expire_backups, request)
    }

    async fn get_job(&self, job: u64) -> Result<v1::Job, Fault> {
        call!(self, Repeatable, short, get_job, v1::GetJobRequest { job })
    }

    async fn list_jobs(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, Fault> {
        call!(self, Repeatable, short, list_jobs, request)
    }

    async fn watch_job(&self, job: u64) -> Result<JobStream, Fault> {
        crate::watch::watch(Arc::clone(&self.endpoints), job).await
    }

    async fn control_job(
        &self,
        request: v1::ControlJobRequest,
    ) -> Result<v1::ControlJobResponse, Fault> {
        call!(self, Mutation, short, control_job, request)
    }

    async fn register_source(
        &self,
        request: v1::RegisterSourceRequest,
    ) -> Result<v1::Source, Fault> {
        call!(self, Mutation, short, register_source, request)
    }

    async fn update_source(&self, request: v1::RegisterSourceRequest) -> Result<v1::Source, Fault> {
        call!(self, Mutation, short, update_source, request)
    }

    async fn drop_source(&self, name: &str) -> Result<(), Fault> {
        let request = v1::DropSourceRequest { name: name.into() };
        call!(self, Mutation, short, drop_source, request).map(|_| ())
    }

    async fn list_sources(&self) -> Result<v1::ListSourcesResponse, Fault> {
        let request = v1::ListSourcesRequest {};
        call!(self, Repeatable, short, list_sources, request)
    }

    async fn check_source(
        &self,
        request: v1::CheckSourceRequest,
    ) -> Result<v1::CheckSourceResponse, Fault> {
        call!(self, Repeatable, long, check_source, request)
    }

    async fn check_restore(
        &self,
        request: v1::SubmitRestoreRequest,
    ) -> Result<v1::CheckRestoreResponse, Fault> {
        call!(self, Repeatable, long, check_restore, request)
    }

    async fn put_connection(
        &self,
        request: v1::PutConnectionRequest,
    ) -> Result<v1::Connection, Fault> {
        call!(self, Mutation, short, put_connection, request)
    }

    async fn drop_connection(&self, name: &str) -> Result<(), Fault> {
        let request = v1::DropConnectionRequest { name: name.into() };
        call!(self, Mutation, short, drop_connection, request).map(|_| ())
    }

    async fn list_connections(&self, name: &str) -> Result<v1::ListConnectionsResponse, Fault> {
        let request = v1::ListConnectionsRequest { name: name.into() };
        call!(self, Repeatable, short, list_connections, request)
    }

    async fn check_connection(
        &self,
        request: v1::CheckConnectionRequest,
    ) -> Result<v1::CheckConnectionResponse, Fault> {
        call!(self, Repeatable, long, check_connection, request)
    }

    async fn check_residency(
        &self,
        request: v1::CheckResidencyRequest,
    ) -> Result<v1::CheckResidencyResponse, Fault> {
        call!(self, Repeatable, long, check_residency, request)
    }

    async fn put_user(&self, request: v1::PutUserRequest) -> Result<v1::User, Fault> {
        call!(self, Mutation, short, put_user, request)
    }

    async fn drop_user(&self, name: &str) -> Result<(), Fault> {
        let request = v1::DropUserRequest { name: name.into() };
        call!(self, Mutation, short, drop_user, request).map(|_| ())
    }

    async fn list_users(&self) -> Result<v1::ListUsersResponse, Fault> {
        let request = v1::ListUsersRequest {};
        call!(self, Repeatable, short, list_users, request)
    }

    async fn drop_hold(&self, hold: u64) -> Result<v1::DropHoldResponse, Fault> {
        let request = v1::DropHoldRequest { hold };
        call!(self, Mutation, short, drop_hold, request)
    }

    async fn create_schedule(
        &self,
        request: v1::CreateScheduleRequest,
    ) -> Result<v1::CreateScheduleResponse, Fault> {
        call!(self, Mutation, long, create_schedule, request)
    }

    async fn alter_schedule(
        &self,
        request: v1::AlterScheduleRequest,
    ) -> Result<v1::ListSchedulesResponse, Fault> {
        call!(self, Mutation, short, alter_schedule, request)
    }

    async fn control_schedule(
        &self,
        request: v1::ControlScheduleRequest,
    ) -> Result<v1::ControlScheduleResponse, Fault> {
        call!(self, Mutation, short, control_schedule, request)
    }

    async fn list_schedules(&self) -> Result<v1::ListSchedulesResponse, Fault> {
        let request = v1::ListSchedulesRequest {};
        call!(self, Repeatable, short, list_schedules, request)
    }

    async fn list_backups(&self, collection: &str) -> Result<v1::ListBackupsResponse, Fault> {
        let request = v1::ListBackupsRequest {
            collection: collection.into(),
        };
        call!(self, Repeatable, long, list_backups, request)
    }

    async fn show_backup(
        &self,
        request: v1::ShowBackupRequest,
    ) -> Result<v1::ShowBackupResponse, Fault> {
        call!(self, Repeatable, long, show_backup, request)
    }

    async fn show_keys(&self, request: v1::ShowKeysRequest) -> Result<v1::ChainKeys, Fault> {
        call!(self, Repeatable, long, show_keys, request)
    }

    async fn change_keys(
        &self,
        request: v1::ChangeKeysRequest,
    ) -> Result<v1::ChangeKeysResponse, Fault> {
        call!(self, Mutation, long, change_keys, request)
    }

    async fn cluster_status(&self) -> Result<v1::ClusterStatusResponse, Fault> {
        let request = v1::ClusterStatusRequest {};
        call!(self, Repeatable, short, cluster_status, request)
    }

    async fn init_cluster(
        &self,
        request: v1::InitClusterRequest,
    ) -> Result<v1::InitClusterResponse, Fault> {
        call!(self, Mutation, long, init_cluster, request)
    }

    async fn add_member(
        &self,
        request: v1::AddMemberRequest,
    ) -> Result<v1::MembersResponse, Fault> {
        call!(self, Mutation, long, add_member, request)
    }

    async fn remove_member(&self, node: u64) -> Result<v1::MembersResponse, Fault> {
        let request = v1::RemoveMemberRequest { node };
        call!(self, Mutation, long, remove_member, request)
    }

    async fn set_setting(&self, name: &str, value: u64) -> Result<(), Fault> {
        let request = v1::SetSettingRequest {
            name: name.into(),
            value,
        };
        call!(self, Mutation, short, set_setting, request).map(|_| ())
    }
}
