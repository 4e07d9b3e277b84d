//! Collections as clients see them: read from the collections themselves, at any node.

use futures::{StreamExt, TryStreamExt};
use holdfast_collection::{CollectionStore, Depth, VerifyReport};
use holdfast_format::{Layer, LayerRelation, ManifestMember};
use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Fault, Hlc, LayerPath, RelationId};
use std::collections::BTreeMap;

use crate::core::Core;
use crate::encryption::{open_chain, read_ring};

/// Chains that are looked at together.
const CHAINS_AT_ONCE: usize = 8;

pub(super) async fn open(core: &Core, uri: &str) -> Result<CollectionStore, Fault> {
    let uri = uri.parse()?;
    core.bounded(
        format!("opening {uri}"),
        CollectionStore::open_existing(&core.stores, &uri, &core.env),
    )
    .await
}

/// Chains of a collection, oldest first.
pub(super) async fn list(core: &Core, uri: &str) -> Result<v1::ListBackupsResponse, Fault> {
    let store = open(core, uri).await?;
    let listing = async {
        let latest = match store.latest().await {
            Ok(latest) => Some(latest),
            Err(fault) if fault.code == ErrorCode::NotFound => None,
            Err(fault) => return Err(fault),
        };
        let fulls = store.list_chains().await?;
        let chains = futures::stream::iter(fulls)
            .map(|full| chain_of(&store, full, latest.as_deref()))
            .buffered(CHAINS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(v1::ListBackupsResponse { chains })
    };
    core.bounded(format!("listing {}", store.uri()), listing)
        .await
}

async fn chain_of(
    store: &CollectionStore,
    full: LayerPath,
    latest: Option<&str>,
) -> Result<v1::Chain, Fault> {
    let layers = store.list_layers(&full.full).await?;
    let last = layers.last().unwrap_or(&full);
    let clear = store.load_layer_unless_sealed(last).await?;
    Ok(v1::Chain {
        encrypted: clear.is_none(),
        end: match clear {
            Some(layer) => show(layer.manifest.end),
            None => named_end(last),
        },
        layers: u32::try_from(layers.len()).unwrap_or(u32::MAX),
        latest: latest == Some(full.full.as_str()),
        subdir: full.full,
    })
}

/// The end of an encrypted layer, as far as its directory's name tells it.
fn named_end(path: &LayerPath) -> String {
    let digits = match &path.incremental {
        None => path.full.replace(['/', '-'], ""),
        // Its end, and then its start.
        Some(own) => own.replacen(['/', '-'], "", 1),
    };
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 17)
    )
}

/// One chain in detail.
pub(super) async fn show_chain(
    core: &Core,
    request: v1::ShowBackupRequest,
) -> Result<v1::ShowBackupResponse, Fault> {
    let given = read_ring(request.encryption)?;
    let store = open(core, &request.collection).await?;
    let subdir = match request.subdir.as_str() {
        "" => "LATEST",
        text => text,
    };
    let what = format!("reading the chain in {}", store.uri());
    let subdir = core.bounded(&what, store.resolve_subdir(subdir)).await?;
    let store = open_chain(core, &store, &subdir, &given).await?.store;
    let chain = core.bounded(&what, store.load_chain(&subdir)).await?;
    let mut problems: Vec<String> = chain
        .broken()
        .iter()
        .map(|(_, fault)| fault.to_string())
        .collect();
    let mut layers = Vec::new();
    for layer in chain.all_layers() {
        let check = request.check_files.then_some(&mut problems);
        layers.push(layer_view(core, &store, layer, check).await?);
    }
    Ok(v1::ShowBackupResponse {
        subdir,
        layers,
        restorable: chain.restorable(),
        problems,
        logs: chain
            .members()
            .map(|member| v1::RestorableLog {
                member: member.to_string(),
                places: chain.restorable_log(member),
            })
            .filter(|log| !log.places.is_empty())
            .collect(),
    })
}

/// A layer with what it holds of each table; with `problems`, every object's length is compared with the store.
async fn layer_view(
    core: &Core,
    store: &CollectionStore,
    layer: &Layer,
    problems: Option<&mut Vec<String>>,
) -> Result<v1::Layer, Fault> {
    let manifest = &layer.manifest;
    let mut sizes: BTreeMap<(u16, RelationId), (u64, u64)> = BTreeMap::new();
    let mut report = VerifyReport::default();
    let is_checked = problems.is_some();
    let mut entries = store.entries(layer);
    let what = format!("reading the file list of {}", manifest.path);
    while let Some(batch) = core.bounded(&what, entries.try_next()).await? {
        for entry in &batch {
            let size = sizes.entry((entry.member, entry.relation)).or_default();
            size.0 += entry.object.rows.0;
            size.1 += entry.object.logical.0;
        }
        if is_checked {
            let check = store.verify_objects(&manifest.path, &batch, Depth::Length, &mut report);
            let _ = core.bounded(&what, check).await?;
        }
    }
    if let Some(problems) = problems {
        problems.extend(
            report
                .damaged
                .iter()
                .map(|damage| format!("{}: {}", damage.object, damage.fault.message)),
        );
    }
    let tables = (0u16..)
        .zip(&manifest.members)
        .flat_map(|(index, member)| {
            member
                .relations
                .iter()
                .filter(|held| {
                    // What a log's database has changed stands with the database, whichever table it is of.
                    let is_logged = manifest.kind.is_logged();
                    !held.relation.name.is_database() || is_logged || is_empty(member, held)
                })
                .map(move |held| (index, member, held))
        })
        .map(|(index, member, held)| {
            let (rows, size_bytes) = sizes
                .get(&(index, held.relation.id))
                .copied()
                .unwrap_or_default();
            v1::LayerTable {
                member: member.name.to_string(),
                database: held.relation.name.database.clone(),
                table: held.relation.name.table.clone(),
                rows,
                size_bytes,
            }
        })
        .collect();
    Ok(v1::Layer {
        path: manifest.path.to_string(),
        backup_type: if manifest.is_full() {
            "full"
        } else {
            "incremental"
        }
        .to_owned(),
        start: manifest.start().map(show).unwrap_or_default(),
        end: show(manifest.end),
        revision_history: manifest.history,
        rows: manifest.totals.rows.0,
        size_bytes: manifest.totals.logical.0,
        file_bytes: manifest.totals.stored.0,
        objects: manifest.totals.objects,
        tables,
        job: manifest.job.0,
        source: manifest.source.to_string(),
        manifest_digest: layer.digest.to_string(),
    })
}

/// Whether a database that is held itself has no table at the layer's end: only then it is shown.
fn is_empty(member: &ManifestMember, database: &LayerRelation) -> bool {
    let name = &database.relation.name.database;
    let mut there = member
        .relations
        .iter()
        .filter(|held| held.relation.dropped_at.is_none() && held.relation.name.database == *name);
    database.relation.dropped_at.is_none() && there.all(|held| held.relation.name.is_database())
}

/// A position in the spelling that AS OF reads back.
fn show(at: Hlc) -> String {
    if at.logical == 0 {
        at.wall.to_string()
    } else {
        at.to_string()
    }
}
