//! Writing a snapshot.

use std::io::{self, Write};
use std::sync::Arc;

use holdfast_types::{Digest, Hasher};
use serde::Serialize;

use super::{
    CHUNKS_PER_SECTION, ChunkRun, Head, Home, MAGIC, RECORDS_PER_SECTION, SNAPSHOT_VERSION, Tag,
    section_digest,
};
use crate::codec;
use crate::job::Job;
use crate::ledger::Ledger;
use crate::tasks::Chunk;

impl Ledger {
    /// Writes the whole state as a stream of sections with digests. The same state gives the same bytes.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_snapshot(&self, output: &mut impl Write) -> io::Result<()> {
        output.write_all(MAGIC)?;
        output.write_all(&SNAPSHOT_VERSION.to_le_bytes())?;
        let mut sections = Sections { output, next: 0 };
        sections.put(
            Tag::Head,
            &Head {
                applied: self.applied,
                chain: self.chain,
                cluster: self.cluster,
                settings: &self.settings,
            },
        )?;
        sections.records(Tag::Sources, self.sources.values())?;
        sections.records(Tag::Workers, self.workers.values())?;
        sections.records(Tag::Holds, self.holds.values())?;
        sections.records(Tag::Requests, self.requests.iter())?;
        sections.records(Tag::Schedules, self.schedules.values())?;
        sections.records(Tag::Layers, self.catalogue.iter())?;
        sections.records(Tag::Connections, self.connections.values())?;
        sections.records(Tag::Users, self.users.values())?;
        for job in self.jobs.values() {
            sections.job(job)?;
        }
        let count = sections.next;
        sections.put(Tag::End, &count)
    }
}

/// The digest of the bytes of a snapshot.
pub(crate) fn digest(ledger: &Ledger) -> Digest {
    struct Sink(Hasher);
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = Sink(Hasher::new());
    // A hasher takes everything.
    let written = ledger.write_snapshot(&mut sink);
    debug_assert!(written.is_ok());
    sink.0.finish()
}

struct Sections<'a, W> {
    output: &'a mut W,
    next: u32,
}

impl<W: Write> Sections<'_, W> {
    fn put<T: Serialize>(&mut self, tag: Tag, value: &T) -> io::Result<()> {
        let payload = codec::append(value, Vec::new());
        let digest = section_digest(self.next, tag as u8, &payload);
        self.output.write_all(&[tag as u8])?;
        self.output
            .write_all(&(payload.len() as u64).to_le_bytes())?;
        self.output.write_all(&payload)?;
        self.output.write_all(&digest.0)?;
        self.next += 1;
        Ok(())
    }

    fn records<T: Serialize>(
        &mut self,
        tag: Tag,
        records: impl Iterator<Item = T>,
    ) -> io::Result<()> {
        let mut batch = Vec::new();
        for record in records {
            batch.push(record);
            if batch.len() == RECORDS_PER_SECTION {
                self.put(tag, &batch)?;
                batch.clear();
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.put(tag, &batch)
    }

    fn job(&mut self, job: &Job) -> io::Result<()> {
        self.put(Tag::Job, job)?;
        for (place, step) in (0u32..).zip(&job.tasks.plans.steps) {
            if let Some(draft) = &step.draft {
                self.chunks(job, Home::Draft(place), draft.segment.chunks())?;
            }
        }
        for (place, segment) in (0u32..).zip(&job.tasks.segments) {
            self.chunks(job, Home::Segment(place), segment.chunks())?;
        }
        Ok(())
    }

    fn chunks(&mut self, job: &Job, home: Home, chunks: &[Arc<Chunk>]) -> io::Result<()> {
        for run in chunks.chunks(CHUNKS_PER_SECTION) {
            self.put(
                Tag::Chunks,
                &ChunkRun {
                    job: job.id,
                    home,
                    chunks: run,
                },
            )?;
        }
        Ok(())
    }
}
