//! What happened, in order: one line an event, stamped with simulated time and a number.
//!
//! Lines are folded into a hash as they come, so two runs can be compared by one number; with echo they also go to stdout, so that
//! `meta` can compare them line by line; and the last ones are kept, to show what led to a failure.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{BufWriter, Stdout, Write};
use std::time::Duration;

use crate::libc_override;

/// How many of the last events a failure shows.
const KEPT: usize = 200;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

struct Trace {
    echo: Option<BufWriter<Stdout>>,
    hash: u64,
    events: u64,
    last: VecDeque<String>,
}

thread_local! {
    static STANDING: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static TRACE: RefCell<Trace> = const {
        RefCell::new(Trace {
            echo: None,
            hash: FNV_OFFSET,
            events: 0,
            last: VecDeque::new(),
        })
    };
}

/// Simulated time: a host's own inside of one, the driver's otherwise.
pub(crate) fn now() -> Duration {
    if turmoil::in_simulation() {
        turmoil::sim_elapsed().unwrap_or_else(libc_override::elapsed)
    } else {
        libc_override::elapsed()
    }
}

/// From now on every line of this thread also goes to stdout.
pub(crate) fn echo() {
    TRACE.with_borrow_mut(|trace| trace.echo = Some(BufWriter::new(std::io::stdout())));
}

/// Whether lines go to stdout, which is when details are worth making.
pub(crate) fn is_echoed() -> bool {
    TRACE.with_borrow(|trace| trace.echo.is_some())
}

/// Records an event.
pub(crate) fn event(host: &str, what: fmt::Arguments<'_>) {
    let now = now();
    // A panic hook may come here while a line is being recorded: it must not panic again.
    TRACE.with(|trace| {
        if let Ok(mut trace) = trace.try_borrow_mut() {
            trace.record(now, host, what);
        }
    });
}

/// Number of events so far, and the hash over them.
pub(crate) fn summary() -> (u64, u64) {
    TRACE.with_borrow(|trace| (trace.events, trace.hash))
}

/// The last events, oldest first.
pub(crate) fn last() -> Vec<String> {
    TRACE.with(|trace| {
        trace
            .try_borrow()
            .map(|trace| trace.last.iter().cloned().collect())
            .unwrap_or_default()
    })
}

/// Keeps lines that say how everything stands, for the report of a failure.
pub(crate) fn show(lines: Vec<String>) {
    STANDING.with_borrow_mut(|standing| *standing = lines);
}

/// How everything stood.
pub(crate) fn standing() -> Vec<String> {
    STANDING.with(|standing| {
        standing
            .try_borrow()
            .map(|lines| lines.clone())
            .unwrap_or_default()
    })
}

/// Writes out what is buffered.
pub(crate) fn flush() {
    TRACE.with(|trace| {
        if let Ok(mut trace) = trace.try_borrow_mut()
            && let Some(echo) = &mut trace.echo
        {
            // Whoever reads us is gone: there is nobody to tell.
            let _ = echo.flush();
        }
    });
}

/// FNV-1a of some bytes, going on from `hash`.
fn fold(mut hash: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    }
    hash
}

/// A short name for some bytes.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    fold(FNV_OFFSET, bytes)
}

impl Trace {
    fn record(&mut self, now: Duration, host: &str, what: fmt::Arguments<'_>) {
        self.events += 1;
        let line = format!(
            "{:>11.6} {:>7} {host:<8} {what}",
            now.as_secs_f64(),
            self.events
        );
        self.hash = fold(self.hash, line.as_bytes());
        if let Some(echo) = &mut self.echo {
            let _ = writeln!(echo, "{line}");
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_order() {
        let run = |events: &[&str]| {
            let events: Vec<String> = events.iter().map(|text| (*text).to_owned()).collect();
            std::thread::spawn(move || {
                for text in events {
                    event("host", format_args!("{text}"));
                }
                summary()
            })
            .join()
            .expect("no panic")
        };
        assert_eq!(run(&["a", "b"]), run(&["a", "b"]));
        assert_ne!(run(&["a", "b"]), run(&["b", "a"]));
    }

    #[test]
    fn only_the_last_events_are_kept() {
        for number in 0..KEPT + 5 {
            event("host", format_args!("event {number}"));
        }
        let last = last();
        assert_eq!(last.len(), KEPT);
        assert!(last[0].ends_with("event 5"));
    }
}
