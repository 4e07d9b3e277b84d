//! The suite that every store is run through: what [`CollectionStore`] promises, whatever is below it.
//!
//! Run it with a store that works, and with one that fails in the ways that a store may ([`crate::faulty`]): the promises are the
//! same.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use holdfast_format::{
    Change, Entry, LayerTotals, Manifest, ManifestEntry, ManifestMember, PartWriter,
    SpanFileOptions, SpanFileSummary, SpanFileWriter,
};
use holdfast_types::{
    ClusterId, Epoch, ErrorCode, Fault, Hlc, JobId, KeyRange, LayerPath, ObjectRef, ParentLayer,
    RelationId, SourceKind, Target, TaskId, Timestamp, full_subdir, incremental_subdir,
};
use std::fmt;

use crate::{Claim, CollectionStore, DataName, Depth, PartName, SweepReport, VerifyReport, layout};

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub rule: &'static str,
    /// What happened.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

impl std::error::Error for Violation {}

/// What a check gives.
type Check = Result<(), Violation>;

/// The cluster that the suite's layers are of.
const CLUSTER: ClusterId = ClusterId([0xc0; 16]);

/// Runs every check against an empty collection.
///
/// # Errors
/// The first promise that was not kept.
pub async fn run(store: &CollectionStore) -> Check {
    an_empty_collection_says_so(store).await?;
    an_object_is_put_once(store).await?;
    racing_writers_of_one_key_have_one_winner(store).await?;
    a_claim_keeps_others_out(store).await?;
    a_layer_exists_when_its_manifest_does(store).await?;
    a_chain_is_listed_in_order(store).await?;
    rows_are_read_back_by_range(store).await?;
    a_sweep_removes_what_no_manifest_names(store).await?;
    missing_objects_are_named(store).await
}

fn ensure(rule: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Check {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            rule,
            detail: detail(),
        })
    }
}

/// Turns an unexpected error into a violation.
fn kept<T>(rule: &'static str, result: Result<T, Fault>) -> Result<T, Violation> {
    result.map_err(|fault| Violation {
        rule,
        detail: fault.to_string(),
    })
}

/// Requires an error of a kind.
fn refused<T>(
    rule: &'static str,
    result: Result<T, Fault>,
    code: ErrorCode,
) -> Result<Fault, Violation> {
    match result {
        Err(fault) if fault.code == code => Ok(fault),
        Err(fault) => Err(Violation {
            rule,
            detail: format!(
                "{} instead of {}: {fault}",
                fault.code.as_str(),
                code.as_str()
            ),
        }),
        Ok(_) => Err(Violation {
            rule,
            detail: format!("succeeded instead of {}", code.as_str()),
        }),
    }
}

fn at(seconds: u64) -> Hlc {
    Hlc::at(Timestamp::from_millis(1_800_000_000_000 + seconds * 1000))
}

fn full_path(seconds: u64) -> LayerPath {
    LayerPath::full(full_subdir(at(seconds).wall))
}

fn claim(job: u64) -> Claim {
    Claim {
        cluster: CLUSTER,
        job: JobId(job),
    }
}

fn data_name(job: u64, sequence: u32) -> DataName {
    let task = TaskId {
        job: JobId(job),
        index: 0,
    };
    DataName::new(task, Epoch(1), sequence)
}

/// A span file of so many rows, whose values start with `salt`.
fn span_file(rows: u32, salt: u8) -> Result<(Vec<Bytes>, SpanFileSummary), Fault> {
    let mut writer = SpanFileWriter::new(SpanFileOptions {
        block_size: 1 << 10,
        ..SpanFileOptions::default()
    })?;
    let mut chunks = Vec::new();
    for row in 0..rows {
        writer.push(&entry(row, salt))?;
        chunks.push(writer.take());
    }
    let (rest, summary) = writer.finish()?;
    chunks.push(rest);
    Ok((chunks, summary))
}

