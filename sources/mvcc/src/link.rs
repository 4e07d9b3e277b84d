//! Calls to a member over gRPC: deadlines, and faults that say which member they speak of.

use futures::StreamExt;
use futures::stream;
use holdfast_env::Net;
use holdfast_proto::v1;
use holdfast_proto::v1::mvcc_member_client::MvccMemberClient;
use holdfast_proto::{CallKind, ChannelOptions, MAX_MESSAGE_SIZE, channel, status_to_fault};
use holdfast_source::{Row, RowStream};
use holdfast_types::{ErrorCode, Fault};
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::wire;

/// Until a call must be answered. Commits wait for a sync of the member's disk, which may be slow.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Until the next message of a stream must come. A member that looks through changes in vain still sends nothing for a while.
const STREAM_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes that one key may have in a read: above what a member of this version sends, and a bound for one that is broken.
const MAX_BATCH_LENGTH: usize = 512 * 1024 * 1024;

/// What a fault says of a member that does not answer.
const UNREACHED: &str = "cannot be reached";

/// A connection to one member.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// The member and its address, for faults.
    label: Arc<str>,
    client: MvccMemberClient<Channel>,
}

/// Opens a channel to a member; connecting is lazy.
pub(crate) fn open_channel(net: Arc<dyn Net>, address: &str) -> Result<Channel, Fault> {
    let options = ChannelOptions {
        // Streams live as long as they have to; calls have deadlines of their own.
        call_timeout: None,
        ..ChannelOptions::default()
    };
    channel(net, address, options).map_err(|_| {
        Fault::new(
            ErrorCode::InvalidArgument,
            format!("\"{}\" is not an address", address.escape_debug()),
        )
        .hint("write it as host:port")
    })
}

impl Link {
    pub(crate) fn new(label: String, channel: Channel) -> Self {
        Self {
            label: label.into(),
            client: MvccMemberClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_SIZE)
                .max_encoding_message_size(MAX_MESSAGE_SIZE),
        }
    }

    /// Makes a call that may be repeated.
    pub(crate) async fn call<Q, A, F>(
        &self,
        request: Q,
        method: impl FnOnce(MvccMemberClient<Channel>, Request<Q>) -> F,
    ) -> Result<A, Fault>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.call_as(CallKind::Repeatable, request, method).await
    }

    /// Makes a call within its deadline; of a stream, the deadline is for its start. The member learns the deadline, and stops as well.
    pub(crate) async fn call_as<Q, A, F>(
        &self,
        kind: CallKind,
        request: Q,
        method: impl FnOnce(MvccMemberClient<Channel>, Request<Q>) -> F,
    ) -> Result<A, Fault>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut request = Request::new(request);
        request.set_timeout(CALL_TIMEOUT);
        let call = method(self.client.clone(), request);
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.fault(&status, kind)),
            Err(_) => Err(self.silent(CALL_TIMEOUT, kind)),
        }
    }

    /// The fault that a status amounts to. What the transport says is marked with the member.
    fn fault(&self, status: &Status, kind: CallKind) -> Fault {
        let mut fault = status_to_fault(status, kind);
        if status.details().is_empty() {
            if fault.code == ErrorCode::DeadlineExceeded {
                fault.code = ErrorCode::Unavailable;
            }
            fault = match fault.code {
                ErrorCode::Unavailable => fault.context(format_args!("{} {UNREACHED}", self.label)),
                _ => fault.context(&self.label),
            };
        }
        fault
    }

    fn silent(&self, limit: Duration, kind: CallKind) -> Fault {
        let code = match kind {
            CallKind::Repeatable => ErrorCode::Unavailable,
            CallKind::Mutation => ErrorCode::Unknown,
        };
        Fault::new(
            code,
            format!(
                "{} {UNREACHED}: it did not answer for {} s",
                self.label,
                limit.as_secs()
            ),
        )
    }

    /// The next message of a stream.
    pub(crate) async fn next<T>(&self, messages: &mut Streaming<T>) -> Result<Option<T>, Fault> {
        match tokio::time::timeout(STREAM_TIMEOUT, messages.message()).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(status)) => Err(self.fault(&status, CallKind::Repeatable)),
            Err(_) => Err(self.silent(STREAM_TIMEOUT, CallKind::Repeatable)),
        }
    }

    /// Reads rows. Dropping the stream ends the read on the member.
    pub(crate) async fn read(&self, request: v1::MvccReadRequest) -> Result<RowStream, Fault> {
        let messages = self
            .call(request, |mut member, request| async move {
                member.read(request).await
            })
            .await?;
        let link = self.clone();
        let rows = stream::unfold(Some(messages), move |messages| {
            let link = link.clone();
            async move {
                let mut messages = messages?;
                match link.next_rows(&mut messages).await {
                    Ok(None) => None,
                    Ok(Some(rows)) => Some((Ok(rows), Some(messages))),
                    Err(fault) => Some((Err(fault), None)),
                }
            }
        });
        Ok(rows.boxed())
    }

    /// The next batch of rows, which never ends within the versions of a key.
    async fn next_rows(
        &self,
        messages: &mut Streaming<v1::MvccReadBatch>,
    ) -> Result<Option<Vec<Row>>, Fault> {
        let (mut rows, mut length) = (Vec::new(), 0);
        loop {
            match self.next(messages).await? {
                None if rows.is_empty() => return Ok(None),
                None => {
                    return Err(Fault::new(
                        ErrorCode::Unavailable,
                        format!("{} ended a read within a key", self.label),
                    ));
                }
                Some(batch) => {
                    rows.extend(batch.rows.into_iter().map(|row| {
                        let row = wire::row_from_wire(row);
                        length += row.logical_len();
                        row
                    }));
                    if length > MAX_BATCH_LENGTH {
                        return Err(Fault::new(
                            ErrorCode::FailedPrecondition,
                            format!("{} sends one key without an end", self.label),
                        ));
                    }
                    if !batch.continues && !rows.is_empty() {
                        return Ok(Some(rows));
                    }
                }
            }
        }
    }
}
