//! Backups.

use holdfast_collection::CollectionStore;
use holdfast_format::AppendRequest;
use holdfast_keys::KeyRing;
use holdfast_ledger::Ledger;
use holdfast_proto::v1;
use holdfast_types::{
    AsOf, BackupMember, BackupMode, BackupSpec, ChainKey, ClusterId, ErrorCode, Fault, Hlc, HoldId,
    HoldUse, JobSpec, LayerPath, Locality, Millis, ParentLayer, RequestKey, SourceKind, SourceName,
    SourceRecord, Target, Timestamp, full_subdir, incremental_subdir,
};

use super::{
    catch_up, earlier_job, execution_locality, own_key, part_size, propose, request_key,
    target::read_target,
};
use crate::core::Core;
use crate::encryption::{OpenChain, new_chain, open_chain, read_ring};
use crate::location::Collection;

/// How many directories in a row are tried for a backup as of now, ten milliseconds apart: another backup may have just taken the
/// first.
const PLACES_TRIED: u32 = 20;
/// A directory's name has this resolution.
const PLACE_STEP: Millis = Millis(10);

/// A request, read.
pub(super) struct Wanted {
    request: Option<RequestKey>,
    pub(super) source: SourceName,
    pub(super) target: Target,
    pub(super) collection: Collection,
    mode: BackupMode,
    as_of: Option<AsOf>,
    pub(super) history: bool,
    start_chain: Option<bool>,
    pub(super) execution_locality: Locality,
    keys: KeyRing,
    /// Of a schedule: keys from before, one of which may open the chain instead.
    former: Vec<KeyRing>,
}

pub(super) fn read(
    request: v1::SubmitBackupRequest,
    collection: Collection,
) -> Result<Wanted, Fault> {
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
        collection,
        mode,
        as_of: match request.as_of.as_str() {
            "" => None,
            text => Some(text.parse()?),
        },
        history: request.revision_history,
        start_chain: request.start_chain,
        execution_locality: execution_locality(&request.execution_locality)?,
        keys: read_ring(request.encryption)?,
        former: Vec::new(),
    })
}

/// Accepts a backup.
pub(crate) async fn submit_backup(
    core: &Core,
    request: v1::SubmitBackupRequest,
) -> Result<v1::SubmitJobResponse, Fault> {
    own_key(&request.request_key)?;
    let accepted = submit_scheduled(core, request, Vec::new()).await?;
    Ok(accepted.response)
}

/// A backup that was accepted.
pub(crate) struct Accepted {
    pub(crate) response: v1::SubmitJobResponse,
    /// Of an incremental that was not accepted before: which keys opened its chain. 0: those of the request; from 1 on: those from before.
    pub(crate) opened_by: Option<usize>,
}

/// Accepts a backup of a schedule. If its own keys do not open the chain of an incremental, those from before may.
pub(crate) async fn submit_scheduled(
    core: &Core,
    request: v1::SubmitBackupRequest,
    former: Vec<KeyRing>,
) -> Result<Accepted, Fault> {
    let key = request_key(&request.request_key)?;
    catch_up(core).await?;
    if let Some(response) = earlier_job(core, key.as_ref()) {
        return Ok(Accepted {
            response,
            opened_by: None,
        });
    }
    let into = Collection::to_write(core, &request.into, &request.more_into)?;
    let wanted = Wanted {
        former,
        ..read(request, into)?
    };
    let (cluster, source) = core
        .replica
        .read(|ledger| identify(ledger, &wanted.source))?;
    check_capabilities(source.kind, &wanted)?;
    // Before the chain is looked at: whatever is written to it from now on is noticed when the job is proposed.
    let now = core.env.clock.now();
    let end = end_of(wanted.as_of, now)?;
    let layer = match &wanted.mode {
        BackupMode::Full => {
            let place = find_place(core, &wanted, end).await?;
            Place {
                key: new_chain(core, &place.path.full, &wanted.keys).await?,
                ..place
            }
        }
        BackupMode::AppendToLatest => append(core, &wanted, cluster, &source, None, end).await?,
        BackupMode::AppendTo(subdir) => {
            append(core, &wanted, cluster, &source, Some(subdir), end).await?
        }
    };
    let hold = hold_of(core, &wanted, &source, &layer)?;
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
        access: wanted.collection.access(&core.config.cluster_key),
        path: layer.path,
        parent: layer.parent,
        end: layer.end,
        history: wanted.history,
        execution_locality: wanted.execution_locality,
        part_size: part_size(core),
        hold,
        encryption: layer.key,
    };
    let response = propose(core, JobSpec::Backup(spec), wanted.request, now).await?;
    Ok(Accepted {
        response,
        opened_by: layer.opened_by,
    })
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

