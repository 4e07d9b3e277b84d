//! Questions to members: how they would be backed up.

use bytes::Bytes;
use holdfast_types::{Fault, HoldId, MemberRecord, RestoreSpec, SourceKind};

use super::{from_json, to_json};
use crate::fault::{fault_to_wire, wire_to_fault};
use crate::v1;

/// A question to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOrder {
    /// Tells answers apart.
    pub question: u64,
    /// The kind of source.
    pub kind: SourceKind,
    /// The member.
    pub member: MemberRecord,
    /// What is asked.
    pub what: CheckWhat,
}

/// What is asked of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckWhat {
    /// How it would be backed up.
    Backup,
    /// How this hold stands.
    Hold(HoldId),
    /// What a restore would make there, of which it is the member of that index.
    Restore(Box<RestoreSpec>, u32),
}

/// What there is to say of a member.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CheckReport {
    /// JSON of `holdfast_source::MemberCheck`; empty if only a hold was asked for.
    pub report: Bytes,
    /// How that hold stands.
    pub holds: Vec<v1::HoldStanding>,
}

/// The answer to a [`CheckOrder`].
#[derive(Debug, Clone, PartialEq)]
pub struct CheckAnswer {
    /// As in the order.
    pub question: u64,
    /// The report, or why the member could not be looked at.
    pub outcome: Result<CheckReport, Fault>,
}

impl From<&CheckOrder> for v1::CheckOrder {
    fn from(order: &CheckOrder) -> Self {
        let wire = Self {
            question: order.question,
            member: to_json(&order.member),
            kind: order.kind.to_string(),
            ..Self::default()
        };
        match &order.what {
            CheckWhat::Backup => wire,
            CheckWhat::Hold(hold) => Self {
                hold: hold.0,
                ..wire
            },
            CheckWhat::Restore(spec, member) => Self {
                restore: to_json(spec.as_ref()),
                restore_member: *member,
                ..wire
            },
        }
    }
}

impl TryFrom<v1::CheckOrder> for CheckOrder {
    type Error = Fault;

    fn try_from(wire: v1::CheckOrder) -> Result<Self, Fault> {
        Ok(Self {
            question: wire.question,
            kind: wire.kind.parse()?,
            member: from_json(&wire.member, "check_order.member")?,
            what: match (wire.hold, wire.restore.is_empty()) {
                (0, true) => CheckWhat::Backup,
                (0, false) => CheckWhat::Restore(
                    from_json(&wire.restore, "check_order.restore")?,
                    wire.restore_member,
                ),
                (hold, _) => CheckWhat::Hold(HoldId(hold)),
            },
        })
    }
}

impl From<&CheckAnswer> for v1::CheckDone {
    fn from(answer: &CheckAnswer) -> Self {
        let (CheckReport { report, holds }, fault) = match &answer.outcome {
            Ok(report) => (report.clone(), None),
            Err(fault) => (CheckReport::default(), Some(fault_to_wire(fault))),
        };
        Self {
            question: answer.question,
            fault,
            report,
            holds,
        }
    }
}

impl From<v1::CheckDone> for CheckAnswer {
    fn from(wire: v1::CheckDone) -> Self {
        Self {
            question: wire.question,
            outcome: match wire.fault {
                None => Ok(CheckReport {
                    report: wire.report,
                    holds: wire.holds,
                }),
                Some(fault) => Err(wire_to_fault(fault)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{ErrorCode, Locality};

    fn restore() -> RestoreSpec {
        RestoreSpec {
            source: "shop".parse().expect("a name"),
            kind: SourceKind::Postgres,
            members: Vec::new(),
            target: holdfast_types::Target::Source,
            collection: "memory://vault".to_owned(),
            access: holdfast_types::CollectionAccess::default(),
            layers: Vec::new(),
            as_of: holdfast_types::Hlc::ZERO.into(),
            renamed: Default::default(),
            tables: Default::default(),
            options: holdfast_types::RestoreOptions::default(),
            into_existing: false,
            execution_locality: Locality::default(),
            part_size: 1,
            encryption: None,
        }
    }

    #[test]
    fn questions_and_answers_go_there_and_back() {
        let order = CheckOrder {
            question: 7,
            kind: SourceKind::Postgres,
            member: MemberRecord {
                name: "m1".parse().expect("a name"),
                locality: Locality::default(),
                address: "postgres://backup@db/shop".to_owned(),
                secret: None,
                limits: holdfast_types::MemberLimits::default(),
            },
            what: CheckWhat::Backup,
        };
        for what in [
            CheckWhat::Backup,
            CheckWhat::Hold(HoldId(5)),
            CheckWhat::Restore(Box::new(restore()), 2),
        ] {
            let order = CheckOrder {
                what,
                ..order.clone()
            };
            let back = CheckOrder::try_from(v1::CheckOrder::from(&order));
            assert_eq!(back, Ok(order));
        }
        let fault = Fault::new(ErrorCode::Unavailable, "nobody answers").hint("start it");
        let report = CheckReport {
            report: Bytes::from_static(b"{}"),
            holds: vec![v1::HoldStanding {
                wal_retained_bytes: 7,
                ..v1::HoldStanding::default()
            }],
        };
        for outcome in [Ok(report), Err(fault)] {
            let answer = CheckAnswer {
                question: 7,
                outcome,
            };
            assert_eq!(CheckAnswer::from(v1::CheckDone::from(&answer)), answer);
        }
        let fault = CheckOrder::try_from(v1::CheckOrder {
            kind: "mvcc".to_owned(),
            ..v1::CheckOrder::default()
        });
        assert!(
            fault
                .expect_err("no member")
                .message
                .contains("check_order.member")
        );
    }
}
