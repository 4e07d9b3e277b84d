//! What the layers of a job hold, read once per worker and kept for its next tasks.
//!
//! Bounds: the manifests of at most [`CACHED_JOBS`] jobs, and at most [`CACHED_ENTRIES`] entries of file lists. What does not fit is read
//! again when it is needed, and only the part of it that a span needs.

use futures::StreamExt;
use holdfast_collection::CollectionStore;
use holdfast_format::{Chain, Layer, ManifestEntry, MemberPlan, RestorePlan, RestoreRelation};
use holdfast_types::{
    Digest, ErrorCode, Fault, JobId, JobSpec, KeyRange, LayerPath, MemberName, Position, RelationId,
};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Mutex;

use super::logged::Listings;
use super::ticket::Ticket;
use crate::bounds::{CACHED_ENTRIES, CACHED_JOBS};

/// The layers of one job.
#[derive(Debug)]
pub(crate) struct JobLayers {
    pub(crate) store: CollectionStore,
    /// Oldest first, as the specification lists them.
    pub(crate) layers: Vec<Layer>,
    /// What a restore finds in them.
    plan: Option<RestorePlan>,
    /// Of a source whose history is a log: what was read of the layers.
    pub(super) listings: Listings,
}

/// Objects of one relation, in the order of their keys, of one layer after another, the newest first.
pub(crate) type RelationEntries = Vec<(LayerPath, Vec<ManifestEntry>)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EntriesKey {
    job: JobId,
    member: u16,
    relation: RelationId,
}

#[derive(Debug, Default)]
struct Cached {
    /// Least recently used first.
    jobs: VecDeque<(JobId, Arc<JobLayers>)>,
    /// Least recently used first.
    entries: VecDeque<(EntriesKey, Arc<RelationEntries>)>,
}

/// See the module. Tasks that want the same thing wait for the one that reads it.
#[derive(Debug, Default)]
pub(crate) struct LayerCache(Mutex<Cached>);

impl LayerCache {
    /// The layers of a ticket's job.
    pub(crate) async fn of_job(&self, ticket: &Ticket) -> Result<Arc<JobLayers>, Fault> {
        let job = ticket.lease().task.job;
        let mut cached = self.0.lock().await;
        if let Some(at) = cached.jobs.iter().position(|(held, _)| *held == job)
            && let Some(found) = cached.jobs.remove(at)
        {
            let layers = Arc::clone(&found.1);
            cached.jobs.push_back(found);
            return Ok(layers);
        }
        let layers = Arc::new(JobLayers::load(ticket).await?);
        cached.jobs.push_back((job, Arc::clone(&layers)));
        if cached.jobs.len() > CACHED_JOBS
            && let Some((forgotten, _)) = cached.jobs.pop_front()
        {
            cached.entries.retain(|(key, _)| key.job != forgotten);
        }
        Ok(layers)
    }

    /// The objects that hold a relation's keys of a range; perhaps others of the relation too.
    pub(crate) async fn entries(
        &self,
        ticket: &Ticket,
        layers: &JobLayers,
        member: u16,
        relation: &RestoreRelation,
        range: &KeyRange,
    ) -> Result<Arc<RelationEntries>, Fault> {
        let key = EntriesKey {
            job: ticket.lease().task.job,
            member,
            relation: relation.relation.id,
        };
        let mut cached = self.0.lock().await;
        if let Some(at) = cached.entries.iter().position(|(held, _)| *held == key)
            && let Some(found) = cached.entries.remove(at)
        {
            let entries = Arc::clone(&found.1);
            cached.entries.push_back(found);
            return Ok(entries);
        }
        let all = layers
            .entries_of(member, relation, &KeyRange::all(), CACHED_ENTRIES)
            .await?;
        let Some(entries) = all else {
            let some = layers
                .entries_of(member, relation, range, usize::MAX)
                .await?;
            return Ok(Arc::new(some.unwrap_or_default()));
        };
        let entries = Arc::new(entries);
        cached.entries.push_back((key, Arc::clone(&entries)));
        let mut total: usize = cached.entries.iter().map(|(_, held)| count(held)).sum();
        while total > CACHED_ENTRIES
            && let Some((_, forgotten)) = cached.entries.pop_front()
        {
            total -= count(&forgotten);
        }
        Ok(entries)
    }
}

fn count(entries: &RelationEntries) -> usize {
    entries.iter().map(|(_, entries)| entries.len()).sum()
}

impl JobLayers {
    async fn load(ticket: &Ticket) -> Result<Self, Fault> {
        let store = ticket.collection().await?;
        Self::of_spec(store, &ticket.grant.spec).await
    }

