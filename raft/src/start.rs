//! How a node comes up and goes down.

use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault, NodeId};
use openraft::async_runtime::WatchReceiver;
use openraft::{Raft, ServerState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Semaphore, watch};

use crate::config::RaftConfig;
use crate::core::Core;
use crate::identity::Identity;
use crate::leadership::{Standing, Watched};
use crate::log_engine::storage_fault;
use crate::log_store::{LogReader, LogStore};
use crate::log_writer::LogWriter;
use crate::machine::Machine;
use crate::machine_store::MachineStore;
use crate::membership_watch;
use crate::network::Network;
use crate::peers::Peers;
use crate::snapshot::{SnapshotPointer, SnapshotStore};
use crate::type_config::{Runtime, TypeConfig};

/// Opens everything and starts raft.
pub(crate) async fn start(
    config: RaftConfig,
    env: Env,
    machine: Arc<dyn Machine>,
) -> Result<Arc<Core>, Fault> {
    config.engine()?;
    let identity = Identity::open(&env, &config).await?;
    let identity = Arc::new(identity);
    let Stores {
        log,
        writer,
        reader,
        snapshots,
    } = open_stores(&config, &env, &machine).await?;
    let restored = machine.header().last.map_or(0, |id| id.index);
    let (applied_sender, applied) = watch::channel(restored);
    let store = MachineStore {
        env: env.clone(),
        machine: Arc::clone(&machine),
        snapshots: Arc::clone(&snapshots),
        applied: applied_sender,
    };
    let peers = Arc::new(Peers::new(&env, Arc::clone(&identity), config.election_min));
    let (verdict, judged) = watch::channel(Standing::Running);
    let network = Network {
        env: env.clone(),
        peers: Arc::clone(&peers),
        append_timeout: config.election_max,
        chunk_timeout: config.chunk_timeout,
        verdict: verdict.clone(),
    };
    let raft = match start_engine(&config, &env, network, log, store).await {
        Ok(raft) => raft,
        Err(fault) => {
            writer.close().await;
            return Err(fault);
        }
    };
    let (stop, stopping) = watch::channel(false);
    let watched = Watched {
        raft: raft.clone(),
        writer: writer.clone(),
        log: reader,
        machine: Arc::clone(&machine),
        verdict: judged,
        stop: stopping.clone(),
    };
    let (leadership, standing) = watched.start(&config);
    let disk_full = watch_disk(&env, &config, stopping).await;
    let core = Core {
        in_flight: Semaphore::new(config.max_in_flight),
        config,
        env,
        raft,
        machine,
        identity,
        peers,
        snapshots,
        writer,
        leadership,
        standing,
        verdict,
        applied,
        disk_full,
        stop,
        catch_up: OnceLock::new(),
        receiving: tokio::sync::Mutex::new(()),
    };
    core.let_stand();
    let core = Arc::new(core);
    membership_watch::start(Arc::clone(&core));
    Ok(core)
}

/// Starts openraft with randomness of this node's own.
async fn start_engine(
    config: &RaftConfig,
    env: &Env,
    network: Network,
    log: LogStore,
    store: MachineStore,
) -> Result<Raft<TypeConfig, MachineStore>, Fault> {
    let engine = Arc::new(config.engine()?);
    let raft = Raft::new(config.node.0, engine, network, log, store);
    let seed = env.entropy.next_u64();
    Runtime::scope(seed, raft)
        .await
        .map_err(|fatal| start_fault(config, &fatal))
}

/// What a data directory holds, opened.
struct Stores {
    log: LogStore,
    writer: LogWriter,
    reader: LogReader,
    snapshots: Arc<SnapshotStore>,
}

/// Opens log and snapshots, and gives the machine the state of the last snapshot.
async fn open_stores(
    config: &RaftConfig,
    env: &Env,
    machine: &Arc<dyn Machine>,
) -> Result<Stores, Fault> {
    let data_dir = &config.data_dir;
    let (log, pointer) = LogStore::open(env, data_dir, config.cache_bytes).await?;
    let (writer, reader) = (log.writer(), log.reader());
    let snapshots = SnapshotStore::new(env, data_dir, writer.clone(), reader.clone());
    if let Some(pointer) = pointer
        && let Err(fault) = restore(env, data_dir, &snapshots, machine, pointer).await
    {
        // The next attempt finds the file free.
        writer.close().await;
        return Err(fault);
    }
    Ok(Stores {
        log,
        writer,
        reader,
        snapshots: Arc::new(snapshots),
    })
}

