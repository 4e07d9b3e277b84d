//! What a restore finds in a chain (`cockroachdb-backup.md` 3.7 in its description of the model system).

use holdfast_types::{
    DatabaseName, ErrorCode, Fault, Hlc, LayerPath, Lsn, MemberName, Position, Relation, TableName,
    Target,
};
use std::collections::BTreeSet;

use super::{Chain, Layer, RestorePoint, show_position};
use crate::manifest::Manifest;

/// A relation to be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRelation {
    /// The relation as the chain describes it.
    pub relation: Relation,
    /// The first of [`RestorePlan::layers`] that has a say in it: older ones hold nothing of it, or of an earlier table of
    /// its name only.
    pub first_layer: usize,
}

/// What is restored of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberPlan {
    /// The member of the backup.
    pub name: MemberName,
    /// Its number in the file lists of every layer.
    pub index: u16,
    /// The position that it is restored to: inside a layer the instant, whatever the member's own positions are.
    pub position: Position,
    /// Its relations, sorted by id.
    pub relations: Vec<RestoreRelation>,
}

/// What a restore is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// The position that is restored: an instant, or a place in the log of one member.
    pub at: Position,
    /// The layers to merge, oldest first, with the digest of each manifest.
    pub layers: Vec<(LayerPath, holdfast_types::Digest)>,
    /// Databases that are restored whole, sorted; empty when single tables are.
    pub databases: Vec<DatabaseName>,
    /// What is restored of each member, in the order of the manifests. Members without relations are listed too.
    pub members: Vec<MemberPlan>,
}

const SHOW_BACKUP: &str = "list what the backup holds with `holdfast backups`";

impl Chain {
    /// Resolves what is to be restored, as of an instant or the end of the chain.
    ///
    /// A pattern stands for the tables that there were. Inside a layer whose positions hold no time these are the tables of its end: only its
    /// catalogs tell more.
    ///
    /// # Errors
    /// `NotCovered` for an instant that no layer covers or a target that did not exist then, `NotFound` for one that the chain never
    /// held, `FailedPrecondition` for one that it does not hold whole.
    pub fn resolve_restore(
        &self,
        target: &Target,
        as_of: Option<Hlc>,
    ) -> Result<RestorePlan, Fault> {
        self.plan_restore(&self.resolve_as_of(as_of)?, target)
    }

    /// Resolves what is to be restored of one member, with what was committed before a place in its log.
    ///
    /// # Errors
    /// As [`Self::resolve_restore`].
    pub fn resolve_restore_before(
        &self,
        target: &Target,
        member: &MemberName,
        place: Lsn,
    ) -> Result<RestorePlan, Fault> {
        let point = self.resolve_log(member, place)?;
        let mut plan = self.plan_restore(&point, target)?;
        // Other members have logs of their own.
        plan.members.retain(|held| held.name == *member);
        Ok(plan)
    }

    fn plan_restore(
        &self,
        point: &RestorePoint<'_>,
        target: &Target,
    ) -> Result<RestorePlan, Fault> {
        let Some(layer) = point.layers.last() else {
            return Err(Fault::new(ErrorCode::NotFound, "the chain has no layer"));
        };
        let there = Present {
            chain: self,
            manifest: &layer.manifest,
            before: point
                .layers
                .iter()
                .rev()
                .nth(1)
                .map(|layer| &layer.manifest),
            at: point.at,
        };
        let wanted = there.resolve(target)?;
        let members = layer.manifest.members.iter().enumerate();
        let members = members
            .map(|(index, member)| MemberPlan {
                name: member.name.clone(),
                // A manifest's entries number members in 16 bits, so that no layer has more.
                index: u16::try_from(index).unwrap_or(u16::MAX),
                position: there.cut(member.window.upto),
                relations: there
                    .relations_of(index)
                    .filter(|relation| wanted.covers(&relation.name))
                    .map(|relation| RestoreRelation {
                        first_layer: first_layer(point, index, relation),
                        relation: relation.clone(),
                    })
                    .collect(),
            })
            .collect();
        Ok(RestorePlan {
            at: point.at,
            layers: point
                .layers
                .iter()
                .map(|layer| (layer.manifest.path.clone(), layer.digest))
                .collect(),
            databases: match &wanted {
                Target::Databases(names) => names.clone(),
                Target::Source => there.databases().into_iter().collect(),
                Target::Tables(_) => Vec::new(),
            },
            members,
        })
    }
}

