//! A disk in memory that forgets unsynced writes when it crashes.

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryDisk;