/// Takes the state of the last snapshot.
async fn restore(
    env: &Env,
    data_dir: &str,
    snapshots: &SnapshotStore,
    machine: &Arc<dyn Machine>,
    pointer: SnapshotPointer,
) -> Result<(), Fault> {
    let name = format!("{data_dir}/{}", pointer.name);
    let (header, state) = snapshots
        .resume(pointer)
        .await
        .map_err(|error| storage_fault(&name, &error))?;
    let machine = Arc::clone(machine);
    env.blocking(move || machine.install(header, &state))
        .await
        .map_err(|fault| fault.context(format!("raft snapshot {name}")))
}

fn start_fault(config: &RaftConfig, fatal: &openraft::errors::Fatal<TypeConfig>) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!(
            "raft of node {} cannot start from {}: {fatal}",
            config.node, config.data_dir
        ),
    )
    .hint("replace this node by a new one with an empty data directory and a new id")
}

/// Looks at the free space now and from now on.
async fn watch_disk(
    env: &Env,
    config: &RaftConfig,
    mut stop: watch::Receiver<bool>,
) -> Arc<AtomicBool> {
    let disk_full = Arc::new(AtomicBool::new(false));
    look_at_disk(env, config, &disk_full).await;
    let (env, config, found) = (env.clone(), config.clone(), Arc::clone(&disk_full));
    drop(tokio::spawn(async move {
        let interval = config.disk_check_interval;
        while tokio::time::timeout(interval, stop.changed())
            .await
            .is_err()
        {
            look_at_disk(&env, &config, &found).await;
        }
    }));
    disk_full
}

async fn look_at_disk(env: &Env, config: &RaftConfig, disk_full: &AtomicBool) {
    let disk = Arc::clone(&env.disk);
    let data_dir = config.data_dir.clone();
    match env.blocking(move || disk.available(&data_dir)).await {
        Ok(free) => {
            let full = free < config.disk_reserve;
            if disk_full.swap(full, Ordering::Relaxed) != full {
                if full {
                    tracing::error!(node = %config.node, free, "the disk is nearly full: no new work is accepted");
                } else {
                    tracing::info!(node = %config.node, free, "the disk has space again");
                }
            }
        }
        Err(error) => {
            tracing::warn!(node = %config.node, dir = config.data_dir, %error, "cannot tell the free space");
        }
    }
}

/// Hands leadership over, stops raft, makes what is queued durable and lets the files go.
pub(crate) async fn shutdown(core: &Core) {
    if let Some(successor) = successor(core) {
        // Best effort: without it, the others elect one after their election timeout.
        let handed = tokio::time::timeout(
            core.config.election_min,
            core.transfer_as_leader(successor.0),
        );
        if let Ok(Err(fault)) = handed.await {
            tracing::debug!(node = %core.config.node, %fault, "leadership was not handed over");
        }
    }
    if let Err(error) = core.raft.shutdown().await {
        tracing::warn!(node = %core.config.node, %error, "raft ended badly");
    }
    core.stop.send_replace(true);
    core.writer.close().await;
    core.snapshots.close();
}

/// The voter that is known to be furthest, if this node leads.
fn successor(core: &Core) -> Option<NodeId> {
    let metrics = core.raft.metrics();
    let metrics = metrics.borrow_watched();
    if metrics.state != ServerState::Leader {
        return None;
    }
    let matched = metrics.replication.as_ref()?;
    let voters = metrics.membership_config.membership().voter_ids();
    voters
        .filter(|voter| *voter != core.config.node.0)
        .max_by_key(|voter| {
            let index = matched.get(voter).copied().flatten().map(|id| id.index);
            (index, std::cmp::Reverse(*voter))
        })
        .map(NodeId)
}
