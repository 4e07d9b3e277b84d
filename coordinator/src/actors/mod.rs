//! The leader and what works for it while it is in office. Each is an actix actor under supervision; what it knows is
//! volatile, so a panic costs no more than being asked again.
//!
//! | actor | does |
//! |---|---|
//! | leader | takes and leaves office, and hands out what the ledger owes |
//! | dispatcher | leases ready tasks to workers |
//! | committer | batches workers' reports into raft entries and acknowledges them |
//! | lease keeper | ends the leases of workers that fell silent |
//! | hold watch | has holds on members whose history is a log looked after |
//! | schedule clock | submits the backups that are due |
//! | starter, finisher, hold releaser, sweeper, expirer | perform one kind of effect each ([`effect_runner`]) |

pub(crate) mod committer;
pub(crate) mod dispatcher;
pub(crate) mod effect_runner;
pub(crate) mod expirer;
pub(crate) mod finisher;
pub(crate) mod hold_keeper;
pub(crate) mod hold_watch;
pub(crate) mod leader;
pub(crate) mod lease_keeper;
pub(crate) mod schedule_clock;
pub(crate) mod starter;
pub(crate) mod sweeper;
