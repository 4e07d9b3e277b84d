//! A hold keeps a database's changes from being discarded: a publication of the keyed relations, and a logical slot that decodes it.
//!
//! # Invariants
//! * The publication names its relations one by one and exists before the slot: a slot cannot decode what was not published then, and relations
//!   that nobody asked for are never published, for publishing breaks updates of relations without identity.
//! * A hold is ready when every transaction whose commit record lies before the slot's consistent point is visible to new
//!   snapshots.
//! * The slot is moved on by [`advance`] alone.
//!
//! # Crash consistency
//! [`place()`] that is cut leaves at most a publication and a slot under the hold's names; [`release`] removes them, at any time and any number
//! of times.

mod blockers;
mod place;
mod publication;
mod slot;
mod told;

pub use blockers::Blocker;
pub(crate) use place::create as create_slot;
pub use place::{Placed, Waiting, place, wait_for_writers};
pub use publication::{PublicationState, publish, published, unpublish_unidentified};
pub use slot::{SlotState, WalStatus, advance, release, state, verify};
pub(crate) use told::Told;

use holdfast_types::{ErrorCode, Fault};
use serde::{Deserialize, Serialize};

/// The names of a hold on the server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HoldNames {
    /// The slot, unique on the server.
    pub slot: String,
    /// The publication, unique in the database.
    pub publication: String,
}

/// What all our slots and publications begin with, so that what was left behind can be told from what others use.
pub const PREFIX: &str = "holdfast_";

impl HoldNames {
    /// Names for a hold of one database. The tag names the hold and must be of lower-case letters, digits and `_`, and short; slots
    /// belong to databases and share one name space, so the database's object id goes into theirs.
    ///
    /// # Errors
    /// `InvalidArgument` for any other tag.
    pub fn new(tag: &str, database: crate::layout::Oid) -> Result<Self, Fault> {
        const LONGEST_TAG: usize = 40;
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if tag.is_empty() || tag.len() > LONGEST_TAG || !tag.bytes().all(fits) {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                "a hold's tag is of 1 to 40 lower-case letters, digits and underscores",
            ));
        }
        Ok(Self {
            slot: format!("{PREFIX}{tag}_{database}"),
            publication: format!("{PREFIX}{tag}"),
        })
    }
}
