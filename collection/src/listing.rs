//! Finding layers and chains.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use holdfast_format::Chain;
use holdfast_types::{ErrorCode, Fault, Hlc, LayerPath, Timestamp};
use object_store::ListResult;
use object_store::path::Path;
use std::collections::BTreeMap;

use crate::layout::{self, Line};
use crate::names::{is_full_component, is_full_subdir, is_incremental_component};
use crate::store::{CONCURRENCY, CollectionStore, LIST_DEADLINE, damaged, within};

/// What a list shows of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainSummary {
    /// The directory of its full.
    pub full: String,
    /// Where its last layer ends.
    pub end: Hlc,
    /// How many layers it has.
    pub layers: u32,
    /// Whether it is encrypted.
    pub is_sealed: bool,
}

/// The word for the newest full.
const LATEST: &str = "LATEST";

/// The error for a collection, or a place in it, without a full.
fn no_full(message: String) -> Fault {
    Fault::new(ErrorCode::NotFound, message)
        .hint("check the place, or take a full backup into it first")
}

/// The end of an encrypted layer, as far as its directory's name tells it.
fn named_end(path: &LayerPath) -> Hlc {
    let digits = match &path.incremental {
        None => path.full.replace(['/', '-'], ""),
        // Its end, and then its start.
        Some(own) => own.replacen(['/', '-'], "", 1),
    };
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 17)
    );
    Hlc::at(text.parse::<Timestamp>().unwrap_or_default())
}

