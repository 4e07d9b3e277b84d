//! Where a source without time travel ended.

use serde::{Deserialize, Serialize};

use crate::position::{Hlc, Position};
use crate::source::Relation;

/// The end that a settling span has found for its member: a source that cannot be read as of the past knows it only when it is
/// reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Settled {
    /// Everything up to here is in the layer, by the member's own count.
    pub position: Position,
    /// The same by the clock: what was committed later is not in the layer.
    pub at: Hlc,
}

impl Settled {
    /// The end of a member of which two parts ended at these: everything up to the earlier position is in the layer, and nothing after
    /// the later time.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            position: self.position.min(other.position),
            at: self.at.max(other.at),
        }
    }
}

/// What a settling span has found of the database that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledDatabase {
    /// Where it ended.
    pub end: Settled,
    /// The relations that the layer holds of the database, as of that end. Their definitions may be empty: the catalog has them.
    pub relations: Vec<Relation>,
    /// Whether the member keeps its history from that end on, so that an incremental can follow.
    pub keeps_history: bool,
}
