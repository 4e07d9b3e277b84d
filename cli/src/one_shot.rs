//! A job on a PostgreSQL server without a cluster: one coordinator and one worker in this process, and a state that outlives it, so
//! that the same command goes on where a killed one stopped.

use holdfast_types::{Fault, MemberName};

use crate::args::{MemberAddress, OneShotArgs, ServerAddress, Unread};
use crate::context::Context;
use crate::exit::Exit;
use crate::local::{LocalCluster, StateDirectory};

/// See the module.
#[derive(Debug)]
pub(crate) struct OneShot {
    cluster: LocalCluster,
}

impl OneShot {
    /// Starts it. `job` tells one command from another.
    pub(crate) async fn start(
        context: &Context,
        arguments: &OneShotArgs,
        job: &[&str],
    ) -> Result<Self, Fault> {
        let given = arguments.state_dir.clone();
        let directory = StateDirectory::of_job(&context.env, given, job).await?;
        let cluster = LocalCluster::start_in(&context.env, directory, arguments.streams).await?;
        Ok(Self { cluster })
    }

    /// What the job is given to.
    pub(crate) fn cluster(&self) -> &LocalCluster {
        &self.cluster
    }

    /// Does what `submit` asks for on the server, which goes by `name`, or what is left of an earlier job.
    pub(crate) async fn perform(
        &self,
        context: &Context,
        name: MemberName,
        server: ServerAddress,
        submit: impl AsyncFnOnce(&LocalCluster) -> Result<u64, Fault>,
    ) -> Result<Exit, Fault> {
        let kind = server.kind.to_string();
        let member = MemberAddress::nowhere(name, server);
        self.cluster.register(kind, vec![member.wire()]).await?;
        let job = match self.cluster.unfinished(context).await? {
            Some(job) => {
                context
                    .output
                    .note(format!("going on with job {job}, which was not finished"));
                job
            }
            None => submit(&self.cluster).await?,
        };
        self.cluster.follow(context, job).await
    }

    /// Ends it. Nothing is kept but the state of a chain that is to go on, and of a job that is worth another try.
    pub(crate) async fn end(self, context: &Context, done: &Result<Exit, Fault>) {
        let is_needed = match done {
            Err(fault) if fault.is_retryable() => true,
            _ => self.cluster.settle(context).await.unwrap_or(true),
        };
        let directory = self.cluster.stop().await;
        if !is_needed {
            directory.remove(&context.env).await;
        }
    }
}

/// The server, with the password from wherever it was given.
pub(crate) fn read_server(
    server: &Unread,
    arguments: &OneShotArgs,
) -> Result<ServerAddress, Fault> {
    let mut server = server.postgres()?;
    if server.password.is_none() {
        server.password = arguments.password.as_ref().and_then(Unread::secret);
    }
    Ok(server)
}
