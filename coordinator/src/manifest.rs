//! A layer's manifest and the parts of its file list, as pure functions of the ledger (and of the cluster key, which opens the
//! bounds): two leaders that commit one layer write the same bytes.

use bytes::Bytes;
use holdfast_format::{
    LayerRelation, LayerTotals, Manifest, ManifestEntry, ManifestMember, PartRef, PartSummary,
    PartWriter,
};
use holdfast_ledger::Job;
use holdfast_node::ClusterKey;
use holdfast_types::{
    BackupSpec, ClusterId, DatabaseName, ErrorCode, Fault, KeyRange, Lsn, MemberName, ParentLayer,
    Position, PositionKind, Relation, SourceKind, Target, Window,
};
use std::collections::BTreeSet;

/// A part, ready to be stored.
#[derive(Debug)]
pub(crate) struct PreparedPart {
    /// Its bytes.
    pub(crate) chunks: Vec<Bytes>,
    /// What they amount to.
    pub(crate) summary: PartSummary,
}

/// Makes a part of objects in their order.
///
/// # Errors
/// `Corrupted` if a bound does not open with the cluster key.
pub(crate) fn write_part(
    key: &ClusterKey,
    sealed: &[holdfast_ledger::ManifestEntry],
) -> Result<PreparedPart, Fault> {
    let mut writer = PartWriter::new();
    let mut chunks = Vec::new();
    for entry in sealed {
        writer.push(&ManifestEntry {
            member: u16::try_from(entry.member).map_err(|_| {
                Fault::new(
                    ErrorCode::Internal,
                    format!(
                        "member {} is beyond what a file list can number",
                        entry.member
                    ),
                )
            })?,
            relation: entry.relation,
            range: KeyRange {
                start: key.open_bound(&entry.from)?.into(),
                end: key.open_bound(&entry.to)?.into(),
            },
            object: entry.object.clone(),
        })?;
        let ready = writer.take();
        if !ready.is_empty() {
            chunks.push(ready);
        }
    }
    let (rest, summary) = writer.finish();
    chunks.push(rest);
    Ok(PreparedPart { chunks, summary })
}

/// The manifest of a backup whose parts are all durable. `parent` is that of the layer that it continues; only members that have counts of
/// their own need it ([`needs_parent`]).
pub(crate) fn manifest_of(
    cluster: ClusterId,
    job: &Job,
    spec: &BackupSpec,
    parent: Option<&Manifest>,
) -> Manifest {
    let relations: Vec<_> = (0u32..)
        .zip(&spec.members)
        .map(|(index, _)| job.held_relations(index))
        .collect();
    let end = job.end(spec);
    let counters = job.counters();
    Manifest {
        cluster,
        job: job.id(),
        source: spec.source.clone(),
        kind: spec.kind,
        path: spec.path.clone(),
        parent: spec.parent.clone(),
        target: spec.target.clone(),
        complete: complete(
            &spec.target,
            relations.iter().flat_map(|relations| relations.iter()),
        ),
        end,
        history: spec.history,
        revision_start: None,
        members: (0u32..)
            .zip(&spec.members)
            .zip(&relations)
            .map(|((index, member), relations)| {
                let name = &member.member.name;
                let start = member_start(spec, parent, name);
                let before = parent.and_then(|parent| member_of(parent, name));
                let upto = match job.settled(index) {
                    Some(settled) => settled.position,
                    // It had nothing of what is backed up.
                    None if spec.kind.is_logged() => start.unwrap_or(Lsn::ZERO.into()),
                    None => end.into(),
                };
                ManifestMember {
                    name: name.clone(),
                    locality: member.member.locality.clone(),
                    window: Window {
                        after: start,
                        upto,
                        history: spec.history,
                    },
                    complete_until: job.complete_until(index),
                    relations: held(spec.kind, start, before, relations),
                }
            })
            .collect(),
        totals: LayerTotals {
            rows: counters.object_rows,
            logical: counters.logical,
            stored: counters.stored,
            objects: counters.objects,
        },
        parts: job
            .parts()
            .iter()
            .map(|part| PartRef {
                name: part.name.clone(),
                length: part.length,
                digest: part.digest,
                entries: part.entries,
                store: part.store,
            })
            .collect(),
        tiers: spec.access.tiers(),
    }
}

/// Whether the parent's manifest says where the members of a layer start: by their own count, which no clock tells.
pub(crate) fn needs_parent(spec: &BackupSpec) -> Option<&ParentLayer> {
    let own_count = spec.kind.position_kind() != PositionKind::Hlc;
    spec.parent.as_ref().filter(|_| own_count)
}

/// Where a member's part of an incremental starts.
fn member_start(
    spec: &BackupSpec,
    parent: Option<&Manifest>,
    name: &MemberName,
) -> Option<Position> {
    match parent {
        Some(parent) => member_of(parent, name).map(|member| member.window.upto),
        None => spec.parent.as_ref().map(|parent| parent.end.into()),
    }
}

fn member_of<'a>(manifest: &'a Manifest, name: &MemberName) -> Option<&'a ManifestMember> {
    manifest.members.iter().find(|member| member.name == *name)
}

/// A member's relations, sorted by id. One that was created since the layer's start is held from its beginning. Where the databases of a
/// member end one after another, positions do not tell: then it is one that the layer `before` does not hold.
fn held(
    kind: SourceKind,
    start: Option<Position>,
    before: Option<&ManifestMember>,
    relations: &[Relation],
) -> Vec<LayerRelation> {
    let is_new = |relation: &Relation| match kind.is_logged() {
        true => before.is_none_or(|before| before.relation(relation.id).is_none()),
        false => start.is_none_or(|start| relation.created_at > start),
    };
    let mut held: Vec<LayerRelation> = relations
        .iter()
        .map(|relation| LayerRelation {
            introduced: is_new(relation),
            relation: relation.clone(),
        })
        .collect();
    held.sort_by_key(|held| held.relation.id);
    held
}

/// Databases that the layer holds whole.
fn complete<'a>(
    target: &Target,
    relations: impl Iterator<Item = &'a Relation>,
) -> Vec<DatabaseName> {
    let names: BTreeSet<DatabaseName> = match target {
        Target::Source => relations
            .filter(|relation| relation.dropped_at.is_none())
            .map(|relation| relation.name.database.clone())
            .collect(),
        Target::Databases(names) => names.iter().cloned().collect(),
        Target::Tables(_) => BTreeSet::new(),
    };
    names.into_iter().collect()
}