impl CollectionStore {
    /// The fulls of the collection, oldest first. Directories without a manifest are none, and expired chains are left out.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn list_chains(&self) -> Result<Vec<LayerPath>, Fault> {
        let mut directories = vec![Path::default()];
        for level in 0..3 {
            directories = self
                .descend(directories, |name| is_full_component(level, name))
                .await?;
        }
        let expired = self.expired().await?;
        let fulls = directories
            .into_iter()
            .map(|directory| LayerPath::full(directory.to_string()))
            .filter(|path| !expired.contains(&path.full));
        let known = self.index(&Path::from(layout::INDEX)).await?;
        self.finished(fulls.collect(), &known).await
    }

    /// The chains of the collection, oldest first, with what a list shows of them; expired ones are left out. Requests: one for every
    /// thousand layers and one for every month that has fulls; more only for chains that are not in the index.
    ///
    /// # Errors
    /// What the store failed with.
    pub async fn summaries(&self) -> Result<Vec<ChainSummary>, Fault> {
        let mut directories = vec![Path::default()];
        for level in 0..3 {
            directories = self
                .descend(directories, |name| is_full_component(level, name))
                .await?;
        }
        let known = self.index(&Path::from(layout::INDEX)).await?;
        let mut chains: BTreeMap<&str, ChainSummary> = BTreeMap::new();
        for (path, line) in &known {
            let chain = chains.entry(&path.full).or_insert_with(|| ChainSummary {
                full: path.full.clone(),
                end: line.end,
                layers: 0,
                is_sealed: false,
            });
            chain.layers = chain.layers.saturating_add(1);
            chain.end = chain.end.max(line.end);
            chain.is_sealed |= line.is_sealed;
        }
        let mut found = Vec::new();
        let expired = self.expired().await?;
        for directory in directories {
            let full = LayerPath::full(directory.to_string());
            if expired.contains(&full.full) {
                continue;
            }
            match chains.remove(full.full.as_str()) {
                Some(chain) if known.contains_key(&full) => found.push(chain),
                // A copy that was made without the index, or a line that is not written yet.
                _ => found.extend(self.summary(&full).await?),
            }
        }
        Ok(found)
    }

    /// What there is to say of a chain without the index; nothing, if there is no such chain.
    async fn summary(&self, full: &LayerPath) -> Result<Option<ChainSummary>, Fault> {
        let layers = match self.list_layers(&full.full).await {
            Ok(layers) => layers,
            Err(fault) if fault.code == ErrorCode::NotFound => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let last = layers.last().unwrap_or(full);
        let clear = self.load_layer_unless_sealed(last).await?;
        Ok(Some(ChainSummary {
            full: full.full.clone(),
            is_sealed: clear.is_none(),
            end: match clear {
                Some(layer) => layer.manifest.end,
                None => named_end(last),
            },
            layers: u32::try_from(layers.len()).unwrap_or(u32::MAX),
        }))
    }

    /// The finished layers that the index knows, with their ends. It is a help for lists: what it lacks is looked for.
    async fn index(&self, directory: &Path) -> Result<BTreeMap<LayerPath, Line>, Fault> {
        let home = self.home();
        home.retrying(|| async {
            let mut listed = home.objects().list(Some(directory));
            let mut found = BTreeMap::new();
            while let Some(meta) =
                within(LIST_DEADLINE, "listing", directory, listed.try_next()).await?
            {
                // Tools that copy trees leave empty placeholders behind.
                if meta.size > 0 {
                    found.extend(layout::indexed(&meta.location));
                }
            }
            Ok(found)
        })
        .await
    }

    /// The layers of a chain: its full, then its incrementals sorted by their end. Those without a manifest are left out.
    ///
    /// # Errors
    /// `NotFound` if there is no such full, or it has expired, otherwise what the store failed with.
    pub async fn list_layers(&self, full: &str) -> Result<Vec<LayerPath>, Fault> {
        if !is_full_subdir(full) {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "\"{}\" is not the directory of a full backup",
                    full.escape_debug()
                ),
            )
            .hint("write it as YYYY/MM/DD-HHMMSS.ss, or LATEST"));
        }
        self.check_not_expired(full).await?;
        let mut layers = vec![LayerPath::full(full)];
        layers.extend(self.list_incrementals(full).await?);
        let known = self.index(&layout::index_of(full)).await?;
        let found = self.finished(layers, &known).await?;
        if found.first().is_some_and(|path| path.incremental.is_none()) {
            Ok(found)
        } else {
            Err(no_full(format!(
                "there is no full backup in {full} of {}",
                self.uri()
            )))
        }
    }

    /// The directories of all incrementals of a chain, finished or not, sorted by their end.
    pub(crate) async fn list_incrementals(&self, full: &str) -> Result<Vec<LayerPath>, Fault> {
        let root = layout::incrementals(full);
        let mut directories = vec![root.clone()];
        for level in 0..2 {
            directories = self
                .descend(directories, |name| is_incremental_component(level, name))
                .await?;
        }
        let own = |directory: Path| {
            let parts: Vec<String> = directory
                .prefix_match(&root)?
                .map(|part| part.as_ref().to_owned())
                .collect();
            Some(LayerPath::incremental(full, parts.join("/")))
        };
        Ok(directories.into_iter().filter_map(own).collect())
    }

    /// Reads the manifests of a chain, and puts them in order. An incremental whose manifest is damaged breaks the chain there, and
    /// leaves what is before it usable.
    ///
    /// # Errors
    /// As [`CollectionStore::list_layers`], and `Corrupted` if the full's manifest is damaged.
    pub async fn load_chain(&self, full: &str) -> Result<Chain, Fault> {
        let paths = self.list_layers(full).await?;
        let mut loads = futures::stream::iter(paths)
            .map(|path| async move {
                let loaded = self.load_layer(&path).await;
                (path, loaded)
            })
            .buffered(CONCURRENCY);
        let (mut layers, mut damaged) = (Vec::new(), Vec::new());
        while let Some((path, loaded)) = loads.next().await {
            match loaded {
                Ok(layer) => layers.push(layer),
                Err(fault)
                    if path.incremental.is_some()
                        && matches!(
                            fault.code,
                            ErrorCode::Corrupted | ErrorCode::Unsupported | ErrorCode::NotFound
                        ) =>
                {
                    damaged.push((path, fault));
                }
                Err(fault) => return Err(fault),
            }
        }
        Chain::assemble_with(layers, damaged)
    }

    /// The directory of the newest full that has not expired.
    ///
    /// # Errors
    /// `NotFound` if no full was completed in the collection, `Corrupted` if the pointer to it is damaged.
    pub async fn latest(&self) -> Result<String, Fault> {
        let listed = self.list_directory(&Path::from(layout::LATEST)).await?;
        let mut names: Vec<Path> = listed
            .objects
            .into_iter()
            // Tools that copy trees leave empty placeholders behind.
            .filter(|meta| meta.size > 0)
            .map(|meta| meta.location)
            .filter(|at| {
                at.filename()
                    .is_some_and(|name| name.starts_with(layout::LATEST_PREFIX))
            })
            .collect();
        names.sort();
        let expired = self.expired().await?;
        let is_expired = |name: &&Path| expired.iter().any(|full| layout::points_to(name, full));
        let Some(newest) = names.iter().find(|name| !is_expired(name)) else {
            return Err(no_full(format!(
                "path does not contain a completed latest backup: {}",
                self.uri()
            )));
        };
        // The pointer's name says when the full ends, and its body where it is: one must fit the other.
        let parse = |body: Bytes| match std::str::from_utf8(&body) {
            Ok(subdir) if layout::points_to(newest, subdir) => Ok(subdir.to_owned()),
            _ => Err(damaged(
                newest,
                "it does not name the full backup of its time",
            )),
        };
        self.get_parsed(newest, parse).await
    }

    /// The directory of the full that a user means: `LATEST`, or a subdirectory, with or without slashes around it.
    ///
    /// # Errors
    /// `NotFound` if there is no such full, or it has expired, `InvalidArgument` if the text names none.
    pub async fn resolve_subdir(&self, text: &str) -> Result<String, Fault> {
        if text.eq_ignore_ascii_case(LATEST) {
            return self.latest().await;
        }
        let full = text.trim_matches('/');
        if !is_full_subdir(full) {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "\"{}\" is not the directory of a full backup",
                    text.escape_debug()
                ),
            )
            .hint("write it as YYYY/MM/DD-HHMMSS.ss, or LATEST"));
        }
        self.check_not_expired(full).await?;
        let path = LayerPath::full(full);
        match self.home().head(&layout::manifest(&path)).await? {
            Some(_) => Ok(path.full),
            None => Err(no_full(format!(
                "there is no full backup in {full} of {}",
                self.uri()
            ))),
        }
    }

    /// Those of some layers that have a manifest, in the same order. It is asked for those that the index does not know.
    async fn finished(
        &self,
        layers: Vec<LayerPath>,
        known: &BTreeMap<LayerPath, Line>,
    ) -> Result<Vec<LayerPath>, Fault> {
        let home = &self.home();
        let found: Vec<Option<LayerPath>> = futures::stream::iter(layers)
            .map(|path| async move {
                if known.contains_key(&path) {
                    return Ok(Some(path));
                }
                let manifest = home.head(&layout::manifest(&path)).await?;
                Ok::<_, Fault>(manifest.map(|_| path))
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The directories one level down whose names are as they should be, sorted.
    async fn descend(
        &self,
        directories: Vec<Path>,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Path>, Fault> {
        let listed: Vec<ListResult> = futures::stream::iter(directories)
            .map(|directory| async move { self.list_directory(&directory).await })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let mut found: Vec<Path> = listed
            .into_iter()
            .flat_map(|result| result.common_prefixes)
            .filter(|at| at.filename().is_some_and(&is_wanted))
            .collect();
        found.sort();
        Ok(found)
    }

    /// What is directly in a directory; nothing, if it does not exist.
    pub(crate) async fn list_directory(&self, at: &Path) -> Result<ListResult, Fault> {
        let prefix = (!at.as_ref().is_empty()).then_some(at);
        let home = self.home();
        self.retrying(|| {
            let list = home.objects().list_with_delimiter(prefix);
            within(LIST_DEADLINE, "listing", at, list)
        })
        .await
    }
}
