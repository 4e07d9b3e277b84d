//! Serving a store on an address of its own.

use holdfast_env::Env;
use holdfast_proto::incoming;
use holdfast_types::{ErrorCode, Fault};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Server;

use crate::service::service;
use crate::store::MvccStore;

/// Until a call must have been answered (a stream: started). Above every deadline of the clients here.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Between pings on connections, and until an unanswered one ends the connection: streams of clients that are gone must not stay.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Calls in flight on one connection.
const MAX_CALLS_PER_CONNECTION: u32 = 256;

/// Bytes in flight to one stream: with HTTP/2's default of 64 KiB a load waits for every window update.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;

/// Bytes in flight to one connection.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Between rounds of garbage collection.
const GC_INTERVAL: Duration = Duration::from_secs(60);

/// How long calls in flight may take when the server shuts down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A store that is being served. Dropping it stops accepting; calls that are in flight end by themselves.
#[derive(Debug)]
pub struct ServeHandle {
    address: String,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    collector: JoinHandle<()>,
}

/// Serves a store on an address (`host:port`, port 0 takes a free one), and collects its garbage from time to time.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(env: &Env, listen: &str, store: MvccStore) -> Result<ServeHandle, Fault> {
    let listener = env.net.listen(listen).await.map_err(|error| {
        Fault::new(
            ErrorCode::Unavailable,
            format!("cannot listen on {listen}: {error}"),
        )
        .hint("choose another address, or port 0 for a free one")
    })?;
    let address = listener.local_address();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder()
        .timeout(CALL_TIMEOUT)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(MAX_CALLS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(service(store.clone()));
    let server = tokio::spawn(async move {
        let signal = async move {
            // An error means that the handle is gone, and then this task is as well.
            let _ = stopped.await;
        };
        server
            .serve_with_incoming_shutdown(incoming(listener), signal)
            .await
    });
    Ok(ServeHandle {
        address,
        stop: Some(stop),
        server,
        collector: tokio::spawn(collect_garbage(store)),
    })
}

async fn collect_garbage(store: MvccStore) {
    loop {
        tokio::time::sleep(GC_INTERVAL).await;
        match store.collect_garbage(None).await {
            Ok(step) => tracing::debug!(removed = step.removed, "collected garbage"),
            Err(fault) => tracing::warn!(%fault, "garbage collection failed"),
        }
    }
}

impl ServeHandle {
    /// The address that is listened on, with the real port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops accepting, lets calls in flight end for a while, and ends the service.
    pub async fn shutdown(mut self) {
        self.collector.abort();
        if let Some(stop) = self.stop.take() {
            // The server is gone already if nobody listens.
            let _ = stop.send(());
        }
        let ended = tokio::time::timeout(SHUTDOWN_TIMEOUT, &mut self.server).await;
        if let Ok(Ok(Err(error))) = ended {
            tracing::warn!(%error, address = self.address, "the member's server failed");
        }
    }
}

impl Drop for ServeHandle {
    fn drop(&mut self) {
        self.collector.abort();
        self.server.abort();
    }
}
