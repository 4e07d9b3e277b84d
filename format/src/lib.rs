//! What a Holdfast collection consists of, as pure bytes: span files, tuple files, catalog files, parts, manifests, the rules of a chain, and the merge of
//! its layers; and their encryption. No I/O, no clock, no async. `docs/FORMAT.md` describes every byte.
//!
//! Purpose: bytes in, values out, and back. Invariants: a reader checks every digest before it believes a byte, bounds every
//! length by what is really there, and never panics on hostile input; writers are deterministic. Concurrency: none; every value
//! belongs to one task. Crash consistency: nothing here is durable by itself; a layer exists when its manifest does.

#![warn(missing_debug_implementations)]
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

mod catalog_file;
mod chain;
mod entry;
mod envelope;
mod indexed_file;
mod key_info;
mod manifest;
mod merge;
mod part;
mod read_at;
mod span_file;
mod tuple_file;
mod wire;

pub use catalog_file::CatalogFile;
pub use chain::{
    AppendRequest, Chain, Layer, MemberPlan, RestorePlan, RestorePoint, RestoreRelation,
};
pub use entry::{Change, Entry};
pub use envelope::{DataKey, Envelope, Frame};
pub use key_info::{Kdf, KeyInfo, KeyInfoName, KeyWrap, WrapKind};
pub use manifest::{LayerRelation, LayerTotals, Manifest, ManifestMember, PartRef};
pub use merge::{MergeStep, Merger};
pub use part::{ManifestEntry, PartReader, PartSummary, PartWriter};
pub use read_at::ReadAt;
pub use span_file::{
    Block, SpanFileOptions, SpanFileReader, SpanFileSummary, SpanFileWriter, SpanIndex, SpanTail,
};
pub use tuple_file::{
    TupleBlock, TupleDecoder, TupleFields, TupleFileOptions, TupleFileReader, TupleFileSummary,
    TupleFileWriter, TupleIndex, TupleRow, TupleRows, TupleTail,
};

/// The longest key that the format holds, in bytes.
pub const MAX_KEY_LENGTH: usize = 1 << 20;

/// The longest value that the format holds, in bytes.
pub const MAX_VALUE_LENGTH: usize = 1 << 30;
