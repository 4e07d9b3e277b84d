//! Which member of a source receives which member of a backup.

use holdfast_format::{Chain, Manifest, ManifestMember, MemberPlan, RestorePlan};
use holdfast_types::{
    ErrorCode, Fault, Lsn, MemberName, MemberRecord, RestoreMember, SourceRecord, Target,
};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A member of the backup that is restored, and onto which one, if that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    from: MemberName,
    onto: Option<MemberName>,
}

impl FromStr for Choice {
    type Err = Fault;

    /// Reads `NAME`, or `NAME=MEMBER`.
    fn from_str(text: &str) -> Result<Self, Fault> {
        Ok(match text.split_once('=') {
            None => Self {
                from: text.parse()?,
                onto: None,
            },
            Some((from, onto)) => Self {
                from: from.parse()?,
                onto: Some(onto.parse()?),
            },
        })
    }
}

/// Reads choices: no member twice, on neither side.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn read_choices(texts: &[String]) -> Result<Vec<Choice>, Fault> {
    let choices: Vec<Choice> = texts
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let (mut from, mut onto) = (BTreeSet::new(), BTreeSet::new());
    for choice in &choices {
        let twice = |name: &MemberName| {
            Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("member {name} is named twice"),
            ))
        };
        if !from.insert(&choice.from) {
            return twice(&choice.from);
        }
        if let Some(name) = &choice.onto
            && !onto.insert(name)
        {
            return twice(name);
        }
    }
    Ok(choices)
}

/// The member whose log a place is in: the chosen one, or the only one that there is.
///
/// # Errors
/// `InvalidArgument` if there are several.
pub(super) fn member_of_log<'a>(
    chain: &'a Chain,
    choices: &'a [Choice],
    place: Lsn,
) -> Result<&'a MemberName, Fault> {
    let members: Vec<&MemberName> = match choices {
        [] => chain.members().collect(),
        chosen => chosen.iter().map(|choice| &choice.from).collect(),
    };
    match *members {
        [member] => Ok(member),
        _ => {
            let names: Vec<&str> = members.iter().map(|name| name.as_str()).collect();
            Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "{place} is a place in the log of one server, and {} are to be restored",
                    names.join(", ")
                ),
            )
            .hint("choose one member, or restore AS OF a time"))
        }
    }
}

/// Leaves in the plan what is restored of the chosen members; without a choice of all. Members of a source whose history is a log are left
/// out if nothing of them is restored: they would be asked for what they never had.
///
/// # Errors
/// `NotFound` for a member that the backup does not have or that has nothing of the target, and for a part of the target that no chosen
/// member has.
pub(super) fn choose(
    mut plan: RestorePlan,
    newest: &Manifest,
    target: &Target,
    choices: &[Choice],
) -> Result<RestorePlan, Fault> {
    for choice in choices {
        let found = plan.members.iter().find(|held| held.name == choice.from);
        let what = match found {
            None => "there is no such member in it".to_owned(),
            Some(held) if held.relations.is_empty() => format!("it holds nothing of {target}"),
            Some(_) => continue,
        };
        return Err(Fault::new(
            ErrorCode::NotFound,
            format!(
                "member {} of the backup cannot be restored: {what}",
                choice.from
            ),
        )
        .hint(format!(
            "the members of the backup are {}",
            list(newest.members.iter().map(|member| &member.name))
        )));
    }
    if !choices.is_empty() {
        let is_chosen = |held: &MemberPlan| choices.iter().any(|choice| choice.from == held.name);
        plan.members.retain(is_chosen);
        check_all_there(&plan, target)?;
    } else if newest.kind.is_logged() {
        plan.members.retain(|held| !held.relations.is_empty());
        if plan.members.is_empty() {
            return Err(Fault::new(
                ErrorCode::NotFound,
                format!("the backup holds nothing of {target} at that time"),
            )
            .hint("list what the backup holds with `holdfast backups`"));
        }
    }
    Ok(plan)
}

fn list<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// What was asked for by name must be on one of the chosen members.
fn check_all_there(plan: &RestorePlan, target: &Target) -> Result<(), Fault> {
    let held = || {
        let members = plan.members.iter().flat_map(|member| &member.relations);
        members.map(|held| &held.relation.name)
    };
    let missing = match target {
        Target::Source => None,
        Target::Databases(names) => names
            .iter()
            .find(|name| !held().any(|held| held.database == **name))
            .map(|name| format!("database \"{name}\"")),
        Target::Tables(names) => names
            .iter()
            .find(|name| !held().any(|held| name.covers(held)))
            .map(|name| format!("table \"{name}\"")),
    };
    match missing {
        None => Ok(()),
        Some(what) => Err(Fault::new(
            ErrorCode::NotFound,
            format!("{what} is on none of the members that were chosen"),
        )
        .hint("choose the member that has it, or let all members be restored")),
    }
}

