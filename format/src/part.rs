//! Parts: the file list of a layer, written and read as a stream of digested blocks.
//!
//! Parts are not compressed: two leaders that write one part, perhaps with different versions of a compressor, must write the same
//! bytes. Prefix compression against the entry before does most of the work anyway.

use bytes::Bytes;
use holdfast_types::{
    ByteCount, Digest, ErrorCode, Fault, Hasher, KeyRange, ObjectKind, ObjectRef, RelationId,
    RowCount,
};

use crate::MAX_KEY_LENGTH;
use crate::manifest::PartRef;
use crate::wire::{Decoder, Encoder, corrupted};

const MAGIC: &[u8; 8] = b"HFPART\r\n";
const VERSION: u16 = 1;
/// Magic, version, flags.
const HEADER_LENGTH: usize = 12;
/// Length and entry count of a block, before its entries.
const FRAME_LENGTH: usize = 8;
const DIGEST_LENGTH: usize = 32;
/// Bytes after which a block is closed.
const BLOCK_SIZE: usize = 64 << 10;
/// The longest block that is read: one entry with two keys of maximal length, and more.
const MAX_BLOCK_LENGTH: usize = 4 << 20;
/// The longest object name.
const MAX_NAME: usize = 1024;
const KIND_ROWS: u8 = 1;
const KIND_TUPLES: u8 = 2;
const KIND_CATALOG: u8 = 3;
const WHAT: &str = "a part of a file list";

/// One object of a layer, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestEntry {
    /// The member, by its place in the manifest's list.
    pub member: u16,
    /// The relation, as the member numbers it.
    pub relation: RelationId,
    /// The keys that the object speaks of: within this range and the layer's window it holds all there is. A span is covered by
    /// the ranges of its objects without gap or overlap. Of a tuple file it is no range of keys, but the range of its relation that was
    /// read, in the source's terms. Several objects of one range hold it together.
    pub range: KeyRange,
    /// The object.
    pub object: ObjectRef,
}

/// What a finished part amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSummary {
    /// Length of the part.
    pub length: ByteCount,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Objects that it lists.
    pub entries: u64,
}

impl PartSummary {
    /// The part as the manifest names it, in the default store.
    #[must_use]
    pub fn part_ref(&self, name: impl Into<String>) -> PartRef {
        PartRef {
            name: name.into(),
            length: self.length,
            digest: self.digest,
            entries: self.entries,
            store: 0,
        }
    }
}

/// What an entry is coded against: the one before it in the same block.
#[derive(Debug, Default)]
struct Context {
    name: String,
    end: Bytes,
}

/// Writes a part; holds one block and what the caller has not taken.
#[derive(Debug)]
pub struct PartWriter {
    block: Encoder,
    block_entries: u32,
    context: Context,
    ready: Vec<u8>,
    hasher: Hasher,
    written: u64,
    entries: u64,
}

impl Default for PartWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl PartWriter {
    /// An empty part.
    #[must_use]
    pub fn new() -> Self {
        let mut writer = Self {
            block: Encoder::default(),
            block_entries: 0,
            context: Context::default(),
            ready: Vec::new(),
            hasher: Hasher::new(),
            written: 0,
            entries: 0,
        };
        let mut header = Encoder::default();
        header.raw(MAGIC).u16(VERSION).u16(0);
        writer.emit(&header.0);
        writer
    }

