//! Which objects a member's part of a layer consists of.

use bytes::Bytes;
use futures::StreamExt;
use holdfast_types::{ErrorCode, Fault, LayerPath, MemberName, ObjectKind, ObjectRef, RelationId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Mutex;

use crate::bounds::CACHED_ENTRIES;
use crate::task::layers::JobLayers;

/// The objects of a member in a layer, by relation, in the order of their ranges.
#[derive(Debug, Default)]
struct Objects {
    by_relation: BTreeMap<RelationId, Vec<ObjectRef>>,
    /// Where each of them is.
    by_name: BTreeMap<String, (RelationId, usize)>,
}

#[derive(Debug, Clone)]
enum Listing {
    Whole(Arc<Objects>),
    /// There are more than are kept: each question reads the file list anew.
    Long,
}

#[derive(Debug, Default)]
struct Cached {
    listings: BTreeMap<(usize, u16), Listing>,
    catalogs: BTreeMap<(usize, u16), Vec<Bytes>>,
    /// First and last keys of objects of row versions, by layer and name.
    keys: BTreeMap<(usize, String), Option<(Bytes, Bytes)>>,
}

/// What was read of the file lists of a job's layers, and the catalogs in them.
#[derive(Debug, Default)]
pub(in crate::task) struct Listings(Mutex<Cached>);

/// A member in one of the job's layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) layer: usize,
    pub(super) member: u16,
}

impl Objects {
    fn find(&self, name: &str) -> Result<ObjectRef, Fault> {
        let at = self.by_name.get(name);
        let found = at.and_then(|(relation, at)| self.by_relation.get(relation)?.get(*at));
        found.cloned().ok_or_else(|| not_listed(name))
    }
}

fn not_listed(name: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("a catalog speaks of object {name}, which its layer does not list"),
    )
}

impl JobLayers {
    /// Where a member is in a layer.
    pub(super) fn place(&self, layer: usize, name: &MemberName) -> Result<Place, Fault> {
        let found = self.layers.get(layer);
        let members = found.map(|layer| layer.manifest.members.as_slice());
        let mut numbered = (0u16..).zip(members.unwrap_or_default());
        let member = numbered.find(|(_, member)| member.name == *name);
        match member {
            Some((member, _)) => Ok(Place { layer, member }),
            None => Err(Fault::new(
                ErrorCode::NotFound,
                format!("layer {layer} of the backup has no member \"{name}\""),
            )),
        }
    }

    /// The objects that a question picks, in the order of their ranges.
    async fn pick(
        &self,
        place: Place,
        wanted: impl Fn(RelationId, &ObjectRef) -> bool,
        most: usize,
    ) -> Result<Option<Objects>, Fault> {
        let Some(layer) = self.layers.get(place.layer) else {
            return Ok(Some(Objects::default()));
        };
        let mut found: BTreeMap<RelationId, Vec<(Bytes, ObjectRef)>> = BTreeMap::new();
        let mut count = 0usize;
        let mut stream = self.store.entries(layer);
        while let Some(batch) = stream.next().await {
            for entry in batch? {
                if entry.member == place.member && wanted(entry.relation, &entry.object) {
                    let objects = found.entry(entry.relation).or_default();
                    objects.push((entry.range.start, entry.object));
                    count += 1;
                }
            }
            if count > most {
                return Ok(None);
            }
        }
        let mut objects = Objects::default();
        for (relation, mut entries) in found {
            // Those of one range stay in the order in which they were written.
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            for (at, (_, object)) in entries.iter().enumerate() {
                objects.by_name.insert(object.name.clone(), (relation, at));
            }
            let entries = entries.into_iter().map(|(_, object)| object).collect();
            objects.by_relation.insert(relation, entries);
        }
        Ok(Some(objects))
    }

