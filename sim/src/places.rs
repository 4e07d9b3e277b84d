//! Who is where.

use holdfast_types::{Locality, MemberName, MemberRecord};

/// The source that is backed up.
pub(crate) const SOURCE: &str = "bank";
/// The source that is restored into, with as many members in the same places.
pub(crate) const SPARE: &str = "spare";
/// Where backups go.
pub(crate) const COLLECTION: &str = "memory://vault";
/// The localities; each has a member of each source, and two workers.
pub(crate) const REGIONS: [&str; 3] = ["ap", "eu", "us"];
/// Zones of a region; each has a worker.
pub(crate) const ZONES: [&str; 2] = ["a", "b"];

const COORDINATOR_PORT: u16 = 7400;
const MEMBER_PORT: u16 = 7500;

/// How many coordinators there are.
pub(crate) const COORDINATORS: u64 = 3;

/// The host of a coordinator.
pub(crate) fn coordinator(node: u64) -> String {
    format!("coord-{node}")
}

/// The address of a coordinator.
pub(crate) fn coordinator_address(node: u64) -> String {
    format!("{}:{COORDINATOR_PORT}", coordinator(node))
}

/// The addresses of all coordinators.
pub(crate) fn coordinator_addresses() -> Vec<String> {
    (1..=COORDINATORS).map(coordinator_address).collect()
}

/// The host of a worker.
pub(crate) fn worker(region: &str, zone: &str) -> String {
    format!("work-{region}-{zone}")
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
