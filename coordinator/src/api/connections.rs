//! External connections, and trying stores out through all workers.

use futures::future::join_all;
use holdfast_collection::Reference;
use holdfast_ledger::{Action, Outcome};
use holdfast_proto::{fault_to_wire, to_json, v1};
use holdfast_types::{
    ConnectionName, ConnectionRecord, ErrorCode, Fault, Incarnation, Locality, WorkerId,
};
use std::time::Duration;

use crate::core::Core;
use crate::location::Collection;
use crate::office::Office;
use crate::replica::unexpected;

/// The longest URI that is kept.
const MAX_URI: usize = 32 << 10;
/// Bytes that a worker writes unless it is said otherwise, as in the model system.
const TRANSFER: u64 = 32 << 20;
/// How often one looks whether the worker that was asked is still there.
const GLANCE: Duration = Duration::from_millis(500);

/// Stores a connection.
pub(super) async fn put(
    core: &Core,
    request: v1::PutConnectionRequest,
) -> Result<v1::Connection, Fault> {
    let name: ConnectionName = request.name.parse()?;
    let text = request.uri.trim();
    if text.len() > MAX_URI {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("the URI of connection {name} is longer than {MAX_URI} bytes"),
        ));
    }
    let uri = match text.parse()? {
        Reference::Store(uri) => uri,
        Reference::External(external) => {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "connection {name} cannot lead through another connection ({})",
                    external.connection
                ),
            )
            .hint("give the URI of the store itself"));
        }
    };
    let record = ConnectionRecord {
        address: uri.to_string(),
        shown: uri.redacted(),
        sealed: core.config.cluster_key.seal_secret(name.as_str(), text),
        changed_at: core.env.clock.now(),
        name,
    };
    let action = Action::PutConnection {
        connection: record.clone(),
        alter: request.alter,
    };
    match core.replica.propose(action).await? {
        Outcome::Done | Outcome::NoOp => Ok(view(&record)),
        Outcome::Refused(fault) => Err(fault),
        other => Err(unexpected(&other)),
    }
}

/// Forgets a connection.
pub(super) async fn forget(core: &Core, name: &str) -> Result<(), Fault> {
    let connection = name.parse()?;
    core.replica
        .make(Action::DropConnection { connection })
        .await
}

/// All connections, or the one that is named.
pub(super) fn list(core: &Core, name: &str) -> Result<v1::ListConnectionsResponse, Fault> {
    let only: Option<ConnectionName> = match name {
        "" => None,
        name => Some(name.parse()?),
    };
    let connections: Vec<v1::Connection> = core.replica.read(|ledger| {
        let all = ledger.connections();
        let wanted = all.filter(|found| only.as_ref().is_none_or(|name| *name == found.name));
        wanted.map(view).collect()
    });
    match only {
        Some(name) if connections.is_empty() => Err(Fault::new(
            ErrorCode::NotFound,
            format!("there is no connection {name}"),
        )
        .hint("list the connections with `holdfast connection show`")),
        _ => Ok(v1::ListConnectionsResponse { connections }),
    }
}

fn view(record: &ConnectionRecord) -> v1::Connection {
    v1::Connection {
        name: record.name.to_string(),
        uri: record.shown.clone(),
        changed: record.changed_at.to_string(),
    }
}

/// A worker that is asked.
struct Asked {
    worker: WorkerId,
    incarnation: Incarnation,
    locality: Locality,
    probe: String,
}

