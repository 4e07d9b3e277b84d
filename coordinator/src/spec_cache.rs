//! Job specifications as they go over the wire, encoded once a job and not once a grant.

use bytes::Bytes;
use holdfast_ledger::Job;
use holdfast_proto::to_json;
use holdfast_types::JobId;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Specifications that are kept; when there are more the cache starts afresh.
const MAX_SPECS: usize = 256;

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct SpecCache(Mutex<BTreeMap<JobId, Bytes>>);

impl SpecCache {
    /// A job's specification as JSON.
    pub(crate) fn of(&self, job: &Job) -> Bytes {
        let mut specs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spec) = specs.get(&job.id()) {
            return spec.clone();
        }
        if specs.len() >= MAX_SPECS {
            specs.clear();
        }
        let spec = to_json(job.spec().as_ref());
        specs.insert(job.id(), spec.clone());
        spec
    }
}
