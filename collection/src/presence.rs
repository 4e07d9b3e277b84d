//! Whether everything that a layer is about to name is there.

use futures::TryStreamExt;
use holdfast_format::{Layer, Manifest};
use holdfast_types::{ByteCount, Digest, ErrorCode, Fault};

use crate::layout;
use crate::names::DataName;
use crate::store::{CollectionStore, damaged};
use crate::verify::{Damage, VerifyReport};

impl CollectionStore {
    /// Compares the data objects that a layer's parts name with one listing of the store: each must be there with its length. For a
    /// layer whose manifest is not written yet; the parts must be. One request per thousand objects and no byte of theirs, where
    /// looking at each would be a request each.
    ///
    /// Memory: 32 bytes for each object of the layer.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn check_presence(&self, manifest: &Manifest) -> Result<VerifyReport, Fault> {
        let directory = layout::data(&manifest.path);
        self.placements().note(manifest);
        // Of each store, for what lies in another's is not where it belongs.
        let mut stores: Vec<Vec<(DataName, u64)>> = Vec::new();
        for number in 0..=manifest.tiers.len() {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let store = self.of_store(&manifest.path, number).await?;
            let mut found = store.list_objects::<DataName>(&directory).await?;
            found.sort_unstable();
            stores.push(found);
        }
        let layer = Layer {
            manifest: manifest.clone(),
            digest: Digest::default(),
            length: ByteCount(0),
        };
        let mut report = VerifyReport::default();
        let mut entries = self.entries(&layer);
        while let Some(batch) = entries.try_next().await? {
            for entry in &batch {
                let object = &entry.object;
                let at = directory.clone().join(object.name.as_str());
                let member = manifest.members.get(usize::from(entry.member));
                let store = member.map_or(0, |member| manifest.store_of(&member.locality));
                let found = stores
                    .get(usize::from(store))
                    .map_or(&[][..], Vec::as_slice);
                let size = object.name.parse::<DataName>().ok().and_then(|name| {
                    let place = found.binary_search_by(|(other, _)| other.cmp(&name));
                    place.ok().and_then(|place| found.get(place))
                });
                let fault = match size {
                    Some((_, size)) if *size == object.length.0 => None,
                    Some((_, size)) => Some(damaged(
                        &at,
                        &format!("it has {size} bytes and should have {}", object.length.0),
                    )),
                    None => Some(Fault::new(
                        ErrorCode::NotFound,
                        format!("object {at} is missing"),
                    )),
                };
                report.objects += 1;
                report.rows += object.rows.0;
                report.damaged.extend(fault.map(|fault| Damage {
                    object: at.to_string(),
                    fault,
                }));
                if report.damaged.len() >= VerifyReport::LIMIT {
                    report.stopped = true;
                    return Ok(report);
                }
            }
        }
        Ok(report)
    }
}
