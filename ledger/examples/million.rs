//! A restore and a backup of 1,000,000 spans: what they cost in memory, in the snapshot, and per checkpoint.
//!
//! `cargo run --release -p holdfast-ledger --example million`

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement reads the clock and prints"
)]

use std::time::Instant;

use holdfast_ledger::{
    Action, Checkpoint, Command, Effect, Grant, Ledger, LogPosition, Outcome, PartRef, Report,
    ReportBody, ReportOutcome, TaskKind, decode_command, encode_command,
};
use holdfast_types::{
    BackupMember, BackupSpec, ByteCount, Digest, Hlc, HoldId, Incarnation, JobId, JobSpec,
    LayerPath, Locality, MemberRecord, ObjectRef, PlannedSpan, Position, Relation, RelationId,
    RowCount, Sealed, SourceKind, SourceRecord, TableName, Target, Timestamp,
};

const SPANS: u64 = 1_000_000;
const MEMBERS: u64 = 4;
const SPANS_PER_BATCH: u64 = 10_000;
const REPORTS_PER_COMMAND: usize = 1_000;
const WORKERS: u64 = 10;
const SLOTS: u32 = 100;

#[derive(Default)]
struct Cluster {
    ledger: Ledger,
    applying: f64,
    encoding: f64,
    decoding: f64,
    bytes: usize,
}

impl Cluster {
    fn apply(&mut self, action: Action) -> (Outcome, Vec<Effect>) {
        let command = Command {
            at: Timestamp::from_millis(1),
            action,
        };
        let start = Instant::now();
        let bytes = encode_command(&command);
        self.encoding += start.elapsed().as_secs_f64();
        self.bytes += bytes.len();
        let start = Instant::now();
        let command = decode_command(&bytes).expect("it was just encoded");
        self.decoding += start.elapsed().as_secs_f64();
        let position = LogPosition {
            term: 1,
            index: self.ledger.applied().index + 1,
        };
        let start = Instant::now();
        let result = self.ledger.apply(position, &command);
        self.applying += start.elapsed().as_secs_f64();
        result
    }

    /// Grants every ready task for which there is a slot, as fast as a dispatcher can find them.
    fn grant(&mut self, job: JobId) -> usize {
        let free: Vec<_> = self
            .ledger
            .workers()
            .flat_map(|worker| {
                let slot = (worker.id.clone(), worker.incarnation);
                std::iter::repeat_n(slot, worker.free_slots() as usize)
            })
            .collect();
        let grants: Vec<_> = self
            .ledger
            .ready_tasks(job)
            .zip(free)
            .map(|(ready, (worker, incarnation))| Grant {
                task: ready.task,
                worker,
                incarnation,
            })
            .collect();
        let count = grants.len();
        self.apply(Action::GrantLeases { grants });
        count
    }

    fn plan(&mut self, job: JobId) {
        self.grant(job);
        let plans: Vec<_> = self
            .ledger
            .job(job)
            .expect("a job")
            .leased_tasks()
            .collect();
        let batches = SPANS / MEMBERS / SPANS_PER_BATCH;
        for plan in plans {
            for batch in 0..batches {
                let report = Report {
                    task: plan.id,
                    epoch: plan.epoch,
                    body: ReportBody::Plan {
                        sequence: u32::try_from(batch).expect("few batches"),
                        relations: relations(batch),
                        spans: spans(batch, batches),
                        last: batch + 1 == batches,
                    },
                };
                let (outcome, _) = self.apply(Action::Reports {
                    reports: vec![report],
                });
                assert_eq!(outcome, Outcome::Reports(vec![ReportOutcome::Accepted]));
            }
        }
    }

    /// One checkpoint for every lease, with two objects for each span: one inside, one at its end.
    fn work(&mut self, job: JobId, half: bool) {
        let leased: Vec<_> = self
            .ledger
            .job(job)
            .expect("a job")
            .leased_tasks()
            .collect();
        let reports: Vec<_> = leased
            .into_iter()
            .map(|view| {
                let TaskKind::Span { end, frontier, .. } = view.kind else {
                    panic!("a span");
                };
                let to = if half {
                    let mut middle = frontier.as_bytes().to_vec();
                    middle.resize(41, 7);
                    Sealed::from_sealed(middle)
                } else {
                    end
                };
                Report {
                    task: view.id,
                    epoch: view.epoch,
                    body: ReportBody::Checkpoint(Checkpoint {
                        from: frontier,
                        to,
                        last: !half,
                        objects: vec![ObjectRef {
                            name: format!("{}-{}-{}-{half}.hfs", job, view.id.index, view.epoch),
                            length: ByteCount(8 << 20),
                            digest: Digest([3; 32]),
                            rows: RowCount(100_000),
                            logical: ByteCount(32 << 20),
                        }],
                        read: ByteCount(32 << 20),
                        written: ByteCount(8 << 20),
                        rows: RowCount(100_000),
                        settled: None,
                    }),
                }
            })
            .collect();
        for chunk in reports.chunks(REPORTS_PER_COMMAND) {
            let (_, effects) = self.apply(Action::Reports {
                reports: chunk.to_vec(),
            });
            self.write_parts(effects);
        }
    }

    fn write_parts(&mut self, mut effects: Vec<Effect>) {
        while let Some(effect) = effects.pop() {
            if let Effect::WritePart { job, part } = effect {
                let record = self.ledger.job(job).expect("a job");
                let (_, entries) = record.sealed_part().expect("a part");
                let entries = entries.len() as u64;
                let (_, more) = self.apply(Action::PartWritten {
                    job,
                    part,
                    object: PartRef {
                        name: format!("part-{part}"),
                        length: ByteCount(1),
                        digest: Digest([4; 32]),
                        entries,
                        store: 0,
                    },
                });
                effects.extend(more);
            }
        }
    }

