//! What a worker is told at its start.

use holdfast_node::ClusterKey;
use holdfast_types::{ClusterId, ErrorCode, Fault, Locality, WorkerId};

/// The most tasks a worker takes at once; each holds a few parts in memory.
const MAX_SLOTS: u32 = 256;

/// What a worker is told at its start.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Its name, unique in the cluster.
    pub id: WorkerId,
    /// Where it is.
    pub locality: Locality,
    /// How many tasks it does at once. Each takes at most three parts of memory.
    pub slots: u32,
    /// Addresses (`host:port`) of coordinators, at least one of them alive. The rest is learned from the leader.
    pub coordinators: Vec<String>,
    /// The cluster it belongs to, if it is known: a leader of another one is refused.
    pub cluster: Option<ClusterId>,
    /// The cluster's key.
    pub cluster_key: ClusterKey,
}

impl WorkerConfig {
    /// A worker with two slots and no locality.
    #[must_use]
    pub fn new(id: WorkerId, coordinators: Vec<String>, cluster_key: ClusterKey) -> Self {
        Self {
            id,
            locality: Locality::default(),
            slots: 2,
            coordinators,
            cluster: None,
            cluster_key,
        }
    }

    /// Checks what can be checked without the outside.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the setting.
    pub fn check(&self) -> Result<(), Fault> {
        let invalid = |text: String| Err(Fault::new(ErrorCode::InvalidArgument, text));
        if self.slots == 0 || self.slots > MAX_SLOTS {
            return invalid(format!(
                "a worker has 1 to {MAX_SLOTS} slots, not {}",
                self.slots
            ));
        }
        if self.coordinators.is_empty() {
            return invalid("a worker needs the address of at least one coordinator".to_owned());
        }
        match self
            .coordinators
            .iter()
            .find(|address| !is_address(address))
        {
            Some(address) => invalid(format!(
                "coordinator address \"{}\" must be in the form host:port",
                address.escape_debug()
            )),
            None => Ok(()),
        }
    }
}

/// Whether a text has the form `host:port`. What a coordinator tells is checked with it too.
pub(crate) fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && host.len() <= 255 && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> WorkerConfig {
        WorkerConfig::new(
            "w1".parse().expect("a name"),
            vec!["localhost:7000".to_owned()],
            ClusterKey::from_bytes(&[1; 32]),
        )
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        assert_eq!(config().check(), Ok(()));
        for slots in [0, MAX_SLOTS + 1] {
            let config = WorkerConfig { slots, ..config() };
            let fault = config.check().expect_err("slots out of range");
            assert!(fault.message.contains("slots"), "{fault}");
        }
        for address in ["localhost", "localhost:", ":1", "localhost:0", "a:99999"] {
            let config = WorkerConfig {
                coordinators: vec![address.to_owned()],
                ..config()
            };
            let fault = config.check().expect_err(address);
            assert!(fault.message.contains(address), "{fault}");
        }
    }
}
