//! The gRPC service over a store: decodes, calls, encodes.

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use holdfast_proto::v1;
use holdfast_proto::v1::mvcc_member_server::{MvccMember, MvccMemberServer};
use holdfast_proto::{MAX_MESSAGE_SIZE, fault_to_status};
use holdfast_source::{RestoreTable, Row};
use holdfast_types::{ByteCount, Fault, Hlc, HoldId, JobId, Millis, RelationId};
use tonic::{Request, Response, Status};

use crate::store::MvccStore;
use crate::wire;

/// Bytes of rows in one message. Far below [`MAX_MESSAGE_SIZE`], so that one more row of the largest size still fits.
const MESSAGE_LENGTH: usize = 2 * 1024 * 1024;

/// Ranges of a plan in one message: their keys may be long.
const PLAN_MESSAGE_RANGES: usize = 256;

const _: () = assert!(
    MESSAGE_LENGTH + crate::mutation::MAX_ROW_LENGTH + 1024 * 1024 < MAX_MESSAGE_SIZE,
    "a message of rows must fit"
);
const _: () = assert!(
    PLAN_MESSAGE_RANGES * 2 * (crate::mutation::MAX_KEY_LENGTH + 64) < MAX_MESSAGE_SIZE,
    "a message of ranges must fit"
);
const _: () = assert!(
    crate::mutation::MAX_TRANSACTION_LENGTH < MAX_MESSAGE_SIZE,
    "a transaction must fit a message"
);

/// Serves one store.
#[derive(Debug, Clone)]
pub struct MemberService {
    store: MvccStore,
}

/// The service of a store, to be added to a tonic server.
#[must_use]
pub fn service(store: MvccStore) -> MvccMemberServer<MemberService> {
    MvccMemberServer::new(MemberService { store })
        .max_decoding_message_size(MAX_MESSAGE_SIZE)
        .max_encoding_message_size(MAX_MESSAGE_SIZE)
}

type Answer<T> = Result<Response<T>, Status>;

/// Turns a result into an answer.
fn answer<T>(result: Result<T, Fault>) -> Answer<T> {
    result
        .map(Response::new)
        .map_err(|fault| fault_to_status(&fault))
}

fn position_answer(result: Result<Hlc, Fault>) -> Answer<v1::MvccPosition> {
    answer(result.map(wire::position_to_wire))
}

/// Cuts a batch of rows into messages.
fn messages(rows: Vec<Row>) -> Result<Vec<v1::MvccReadBatch>, Fault> {
    let mut messages = Vec::new();
    let (mut current, mut length) = (Vec::new(), 0);
    let mut rows = rows.into_iter().peekable();
    while let Some(row) = rows.next() {
        length += row.logical_len() + 32;
        let continues = rows.peek().is_some_and(|next| next.key == row.key);
        current.push(wire::row_to_wire(row)?);
        if length >= MESSAGE_LENGTH || rows.peek().is_none() {
            messages.push(v1::MvccReadBatch {
                rows: std::mem::take(&mut current),
                continues,
            });
            length = 0;
        }
    }
    Ok(messages)
}

impl MemberService {
    async fn describe_relations(
        &self,
        request: v1::MvccDescribeRequest,
    ) -> Result<v1::MvccDescribeResponse, Fault> {
        let target = wire::target_from_wire(request.databases, request.tables)?;
        let at = wire::required(request.at, "a position")?;
        let after = request.dropped_after.map(wire::position_from_wire);
        let relations = match after {
            _ if request.databases_themselves => {
                self.store.describe_databases(&target, after, at).await?
            }
            None => self.store.describe(&target, at).await?,
            Some(after) => self.store.dropped(&target, after, at).await?,
        };
        let relations = relations.iter().map(wire::relation_to_wire);
        Ok(v1::MvccDescribeResponse {
            relations: relations.collect::<Result<_, _>>()?,
        })
    }

