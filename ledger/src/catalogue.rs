//! The layers that this cluster has written. The truth is in the collections; this is what the cluster knows by itself.

use std::collections::BTreeMap;

use holdfast_types::{
    ByteCount, Digest, Hlc, JobId, LayerPath, ParentLayer, RowCount, SourceName, Target, Timestamp,
};
use serde::{Deserialize, Serialize};

/// A committed layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The collection's URI.
    pub collection: String,
    /// Its place in the collection.
    pub path: LayerPath,
    /// The layer that it continues; `None` for a full.
    pub parent: Option<ParentLayer>,
    /// The source that it holds.
    pub source: SourceName,
    /// What of it.
    pub target: Target,
    /// How many stores it is spread over.
    pub stores: u16,
    /// Exclusive start: the parent's end; `None` for a full.
    pub start: Option<Hlc>,
    /// Inclusive end.
    pub end: Hlc,
    /// Whether every version in the window is kept.
    pub history: bool,
    /// Whether its members keep their history from its end on, as far as only its job could tell: without, no incremental can follow.
    pub keeps_history: bool,
    /// The job that wrote it.
    pub job: JobId,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Length of its manifest.
    pub manifest_length: ByteCount,
    /// Rows (versions) in its objects.
    pub rows: RowCount,
    /// Bytes of keys and values before compression.
    pub logical: ByteCount,
    /// Stored bytes of its objects.
    pub stored: ByteCount,
    /// Its objects.
    pub objects: u64,
    /// When it was committed.
    pub committed_at: Timestamp,
}

/// All layers, by collection and path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalogue {
    collections: BTreeMap<String, BTreeMap<LayerPath, LayerRecord>>,
}

impl Catalogue {
    /// Every layer.
    pub fn iter(&self) -> impl Iterator<Item = &LayerRecord> {
        self.collections.values().flat_map(BTreeMap::values)
    }

    /// The collections that hold a layer.
    pub fn collections(&self) -> impl Iterator<Item = &str> {
        self.collections.keys().map(String::as_str)
    }

    /// The layers of a collection, by path.
    pub fn of_collection(&self, collection: &str) -> impl Iterator<Item = &LayerRecord> {
        self.collections
            .get(collection)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// The layer at a path.
    #[must_use]
    pub fn layer(&self, collection: &str, path: &LayerPath) -> Option<&LayerRecord> {
        self.collections.get(collection)?.get(path)
    }

    /// The known layers of the chain headed by the full in `subdir`, oldest first.
    #[must_use]
    pub fn chain(&self, collection: &str, subdir: &str) -> Vec<&LayerRecord> {
        let Some(layers) = self.collections.get(collection) else {
            return Vec::new();
        };
        let mut chain: Vec<_> = layers
            .range(LayerPath::full(subdir)..)
            .take_while(|(path, _)| path.full == subdir)
            .map(|(_, layer)| layer)
            .collect();
        chain.sort_by_key(|layer| layer.end);
        chain
    }

    /// The newest known layer of a chain.
    #[must_use]
    pub fn newest(&self, collection: &str, subdir: &str) -> Option<&LayerRecord> {
        self.chain(collection, subdir).pop()
    }

    /// Forgets the layers of a chain, and gives the jobs that wrote them.
    pub(crate) fn remove_chain(&mut self, collection: &str, subdir: &str) -> Vec<JobId> {
        let Some(layers) = self.collections.get_mut(collection) else {
            return Vec::new();
        };
        let mut jobs = Vec::new();
        layers.retain(|path, layer| {
            let stays = path.full != subdir;
            if !stays {
                jobs.push(layer.job);
            }
            stays
        });
        if layers.is_empty() {
            self.collections.remove(collection);
        }
        jobs
    }

    /// Takes a layer in; one that is there already stays as it is.
    pub(crate) fn insert(&mut self, layer: LayerRecord) {
        self.collections
            .entry(layer.collection.clone())
            .or_default()
            .entry(layer.path.clone())
            .or_insert(layer);
    }
}
