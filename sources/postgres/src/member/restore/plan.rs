//! What a restore is made of: per relation, which objects of which layer hold its rows, and which layers' changes lie over them.

use holdfast_source::{Inlet, LoggedRestore};
use holdfast_types::{ErrorCode, Fault, Position};
use std::collections::{BTreeMap, BTreeSet};

use super::choose::choose;
use crate::changes::ChangePosition;
use crate::layout::{Layout, Lsn, Oid};
use crate::member::catalog::{
    COMMIT_TIME_BYTES, CommitTimes, Content, DatabaseCatalog, RelationEntry,
};
use crate::restore::StagedTable;

/// A layer's catalog of one database.
#[derive(Debug)]
pub(super) struct LayerCatalog {
    /// The layer's number in the chain.
    pub(super) layer: usize,
    pub(super) catalog: DatabaseCatalog,
    places: BTreeMap<Oid, usize>,
}

impl LayerCatalog {
    fn new(layer: usize, catalog: DatabaseCatalog) -> Self {
        let places = catalog
            .relations
            .iter()
            .enumerate()
            .map(|(place, entry)| (entry.layout.oid, place))
            .collect();
        Self {
            layer,
            catalog,
            places,
        }
    }

    pub(super) fn relation(&self, oid: Oid) -> Option<&RelationEntry> {
        self.catalog.relations.get(*self.places.get(&oid)?)
    }
}

/// The objects under all changes of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    /// There are none.
    Nothing,
    /// Those that the relation's spans wrote, of one of the database's layers.
    Spans(usize),
    /// These, of one of the database's layers.
    Named(usize, Vec<String>),
}

/// One relation with rows.
#[derive(Debug)]
pub(super) struct RelationPlan {
    pub(super) layout: Layout,
    pub(super) base: Base,
    /// The database's layers whose changes count, oldest first.
    pub(super) changes: Vec<usize>,
    /// Its last truncation before the end, if that lies in the newest layer.
    pub(super) truncated: Option<ChangePosition>,
}

/// Where a database's contents go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Into {
    /// Into a new database: whole, or some of its tables.
    New(Option<BTreeSet<Oid>>),
    /// Into a database that exists.
    Existing(Vec<StagedTable>),
}

/// One database.
#[derive(Debug)]
pub(super) struct DatabasePlan {
    /// Its place in the restore: what is hidden is named by it.
    pub(super) number: u32,
    /// Its layers, oldest first.
    pub(super) layers: Vec<LayerCatalog>,
    /// The commits before this are restored; `None`: all.
    pub(super) upto: Option<Lsn>,
    /// The name that it gets, or that it has.
    pub(super) name: String,
    pub(super) into: Into,
    pub(super) relations: Vec<RelationPlan>,
}

impl DatabasePlan {
    pub(super) fn newest(&self) -> Result<&LayerCatalog, Fault> {
        self.layers.last().ok_or_else(|| broken("it has no layer"))
    }

    /// The name that it had.
    pub(super) fn source_name(&self) -> Result<&str, Fault> {
        Ok(&self.newest()?.catalog.facts.name)
    }

    pub(super) fn relation(&self, oid: Oid) -> Option<&RelationPlan> {
        self.relations.iter().find(|it| it.layout.oid == oid)
    }

    /// The tables that are restored; `None`: all, with everything else.
    pub(super) fn chosen(&self) -> Option<BTreeSet<Oid>> {
        match &self.into {
            Into::New(tables) => tables.clone(),
            Into::Existing(tables) => Some(tables.iter().map(|table| table.oid).collect()),
        }
    }

    /// Whether changes of a relation are looked for at all.
    pub(super) fn has_changes(&self, relation: &RelationPlan) -> bool {
        relation.changes.iter().any(|place| {
            self.layers
                .get(*place)
                .is_some_and(|layer| match self.history_of(*place) {
                    Some(_) => !layer.catalog.versions.is_empty(),
                    None => !layer.catalog.rows.is_empty(),
                })
        })
    }

    /// Where the restore ends inside a layer, if it does.
    pub(super) fn history_of(&self, place: usize) -> Option<Lsn> {
        self.upto.filter(|_| place + 1 == self.layers.len())
    }

