//! What Holdfast asks of a database it protects: the [`Source`] trait, its capabilities, and the conformance suite that
//! every implementation is run through ([`conformance`]).
//!
//! A [`Source`] value is a client of **one member**. Any worker in the member's locality can make one at any time; nothing
//! that matters lives in it, so that a worker may die and another take over with no more than the member's record.

mod check;
mod logged;
mod notes;
mod row;
mod source;
mod steps;

pub mod conformance;

pub use check::{CheckFinding, CheckLevel, HoldStanding, MemberCheck};
pub use holdfast_types::SettledDatabase;
pub use logged::{
    Inlet, LoadProgress, LoggedBackup, LoggedRelation, LoggedRestore, LoggedSource, Outlet,
    TupleBlock, TupleOutlet,
};
pub use notes::Notes;
pub use row::{Change, Row, RowBatch};
pub use source::{
    Capabilities, Fingerprint, ReadRequest, RestoreTable, RowStream, Source, SourceFactory,
    successor,
};
pub use steps::{StepProgress, Steps};