fn entry(row: u32, salt: u8) -> Entry {
    Entry {
        key: row.to_be_bytes().to_vec().into(),
        position: at(1).into(),
        change: Change::Put(format!("{salt} {row} {:x}", row.wrapping_mul(0x9e37_79b9)).into()),
    }
}

fn manifest(path: LayerPath, job: u64, end: Hlc) -> Manifest {
    Manifest {
        cluster: CLUSTER,
        job: JobId(job),
        source: suite_name(),
        kind: SourceKind::Mvcc,
        path,
        parent: None,
        target: Target::Source,
        complete: Vec::new(),
        end,
        history: false,
        revision_start: None,
        members: Vec::<ManifestMember>::new(),
        totals: LayerTotals::default(),
        parts: Vec::new(),
        tiers: Vec::new(),
    }
}

#[expect(
    clippy::expect_used,
    reason = "the text is a legal name, and not from outside"
)]
fn suite_name() -> holdfast_types::SourceName {
    "conformance".parse().expect("a legal name")
}

async fn put(
    store: &CollectionStore,
    path: &LayerPath,
    name: DataName,
    salt: u8,
) -> Result<ObjectRef, Fault> {
    let (chunks, summary) = span_file(100, salt)?;
    store.put_data(path, name, chunks, &summary).await
}

/// Writes objects and a part that names all but the last, and gives the manifest of it, uncommitted.
async fn prepare(
    store: &CollectionStore,
    path: &LayerPath,
    job: u64,
    end: Hlc,
    objects: u32,
) -> Result<(Manifest, Vec<ManifestEntry>), Fault> {
    store.claim(path, claim(job)).await?;
    let mut part = PartWriter::new();
    let mut entries = Vec::new();
    for sequence in 0..objects {
        let object = put(store, path, data_name(job, sequence), 1).await?;
        let entry = ManifestEntry {
            member: 0,
            relation: RelationId(1),
            range: KeyRange::all(),
            object,
        };
        if sequence + 1 < objects {
            part.push(&entry)?;
            entries.push(entry);
        }
    }
    let (bytes, summary) = part.finish();
    let name = PartName {
        job: JobId(job),
        part: 0,
    };
    let part = store.put_part(path, name, vec![bytes], &summary).await?;
    let mut manifest = manifest(path.clone(), job, end);
    manifest.parts.push(part);
    Ok((manifest, entries))
}

async fn an_empty_collection_says_so(store: &CollectionStore) -> Check {
    const RULE: &str = "an empty collection says so";
    let chains = kept(RULE, store.list_chains().await)?;
    ensure(RULE, chains.is_empty(), || format!("{chains:?}"))?;
    let fault = refused(RULE, store.latest().await, ErrorCode::NotFound)?;
    ensure(
        RULE,
        fault
            .message
            .contains("does not contain a completed latest backup"),
        || fault.to_string(),
    )?;
    refused(
        RULE,
        store.resolve_subdir("2026/01/01-000000.00").await,
        ErrorCode::NotFound,
    )?;
    refused(
        RULE,
        store.resolve_subdir("../etc").await,
        ErrorCode::InvalidArgument,
    )?;
    refused(
        RULE,
        store.load_layer(&full_path(0)).await,
        ErrorCode::NotFound,
    )?;
    Ok(())
}

async fn an_object_is_put_once(store: &CollectionStore) -> Check {
    const RULE: &str = "an object is put once";
    let (path, name) = (full_path(1), data_name(1, 0));
    let object = kept(RULE, put(store, &path, name, 1).await)?;
    let again = kept(RULE, put(store, &path, name, 1).await)?;
    ensure(RULE, object == again, || format!("{object:?} {again:?}"))?;
    refused(
        RULE,
        put(store, &path, name, 2).await,
        ErrorCode::AlreadyExists,
    )?;
    let bytes = kept(RULE, store.get_verified(&path, &object).await)?;
    // What is stored is longer, if it is encrypted.
    let (chunks, _) = kept(RULE, span_file(100, 1))?;
    ensure(RULE, bytes == chunks.concat(), || {
        format!("{} bytes", bytes.len())
    })
}

