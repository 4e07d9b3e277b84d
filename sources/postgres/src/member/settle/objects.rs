//! Objects of a catalog that are neither rows nor the schema: globals, sequences, large objects.

use bytes::{BufMut, BytesMut};
use futures::{Stream, StreamExt, pin_mut};
use holdfast_source::Outlet;
use holdfast_types::Fault;

use super::Settling;
use super::view::View;
use crate::exact::{HeldSnapshot, import};
use crate::large_objects::{self, LargeObjectChunk};
use crate::layout::Oid;
use crate::member::catalog::{DatabaseCatalog, to_json};
use crate::session::{Purpose, Session};

/// Large objects that are described in one object.
const PAGE: u32 = 10_000;

/// Bytes of chunks that are handed on at once.
const BLOCK: usize = 256 << 10;

/// Writes globals and sequences.
pub(super) async fn globals(
    view: &View,
    catalog: &mut DatabaseCatalog,
    outlet: &mut dyn Outlet,
) -> Result<(), Fault> {
    catalog.globals = outlet.catalog(to_json(&view.globals)?).await?;
    catalog.sequences = outlet.catalog(to_json(&view.sequences)?).await?;
    Ok(())
}

/// Writes large objects; gives their bytes.
pub(super) async fn large_objects(
    settling: &Settling<'_>,
    held: &HeldSnapshot,
    catalog: &mut DatabaseCatalog,
    outlet: &mut dyn Outlet,
) -> Result<u64, Fault> {
    let session = Session::connect(&settling.member.env, &settling.dsn, Purpose::Control).await?;
    import(&session, held.id()?).await?;
    let by_pages = large_objects::can_read_pages(&session).await?;
    let mut after = Oid(0);
    let mut bytes = 0;
    loop {
        let page = large_objects::list(&session, after, PAGE).await?;
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            return Ok(bytes);
        };
        after = last.oid;
        let parts = &mut catalog.large_objects;
        parts.count += page.len() as u64;
        parts
            .descriptions
            .push(outlet.catalog(to_json(&page)?).await?);
        let mut writer = Chunks {
            outlet,
            block: BytesMut::new(),
            part_size: settling.backup.part_size.0,
            part: 0,
            total: 0,
        };
        writer.outlet.begin_tuples(3).await?;
        if by_pages {
            let chunks = large_objects::read_pages(&session, first.oid, last.oid).await?;
            writer.take(chunks, &mut parts.chunks).await?;
        } else {
            for object in &page {
                let chunks = large_objects::read_object(&session, object.oid);
                writer.take(chunks, &mut parts.chunks).await?;
            }
        }
        writer.flush().await?;
        bytes += writer.total;
        parts.chunks.extend(outlet.end_tuples().await?);
    }
}

/// Writes chunks of large objects as rows.
struct Chunks<'a> {
    outlet: &'a mut dyn Outlet,
    block: BytesMut,
    part_size: u64,
    part: u64,
    total: u64,
}

impl Chunks<'_> {
    async fn take(
        &mut self,
        chunks: impl Stream<Item = Result<LargeObjectChunk, Fault>>,
        names: &mut Vec<String>,
    ) -> Result<(), Fault> {
        pin_mut!(chunks);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            self.push(&chunk);
            if self.block.len() >= BLOCK {
                self.flush().await?;
            }
            if self.part >= self.part_size {
                self.flush().await?;
                names.extend(self.outlet.end_tuples().await?);
                self.outlet.begin_tuples(3).await?;
                self.part = 0;
            }
        }
        Ok(())
    }

    /// Adds a row of `COPY … BINARY`.
    fn push(&mut self, chunk: &LargeObjectChunk) {
        self.block.put_i16(3);
        self.block.put_i32(4);
        self.block.put_u32(chunk.oid.0);
        self.block.put_i32(8);
        self.block.put_u64(chunk.offset);
        // Chunks are of some hundred KiB at most.
        self.block
            .put_i32(i32::try_from(chunk.bytes.len()).unwrap_or(i32::MAX));
        self.block.put_slice(&chunk.bytes);
        self.part += chunk.bytes.len() as u64;
        self.total += chunk.bytes.len() as u64;
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        match self.block.is_empty() {
            true => Ok(()),
            false => self.outlet.tuples(self.block.split().freeze()).await,
        }
    }
}
