//! Where a worker finds its leader and its stores.

use super::Trio;
use holdfast_collection::StoreProvider;
use holdfast_env::Env;
use std::sync::Arc;

#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) env: Env,
    pub(crate) address: String,
    pub(crate) stores: Arc<dyn StoreProvider>,
}

impl Place {
    /// A node of a cluster of three.
    pub(crate) fn of(trio: &Trio, node: u64) -> Self {
        Self {
            env: trio.env.clone(),
            address: trio.nodes[&node].address().to_owned(),
            stores: Arc::clone(&trio.stores),
        }
    }
}
