//! A search for what must be seen nowhere.

use holdfast_env::Env;
use holdfast_format::KeyInfo;
use holdfast_keys::{KeyRing, KeyService, Secret};
use holdfast_tests::Cluster;
use std::path::{Path, PathBuf};

/// All files below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // A directory may go while others are looked at.
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    for entry in entries.flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

pub(crate) fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|part| part == secret)
}

/// The data keys of all chains in a collection, as whoever has the passphrases gets them.
async fn data_keys(place: &Path, passphrases: &[&str]) -> Vec<[u8; 32]> {
    let service = KeyService::new(Env::system());
    let mut keys = Vec::new();
    for path in files(place) {
        if path.extension().is_none_or(|end| end != "hfk") {
            continue;
        }
        let bytes = std::fs::read(&path).expect("is read");
        let info = KeyInfo::decode(&bytes).expect("sound");
        let mut opened = None;
        for passphrase in passphrases {
            let ring = KeyRing::read(Some(Secret::new(*passphrase)), &[], "").expect("legal");
            opened = opened.or(service.open(&info, &ring).await.ok());
        }
        let key = opened.unwrap_or_else(|| panic!("{} does not open", path.display()));
        keys.push(*key.expose());
    }
    keys
}

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.into_bytes()
}

/// Looks at every file that there is: logs, raft logs and snapshots, and the stores at these places. Secrets, and the keys of chains, are in none;
/// in the stores there is no row either.
pub(crate) async fn assert_nothing_is_seen(
    cluster: &Cluster,
    places: &[PathBuf],
    passphrases: &[&str],
    secrets: &[&str],
    rows: &[Vec<u8>],
) {
    let mut unseen: Vec<Vec<u8>> = (secrets.iter())
        .map(|secret| secret.as_bytes().to_vec())
        .collect();
    for place in places {
        for key in data_keys(place, passphrases).await {
            unseen.extend([key.to_vec(), hexadecimal(&key)]);
        }
    }
    assert!(unseen.len() > secrets.len(), "no chain is encrypted");
    let all = files(cluster.directory());
    assert!(all.len() > 20, "{all:?}");
    for path in &all {
        let bytes = std::fs::read(path).unwrap_or_default();
        for secret in &unseen {
            assert!(!holds(&bytes, secret), "{}: a secret", path.display());
        }
        // What the members have in their own stores is theirs.
        if places.iter().any(|place| path.starts_with(place)) {
            for row in rows {
                assert!(!holds(&bytes, row), "{}: {row:?}", path.display());
            }
        }
    }
}
