//! What a process allows stores.

use clap::Args;
use holdfast_collection::{StoreLimit, StoreOptions};
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use std::sync::Arc;

/// What a process allows stores.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StoreArgs {
    /// The directory below which nodelocal://self/ lies; the same file system for all processes
    #[arg(long, value_name = "DIR")]
    pub(crate) external_io_dir: Option<String>,
    /// Refuse AUTH=implicit: no URI uses the credentials of this process's environment or machine
    #[arg(long)]
    pub(crate) external_io_disable_implicit_credentials: bool,
    /// Refuse endpoints of stores other than the providers' own
    #[arg(long)]
    pub(crate) external_io_disable_http: bool,
    /// Certificates, as PEM, that are trusted of stores besides those of the system
    #[arg(long, value_name = "FILE")]
    pub(crate) store_ca: Option<String>,
    /// The most that this process asks of all stores of a kind in a second; may be repeated
    #[arg(long, value_name = "s3:write=50MiB")]
    pub(crate) store_limit: Vec<StoreLimit>,
}

impl StoreArgs {
    /// The same as stores take it.
    pub(crate) async fn options(&self, env: &Env) -> Result<StoreOptions, Fault> {
        let certificates: Option<Arc<[u8]>> = match self.store_ca.clone() {
            None => None,
            Some(path) => Some(read(env, path).await?.into()),
        };
        Ok(StoreOptions {
            external_io_dir: self.external_io_dir.clone(),
            implicit_credentials: !self.external_io_disable_implicit_credentials,
            custom_endpoints: !self.external_io_disable_http,
            certificates,
            limits: self.store_limit.clone(),
        })
    }
}

/// Reads a small file.
pub(crate) async fn read(env: &Env, path: String) -> Result<Vec<u8>, Fault> {
    let disk = Arc::clone(&env.disk);
    env.blocking(move || {
        disk.read(&path).map_err(|error| {
            Fault::new(
                ErrorCode::NotFound,
                format!("cannot read the file {path}: {error}"),
            )
        })
    })
    .await
}
