//! The state machine as openraft sees it: kept in memory, rebuilt from the snapshot and the log behind it.

use futures::{Stream, TryStreamExt};
use holdfast_env::Env;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder, Snapshot};
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

use crate::machine::{Encoder, Machine};
use crate::snapshot::{SnapshotFile, SnapshotHeader, SnapshotStore};
use crate::type_config::{LogId, OutcomeBytes, SnapshotMeta, StoredMembership, TypeConfig};

type SnapshotOf = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// See the module.
#[derive(Debug)]
pub(crate) struct MachineStore {
    pub(crate) env: Env,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) snapshots: Arc<SnapshotStore>,
    /// Index of the last applied entry.
    pub(crate) applied: watch::Sender<u64>,
}

impl MachineStore {
    fn announce(&self) {
        let index = self.machine.header().last.map_or(0, |id| id.index);
        self.applied.send_replace(index);
    }
}

impl RaftStateMachine<TypeConfig> for MachineStore {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let header = self.machine.header();
        Ok((header.last, header.membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let index = entry.log_id.index;
            let outcome = self.machine.apply(entry).map_err(|fault| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("entry {index} of the raft log cannot be applied: {fault}"),
                )
            })?;
            if let Some(responder) = responder {
                responder.send(OutcomeBytes(outcome));
            }
        }
        self.announce();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let (header, encoder) = self.machine.snapshot();
        SnapshotBuilder {
            snapshots: Arc::clone(&self.snapshots),
            header,
            encoder,
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> io::Result<()> {
        let (header, state) = self.snapshots.load(&snapshot).await?;
        if header.meta() != *meta {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "a raft snapshot says {} and was announced as {meta}",
                    header.meta()
                ),
            ));
        }
        let machine = Arc::clone(&self.machine);
        let installed = header.clone();
        self.env
            .blocking(move || machine.install(installed, &state))
            .await
            .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault.to_string()))?;
        self.snapshots.adopt(&header, snapshot).await?;
        tracing::info!(snapshot = %header.meta(), "snapshot installed");
        self.announce();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf>> {
        Ok(self
            .snapshots
            .current()
            .map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// A state that is about to become a snapshot file.
pub(crate) struct SnapshotBuilder {
    snapshots: Arc<SnapshotStore>,
    header: SnapshotHeader,
    encoder: Encoder,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf> {
        let encoder = Arc::clone(&self.encoder);
        let (meta, snapshot) = self.snapshots.create(&self.header, encoder).await?;
        Ok(Snapshot { meta, snapshot })
    }
}
