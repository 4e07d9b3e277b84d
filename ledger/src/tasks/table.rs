//! A job's whole task list.

use std::collections::BTreeSet;

use holdfast_types::{Epoch, JobId, Relation, Sealed, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use super::chunk::{Active, SlotRef};
use super::draft::Draft;
use super::segment::Segment;
use super::step::{Step, StepRun};
use super::view::{TaskKind, TaskView};
use super::work::{Lease, Work};
use holdfast_types::ByteCount;

/// Spans in one job: four times the size that the memory budget was measured at.
pub(crate) const MAX_SPANS: u32 = 4_000_000;

/// Where a task stands in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A plan.
    Plan(usize),
    /// A span.
    Span {
        /// Which segment.
        segment: usize,
        /// Which span of it.
        slot: u32,
    },
    /// A finish.
    Finish(usize),
    /// A revert.
    Revert(usize),
}

/// See [`crate::tasks`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct TaskTable {
    pub(crate) plans: StepRun,
    pub(crate) segments: Vec<Segment>,
    pub(crate) finishes: StepRun,
    pub(crate) reverts: StepRun,
    /// The index of the next task to be.
    next: u32,
    spans: u32,
    spans_done: u32,
    /// Tasks under a lease. Computed.
    #[serde(skip)]
    leased: BTreeSet<u32>,
}

impl TaskTable {
    /// Makes the plans.
    pub(crate) fn begin_planning(&mut self, members: impl IntoIterator<Item = Option<u32>>) {
        self.plans = StepRun::new(self.next, members);
        self.next += self.plans.len();
    }

    /// Makes the finishes.
    pub(crate) fn begin_finishing(&mut self, members: impl IntoIterator<Item = Option<u32>>) {
        self.finishes = StepRun::new(self.next, members);
        self.next += self.finishes.len();
    }

    /// Forgets all forward work, whose leases must have ended, and makes the reverts.
    pub(crate) fn begin_reverting(&mut self, members: impl IntoIterator<Item = Option<u32>>) {
        self.segments.clear();
        self.spans = 0;
        self.spans_done = 0;
        self.finishes.steps.clear();
        for step in &mut self.plans.steps {
            step.draft = None;
        }
        self.reverts = StepRun::new(self.next, members);
        self.next += self.reverts.len();
    }

    /// Turns the finished plans into spans, member by member. Returns each plan's relations.
    pub(crate) fn adopt_plans(&mut self) -> Vec<Vec<Relation>> {
        let mut relations = Vec::new();
        for step in &mut self.plans.steps {
            let mut draft = step.draft.take().unwrap_or_default();
            draft.segment.first = self.next;
            self.next += draft.segment.len();
            self.spans += draft.segment.len();
            relations.push(std::mem::take(&mut draft.relations));
            self.segments.push(draft.segment);
        }
        self.open_settling();
        relations
    }

    /// Lets settling spans be leased when all others are done, those of other members too: all members are cut at about one time.
    fn open_settling(&mut self) {
        let is_read = self.segments.iter().all(Segment::is_read);
        for segment in &mut self.segments {
            segment.set_settles_now(is_read);
        }
    }

    /// Tasks under a lease, in order.
    pub(crate) fn leased(&self) -> &BTreeSet<u32> {
        &self.leased
    }

    /// Spans, and how many are finished.
    pub(crate) fn spans(&self) -> (u32, u32) {
        (self.spans, self.spans_done)
    }

    /// Where a task stands.
    pub(crate) fn locate(&self, index: u32) -> Option<Place> {
        if let Some(position) = self.plans.position(index) {
            return Some(Place::Plan(position));
        }
        if let Some(position) = self.finishes.position(index) {
            return Some(Place::Finish(position));
        }
        if let Some(position) = self.reverts.position(index) {
            return Some(Place::Revert(position));
        }
        let after = self
            .segments
            .partition_point(|segment| segment.first <= index);
        // Empty segments share their first index with the one after them, which comes last.
        let position = after.checked_sub(1)?;
        let segment = self.segments.get(position)?;
        let slot = index - segment.first;
        (slot < segment.len()).then_some(Place::Span {
            segment: position,
            slot,
        })
    }

    fn step(&self, place: Place) -> Option<&Step> {
        match place {
            Place::Plan(position) => self.plans.steps.get(position),
            Place::Finish(position) => self.finishes.steps.get(position),
            Place::Revert(position) => self.reverts.steps.get(position),
            Place::Span { .. } => None,
        }
    }

