//! The rules for continuing a chain (the model system's, `cockroachdb-backup.md` 3.3 in its description).

use holdfast_types::{
    ClusterId, ErrorCode, Fault, Hlc, MemberName, ParentLayer, SourceKind, SourceName, TableName,
    Target, Tier,
};

use super::{Chain, Layer, show};
use crate::manifest::Manifest;

/// An incremental that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendRequest {
    /// The cluster that asks.
    pub cluster: ClusterId,
    /// The source to be read.
    pub source: SourceName,
    /// Its kind.
    pub kind: SourceKind,
    /// Its members, in task order.
    pub members: Vec<MemberName>,
    /// What is to be covered.
    pub target: Target,
    /// The layer's inclusive end.
    pub end: Hlc,
    /// The tiers that have stores of their own.
    pub tiers: Vec<Tier>,
}

fn rule(message: String) -> Fault {
    Fault::new(ErrorCode::ChainRule, message)
}

/// The way out of every breach that more incrementals cannot cure.
const NEW_FULL: &str = "take a new full backup instead";

impl Chain {
    /// Checks an incremental against the chain, and gives the layer that it continues.
    ///
    /// # Errors
    /// `ChainRule`, worded as the model system words it.
    pub fn check_append(&self, request: &AppendRequest) -> Result<ParentLayer, Fault> {
        let Some(last) = self.last() else {
            return Err(Fault::new(ErrorCode::NotFound, "the chain has no layer"));
        };
        check_identity(last, request)?;
        let previous = &last.manifest;
        if request.end <= previous.end {
            return Err(rule(format!(
                "`AS OF SYSTEM TIME` {} must be greater than the previous backup's end time of {}",
                show(request.end),
                show(previous.end)
            ))
            .hint(
                "choose a later time; if none was given, a coordinator's clock is behind: \
                 synchronise the clocks",
            ));
        }
        check_target(last, &request.target)?;
        Ok(ParentLayer {
            path: previous.path.clone(),
            manifest: last.digest,
            end: previous.end,
        })
    }
}

