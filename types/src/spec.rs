//! What a job is to do, resolved: everything a leader or a worker needs to know, fixed when the job is accepted.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

use crate::access::CollectionAccess;
use crate::chain_key::ChainKey;
use crate::digest::Digest;
use crate::ids::{HoldId, SourceName};
use crate::job::JobKind;
use crate::locality::Locality;
use crate::position::{Hlc, Position};
use crate::restore_options::RestoreOptions;
use crate::seal::Sealed;
use crate::source::{DatabaseName, MemberRecord, SourceKind, TableName, Target};
use crate::time::Timestamp;

/// A layer's place in its collection, relative to the collection's root.
///
/// A full is `YYYY/MM/DD-HHMMSS.ss`; an incremental on it is
/// `incrementals/<full>/YYYYMMDD/HHMMSS.ss-YYYYMMDD-HHMMSS.ss` (end, then start), as in the model system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LayerPath {
    /// The full backup that heads the chain.
    pub full: String,
    /// The incremental's own two components, if the layer is one.
    pub incremental: Option<String>,
}

impl LayerPath {
    /// The path of a full.
    #[must_use]
    pub fn full(subdir: impl Into<String>) -> Self {
        Self {
            full: subdir.into(),
            incremental: None,
        }
    }

    /// The path of an incremental of the chain headed by `full`.
    #[must_use]
    pub fn incremental(full: impl Into<String>, own: impl Into<String>) -> Self {
        Self {
            full: full.into(),
            incremental: Some(own.into()),
        }
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.incremental {
            None => f.write_str(&self.full),
            Some(own) => write!(f, "incrementals/{}/{own}", self.full),
        }
    }
}

/// Which layer a backup writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupMode {
    /// A new full, in a directory named by its end time.
    Full,
    /// An incremental on the newest full.
    AppendToLatest,
    /// An incremental on the full in this subdirectory.
    AppendTo(String),
}

/// The layer that an incremental continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentLayer {
    /// Where it is.
    pub path: LayerPath,
    /// Digest of its manifest: a replaced parent is noticed.
    pub manifest: Digest,
    /// Its end, which is this layer's start.
    pub end: Hlc,
}

/// One member as a backup sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupMember {
    /// The member as registered when the job was accepted.
    pub member: MemberRecord,
}

/// Which hold keeps the history that a backup reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldUse {
    /// One of the job's own, released when the job is over.
    Job,
    /// One of the job's own; when the job succeeds it is kept for the incrementals to come.
    StartChain,
    /// The one that the chain's full started.
    Chain(HoldId),
}

/// A backup job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSpec {
    /// The source.
    pub source: SourceName,
    /// Its kind.
    pub kind: SourceKind,
    /// Its members.
    pub members: Vec<BackupMember>,
    /// What is covered.
    pub target: Target,
    /// The address of the collection's default store, by which collections are told apart.
    pub collection: String,
    /// How its stores are reached.
    #[serde(default)]
    pub access: CollectionAccess,
    /// Where the layer goes.
    pub path: LayerPath,
    /// The layer that this one continues; `None` for a full.
    pub parent: Option<ParentLayer>,
    /// The layer's inclusive end: every member is read as of this position. Of a source whose history is a log
    /// ([`SourceKind::is_logged`]) when the job was accepted: it ends later, where its members are when all is read.
    pub end: Hlc,
    /// Whether every version since the parent's end is kept.
    pub history: bool,
    /// Only workers whose locality contains this run the job.
    pub execution_locality: Locality,
    /// Logical bytes after which a worker closes a part and checkpoints it.
    pub part_size: u64,
    /// Which hold keeps the history that is read.
    pub hold: HoldUse,
    /// The chain's key, if it is encrypted.
    pub encryption: Option<ChainKey>,
}

/// One member as a restore sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreMember {
    /// The member that is written.
    pub member: MemberRecord,
    /// The member of the backup whose rows it receives.
    pub from: crate::ids::MemberName,
}

/// A restore job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreSpec {
    /// The source that is written.
    pub source: SourceName,
    /// Its kind.
    pub kind: SourceKind,
    /// Its members, with the members of the backup that they receive.
    pub members: Vec<RestoreMember>,
    /// What is restored.
    pub target: Target,
    /// The address of the collection's default store, by which collections are told apart.
    pub collection: String,
    /// How its stores are reached.
    #[serde(default)]
    pub access: CollectionAccess,
    /// The layers to merge, oldest first, with the digest of each manifest.
    pub layers: Vec<(LayerPath, Digest)>,
    /// The position that is restored: an instant, or, of one member, what was committed before a place in its log.
    pub as_of: Position,
    /// Databases that get another name: old → new.
    pub renamed: BTreeMap<DatabaseName, DatabaseName>,
    /// Single tables that get another name, schema or database: old → new. It counts before [`Self::renamed`].
    #[serde(with = "pairs")]
    pub tables: BTreeMap<TableName, TableName>,
    /// What else is wished of it.
    pub options: RestoreOptions,
    /// Whether the databases must exist already (tables restored into them) or must not (whole databases).
    pub into_existing: bool,
    /// Only workers whose locality contains this run the job.
    pub execution_locality: Locality,
    /// Logical bytes after which a worker checkpoints.
    pub part_size: u64,
    /// The chain's key, if it is encrypted.
    pub encryption: Option<ChainKey>,
}