pub(super) fn check_capabilities(kind: SourceKind, wanted: &Wanted) -> Result<(), Fault> {
    let refuse = |code, what: &str, hint: &str| {
        let what = format!("source {} of kind {kind} {what}", wanted.source);
        Err(Fault::new(code, what).hint(hint))
    };
    if kind.is_logged() {
        if wanted.as_of.is_some() {
            return refuse(
                ErrorCode::Unsupported,
                "cannot be read as of the past: its backup ends where its servers are when all is read",
                "leave AS OF out; for times in between take incrementals with revision_history, and restore AS OF them",
            );
        }
        if wanted.start_chain == Some(true) && wanted.mode != BackupMode::Full {
            return refuse(
                ErrorCode::InvalidArgument,
                "starts a chain with a full backup, and this one is an incremental",
                "leave start_chain out: an incremental goes on with what its chain keeps",
            );
        }
        return Ok(());
    }
    if wanted.start_chain == Some(true) {
        return refuse(
            ErrorCode::Unsupported,
            "keeps history by itself, for as long as it is told to",
            "leave start_chain out: incrementals can follow every full",
        );
    }
    match wanted.target.pattern() {
        None => Ok(()),
        Some(pattern) => refuse(
            ErrorCode::Unsupported,
            &format!("has no schemas, and its tables are not named by patterns such as {pattern}"),
            "back up the database as a whole, or its tables by name",
        ),
    }
}

/// Which hold keeps what the backup reads.
fn hold_of(
    core: &Core,
    wanted: &Wanted,
    source: &SourceRecord,
    layer: &Place,
) -> Result<HoldUse, Fault> {
    if !source.kind.is_logged() {
        return Ok(HoldUse::Job);
    }
    match (&layer.parent, wanted.start_chain) {
        (None, None | Some(true)) => Ok(HoldUse::StartChain),
        (None, Some(false)) => Ok(HoldUse::Job),
        (Some(_), _) => {
            let (collection, full) = (wanted.collection.to_string(), &layer.path.full);
            let find = |ledger: &Ledger| chain_hold(ledger, &source.name, &collection, full);
            core.replica.read(find).map(HoldUse::Chain)
        }
    }
}

/// The hold that keeps the history with which a chain goes on.
fn chain_hold(
    ledger: &Ledger,
    source: &SourceName,
    collection: &str,
    full: &str,
) -> Result<HoldId, Fault> {
    let chain = format!("the chain '{full}' in '{collection}'");
    let writes = |spec: &JobSpec| match spec {
        JobSpec::Backup(spec) => spec.collection == collection && spec.path.full == full,
        JobSpec::Restore(_) | JobSpec::Verify(_) | JobSpec::Expire(_) => false,
    };
    let mut live = ledger
        .unsettled_jobs()
        .filter(|job| !job.state().is_terminal());
    if let Some(job) = live.find(|job| writes(job.spec())) {
        return Err(Fault::new(
            ErrorCode::FailedPrecondition,
            format!("job {} is writing to {chain}", job.id()),
        )
        .hint("wait for that job, or cancel it"));
    }
    let mut holds = ledger.holds().filter(|hold| hold.source == *source);
    let newest = ledger.catalogue().newest(collection, full);
    if newest.is_some_and(|layer| !layer.keeps_history) {
        return Err(Fault::new(
            ErrorCode::ChainRule,
            format!(
                "no incremental can follow in {chain}: a member of source {source} was backed up in snapshot mode, in which it keeps no log"
            ),
        )
        .hint(format!(
            "see what the member lacks with `holdfast source check {source}`, and take a full backup: in log mode it starts a new chain"
        )));
    }
    let why = match holds.find(|hold| hold.is_of_chain(collection, full)) {
        Some(hold) if hold.releasing.is_none() => return Ok(hold.id),
        Some(hold) => format!("its hold {} was given up", hold.id),
        None => "its full was taken without start_chain, its hold was given up, or a newer chain took its place"
            .to_owned(),
    };
    Err(Fault::new(
        ErrorCode::ChainRule,
        format!("source {source} does not keep the history that {chain} goes on with: {why}"),
    )
    .hint("take a full backup: it starts a new chain"))
}

