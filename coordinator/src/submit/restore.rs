//! Restores.

use holdfast_collection::CollectionUri;
use holdfast_format::{Chain, Manifest, RestorePlan};
use holdfast_proto::v1;
use holdfast_types::{
    AsOf, DatabaseName, ErrorCode, Fault, JobSpec, Locality, MemberRecord, RequestKey,
    RestoreMember, RestoreSpec, SourceName, SourceRecord, TableName, Target,
};
use std::collections::{BTreeMap, BTreeSet};

use super::{
    backup::identify, catch_up, collection_uri, earlier_job, execution_locality, open_existing,
    part_size, propose, request_key, target::read_target,
};
use crate::core::Core;

/// A request, read.
struct Wanted {
    request: Option<RequestKey>,
    collection: CollectionUri,
    subdir: String,
    target: Target,
    as_of: Option<AsOf>,
    into_source: Option<SourceName>,
    into_db: Option<DatabaseName>,
    new_db_name: Option<DatabaseName>,
    execution_locality: Locality,
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn read(request: v1::SubmitRestoreRequest) -> Result<Wanted, Fault> {
    let wanted = Wanted {
        request: request_key(&request.request_key)?,
        collection: collection_uri(&request.from)?,
        subdir: given(request.subdir).unwrap_or_else(|| "LATEST".to_owned()),
        target: read_target(request.target)?,
        as_of: given(request.as_of).map(|text| text.parse()).transpose()?,
        into_source: given(request.into_source)
            .map(|text| text.parse())
            .transpose()?,
        into_db: given(request.into_db),
        new_db_name: given(request.new_db_name),
        execution_locality: execution_locality(&request.execution_locality)?,
    };
    check_options(&wanted)?;
    Ok(wanted)
}

/// The options that go with some targets only.
fn check_options(wanted: &Wanted) -> Result<(), Fault> {
    let invalid = |text: &str| Err(Fault::new(ErrorCode::InvalidArgument, text));
    match (&wanted.target, &wanted.into_db, &wanted.new_db_name) {
        (_, Some(_), Some(_)) => invalid("into_db and new_db_name cannot be used together"),
        (Target::Source | Target::Databases(_), Some(_), None) => invalid(
            "cannot use \"into_db\" when restoring a database or the whole source: it is for tables",
        ),
        (Target::Databases(names), None, Some(_)) if names.len() == 1 => Ok(()),
        (_, None, Some(_)) => {
            invalid("\"new_db_name\" can only be used when restoring exactly one database")
        }
        _ => Ok(()),
    }
}

/// Accepts a restore.
pub(crate) async fn submit_restore(
    core: &Core,
    request: v1::SubmitRestoreRequest,
) -> Result<v1::SubmitJobResponse, Fault> {
    let wanted = read(request)?;
    catch_up(core).await?;
    if let Some(earlier) = earlier_job(core, wanted.request.as_ref()) {
        return Ok(earlier);
    }
    let now = core.env.clock.now();
    let chain = load(core, &wanted).await?;
    let as_of = wanted.as_of.map(|as_of| as_of.resolve(now));
    let plan = chain.resolve_restore(&wanted.target, as_of)?;
    let newest = newest_layer(&chain, &plan)?;
    let into = wanted
        .into_source
        .clone()
        .unwrap_or_else(|| newest.source.clone());
    let (_, source) = core.replica.read(|ledger| identify(ledger, &into))?;
    let spec = spec_of(&wanted, &plan, newest, source, part_size(core))?;
    propose(core, JobSpec::Restore(spec), wanted.request, now).await
}

async fn load(core: &Core, wanted: &Wanted) -> Result<Chain, Fault> {
    let store = open_existing(core, &wanted.collection).await?;
    let what = format!("reading the chain in {}", wanted.collection);
    let reading = async {
        let subdir = store.resolve_subdir(&wanted.subdir).await?;
        store.load_chain(&subdir).await
    };
    core.bounded(what, reading).await
}

/// The layer that the restored instant lies in: it says which members there were.
fn newest_layer<'a>(chain: &'a Chain, plan: &RestorePlan) -> Result<&'a Manifest, Fault> {
    plan.layers
        .last()
        .and_then(|(path, _)| {
            chain
                .all_layers()
                .find(|layer| layer.manifest.path == *path)
        })
        .map(|layer| &layer.manifest)
        .ok_or_else(|| Fault::new(ErrorCode::Internal, "a restore plan names no layer"))
}

fn spec_of(
    wanted: &Wanted,
    plan: &RestorePlan,
    newest: &Manifest,
    source: SourceRecord,
    part_size: u64,
) -> Result<RestoreSpec, Fault> {
    if source.kind != newest.kind {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!(
                "source {} is of kind {}, and the backup is of a source of kind {}",
                source.name, source.kind, newest.kind
            ),
        ));
    }
    let target = resolved_target(&wanted.target, plan);
    Ok(RestoreSpec {
        members: map_members(plan, newest, &source)?,
        source: source.name,
        kind: source.kind,
        renamed: renamed(wanted, &target)?,
        tables: BTreeMap::new(),
        schema_only: false,
        into_existing: matches!(target, Target::Tables(_)),
        target,
        collection: wanted.collection.to_string(),
        layers: plan.layers.clone(),
        as_of: plan.at,
        execution_locality: wanted.execution_locality.clone(),
        part_size,
    })
}

