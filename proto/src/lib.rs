//! The wire: generated messages and services, conversions to and from [`holdfast_types`], and the transport that carries gRPC
//! over an [`holdfast_env::Net`], real or simulated.

mod convert;
mod fault;
mod secrets;
mod transport;

pub use convert::{
    CheckAnswer, CheckOrder, CheckReport, CheckWhat, Grant, HoldAnswer, HoldOrder, Lease,
    LeaseReport, LeaseReportBody, SpanWork, Work, cluster_from_wire, digest_from_wire, from_json,
    planned_to_wire, sealed_to_wire, to_json, wire_to_sealed,
};
pub use fault::{CallKind, fault_to_status, fault_to_wire, status_to_fault, wire_to_fault};
pub use transport::{ChannelOptions, IncomingSocket, channel, incoming};

/// The messages and services of `proto/holdfast/v1/*.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::large_futures,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("holdfast.v1");
}

/// The descriptors of every protocol file, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The largest message either side accepts, in bytes. Reports and plan batches are cut far below it; anything larger is a
/// broken or hostile peer.
pub const MAX_MESSAGE_SIZE: usize = 16 * 1024 * 1024;