/// Has every connected worker try a store out. Only in office.
pub(super) async fn check(
    core: &Core,
    request: &v1::CheckConnectionRequest,
) -> Result<v1::CheckConnectionResponse, Fault> {
    let Some(present) = core.desk.present() else {
        return Err(Fault::new(
            ErrorCode::NoLeader,
            "stores are tried out through the leader, and there is none that can be reached",
        )
        .hint("try again in a moment, or see `holdfast status`"));
    };
    core.replica.linearizable().await?;
    let office = &present.office;
    let collection = Collection::to_read(core, &request.uri, &[])?;
    let order = v1::StoreCheckOrder {
        collection: collection.to_string(),
        access: to_json(&resolved(core, &collection)),
        ..v1::StoreCheckOrder::default()
    };
    let asked = workers(core, office);
    if asked.is_empty() {
        return Err(Fault::new(ErrorCode::Unavailable, "no worker is connected")
            .hint("start one with `holdfast start --role worker`"));
    }
    let transfer = match request.transfer {
        0 => TRANSFER,
        bytes => bytes,
    };
    let writing = asked.iter().map(|one| {
        let order = v1::StoreCheckOrder {
            probe: one.probe.clone(),
            transfer,
            ..order.clone()
        };
        ask(office, one, order)
    });
    let wrote = join_all(writing).await;
    let probes: Vec<String> = asked
        .iter()
        .zip(&wrote)
        .filter(|(_, wrote)| wrote.is_ok())
        .map(|(one, _)| one.probe.clone())
        .collect();
    // Only now have all written what the others look for. Nothing has the name of the probe that is to be removed here, so that none goes yet.
    let looking = asked.iter().map(|one| {
        let others = probes.iter().filter(|probe| **probe != one.probe);
        let order = v1::StoreCheckOrder {
            probe: format!("{}-none", one.probe),
            others: others.cloned().collect(),
            ..order.clone()
        };
        ask(office, one, order)
    });
    let seen = join_all(looking).await;
    let removing = asked.iter().map(|one| {
        let order = v1::StoreCheckOrder {
            probe: one.probe.clone(),
            ..order.clone()
        };
        ask(office, one, order)
    });
    let removed = join_all(removing).await;
    let name_of = |probe: &String| {
        let found = asked.iter().find(|one| one.probe == *probe);
        found.map_or_else(|| probe.clone(), |one| one.worker.to_string())
    };
    let rows = asked.iter().zip(wrote).zip(seen).zip(removed);
    let workers = rows.map(|(((one, wrote), seen), removed)| {
        let row = v1::CheckedStore {
            worker: one.worker.to_string(),
            locality: one.locality.to_string(),
            ..v1::CheckedStore::default()
        };
        match wrote {
            Err(fault) => v1::CheckedStore {
                fault: Some(fault_to_wire(&fault)),
                ..row
            },
            Ok(done) => v1::CheckedStore {
                transferred: done.transferred,
                read_speed: speed(done.transferred, done.read_us),
                write_speed: speed(done.transferred, done.write_us),
                can_delete: removed.is_ok_and(|done| done.can_delete),
                unseen: match &seen {
                    Ok(done) => done.unseen.iter().map(name_of).collect(),
                    Err(_) => Vec::new(),
                },
                fault: seen.err().as_ref().map(fault_to_wire),
                ..row
            },
        }
    });
    Ok(v1::CheckConnectionResponse {
        place: collection.to_string(),
        workers: workers.collect(),
    })
}

/// What workers are told of a collection: they know no connections.
fn resolved(core: &Core, collection: &Collection) -> holdfast_types::CollectionAccess {
    let key = &core.config.cluster_key;
    let address = collection.to_string();
    let exposed = collection.location().expose();
    holdfast_types::CollectionAccess {
        sealed: exposed.map(|text| key.seal_secret(&address, &text)),
        ..holdfast_types::CollectionAccess::default()
    }
}

fn workers(core: &Core, office: &Office) -> Vec<Asked> {
    let connected = office.sessions.connected();
    let token = core.env.entropy.next_u64();
    core.replica.read(|ledger| {
        let there = ledger
            .workers()
            .filter(|worker| connected.get(&worker.id) == Some(&worker.incarnation));
        there
            .map(|worker| Asked {
                worker: worker.id.clone(),
                incarnation: worker.incarnation,
                locality: worker.locality.clone(),
                probe: format!("{token:016x}-{}", worker.id),
            })
            .collect()
    })
}

fn speed(bytes: u64, micros: u64) -> u64 {
    let speed = u128::from(bytes) * 1_000_000 / u128::from(micros.max(1));
    u64::try_from(speed).unwrap_or(u64::MAX)
}

/// Asks one worker, and waits for its answer, or for the end of its stream.
async fn ask(
    office: &Office,
    one: &Asked,
    order: v1::StoreCheckOrder,
) -> Result<v1::StoreCheckDone, Fault> {
    let gone = || {
        Fault::new(
            ErrorCode::Unavailable,
            format!("worker {}, which was asked, went away", one.worker),
        )
        .hint("try again in a moment")
    };
    let mut question = office.store_checks.ask(&one.worker);
    let order = v1::StoreCheckOrder {
        question: question.id,
        ..order
    };
    let body = v1::leader_message::Body::StoreCheckOrder(order);
    if office
        .sessions
        .send(&one.worker, one.incarnation, body)
        .is_none()
    {
        return Err(gone());
    }
    loop {
        match tokio::time::timeout(GLANCE, &mut question.answer).await {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(_)) => return Err(gone()),
            Err(_) if office.sessions.is_open(&one.worker, one.incarnation) => {}
            Err(_) => return Err(gone()),
        }
    }
}
