//! The cluster's identity and its settings.

use holdfast_types::{ClusterId, ErrorCode, Fault};

use super::Apply;
use crate::outcome::Outcome;

impl Apply<'_> {
    pub(super) fn init_cluster(&mut self, cluster: ClusterId) -> Result<Outcome, Fault> {
        match self.ledger.cluster {
            Some(own) if own == cluster => Ok(Outcome::NoOp),
            Some(own) => Err(Fault::new(
                ErrorCode::AlreadyExists,
                format!("the cluster is initialised already, as {own}"),
            )
            .hint("to make another cluster, start its nodes with empty data directories")),
            None => {
                self.ledger.cluster = Some(cluster);
                Ok(Outcome::Done)
            }
        }
    }

    pub(super) fn set_setting(&mut self, name: &str, value: u64) -> Result<Outcome, Fault> {
        Ok(if self.ledger.settings.set(name, value)? {
            Outcome::Done
        } else {
            Outcome::NoOp
        })
    }
}
