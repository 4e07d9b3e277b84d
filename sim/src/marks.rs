//! Rare states, tied to the log line of production code that says that they were reached. A simulator that never reaches them tests
//! less than it seems to.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// The mark, and what the log line holds.
const MARKS: [(&str, &str); 9] = [
    (
        "zombie fenced",
        "the leader refused a report, dropping its task",
    ),
    (
        "zombie fenced",
        "the leader no longer knows this lease, dropping its task",
    ),
    ("lease taken away", "worker fell silent, its leases end"),
    ("lease given back", "giving the lease back"),
    ("snapshot installed", "snapshot installed"),
    ("took office", "taking office as the leader"),
    ("effect tried again", "effect failed, trying again"),
    ("orphans swept", " swept "),
    ("hold lost", "a hold was given up"),
];

thread_local! {
    static SEEN: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts what a log line says.
pub(crate) fn look_at(line: &str) {
    for (mark, text) in MARKS {
        // A sweep that found nothing is no mark.
        if line.contains(text) && !line.contains("objects=0") {
            SEEN.with_borrow_mut(|seen| *seen.entry(mark).or_default() += 1);
        }
    }
}

/// Each mark with how often it was reached, those that never were too.
pub(crate) fn seen() -> BTreeMap<&'static str, u64> {
    let mut all: BTreeMap<_, _> = MARKS.into_iter().map(|(mark, _)| (mark, 0)).collect();
    SEEN.with_borrow(|seen| all.extend(seen.iter().map(|(mark, count)| (*mark, *count))));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_counted_and_empty_sweeps_are_not() {
        look_at(" swept job=1 objects=0 bytes=0");
        look_at(" swept job=1 objects=3 bytes=30");
        look_at(" worker fell silent, its leases end worker=w");
        assert_eq!(seen()["orphans swept"], 1);
        assert_eq!(seen()["lease taken away"], 1);
        assert_eq!(seen()["hold lost"], 0);
    }
}