/// The newest layer that holds the relation from its beginning.
fn first_layer(point: &RestorePoint<'_>, member: usize, relation: &Relation) -> usize {
    let holds = |layer: &&&Layer| {
        let members = layer.manifest.members.get(member);
        members
            .and_then(|member| member.relation(relation.id))
            .is_some_and(|held| held.introduced)
    };
    let introduced = point.layers.iter().rposition(|layer| holds(&layer));
    introduced.unwrap_or(0)
}

/// What a layer says was there at an instant that it covers.
struct Present<'chain> {
    chain: &'chain Chain,
    manifest: &'chain Manifest,
    /// The layer before it.
    before: Option<&'chain Manifest>,
    at: Position,
}

impl<'chain> Present<'chain> {
    /// The position at which a member is cut.
    fn cut(&self, upto: Position) -> Position {
        if self.is_end() { upto } else { self.at }
    }

    /// Whether it is the layer's end that is restored.
    fn is_end(&self) -> bool {
        self.at == Position::Hlc(self.manifest.end)
    }

    fn relations_of(&self, member: usize) -> impl Iterator<Item = &'chain Relation> + use<'chain> {
        let found = self.manifest.members.get(member);
        let cut = found.map(|member| self.cut(member.window.upto));
        let is_logged = self.manifest.kind.is_logged();
        let relations = found.map(|member| member.relations.as_slice());
        relations
            .unwrap_or_default()
            .iter()
            .map(|held| &held.relation)
            .filter(move |relation| {
                let dropped = relation.dropped_at;
                // Positions that hold no time do not compare with an instant, nor with those of another database's end.
                is_logged && dropped.is_none()
                    || cut.is_some_and(|cut| {
                        relation.created_at <= cut && dropped.is_none_or(|dropped| dropped > cut)
                    })
            })
    }

    fn relations(&self) -> impl Iterator<Item = &'chain Relation> + '_ {
        (0..self.manifest.members.len()).flat_map(|member| self.relations_of(member))
    }

    /// Databases that are held whole at the instant: those with a table then, and those that were there before the layer and
    /// are still at its end. (A database without tables that was made in the window is seen at its end only.)
    fn databases(&self) -> BTreeSet<DatabaseName> {
        let target = &self.manifest.target;
        let has_database = |name: &&Relation| match target {
            Target::Source => true,
            Target::Databases(names) => names.contains(&name.name.database),
            Target::Tables(_) => false,
        };
        let lasting = self.manifest.complete.iter().filter(|name| {
            let was_there = || {
                self.before
                    .is_some_and(|before| before.holds_complete(name))
            };
            self.is_end() || was_there()
        });
        let alive = self.relations().filter(has_database);
        alive
            .map(|relation| relation.name.database.clone())
            .chain(lasting.cloned())
            .collect()
    }

