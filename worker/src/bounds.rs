//! Every bound of a worker, with its reason.

use std::time::Duration;

/// How often the agent looks at its clocks: heartbeats due, fence, silent leader. A tenth of the shortest sensible heartbeat.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// How much earlier than its leases may end a worker stops: the agent may look at its clock a tick late, and clocks run unequally.
pub(crate) const FENCE_MARGIN: Duration = Duration::from_millis(100);

/// The first pause after every known coordinator was tried in vain. Short: most often a leader is being elected.
pub(crate) const RECONNECT_FIRST: Duration = Duration::from_millis(200);

/// The longest pause between two rounds over the coordinators: an idle job costs more than a few SYNs.
pub(crate) const RECONNECT_MOST: Duration = Duration::from_millis(500);

/// Redirects that are followed without a pause; two coordinators that name each other must not spin a worker.
pub(crate) const REDIRECTS: u32 = 4;

/// To open a stream, until the coordinator's headers are here.
pub(crate) const SESSION_DEADLINE: Duration = Duration::from_secs(3);

/// From Hello to the leader's answer, which takes a raft commit.
pub(crate) const WELCOME_DEADLINE: Duration = Duration::from_secs(5);

/// Heartbeats without an acknowledgement after which another leader is looked for. One may be lost in a leader's stutter, three are not.
pub(crate) const SILENT_HEARTBEATS: u32 = 3;

/// The shortest heartbeat and the shortest lease that a worker obeys: a garbled Welcome must not make it spin or stop.
pub(crate) const HEARTBEAT_LEAST: Duration = Duration::from_millis(50);

/// Heartbeats that may be unacknowledged; older ones no longer count for the fence, which is the safe side.
pub(crate) const HEARTBEATS_IN_FLIGHT: usize = 64;

/// Messages to the leader that may wait besides one report per task: heartbeats, ended holds, goodbye.
pub(crate) const OUTBOX_SPARE: usize = 64;

/// Tasks that an agent keeps for each slot: one running, and grants that arrive while a finished one is being put away.
pub(crate) const TASKS_PER_SLOT: usize = 4;

/// Holds that are being ended at once; the leader asks again for those refused.
pub(crate) const HOLD_ORDERS: usize = 8;

/// Members and holds that are being looked at for the leader at once; one more is refused. A leader asks for eight members for each request
/// of a user, and for four holds by itself.
pub(crate) const CHECKS: usize = 16;

/// To look at a member. Shorter than a leader waits.
pub(crate) const CHECK_DEADLINE: Duration = Duration::from_secs(40);

/// Bytes of what is said of one member.
pub(crate) const CHECK_BYTES: usize = 2 << 20;

/// Activities in one heartbeat.
pub(crate) const ACTIVITIES: usize = 256;

/// A call to a source that answers at once: position, hold, describe, publish.
pub(crate) const SOURCE_CALL_DEADLINE: Duration = Duration::from_secs(60);

/// One batch of rows of a source; a batch is about a megabyte.
pub(crate) const SOURCE_BATCH_DEADLINE: Duration = Duration::from_secs(60);

/// A call to a source that reads a whole relation: planning, fingerprints.
pub(crate) const SOURCE_SCAN_DEADLINE: Duration = Duration::from_secs(900);

/// One object written to or read from the collection. The collection has deadlines of its own for each call, and retries; this is for all of
/// it together.
pub(crate) const STORE_DEADLINE: Duration = Duration::from_secs(600);

/// All manifests of a job, or one relation's part of their file lists.
pub(crate) const MANIFEST_DEADLINE: Duration = Duration::from_secs(900);

/// How long a task that was told to stop waits for a write in flight before it is abandoned. An abandoned write is harmless
/// (its object is never referenced, its rows are written again), waiting for it only makes "paused" exact.
pub(crate) const STOP_DRAIN: Duration = Duration::from_secs(10);

/// How long a task's stages may take to be gone after they were told: they only have to be polled once.
pub(crate) const QUIET_DEADLINE: Duration = Duration::from_secs(5);

