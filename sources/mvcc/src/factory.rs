//! Making clients of members from their records.

use holdfast_env::Net;
use holdfast_source::{Source, SourceFactory};
use holdfast_types::{ErrorCode, Fault, MemberRecord, SourceKind};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tonic::transport::Channel;

use crate::link::open_channel;
use crate::remote::RemoteMember;

/// Channels that are kept open for the next client of the same address. The one that was not asked for longest is let go first.
const MAX_CHANNELS: usize = 128;

/// Makes [`RemoteMember`]s. Clients of one address share a connection.
#[derive(Debug)]
pub struct MvccFactory {
    net: Arc<dyn Net>,
    channels: Mutex<Channels>,
}

#[derive(Debug, Default)]
struct Channels {
    by_address: BTreeMap<String, (Channel, u64)>,
    /// Grows with every use.
    uses: u64,
}

impl MvccFactory {
    /// A factory whose clients connect over this network.
    #[must_use]
    pub fn new(net: Arc<dyn Net>) -> Self {
        Self {
            net,
            channels: Mutex::default(),
        }
    }

    fn channel(&self, address: &str) -> Result<Channel, Fault> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.uses += 1;
        let now = channels.uses;
        if let Some((channel, used)) = channels.by_address.get_mut(address) {
            *used = now;
            return Ok(channel.clone());
        }
        let channel = open_channel(Arc::clone(&self.net), address)?;
        if channels.by_address.len() >= MAX_CHANNELS {
            let oldest = channels
                .by_address
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(address, _)| address.clone());
            if let Some(oldest) = oldest {
                channels.by_address.remove(&oldest);
            }
        }
        let entry = (channel.clone(), now);
        channels.by_address.insert(address.to_owned(), entry);
        Ok(channel)
    }
}

impl SourceFactory for MvccFactory {
    fn member(&self, kind: SourceKind, member: &MemberRecord) -> Result<Arc<dyn Source>, Fault> {
        match kind {
            SourceKind::Mvcc => {
                let channel = self.channel(&member.address)?;
                let name = member.name.as_str();
                Ok(Arc::new(RemoteMember::over(channel, name, &member.address)))
            }
            other => Err(Fault::new(
                ErrorCode::Unsupported,
                format!("this build serves no source of kind {other}"),
            )),
        }
    }
}
