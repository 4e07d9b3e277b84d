//! All stores of a collection.

use holdfast_types::{Fault, LocalityStore, Tier};
use std::collections::BTreeSet;

use super::parameters::{invalid, name};
use super::{CollectionUri, StoreLocality};

/// The stores of a collection: the default one, and those of single localities. Its `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The default store first. Of a location that is only read, the others may have been moved, and need not say whose they are.
    stores: Vec<CollectionUri>,
}

impl From<CollectionUri> for Location {
    fn from(uri: CollectionUri) -> Self {
        Self { stores: vec![uri] }
    }
}

impl Location {
    /// Stores that are written: exactly one is the default, and each other is for one tier.
    ///
    /// # Errors
    /// `InvalidArgument` if one does not say whose data it takes, if none or several are the default, or if a tier or a place comes twice.
    pub fn to_write(stores: Vec<CollectionUri>) -> Result<Self, Fault> {
        if let [only] = stores.as_slice() {
            return match only.locality() {
                None | Some(StoreLocality::Default) => Ok(Self { stores }),
                Some(StoreLocality::Tier(tier)) => Err(invalid(format!(
                    "{} is {tier}, and there is no default: a collection of one store is the default itself",
                    name::LOCALITY
                ))),
            };
        }
        let (mut defaults, mut others) = (Vec::new(), Vec::new());
        let mut tiers = BTreeSet::new();
        for store in stores {
            match store.locality() {
                None => {
                    return Err(invalid(format!(
                        "{store} does not say whose data it takes: of several stores each needs {}",
                        name::LOCALITY
                    )));
                }
                Some(StoreLocality::Default) => defaults.push(store),
                Some(StoreLocality::Tier(tier)) => {
                    if !tiers.insert(tier.clone()) {
                        return Err(invalid(format!("there are two stores for {tier}")));
                    }
                    others.push(store);
                }
            }
        }
        let found = defaults.len();
        let [default] = defaults.as_slice() else {
            return Err(invalid(format!(
                "of several stores exactly one has {}=default, and here {found} have",
                name::LOCALITY
            )));
        };
        // One order, whatever the request's: stores are numbered by it.
        others.sort_by(|a, b| a.locality().cmp(&b.locality()));
        let mut all = vec![default.clone()];
        all.extend(others);
        let places: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
        if places.len() < all.len() {
            return Err(invalid(
                "two localities lead to one place: data of one would lie in the other's store"
                    .to_owned(),
            ));
        }
        Ok(Self { stores: all })
    }

    /// Stores that are read: the first is where the default part is now, and the others are in any order, wherever they were moved to.
    ///
    /// # Errors
    /// `InvalidArgument` if there is none.
    pub fn to_read(stores: Vec<CollectionUri>) -> Result<Self, Fault> {
        if stores.is_empty() {
            return Err(invalid("the collection's location is missing".to_owned()));
        }
        let is_default = |uri: &CollectionUri| uri.locality() == Some(&StoreLocality::Default);
        let mut stores = stores;
        // Whoever gives the URIs of the backup again need not mind their order.
        if let Some(at) = stores.iter().position(is_default) {
            stores[..=at].rotate_right(1);
        }
        Ok(Self { stores })
    }

    /// The default store.
    #[must_use]
    pub fn default_store(&self) -> &CollectionUri {
        // Every constructor puts one there.
        #[expect(clippy::indexing_slicing, reason = "there is always a default store")]
        &self.stores[0]
    }

    /// All stores, the default first.
    #[must_use]
    pub fn stores(&self) -> &[CollectionUri] {
        &self.stores
    }

    /// The tiers that have stores of their own, with their addresses, in the order of their numbers.
    #[must_use]
    pub fn localities(&self) -> Vec<LocalityStore> {
        let others = self.stores.iter().skip(1);
        let tiers = others.filter_map(|store| match store.locality() {
            Some(StoreLocality::Tier(tier)) => Some(LocalityStore {
                tier: tier.clone(),
                address: store.to_string(),
            }),
            Some(StoreLocality::Default) | None => None,
        });
        tiers.collect()
    }

