//! The operator who changes the coordinators while jobs run: adds, replaces and removes them, one at a time, and asks again when it is not known
//! what became of a change.

use holdfast_client::{ControlApi, GrpcClient, v1};
use holdfast_types::Fault;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

use crate::config::Config;
use crate::oracle::judge;
use crate::outcome::Failure;
use crate::places::coordinator_address;
use crate::stage::{Progress, Stage};
use crate::trace;

/// Between two changes, in milliseconds.
const PAUSE: std::ops::RangeInclusive<u64> = 2_000..=9_000;
/// Coordinators that are left at the least.
const FEWEST: usize = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Registrar {
    client: GrpcClient,
    config: Config,
    progress: Progress,
    rng: StdRng,
}

impl Registrar {
    /// With a client of all coordinators, those that wait to be added too.
    pub(crate) fn new(client: GrpcClient, config: Config, progress: Progress, seed: u64) -> Self {
        Self {
            client,
            config,
            progress,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Works until the faults end.
    pub(crate) async fn work(mut self) -> Result<(), Failure> {
        // The next that was never a member; an id is used once.
        let mut next = self.config.coordinators + 1;
        let last = self.config.coordinators + self.config.spares;
        while self.progress.stage() == Stage::Chaos {
            let pause = self.rng.random_range(PAUSE);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            match self.change(&mut next, last).await {
                Ok(()) => {}
                Err(fault) => {
                    judge(&fault)?;
                    trace::event("user", format_args!("registrar: {fault}"));
                }
            }
        }
        Ok(())
    }

    async fn change(&mut self, next: &mut u64, last: u64) -> Result<(), Fault> {
        let status = self.client.cluster_status().await?;
        let members: Vec<u64> = status.coordinators.iter().map(|it| it.node).collect();
        if members.contains(next) {
            // The answer to an earlier request was lost, or it went only half of the way.
            let voter = |it: &v1::Coordinator| it.node == *next && it.voter;
            if status.coordinators.iter().any(voter) {
                *next += 1;
            }
        }
        // A spare that was never added, or not yet told so, knows of no members: what it says is no ground for a change.
        let Some(&any) = members.choose(&mut self.rng) else {
            return Ok(());
        };
        if *next <= last {
            let request = v1::AddMemberRequest {
                node: *next,
                address: coordinator_address(*next),
                replace: match self.rng.random_bool(0.6) {
                    true => any,
                    false => 0,
                },
            };
            let mark = match request.replace {
                0 => "coordinators added",
                _ => "coordinators replaced",
            };
            trace::event("user", format_args!("registrar: {request:?}"));
            self.client.add_member(request).await?;
            *next += 1;
            self.progress.mark(mark);
        } else if members.len() > FEWEST {
            trace::event("user", format_args!("registrar: remove {any}"));
            self.client.remove_member(any).await?;
            self.progress.mark("coordinators removed");
        }
        Ok(())
    }
}
