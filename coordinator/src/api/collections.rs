//! Collections as clients see them: read from the collections themselves, at any node.

use futures::TryStreamExt;
use holdfast_collection::{CollectionStore, Depth, VerifyReport};
use holdfast_format::{Layer, LayerRelation, ManifestMember};
use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Fault, Hlc, RelationId};
use std::collections::BTreeMap;

use crate::core::Core;
use crate::encryption::{open_chain, read_ring};
use crate::location::Collection;

/// Chains of a collection, oldest first. How many layers they have, and where the last ends, is what the index says.
pub(super) async fn list(core: &Core, uri: &str) -> Result<v1::ListBackupsResponse, Fault> {
    let collection = Collection::to_read(core, uri, &[])?;
    let store = core.open_existing(&collection).await?;
    let listing = async {
        let latest = match store.latest().await {
            Ok(latest) => Some(latest),
            Err(fault) if fault.code == ErrorCode::NotFound => None,
            Err(fault) => return Err(fault),
        };
        let chains = store.summaries().await?.into_iter().map(|chain| v1::Chain {
            end: show(chain.end),
            layers: chain.layers,
            encrypted: chain.is_sealed,
            latest: latest.as_deref() == Some(chain.full.as_str()),
            subdir: chain.full,
        });
        Ok(v1::ListBackupsResponse {
            chains: chains.collect(),
        })
    };
    core.bounded(format!("listing {}", store.uri()), listing)
        .await
}

/// One chain in detail.
pub(super) async fn show_chain(
    core: &Core,
    request: v1::ShowBackupRequest,
) -> Result<v1::ShowBackupResponse, Fault> {
    let given = read_ring(request.encryption)?;
    let collection = Collection::to_read(core, &request.collection, &request.more_collections)?;
    let store = core.open_existing(&collection).await?;
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