    /// The tiers alone; empty if one of the stores does not say whose it is.
    #[must_use]
    pub fn tiers(&self) -> Vec<Tier> {
        let localities = self.localities().into_iter();
        localities.map(|store| store.tier).collect()
    }

    /// All URIs with **all secrets**, a line each, as [`Location::of_exposed`] reads them; `None` if the address of the default store says all.
    /// It is for sealing only.
    #[must_use]
    pub fn expose(&self) -> Option<String> {
        if let [only] = self.stores.as_slice()
            && only.is_address()
        {
            return None;
        }
        let lines: Vec<String> = self.stores.iter().map(CollectionUri::expose).collect();
        Some(lines.join("\n"))
    }

    /// Reads what [`Location::expose`] wrote.
    ///
    /// # Errors
    /// As reading a URI.
    pub fn of_exposed(text: &str) -> Result<Self, Fault> {
        let stores: Vec<CollectionUri> = text.lines().map(str::parse).collect::<Result<_, _>>()?;
        match stores.is_empty() {
            true => Err(invalid("the collection's location is missing".to_owned())),
            false => Ok(Self { stores }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uris(texts: &[&str]) -> Vec<CollectionUri> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn several_stores_are_one_default_and_a_tier_each() {
        let location = Location::to_write(uris(&[
            "memory://us?HOLDFAST_LOCALITY=region%3Dus",
            "memory://home?COCKROACH_LOCALITY=default",
            "memory://eu?COCKROACH_LOCALITY=region%3Deu",
        ]))
        .expect("legal");
        assert_eq!(location.default_store().to_string(), "memory://home");
        let tiers: Vec<String> = location.tiers().iter().map(ToString::to_string).collect();
        assert_eq!(tiers, ["region=eu", "region=us"]);
        let exposed = location.expose().expect("more than an address");
        assert_eq!(Location::of_exposed(&exposed).expect("legible"), location);
        for (texts, why) in [
            (
                &["memory://a?HOLDFAST_LOCALITY=region%3Deu"][..],
                "no default",
            ),
            (
                &["memory://a", "memory://b?HOLDFAST_LOCALITY=default"],
                "does not say",
            ),
            (
                &[
                    "memory://a?HOLDFAST_LOCALITY=a%3Db",
                    "memory://b?HOLDFAST_LOCALITY=c%3Dd",
                ],
                "here 0 have",
            ),
            (
                &[
                    "memory://a?HOLDFAST_LOCALITY=default",
                    "memory://b?HOLDFAST_LOCALITY=default",
                ],
                "here 2 have",
            ),
            (
                &[
                    "memory://a?HOLDFAST_LOCALITY=default",
                    "memory://b?HOLDFAST_LOCALITY=c%3Dd",
                    "memory://c?HOLDFAST_LOCALITY=c%3Dd",
                ],
                "two stores for c=d",
            ),
            (
                &[
                    "memory://a?HOLDFAST_LOCALITY=default",
                    "memory://a?HOLDFAST_LOCALITY=c%3Dd",
                ],
                "lead to one place",
            ),
        ] {
            let fault = Location::to_write(uris(texts)).expect_err(why);
            assert!(fault.message.contains(why), "{fault}");
        }
    }

    #[test]
    fn stores_that_are_read_come_in_any_order_but_the_default_first() {
        let read = |texts: &[&str]| Location::to_read(uris(texts)).expect("legal");
        let plain = read(&["memory://new", "memory://moved"]);
        assert_eq!(plain.default_store().to_string(), "memory://new");
        let said = read(&[
            "memory://eu?HOLDFAST_LOCALITY=region%3Deu",
            "memory://home?HOLDFAST_LOCALITY=default",
        ]);
        assert_eq!(said.default_store().to_string(), "memory://home");
        assert_eq!(said.stores().len(), 2);
        assert!(Location::to_read(Vec::new()).is_err());
    }

    #[test]
    fn an_address_needs_no_sealing() {
        let location = |text: &str| Location::from(text.parse::<CollectionUri>().expect(text));
        assert_eq!(location("file:///x").expose(), None);
        assert_eq!(
            location("s3://b?AWS_ENDPOINT=http%3A%2F%2Fh").expose(),
            None
        );
        assert!(location("s3://b?AUTH=implicit").expose().is_some());
    }
}
