//! Loads a backup into a server: into a database under a hidden name that is renamed at the end, or into hidden schemas of an existing
//! database whose tables are moved at the end.
//!
//! Every step leaves a mark in the same transaction as its effect ([`Marks`]), so that a restore whose process died goes on where it
//! was, with nothing done twice, and whatever was made can be thrown away at any moment.

mod checks;
mod database;
mod indexes;
mod load;
mod marks;
mod matviews;
mod name;
mod preflight;
mod progress;
mod site;
mod staging;
mod statistics;
mod target;
mod workshop;

pub use database::DatabaseRestore;
pub(crate) use database::tablespaces;
pub use indexes::{IndexLanes, IndexProgress, index_progress};
pub use load::{LoadOutcome, LoadTarget, load};
pub(crate) use load::{RowBlock, load_noted, prefer_fast_compression, verify_noted};
pub use marks::Marks;
pub use matviews::MaterializedView;
pub(crate) use name::HIDDEN;
pub use name::RestoreName;
pub(crate) use preflight::MISSING_ROLE;
pub use preflight::{
    Finding, Report, TargetFacts, Verdict, Wish, limit_rights, spare_missing_roles,
};
pub use progress::{Progress, Silent};
pub use staging::{StagedTable, TableRestore};
pub use target::Target;
pub(crate) use workshop::{exists, names_in};