    /// Says which objects and changes make up each relation.
    fn resolve(&mut self) -> Result<(), Fault> {
        let chosen = self.chosen();
        let newest = self.newest()?;
        let mut relations = Vec::new();
        let mut blocked = Vec::new();
        for entry in &newest.catalog.relations {
            let layout = &entry.layout;
            if !layout.handling.has_rows()
                || chosen.as_ref().is_some_and(|it| !it.contains(&layout.oid))
            {
                continue;
            }
            let is_kept_at_end = !matches!(entry.content, Content::Continued);
            if self.upto.is_some() && is_kept_at_end {
                blocked.push(format!(
                    "{} ({})",
                    layout.display_name().escape_debug(),
                    layout.handling
                ));
                continue;
            }
            relations.push(self.relation_plan(entry)?);
        }
        if self.upto.is_some() {
            blocked.extend(self.gone(chosen.as_ref()));
            if chosen.is_none() && newest.catalog.large_objects.count > 0 {
                blocked.push("large objects".to_owned());
            }
        }
        if !blocked.is_empty() {
            return Err(Fault::new(
                ErrorCode::NotCovered,
                format!(
                    "database {} cannot be restored as of that instant: the layer has these only as of its end: {}",
                    newest.catalog.facts.name.escape_debug(),
                    blocked.join(", ")
                ),
            )
            .hint("restore the end of a layer, or single tables without these"));
        }
        self.relations = relations;
        Ok(())
    }

    /// Relations of the layer before that are gone at the end of the newest one: when they went is not known.
    fn gone(&self, chosen: Option<&BTreeSet<Oid>>) -> Vec<String> {
        let [.., before, newest] = self.layers.as_slice() else {
            return Vec::new();
        };
        if chosen.is_some() {
            return Vec::new();
        }
        before
            .catalog
            .relations
            .iter()
            .filter(|entry| entry.layout.handling.has_rows())
            .filter(|entry| newest.relation(entry.layout.oid).is_none())
            .map(|entry| format!("{} (dropped)", entry.layout.display_name().escape_debug()))
            .collect()
    }

    fn relation_plan(&self, entry: &RelationEntry) -> Result<RelationPlan, Fault> {
        let oid = entry.layout.oid;
        let mut plan = RelationPlan {
            layout: entry.layout.clone(),
            base: Base::Nothing,
            changes: Vec::new(),
            truncated: None,
        };
        for (place, layer) in self.layers.iter().enumerate().rev() {
            let entry = layer.relation(oid).ok_or_else(|| {
                broken(&format!(
                    "{} is not in all layers that it continues",
                    plan.layout.display_name().escape_debug()
                ))
            })?;
            let truncated = match self.history_of(place) {
                Some(upto) => layer
                    .catalog
                    .truncations
                    .iter()
                    .rev()
                    .find_map(|(of, at)| (*of == oid && at.commit < upto).then_some(*at)),
                None => entry.truncated,
            };
            if place + 1 == self.layers.len() {
                plan.truncated = truncated;
            }
            match &entry.content {
                Content::Definition => return Err(broken("a relation without rows is continued")),
                Content::Whole { objects } => {
                    plan.base = Base::Named(place, objects.clone());
                    break;
                }
                Content::Base => {
                    plan.changes.push(place);
                    if truncated.is_none() {
                        plan.base = Base::Spans(place);
                    }
                    break;
                }
                Content::Continued => {
                    plan.changes.push(place);
                    if truncated.is_some() {
                        break;
                    }
                    if place == 0 {
                        return Err(broken("its oldest layer continues another one"));
                    }
                }
            }
        }
        plan.changes.reverse();
        Ok(plan)
    }
}

/// All databases of a restore, in the order of their numbers.
#[derive(Debug)]
pub(super) struct RestorePlan {
    pub(super) databases: Vec<DatabasePlan>,
}