    async fn plan_ranges(
        &self,
        request: v1::MvccPlanRequest,
    ) -> Result<BoxStream<'static, Result<v1::MvccPlanBatch, Status>>, Fault> {
        let window = wire::window_from_wire(request.window)?;
        let target = ByteCount(request.target_bytes);
        let plan = self
            .store
            .plan(RelationId(request.relation), window, target)
            .await?;
        let batches = plan.map_ok(|ranges| {
            let ranges: Vec<_> = ranges
                .iter()
                .map(|(range, bytes)| v1::MvccPlannedRange {
                    range: Some(wire::range_to_wire(range)),
                    bytes: bytes.0,
                })
                .collect();
            let batches: Vec<_> = ranges
                .chunks(PLAN_MESSAGE_RANGES)
                .map(|ranges| {
                    Ok(v1::MvccPlanBatch {
                        ranges: ranges.to_vec(),
                    })
                })
                .collect();
            stream::iter(batches)
        });
        let batches = batches.try_flatten();
        Ok(batches
            .map_err(|fault: Fault| fault_to_status(&fault))
            .boxed())
    }

    async fn read_rows(
        &self,
        request: v1::MvccReadRequest,
    ) -> Result<BoxStream<'static, Result<v1::MvccReadBatch, Status>>, Fault> {
        let window = wire::window_from_wire(request.window)?;
        let range = wire::range_from_wire(request.range);
        let rows = self
            .store
            .read(RelationId(request.relation), range, window)
            .await?;
        let batches = rows
            .and_then(|rows| std::future::ready(messages(rows)))
            .map_ok(|messages| stream::iter(messages.into_iter().map(Ok)))
            .try_flatten();
        Ok(batches
            .map_err(|fault: Fault| fault_to_status(&fault))
            .boxed())
    }

    async fn prepare(&self, request: v1::MvccPrepareRequest) -> Result<(), Fault> {
        let tables = request
            .tables
            .into_iter()
            .map(|table| {
                let relation = table.relation.ok_or_else(|| wire::missing("a relation"))?;
                Ok(RestoreTable {
                    relation: wire::relation_from_wire(relation)?,
                    name: wire::table_from_wire(table.name)?,
                })
            })
            .collect::<Result<Vec<_>, Fault>>()?;
        self.store
            .prepare_restore(JobId(request.job), &tables, request.into_existing)
            .await
    }

    async fn load_rows(&self, request: v1::MvccLoadRequest) -> Result<(), Fault> {
        let table = wire::table_from_wire(request.table)?;
        let rows = request.rows.into_iter().map(wire::row_from_wire).collect();
        self.store.load(JobId(request.job), &table, rows).await
    }

    async fn fingerprint_range(
        &self,
        request: v1::MvccFingerprintRequest,
    ) -> Result<v1::MvccFingerprintResponse, Fault> {
        let job = (request.job != 0).then_some(JobId(request.job));
        let table = wire::table_from_wire(request.table)?;
        let range = wire::range_from_wire(request.range);
        let at = request.at.map(wire::position_from_wire);
        let step = self.store.fingerprint_step(job, &table, range, at).await?;
        Ok(v1::MvccFingerprintResponse {
            rows: step.sum.rows.0,
            bytes: step.sum.bytes.0,
            digest: step.sum.digest.0.to_vec().into(),
            more: step.next.is_some(),
            next: step.next.unwrap_or_default(),
            at: step.at.map(wire::position_to_wire),
        })
    }

    async fn commit(&self, request: v1::MvccWriteRequest) -> Result<Hlc, Fault> {
        let mutations = request
            .mutations
            .into_iter()
            .map(wire::mutation_from_wire)
            .collect::<Result<_, _>>()?;
        match request.unless_changed_since {
            None => self.store.write(mutations).await,
            Some(since) => {
                let since = wire::position_from_wire(since);
                self.store.write_unless_changed(mutations, since).await
            }
        }
    }

    async fn get_row(&self, request: v1::MvccGetRequest) -> Result<v1::MvccGetResponse, Fault> {
        let table = wire::table_from_wire(request.table)?;
        let at = request.at.map(wire::position_from_wire);
        let (at, row) = self.store.get(&table, &request.key, at).await?;
        Ok(v1::MvccGetResponse {
            row: row.map(wire::row_to_wire).transpose()?,
            at: Some(wire::position_to_wire(at)),
        })
    }
}

#[tonic::async_trait]
impl MvccMember for MemberService {
    type PlanStream = BoxStream<'static, Result<v1::MvccPlanBatch, Status>>;
    type ReadStream = BoxStream<'static, Result<v1::MvccReadBatch, Status>>;

    async fn ping(&self, request: Request<v1::MvccPing>) -> Answer<v1::MvccPing> {
        Ok(Response::new(request.into_inner()))
    }

    async fn position(
        &self,
        request: Request<v1::MvccPositionRequest>,
    ) -> Answer<v1::MvccPosition> {
        let at_least = request.into_inner().at_least;
        let at_least = at_least.map(wire::position_from_wire).unwrap_or_default();
        position_answer(self.store.position(at_least).await)
    }

    async fn hold(&self, request: Request<v1::MvccHoldRequest>) -> Answer<v1::MvccHoldResponse> {
        let request = request.into_inner();
        let held = match wire::required(request.at, "a position") {
            Ok(at) => self.store.hold(HoldId(request.hold), at).await,
            Err(fault) => Err(fault),
        };
        answer(held.map(|()| v1::MvccHoldResponse {}))
    }

    async fn release(
        &self,
        request: Request<v1::MvccReleaseRequest>,
    ) -> Answer<v1::MvccReleaseResponse> {
        let released = self.store.release(HoldId(request.into_inner().hold)).await;
        answer(released.map(|()| v1::MvccReleaseResponse {}))
    }

    async fn describe(
        &self,
        request: Request<v1::MvccDescribeRequest>,
    ) -> Answer<v1::MvccDescribeResponse> {
        answer(self.describe_relations(request.into_inner()).await)
    }

