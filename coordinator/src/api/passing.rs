//! Questions that the leader answers better: passed on to it over gRPC, with a deadline, and marked so that they are not passed on
//! again.

use holdfast_env::Env;
use holdfast_proto::v1::control_client::ControlClient;
use holdfast_proto::{CallKind, ChannelOptions, MAX_MESSAGE_SIZE, channel, status_to_fault};
use holdfast_types::{ErrorCode, Fault};
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::core::Core;

/// The header by which a coordinator marks a request that it passes on to the leader: whoever receives it answers by itself.
pub const PASSED_ON: &str = "holdfast-passed-on";

/// For the leader's answer. Shorter than any client waits: there is time left to answer from this node's own state.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// The line to the leader.
#[derive(Debug, Default)]
pub(crate) struct LeaderLine(Mutex<Option<(String, Channel)>>);

impl LeaderLine {
    /// Asks the leader, if it is another node and can be reached. `None` if this node has to answer by itself.
    pub(crate) async fn ask<Q, A, F>(
        &self,
        core: &Core,
        question: Q,
        call: impl FnOnce(ControlClient<Channel>, Request<Q>) -> F,
    ) -> Option<Result<A, Fault>>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.ask_within(core, ANSWER_TIMEOUT, question, call).await
    }

    /// The same within another time.
    pub(crate) async fn ask_within<Q, A, F>(
        &self,
        core: &Core,
        limit: Duration,
        question: Q,
        call: impl FnOnce(ControlClient<Channel>, Request<Q>) -> F,
    ) -> Option<Result<A, Fault>>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let (leader, address) = core.replica.leader()?;
        if leader == core.config.raft.node {
            return None;
        }
        let client = self.client(&core.env, &address)?;
        let mut request = Request::new(question);
        request
            .metadata_mut()
            .insert(PASSED_ON, MetadataValue::from_static("1"));
        match tokio::time::timeout(limit, call(client, request)).await {
            Ok(Ok(answer)) => Some(Ok(answer.into_inner())),
            Ok(Err(status)) => {
                let fault = status_to_fault(&status, CallKind::Repeatable);
                let unreachable = matches!(
                    fault.code,
                    ErrorCode::Unavailable | ErrorCode::NoLeader | ErrorCode::DeadlineExceeded
                );
                (!unreachable).then_some(Err(fault))
            }
            Err(_) => None,
        }
    }

    fn client(&self, env: &Env, address: &str) -> Option<ControlClient<Channel>> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match &*line {
            Some((known, channel)) if known == address => channel.clone(),
            _ => {
                let options = ChannelOptions {
                    call_timeout: None,
                    ..ChannelOptions::default()
                };
                let fresh = channel(Arc::clone(&env.net), address, options).ok()?;
                *line = Some((address.to_owned(), fresh.clone()));
                fresh
            }
        };
        Some(ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE_SIZE))
    }
}