    /// The layers that a job of this specification reads.
    pub(super) async fn of_spec(store: CollectionStore, spec: &JobSpec) -> Result<Self, Fault> {
        let parent;
        let (wanted, restore) = match spec {
            JobSpec::Restore(spec) => (&spec.layers, Some(spec)),
            JobSpec::Verify(spec) => (&spec.layers, None),
            // A source whose history is a log goes on from what the parent layer says of it.
            JobSpec::Backup(spec) => {
                let named = spec.parent.iter();
                parent = named
                    .map(|parent| (parent.path.clone(), parent.manifest))
                    .collect();
                (&parent, None)
            }
            // No worker takes part in it.
            JobSpec::Expire(_) => {
                parent = Vec::new();
                (&parent, None)
            }
        };
        let mut layers = Vec::with_capacity(wanted.len());
        for (path, digest) in wanted {
            layers.push(load_layer(&store, path, *digest).await?);
        }
        let plan = match restore {
            None => None,
            // What is restored of it, only the source knows; but its layers are a chain.
            Some(spec) if spec.kind.is_logged() => {
                let chain = Chain::assemble(layers.clone())?;
                chain.check_contiguous()?;
                let line = chain.layers().map(|layer| &layer.manifest.path);
                if !line.eq(wanted.iter().map(|(path, _)| path)) {
                    return Err(not_the_chain());
                }
                None
            }
            Some(spec) => {
                let chain = Chain::assemble(layers.clone())?;
                let Position::Hlc(as_of) = spec.as_of else {
                    return Err(Fault::new(
                        ErrorCode::Internal,
                        format!("a source of kind {} has no log", spec.kind),
                    ));
                };
                Some(chain.resolve_restore(&spec.target, Some(as_of))?)
            }
        };
        if let Some(plan) = &plan
            && plan.layers != *wanted
        {
            return Err(not_the_chain());
        }
        Ok(Self {
            store,
            layers,
            plan,
            listings: Listings::default(),
        })
    }

    /// What is restored of a member.
    pub(crate) fn member(&self, name: &MemberName) -> Result<&MemberPlan, Fault> {
        let members = self.plan.iter().flat_map(|plan| &plan.members);
        members
            .into_iter()
            .find(|member| member.name == *name)
            .ok_or_else(|| {
                Fault::new(
                    ErrorCode::NotFound,
                    format!("the backup has no member \"{name}\""),
                )
            })
    }

    /// A relation that is restored of a member.
    pub(crate) fn relation(
        &self,
        member: &MemberName,
        id: RelationId,
    ) -> Result<(&MemberPlan, &RestoreRelation), Fault> {
        let plan = self.member(member)?;
        let relation = plan.relations.iter().find(|held| held.relation.id == id);
        relation.map(|relation| (plan, relation)).ok_or_else(|| {
            Fault::new(
                ErrorCode::NotFound,
                format!("member \"{member}\" of the backup has no relation {id} to restore"),
            )
        })
    }

    /// The layers that have a say in a relation, newest first.
    pub(crate) fn layers_of(&self, relation: &RestoreRelation) -> impl Iterator<Item = &Layer> {
        self.layers.iter().skip(relation.first_layer).rev()
    }

    /// A relation's objects that overlap a range; `None` if there are more than `most`.
    async fn entries_of(
        &self,
        member: u16,
        relation: &RestoreRelation,
        range: &KeyRange,
        most: usize,
    ) -> Result<Option<RelationEntries>, Fault> {
        let id = relation.relation.id;
        let mut all = Vec::new();
        let mut total = 0;
        for layer in self.layers_of(relation) {
            let mut found = Vec::new();
            let mut stream = self.store.entries(layer);
            while let Some(batch) = stream.next().await {
                found.extend(batch?.into_iter().filter(|entry| {
                    entry.member == member && entry.relation == id && entry.range.overlaps(range)
                }));
                if total + found.len() > most {
                    return Ok(None);
                }
            }
            total += found.len();
            found.sort_by(|left, right| left.range.start.cmp(&right.range.start));
            all.push((layer.manifest.path.clone(), found));
        }
        Ok(Some(all))
    }
}

fn not_the_chain() -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        "the layers of the restore do not make the chain that it was planned on",
    )
    .hint("list the chain's layers with `holdfast backups`, and start the restore again")
}

/// A layer's manifest, if it is still the one that the job was planned on.
async fn load_layer(
    store: &CollectionStore,
    path: &LayerPath,
    digest: Digest,
) -> Result<Layer, Fault> {
    store
        .load_layer_as(path, digest)
        .await
        .map_err(|fault| fault.context(format_args!("layer {path}")))
}