/// Maps the members of a plan: as chosen, or to the one of the same name, or else to the only other one in the same place.
///
/// # Errors
/// `FailedPrecondition` for a member without counterpart, `NotFound` for one that was chosen and is not there.
pub(super) fn map_members(
    plan: &RestorePlan,
    newest: &Manifest,
    source: &SourceRecord,
    choices: &[Choice],
) -> Result<Vec<RestoreMember>, Fault> {
    let mut free: Vec<&MemberRecord> = source.members.iter().collect();
    let mut mapped = Vec::new();
    let mut left = Vec::new();
    for choice in choices {
        let Some(onto) = &choice.onto else { continue };
        let Some(index) = free.iter().position(|member| member.name == *onto) else {
            return Err(no_member(onto, source));
        };
        mapped.push(RestoreMember {
            member: free.remove(index).clone(),
            from: choice.from.clone(),
        });
    }
    let is_mapped = |mapped: &[RestoreMember], name: &MemberName| {
        mapped.iter().any(|member| member.from == *name)
    };
    for from in &plan.members {
        if is_mapped(&mapped, &from.name) {
            continue;
        }
        match free.iter().position(|member| member.name == from.name) {
            Some(index) => mapped.push(RestoreMember {
                member: free.remove(index).clone(),
                from: from.name.clone(),
            }),
            None => left.push(from),
        }
    }
    for from in left {
        let held = newest.members.iter().find(|held| held.name == from.name);
        let place = held.map(|held| &held.locality);
        match free
            .iter()
            .position(|member| Some(&member.locality) == place)
        {
            Some(index) => mapped.push(RestoreMember {
                member: free.remove(index).clone(),
                from: from.name.clone(),
            }),
            // Nothing of it is restored: it needs no counterpart.
            None if from.relations.is_empty() => {}
            None => return Err(no_counterpart(&from.name, held, source)),
        }
    }
    if mapped.is_empty() {
        return Err(Fault::new(
            ErrorCode::FailedPrecondition,
            format!(
                "source {} has no member that could receive the backup",
                source.name
            ),
        ));
    }
    // In the order of the backup's members, whatever the way they were found.
    let order = |member: &RestoreMember| {
        plan.members
            .iter()
            .position(|held| held.name == member.from)
    };
    mapped.sort_by_key(order);
    Ok(mapped)
}

fn known(source: &SourceRecord) -> String {
    list(
        source
            .members
            .iter()
            .map(|member| format!("{} ({})", member.name, member.locality)),
    )
}

fn no_member(name: &MemberName, source: &SourceRecord) -> Fault {
    Fault::new(
        ErrorCode::NotFound,
        format!("source {} has no member {name}", source.name),
    )
    .hint(format!("its members are {}", known(source)))
}

