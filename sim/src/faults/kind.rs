//! Classes of drawn faults.

/// A class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    CoordinatorCrash,
    WorkerCrash,
    MemberCrash,
    Blackout,
    Partition,
    OneWayPartition,
    Isolation,
    ClockSkew,
    Store,
    FullDisk,
    SlowDisk,
    Pause,
    RegionCut,
    SlowLink,
    Loss,
    RollingRestart,
    Quiet,
    SourceConnections,
    LostSlots,
}

impl Kind {
    /// How it is called where faults are counted.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CoordinatorCrash => "coordinator crash",
            Self::WorkerCrash => "worker crash",
            Self::MemberCrash => "member crash",
            Self::Blackout => "blackout",
            Self::Partition => "partition",
            Self::OneWayPartition => "one-way partition",
            Self::Isolation => "isolation",
            Self::ClockSkew => "clock skew",
            Self::Store => "store",
            Self::FullDisk => "full disk",
            Self::SlowDisk => "slow disk",
            Self::Pause => "pause",
            Self::RegionCut => "region cut",
            Self::SlowLink => "slow link",
            Self::Loss => "loss",
            Self::RollingRestart => "rolling restart",
            Self::Quiet => "quiet window",
            Self::SourceConnections => "lost connections to a source",
            Self::LostSlots => "lost slots",
        }
    }
}
