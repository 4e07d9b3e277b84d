//! A chain: a full and the incrementals on it, and the rules that hold between them.

mod append;
mod as_of;
mod log;
mod restore;

use holdfast_types::{ByteCount, Digest, ErrorCode, Fault, Hlc, LayerPath, MemberName, Position};

use crate::manifest::Manifest;

pub use append::AppendRequest;
pub use as_of::RestorePoint;
pub use restore::{MemberPlan, RestorePlan, RestoreRelation};

/// A layer: its manifest, and what the manifest is as an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The manifest.
    pub manifest: Manifest,
    /// Digest of the manifest object as stored.
    pub digest: Digest,
    /// Length of the manifest object as stored.
    pub length: ByteCount,
}

/// A layer, and where it stands.
#[derive(Debug, Clone)]
struct Link {
    layer: Layer,
    /// The layer that it continues, by its place among the links.
    parent: Option<usize>,
}

/// All layers found under one full. Every layer starts where its parent ended; what does not is set apart as broken, so that
/// the rest stays restorable.
///
/// Two incrementals may continue the same layer, when two jobs ran at once: then there is more than one line, and the main
/// one is that with the latest end.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Sorted by end, then by start; the full is the first.
    links: Vec<Link>,
    /// The main line, oldest first. Never empty.
    line: Vec<usize>,
    broken: Vec<(LayerPath, Fault)>,
}

impl Chain {
    /// Puts the layers of one full in order.
    ///
    /// # Errors
    /// `NotFound` if there is no full among them, `Corrupted` if there is more than one.
    pub fn assemble(layers: Vec<Layer>) -> Result<Self, Fault> {
        Self::assemble_with(layers, Vec::new())
    }

    /// [`Chain::assemble`], with layers whose manifests cannot be used: they and what stands on them are broken, the rest is not.
    ///
    /// # Errors
    /// As [`Chain::assemble`].
    pub fn assemble_with(
        layers: Vec<Layer>,
        damaged: Vec<(LayerPath, Fault)>,
    ) -> Result<Self, Fault> {
        let (fulls, mut rest): (Vec<Layer>, Vec<Layer>) = layers
            .into_iter()
            .partition(|layer| layer.manifest.path.incremental.is_none());
        let mut fulls = fulls.into_iter();
        let full = match (fulls.next(), fulls.next()) {
            (Some(full), None) => full,
            (None, _) => {
                return Err(Fault::new(
                    ErrorCode::NotFound,
                    "the chain has no full backup to start from",
                ));
            }
            (Some(one), Some(other)) => {
                return Err(Fault::new(
                    ErrorCode::Corrupted,
                    format!(
                        "layers {} and {} both claim to head one chain",
                        one.manifest.path, other.manifest.path
                    ),
                ));
            }
        };
        if !full.manifest.is_full() {
            return Err(Fault::new(
                ErrorCode::Corrupted,
                format!(
                    "layer {} lies where a full belongs, but continues another",
                    full.manifest.path
                ),
            ));
        }
        rest.sort_by_key(|layer| (layer.manifest.end, layer.manifest.start()));
        let mut chain = Self {
            links: vec![Link {
                layer: full,
                parent: None,
            }],
            line: Vec::new(),
            broken: damaged,
        };
        // A parent ends before its child, so that one pass in the order of ends finds every parent placed.
        for layer in rest {
            match chain.find_parent(&layer.manifest) {
                Ok(parent) => chain.links.push(Link {
                    layer,
                    parent: Some(parent),
                }),
                Err(fault) => chain.broken.push((layer.manifest.path, fault)),
            }
        }
        // Of several lines with the same end, that which was stepped to from the earliest start is the main one.
        let newest = (0..chain.links.len())
            .rev()
            .max_by_key(|at| chain.links.get(*at).map(|link| link.layer.manifest.end));
        chain.line = chain.line_to(newest.unwrap_or(0));
        Ok(chain)
    }

