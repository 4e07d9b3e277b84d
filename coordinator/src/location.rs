//! From the URIs of a request to the stores of a collection, and what the ledger keeps of them.
//!
//! The ledger has addresses in clear, and everything else sealed. What a user wrote is sealed as it was written, so that a connection that is
//! altered later renews the secrets of jobs that run.

use holdfast_collection::{CollectionStore, CollectionUri, Location, Reference};
use holdfast_ledger::Ledger;
use holdfast_node::ClusterKey;
use holdfast_types::{CollectionAccess, ConnectionName, ErrorCode, Fault, JobSpec};
use std::collections::BTreeSet;
use std::fmt;

use crate::core::Core;

/// The stores of a collection, as a request names them. It prints as the address of the default store.
#[derive(Debug, Clone)]
pub(crate) struct Collection {
    location: Location,
    /// What was written for each store; empty if nothing of it need be kept.
    sealed: Option<String>,
    connections: Vec<ConnectionName>,
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.location.default_store(), f)
    }
}

impl Collection {
    /// Stores to write to.
    pub(crate) fn to_write(core: &Core, first: &str, more: &[String]) -> Result<Self, Fault> {
        Self::read(core, first, more, Location::to_write)
    }

    /// Stores to read from, the default one first.
    pub(crate) fn to_read(core: &Core, first: &str, more: &[String]) -> Result<Self, Fault> {
        Self::read(core, first, more, Location::to_read)
    }

    fn read(
        core: &Core,
        first: &str,
        more: &[String],
        order: impl Fn(Vec<CollectionUri>) -> Result<Location, Fault>,
    ) -> Result<Self, Fault> {
        let key = &core.config.cluster_key;
        let texts = std::iter::once(first).chain(more.iter().map(String::as_str));
        let read = |ledger: &Ledger| {
            let mut read = Vec::new();
            let mut connections = BTreeSet::new();
            for text in texts {
                let reference: Reference = text.parse()?;
                if let Reference::External(external) = &reference {
                    connections.insert(external.connection.clone());
                }
                read.push((text.trim().to_owned(), resolve(ledger, key, &reference)?));
            }
            Ok::<_, Fault>((read, connections))
        };
        let (read, connections) = core.replica.read(read)?;
        let location = order(read.iter().map(|(_, uri)| uri.clone()).collect())?;
        let sealed = match connections.is_empty() {
            true => location.expose(),
            false => {
                let text_of = |store: &CollectionUri| {
                    let found = read.iter().find(|(_, uri)| uri == store);
                    found.map_or_else(|| store.expose(), |(text, _)| text.clone())
                };
                let lines: Vec<String> = location.stores().iter().map(text_of).collect();
                Some(lines.join("\n"))
            }
        };
        Ok(Self {
            location,
            sealed,
            connections: connections.into_iter().collect(),
        })
    }

    /// A store that needs no secrets.
    #[cfg(test)]
    pub(crate) fn plain(text: &str) -> Self {
        let uri: CollectionUri = text.parse().expect("a URI");
        Self {
            location: Location::from(uri),
            sealed: None,
            connections: Vec::new(),
        }
    }

    /// All stores.
    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// What the ledger keeps of it, besides its address.
    pub(crate) fn access(&self, key: &ClusterKey) -> CollectionAccess {
        let address = self.to_string();
        CollectionAccess {
            localities: self.location.localities(),
            connections: self.connections.clone(),
            sealed: (self.sealed.as_ref()).map(|text| key.seal_secret(&address, text)),
        }
    }
}

/// The store that a reference means now.
fn resolve(
    ledger: &Ledger,
    key: &ClusterKey,
    reference: &Reference,
) -> Result<CollectionUri, Fault> {
    let external = match reference {
        Reference::Store(uri) => return Ok(uri.clone()),
        Reference::External(external) => external,
    };
    let name = &external.connection;
    let record = ledger.connection(name).ok_or_else(|| {
        Fault::new(
            ErrorCode::NotFound,
            format!("there is no connection {name}"),
        )
        .hint("list the connections with `holdfast connection show`")
    })?;
    let opened = key.open_secret(name.as_str(), &record.sealed)?;
    external.resolve(&opened)
}

/// The URIs of a collection as they were written, that of the default store first: what it takes to ask for it again.
pub(crate) fn written(
    key: &ClusterKey,
    address: &str,
    access: &CollectionAccess,
) -> Result<(String, Vec<String>), Fault> {
    let Some(sealed) = &access.sealed else {
        return Ok((address.to_owned(), Vec::new()));
    };
    let opened = key.open_secret(address, sealed)?;
    let mut lines = opened.lines().map(str::to_owned);
    match lines.next() {
        Some(first) => Ok((first, lines.collect())),
        None => Err(Fault::new(
            ErrorCode::Corrupted,
            format!("how {address} is reached is not kept"),
        )),
    }
}

/// The stores of a job's collection, as they are reached now.
fn location_of(
    ledger: &Ledger,
    key: &ClusterKey,
    address: &str,
    access: &CollectionAccess,
) -> Result<Location, Fault> {
    let Some(sealed) = &access.sealed else {
        return address.parse::<CollectionUri>().map(Location::from);
    };
    let opened = key.open_secret(address, sealed)?;
    let mut lines = Vec::new();
    for line in opened.lines() {
        let uri = resolve(ledger, key, &line.parse()?)?;
        lines.push(uri.expose());
    }
    Location::of_exposed(&lines.join("\n"))
}

/// A specification as a worker gets it: with connections resolved, for a worker knows none.
pub(crate) fn for_worker(
    ledger: &Ledger,
    key: &ClusterKey,
    spec: &JobSpec,
) -> Result<JobSpec, Fault> {
    let mut resolved = spec.clone();
    if spec.access().connections.is_empty() {
        return Ok(resolved);
    }
    let address = spec.collection();
    let location = location_of(ledger, key, address, spec.access())?;
    let access = resolved.access_mut();
    access.sealed = (location.expose()).map(|text| key.seal_secret(address, &text));
    access.connections.clear();
    Ok(resolved)
}

impl Core {
    /// Opens the collection of a job, to write to it.
    pub(crate) async fn open_collection(
        &self,
        address: &str,
        access: &CollectionAccess,
    ) -> Result<CollectionStore, Fault> {
        let key = &self.config.cluster_key;
        let location = (self.replica).read(|ledger| location_of(ledger, key, address, access))?;
        self.bounded(
            format!("opening {address}"),
            CollectionStore::open_all(&self.stores, &location, &self.env),
        )
        .await
    }

    /// Opens a collection that must exist.
    pub(crate) async fn open_existing(
        &self,
        collection: &Collection,
    ) -> Result<CollectionStore, Fault> {
        self.bounded(
            format!("opening {collection}"),
            CollectionStore::open_all_existing(&self.stores, collection.location(), &self.env),
        )
        .await
    }
}