/// How long a shutdown waits for leases to be given back.
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(15);

/// How long a shutdown waits for the leader to end the stream after Goodbye.
pub(crate) const GOODBYE_LINGER: Duration = Duration::from_millis(500);

/// Spans in one plan batch.
pub(crate) const PLAN_BATCH_SPANS: usize = 512;

/// Bytes in one plan batch, far below the largest message.
pub(crate) const PLAN_BATCH_BYTES: usize = 512 << 10;

/// One step of a source whose history is a log: a span, the plan, the end of a restore. Such a step takes as long as the data take, and
/// the source has deadlines of its own for each call; this one only keeps a task from being held for ever.
pub(crate) const LOGGED_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Stored bytes of one object that a source writes by itself, which is in memory until it is put: the largest part, and one row of maximal
/// size.
pub(crate) const LOGGED_OBJECT_MOST: u64 = PART_MOST + (1 << 30) + (64 << 20);

/// Bytes of what a settling span has found, and of what it is told of its database, in one message.
pub(crate) const SETTLED_BYTES: usize = 12 << 20;
/// See [`SETTLED_BYTES`].
pub(crate) const PLANNED_BYTES: usize = 12 << 20;

/// Objects of row versions that overlap and are merged at once: about 3 MiB of blocks each.
pub(crate) const MERGED_LANES: usize = 64;

/// Objects of row versions whose first and last keys are looked up at once.
pub(crate) const KEYS_AHEAD: usize = 8;

/// Logical bytes of one batch of merged rows.
pub(crate) const MERGE_BATCH: u64 = 1 << 20;

/// The least and the largest part a worker accepts from a specification, in logical bytes: parts live in memory.
pub(crate) const PART_LEAST: u64 = 1 << 10;
/// See [`PART_LEAST`].
pub(crate) const PART_MOST: u64 = 256 << 20;

/// Logical bytes of rows in one `load` call of a restore, well below the largest message.
pub(crate) const LOAD_BATCH: u64 = 2 << 20;

/// `load` calls of one stream that wait for their answers at once. Each holds a copy of its rows in the form of the wire; the rows
/// themselves are let go when it is made.
pub(crate) const LOADS_IN_FLIGHT: usize = 3;

/// Logical bytes of a part of a restore that are in memory at once.
pub(crate) const LOAD_PIECE: u64 = LOAD_BATCH * LOADS_IN_FLIGHT as u64;

/// The most objects in one span of a verification.
pub(crate) const VERIFY_SPAN: u64 = 512;

/// Objects that a verification reads between two checkpoints: one each is too many, one for all loses too much.
pub(crate) const VERIFY_GROUP: u64 = 16;

/// Stored bytes after which a verification checkpoints, however few objects they are.
pub(crate) const VERIFY_GROUP_BYTES: u64 = 64 << 20;

/// The longest key that becomes a span bound; the ledger holds bounds.
pub(crate) const BOUND_LENGTH: usize = 32 << 10;

/// Jobs whose manifests are kept.
pub(crate) const CACHED_JOBS: usize = 4;

/// Entries of file lists that are kept, of all jobs together: at about 200 bytes each some 50 MiB. A relation that has more than this
/// in one layer chain is read again for each of its spans, and then only what lies in the span is kept.
pub(crate) const CACHED_ENTRIES: usize = 1 << 18;

const _: () = assert!(SETTLED_BYTES < holdfast_proto::MAX_MESSAGE_SIZE);
const _: () = assert!(PLANNED_BYTES < holdfast_proto::MAX_MESSAGE_SIZE);
const _: () = assert!(PLAN_BATCH_BYTES * 4 <= holdfast_proto::MAX_MESSAGE_SIZE);
const _: () = assert!(LOAD_BATCH as usize * 4 <= holdfast_proto::MAX_MESSAGE_SIZE);
const _: () = assert!(TICK.as_millis() < FENCE_MARGIN.as_millis());
const _: () = assert!(RECONNECT_FIRST.as_millis() <= 500);