impl RestoreSpec {
    /// The options that are not the usual ones, as a description ends with them.
    fn options(&self) -> String {
        let given = self.options.given();
        match given.is_empty() {
            true => String::new(),
            false => format!(" WITH {}", given.join(", ")),
        }
    }
}

/// A verify job: reads every object of the layers and compares lengths and digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySpec {
    /// The address of the collection's default store, by which collections are told apart.
    pub collection: String,
    /// How its stores are reached.
    #[serde(default)]
    pub access: CollectionAccess,
    /// The layers, oldest first, with the digest of each manifest.
    pub layers: Vec<(LayerPath, Digest)>,
    /// Only workers whose locality contains this run the job.
    pub execution_locality: Locality,
    /// The chain's key, if it is encrypted.
    pub encryption: Option<ChainKey>,
}

/// An expiry: removes whole chains of a collection. Which ones was decided when it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireSpec {
    /// The address of the collection's default store, by which collections are told apart.
    pub collection: String,
    /// How its stores are reached.
    #[serde(default)]
    pub access: CollectionAccess,
    /// The chains, by the directories of their fulls, in the order in which they go.
    pub chains: Vec<String>,
    /// The rule that they were chosen by, as a description shows it.
    pub rule: String,
    /// Always empty: no worker takes part.
    pub execution_locality: Locality,
}

impl ExpireSpec {
    /// Chains that one job removes at most: it is one entry of the raft log.
    pub const MOST_CHAINS: usize = 1000;
}

/// What a job is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobSpec {
    /// A backup.
    Backup(BackupSpec),
    /// A restore.
    Restore(RestoreSpec),
    /// A verification.
    Verify(VerifySpec),
    /// An expiry.
    Expire(ExpireSpec),
}

