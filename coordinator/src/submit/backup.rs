//! Backups.

use holdfast_collection::CollectionUri;
use holdfast_format::AppendRequest;
use holdfast_ledger::Ledger;
use holdfast_proto::v1;
use holdfast_types::{
    AsOf, BackupMember, BackupMode, BackupSpec, ClusterId, ErrorCode, Fault, Hlc, HoldUse, JobSpec,
    LayerPath, Locality, Millis, ParentLayer, RequestKey, SourceKind, SourceName, SourceRecord,
    Target, Timestamp, full_subdir, incremental_subdir,
};

use super::{
    catch_up, collection_uri, earlier_job, execution_locality, open_existing, part_size, propose,
    request_key, target::read_target,
};
use crate::core::Core;

/// How many directories in a row are tried for a backup as of now, ten milliseconds apart: another backup may have just taken the
/// first.
const PLACES_TRIED: u32 = 20;
/// A directory's name has this resolution.
const PLACE_STEP: Millis = Millis(10);

/// A request, read.
struct Wanted {
    request: Option<RequestKey>,
    source: SourceName,
    target: Target,
    collection: CollectionUri,
    mode: BackupMode,
    as_of: Option<AsOf>,
    history: bool,
    execution_locality: Locality,
}

fn read(request: v1::SubmitBackupRequest) -> Result<Wanted, Fault> {
    use v1::submit_backup_request::Layer;
    let mode = match request.layer {
        Some(Layer::Full(true)) => BackupMode::Full,
        Some(Layer::AppendToLatest(true)) => BackupMode::AppendToLatest,
        Some(Layer::AppendTo(subdir)) => {
            BackupMode::AppendTo(subdir.trim_start_matches('/').to_owned())
        }
        Some(Layer::Full(false) | Layer::AppendToLatest(false)) | None => {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                "the backup does not say which layer it writes",
            )
            .hint(
                "ask for a full, for an incremental on the latest full, or for one on a named full",
            ));
        }
    };
    Ok(Wanted {
        request: request_key(&request.request_key)?,
        source: request.source.parse()?,
        target: read_target(request.target)?,
        collection: collection_uri(&request.into)?,
        mode,
        as_of: match request.as_of.as_str() {
            "" => None,
            text => Some(text.parse()?),
        },
        history: request.revision_history,
        execution_locality: execution_locality(&request.execution_locality)?,
    })
}

/// Accepts a backup.
pub(crate) async fn submit_backup(
    core: &Core,
    request: v1::SubmitBackupRequest,
) -> Result<v1::SubmitJobResponse, Fault> {
    let wanted = read(request)?;
    catch_up(core).await?;
    if let Some(earlier) = earlier_job(core, wanted.request.as_ref()) {
        return Ok(earlier);
    }
    let (cluster, source) = core
        .replica
        .read(|ledger| identify(ledger, &wanted.source))?;
    check_capabilities(source.kind, &wanted)?;
    let now = core.env.clock.now();
    let end = end_of(wanted.as_of, now)?;
    let layer = match &wanted.mode {
        BackupMode::Full => find_place(core, &wanted, end).await?,
        BackupMode::AppendToLatest => append(core, &wanted, cluster, &source, None, end).await?,
        BackupMode::AppendTo(subdir) => {
            append(core, &wanted, cluster, &source, Some(subdir), end).await?
        }
    };
    let spec = BackupSpec {
        source: source.name,
        kind: source.kind,
        members: source
            .members
            .into_iter()
            .map(|member| BackupMember { member })
            .collect(),
        target: wanted.target,
        collection: wanted.collection.to_string(),
        path: layer.path,
        parent: layer.parent,
        end: layer.end,
        history: wanted.history,
        execution_locality: wanted.execution_locality,
        part_size: part_size(core),
        hold: HoldUse::Job,
    };
    propose(core, JobSpec::Backup(spec), wanted.request, now).await
}

