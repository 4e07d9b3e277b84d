//! Collections with several stores: which of them holds what of a layer.
//!
//! Data of a member goes to the store of its most specific tier that has one, and nowhere else. In each such store a layer has a description, put
//! before any data, which says whose part this is. By it a part is found again wherever it was moved to, all parts in one place included.

use bytes::Bytes;
use holdfast_format::Manifest;
use holdfast_types::mutant::{self, Promise};
use holdfast_types::{ClusterId, Digest, ErrorCode, Fault, JobId, LayerPath, Locality, Tier};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

use crate::claim::Claim;
use crate::layout;
use crate::store::CollectionStore;

/// The first line of a description.
const HEAD: &str = "holdfast-part 1";

/// What a store holds of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Description {
    cluster: ClusterId,
    job: JobId,
    path: String,
    tier: Tier,
}

impl Description {
    fn encode(&self) -> String {
        let text = format!(
            "{HEAD}\ncluster {}\njob {}\npath {}\ntier {}\n",
            self.cluster, self.job, self.path, self.tier
        );
        let digest = Digest::of(text.as_bytes());
        format!("{text}digest {digest}\n")
    }

    /// The error for a description of somebody else's.
    fn taken(&self, store: &CollectionStore) -> Fault {
        Fault::new(
            ErrorCode::FailedPrecondition,
            format!(
                "{} holds the part {} of another layer in {} already",
                store.store_uri(),
                self.tier,
                self.path
            ),
        )
        .hint(
            "two collections never share a store of a locality: give each a path of its own in it",
        )
    }
}

/// The layers that were read, as far as they have parts in several stores. Shared by all handles of a collection.
#[derive(Debug, Default)]
pub(crate) struct Placements(Mutex<BTreeMap<LayerPath, Arc<Placement>>>);

/// One layer's parts.
#[derive(Debug)]
struct Placement {
    /// What the descriptions must say, by the number of the store from 1.
    expected: Vec<Description>,
    /// The number of each member's store.
    members: Vec<u16>,
    /// Where the parts were found: the place of each number from 1 among the stores that were given.
    found: OnceCell<Vec<usize>>,
}

impl Placements {
    /// Takes note of a layer's manifest.
    pub(crate) fn note(&self, manifest: &Manifest) {
        if manifest.tiers.is_empty() {
            return;
        }
        let describe = |tier: &Tier| Description {
            cluster: manifest.cluster,
            job: manifest.job,
            path: manifest.path.to_string(),
            tier: tier.clone(),
        };
        let members = manifest.members.iter();
        let placement = Placement {
            expected: manifest.tiers.iter().map(describe).collect(),
            members: members
                .map(|member| manifest.store_of(&member.locality))
                .collect(),
            found: OnceCell::new(),
        };
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted
            .entry(manifest.path.clone())
            .or_insert_with(|| Arc::new(placement));
    }

    fn of(&self, path: &LayerPath) -> Option<Arc<Placement>> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get(path).map(Arc::clone)
    }
}

impl CollectionStore {
    /// A handle that puts the data of a place where it belongs: into the store of its most specific tier that has one, otherwise into the
    /// default store.
    ///
    /// # Errors
    /// `Internal` if the collection was opened without saying whose data its stores take.
    pub fn for_locality(&self, place: &Locality) -> Result<Self, Fault> {
        let tiers = self.location().tiers();
        if tiers.len() + 1 != self.stores() {
            return Err(Fault::new(
                ErrorCode::Internal,
                format!("{} was opened for reading only", self.uri()),
            ));
        }
        let found = place
            .most_specific(tiers.iter())
            .filter(|_| !mutant::is_broken(Promise::DataStaysAtHome));
        self.numbered(found.map_or(0, |at| at + 1))
    }