impl JobSpec {
    /// The kind of job.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Backup(_) => JobKind::Backup,
            Self::Restore(_) => JobKind::Restore,
            Self::Verify(_) => JobKind::Verify,
            Self::Expire(_) => JobKind::Expire,
        }
    }

    /// How the collection's stores are reached.
    #[must_use]
    pub fn access(&self) -> &CollectionAccess {
        match self {
            Self::Backup(spec) => &spec.access,
            Self::Restore(spec) => &spec.access,
            Self::Verify(spec) => &spec.access,
            Self::Expire(spec) => &spec.access,
        }
    }

    /// The same, to renew secrets of it.
    pub fn access_mut(&mut self) -> &mut CollectionAccess {
        match self {
            Self::Backup(spec) => &mut spec.access,
            Self::Restore(spec) => &mut spec.access,
            Self::Verify(spec) => &mut spec.access,
            Self::Expire(spec) => &mut spec.access,
        }
    }

    /// The number of the store that takes the data of a member of a backup, by its place in the specification.
    #[must_use]
    pub fn store_of(&self, member: u32) -> u16 {
        match self {
            Self::Backup(spec) if !spec.access.localities.is_empty() => {
                let found = spec.members.get(member as usize);
                found.map_or(0, |found| spec.access.store_of(&found.member.locality))
            }
            Self::Backup(_) | Self::Restore(_) | Self::Verify(_) | Self::Expire(_) => 0,
        }
    }

    /// The address of the collection's default store.
    #[must_use]
    pub fn collection(&self) -> &str {
        match self {
            Self::Backup(spec) => &spec.collection,
            Self::Restore(spec) => &spec.collection,
            Self::Verify(spec) => &spec.collection,
            Self::Expire(spec) => &spec.collection,
        }
    }

    /// The source that is read or written, if any.
    #[must_use]
    pub fn source(&self) -> Option<&SourceName> {
        match self {
            Self::Backup(spec) => Some(&spec.source),
            Self::Restore(spec) => Some(&spec.source),
            Self::Verify(_) | Self::Expire(_) => None,
        }
    }

    /// The members that are read or written, in task order. A verification has none, and neither has an expiry.
    #[must_use]
    pub fn members(&self) -> Vec<&MemberRecord> {
        match self {
            Self::Backup(spec) => spec.members.iter().map(|member| &member.member).collect(),
            Self::Restore(spec) => spec.members.iter().map(|member| &member.member).collect(),
            Self::Verify(_) | Self::Expire(_) => Vec::new(),
        }
    }

    /// The key of the chain that is written or read, if it is encrypted.
    #[must_use]
    pub fn encryption(&self) -> Option<&ChainKey> {
        match self {
            Self::Backup(spec) => spec.encryption.as_ref(),
            Self::Restore(spec) => spec.encryption.as_ref(),
            Self::Verify(spec) => spec.encryption.as_ref(),
            // What is removed is not read.
            Self::Expire(_) => None,
        }
    }

    /// Forgets the key: the job is over, and only that it was encrypted is still of interest.
    pub fn forget_key(&mut self) {
        let key = match self {
            Self::Backup(spec) => &mut spec.encryption,
            Self::Restore(spec) => &mut spec.encryption,
            Self::Verify(spec) => &mut spec.encryption,
            Self::Expire(_) => return,
        };
        if let Some(key) = key {
            key.sealed = Sealed::default();
            key.info = Vec::new();
        }
    }

    /// The filter on the workers' localities.
    #[must_use]
    pub fn execution_locality(&self) -> &Locality {
        match self {
            Self::Backup(spec) => &spec.execution_locality,
            Self::Restore(spec) => &spec.execution_locality,
            Self::Verify(spec) => &spec.execution_locality,
            Self::Expire(spec) => &spec.execution_locality,
        }
    }

    /// The job as one line of prose, as job lists show it.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Backup(spec) => {
                let options = match (spec.history, spec.encryption.is_some()) {
                    (false, false) => "",
                    (true, false) => " WITH revision_history",
                    (false, true) => " WITH encryption",
                    (true, true) => " WITH revision_history, encryption",
                };
                let kind = if spec.parent.is_some() {
                    "INCREMENTAL "
                } else {
                    ""
                };
                // Where a log ends is not known before.
                let as_of = if spec.kind.is_logged() {
                    String::new()
                } else {
                    format!(" AS OF SYSTEM TIME '{}'", spec.end)
                };
                format!(
                    "{kind}BACKUP {} OF SOURCE {} INTO '{}' IN '{}'{as_of}{options}",
                    spec.target, spec.source, spec.path, spec.collection
                )
            }
            Self::Restore(spec) => format!(
                "RESTORE {} FROM '{}' IN '{}' AS OF SYSTEM TIME '{}' INTO SOURCE {}{}",
                spec.target,
                spec.layers
                    .first()
                    .map(|(path, _)| path.full.as_str())
                    .unwrap_or_default(),
                spec.collection,
                spec.as_of,
                spec.source,
                spec.options()
            ),
            Self::Verify(spec) => format!(
                "VERIFY {} layer(s) FROM '{}' IN '{}'",
                spec.layers.len(),
                spec.layers
                    .first()
                    .map(|(path, _)| path.full.as_str())
                    .unwrap_or_default(),
                spec.collection
            ),
            Self::Expire(spec) => format!(
                "EXPIRE {} chain(s) IN '{}' {}",
                spec.chains.len(),
                spec.collection,
                spec.rule
            ),
        }
    }

    /// The chains that the job writes, reads or removes, by the directories of their fulls.
    pub fn chains(&self) -> impl Iterator<Item = &str> {
        let (one, layers, many): (Option<&String>, &[(LayerPath, Digest)], &[String]) = match self {
            Self::Backup(spec) => (Some(&spec.path.full), &[], &[]),
            Self::Restore(spec) => (None, &spec.layers, &[]),
            Self::Verify(spec) => (None, &spec.layers, &[]),
            Self::Expire(spec) => (None, &[], &spec.chains),
        };
        let read = layers.iter().map(|(path, _)| &path.full);
        one.into_iter().chain(read).chain(many).map(String::as_str)
    }
}

/// The time that names a full's directory.
#[must_use]
pub fn full_subdir(end: Timestamp) -> String {
    format!(
        "{}.{:02}",
        end.format("%Y/%m/%d-%H%M%S"),
        end.as_millis() / 10 % 100
    )
}

/// The two components that name an incremental's directory: end date, then end time and start.
#[must_use]
pub fn incremental_subdir(start: Timestamp, end: Timestamp) -> String {
    let hundredths = |time: Timestamp| time.as_millis() / 10 % 100;
    format!(
        "{}/{}.{:02}-{}.{:02}",
        end.format("%Y%m%d"),
        end.format("%H%M%S"),
        hundredths(end),
        start.format("%Y%m%d-%H%M%S"),
        hundredths(start)
    )
}

/// A map as a list of pairs: text formats have maps with texts as keys only.
mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}