    async fn listing(&self, place: Place) -> Result<Listing, Fault> {
        let mut cached = self.listings.0.lock().await;
        let key = (place.layer, place.member);
        if let Some(listing) = cached.listings.get(&key) {
            return Ok(listing.clone());
        }
        let picked = self.pick(place, |_, _| true, CACHED_ENTRIES).await?;
        let listing = picked.map_or(Listing::Long, |all| Listing::Whole(Arc::new(all)));
        cached.listings.insert(key, listing.clone());
        Ok(listing)
    }

    /// The objects that the spans of a relation wrote.
    pub(super) async fn objects_of(
        &self,
        place: Place,
        relation: RelationId,
    ) -> Result<Vec<ObjectRef>, Fault> {
        let objects = match self.listing(place).await? {
            Listing::Whole(all) => all.by_relation.get(&relation).cloned(),
            Listing::Long => {
                let wanted = |id, _: &ObjectRef| id == relation;
                let picked = self.pick(place, wanted, usize::MAX).await?;
                picked.and_then(|mut picked| picked.by_relation.remove(&relation))
            }
        };
        Ok(objects.unwrap_or_default())
    }

    /// Objects by their names, in the order of these.
    pub(super) async fn named(
        &self,
        place: Place,
        names: &[String],
    ) -> Result<Vec<ObjectRef>, Fault> {
        let all = match self.listing(place).await? {
            Listing::Whole(all) => all,
            Listing::Long => {
                let wanted: BTreeSet<&String> = names.iter().collect();
                let wanted = |_, object: &ObjectRef| wanted.contains(&object.name);
                let picked = self.pick(place, wanted, usize::MAX).await?;
                Arc::new(picked.unwrap_or_default())
            }
        };
        names.iter().map(|name| all.find(name)).collect()
    }

    /// An object by its name.
    pub(super) async fn one_named(&self, place: Place, name: &str) -> Result<ObjectRef, Fault> {
        let found = self.named(place, &[name.to_owned()]).await?;
        found.into_iter().next().ok_or_else(|| not_listed(name))
    }

    /// The first and the last key of an object of row versions; `None` if it has none.
    pub(super) async fn keys_of(
        &self,
        place: Place,
        path: &LayerPath,
        object: &ObjectRef,
    ) -> Result<Option<(Bytes, Bytes)>, Fault> {
        let key = (place.layer, object.name.clone());
        if let Some(known) = self.listings.0.lock().await.keys.get(&key) {
            return Ok(known.clone());
        }
        let store = self.store.of_member(path, place.member).await?;
        let opened = store.open_span(path, object).await?;
        let keys = opened.index().keys().cloned();
        let mut cached = self.listings.0.lock().await;
        if cached.keys.len() < CACHED_ENTRIES {
            cached.keys.insert(key, keys.clone());
        }
        Ok(keys)
    }

    /// The catalogs of a member's databases: of each the last object that its settling span wrote.
    pub(super) async fn catalogs(&self, place: Place) -> Result<Vec<Bytes>, Fault> {
        let key = (place.layer, place.member);
        if let Some(found) = self.listings.0.lock().await.catalogs.get(&key) {
            return Ok(found.clone());
        }
        let Some(layer) = self.layers.get(place.layer) else {
            return Ok(Vec::new());
        };
        let member = layer.manifest.members.get(usize::from(place.member));
        let relations = member.iter().flat_map(|member| &member.relations);
        let mut catalogs = Vec::new();
        for held in relations.filter(|held| held.relation.name.is_database()) {
            let name = &held.relation.name;
            let objects = self.objects_of(place, held.relation.id).await?;
            let last = objects.last();
            let Some(object) = last.filter(|object| object.kind() == ObjectKind::Catalog) else {
                return Err(Fault::new(
                    ErrorCode::Corrupted,
                    format!("layer {} has no catalog of {name}", layer.manifest.path),
                ));
            };
            let path = &layer.manifest.path;
            let store = self.store.of_member(path, place.member).await?;
            catalogs.push(store.read_catalog(path, object).await?);
        }
        let mut cached = self.listings.0.lock().await;
        cached.catalogs.insert(key, catalogs.clone());
        Ok(catalogs)
    }
}
