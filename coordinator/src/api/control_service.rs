//! The gRPC `Control` service over any [`ControlApi`].
//!
//! Every request is bounded in size (see [`MAX_CONTROL_MESSAGE`]), in number (a semaphore; more are refused with
//! `ResourceExhausted` and not queued, so that a flood of requests costs the cluster nothing) and in time.

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use holdfast_client::ControlApi;
use holdfast_proto::v1::control_server::{Control, ControlServer};
use holdfast_proto::{CallKind, fault_to_status, v1};
use holdfast_types::{ErrorCode, Fault};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

use super::control_limits::{ControlLimits, late};

/// The largest control request, in bytes. The largest legal one, a source with a few thousand members, is far below.
pub const MAX_CONTROL_MESSAGE: usize = 1024 * 1024;

/// The header by which a coordinator marks a request that it passes on to the leader: whoever receives it answers by itself.
pub const PASSED_ON: &str = "holdfast-passed-on";

/// The service.
#[derive(Debug)]
pub struct ControlService {
    api: Arc<dyn ControlApi>,
    local: Arc<dyn ControlApi>,
    limits: ControlLimits,
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

/// A request that was let in.
struct Entered {
    api: Arc<dyn ControlApi>,
    _permit: OwnedSemaphorePermit,
}

impl ControlService {
    /// A service that answers with `api`, and requests that another coordinator passed on with `local`, which must not pass them on
    /// again.
    pub fn new(
        api: Arc<dyn ControlApi>,
        local: Arc<dyn ControlApi>,
        limits: ControlLimits,
    ) -> Self {
        Self {
            api,
            local,
            limits,
            requests: Arc::new(Semaphore::new(limits.requests)),
            watches: Arc::new(Semaphore::new(limits.watches)),
        }
    }

    /// The service as a tonic server, with its message bounds.
    #[must_use]
    pub fn into_server(self) -> ControlServer<Self> {
        ControlServer::new(self).max_decoding_message_size(MAX_CONTROL_MESSAGE)
    }

    fn enter<T>(&self, request: &Request<T>, gate: &Arc<Semaphore>) -> Result<Entered, Status> {
        let permit = Arc::clone(gate).try_acquire_owned().map_err(|_| {
            fault_to_status(
                &Fault::new(
                    ErrorCode::ResourceExhausted,
                    "this coordinator has too many requests in flight",
                )
                .hint("try again in a moment, or ask another coordinator"),
            )
        })?;
        let api = if request.metadata().contains_key(PASSED_ON) {
            Arc::clone(&self.local)
        } else {
            Arc::clone(&self.api)
        };
        Ok(Entered {
            api,
            _permit: permit,
        })
    }

    /// Lets a request in, runs it within its deadline, and turns the answer into a response.
    async fn unary<Q, A>(
        &self,
        request: Request<Q>,
        kind: CallKind,
        deadline: Duration,
        work: impl for<'a> FnOnce(&'a dyn ControlApi, Q) -> BoxFuture<'a, Result<A, Fault>> + Send,
    ) -> Result<Response<A>, Status>
    where
        Q: Send,
        A: Send,
    {
        let entered = self.enter(&request, &self.requests)?;
        let answer = tokio::time::timeout(deadline, work(&*entered.api, request.into_inner()));
        match answer.await {
            Ok(Ok(answer)) => Ok(Response::new(answer)),
            Ok(Err(fault)) => Err(fault_to_status(&fault)),
            Err(_) => Err(fault_to_status(&late(kind, deadline))),
        }
    }
}

/// A job stream that keeps its place among the watches for as long as it is read.
type Watch = BoxStream<'static, Result<v1::Job, Status>>;

#[tonic::async_trait]
impl Control for ControlService {
    type WatchJobStream = Watch;

