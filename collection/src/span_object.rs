//! Reading span files in pieces, without holding them.

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use holdfast_format::{Block, Entry, Frame, SpanIndex, SpanTail};
use holdfast_types::{Fault, KeyRange, LayerPath, ObjectRef};
use object_store::path::Path;
use std::ops::Range;
use std::sync::Arc;

use crate::layout;
use crate::store::{CollectionStore, damaged};

/// Stored bytes that one request fetches, unless a single block is larger.
const READ_SIZE: u64 = 1 << 20;
/// Requests that run ahead of the reader.
const READ_AHEAD: usize = 2;

/// An open span file in a collection. Every block is checked against the index, the index against its digest, and its totals against
/// the manifest. (The digest of the whole object is compared by [`CollectionStore::read_span`] and by verification.)
#[derive(Debug, Clone)]
pub struct SpanObject {
    store: CollectionStore,
    at: Path,
    frame: Frame,
    index: Arc<SpanIndex>,
}

impl CollectionStore {
    /// Opens a span file: two requests, or three if its index is long; one if it is encrypted and small.
    ///
    /// # Errors
    /// `NotFound` or `Corrupted`, naming the object; otherwise what the store failed with.
    pub async fn open_span(
        &self,
        path: &LayerPath,
        object: &ObjectRef,
    ) -> Result<SpanObject, Fault> {
        let at = layout::data(path).join(object.name.as_str());
        // A damaged answer is asked for again, like everywhere.
        let (index, frame) = self
            .retrying(|| self.read_index(&at, object.length.0))
            .await
            .map_err(|fault| fault.context(&at))?;
        if index.rows() != object.rows || index.logical() != object.logical {
            return Err(damaged(&at, "it does not hold what its manifest says"));
        }
        Ok(SpanObject {
            store: self.clone(),
            at,
            frame,
            index: Arc::new(index),
        })
    }

    async fn read_index(&self, at: &Path, stored: u64) -> Result<(SpanIndex, Frame), Fault> {
        let end = self.get_tail(at, stored).await?;
        let tail = SpanTail::parse(&end.bytes, end.length)?;
        let (header, footer) = self.get_ends(at, &end, tail.footer.clone()).await?;
        let index = SpanIndex::parse(&header, &footer, &tail)?;
        Ok((index, end.opened.frame))
    }
}

impl SpanObject {
    /// The index.
    #[must_use]
    pub fn index(&self) -> &SpanIndex {
        &self.index
    }

    /// The row versions of a key range, in order, in batches of about a block's worth of rows each; none is empty. The stream ends
    /// after its first error.
    #[must_use]
    pub fn read(&self, range: KeyRange) -> BoxStream<'static, Result<Vec<Entry>, Fault>> {
        let runs = self.runs(&range);
        let object = self.clone();
        let range = Arc::new(range);
        stream::iter(runs)
            .map(move |run| {
                let (object, range) = (object.clone(), Arc::clone(&range));
                async move { object.read_run(run, range).await }
            })
            .buffered(READ_AHEAD)
            .map_ok(|batches| stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    /// Groups the blocks of a range into requests.
    fn runs(&self, range: &KeyRange) -> Vec<Range<usize>> {
        let blocks = self.index.blocks();
        let mut runs: Vec<Range<usize>> = Vec::new();
        let mut size = 0u64;
        for at in self.index.blocks_for(range) {
            let length = blocks.get(at).map_or(0, |block| length(&block.bytes));
            match runs.last_mut() {
                Some(run) if size.saturating_add(length) <= READ_SIZE => {
                    run.end = at + 1;
                    size = size.saturating_add(length);
                }
                _ => {
                    runs.push(at..at + 1);
                    size = length;
                }
            }
        }
        runs
    }

    async fn read_run(
        self,
        run: Range<usize>,
        range: Arc<KeyRange>,
    ) -> Result<Vec<Vec<Entry>>, Fault> {
        let store = self.store.clone();
        let at = self.at.clone();
        store
            .retrying(|| self.read_run_once(run.clone(), Arc::clone(&range)))
            .await
            .map_err(|fault| fault.context(at))
    }

    async fn read_run_once(
        &self,
        run: Range<usize>,
        range: Arc<KeyRange>,
    ) -> Result<Vec<Vec<Entry>>, Fault> {
        let blocks = self.index.blocks().get(run.clone()).unwrap_or_default();
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Ok(Vec::new());
        };
        let start = first.bytes.start;
        let bytes = self
            .store
            .get_clear(&self.at, &self.frame, start..last.bytes.end)
            .await?;
        let index = Arc::clone(&self.index);
        let decode = move || {
            let blocks = index.blocks().get(run).unwrap_or_default();
            blocks
                .iter()
                .map(|block| {
                    let mut entries = index.decode(block, slice(&bytes, start, block)?)?;
                    entries.retain(|entry| range.contains(&entry.key));
                    Ok(entries)
                })
                .filter(|batch| batch.as_ref().map_or(true, |entries| !entries.is_empty()))
                .collect()
        };
        self.store.env().blocking(decode).await
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// A block's bytes out of those of its run.
fn slice(bytes: &Bytes, start: u64, block: &Block) -> Result<Bytes, Fault> {
    let offset = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
    let range = offset(block.bytes.start)..offset(block.bytes.end);
    if range.end <= bytes.len() {
        Ok(bytes.slice(range))
    } else {
        Err(Fault::new(
            holdfast_types::ErrorCode::Corrupted,
            "a block ends after its file",
        ))
    }
}
