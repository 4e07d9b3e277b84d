//! Every version of every row in a window, and the state at any commit in it.
//!
//! A version may lack values: an update that did not touch an out-of-line value does not log it. The value is that of the version before, which
//! is in the window under the same key, or under another one if the update changed the key, or lies before the window. [`History::as_of`]
//! follows that line back, in passes over the sorted file: what a pass cannot answer for is asked of another key in the next one.

use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{Entry, Op, Version};
use super::run::{Run, RunReader};
use super::truncations::Truncations;
use super::{Folded, FoldedRows, Keep, Sorter, Truncated};
use crate::changes::ChangePosition;
use crate::key::Key;
use crate::layout::{Lsn, Oid};
use crate::tuple::Tuple;

/// Every version of every row that changed in a window, in order of relation, key, position.
#[derive(Debug)]
pub struct History {
    run: Arc<Run>,
    truncations: Truncations,
    reshaped: BTreeMap<Oid, ChangePosition>,
}

/// The state at a commit, over that at the start of the window.
///
/// Where a row is not whole, its unchanged values are those of the row that had the key `origin` (its own, if there is none) at the start of the
/// window.
pub type Resolved = Folded;

/// Where the unchanged values of a row are.
#[derive(Debug, Clone)]
enum Source {
    /// In the row that had this key at the start of the window.
    Start(Key),
    /// In the row that had this key just before a position.
    Before(Key, ChangePosition),
}

/// What is known of a row at a point.
#[derive(Debug, Clone)]
enum State {
    /// As at the start of the window.
    Start,
    Gone,
    Whole(Tuple),
    Partial(Tuple, Source),
}

impl History {
    pub(super) fn new(
        run: Arc<Run>,
        truncations: Truncations,
        reshaped: BTreeMap<Oid, ChangePosition>,
    ) -> Self {
        Self {
            run,
            truncations,
            reshaped,
        }
    }

    /// All versions in order.
    #[must_use]
    pub fn versions(&self) -> FoldedRows {
        FoldedRows::new(Arc::clone(&self.run))
    }

    /// All truncations, in order of relation and position.
    pub fn truncations(&self) -> impl Iterator<Item = (Oid, ChangePosition)> {
        self.truncations.all()
    }

    /// Relations whose changes came in another form than planned: their history ends there.
    #[must_use]
    pub fn reshaped(&self) -> &BTreeMap<Oid, ChangePosition> {
        &self.reshaped
    }

    /// The state after all commits with a record before `end`. Files go into `directory`, `memory` bounds what is held. Blocking.
    ///
    /// # Errors
    /// A full or failing disk; [`ErrorCode::Corrupted`] if the versions contradict each other.
    pub fn as_of(&self, end: Lsn, directory: &str, memory: usize) -> Result<Resolved, Fault> {
        let sorter = |keep| Sorter::new(keep, self.run.disk(), directory, memory);
        let mut out = Outcome {
            rows: sorter(Keep::Last),
            questions: sorter(Keep::All),
            asked: 0,
        };
        self.last_states(end, &mut out)?;
        while out.asked > 0 {
            let asked = std::mem::replace(&mut out.questions, sorter(Keep::All));
            out.asked = 0;
            let questions = asked.finish(|_| Ok(true))?;
            self.answer(questions, &mut out)?;
        }
        let run = out.rows.finish(|_| Ok(true))?;
        let truncated = self.truncations.relations().filter_map(|relation| {
            let position = self.truncations.last_before(relation, end)?;
            // Whose transaction it was is of no use for a state in the past.
            Some((
                relation,
                Truncated {
                    position,
                    xid: 0,
                    is_followed: true,
                },
            ))
        });
        Ok(Folded::new(run, truncated.collect(), self.reshaped.clone()))
    }

    /// The last state of each row.
    fn last_states(&self, end: Lsn, out: &mut Outcome) -> Result<(), Fault> {
        let end = ChangePosition::start_of(end);
        let mut walk = Walk::new(self);
        let mut reader = RunReader::new(Arc::clone(&self.run), 0);
        let mut row: Option<Version> = None;
        while let Some(entry) = reader.next()? {
            if entry.version.position >= end {
                continue;
            }
            match row.take() {
                Some(last) if !last.is_same_row(&entry.version) => {
                    out.settle(last, walk.state_before(end)?)?;
                    walk.begin(&entry.version);
                }
                Some(_) => {}
                None => walk.begin(&entry.version),
            }
            row = Some(entry.version.clone());
            walk.apply(entry)?;
        }
        match row {
            Some(last) => out.settle(last, walk.state_before(end)?),
            None => Ok(()),
        }
    }

