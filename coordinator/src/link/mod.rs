//! The `WorkerLink` service: one stream per worker, kept by the leader in office.

mod greeting;
mod holder;
mod session;

use holdfast_proto::v1::worker_link_server::{WorkerLink, WorkerLinkServer};
use holdfast_proto::{MAX_MESSAGE_SIZE, fault_to_status, v1};
use holdfast_types::{ErrorCode, Fault};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::core::Core;
use crate::sessions::OUTBOX_CAPACITY;

pub(crate) use session::not_leader;

/// Streams that are open at once. More workers than this need more than one cluster.
const MAX_STREAMS: usize = 4096;

/// The service.
#[derive(Debug)]
pub(crate) struct WorkerLinkService {
    core: Arc<Core>,
    places: Arc<Semaphore>,
}

impl WorkerLinkService {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            places: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    /// The service as a tonic server, with its message bounds.
    pub(crate) fn into_server(self) -> WorkerLinkServer<Self> {
        WorkerLinkServer::new(self).max_decoding_message_size(MAX_MESSAGE_SIZE)
    }
}

#[tonic::async_trait]
impl WorkerLink for WorkerLinkService {
    type SessionStream = ReceiverStream<Result<v1::LeaderMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            fault_to_status(&Fault::new(
                ErrorCode::ResourceExhausted,
                format!("this coordinator has {MAX_STREAMS} workers connected and takes no more"),
            ))
        })?;
        let (outbox, inbox) = mpsc::channel(OUTBOX_CAPACITY);
        let core = Arc::clone(&self.core);
        // The answer's head must go out before the first message is read: the worker may wait for it.
        tokio::spawn(async move {
            session::run(core, request.into_inner(), outbox).await;
            drop(place);
        });
        Ok(Response::new(ReceiverStream::new(inbox)))
    }
}
