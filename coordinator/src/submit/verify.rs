//! Verifications.

use holdfast_format::{Chain, Layer};
use holdfast_proto::v1;
use holdfast_types::{AsOf, ErrorCode, Fault, JobSpec, VerifySpec};

use super::{catch_up, earlier_job, execution_locality, own_key, propose};
use crate::core::Core;
use crate::encryption::{open_chain, read_ring};
use crate::location::Collection;

/// Accepts a verification.
pub(crate) async fn submit_verify(
    core: &Core,
    request: v1::SubmitVerifyRequest,
) -> Result<v1::SubmitJobResponse, Fault> {
    let key = own_key(&request.request_key)?;
    let execution_locality = execution_locality(&request.execution_locality)?;
    let given = read_ring(request.encryption)?;
    let layer_end: Option<AsOf> = match request.layer_end.as_str() {
        "" => None,
        text => Some(text.parse()?),
    };
    catch_up(core).await?;
    if let Some(earlier) = earlier_job(core, key.as_ref()) {
        return Ok(earlier);
    }
    let now = core.env.clock.now();
    let from = Collection::to_read(core, &request.from, &request.more_from)?;
    let store = core.open_existing(&from).await?;
    let subdir = match request.subdir.as_str() {
        "" => "LATEST",
        text => text,
    };
    let what = format!("reading the chain in {from}");
    let subdir = core.bounded(&what, store.resolve_subdir(subdir)).await?;
    let open = open_chain(core, &store, &subdir, &given).await?;
    let chain = core.bounded(&what, open.store.load_chain(&subdir)).await?;
    let layers = match layer_end {
        None => {
            // A layer that stands on nothing is damage, and damage is what a verification is asked for.
            chain.check_contiguous()?;
            chain.all_layers().collect()
        }
        Some(end) => vec![layer_that_ends(&chain, end, now)?],
    };
    let spec = VerifySpec {
        collection: from.to_string(),
        access: from.access(&core.config.cluster_key),
        layers: layers
            .into_iter()
            .map(|layer| (layer.manifest.path.clone(), layer.digest))
            .collect(),
        execution_locality,
        encryption: open.key,
    };
    propose(core, JobSpec::Verify(spec), key, now).await
}

/// The layer that ends at a time, or at the position that the time names.
fn layer_that_ends(
    chain: &Chain,
    end: AsOf,
    now: holdfast_types::Timestamp,
) -> Result<&Layer, Fault> {
    let asked = end.instant(now)?;
    let ends_at = |layer: &&Layer| layer.manifest.end == asked;
    let within = |layer: &&Layer| asked.logical == 0 && layer.manifest.end.wall == asked.wall;
    let found = chain
        .all_layers()
        .find(ends_at)
        .or_else(|| chain.all_layers().find(within));
    found.ok_or_else(|| {
        let ends: Vec<String> = chain
            .all_layers()
            .map(|layer| layer.manifest.end.wall.to_string())
            .collect();
        Fault::new(
            ErrorCode::NotFound,
            format!("no layer of the chain ends at {end}"),
        )
        .hint(format!("its layers end at {}", ends.join(", ")))
    })
}