    /// Answers what the row with one key was before a position, for the row with another key now.
    fn answer(&self, questions: Arc<Run>, out: &mut Outcome) -> Result<(), Fault> {
        let mut questions = RunReader::new(questions, 0);
        let mut reader = RunReader::new(Arc::clone(&self.run), 0);
        let mut ahead = reader.next()?;
        let mut walk = Walk::new(self);
        let mut asked: Option<Version> = None;
        while let Some(question) = questions.next()? {
            let Op::Put {
                row,
                origin: Some(key),
            } = question.op
            else {
                return Err(contradiction("a question is malformed"));
            };
            let at = question.version;
            if !asked.as_ref().is_some_and(|last| last.is_same_row(&at)) {
                walk.begin(&at);
            }
            while let Some(entry) = ahead.take_if(|entry| entry.version < at) {
                if entry.version.is_same_row(&at) {
                    walk.apply(entry)?;
                }
                ahead = reader.next()?;
            }
            let state = match walk.state_before(at.position)? {
                State::Start => State::Partial(row, Source::Start(at.key.clone())),
                State::Gone => return Err(contradiction("an updated row was not there")),
                State::Whole(before) => State::Whole(row.filled_from(&before)?),
                State::Partial(before, source) => complete(row.filled_from(&before)?, source),
            };
            let target = Version { key, ..at.clone() };
            asked = Some(at);
            out.settle(target, state)?;
        }
        Ok(())
    }
}

/// What is known, and what must be asked.
struct Outcome {
    rows: Sorter,
    /// For each row that is not whole: its relation, the key it comes from, the position before which that is meant; and as its content the row
    /// and its own key.
    questions: Sorter,
    asked: u64,
}

impl Outcome {
    fn settle(&mut self, row: Version, state: State) -> Result<(), Fault> {
        let op = match state {
            State::Start => return Ok(()),
            State::Gone => Op::Delete,
            State::Whole(values) => Op::Put {
                row: values,
                origin: None,
            },
            State::Partial(values, Source::Start(key)) => Op::Put {
                row: values,
                origin: (key != row.key).then_some(key),
            },
            State::Partial(values, Source::Before(key, position)) => {
                self.asked += 1;
                let at = Version {
                    relation: row.relation,
                    key,
                    position,
                };
                let op = Op::Put {
                    row: values,
                    origin: Some(row.key),
                };
                return self.questions.push(at, op);
            }
        };
        self.rows.push(row, op)
    }
}

/// Walks over the versions of one row.
struct Walk<'a> {
    history: &'a History,
    relation: Oid,
    key: Option<Key>,
    state: State,
    position: ChangePosition,
}

impl<'a> Walk<'a> {
    fn new(history: &'a History) -> Self {
        Self {
            history,
            relation: Oid(0),
            key: None,
            state: State::Start,
            position: ChangePosition::default(),
        }
    }

    fn begin(&mut self, row: &Version) {
        self.relation = row.relation;
        self.key = Some(row.key.clone());
        self.state = State::Start;
        self.position = ChangePosition::default();
    }

    fn apply(&mut self, entry: Entry) -> Result<(), Fault> {
        let position = entry.version.position;
        let before = self.state_before(position)?;
        self.state = match entry.op {
            Op::Delete => State::Gone,
            Op::Put { row, .. } if row.is_whole() => State::Whole(row),
            Op::Put {
                row,
                origin: Some(key),
            } => State::Partial(row, Source::Before(key, position)),
            Op::Put { row, origin: None } => match before {
                State::Start => State::Partial(row, Source::Start(entry.version.key)),
                State::Gone => return Err(contradiction("an updated row was not there")),
                State::Whole(older) => State::Whole(row.filled_from(&older)?),
                State::Partial(older, source) => complete(row.filled_from(&older)?, source),
            },
        };
        self.position = position;
        Ok(())
    }

    /// The state just before a position, to which no version lies nearer than the last one applied.
    fn state_before(&self, position: ChangePosition) -> Result<State, Fault> {
        let truncations = &self.history.truncations;
        // A window has no change at the very start of positions, so that nothing is hidden by the bounds being exclusive.
        if truncations.is_between(self.relation, self.position, position) {
            return Ok(State::Gone);
        }
        Ok(self.state.clone())
    }
}

/// A row that may have become whole.
fn complete(row: Tuple, source: Source) -> State {
    if row.is_whole() {
        State::Whole(row)
    } else {
        State::Partial(row, source)
    }
}

fn contradiction(why: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("the changes of a window contradict each other: {why}"),
    )
}
