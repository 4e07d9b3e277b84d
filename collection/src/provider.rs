//! Opening stores: the real ones here, the simulator's elsewhere.

use holdfast_env::{Disk, Env};
use holdfast_types::{ErrorCode, Fault};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cloud;
use crate::limited::{LimitedStore, Limits};
use crate::options::StoreOptions;
use crate::uri::{CollectionUri, Scheme};

/// Clients that are kept; when there are more, all are made anew.
const MAX_CLIENTS: usize = 64;

/// Opens the store behind a URI. All methods may block on the local disk; callers run them inside `Env::blocking`.
pub trait StoreProvider: Debug + Send + Sync {
    /// The store, rooted at the collection. A directory is made if it does not exist.
    ///
    /// # Errors
    /// `Unsupported` for a scheme that is not served, otherwise what opening failed with.
    fn open(&self, uri: &CollectionUri) -> Result<Arc<dyn ObjectStore>, Fault>;

    /// Whether the collection's place exists. Stores that cannot tell say yes.
    ///
    /// # Errors
    /// What asking failed with.
    fn exists(&self, uri: &CollectionUri) -> Result<bool, Fault> {
        let _ = uri;
        Ok(true)
    }

    /// Makes an object durable that a writer may have published just before it died. Stores whose answers are always durable
    /// do nothing.
    ///
    /// # Errors
    /// What syncing failed with.
    fn settle(&self, uri: &CollectionUri, key: &str) -> Result<(), Fault> {
        let _ = (uri, key);
        Ok(())
    }

    /// Removes what writers that died left of objects whose name starts with `prefix` in a directory, and says how many there were.
    ///
    /// # Errors
    /// What removing failed with.
    fn remove_drafts(
        &self,
        uri: &CollectionUri,
        directory: &str,
        prefix: &str,
    ) -> Result<u64, Fault> {
        let _ = (uri, directory, prefix);
        Ok(0)
    }
}

/// The stores of the real world. Stores in memory live as long as this value; clients of clouds are kept, with their connections and sessions.
pub struct SystemStores {
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    clouds: cloud::Context,
    limits: Limits,
    memory: Mutex<BTreeMap<String, Arc<InMemory>>>,
    clients: Mutex<BTreeMap<CollectionUri, Arc<dyn ObjectStore>>>,
}

impl Debug for SystemStores {
    /// Not what is in them: stores in memory would print all rows that they hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemStores").finish_non_exhaustive()
    }
}

impl SystemStores {
    /// Opens directories through this disk, and everything else as usual.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        let env = Env {
            disk,
            ..Env::system()
        };
        Self::with_options(&env, StoreOptions::default())
    }

    /// Opens what the options allow, as they say.
    #[must_use]
    pub fn with_options(env: &Env, options: StoreOptions) -> Self {
        Self {
            disk: Arc::clone(&env.disk),
            clouds: cloud::Context::new(env, &options),
            limits: Limits::new(Arc::clone(&env.clock), &options.limits),
            options,
            memory: Mutex::default(),
            clients: Mutex::default(),
        }
    }

    /// The directory of a collection that is one.
    fn directory(&self, uri: &CollectionUri) -> Result<Option<String>, Fault> {
        match (uri.scheme(), &self.options.external_io_dir) {
            (Scheme::File, _) => Ok(Some(uri.place().to_owned())),
            (Scheme::NodeLocal, Some(root)) => {
                Ok(Some(format!("{}/{}", root.trim_end_matches('/'), uri.place())))
            }
            (Scheme::NodeLocal, None) => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("{uri}: this process was not told where nodelocal:// lies"),
            )
            .hint("start every process with --external-io-dir, on one file system that all of them share")),
            _ => Ok(None),
        }
    }

    fn open_directory(&self, path: &str) -> Result<Arc<dyn ObjectStore>, Fault> {
        self.disk
            .create_dir_all(path)
            .map_err(|error| Self::fault("opening collection", path, error))?;
        let store = LocalFileSystem::new_with_prefix(path)
            .map_err(|error| crate::error::fault("opening collection", path, &error))?;
        // Staged beside its name, synced, linked: a half-written object is never seen. Emptied directories go too.
        Ok(Arc::new(
            store.with_fsync(true).with_automatic_cleanup(true),
        ))
    }

    /// A client, the same for the same URI: it has connections, sessions and certificates that are worth keeping.
    fn open_cloud(&self, uri: &CollectionUri) -> Result<Arc<dyn ObjectStore>, Fault> {
        let key = uri.clone().without_locality();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(Arc::clone(client));
        }
        let client = cloud::open(&key, &self.clouds)?;
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(key, Arc::clone(&client));
        Ok(client)
    }

    fn fault(action: &str, path: &str, error: io::Error) -> Fault {
        let error = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(error),
        };
        crate::error::fault(action, path, &error)
    }
}

impl StoreProvider for SystemStores {
    fn open(&self, uri: &CollectionUri) -> Result<Arc<dyn ObjectStore>, Fault> {
        let store: Arc<dyn ObjectStore> = match self.directory(uri)? {
            Some(path) => self.open_directory(&path)?,
            None if uri.scheme().is_cloud() => self.open_cloud(uri)?,
            None => {
                let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                let store = memory.entry(uri.place().to_owned()).or_default();
                Arc::<InMemory>::clone(store)
            }
        };
        Ok(match self.limits.of(uri.scheme()) {
            None => store,
            Some(limit) => Arc::new(LimitedStore::new(store, limit)),
        })
    }

    fn exists(&self, uri: &CollectionUri) -> Result<bool, Fault> {
        if let Some(path) = self.directory(uri)? {
            let found = self.disk.exists(&path);
            return found.map_err(|error| Self::fault("opening collection", &path, error));
        }
        if uri.scheme().is_cloud() {
            return Ok(true);
        }
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(memory.contains_key(uri.place()))
    }

    fn settle(&self, uri: &CollectionUri, key: &str) -> Result<(), Fault> {
        let Some(directory) = self.directory(uri)? else {
            return Ok(());
        };
        let path = format!("{directory}/{key}");
        // A rename onto itself changes nothing, and syncs the directory. The content was synced before it got its name.
        match self.disk.rename(&path, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Fault::new(
                ErrorCode::Unavailable,
                format!("object {key} vanished while it was compared"),
            )),
            other => other.map_err(|error| Self::fault("writing", &path, error)),
        }
    }

    fn remove_drafts(
        &self,
        uri: &CollectionUri,
        directory: &str,
        prefix: &str,
    ) -> Result<u64, Fault> {
        let Some(root) = self.directory(uri)? else {
            return Ok(0);
        };
        let directory = format!("{root}/{directory}");
        let names = match self.disk.list(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(|error| Self::fault("listing", &directory, error))?,
        };
        let mut removed = 0;
        for name in names.iter().filter(|name| is_draft(name, prefix)) {
            let path = format!("{directory}/{name}");
            self.disk
                .remove(&path)
                .map_err(|error| Self::fault("removing", &path, error))?;
            removed += 1;
        }
        Ok(removed)
    }
}

/// Whether a file is what `object_store` stages an object in before it links it to its name: `<name>#<digits>`.
fn is_draft(name: &str, prefix: &str) -> bool {
    name.starts_with(prefix)
        && name.rsplit_once('#').is_some_and(|(_, digits)| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
}