    fn step_mut(&mut self, place: Place) -> Option<&mut Step> {
        match place {
            Place::Plan(position) => self.plans.steps.get_mut(position),
            Place::Finish(position) => self.finishes.steps.get_mut(position),
            Place::Revert(position) => self.reverts.steps.get_mut(position),
            Place::Span { .. } => None,
        }
    }

    /// A span that was leased and is not finished.
    pub(crate) fn active(&self, index: u32) -> Option<&Active> {
        let Place::Span { segment, slot } = self.locate(index)? else {
            return None;
        };
        match self.segments.get(segment)?.slot(slot)? {
            SlotRef::Open(active) => Some(active),
            SlotRef::Fresh | SlotRef::Done(_) => None,
        }
    }

    /// A span that was leased and is not finished.
    pub(crate) fn active_mut(&mut self, index: u32) -> Option<&mut Active> {
        let Place::Span { segment, slot } = self.locate(index)? else {
            return None;
        };
        self.segments.get_mut(segment)?.active_mut(slot)
    }

    /// A plan.
    pub(crate) fn plan_mut(&mut self, index: u32) -> Option<&mut Step> {
        let position = self.plans.position(index)?;
        self.plans.steps.get_mut(position)
    }

    /// Leases and failures of an unfinished task that was leased before, or of a step.
    pub(crate) fn work(&self, index: u32) -> Option<&Work> {
        let place = self.locate(index)?;
        match self.step(place) {
            Some(step) => Some(&step.work),
            None => self.active(index).map(|active| &active.work),
        }
    }

    /// Leases and failures of an unfinished task that was leased before, or of a step.
    pub(crate) fn work_mut(&mut self, index: u32) -> Option<&mut Work> {
        match self.locate(index)? {
            Place::Span { segment, slot } => {
                let segment = self.segments.get_mut(segment)?;
                segment.active_mut(slot).map(|active| &mut active.work)
            }
            place => self.step_mut(place).map(|step| &mut step.work),
        }
    }

    /// The lease of a task.
    pub(crate) fn lease(&self, index: u32) -> Option<&Lease> {
        self.work(index)?.lease.as_ref()
    }

    /// Whether a task is finished, and under which epoch if that is still known.
    pub(crate) fn finished(&self, index: u32) -> Option<Option<Epoch>> {
        let place = self.locate(index)?;
        if let Some(step) = self.step(place) {
            return step.done.then_some(Some(step.work.epoch));
        }
        let Place::Span { segment, slot } = place else {
            return None;
        };
        match self.segments.get(segment)?.slot(slot)? {
            SlotRef::Done(epoch) => Some(epoch),
            SlotRef::Fresh | SlotRef::Open(_) => None,
        }
    }

    /// Whether a span waits for others to be done.
    pub(crate) fn awaits_others(&self, index: u32) -> bool {
        let place = self.locate(index);
        place
            .and_then(|place| self.segment_of(place))
            .is_some_and(|(segment, slot)| segment.awaits_others(slot))
    }

    /// Whether an unfinished task has no lease.
    pub(crate) fn is_free(&self, index: u32) -> bool {
        self.locate(index).is_some()
            && self.finished(index).is_none()
            && self.lease(index).is_none()
    }

    /// Gives a lease on a free task. A plan starts over.
    pub(crate) fn grant(&mut self, index: u32, lease: Lease, at: Timestamp) -> Option<Epoch> {
        let epoch = match self.locate(index)? {
            Place::Span { segment, slot } => {
                self.segments.get_mut(segment)?.grant(slot, lease, at)?
            }
            place => {
                let step = self.step_mut(place).filter(|step| step.is_ready())?;
                if matches!(place, Place::Plan(_)) {
                    step.draft = Some(Box::new(Draft::new(step.member)));
                }
                step.work.grant(lease, at)
            }
        };
        self.leased.insert(index);
        Some(epoch)
    }

    /// Ends a lease; the task is ready again.
    pub(crate) fn release(&mut self, index: u32) -> Option<Lease> {
        let lease = match self.locate(index)? {
            Place::Span { segment, slot } => self.segments.get_mut(segment)?.release(slot)?,
            place => {
                let step = self.step_mut(place)?;
                let lease = step.work.lease.take()?;
                step.draft = None;
                lease
            }
        };
        self.leased.remove(&index);
        Some(lease)
    }