    /// A handle that gets the data of a member of a layer from where it is. The layer's manifest must have been read through this collection.
    ///
    /// # Errors
    /// `NotFound` if its part is in none of the stores that the collection was opened with.
    pub async fn of_member(&self, path: &LayerPath, member: u16) -> Result<Self, Fault> {
        let Some(placement) = self.placements().of(path) else {
            return Ok(self.home());
        };
        let number = placement.members.get(usize::from(member)).copied();
        self.of_store(path, number.unwrap_or(0)).await
    }

    /// A handle of the store, by its number in the layer's manifest.
    pub(crate) async fn of_store(&self, path: &LayerPath, number: u16) -> Result<Self, Fault> {
        let Some(at) = usize::from(number).checked_sub(1) else {
            return Ok(self.home());
        };
        let Some(placement) = self.placements().of(path) else {
            return self.numbered(at + 1);
        };
        let find = || self.find_parts(path, &placement.expected);
        let found = placement.found.get_or_try_init(find).await?;
        let place = found.get(at).copied().ok_or_else(|| {
            Fault::new(
                ErrorCode::Corrupted,
                format!("layer {path} has no store number {number}"),
            )
        })?;
        self.numbered(place)
    }

    /// Where each part of a layer is: it is looked for where it was when it was written, and then everywhere.
    async fn find_parts(
        &self,
        path: &LayerPath,
        expected: &[Description],
    ) -> Result<Vec<usize>, Fault> {
        let mut found = Vec::new();
        for (number, description) in (1..).zip(expected) {
            let others = (0..self.stores()).filter(|place| *place != number);
            let here = (number < self.stores()).then_some(number);
            let mut place = None;
            for at in here.into_iter().chain(others) {
                if self.describes(path, number, description, at).await? {
                    place = Some(at);
                    break;
                }
            }
            found.push(place.ok_or_else(|| {
                Fault::new(
                    ErrorCode::NotFound,
                    format!(
                        "the part {} of layer {path} was not found in the {} given backup locations",
                        description.tier,
                        self.stores()
                    ),
                )
                .hint("give the URIs of all the collection's stores, that of the default part first")
            })?);
        }
        Ok(found)
    }

    /// Whether a store holds this part of a layer.
    async fn describes(
        &self,
        path: &LayerPath,
        number: usize,
        description: &Description,
        at: usize,
    ) -> Result<bool, Fault> {
        let key = layout::descriptor(path, number, &description.tier);
        match self.numbered(at)?.get_small(&key).await {
            Ok(bytes) => Ok(bytes == description.encode().as_bytes()),
            Err(fault) if fault.code == ErrorCode::NotFound => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Puts the description of a layer's part into each store but the default one, where its claim is.
    pub(crate) async fn describe_places(
        &self,
        path: &LayerPath,
        claim: Claim,
    ) -> Result<(), Fault> {
        for (number, tier) in (1..).zip(self.location().tiers()) {
            let description = Description {
                cluster: claim.cluster,
                job: claim.job,
                path: path.to_string(),
                tier,
            };
            let store = self.numbered(number)?;
            let key = layout::descriptor(path, number, &description.tier);
            let body = vec![Bytes::from(description.encode())];
            match store.put_once(&key, body).await {
                Ok(_) => {}
                Err(fault) if fault.code == ErrorCode::AlreadyExists => {
                    return Err(description.taken(&store));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Removes the descriptions of a layer that did not come to be, if they are this claim's. Returns how many there were, and their bytes.
    pub(crate) async fn remove_descriptions(
        &self,
        path: &LayerPath,
        claim: Claim,
    ) -> Result<(u64, u64), Fault> {
        let (mut objects, mut bytes) = (0, 0);
        for (number, tier) in (1..).zip(self.location().tiers()) {
            let description = Description {
                cluster: claim.cluster,
                job: claim.job,
                path: path.to_string(),
                tier,
            };
            if self.describes(path, number, &description, number).await? {
                let key = layout::descriptor(path, number, &description.tier);
                self.numbered(number)?.remove(&key).await?;
                objects += 1;
                bytes += description.encode().len() as u64;
            }
        }
        Ok((objects, bytes))
    }
}
