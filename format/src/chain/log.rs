//! Which places in the log of a member are restorable, and from which layers.

use holdfast_types::{ErrorCode, Fault, Lsn, MemberName, Position};

use super::{Chain, RestorePoint};
use crate::manifest::{Manifest, ManifestMember};

/// A member's part of a layer, as places in its log: `start` is `None` for a full. Everything committed before `end` is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    start: Option<Lsn>,
    end: Lsn,
    /// Whether every place in it can be restored, and not only its end.
    history: bool,
}

/// The place behind the last transaction that a bound has: bounds are inclusive, and a transaction is in a layer whole.
fn behind(bound: Position) -> Option<Lsn> {
    match bound {
        Position::Lsn(lsn) if lsn.ordinal == 0 => Some(lsn),
        Position::Lsn(lsn) => Some(Lsn::at(lsn.lsn.saturating_add(1))),
        _ => None,
    }
}

impl Stretch {
    fn of(manifest: &Manifest, member: &ManifestMember) -> Option<Self> {
        Some(Self {
            start: member.window.after.and_then(behind),
            end: behind(member.window.upto)?,
            history: manifest.history,
        })
    }

    fn holds(self, place: Lsn) -> bool {
        self.history && self.start.is_some_and(|start| start <= place) && place <= self.end
    }
}

fn stretch(manifest: &Manifest, member: &MemberName) -> Option<Stretch> {
    let found = manifest.members.iter().find(|held| held.name == *member);
    found.and_then(|held| Stretch::of(manifest, held))
}

impl Chain {
    /// Finds the layers that a member is restored from with what was committed before a place in its log.
    ///
    /// Databases of one server end at places of their own in a layer. The ends that count here are those of the first; what is asked of
    /// the others is left to the layers' catalogs.
    ///
    /// # Errors
    /// `NotFound` for a member that no layer has; `InvalidArgument` where members have no log; `NotCovered` for a place that no layer has,
    /// with those that are restorable.
    pub fn resolve_log(&self, member: &MemberName, place: Lsn) -> Result<RestorePoint<'_>, Fault> {
        if !self.newest_is_logged() {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("{place} is a place in a log, and the source of the backup has none"),
            )
            .hint("restore AS OF a time instead"));
        }
        let stretches = || {
            let links = self.links.iter().enumerate();
            links.filter_map(|(at, link)| Some((at, stretch(&link.layer.manifest, member)?)))
        };
        if stretches().next().is_none() {
            return Err(Fault::new(
                ErrorCode::NotFound,
                format!("the backup has no member {member}"),
            ));
        }
        let exact = stretches().find(|(_, stretch)| stretch.end == place);
        let found = exact.or_else(|| stretches().find(|(_, stretch)| stretch.holds(place)));
        match found {
            Some((at, _)) => Ok(self.point(at, place.into())),
            None => Err(Fault::new(
                ErrorCode::NotCovered,
                format!("invalid RESTORE position {place}: no layer with history has it"),
            )
            .hint(format!(
                "member {member} can be restored to: {}",
                self.restorable_log(member).join(", ")
            ))),
        }
    }

    fn newest_is_logged(&self) -> bool {
        self.last()
            .is_some_and(|layer| layer.manifest.kind.is_logged())
    }

    /// The places in a member's log that the main line restores: the ends of its layers, and stretches `[from, to]` where there is history.
    /// Empty where members have no log.
    #[must_use]
    pub fn restorable_log(&self, member: &MemberName) -> Vec<String> {
        let stretches = self
            .layers()
            .filter_map(|layer| stretch(&layer.manifest, member));
        stretches
            .map(|stretch| match stretch.start {
                Some(start) if stretch.history && start < stretch.end => {
                    format!("[{start}, {}]", stretch.end)
                }
                _ => stretch.end.to_string(),
            })
            .collect()
    }

    /// The members of the newest layer.
    pub fn members(&self) -> impl Iterator<Item = &MemberName> {
        let newest = self.last().into_iter();
        newest.flat_map(|layer| layer.manifest.members.iter().map(|member| &member.name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, full, incremental, sealed, with_history};
    use super::*;
    use holdfast_types::{SourceKind, Target};

    const END: u32 = u32::MAX;

    fn upto(lsn: u64) -> Position {
        Position::Lsn(Lsn { lsn, ordinal: END })
    }

    /// A full that ends before 0/A, a layer with history before 0/14, and one without before 0/1E.
    fn chain() -> Chain {
        let base = full(10);
        let history = with_history(incremental(&base, 20), None);
        let plain = incremental(&history, 30);
        let mut layers = [base, history, plain];
        let mut before = None;
        for (layer, lsn) in layers.iter_mut().zip([9, 19, 29]) {
            layer.manifest.kind = SourceKind::Postgres;
            let member = &mut layer.manifest.members[0];
            member.window.after = before;
            member.window.upto = upto(lsn);
            member.complete_until = Some(at(lsn + 1));
            for held in &mut member.relations {
                held.relation.created_at = Lsn::ZERO.into();
            }
            before = Some(upto(lsn));
        }
        let mut parent = None;
        let layers = layers.into_iter().map(|mut layer| {
            if let (Some(link), Some(digest)) = (&mut layer.manifest.parent, parent) {
                link.manifest = digest;
            }
            let layer = sealed(layer);
            parent = Some(layer.digest);
            layer
        });
        Chain::assemble(layers.collect()).expect("a chain")
    }

    fn member(chain: &Chain) -> MemberName {
        chain.members().next().expect("a member").clone()
    }

    #[test]
    fn places_in_a_history_and_ends_resolve_to_the_layers_up_to_theirs() {
        let chain = chain();
        let member = member(&chain);
        // At an end the older layer has it whole; what begins there belongs to the next.
        for (place, layers) in [(10, 1), (11, 2), (19, 2), (20, 2), (30, 3)] {
            let place = Lsn::at(place);
            let plan = chain
                .resolve_restore_before(&Target::Source, &member, place)
                .expect("covered");
            assert_eq!((plan.at, plan.layers.len()), (place.into(), layers));
            assert_eq!(plan.members.len(), 1);
        }
        assert_eq!(
            chain.restorable_log(&member),
            ["0/A", "[0/A, 0/14]", "0/1E"]
        );
    }

    #[test]
    fn other_places_are_refused_with_those_that_can_be_had() {
        let chain = chain();
        let member = member(&chain);
        for place in [0, 9, 21, 29, 31] {
            let fault = chain
                .resolve_log(&member, Lsn::at(place))
                .expect_err("not covered");
            assert_eq!(fault.code, ErrorCode::NotCovered);
            let hint = fault.hint.expect("a hint");
            assert!(hint.contains("[0/A, 0/14]"), "{hint}");
        }
        let other = "elsewhere".parse().expect("a name");
        let fault = chain
            .resolve_log(&other, Lsn::at(10))
            .expect_err("no member");
        assert_eq!(fault.code, ErrorCode::NotFound);
    }

    #[test]
    fn a_source_without_a_log_has_no_places_in_one() {
        let chain = Chain::assemble(vec![full(10)]).expect("a chain");
        let member = member(&chain);
        let fault = chain.resolve_log(&member, Lsn::at(10)).expect_err("no log");
        assert_eq!(fault.code, ErrorCode::InvalidArgument);
        assert!(chain.restorable_log(&member).is_empty());
    }
}
