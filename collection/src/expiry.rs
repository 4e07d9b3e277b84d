//! Removing whole chains: mark → validate → delete.
//!
//! A chain that is to go is marked first, by an object that names when and by whom. From then on no reader of the collection takes it for a backup,
//! and no writer goes on with it, so that it does not matter where a removal is cut off: whoever expires next finds the mark, and finishes.
//! `docs/FORMAT.md` (2.5) says why the order is safe for readers that know of no mark, too.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use holdfast_format::KeyInfoName;
use holdfast_types::{ByteCount, ClusterId, Digest, ErrorCode, Fault, JobId, LayerPath, Timestamp};
use object_store::ObjectMeta;
use object_store::path::Path;
use std::collections::BTreeSet;

use crate::claim::Claim;
use crate::layout;
use crate::names::{DataName, PartName, is_incremental_component};
use crate::store::{CONCURRENCY, CollectionStore, LIST_DEADLINE, within};

/// The first line of a mark.
const HEAD: &str = "holdfast-expired 1";
/// The first line of what stays on record of a chain that is gone.
const REMOVED_HEAD: &str = "holdfast-removed 1";
/// Objects that are listed before they are removed.
const BATCH: usize = 1000;

/// That a chain has expired: by which job of which cluster, and when. Stored as a short text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiryMark {
    /// The directory of the chain's full.
    pub full: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// Its job.
    pub job: JobId,
    /// When the job was accepted.
    pub at: Timestamp,
    /// How many stores it was given: what is left may lie in any of them.
    pub stores: usize,
}

impl ExpiryMark {
    fn body(&self) -> String {
        let Self {
            full,
            cluster,
            job,
            at,
            stores,
        } = self;
        format!("full {full}\ncluster {cluster}\njob {job}\nat {at}\nstores {stores}\n")
    }

    /// The mark as it is stored; its last line is the digest of those before.
    #[must_use]
    pub fn encode(&self) -> String {
        signed(format!("{HEAD}\n{}", self.body()))
    }

    /// Reads a stored mark.
    ///
    /// # Errors
    /// `Corrupted` if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let parse = || {
            let mut lines = std::str::from_utf8(bytes).ok()?.lines();
            (lines.next()? == HEAD).then_some(())?;
            let mark = Self {
                full: lines.next()?.strip_prefix("full ")?.to_owned(),
                cluster: lines.next()?.strip_prefix("cluster ")?.parse().ok()?,
                job: lines.next()?.strip_prefix("job ")?.parse().ok()?,
                at: lines.next()?.strip_prefix("at ")?.parse().ok()?,
                stores: lines.next()?.strip_prefix("stores ")?.parse().ok()?,
            };
            (mark.encode().as_bytes() == bytes).then_some(mark)
        };
        parse().ok_or_else(|| {
            Fault::new(
                ErrorCode::Corrupted,
                "the mark of an expired chain is damaged",
            )
        })
    }

    /// What stays on record once the chain is gone.
    fn removed(&self, report: &ExpiryReport) -> String {
        signed(format!(
            "{REMOVED_HEAD}\n{}objects {}\nbytes {}\n",
            self.body(),
            report.objects,
            report.bytes.0
        ))
    }
}

fn signed(text: String) -> String {
    let digest = Digest::of(text.as_bytes());
    format!("{text}digest {digest}\n")
}

/// What came of removing a chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExpiryReport {
    /// Objects removed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: ByteCount,
    /// Objects that the store did not let go: they are locked, or nobody may remove anything there. The chain stays marked.
    pub refused: u64,
    /// Why the first of them stayed.
    pub refusal: Option<Fault>,
}

impl ExpiryReport {
    /// Whether nothing of the chain is left.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.refused == 0
    }
}

/// A backup that was begun in a chain, and is not there: one that runs, or one that died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Where it writes.
    pub path: LayerPath,
    /// Who it is; `None` if the claim is damaged, or not there yet.
    pub claim: Option<Claim>,
}