    /// Adds an object.
    ///
    /// # Errors
    /// `InvalidArgument` if a key or the name is too long.
    pub fn push(&mut self, entry: &ManifestEntry) -> Result<(), Fault> {
        let (range, object) = (&entry.range, &entry.object);
        if range.start.len().max(range.end.len()) > MAX_KEY_LENGTH || object.name.len() > MAX_NAME {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "object {} has bounds or a name beyond the limits",
                    object.name
                ),
            ));
        }
        let shared = shared_prefix(&self.context.name, &object.name);
        let suffix = object.name.get(shared..).unwrap_or_default();
        let continues = self.block_entries > 0 && range.start == self.context.end;
        self.block
            .u8(kind_code(object.kind()))
            .varint(u64::from(entry.member))
            .varint(entry.relation.0)
            .flag(continues);
        if !continues {
            self.block.bytes(&range.start);
        }
        self.block
            .bytes(&range.end)
            .varint(shared as u64)
            .text(suffix)
            .varint(object.length.0)
            .digest(&object.digest)
            .varint(object.rows.0)
            .varint(object.logical.0);
        self.context.name.clone_from(&object.name);
        self.context.end = range.end.clone();
        self.block_entries = self.block_entries.saturating_add(1);
        self.entries = self.entries.saturating_add(1);
        if self.block.0.len() >= BLOCK_SIZE {
            self.close_block();
        }
        Ok(())
    }

    /// The bytes that are finished and were not taken yet.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.ready).into()
    }

    /// Closes the part: the bytes that were not taken yet, and what it amounts to.
    #[must_use]
    pub fn finish(mut self) -> (Bytes, PartSummary) {
        if self.block_entries > 0 {
            self.close_block();
        }
        // A block of no entries ends the part; its body is their total.
        let mut end = Encoder::default();
        end.u32(8).u32(0).u64(self.entries);
        let digest = Digest::of(&end.0);
        end.digest(&digest);
        self.emit(&end.0);
        let summary = PartSummary {
            length: ByteCount(self.written),
            digest: self.hasher.finish(),
            entries: self.entries,
        };
        (self.take(), summary)
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.ready.extend_from_slice(bytes);
        self.written = self.written.saturating_add(bytes.len() as u64);
    }

    fn close_block(&mut self) {
        let body = std::mem::take(&mut self.block);
        let mut frame = Encoder::default();
        // The limits on names and keys keep a block far below 4 GiB.
        frame
            .u32(u32::try_from(body.0.len()).unwrap_or(u32::MAX))
            .u32(self.block_entries)
            .raw(&body.0);
        let digest = Digest::of(&frame.0);
        frame.digest(&digest);
        self.emit(&frame.0);
        self.block_entries = 0;
        self.context = Context::default();
    }
}

const fn kind_code(kind: ObjectKind) -> u8 {
    match kind {
        ObjectKind::Rows => KIND_ROWS,
        ObjectKind::Tuples => KIND_TUPLES,
        ObjectKind::Catalog => KIND_CATALOG,
    }
}

/// Bytes that two names share at their start, cut at a character.
fn shared_prefix(left: &str, right: &str) -> usize {
    let pairs = left.char_indices().zip(right.chars());
    pairs
        .take_while(|((_, a), b)| a == b)
        .last()
        .map_or(0, |((at, c), _)| at.saturating_add(c.len_utf8()))
}

/// Reads a part from pieces of any size; holds one block and what was fed.
#[derive(Debug, Default)]
pub struct PartReader {
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that are done with.
    used: usize,
    started: bool,
    ended: bool,
    /// Of everything that was read and found sound.
    hasher: Hasher,
    sound: u64,
    entries: u64,
}

impl PartReader {
    /// A reader at the start of a part.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of the part.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used.min(self.buffer.len()));
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets what was fed and not found sound, and says from which offset to feed again: for a caller that suspects the line and
    /// not the store.
    pub fn rewind(&mut self) -> u64 {
        self.buffer.clear();
        self.used = 0;
        self.sound
    }

    /// The entries of the next block; `None` if it takes more bytes, or the part has ended.
    ///
    /// # Errors
    /// `Corrupted` or `Unsupported`.
    pub fn next_block(&mut self) -> Result<Option<Vec<ManifestEntry>>, Fault> {
        if !self.started && !self.start()? {
            return Ok(None);
        }
        let rest = self.buffer.get(self.used..).unwrap_or_default();
        if self.ended {
            return if rest.is_empty() {
                Ok(None)
            } else {
                Err(corrupted(WHAT, "there are bytes after its end"))
            };
        }
        if rest.len() < FRAME_LENGTH {
            return Ok(None);
        }
        let mut decoder = Decoder::new(rest, WHAT);
        let (length, count) = (decoder.u32()? as usize, decoder.u32()?);
        if length > MAX_BLOCK_LENGTH {
            return Err(corrupted(WHAT, "a block is longer than any"));
        }
        let framed = FRAME_LENGTH.saturating_add(length);
        let total = framed.saturating_add(DIGEST_LENGTH);
        let Some(whole) = rest.get(..total) else {
            return Ok(None);
        };
        let (block, digest) = whole.split_at_checked(framed).unwrap_or((whole, &[]));
        if Digest::of(block).0 != *digest {
            return Err(corrupted(WHAT, "the digest of a block does not match"));
        }
        let mut body = Decoder::new(block.get(FRAME_LENGTH..).unwrap_or_default(), WHAT);
        let is_end = count == 0;
        let entries = if is_end {
            if body.u64()? != self.entries {
                return Err(corrupted(
                    WHAT,
                    "it does not list as many objects as it says",
                ));
            }
            Vec::new()
        } else {
            read_entries(&mut body, count)?
        };
        body.end()?;
        self.hasher.update(whole);
        self.sound = self.sound.saturating_add(total as u64);
        self.used = self.used.saturating_add(total);
        self.entries = self.entries.saturating_add(entries.len() as u64);
        self.ended = is_end;
        if is_end {
            return self.next_block();
        }
        Ok(Some(entries))
    }

