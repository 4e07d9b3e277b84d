//! How a worker is taken on, or turned away.

use holdfast_ledger::{Action, Outcome};
use holdfast_proto::{Lease, cluster_from_wire, v1};
use holdfast_types::{ErrorCode, Fault, Incarnation, Locality, WorkerId};
use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::Core;
use crate::office::{InOffice, Office};

/// Tasks that a worker may take at once.
const MAX_SLOTS: u32 = 1024;
/// Leases that a worker may say it holds: its slots, and as many that it is about to give back.
const MAX_HELD: usize = 2 * MAX_SLOTS as usize;
/// The longest version text.
const MAX_VERSION: usize = 128;
/// How often it is looked whether the other holder of an id still speaks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// What was under way from a process that died may arrive this much later; only what comes after that shows that it lives.
const SETTLE: Duration = Duration::from_millis(500);

/// Why a worker is not taken on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// This node does not lead, or is not sure of it.
    NotLeader,
    /// The worker cannot take part, now or ever.
    Dismissed(Fault),
}

/// A worker as it announced itself.
#[derive(Debug, Clone)]
pub(super) struct Announced {
    pub(super) worker: WorkerId,
    pub(super) incarnation: Incarnation,
    pub(super) held: BTreeSet<Lease>,
    locality: Locality,
    slots: u32,
    version: String,
}

/// Checks what can be checked without looking at the state.
pub(super) fn read_hello(hello: v1::Hello) -> Result<Announced, Fault> {
    let invalid = |text: String| Fault::new(ErrorCode::InvalidArgument, text);
    let worker: WorkerId = hello.worker.parse()?;
    let locality = hello
        .locality
        .parse()
        .map_err(|error| invalid(format!("worker {worker}: {error}")))?;
    if !(1..=MAX_SLOTS).contains(&hello.slots) {
        return Err(invalid(format!(
            "worker {worker} offers {} slots; 1 to {MAX_SLOTS} are possible",
            hello.slots
        )));
    }
    if hello.held.len() > MAX_HELD || hello.version.len() > MAX_VERSION {
        return Err(invalid(format!(
            "worker {worker} announces itself beyond the limits"
        )));
    }
    Ok(Announced {
        worker,
        incarnation: Incarnation(hello.incarnation),
        held: hello.held.iter().map(Lease::from).collect(),
        locality,
        slots: hello.slots,
        version: hello.version,
    })
}

/// Takes a worker on: it is registered when this returns.
pub(super) async fn greet(core: &Core, hello: v1::Hello) -> Result<(InOffice, Announced), Refusal> {
    let cluster = cluster_from_wire(&hello.cluster_id).map_err(Refusal::Dismissed)?;
    let key_check = hello.key_check.clone();
    let announced = read_hello(hello).map_err(Refusal::Dismissed)?;
    let present = core.desk.present().ok_or(Refusal::NotLeader)?;
    if !core.replica.leads_for_sure() {
        return Err(Refusal::NotLeader);
    }
    let own = core.replica.read(|ledger| ledger.cluster());
    if let (Some(theirs), Some(own)) = (cluster, own)
        && theirs != own
    {
        return Err(Refusal::Dismissed(
            Fault::new(
                ErrorCode::WrongCluster,
                format!(
                    "worker {} belongs to cluster {theirs}, and this is cluster {own}",
                    announced.worker
                ),
            )
            .hint("point the worker at the coordinators of its own cluster"),
        ));
    }
    if !key_check.is_empty() && key_check != core.config.cluster_key.check_value() {
        return Err(other_key(core, &announced.worker, cluster.is_some()));
    }
    make_room(core, &present.office, &announced).await?;
    register(core, &announced).await?;
    Ok((present, announced))
}