/// The cluster, and a source of it.
pub(super) fn identify(
    ledger: &Ledger,
    source: &SourceName,
) -> Result<(ClusterId, SourceRecord), Fault> {
    let cluster = ledger.cluster().ok_or_else(|| {
        Fault::new(
            ErrorCode::FailedPrecondition,
            "the cluster is not initialised",
        )
        .hint("run `holdfast init` once")
    })?;
    let source = ledger.source(source).cloned().ok_or_else(|| {
        Fault::new(
            ErrorCode::NotFound,
            format!("there is no source named {source}"),
        )
        .hint("list the sources with `holdfast source list`, or register it")
    })?;
    Ok((cluster, source))
}

/// Whether sources of a kind can be read as of the past, and incrementally.
fn has_time_travel(kind: SourceKind) -> bool {
    match kind {
        SourceKind::Mvcc => true,
        // A kind that this version does not know is not trusted with the past.
        _ => false,
    }
}

fn check_capabilities(kind: SourceKind, wanted: &Wanted) -> Result<(), Fault> {
    if has_time_travel(kind) {
        return Ok(());
    }
    if wanted.as_of.is_some() || wanted.history || wanted.mode != BackupMode::Full {
        return Err(Fault::new(
            ErrorCode::Unsupported,
            format!(
                "source {} of kind {kind} can only be backed up in full, as of now",
                wanted.source
            ),
        ));
    }
    Ok(())
}

/// The layer's end. The future cannot be backed up.
fn end_of(as_of: Option<AsOf>, now: Timestamp) -> Result<Hlc, Fault> {
    let end = as_of.map_or(Hlc::at(now), |as_of| as_of.resolve(now));
    if end.wall > now {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!(
                "AS OF SYSTEM TIME {} is in the future: it is {now} now",
                end.wall
            ),
        )
        .hint("leave AS OF out to back up as of now"));
    }
    Ok(end)
}

/// Where a layer goes.
struct Place {
    path: LayerPath,
    parent: Option<ParentLayer>,
    end: Hlc,
}

/// A free directory for a full. As of now, a taken one is passed by; as of a given time the directory is given too.
async fn find_place(core: &Core, wanted: &Wanted, end: Hlc) -> Result<Place, Fault> {
    let mut end = end;
    for _ in 0..PLACES_TRIED {
        let place = Place {
            path: LayerPath::full(full_subdir(end.wall)),
            parent: None,
            end,
        };
        match check_free(core, wanted, &place.path).await {
            Err(fault) if fault.code == ErrorCode::AlreadyExists && wanted.as_of.is_none() => {
                tokio::time::sleep(PLACE_STEP.into()).await;
                end = Hlc::at(core.env.clock.now().max(end.wall.plus(PLACE_STEP)));
            }
            other => return other.map(|()| place),
        }
    }
    Err(Fault::new(
        ErrorCode::AlreadyExists,
        format!(
            "a full backup already exists in every directory of {} that was tried",
            wanted.collection
        ),
    )
    .hint("try again in a moment"))
}

/// Whether nothing is in a layer's directory, nor about to be.
async fn check_free(core: &Core, wanted: &Wanted, path: &LayerPath) -> Result<(), Fault> {
    let collection = &wanted.collection;
    let busy = core.replica.read(|ledger| {
        ledger
            .unsettled_jobs()
            .filter(|job| !job.state().is_terminal())
            .find_map(|job| match job.spec().as_ref() {
                JobSpec::Backup(spec)
                    if spec.path == *path && spec.collection == collection.to_string() =>
                {
                    Some(job.id())
                }
                _ => None,
            })
    });
    if let Some(job) = busy {
        return Err(taken(collection, path, &format!("job {job} writes it")));
    }
    let store = match open_existing(core, collection).await {
        Ok(store) => store,
        // The first backup makes the collection.
        Err(fault) if fault.code == ErrorCode::NotFound => return Ok(()),
        Err(fault) => return Err(fault),
    };
    let what = format!("looking at {path} in {collection}");
    match core.bounded(&what, store.load_layer(path)).await {
        Ok(layer) => {
            let by = format!("job {} wrote it", layer.manifest.job);
            return Err(taken(collection, path, &by));
        }
        Err(fault) if fault.code == ErrorCode::NotFound => {}
        Err(fault) => return Err(fault),
    }
    match core.bounded(&what, store.read_claim(path)).await? {
        Some(claim) => {
            let by = format!("job {} of cluster {} claimed it", claim.job, claim.cluster);
            Err(taken(collection, path, &by))
        }
        None => Ok(()),
    }
}