    /// To be called when the last piece was fed and [`PartReader::next_block`] gives nothing more: what the part amounts to, to be
    /// compared with the manifest.
    ///
    /// # Errors
    /// `Corrupted` if the part ends too early.
    pub fn finish(self) -> Result<PartSummary, Fault> {
        if self.ended {
            Ok(PartSummary {
                length: ByteCount(self.sound),
                digest: self.hasher.finish(),
                entries: self.entries,
            })
        } else {
            Err(corrupted(WHAT, "it ends too early"))
        }
    }

    fn start(&mut self) -> Result<bool, Fault> {
        let Some(header) = self.buffer.get(..HEADER_LENGTH) else {
            return Ok(false);
        };
        let mut decoder = Decoder::new(header, WHAT);
        if decoder.raw(MAGIC.len())? != MAGIC {
            return Err(corrupted(WHAT, "it does not start as one"));
        }
        let (version, flags) = (decoder.u16()?, decoder.u16()?);
        if version != VERSION || flags != 0 {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                format!(
                    "a part of a file list has format version {version}, and this build reads {VERSION}"
                ),
            )
            .hint("use the version of holdfast that wrote it, or a newer one"));
        }
        self.hasher.update(header);
        self.sound = HEADER_LENGTH as u64;
        self.used = HEADER_LENGTH;
        self.started = true;
        Ok(true)
    }
}

fn read_entries(decoder: &mut Decoder<'_>, count: u32) -> Result<Vec<ManifestEntry>, Fault> {
    let mut entries = Vec::new();
    let mut context = Context::default();
    for _ in 0..count {
        let kind = decoder.u8()?;
        if !(KIND_ROWS..=KIND_CATALOG).contains(&kind) {
            return Err(decoder.damaged("an object is of an unknown kind"));
        }
        let member = u16::try_from(decoder.varint()?)
            .map_err(|_| decoder.damaged("a member's number is too large"))?;
        let relation = RelationId(decoder.varint()?);
        let start = if decoder.flag()? {
            context.end
        } else {
            Bytes::copy_from_slice(decoder.bytes(MAX_KEY_LENGTH)?)
        };
        let end = Bytes::copy_from_slice(decoder.bytes(MAX_KEY_LENGTH)?);
        let shared = usize::try_from(decoder.varint()?).unwrap_or(usize::MAX);
        let prefix = context
            .name
            .get(..shared)
            .ok_or_else(|| decoder.damaged("a name's prefix is longer than the name before"))?;
        let name = format!("{prefix}{}", decoder.text(MAX_NAME)?);
        if name.len() > MAX_NAME {
            return Err(decoder.damaged("a name is too long"));
        }
        let object = ObjectRef {
            name: name.clone(),
            length: ByteCount(decoder.varint()?),
            digest: decoder.digest()?,
            rows: RowCount(decoder.varint()?),
            logical: ByteCount(decoder.varint()?),
        };
        if kind_code(object.kind()) != kind {
            return Err(decoder.damaged("an object's kind is not that of its name"));
        }
        context = Context {
            name,
            end: end.clone(),
        };
        entries.push(ManifestEntry {
            member,
            relation,
            range: KeyRange { start, end },
            object,
        });
    }
    Ok(entries)
}
