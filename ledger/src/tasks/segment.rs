//! All spans of one plan, in order.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_types::{Epoch, RelationId, Sealed, Timestamp};
use serde::{Deserialize, Serialize};

use super::chunk::{Active, CHUNK_SLOTS, Chunk, SlotRef};
use super::work::Lease;

/// Consecutive spans of one relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) relation: RelationId,
    /// The slot of its first span.
    pub(crate) first: u32,
}

/// See the module. A span ends where the next one of its relation starts, or at the open end if it is the last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// Index of the member; `None` for a verification.
    pub(crate) member: Option<u32>,
    /// Task index of the first span.
    pub(crate) first: u32,
    groups: Vec<Group>,
    len: u32,
    done: u32,
    weight: u64,
    /// The slot of the first span that settles the others: it and all after it wait until those before, of all members, are done.
    settling: Option<u32>,
    /// Whether they wait no more. Computed.
    #[serde(skip)]
    settles_now: bool,
    /// Shared with clones of the ledger until changed. Stored in sections of their own.
    #[serde(skip)]
    chunks: Vec<Arc<Chunk>>,
    /// Chunks with spans that wait for a worker. Computed.
    #[serde(skip)]
    ready_chunks: BTreeSet<u32>,
}

impl Segment {
    /// Without spans.
    pub(crate) fn new(member: Option<u32>) -> Self {
        Self {
            member,
            ..Self::default()
        }
    }

    /// How many spans.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// How many are finished.
    pub(crate) fn done(&self) -> u32 {
        self.done
    }

    /// The weight of all.
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    /// The relations, in order, each with the slot of its first span.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The chunks, for a snapshot.
    pub(crate) fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// Takes chunks from a snapshot.
    pub(crate) fn push_chunks(&mut self, chunks: Vec<Arc<Chunk>>) {
        self.chunks.extend(chunks);
    }

    /// Adds a span at the end.
    pub(crate) fn push(
        &mut self,
        relation: RelationId,
        start: &Sealed,
        weight: u64,
        settles: bool,
    ) {
        if settles {
            self.settling.get_or_insert(self.len);
        }
        if self.groups.last().map(|group| group.relation) != Some(relation) {
            self.groups.push(Group {
                relation,
                first: self.len,
            });
        }
        if self.len.is_multiple_of(CHUNK_SLOTS) {
            self.shrink_last();
            self.chunks.push(Arc::new(Chunk::empty()));
        }
        let (index, _) = place(self.len);
        if let Some(chunk) = self.chunks.last_mut() {
            Arc::make_mut(chunk).push(start, weight);
        }
        self.ready_chunks.insert(index);
        self.len += 1;
        self.weight = self.weight.saturating_add(weight);
    }

    /// Whether its last spans settle the others.
    pub(crate) fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    /// Whether all spans are done that settling ones wait for.
    pub(crate) fn is_read(&self) -> bool {
        self.done >= self.settling.unwrap_or(self.len)
    }

    /// Says whether the settling spans wait no more.
    pub(crate) fn set_settles_now(&mut self, settles_now: bool) {
        self.settles_now = settles_now;
    }

    /// The slots before this one may be leased: all, or those that the settling spans wait for.
    fn open_slots(&self) -> u32 {
        match self.settling {
            Some(first) if !self.settles_now => first,
            Some(_) | None => self.len,
        }
    }

    /// Whether a span waits for others to be done.
    pub(crate) fn awaits_others(&self, slot: u32) -> bool {
        slot >= self.open_slots()
    }

    /// Whether a span settles others.
    pub(crate) fn settles(&self, slot: u32) -> bool {
        self.settling.is_some_and(|first| slot >= first)
    }

    /// Gives back memory that no further span will need.
    pub(crate) fn shrink_last(&mut self) {
        if let Some(chunk) = self.chunks.last_mut() {
            Arc::make_mut(chunk).shrink();
        }
    }

    /// The relation of a span.
    pub(crate) fn relation(&self, slot: u32) -> Option<RelationId> {
        let after = self.groups.partition_point(|group| group.first <= slot);
        Some(self.groups.get(after.checked_sub(1)?)?.relation)
    }

    /// Where a span starts, unless it is finished and forgotten.
    pub(crate) fn start(&self, slot: u32) -> Option<Sealed> {
        let (chunk, inner) = place(slot);
        self.chunks.get(chunk as usize)?.start(inner)
    }