/// The target with wildcards replaced by what they stand for at the restored instant.
fn resolved_target(target: &Target, plan: &RestorePlan) -> Target {
    match target {
        Target::Source | Target::Databases(_) => target.clone(),
        Target::Tables(_) => {
            let names: BTreeSet<&TableName> = plan
                .members
                .iter()
                .flat_map(|member| &member.relations)
                .map(|relation| &relation.relation.name)
                .collect();
            Target::Tables(names.into_iter().cloned().collect())
        }
    }
}

/// Which databases get another name. Two tables must not get the same one.
fn renamed(
    wanted: &Wanted,
    target: &Target,
) -> Result<BTreeMap<DatabaseName, DatabaseName>, Fault> {
    match (target, &wanted.into_db, &wanted.new_db_name) {
        (Target::Databases(names), _, Some(new)) => Ok(names
            .iter()
            .map(|name| (name.clone(), new.clone()))
            .collect()),
        (Target::Tables(tables), Some(into), _) => {
            let mut seen = BTreeSet::new();
            for table in tables {
                if !seen.insert(&table.table) {
                    return Err(Fault::new(
                        ErrorCode::InvalidArgument,
                        format!(
                            "two tables named \"{}\" would both be restored into database \"{into}\"",
                            table.table
                        ),
                    )
                    .hint("restore them one after another, into different databases"));
                }
            }
            Ok(tables
                .iter()
                .map(|table| (table.database.clone(), into.clone()))
                .collect())
        }
        _ => Ok(BTreeMap::new()),
    }
}

/// Which member of the source receives which member of the backup: the one of the same name, or else the only other one in the
/// same place.
fn map_members(
    plan: &RestorePlan,
    newest: &Manifest,
    source: &SourceRecord,
) -> Result<Vec<RestoreMember>, Fault> {
    let mut free: Vec<&MemberRecord> = source.members.iter().collect();
    let mut mapped = Vec::new();
    let mut left = Vec::new();
    for (from, held) in plan.members.iter().zip(&newest.members) {
        match free.iter().position(|member| member.name == from.name) {
            Some(index) => mapped.push(RestoreMember {
                member: free.remove(index).clone(),
                from: from.name.clone(),
            }),
            None => left.push((from, held)),
        }
    }
    for (from, held) in left {
        let place = &held.locality;
        match free.iter().position(|member| member.locality == *place) {
            Some(index) => mapped.push(RestoreMember {
                member: free.remove(index).clone(),
                from: from.name.clone(),
            }),
            // Nothing of it is restored: it needs no counterpart.
            None if from.relations.is_empty() => {}
            None => return Err(no_counterpart(&from.name, place, source)),
        }
    }
    if mapped.is_empty() {
        return Err(Fault::new(
            ErrorCode::FailedPrecondition,
            format!(
                "source {} has no member that could receive the backup",
                source.name
            ),
        ));
    }
    // In the order of the backup's members, whatever the way they were found.
    let order = |member: &RestoreMember| {
        plan.members
            .iter()
            .position(|held| held.name == member.from)
    };
    mapped.sort_by_key(order);
    Ok(mapped)
}

fn no_counterpart(
    member: &holdfast_types::MemberName,
    place: &Locality,
    source: &SourceRecord,
) -> Fault {
    let known: Vec<String> = source
        .members
        .iter()
        .map(|member| format!("{} ({})", member.name, member.locality))
        .collect();
    Fault::new(
        ErrorCode::FailedPrecondition,
        format!(
            "member {member} ({place}) of the backup has no counterpart in source {}, neither by name nor by locality",
            source.name
        ),
    )
    .hint(format!(
        "the members of {} are {}; register one named {member}",
        source.name,
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::SubmitRestoreRequest {
        v1::SubmitRestoreRequest {
            from: "memory://c".into(),
            ..v1::SubmitRestoreRequest::default()
        }
    }

    fn target(databases: &[&str], tables: &[&str]) -> Option<v1::Target> {
        Some(v1::Target {
            databases: databases.iter().map(ToString::to_string).collect(),
            tables: tables.iter().map(ToString::to_string).collect(),
        })
    }

    #[test]
    fn options_go_with_their_targets_only() {
        let read_with = |target, into_db: &str, new_db_name: &str| {
            read(v1::SubmitRestoreRequest {
                target,
                into_db: into_db.into(),
                new_db_name: new_db_name.into(),
                ..request()
            })
        };
        assert!(read_with(None, "", "").is_ok());
        assert!(read_with(target(&[], &["a.t"]), "b", "").is_ok());
        assert!(read_with(target(&["a"], &[]), "", "b").is_ok());
        for (target, into_db, new_db_name, text) in [
            (None, "b", "", "cannot use \"into_db\""),
            (target(&["a"], &[]), "b", "", "cannot use \"into_db\""),
            (None, "", "b", "exactly one database"),
            (target(&["a", "c"], &[]), "", "b", "exactly one database"),
            (target(&[], &["a.t"]), "", "b", "exactly one database"),
            (target(&["a"], &[]), "b", "c", "together"),
        ] {
            let fault = read_with(target, into_db, new_db_name).err().expect(text);
            assert!(fault.message.contains(text), "{fault}");
        }
    }

    #[test]
    fn two_tables_of_one_name_do_not_meet_in_one_database() {
        let wanted = read(v1::SubmitRestoreRequest {
            target: target(&[], &["a.t", "b.t"]),
            into_db: "c".into(),
            ..request()
        })
        .expect("legal");
        let fault = renamed(&wanted, &wanted.target).expect_err("both are t");
        assert!(fault.message.contains("\"t\""), "{fault}");
    }
}
