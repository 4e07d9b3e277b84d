//! Which chains of a collection expire: a pure function of what is known of them and of the rule.
//!
//! Chains are only compared with chains of the same: the same target of the same source of the same cluster. Of each of these the newest that can
//! be restored stays, whatever the rule says.

use holdfast_types::Timestamp;
use std::collections::BTreeMap;

use super::rule::Rule;

/// What is known of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainFacts {
    /// The directory of its full: of two chains, the one whose directory is greater is newer.
    pub(crate) full: String,
    /// Where its last layer ends.
    pub(crate) end: Timestamp,
    /// What it holds. `None` if nobody here can tell.
    pub(crate) lineage: Option<String>,
    /// Whether its full can be restored, as far as its manifest tells.
    pub(crate) is_restorable: bool,
    /// Whether it was marked as expired, and some of it may be gone.
    pub(crate) is_marked: bool,
    /// Who needs it, in words.
    pub(crate) used: Option<String>,
    /// Until when its objects are locked.
    pub(crate) locked_until: Option<Timestamp>,
    /// What else keeps it from being removed, in words.
    pub(crate) obstacle: Option<String>,
}

/// What becomes of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It goes.
    Expires,
    /// It was marked before; what is left of it goes.
    IsFinished,
    /// It stays.
    Stays(Why),
}

/// Why a chain stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is the newest that can be restored.
    Newest,
    /// It ends after the instant up to which everything stays restorable.
    Within(Timestamp),
    /// It is among the fulls that are kept.
    Counted(u32),
    /// Somebody needs it.
    Used(String),
    /// Its objects are locked.
    Locked(Timestamp),
    /// Nobody here knows what it holds, and so not whether it is the last of it.
    Unknown,
    /// Something else.
    Obstacle(String),
}

impl Decision {
    /// Whether the chain is to be removed.
    pub(crate) fn goes(&self) -> bool {
        !matches!(self, Self::Stays(_))
    }

    /// In words; empty for a chain that goes by the rule.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Expires => String::new(),
            Self::IsFinished => "it had expired before, and some of it is left".to_owned(),
            Self::Stays(Why::Newest) => "it is the newest that can be restored".to_owned(),
            Self::Stays(Why::Within(before)) => format!("it reaches beyond {before}"),
            Self::Stays(Why::Counted(keep)) => format!("it is among the last {keep} fulls"),
            Self::Stays(Why::Used(who)) => who.clone(),
            Self::Stays(Why::Locked(until)) => format!("its objects are locked until {until}"),
            Self::Stays(Why::Unknown) => {
                "it is encrypted or damaged, and another cluster wrote it: what it holds is not known here"
                    .to_owned()
            }
            Self::Stays(Why::Obstacle(what)) => what.clone(),
        }
    }
}

/// Decides of every chain, in the order in which they are given.
pub(crate) fn decide(chains: &[ChainFacts], rule: Rule, now: Timestamp) -> Vec<Decision> {
    // What is marked is a backup no more.
    let mut whole: BTreeMap<&str, Vec<&ChainFacts>> = BTreeMap::new();
    for chain in chains
        .iter()
        .filter(|chain| !chain.is_marked && chain.is_restorable)
    {
        if let Some(lineage) = &chain.lineage {
            whole.entry(lineage).or_default().push(chain);
        }
    }
    let decision = |chain: &ChainFacts| {
        if chain.is_marked {
            return match (&chain.used, &chain.obstacle) {
                (Some(who), _) => Decision::Stays(Why::Used(who.clone())),
                (None, Some(what)) => Decision::Stays(Why::Obstacle(what.clone())),
                (None, None) => Decision::IsFinished,
            };
        }
        let Some(lineage) = &chain.lineage else {
            return Decision::Stays(Why::Unknown);
        };
        let others = whole.get(lineage.as_str()).map_or(&[][..], Vec::as_slice);
        match why_stays(chain, others, rule, now) {
            Some(why) => Decision::Stays(why),
            None => Decision::Expires,
        }
    };
    chains.iter().map(decision).collect()
}

/// Lets only so many go, the first ones: the others are the next expiry's.
pub(crate) fn limit(decisions: &mut [Decision], most: usize) {
    let too_many = decisions.iter_mut().filter(|it| it.goes()).skip(most);
    for decision in too_many {
        let what = format!("one expiry removes at most {most} chains: expire again");
        *decision = Decision::Stays(Why::Obstacle(what));
    }
}