impl CollectionStore {
    /// The chains that were marked as expired, and of which something is left.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn expired(&self) -> Result<BTreeSet<String>, Fault> {
        let directory = Path::from(layout::EXPIRED);
        let listed = self.list_directory(&directory).await?;
        // Tools that copy trees leave empty placeholders behind.
        let marks = listed.objects.into_iter().filter(|meta| meta.size > 0);
        Ok(marks
            .filter_map(|meta| layout::chain_of_mark(&meta.location))
            .collect())
    }

    /// Whether a chain was marked as expired.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn is_expired(&self, full: &str) -> Result<bool, Fault> {
        let found = self.home().head(&layout::mark(full)).await?;
        Ok(found.is_some_and(|meta| meta.size > 0))
    }

    /// What the mark of an expired chain says; `None` if it says nothing that can be read, or is not there.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn expiry_mark(&self, full: &str) -> Result<Option<ExpiryMark>, Fault> {
        let at = layout::mark(full);
        let read = self.get_parsed(&at, |bytes| ExpiryMark::decode(&bytes));
        match read.await {
            Ok(mark) => Ok(Some(mark)),
            Err(fault) if matches!(fault.code, ErrorCode::Corrupted | ErrorCode::NotFound) => {
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Requires that a chain is not marked as expired.
    ///
    /// # Errors
    /// `NotFound` if it is, saying when and by whom; otherwise what the store failed with.
    pub async fn check_not_expired(&self, full: &str) -> Result<(), Fault> {
        if !self.is_expired(full).await? {
            return Ok(());
        }
        // That it is there is what counts.
        let who = match self.expiry_mark(full).await {
            Ok(Some(mark)) => format!(
                " at {} by job {} of cluster {}",
                mark.at, mark.job, mark.cluster
            ),
            Ok(None) | Err(_) => String::new(),
        };
        Err(Fault::new(
            ErrorCode::NotFound,
            format!(
                "the chain {full} in {} has expired{who}: it is being removed",
                self.uri()
            ),
        )
        .hint("use a newer chain; list them with `holdfast backups list`"))
    }

    /// Backups that were begun in a chain and have no manifest, incrementals only.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn unfinished(&self, full: &str) -> Result<Vec<Unfinished>, Fault> {
        let finished: BTreeSet<LayerPath> = self.list_layers(full).await?.into_iter().collect();
        let begun = self.list_incrementals(full).await?;
        let mut found = Vec::new();
        for path in begun.into_iter().filter(|path| !finished.contains(path)) {
            let claim = match self.read_claim(&path).await {
                Ok(claim) => claim,
                Err(fault) if fault.code == ErrorCode::Corrupted => None,
                Err(fault) => return Err(fault),
            };
            // It may have been completed since it was listed.
            let manifest = self.home().head(&layout::manifest(&path)).await?;
            if manifest.is_none() && (claim.is_some() || self.has_claim(&path).await?) {
                found.push(Unfinished { path, claim });
            }
        }
        Ok(found)
    }

    async fn has_claim(&self, path: &LayerPath) -> Result<bool, Fault> {
        Ok(self.home().head(&layout::claim(path)).await?.is_some())
    }

    /// When the newest layer of a chain was completed, by the store's clock; `None` if there is no such chain.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn completed_at(&self, full: &str) -> Result<Option<Timestamp>, Fault> {
        let layers = self.list_layers(full).await?;
        let mut newest = None;
        if let Some(last) = layers.last() {
            let meta = self.home().head(&layout::manifest(last)).await?;
            newest =
                meta.and_then(|meta| u64::try_from(meta.last_modified.timestamp_millis()).ok());
        }
        Ok(newest.map(Timestamp::from_millis))
    }

    /// Marks a chain as expired and removes all of it, in all stores, as far as they let it go. Objects that are not ours stay.
    ///
    /// Nobody may be writing to the chain or reading it. No key is needed: names suffice. May be repeated, after any cut-off and at the same
    /// time by somebody else; each reports what it has removed itself.
    ///
    /// # Errors
    /// What a store failed with, if it is not a refusal. Then the chain stays marked, if it was.
    pub async fn expire_chain(&self, mark: &ExpiryMark) -> Result<ExpiryReport, Fault> {
        let full = mark.full.as_str();
        let (home, at) = (self.home(), layout::mark(full));
        match home.put_once(&at, vec![Bytes::from(mark.encode())]).await {
            Ok(_) => {}
            // Another job's: it says as well that the chain has expired.
            Err(fault) if fault.code == ErrorCode::AlreadyExists => self.check_stores(full).await?,
            Err(fault) => return Err(fault),
        }
        let mut report = ExpiryReport::default();
        // What leads to the chain, before the chain: nothing ever points to what is not there.
        let latest = Path::from(layout::LATEST);
        home.remove_below(&latest, |at| layout::points_to(at, full), &mut report)
            .await?;
        let index = layout::index_of(full);
        home.remove_below(&index, |at| layout::indexed(at).is_some(), &mut report)
            .await?;
        // With the full's manifest the whole chain is gone at once, for readers that know of no mark, too. If it stays, all stays.
        let head = LayerPath::full(full);
        home.remove_one(&layout::manifest(&head), &mut report)
            .await?;
        if home.head(&layout::manifest(&head)).await?.is_some() {
            return Ok(report);
        }
        let begun = self.list_incrementals(full).await?;
        for path in &begun {
            home.remove_one(&layout::manifest(path), &mut report)
                .await?;
        }
        for number in 0..self.stores() {
            let store = self.numbered(number)?;
            for root in [layout::layer(&head), layout::incrementals(full)] {
                let is_content = |at: &Path| is_content(at, full);
                store.remove_below(&root, is_content, &mut report).await?;
            }
        }
        // Claims are last: as long as one is there, its directory is known to be somebody's.
        for path in begun.iter().chain([&head]) {
            home.remove_one(&layout::claim(path), &mut report).await?;
        }
        if !report.is_complete() {
            return Ok(report);
        }
        let record = Bytes::from(mark.removed(&report));
        match home.put_once(&layout::removed(full), vec![record]).await {
            Ok(_) => {}
            // An attempt that was cut off has told it, or somebody else.
            Err(fault) if fault.code == ErrorCode::AlreadyExists => {}
            Err(fault) => return Err(fault),
        }
        // The mark is no part of the chain.
        let mut own = ExpiryReport::default();
        home.remove_one(&at, &mut own).await?;
        report.refused += own.refused;
        report.refusal = report.refusal.or(own.refusal);
        Ok(report)
    }

    /// What another job has begun to remove is only finished where all stores are given that it was given.
    async fn check_stores(&self, full: &str) -> Result<(), Fault> {
        let mark = self.expiry_mark(full).await?;
        match mark.filter(|mark| mark.stores > self.stores()) {
            None => Ok(()),
            Some(mark) => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!(
                    "the chain {full} in {} is being removed from {} stores, and {} was given",
                    self.uri(),
                    mark.stores,
                    self.stores()
                ),
            )
            .hint("give the URIs of all its stores")),
        }
    }

    async fn remove_one(&self, at: &Path, report: &mut ExpiryReport) -> Result<(), Fault> {
        let found = self.head(at).await?;
        self.remove_all(found.into_iter().collect(), report).await
    }

    /// Removes those of the objects below a directory that are wanted, in batches: there may be millions.
    async fn remove_below(
        &self,
        directory: &Path,
        is_wanted: impl Fn(&Path) -> bool,
        report: &mut ExpiryReport,
    ) -> Result<(), Fault> {
        let mut listed = self.objects().list(Some(directory));
        loop {
            let mut batch: Vec<ObjectMeta> = Vec::new();
            while batch.len() < BATCH {
                let next = listed.try_next();
                match within(LIST_DEADLINE, "listing", directory, next).await? {
                    Some(meta) if is_wanted(&meta.location) => batch.push(meta),
                    Some(_) => {}
                    None => break,
                }
            }
            let is_last = batch.len() < BATCH;
            self.remove_all(batch, report).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn remove_all(
        &self,
        batch: Vec<ObjectMeta>,
        report: &mut ExpiryReport,
    ) -> Result<(), Fault> {
        let mut removals = futures::stream::iter(batch)
            .map(|meta| async move {
                match self.remove(&meta.location).await {
                    Ok(()) => Ok(Ok(meta.size)),
                    Err(fault) if is_refusal(&fault) => Ok(Err(fault)),
                    Err(fault) => Err(fault),
                }
            })
            .buffer_unordered(CONCURRENCY);
        while let Some(removed) = removals.try_next().await? {
            match removed {
                Ok(size) => {
                    report.objects += 1;
                    report.bytes += ByteCount(size);
                }
                Err(fault) => {
                    report.refused += 1;
                    report.refusal.get_or_insert(fault);
                }
            }
        }
        Ok(())
    }
}

/// Whether a store does not let an object go, and will not a moment later either.
fn is_refusal(fault: &Fault) -> bool {
    matches!(
        fault.code,
        ErrorCode::FailedPrecondition | ErrorCode::Unsupported
    )
}

/// Whether an object of a chain is one that manifests and claims are about. What is not named as ours is named by somebody else, and stays.
fn is_content(at: &Path, full: &str) -> bool {
    let parts: Vec<String> = at.parts().map(|part| part.as_ref().to_owned()).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let head: Vec<&str> = full.split('/').collect();
    let in_full = parts.strip_prefix(head.as_slice());
    let in_incremental = || {
        let below = parts.strip_prefix(&[layout::INCREMENTALS])?;
        let (own, rest) = below.strip_prefix(head.as_slice())?.split_at_checked(2)?;
        let mut own = own.iter().enumerate();
        own.all(|(level, name)| is_incremental_component(level, name))
            .then_some(rest)
    };
    match in_full.or_else(in_incremental) {
        Some([name]) => name.starts_with(layout::PART),
        Some(["data", name]) => name.parse::<DataName>().is_ok(),
        Some(["parts", name]) => name.parse::<PartName>().is_ok(),
        Some(["keys", name]) => in_full.is_some() && name.parse::<KeyInfoName>().is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_nothing_else_is() {
        let mark = ExpiryMark {
            full: "2026/11/23-190800.50".into(),
            cluster: ClusterId([9; 16]),
            job: JobId(77),
            at: Timestamp::from_millis(1_790_000_000_000),
            stores: 2,
        };
        let bytes = mark.encode();
        assert_eq!(ExpiryMark::decode(bytes.as_bytes()), Ok(mark));
        for damaged in [
            "",
            "holdfast-expired 2\n",
            &bytes[..bytes.len() - 1],
            &format!("{bytes}x"),
        ] {
            assert!(ExpiryMark::decode(damaged.as_bytes()).is_err(), "{damaged}");
        }
    }

    #[test]
    fn only_what_is_named_as_ours_belongs_to_a_chain() {
        let full = "2026/11/23-190800.50";
        let own = "20261124/190800.50-20261123-190800.50";
        let cases = [
            ("BACKUP_PART_1_region=eu", true),
            ("data/5-1-2-3.hfs", true),
            ("data/5-1-2-3.hft", true),
            ("parts/5-0.hfp", true),
            ("keys/1.hfk", true),
            ("MANIFEST", false),
            ("BACKUP-LOCK", false),
            ("data/notes.txt", false),
            ("data/x/5-1-2-3.hfs", false),
            ("README", false),
        ];
        for (name, expected) in cases {
            let at = Path::from(format!("{full}/{name}"));
            assert_eq!(is_content(&at, full), expected, "{at}");
            let at = Path::from(format!("incrementals/{full}/{own}/{name}"));
            let is_key = name.starts_with("keys/");
            assert_eq!(is_content(&at, full), expected && !is_key, "{at}");
        }
        for other in [
            "2026/11/23-190800.51/data/5-1-2-3.hfs",
            "incrementals/2026/11/23-190800.50/data/5-1-2-3.hfs",
            "incrementals/2026/11/23-190800.50/x/y/data/5-1-2-3.hfs",
            "metadata/latest/LATEST-00",
        ] {
            assert!(!is_content(&Path::from(other), full), "{other}");
        }
    }
}
