//! Encrypted objects that were ever written are read for ever. `tests/compat/encryption-v1` holds the key info object and the manifest of a chain whose
//! passphrase is `one passphrase`.

use bytes::Bytes;
use holdfast_env::Env;
use holdfast_format::{Envelope, KeyInfo, Manifest};
use holdfast_keys::{KeyRing, KeyService, Secret};
use holdfast_types::Digest;

const KEYS: &[u8] = include_bytes!("../../tests/compat/encryption-v1/keys.hfk");
const MANIFEST: &[u8] = include_bytes!("../../tests/compat/encryption-v1/MANIFEST");
const FULL: &str = "2026/12/01-100232.87";

#[tokio::test]
async fn version_1_is_read_and_written_as_ever() {
    let info = KeyInfo::decode(KEYS).expect("sound");
    assert_eq!((info.full.as_str(), info.number), (FULL, 1));
    let ring = KeyRing::read(Some(Secret::new("one passphrase")), &[], "").expect("legal");
    let key = KeyService::new(Env::system()).open(&info, &ring).await;
    let key = key.expect("opens");
    assert_eq!(info.encode().expect("legal"), KEYS);
    let path = format!("{FULL}/MANIFEST");
    let envelope = Envelope::Sealed(key);
    let clear = envelope.open(&path, Bytes::from_static(MANIFEST));
    let clear = clear.expect("opens");
    let manifest = Manifest::decode(&clear).expect("sound");
    assert_eq!(manifest.path.full, FULL);
    let digest = Digest::of(&clear);
    let again = envelope.seal(&path, vec![clear], &digest).expect("seals");
    assert_eq!(again.concat(), MANIFEST);
}