fn taken(collection: &CollectionUri, path: &LayerPath, by: &str) -> Fault {
    let what = match path.incremental {
        None => "A full backup",
        Some(_) => "An incremental backup",
    };
    Fault::new(
        ErrorCode::AlreadyExists,
        format!("{what} already exists in {path} of {collection} ({by})"),
    )
    .hint("choose another AS OF time; nothing in a collection is ever overwritten")
}

/// An incremental on a chain of the collection.
async fn append(
    core: &Core,
    wanted: &Wanted,
    cluster: ClusterId,
    source: &SourceRecord,
    subdir: Option<&str>,
    end: Hlc,
) -> Result<Place, Fault> {
    let collection = &wanted.collection;
    let no_latest = || {
        Fault::new(
            ErrorCode::NotFound,
            format!("path does not contain a completed latest backup: {collection}"),
        )
        .hint("take a full backup first")
    };
    let store = match open_existing(core, collection).await {
        Err(fault) if fault.code == ErrorCode::NotFound => return Err(no_latest()),
        other => other?,
    };
    let what = format!("reading the chain in {collection}");
    let subdir = match subdir {
        Some(subdir) => subdir.to_owned(),
        None => core.bounded(&what, store.latest()).await?,
    };
    let chain = match core.bounded(&what, store.load_chain(&subdir)).await {
        Err(fault) if fault.code == ErrorCode::NotFound => {
            return Err(Fault::new(
                ErrorCode::NotFound,
                format!("there is no full backup in '{subdir}' of {collection} to append to"),
            )
            .hint("list what there is with `holdfast backups`, or take a full backup"));
        }
        other => other?,
    };
    let parent = chain.check_append(&AppendRequest {
        cluster,
        source: source.name.clone(),
        kind: source.kind,
        members: source
            .members
            .iter()
            .map(|member| member.name.clone())
            .collect(),
        target: wanted.target.clone(),
        end,
    })?;
    let own = incremental_subdir(parent.end.wall, end.wall);
    let path = LayerPath::incremental(subdir, own);
    check_free(core, wanted, &path).await?;
    Ok(Place {
        path,
        parent: Some(parent),
        end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_is_refused_and_the_past_resolved() {
        let now = Timestamp::from_millis(1_000_000);
        assert_eq!(end_of(None, now), Ok(Hlc::at(now)));
        let ago = "-10s".parse().expect("legal");
        assert_eq!(
            end_of(Some(ago), now),
            Ok(Hlc::at(Timestamp::from_millis(990_000)))
        );
        let later = AsOf::Time(now.plus(Millis(1)));
        let fault = end_of(Some(later), now).expect_err("the future");
        assert!(fault.message.contains("is in the future"), "{fault}");
    }

    #[test]
    fn a_request_must_say_which_layer_it_writes() {
        use v1::submit_backup_request::Layer;
        let request = |layer| v1::SubmitBackupRequest {
            source: "fleet".into(),
            into: "memory://c".into(),
            layer,
            ..v1::SubmitBackupRequest::default()
        };
        assert!(read(request(Some(Layer::Full(true)))).is_ok());
        let slash = read(request(Some(Layer::AppendTo(
            "/2026/01/01-000000.00".into(),
        ))));
        assert_eq!(
            slash.map(|wanted| wanted.mode).ok(),
            Some(BackupMode::AppendTo("2026/01/01-000000.00".into()))
        );
        for layer in [
            None,
            Some(Layer::Full(false)),
            Some(Layer::AppendToLatest(false)),
        ] {
            assert!(read(request(layer)).is_err());
        }
    }
}
