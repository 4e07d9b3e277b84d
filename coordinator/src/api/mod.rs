//! What a coordinator answers: [`ControlApi`] in process, the same over gRPC, and the views that both show.
//!
//! [`ControlApi`]: holdfast_client::ControlApi

mod check;
mod cluster;
mod collections;
mod connections;
mod control_limits;
mod control_service;
mod coordinator;
mod holds;
mod job_view;
mod keys;
mod passing;
mod residency;
mod users;
mod watch;

pub(crate) use cluster::{ensure_identity, init_cluster};
pub use control_limits::ControlLimits;
pub use control_service::{ControlService, MAX_CONTROL_MESSAGE, PASSED_ON};
pub use coordinator::Coordinator;
pub(crate) use job_view::path_of;