/// Sees to it that no other process is registered under the worker's id: ends the registration of one that is gone, refuses
/// the newcomer if the other one lives.
async fn make_room(core: &Core, office: &Office, newcomer: &Announced) -> Result<(), Refusal> {
    let worker = &newcomer.worker;
    let clock = &core.env.clock;
    let came = clock.monotonic();
    let mut seen_here = false;
    loop {
        let registered = core
            .replica
            .read(|ledger| ledger.worker(worker).map(|record| record.incarnation));
        let other = match registered {
            Some(other) if other != newcomer.incarnation => other,
            Some(_) | None => return Ok(()),
        };
        if office.over.is_cancelled() {
            return Err(Refusal::NotLeader);
        }
        let now = clock.monotonic();
        let heard = office.sessions.last_heard(worker, other);
        if heard.is_some_and(|heard| heard > came + SETTLE) {
            return Err(Refusal::Dismissed(duplicate(worker)));
        }
        seen_here |= heard.is_some();
        // A process whose stream has ended and whose name another one bears is dead; one that has not come to this leader yet is given
        // its time.
        let gone = seen_here && !office.sessions.is_open(worker, other);
        let silent = now.saturating_sub(heard.unwrap_or(office.began)) > core.fence();
        if gone || silent {
            let action = Action::ExpireWorker {
                worker: worker.clone(),
                incarnation: other,
                clean: false,
            };
            core.replica
                .propose(action)
                .await
                .map_err(refused_by_raft)?;
            office.sessions.cut(worker, other);
            office.sessions.forget(worker, other);
            continue;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// A bound that was sealed with another key cannot be opened, and fails its job: no work for such a worker. If the worker was taken on
/// before, though, it is this node whose key is wrong, and the worker is not sent away for that.
fn other_key(core: &Core, worker: &WorkerId, is_known: bool) -> Refusal {
    let node = core.config.raft.node;
    let file = match core.config.cluster_key.origin() {
        "" => String::new(),
        path => format!(" (key file {path})"),
    };
    let fault = Fault::new(
        ErrorCode::WrongCluster,
        format!("worker {worker} and coordinator {node}{file} have different cluster keys"),
    )
    .hint("copy the key file of a coordinator, and start the worker with it (--key-file)");
    if is_known {
        tracing::error!(%worker, %fault, "a worker of this cluster has another key");
        Refusal::NotLeader
    } else {
        Refusal::Dismissed(fault)
    }
}

fn duplicate(worker: &WorkerId) -> Fault {
    Fault::new(
        ErrorCode::AlreadyExists,
        format!("another process is registered as worker {worker}, and is alive"),
    )
    .hint("give every worker process its own id (--worker-id)")
}

async fn register(core: &Core, announced: &Announced) -> Result<(), Refusal> {
    let action = Action::RegisterWorker {
        worker: announced.worker.clone(),
        incarnation: announced.incarnation,
        locality: announced.locality.clone(),
        slots: announced.slots,
        version: announced.version.clone(),
    };
    match core.replica.propose(action).await {
        Ok(Outcome::Refused(fault)) => Err(Refusal::Dismissed(fault)),
        Ok(_) => Ok(()),
        Err(fault) => Err(refused_by_raft(fault)),
    }
}

/// A worker that could not be registered may come again; only where it should look differs.
fn refused_by_raft(fault: Fault) -> Refusal {
    if fault.code == ErrorCode::NoLeader {
        Refusal::NotLeader
    } else {
        Refusal::Dismissed(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> v1::Hello {
        v1::Hello {
            worker: "w1".into(),
            incarnation: 1,
            locality: "region=eu".into(),
            slots: 4,
            ..v1::Hello::default()
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        assert!(read_hello(hello()).is_ok());
        type Damage = fn(&mut v1::Hello);
        let cases: [(Damage, &str); 5] = [
            (|hello| hello.worker = "../w".into(), "worker \"../w\""),
            (|hello| hello.worker = String::new(), "not a legal name"),
            (|hello| hello.locality = "eu".into(), "key=value"),
            (|hello| hello.slots = 0, "0 slots"),
            (|hello| hello.slots = 100_000, "100000 slots"),
        ];
        for (damage, text) in cases {
            let mut hello = hello();
            damage(&mut hello);
            let fault = read_hello(hello).expect_err(text);
            assert!(fault.message.contains(text), "{fault}");
        }
    }
}
