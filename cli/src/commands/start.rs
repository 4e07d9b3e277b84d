//! `holdfast start`.

use holdfast_client::{ControlApi, v1};
use holdfast_env::Env;
use holdfast_node::{LogFormat, init_logging};
use holdfast_sql::{Access, CertificateFiles, SqlOptions, SqlServer};
use holdfast_types::{ErrorCode, Fault, WorkerId};
use std::time::Duration;

use crate::args::{MvccMember, Role, StartArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::roles::{
    self, CoordinatorRole, MemberRole, RunningCoordinator, RunningMember, RunningWorker,
    StartedView, WorkerRole,
};

/// Between two attempts to register the member of a cluster of one.
const REGISTER_AGAIN: Duration = Duration::from_millis(100);
/// How often it is attempted: a cluster of one elects itself within a second or two.
const REGISTER_ATTEMPTS: u32 = 100;

/// What runs in this process.
#[derive(Debug, Default)]
struct Running {
    coordinator: Option<RunningCoordinator>,
    sql: Option<SqlServer>,
    worker: Option<RunningWorker>,
    members: Vec<RunningMember>,
}

pub(super) async fn run(context: &Context, arguments: StartArgs) -> Result<Exit, Fault> {
    let format = if arguments.log_json {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    init_logging(format, "info");
    let mut running = Running::default();
    let started = start(context, arguments, &mut running).await;
    if let Err(fault) = started {
        running.stop().await;
        return Err(fault);
    }
    let view = StartedView {
        address: running.coordinator.as_ref().map(|c| c.address.clone()),
        sql_address: running.sql.as_ref().map(|sql| sql.address().to_owned()),
    };
    context.output.item(&view, || running.text());
    let ended = running.until_told().await;
    running.stop().await;
    ended.map(|()| Exit::Ok)
}

async fn start(
    context: &Context,
    arguments: StartArgs,
    running: &mut Running,
) -> Result<(), Fault> {
    let env = &context.env;
    let key_file = key_file(env, &arguments).await?;
    let stores = arguments.stores.options(env).await?;
    for member in &arguments.mvcc {
        running.members.push(start_member(env, member).await?);
    }
    if arguments.single || arguments.role != Role::Worker {
        let role = CoordinatorRole {
            node: arguments.node_id,
            listen: arguments.listen.clone(),
            advertise: arguments.advertise.clone(),
            data_dir: data_dir(&arguments)?,
            key_file: key_file.clone(),
            stores: stores.clone(),
            alone: arguments.single,
            for_good: false,
        };
        let coordinator = roles::start_coordinator(env, role).await?;
        let coordinator = running.coordinator.insert(coordinator);
        if let Some(options) = sql_options(&arguments) {
            running.sql = Some(roles::start_sql(env, options, coordinator).await?);
        }
    } else if arguments.sql_addr.is_some() {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            "a worker does not listen for SQL: coordinators do",
        )
        .hint("give --sql-addr to a process with a coordinator"));
    }
    if arguments.single || arguments.role != Role::Coordinator {
        let coordinators = match &running.coordinator {
            Some(coordinator) => vec![coordinator.address.clone()],
            None if arguments.join.is_empty() => context.coordinators.clone(),
            None => arguments.join.clone(),
        };
        let role = WorkerRole {
            id: worker_id(&arguments)?,
            locality: arguments.locality.clone(),
            slots: arguments.slots,
            coordinators,
            key_file,
            stores,
            work_dir: work_dir(&arguments),
            pg_tools: arguments.pg_tools.clone(),
        };
        running.worker = Some(roles::start_worker(env, role).await?);
    }
    if arguments.single {
        register(running, &arguments).await?;
    }
    Ok(())
}

async fn start_member(env: &Env, member: &MvccMember) -> Result<RunningMember, Fault> {
    let role = MemberRole {
        directory: member.directory.clone(),
        listen: member.listen.clone(),
        time_to_live: None,
    };
    roles::start_member(env, role).await
}

/// How SQL is spoken, if it is.
fn sql_options(arguments: &StartArgs) -> Option<SqlOptions> {
    let access = Access {
        trusts_loopback: arguments.sql_trust_loopback,
        allows_plaintext: arguments.sql_allow_plaintext,
    };
    let mut options = SqlOptions::new(arguments.sql_addr.as_deref()?, access);
    if let (Some(certificate), Some(key)) = (&arguments.sql_cert, &arguments.sql_key) {
        options.certificate = Some(CertificateFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        });
    }
    Some(options)
}

