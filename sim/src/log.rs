//! The production code's log lines as events of the trace, with the host that they come from.
//!
//! A subscriber of its own, because the usual ones cost more than the world that they describe: it follows one span, which the network
//! simulation opens around a host's turn, and nothing else.

use std::cell::RefCell;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::trace;

/// The span that is opened around a host's turn.
const TURN: (&str, &str) = ("turmoil::sim", "node");

thread_local! {
    static HOST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Turns log lines into trace events.
#[derive(Debug)]
pub(crate) struct TraceLog {
    /// The finest level that is recorded from our own crates.
    level: Level,
}

impl TraceLog {
    /// With details or without.
    pub(crate) fn new(detailed: bool) -> Self {
        Self {
            level: if detailed { Level::DEBUG } else { Level::INFO },
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.is_span() {
            return (metadata.target(), metadata.name()) == TURN;
        }
        let ours = metadata.target().starts_with("holdfast");
        *metadata.level() <= if ours { self.level } else { Level::WARN }
    }
}

impl Subscriber for TraceLog {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        HOST.with_borrow_mut(|host| {
            host.clear();
            attributes.record(&mut HostName(host));
        });
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = String::new();
        event.record(&mut Fields(&mut line));
        crate::marks::look_at(&line);
        let metadata = event.metadata();
        HOST.with_borrow(|host| {
            trace::event(
                if host.is_empty() { "driver" } else { host },
                format_args!("{} {}:{line}", metadata.level(), metadata.target()),
            );
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {
        HOST.with_borrow_mut(String::clear);
    }
}

struct HostName<'a>(&'a mut String);

impl Visit for HostName<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            self.0.push_str(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            write!(self.0, " {value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}
