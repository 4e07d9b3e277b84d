//! Members of sources: a store on a simulated disk, served over the simulated network.

use holdfast_mvcc::{MvccStore, StoreOptions, serve};
use holdfast_types::ByteCount;
use turmoil::Sim;

use super::hosts::Host;

/// Memory for pages: small, so that a run of a dozen hosts stays small.
const CACHE: ByteCount = ByteCount(4 * 1024 * 1024);

/// Adds a member's host.
pub(super) fn start(sim: &mut Sim<'_>, host: &Host, address: &str) {
    let address = address.to_owned();
    let control = host.clone();
    sim.host(host.name(), move || {
        let control = control.clone();
        let address = address.clone();
        async move {
            let env = control.env();
            let options = StoreOptions {
                cache: CACHE,
                ..StoreOptions::default()
            };
            let store = MvccStore::open(env.clone(), "member", options).await?;
            let _serving = serve(&env, &address, store).await?;
            std::future::pending().await
        }
    });
}