    fn report(&self, what: &str) {
        let mut counter = Counter(0);
        let start = Instant::now();
        self.ledger.write_snapshot(&mut counter).expect("written");
        println!(
            "{what}: resident {} MiB, snapshot {:.1} MiB in {:.0} ms, clone in {:.2} ms",
            resident_mib(),
            counter.0 as f64 / 1048576.0,
            start.elapsed().as_secs_f64() * 1e3,
            {
                let start = Instant::now();
                let clone = self.ledger.clone();
                let elapsed = start.elapsed().as_secs_f64() * 1e3;
                drop(clone);
                elapsed
            }
        );
    }
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}

fn relations(batch: u64) -> Vec<Relation> {
    if batch > 0 {
        return Vec::new();
    }
    vec![Relation {
        id: RelationId(1),
        name: TableName {
            database: "bank".into(),
            table: "accounts".into(),
        },
        created_at: Position::Hlc(Hlc::ZERO),
        dropped_at: None,
        definition: vec![0; 100],
    }]
}

/// A bound as a sealed 24-byte key would be.
fn bound(number: u64, of: u64) -> Sealed {
    if number == 0 || number == of {
        return Sealed::open_end();
    }
    Sealed::from_sealed(Digest::of(&number.to_le_bytes()).0.repeat(2)[..40].to_vec())
}

fn spans(batch: u64, batches: u64) -> Vec<PlannedSpan> {
    let of = batches * SPANS_PER_BATCH;
    (batch * SPANS_PER_BATCH..(batch + 1) * SPANS_PER_BATCH)
        .map(|number| PlannedSpan {
            relation: RelationId(1),
            start: bound(number, of),
            end: bound(number + 1, of),
            weight: ByteCount(64 << 20),
            settles: false,
        })
        .collect()
}

fn members() -> Vec<MemberRecord> {
    (0..MEMBERS)
        .map(|number| MemberRecord {
            name: format!("m{number}").parse().expect("a name"),
            locality: Locality::default(),
            address: "127.0.0.1:1".into(),
            secret: None,
            limits: holdfast_types::MemberLimits::default(),
        })
        .collect()
}

fn set_up() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.apply(Action::RegisterSource {
        source: SourceRecord {
            name: "app".parse().expect("a name"),
            kind: SourceKind::Mvcc,
            members: members(),
            registered_at: Timestamp::default(),
        },
    });
    for number in 0..WORKERS {
        cluster.apply(Action::RegisterWorker {
            worker: format!("w{number}").parse().expect("a name"),
            incarnation: Incarnation(1),
            locality: Locality::default(),
            slots: SLOTS,
            version: "1".into(),
        });
    }
    let spec = BackupSpec {
        source: "app".parse().expect("a name"),
        kind: SourceKind::Mvcc,
        members: (members().into_iter())
            .map(|member| BackupMember { member })
            .collect(),
        target: Target::Source,
        collection: "file:///b".into(),
        access: holdfast_types::CollectionAccess::default(),
        path: LayerPath::full("2026/11/23-190800.00"),
        parent: None,
        end: Hlc::at(Timestamp::from_millis(1)),
        history: false,
        execution_locality: Locality::default(),
        part_size: 16 << 20,
        hold: holdfast_types::HoldUse::Job,
        encryption: None,
    };
    cluster.apply(Action::SubmitJob {
        job: JobId(1),
        hold: HoldId(1),
        spec: Box::new(JobSpec::Backup(spec)),
        request: None,
    });
    cluster.apply(Action::StartJob { job: JobId(1) });
    cluster
}

fn main() {
    let job = JobId(1);
    println!("before: resident {} MiB", resident_mib());
    let mut cluster = set_up();
    cluster.plan(job);
    cluster.report("1,000,000 spans pending");
    let start = Instant::now();
    let effects = cluster.ledger.pending_effects().len();
    println!(
        "pending effects: {effects} in {:.1} us; progress in {:.1} us",
        start.elapsed().as_secs_f64() * 1e6,
        {
            let start = Instant::now();
            let _ = cluster.ledger.progress(job);
            start.elapsed().as_secs_f64() * 1e6
        }
    );
    (cluster.applying, cluster.encoding, cluster.decoding) = (0.0, 0.0, 0.0);
    cluster.bytes = 0;
    let mut rounds = 0u64;
    let mut granted = 0u64;
    loop {
        let count = cluster.grant(job) as u64;
        if count == 0 {
            break;
        }
        granted += count;
        cluster.work(job, true);
        cluster.work(job, false);
        rounds += 1;
        if rounds == SPANS / u64::from(SLOTS) / WORKERS / 2 {
            cluster.report("half of them done");
        }
    }
    cluster.report("all done, manifest owed");
    let checkpoints = (2 * granted) as f64;
    println!(
        "{checkpoints} checkpoints (with their grants and parts, {} bytes each): \
         apply {:.0}/s, encode {:.0}/s, decode {:.0}/s",
        cluster.bytes / (2 * granted) as usize,
        checkpoints / cluster.applying,
        checkpoints / cluster.encoding,
        checkpoints / cluster.decoding,
    );
    cluster.apply(Action::LayerCommitted {
        job,
        manifest: Digest([5; 32]),
        length: ByteCount(1),
    });
    cluster.report("succeeded");
    println!("{:?}", cluster.ledger.job(job).map(|job| job.state()));
}
