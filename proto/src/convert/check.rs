//! Questions to members: how they would be backed up.

use bytes::Bytes;
use holdfast_types::{Fault, MemberRecord, SourceKind};

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
}

/// The answer to a [`CheckOrder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckAnswer {
    /// As in the order.
    pub question: u64,
    /// JSON of `holdfast_source::MemberCheck`, or why the member could not be looked at.
    pub outcome: Result<Bytes, Fault>,
}

impl From<&CheckOrder> for v1::CheckOrder {
    fn from(order: &CheckOrder) -> Self {
        Self {
            question: order.question,
            member: to_json(&order.member),
            kind: order.kind.to_string(),
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
        })
    }
}

impl From<&CheckAnswer> for v1::CheckDone {
    fn from(answer: &CheckAnswer) -> Self {
        let (report, fault) = match &answer.outcome {
            Ok(report) => (report.clone(), None),
            Err(fault) => (Bytes::new(), Some(fault_to_wire(fault))),
        };
        Self {
            question: answer.question,
            fault,
            report,
        }
    }
}

impl From<v1::CheckDone> for CheckAnswer {
    fn from(wire: v1::CheckDone) -> Self {
        Self {
            question: wire.question,
            outcome: match wire.fault {
                None => Ok(wire.report),
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
            },
        };
        let back = CheckOrder::try_from(v1::CheckOrder::from(&order));
        assert_eq!(back, Ok(order));
        let fault = Fault::new(ErrorCode::Unavailable, "nobody answers").hint("start it");
        for outcome in [Ok(Bytes::from_static(b"{}")), Err(fault)] {
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
