//! The claim on a layer's directory: which job writes there.

use holdfast_types::{ClusterId, Digest, ErrorCode, Fault, JobId, LayerPath};

/// Who writes a layer. Stored once, before anything else, as a short text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its job.
    pub job: JobId,
}

/// The first line of a claim.
const HEAD: &str = "holdfast-claim 1";

impl Claim {
    /// The claim as it is stored; its last line is the digest of those before.
    #[must_use]
    pub fn encode(&self) -> String {
        let text = format!("{HEAD}\ncluster {}\njob {}\n", self.cluster, self.job);
        let digest = Digest::of(text.as_bytes());
        format!("{text}digest {digest}\n")
    }

    /// Reads a stored claim.
    ///
    /// # Errors
    /// `Corrupted` if it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let parse = || {
            let mut lines = std::str::from_utf8(bytes).ok()?.lines();
            (lines.next()? == HEAD).then_some(())?;
            let claim = Self {
                cluster: lines.next()?.strip_prefix("cluster ")?.parse().ok()?,
                job: lines.next()?.strip_prefix("job ")?.parse().ok()?,
            };
            (claim.encode().as_bytes() == bytes).then_some(claim)
        };
        parse().ok_or_else(|| Fault::new(ErrorCode::Corrupted, "a layer's claim is damaged"))
    }

    /// The error for a layer that somebody else claimed.
    pub(crate) fn taken(&self, path: &LayerPath) -> Fault {
        Fault::new(
            ErrorCode::FailedPrecondition,
            format!(
                "layer {path} is claimed by job {} of cluster {} (object {path}/{})",
                self.job,
                self.cluster,
                crate::layout::CLAIM
            ),
        )
        .hint("two backups never share a directory: start the backup again, at a later time")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_read_back_and_nothing_else_is() {
        let claim = Claim {
            cluster: ClusterId([9; 16]),
            job: JobId(77),
        };
        let bytes = claim.encode();
        assert_eq!(Claim::decode(bytes.as_bytes()).expect("legal"), claim);
        for damaged in [
            "",
            "holdfast-claim 2\n",
            &bytes[..bytes.len() - 1],
            &format!("{bytes}x"),
        ] {
            assert!(Claim::decode(damaged.as_bytes()).is_err(), "{damaged}");
        }
    }
}
