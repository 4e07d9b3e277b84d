//! Access to collections over any `object_store` back end: put-once, read-verified, and the only code that names object keys.
//!
//! Purpose: the layout of `docs/FORMAT.md` on a store. Invariants: an object is put under a key that does not exist, or not at all;
//! there is no overwrite. What a manifest names is believed only after its length and digest were compared. Deletion is list →
//! validate → delete. Concurrency: a [`CollectionStore`] is a cheap handle that any number of tasks may share; racing writers of one
//! key are told apart by content. Crash consistency: a layer exists when its manifest does; everything before it is swept, and
//! every operation may be repeated after a crash or a lost answer.

#![warn(missing_debug_implementations)]

mod claim;
mod cloud;
mod entries;
mod error;
mod expiry;
mod key_info;
mod layers;
mod layout;
mod limited;
mod listing;
mod names;
mod options;
mod placement;
mod presence;
mod probe;
mod provider;
mod received;
mod residency;
mod span_object;
mod store;
mod sweep;
mod tail;
mod tuple_object;
mod uri;
mod verify;

pub mod conformance;
pub mod faulty;

pub use claim::Claim;
pub use expiry::{ExpiryMark, ExpiryReport, Unfinished};
pub use listing::ChainSummary;
pub use names::{DataName, PartName, is_full_subdir};
pub use options::{Limited, StoreLimit, StoreOptions};
pub use probe::ProbeReport;
pub use provider::{StoreProvider, SystemStores};
pub use residency::{Amount, ResidencyReport, StoreHoldings};
pub use span_object::SpanObject;
pub use store::CollectionStore;
pub use sweep::SweepReport;
pub use tuple_object::TupleObject;
pub use uri::{CollectionUri, Location, Reference, Scheme, StoreLocality};
pub use verify::{Damage, Depth, VerifyReport};