    async fn submit_backup(
        &self,
        request: Request<v1::SubmitBackupRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.long,
            |api, request| api.submit_backup(request),
        )
        .await
    }

    async fn submit_restore(
        &self,
        request: Request<v1::SubmitRestoreRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.long,
            |api, request| api.submit_restore(request),
        )
        .await
    }

    async fn submit_verify(
        &self,
        request: Request<v1::SubmitVerifyRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.long,
            |api, request| api.submit_verify(request),
        )
        .await
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.short,
            |api, request| api.get_job(request.job),
        )
        .await
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.short,
            |api, request| api.list_jobs(request),
        )
        .await
    }

    async fn watch_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<Watch>, Status> {
        let entered = self.enter(&request, &self.watches)?;
        let job = request.into_inner().job;
        let opened = tokio::time::timeout(self.limits.short, entered.api.watch_job(job)).await;
        let stream = opened
            .unwrap_or_else(|_| Err(late(CallKind::Repeatable, self.limits.short)))
            .map_err(|fault| fault_to_status(&fault))?;
        let stream = stream.map(move |item| {
            // Held by the closure, so that the place is free again when the stream is dropped.
            let _place = &entered;
            item.map_err(|fault| fault_to_status(&fault))
        });
        Ok(Response::new(stream.boxed()))
    }

    async fn control_job(
        &self,
        request: Request<v1::ControlJobRequest>,
    ) -> Result<Response<v1::ControlJobResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| api.control_job(request),
        )
        .await
    }

    async fn register_source(
        &self,
        request: Request<v1::RegisterSourceRequest>,
    ) -> Result<Response<v1::Source>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| api.register_source(request),
        )
        .await
    }

    async fn update_source(
        &self,
        request: Request<v1::RegisterSourceRequest>,
    ) -> Result<Response<v1::Source>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| api.update_source(request),
        )
        .await
    }

    async fn drop_source(
        &self,
        request: Request<v1::DropSourceRequest>,
    ) -> Result<Response<v1::DropSourceResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| {
                Box::pin(async move {
                    api.drop_source(&request.name).await?;
                    Ok(v1::DropSourceResponse {})
                })
            },
        )
        .await
    }

    async fn list_sources(
        &self,
        request: Request<v1::ListSourcesRequest>,
    ) -> Result<Response<v1::ListSourcesResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.short,
            |api, _| api.list_sources(),
        )
        .await
    }

    async fn check_source(
        &self,
        request: Request<v1::CheckSourceRequest>,
    ) -> Result<Response<v1::CheckSourceResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.long,
            |api, request| api.check_source(request),
        )
        .await
    }

    async fn check_restore(
        &self,
        request: Request<v1::SubmitRestoreRequest>,
    ) -> Result<Response<v1::CheckRestoreResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.long,
            |api, request| api.check_restore(request),
        )
        .await
    }

    async fn put_connection(
        &self,
        request: Request<v1::PutConnectionRequest>,
    ) -> Result<Response<v1::Connection>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| api.put_connection(request),
        )
        .await
    }

    async fn drop_connection(
        &self,
        request: Request<v1::DropConnectionRequest>,
    ) -> Result<Response<v1::DropConnectionResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| {
                Box::pin(async move {
                    api.drop_connection(&request.name).await?;
                    Ok(v1::DropConnectionResponse {})
                })
            },
        )
        .await
    }

    async fn list_connections(
        &self,
        request: Request<v1::ListConnectionsRequest>,
    ) -> Result<Response<v1::ListConnectionsResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.short,
            |api, request| Box::pin(async move { api.list_connections(&request.name).await }),
        )
        .await
    }

    async fn put_user(
        &self,
        request: Request<v1::PutUserRequest>,
    ) -> Result<Response<v1::User>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| api.put_user(request),
        )
        .await
    }

    async fn drop_user(
        &self,
        request: Request<v1::DropUserRequest>,
    ) -> Result<Response<v1::DropUserResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| {
                Box::pin(async move {
                    api.drop_user(&request.name).await?;
                    Ok(v1::DropUserResponse {})
                })
            },
        )
        .await
    }

    async fn list_users(
        &self,
        request: Request<v1::ListUsersRequest>,
    ) -> Result<Response<v1::ListUsersResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.short,
            |api, _| api.list_users(),
        )
        .await
    }

    async fn check_connection(
        &self,
        request: Request<v1::CheckConnectionRequest>,
    ) -> Result<Response<v1::CheckConnectionResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.long,
            |api, request| api.check_connection(request),
        )
        .await
    }

    async fn check_residency(
        &self,
        request: Request<v1::CheckResidencyRequest>,
    ) -> Result<Response<v1::CheckResidencyResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.long,
            |api, request| api.check_residency(request),
        )
        .await
    }

    async fn drop_hold(
        &self,
        request: Request<v1::DropHoldRequest>,
    ) -> Result<Response<v1::DropHoldResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| api.drop_hold(request.hold),
        )
        .await
    }

    async fn create_schedule(
        &self,
        request: Request<v1::CreateScheduleRequest>,
    ) -> Result<Response<v1::CreateScheduleResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.long,
            |api, request| api.create_schedule(request),
        )
        .await
    }

    async fn alter_schedule(
        &self,
        request: Request<v1::AlterScheduleRequest>,
    ) -> Result<Response<v1::ListSchedulesResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| api.alter_schedule(request),
        )
        .await
    }

    async fn control_schedule(
        &self,
        request: Request<v1::ControlScheduleRequest>,
    ) -> Result<Response<v1::ControlScheduleResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| api.control_schedule(request),
        )
        .await
    }

    async fn list_schedules(
        &self,
        request: Request<v1::ListSchedulesRequest>,
    ) -> Result<Response<v1::ListSchedulesResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.short,
            |api, _| api.list_schedules(),
        )
        .await
    }

    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.long,
            |api, request| Box::pin(async move { api.list_backups(&request.collection).await }),
        )
        .await
    }

    async fn show_backup(
        &self,
        request: Request<v1::ShowBackupRequest>,
    ) -> Result<Response<v1::ShowBackupResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.long,
            |api, request| api.show_backup(request),
        )
        .await
    }

    async fn show_keys(
        &self,
        request: Request<v1::ShowKeysRequest>,
    ) -> Result<Response<v1::ChainKeys>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.long,
            |api, request| api.show_keys(request),
        )
        .await
    }

    async fn change_keys(
        &self,
        request: Request<v1::ChangeKeysRequest>,
    ) -> Result<Response<v1::ChangeKeysResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.long,
            |api, request| api.change_keys(request),
        )
        .await
    }

    async fn cluster_status(
        &self,
        request: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        self.unary(
            request,
            CallKind::Repeatable,
            self.limits.short,
            |api, _| api.cluster_status(),
        )
        .await
    }

    async fn init_cluster(
        &self,
        request: Request<v1::InitClusterRequest>,
    ) -> Result<Response<v1::InitClusterResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.long,
            |api, request| api.init_cluster(request),
        )
        .await
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::MembersResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.long,
            |api, request| api.add_member(request),
        )
        .await
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::MembersResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.long,
            |api, request| api.remove_member(request.node),
        )
        .await
    }

    async fn set_setting(
        &self,
        request: Request<v1::SetSettingRequest>,
    ) -> Result<Response<v1::SetSettingResponse>, Status> {
        self.unary(
            request,
            CallKind::Mutation,
            self.limits.short,
            |api, request| {
                Box::pin(async move {
                    api.set_setting(&request.name, request.value).await?;
                    Ok(v1::SetSettingResponse {})
                })
            },
        )
        .await
    }
}
