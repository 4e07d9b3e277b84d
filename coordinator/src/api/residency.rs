//! Where the bytes of a chain lie.

use holdfast_collection::ResidencyReport;
use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Fault};

use crate::core::{Core, MANY_CALLS_TIMEOUT, bounded_by};
use crate::encryption::{open_chain, read_ring};
use crate::location::Collection;

/// Looks at every store of a collection.
pub(super) async fn check(
    core: &Core,
    request: v1::CheckResidencyRequest,
) -> Result<v1::CheckResidencyResponse, Fault> {
    let Some((first, more)) = request.collections.split_first() else {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            "the collection's location is missing",
        ));
    };
    let collection = Collection::to_read(core, first, more)?;
    let store = core.open_existing(&collection).await?;
    let subdir = match request.subdir.as_str() {
        "" => "LATEST",
        text => text,
    };
    let what = format!("looking at the stores of {collection}");
    let finding = store.resolve_subdir(subdir);
    let subdir = bounded_by(MANY_CALLS_TIMEOUT, &what, finding).await?;
    let keys = read_ring(request.encryption)?;
    let store = open_chain(core, &store, &subdir, &keys).await?.store;
    let looking = async {
        let chain = store.load_chain(&subdir).await?;
        let mut report = ResidencyReport::default();
        for layer in chain.all_layers() {
            store.check_residency(layer, &mut report).await?;
        }
        Ok(report)
    };
    let report = bounded_by(MANY_CALLS_TIMEOUT, what, looking).await?;
    let places = collection.location().stores().iter();
    let stores = places.zip(report.stores).map(|(place, held)| {
        let tiers: Vec<String> = held.tiers.iter().map(ToString::to_string).collect();
        let members = held.members.into_iter();
        v1::StoreResidency {
            store: place.to_string(),
            tier: tiers.join("; "),
            objects: held.all.objects,
            bytes: held.all.bytes,
            members: members
                .map(|(name, (locality, amount))| v1::MemberResidency {
                    member: name.to_string(),
                    locality: locality.to_string(),
                    objects: amount.objects,
                    bytes: amount.bytes,
                })
                .collect(),
        }
    });
    Ok(v1::CheckResidencyResponse {
        subdir,
        stores: stores.collect(),
        violations: report.violations,
        violations_total: report.violations_total,
    })
}
