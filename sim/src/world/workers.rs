//! Workers, two in each region.

use holdfast_node::ClusterKey;
use holdfast_worker::{Worker, WorkerConfig};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use turmoil::Sim;

use super::hosts::Host;
use crate::model::{ModelFactory, ModelServer};
use crate::places::{coordinator_addresses, locality};
use crate::trace;

/// Tasks that a worker takes at once.
const SLOTS: u32 = 2;

/// Until a worker that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Adds a worker's host.
pub(super) fn start(
    sim: &mut Sim<'_>,
    (region, zone): (&str, &str),
    host: &Host,
    key: &ClusterKey,
    coordinators: u64,
    servers: &BTreeMap<String, ModelServer>,
) {
    let id = host.name().parse().expect("a host's name is a worker's");
    let mut config = WorkerConfig::new(id, coordinator_addresses(coordinators), key.clone());
    config.locality = locality(&format!("region={region},zone={zone}"));
    config.slots = SLOTS;
    let (control, servers) = (host.clone(), servers.clone());
    sim.host(host.name(), move || {
        let control = control.clone();
        let (config, servers) = (config.clone(), servers.clone());
        async move {
            loop {
                let env = control.env();
                let factory = Arc::new(ModelFactory::new(
                    env.clone(),
                    servers.clone(),
                    control.mutant(),
                ));
                let worker = Worker::start(config.clone(), env, factory, control.stores())?;
                if let Err(fault) = worker.ended().await {
                    trace::event(control.name(), format_args!("worker ended: {fault}"));
                }
                // Whoever runs the process starts it again.
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        }
    });
}