/// Why a chain stays, beside those of the same that can be restored.
fn why_stays(
    chain: &ChainFacts,
    others: &[&ChainFacts],
    rule: Rule,
    now: Timestamp,
) -> Option<Why> {
    // The one with the newest rows; an older full may be the one that goes on.
    let newest = others.iter().max_by_key(|other| (other.end, &other.full));
    if newest.is_none_or(|newest| newest.full == chain.full) {
        return Some(Why::Newest);
    }
    if let Some(before) = rule.before.filter(|before| chain.end >= *before) {
        return Some(Why::Within(before));
    }
    let newer = others.iter().filter(|other| other.full > chain.full);
    let newer = u32::try_from(newer.count()).unwrap_or(u32::MAX);
    if let Some(keep) = rule.keep_fulls.filter(|keep| newer < *keep) {
        return Some(Why::Counted(keep));
    }
    if let Some(who) = &chain.used {
        return Some(Why::Used(who.clone()));
    }
    if let Some(what) = &chain.obstacle {
        return Some(Why::Obstacle(what.clone()));
    }
    (chain.locked_until)
        .filter(|until| *until > now)
        .map(Why::Locked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 24 * 3600 * 1000;

    fn day(number: u64) -> Timestamp {
        Timestamp::from_millis(number * DAY)
    }

    /// A chain whose full was taken on one day and whose last layer on another.
    fn chain(start: u64, end: u64) -> ChainFacts {
        ChainFacts {
            full: format!("{start:05}"),
            end: day(end),
            lineage: Some("shop".to_owned()),
            is_restorable: true,
            is_marked: false,
            used: None,
            locked_until: None,
            obstacle: None,
        }
    }

    fn older_than(number: u64) -> Rule {
        Rule {
            before: Some(day(number)),
            keep_fulls: None,
        }
    }

    fn reasons(chains: &[ChainFacts], rule: Rule) -> Vec<String> {
        let decisions = decide(chains, rule, day(100));
        let show = |decision: Decision| match decision.goes() {
            true => "goes".to_owned(),
            false => decision.reason(),
        };
        decisions.into_iter().map(show).collect()
    }

    #[test]
    fn a_chain_goes_when_all_that_it_can_restore_is_old_enough() {
        let chains = [chain(1, 10), chain(10, 20), chain(20, 30), chain(30, 40)];
        let newest = "it is the newest that can be restored";
        let beyond = "it reaches beyond 1970-01-21T00:00:00Z";
        assert_eq!(
            reasons(&chains, older_than(20)),
            ["goes", beyond, beyond, newest]
        );
        // The window lies within the second one: it stays whole.
        assert_eq!(
            reasons(&chains, older_than(15))[..2],
            ["goes", "it reaches beyond 1970-01-16T00:00:00Z"]
        );
        assert_eq!(
            reasons(&chains, older_than(90)),
            ["goes", "goes", "goes", newest]
        );
    }

    #[test]
    fn only_so_many_go_at_once() {
        let chains = [chain(1, 1), chain(2, 2), chain(3, 3), chain(4, 4)];
        let mut decisions = decide(&chains, older_than(90), day(100));
        limit(&mut decisions, 2);
        assert!(decisions[0].goes() && decisions[1].goes());
        assert_eq!(
            decisions[2].reason(),
            "one expiry removes at most 2 chains: expire again"
        );
        assert_eq!(decisions[3], Decision::Stays(Why::Newest));
    }

    #[test]
    fn both_rules_must_allow_it() {
        let chains = [chain(1, 1), chain(2, 2), chain(3, 3), chain(4, 4)];
        let rule = |before: Option<u64>, keep| Rule {
            before: before.map(day),
            keep_fulls: Some(keep),
        };
        let counted = "it is among the last 3 fulls";
        let newest = "it is the newest that can be restored";
        assert_eq!(
            reasons(&chains, rule(None, 3)),
            ["goes", counted, counted, newest]
        );
        assert_eq!(
            reasons(&chains, rule(Some(90), 3)),
            ["goes", counted, counted, newest]
        );
        let beyond = "it reaches beyond 1970-01-02T00:00:00Z";
        assert_eq!(
            reasons(&chains, rule(Some(1), 1)),
            [beyond, beyond, beyond, newest]
        );
    }

    #[test]
    fn what_cannot_be_restored_saves_no_other() {
        let damaged = ChainFacts {
            is_restorable: false,
            ..chain(4, 4)
        };
        let marked = ChainFacts {
            is_marked: true,
            ..chain(5, 5)
        };
        let chains = [chain(1, 1), chain(2, 2), damaged, marked];
        assert_eq!(
            reasons(&chains, older_than(90)),
            [
                "goes",
                "it is the newest that can be restored",
                "goes",
                "goes"
            ]
        );
        let decisions = decide(&chains, older_than(90), day(100));
        assert_eq!(decisions[3], Decision::IsFinished);
        // Of nothing but damaged ones none goes: who knows what can be saved.
        let damaged = ChainFacts {
            is_restorable: false,
            ..chain(1, 1)
        };
        assert_eq!(
            decide(&[damaged], older_than(90), day(100)),
            [Decision::Stays(Why::Newest)]
        );
    }

    #[test]
    fn chains_of_other_things_are_counted_by_themselves() {
        let other = ChainFacts {
            lineage: Some("bank".to_owned()),
            ..chain(9, 9)
        };
        let unknown = ChainFacts {
            lineage: None,
            ..chain(1, 1)
        };
        let chains = [chain(1, 1), chain(2, 2), other, unknown];
        let newest = Decision::Stays(Why::Newest);
        assert_eq!(
            decide(&chains, older_than(90), day(100)),
            [
                Decision::Expires,
                newest.clone(),
                newest,
                Decision::Stays(Why::Unknown)
            ]
        );
    }

    #[test]
    fn what_is_needed_locked_or_in_the_way_keeps_a_chain() {
        let used = ChainFacts {
            used: Some("job 7 (RESTORE) needs it".to_owned()),
            ..chain(1, 1)
        };
        let locked = |until| ChainFacts {
            locked_until: Some(day(until)),
            ..chain(2, 2)
        };
        let stuck = ChainFacts {
            obstacle: Some("give all stores".to_owned()),
            ..chain(3, 3)
        };
        let chains = [used, locked(101), locked(100), stuck, chain(50, 50)];
        assert_eq!(
            reasons(&chains, older_than(90)),
            [
                "job 7 (RESTORE) needs it",
                "its objects are locked until 1970-04-12T00:00:00Z",
                "goes",
                "give all stores",
                "it is the newest that can be restored"
            ]
        );
    }

    fn any_chain() -> impl Strategy<Value = ChainFacts> {
        let flags = (any::<bool>(), any::<bool>(), 0u8..8, 0u8..4);
        (0u64..60, 0u64..20, 0u8..3, flags).prop_map(|(start, length, lineage, flags)| {
            let (is_restorable, is_locked, marked, used) = flags;
            ChainFacts {
                lineage: (lineage > 0).then(|| lineage.to_string()),
                is_restorable: is_restorable || lineage == 1,
                is_marked: marked == 0,
                used: (used == 0).then(|| "somebody".to_owned()),
                locked_until: is_locked.then(|| day(start + length + 30)),
                ..chain(start, start + length)
            }
        })
    }

    fn any_chains() -> impl Strategy<Value = Vec<ChainFacts>> {
        proptest::collection::vec(any_chain(), 0..12).prop_map(|mut chains| {
            chains.sort_by(|left, right| left.full.cmp(&right.full));
            chains.dedup_by(|left, right| left.full == right.full);
            chains
        })
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let parts = (
            proptest::option::of(0u64..100),
            proptest::option::of(1u32..6),
        );
        parts.prop_map(|(before, keep_fulls)| Rule {
            before: before.map(day),
            keep_fulls,
        })
    }

    fn restorable<'a>(chains: impl Iterator<Item = &'a ChainFacts>) -> Vec<&'a str> {
        let whole = chains.filter(|chain| chain.is_restorable && !chain.is_marked);
        let mut found: Vec<&str> = whole.filter_map(|chain| chain.lineage.as_deref()).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    proptest! {
        #[test]
        fn of_everything_something_can_still_be_restored(chains in any_chains(), rule in any_rule()) {
            let decisions = decide(&chains, rule, day(100));
            let left = chains.iter().zip(&decisions).filter(|(_, it)| !it.goes());
            prop_assert_eq!(
                restorable(left.map(|(chain, _)| chain)),
                restorable(chains.iter())
            );
        }

        #[test]
        fn what_could_be_restored_since_the_instant_still_can(chains in any_chains(), before in 0u64..100) {
            let decisions = decide(&chains, older_than(before), day(100));
            for (chain, decision) in chains.iter().zip(&decisions) {
                prop_assert!(*decision != Decision::Expires || chain.end < day(before));
            }
        }

        #[test]
        fn what_goes_today_goes_tomorrow(chains in any_chains(), before in 0u64..100, later in 0u64..50) {
            let today = decide(&chains, older_than(before), day(100));
            let tomorrow = decide(&chains, older_than(before + later), day(100 + later));
            for (today, tomorrow) in today.iter().zip(&tomorrow) {
                prop_assert!(!today.goes() || tomorrow.goes());
            }
        }

        /// Whatever of it was marked, and whatever of that is gone: the same chains go, and no others.
        #[test]
        fn a_removal_that_was_cut_off_is_finished_and_takes_nothing_more(
            chains in any_chains(), rule in any_rule(), cut in 0usize..12, gone in 0usize..12
        ) {
            let decisions = decide(&chains, rule, day(100));
            let mut left = Vec::new();
            let mut expected = Vec::new();
            let mut seen = 0;
            for (chain, decision) in chains.iter().zip(&decisions) {
                let mut chain = chain.clone();
                if decision.goes() {
                    seen += 1;
                    if seen <= gone.min(cut) {
                        continue;
                    }
                    chain.is_marked |= seen <= cut;
                }
                expected.push(decision.goes());
                left.push(chain);
            }
            let again: Vec<bool> = decide(&left, rule, day(100)).iter().map(Decision::goes).collect();
            prop_assert_eq!(again, expected);
        }
    }
}
