//! Folds against a plain map, with so little memory that every few versions are a run.

use holdfast_env::{Disk, MemoryDisk};
use holdfast_types::{ErrorCode, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::changes::{RowChange, Truncation};
use crate::key::Key;
use crate::layout::Lsn;
use crate::tuple::{Field, Tuple};

const DIRECTORY: &str = "/fold";

type Rows = BTreeMap<(Oid, Key), Tuple>;

fn disk(disk: MemoryDisk) -> Arc<dyn Disk> {
    disk.create_dir_all(DIRECTORY).expect("an empty disk");
    Arc::new(disk)
}

fn key(number: u8) -> Key {
    Key::join(&[Some(&[number])]).expect("a key")
}

fn row(values: [Option<u32>; 3]) -> Tuple {
    let bytes = values.map(|value| value.map(u32::to_be_bytes));
    let field = |value: &Option<[u8; 4]>| value.is_some();
    let fields: Vec<_> = bytes
        .iter()
        .map(|value| match value {
            Some(bytes) if field(value) => Field::Value(bytes),
            _ => Field::Unchanged,
        })
        .collect();
    Tuple::build(fields.into_iter()).expect("short")
}

/// What a step tries to do; where that is not possible, nothing happens.
#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, values: [bool; 3] },
    Move { from: u8, to: u8, values: [bool; 3] },
    Delete { key: u8 },
    Truncate,
    Commit,
}

fn steps() -> impl Strategy<Value = Vec<(u8, Step)>> {
    let keys = || 0u8..6;
    let values = any::<[bool; 3]>;
    let step = prop_oneof![
        6 => (keys(), values()).prop_map(|(key, values)| Step::Put { key, values }),
        6 => (keys(), keys(), values())
            .prop_map(|(from, to, values)| Step::Move { from, to, values }),
        3 => keys().prop_map(|key| Step::Delete { key }),
        1 => Just(Step::Truncate),
        5 => Just(Step::Commit),
    ];
    vec((1u8..3, step), 0..60)
}

/// A history that can have happened: the rows before it, its events, and the rows after each commit.
struct Story {
    before: Rows,
    events: Vec<Event>,
    states: Vec<(Lsn, Rows)>,
}

fn tell(steps: Vec<(u8, Step)>) -> Story {
    let mut rows: Rows = (0..4u8)
        .flat_map(|number| [(1, number), (2, number)])
        .map(|(relation, number)| {
            let value = u32::from(number);
            ((Oid(relation), key(number)), row([Some(value); 3]))
        })
        .collect();
    let before = rows.clone();
    let (mut events, mut states) = (Vec::new(), Vec::new());
    let mut position = ChangePosition::start_of(Lsn(100));
    let mut stamp = 1000;
    for (relation, step) in steps {
        let relation = Oid(u32::from(relation));
        let mut fresh = |values: [bool; 3]| {
            stamp += 1;
            row(values.map(|is_known| is_known.then_some(stamp)))
        };
        let mut change = |old_key: Option<u8>, number: u8, new: Option<Tuple>| {
            events.push(Event::Row(RowChange {
                relation,
                position,
                key: key(number),
                old_key: old_key.map(key),
                new,
            }));
            position.ordinal += 1;
        };
        match step {
            Step::Put {
                key: number,
                values,
            } => {
                let place = (relation, key(number));
                let new = match rows.get(&place) {
                    Some(_) => fresh(values),
                    None => fresh([true; 3]),
                };
                let whole = match rows.get(&place) {
                    Some(old) => new.filled_from(old).expect("same columns"),
                    None => new.clone(),
                };
                rows.insert(place, whole);
                change(None, number, Some(new));
            }
            Step::Move { from, to, values } if from != to => {
                if rows.contains_key(&(relation, key(to))) {
                    continue;
                }
                let Some(old) = rows.remove(&(relation, key(from))) else {
                    continue;
                };
                let new = fresh(values);
                let whole = new.filled_from(&old).expect("same columns");
                rows.insert((relation, key(to)), whole);
                change(Some(from), to, Some(new));
            }
            Step::Delete { key: number } => {
                if rows.remove(&(relation, key(number))).is_some() {
                    change(None, number, None);
                }
            }
            Step::Truncate => {
                rows.retain(|(it, _), _| *it != relation);
                events.push(Event::Truncate(Truncation {
                    relations: vec![relation],
                    position,
                    xid: 7,
                    restart_identity: false,
                }));
                position.ordinal += 1;
            }
            Step::Move { .. } | Step::Commit => {
                events.push(Event::Commit(Transaction {
                    commit: position.commit,
                    time: Timestamp::from_micros(0),
                    xid: 7,
                }));
                states.push((Lsn(position.commit.0 + 1), rows.clone()));
                position = ChangePosition::start_of(position.commit.plus(10));
            }
        }
    }
    states.push((Lsn(position.commit.0 + 1), rows));
    Story {
        before,
        events,
        states,
    }
}