    /// The layers of the main line, oldest first.
    pub fn layers(&self) -> impl DoubleEndedIterator<Item = &Layer> + '_ {
        self.line
            .iter()
            .filter_map(|at| self.links.get(*at).map(|link| &link.layer))
    }

    /// Every sound layer, side lines included, sorted by end.
    pub fn all_layers(&self) -> impl DoubleEndedIterator<Item = &Layer> + '_ {
        self.links.iter().map(|link| &link.layer)
    }

    /// Layers that fit nowhere, with what is wrong about each.
    #[must_use]
    pub fn broken(&self) -> &[(LayerPath, Fault)] {
        &self.broken
    }

    /// The newest layer of the main line, which an incremental continues.
    #[must_use]
    pub fn last(&self) -> Option<&Layer> {
        self.layers().next_back()
    }

    /// Whether the chain is contiguous (invariant C4): every layer starts where its parent ended.
    ///
    /// # Errors
    /// The first breach.
    pub fn check_contiguous(&self) -> Result<(), Fault> {
        match self.broken.first() {
            None => Ok(()),
            Some((_, fault)) => Err(fault.clone()),
        }
    }

    /// The way from the full to a layer.
    fn line_to(&self, last: usize) -> Vec<usize> {
        let mut line = Vec::new();
        let mut next = Some(last);
        while let Some(at) = next {
            line.push(at);
            // A parent is placed before its child, so this ends.
            next = self.links.get(at).and_then(|link| link.parent);
        }
        line.reverse();
        line
    }

    fn find_parent(&self, child: &Manifest) -> Result<usize, Fault> {
        let broken = |why: String| {
            Fault::new(
                ErrorCode::Corrupted,
                format!("the chain is broken at layer {}: {why}", child.path),
            )
            .hint("restore to a time before that layer, and take a new full backup")
        };
        let Some(claimed) = &child.parent else {
            return Err(broken(
                "it lies where an incremental belongs, but names no parent".into(),
            ));
        };
        let found = self
            .links
            .iter()
            .position(|link| link.layer.manifest.path == claimed.path);
        let Some((at, link)) = found.and_then(|at| Some((at, self.links.get(at)?))) else {
            return Err(broken(format!("its parent {} is missing", claimed.path)));
        };
        let parent = &link.layer.manifest;
        if link.layer.digest != claimed.manifest {
            return Err(broken(format!(
                "its parent {} is not the one it was written on",
                parent.path
            )));
        }
        if claimed.end != parent.end || child.end <= parent.end {
            return Err(broken(format!(
                "it covers {} to {}, and its parent ends at {}",
                show(claimed.end),
                show(child.end),
                show(parent.end)
            )));
        }
        if (child.cluster, &child.source, child.kind)
            != (parent.cluster, &parent.source, parent.kind)
        {
            return Err(broken(
                "it is of another cluster or source than its parent".into(),
            ));
        }
        if !members(child).eq(members(parent)) {
            return Err(broken("it has other members than its parent".into()));
        }
        let fits = |(own, before): (&crate::ManifestMember, &crate::ManifestMember)| {
            own.window.after == Some(before.window.upto)
        };
        if !child.members.iter().zip(&parent.members).all(fits) {
            return Err(broken(
                "a member's window does not start where its parent's ended".into(),
            ));
        }
        Ok(at)
    }
}

fn members(manifest: &Manifest) -> impl Iterator<Item = &MemberName> + '_ {
    manifest.members.iter().map(|member| &member.name)
}

/// A layer's time as errors show it: RFC 3339, with the exact position where the time alone would not be it.
fn show(at: Hlc) -> String {
    if at.logical == 0 {
        at.wall.to_string()
    } else {
        format!("{} ({at})", at.wall)
    }
}

fn show_position(at: Position) -> String {
    match at {
        Position::Hlc(at) => show(at),
        other => other.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod fixtures;

#[cfg(test)]
mod tests {
    use super::fixtures::{at, full, incremental};
    use super::*;

    #[test]
    fn layers_are_ordered_whatever_order_they_come_in() {
        let base = full(10);
        let one = incremental(&base, 20);
        let two = incremental(&one, 30);
        let chain = Chain::assemble(vec![two.clone(), base.clone(), one.clone()]).expect("a chain");
        let ends: Vec<Hlc> = chain.layers().map(|layer| layer.manifest.end).collect();
        assert_eq!(ends, [at(10), at(20), at(30)]);
        chain.check_contiguous().expect("contiguous");
    }

    #[test]
    fn a_missing_layer_breaks_what_stands_on_it_and_nothing_else() {
        let base = full(10);
        let one = incremental(&base, 20);
        let two = incremental(&one, 30);
        let chain = Chain::assemble(vec![base.clone(), two.clone()]).expect("a chain");
        assert_eq!(chain.layers().count(), 1);
        let fault = chain.check_contiguous().expect_err("a gap");
        assert!(fault.message.contains("is missing"), "{fault}");
        assert_eq!(chain.broken().len(), 1);
    }

    #[test]
    fn a_replaced_parent_a_gap_and_a_stranger_are_noticed() {
        let base = full(10);
        type Damage = fn(&mut Layer);
        let cases: [(Damage, &str); 5] = [
            (
                |layer| {
                    if let Some(parent) = &mut layer.manifest.parent {
                        parent.manifest = Digest::of(b"another");
                    }
                },
                "is not the one it was written on",
            ),
            (
                |layer| {
                    if let Some(parent) = &mut layer.manifest.parent {
                        parent.end = at(11);
                    }
                },
                "its parent ends at",
            ),
            (
                |layer| layer.manifest.cluster.0[0] ^= 1,
                "another cluster or source",
            ),
            (
                |layer| layer.manifest.members[0].window.after = Some(at(9).into()),
                "window does not start",
            ),
            (|layer| layer.manifest.parent = None, "names no parent"),
        ];
        for (damage, expected) in cases {
            let mut layer = incremental(&base, 20);
            damage(&mut layer);
            let chain = Chain::assemble(vec![base.clone(), layer]).expect("a chain");
            let fault = chain.check_contiguous().expect_err(expected);
            assert!(fault.message.contains(expected), "{fault}");
        }
    }

    #[test]
    fn of_two_lines_the_longer_is_the_main_one() {
        let base = full(10);
        let (short, long) = (incremental(&base, 20), incremental(&base, 25));
        let chain = Chain::assemble(vec![base, short, long.clone()]).expect("a chain");
        assert_eq!(chain.last(), Some(&long));
        assert_eq!(chain.layers().count(), 2);
        assert_eq!(chain.all_layers().count(), 3);
    }
}
