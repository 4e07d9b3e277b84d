//! Questions to members: how they would be backed up.

use bytes::Bytes;
use holdfast_types::{Fault, HoldId, MemberRecord, SourceKind};

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
    /// Only how this hold stands; `None`: how the member would be backed up.
    pub hold: Option<HoldId>,
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
        Self {
            question: order.question,
            member: to_json(&order.member),
            kind: order.kind.to_string(),
            hold: order.hold.map_or(0, |hold| hold.0),
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
            hold: (wire.hold != 0).then_some(HoldId(wire.hold)),
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
            hold: None,
        };
        for hold in [None, Some(HoldId(5))] {
            let order = CheckOrder {
                hold,
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
