//! The third stage of a backup: puts an object where it is durable.

use holdfast_collection::{CollectionStore, DataName};
use holdfast_types::{Fault, LayerPath, ObjectRef};

use super::packer::Packed;
use super::stage::Stage;
use super::ticket::Ticket;
use crate::agent::Gate;

/// Puts span files of one layer, each once.
pub(crate) struct Uploader {
    store: CollectionStore,
    path: LayerPath,
    gate: Gate,
}

impl Uploader {
    pub(crate) fn new(ticket: &Ticket, store: CollectionStore, path: LayerPath) -> Self {
        Self {
            store,
            path,
            gate: ticket.shared.gate.clone(),
        }
    }
}

impl Stage for Uploader {
    type Input = (DataName, Packed);
    type Output = ObjectRef;
    const NAME: &'static str = "uploader";

    async fn run(&mut self, (name, packed): (DataName, Packed)) -> Result<ObjectRef, Fault> {
        self.gate.check()?;
        self.store
            .put_data(&self.path, name, packed.chunks, &packed.summary)
            .await
    }
}
