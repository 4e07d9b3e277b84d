//! `holdfast demo`: a cluster on this machine backs up, pauses, loses a worker and its leader, goes on, restores an instant, and is
//! compared with the source's own history. It leaves nothing behind, however it ends.

mod bank;
mod child_node;
mod compare;
mod report;
mod story;
mod thread_node;
mod world;

use holdfast_node::{LogFormat, init_logging};
use holdfast_types::{ErrorCode, Fault};
use std::path::Path;

use crate::args::DemoArgs;
use crate::context::Context;
use crate::exit::Exit;
pub(crate) use child_node::ChildNode;
use report::Report;

pub(crate) async fn run(context: &Context, arguments: DemoArgs) -> Result<Exit, Fault> {
    // What a node says while it is being killed would drown the story; HOLDFAST_LOG brings it back.
    init_logging(LogFormat::Text, "off");
    let directory = tempfile::Builder::new()
        .prefix("holdfast-demo-")
        .tempdir()
        .map_err(|error| broken("make a temporary directory", &error))?;
    let outcome = told(context, &arguments, directory.path()).await;
    let removed = directory
        .close()
        .map_err(|error| broken("remove the temporary directory", &error));
    match outcome {
        Ok(exit) => removed.map(|()| exit),
        Err(fault) => {
            context.output.error(&fault);
            context.output.note("demo: failed");
            Ok(Exit::Failed)
        }
    }
}

/// Everything of the demo's world is gone when this returns, also when it was interrupted.
async fn told(context: &Context, arguments: &DemoArgs, directory: &Path) -> Result<Exit, Fault> {
    let mut report = Report::new(context);
    let telling = Box::pin(story::tell(context, arguments, directory, &mut report));
    tokio::select! {
        biased;
        () = crate::roles::interrupted() => {
            context.output.note("demo: interrupted");
            Ok(Exit::Interrupted)
        }
        told = telling => {
            told?;
            report.end();
            Ok(Exit::Ok)
        }
    }
}

/// Something of this machine does not work.
fn broken(what: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(ErrorCode::Unavailable, format!("cannot {what}: {error}"))
}

/// What must not be is.
fn wrong(what: impl Into<String>) -> Fault {
    Fault::new(ErrorCode::Internal, what)
}
