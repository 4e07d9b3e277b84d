//! What is known of a chain's keys: key info objects, each written once, the highest number counts.

use bytes::Bytes;
use holdfast_format::{KeyInfo, KeyInfoName};
use holdfast_types::{ErrorCode, Fault};
use object_store::path::Path;

use crate::layout;
use crate::store::{CollectionStore, damaged};

impl CollectionStore {
    /// What is known of the keys of a chain: the newest key info object that can be read. `None` if there is none: the chain is not encrypted.
    ///
    /// An older one still tells the truth about a key that was not dropped since, so that the loss of one object is not that of the chain.
    ///
    /// # Errors
    /// `Corrupted` if there are such objects and none can be read, otherwise what the store failed with.
    pub async fn key_info(&self, full: &str) -> Result<Option<KeyInfo>, Fault> {
        let mut names = self.list_key_info(full).await?;
        names.sort_unstable();
        let mut damage = None;
        for name in names.into_iter().rev() {
            let at = layout::keys(full).join(name.to_string());
            let parse = |bytes: Bytes| {
                let info = KeyInfo::decode(&bytes)?;
                match info.full == full && info.number == name.0 {
                    true => Ok(info),
                    false => Err(damaged(
                        &at,
                        "it is that of another chain, or of another number",
                    )),
                }
            };
            match self.get_parsed(&at, parse).await {
                Ok(info) => return Ok(Some(info)),
                Err(fault) if fault.code == ErrorCode::Corrupted => {
                    tracing::warn!(collection = %self.uri(), %fault, "key info is damaged");
                    damage.get_or_insert(fault);
                }
                // Removed since it was listed.
                Err(fault) if fault.code == ErrorCode::NotFound => {}
                Err(fault) => return Err(fault),
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// Writes a key info object, as it was encoded. Durable when it returns.
    ///
    /// # Errors
    /// `AlreadyExists` if its number is taken by another.
    pub async fn put_key_info(&self, full: &str, number: u32, info: Bytes) -> Result<(), Fault> {
        let at = layout::keys(full).join(KeyInfoName(number).to_string());
        self.put_once(&at, vec![info]).await.map(drop)
    }

    /// Removes the key info objects of a chain that have a smaller number, as far as the store lets them go. Gives how many stayed, and why.
    ///
    /// # Errors
    /// What listing them failed with.
    pub async fn remove_key_info_before(
        &self,
        full: &str,
        number: u32,
    ) -> Result<Vec<Fault>, Fault> {
        let mut refused = Vec::new();
        for name in self.list_key_info(full).await? {
            if name.0 < number {
                let at = layout::keys(full).join(name.to_string());
                refused.extend(self.remove(&at).await.err());
            }
        }
        Ok(refused)
    }

    /// Removes what a full that was given up had written of its keys. Gives how many objects.
    pub(crate) async fn sweep_key_info(&self, full: &str) -> Result<u64, Fault> {
        let directory = layout::keys(full);
        let mut removed = 0;
        for name in self.list_key_info(full).await? {
            self.remove(&directory.clone().join(name.to_string()))
                .await?;
            let drafts = self.remove_drafts(&directory, format!("{name}#"));
            removed += 1 + drafts.await?;
        }
        // The first may never have got its name.
        let drafts = self.remove_drafts(&directory, format!("{}#", KeyInfoName(1)));
        Ok(removed + drafts.await?)
    }

    /// Empty objects are placeholders of tools that copy trees.
    async fn list_key_info(&self, full: &str) -> Result<Vec<KeyInfoName>, Fault> {
        let directory: Path = layout::keys(full);
        let listed = self.list_objects::<KeyInfoName>(&directory).await?;
        let names = listed.into_iter().filter(|(_, size)| *size > 0);
        Ok(names.map(|(name, _)| name).collect())
    }
}
