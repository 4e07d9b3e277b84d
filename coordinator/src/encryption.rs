//! The keys of encrypted chains: asked for when a request comes, sealed with the cluster key for the ledger, opened again for the leader's own
//! work. What a user gave is forgotten with the request; only a schedule keeps it, sealed, for its runs to come.

use bytes::Bytes;
use holdfast_collection::CollectionStore;
use holdfast_format::{DataKey, Envelope, KeyInfo};
use holdfast_keys::{KeyRing, Secret};
use holdfast_node::ClusterKey;
use holdfast_proto::v1;
use holdfast_types::{ChainKey, ErrorCode, Fault, LayerPath, ScheduleKeys, full_subdir};
use prost::Message;
use std::time::Duration;
use zeroize::Zeroizing;

use crate::core::Core;

/// What asking for keys may take, before the client gives up waiting.
const ASKED_WITHIN: Duration = Duration::from_secs(45);

/// The keys of a request.
pub(crate) fn read_ring(given: Option<v1::EncryptionKeys>) -> Result<KeyRing, Fault> {
    let given = given.unwrap_or_default();
    let kms: Vec<Secret> = given.kms.into_iter().map(Secret::new).collect();
    KeyRing::read(Some(Secret::new(given.passphrase)), &kms, &given.kdf)
}

async fn in_time<T>(asking: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(ASKED_WITHIN, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::new(
            ErrorCode::Unavailable,
            format!(
                "the key management services did not answer within {} s",
                ASKED_WITHIN.as_secs()
            ),
        )
        .hint("check that the coordinators can reach them")),
    }
}

/// The key of a new chain, for the ledger; `None` if it is not to be encrypted.
pub(crate) async fn new_chain(
    core: &Core,
    full: &str,
    given: &KeyRing,
) -> Result<Option<ChainKey>, Fault> {
    if given.is_empty() {
        return Ok(None);
    }
    let (key, info) = in_time(core.keys.create(full, given)).await?;
    Ok(Some(ChainKey {
        info: info.encode()?.to_vec(),
        ..sealed(core, &key)
    }))
}

fn sealed(core: &Core, key: &DataKey) -> ChainKey {
    let cluster_key = &core.config.cluster_key;
    ChainKey {
        id: key.id(),
        sealed: cluster_key.seal_data_key(key.id(), key.expose()),
        info: Vec::new(),
    }
}

/// A collection as the layers of one chain are read from it, and the chain's key for the ledger.
pub(crate) struct OpenChain {
    pub(crate) store: CollectionStore,
    pub(crate) key: Option<ChainKey>,
}

/// Opens the chain of a full. A key that is missing is an error, and one that is not needed is, too: whoever gives it believes that the chain is
/// encrypted, and it is not.
pub(crate) async fn open_chain(
    core: &Core,
    store: &CollectionStore,
    full: &str,
    given: &KeyRing,
) -> Result<OpenChain, Fault> {
    let what = format!("looking for the keys of {full} in {}", store.uri());
    let info = core.bounded(what, store.key_info(full)).await?;
    let Some(info) = info else {
        return if given.is_empty() {
            Ok(OpenChain {
                store: store.clone(),
                key: None,
            })
        } else {
            Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("the chain {full} is not encrypted, and a key was given"),
            )
            .hint("leave the key out; what is to be encrypted starts a chain of its own, with a full backup"))
        };
    };
    let key = in_time(core.keys.open(&info, given)).await?;
    Ok(OpenChain {
        key: Some(sealed(core, &key)),
        store: store.with_envelope(Envelope::Sealed(key)),
    })
}

/// The data key of a chain that must be encrypted, with what is known of it, and a look at whether it is the chain's own: whoever can write into
/// the collection could have put another key info object there.
pub(crate) async fn open_keys(
    core: &Core,
    store: &CollectionStore,
    full: &str,
    given: &KeyRing,
) -> Result<(DataKey, KeyInfo), Fault> {
    let what = format!("looking for the keys of {full} in {}", store.uri());
    let info = core.bounded(&what, store.key_info(full)).await?;
    let info = info.ok_or_else(|| {
        Fault::new(
            ErrorCode::FailedPrecondition,
            format!("the chain {full} is not encrypted"),
        )
        .hint("what is to be encrypted starts a chain of its own, with a full backup")
    })?;
    let key = in_time(core.keys.open(&info, given)).await?;
    let sealed = store.with_envelope(Envelope::Sealed(key.clone()));
    let path = LayerPath::full(full);
    core.bounded(what, sealed.load_layer(&path)).await?;
    Ok((key, info))
}

/// The keys of a schedule, for the ledger; `None` if none were given. They are tried: what is wrong with them is told whoever makes the schedule,
/// and not found by its first run.
pub(crate) async fn for_schedule(
    core: &Core,
    given: Option<v1::EncryptionKeys>,
) -> Result<Option<ScheduleKeys>, Fault> {
    let Some(given) = given else { return Ok(None) };
    let bytes = Zeroizing::new(given.encode_to_vec());
    let ring = read_ring(Some(given))?;
    if ring.is_empty() {
        return Ok(None);
    }
    let full = full_subdir(core.env.clock.now());
    let (_, info) = in_time(core.keys.create(&full, &ring)).await?;
    // A KMS may let a role wrap, and not unwrap: then no incremental could follow.
    if !ring.has_passphrase() {
        in_time(core.keys.open(&info, &ring)).await?;
    }
    Ok(Some(ScheduleKeys {
        passphrase: ring.has_passphrase(),
        kms: ring.kms_labels(),
        sealed: core.config.cluster_key.seal_schedule_keys(&bytes),
    }))
}

/// The keys of a schedule, as they were given.
pub(crate) fn of_schedule(
    cluster_key: &ClusterKey,
    keys: &ScheduleKeys,
) -> Result<v1::EncryptionKeys, Fault> {
    let bytes = cluster_key.open_schedule_keys(&keys.sealed)?;
    v1::EncryptionKeys::decode(bytes.as_slice()).map_err(|_| {
        // What is wrong with the bytes is not said: they are secret.
        Fault::new(
            ErrorCode::Corrupted,
            "the keys of a schedule are not readable",
        )
        .hint("give the schedule its keys again with `holdfast schedule alter`")
    })
}

/// How the objects of a job's chain are framed.
pub(crate) fn envelope(
    cluster_key: &ClusterKey,
    key: Option<&ChainKey>,
) -> Result<Envelope, Fault> {
    let Some(key) = key else {
        return Ok(Envelope::Clear);
    };
    let secret = cluster_key.open_data_key(key.id, &key.sealed)?;
    DataKey::from_slice(&secret).map(Envelope::Sealed)
}

/// Writes what is to be known of a new chain's keys, with the claim and before anything else: an object that nothing could open must not come to
/// be.
pub(crate) async fn note_keys(
    store: &CollectionStore,
    path: &LayerPath,
    key: Option<&ChainKey>,
) -> Result<(), Fault> {
    match key {
        Some(key) if !key.info.is_empty() => {
            let info = Bytes::copy_from_slice(&key.info);
            store.put_key_info(&path.full, 1, info).await
        }
        _ => Ok(()),
    }
}
