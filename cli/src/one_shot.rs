//! A job on a PostgreSQL server without a cluster: one coordinator and one worker in this process, and a state that outlives it, so
//! that the same command goes on where a killed one stopped.

use holdfast_client::v1;
use holdfast_postgres::dsn::Dsn;
use holdfast_postgres::session::{Purpose, Session};
use holdfast_types::{Fault, MemberName};

use crate::args::{MemberAddress, OneShotArgs, ServerAddress, Unread};
use crate::context::Context;
use crate::exit::Exit;
use crate::local::{LocalCluster, StateDirectory};

/// Tasks beyond the streams: while one of them is stored and committed, or is made ready, as many rows as ever are on their way.
const READY: u32 = 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct OneShot {
    cluster: LocalCluster,
    streams: u32,
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
        Self::start_in(context, arguments, directory).await
    }

    /// Starts one that has no job to go on with, and keeps nothing.
    pub(crate) async fn start_anew(
        context: &Context,
        arguments: &OneShotArgs,
    ) -> Result<Self, Fault> {
        let directory = StateDirectory::temporary()?;
        Self::start_in(context, arguments, directory).await
    }

    async fn start_in(
        context: &Context,
        arguments: &OneShotArgs,
        directory: StateDirectory,
    ) -> Result<Self, Fault> {
        let streams = arguments.streams;
        let (slots, tools) = (streams.saturating_add(READY), arguments.pg_tools.clone());
        let cluster = LocalCluster::start_in(&context.env, directory, slots, tools).await?;
        Ok(Self { cluster, streams })
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
        reach(context, &server).await?;
        self.register(name, server).await?;
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

    /// Tells the cluster of the server, which goes by `name`.
    pub(crate) async fn register(
        &self,
        name: MemberName,
        server: ServerAddress,
    ) -> Result<(), Fault> {
        let kind = server.kind.to_string();
        let member = v1::Member {
            streams: Some(self.streams),
            ..MemberAddress::nowhere(name, server).wire()
        };
        self.cluster.register(kind, vec![member]).await
    }

    /// Ends it, and keeps nothing.
    pub(crate) async fn abandon(self, context: &Context) {
        self.cluster.stop().await.remove(&context.env).await;
    }

    /// Ends it. Nothing is kept but the state of a chain that is to go on, and of a job that is not over.
    /// Whether it is kept.
    pub(crate) async fn end(self, context: &Context) -> bool {
        let is_needed = self.cluster.settle(context).await.unwrap_or(true);
        let directory = self.cluster.stop().await;
        if !is_needed {
            directory.remove(&context.env).await;
        }
        is_needed
    }
}

/// Sees whether the server can be used. A job would try for long; whoever typed the command wants to know at once.
async fn reach(context: &Context, server: &ServerAddress) -> Result<(), Fault> {
    let dsn = Dsn {
        password: server.password.clone(),
        ..server.address.parse()?
    };
    let session = Session::connect(&context.env, &dsn, Purpose::Control).await;
    session.map(drop)
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