async fn racing_writers_of_one_key_have_one_winner(store: &CollectionStore) -> Check {
    const RULE: &str = "racing writers of one key have one winner";
    let (path, name) = (full_path(2), data_name(2, 0));
    let writers = (0..8u8).map(|salt| put(store, &path, name, salt));
    let outcomes = futures::future::join_all(writers).await;
    let winners: Vec<&ObjectRef> = outcomes.iter().flatten().collect();
    ensure(RULE, winners.len() == 1, || format!("{outcomes:?}"))?;
    for winner in winners {
        kept(RULE, store.get_verified(&path, winner).await)?;
    }
    let same = (0..8).map(|_| put(store, &path, data_name(2, 1), 3));
    for outcome in futures::future::join_all(same).await {
        kept(RULE, outcome)?;
    }
    Ok(())
}

async fn a_claim_keeps_others_out(store: &CollectionStore) -> Check {
    const RULE: &str = "a claim keeps others out";
    let path = full_path(3);
    kept(RULE, store.claim(&path, claim(3)).await)?;
    kept(RULE, store.claim(&path, claim(3)).await)?;
    let fault = refused(
        RULE,
        store.claim(&path, claim(4)).await,
        ErrorCode::FailedPrecondition,
    )?;
    ensure(RULE, fault.message.contains("job 3"), || fault.to_string())?;
    let race = (0..6).map(|job| async move {
        let won = store.claim(&full_path(4), claim(10 + job)).await;
        won.is_ok()
    });
    let winners = futures::future::join_all(race).await;
    let winners = winners.into_iter().filter(|won| *won).count();
    ensure(RULE, winners == 1, || format!("{winners} of 6 won"))
}

async fn a_layer_exists_when_its_manifest_does(store: &CollectionStore) -> Check {
    const RULE: &str = "a layer exists when its manifest does";
    let path = full_path(5);
    let (manifest, entries) = kept(RULE, prepare(store, &path, 5, at(5), 4).await)?;
    refused(RULE, store.load_layer(&path).await, ErrorCode::NotFound)?;
    let before = kept(RULE, store.list_chains().await)?;
    ensure(RULE, before.is_empty(), || format!("{before:?}"))?;

    let layer = kept(RULE, store.commit_layer(&manifest).await)?;
    let again = kept(RULE, store.commit_layer(&manifest).await)?;
    let loaded = kept(RULE, store.load_layer_as(&path, layer.digest).await)?;
    ensure(RULE, layer == again && layer == loaded, || {
        format!("{layer:?}\n{loaded:?}")
    })?;
    let latest = kept(RULE, store.latest().await)?;
    ensure(RULE, latest == path.full, || latest)?;
    let chains = kept(RULE, store.list_chains().await)?;
    ensure(RULE, chains == [path.clone()], || format!("{chains:?}"))?;
    let listed: Vec<Vec<ManifestEntry>> = kept(RULE, store.entries(&layer).try_collect().await)?;
    ensure(RULE, listed.concat() == entries, || format!("{listed:?}"))?;

    let mut other = manifest.clone();
    other.job = JobId(6);
    let fault = refused(
        RULE,
        store.commit_layer(&other).await,
        ErrorCode::AlreadyExists,
    )?;
    ensure(
        RULE,
        fault.message.contains("a full backup already exists"),
        || fault.to_string(),
    )?;
    refused(
        RULE,
        store.claim(&path, claim(6)).await,
        ErrorCode::AlreadyExists,
    )?;
    kept(RULE, store.claim(&path, claim(5)).await)
}

