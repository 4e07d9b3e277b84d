//! Which keys open a chain, and changing that.

use holdfast_collection::CollectionStore;
use holdfast_format::{KeyInfo, WrapKind};
use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Fault};

use crate::core::Core;
use crate::encryption::{open_keys, read_ring};
use crate::location::Collection;

/// How often a change is made anew because another one came first.
const ATTEMPTS: u32 = 4;

/// The default store of a collection: it has the keys of all.
async fn open(core: &Core, uri: &str) -> Result<CollectionStore, Fault> {
    let collection = Collection::to_read(core, uri, &[])?;
    core.open_existing(&collection).await
}

async fn resolve(core: &Core, store: &CollectionStore, subdir: &str) -> Result<String, Fault> {
    let subdir = if subdir.is_empty() { "LATEST" } else { subdir };
    let what = format!("looking for the chain in {}", store.uri());
    core.bounded(what, store.resolve_subdir(subdir)).await
}

fn view(subdir: String, info: Option<&KeyInfo>) -> v1::ChainKeys {
    let Some(info) = info else {
        return v1::ChainKeys {
            subdir,
            ..v1::ChainKeys::default()
        };
    };
    let keys = info.wraps.iter().map(|wrap| v1::WrapperKey {
        id: wrap.id(),
        kind: wrap.kind.to_string(),
        label: match wrap.kind {
            WrapKind::Passphrase => String::new(),
            _ => wrap.label.clone(),
        },
        kdf: wrap.kdf.map(|(kdf, _)| kdf.to_string()).unwrap_or_default(),
    });
    v1::ChainKeys {
        subdir,
        encrypted: true,
        key_id: info.key.to_string(),
        number: info.number,
        keys: keys.collect(),
    }
}

/// The keys that open a chain. Nothing is opened for that.
pub(super) async fn show_keys(
    core: &Core,
    request: v1::ShowKeysRequest,
) -> Result<v1::ChainKeys, Fault> {
    let store = open(core, &request.collection).await?;
    let subdir = resolve(core, &store, &request.subdir).await?;
    let what = format!("looking for the keys of {subdir} in {}", store.uri());
    let info = core.bounded(what, store.key_info(&subdir)).await?;
    Ok(view(subdir, info.as_ref()))
}

/// Adds keys, and drops others. Both make one new key info object; who comes second begins again with what the first one made.
pub(super) async fn change_keys(
    core: &Core,
    request: v1::ChangeKeysRequest,
) -> Result<v1::ChangeKeysResponse, Fault> {
    let (old, further) = (read_ring(request.old)?, read_ring(request.add)?);
    if further.is_empty() && request.drop.is_empty() {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            "nothing is to be changed: no key is to be added, and none to be dropped",
        ));
    }
    let store = open(core, &request.collection).await?;
    let subdir = resolve(core, &store, &request.subdir).await?;
    for _ in 0..ATTEMPTS {
        let (key, info) = open_keys(core, &store, &subdir, &old).await?;
        let mut next = match further.is_empty() {
            true => info.clone(),
            false => core.keys.add(&key, &info, &further).await?,
        };
        if !request.drop.is_empty() {
            next = core.keys.leave_out(&key, &next, &request.drop)?;
        }
        // However many steps it took, it is one change.
        let next = KeyInfo::new(
            &key,
            subdir.as_str(),
            info.number.saturating_add(1),
            next.wraps,
        )?;
        let what = format!("writing the keys of {subdir} to {}", store.uri());
        let put = store.put_key_info(&subdir, next.number, next.encode()?);
        match core.bounded(what, put).await {
            Ok(()) => {}
            Err(fault) if fault.code == ErrorCode::AlreadyExists => continue,
            Err(fault) => return Err(fault),
        }
        let left = match request.drop.is_empty() {
            true => Vec::new(),
            false => store.remove_key_info_before(&subdir, next.number).await?,
        };
        tracing::info!(
            collection = %store.uri(), chain = %subdir, number = next.number, keys = next.wraps.len(),
            "the keys of a chain were changed"
        );
        return Ok(v1::ChangeKeysResponse {
            keys: Some(view(subdir, Some(&next))),
            left: left.into_iter().map(|fault| fault.message).collect(),
        });
    }
    Err(Fault::new(
        ErrorCode::Unavailable,
        format!("the keys of {subdir} are being changed by others"),
    )
    .hint("try again in a moment"))
}
