//! The change stream: what was committed between two positions, in order, in terms of rows.
//!
//! It is read by SQL (`pg_logical_slot_peek_binary_changes`), which costs the server a third of what a walsender does. Nothing is confirmed by
//! reading: the same window can be read again, with the same events at the same positions. Transactions are never collected: an event is passed
//! on as it arrives, and who stores events must be able to take one twice.

mod event;
mod reader;
mod translator;

pub use event::{ChangePosition, Event, RowChange, Transaction, Truncation};
pub use reader::{
    CHUNK, ChangeStream, FLUSH_DEADLINE, WindowRequest, chunks, peek_statement, wait_until_flushed,
};
pub use translator::Translator;
