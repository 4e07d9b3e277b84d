//! Which instants are restorable, and from which layers (`cockroachdb-backup.md` 3.5 in its description of the model system).

use holdfast_types::{ErrorCode, Fault, Hlc, Position};

use super::{Chain, Layer, show};

/// An instant, and the layers that it is restored from.
#[derive(Debug, Clone, PartialEq)]
pub struct RestorePoint<'chain> {
    /// The position that is restored: an instant, or a place in the log of one member.
    pub at: Position,
    /// The layers, oldest first.
    pub layers: Vec<&'chain Layer>,
}

impl Chain {
    /// Finds the layers that an instant is restored from; without one, the end of the chain.
    ///
    /// An instant with no counter also names the end of a layer that lies within that microsecond.
    ///
    /// # Errors
    /// `NotCovered`, with the nearest instants that are.
    pub fn resolve_as_of(&self, as_of: Option<Hlc>) -> Result<RestorePoint<'_>, Fault> {
        let Some(asked) = as_of.or_else(|| self.last().map(|layer| layer.manifest.end)) else {
            return Err(Fault::new(ErrorCode::NotFound, "the chain has no layer"));
        };
        let places = || self.links.iter().enumerate();
        // Of several layers with one end the first has the earliest start.
        let exact = places().find(|(_, link)| link.layer.manifest.end == asked);
        let within = || {
            places().find(|(_, link)| {
                let manifest = &link.layer.manifest;
                let after = manifest.history_after();
                after.is_some_and(|after| after < asked)
                    && asked < manifest.end
                    && asked <= manifest.history_until()
            })
        };
        let named = || {
            places()
                .find(|(_, link)| asked.logical == 0 && link.layer.manifest.end.wall == asked.wall)
        };
        let found = exact
            .or_else(within)
            .map(|(place, _)| (place, asked))
            .or_else(|| named().map(|(place, link)| (place, link.layer.manifest.end)));
        match found {
            Some((place, at)) => Ok(self.point(place, at.into())),
            None => Err(self.not_covered(asked)),
        }
    }

    /// The point at a position in one layer.
    pub(super) fn point(&self, place: usize, at: Position) -> RestorePoint<'_> {
        RestorePoint {
            at,
            layers: self
                .line_to(place)
                .into_iter()
                .filter_map(|place| self.links.get(place).map(|link| &link.layer))
                .collect(),
        }
    }

    fn not_covered(&self, asked: Hlc) -> Fault {
        let around = |layer: &&Layer| {
            layer.manifest.end > asked && layer.manifest.start().unwrap_or(Hlc::ZERO) < asked
        };
        let reason = match self.all_layers().find(around) {
            None => "supplied backups do not cover requested time".to_owned(),
            Some(layer) => match layer.manifest.history_after() {
                Some(after) if after < asked => format!(
                    "not all that is in the BACKUP for the requested time was read up to then: it ended between {} and {}",
                    show(layer.manifest.history_until()),
                    show(layer.manifest.end)
                ),
                Some(after) => format!(
                    "the BACKUP for the requested time only has revision history from {}",
                    show(after)
                ),
                None => format!(
                    "restoring to arbitrary time requires that the BACKUP for the requested time be created \
                     with the 'revision_history' option; {}",
                    self.nearest(asked)
                ),
            },
        };
        Fault::new(
            ErrorCode::NotCovered,
            format!("invalid RESTORE timestamp {}: {reason}", show(asked)),
        )
        .hint(self.way_out(asked))
    }

    /// The instants that the main line restores, in the spelling of AS OF: its layers' ends, and windows `(after, until]` where there is
    /// history.
    #[must_use]
    pub fn restorable(&self) -> Vec<String> {
        let spelled = |at: Hlc| match at.logical {
            0 => at.wall.to_string(),
            _ => at.to_string(),
        };
        let mut windows = Vec::new();
        for manifest in self.layers().map(|layer| &layer.manifest) {
            let until = manifest.history_until();
            match manifest.history_after() {
                Some(after) if after < until => {
                    windows.push(format!("({}, {}]", spelled(after), spelled(until)));
                    if until < manifest.end {
                        windows.push(spelled(manifest.end));
                    }
                }
                _ => windows.push(spelled(manifest.end)),
            }
        }
        windows
    }

    /// The ends of layers, and of the histories in them, just before and just after an instant.
    fn neighbours(&self, asked: Hlc) -> (Option<Hlc>, Option<Hlc>) {
        let history = |layer: &Layer| {
            let until = layer.manifest.history_until();
            let after = layer.manifest.history_after();
            after.filter(|after| *after < until).map(|_| until)
        };
        let ends = || {
            self.all_layers()
                .flat_map(move |layer| [Some(layer.manifest.end), history(layer)])
                .flatten()
        };
        (
            ends().filter(|end| *end < asked).max(),
            ends().filter(|end| *end > asked).min(),
        )
    }

    fn nearest(&self, asked: Hlc) -> String {
        match self.neighbours(asked) {
            (Some(before), Some(after)) => format!(
                "nearest backup times are {} or {}",
                show(before),
                show(after)
            ),
            (Some(only), None) | (None, Some(only)) => {
                format!("nearest backup time is {}", show(only))
            }
            (None, None) => "there is no backup time".to_owned(),
        }
    }

    fn way_out(&self, asked: Hlc) -> String {
        let nearest = self.nearest(asked);
        match self.broken.first() {
            None => format!("restore AS OF another time: {nearest}"),
            Some((path, _)) => {
                format!("restore AS OF another time: {nearest}; layer {path} cannot be used")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, full, incremental, sealed, with_history};
    use super::*;

    /// Ends at 10 (plain full), 20 (plain), 30 (history), 40 (history since 35), 50 (plain).
    fn chain() -> Chain {
        let base = full(10);
        let plain = incremental(&base, 20);
        let history = with_history(incremental(&plain, 30), None);
        let late = with_history(incremental(&history, 40), Some(35));
        let last = incremental(&late, 50);
        Chain::assemble(vec![base, plain, history, late, last]).expect("a chain")
    }

    #[test]
    fn covered_instants_resolve_to_the_layers_up_to_theirs() {
        let chain = chain();
        let cases = [
            (None, at(50), 5),
            (Some(at(50)), at(50), 5),
            // An end is restorable without history; the start of the first incremental is the full's end.
            (Some(at(10)), at(10), 1),
            (Some(at(20)), at(20), 2),
            // Inside history.
            (Some(at(20).next()), at(20).next(), 3),
            (Some(at(25)), at(25), 3),
            (Some(at(30)), at(30), 3),
            (Some(at(35).next()), at(35).next(), 4),
            (Some(at(39)), at(39), 4),
            (Some(at(40)), at(40), 4),
        ];
        for (asked, expected, layers) in cases {
            let point = chain.resolve_as_of(asked).expect("covered");
            assert_eq!(
                (point.at, point.layers.len()),
                (expected.into(), layers),
                "{asked:?}"
            );
        }
    }

    #[test]
    fn every_other_instant_is_refused_with_the_nearest_ones() {
        let chain = chain();
        let cases = [
            // Strictly inside a layer without history.
            (at(5), "requires that the BACKUP", "nearest backup time is"),
            (
                at(15),
                "'revision_history' option",
                "nearest backup times are",
            ),
            (
                at(45),
                "'revision_history' option",
                "nearest backup times are",
            ),
            // At or before the revision start.
            (
                at(35),
                "only has revision history from",
                "nearest backup times are",
            ),
            (
                at(31),
                "only has revision history from",
                "nearest backup times are",
            ),
            // After the last end, and before everything.
            (
                at(50).next(),
                "supplied backups do not cover requested time",
                "nearest backup time is",
            ),
            (
                at(60),
                "supplied backups do not cover requested time",
                "nearest backup time is",
            ),
            (
                Hlc::ZERO,
                "supplied backups do not cover requested time",
                "nearest backup time is",
            ),
        ];
        for (asked, reason, hint) in cases {
            let fault = chain.resolve_as_of(Some(asked)).expect_err(reason);
            assert_eq!(fault.code, ErrorCode::NotCovered);
            assert!(
                fault.message.starts_with("invalid RESTORE timestamp"),
                "{fault}"
            );
            assert!(fault.message.contains(reason), "{asked}: {fault}");
            let shown = fault.hint.expect("a hint");
            assert!(shown.contains(hint), "{asked}: {shown}");
        }
    }

    #[test]
    fn the_nearest_times_are_shown_so_that_they_can_be_used() {
        let fault = chain().resolve_as_of(Some(at(15))).expect_err("inside");
        for end in [10, 20] {
            assert!(fault.message.contains(&at(end).wall.to_string()), "{fault}");
        }
    }

    #[test]
    fn a_full_with_history_is_restorable_after_its_revision_start() {
        let chain = Chain::assemble(vec![with_history(full(10), Some(6))]).expect("a chain");
        let point = chain.resolve_as_of(Some(at(7))).expect("covered");
        assert_eq!(point.at, at(7).into());
        let fault = chain.resolve_as_of(Some(at(6))).expect_err("at the start");
        assert!(
            fault.message.contains("only has revision history from"),
            "{fault}"
        );
    }

    #[test]
    fn a_time_names_the_layer_that_ends_within_its_microsecond() {
        let mut base = full(10);
        base.manifest.end.logical = 3;
        base.manifest.members[0].window.upto = base.manifest.end.into();
        let chain = Chain::assemble(vec![sealed(base)]).expect("a chain");
        let point = chain
            .resolve_as_of(Some(at(10)))
            .expect("named by its time");
        let end = Hlc {
            logical: 3,
            ..at(10)
        };
        assert_eq!(point.at, end.into());
    }

    #[test]
    fn where_databases_end_one_after_another_the_time_between_is_no_instant() {
        let base = full(10);
        let mut late = with_history(incremental(&base, 30), None);
        late.manifest.kind = holdfast_types::SourceKind::Postgres;
        let mut base = base;
        base.manifest.kind = late.manifest.kind;
        for (layer, upto) in [(&mut base, 7u64), (&mut late, 9)] {
            let member = &mut layer.manifest.members[0];
            let place = |lsn| holdfast_types::Lsn::at(lsn).into();
            member.window.after = (upto == 9).then(|| place(7));
            member.window.upto = place(upto);
            member.complete_until = Some(at(upto * 3));
            for held in &mut member.relations {
                held.relation.created_at = place(0);
            }
        }
        let base = sealed(base);
        if let Some(parent) = &mut late.manifest.parent {
            parent.manifest = base.digest;
        }
        let chain = Chain::assemble(vec![base, sealed(late)]).expect("a chain");
        let asked = |second: u64| chain.resolve_as_of(Some(at(second)));
        for (second, layers) in [(10, 1), (11, 2), (27, 2), (30, 2)] {
            let point = asked(second).expect("covered");
            assert_eq!((point.at, point.layers.len()), (at(second).into(), layers));
        }
        let fault = asked(28).expect_err("one database is not that far");
        assert_eq!(fault.code, ErrorCode::NotCovered);
        assert!(fault.message.contains("it ended between"), "{fault}");
        let hint = fault.hint.expect("a hint");
        for way_out in [27, 30] {
            assert!(hint.contains(&at(way_out).wall.to_string()), "{hint}");
        }
        // A full without history has one instant, whatever its databases ended at.
        assert!(asked(9).is_err());
        let shown = |second: u64| at(second).wall.to_string();
        let window = format!("({}, {}]", shown(10), shown(27));
        assert_eq!(chain.restorable(), [shown(10), window, shown(30)]);
    }

    #[test]
    fn a_side_line_stays_restorable() {
        let base = full(10);
        let (short, long) = (incremental(&base, 20), incremental(&base, 25));
        let chain = Chain::assemble(vec![base, short, long]).expect("a chain");
        assert_eq!(
            chain
                .resolve_as_of(Some(at(20)))
                .expect("covered")
                .layers
                .len(),
            2
        );
        assert_eq!(
            chain.resolve_as_of(None).expect("covered").at,
            at(25).into()
        );
    }

    #[test]
    fn a_broken_layer_is_named_to_those_who_need_it() {
        let base = full(10);
        let one = incremental(&base, 20);
        let two = incremental(&one, 30);
        let path = two.manifest.path.to_string();
        let chain = Chain::assemble(vec![base, two]).expect("a chain");
        assert_eq!(
            chain.resolve_as_of(None).expect("the full").at,
            at(10).into()
        );
        let fault = chain.resolve_as_of(Some(at(30))).expect_err("broken");
        assert!(fault.hint.expect("a hint").contains(&path));
    }
}