fn no_counterpart(
    member: &MemberName,
    held: Option<&ManifestMember>,
    source: &SourceRecord,
) -> Fault {
    let place = held.map(|held| held.locality.to_string());
    Fault::new(
        ErrorCode::FailedPrecondition,
        format!(
            "member {member} ({}) of the backup has no counterpart in source {}, neither by name nor by locality",
            place.unwrap_or_default(),
            source.name
        ),
    )
    .hint(format!(
        "the members of {} are {}; say which is meant with {member}=NAME, or register one named {member}",
        source.name,
        known(source)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_format::{LayerTotals, RestoreRelation};
    use holdfast_types::{
        ClusterId, Hlc, JobId, LayerPath, Lsn, Relation, RelationId, SourceKind, TableName,
        Timestamp, Window,
    };

    fn name(text: &str) -> MemberName {
        text.parse().expect("a name")
    }

    /// A backup of `m1` (`bank.public.accounts`) in eu, and of `m2` (`shop.public.orders`) in us.
    fn backup(kind: SourceKind) -> (RestorePlan, Manifest) {
        let table = |text: &str| text.parse::<TableName>().expect("a table");
        let members = [
            ("m1", "region=eu", "bank.public.accounts"),
            ("m2", "region=us", "shop.public.orders"),
        ];
        let held = |at: usize| RestoreRelation {
            relation: Relation {
                id: RelationId(at as u64),
                name: table(members[at].2),
                created_at: Lsn::ZERO.into(),
                dropped_at: None,
                definition: Vec::new(),
            },
            first_layer: 0,
        };
        let manifest = Manifest {
            cluster: ClusterId([1; 16]),
            job: JobId(1),
            source: "fleet".parse().expect("a name"),
            kind,
            path: LayerPath::full("x"),
            parent: None,
            target: Target::Source,
            complete: vec!["bank".into(), "shop".into()],
            end: Hlc::ZERO,
            history: false,
            revision_start: None,
            members: members
                .iter()
                .map(|(member, place, _)| ManifestMember {
                    name: name(member),
                    locality: place.parse().expect("a locality"),
                    window: Window {
                        after: None,
                        upto: Lsn::ZERO.into(),
                        history: false,
                    },
                    complete_until: None,
                    relations: Vec::new(),
                })
                .collect(),
            totals: LayerTotals::default(),
            parts: Vec::new(),
            tiers: Vec::new(),
        };
        let plan = RestorePlan {
            at: Hlc::ZERO.into(),
            layers: Vec::new(),
            databases: Vec::new(),
            members: (0..members.len())
                .map(|at| MemberPlan {
                    name: name(members[at].0),
                    index: at as u16,
                    position: Lsn::ZERO.into(),
                    relations: vec![held(at)],
                })
                .collect(),
        };
        (plan, manifest)
    }

    fn source(members: &[(&str, &str)]) -> SourceRecord {
        SourceRecord {
            name: "other".parse().expect("a name"),
            kind: SourceKind::Postgres,
            members: members
                .iter()
                .map(|(member, place)| MemberRecord {
                    name: name(member),
                    locality: place.parse().expect("a locality"),
                    address: "postgres://a@h/d".into(),
                    secret: None,
                    limits: holdfast_types::MemberLimits::default(),
                })
                .collect(),
            registered_at: Timestamp::default(),
        }
    }

    /// The way from request to mapping: `from>onto` for each member.
    fn mapping(
        target: &Target,
        choices: &[&str],
        onto: &[(&str, &str)],
    ) -> Result<Vec<String>, Fault> {
        let (mut plan, newest) = backup(SourceKind::Postgres);
        for member in &mut plan.members {
            let covered = |held: &RestoreRelation| target.covers(&held.relation.name);
            member.relations.retain(covered);
        }
        let texts: Vec<String> = choices.iter().map(ToString::to_string).collect();
        let choices = read_choices(&texts)?;
        let plan = choose(plan, &newest, target, &choices)?;
        let mapped = map_members(&plan, &newest, &source(onto), &choices)?;
        let shown = mapped.iter();
        Ok(shown
            .map(|member| format!("{}>{}", member.from, member.member.name))
            .collect())
    }

    const SAME: &[(&str, &str)] = &[("m1", "region=eu"), ("m2", "region=us")];
    const ELSEWHERE: &[(&str, &str)] = &[("a", "region=us"), ("b", "region=ap")];

    /// A target, choices, the members that there are, and what comes of it.
    type Case<'a, T> = (&'a Target, &'a [&'a str], &'a [(&'a str, &'a str)], T);

    #[test]
    fn members_find_their_counterparts() {
        let shop = Target::Databases(vec!["shop".into()]);
        let cases: [Case<'_, &[&str]>; 7] = [
            (&Target::Source, &[], SAME, &["m1>m1", "m2>m2"]),
            (&Target::Source, &["m2"], SAME, &["m2>m2"]),
            (&Target::Source, &["m2"], ELSEWHERE, &["m2>a"]),
            (&Target::Source, &["m1=b"], ELSEWHERE, &["m1>b"]),
            (
                &Target::Source,
                &["m2=b", "m1=a"],
                ELSEWHERE,
                &["m1>a", "m2>b"],
            ),
            (
                &Target::Source,
                &["m1=m2", "m2=m1"],
                SAME,
                &["m1>m2", "m2>m1"],
            ),
            // A member that has nothing of it is not asked.
            (&shop, &[], SAME, &["m2>m2"]),
        ];
        for (target, choices, onto, expected) in cases {
            let found = mapping(target, choices, onto).expect("a mapping");
            assert_eq!(found, expected, "{target} {choices:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let shop = Target::Databases(vec!["shop".into()]);
        let tables = Target::Tables(vec![
            "shop.public.*".parse().expect("a pattern"),
            "bank.public.accounts".parse().expect("a table"),
        ]);
        let cases: [Case<'_, &str>; 9] = [
            (
                &Target::Source,
                &[],
                ELSEWHERE,
                "member m1 (region=eu) of the backup has no counterpart",
            ),
            (
                &Target::Source,
                &["m3"],
                SAME,
                "member m3 of the backup cannot be restored",
            ),
            (
                &Target::Source,
                &["m1=m3"],
                SAME,
                "source other has no member m3",
            ),
            (
                &Target::Source,
                &["m1", "m1=m2"],
                SAME,
                "member m1 is named twice",
            ),
            (
                &Target::Source,
                &["m1=a", "m2=a"],
                ELSEWHERE,
                "member a is named twice",
            ),
            (&Target::Source, &["m 1"], SAME, "not a legal name"),
            (&Target::Source, &["m1=b=c"], SAME, "not a legal name"),
            (&shop, &["m1"], SAME, "it holds nothing of DATABASE shop"),
            (
                &tables,
                &["m2"],
                SAME,
                "table \"bank.public.accounts\" is on none of the members",
            ),
        ];
        for (target, choices, onto, text) in cases {
            let fault = mapping(target, choices, onto).expect_err(text);
            assert!(fault.message.contains(text), "{fault}");
        }
    }

    #[test]
    fn members_without_tables_of_other_kinds_stay() {
        let (mut plan, newest) = backup(SourceKind::Mvcc);
        plan.members[0].relations.clear();
        let chosen = choose(plan.clone(), &newest, &Target::Source, &[]).expect("all");
        assert_eq!(chosen, plan);
        let mapped = map_members(&chosen, &newest, &source(&[("a", "region=us")]), &[]);
        assert_eq!(mapped.expect("one is enough").len(), 1);
    }
}
