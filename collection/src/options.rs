//! What a process allows stores, and where it keeps its own.

use holdfast_types::{ErrorCode, Fault};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::uri::Scheme;

/// What a process allows stores. The default: everything but `nodelocal`, without limits.
#[derive(Clone)]
pub struct StoreOptions {
    /// The directory below which `nodelocal://self/` lies.
    pub external_io_dir: Option<String>,
    /// Whether credentials may come from the process's environment, files and machine (`AUTH=implicit`).
    pub implicit_credentials: bool,
    /// Whether a URI may name a service other than the provider's own.
    pub custom_endpoints: bool,
    /// Certificates that are trusted besides the system's, as PEM.
    pub certificates: Option<Arc<[u8]>>,
    /// How much may be asked of stores.
    pub limits: Vec<StoreLimit>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            external_io_dir: None,
            implicit_credentials: true,
            custom_endpoints: true,
            certificates: None,
            limits: Vec::new(),
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("external_io_dir", &self.external_io_dir)
            .field("implicit_credentials", &self.implicit_credentials)
            .field("custom_endpoints", &self.custom_endpoints)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Bytes that are read a second.
    Read,
    /// Bytes that are written a second.
    Write,
    /// Requests a second.
    Requests,
}

/// How much of something may be asked of all stores of one kind together, by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimit {
    /// The kind.
    pub scheme: Scheme,
    /// Of what.
    pub what: Limited,
    /// So much a second; never 0.
    pub per_second: u64,
}

impl FromStr for StoreLimit {
    type Err = Fault;

    /// `SCHEME:WHAT=N`, with `read` and `write` in bytes (a suffix `KiB`, `MiB` or `GiB` is understood), and `requests`.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let parse = || {
            let (scheme, rest) = text.split_once(':')?;
            let (what, amount) = rest.split_once('=')?;
            let scheme = match scheme {
                "s3" => Scheme::S3,
                "gs" => Scheme::Google,
                "azure-blob" | "azure" | "az" => Scheme::Azure,
                "file" => Scheme::File,
                "nodelocal" => Scheme::NodeLocal,
                _ => return None,
            };
            let what = match what {
                "read" => Limited::Read,
                "write" => Limited::Write,
                "requests" => Limited::Requests,
                _ => return None,
            };
            let per_second = match what {
                Limited::Requests => amount.parse().ok()?,
                Limited::Read | Limited::Write => bytes(amount)?,
            };
            (per_second > 0).then_some(Self {
                scheme,
                what,
                per_second,
            })
        };
        parse().ok_or_else(|| {
            Fault::new(
                ErrorCode::InvalidArgument,
                format!("\"{}\" is no limit of a store", text.escape_debug()),
            )
            .hint("write s3:read=100MiB, s3:write=50MiB or s3:requests=200: a second, for all of this process")
        })
    }
}

fn bytes(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let found = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = found.unwrap_or((text, 0));
    let number: u64 = number.parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_are_written() {
        let limit: StoreLimit = "s3:write=50MiB".parse().expect("legal");
        assert_eq!(
            (limit.scheme, limit.what, limit.per_second),
            (Scheme::S3, Limited::Write, 50 << 20)
        );
        let limit: StoreLimit = "gs:requests=7".parse().expect("legal");
        assert_eq!((limit.what, limit.per_second), (Limited::Requests, 7));
        for text in [
            "s3:write=0",
            "s3:write",
            "x:read=1",
            "s3:requests=1MiB",
            "s3:delete=1",
            "",
        ] {
            assert!(text.parse::<StoreLimit>().is_err(), "{text}");
        }
    }
}
