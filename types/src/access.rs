//! How the stores of a collection are reached, as the ledger holds it: what is shown in clear, and the rest sealed.

use serde::{Deserialize, Serialize};

use crate::ids::ConnectionName;
use crate::locality::{Locality, Tier};
use crate::seal::Sealed;
use crate::time::Timestamp;

/// A store that takes the data of one locality.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalityStore {
    /// The tier that it is for.
    pub tier: Tier,
    /// Its address, without secrets.
    pub address: String,
}

/// How a collection is reached, besides by the address of its default store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CollectionAccess {
    /// Stores of single localities: the default store is number 0, and these are numbered from 1.
    #[serde(default)]
    pub localities: Vec<LocalityStore>,
    /// External connections that the URIs lead through. They can be altered, so that secrets are renewed; to another place only while no job
    /// uses them.
    #[serde(default)]
    pub connections: Vec<ConnectionName>,
    /// All URIs as they were given, with parameters and secrets, a line each: sealed for the address of the default store. `None` if the
    /// addresses say all.
    #[serde(default)]
    pub sealed: Option<Sealed>,
}

impl CollectionAccess {
    /// The number of the store that takes the data of a place: of its most specific tier that has one, otherwise the default.
    #[must_use]
    pub fn store_of(&self, place: &Locality) -> u16 {
        let tiers = self.localities.iter().map(|store| &store.tier);
        let found = place.most_specific(tiers).map(|at| at.saturating_add(1));
        found.and_then(|at| u16::try_from(at).ok()).unwrap_or(0)
    }

    /// The tiers that have stores, in the order of their numbers.
    #[must_use]
    pub fn tiers(&self) -> Vec<Tier> {
        let stores = self.localities.iter();
        stores.map(|store| store.tier.clone()).collect()
    }
}

/// A stored URI that others are built on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// Its name, unique in the cluster.
    pub name: ConnectionName,
    /// Where it leads, without parameters that do not say where.
    pub address: String,
    /// The URI with all its parameters, the values of secret ones redacted.
    pub shown: String,
    /// The URI as it was given, sealed for its name.
    pub sealed: Sealed,
    /// When it was made or last altered.
    pub changed_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_store_of_its_own_goes_to_the_default() {
        let store = |tier: &str| LocalityStore {
            tier: tier.parse().expect("a tier"),
            address: format!("memory://{tier}"),
        };
        let access = CollectionAccess {
            localities: vec![store("region=eu"), store("zone=b")],
            ..CollectionAccess::default()
        };
        let of = |place: &str| access.store_of(&place.parse().expect("a locality"));
        assert_eq!(of("region=eu,zone=b"), 2);
        assert_eq!(of("region=eu,zone=a"), 1);
        assert_eq!(of("region=us"), 0);
        assert_eq!(
            CollectionAccess::default().store_of(&Locality::default()),
            0
        );
    }
}
