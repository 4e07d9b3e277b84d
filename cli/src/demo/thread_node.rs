//! A node on a thread of its own, with a runtime of its own, so that it can be killed: everything it is doing is dropped at whatever
//! await it happens to be at, and its sockets close, as when a process is killed.

use futures::future::LocalBoxFuture;
use holdfast_env::Env;
use holdfast_types::Fault;
use std::any::Any;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

use super::{broken, wrong};

/// How long the thread of a killed node waits for blocking work that cannot be dropped, so that nothing writes into the demo's
/// directory after it was removed.
const BLOCKING_WORK_ENDS: Duration = Duration::from_secs(5);

/// A started role: the address it listens on, if it does, and what keeps it running.
pub(super) type Started = (String, Box<dyn Any>);

/// How a role is started inside its thread.
pub(super) type Start =
    Box<dyn FnOnce(Env) -> LocalBoxFuture<'static, Result<Started, Fault>> + Send>;

/// See the module. Dropping it kills it.
#[derive(Debug)]
pub(super) struct ThreadNode {
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ThreadNode {
    /// Starts a role and waits until it listens; gives its address.
    pub(super) async fn start(name: &str, start: Start) -> Result<(Self, String), Fault> {
        let (kill, killed) = oneshot::channel();
        let (ready, started) = oneshot::channel();
        #[expect(
            clippy::disallowed_methods,
            reason = "the demo stands for several machines; a node of it is a thread as it would be a process"
        )]
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || live(start, ready, killed))
            .map_err(|error| broken("start a thread", &error))?;
        let node = Self {
            kill: Some(kill),
            thread: Some(thread),
        };
        let address = started
            .await
            .unwrap_or_else(|_| Err(wrong(format!("{name} ended while it started"))))?;
        Ok((node, address))
    }

    /// Lets the node die; does not wait.
    pub(super) fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            // A node that ended by itself is as dead as it was to be.
            let _ = kill.send(());
        }
    }
}

impl Drop for ThreadNode {
    fn drop(&mut self) {
        self.kill();
        if let Some(thread) = self.thread.take() {
            // A node that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

/// The thread of a node.
fn live(
    start: Start,
    ready: oneshot::Sender<Result<String, Fault>>,
    killed: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(broken("start a runtime", &error)));
            return;
        }
    };
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async move {
        match start(Env::system()).await {
            Ok((address, role)) => {
                let _ = ready.send(Ok(address));
                // Closed without a word: the demo is over.
                let _ = killed.await;
                // Not dropped in order: a killed process runs no destructors of its own choosing either.
                std::mem::forget(role);
            }
            Err(fault) => {
                let _ = ready.send(Err(fault));
            }
        }
    });
    drop(tasks);
    runtime.shutdown_timeout(BLOCKING_WORK_ENDS);
}
