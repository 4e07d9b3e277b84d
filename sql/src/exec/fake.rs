//! A cluster that remembers what it was asked, and answers from a script.

use async_trait::async_trait;
use holdfast_client::{ControlApi, JobStream, v1};
use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// The cluster.
#[derive(Debug)]
pub(crate) struct FakeCluster {
    /// What was asked, in Rust's notation.
    asked: Mutex<Vec<String>>,
    sources: Mutex<Vec<v1::Source>>,
    jobs: Mutex<BTreeMap<u64, watch::Sender<v1::Job>>>,
    /// What a submitted job becomes at once.
    outcome: Mutex<v1::Job>,
    pub(crate) backup: v1::ShowBackupResponse,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn source(name: &str, kind: &str) -> v1::Source {
    v1::Source {
        name: name.to_owned(),
        kind: kind.to_owned(),
        members: vec![v1::Member {
            name: "m0".to_owned(),
            locality: "zone=a".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            has_password: true,
            ..v1::Member::default()
        }],
        registered: "2026-11-23T19:08:00Z".to_owned(),
    }
}

fn layer(path: &str, kind: &str, start: &str, end: &str) -> v1::Layer {
    let table = |table: &str, rows| v1::LayerTable {
        member: "m0".to_owned(),
        database: "bank".to_owned(),
        table: table.to_owned(),
        rows,
        size_bytes: rows * 10,
    };
    v1::Layer {
        path: path.to_owned(),
        backup_type: kind.to_owned(),
        start: start.to_owned(),
        end: end.to_owned(),
        rows: 10,
        size_bytes: 100,
        file_bytes: 50,
        objects: 1,
        tables: vec![table("accounts", 6), table("app.ledger", 4)],
        source: "bank".to_owned(),
        ..v1::Layer::default()
    }
}

impl FakeCluster {
    pub(crate) fn new() -> Self {
        Self {
            asked: Mutex::default(),
            sources: Mutex::new(vec![source("bank", "mvcc"), source("shop", "postgres")]),
            jobs: Mutex::default(),
            outcome: Mutex::new(v1::Job {
                state: "succeeded".to_owned(),
                fraction_completed: 1.0,
                rows: 10,
                ..v1::Job::default()
            }),
            backup: v1::ShowBackupResponse {
                subdir: "2026/11/23-190800.00".to_owned(),
                layers: vec![
                    layer("2026/11/23-190800.00", "full", "", "2026-11-23T19:08:00Z"),
                    layer(
                        "inc",
                        "incremental",
                        "2026-11-23T19:08:00Z",
                        "2026-11-23T20:08:00Z",
                    ),
                ],
                restorable: vec!["2026-11-23T19:08:00Z".to_owned()],
                ..v1::ShowBackupResponse::default()
            },
        }
    }

    pub(crate) fn with_sources(self, sources: Vec<v1::Source>) -> Self {
        *locked(&self.sources) = sources;
        self
    }

    /// What submitted jobs become at once.
    pub(crate) fn submitted_become(&self, job: v1::Job) {
        *locked(&self.outcome) = job;
    }

    /// Puts a job there, or changes it.
    pub(crate) fn put(&self, job: v1::Job) {
        let mut jobs = locked(&self.jobs);
        match jobs.get(&job.id) {
            Some(sender) => {
                sender.send_replace(job);
            }
            None => {
                jobs.insert(job.id, watch::channel(job).0);
            }
        }
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *locked(&self.asked))
    }

    fn note(&self, what: impl std::fmt::Debug) {
        locked(&self.asked).push(format!("{what:?}"));
    }

    /// Requests do not show the URIs in them.
    fn note_places(&self, first: &str, more: &[String]) {
        self.note(("at", first, more));
    }

    /// Members do not show their passwords and limits by themselves.
    fn note_members(&self, members: &[v1::Member]) {
        for member in members {
            let mut asked = locked(&self.asked);
            asked.push(format!(
                "password: {:?}, streams: {:?}, bytes_per_second: {:?}",
                member.password, member.streams, member.bytes_per_second
            ));
        }
    }

    fn submit(&self, kind: &str) -> v1::SubmitJobResponse {
        let id = locked(&self.jobs).keys().last().map_or(7, |last| last + 1);
        let outcome = locked(&self.outcome).clone();
        self.put(v1::Job {
            id,
            kind: kind.to_owned(),
            description: format!("{kind} of something"),
            created: "2026-11-23T19:08:00Z".to_owned(),
            ..outcome
        });
        v1::SubmitJobResponse {
            job: id,
            ..v1::SubmitJobResponse::default()
        }
    }

