//! Who shall do what: pure functions from what is ready and who is there to a list of leases. The dispatcher proposes what
//! they say; nothing here asks a clock or holds state.

mod assign;
mod locality;
mod score;

pub use assign::{Assignment, JobDemand, TaskDemand, WorkerView, assign};
pub use locality::may_run;
pub use score::Score;
