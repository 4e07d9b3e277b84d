//! Layers for tests.

use holdfast_types::{
    ByteCount, ClusterId, Digest, Hlc, JobId, LayerPath, ParentLayer, Position, Relation,
    RelationId, SourceKind, TableName, Target, Timestamp, Window, full_subdir, incremental_subdir,
};

use super::Layer;
use crate::manifest::{LayerRelation, LayerTotals, Manifest, ManifestMember};

/// A position so many seconds into the test.
pub(crate) fn at(seconds: u64) -> Hlc {
    Hlc::at(Timestamp::from_millis(1_790_000_000_000 + seconds * 1000))
}

pub(crate) fn table(name: &str) -> TableName {
    name.parse().expect("a legal table name")
}

pub(crate) fn relation(id: u64, name: &str, created: u64, dropped: Option<u64>) -> LayerRelation {
    LayerRelation {
        relation: Relation {
            id: RelationId(id),
            name: table(name),
            created_at: at(created).into(),
            dropped_at: dropped.map(|seconds| Position::Hlc(at(seconds))),
            definition: name.as_bytes().to_vec(),
        },
        introduced: false,
    }
}

fn layer(manifest: Manifest) -> Layer {
    let bytes = manifest.encode().expect("encodable");
    Layer {
        digest: Digest::of(&bytes),
        length: ByteCount(bytes.len() as u64),
        manifest,
    }
}

/// Recomputes the digest after a change.
pub(crate) fn sealed(changed: Layer) -> Layer {
    layer(changed.manifest)
}

/// A full of the whole source at a second, holding `shop.orders` in a complete database.
pub(crate) fn full(end: u64) -> Layer {
    layer(Manifest {
        cluster: ClusterId([7; 16]),
        job: JobId(1),
        source: "fleet".parse().expect("a legal name"),
        kind: SourceKind::Mvcc,
        path: LayerPath::full(full_subdir(at(end).wall)),
        parent: None,
        target: Target::Source,
        complete: vec!["shop".to_owned()],
        end: at(end),
        history: false,
        revision_start: None,
        members: vec![ManifestMember {
            name: "m1".parse().expect("a legal name"),
            locality: "region=eu".parse().expect("a locality"),
            window: Window {
                after: None,
                upto: at(end).into(),
                history: false,
            },
            complete_until: None,
            relations: vec![relation(1, "shop.orders", 1, None)],
        }],
        totals: LayerTotals::default(),
        parts: Vec::new(),
        tiers: Vec::new(),
    })
}

/// An incremental on a layer.
pub(crate) fn incremental(parent: &Layer, end: u64) -> Layer {
    let mut manifest = parent.manifest.clone();
    let before = parent.manifest.end;
    manifest.path = LayerPath::incremental(
        parent.manifest.path.full.clone(),
        incremental_subdir(before.wall, at(end).wall),
    );
    manifest.parent = Some(ParentLayer {
        path: parent.manifest.path.clone(),
        manifest: parent.digest,
        end: before,
    });
    manifest.end = at(end);
    manifest.history = false;
    manifest.revision_start = None;
    for member in &mut manifest.members {
        member.window = Window {
            after: Some(member.window.upto),
            upto: at(end).into(),
            history: false,
        };
    }
    layer(manifest)
}

/// The same layer with history.
pub(crate) fn with_history(mut layer: Layer, revision_start: Option<u64>) -> Layer {
    layer.manifest.history = true;
    layer.manifest.revision_start = revision_start.map(at);
    sealed(layer)
}