async fn a_chain_is_listed_in_order(store: &CollectionStore) -> Check {
    const RULE: &str = "a chain is listed in order";
    let base = full_path(5);
    let mut parent = kept(RULE, store.load_layer(&base).await)?;
    let mut expected = vec![base.clone()];
    for seconds in [20, 30, 90_000] {
        let end = at(seconds);
        let start = parent.manifest.end;
        let own = incremental_subdir(start.wall, end.wall);
        let path = LayerPath::incremental(base.full.clone(), own);
        let (mut manifest, _) = kept(RULE, prepare(store, &path, seconds, end, 2).await)?;
        manifest.parent = Some(ParentLayer {
            path: parent.manifest.path.clone(),
            manifest: parent.digest,
            end: start,
        });
        parent = kept(RULE, store.commit_layer(&manifest).await)?;
        expected.push(path);
    }
    // Half-written: claimed, with objects, without a manifest.
    let half = incremental_subdir(at(90_000).wall, at(90_010).wall);
    let half = LayerPath::incremental(base.full.clone(), half);
    kept(RULE, prepare(store, &half, 99, at(90_010), 2).await)?;
    let listed = kept(RULE, store.list_layers(&base.full).await)?;
    ensure(RULE, listed == expected, || format!("{listed:?}"))?;
    let chain = kept(RULE, store.load_chain(&base.full).await)?;
    kept(RULE, chain.check_contiguous())?;
    let last = chain.last().map(|layer| layer.digest);
    ensure(RULE, last == Some(parent.digest), || format!("{last:?}"))?;

    // A damaged manifest breaks the chain where it stands, and no earlier.
    let own = incremental_subdir(at(90_000).wall, at(90_020).wall);
    let damaged = LayerPath::incremental(base.full.clone(), own);
    let garbage = vec![Bytes::from_static(b"no manifest")];
    kept(
        RULE,
        store
            .put_once(&layout::manifest(&damaged), garbage)
            .await
            .map(|_| ()),
    )?;
    let chain = kept(RULE, store.load_chain(&base.full).await)?;
    let broken: Vec<&LayerPath> = chain.broken().iter().map(|(path, _)| path).collect();
    ensure(RULE, broken == [&damaged], || format!("{broken:?}"))?;
    let last = chain.last().map(|layer| layer.digest);
    ensure(RULE, last == Some(parent.digest), || format!("{last:?}"))?;

    // An incremental moves no pointer; a later full does.
    let (newer, _) = kept(RULE, prepare(store, &full_path(100), 100, at(100), 1).await)?;
    kept(RULE, store.commit_layer(&newer).await)?;
    let latest = kept(RULE, store.resolve_subdir("latest").await)?;
    ensure(RULE, latest == full_path(100).full, || latest)?;
    let named = kept(
        RULE,
        store.resolve_subdir(&format!("/{}/", base.full)).await,
    )?;
    ensure(RULE, named == base.full, || named)
}

async fn rows_are_read_back_by_range(store: &CollectionStore) -> Check {
    const RULE: &str = "rows are read back by range";
    let (path, name) = (full_path(200), data_name(200, 0));
    let (chunks, summary) = kept(RULE, span_file(5_000, 7))?;
    let object = kept(RULE, store.put_data(&path, name, chunks, &summary).await)?;
    let span = kept(RULE, store.open_span(&path, &object).await)?;
    for (start, end) in [
        (0, 5_000),
        (0, 1),
        (1_234, 3_456),
        (4_999, 9_000),
        (6_000, 7_000),
    ] {
        let range = KeyRange {
            start: u32::to_be_bytes(start).to_vec().into(),
            end: u32::to_be_bytes(end).to_vec().into(),
        };
        let expected: Vec<Entry> = (start..end.min(5_000)).map(|row| entry(row, 7)).collect();
        let batches: Vec<Vec<Entry>> = kept(RULE, span.read(range.clone()).try_collect().await)?;
        ensure(RULE, batches.concat() == expected, || {
            format!("{start}..{end} in pieces")
        })?;
        let whole = kept(RULE, store.read_span(&path, &object).await)?;
        let whole: Result<Vec<Vec<Entry>>, Fault> = whole.read(range).collect();
        ensure(RULE, kept(RULE, whole)?.concat() == expected, || {
            format!("{start}..{end} whole")
        })?;
    }
    Ok(())
}