fn data_dir(arguments: &StartArgs) -> Result<String, Fault> {
    arguments.data_dir.clone().ok_or_else(|| {
        Fault::new(
            ErrorCode::InvalidArgument,
            "a coordinator needs a directory for its log",
        )
        .hint("give it with --data-dir DIR")
    })
}

/// The name of the worker: as given, or with a coordinator in the process after that one's number.
fn worker_id(arguments: &StartArgs) -> Result<WorkerId, Fault> {
    match &arguments.worker_id {
        Some(id) => Ok(id.clone()),
        None => WorkerId::new(format!("w{}", arguments.node_id)),
    }
}

/// Where the worker's files go, if that was said.
fn work_dir(arguments: &StartArgs) -> Option<String> {
    let below = arguments.data_dir.as_ref();
    let given = arguments.work_dir.clone();
    given.or_else(|| below.map(|directory| format!("{directory}/work")))
}

/// The key file: as given, or with `--single` one in the data directory, made if it is not there.
async fn key_file(env: &Env, arguments: &StartArgs) -> Result<String, Fault> {
    if let Some(path) = &arguments.key_file {
        return Ok(path.clone());
    }
    match &arguments.data_dir {
        Some(directory) if arguments.single => {
            roles::make_directory(env, directory).await?;
            let path = format!("{directory}/cluster.key");
            roles::make_key(env, &path).await?;
            Ok(path)
        }
        _ => Err(Fault::new(
            ErrorCode::InvalidArgument,
            "this process needs the cluster key",
        )
        .hint("make one for a new cluster with `holdfast init --key-file FILE`, and give it with --key-file")),
    }
}

/// Registers the members of a cluster of one as sources, unless they are.
async fn register(running: &Running, arguments: &StartArgs) -> Result<(), Fault> {
    let Some(coordinator) = &running.coordinator else {
        return Ok(());
    };
    for (member, served) in arguments.mvcc.iter().zip(&running.members) {
        let request = v1::RegisterSourceRequest {
            name: member.name.to_string(),
            kind: "mvcc".to_owned(),
            members: vec![v1::Member {
                name: member.name.to_string(),
                locality: arguments.locality.to_string(),
                address: served.address(),
                ..v1::Member::default()
            }],
        };
        register_one(coordinator.api.as_ref(), request).await?;
    }
    Ok(())
}

async fn register_one(
    api: &dyn ControlApi,
    request: v1::RegisterSourceRequest,
) -> Result<(), Fault> {
    for _ in 0..REGISTER_ATTEMPTS {
        match api.register_source(request.clone()).await {
            Ok(_) => return Ok(()),
            Err(fault) if fault.code == ErrorCode::AlreadyExists => return Ok(()),
            // The cluster of one is still electing itself; registering is safe to repeat.
            Err(fault) if fault.is_retryable() => tokio::time::sleep(REGISTER_AGAIN).await,
            Err(fault) => return Err(fault),
        }
    }
    Err(Fault::new(
        ErrorCode::Unavailable,
        format!("source {} could not be registered: no leader", request.name),
    ))
}

impl Running {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        if let Some(coordinator) = &self.coordinator {
            lines.push(format!("coordinator listens on {}", coordinator.address));
        }
        if let Some(sql) = &self.sql {
            lines.push(format!("SQL is spoken on {}", sql.address()));
        }
        if self.worker.is_some() {
            lines.push("worker runs".to_owned());
        }
        for member in &self.members {
            lines.push(format!("mvcc member listens on {}", member.address()));
        }
        lines.join("\n")
    }

    /// Waits for a signal, or for the worker's dismissal or the coordinator's removal or failure.
    async fn until_told(&self) -> Result<(), Fault> {
        let dismissed = async {
            match &self.worker {
                Some(worker) => worker.ended().await,
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match &self.coordinator {
                Some(coordinator) => coordinator.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = roles::interrupted() => Ok(()),
            ended = dismissed => ended,
            fault = ended => Err(fault),
        }
    }

    /// An orderly end: the worker gives its leases back while there is still a coordinator to take them.
    async fn stop(self) {
        if let Some(sql) = self.sql {
            sql.shutdown().await;
        }
        if let Some(worker) = self.worker {
            worker.shutdown().await;
        }
        if let Some(coordinator) = self.coordinator {
            coordinator.shutdown().await;
        }
        for member in self.members {
            member.shutdown().await;
        }
    }
}
