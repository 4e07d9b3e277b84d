//! Object keys: the tree of a collection.
//!
//! ```text
//! 2026/11/23-190800.50/                   a full; BACKUP-LOCK, data/…, parts/…, and at last MANIFEST
//! incrementals/2026/11/23-190800.50/20261124/190800.50-20261123-190800.50/     the same, for an incremental on it
//! metadata/latest/LATEST-<descending>     pointers to fulls, newest first
//! ```

use holdfast_types::{Hlc, LayerPath};
use object_store::path::Path;

use crate::names::{descending, is_full_subdir};

/// The commit point of a layer.
pub(crate) const MANIFEST: &str = "MANIFEST";
/// The claim on a layer's directory.
pub(crate) const CLAIM: &str = "BACKUP-LOCK";
/// Where incrementals are.
pub(crate) const INCREMENTALS: &str = "incrementals";
/// Where pointers to the newest full are.
pub(crate) const LATEST: &str = "metadata/latest";
/// How the name of such a pointer starts.
pub(crate) const LATEST_PREFIX: &str = "LATEST-";

/// The directory of a layer.
pub(crate) fn layer(path: &LayerPath) -> Path {
    Path::from(path.to_string())
}

/// The directory of a layer's data objects.
pub(crate) fn data(path: &LayerPath) -> Path {
    layer(path).join("data")
}

/// The directory of a layer's file list.
pub(crate) fn parts(path: &LayerPath) -> Path {
    layer(path).join("parts")
}

/// A layer's manifest.
pub(crate) fn manifest(path: &LayerPath) -> Path {
    layer(path).join(MANIFEST)
}

/// A layer's claim.
pub(crate) fn claim(path: &LayerPath) -> Path {
    layer(path).join(CLAIM)
}

/// The directory of all incrementals of a full.
pub(crate) fn incrementals(full: &str) -> Path {
    Path::from(format!("{INCREMENTALS}/{full}"))
}

/// The pointer to a full that ends at this position.
pub(crate) fn latest(end: Hlc) -> Path {
    let time = end.wall;
    let text = format!(
        "{}.{:06}.{:010}",
        time.format("%Y%m%d-%H%M%S"),
        time.as_micros() % 1_000_000,
        end.logical
    );
    Path::from(format!("{LATEST}/{LATEST_PREFIX}{}", descending(&text)))
}

/// Whether a pointer, by its name, belongs to this full: both carry the full's end, to the hundredth of a second.
pub(crate) fn points_to(pointer: &Path, full: &str) -> bool {
    // `YYYY/MM/DD-HHMMSS.ss` without slashes is how the pointer's text starts.
    let text = descending(&full.replace('/', ""));
    let name = pointer.filename().unwrap_or_default();
    is_full_subdir(full)
        && name
            .strip_prefix(LATEST_PREFIX)
            .is_some_and(|rest| rest.starts_with(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{Timestamp, full_subdir};

    #[test]
    fn a_pointer_belongs_to_one_full() {
        let time = Timestamp::from_micros(1_790_000_000_123_456);
        let pointer = latest(Hlc::at(time));
        assert!(points_to(&pointer, &full_subdir(time)));
        let later = Timestamp::from_micros(time.as_micros() + 10_000);
        assert!(!points_to(&pointer, &full_subdir(later)));
        assert!(!points_to(&pointer, ""));
    }
}
