//! Backups of a member, as a job makes them: spans in any order and twice, settling killed and repeated, layers put together again.

mod busy;
mod chains;
mod check;
mod crashes;
mod harm;
mod noted;
mod patterns;
mod rights;
mod standby;
#[path = "../support_store/mod.rs"]
mod store;
mod support;
mod traps;
mod trouble;
