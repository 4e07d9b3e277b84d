//! Backing up one span: part by part, from the committed frontier.

use holdfast_collection::DataName;
use holdfast_proto::SpanWork;
use holdfast_source::ReadRequest;
use holdfast_types::{BackupSpec, ByteCount, ErrorCode, Fault, RowCount};

use super::backup_plan::find_relation;
use super::frontier::{Frontier, Progress};
use super::halt::Halt;
use super::packer::Packer;
use super::reader::Reader;
use super::ticket::{Ticket, part_limit};
use super::uploader::Uploader;
use super::window::window_of;
use crate::bounds::{SOURCE_CALL_DEADLINE, SOURCE_SCAN_DEADLINE, STORE_DEADLINE};

/// Backs up one span.
pub(super) async fn run(ticket: &Ticket, spec: &BackupSpec, span: &SpanWork) -> Result<(), Halt> {
    let member = &ticket.member(span.member)?.name;
    let source = ticket.source(spec.kind, span.member)?;
    let relation = match &span.record {
        Some(relation) => relation.clone(),
        None => {
            let finding = find_relation(&source, spec, span.relation);
            ticket
                .read("finding the relation", SOURCE_CALL_DEADLINE, finding)
                .await?
        }
    };
    let reading = format!("reading {} of member {member}", relation.name);
    let request = ReadRequest {
        relation: span.relation,
        range: ticket.open_range(&span.frontier, &span.end)?,
        window: window_of(spec, &relation),
    };
    let opening = ticket.collection_for(span.member);
    let store = ticket
        .write("opening the collection", STORE_DEADLINE, opening)
        .await?;

    let limit = part_limit(spec.part_size);
    let reader = ticket.stage(Reader::new(ticket, source, request));
    let packer = ticket.stage(Packer::new(ticket.shared.env.clone()));
    let uploader = ticket.stage(Uploader::new(ticket, store, spec.path.clone()));
    let reporter = ticket.reporter();
    let mut frontier = Frontier::of(span);
    let mut objects_put = 0;
    loop {
        let part = ticket
            .read(&reading, SOURCE_SCAN_DEADLINE, reader.ask(limit))
            .await?;
        let (rows, read, last) = (part.rows.len() as u64, part.read, part.last);
        let mut objects = Vec::new();
        if rows > 0 {
            let name = DataName::new(ticket.lease().task, ticket.lease().epoch, objects_put);
            objects_put = next_sequence(objects_put)?;
            let packing = packer.ask(part.rows);
            let packed = ticket.read("packing", STORE_DEADLINE, packing).await?;
            let doing = format!("uploading {name}");
            let uploading = uploader.ask((name, packed));
            objects.push(ticket.write(&doing, STORE_DEADLINE, uploading).await?);
        }
        let written = objects.iter().map(|object| object.length).sum();
        note(ticket, read, written);
        let progress = Progress {
            objects,
            read: ByteCount(read),
            written,
            rows: RowCount(rows),
            settled: None,
        };
        let to = (!last).then(|| ticket.seal(&part.to));
        let checkpoint = frontier.checkpoint(to, progress);
        ticket.report(&reporter, checkpoint).await?;
        if last {
            return Ok(());
        }
    }
}

fn next_sequence(sequence: u32) -> Result<u32, Fault> {
    sequence.checked_add(1).ok_or_else(|| {
        Fault::new(
            ErrorCode::ResourceExhausted,
            "a span has more parts than objects can be numbered",
        )
        .hint("use a larger part size")
    })
}

/// Adds a part to the worker's counters.
pub(super) fn note(ticket: &Ticket, read: u64, written: ByteCount) {
    let mut stats = ticket.shared.stats.update();
    stats.bytes_read = stats.bytes_read.saturating_add(read);
    stats.bytes_written = stats.bytes_written.saturating_add(written.0);
}
