//! How far a span is, and why it ended: what a source says of its progress, checked, and told to the leader.

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_proto::SpanWork;
use holdfast_source::{LoadProgress, Notes};
use holdfast_types::{ByteCount, ErrorCode, Fault, KeyRange, RowCount};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::misused;
use super::noting::tell;
use crate::task::backup_span::note;
use crate::task::frontier::{Frontier, Progress};
use crate::task::halt::Halt;
use crate::task::reporter::Reporter;
use crate::task::stage::StageHandle;
use crate::task::ticket::Ticket;

/// Why a span cannot go on, if it cannot. Clones share it.
///
/// # Invariants
/// * **An error is the end.** Whatever failed once fails from then on, so that a source that overlooks an error cannot have something
///   counted that lacks a piece.
/// * **A call that was given up is an error**: what it was writing is lost.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<Mutex<Option<Halt>>>);

impl Verdict {
    fn lock(&self) -> MutexGuard<'_, Option<Halt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call of the source: none may come after an error, while the caller's last one did not return, or behind a closed gate.
    pub(super) fn enter(&self, is_busy: bool, ticket: &Ticket) -> Result<(), Fault> {
        if let Some(halt) = &*self.lock() {
            return Err(told(halt));
        }
        let refusal = match is_busy {
            true => Err(misused("goes on after a call that it gave up")),
            false => ticket.shared.gate.check(),
        };
        refusal.map_err(|fault| self.halted(fault.into()))
    }

    /// Remembers why the span cannot go on; the error is for the source.
    pub(super) fn halted(&self, halt: Halt) -> Fault {
        told(self.lock().get_or_insert(halt))
    }
}

/// Checkpoints of one span.
///
/// # Invariants
/// * Those of [`Verdict`].
/// * **Checkpoints go forward, and stay within the span.** The ledger cannot tell, for it sees sealed bounds.
pub(super) struct Checkpoints {
    ticket: Ticket,
    /// What the span is about, for people.
    doing: String,
    reporter: StageHandle<Reporter>,
    /// Told with the next checkpoint.
    notes: Notes,
    frontier: Frontier,
    /// What is not done, in clear.
    rest: KeyRange,
    /// Whether a call of the source is under way.
    is_busy: bool,
    is_done: bool,
    verdict: Verdict,
}

impl Checkpoints {
    /// Of a span whose bounds, from the frontier on, are `rest` in clear.
    pub(super) fn of(
        ticket: &Ticket,
        span: &SpanWork,
        rest: KeyRange,
        doing: &str,
        notes: &Notes,
    ) -> Self {
        Self {
            ticket: ticket.clone(),
            doing: doing.to_owned(),
            reporter: ticket.reporter(),
            notes: notes.clone(),
            frontier: Frontier::of(span),
            rest,
            is_busy: false,
            is_done: false,
            verdict: Verdict::default(),
        }
    }

    /// Why the span cannot go on, for others that work on it.
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict.clone()
    }

    /// Begins a call of the source: none may come after an error, after the last checkpoint, or behind a closed gate.
    pub(super) fn enter(&mut self) -> Result<(), Fault> {
        self.verdict.enter(self.is_busy, &self.ticket)?;
        if self.is_done {
            let fault = misused("goes on with a span that it has ended");
            return Err(self.halted(fault.into()));
        }
        self.is_busy = true;
        Ok(())
    }

    /// Ends a call of the source.
    pub(super) fn leave<T>(&mut self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        self.is_busy = false;
        self.ticket.activity.doing(self.doing.as_str());
        outcome.map_err(|fault| self.halted(Halt::from(fault)))
    }

    /// Remembers why the span cannot go on; the error is for the source.
    pub(super) fn halted(&mut self, halt: Halt) -> Fault {
        self.verdict.halted(halt)
    }

    /// Tells the leader of everything up to `upto`, and waits until it counts. Inside a call.
    pub(super) async fn commit(
        &mut self,
        upto: Option<Bytes>,
        progress: Progress,
    ) -> Result<(), Fault> {
        let to = upto.as_ref().map(|bound| self.ticket.seal(bound));
        self.is_done = to.is_none();
        if let Some(bound) = upto {
            let is_beyond = !self.rest.end.is_empty() && bound > self.rest.end;
            if bound <= self.rest.start || is_beyond {
                return Err(misused("says that it is where the span is not"));
            }
            self.rest.start = bound;
        }
        if let Err(halt) = tell(&self.ticket, &self.notes).await {
            return Err(self.halted(halt));
        }
        let body = self.frontier.checkpoint(to, progress);
        match self.ticket.report(&self.reporter, body).await {
            Ok(()) => {
                self.ticket.activity.committed(0);
                Ok(())
            }
            Err(halt) => Err(self.halted(halt)),
        }
    }

    /// How the span ended: what the source said counts for nothing if the span had failed before.
    pub(super) fn conclude(self, outcome: Result<(), Halt>) -> Result<(), Halt> {
        let halt = self.verdict.lock().take();
        match (halt, outcome) {
            (Some(Halt::Failed(fault)), _) => Err(Halt::Failed(fault.context(self.doing))),
            (Some(halt), _) => Err(halt),
            (None, Err(halt)) => Err(halt),
            (None, Ok(())) if self.is_done => Ok(()),
            (None, Ok(())) => {
                let fault = misused("left a span before its end");
                Err(Halt::Failed(fault.context(self.doing)))
            }
        }
    }
}

/// A halt, as the source is told of it.
fn told(halt: &Halt) -> Fault {
    match halt {
        Halt::Failed(fault) => fault.clone(),
        Halt::Stopped | Halt::Dropped => {
            Fault::new(ErrorCode::Cancelled, "the task was told to stop")
        }
    }
}

#[async_trait]
impl LoadProgress for Checkpoints {
    async fn advance(
        &mut self,
        upto: Option<Bytes>,
        read: ByteCount,
        written: ByteCount,
        rows: RowCount,
    ) -> Result<(), Fault> {
        self.enter()?;
        note(&self.ticket, read.0, written);
        let progress = Progress {
            read,
            written,
            rows,
            ..Progress::default()
        };
        let outcome = self.commit(upto, progress).await;
        self.leave(outcome)
    }
}
