//! The state machine that raft replicates, and how it is shared between raft, readers and snapshots.

use bytes::Bytes;
use holdfast_ledger::LogPosition;
use holdfast_types::{Digest, Fault};
use std::fmt::{self, Debug};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use crate::snapshot::SnapshotHeader;
use crate::type_config::{Entry, position_of};
use openraft::EntryPayload;

/// What raft replicates: a pure state machine. The same commands in the same order give the same state, outcomes and digest
/// on every node. Clones are cheap: a snapshot is encoded from one while commands go on being applied.
pub trait StateMachine: Clone + Send + Sync + 'static {
    /// A change.
    type Command: Send + 'static;
    /// What became of a change.
    type Outcome: Send + 'static;

    /// The state before the first command.
    fn empty() -> Self;

    /// Applies one command. Refusals are outcomes; it cannot fail. Entry 0 founds the cluster and holds no command.
    fn apply(&mut self, position: LogPosition, command: &Self::Command) -> Self::Outcome;

    /// Moves on over an entry that holds no command.
    fn advance(&mut self, position: LogPosition);

    /// A command as versioned bytes.
    fn encode_command(command: &Self::Command) -> Vec<u8>;

    /// Reads a command back.
    ///
    /// # Errors
    /// The bytes are not a command of a version that is known.
    fn decode_command(bytes: &[u8]) -> Result<Self::Command, Fault>;

    /// An outcome as bytes, for the node that forwarded the command.
    fn encode_outcome(outcome: &Self::Outcome) -> Vec<u8>;

    /// Reads an outcome back.
    ///
    /// # Errors
    /// The bytes are not an outcome.
    fn decode_outcome(bytes: &[u8]) -> Result<Self::Outcome, Fault>;

    /// Appends the whole state as versioned bytes.
    ///
    /// # Errors
    /// The state cannot be encoded.
    fn write_snapshot(&self, output: &mut Vec<u8>) -> io::Result<()>;

    /// Reads a whole state back.
    ///
    /// # Errors
    /// The bytes are damaged or of an unknown version.
    fn read_snapshot(bytes: &[u8]) -> Result<Self, Fault>;

    /// A digest that is equal on two nodes that applied the same commands, and cheap: it is asked for often.
    fn digest(&self) -> Digest;
}

/// Sees every command right after it was applied: where it stands in the log, what became of it, and the state that it led to. It is called
/// under the lock of the state, so it must be quick and must not read it by another way.
pub type Observer<S> = Arc<
    dyn Fn(LogPosition, &<S as StateMachine>::Command, &<S as StateMachine>::Outcome, &S)
        + Send
        + Sync,
>;

/// A state with the position up to which it was applied and the members as of there: they only change together.
#[derive(Debug)]
pub(crate) struct Applied<S> {
    pub(crate) header: SnapshotHeader,
    pub(crate) machine: S,
}

impl<S> Applied<S> {
    pub(crate) fn position(&self) -> LogPosition {
        self.header
            .last
            .as_ref()
            .map(position_of)
            .unwrap_or_default()
    }
}

/// The one copy of the state in a process. Raft writes it, everybody else reads.
pub(crate) struct SharedMachine<S: StateMachine> {
    applied: RwLock<Applied<S>>,
    observer: Option<Observer<S>>,
}

impl<S: StateMachine> Debug for SharedMachine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMachine").finish_non_exhaustive()
    }
}

impl<S: StateMachine> SharedMachine<S> {
    pub(crate) fn new(observer: Option<Observer<S>>) -> Self {
        Self {
            applied: RwLock::new(Applied {
                header: SnapshotHeader::default(),
                machine: S::empty(),
            }),
            observer,
        }
    }

    /// Reads under the lock. If applying panicked, raft has stopped for good, and this shows the state as it was left.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Applied<S>) -> T) -> T {
        read(&self.applied.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Encodes a state that no longer changes.
pub(crate) type Encoder = Arc<dyn Fn(&mut Vec<u8>) -> io::Result<()> + Send + Sync>;

/// What the storage side needs of the state machine, without its types.
pub(crate) trait Machine: Debug + Send + Sync {
    /// Applies one entry; gives the encoded outcome if it holds a command.
    fn apply(&self, entry: Entry) -> Result<Bytes, Fault>;
    /// Whether the bytes are a command.
    fn check(&self, command: &[u8]) -> Result<(), Fault>;
    /// Where the state is applied to, and how to encode this very state later.
    fn snapshot(&self) -> (SnapshotHeader, Encoder);
    /// Repositions the state.
    fn install(&self, header: SnapshotHeader, state: &[u8]) -> Result<(), Fault>;
    /// Where the state is applied to.
    fn header(&self) -> SnapshotHeader;
    /// Whether a node was a member once and is not any more.
    fn is_retired(&self, node: u64) -> bool;
    /// Where the state is applied to, with its digest.
    fn digest(&self) -> (LogPosition, Digest);
}

impl<S: StateMachine> Machine for SharedMachine<S> {
    fn apply(&self, entry: Entry) -> Result<Bytes, Fault> {
        let command = match &entry.payload {
            EntryPayload::Normal(command) => Some(S::decode_command(&command.0)?),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        let position = position_of(&entry.log_id);
        let mut applied = self.applied.write().unwrap_or_else(PoisonError::into_inner);
        applied.header.last = Some(entry.log_id);
        if let EntryPayload::Membership(membership) = entry.payload {
            applied.header.change_members(entry.log_id, membership);
        }
        let Some(command) = command else {
            applied.machine.advance(position);
            return Ok(Bytes::new());
        };
        let outcome = applied.machine.apply(position, &command);
        if let Some(observer) = &self.observer {
            observer(position, &command, &outcome, &applied.machine);
        }
        drop(applied);
        Ok(S::encode_outcome(&outcome).into())
    }

    fn check(&self, command: &[u8]) -> Result<(), Fault> {
        S::decode_command(command).map(drop)
    }

    fn snapshot(&self) -> (SnapshotHeader, Encoder) {
        let (header, machine) =
            self.read(|applied| (applied.header.clone(), applied.machine.clone()));
        (
            header,
            Arc::new(move |output| machine.write_snapshot(output)),
        )
    }

    fn install(&self, header: SnapshotHeader, state: &[u8]) -> Result<(), Fault> {
        let machine = S::read_snapshot(state)?;
        *self.applied.write().unwrap_or_else(PoisonError::into_inner) = Applied { header, machine };
        Ok(())
    }

    fn header(&self) -> SnapshotHeader {
        self.read(|applied| applied.header.clone())
    }

    fn is_retired(&self, node: u64) -> bool {
        self.read(|applied| applied.header.retired.contains(&node))
    }

    fn digest(&self) -> (LogPosition, Digest) {
        self.read(|applied| (applied.position(), applied.machine.digest()))
    }
}