fn check_identity(last: &Layer, request: &AppendRequest) -> Result<(), Fault> {
    let previous = &last.manifest;
    if previous.cluster != request.cluster {
        return Err(rule(format!(
            "previous BACKUP belongs to cluster {}, and this is cluster {}",
            previous.cluster, request.cluster
        ))
        .hint("take a full backup, into a collection of this cluster's own"));
    }
    if (&previous.source, previous.kind) != (&request.source, request.kind) {
        return Err(rule(format!(
            "previous BACKUP is of source {} ({}), and this one is of source {} ({})",
            previous.source, previous.kind, request.source, request.kind
        ))
        .hint(NEW_FULL));
    }
    if !super::members(previous).eq(&request.members) {
        let list = |names: Vec<&str>| names.join(", ");
        return Err(rule(format!(
            "requested backup has members [{}], but the previous backup layer has members [{}]",
            list(request.members.iter().map(MemberName::as_str).collect()),
            list(super::members(previous).map(MemberName::as_str).collect())
        ))
        .hint(NEW_FULL));
    }
    if previous.tiers != request.tiers {
        let list = |tiers: &[Tier]| {
            let names: Vec<String> = tiers.iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        return Err(rule(format!(
            "requested backup has localities [{}], but the previous backup layer has localities [{}]",
            list(&request.tiers),
            list(&previous.tiers)
        ))
        .hint("give a store for the same localities in every layer of a chain, or take a new full backup"));
    }
    Ok(())
}

fn check_target(last: &Layer, target: &Target) -> Result<(), Fault> {
    let previous = &last.manifest;
    match (&previous.target, target) {
        (Target::Source, Target::Source) => Ok(()),
        (Target::Source, Target::Databases(_) | Target::Tables(_)) => Err(rule(
            "cannot append a backup of specific tables or databases to a cluster backup".into(),
        )
        .hint("leave the target out, or take a new full backup of it elsewhere")),
        (Target::Databases(_) | Target::Tables(_), Target::Source) => Err(rule(
            "cannot append a backup of the whole source to a backup of specific tables or databases"
                .into(),
        )
        .hint(NEW_FULL)),
        (_, Target::Databases(databases)) => {
            match databases.iter().find(|name| !previous.holds_complete(name)) {
                None => Ok(()),
                Some(name) => Err(rule(format!(
                    "previous backup does not contain the complete database \"{name}\""
                ))
                .hint(NEW_FULL)),
            }
        }
        (_, Target::Tables(tables)) => {
            match tables.iter().find(|name| !goes_on(previous, name)) {
                None => Ok(()),
                Some(name) => Err(rule(format!(
                    "previous backup does not contain table \"{name}\""
                ))
                .hint(NEW_FULL)),
            }
        }
    }
}

/// Whether a table, or all that a pattern stands for, can be continued.
fn goes_on(previous: &Manifest, name: &TableName) -> bool {
    let comes_and_goes = |target: &Target| match target {
        Target::Tables(tables) => {
            let mut patterns = tables.iter().filter(|table| table.is_pattern());
            patterns.any(|pattern| pattern.covers(name))
        }
        Target::Source | Target::Databases(_) => false,
    };
    // A table that was made again under its name is a new relation, which the incremental reads from its beginning.
    let is_held = || {
        let mut relations = previous.members.iter().flat_map(|member| &member.relations);
        relations.any(|held| held.relation.dropped_at.is_none() && held.relation.name == *name)
    };
    // The log has all changes of what it was kept for, though a relation without rows is not listed.
    let is_logged = || previous.kind.is_logged() && previous.target.covers(name);
    previous.holds_complete(&name.database)
        || comes_and_goes(&previous.target)
        || is_logged()
        || (!name.is_pattern() && is_held())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, full, incremental, sealed, table, with_history};
    use super::*;

    fn request() -> AppendRequest {
        AppendRequest {
            cluster: ClusterId([7; 16]),
            source: "fleet".parse().expect("a name"),
            kind: SourceKind::Mvcc,
            members: vec!["m1".parse().expect("a name")],
            target: Target::Source,
            end: at(100),
            tiers: Vec::new(),
        }
    }

    fn chain_of(target: Target, complete: &[&str]) -> Chain {
        let mut base = full(10);
        base.manifest.target = target;
        base.manifest.complete = complete.iter().map(ToString::to_string).collect();
        let base = sealed(base);
        let next = incremental(&base, 20);
        Chain::assemble(vec![base, next]).expect("a chain")
    }

    fn databases(names: &[&str]) -> Target {
        Target::Databases(names.iter().map(ToString::to_string).collect())
    }

    fn tables(names: &[&str]) -> Target {
        Target::Tables(names.iter().map(|name| table(name)).collect())
    }

    #[test]
    fn an_incremental_starts_at_the_end_of_the_last_layer() {
        let chain = chain_of(Target::Source, &["shop"]);
        let parent = chain.check_append(&request()).expect("legal");
        assert_eq!(parent.end, at(20));
        assert_eq!(
            Some(&parent.path),
            chain.last().map(|layer| &layer.manifest.path)
        );
    }

    #[test]
    fn every_layer_has_the_same_localities() {
        let tiers = || vec!["region=eu".parse::<Tier>().expect("a tier")];
        let mut base = full(10);
        base.manifest.tiers = tiers();
        let chain = Chain::assemble(vec![sealed(base)]).expect("a chain");
        let fault = chain
            .check_append(&request())
            .expect_err("other localities");
        assert_eq!(fault.code, ErrorCode::ChainRule);
        assert!(
            fault
                .message
                .contains("previous backup layer has localities [region=eu]"),
            "{fault}"
        );
        let same = AppendRequest {
            tiers: tiers(),
            ..request()
        };
        chain.check_append(&same).expect("legal");
    }

    #[test]
    fn history_on_a_chain_without_is_allowed() {
        let base = full(10);
        let next = with_history(incremental(&base, 20), None);
        let chain = Chain::assemble(vec![base, next]).expect("a chain");
        chain.check_append(&request()).expect("legal");
    }

    /// Previous target, its complete databases, a change to the request, and the key of the error.
    type Case = (
        Target,
        &'static [&'static str],
        fn(&mut AppendRequest),
        Option<&'static str>,
    );

    #[test]
    fn every_rule_of_the_table_holds() {
        let cases: Vec<Case> = vec![
            (
                Target::Source,
                &["shop"],
                |request| request.end = at(20),
                Some("must be greater than the previous backup's end time"),
            ),
            (
                Target::Source,
                &["shop"],
                |request| request.end = at(20).next(),
                None,
            ),
            (
                Target::Source,
                &["shop"],
                |request| request.cluster = ClusterId([8; 16]),
                Some("previous BACKUP belongs to cluster 0707"),
            ),
            (
                Target::Source,
                &["shop"],
                |request| request.source = "other".parse().expect("a name"),
                Some("previous BACKUP is of source fleet"),
            ),
            (
                Target::Source,
                &["shop"],
                |request| request.members.push("m2".parse().expect("a name")),
                Some("requested backup has members [m1, m2], but"),
            ),
            (
                Target::Source,
                &["shop"],
                |request| request.target = databases(&["shop"]),
                Some("cannot append a backup of specific tables or databases to a cluster backup"),
            ),
            (
                Target::Source,
                &["shop"],
                |request| request.target = tables(&["shop.orders"]),
                Some("cannot append a backup of specific tables or databases to a cluster backup"),
            ),
            (
                databases(&["shop"]),
                &["shop"],
                |_| (),
                Some("cannot append a backup of the whole source"),
            ),
            (
                databases(&["shop"]),
                &["shop"],
                |request| request.target = databases(&["shop"]),
                None,
            ),
            (
                databases(&["shop"]),
                &["shop"],
                |request| request.target = databases(&["shop", "bank"]),
                Some("previous backup does not contain the complete database \"bank\""),
            ),
            (
                tables(&["shop.orders"]),
                &[],
                |request| request.target = databases(&["shop"]),
                Some("previous backup does not contain the complete database \"shop\""),
            ),
            (
                tables(&["shop.orders"]),
                &[],
                |request| request.target = tables(&["shop.orders"]),
                None,
            ),
            (
                tables(&["shop.orders"]),
                &[],
                |request| request.target = tables(&["shop.orders", "shop.items"]),
                Some("previous backup does not contain table \"shop.items\""),
            ),
            (
                databases(&["shop"]),
                &["shop"],
                |request| request.target = tables(&["shop.items"]),
                None,
            ),
            (
                databases(&["shop"]),
                &["shop"],
                |request| request.target = tables(&["shop.public.*"]),
                None,
            ),
            (
                tables(&["shop.orders"]),
                &[],
                |request| request.target = tables(&["shop.*"]),
                Some("previous backup does not contain table \"shop.*\""),
            ),
            (
                tables(&["shop.public.*"]),
                &[],
                |request| request.target = tables(&["shop.public.*", "shop.public.new"]),
                None,
            ),
            (
                tables(&["shop.public.*"]),
                &[],
                |request| request.target = tables(&["shop.*"]),
                Some("previous backup does not contain table \"shop.*\""),
            ),
        ];
        for (target, complete, change, expected) in cases {
            let chain = chain_of(target.clone(), complete);
            let mut asked = request();
            change(&mut asked);
            match (chain.check_append(&asked), expected) {
                (Ok(_), None) => {}
                (Err(fault), Some(text)) => {
                    assert!(fault.message.contains(text), "{target}: {fault}");
                    assert_eq!(fault.code, ErrorCode::ChainRule);
                    assert!(fault.hint.is_some(), "{fault}");
                }
                (outcome, _) => panic!("{target} {asked:?}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn a_table_dropped_in_the_previous_layer_is_not_contained_in_it() {
        let mut base = full(10);
        base.manifest.target = tables(&["shop.orders"]);
        base.manifest.complete.clear();
        base.manifest.members[0].relations[0].relation.dropped_at = Some(at(9).into());
        let chain = Chain::assemble(vec![sealed(base)]).expect("a chain");
        let mut asked = request();
        asked.target = tables(&["shop.orders"]);
        let fault = chain.check_append(&asked).expect_err("dropped");
        assert!(fault.message.contains("does not contain table"), "{fault}");
    }
}
