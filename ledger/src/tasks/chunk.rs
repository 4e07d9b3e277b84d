//! A fixed number of neighbouring spans that share their bounds.

use holdfast_types::{Epoch, ObjectRef, Sealed};
use serde::{Deserialize, Serialize};

use super::work::{Lease, Work};
use holdfast_types::Timestamp;

/// Spans in one chunk: small enough that finished work shrinks soon, large enough that a chunk's own cost vanishes.
pub(crate) const CHUNK_SLOTS: u32 = 256;

/// An object that a checkpoint of an unfinished span has brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskEntry {
    pub(crate) from: Sealed,
    pub(crate) to: Sealed,
    pub(crate) object: ObjectRef,
}

/// A span that was leased and is not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Active {
    /// Leases and failures.
    pub(crate) work: Work,
    /// Everything before it is durable and committed.
    pub(crate) frontier: Sealed,
    /// The part of the span's weight that counts as done.
    pub(crate) credited: u64,
    /// A holder was lost with work in flight: what the next checkpoint reads counts as redone.
    pub(crate) redo_pending: bool,
    /// Its objects so far.
    pub(crate) entries: Vec<TaskEntry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
enum SlotState {
    /// Never leased.
    #[default]
    Fresh,
    /// Leased before, not finished.
    Open(Box<Active>),
    /// Finished under this epoch.
    Done(Epoch),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    weight: u64,
    /// Where the span's start ends in the chunk's `bounds`; it begins where the one before it ends.
    bound_end: u32,
    state: SlotState,
}

/// A span as it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SlotRef<'a> {
    /// Never leased.
    Fresh,
    /// Leased before, not finished.
    Open(&'a Active),
    /// Finished, under this epoch if that is still known.
    Done(Option<Epoch>),
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Chunk {
    /// Some spans are unfinished.
    Open(OpenChunk),
    /// All spans are finished.
    Done {
        /// Where the first span starts; the span before it ends here.
        start: Sealed,
        /// How many spans there were.
        slots: u32,
    },
}

/// A chunk with unfinished spans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenChunk {
    slots: Vec<Slot>,
    #[serde(with = "byte_string")]
    bounds: Vec<u8>,
    /// Finished spans.
    done: u32,
    /// Spans without a lease that are not finished. Computed.
    #[serde(skip)]
    ready: u32,
}

impl Chunk {
    /// A chunk without spans.
    pub(crate) fn empty() -> Self {
        Self::Open(OpenChunk::default())
    }

    /// How many spans it holds.
    pub(crate) fn len(&self) -> u32 {
        match self {
            Self::Open(open) => u32::try_from(open.slots.len()).unwrap_or(u32::MAX),
            Self::Done { slots, .. } => *slots,
        }
    }

    /// How many are finished.
    pub(crate) fn done(&self) -> u32 {
        match self {
            Self::Open(open) => open.done,
            Self::Done { slots, .. } => *slots,
        }
    }

    /// How many wait for a worker.
    pub(crate) fn ready(&self) -> u32 {
        match self {
            Self::Open(open) => open.ready,
            Self::Done { .. } => 0,
        }
    }

    /// Where a span starts; of a finished chunk only the first one's is known.
    pub(crate) fn start(&self, slot: u32) -> Option<Sealed> {
        match self {
            Self::Open(open) => open.start(slot as usize).map(Sealed::from_sealed),
            Self::Done { start, .. } => (slot == 0).then(|| start.clone()),
        }
    }

    /// A span's weight, while it is known.
    pub(crate) fn weight(&self, slot: u32) -> Option<u64> {
        match self {
            Self::Open(open) => open.slots.get(slot as usize).map(|slot| slot.weight),
            Self::Done { .. } => None,
        }
    }

