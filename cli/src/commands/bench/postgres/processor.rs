//! What processes have used, as Linux tells it.

/// Ticks of a second in `/proc/<pid>/stat`: what Linux shows to programs, whatever its own timer is.
const TICKS_PER_SECOND: f64 = 100.0;
/// What a process of a PostgreSQL server is called.
const SERVER_PROCESS: &str = "postgres";

/// A process in `/proc/<pid>/stat`. Seconds are of user and kernel mode.
#[derive(Debug, Clone, PartialEq)]
struct Stat {
    name: String,
    parent: u32,
    own_seconds: f64,
    /// Of the children that ended and were waited for, and theirs.
    reaped_seconds: f64,
}

impl Stat {
    /// The name is in parentheses and may contain anything; the parent is field 4, the times are the fields 14 to 17.
    fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.rsplit_once(") ")?;
        let (_, name) = before.split_once('(')?;
        let mut fields = after.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let mut times = fields.skip(9);
        let mut pair = || -> Option<f64> {
            let user: f64 = times.next()?.parse().ok()?;
            let kernel: f64 = times.next()?.parse().ok()?;
            Some((user + kernel) / TICKS_PER_SECOND)
        };
        Some(Self {
            name: name.to_owned(),
            parent,
            own_seconds: pair()?,
            reaped_seconds: pair()?,
        })
    }

    fn of(process: &str) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }
}

/// Seconds that the ended children of this process have used, and theirs.
pub(super) fn of_ended_children() -> Option<f64> {
    Some(Stat::of("self")?.reaped_seconds)
}

/// The postmaster of the server whose sessions have these processes; `None` unless all of them are of one server on this machine.
pub(super) fn postmaster(sessions: &[u32]) -> Option<u32> {
    let parent = |session: &u32| {
        let stat = Stat::of(&session.to_string())?;
        (stat.name == SERVER_PROCESS).then_some(stat.parent)
    };
    let (first, rest) = sessions.split_first()?;
    let postmaster = parent(first)?;
    let is_server = Stat::of(&postmaster.to_string())?.name == SERVER_PROCESS;
    let is_one = rest
        .iter()
        .all(|session| parent(session) == Some(postmaster));
    // One process of that number may be anything's.
    (is_server && is_one && !rest.is_empty()).then_some(postmaster)
}

/// Seconds that a server has used so far.
pub(super) fn of_server(postmaster: u32) -> Option<f64> {
    let own = Stat::of(&postmaster.to_string())?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let children = processes
        .filter_map(|entry| Stat::of(entry.file_name().to_str()?))
        .filter(|stat| stat.parent == postmaster)
        .map(|stat| stat.own_seconds + stat.reaped_seconds);
    Some(own.own_seconds + own.reaped_seconds + children.sum::<f64>())
}

/// The most memory that a process has had resident at once, in bytes; `None` when it has ended.
pub(super) fn peak(process: u32) -> Option<u64> {
    peak_in(&std::fs::read_to_string(format!("/proc/{process}/status")).ok()?)
}

fn peak_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// How busy the machine was in the last minute.
pub(super) fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_whatever_the_process_is_called() {
        let text = "7 (a ) (b) S 42 2 3 4 5 6 7 8 9 10 150 50 1000 200 20 0";
        let stat = Stat::parse(text).expect("is read");
        assert_eq!((stat.name.as_str(), stat.parent), ("a ) (b", 42));
        assert!((stat.own_seconds - 2.0).abs() < 1e-9);
        assert!((stat.reaped_seconds - 12.0).abs() < 1e-9);
        assert_eq!(Stat::parse("7 (x) S 42 2 3"), None);
    }

    #[test]
    fn peaks_are_bytes() {
        assert_eq!(
            peak_in("VmPeak:\t 9 kB\nVmHWM:\t  2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(peak_in("Name:\tgone\n"), None);
    }

    #[test]
    fn this_process_is_no_server() {
        let own = std::process::id();
        assert_eq!(postmaster(&[own, own]), None);
        assert_eq!(postmaster(&[]), None);
        assert!(of_ended_children().is_some_and(|seconds| seconds >= 0.0));
    }
}
