//! External connections: stored URIs.

use holdfast_types::{
    CollectionAccess, ConnectionName, ConnectionRecord, ErrorCode, Fault, JobId, JobSpec,
};

use super::Apply;
use crate::outcome::Outcome;

/// Connections of a cluster: each is read with every snapshot.
const MAX_CONNECTIONS: usize = 10_000;
/// Bytes of one, sealed.
const MAX_BYTES: usize = 64 << 10;

impl Apply<'_> {
    pub(super) fn put_connection(
        &mut self,
        connection: &ConnectionRecord,
        alter: bool,
    ) -> Result<Outcome, Fault> {
        let name = &connection.name;
        if connection.sealed.as_bytes().len() > MAX_BYTES {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("the URI of connection {name} is longer than {MAX_BYTES} bytes"),
            ));
        }
        match (self.ledger.connections.get(name), alter) {
            (None, true) => return Err(unknown(name)),
            (Some(_), false) => {
                return Err(Fault::new(
                    ErrorCode::AlreadyExists,
                    format!("connection {name} exists already"),
                )
                .hint("choose another name, or change it with `holdfast connection alter`"));
            }
            (Some(before), true) if before.address != connection.address => {
                self.check_unused(name, "lead elsewhere")?;
            }
            (Some(_), true) => {}
            (None, false) if self.ledger.connections.len() >= MAX_CONNECTIONS => {
                return Err(Fault::new(
                    ErrorCode::ResourceExhausted,
                    format!("there are {MAX_CONNECTIONS} connections already"),
                )
                .hint("drop one that is not used any more"));
            }
            (None, false) => {}
        }
        self.ledger
            .connections
            .insert(name.clone(), connection.clone());
        Ok(Outcome::Done)
    }

    pub(super) fn drop_connection(&mut self, name: &ConnectionName) -> Result<Outcome, Fault> {
        if !self.ledger.connections.contains_key(name) {
            return Err(unknown(name));
        }
        self.check_unused(name, "be dropped")?;
        self.ledger.connections.remove(name);
        Ok(Outcome::Done)
    }

    /// Requires that all connections of a job exist: from now on they cannot be dropped.
    pub(super) fn check_connections(&self, spec: &JobSpec) -> Result<(), Fault> {
        self.check_reachable(spec.access())
    }

    /// The same of whatever else reaches a collection.
    pub(super) fn check_reachable(&self, access: &CollectionAccess) -> Result<(), Fault> {
        let mut used = access.connections.iter();
        match used.find(|name| !self.ledger.connections.contains_key(name)) {
            None => Ok(()),
            Some(name) => Err(unknown(name)),
        }
    }

    /// Requires that no unfinished job and no schedule reaches its collection through a connection.
    fn check_unused(&self, name: &ConnectionName, what: &str) -> Result<(), Fault> {
        let mut schedules = self.ledger.schedules.values();
        if let Some(schedule) = schedules.find(|it| it.template.access.connections.contains(name)) {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!(
                    "connection {name} cannot {what} while schedule {} uses it",
                    schedule.id
                ),
            )
            .hint(
                "drop the schedule, or move it; secrets of a connection may be changed at any time",
            ));
        }
        let uses = |job: &JobId| {
            let job = self.ledger.jobs.get(job);
            job.is_some_and(|job| job.spec().access().connections.contains(name))
        };
        match self.ledger.attention.iter().find(|job| uses(job)) {
            None => Ok(()),
            Some(job) => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("connection {name} cannot {what} while job {job} uses it"),
            )
            .hint("wait for that job, or cancel it; secrets of a connection may be changed at any time")),
        }
    }
}

fn unknown(name: &ConnectionName) -> Fault {
    Fault::new(
        ErrorCode::NotFound,
        format!("there is no connection {name}"),
    )
    .hint("list the connections with `holdfast connection show`")
}
