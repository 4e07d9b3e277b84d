//! Slots with exported snapshots.

use holdfast_env::Env;
use holdfast_postgres::layout::Lsn;
use holdfast_postgres::replication::ReplicationSession;
use holdfast_postgres_testing::Server;
use std::time::Duration;

/// How long writers may keep a slot waiting.
const DEADLINE: Duration = Duration::from_secs(60);

/// A slot, with the snapshot of exactly its position. The snapshot, and a temporary slot, live as long as this does.
pub(crate) struct Slot {
    pub(crate) position: Lsn,
    pub(crate) snapshot: String,
    _session: ReplicationSession,
}

impl Slot {
    /// Makes a slot and exports its snapshot.
    pub(crate) async fn create(server: &Server, database: &str, name: &str, life: Life) -> Self {
        let dsn = server.dsn(database).parse().expect("a DSN");
        let session = ReplicationSession::connect(&Env::system(), &dsn).await;
        let mut session = session.expect("connected");
        let is_temporary = life == Life::Temporary;
        let slot = session.create_slot(name, is_temporary, DEADLINE).await;
        let slot = slot.expect("a slot");
        Self {
            position: slot.consistent_point,
            snapshot: slot.snapshot,
            _session: session,
        }
    }
}

/// Whether a slot outlives its session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Lasting,
    Temporary,
}