    /// Finishes a leased step.
    pub(crate) fn finish_step(&mut self, index: u32) -> Option<Lease> {
        let place = self.locate(index)?;
        let step = self.step_mut(place)?;
        let lease = step.work.lease.take()?;
        step.done = true;
        self.leased.remove(&index);
        Some(lease)
    }

    /// Finishes a leased span.
    pub(crate) fn finish_span(&mut self, index: u32) -> Option<Box<Active>> {
        let Place::Span { segment, slot } = self.locate(index)? else {
            return None;
        };
        let segment = self.segments.get_mut(segment)?;
        let was_read = segment.is_read();
        let active = segment.finish(slot)?;
        if segment.is_read() && !was_read {
            self.open_settling();
        }
        self.spans_done += 1;
        self.leased.remove(&index);
        Some(active)
    }

    /// Index of a task's member.
    pub(crate) fn member(&self, index: u32) -> Option<u32> {
        let place = self.locate(index)?;
        match self.step(place) {
            Some(step) => step.member,
            None => self.segment_of(place)?.0.member,
        }
    }

    /// The segment of a span, and its slot there.
    pub(crate) fn segment_of(&self, place: Place) -> Option<(&Segment, u32)> {
        match place {
            Place::Span { segment, slot } => Some((self.segments.get(segment)?, slot)),
            Place::Plan(_) | Place::Finish(_) | Place::Revert(_) => None,
        }
    }

    /// An unfinished task with all that is needed to do it.
    pub(crate) fn view(&self, job: JobId, index: u32) -> Option<TaskView> {
        let place = self.locate(index)?;
        let id = TaskId { job, index };
        if let Some(step) = self.step(place) {
            let kind = match place {
                Place::Finish(_) => TaskKind::Finish,
                Place::Revert(_) => TaskKind::Revert,
                Place::Plan(_) | Place::Span { .. } => TaskKind::Plan,
            };
            return (!step.done).then(|| view(id, step.member, kind, &step.work));
        }
        let (segment, slot) = self.segment_of(place)?;
        let start = segment.start(slot)?;
        let fresh = Work::default();
        let (work, frontier): (&Work, Sealed) = match segment.slot(slot)? {
            SlotRef::Fresh => (&fresh, start.clone()),
            SlotRef::Open(active) => (&active.work, active.frontier.clone()),
            SlotRef::Done(_) => return None,
        };
        let kind = TaskKind::Span {
            relation: segment.relation(slot)?,
            start,
            end: segment.end(slot)?,
            weight: ByteCount(segment.span_weight(slot)?),
            frontier,
            settles: segment.settles(slot),
        };
        Some(view(id, segment.member, kind, work))
    }

    /// Unfinished tasks that were leased before, in order.
    pub(crate) fn started(&self) -> Vec<u32> {
        let mut started = Vec::new();
        for run in [&self.plans, &self.finishes, &self.reverts] {
            let steps = (run.first..).zip(&run.steps);
            let steps = steps.filter(|(_, step)| !step.done && step.work.epoch != Epoch::ZERO);
            started.extend(steps.map(|(index, _)| index));
        }
        for segment in &self.segments {
            started.extend(segment.active().map(|(slot, _)| segment.first + slot));
        }
        started
    }

    /// Objects of unfinished spans.
    pub(crate) fn open_entries(&self) -> u64 {
        self.segments
            .iter()
            .flat_map(Segment::active)
            .map(|(_, active)| active.entries.len() as u64)
            .sum()
    }

    /// Recomputes what is not stored.
    pub(crate) fn rebuild(&mut self) {
        let mut leased = BTreeSet::new();
        for run in [&mut self.plans, &mut self.finishes, &mut self.reverts] {
            for (index, step) in (run.first..).zip(&mut run.steps) {
                if step.work.lease.is_some() {
                    leased.insert(index);
                }
                if let Some(draft) = &mut step.draft {
                    draft.rebuild();
                }
            }
        }
        for segment in &mut self.segments {
            let first = segment.first;
            leased.extend(segment.rebuild().into_iter().map(|slot| first + slot));
        }
        self.open_settling();
        self.leased = leased;
    }
}

fn view(id: TaskId, member: Option<u32>, kind: TaskKind, work: &Work) -> TaskView {
    TaskView {
        id,
        member,
        kind,
        epoch: work.epoch,
        lease: work.lease.clone(),
        attempts: work.attempts,
        moved_at: work.moved_at,
    }
}
