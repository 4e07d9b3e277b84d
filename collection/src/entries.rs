//! Streaming a layer's file list.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use holdfast_format::{Frame, Layer, ManifestEntry, PartReader, PartRef};
use holdfast_types::{ErrorCode, Fault, LayerPath};
use object_store::path::Path;

use crate::layout;
use crate::store::{CollectionStore, READS, damaged};

/// Bytes of a file list that are held at once.
const WINDOW: u64 = 1 << 20;

/// Where a stream of entries stands.
struct Progress {
    store: CollectionStore,
    path: LayerPath,
    directory: Path,
    parts: std::vec::IntoIter<PartRef>,
    current: Option<Open>,
}

/// The part that is being read.
struct Open {
    /// Where it is.
    store: CollectionStore,
    part: PartRef,
    at: Path,
    reader: PartReader,
    /// What it takes to read it; unknown before its first bytes are asked for.
    frame: Option<Frame>,
    /// Bytes of its content that were read.
    offset: u64,
    /// How often the bytes at hand were asked for again.
    attempt: u32,
}

impl CollectionStore {
    /// All entries of a layer's file list, in order, in batches of bounded size. The stream ends after its first error; a list is
    /// complete when the stream ends without one.
    #[must_use]
    pub fn entries(&self, layer: &Layer) -> BoxStream<'static, Result<Vec<ManifestEntry>, Fault>> {
        self.placements().note(&layer.manifest);
        let progress = Progress {
            store: self.clone(),
            path: layer.manifest.path.clone(),
            directory: layout::parts(&layer.manifest.path),
            parts: layer.manifest.parts.clone().into_iter(),
            current: None,
        };
        let entries = stream::unfold(Some(progress), |progress| async move {
            let mut progress = progress?;
            match progress.next().await {
                Ok(Some(entries)) => Some((Ok(entries), Some(progress))),
                Ok(None) => None,
                Err(fault) => Some((Err(fault), None)),
            }
        });
        entries.boxed()
    }
}

impl Progress {
    async fn next(&mut self) -> Result<Option<Vec<ManifestEntry>>, Fault> {
        loop {
            let Some(open) = &mut self.current else {
                let Some(part) = self.parts.next() else {
                    return Ok(None);
                };
                self.current = Some(Open {
                    store: self.store.of_store(&self.path, part.store).await?,
                    at: self.directory.clone().join(part.name.as_str()),
                    part,
                    reader: PartReader::new(),
                    frame: None,
                    offset: 0,
                    attempt: 1,
                });
                continue;
            };
            match open.reader.next_block() {
                Ok(Some(entries)) => {
                    open.attempt = 1;
                    return Ok(Some(entries));
                }
                Ok(None) => {
                    if !open.feed().await? {
                        self.close()?;
                    }
                }
                // The line may have damaged what the store still has.
                Err(fault) if fault.code == ErrorCode::Corrupted && open.attempt < READS => {
                    open.attempt += 1;
                    open.offset = open.reader.rewind();
                }
                Err(fault) => return Err(fault.context(&open.at)),
            }
        }
    }

    /// Checks the part that was read to its end against the manifest.
    fn close(&mut self) -> Result<(), Fault> {
        let Some(open) = self.current.take() else {
            return Ok(());
        };
        let found = open
            .reader
            .finish()
            .map_err(|fault| fault.context(&open.at))?;
        // Of an encrypted part, length and digest are those of what is stored, which every chunk's tag vouches for.
        let is_named = match open.store.envelope().is_sealed() {
            true => found.entries == open.part.entries,
            false => {
                let found = PartRef {
                    store: open.part.store,
                    ..found.part_ref(open.part.name.clone())
                };
                found == open.part
            }
        };
        if is_named {
            Ok(())
        } else {
            Err(damaged(
                &open.at,
                "it is not the part that the manifest names",
            ))
        }
    }
}

impl Open {
    /// Reads on; whether there was anything left.
    async fn feed(&mut self) -> Result<bool, Fault> {
        let store = &self.store;
        let frame = match &self.frame {
            Some(frame) => frame,
            None => {
                let opened = store
                    .retrying(|| store.open_object(&self.at, self.part.length.0))
                    .await?;
                self.frame.insert(opened.frame)
            }
        };
        let end = frame.length().min(self.offset.saturating_add(WINDOW));
        if self.offset >= end {
            return Ok(false);
        }
        let range = self.offset..end;
        let bytes = store
            .retrying(|| store.get_clear(&self.at, frame, range.clone()))
            .await?;
        self.reader.feed(&bytes);
        self.offset = end;
        Ok(true)
    }
}
