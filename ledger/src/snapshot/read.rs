//! Reading a snapshot.

use std::io::{self, Read};
use std::sync::Arc;

use holdfast_types::{
    ConnectionRecord, ErrorCode, Fault, JobId, RequestKey, SourceRecord, UserRecord,
};

use super::{
    ChunkRun, Head, Home, MAGIC, MAX_SECTION_BYTES, SNAPSHOT_VERSION, Tag, section_digest,
};
use crate::catalogue::LayerRecord;
use crate::codec;
use crate::hold::HoldRecord;
use crate::job::Job;
use crate::ledger::Ledger;
use crate::schedule::ScheduleRecord;
use crate::settings::Settings;
use crate::tasks::{Chunk, Segment};
use crate::worker::WorkerRecord;

impl Ledger {
    /// Reads what [`Ledger::write_snapshot`] wrote, in this version or an earlier one.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupted`] with the name of the section for bytes that are cut off or damaged, [`ErrorCode::Unsupported`]
    /// for a newer version, [`ErrorCode::Unavailable`] when the reader fails.
    pub fn read_snapshot(input: impl Read) -> Result<Self, Fault> {
        let mut reader = Sections { input, next: 0 };
        reader.header()?;
        let mut ledger = Self::new();
        loop {
            let (tag, payload) = reader.section()?;
            if (tag == Tag::Head) != (reader.next == 1) {
                return Err(corrupted("the head of the ledger snapshot is misplaced"));
            }
            if tag == Tag::End {
                reader.end(&payload)?;
                break;
            }
            take(&mut ledger, tag, &payload).map_err(|fault| {
                fault.context(format_args!(
                    "section {} ({}) of the ledger snapshot",
                    reader.next - 1,
                    tag.name()
                ))
            })?;
        }
        check_complete(&ledger)?;
        ledger.rebuild();
        Ok(ledger)
    }
}

struct Sections<R> {
    input: R,
    next: u32,
}

impl<R: Read> Sections<R> {
    fn header(&mut self) -> Result<(), Fault> {
        let mut magic = [0; 8];
        let mut version = [0; 2];
        self.fill(&mut magic, "header")?;
        self.fill(&mut version, "header")?;
        if &magic != MAGIC {
            return Err(corrupted("the bytes are no ledger snapshot"));
        }
        match u16::from_le_bytes(version) {
            SNAPSHOT_VERSION => Ok(()),
            0 => Err(corrupted("the ledger snapshot has no known version")),
            newer => Err(Fault::new(
                ErrorCode::Unsupported,
                format!(
                    "the ledger snapshot has version {newer}, and this build reads up to {SNAPSHOT_VERSION}"
                ),
            )
            .hint("run the newest release on every coordinator")),
        }
    }

    fn section(&mut self) -> Result<(Tag, Vec<u8>), Fault> {
        let mut tag = [0; 1];
        self.fill(&mut tag, "tag")?;
        let [byte] = tag;
        let number = self.next;
        let Some(tag) = Tag::from_byte(byte) else {
            return Err(corrupted(format!(
                "section {number} of the ledger snapshot is of no known kind ({byte})"
            )));
        };
        let mut length = [0; 8];
        self.fill(&mut length, tag.name())?;
        let length = u64::from_le_bytes(length);
        if length > MAX_SECTION_BYTES {
            return Err(corrupted(format!(
                "section {number} ({}) of the ledger snapshot claims {length} bytes",
                tag.name()
            )));
        }
        // Reads what is there rather than allocating what is claimed.
        let mut payload = Vec::new();
        (&mut self.input)
            .take(length)
            .read_to_end(&mut payload)
            .map_err(|error| self.failed(&error, tag.name()))?;
        if payload.len() as u64 != length {
            return Err(self.cut_off(tag.name()));
        }
        let mut digest = [0; 32];
        self.fill(&mut digest, tag.name())?;
        if section_digest(number, byte, &payload).0 != digest {
            return Err(corrupted(format!(
                "section {number} ({}) of the ledger snapshot does not match its digest",
                tag.name()
            ))
            .hint("remove the snapshot and let the node fetch one from the leader"));
        }
        self.next += 1;
        Ok((tag, payload))
    }

    fn end(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let count: u32 = codec::decode_all(payload)?;
        if count + 1 != self.next {
            return Err(corrupted("the ledger snapshot lacks sections"));
        }
        let mut rest = [0; 1];
        match self.input.read(&mut rest) {
            Ok(0) => Ok(()),
            Ok(_) => Err(corrupted("the ledger snapshot goes on after its end")),
            Err(error) => Err(self.failed(&error, "end")),
        }
    }

