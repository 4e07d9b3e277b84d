//! Coordinators, and what the driver sees of them.

use holdfast_coordinator::{ApplyHook, Bootstrap, Coordinator, CoordinatorConfig, ViolationHook};
use holdfast_node::ClusterKey;
use holdfast_raft::{RaftConfig, RaftNode, Standing};
use holdfast_types::NodeId;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use turmoil::Sim;

use super::hosts::Host;
use crate::checks::Seen;
use crate::places::coordinator_address;
use crate::steps::Steps;

/// A coordinator's host, and the raft node of its present life.
pub(super) struct Watched {
    host: Host,
    slot: Rc<RefCell<Option<RaftNode>>>,
}

impl Watched {
    /// What it shows now; nothing while it is down or starting.
    pub(super) fn look(&self) -> Option<Seen> {
        let slot = self.slot.borrow();
        let node = slot.as_ref()?;
        let leadership = node.leadership().borrow().clone();
        Some(Seen {
            host: self.host.name().to_owned(),
            life: self.host.life(),
            leads: leadership.is_self.then_some(leadership.term),
            ledger: node.read(Clone::clone),
        })
    }

    /// Lets the handle go, if this is the host: it is about to crash.
    pub(super) fn forget(&self, host: &str) {
        if self.host.name() == host {
            self.slot.borrow_mut().take();
        }
    }
}

fn config(node: u64, key: &ClusterKey, steps: &Steps) -> CoordinatorConfig {
    let address = coordinator_address(node);
    let mut raft = RaftConfig::new(NodeId(node), "raft", address.clone());
    // Small, so that snapshots are made, sent and installed in runs of a minute.
    raft.snapshot_entries = 400;
    raft.kept_entries = 50;
    raft.cache_bytes = 4 * 1024 * 1024;
    raft.membership_timeout = Duration::from_secs(15);
    let mut config = CoordinatorConfig::new(raft, address, key.clone());
    config.bootstrap = Bootstrap::Wait;
    config.io_timeout = Duration::from_secs(10);
    config.effect_rest_most = Duration::from_secs(2);
    // The driver checks; a node's own checks would only cost time.
    config.check_invariants = false;
    config.on_violation = ViolationHook::new(|violations| panic!("ledger: {violations:?}"));
    let steps = steps.clone();
    config.on_apply = Some(ApplyHook::new(move |position, command, outcome, after| {
        steps.applied(position, command, outcome, after);
    }));
    config
}

/// Adds a coordinator's host.
pub(super) fn start(
    sim: &mut Sim<'_>,
    node: u64,
    host: &Host,
    key: &ClusterKey,
    steps: &Steps,
) -> Watched {
    let slot = Rc::new(RefCell::new(None));
    let config = config(node, key, steps);
    let (control, filled) = (host.clone(), Rc::clone(&slot));
    sim.host(host.name(), move || {
        let (control, filled, config) = (control.clone(), Rc::clone(&filled), config.clone());
        async move {
            let running = Coordinator::start(config, control.env(), control.stores()).await?;
            *filled.borrow_mut() = Some(running.raft().clone());
            let fault = running.ended().await;
            let standing = running.raft().standing().borrow().clone();
            if standing != Standing::Removed {
                return Err(fault.into());
            }
            // The process ends, as it says; whoever starts it again sees it end again.
            filled.borrow_mut().take();
            running.shutdown().await;
            Ok(())
        }
    });
    Watched {
        host: host.clone(),
        slot,
    }
}
