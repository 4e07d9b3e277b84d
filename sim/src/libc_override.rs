//! Time and entropy below everything: two libc symbols, answered by the simulator on the thread that has asked for it.
//!
//! The linker prefers these definitions for std and for every crate of this binary: hash seeds, tokio's random branch choice, openraft's
//! election timeouts, HTTP/2 clocks. On a thread without a seed they ask the kernel, so nothing but the simulated world notices. Only this
//! binary contains them; no product binary can link them.
#![expect(
    unsafe_code,
    reason = "replacing libc symbols and calling the kernel is unsafe by nature"
)]

use std::cell::Cell;
use std::time::Duration;

/// Wall time at the start of a run, unless it says otherwise: 2026-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    static START: Cell<Duration> = const { Cell::new(EPOCH) };
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// From now on this thread's clocks and entropy are simulated.
pub(crate) fn enter(seed: u64) {
    SEED.set(Some(seed));
}

/// A run starts this much later by the wall clock.
pub(crate) fn set_start(after_epoch: Duration) {
    START.set(EPOCH + after_epoch);
}

/// Right wall time, as the time since 1970, after so much of the run.
pub(crate) fn wall(elapsed: Duration) -> Duration {
    START.get() + elapsed
}

/// Sets this thread's simulated time.
pub(crate) fn set_elapsed(elapsed: Duration) {
    ELAPSED.set(elapsed);
}

/// This thread's simulated time as last set.
pub(crate) fn elapsed() -> Duration {
    ELAPSED.get()
}

/// The next number of SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// # Safety
/// As getrandom(2): `buffer` points to `length` writable bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    let Some(mut state) = SEED.get() else {
        // SAFETY: the arguments are those of the caller, for the same call.
        let answer = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return answer as libc::ssize_t;
    };
    // SAFETY: the caller gives `length` writable bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        let word = next(&mut state).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    SEED.set(Some(state));
    length as libc::ssize_t
}

/// # Safety
/// As clock_gettime(2): `time` points to a writable `timespec`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    if SEED.get().is_none() {
        // SAFETY: the arguments are those of the caller, for the same call.
        let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return answer as libc::c_int;
    }
    let now = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => wall(ELAPSED.get()),
        // Monotonic clocks start at one second: some libraries subtract from what they read.
        _ => Duration::from_secs(1) + ELAPSED.get(),
    };
    // SAFETY: the caller gives a writable `timespec`.
    unsafe {
        (*time).tv_sec = now.as_secs() as libc::time_t;
        (*time).tv_nsec = libc::c_long::from(now.subsec_nanos() as i32);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, RandomState};
    use std::time::{Instant, SystemTime};

    fn hash_seed(seed: u64) -> u64 {
        std::thread::spawn(move || {
            enter(seed);
            RandomState::new().hash_one(7)
        })
        .join()
        .expect("no panic")
    }

    #[test]
    fn hash_seeds_follow_the_seed() {
        assert_eq!(hash_seed(1), hash_seed(1));
        assert_ne!(hash_seed(1), hash_seed(2));
    }

    #[test]
    fn clocks_stand_still_until_they_are_set() {
        std::thread::spawn(|| {
            enter(1);
            set_elapsed(Duration::from_secs(5));
            let before = Instant::now();
            assert_eq!(
                SystemTime::now(),
                SystemTime::UNIX_EPOCH + EPOCH + Duration::from_secs(5)
            );
            assert_eq!(before, Instant::now());
            set_elapsed(Duration::from_secs(7));
            assert_eq!(before.elapsed(), Duration::from_secs(2));
        })
        .join()
        .expect("no panic");
    }
}
