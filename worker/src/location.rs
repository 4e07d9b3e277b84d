//! Opening collections with what the leader says of them.

use holdfast_collection::{CollectionStore, CollectionUri, Location};
use holdfast_types::{CollectionAccess, Fault};

use crate::core::Core;

impl Core {
    /// The stores of a collection, with their secrets.
    fn location(&self, address: &str, access: &CollectionAccess) -> Result<Location, Fault> {
        match &access.sealed {
            None => address.parse::<CollectionUri>().map(Location::from),
            Some(sealed) => {
                let opened = self.config.cluster_key.open_secret(address, sealed)?;
                Location::of_exposed(&opened)
            }
        }
    }

    /// Opens a collection, to write to it.
    pub(crate) async fn open_collection(
        &self,
        address: &str,
        access: &CollectionAccess,
    ) -> Result<CollectionStore, Fault> {
        let location = self.location(address, access)?;
        CollectionStore::open_all(&self.stores, &location, &self.env).await
    }

    /// Opens a collection that must exist.
    pub(crate) async fn open_existing(
        &self,
        address: &str,
        access: &CollectionAccess,
    ) -> Result<CollectionStore, Fault> {
        let location = self.location(address, access)?;
        CollectionStore::open_all_existing(&self.stores, &location, &self.env).await
    }
}