async fn a_sweep_removes_what_no_manifest_names(store: &CollectionStore) -> Check {
    const RULE: &str = "a sweep removes what no manifest names";
    // A finished layer keeps what it names; the last object is named by nothing.
    let path = full_path(300);
    let (manifest, entries) = kept(RULE, prepare(store, &path, 300, at(300), 4).await)?;
    kept(RULE, store.commit_layer(&manifest).await)?;
    let foreign = kept(RULE, put(store, &path, data_name(301, 0), 1).await)?;
    let report = kept(RULE, store.sweep_layer(&path, claim(300)).await)?;
    ensure(RULE, (report.objects, report.kept) == (1, 4), || {
        format!("{report:?}")
    })?;
    let mut found = VerifyReport::default();
    kept(
        RULE,
        store
            .verify_objects(&path, &entries, Depth::Rows, &mut found)
            .await
            .map(|_| ()),
    )?;
    ensure(RULE, found.is_sound() && found.objects == 3, || {
        format!("{found:?}")
    })?;
    kept(RULE, store.get_verified(&path, &foreign).await)?;

    // An unfinished one goes, with its claim, and only for the job that owns it.
    let path = full_path(310);
    kept(RULE, prepare(store, &path, 310, at(310), 3).await)?;
    let report = kept(RULE, store.sweep_layer(&path, claim(311)).await)?;
    ensure(RULE, report == SweepReport::default(), || {
        format!("{report:?}")
    })?;
    let report = kept(RULE, store.sweep_layer(&path, claim(310)).await)?;
    ensure(RULE, (report.objects, report.kept) == (5, 0), || {
        format!("{report:?}")
    })?;
    let left: Vec<_> = store
        .objects()
        .list(Some(&layout::layer(&path)))
        .collect()
        .await;
    ensure(RULE, left.is_empty(), || format!("{left:?}"))?;
    let report = kept(RULE, store.sweep_layer(&path, claim(310)).await)?;
    ensure(RULE, report == SweepReport::default(), || {
        format!("{report:?}")
    })
}

async fn missing_objects_are_named(store: &CollectionStore) -> Check {
    const RULE: &str = "missing objects are named";
    let path = full_path(400);
    let (manifest, entries) = kept(RULE, prepare(store, &path, 400, at(400), 15).await)?;
    kept(RULE, store.commit_layer(&manifest).await)?;
    let lost: Vec<&ManifestEntry> = entries.iter().skip(2).collect();
    for entry in &lost {
        let key = layout::data(&path).join(entry.object.name.as_str());
        kept(RULE, store.remove(&key).await)?;
        refused(
            RULE,
            store.get_verified(&path, &entry.object).await,
            ErrorCode::NotFound,
        )?;
        refused(
            RULE,
            store.open_span(&path, &entry.object).await,
            ErrorCode::NotFound,
        )?;
    }
    for depth in [Depth::Length, Depth::Digest, Depth::Rows] {
        let mut report = VerifyReport::default();
        let flow = store
            .verify_objects(&path, &entries, depth, &mut report)
            .await;
        kept(RULE, flow.map(|_| ()))?;
        let names: Vec<&str> = report
            .damaged
            .iter()
            .map(|found| found.object.as_str())
            .collect();
        let expected = lost.iter().take(VerifyReport::LIMIT);
        let is_named = expected
            .zip(&names)
            .all(|(entry, name)| name.ends_with(&entry.object.name));
        ensure(
            RULE,
            is_named && names.len() == VerifyReport::LIMIT && report.stopped,
            || format!("{depth:?}: {report:?}"),
        )?;
    }
    Ok(())
}