/// The layer's end. The future cannot be backed up.
fn end_of(as_of: Option<AsOf>, now: Timestamp) -> Result<Hlc, Fault> {
    let end = match as_of {
        None => Hlc::at(now),
        Some(as_of) => as_of.instant(now)?,
    };
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
    key: Option<ChainKey>,
    /// As [`Accepted::opened_by`].
    opened_by: Option<usize>,
}

/// A free directory for a full. As of now, a taken one is passed by; as of a given time the directory is given too.
async fn find_place(core: &Core, wanted: &Wanted, end: Hlc) -> Result<Place, Fault> {
    let mut end = end;
    for _ in 0..PLACES_TRIED {
        let place = Place {
            path: LayerPath::full(full_subdir(end.wall)),
            parent: None,
            end,
            key: None,
            opened_by: None,
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
    let store = match core.open_existing(collection).await {
        Ok(store) => store,
        // The first backup makes the collection.
        Err(fault) if fault.code == ErrorCode::NotFound => return Ok(()),
        Err(fault) => return Err(fault),
    };
    let what = format!("looking at {path} in {collection}");
    let loading = store.load_layer_unless_sealed(path);
    match core.bounded(&what, loading).await {
        Ok(Some(layer)) => {
            let by = format!("job {} wrote it", layer.manifest.job);
            return Err(taken(collection, path, &by));
        }
        Ok(None) => return Err(taken(collection, path, "it is encrypted")),
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

fn taken(collection: &Collection, path: &LayerPath, by: &str) -> Fault {
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
    let store = match core.open_existing(collection).await {
        Err(fault) if fault.code == ErrorCode::NotFound => return Err(no_latest()),
        other => other?,
    };
    let what = format!("reading the chain in {collection}");
    let subdir = match subdir {
        Some(subdir) => subdir.to_owned(),
        None => core.bounded(&what, store.latest()).await?,
    };
    let no_full = |subdir: &str| {
        Fault::new(
            ErrorCode::NotFound,
            format!("there is no full backup in '{subdir}' of {collection} to append to"),
        )
        .hint("list what there is with `holdfast backups`, or take a full backup")
    };
    let subdir = match core.bounded(&what, store.resolve_subdir(&subdir)).await {
        Err(fault) if fault.code == ErrorCode::NotFound => {
            // Who removes it is more to the point.
            let looking = store.check_not_expired(subdir.trim_matches('/'));
            core.bounded(&what, looking).await?;
            return Err(no_full(&subdir));
        }
        other => other?,
    };
    let (open, opened_by) = open_by_any(core, &store, &subdir, wanted).await?;
    let chain = match core.bounded(&what, open.store.load_chain(&subdir)).await {
        Err(fault) if fault.code == ErrorCode::NotFound => return Err(no_full(&subdir)),
        other => other?,
    };
    let end = match chain.last() {
        // A server's clock may be ahead of ours: the new layer is named after the last one all the same.
        Some(last) if source.kind.is_logged() => {
            end.max(Hlc::at(last.manifest.end.wall.plus(PLACE_STEP)))
        }
        _ => end,
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
        tiers: wanted.collection.location().tiers(),
    })?;
    let own = incremental_subdir(parent.end.wall, end.wall);
    let path = LayerPath::incremental(subdir, own);
    check_free(core, wanted, &path).await?;
    Ok(Place {
        path,
        parent: Some(parent),
        end,
        key: open.key,
        opened_by: Some(opened_by),
    })
}

/// Opens a chain with the keys of a request, or else with the first that opens it of those from before.
async fn open_by_any(
    core: &Core,
    store: &CollectionStore,
    subdir: &str,
    wanted: &Wanted,
) -> Result<(OpenChain, usize), Fault> {
    let fault = match open_chain(core, store, subdir, &wanted.keys).await {
        Ok(open) => return Ok((open, 0)),
        Err(fault) => fault,
    };
    for (number, ring) in (1..).zip(&wanted.former) {
        if let Ok(open) = open_chain(core, store, subdir, ring).await {
            return Ok((open, number));
        }
    }
    Err(fault)
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

    fn wanted(change: impl FnOnce(&mut v1::SubmitBackupRequest)) -> Wanted {
        let mut request = v1::SubmitBackupRequest {
            source: "fleet".into(),
            into: "memory://c".into(),
            layer: Some(v1::submit_backup_request::Layer::Full(true)),
            ..v1::SubmitBackupRequest::default()
        };
        change(&mut request);
        read(request, Collection::plain("memory://c")).expect("legal")
    }

    #[test]
    fn what_a_kind_cannot_do_is_refused_and_not_ignored() {
        use v1::submit_backup_request::Layer;
        let table = |name: &str| {
            Some(v1::Target {
                databases: Vec::new(),
                tables: vec![name.into()],
            })
        };
        let (logged, mvcc) = (SourceKind::Postgres, SourceKind::Mvcc);
        type Change<'a> = &'a dyn Fn(&mut v1::SubmitBackupRequest);
        let append = |start_chain| {
            move |request: &mut v1::SubmitBackupRequest| {
                request.layer = Some(Layer::AppendToLatest(true));
                request.start_chain = start_chain;
            }
        };
        let chain = |start_chain| {
            move |request: &mut v1::SubmitBackupRequest| request.start_chain = Some(start_chain)
        };
        let cases: [(SourceKind, Change<'_>, Option<&str>); 14] = [
            (logged, &|_| (), None),
            (mvcc, &|_| (), None),
            (
                logged,
                &|request| request.as_of = "-10s".into(),
                Some("as of the past"),
            ),
            (mvcc, &|request| request.as_of = "-10s".into(), None),
            (logged, &|request| request.revision_history = true, None),
            (logged, &chain(true), None),
            (logged, &chain(false), None),
            (mvcc, &chain(true), Some("keeps history by itself")),
            (mvcc, &chain(false), None),
            (logged, &append(None), None),
            (
                logged,
                &append(Some(true)),
                Some("this one is an incremental"),
            ),
            (logged, &append(Some(false)), None),
            (
                logged,
                &|request| request.target = table("a.public.*"),
                None,
            ),
            (
                mvcc,
                &|request| request.target = table("a.*"),
                Some("patterns such as a.*"),
            ),
        ];
        for (kind, change, expected) in cases {
            match (check_capabilities(kind, &wanted(change)), expected) {
                (Ok(()), None) => {}
                (Err(fault), Some(text)) => {
                    assert!(fault.message.contains(text), "{fault}");
                    assert!(fault.hint.is_some(), "{fault}");
                }
                (outcome, expected) => panic!("{kind} {expected:?}: {outcome:?}"),
            }
        }
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
        assert!(
            read(
                request(Some(Layer::Full(true))),
                Collection::plain("memory://c")
            )
            .is_ok()
        );
        let slash = read(
            request(Some(Layer::AppendTo("/2026/01/01-000000.00".into()))),
            Collection::plain("memory://c"),
        );
        assert_eq!(
            slash.map(|wanted| wanted.mode).ok(),
            Some(BackupMode::AppendTo("2026/01/01-000000.00".into()))
        );
        for layer in [
            None,
            Some(Layer::Full(false)),
            Some(Layer::AppendToLatest(false)),
        ] {
            assert!(read(request(layer), Collection::plain("memory://c")).is_err());
        }
    }
}