impl RestorePlan {
    /// Reads the catalogs of all layers, and chooses.
    ///
    /// # Errors
    /// `NotFound` for what the backup does not have; `NotCovered` for an instant that it does not have; `Corrupted` for layers that do not
    /// follow each other.
    pub(super) async fn read(restore: &LoggedRestore, inlet: &dyn Inlet) -> Result<Self, Fault> {
        let mut chains = chains(inlet).await?;
        let mut databases = Vec::new();
        for (database, name, into) in choose(restore, &chains)? {
            // A database may go into several: each has its own view of the layers.
            let layers = match chains.get_mut(&database) {
                Some(chain) => std::mem::take(chain),
                None => Vec::new(),
            };
            let layers = if layers.is_empty() {
                again(&databases, database)?
            } else {
                layers
            };
            let mut plan = DatabasePlan {
                number: u32::try_from(databases.len()).unwrap_or(u32::MAX),
                layers,
                upto: None,
                name,
                into,
                relations: Vec::new(),
            };
            plan.upto = upto(restore.as_of, plan.newest()?, inlet).await?;
            plan.resolve()?;
            databases.push(plan);
        }
        Ok(Self { databases })
    }
}

/// The layers of a database that another plan has already.
fn again(plans: &[DatabasePlan], database: Oid) -> Result<Vec<LayerCatalog>, Fault> {
    let is_it = |plan: &&DatabasePlan| {
        plan.layers
            .last()
            .is_some_and(|layer| layer.catalog.database == database)
    };
    let plan = plans.iter().find(is_it);
    let plan = plan.ok_or_else(|| broken("it has no layer"))?;
    Ok(plan
        .layers
        .iter()
        .map(|it| LayerCatalog::new(it.layer, it.catalog.clone()))
        .collect())
}

/// The layers of each database that the newest layer has, oldest first.
async fn chains(inlet: &dyn Inlet) -> Result<BTreeMap<Oid, Vec<LayerCatalog>>, Fault> {
    let mut chains: BTreeMap<Oid, Vec<LayerCatalog>> = BTreeMap::new();
    for layer in 0..inlet.layers() {
        let mut now: BTreeMap<Oid, Vec<LayerCatalog>> = BTreeMap::new();
        for bytes in inlet.catalogs(layer).await? {
            let catalog = DatabaseCatalog::decode(&bytes)?;
            let mut chain = Vec::new();
            if catalog.continues {
                chain = chains.remove(&catalog.database).unwrap_or_default();
                let parent = chain
                    .last()
                    .ok_or_else(|| broken("the layer before it is missing"))?;
                check_follows(&parent.catalog, &catalog)?;
            }
            let database = catalog.database;
            chain.push(LayerCatalog::new(layer, catalog));
            now.insert(database, chain);
        }
        chains = now;
    }
    Ok(chains)
}

fn check_follows(parent: &DatabaseCatalog, layer: &DatabaseCatalog) -> Result<(), Fault> {
    let same_server = (parent.system_id, parent.timeline) == (layer.system_id, layer.timeline);
    if same_server && parent.end == layer.start {
        return Ok(());
    }
    Err(broken(&format!(
        "the layer of database {} that begins at {} does not follow the one that ends at {}",
        layer.facts.name.escape_debug(),
        layer.start,
        parent.end
    )))
}

/// Where the restore of a database ends, exclusive, if that lies inside its newest layer.
async fn upto(
    as_of: Option<Position>,
    newest: &LayerCatalog,
    inlet: &dyn Inlet,
) -> Result<Option<Lsn>, Fault> {
    let Some(as_of) = as_of else {
        return Ok(None);
    };
    let catalog = &newest.catalog;
    let upto = match as_of {
        Position::Hlc(at) => {
            match first_after(newest.layer, &catalog.commit_times, at.wall, inlet).await? {
                Some(commit) => commit,
                None if catalog.history || at.wall >= catalog.ended_at => return Ok(None),
                // What it was before its end is not known.
                None => Lsn::ZERO,
            }
        }
        other => crate::member::catalog::end_after(other)?,
    };
    if upto == catalog.end {
        return Ok(None);
    }
    if !catalog.history || upto < catalog.start || upto > catalog.end {
        return Err(Fault::new(
            ErrorCode::NotCovered,
            format!(
                "database {} cannot be restored as of {as_of}: the layer {} {} to {}",
                catalog.facts.name.escape_debug(),
                match catalog.history {
                    true => "has its history from",
                    false => "has only its end, and no history, from",
                },
                catalog.start,
                catalog.end
            ),
        )
        .hint("choose an instant inside a layer with history, or the end of a layer"));
    }
    Ok(Some(upto))
}