fn fold(keep: Keep, disk: &Arc<dyn Disk>, events: &[Event], memory: usize) -> Fold {
    let mut fold = Fold::new(keep, Arc::clone(disk), DIRECTORY, memory);
    for event in events {
        fold.push(event.clone()).expect("room");
    }
    fold
}

/// Puts a fold over older rows; unchanged values come from where the fold says.
fn over(older: &Rows, folded: &Folded) -> Rows {
    let mut touched = folded.touched().expect("readable");
    let mut rows: Rows = BTreeMap::new();
    for (place, row) in older {
        if !touched.contains(place.0, &place.1).expect("readable") {
            rows.insert(place.clone(), row.clone());
        }
    }
    let mut entries = folded.rows();
    while let Some(entry) = entries.next_entry().expect("readable") {
        let (relation, key) = (entry.version.relation, entry.version.key);
        if let Op::Put { row, origin } = entry.op {
            let row = if row.is_whole() {
                row
            } else {
                let source = (relation, origin.unwrap_or_else(|| key.clone()));
                row.filled_from(&older[&source]).expect("same columns")
            };
            rows.insert((relation, key), row);
        }
    }
    rows
}

/// What a re-read at the end of the story gives.
fn fixes(disk: &Arc<dyn Disk>, folded: &Folded, truth: &Rows, replaced: &BTreeSet<Oid>) -> Sorter {
    let mut fixes = Sorter::new(Keep::Last, Arc::clone(disk), DIRECTORY, 300);
    let mut unresolved = folded.rows();
    while let Some(mut entry) = unresolved
        .next_unresolved(replaced, None)
        .expect("readable")
    {
        let row = truth[&(entry.version.relation, entry.version.key.clone())].clone();
        entry.version.position.ordinal = u64::MAX;
        fixes
            .push(entry.version, Op::Put { row, origin: None })
            .expect("room");
    }
    fixes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_fold_with_its_fixes_over_the_rows_before_is_the_rows_after(steps in steps(), memory in 200usize..2000) {
        let story = tell(steps);
        let disk = disk(MemoryDisk::new());
        let (_, truth) = story.states.last().expect("an end");
        let folded = fold(Keep::Last, &disk, &story.events, memory).finish().expect("room");
        let fixes = fixes(&disk, &folded, truth, &BTreeSet::new());
        let folded = folded.overlay(fixes, &BTreeSet::new()).expect("room");
        prop_assert_eq!(&over(&story.before, &folded), truth);
        drop(folded);
        prop_assert_eq!(disk.list(DIRECTORY).expect("there"), Vec::<String>::new());
    }

    #[test]
    fn a_fold_that_goes_on_is_the_same_as_one(steps in steps(), at: proptest::sample::Index) {
        let story = tell(steps);
        let disk = disk(MemoryDisk::new());
        let commits = story.events.iter().enumerate().filter(|(_, it)| matches!(it, Event::Commit(_)));
        let commits: Vec<_> = commits.map(|(index, _)| index + 1).chain([0]).collect();
        let (first, rest) = story.events.split_at(commits[at.index(commits.len())]);
        let whole = fold(Keep::Last, &disk, &story.events, 300).finish().expect("room");
        let begun = fold(Keep::Last, &disk, first, 300).finish().expect("room");
        let mut resumed = Fold::resume(begun, DIRECTORY, 300).expect("room");
        for event in rest {
            resumed.push(event.clone()).expect("room");
        }
        let resumed = resumed.finish().expect("room");
        prop_assert_eq!(whole.truncated(), resumed.truncated());
        let (mut left, mut right) = (whole.rows(), resumed.rows());
        loop {
            let entry = left.next_entry().expect("readable");
            prop_assert_eq!(&entry, &right.next_entry().expect("readable"));
            if entry.is_none() {
                break;
            }
        }
    }

    #[test]
    fn history_gives_the_rows_after_every_commit(steps in steps(), memory in 200usize..2000) {
        let story = tell(steps);
        let disk = disk(MemoryDisk::new());
        let mut all = fold(Keep::All, &disk, &story.events, memory);
        // A window that is read again changes nothing.
        for event in &story.events {
            all.push(event.clone()).expect("room");
        }
        let history = all.finish_history().expect("room");
        for (end, truth) in &story.states {
            let resolved = history.as_of(*end, DIRECTORY, memory).expect("no contradiction");
            prop_assert_eq!(&over(&story.before, &resolved), truth);
        }
    }

    #[test]
    fn every_touched_key_is_found_and_no_other(keys in proptest::collection::btree_set(any::<u16>(), 0..300)) {
        let disk = disk(MemoryDisk::new());
        let mut fold = Fold::new(Keep::Last, Arc::clone(&disk), DIRECTORY, 4000);
        let wide = |number: u16| Key::join(&[Some(&number.to_be_bytes()), Some(&[0; 300])]).expect("a key");
        for number in &keys {
            fold.push(Event::Row(RowChange {
                relation: Oid(9),
                position: ChangePosition::start_of(Lsn(u64::from(*number))),
                key: wide(*number),
                old_key: None,
                new: None,
            })).expect("room");
        }
        let folded = fold.finish().expect("room");
        prop_assert_eq!(folded.entries(), keys.len() as u64);
        let mut touched = folded.touched().expect("readable");
        for number in (0..u16::MAX).step_by(997).chain(keys.iter().copied()) {
            let is_in = touched.contains(Oid(9), &wide(number)).expect("readable");
            prop_assert_eq!(is_in, keys.contains(&number));
            prop_assert!(!touched.contains(Oid(8), &wide(number)).expect("readable"));
        }
    }
}

