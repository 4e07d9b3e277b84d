//! What whoever asked for a job should know, though the job goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Notes that wait to be taken at once: more are dropped, and that is noted.
const WAITING: usize = 200;

/// Where a source puts what did not go as usual, in words for people: an extension of another version, a constraint that rows do not
/// fulfil, the mode of a backup and why. Whoever runs the job takes them from time to time, and keeps them with it. Clones share them.
///
/// The same is noted again when a step is done again; it is kept once.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something.
    pub fn add(&self, text: impl Into<String>) {
        let mut notes = self.lock();
        match notes.len() {
            0..WAITING => notes.push(text.into()),
            WAITING => notes.push("there was more to say: see the worker's log".to_owned()),
            _ => {}
        }
    }

    /// Whether nothing was noted since the last call of [`Notes::take`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// What was noted since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_notes_wait() {
        let notes = Notes::default();
        let other = notes.clone();
        (0..1000).for_each(|number| other.add(number.to_string()));
        let taken = notes.take();
        assert_eq!(taken.len(), WAITING + 1);
        assert!(
            taken
                .last()
                .is_some_and(|last| last.contains("more to say"))
        );
        assert!(notes.is_empty() && other.take().is_empty());
    }
}