    /// A span as it stands.
    pub(crate) fn slot(&self, slot: u32) -> Option<SlotRef<'_>> {
        match self {
            Self::Open(open) => open.slots.get(slot as usize).map(|slot| match &slot.state {
                SlotState::Fresh => SlotRef::Fresh,
                SlotState::Open(active) => SlotRef::Open(active),
                SlotState::Done(epoch) => SlotRef::Done(Some(*epoch)),
            }),
            Self::Done { slots, .. } => (slot < *slots).then_some(SlotRef::Done(None)),
        }
    }

    /// An unfinished span that was leased before.
    pub(crate) fn active_mut(&mut self, slot: u32) -> Option<&mut Active> {
        let Self::Open(open) = self else { return None };
        match &mut open.slots.get_mut(slot as usize)?.state {
            SlotState::Open(active) => Some(active),
            SlotState::Fresh | SlotState::Done(_) => None,
        }
    }

    /// Adds a span at the end.
    pub(crate) fn push(&mut self, start: &Sealed, weight: u64) {
        if let Self::Open(open) = self {
            open.bounds.extend_from_slice(start.as_bytes());
            open.slots.push(Slot {
                weight,
                // A planner's bounds are at most 64 KiB each, so a chunk of them stays far below 4 GiB.
                bound_end: u32::try_from(open.bounds.len()).unwrap_or(u32::MAX),
                state: SlotState::Fresh,
            });
            open.ready += 1;
        }
    }

    /// Gives back memory that no further span will need.
    pub(crate) fn shrink(&mut self) {
        if let Self::Open(open) = self {
            open.slots.shrink_to_fit();
            open.bounds.shrink_to_fit();
        }
    }

    /// Gives a lease on an unfinished span without one.
    pub(crate) fn grant(&mut self, slot: u32, lease: Lease, at: Timestamp) -> Option<Epoch> {
        let Self::Open(open) = self else { return None };
        let start = open.start(slot as usize).map(Sealed::from_sealed);
        let state = &mut open.slots.get_mut(slot as usize)?.state;
        if matches!(state, SlotState::Fresh) {
            *state = SlotState::Open(Box::new(Active {
                work: Work::default(),
                frontier: start?,
                credited: 0,
                redo_pending: false,
                entries: Vec::new(),
            }));
        }
        let SlotState::Open(active) = state else {
            return None;
        };
        if active.work.lease.is_some() {
            return None;
        }
        open.ready -= 1;
        Some(active.work.grant(lease, at))
    }

    /// Ends a lease; the span is ready again.
    pub(crate) fn release(&mut self, slot: u32) -> Option<Lease> {
        let lease = self.active_mut(slot)?.work.lease.take()?;
        if let Self::Open(open) = self {
            open.ready += 1;
        }
        Some(lease)
    }

    /// Finishes a leased span; a chunk without unfinished spans shrinks.
    pub(crate) fn finish(&mut self, slot: u32) -> Option<Box<Active>> {
        let Self::Open(open) = self else { return None };
        let state = &mut open.slots.get_mut(slot as usize)?.state;
        let epoch = match state {
            SlotState::Open(active) => active.work.epoch,
            SlotState::Fresh | SlotState::Done(_) => return None,
        };
        let SlotState::Open(active) = std::mem::replace(state, SlotState::Done(epoch)) else {
            return None;
        };
        open.done += 1;
        if open.done as usize == open.slots.len() {
            *self = Self::Done {
                start: open.start(0).map(Sealed::from_sealed).unwrap_or_default(),
                slots: open.done,
            };
        }
        Some(active)
    }

    /// The spans that wait for a worker.
    pub(crate) fn ready_slots(&self) -> impl Iterator<Item = u32> + '_ {
        let slots = match self {
            Self::Open(open) => open.slots.as_slice(),
            Self::Done { .. } => &[],
        };
        (0u32..)
            .zip(slots)
            .filter(|(_, slot)| slot.is_ready())
            .map(|(index, _)| index)
    }

    /// Unfinished spans that were leased before.
    pub(crate) fn active(&self) -> impl Iterator<Item = (u32, &Active)> {
        let slots = match self {
            Self::Open(open) => open.slots.as_slice(),
            Self::Done { .. } => &[],
        };
        (0u32..)
            .zip(slots)
            .filter_map(|(index, slot)| match &slot.state {
                SlotState::Open(active) => Some((index, active.as_ref())),
                SlotState::Fresh | SlotState::Done(_) => None,
            })
    }

    /// The spans that are leased.
    pub(crate) fn leased_slots(&self) -> impl Iterator<Item = u32> + '_ {
        let slots = match self {
            Self::Open(open) => open.slots.as_slice(),
            Self::Done { .. } => &[],
        };
        (0u32..)
            .zip(slots)
            .filter(|(_, slot)| slot.is_leased())
            .map(|(index, _)| index)
    }

    /// Recomputes what is not stored.
    pub(crate) fn rebuild(&mut self) {
        if let Self::Open(open) = self {
            let ready = open.slots.iter().filter(|slot| slot.is_ready()).count();
            open.ready = u32::try_from(ready).unwrap_or(u32::MAX);
        }
    }
}

impl Slot {
    fn is_ready(&self) -> bool {
        match &self.state {
            SlotState::Fresh => true,
            SlotState::Open(active) => active.work.lease.is_none(),
            SlotState::Done(_) => false,
        }
    }

    fn is_leased(&self) -> bool {
        matches!(&self.state, SlotState::Open(active) if active.work.lease.is_some())
    }
}

impl OpenChunk {
    fn start(&self, slot: usize) -> Option<&[u8]> {
        let end = self.slots.get(slot)?.bound_end as usize;
        let begin = match slot.checked_sub(1) {
            Some(before) => self.slots.get(before)?.bound_end as usize,
            None => 0,
        };
        self.bounds.get(begin..end)
    }
}

/// A byte vector in one piece rather than byte by byte: the same encoding, many times faster.
mod byte_string {
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};
    use std::fmt;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a byte string")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = seq.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Slot>() <= 32);
    }

    #[test]
    fn a_finished_chunk_keeps_its_first_bound_only() {
        let mut chunk = Chunk::empty();
        let lease = Lease {
            worker: "w".parse().expect("a name"),
            incarnation: holdfast_types::Incarnation(1),
            granted_at: Timestamp::default(),
        };
        chunk.push(&Sealed::open_end(), 5);
        chunk.push(&Sealed::from_sealed(*b"middle"), 6);
        assert_eq!(chunk.start(1), Some(Sealed::from_sealed(*b"middle")));
        for slot in [1, 0] {
            assert_eq!(
                chunk.grant(slot, lease.clone(), Timestamp::default()),
                Some(Epoch(1))
            );
            assert_eq!(
                chunk.grant(slot, lease.clone(), Timestamp::default()),
                None,
                "one lease at a time"
            );
            assert!(chunk.finish(slot).is_some());
            assert!(chunk.finish(slot).is_none());
        }
        assert!(matches!(chunk, Chunk::Done { slots: 2, .. }));
        assert_eq!(chunk.start(0), Some(Sealed::open_end()));
        assert_eq!(chunk.ready(), 0);
    }
}