    /// The target with wildcards resolved, after checking that all of it is there.
    fn resolve(&self, target: &Target) -> Result<Target, Fault> {
        match target {
            Target::Source if self.manifest.target == Target::Source => Ok(Target::Source),
            Target::Source => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!(
                    "full cluster RESTORE can only be used on full cluster BACKUP files, and this is a backup of {}",
                    self.manifest.target
                ),
            )
            .hint("name the databases or tables to restore")),
            Target::Databases(names) => {
                names.iter().try_for_each(|name| self.check_database(name))?;
                let mut names = names.clone();
                names.sort();
                names.dedup();
                Ok(Target::Databases(names))
            }
            Target::Tables(names) => self.resolve_tables(names),
        }
    }

    fn check_database(&self, name: &DatabaseName) -> Result<(), Fault> {
        if self.databases().contains(name) {
            return Ok(());
        }
        if self.relations().any(|held| held.name.database == *name) {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!(
                    "cannot RESTORE DATABASE from a backup of individual tables: database \"{name}\" is not held whole"
                ),
            )
            .hint("restore its tables by name"));
        }
        let known = |manifest: &Manifest| {
            let relations = manifest.members.iter().flat_map(|member| &member.relations);
            manifest.holds_complete(name)
                || relations
                    .map(|held| &held.relation.name.database)
                    .any(|held| held == name)
        };
        Err(self.missing("database", name, known))
    }

    fn resolve_tables(&self, names: &[TableName]) -> Result<Target, Fault> {
        let mut wanted = BTreeSet::new();
        for name in names {
            let before = wanted.len();
            let matches = self
                .relations()
                .filter(|held| !held.name.is_database() && name.covers(&held.name));
            wanted.extend(matches.map(|held| held.name.clone()));
            if name.is_pattern() && !self.holds_all_of(name) {
                if wanted.len() == before {
                    self.check_database(&name.database)?;
                }
                return Err(Fault::new(
                    ErrorCode::FailedPrecondition,
                    format!("cannot RESTORE {name} from a backup of individual tables"),
                )
                .hint("restore its tables by name"));
            }
            let is_there = match name.is_pattern() {
                // All of a database may be nothing.
                true => name.table == "*" || self.relations().any(|held| name.covers(&held.name)),
                false => wanted.contains(name),
            };
            if !is_there {
                let known = |manifest: &Manifest| {
                    let relations = manifest.members.iter().flat_map(|member| &member.relations);
                    relations
                        .map(|held| &held.relation.name)
                        .any(|held| name.covers(held))
                };
                return Err(self.missing("table", &name.to_string(), known));
            }
        }
        Ok(Target::Tables(wanted.into_iter().collect()))
    }

    /// Whether the layer holds everything that a pattern stands for.
    fn holds_all_of(&self, pattern: &TableName) -> bool {
        let target = &self.manifest.target;
        let is_asked_for = matches!(target, Target::Tables(_)) && target.covers(pattern);
        is_asked_for || self.databases().contains(&pattern.database)
    }

    /// The error for something that is not there: at that instant, or at all.
    fn missing(&self, what: &str, name: &str, known: impl Fn(&Manifest) -> bool) -> Fault {
        if self.chain.all_layers().any(|layer| known(&layer.manifest)) {
            Fault::new(
                ErrorCode::NotCovered,
                format!(
                    "{what} \"{name}\" does not exist, or invalid RESTORE timestamp {}: supplied backups do not cover \
                     requested time",
                    show_position(self.at)
                ),
            )
            .hint(format!("the backup holds the {what} at other times: choose another AS OF"))
        } else {
            Fault::new(
                ErrorCode::NotFound,
                format!("failed to resolve targets in the BACKUP location: {what} \"{name}\" does not exist in it"),
            )
            .hint(SHOW_BACKUP)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, full, incremental, relation, sealed, table, with_history};
    use super::*;

    fn databases(names: &[&str]) -> Target {
        Target::Databases(names.iter().map(ToString::to_string).collect())
    }

    fn tables(names: &[&str]) -> Target {
        Target::Tables(names.iter().map(|name| table(name)).collect())
    }

    fn ids(plan: &RestorePlan) -> Vec<u64> {
        let relations = plan.members.iter().flat_map(|member| &member.relations);
        relations.map(|held| held.relation.id.0).collect()
    }

    /// A full of the source at 10 (`shop.orders` 1, `shop.old` 2), an incremental with history at 30: `shop.old` dropped at 15 and made
    /// again at 25 as relation 3, `bank.accounts` 4 made at 22; an incremental at 40 without `bank`.
    fn chain() -> Chain {
        let mut base = full(10);
        base.manifest.members[0]
            .relations
            .push(relation(2, "shop.old", 2, None));
        let base = sealed(base);
        let mut history = with_history(incremental(&base, 30), None);
        let introduced = |mut held: crate::LayerRelation| {
            held.introduced = true;
            held
        };
        history.manifest.members[0].relations = vec![
            relation(1, "shop.orders", 1, None),
            relation(2, "shop.old", 2, Some(15)),
            introduced(relation(3, "shop.old", 25, None)),
            introduced(relation(4, "bank.accounts", 22, None)),
        ];
        history.manifest.complete = vec!["bank".to_owned(), "shop".to_owned()];
        let history = sealed(history);
        let mut last = incremental(&history, 40);
        last.manifest.members[0].relations = vec![
            relation(1, "shop.orders", 1, None),
            relation(3, "shop.old", 25, None),
        ];
        last.manifest.complete = vec!["shop".to_owned()];
        Chain::assemble(vec![base, history, sealed(last)]).expect("a chain")
    }

    /// A full at 10 of `shop.public.orders` and `shop.audit.log`, and a history up to 20 in which `shop.public.items` was made. The two
    /// databases ended one after another, so that the position of the first lies before where the second began.
    fn logged(target: Target) -> Chain {
        let place = |lsn| Position::from(Lsn::at(lsn));
        let mut base = full(10);
        let mut next = with_history(incremental(&base, 20), None);
        let is_whole = target == Target::Source;
        for (layer, after, upto) in [(&mut base, None, 7), (&mut next, Some(7), 9)] {
            layer.manifest.kind = holdfast_types::SourceKind::Postgres;
            layer.manifest.target = target.clone();
            layer.manifest.complete.retain(|_| is_whole);
            let member = &mut layer.manifest.members[0];
            member.window.after = after.map(place);
            member.window.upto = place(upto);
            member.complete_until = Some(layer.manifest.end);
            let names = ["shop.public.orders", "shop.audit.log", "shop.public.items"];
            let there = 2 + usize::from(upto == 9);
            let held = (1..).zip(&names[..there]);
            member.relations = held.map(|(id, name)| relation(id, name, 1, None)).collect();
            for held in &mut member.relations {
                held.relation.created_at = place(8 + upto);
            }
        }
        let base = sealed(base);
        if let Some(parent) = &mut next.manifest.parent {
            parent.manifest = base.digest;
        }
        Chain::assemble(vec![base, sealed(next)]).expect("a chain")
    }

    #[test]
    fn a_layer_of_log_positions_is_restored_at_its_end_and_inside_its_history() {
        let place = |lsn| Position::from(Lsn::at(lsn));
        let chain = logged(Target::Source);
        for (as_of, layers, position, expected) in [
            (None, 2, place(9), &[1, 2, 3][..]),
            (Some(at(20)), 2, place(9), &[1, 2, 3]),
            (Some(at(10)), 1, place(7), &[1, 2]),
            // Which tables there were is for the catalogs to tell.
            (Some(at(15)), 2, at(15).into(), &[1, 2, 3]),
        ] {
            let plan = chain
                .resolve_restore(&Target::Source, as_of)
                .expect("covered");
            assert_eq!(plan.layers.len(), layers, "{as_of:?}");
            assert_eq!(plan.members[0].position, position);
            assert_eq!(ids(&plan), expected);
            assert_eq!(plan.databases, ["shop"]);
        }
        for outside in [5, 9, 21] {
            let fault = chain
                .resolve_restore(&Target::Source, Some(at(outside)))
                .expect_err("outside");
            assert_eq!(fault.code, ErrorCode::NotCovered, "{fault}");
            assert!(fault.hint.is_some_and(|hint| hint.contains("nearest")));
        }
    }

    #[test]
    fn patterns_stand_for_the_tables_of_a_schema() {
        let found = |target: Target, names: &[&str], as_of: Option<u64>| {
            logged(target).resolve_restore(&tables(names), as_of.map(at))
        };
        let of = |names: &[&str]| tables(names);
        for (target, names, as_of, expected) in [
            (Target::Source, &["shop.public.*"][..], None, &[1, 3][..]),
            (Target::Source, &["shop.public.*"], Some(10), &[1]),
            (Target::Source, &["shop.*"], None, &[1, 2, 3]),
            (of(&["shop.public.*"]), &["shop.public.*"], None, &[1, 3]),
            (of(&["shop.*"]), &["shop.audit.*"], None, &[2]),
            (of(&["shop.public.*"]), &["shop.public.items"], None, &[3]),
        ] {
            let plan = found(target, names, as_of).expect("there");
            assert_eq!(ids(&plan), expected, "{names:?} {as_of:?}");
        }
        for (target, name, as_of, code) in [
            (
                of(&["shop.public.*"]),
                "shop.*",
                None,
                ErrorCode::FailedPrecondition,
            ),
            (
                of(&["shop.public.orders"]),
                "shop.public.*",
                None,
                ErrorCode::FailedPrecondition,
            ),
            (Target::Source, "shop.nothing.*", None, ErrorCode::NotFound),
            (Target::Source, "bank.public.*", None, ErrorCode::NotFound),
            (
                Target::Source,
                "shop.public.items",
                Some(10),
                ErrorCode::NotCovered,
            ),
        ] {
            let fault = found(target, &[name], as_of).expect_err(name);
            assert_eq!(fault.code, code, "{name}: {fault}");
            assert!(fault.hint.is_some(), "{fault}");
        }
    }

    #[test]
    fn a_member_is_asked_for_what_it_has() {
        let chain = logged(Target::Source);
        let manifest = &chain.last().expect("a layer").manifest;
        let m1 = "m1".parse().expect("a name");
        let narrow = |target: &Target| manifest.narrow(&m1, target);
        assert_eq!(narrow(&Target::Source), Target::Source);
        assert_eq!(narrow(&databases(&["bank", "shop"])), databases(&["shop"]));
        let asked = tables(&["bank.public.t", "shop.public.items", "shop.public.nothing"]);
        assert_eq!(narrow(&asked), tables(&["shop.public.items"]));
        let other = "m2".parse().expect("a name");
        assert_eq!(
            manifest.narrow(&other, &databases(&["shop"])),
            databases(&[])
        );
    }

    #[test]
    fn relations_are_those_that_existed_at_the_instant() {
        let chain = chain();
        let cases: [(u64, &[u64]); 8] = [
            (10, &[1, 2]),
            (12, &[1, 2]),
            (15, &[1]),
            (21, &[1]),
            (22, &[1, 4]),
            (25, &[1, 3, 4]),
            (30, &[1, 3, 4]),
            (40, &[1, 3]),
        ];
        for (seconds, expected) in cases {
            let plan = chain
                .resolve_restore(&Target::Source, Some(at(seconds)))
                .expect("covered");
            assert_eq!(ids(&plan), expected, "at {seconds}");
            assert_eq!(plan.members[0].position, at(seconds).into());
        }
    }

    #[test]
    fn a_table_made_again_is_restored_from_its_own_layers_only() {
        let plan = chain()
            .resolve_restore(&tables(&["shop.old"]), None)
            .expect("there");
        assert_eq!(ids(&plan), [3]);
        assert_eq!(plan.members[0].relations[0].first_layer, 1);
        assert_eq!(plan.layers.len(), 3);
        assert!(plan.databases.is_empty());
        let before = chain()
            .resolve_restore(&tables(&["shop.old"]), Some(at(12)))
            .expect("there");
        assert_eq!(
            (ids(&before), before.members[0].relations[0].first_layer),
            (vec![2], 0)
        );
    }

    #[test]
    fn databases_follow_the_instant_too() {
        let chain = chain();
        let plan = chain
            .resolve_restore(&databases(&["bank"]), Some(at(30)))
            .expect("there");
        assert_eq!(
            (ids(&plan), plan.databases),
            (vec![4], vec!["bank".to_owned()])
        );
        let plan = chain.resolve_restore(&Target::Source, None).expect("there");
        assert_eq!(plan.databases, ["shop"]);
        let plan = chain
            .resolve_restore(&tables(&["shop.*"]), None)
            .expect("there");
        assert_eq!(ids(&plan), [1, 3]);
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let mut base = full(10);
        base.manifest.target = tables(&["shop.orders"]);
        base.manifest.complete.clear();
        let of_tables = Chain::assemble(vec![sealed(base)]).expect("a chain");
        let of_source = chain();
        let cases = [
            (
                &of_tables,
                Target::Source,
                None,
                ErrorCode::FailedPrecondition,
                "full cluster RESTORE can only be used on full cluster BACKUP files",
            ),
            (
                &of_tables,
                databases(&["shop"]),
                None,
                ErrorCode::FailedPrecondition,
                "cannot RESTORE DATABASE from a backup of individual tables",
            ),
            (
                &of_tables,
                tables(&["shop.*"]),
                None,
                ErrorCode::FailedPrecondition,
                "cannot RESTORE shop.* from a backup of individual tables",
            ),
            (
                &of_source,
                tables(&["shop.nothing"]),
                None,
                ErrorCode::NotFound,
                "failed to resolve targets in the BACKUP location: table \"shop.nothing\"",
            ),
            (
                &of_source,
                tables(&["nothing.*"]),
                None,
                ErrorCode::NotFound,
                "failed to resolve targets in the BACKUP location: database \"nothing\"",
            ),
            (
                &of_source,
                databases(&["nothing"]),
                None,
                ErrorCode::NotFound,
                "failed to resolve targets in the BACKUP location: database \"nothing\"",
            ),
            (
                &of_source,
                databases(&["bank"]),
                Some(at(21)),
                ErrorCode::NotCovered,
                "does not exist, or invalid RESTORE timestamp",
            ),
            (
                &of_source,
                tables(&["bank.accounts"]),
                None,
                ErrorCode::NotCovered,
                "supplied backups do not cover requested time",
            ),
            (
                &of_source,
                Target::Source,
                Some(at(35)),
                ErrorCode::NotCovered,
                "invalid RESTORE timestamp",
            ),
        ];
        for (chain, target, as_of, code, text) in cases {
            let fault = chain.resolve_restore(&target, as_of).expect_err(text);
            assert_eq!(fault.code, code, "{target}: {fault}");
            assert!(fault.message.contains(text), "{target}: {fault}");
            assert!(fault.hint.is_some(), "{fault}");
        }
    }
}
