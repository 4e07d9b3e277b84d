//! The one writer of a member: everything that changes the store goes through it, one transaction at a time.
//!
//! # Invariants
//! * Positions are given out here and nowhere else, under the writer's lock: when the lock is free, every transaction with a position up to
//!   [`Shared::stable`] is durable and visible, and none will ever be added. A read at such a position is therefore repeatable.
//! * What is cached in memory is replaced after the commit, never before.
//!
//! # Crash consistency
//! Each transaction carries a sequence number. When a commit fails, the file is opened again and the number tells whether it became
//! durable nevertheless: the caller learns what happened, not that something did.

use holdfast_env::Clock;
use holdfast_types::{ErrorCode, Fault, Hlc, RelationId, Timestamp};
use redb::{ReadableTable, WriteTransaction};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::clock::HybridClock;
use crate::counters::Counters;
use crate::directory::Directory;
use crate::engine::{Engine, corrupted};
use crate::layout::{self, META, META_CLOCK_BOUND, META_SEQUENCE, RUNS, Run};

/// Why a step of a transaction stopped.
pub(crate) enum StepError {
    /// The request cannot be done.
    Fault(Fault),
    /// The database failed.
    Engine(redb::Error),
}

/// The result of a step of a transaction.
pub(crate) type Step<T> = Result<T, StepError>;

impl From<Fault> for StepError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

macro_rules! engine_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for StepError {
            fn from(error: $error) -> Self {
                Self::Engine(error.into())
            }
        })*
    };
}

engine_errors!(redb::TableError, redb::StorageError, redb::TransactionError);

impl StepError {
    /// The error as callers see it.
    pub(crate) fn into_fault(self, engine: &Engine) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Engine(error) => engine.fault(error),
        }
    }
}

/// What readers and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    directory: RwLock<Arc<Directory>>,
    stable: Mutex<Hlc>,
    pub(crate) counters: Counters,
}

impl Shared {
    /// Catalogue, holds, threshold and settings as of the last commit.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(
            &self
                .directory
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Every transaction up to here is durable and visible, and none will be added.
    pub(crate) fn stable(&self) -> Hlc {
        *self.lock_stable()
    }

    fn lock_stable(&self) -> MutexGuard<'_, Hlc> {
        self.stable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a transaction changes in memory once it is durable.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) directory: Option<Directory>,
    /// The newest run of a relation; `None` if it has none any more.
    pub(crate) runs: BTreeMap<RelationId, Option<Run>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) engine: Arc<Engine>,
    pub(crate) shared: Arc<Shared>,
    wall: Arc<dyn Clock>,
    clock: HybridClock,
    sequence: u64,
    /// The newest runs of relations that were written since the start.
    runs: BTreeMap<RelationId, Run>,
}

