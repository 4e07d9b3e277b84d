//! Reading tuple files block by block, without holding them.

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use holdfast_format::{Frame, TupleBlock, TupleDecoder, TupleIndex, TupleRows, TupleTail};
use holdfast_types::{Fault, LayerPath, ObjectRef};
use object_store::path::Path;
use std::sync::Arc;

use crate::layout;
use crate::store::{CollectionStore, damaged};

/// An open tuple file in a collection. Every block is checked against the index, the index against its digest, and its totals against the
/// manifest.
#[derive(Debug, Clone)]
pub struct TupleObject {
    store: CollectionStore,
    at: Path,
    frame: Frame,
    index: Arc<TupleIndex>,
}

impl CollectionStore {
    /// Opens a tuple file: two requests, or three if its index is long; one if it is encrypted and small.
    ///
    /// # Errors
    /// `NotFound` or `Corrupted`, naming the object; otherwise what the store failed with.
    pub async fn open_tuples(
        &self,
        path: &LayerPath,
        object: &ObjectRef,
    ) -> Result<TupleObject, Fault> {
        let at = layout::data(path).join(object.name.as_str());
        // A damaged answer is asked for again, like everywhere.
        let (index, frame) = self
            .retrying(|| self.read_tuple_index(&at, object.length.0))
            .await
            .map_err(|fault| fault.context(&at))?;
        if index.rows() != object.rows || index.logical() != object.logical {
            return Err(damaged(&at, "it does not hold what its manifest says"));
        }
        Ok(TupleObject {
            store: self.clone(),
            at,
            frame,
            index: Arc::new(index),
        })
    }

    async fn read_tuple_index(&self, at: &Path, stored: u64) -> Result<(TupleIndex, Frame), Fault> {
        let end = self.get_tail(at, stored).await?;
        let tail = TupleTail::parse(&end.bytes, end.length)?;
        let (header, footer) = self.get_ends(at, &end, tail.footer.clone()).await?;
        let index = TupleIndex::parse(&header, &footer, &tail)?;
        Ok((index, end.opened.frame))
    }
}

impl TupleObject {
    /// The index.
    #[must_use]
    pub fn index(&self) -> &TupleIndex {
        &self.index
    }

    /// The rows, a block at a time, which is all that is in memory: as stored, as columns and as rows. The stream ends after its first
    /// error.
    #[must_use]
    pub fn read(&self) -> BoxStream<'static, Result<TupleRows, Fault>> {
        let state = (self.clone(), 0usize, TupleDecoder::default());
        stream::try_unfold(state, |(object, next, decoder)| async move {
            let Some(block) = object.index.blocks().get(next).cloned() else {
                return Ok(None);
            };
            let (rows, decoder) = object.read_block(block, decoder).await?;
            Ok(Some((rows, (object, next.saturating_add(1), decoder))))
        })
        .into_stream()
        .boxed()
    }

    async fn read_block(
        &self,
        block: TupleBlock,
        decoder: TupleDecoder,
    ) -> Result<(TupleRows, TupleDecoder), Fault> {
        // The buffers of the decoder go with an attempt that fails, and others are made.
        let buffers = std::sync::Mutex::new(Some(decoder));
        self.store
            .retrying(|| async {
                let held = buffers.lock().ok().and_then(|mut held| held.take());
                let mut decoder = held.unwrap_or_default();
                let stored = self.get(&block).await?;
                let (index, block) = (Arc::clone(&self.index), block.clone());
                let decode = move || {
                    let rows = index.decode(&block, &stored, &mut decoder)?;
                    Ok((rows, decoder))
                };
                self.store.env().blocking(decode).await
            })
            .await
            .map_err(|fault: Fault| fault.context(&self.at))
    }

    async fn get(&self, block: &TupleBlock) -> Result<Bytes, Fault> {
        let range = block.bytes.clone();
        self.store.get_clear(&self.at, &self.frame, range).await
    }
}