    async fn databases(
        &self,
        request: Request<v1::MvccDatabasesRequest>,
    ) -> Answer<v1::MvccDatabasesResponse> {
        let names = match wire::required(request.into_inner().at, "a position") {
            Ok(at) => self.store.databases(at).await,
            Err(fault) => Err(fault),
        };
        answer(names.map(|names| v1::MvccDatabasesResponse { names }))
    }

    async fn plan(&self, request: Request<v1::MvccPlanRequest>) -> Answer<Self::PlanStream> {
        answer(self.plan_ranges(request.into_inner()).await)
    }

    async fn read(&self, request: Request<v1::MvccReadRequest>) -> Answer<Self::ReadStream> {
        answer(self.read_rows(request.into_inner()).await)
    }

    async fn prepare_restore(
        &self,
        request: Request<v1::MvccPrepareRequest>,
    ) -> Answer<v1::MvccPrepareResponse> {
        let prepared = self.prepare(request.into_inner()).await;
        answer(prepared.map(|()| v1::MvccPrepareResponse {}))
    }

    async fn load(&self, request: Request<v1::MvccLoadRequest>) -> Answer<v1::MvccLoadResponse> {
        let loaded = self.load_rows(request.into_inner()).await;
        answer(loaded.map(|()| v1::MvccLoadResponse {}))
    }

    async fn fingerprint(
        &self,
        request: Request<v1::MvccFingerprintRequest>,
    ) -> Answer<v1::MvccFingerprintResponse> {
        answer(self.fingerprint_range(request.into_inner()).await)
    }

    async fn publish(
        &self,
        request: Request<v1::MvccPublishRequest>,
    ) -> Answer<v1::MvccPublishResponse> {
        let published = self.store.publish(JobId(request.into_inner().job)).await;
        answer(published.map(|()| v1::MvccPublishResponse {}))
    }

    async fn discard(
        &self,
        request: Request<v1::MvccDiscardRequest>,
    ) -> Answer<v1::MvccDiscardResponse> {
        let job = JobId(request.into_inner().job);
        let more = self.store.discard_step(job).await;
        answer(more.map(|more| v1::MvccDiscardResponse { more }))
    }

    async fn create_database(
        &self,
        request: Request<v1::MvccCreateDatabaseRequest>,
    ) -> Answer<v1::MvccPosition> {
        let name = request.into_inner().name;
        position_answer(self.store.create_database(&name).await)
    }

    async fn create_table(
        &self,
        request: Request<v1::MvccCreateTableRequest>,
    ) -> Answer<v1::MvccRelation> {
        let request = request.into_inner();
        let created = match wire::table_from_wire(request.name) {
            Ok(name) => self.store.create_table(&name, request.definition).await,
            Err(fault) => Err(fault),
        };
        answer(created.and_then(|relation| wire::relation_to_wire(&relation)))
    }

    async fn drop_table(
        &self,
        request: Request<v1::MvccDropTableRequest>,
    ) -> Answer<v1::MvccPosition> {
        let dropped = match wire::table_from_wire(request.into_inner().name) {
            Ok(name) => self.store.drop_table(&name).await,
            Err(fault) => Err(fault),
        };
        position_answer(dropped)
    }

    async fn drop_database(
        &self,
        request: Request<v1::MvccDropDatabaseRequest>,
    ) -> Answer<v1::MvccPosition> {
        let name = request.into_inner().name;
        position_answer(self.store.drop_database(&name).await)
    }

    async fn write(&self, request: Request<v1::MvccWriteRequest>) -> Answer<v1::MvccPosition> {
        position_answer(self.commit(request.into_inner()).await)
    }

    async fn get(&self, request: Request<v1::MvccGetRequest>) -> Answer<v1::MvccGetResponse> {
        answer(self.get_row(request.into_inner()).await)
    }

    async fn collect_garbage(
        &self,
        request: Request<v1::MvccGcRequest>,
    ) -> Answer<v1::MvccGcResponse> {
        let ttl = request.into_inner().ttl_ms.map(Millis);
        let step = self.store.gc_step(ttl).await;
        answer(step.map(|step| v1::MvccGcResponse {
            threshold: Some(wire::position_to_wire(step.threshold)),
            removed: step.removed,
            more: step.more,
        }))
    }

    async fn set_time_to_live(
        &self,
        request: Request<v1::MvccTtlRequest>,
    ) -> Answer<v1::MvccTtlResponse> {
        let ttl = Millis(request.into_inner().ttl_ms);
        let set = self.store.set_time_to_live(ttl).await;
        answer(set.map(|()| v1::MvccTtlResponse {}))
    }

    async fn status(
        &self,
        _request: Request<v1::MvccStatusRequest>,
    ) -> Answer<v1::MvccStatusResponse> {
        answer(self.store.status().map(wire::status_to_wire))
    }
}
