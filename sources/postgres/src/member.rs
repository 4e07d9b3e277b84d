//! A PostgreSQL server as a member of a source: backups of its databases, one after another.

pub mod catalog;
pub mod rows;
