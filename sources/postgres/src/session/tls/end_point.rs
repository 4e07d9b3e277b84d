//! The digest of a server's certificate that binds SCRAM to the channel (RFC 5929, `tls-server-end-point`).

use aws_lc_rs::digest::{SHA256, SHA384, SHA512};
use holdfast_types::EndPointHash;

/// The digest by the hash of the certificate's own signature; `None` for signatures that it is not defined for.
pub(super) fn digest(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match EndPointHash::of(certificate)? {
        EndPointHash::Sha256 => &SHA256,
        EndPointHash::Sha384 => &SHA384,
        EndPointHash::Sha512 => &SHA512,
    };
    Some(
        aws_lc_rs::digest::digest(algorithm, certificate)
            .as_ref()
            .to_vec(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tag of a DER sequence.
    const SEQUENCE: u8 = 0x30;

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes: Vec<u8>) {
            let _ = digest(&bytes);
        }

        #[test]
        fn no_half_certificate_breaks_it(mut bytes: Vec<u8>) {
            bytes.insert(0, SEQUENCE);
            let _ = digest(&bytes);
        }
    }
}
