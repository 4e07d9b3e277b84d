//! Registered sources.

use std::collections::BTreeSet;

use holdfast_types::{ErrorCode, Fault, MemberName, SourceName, SourceRecord};

use super::Apply;
use crate::outcome::Outcome;

/// Members of one source: each costs a plan, a hold and a line in every progress report.
const MAX_MEMBERS: usize = 10_000;

impl Apply<'_> {
    pub(super) fn register_source(&mut self, source: &SourceRecord) -> Result<Outcome, Fault> {
        let source = checked(source)?;
        if self.ledger.sources.contains_key(&source.name) {
            return Err(Fault::new(
                ErrorCode::AlreadyExists,
                format!("source {} is registered already", source.name),
            )
            .hint("choose another name, or drop the source first"));
        }
        self.ledger.sources.insert(source.name.clone(), source);
        Ok(Outcome::Done)
    }

    pub(super) fn update_source(&mut self, source: &SourceRecord) -> Result<Outcome, Fault> {
        let mut source = checked(source)?;
        let before = self.registered(&source.name)?;
        if before.kind != source.kind {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("source {} is of kind {}", source.name, before.kind),
            )
            .hint("the kind of a source cannot change: register another source"));
        }
        source.registered_at = before.registered_at;
        if *before == source {
            return Ok(Outcome::NoOp);
        }
        self.check_idle(&source.name, "updated")?;
        self.check_keeps_held(&source)?;
        let members: BTreeSet<_> = source
            .members
            .iter()
            .map(|member| member.name.clone())
            .collect();
        self.abandon_holds(&source.name, &members);
        self.ledger.sources.insert(source.name.clone(), source);
        Ok(Outcome::Done)
    }

    pub(super) fn drop_source(&mut self, name: &SourceName) -> Result<Outcome, Fault> {
        self.registered(name)?;
        self.check_idle(name, "dropped")?;
        self.check_unscheduled(name)?;
        self.check_not_held(name)?;
        self.abandon_holds(name, &BTreeSet::new());
        self.ledger.sources.remove(name);
        Ok(Outcome::Done)
    }

    /// A registered source.
    pub(super) fn registered(&self, name: &SourceName) -> Result<&SourceRecord, Fault> {
        self.ledger.sources.get(name).ok_or_else(|| {
            let known: Vec<_> = self
                .ledger
                .sources
                .keys()
                .take(10)
                .map(SourceName::as_str)
                .collect();
            let hint = if known.is_empty() {
                "no source is registered: register one with: holdfast source add".to_owned()
            } else {
                format!("the registered sources are {}", known.join(", "))
            };
            Fault::new(ErrorCode::NotFound, format!("there is no source {name}")).hint(hint)
        })
    }

    fn check_idle(&self, name: &SourceName, what: &str) -> Result<(), Fault> {
        let busy = self.ledger.unsettled_jobs().find(|job| {
            job.spec.source() == Some(name)
                && (!job.state.is_terminal() || !job.lingering.is_empty())
        });
        match busy {
            None => Ok(()),
            Some(job) => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!(
                    "source {name} cannot be {what} while job {} works on it",
                    job.id
                ),
            )
            .hint("wait for the job, or cancel it")),
        }
    }

    /// A member that is taken out could never be told to let go of the history that it keeps for a chain.
    fn check_keeps_held(&self, source: &SourceRecord) -> Result<(), Fault> {
        for hold in self.ledger.holds.values() {
            let Some(chain) = &hold.chain else { continue };
            if hold.source != source.name || hold.releasing.is_some() {
                continue;
            }
            let stays =
                |name: &MemberName| source.members.iter().any(|member| member.name == *name);
            if let Some(gone) = chain.members.iter().find(|name| !stays(name)) {
                return Err(Fault::new(
                    ErrorCode::FailedPrecondition,
                    format!(
                        "member {gone} of source {} keeps history for a chain of backups (hold {})",
                        source.name, hold.id
                    ),
                )
                .hint(format!("release it first: holdfast hold drop {}", hold.id)));
            }
        }
        Ok(())
    }

    /// A source that is forgotten could never be told to let go of the history that it keeps for a chain.
    fn check_not_held(&self, name: &SourceName) -> Result<(), Fault> {
        let kept = (self.ledger.holds.values())
            .find(|hold| hold.source == *name && hold.chain.is_some() && hold.releasing.is_none());
        match kept {
            None => Ok(()),
            Some(hold) => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!(
                    "source {name} keeps history for a chain of backups (hold {})",
                    hold.id
                ),
            )
            .hint(format!("release it first: holdfast hold drop {}", hold.id))),
        }
    }

    /// Gives up holds that are being released on members that are no longer there: nobody could ever release them.
    fn abandon_holds(&mut self, source: &SourceName, members: &BTreeSet<MemberName>) {
        let affected: Vec<_> = self
            .ledger
            .holds
            .values()
            .filter(|hold| hold.source == *source)
            .map(|hold| hold.id)
            .collect();
        for id in affected {
            if let Some(hold) = self.ledger.holds.get_mut(&id) {
                if let Some(releasing) = &mut hold.releasing {
                    releasing.retain(|member| members.contains(member));
                }
                if let Some(chain) = &mut hold.chain {
                    chain.members.retain(|member| members.contains(member));
                    chain.behind.retain(|member, _| members.contains(member));
                }
            }
            self.forget_released_hold(id);
        }
    }
}

/// A source whose members are named once each, in the order of their names.
fn checked(source: &SourceRecord) -> Result<SourceRecord, Fault> {
    let refuse = |what: String| Err(Fault::new(ErrorCode::InvalidArgument, what));
    let mut source = source.clone();
    if source.members.is_empty() {
        return refuse(format!("source {} has no members", source.name));
    }
    if source.members.len() > MAX_MEMBERS {
        return refuse(format!(
            "source {} has more than {MAX_MEMBERS} members",
            source.name
        ));
    }
    source.members.sort_by(|a, b| a.name.cmp(&b.name));
    let twice = source
        .members
        .windows(2)
        .find(|pair| matches!(pair, [a, b] if a.name == b.name));
    if let Some([member, ..]) = twice {
        return refuse(format!(
            "source {} has two members named {}",
            source.name, member.name
        ));
    }
    Ok(source)
}
