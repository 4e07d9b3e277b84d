//! What a source is busy with where no rows are counted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Steps under way that are named at most.
const NAMED: usize = 8;

/// The longest name of one, in bytes.
const LONGEST_NAME: usize = 200;

/// How far a phase of a task is: the indexes of a restore, the relations that a backup copies whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepProgress {
    /// The phase, in words for people: `indexes of database bank`.
    pub phase: String,
    /// Steps that are done.
    pub done: u64,
    /// All steps; zero where they are not counted.
    pub total: u64,
    /// Bytes of what the done steps were about.
    pub bytes_done: u64,
    /// Bytes of what all steps are about; zero where that is not known.
    pub bytes_total: u64,
    /// Steps that are under way, or what is waited for.
    pub now: Vec<String>,
}

#[derive(Debug, Default)]
struct State {
    progress: Option<StepProgress>,
    changes: u64,
}

/// Where a source says what it is busy with: whoever runs the task shows it, and keeps nothing of it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Steps(Arc<Mutex<State>>);

impl Steps {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut StepProgress)) {
        let mut state = self.lock();
        change(state.progress.get_or_insert_default());
        state.changes += 1;
    }

    /// A phase of so many steps begins, about so many bytes; zero where that is not known.
    pub fn begin(&self, phase: impl Into<String>, total: u64, bytes_total: u64) {
        let phase = phase.into();
        self.change(|progress| {
            *progress = StepProgress {
                phase,
                total,
                bytes_total,
                ..StepProgress::default()
            };
        });
    }

    /// A step begins. Several may be under way.
    pub fn started(&self, name: &str) {
        let name = short(name);
        self.change(|progress| {
            if progress.now.len() < NAMED {
                progress.now.push(name.to_owned());
            }
        });
    }

    /// A step is done, that was about so many bytes.
    pub fn ended(&self, name: &str, bytes: u64) {
        self.given_up(name);
        self.change(|progress| {
            progress.done += 1;
            progress.bytes_done += bytes;
        });
    }

    /// A step is not done, and the phase goes on.
    pub fn given_up(&self, name: &str) {
        let name = short(name);
        self.change(|progress| {
            if let Some(place) = progress.now.iter().position(|other| other == name) {
                progress.now.remove(place);
            }
        });
    }

    /// Bytes were done in the middle of a step.
    pub fn moved(&self, bytes: u64) {
        self.change(|progress| progress.bytes_done += bytes);
    }

    /// Nothing is under way any more.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.progress = None;
        state.changes += 1;
    }

    /// What is under way, and how often that has changed.
    #[must_use]
    pub fn look(&self) -> (Option<StepProgress>, u64) {
        let state = self.lock();
        (state.progress.clone(), state.changes)
    }
}

fn short(name: &str) -> &str {
    let kept = name.floor_char_boundary(LONGEST_NAME.min(name.len()));
    name.get(..kept).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_and_the_next_phase_begins_anew() {
        let steps = Steps::default();
        assert_eq!(steps.look(), (None, 0));
        let shown = steps.clone();
        steps.begin("indexes", 3, 100);
        steps.started("a");
        steps.started("b");
        steps.ended("a", 60);
        steps.moved(5);
        let (progress, changes) = shown.look();
        let expected = StepProgress {
            phase: "indexes".to_owned(),
            done: 1,
            total: 3,
            bytes_done: 65,
            bytes_total: 100,
            now: vec!["b".to_owned()],
        };
        assert_eq!(progress, Some(expected));
        steps.given_up("b");
        let (progress, later) = shown.look();
        assert!(later > changes);
        assert_eq!(progress.map(|it| (it.done, it.now.len())), Some((1, 0)));
        steps.begin("rights", 1, 0);
        let (progress, _) = shown.look();
        assert_eq!(
            progress.map(|it| (it.phase, it.done, it.bytes_done)),
            Some(("rights".to_owned(), 0, 0))
        );
        steps.clear();
        assert_eq!(shown.look().0, None);
    }

    #[test]
    fn names_are_bounded_and_leave_by_what_they_came_by() {
        let steps = Steps::default();
        steps.begin("copies", 100, 0);
        let names: Vec<String> = (0..20)
            .map(|n| format!("{n:02}{}", "ä".repeat(300)))
            .collect();
        names.iter().for_each(|name| steps.started(name));
        let now = steps.look().0.expect("a phase").now;
        assert_eq!(now.len(), NAMED);
        assert!(now.iter().all(|name| name.len() <= LONGEST_NAME));
        names.iter().for_each(|name| steps.ended(name, 1));
        let progress = steps.look().0.expect("a phase");
        assert_eq!((progress.done, progress.now.len()), (20, 0));
    }
}
