//! Job specifications as they go over the wire, encoded once a job and not once a grant.

use bytes::Bytes;
use holdfast_ledger::{Job, Ledger};
use holdfast_node::ClusterKey;
use holdfast_proto::to_json;
use holdfast_types::{Fault, JobId, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::location::for_worker;

/// Specifications that are kept; when there are more the cache starts afresh.
const MAX_SPECS: usize = 256;

/// A specification, and when the connections in it were changed last.
type Cached = (Bytes, Vec<Timestamp>);

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct SpecCache(Mutex<BTreeMap<JobId, Cached>>);

impl SpecCache {
    /// A job's specification as JSON, with the secrets that its connections have now.
    ///
    /// # Errors
    /// A connection does not open with the cluster key.
    pub(crate) fn of(&self, ledger: &Ledger, key: &ClusterKey, job: &Job) -> Result<Bytes, Fault> {
        let used = job.spec().access().connections.iter();
        let changed: Vec<Timestamp> = used
            .filter_map(|name| ledger.connection(name))
            .map(|connection| connection.changed_at)
            .collect();
        let mut specs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((spec, as_of)) = specs.get(&job.id())
            && *as_of == changed
        {
            return Ok(spec.clone());
        }
        if specs.len() >= MAX_SPECS {
            specs.clear();
        }
        let spec = to_json(&for_worker(ledger, key, job.spec())?);
        specs.insert(job.id(), (spec.clone(), changed));
        Ok(spec)
    }
}
