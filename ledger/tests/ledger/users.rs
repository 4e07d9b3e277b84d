//! Users of the SQL port.

use holdfast_ledger::{Action, Command, Ledger, LogPosition};
use holdfast_types::{ErrorCode, Sealed, Timestamp, UserName};

use crate::specs;
use crate::world::World;

fn name(text: &str) -> UserName {
    text.parse().expect("a name")
}

fn put(user: &str, secret: u8, alter: bool) -> Action {
    Action::PutUser {
        user: specs::user(user, secret),
        alter,
    }
}

/// Any change, for the fuzz.
pub(crate) fn any(a: u16, b: u16) -> Action {
    let name = ["ann", "bob"][usize::from(b / 2 % 2)];
    match a % 3 {
        2 => Action::DropUser {
            user: name.parse().expect("a name"),
        },
        made => Action::PutUser {
            user: specs::user(name, if b % 8 < 4 { 1 } else { 2 }),
            alter: made == 1,
        },
    }
}

#[test]
fn a_user_is_made_once_and_gets_other_passwords() {
    let mut world = World::new();
    let fault = world.refused(put("ann", 1, true));
    assert_eq!(fault.code, ErrorCode::NotFound);
    world.done(put("ann", 1, false));
    let fault = world.refused(put("ann", 2, false));
    assert_eq!(fault.code, ErrorCode::AlreadyExists);
    assert_eq!(
        world.ledger.user(&name("ann")),
        Some(&specs::user("ann", 1))
    );
    world.done(put("ann", 3, true));
    let found = world.ledger.user(&name("ann")).expect("there");
    assert_eq!(found.created_at, Timestamp::from_millis(1));
    assert_eq!(found.changed_at, Timestamp::from_millis(3));
    assert_eq!(found.sealed, Sealed::from_sealed(vec![3; 20]));
    // Names differ by case.
    assert_eq!(world.ledger.user(&name("Ann")), None);
    let drop = || Action::DropUser { user: name("ann") };
    world.done(drop());
    assert_eq!(world.ledger.users().count(), 0);
    let fault = world.refused(drop());
    assert_eq!(fault.code, ErrorCode::NotFound);
}

#[test]
fn verifiers_and_users_have_bounds() {
    let mut world = World::new();
    let mut user = specs::user("ann", 1);
    user.sealed = Sealed::from_sealed(vec![0; 4096]);
    let fault = world.refused(Action::PutUser { user, alter: false });
    assert_eq!(fault.code, ErrorCode::InvalidArgument);
    for number in 0..10_000 {
        let index = world.ledger.applied().index + 1;
        let command = Command {
            at: Timestamp::from_millis(1),
            action: put(&format!("u{number}"), 1, false),
        };
        world.ledger.apply(LogPosition { term: 1, index }, &command);
    }
    let fault = world.refused(put("ann", 1, false));
    assert_eq!(fault.code, ErrorCode::ResourceExhausted);
    world.done(put("u7", 2, true));
}

#[test]
fn users_are_in_snapshots() {
    let mut world = World::new();
    world.done(put("ann", 1, false));
    world.done(put("bob", 2, false));
    let mut bytes = Vec::new();
    world.ledger.write_snapshot(&mut bytes).expect("written");
    let read = Ledger::read_snapshot(bytes.as_slice()).expect("read");
    assert_eq!(read.digest(), world.ledger.digest());
    assert_eq!(read.user(&name("bob")), Some(&specs::user("bob", 2)));
}