    fn find(&self, job: u64) -> Result<watch::Receiver<v1::Job>, Fault> {
        let jobs = locked(&self.jobs);
        let sender = jobs
            .get(&job)
            .ok_or_else(|| Fault::new(ErrorCode::NotFound, format!("job {job} does not exist")))?;
        Ok(sender.subscribe())
    }
}

/// A pair.
fn schedules() -> Vec<v1::Schedule> {
    let full = v1::Schedule {
        id: 70,
        label: "nightly".to_owned(),
        status: "ACTIVE".to_owned(),
        next_run: "2026-12-02T00:00:00Z".to_owned(),
        recurrence: "@daily".to_owned(),
        backup_type: "FULL".to_owned(),
        partner: 71,
        source: "bank".to_owned(),
        into: "s3://b/x".to_owned(),
        revision_history: true,
        on_execution_failure: "reschedule".to_owned(),
        on_previous_running: "start".to_owned(),
        created: "2026-12-01T08:00:00Z".to_owned(),
        running: vec![9],
        keys: Some(v1::ScheduleKeys {
            passphrase: true,
            kms: vec!["aws:///k".to_owned()],
            former: false,
        }),
        ..v1::Schedule::default()
    };
    let incremental = v1::Schedule {
        id: 71,
        status: "PAUSED".to_owned(),
        next_run: String::new(),
        state: "Waiting for initial backup to complete".to_owned(),
        recurrence: "@hourly".to_owned(),
        backup_type: "INCREMENTAL".to_owned(),
        partner: 70,
        on_previous_running: "wait".to_owned(),
        running: Vec::new(),
        ..full.clone()
    };
    vec![incremental, full]
}

fn unexpected<T>() -> Result<T, Fault> {
    Err(Fault::new(
        ErrorCode::Internal,
        "no statement asks for this",
    ))
}

#[async_trait]
impl ControlApi for FakeCluster {
    async fn submit_backup(
        &self,
        request: v1::SubmitBackupRequest,
    ) -> Result<v1::SubmitJobResponse, Fault> {
        self.note(&request);
        self.note_places(&request.into, &request.more_into);
        if request.into.contains("no-such") {
            let message = format!(
                "path does not contain a completed latest backup: {}",
                request.into
            );
            return Err(Fault::new(ErrorCode::NotFound, message).hint("take a full backup first"));
        }
        Ok(self.submit("BACKUP"))
    }

    async fn submit_restore(
        &self,
        request: v1::SubmitRestoreRequest,
    ) -> Result<v1::SubmitJobResponse, Fault> {
        self.note(&request);
        self.note_places(&request.from, &request.more_from);
        Ok(self.submit("RESTORE"))
    }

    async fn submit_verify(
        &self,
        request: v1::SubmitVerifyRequest,
    ) -> Result<v1::SubmitJobResponse, Fault> {
        self.note(&request);
        self.note_places(&request.from, &request.more_from);
        Ok(self.submit("VERIFY"))
    }

    async fn expire_backups(
        &self,
        request: v1::ExpireBackupsRequest,
    ) -> Result<v1::ExpireBackupsResponse, Fault> {
        self.note(&request);
        self.note_places(&request.collection, &request.more_collections);
        let chain = |subdir: &str, expires, reason: &str| v1::ExpiringChain {
            subdir: subdir.to_owned(),
            end: "2026-11-23T20:08:00Z".to_owned(),
            layers: 2,
            expires,
            reason: reason.to_owned(),
            ..v1::ExpiringChain::default()
        };
        Ok(v1::ExpireBackupsResponse {
            job: match request.dry_run {
                true => 0,
                false => self.submit("EXPIRE").job,
            },
            existed: false,
            chains: vec![
                chain("2026/11/23-190800.00", true, ""),
                chain(
                    "2026/11/24-190800.00",
                    false,
                    "it is the newest that can be restored",
                ),
            ],
        })
    }

    async fn get_job(&self, job: u64) -> Result<v1::Job, Fault> {
        Ok(self.find(job)?.borrow().clone())
    }

