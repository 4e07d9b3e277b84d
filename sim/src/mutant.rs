//! The harness's own test: worlds that break a promise on which everything rests. A run in such a world must fail; if none does, it is the
//! simulator that needs work.

use clap::ValueEnum;
use holdfast_env::{BlockFile, Disk, MemoryDisk};
use holdfast_types::mutant::Promise;
use std::io;
use std::sync::Arc;

use crate::scenario::Scenario;

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mutant {
    /// Disks say that they have synced, and have not.
    LyingDisk,
    /// The object store acknowledges some objects and does not keep them.
    ForgetfulStore,
    /// The object store keeps some objects with one bit flipped.
    RottenStore,
    /// Two spans of a table hold one page both.
    OverlappingSpans,
    /// A hold is in place before what is in its log's past is seen.
    HoldDoesNotWait,
    /// Changes are folded in another order than that of their commits.
    FoldByArrival,
    /// Values that the log does not have are taken for empty.
    NoFixUp,
    /// Values that the log does not have are read at another moment than the end of the backup.
    FixUpReadsNow,
    /// That a table was emptied is not said in the layer.
    ForgottenTruncation,
    /// A restore prefers older rows to newer ones.
    BaseRowsWin,
    /// The log is given up before the layer that needs it is committed.
    ConfirmsEarly,
    /// Production code sweeps without asking the manifest.
    SweepsAnything,
    /// Production code forgets what is owed when the leader changes.
    ForgottenEffects,
    /// Production code overwrites objects.
    Overwrites,
    /// Production code hears workers whose leases have ended, and accepts what they report.
    AcceptsStale,
    /// Production code shows a job as paused while workers still work for it.
    PausesAtOnce,
    /// Production code says that a task has stopped while what it wrote is still on its way.
    StopsUndrained,
    /// Production code puts data of localities that have stores of their own into the default store.
    MisplacesData,
    /// Production code submits the runs of schedules under keys that are new each time.
    FiresTwice,
}

impl Mutant {
    /// Whether it shows only where there is a source whose history is a log.
    pub(crate) fn needs_log(self) -> bool {
        match self {
            Self::OverlappingSpans
            | Self::HoldDoesNotWait
            | Self::FoldByArrival
            | Self::NoFixUp
            | Self::FixUpReadsNow
            | Self::ForgottenTruncation
            | Self::BaseRowsWin
            | Self::ConfirmsEarly => true,
            Self::LyingDisk
            | Self::ForgetfulStore
            | Self::RottenStore
            | Self::SweepsAnything
            | Self::ForgottenEffects
            | Self::Overwrites
            | Self::AcceptsStale
            | Self::PausesAtOnce
            | Self::StopsUndrained
            | Self::MisplacesData
            | Self::FiresTwice => false,
        }
    }

    /// The script that shows it, where drawn worlds do so seldom: several fences stand before it, or few worlds have what it breaks.
    pub(crate) fn scenario(self) -> Option<Scenario> {
        match self {
            Self::AcceptsStale => Some(Scenario::Zombie),
            Self::MisplacesData => Some(Scenario::Localities),
            Self::FiresTwice => Some(Scenario::Schedules),
            _ => None,
        }
    }

    /// The promise of production code that it breaks, if it is one of those.
    pub(crate) fn promise(self) -> Option<Promise> {
        match self {
            Self::SweepsAnything => Some(Promise::NamedIsKept),
            Self::ForgottenEffects => Some(Promise::OwedIsDone),
            Self::Overwrites => Some(Promise::WrittenOnce),
            Self::AcceptsStale => Some(Promise::StaleIsRefused),
            Self::PausesAtOnce => Some(Promise::PausedIsQuiet),
            Self::StopsUndrained => Some(Promise::WritesAreDrained),
            Self::MisplacesData => Some(Promise::DataStaysAtHome),
            Self::FiresTwice => Some(Promise::RunsAreOnce),
            _ => None,
        }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// A disk whose syncs do nothing.
#[derive(Debug)]
pub(crate) struct LyingDisk(pub(crate) MemoryDisk);

#[derive(Debug)]
struct LyingFile(Arc<dyn BlockFile>);

impl BlockFile for LyingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, buffer)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(offset, bytes)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for LyingDisk {
    fn open(&self, path: &str) -> io::Result<Arc<dyn BlockFile>> {
        Ok(Arc::new(LyingFile(self.0.open(path)?)))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        self.0.create_dir_all(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.0.list(path)
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.0.read(path)
    }

    fn write_atomically(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.write_atomically(path, bytes)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(path)
    }

    fn available(&self, path: &str) -> io::Result<u64> {
        self.0.available(path)
    }
}