impl Writer {
    /// Opens what is stored, and makes an empty store if there is nothing.
    pub(crate) fn open(engine: Arc<Engine>, wall: Arc<dyn Clock>) -> Result<Self, Fault> {
        let transaction = engine.write()?;
        let loaded = Directory::load(&transaction)
            .and_then(|directory| Ok((directory, load_clock(&transaction)?)));
        let (directory, (bound, sequence)) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                drop(transaction);
                return Err(error.into_fault(&engine));
            }
        };
        let clock = HybridClock::recover(bound);
        let mut writer = Self {
            shared: Arc::new(Shared {
                directory: RwLock::new(Arc::new(directory)),
                stable: Mutex::new(Hlc::ZERO),
                counters: Counters::default(),
            }),
            engine,
            wall,
            clock,
            sequence,
            runs: BTreeMap::new(),
        };
        writer.commit(transaction, Outcome::default())?;
        Ok(writer)
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.wall.now()
    }

    /// The last position given out.
    pub(crate) fn last(&self) -> Hlc {
        self.clock.last()
    }

    /// A position for something that is about to be committed. It may be shown only after [`Writer::run`].
    pub(crate) fn tick(&mut self) -> Hlc {
        self.clock.tick(self.wall.now(), Hlc::ZERO)
    }

    /// The present position, moving the clock to at least `at_least`. Everything committed later lies after it.
    pub(crate) fn position(&mut self, at_least: Hlc) -> Result<Hlc, Fault> {
        let wall = self.wall.now();
        self.clock.check_offset(wall, at_least)?;
        let position = self.clock.tick(wall, at_least);
        if self.clock.owed_bound().is_some() {
            self.run(|_, _| Ok(((), Outcome::default())))?;
        }
        *self.shared.lock_stable() = position;
        Ok(position)
    }

    /// Runs one transaction: durable when this returns `Ok`, and without any effect otherwise (unless the fault says that the outcome is
    /// unknown).
    pub(crate) fn run<T>(
        &mut self,
        work: impl FnOnce(&Self, &WriteTransaction) -> Step<(T, Outcome)>,
    ) -> Result<T, Fault> {
        let transaction = self.engine.write()?;
        match work(self, &transaction) {
            Ok((value, outcome)) => {
                self.commit(transaction, outcome)?;
                Ok(value)
            }
            Err(error) => {
                drop(transaction);
                Err(self.abandon(error))
            }
        }
    }

    /// Changes the directory in one transaction; nothing is written if the change is refused.
    pub(crate) fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Directory) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let old = self.shared.directory();
        let mut new = Directory::clone(&old);
        let value = change(&mut new)?;
        self.run(|_, transaction| {
            new.save(&old, transaction)?;
            let outcome = Outcome {
                directory: Some(new),
                ..Outcome::default()
            };
            Ok((value, outcome))
        })
    }

    /// The newest run of a relation.
    pub(crate) fn newest_run(
        &self,
        relation: RelationId,
        runs: &impl ReadableTable<layout::Raw, layout::Raw>,
    ) -> Step<Option<Run>> {
        if let Some(run) = self.runs.get(&relation) {
            return Ok(Some(*run));
        }
        let (start, end) = (
            layout::run_key(relation, Hlc::ZERO),
            layout::relation_end(relation),
        );
        let mut range = runs.range::<&[u8]>(start.as_slice()..end.as_slice())?;
        match range.next_back() {
            None => Ok(None),
            Some(entry) => {
                let (key, value) = entry?;
                let run = Run::decode(key.value(), value.value())
                    .ok_or_else(|| corrupted("run of the change index"))?;
                Ok(Some(run))
            }
        }
    }

    fn commit(&mut self, transaction: WriteTransaction, outcome: Outcome) -> Result<(), Fault> {
        let sequence = self.sequence + 1;
        let bound = self.clock.owed_bound();
        if let Err(error) = save_clock(&transaction, sequence, bound) {
            drop(transaction);
            return Err(self.abandon(error));
        }
        if let Err(error) = transaction.commit() {
            self.settle(sequence, redb::Error::from(error))?;
        }
        self.sequence = sequence;
        if let Some(bound) = bound {
            self.clock.bound_is_durable(bound);
        }
        for (relation, run) in outcome.runs {
            match run {
                Some(run) => self.runs.insert(relation, run),
                None => self.runs.remove(&relation),
            };
        }
        if let Some(directory) = outcome.directory {
            let mut slot = self
                .shared
                .directory
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *slot = Arc::new(directory);
        }
        *self.shared.lock_stable() = self.clock.last();
        Ok(())
    }

    /// Comes back from an error within a transaction that has been dropped.
    fn abandon(&self, error: StepError) -> Fault {
        if let StepError::Engine(_) = error {
            // If that fails as well, the next use tries again.
            let _ = self.engine.reopen();
        }
        error.into_fault(&self.engine)
    }

    /// Finds out whether a commit that failed is durable.
    fn settle(&self, sequence: u64, error: redb::Error) -> Result<(), Fault> {
        let fault = self.engine.fault(error);
        let found = self
            .engine
            .reopen()
            .and_then(|()| self.engine.read())
            .and_then(|transaction| {
                let table = transaction
                    .open_table(META)
                    .map_err(|error| self.engine.fault(error))?;
                let value = table
                    .get(META_SEQUENCE)
                    .map_err(|error| self.engine.fault(error))?;
                Ok(value.and_then(|value| layout::decode_u64(value.value())))
            });
        match found {
            Ok(found) if found >= Some(sequence) => Ok(()),
            Ok(_) => Err(fault),
            Err(_) => Err(Fault {
                code: ErrorCode::Unknown,
                ..fault
            }),
        }
    }
}

fn load_clock(transaction: &WriteTransaction) -> Step<(Timestamp, u64)> {
    let meta = transaction.open_table(META)?;
    let number = |name| -> Step<u64> {
        match meta.get(name)? {
            None => Ok(0),
            Some(value) => layout::decode_u64(value.value())
                .ok_or_else(|| corrupted("clock or sequence number").into()),
        }
    };
    Ok((
        Timestamp::from_micros(number(META_CLOCK_BOUND)?),
        number(META_SEQUENCE)?,
    ))
}

fn save_clock(transaction: &WriteTransaction, sequence: u64, bound: Option<Timestamp>) -> Step<()> {
    let mut meta = transaction.open_table(META)?;
    meta.insert(META_SEQUENCE, sequence.to_be_bytes().as_slice())?;
    if let Some(bound) = bound {
        meta.insert(META_CLOCK_BOUND, bound.as_micros().to_be_bytes().as_slice())?;
    }
    Ok(())
}

/// Stores a run's record.
pub(crate) fn save_run(
    runs: &mut redb::Table<'_, layout::Raw, layout::Raw>,
    relation: RelationId,
    run: &Run,
) -> Step<()> {
    let key = layout::run_key(relation, run.first);
    runs.insert(key.as_slice(), run.encode().as_slice())?;
    Ok(())
}

/// Opens the table of runs for writing.
pub(crate) fn open_runs(
    transaction: &WriteTransaction,
) -> Step<redb::Table<'_, layout::Raw, layout::Raw>> {
    Ok(transaction.open_table(RUNS)?)
}