    async fn list_jobs(&self, _: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, Fault> {
        let jobs = locked(&self.jobs);
        let jobs = jobs
            .values()
            .map(|sender| sender.borrow().clone())
            .collect();
        Ok(v1::ListJobsResponse { jobs })
    }

    async fn watch_job(&self, job: u64) -> Result<JobStream, Fault> {
        let receiver = self.find(job)?;
        let stream =
            futures::stream::unfold((receiver, true), |(mut receiver, is_first)| async move {
                if !is_first {
                    receiver.changed().await.ok()?;
                }
                let job = receiver.borrow_and_update().clone();
                Some((Ok(job), (receiver, false)))
            });
        Ok(Box::pin(stream))
    }

    async fn control_job(
        &self,
        request: v1::ControlJobRequest,
    ) -> Result<v1::ControlJobResponse, Fault> {
        self.note(&request);
        let job = self.find(request.job)?.borrow().clone();
        if job.state == "succeeded" {
            let message = "job with status succeeded cannot be requested to be paused";
            return Err(Fault::new(ErrorCode::FailedPrecondition, message));
        }
        Ok(v1::ControlJobResponse::default())
    }

    async fn register_source(
        &self,
        request: v1::RegisterSourceRequest,
    ) -> Result<v1::Source, Fault> {
        self.note(&request);
        self.note_members(&request.members);
        if request.name == "bank" {
            return Err(Fault::new(ErrorCode::AlreadyExists, "source bank exists"));
        }
        Ok(v1::Source::default())
    }

    async fn update_source(&self, request: v1::RegisterSourceRequest) -> Result<v1::Source, Fault> {
        self.note(&request);
        Ok(v1::Source::default())
    }

    async fn drop_source(&self, name: &str) -> Result<(), Fault> {
        self.note(("drop_source", name));
        match locked(&self.sources)
            .iter()
            .any(|source| source.name == name)
        {
            true => Ok(()),
            false => Err(Fault::new(ErrorCode::NotFound, "no such source")),
        }
    }

    async fn list_sources(&self) -> Result<v1::ListSourcesResponse, Fault> {
        Ok(v1::ListSourcesResponse {
            sources: locked(&self.sources).clone(),
        })
    }

    async fn check_source(
        &self,
        request: v1::CheckSourceRequest,
    ) -> Result<v1::CheckSourceResponse, Fault> {
        self.note(&request);
        let report = r#"{"server":"PostgreSQL 15","mode":"log mode","findings":[{"object":"wal_level","level":"blocks","what":"is replica","remedy":"set it to logical"}],"holds":[]}"#;
        Ok(v1::CheckSourceResponse {
            members: vec![v1::CheckedMember {
                name: "m0".to_owned(),
                worker: "w0".to_owned(),
                report: report.to_owned(),
                ..v1::CheckedMember::default()
            }],
        })
    }

    async fn check_restore(
        &self,
        request: v1::SubmitRestoreRequest,
    ) -> Result<v1::CheckRestoreResponse, Fault> {
        self.note(&request);
        Ok(v1::CheckRestoreResponse {
            description: "RESTORE the whole source".to_owned(),
            members: Vec::new(),
        })
    }

    async fn drop_hold(&self, hold: u64) -> Result<v1::DropHoldResponse, Fault> {
        self.note(("drop_hold", hold));
        Ok(v1::DropHoldResponse {
            warning: "the chain gets no further incremental".to_owned(),
            no_op: false,
        })
    }

    async fn create_schedule(
        &self,
        request: v1::CreateScheduleRequest,
    ) -> Result<v1::CreateScheduleResponse, Fault> {
        self.note(&request);
        self.note_places(&request.into, &request.more_into);
        let existed = request.if_not_exists;
        Ok(v1::CreateScheduleResponse {
            schedules: match existed {
                true => Vec::new(),
                false => schedules(),
            },
            existed,
        })
    }

    async fn alter_schedule(
        &self,
        request: v1::AlterScheduleRequest,
    ) -> Result<v1::ListSchedulesResponse, Fault> {
        self.note(&request);
        let into = request.into.as_deref().unwrap_or_default();
        self.note_places(into, &request.more_into);
        self.list_schedules().await
    }

    async fn control_schedule(
        &self,
        request: v1::ControlScheduleRequest,
    ) -> Result<v1::ControlScheduleResponse, Fault> {
        self.note(&request);
        let mut all = schedules().into_iter();
        match all.find(|schedule| schedule.id == request.schedule) {
            None => Err(Fault::new(ErrorCode::NotFound, "there is no schedule")),
            schedule => Ok(v1::ControlScheduleResponse {
                schedule,
                no_op: false,
            }),
        }
    }

    async fn list_schedules(&self) -> Result<v1::ListSchedulesResponse, Fault> {
        Ok(v1::ListSchedulesResponse {
            schedules: schedules(),
        })
    }

    async fn show_keys(&self, _: v1::ShowKeysRequest) -> Result<v1::ChainKeys, Fault> {
        unexpected()
    }

    async fn change_keys(
        &self,
        request: v1::ChangeKeysRequest,
    ) -> Result<v1::ChangeKeysResponse, Fault> {
        self.note(&request);
        Ok(v1::ChangeKeysResponse::default())
    }

    async fn put_connection(
        &self,
        request: v1::PutConnectionRequest,
    ) -> Result<v1::Connection, Fault> {
        self.note(&request);
        self.note_places(&request.uri, &[]);
        match (request.name.as_str(), request.alter) {
            ("store", false) => Err(Fault::new(ErrorCode::AlreadyExists, "it exists")),
            ("store", true) | (_, false) => Ok(v1::Connection::default()),
            _ => Err(Fault::new(ErrorCode::NotFound, "there is none")),
        }
    }

    async fn drop_connection(&self, name: &str) -> Result<(), Fault> {
        self.note(("drop_connection", name));
        Ok(())
    }

    async fn list_connections(&self, name: &str) -> Result<v1::ListConnectionsResponse, Fault> {
        self.note(("list_connections", name));
        Ok(v1::ListConnectionsResponse {
            connections: vec![v1::Connection {
                name: "store".to_owned(),
                uri: "s3://bucket/x?AWS_SECRET_ACCESS_KEY=redacted".to_owned(),
                changed: "2026-12-01T08:00:00Z".to_owned(),
            }],
        })
    }

    async fn put_user(&self, request: v1::PutUserRequest) -> Result<v1::User, Fault> {
        self.note(&request);
        match (request.name.as_str(), request.alter) {
            ("ann", false) => Err(Fault::new(ErrorCode::AlreadyExists, "it exists")),
            ("ann", true) | (_, false) => Ok(v1::User::default()),
            _ => Err(Fault::new(ErrorCode::NotFound, "there is none")),
        }
    }

    async fn drop_user(&self, name: &str) -> Result<(), Fault> {
        self.note(("drop_user", name));
        match name {
            "ann" => Ok(()),
            _ => Err(Fault::new(ErrorCode::NotFound, "there is none")),
        }
    }

    async fn list_users(&self) -> Result<v1::ListUsersResponse, Fault> {
        Ok(v1::ListUsersResponse {
            users: vec![v1::User {
                name: "ann".to_owned(),
                created: "2026-12-01T08:00:00Z".to_owned(),
                changed: "2026-12-01T09:00:00Z".to_owned(),
            }],
        })
    }

    async fn check_connection(
        &self,
        request: v1::CheckConnectionRequest,
    ) -> Result<v1::CheckConnectionResponse, Fault> {
        self.note(&request);
        self.note_places(&request.uri, &[]);
        Ok(v1::CheckConnectionResponse {
            place: "s3://bucket/x".to_owned(),
            workers: vec![v1::CheckedStore {
                worker: "w0".to_owned(),
                locality: "zone=a".to_owned(),
                transferred: 1024,
                read_speed: 2048,
                write_speed: 4096,
                can_delete: true,
                ..v1::CheckedStore::default()
            }],
        })
    }

    async fn check_residency(
        &self,
        _: v1::CheckResidencyRequest,
    ) -> Result<v1::CheckResidencyResponse, Fault> {
        unexpected()
    }

    async fn list_backups(&self, _: &str) -> Result<v1::ListBackupsResponse, Fault> {
        let chain = |subdir: &str, end: &str| v1::Chain {
            subdir: subdir.to_owned(),
            end: end.to_owned(),
            layers: 1,
            latest: false,
            encrypted: false,
        };
        Ok(v1::ListBackupsResponse {
            chains: vec![
                chain("2026/11/24-190800.00", "2026-11-24T19:08:00Z"),
                chain("2026/11/23-190800.00", "2026-11-23T20:08:00Z"),
            ],
        })
    }

    async fn show_backup(&self, _: v1::ShowBackupRequest) -> Result<v1::ShowBackupResponse, Fault> {
        Ok(self.backup.clone())
    }

    async fn cluster_status(&self) -> Result<v1::ClusterStatusResponse, Fault> {
        Ok(v1::ClusterStatusResponse {
            cluster_id: "c".to_owned(),
            node: 1,
            leader: 2,
            version: "x".to_owned(),
            settings: [("part_size".to_owned(), 5), ("max_jobs".to_owned(), 6)].into(),
            workers: vec![v1::Worker {
                id: "w0".to_owned(),
                locality: "zone=a,rack=1".to_owned(),
                slots: 4,
                ..v1::Worker::default()
            }],
            ..v1::ClusterStatusResponse::default()
        })
    }

    async fn init_cluster(
        &self,
        _: v1::InitClusterRequest,
    ) -> Result<v1::InitClusterResponse, Fault> {
        unexpected()
    }

    async fn add_member(&self, _: v1::AddMemberRequest) -> Result<v1::MembersResponse, Fault> {
        unexpected()
    }

    async fn remove_member(&self, _: u64) -> Result<v1::MembersResponse, Fault> {
        unexpected()
    }

    async fn set_setting(&self, name: &str, value: u64) -> Result<(), Fault> {
        self.note(("set_setting", name, value));
        Ok(())
    }
}
