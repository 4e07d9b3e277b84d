//! The gRPC client.

/// See the module.
#[derive(Debug)]
pub struct GrpcClient;
