//! Object keys: the tree of a collection.
//!
//! ```text
//! 2026/11/23-190800.50/                   a full; BACKUP-LOCK, data/…, parts/…, and at last MANIFEST
//! incrementals/2026/11/23-190800.50/20261124/190800.50-20261123-190800.50/     the same, for an incremental on it
//! metadata/latest/LATEST-<descending>     pointers to fulls, newest first
//! ```

use holdfast_types::{Hlc, LayerPath, full_subdir};
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

/// The directory of what is known of a chain's keys, in that of its full.
pub(crate) fn keys(full: &str) -> Path {
    Path::from(full).join("keys")
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

/// The pointer to a full in this directory that ends at this position. Its name is the time that the directory's gives, and what the end
/// adds to that. (A full of a source that only knows its end when it is there ends after the time that its directory was named by.)
pub(crate) fn latest(full: &str, end: Hlc) -> Path {
    let text = if full_subdir(end.wall) == full {
        let time = end.wall;
        format!(
            "{}.{:06}.{:010}",
            time.format("%Y%m%d-%H%M%S"),
            time.as_micros() % 1_000_000,
            end.logical
        )
    } else {
        format!("{}0000.{:010}", full.replace('/', ""), 0)
    };
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
    use holdfast_types::Timestamp;

    #[test]
    fn a_pointer_belongs_to_one_full() {
        let time = Timestamp::from_micros(1_790_000_000_123_456);
        let pointer = latest(&full_subdir(time), Hlc::at(time));
        assert!(points_to(&pointer, &full_subdir(time)));
        let later = Timestamp::from_micros(time.as_micros() + 10_000);
        assert!(!points_to(&pointer, &full_subdir(later)));
        assert!(!points_to(&pointer, ""));
    }

    #[test]
    fn a_pointer_is_named_by_the_directory_and_not_by_a_later_end() {
        let at = |micros: u64| Timestamp::from_micros(1_790_000_000_120_000 + micros);
        let named = full_subdir(at(3_456));
        let exact = latest(&named, Hlc::at(at(3_456)));
        let late = latest(&named, Hlc::at(at(70_000_000)));
        assert!(points_to(&late, &named));
        assert_eq!(late, latest(&named, Hlc::at(at(0))), "the hundredth alone");
        assert!(late > exact, "the newest first");
        let next = full_subdir(at(10_000));
        assert!(
            latest(&next, Hlc::at(at(10_000))) < late,
            "whatever they end at"
        );
    }
}
