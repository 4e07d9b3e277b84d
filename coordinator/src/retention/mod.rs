//! Retention: which chains of a collection expire, and the job that removes them.
//!
//! What is there is read from the collection itself each time; the ledger says who needs it, and, of encrypted chains of this cluster, what they
//! hold: no key is needed.

mod decide;
mod rule;

use futures::{StreamExt, TryStreamExt};
use holdfast_collection::{CollectionStore, Unfinished};
use holdfast_ledger::{ChainUse, Ledger};
use holdfast_proto::v1;
use holdfast_types::{
    ClusterId, ErrorCode, ExpireSpec, Fault, JobSpec, LayerPath, Locality, Millis, SourceName,
    Target, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

use self::decide::{ChainFacts, Decision, decide, limit};
use self::rule::Rule;
use crate::core::{Core, MANY_CALLS_TIMEOUT, bounded_by};
use crate::location::Collection;
use crate::submit::{catch_up, earlier_job, own_key, propose};

/// Chains that are looked at at once.
const AT_ONCE: usize = 8;
/// How often it is decided again because a job came between.
const ATTEMPTS: usize = 3;
const DAY: u64 = 24 * 3600 * 1000;

/// Decides which chains of a collection expire, and unless it is only to be seen what would, starts the job that removes them. Without such
/// chains there is no job.
pub(crate) async fn expire(
    core: &Core,
    request: v1::ExpireBackupsRequest,
) -> Result<v1::ExpireBackupsResponse, Fault> {
    let key = own_key(&request.request_key)?;
    catch_up(core).await?;
    let now = core.env.clock.now();
    let rule = Rule::read(&request.older_than, request.keep_fulls, now)?;
    if let Some(earlier) = earlier_job(core, key.as_ref()) {
        return Ok(v1::ExpireBackupsResponse {
            job: earlier.job,
            existed: true,
            chains: Vec::new(),
        });
    }
    let collection = Collection::to_read(core, &request.collection, &request.more_collections)?;
    let store = core.open_existing(&collection).await?;
    let what = format!("looking at the chains of {collection}");
    let mut refusal = None;
    for _ in 0..ATTEMPTS {
        let looking = look(core, &store, &collection, now);
        let found = bounded_by(MANY_CALLS_TIMEOUT, &what, looking).await?;
        let facts: Vec<ChainFacts> = found.iter().map(|chain| chain.facts.clone()).collect();
        let mut decisions = decide(&facts, rule, now);
        limit(&mut decisions, ExpireSpec::MOST_CHAINS);
        let goes = facts.iter().zip(&decisions).filter(|(_, it)| it.goes());
        let chains: Vec<String> = goes.map(|(chain, _)| chain.full.clone()).collect();
        let mut response = v1::ExpireBackupsResponse {
            chains: found.iter().zip(&decisions).map(view).collect(),
            ..v1::ExpireBackupsResponse::default()
        };
        if request.dry_run || chains.is_empty() {
            return Ok(response);
        }
        let spec = JobSpec::Expire(ExpireSpec {
            collection: collection.to_string(),
            access: collection.access(&core.config.cluster_key),
            chains,
            rule: rule.to_string(),
            execution_locality: Locality::default(),
        });
        match propose(core, spec, key.clone(), now).await {
            Ok(submitted) => {
                response.job = submitted.job;
                response.existed = submitted.existed;
                return Ok(response);
            }
            // Somebody has begun to need one of the chains: then it stays.
            Err(fault) if fault.code == ErrorCode::FailedPrecondition => refusal = Some(fault),
            Err(fault) => return Err(fault),
        }
    }
    Err(refusal.unwrap_or_else(|| Fault::new(ErrorCode::Internal, "no expiry was begun")))
}

/// A chain as it was found.
struct Found {
    facts: ChainFacts,
    layers: u32,
    is_sealed: bool,
}

fn view((chain, decision): (&Found, &Decision)) -> v1::ExpiringChain {
    v1::ExpiringChain {
        subdir: chain.facts.full.clone(),
        end: match chain.layers {
            0 => String::new(),
            _ => chain.facts.end.to_string(),
        },
        layers: chain.layers,
        encrypted: chain.is_sealed,
        expires: decision.goes(),
        reason: decision.reason(),
    }
}

/// What the ledger says of the chains of a collection.
struct Known {
    cluster: ClusterId,
    used: BTreeMap<String, ChainUse>,
    /// Of those that this cluster wrote: what they hold, and over how many stores they are spread.
    held: BTreeMap<String, (SourceName, Target, u16)>,
}

fn known(ledger: &Ledger, address: &str) -> Result<Known, Fault> {
    let cluster = ledger.cluster().ok_or_else(|| {
        Fault::new(
            ErrorCode::FailedPrecondition,
            "the cluster is not initialised",
        )
        .hint("run `holdfast init` once")
    })?;
    let used = ledger.chains_in_use(address).into_iter();
    let mut held: BTreeMap<String, (SourceName, Target, u16)> = BTreeMap::new();
    for layer in ledger.catalogue().of_collection(address) {
        let entry = held
            .entry(layer.path.full.clone())
            .or_insert_with(|| (layer.source.clone(), layer.target.clone(), layer.stores));
        entry.2 = entry.2.max(layer.stores);
        // A chain is what its full is.
        if layer.path.incremental.is_none() {
            (entry.0, entry.1) = (layer.source.clone(), layer.target.clone());
        }
    }
    Ok(Known {
        cluster,
        used: used.map(|(chain, what)| (chain.to_owned(), what)).collect(),
        held,
    })
}

/// Looks at all chains, the oldest first; those that were marked before come first.
async fn look(
    core: &Core,
    store: &CollectionStore,
    collection: &Collection,
    now: Timestamp,
) -> Result<Vec<Found>, Fault> {
    let address = collection.to_string();
    let known = core.replica.read(|ledger| known(ledger, &address))?;
    let marked = store.expired().await?;
    let summaries = store.summaries().await?;
    let used = |full: &str| known.used.get(full).map(ToString::to_string);
    let mut found = Vec::new();
    for full in marked {
        let mark = store.expiry_mark(&full).await?;
        let stores = mark.map_or(0, |mark| u16::try_from(mark.stores).unwrap_or(u16::MAX));
        found.push(Found {
            facts: ChainFacts {
                end: Timestamp::default(),
                lineage: None,
                is_restorable: false,
                is_marked: true,
                used: used(&full),
                locked_until: None,
                obstacle: missing_stores(&known, store, &full, stores),
                full,
            },
            layers: 0,
            is_sealed: false,
        });
    }
    let lock_days = collection.location().stores().iter();
    let lock_days = lock_days.map(|store| store.lock_days()).max().unwrap_or(0);
    let looks = summaries.into_iter().map(|chain| {
        let known = &known;
        let used = used(&chain.full);
        async move {
            let full = chain.full.as_str();
            let head = lineage(store, known, full).await?;
            let locked_until = match lock_days {
                0 => None,
                days => (store.completed_at(full).await?)
                    .map(|at| at.plus(Millis(days.saturating_mul(DAY))))
                    .filter(|until| *until > now),
            };
            let foreign = foreign_claim(known, store.unfinished(full).await?);
            Ok::<_, Fault>(Found {
                facts: ChainFacts {
                    end: chain.end.wall,
                    lineage: head.lineage,
                    is_restorable: head.is_restorable,
                    is_marked: false,
                    used,
                    locked_until,
                    obstacle: foreign.or(missing_stores(known, store, full, head.stores)),
                    full: chain.full,
                },
                layers: chain.layers,
                is_sealed: chain.is_sealed,
            })
        }
    });
    let whole: Vec<Found> = futures::stream::iter(looks)
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    found.extend(whole);
    Ok(found)
}

/// What a full's manifest, or the ledger, says of a chain.
struct Head {
    lineage: Option<String>,
    is_restorable: bool,
    /// At least so many stores have something of it.
    stores: u16,
}

async fn lineage(store: &CollectionStore, known: &Known, full: &str) -> Result<Head, Fault> {
    let name = |cluster: ClusterId, source: &SourceName, target: &Target| {
        Some(format!("{cluster} {source} {}", normal(target)))
    };
    let own = known.held.get(full);
    let by_ledger = own.and_then(|(source, target, _)| name(known.cluster, source, target));
    let path = LayerPath::full(full);
    match store.load_layer_unless_sealed(&path).await {
        Ok(Some(layer)) => {
            let manifest = &layer.manifest;
            Ok(Head {
                lineage: name(manifest.cluster, &manifest.source, &manifest.target),
                is_restorable: true,
                stores: u16::try_from(manifest.tiers.len().saturating_add(1)).unwrap_or(u16::MAX),
            })
        }
        // Encrypted: that its manifest is there is all that can be told without its key.
        Ok(None) => Ok(Head {
            is_restorable: true,
            lineage: by_ledger,
            stores: 0,
        }),
        Err(fault) if is_damage(&fault) => Ok(Head {
            is_restorable: false,
            lineage: by_ledger,
            stores: 0,
        }),
        Err(fault) => Err(fault),
    }
}

fn is_damage(fault: &Fault) -> bool {
    matches!(
        fault.code,
        ErrorCode::Corrupted | ErrorCode::Unsupported | ErrorCode::NotFound
    )
}

/// A target in one spelling: the order in which names were written says nothing.
fn normal(target: &Target) -> String {
    match target {
        Target::Source => "source".to_owned(),
        Target::Databases(names) => {
            format!("databases {:?}", names.iter().collect::<BTreeSet<_>>())
        }
        Target::Tables(names) => {
            let names: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
            format!("tables {names:?}")
        }
    }
}

/// A chain whose data is in more stores than were given would be removed in part.
fn missing_stores(
    known: &Known,
    store: &CollectionStore,
    full: &str,
    stores: u16,
) -> Option<String> {
    let held = known.held.get(full).map_or(0, |(_, _, stores)| *stores);
    let (needed, given) = (stores.max(held), store.location().stores().len());
    (usize::from(needed) > given).then(|| {
        format!("it is spread over {needed} stores, and {given} was given: give the URIs of all")
    })
}

/// A backup of another cluster that may be under way: nobody here knows whether it is.
fn foreign_claim(known: &Known, unfinished: Vec<Unfinished>) -> Option<String> {
    let mut foreign = unfinished.into_iter().filter(|begun| {
        // What this cluster's own jobs are about, the ledger knows.
        begun
            .claim
            .is_none_or(|claim| claim.cluster != known.cluster)
    });
    let begun = foreign.next()?;
    let whose = match begun.claim {
        Some(claim) => format!("job {} of cluster {}", claim.job, claim.cluster),
        None => "somebody".to_owned(),
    };
    Some(format!(
        "{whose} has begun a backup on it; if that is dead, remove {}/BACKUP-LOCK",
        begun.path
    ))
}
