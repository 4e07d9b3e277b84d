//! Which worker may touch which member's data.

use holdfast_types::Locality;

/// Whether a worker at `worker` may run a task of a member at `place`, for a job that is confined to `execution`.
///
/// Every tier of the member must be among the worker's: the data of a place is not touched elsewhere. An empty place (a
/// verification, or a member that did not say where it is) is near everybody. The ledger refuses what this forbids.
#[must_use]
pub fn may_run(worker: &Locality, place: &Locality, execution: &Locality) -> bool {
    worker.contains(execution) && worker.contains(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Locality {
        text.parse().expect("a legal locality")
    }

    #[test]
    fn the_rule_as_a_table() {
        let cases = [
            // worker, member, execution, expected
            ("", "", "", true),
            ("region=eu,zone=b", "region=eu", "", true),
            ("region=eu", "region=eu,zone=b", "", false),
            ("region=us", "region=eu", "", false),
            ("region=eu,zone=a", "region=eu", "zone=b", false),
            ("region=us", "", "region=us", true),
            ("", "region=eu", "", false),
        ];
        for (worker, place, execution, expected) in cases {
            assert_eq!(
                may_run(&at(worker), &at(place), &at(execution)),
                expected,
                "worker \"{worker}\", member \"{place}\", execution \"{execution}\""
            );
        }
    }
}
