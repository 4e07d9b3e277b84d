//! SQL over the PostgreSQL wire protocol, in the spelling of CockroachDB's BACKUP and RESTORE.
//!
//! Four layers, each of which knows only the ones before it: `syntax` (text to statements and back, pure), `query` (SELECT over rows, pure), `exec`
//! (statements to calls of [`ControlApi`](holdfast_client::ControlApi), and rows from its answers) and `server` (sessions on sockets).

mod console;
mod error;
mod exec;
mod query;
mod rows;
mod server;
mod syntax;
mod times;

pub use console::{SqlConsole, SqlEvent};
pub use server::{Access, CertificateFiles, SqlOptions, SqlServer};