/// The first commit whose time is later than an instant: neither it nor anything behind it is restored.
async fn first_after(
    layer: usize,
    times: &[CommitTimes],
    instant: holdfast_types::Timestamp,
    inlet: &dyn Inlet,
) -> Result<Option<Lsn>, Fault> {
    let Some(part) = times.iter().find(|part| part.latest > instant) else {
        return Ok(None);
    };
    let bytes = inlet.blob(layer, &part.object).await?;
    for entry in bytes.chunks_exact(COMMIT_TIME_BYTES) {
        let mut rest = entry;
        let (Some(lsn), Some(time)) = (
            crate::tuple::take::<8>(&mut rest),
            crate::tuple::take::<8>(&mut rest),
        ) else {
            break;
        };
        if u64::from_be_bytes(time) > instant.as_micros() {
            return Ok(Some(Lsn(u64::from_be_bytes(lsn))));
        }
    }
    Err(broken("its commit times contradict themselves"))
}

pub(super) fn broken(why: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("the layers of a database do not make a chain: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use bytes::{BufMut, Bytes, BytesMut};
    use futures::StreamExt;
    use futures::stream::{self, BoxStream};
    use holdfast_source::{RowBatch, TupleBlock};
    use holdfast_types::{KeyRange, RelationId, Timestamp};

    struct Blobs(BTreeMap<String, Bytes>);

    #[async_trait]
    impl Inlet for Blobs {
        fn layers(&self) -> usize {
            1
        }

        async fn catalogs(&self, _layer: usize) -> Result<Vec<Bytes>, Fault> {
            Ok(Vec::new())
        }

        async fn blob(&self, _layer: usize, name: &str) -> Result<Bytes, Fault> {
            let blob = self.0.get(name).cloned();
            blob.ok_or_else(|| broken("no such object"))
        }

        async fn objects(&self, _layer: usize, _: RelationId) -> Result<Vec<String>, Fault> {
            Ok(Vec::new())
        }

        fn tuples(&self, _: usize, _: &str) -> BoxStream<'static, Result<TupleBlock, Fault>> {
            stream::empty().boxed()
        }

        fn rows(
            &self,
            _layer: usize,
            _names: &[String],
            _range: KeyRange,
        ) -> BoxStream<'static, Result<RowBatch, Fault>> {
            stream::empty().boxed()
        }
    }

    /// Trap 9: a commit record may lie behind one of a later time, also in the object before. Nothing behind the first later one is restored.
    #[tokio::test]
    async fn commits_of_inverted_times_end_before_the_first_later_one() {
        let parts: [&[(u64, u64)]; 3] = [
            &[(100, 10), (101, 30), (102, 20)],
            &[(103, 25), (104, 15)],
            &[(105, 40), (106, 35)],
        ];
        let mut blobs = BTreeMap::new();
        let mut times = Vec::new();
        for (number, commits) in parts.into_iter().enumerate() {
            let mut bytes = BytesMut::new();
            for (lsn, time) in commits {
                bytes.put_u64(*lsn);
                bytes.put_u64(*time);
            }
            blobs.insert(number.to_string(), bytes.freeze());
            times.push(CommitTimes {
                object: number.to_string(),
                first: Lsn(commits[0].0),
                last: Lsn(commits[commits.len() - 1].0),
                latest: Timestamp::from_micros(commits.iter().map(|it| it.1).max().unwrap_or(0)),
            });
        }
        let inlet = Blobs(blobs);
        let order: Vec<(u64, u64)> = parts.concat();
        for instant in 0..50 {
            let expected = order.iter().find(|(_, time)| *time > instant);
            let found = first_after(0, &times, Timestamp::from_micros(instant), &inlet).await;
            assert_eq!(
                found.expect("objects"),
                expected.map(|it| Lsn(it.0)),
                "{instant}"
            );
        }
    }
}
