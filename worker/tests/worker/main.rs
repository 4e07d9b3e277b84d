//! A worker over real sockets, against a leader that says what each test wants, a source in memory and a collection in memory.

mod agent;
mod backup;
mod faults;
mod layers;
mod logged;
mod members;
mod support;
