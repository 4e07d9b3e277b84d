//! The manifest: the immutable list of all that a layer consists of, and its commit point.

mod codec;

use holdfast_types::{
    ByteCount, ClusterId, DatabaseName, Digest, Hlc, JobId, LayerPath, Locality, MemberName,
    ParentLayer, Relation, RelationId, RowCount, SourceKind, SourceName, Target, Tier, Timestamp,
    Window,
};
use std::collections::BTreeSet;

/// One relation as a layer holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRelation {
    /// The relation as of the layer's end, or, in a layer with history, as of its drop.
    pub relation: Relation,
    /// Whether the layer holds the relation from its beginning, so that older layers have no say in it. Always so in a full.
    pub introduced: bool,
}

/// One member as a layer holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestMember {
    /// Its name. File lists number members by their place in [`Manifest::members`].
    pub name: MemberName,
    /// Where it was.
    pub locality: Locality,
    /// What was read of its history.
    pub window: Window,
    /// Of a member whose positions hold no time: by the clock, everything up to here is in the layer. Its databases end one after
    /// another, the last one not after [`Manifest::end`]. `None`: everything up to that end is.
    pub complete_until: Option<Hlc>,
    /// Its relations, sorted by id. With history also those that were dropped in the window.
    pub relations: Vec<LayerRelation>,
}

impl ManifestMember {
    /// A relation by its id.
    #[must_use]
    pub fn relation(&self, id: RelationId) -> Option<&LayerRelation> {
        self.relations.iter().find(|held| held.relation.id == id)
    }
}

/// What a layer amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerTotals {
    /// Row versions.
    pub rows: RowCount,
    /// Bytes of keys and values.
    pub logical: ByteCount,
    /// Bytes of data objects as stored.
    pub stored: ByteCount,
    /// Data objects.
    pub objects: u64,
}

/// A part of the layer's file list: an object of its own, so that lists of any length are streamed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartRef {
    /// Its name under the layer's `parts/`.
    pub name: String,
    /// Stored length.
    pub length: ByteCount,
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Objects that it lists.
    pub entries: u64,
    /// The store that it and all that it lists are in: 0 for the default one, otherwise a place in [`Manifest::tiers`], counted from 1.
    pub store: u16,
}

/// All that a layer consists of. Its bytes are a pure function of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The job that wrote it.
    pub job: JobId,
    /// The source that was read.
    pub source: SourceName,
    /// Its kind.
    pub kind: SourceKind,
    /// Where the layer is.
    pub path: LayerPath,
    /// The layer that this one continues; `None` for a full.
    pub parent: Option<ParentLayer>,
    /// What was asked for.
    pub target: Target,
    /// Databases that are held whole as of the end, sorted: later layers may gain or lose their tables.
    pub complete: Vec<DatabaseName>,
    /// Inclusive end of the layer, by which it is named.
    pub end: Hlc,
    /// Whether every version since the start is kept.
    pub history: bool,
    /// With history: instants after this one are restorable; `None` means since the start (a full: none but the end).
    pub revision_start: Option<Hlc>,
    /// The members, in task order.
    pub members: Vec<ManifestMember>,
    /// What it amounts to.
    pub totals: LayerTotals,
    /// The file list, in order.
    pub parts: Vec<PartRef>,
    /// The tiers whose members' data is in stores of their own, numbered from 1; empty if all is in the default store.
    pub tiers: Vec<Tier>,
}

impl Manifest {
    /// The number of the store that holds the data of a member in this place: that of its most specific tier that has one, otherwise 0.
    #[must_use]
    pub fn store_of(&self, place: &Locality) -> u16 {
        let found = place.most_specific(self.tiers.iter());
        let number = found.and_then(|at| u16::try_from(at.saturating_add(1)).ok());
        number.unwrap_or(0)
    }

    /// Exclusive start of the layer; `None` for a full.
    #[must_use]
    pub fn start(&self) -> Option<Hlc> {
        self.parent.as_ref().map(|parent| parent.end)
    }

    /// The layer's AS OF time. There is no other creation time: two leaders that commit one layer write the same bytes.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.end.wall
    }

    /// Whether the layer heads a chain.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.parent.is_none()
    }

    /// Whether a database is held whole, so that it can be restored and continued as one.
    #[must_use]
    pub fn holds_complete(&self, database: &str) -> bool {
        self.complete.iter().any(|held| held == database)
    }

    /// The time after which every instant up to the end is restorable, in a layer with history.
    #[must_use]
    pub fn history_after(&self) -> Option<Hlc> {
        self.history.then(|| {
            let start = self.start().unwrap_or(self.end);
            self.revision_start.unwrap_or(start)
        })
    }

    /// The last instant before the end that is restorable in a layer with history: up to here every member has everything. It is the end
    /// itself if all of them ended there.
    #[must_use]
    pub fn history_until(&self) -> Hlc {
        let members = self.members.iter();
        members
            .filter_map(|member| member.complete_until)
            .fold(self.end, Ord::min)
    }

    /// The part of a target without patterns that a member holds: of databases and of tables those that it has.
    #[must_use]
    pub fn narrow(&self, member: &MemberName, target: &Target) -> Target {
        let found = self.members.iter().find(|held| held.name == *member);
        let held = || found.iter().flat_map(|member| &member.relations);
        match target {
            Target::Source => Target::Source,
            Target::Databases(names) => {
                let there: BTreeSet<_> = held().map(|held| &held.relation.name.database).collect();
                let names = names.iter().filter(|name| there.contains(name));
                Target::Databases(names.cloned().collect())
            }
            Target::Tables(names) => {
                let there: BTreeSet<_> = held().map(|held| &held.relation.name).collect();
                let names = names.iter().filter(|name| there.contains(name));
                Target::Tables(names.cloned().collect())
            }
        }
    }
}
