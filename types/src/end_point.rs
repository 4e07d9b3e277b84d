//! Which digest of a server's certificate binds SCRAM to the channel (RFC 5929, `tls-server-end-point`).

/// The hash that a certificate is digested by for channel binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndPointHash {
    /// SHA-256, also in the place of MD5 and SHA-1.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl EndPointHash {
    /// The hash of the signature of a certificate, which is DER; `None` for signatures that it is not defined for, such as Ed25519, and for what is no
    /// certificate.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        hash(signature_algorithm(certificate)?)
    }
}

/// The tag of a DER sequence, and of an object identifier.
const SEQUENCE: u8 = 0x30;
const IDENTIFIER: u8 = 0x06;

/// The object identifier in `Certificate.signatureAlgorithm`: the second element of the outer sequence. Its parameters come with it
/// for RSASSA-PSS, which names its hash there.
fn signature_algorithm(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, _) = element(certificate, SEQUENCE)?;
    let (_, after_content) = element(body, SEQUENCE)?;
    let (algorithm, _) = element(after_content, SEQUENCE)?;
    element(algorithm, IDENTIFIER)
}

/// Content of the first element, which must have this tag, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = input.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7F => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7F))?;
            let length = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn hash((identifier, parameters): (&[u8], &[u8])) -> Option<EndPointHash> {
    /// `1.2.840.113549.1.1`: PKCS #1.
    const RSA: [u8; 8] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01];
    /// `1.2.840.10045.4`: ECDSA.
    const ECDSA: [u8; 6] = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04];
    /// `2.16.840.1.101.3.4.2`: the SHA-2 family.
    const SHA2: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    if let Some(rest) = identifier.strip_prefix(&RSA) {
        return match rest {
            // md5, sha1, sha256 with RSA.
            [4 | 5 | 11] => Some(EndPointHash::Sha256),
            [12] => Some(EndPointHash::Sha384),
            [13] => Some(EndPointHash::Sha512),
            [10] => {
                let place = parameters
                    .windows(SHA2.len())
                    .position(|window| window == SHA2)?;
                match parameters.get(place + SHA2.len())? {
                    1 => Some(EndPointHash::Sha256),
                    2 => Some(EndPointHash::Sha384),
                    3 => Some(EndPointHash::Sha512),
                    _ => None,
                }
            }
            _ => None,
        };
    }
    match identifier.strip_prefix(&ECDSA)? {
        // sha1; then the SHA-2 family under 3.
        [1] | [3, 2] => Some(EndPointHash::Sha256),
        [3, 3] => Some(EndPointHash::Sha384),
        [3, 4] => Some(EndPointHash::Sha512),
        _ => None,
    }
}
