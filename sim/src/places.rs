//! Who is where.

use holdfast_types::{Locality, MemberName, MemberRecord};

/// The source that is backed up.
pub(crate) const SOURCE: &str = "bank";
/// The source that is restored into, with as many members in the same places.
pub(crate) const SPARE: &str = "spare";
/// The source whose history is a log, and the one that it is restored into.
pub(crate) const LOG_SOURCE: &str = "ledger";
/// See [`LOG_SOURCE`].
pub(crate) const LOG_SPARE: &str = "copies";
/// Where its backups go.
pub(crate) const LOG_COLLECTION: &str = "memory://archive";
/// Where backups go.
pub(crate) const COLLECTION: &str = "memory://vault";
/// Where scheduled backups go.
pub(crate) const TIMETABLE: &str = "memory://timetable";
/// Where scheduled backups of the source whose history is a log go.
pub(crate) const LOG_TIMETABLE: &str = "memory://diary";
/// The localities that there may be.
pub(crate) const REGIONS: [&str; 4] = ["ap", "eu", "us", "sa"];
/// The zones that a locality may have; each has a worker.
pub(crate) const ZONES: [&str; 2] = ["a", "b"];

/// The address of a server whose history is a log, as it is registered.
pub(crate) fn server_address(source: &str, region: &str) -> String {
    format!("postgres://holdfast@{source}-{region}:5432/postgres")
}

/// The store of a locality that belongs to a collection.
pub(crate) fn local_store(collection: &str, region: &str) -> String {
    format!("{collection}-{region}")
}

/// Whether data of this name in this store was written by a worker of another locality than the store is for.
pub(crate) fn is_stray(tiers: &[&str], place: &str, host: &str) -> bool {
    let Some(region) = host
        .strip_prefix("work-")
        .and_then(|rest| rest.split('-').next())
    else {
        return false;
    };
    let of_place = place.rsplit_once('-').map(|(_, region)| region);
    of_place != tiers.contains(&region).then_some(region)
}

/// The host of the operators.
pub(crate) const USER: &str = "user";

const COORDINATOR_PORT: u16 = 7400;
const MEMBER_PORT: u16 = 7500;

/// The host of a coordinator.
pub(crate) fn coordinator(node: u64) -> String {
    format!("coord-{node}")
}

/// The address of a coordinator.
pub(crate) fn coordinator_address(node: u64) -> String {
    format!("{}:{COORDINATOR_PORT}", coordinator(node))
}

/// The addresses of so many coordinators.
pub(crate) fn coordinator_addresses(count: u64) -> Vec<String> {
    (1..=count).map(coordinator_address).collect()
}

/// The host of a worker.
pub(crate) fn worker(region: &str, zone: &str) -> String {
    format!("work-{region}-{zone}")
}

/// The host of a member's application.
pub(crate) fn teller(region: &str) -> String {
    format!("teller-{region}")
}

/// The host of a source's member.
pub(crate) fn member(source: &str, region: &str) -> String {
    format!("{source}-{region}")
}

/// The address of a source's member.
pub(crate) fn member_address(source: &str, region: &str) -> String {
    format!("{}:{MEMBER_PORT}", member(source, region))
}

/// The locality of a region.
pub(crate) fn locality(text: &str) -> Locality {
    text.parse()
        .expect("the simulation's localities are well-formed")
}

/// A source's member as it is registered.
pub(crate) fn member_record(source: &str, region: &str) -> MemberRecord {
    MemberRecord {
        name: region
            .parse::<MemberName>()
            .expect("the simulation's names are well-formed"),
        locality: locality(&format!("region={region}")),
        address: member_address(source, region),
        secret: None,
        limits: holdfast_types::MemberLimits::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_belongs_into_the_store_of_its_locality() {
        let tiers = ["eu", "us"];
        for (place, host, expected) in [
            ("vault", "work-ap-a", false),
            ("vault-eu", "work-eu-b", false),
            ("vault", "work-eu-b", true),
            ("vault-us", "work-eu-b", true),
            ("vault-eu", "work-ap-a", true),
            ("vault-eu", "coord-1", false),
        ] {
            assert_eq!(is_stray(&tiers, place, host), expected, "{place} {host}");
        }
        assert!(!is_stray(&[], "vault", "work-eu-a"));
    }
}
