//! The words of Holdfast as types: ids, localities, times and positions, spans, job specifications and states.
//!
//! Everything here is plain data with `std` and `serde` only: no clock, no I/O, no randomness. A number that crosses a
//! crate boundary is a newtype, so that a job id cannot be passed for an epoch, nor bytes for rows.

#![warn(missing_debug_implementations)]

mod access;
mod chain_key;
mod digest;
mod end_point;
mod error;
mod ids;
mod job;
mod locality;
mod lsn;
pub mod mutant;
mod position;
mod restore_options;
mod row_sum;
mod schedule;
mod schedule_keys;
mod seal;
mod settled;
mod source;
mod span;
mod spec;
mod time;
mod units;
mod user;
mod verifier;

pub use access::{CollectionAccess, ConnectionRecord, LocalityStore};
pub use chain_key::{ChainKey, KeyId};
pub use digest::{Digest, Hasher};
pub use end_point::EndPointHash;
pub use error::{ErrorCode, Fault};
pub use ids::{
    ClusterId, ConnectionName, Epoch, HoldId, Incarnation, JobId, MemberName, NodeId, RelationId,
    RequestKey, SourceName, TaskId, WorkerId,
};
pub use job::{ControlVerb, IllegalTransition, JobEvent, JobKind, JobState, Phase, Verdict};
pub use locality::{Locality, LocalityError, Tier};
pub use lsn::Lsn;
pub use position::{AsOf, Hlc, Position, PositionKind, Window};
pub use restore_options::RestoreOptions;
pub use row_sum::RowSum;
pub use schedule::{
    BackupTemplate, Cadence, NewSchedule, OnFailure, OnPrevious, Pairing, RunResult,
    ScheduleChange, ScheduleId, ScheduleVerb, ScheduledLayer, ScheduledRun,
};
pub use schedule_keys::{FormerKeys, ScheduleKeys};
pub use seal::Sealed;
pub use settled::{Settled, SettledDatabase};
pub use source::{
    DatabaseName, MemberLimits, MemberRecord, Relation, SourceKind, SourceRecord, TableName, Target,
};
pub use span::{KeyRange, ObjectKind, ObjectRef, PlannedSpan};
pub use spec::{
    BackupMember, BackupMode, BackupSpec, ExpireSpec, HoldUse, JobSpec, LayerPath, ParentLayer,
    RestoreMember, RestoreSpec, VerifySpec, full_subdir, incremental_subdir,
};
pub use time::{ParseTimeError, Timestamp};
pub use units::{ByteCount, Millis, RowCount};
pub use user::{UserName, UserRecord};
pub use verifier::ScramVerifier;
