//! End-to-end tests: real processes of the `holdfast` binary on loopback, really killed.
//!
//! The library is the scaffolding; the tests are in `tests/tests/`, one file a situation.

mod binary;
mod cluster;
mod data;
mod process;
mod servers;
mod small_disk;

pub use binary::holdfast_binary;
pub use cluster::{Cluster, Shape, eventually};
pub use data::{Accounts, Writers, create_database, databases};
pub use process::{Output, Process, free_ports, run, run_with};
pub use servers::{
    Pgbench, Truth, adds_up, content, left_behind, make_bank, record, register_servers,
};
pub use small_disk::SmallDisk;