    fn fill(&mut self, buffer: &mut [u8], what: &str) -> Result<(), Fault> {
        self.input.read_exact(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.cut_off(what)
            } else {
                self.failed(&error, what)
            }
        })
    }

    fn cut_off(&self, what: &str) -> Fault {
        corrupted(format!(
            "the ledger snapshot ends inside section {} ({what})",
            self.next
        ))
        .hint("remove the snapshot and let the node fetch one from the leader")
    }

    fn failed(&self, error: &io::Error, what: &str) -> Fault {
        Fault::new(
            ErrorCode::Unavailable,
            format!(
                "section {} ({what}) of the ledger snapshot cannot be read: {error}",
                self.next
            ),
        )
    }
}

fn take(ledger: &mut Ledger, tag: Tag, payload: &[u8]) -> Result<(), Fault> {
    match tag {
        Tag::Head => {
            let head: Head<Settings> = codec::decode_all(payload)?;
            ledger.applied = head.applied;
            ledger.chain = head.chain;
            ledger.cluster = head.cluster;
            ledger.settings = head.settings;
        }
        Tag::Sources => {
            let records: Vec<SourceRecord> = codec::decode_all(payload)?;
            let records = records
                .into_iter()
                .map(|record| (record.name.clone(), record));
            ledger.sources.extend(records);
        }
        Tag::Workers => {
            let records: Vec<WorkerRecord> = codec::decode_all(payload)?;
            let records = records
                .into_iter()
                .map(|record| (record.id.clone(), record));
            ledger.workers.extend(records);
        }
        Tag::Holds => {
            let records: Vec<HoldRecord> = codec::decode_all(payload)?;
            let records = records.into_iter().map(|record| (record.id, record));
            ledger.holds.extend(records);
        }
        Tag::Requests => {
            let records: Vec<(RequestKey, JobId)> = codec::decode_all(payload)?;
            ledger.requests.extend(records);
        }
        Tag::Schedules => {
            let records: Vec<ScheduleRecord> = codec::decode_all(payload)?;
            let records = records.into_iter().map(|record| (record.id, record));
            ledger.schedules.extend(records);
        }
        Tag::Layers => {
            let records: Vec<LayerRecord> = codec::decode_all(payload)?;
            for record in records {
                ledger.catalogue.insert(record);
            }
        }
        Tag::Connections => {
            let records: Vec<ConnectionRecord> = codec::decode_all(payload)?;
            let records = records
                .into_iter()
                .map(|record| (record.name.clone(), record));
            ledger.connections.extend(records);
        }
        Tag::Users => {
            let records: Vec<UserRecord> = codec::decode_all(payload)?;
            let records = records
                .into_iter()
                .map(|record| (record.name.clone(), record));
            ledger.users.extend(records);
        }
        Tag::Job => {
            let job: Job = codec::decode_all(payload)?;
            ledger.jobs.insert(job.id, job);
        }
        Tag::Chunks => {
            let run: ChunkRun<Vec<Arc<Chunk>>> = codec::decode_all(payload)?;
            let segment = home(ledger, run.job, run.home)
                .ok_or_else(|| corrupted(format!("job {} has no such spans", run.job)))?;
            segment.push_chunks(run.chunks);
        }
        Tag::End => {}
    }
    Ok(())
}

fn home(ledger: &mut Ledger, job: JobId, home: Home) -> Option<&mut Segment> {
    let tasks = &mut ledger.jobs.get_mut(&job)?.tasks;
    match home {
        Home::Draft(place) => {
            let step = tasks.plans.steps.get_mut(place as usize)?;
            Some(&mut step.draft.as_mut()?.segment)
        }
        Home::Segment(place) => tasks.segments.get_mut(place as usize),
    }
}

/// Every job must have got all of its spans.
fn check_complete(ledger: &Ledger) -> Result<(), Fault> {
    for job in ledger.jobs.values() {
        let drafts = (job.tasks.plans.steps.iter())
            .filter_map(|step| step.draft.as_ref())
            .map(|draft| &draft.segment);
        for segment in drafts.chain(&job.tasks.segments) {
            let len: u64 = segment.chunks().iter().map(|c| u64::from(c.len())).sum();
            let done: u64 = segment.chunks().iter().map(|c| u64::from(c.done())).sum();
            if (len, done) != (u64::from(segment.len()), u64::from(segment.done())) {
                return Err(corrupted(format!(
                    "the ledger snapshot lacks spans of job {}",
                    job.id
                )));
            }
        }
    }
    Ok(())
}

fn corrupted(what: impl Into<String>) -> Fault {
    Fault::new(ErrorCode::Corrupted, what)
}
