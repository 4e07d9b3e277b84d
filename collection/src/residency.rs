//! Which bytes of a layer lie in which store.

use futures::TryStreamExt;
use holdfast_format::Layer;
use holdfast_types::{Fault, Locality, MemberName, Tier};
use std::collections::BTreeMap;

use crate::layout;
use crate::names::{DataName, PartName};
use crate::store::CollectionStore;

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What one store holds of a layer or a chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreHoldings {
    /// Data objects and file lists.
    pub all: Amount,
    /// Data objects of each member, with the member's locality.
    pub members: BTreeMap<MemberName, (Locality, Amount)>,
    /// The tiers whose parts it holds; none if it only holds the default part.
    pub tiers: Vec<Tier>,
}

/// Which bytes lie where, and what is wrong with that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResidencyReport {
    /// What each store holds, in the order in which they were given.
    pub stores: Vec<StoreHoldings>,
    /// What lies where it should not, or is missing where it should be, up to [`ResidencyReport::LIMIT`].
    pub violations: Vec<String>,
    /// How many there are.
    pub violations_total: u64,
}

impl ResidencyReport {
    /// Violations that are named; all are counted.
    pub const LIMIT: usize = 10;

    fn violation(&mut self, what: impl FnOnce() -> String) {
        self.violations_total += 1;
        if self.violations.len() < Self::LIMIT {
            self.violations.push(what());
        }
    }
}

impl CollectionStore {
    /// Lists what of a layer lies in each store, and adds it to a report: every object that the layer names must be in the store of its
    /// member's locality, and in no other; and nothing of a layer's data may be anywhere else. Parts that were all moved into one place are all
    /// at home there.
    ///
    /// # Errors
    /// What a store failed with, or that a part of the layer is nowhere.
    pub async fn check_residency(
        &self,
        layer: &Layer,
        report: &mut ResidencyReport,
    ) -> Result<(), Fault> {
        let manifest = &layer.manifest;
        self.placements().note(manifest);
        report
            .stores
            .resize_with(self.stores(), StoreHoldings::default);
        // Where each store of the layer is now, by its number in the manifest.
        let mut places = Vec::new();
        for number in 0..=manifest.tiers.len() {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            places.push(self.of_store(&manifest.path, number).await?.number());
        }
        for (tier, place) in manifest.tiers.iter().zip(places.iter().skip(1)) {
            if let Some(store) = report.stores.get_mut(*place)
                && *place != 0
                && !store.tiers.contains(tier)
            {
                store.tiers.push(tier.clone());
            }
        }
        let mut expected: BTreeMap<DataName, (usize, usize)> = BTreeMap::new();
        let mut entries = self.entries(layer);
        while let Some(batch) = entries.try_next().await? {
            for entry in batch {
                let at = usize::from(entry.member);
                let member = manifest.members.get(at);
                let number = member.map_or(0, |member| manifest.store_of(&member.locality));
                let place = places.get(usize::from(number)).copied().unwrap_or(0);
                if let Ok(name) = entry.object.name.parse() {
                    expected.insert(name, (place, at));
                }
            }
        }
        let parts: BTreeMap<PartName, usize> = manifest
            .parts
            .iter()
            .filter_map(|part| {
                let place = places.get(usize::from(part.store)).copied();
                Some((part.name.parse().ok()?, place?))
            })
            .collect();
        let mut found: BTreeMap<DataName, u64> = BTreeMap::new();
        for place in 0..self.stores() {
            let store = self.numbered(place)?;
            let directory = layout::data(&manifest.path);
            for (name, bytes) in store.list_objects::<DataName>(&directory).await? {
                self.found_data(layer, (name, bytes), place, &expected, report);
                if expected.get(&name).is_some_and(|(at, _)| *at == place) {
                    found.insert(name, bytes);
                }
            }
            let directory = layout::parts(&manifest.path);
            for (name, bytes) in store.list_objects::<PartName>(&directory).await? {
                if let Some(store) = report.stores.get_mut(place) {
                    store.all.add(bytes);
                }
                if parts.get(&name).is_none_or(|at| *at != place) {
                    report.violation(|| {
                        format!(
                            "the file list {}/parts/{name} lies in {}, where it does not belong",
                            manifest.path,
                            store.store_uri()
                        )
                    });
                }
            }
        }
        for (name, _) in expected
            .iter()
            .filter(|(name, _)| !found.contains_key(name))
        {
            report.violation(|| {
                format!(
                    "{}/data/{name} is not in the store where it belongs",
                    manifest.path
                )
            });
        }
        Ok(())
    }

    fn found_data(
        &self,
        layer: &Layer,
        (name, bytes): (DataName, u64),
        place: usize,
        expected: &BTreeMap<DataName, (usize, usize)>,
        report: &mut ResidencyReport,
    ) {
        let manifest = &layer.manifest;
        let Some(store) = report.stores.get_mut(place) else {
            return;
        };
        store.all.add(bytes);
        let known = expected.get(&name);
        if let Some(member) = known.and_then(|(_, at)| manifest.members.get(*at)) {
            let (_, amount) = store
                .members
                .entry(member.name.clone())
                .or_insert_with(|| (member.locality.clone(), Amount::default()));
            amount.add(bytes);
        }
        match known {
            Some((at, _)) if *at == place => {}
            // In a collection of one store it can be in the wrong one no more.
            None if manifest.tiers.is_empty() => {}
            _ => {
                let uri = self
                    .numbered(place)
                    .map(|store| store.store_uri().to_string());
                report.violation(|| {
                    let why = match known {
                        Some(_) => "of a member whose data belongs elsewhere",
                        None => "which the layer does not name, so that nobody can say whose it is",
                    };
                    format!(
                        "{}/data/{name} lies in {}: an object {why}",
                        manifest.path,
                        uri.unwrap_or_default()
                    )
                });
            }
        }
    }
}