#[test]
fn replaced_relations_leave_the_fold_and_the_rest_must_be_whole() {
    let put = |relation, number| {
        Event::Row(RowChange {
            relation: Oid(relation),
            position: ChangePosition::start_of(Lsn(5)),
            key: key(number),
            old_key: None,
            new: Some(row([Some(1), None, Some(2)])),
        })
    };
    let disk = disk(MemoryDisk::new());
    let events = [put(1, 1), put(2, 2)];
    let sorter = || Sorter::new(Keep::Last, Arc::clone(&disk), DIRECTORY, 300);
    let folded = fold(Keep::Last, &disk, &events, 300)
        .finish()
        .expect("room");
    let error = folded
        .overlay(sorter(), &BTreeSet::from([Oid(1)]))
        .expect_err("2 is not whole");
    assert_eq!(error.code, ErrorCode::Internal);
    let folded = fold(Keep::Last, &disk, &events, 300)
        .finish()
        .expect("room");
    let both = BTreeSet::from([Oid(1), Oid(2)]);
    assert_eq!(
        folded
            .overlay(sorter(), &both)
            .expect("none left")
            .entries(),
        0
    );
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let disk = disk(MemoryDisk::with_capacity(64 << 10));
    let mut fold = Fold::new(Keep::Last, Arc::clone(&disk), DIRECTORY, 8 << 10);
    let error = (0..10_000u64)
        .find_map(|number| {
            fold.push(Event::Row(RowChange {
                relation: Oid(1),
                position: ChangePosition::start_of(Lsn(number)),
                key: Key::join(&[Some(&number.to_be_bytes())]).expect("a key"),
                old_key: None,
                new: Some(row([Some(1); 3])),
            }))
            .err()
        })
        .expect("the disk is small");
    assert_eq!(error.code, ErrorCode::StorageFull);
    drop(fold);
    assert_eq!(disk.list(DIRECTORY).expect("there"), Vec::<String>::new());
}

