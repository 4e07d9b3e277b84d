//! What a source reads of the layers of a job.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use holdfast_format::TupleRows;
use holdfast_source::{Inlet, LoggedBackup, LoggedRestore, Notes, Row, RowBatch, TupleBlock};
use holdfast_types::{
    BackupSpec, ByteCount, ErrorCode, Fault, JobId, KeyRange, LayerPath, MemberName, Position,
    RelationId, RestoreSpec,
};
use std::sync::Arc;

use super::merge::Merge;
use crate::agent::Gate;
use crate::bounds::MANIFEST_DEADLINE;
use crate::core::Core;
use crate::task::activity::Activity;
use crate::task::halt::Halt;
use crate::task::layers::JobLayers;
use crate::task::restore_plan::restore_member;
use crate::task::ticket::{Ticket, part_limit};

/// The layers of a job, as one member reads them.
#[derive(Clone)]
pub(super) struct LayerInlet {
    layers: Arc<JobLayers>,
    member: MemberName,
    gate: Gate,
    /// Told of what is read: a long load moves.
    activity: Activity,
}

impl LayerInlet {
    async fn of(ticket: &Ticket, member: &MemberName) -> Result<Self, Halt> {
        let loading = ticket.shared.layers.of_job(ticket);
        let layers = ticket
            .read("reading the manifests", MANIFEST_DEADLINE, loading)
            .await?;
        Ok(Self {
            layers,
            member: member.clone(),
            gate: ticket.shared.gate.clone(),
            activity: ticket.activity.clone(),
        })
    }

    /// The layers that a restore would read, though there is no task.
    pub(super) fn without_task(shared: &Core, layers: JobLayers, member: &MemberName) -> Self {
        Self {
            layers: Arc::new(layers),
            member: member.clone(),
            gate: shared.gate.clone(),
            activity: Activity::new(Arc::clone(&shared.env.clock)),
        }
    }

    fn path(&self, layer: usize) -> LayerPath {
        let layer = self.layers.layers.get(layer);
        layer.map_or_else(|| LayerPath::full(""), |layer| layer.manifest.path.clone())
    }

    async fn tuple_blocks(
        self,
        layer: usize,
        name: String,
    ) -> Result<BoxStream<'static, Result<TupleBlock, Fault>>, Fault> {
        let place = self.layers.place(layer, &self.member)?;
        let object = self.layers.one_named(place, &name).await?;
        let path = self.path(layer);
        let store = self.layers.store.of_member(&path, place.member).await?;
        let opened = store.open_tuples(&path, &object).await?;
        let (gate, activity) = (self.gate.clone(), self.activity.clone());
        let blocks = opened.read().map(move |rows| {
            gate.check()?;
            let block = block(&rows?);
            activity.read(block.bytes.len() as u64);
            Ok(block)
        });
        Ok(blocks.boxed())
    }
}

fn block(rows: &TupleRows) -> TupleBlock {
    TupleBlock {
        bytes: rows.bytes().clone(),
        rows: rows.ranges().collect(),
    }
}

#[async_trait]
impl Inlet for LayerInlet {
    fn layers(&self) -> usize {
        self.layers.layers.len()
    }

    async fn catalogs(&self, layer: usize) -> Result<Vec<Bytes>, Fault> {
        self.gate.check()?;
        let place = self.layers.place(layer, &self.member)?;
        self.layers.catalogs(place).await
    }

    async fn blob(&self, layer: usize, name: &str) -> Result<Bytes, Fault> {
        self.gate.check()?;
        let place = self.layers.place(layer, &self.member)?;
        let object = self.layers.one_named(place, name).await?;
        let path = self.path(layer);
        let store = self.layers.store.of_member(&path, place.member).await?;
        store.read_catalog(&path, &object).await
    }

    async fn objects(&self, layer: usize, relation: RelationId) -> Result<Vec<String>, Fault> {
        self.gate.check()?;
        let place = self.layers.place(layer, &self.member)?;
        let objects = self.layers.objects_of(place, relation).await?;
        Ok(objects.into_iter().map(|object| object.name).collect())
    }

    fn tuples(&self, layer: usize, name: &str) -> BoxStream<'static, Result<TupleBlock, Fault>> {
        stream::once(self.clone().tuple_blocks(layer, name.to_owned()))
            .try_flatten()
            .boxed()
    }

    fn rows(
        &self,
        layer: usize,
        names: &[String],
        range: KeyRange,
    ) -> BoxStream<'static, Result<RowBatch, Fault>> {
        let (inlet, names) = (self.clone(), names.to_vec());
        let activity = self.activity.clone();
        let opening = async move {
            let place = inlet.layers.place(layer, &inlet.member)?;
            let objects = inlet.layers.named(place, &names).await?;
            let (layers, path) = (&inlet.layers, inlet.path(layer));
            let merge = Merge::open(layers, place, path, objects, range, inlet.gate).await?;
            let rows = merge.into_stream().inspect_ok(move |batch| {
                let length: usize = batch.iter().map(Row::logical_len).sum();
                activity.read(length as u64);
            });
            Ok::<_, Fault>(rows)
        };
        stream::once(opening).try_flatten().boxed()
    }
}

/// A backup as its source is told of it.
pub(super) async fn backup_of(
    ticket: &Ticket,
    spec: &BackupSpec,
    member: u32,
) -> Result<LoggedBackup, Halt> {
    let hold = ticket
        .grant
        .hold
        .ok_or_else(|| Fault::new(ErrorCode::Internal, "the grant of a backup brings no hold"))?;
    let parent = match &spec.parent {
        None => Vec::new(),
        Some(_) => {
            let inlet = LayerInlet::of(ticket, &ticket.member(member)?.name).await?;
            let doing = "reading the catalogs of the parent layer";
            let reading = inlet.catalogs(0);
            ticket.read(doing, MANIFEST_DEADLINE, reading).await?
        }
    };
    Ok(LoggedBackup {
        job: ticket.lease().task.job,
        hold,
        target: spec.target.clone(),
        partial: spec.members.len() > 1,
        parent,
        history: spec.history,
        part_size: ByteCount(part_limit(spec.part_size)),
        notes: Notes::default(),
        steps: ticket.activity.steps(),
    })
}

/// A restore as its source is told of it, and what it reads.
pub(super) async fn restore_of(
    ticket: &Ticket,
    spec: &RestoreSpec,
    member: u32,
) -> Result<(LoggedRestore, LayerInlet), Halt> {
    let from = &restore_member(spec, member)?.from;
    let inlet = LayerInlet::of(ticket, from).await?;
    let restore = restore_from(&inlet, spec, ticket.lease().task.job);
    Ok((restore, inlet))
}

/// A restore from these layers, as its source is told of it.
pub(super) fn restore_from(inlet: &LayerInlet, spec: &RestoreSpec, job: JobId) -> LoggedRestore {
    let from = &inlet.member;
    let newest = inlet.layers.layers.last().map(|layer| &layer.manifest);
    let is_end = newest.is_some_and(|manifest| spec.as_of == Position::Hlc(manifest.end));
    // A member of several need not have all that is restored.
    let target = newest.map_or_else(
        || spec.target.clone(),
        |manifest| manifest.narrow(from, &spec.target),
    );
    LoggedRestore {
        job,
        target,
        as_of: (!is_end).then_some(spec.as_of),
        databases: spec.renamed.clone(),
        tables: spec.tables.clone(),
        into_existing: spec.into_existing,
        options: spec.options,
        part_size: ByteCount(part_limit(spec.part_size)),
        notes: Notes::default(),
        steps: inlet.activity.steps(),
    }
}
