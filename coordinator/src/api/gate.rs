//! The door of the control service: requests are bounded in number and in time.

use futures::future::BoxFuture;
use holdfast_client::ControlApi;
use holdfast_proto::{CallKind, fault_to_status};
use holdfast_types::{ErrorCode, Fault};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

use super::PASSED_ON;

/// Lets requests in while there is room.
#[derive(Debug)]
pub(super) struct Gate {
    api: Arc<dyn ControlApi>,
    local: Arc<dyn ControlApi>,
    room: Arc<Semaphore>,
}

/// A request that was let in. It keeps its room.
pub(super) struct Entered {
    /// Who answers it.
    pub(super) api: Arc<dyn ControlApi>,
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    /// One with room for so many at once. `local` answers what another coordinator passed on.
    pub(super) fn new(api: Arc<dyn ControlApi>, local: Arc<dyn ControlApi>, room: usize) -> Self {
        Self {
            api,
            local,
            room: Arc::new(Semaphore::new(room)),
        }
    }

    /// Lets a request in, or refuses it at once.
    pub(super) fn enter<T>(&self, request: &Request<T>) -> Result<Entered, Status> {
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
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
    pub(super) async fn unary<Q, A>(
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
        let entered = self.enter(&request)?;
        let answer = tokio::time::timeout(deadline, work(&*entered.api, request.into_inner()));
        match answer.await {
            Ok(Ok(answer)) => Ok(Response::new(answer)),
            Ok(Err(fault)) => Err(fault_to_status(&fault)),
            Err(_) => Err(fault_to_status(&late(kind, deadline))),
        }
    }
}

/// What whoever waited for too long is told.
pub(super) fn late(kind: CallKind, deadline: Duration) -> Fault {
    let seconds = deadline.as_secs_f64();
    match kind {
        CallKind::Repeatable => Fault::new(
            ErrorCode::DeadlineExceeded,
            format!("the request was not answered within {seconds} s"),
        ),
        CallKind::Mutation => Fault::new(
            ErrorCode::Unknown,
            format!("the request was not answered within {seconds} s; it may still take effect"),
        )
        .hint("look whether it did, or repeat it with the same request key"),
    }
}
