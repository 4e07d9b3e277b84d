//! The ids and sentences of the ledger's invariants.

use std::fmt;

/// An invariant of the ledger. The ids up to `J8`, and `C4` and `B1`, are those of the system as a whole, of which the ledger keeps
/// its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InvariantId {
    /// See [`InvariantId::sentence`].
    J1,
    /// See [`InvariantId::sentence`].
    J2,
    /// See [`InvariantId::sentence`].
    J3,
    /// See [`InvariantId::sentence`].
    J4,
    /// See [`InvariantId::sentence`].
    J5,
    /// See [`InvariantId::sentence`].
    J6,
    /// See [`InvariantId::sentence`].
    J7,
    /// See [`InvariantId::sentence`].
    J8,
    /// See [`InvariantId::sentence`].
    J9,
    /// See [`InvariantId::sentence`].
    J10,
    /// See [`InvariantId::sentence`].
    J11,
    /// See [`InvariantId::sentence`].
    J12,
    /// See [`InvariantId::sentence`].
    C4,
    /// See [`InvariantId::sentence`].
    B1,
    /// See [`InvariantId::sentence`].
    B2,
    /// See [`InvariantId::sentence`].
    H1,
    /// See [`InvariantId::sentence`].
    H2,
    /// See [`InvariantId::sentence`].
    S1,
    /// See [`InvariantId::sentence`].
    S2,
    /// See [`InvariantId::sentence`].
    K1,
}

impl InvariantId {
    /// Every invariant.
    pub const ALL: [Self; 20] = [
        Self::J1,
        Self::J2,
        Self::J3,
        Self::J4,
        Self::J5,
        Self::J6,
        Self::J7,
        Self::J8,
        Self::J9,
        Self::J10,
        Self::J11,
        Self::J12,
        Self::C4,
        Self::B1,
        Self::B2,
        Self::H1,
        Self::H2,
        Self::S1,
        Self::S2,
        Self::K1,
    ];

    /// Its name, as in `docs/INVARIANTS.md`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::J1 => "J1",
            Self::J2 => "J2",
            Self::J3 => "J3",
            Self::J4 => "J4",
            Self::J5 => "J5",
            Self::J6 => "J6",
            Self::J7 => "J7",
            Self::J8 => "J8",
            Self::J9 => "J9",
            Self::J10 => "J10",
            Self::J11 => "J11",
            Self::J12 => "J12",
            Self::C4 => "C4",
            Self::B1 => "B1",
            Self::B2 => "B2",
            Self::H1 => "H1",
            Self::H2 => "H2",
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::K1 => "K1",
        }
    }

    /// What holds, as one sentence.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::J1 => "only legal job transitions happen, and terminal states absorb",
            Self::J2 => "the spans of a relation tile it from the open start to the open end",
            Self::J3 => "a task has at most one current lease, and its epochs strictly increase",
            Self::J4 => "checkpoints chain, and progress never goes back",
            Self::J5 => "a finished span's last checkpoint reaches its end",
            Self::J6 => "a finished backup has its layer, which names exactly the accepted objects",
            Self::J7 => "nothing reported under a stale epoch is accepted",
            Self::J8 => "the same request key never makes two jobs",
            Self::J9 => {
                "a job that is pending, paused or terminal has no lease, and while paused none that lingers"
            }
            Self::J10 => "a job's counters equal what its tasks and its file list add up to",
            Self::J11 => "a settling span is leased only when all other spans of the job are done",
            Self::J12 => {
                "a backup whose layer exists has succeeded, unless it was cancelled or had failed before"
            }
            Self::C4 => "chains are contiguous: each layer starts where its parent ended",
            Self::B1 => "a worker never holds more tasks than it has slots",
            Self::B2 => "the lists that a job keeps for show stay within their bounds",
            Self::H1 => "a backup that is not terminal has its hold, at the position it reads from",
            Self::H2 => "a hold is released only when its job is terminal, and then on some member",
            Self::S1 => "a run of a schedule is at most one job, and a run never comes due again",
            Self::S2 => {
                "a schedule of incrementals has its fulls' schedule, and none runs while it is paused or waits"
            }
            Self::K1 => "what is computed from the state equals the state",
        }
    }
}

impl fmt::Display for InvariantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
