//! Schemas: taken by PostgreSQL's own pg_dump under the exact snapshot, taken apart here, and run step by step over our own sessions.

mod archive;
mod dump;
mod entry;
mod needs;
mod plan;
mod process;
mod statement;
mod subset;
mod tools;

pub use archive::Archive;
pub use dump::{DumpOptions, dump};
pub use entry::{Entry, EntryId, Kind, Section};
pub(crate) use plan::OWN_PUBLICATIONS;
pub use plan::{IndexStep, OrderedStep, Plan, PlanOptions, SplitConstraint, Step, ValidatedStep};
pub use tools::DumpTool;