    /// Where a span ends, unless it is finished and forgotten.
    pub(crate) fn end(&self, slot: u32) -> Option<Sealed> {
        let next = slot + 1;
        if next >= self.len || self.relation(next) != self.relation(slot) {
            return Some(Sealed::open_end());
        }
        self.start(next)
    }

    /// The weight of a span, unless it is finished and forgotten.
    pub(crate) fn span_weight(&self, slot: u32) -> Option<u64> {
        let (chunk, inner) = place(slot);
        self.chunks.get(chunk as usize)?.weight(inner)
    }

    /// A span as it stands.
    pub(crate) fn slot(&self, slot: u32) -> Option<SlotRef<'_>> {
        let (chunk, inner) = place(slot);
        self.chunks.get(chunk as usize)?.slot(inner)
    }

    /// An unfinished span that was leased before.
    pub(crate) fn active_mut(&mut self, slot: u32) -> Option<&mut Active> {
        let (chunk, inner) = place(slot);
        Arc::make_mut(self.chunks.get_mut(chunk as usize)?).active_mut(inner)
    }

    /// Gives a lease on an unfinished span without one.
    pub(crate) fn grant(&mut self, slot: u32, lease: Lease, at: Timestamp) -> Option<Epoch> {
        let (index, inner) = place(slot);
        let chunk = Arc::make_mut(self.chunks.get_mut(index as usize)?);
        let epoch = chunk.grant(inner, lease, at)?;
        if chunk.ready() == 0 {
            self.ready_chunks.remove(&index);
        }
        Some(epoch)
    }

    /// Ends a lease; the span is ready again.
    pub(crate) fn release(&mut self, slot: u32) -> Option<Lease> {
        let (index, inner) = place(slot);
        let lease = Arc::make_mut(self.chunks.get_mut(index as usize)?).release(inner)?;
        self.ready_chunks.insert(index);
        Some(lease)
    }

    /// Finishes a leased span.
    pub(crate) fn finish(&mut self, slot: u32) -> Option<Box<Active>> {
        let (index, inner) = place(slot);
        let active = Arc::make_mut(self.chunks.get_mut(index as usize)?).finish(inner)?;
        self.done += 1;
        Some(active)
    }

    /// Whether a span waits for a worker.
    pub(crate) fn has_ready(&self) -> bool {
        self.ready_slots().next().is_some()
    }

    /// The spans that wait for a worker, in order.
    pub(crate) fn ready_slots(&self) -> impl Iterator<Item = u32> + '_ {
        let open = self.open_slots();
        self.ready_chunks
            .iter()
            .flat_map(|&index| {
                self.chunks
                    .get(index as usize)
                    .into_iter()
                    .flat_map(|chunk| chunk.ready_slots())
                    .map(move |inner| index * CHUNK_SLOTS + inner)
            })
            .take_while(move |slot| *slot < open)
    }

    /// Unfinished spans that were leased before, in order.
    pub(crate) fn active(&self) -> impl Iterator<Item = (u32, &Active)> {
        (0u32..).zip(&self.chunks).flat_map(|(index, chunk)| {
            let active = chunk.active();
            active.map(move |(inner, active)| (index * CHUNK_SLOTS + inner, active))
        })
    }

    /// How many spans wait for a worker.
    pub(crate) fn ready_count(&self) -> u32 {
        let free: u32 = self
            .ready_chunks
            .iter()
            .filter_map(|&index| self.chunks.get(index as usize))
            .map(|chunk| chunk.ready())
            .sum();
        // What waits for others was never leased.
        free.saturating_sub(self.len - self.open_slots())
    }

    /// Recomputes what is not stored, and returns the leased slots.
    pub(crate) fn rebuild(&mut self) -> Vec<u32> {
        self.ready_chunks.clear();
        let mut leased = Vec::new();
        for (index, chunk) in (0u32..).zip(&mut self.chunks) {
            let chunk = Arc::make_mut(chunk);
            chunk.rebuild();
            chunk.shrink();
            if chunk.ready() > 0 {
                self.ready_chunks.insert(index);
            }
            leased.extend(
                chunk
                    .leased_slots()
                    .map(|inner| index * CHUNK_SLOTS + inner),
            );
        }
        leased
    }
}

/// The chunk of a slot, and its place there.
fn place(slot: u32) -> (u32, u32) {
    (slot / CHUNK_SLOTS, slot % CHUNK_SLOTS)
}
