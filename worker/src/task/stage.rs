//! A stage of a task as an actor: one at a time, cancelled with its task, and a panic in it is an error of its task.

use actix::{
    Actor, ActorFutureExt, Addr, AtomicResponse, Context, Handler, MailboxError, Message,
    WrapFuture,
};
use holdfast_types::{ErrorCode, Fault};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// What a stage does, without a word about actors.
pub(crate) trait Stage: Unpin + 'static {
    /// What it is given.
    type Input: Send + 'static;
    /// What it makes of it.
    type Output: Send + 'static;
    /// Its name, for errors.
    const NAME: &'static str;

    /// Does one piece of work. May be dropped at any await.
    async fn run(&mut self, input: Self::Input) -> Result<Self::Output, Fault>;
}

struct StageActor<S> {
    /// Away while it works.
    stage: Option<S>,
    over: CancellationToken,
    _alive: TaskTrackerToken,
}

impl<S: Stage> Actor for StageActor<S> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        // A stage is asked by one flow, which waits for each answer.
        context.set_mailbox_capacity(1);
    }
}

struct Ask<S: Stage>(S::Input);

impl<S: Stage> Message for Ask<S> {
    type Result = Result<S::Output, Fault>;
}

impl<S: Stage> Handler<Ask<S>> for StageActor<S> {
    type Result = AtomicResponse<Self, Result<S::Output, Fault>>;

    fn handle(&mut self, Ask(input): Ask<S>, _: &mut Self::Context) -> Self::Result {
        let stage = self.stage.take();
        let over = self.over.clone();
        let work = async move {
            let Some(mut stage) = stage else {
                return (None, Err(gone(S::NAME)));
            };
            let outcome = over.run_until_cancelled(stage.run(input)).await;
            match outcome {
                Some(outcome) => (Some(stage), outcome),
                None => (None, Err(gone(S::NAME))),
            }
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(
            |(stage, outcome), actor, _| {
                actor.stage = stage;
                outcome
            },
        )))
    }
}

/// A stage of one task. Dropping it stops the stage, whatever it is doing.
pub(crate) struct StageHandle<S: Stage> {
    address: Addr<StageActor<S>>,
    _over: DropGuard,
}

impl<S: Stage> StageHandle<S> {
    /// Starts a stage that `alive` counts as long as it exists.
    pub(crate) fn start(stage: S, alive: &TaskTracker) -> Self {
        let over = CancellationToken::new();
        let address = StageActor {
            stage: Some(stage),
            over: over.clone(),
            _alive: alive.token(),
        }
        .start();
        Self {
            address,
            _over: over.drop_guard(),
        }
    }

    /// Has the stage do one piece of work.
    ///
    /// # Errors
    /// The stage's own, or `Unavailable` if it panicked.
    pub(crate) async fn ask(&self, input: S::Input) -> Result<S::Output, Fault> {
        match self.address.send(Ask(input)).await {
            Ok(outcome) => outcome,
            Err(MailboxError::Closed | MailboxError::Timeout) => Err(gone(S::NAME)),
        }
    }
}

/// The error of a stage that panicked. Another try may go well, so it is one that passes.
pub(crate) fn gone(name: &str) -> Fault {
    Fault::new(
        ErrorCode::Unavailable,
        format!("the {name} of the task stopped unexpectedly"),
    )
    .hint("this is a defect of holdfast: the worker's log holds the panic")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::task::LocalSet;

    struct Steps(Rc<RefCell<Vec<u32>>>);

    impl Stage for Steps {
        type Input = u32;
        type Output = u32;
        const NAME: &'static str = "stepper";

        async fn run(&mut self, input: u32) -> Result<u32, Fault> {
            assert_ne!(input, 13, "as the test wishes");
            self.0.borrow_mut().push(input);
            tokio::time::sleep(Duration::from_millis(u64::from(input))).await;
            self.0.borrow_mut().push(input + 1000);
            Ok(input * 2)
        }
    }

    fn local(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn pieces_of_work_do_not_overlap() {
        local(async {
            let log = Rc::default();
            let stage = StageHandle::start(Steps(Rc::clone(&log)), &TaskTracker::new());
            let (slow, fast) = tokio::join!(stage.ask(5), stage.ask(1));
            assert_eq!((slow, fast), (Ok(10), Ok(2)));
            assert_eq!(*log.borrow(), [5, 1005, 1, 1001]);
        });
    }

    #[test]
    fn a_dropped_stage_stops_in_the_middle_and_is_gone() {
        local(async {
            let log = Rc::default();
            let alive = TaskTracker::new();
            let stage = StageHandle::start(Steps(Rc::clone(&log)), &alive);
            tokio::select! {
                _ = stage.ask(10_000) => panic!("too fast"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            drop(stage);
            alive.close();
            tokio::time::timeout(Duration::from_secs(5), alive.wait())
                .await
                .expect("the stage is gone");
            assert_eq!(*log.borrow(), [10_000]);
        });
    }

    #[test]
    fn a_panic_is_an_error_that_names_the_stage() {
        local(async {
            let alive = TaskTracker::new();
            let stage = StageHandle::start(Steps(Rc::default()), &alive);
            let fault = stage.ask(13).await.expect_err("a panic");
            assert!(fault.is_retryable());
            assert!(fault.message.contains("stepper"), "{fault}");
            assert!(stage.ask(1).await.is_err());
            drop(stage);
            alive.close();
            alive.wait().await;
        });
    }
}
