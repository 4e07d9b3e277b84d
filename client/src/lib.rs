//! [`ControlApi`]: the one interface that front ends (CLI, SQL, console, tests, simulator) see of a cluster, and its gRPC client.
//!
//! The wire messages of `holdfast.v1` are the data model of the interface: they are what every front end shows, they are
//! documented field by field in `proto/`, and a second set of structs would only repeat them.

mod api;
mod grpc;
mod retry;
mod verifiers;
mod watch;

pub use api::{ControlApi, JobStream};
pub use grpc::GrpcClient;
pub use holdfast_proto::v1;
pub use retry::{ClientOptions, MAX_ADDRESSES};
pub use verifiers::{Credential, Verifiers};
