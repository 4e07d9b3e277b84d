//! The whole state as a stream of bytes.
//!
//! # Purpose
//! Snapshots for raft, the digest of the state, and the state on disk after a log was cut.
//!
//! # Format
//! `HFLEDGER`, version (u16), then sections. A section is: tag (u8), length of its payload (u64), payload (postcard), and the
//! BLAKE3-256 digest of number (u32, counting from 0), tag, length and payload. All integers are little endian. The last
//! section says how many there were. Sections are at most a few MiB except for what one job's plans describe, so neither side
//! ever holds the whole.
//!
//! # Invariants
//! The bytes are a function of the state: two nodes in the same state write the same ones. What is computed from other state is not
//! stored. Sections come in one order: head, sources, workers, holds, requests, schedules, layers, connections, users, then every job followed by its
//! spans.
//!
//! # Concurrency
//! Written from a clone of the state, which is cheap.
//!
//! # Crash consistency
//! A snapshot that was cut off or damaged anywhere is refused with the section's name; nothing of it is used.

mod read;
mod write;

use holdfast_types::{Digest, Hasher, JobId};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::command::Command;
use crate::ledger::LogPosition;
use crate::outcome::Outcome;

pub(crate) use write::digest;

/// The version of snapshots that is written.
pub const SNAPSHOT_VERSION: u16 = 1;

const MAGIC: &[u8; 8] = b"HFLEDGER";

/// The largest section that is read: a wrong length must not fill the memory.
const MAX_SECTION_BYTES: u64 = 1 << 30;

/// Chunks of spans in one section: less than a MiB with usual keys.
const CHUNKS_PER_SECTION: usize = 64;

/// Records (layers, holds, …) in one section.
const RECORDS_PER_SECTION: usize = 1024;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    Head = 1,
    Sources = 2,
    Workers = 3,
    Holds = 4,
    Requests = 5,
    Layers = 6,
    Job = 7,
    Chunks = 8,
    End = 9,
    Connections = 10,
    Schedules = 11,
    Users = 12,
}

impl Tag {
    const ALL: [Self; 12] = [
        Self::Head,
        Self::Sources,
        Self::Workers,
        Self::Holds,
        Self::Requests,
        Self::Layers,
        Self::Job,
        Self::Chunks,
        Self::End,
        Self::Connections,
        Self::Schedules,
        Self::Users,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| *tag as u8 == byte)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Sources => "sources",
            Self::Workers => "workers",
            Self::Holds => "holds",
            Self::Requests => "request keys",
            Self::Layers => "layers",
            Self::Job => "job",
            Self::Chunks => "spans",
            Self::End => "end",
            Self::Connections => "connections",
            Self::Schedules => "schedules",
            Self::Users => "users",
        }
    }
}

/// Where chunks of spans belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Home {
    /// To the plan at this place.
    Draft(u32),
    /// To the spans of the member at this place.
    Segment(u32),
}

/// A run of chunks: `C` is borrowed when written and owned when read.
#[derive(Debug, Serialize, Deserialize)]
struct ChunkRun<C> {
    job: JobId,
    home: Home,
    chunks: C,
}

/// The first section: `S` is the settings, borrowed when written and owned when read.
#[derive(Debug, Serialize, Deserialize)]
struct Head<S> {
    applied: LogPosition,
    chain: Digest,
    cluster: Option<holdfast_types::ClusterId>,
    settings: S,
}

/// The digest of a section.
fn section_digest(number: u32, tag: u8, payload: &[u8]) -> Digest {
    Hasher::new()
        .update(&number.to_le_bytes())
        .update(&[tag])
        .update(&(payload.len() as u64).to_le_bytes())
        .update(payload)
        .finish()
}

/// The chain digest after one more command.
pub(crate) fn fold_chain(
    chain: Digest,
    position: LogPosition,
    command: &Command,
    outcome: &Outcome,
) -> Digest {
    let bytes = codec::append(&(position, command, outcome), chain.0.to_vec());
    Digest::of(&bytes)
}
