//! What every process of Holdfast needs around its roles: the cluster key, supervised actors, logging, and orderly shutdown.

mod cluster_key;
mod logging;
mod password;
mod supervisor;

pub use cluster_key::ClusterKey;
pub use logging::{LogFormat, init_logging};
pub use password::verifier_of;
pub use supervisor::{Backoff, Busy, Supervised, supervise};
