//! How holds stand on their members, as workers said last. Volatile: a new leader asks again.

use holdfast_proto::v1;
use holdfast_types::{HoldId, MemberName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was said last of each hold on each member.
type Said = BTreeMap<HoldId, BTreeMap<MemberName, Vec<v1::HoldStanding>>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Standings(Mutex<Said>);

impl Standings {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker has looked.
    pub(crate) fn note(&self, hold: HoldId, member: &MemberName, said: Vec<v1::HoldStanding>) {
        let said = said.into_iter().map(|standing| v1::HoldStanding {
            member: member.to_string(),
            ..standing
        });
        let mut all = self.lock();
        let of_hold = all.entry(hold).or_default();
        of_hold.insert(member.clone(), said.collect());
    }

    /// Forgets every hold that is not in the list.
    pub(crate) fn retain(&self, holds: &BTreeSet<HoldId>) {
        self.lock().retain(|hold, _| holds.contains(hold));
    }

    /// How a hold stands, member by member.
    pub(crate) fn of(&self, hold: HoldId) -> Vec<v1::HoldStanding> {
        let all = self.lock();
        let members = all.get(&hold).into_iter().flat_map(BTreeMap::values);
        members.flatten().cloned().collect()
    }
}