#[test]
fn a_transaction_of_any_size_is_held_in_bounded_memory() {
    let disk = disk(MemoryDisk::new());
    let limit = 32 << 10;
    let mut sorter = Sorter::new(Keep::Last, Arc::clone(&disk), DIRECTORY, limit);
    for number in 0..20_000u64 {
        let version = Version {
            relation: Oid(1),
            key: Key::join(&[Some(&(number * 7919 % 20_000).to_be_bytes())]).expect("a key"),
            position: ChangePosition {
                commit: Lsn(1),
                ordinal: number,
            },
        };
        let op = Op::Put {
            row: row([Some(1); 3]),
            origin: None,
        };
        sorter.push(version, op).expect("room");
        assert!(sorter.pending_bytes() <= limit);
    }
    assert!(
        disk.list(DIRECTORY).expect("there").len() < 64,
        "runs are merged"
    );
    let run = sorter.finish(|_| Ok(true)).expect("room");
    assert_eq!(run.entries(), 20_000);
}

#[test]
fn what_was_done_behind_a_truncation_in_its_transaction_is_known() {
    let position = |ordinal| ChangePosition {
        commit: Lsn(9),
        ordinal,
    };
    let truncate = Event::Truncate(Truncation {
        relations: vec![Oid(1), Oid(2)],
        position: position(3),
        xid: 44,
        restart_identity: true,
    });
    let put = |relation, position| {
        Event::Row(RowChange {
            relation: Oid(relation),
            position,
            key: key(1),
            old_key: None,
            new: Some(row([Some(1); 3])),
        })
    };
    let disk = disk(MemoryDisk::new());
    let later = ChangePosition::start_of(Lsn(10));
    let events = [
        put(1, position(2)),
        truncate,
        put(2, position(4)),
        put(1, later),
    ];
    let folded = fold(Keep::Last, &disk, &events, 10_000)
        .finish()
        .expect("room");
    let truncated = |relation| {
        let it = folded.truncated()[&Oid(relation)];
        (it.xid, it.is_followed)
    };
    assert_eq!((truncated(1), truncated(2)), ((44, false), (44, true)));
}

#[test]
fn rows_longer_than_every_buffer_are_kept() {
    let disk = disk(MemoryDisk::new());
    let mut sorter = Sorter::new(Keep::Last, Arc::clone(&disk), DIRECTORY, 1 << 10);
    let long: Vec<u8> = (0..3_000_000u32).map(|byte| (byte % 251) as u8).collect();
    let rows: Vec<_> = [long.len(), 0, 1 << 20, (1 << 20) - 1, 5]
        .into_iter()
        .map(|length| Tuple::build([Field::Value(&long[..length])].into_iter()).expect("short"))
        .collect();
    for (number, row) in rows.iter().enumerate() {
        let version = Version {
            relation: Oid(1),
            key: key(u8::try_from(number).expect("few")),
            position: ChangePosition::start_of(Lsn(1)),
        };
        let op = Op::Put {
            row: row.clone(),
            origin: None,
        };
        sorter.push(version, op).expect("room");
    }
    let run = sorter.finish(|_| Ok(true)).expect("room");
    let mut read = FoldedRows::new(run);
    for row in rows {
        let entry = read.next_entry().expect("readable").expect("an entry");
        assert_eq!(entry.op, Op::Put { row, origin: None });
    }
    assert_eq!(read.next_entry().expect("readable"), None);
}
