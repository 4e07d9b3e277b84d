//! Object keys: the tree of a collection.
//!
//! ```text
//! 2026/11/23-190800.50/                   a full; BACKUP-LOCK, data/…, parts/…, and at last MANIFEST
//! incrementals/2026/11/23-190800.50/20261124/190800.50-20261123-190800.50/     the same, for an incremental on it
//! metadata/latest/LATEST-<descending>     pointers to fulls, newest first
//! metadata/index/<full>/<descending>_…    a line for each finished layer, newest first
//! ```

use holdfast_format::Manifest;
use holdfast_types::{Digest, Hlc, LayerPath, Tier, full_subdir};
use object_store::path::Path;

use crate::names::{ascending, descending, is_full_subdir, is_incremental_component};

/// The commit point of a layer.
pub(crate) const MANIFEST: &str = "MANIFEST";
/// The claim on a layer's directory.
pub(crate) const CLAIM: &str = "BACKUP-LOCK";
/// Where incrementals are.
pub(crate) const INCREMENTALS: &str = "incrementals";
/// How the name of a store's description starts.
pub(crate) const PART: &str = "BACKUP_PART_";
/// Where places are tried out.
pub(crate) const PROBES: &str = "metadata/probes";
/// Where the lines of finished layers are.
pub(crate) const INDEX: &str = "metadata/index";
/// Where chains are marked as expired.
pub(crate) const EXPIRED: &str = "metadata/expired";
/// Where it is recorded which chains were removed.
const REMOVED: &str = "metadata/removed";
/// What stands for the full itself in a line's name.
const FULL: &str = "full";
/// The same of an encrypted chain.
const SEALED: &str = "sealed";

/// What the index says of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it ends.
    pub(crate) end: Hlc,
    /// Of a full: whether its chain is encrypted.
    pub(crate) is_sealed: bool,
}

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
        position(end)
    } else {
        format!("{}0000.{:010}", full.replace('/', ""), 0)
    };
    Path::from(format!("{LATEST}/{LATEST_PREFIX}{}", descending(&text)))
}

/// The description of a store that holds a locality's part of a layer: it lies in that store.
pub(crate) fn descriptor(path: &LayerPath, number: usize, tier: &Tier) -> Path {
    let safe = |c: char| match c.is_ascii_alphanumeric() || "=-.".contains(c) {
        true => c,
        false => '_',
    };
    let tier: String = tier.to_string().chars().map(safe).collect();
    layer(path).join(format!("{PART}{number}_{tier}"))
}

/// A finished layer's line in the index, and what it says. Its name says all that a list shows, the newest first.
pub(crate) fn index(manifest: &Manifest, digest: Digest, is_sealed: bool) -> (Path, String) {
    let path = &manifest.path;
    let own = match &path.incremental {
        None if is_sealed => SEALED.to_owned(),
        None => FULL.to_owned(),
        Some(own) => own.replace('/', "_"),
    };
    let end = descending(&position(manifest.end));
    let at = index_of(&path.full).join(format!("{end}_{own}"));
    (at, format!("holdfast-index 1\nmanifest {digest}\n"))
}

/// The directory of the index's lines for one chain.
pub(crate) fn index_of(full: &str) -> Path {
    Path::from(format!("{INDEX}/{}", full.replace('/', "")))
}

/// The mark of an expired chain.
pub(crate) fn mark(full: &str) -> Path {
    Path::from(format!("{EXPIRED}/{}", full.replace('/', "")))
}

/// What stays on record of a chain that was removed.
pub(crate) fn removed(full: &str) -> Path {
    Path::from(format!("{REMOVED}/{}", full.replace('/', "")))
}

/// The chain that a mark is of. `None` if it is none.
pub(crate) fn chain_of_mark(at: &Path) -> Option<String> {
    let digits = at.filename()?;
    let full = format!(
        "{}/{}/{}",
        digits.get(..4)?,
        digits.get(4..6)?,
        digits.get(6..)?
    );
    (is_full_subdir(&full) && mark(&full) == *at).then_some(full)
}

/// The layer that a line of the index is of, and what it says. `None` if it is none.
pub(crate) fn indexed(at: &Path) -> Option<(LayerPath, Line)> {
    let parts: Vec<String> = at.parts().map(|part| part.as_ref().to_owned()).collect();
    let [.., chain, line] = parts.as_slice() else {
        return None;
    };
    let full = format!(
        "{}/{}/{}",
        chain.get(..4)?,
        chain.get(4..6)?,
        chain.get(6..)?
    );
    let (end, own) = line.split_once('_')?;
    let end = read_position(&ascending(end)?)?;
    let path = match own {
        FULL | SEALED => LayerPath::full(full.clone()),
        own => LayerPath::incremental(full.clone(), own.replacen('_', "/", 1)),
    };
    let is_own = match &path.incremental {
        None => true,
        Some(own) => own
            .split('/')
            .enumerate()
            .all(|(level, name)| is_incremental_component(level, name)),
    };
    let is_sealed = own == SEALED;
    (is_full_subdir(&full) && is_own).then_some((path, Line { end, is_sealed }))
}

/// A position as names have it: of a fixed length, so that names sort as positions do.
fn position(at: Hlc) -> String {
    let time = at.wall;
    format!(
        "{}.{:06}.{:010}",
        time.format("%Y%m%d-%H%M%S"),
        time.as_micros() % 1_000_000,
        at.logical
    )
}

fn read_position(text: &str) -> Option<Hlc> {
    let (time, logical) = text.rsplit_once('.')?;
    let (date, time) = time.split_once('-')?;
    let (year, month, day) = (date.get(..4)?, date.get(4..6)?, date.get(6..)?);
    let (hour, minute, second) = (time.get(..2)?, time.get(2..4)?, time.get(4..)?);
    let wall = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    let at = Hlc {
        wall: wall.parse().ok()?,
        logical: logical.parse().ok()?,
    };
    (position(at) == text).then_some(at)
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
    fn a_line_of_the_index_says_which_layer_and_where_it_ends() {
        let end = Hlc {
            wall: Timestamp::from_micros(1_790_000_000_123_456),
            logical: 7,
        };
        assert_eq!(read_position(&position(end)), Some(end));
        let full = full_subdir(end.wall);
        let own = holdfast_types::incremental_subdir(end.wall, end.wall);
        for (name, path) in [
            (FULL.to_owned(), LayerPath::full(full.clone())),
            (SEALED.to_owned(), LayerPath::full(full.clone())),
            (
                own.replace('/', "_"),
                LayerPath::incremental(full.clone(), own.clone()),
            ),
        ] {
            let at = index_of(&full).join(format!("{}_{name}", descending(&position(end))));
            let is_sealed = name == SEALED;
            assert_eq!(indexed(&at), Some((path, Line { end, is_sealed })));
        }
        for foreign in [
            "x",
            "metadata/index/x/y",
            "metadata/index/20260101-000000.00/zz_full",
        ] {
            assert_eq!(indexed(&Path::from(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn a_mark_says_of_which_chain_it_is() {
        let full = "2026/11/23-190800.50";
        assert_eq!(chain_of_mark(&mark(full)), Some(full.to_owned()));
        for foreign in ["metadata/expired/README", "metadata/expired/20261123", "x"] {
            assert_eq!(chain_of_mark(&Path::from(foreign)), None, "{foreign}");
        }
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
