//! Questions to workers, and who waits for the answers.

use holdfast_types::WorkerId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

#[derive(Debug)]
struct State<A> {
    asked: u64,
    waiting: BTreeMap<u64, (WorkerId, oneshot::Sender<A>)>,
}

/// Questions that wait for an answer of type `A`. As many wait as there are requests that ask; one that is given up is forgotten.
#[derive(Debug)]
pub(crate) struct Questions<A>(Mutex<State<A>>);

impl<A> Default for Questions<A> {
    fn default() -> Self {
        Self(Mutex::new(State {
            asked: 0,
            waiting: BTreeMap::new(),
        }))
    }
}

impl<A> Questions<A> {
    fn lock(&self) -> MutexGuard<'_, State<A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new question to a worker.
    pub(crate) fn ask(&self, worker: &WorkerId) -> Question<'_, A> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.lock();
        state.asked += 1;
        let id = state.asked;
        state.waiting.insert(id, (worker.clone(), sender));
        drop(state);
        Question {
            questions: self,
            id,
            answer,
        }
    }

    /// A worker has answered. Nobody may wait any more; and only who was asked is heard.
    pub(crate) fn answer(&self, worker: &WorkerId, id: u64, answer: A) {
        let mut state = self.lock();
        let is_asked = state
            .waiting
            .get(&id)
            .is_some_and(|(asked, _)| asked == worker);
        if is_asked && let Some((_, waiting)) = state.waiting.remove(&id) {
            // Given up just now.
            let _ = waiting.send(answer);
        }
    }
}

/// A question that was asked. It is forgotten when this is dropped.
#[derive(Debug)]
pub(crate) struct Question<'a, A> {
    questions: &'a Questions<A>,
    /// Its number, never given twice.
    pub(crate) id: u64,
    /// Where the answer comes.
    pub(crate) answer: oneshot::Receiver<A>,
}

impl<A> Drop for Question<'_, A> {
    fn drop(&mut self) {
        self.questions.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> WorkerId {
        WorkerId::new(text).expect("a legal id")
    }

    #[test]
    fn an_answer_reaches_who_asked_and_only_from_who_was_asked() {
        let questions = Questions::default();
        let (one, other) = (id("w1"), id("w2"));
        let mut first = questions.ask(&one);
        let mut second = questions.ask(&one);
        assert_ne!(first.id, second.id);
        questions.answer(&other, first.id, 1);
        assert!(first.answer.try_recv().is_err());
        questions.answer(&one, second.id, 2);
        questions.answer(&one, first.id, 3);
        questions.answer(&one, first.id, 4);
        assert_eq!(
            (first.answer.try_recv(), second.answer.try_recv()),
            (Ok(3), Ok(2))
        );
    }

    #[test]
    fn a_question_that_is_given_up_is_forgotten() {
        let questions = Questions::<u8>::default();
        let given_up = questions.ask(&id("w")).id;
        assert!(questions.lock().waiting.is_empty());
        questions.answer(&id("w"), given_up, 1);
    }
}
