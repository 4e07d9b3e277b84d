//! What is to become of holds, and what became of them.

use holdfast_types::{Fault, HoldId, MemberName, MemberRecord, Position, SourceKind, SourceName};

use super::{from_json, to_json};
use crate::fault::{fault_to_wire, wire_to_fault};
use crate::v1;

/// What is to become of a hold on a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldOrder {
    /// The hold.
    pub hold: HoldId,
    /// The source.
    pub source: SourceName,
    /// Its kind.
    pub kind: SourceKind,
    /// The member.
    pub member: MemberRecord,
    /// History up to here may go, and the hold stays; `None`: it ends.
    pub advance_to: Option<Position>,
}

/// What became of a [`HoldOrder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldAnswer {
    /// The hold.
    pub hold: HoldId,
    /// The member.
    pub member: MemberName,
    /// As in the order.
    pub advance_to: Option<Position>,
    /// The error, if it could not be done.
    pub outcome: Result<(), Fault>,
}

impl From<&HoldAnswer> for v1::HoldOrderDone {
    fn from(answer: &HoldAnswer) -> Self {
        Self {
            hold: answer.hold.0,
            member: answer.member.to_string(),
            fault: answer.outcome.as_ref().err().map(fault_to_wire),
            advance_to: answer.advance_to.as_ref().map(to_json).unwrap_or_default(),
        }
    }
}

impl From<&HoldOrder> for v1::HoldOrder {
    fn from(order: &HoldOrder) -> Self {
        Self {
            hold: order.hold.0,
            source: order.source.to_string(),
            member: to_json(&order.member),
            kind: order.kind.to_string(),
            advance_to: order.advance_to.as_ref().map(to_json).unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::HoldOrder> for HoldOrder {
    type Error = Fault;

    fn try_from(wire: v1::HoldOrder) -> Result<Self, Fault> {
        Ok(Self {
            hold: HoldId(wire.hold),
            source: wire.source.parse()?,
            kind: wire.kind.parse()?,
            member: from_json(&wire.member, "hold_order.member")?,
            advance_to: position_from_wire(&wire.advance_to, "hold_order.advance_to")?,
        })
    }
}

impl TryFrom<v1::HoldOrderDone> for HoldAnswer {
    type Error = Fault;

    fn try_from(wire: v1::HoldOrderDone) -> Result<Self, Fault> {
        Ok(Self {
            hold: HoldId(wire.hold),
            member: wire.member.parse()?,
            advance_to: position_from_wire(&wire.advance_to, "hold_order_done.advance_to")?,
            outcome: wire.fault.map_or(Ok(()), |fault| Err(wire_to_fault(fault))),
        })
    }
}

fn position_from_wire(wire: &[u8], field: &str) -> Result<Option<Position>, Fault> {
    match wire.is_empty() {
        true => Ok(None),
        false => from_json(wire, field).map(Some),
    }
}
