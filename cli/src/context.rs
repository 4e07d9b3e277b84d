//! What every command is given.

use holdfast_client::{ClientOptions, GrpcClient};
use holdfast_env::Env;
use holdfast_types::Fault;

use crate::output::Output;

/// The outside world, how to print, and whom to ask.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) env: Env,
    pub(crate) output: Output,
    pub(crate) coordinators: Vec<String>,
}

impl Context {
    /// A client of the cluster.
    pub(crate) fn client(&self) -> Result<GrpcClient, Fault> {
        GrpcClient::new(
            self.env.clone(),
            &self.coordinators,
            ClientOptions::default(),
        )
    }
}
