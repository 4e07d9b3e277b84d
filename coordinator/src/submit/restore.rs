//! Restores.

mod members;
mod names;

use holdfast_format::{Chain, Manifest, RestorePlan};
use holdfast_keys::KeyRing;
use holdfast_proto::v1;
use holdfast_types::{
    AsOf, ChainKey, ErrorCode, Fault, JobSpec, Locality, Position, RequestKey, RestoreOptions,
    RestoreSpec, SourceKind, SourceName, SourceRecord, TableName, Target, Timestamp,
};
use std::collections::BTreeSet;

use self::members::{Choice, choose, map_members, member_of_log, read_choices};
use self::names::NewNames;
use super::{
    backup::identify, catch_up, earlier_job, execution_locality, own_key, part_size, propose,
    target::read_target,
};
use crate::core::Core;
use crate::encryption::{open_chain, read_ring};
use crate::location::Collection;

/// A request, read.
struct Wanted {
    request: Option<RequestKey>,
    collection: Collection,
    subdir: String,
    target: Target,
    as_of: Option<AsOf>,
    into_source: Option<SourceName>,
    names: NewNames,
    options: RestoreOptions,
    members: Vec<Choice>,
    execution_locality: Locality,
    keys: KeyRing,
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn read(request: v1::SubmitRestoreRequest, collection: Collection) -> Result<Wanted, Fault> {
    let wanted = Wanted {
        request: own_key(&request.request_key)?,
        collection,
        subdir: given(request.subdir).unwrap_or_else(|| "LATEST".to_owned()),
        target: read_target(request.target)?,
        as_of: given(request.as_of).map(|text| text.parse()).transpose()?,
        into_source: given(request.into_source)
            .map(|text| text.parse())
            .transpose()?,
        names: NewNames {
            into_db: given(request.into_db),
            into_schema: given(request.into_schema),
            table: given(request.new_table_name),
            database: given(request.new_db_name),
        },
        options: RestoreOptions {
            schema_only: request.schema_only,
            verify_data: request.verify_backup_table_data,
            skip_missing_foreign_keys: request.skip_missing_foreign_keys,
            skip_missing_sequences: request.skip_missing_sequences,
            skip_missing_sequence_owners: request.skip_missing_sequence_owners,
            grants: request.grants.unwrap_or(true),
            owners: request.owners.unwrap_or(true),
            skip_missing_roles: request.skip_missing_roles,
        },
        members: read_choices(&request.members)?,
        execution_locality: execution_locality(&request.execution_locality)?,
        keys: read_ring(request.encryption)?,
    };
    wanted.names.check(&wanted.target)?;
    check_options(&wanted.options, &wanted.target)?;
    Ok(wanted)
}

/// The options that go with others only.
fn check_options(options: &RestoreOptions, target: &Target) -> Result<(), Fault> {
    let is_of_tables = matches!(target, Target::Tables(_));
    let refused = [
        (
            options.verify_data && !options.schema_only,
            "cannot use \"verify_backup_table_data\" without \"schema_only\"",
            "a restore that loads the rows compares them anyway",
        ),
        (
            options.skip_missing_sequences && !is_of_tables,
            "cannot use \"skip_missing_sequences\" with whole databases: all of their sequences are restored",
            "leave the option out, or name tables",
        ),
        (
            options.skip_missing_sequence_owners && !is_of_tables,
            "cannot use \"skip_missing_sequence_owners\" with whole databases: all of their sequences are restored",
            "leave the option out, or name tables",
        ),
    ];
    match refused.into_iter().find(|(is_refused, ..)| *is_refused) {
        Some((_, message, hint)) => Err(Fault::new(ErrorCode::InvalidArgument, message).hint(hint)),
        None => Ok(()),
    }
}

/// The options that only some kinds of sources know.
fn check_kind(wanted: &Wanted, kind: SourceKind) -> Result<(), Fault> {
    if wanted.options.schema_only && !kind.is_logged() {
        return Err(Fault::new(
            ErrorCode::Unsupported,
            format!(
                "cannot use \"schema_only\" with a source of kind {kind}: a table of it is nothing but its rows"
            ),
        )
        .hint("verify the backup instead: that reads all of it and writes nothing"));
    }
    let given = wanted.options.given();
    if let (Some(option), false) = (given.first(), kind.is_logged()) {
        return Err(Fault::new(
            ErrorCode::Unsupported,
            format!(
                "cannot use \"{option}\" with a source of kind {kind}: it has neither foreign keys nor sequences nor rights"
            ),
        )
        .hint("leave the option out"));
    }
    wanted.names.check_kind(kind)
}

/// Accepts a restore.
pub(crate) async fn submit_restore(
    core: &Core,
    request: v1::SubmitRestoreRequest,
) -> Result<v1::SubmitJobResponse, Fault> {
    let key = own_key(&request.request_key)?;
    catch_up(core).await?;
    if let Some(earlier) = earlier_job(core, key.as_ref()) {
        return Ok(earlier);
    }
    let from = Collection::to_read(core, &request.from, &request.more_from)?;
    let wanted = read(request, from)?;
    let now = core.env.clock.now();
    let spec = resolve(core, &wanted, now).await?;
    propose(core, JobSpec::Restore(spec), wanted.request, now).await
}

/// The restore that a request asks for, without one being begun.
pub(crate) async fn restore_spec(
    core: &Core,
    request: v1::SubmitRestoreRequest,
) -> Result<RestoreSpec, Fault> {
    catch_up(core).await?;
    let from = Collection::to_read(core, &request.from, &request.more_from)?;
    let wanted = read(request, from)?;
    resolve(core, &wanted, core.env.clock.now()).await
}

async fn resolve(core: &Core, wanted: &Wanted, now: Timestamp) -> Result<RestoreSpec, Fault> {
    let (chain, encryption) = load(core, wanted).await?;
    let plan = plan(&chain, wanted, now)?;
    let newest = newest_layer(&chain, &plan)?;
    let into = wanted
        .into_source
        .clone()
        .unwrap_or_else(|| newest.source.clone());
    let (_, source) = core.replica.read(|ledger| identify(ledger, &into))?;
    let spec = spec_of(wanted, plan, newest, source, part_size(core))?;
    Ok(RestoreSpec {
        encryption,
        access: wanted.collection.access(&core.config.cluster_key),
        ..spec
    })
}

/// What is restored, as of when.
fn plan(chain: &Chain, wanted: &Wanted, now: Timestamp) -> Result<RestorePlan, Fault> {
    let as_of = match wanted.as_of.map(|as_of| as_of.resolve(now)) {
        None => None,
        Some(Position::Hlc(at)) => Some(at),
        Some(Position::Lsn(place)) => {
            let member = member_of_log(chain, &wanted.members, place)?;
            return chain.resolve_restore_before(&wanted.target, member, place);
        }
        Some(other) => {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                format!("restores do not go back to {other}"),
            ));
        }
    };
    chain.resolve_restore(&wanted.target, as_of)
}

async fn load(core: &Core, wanted: &Wanted) -> Result<(Chain, Option<ChainKey>), Fault> {
    let store = core.open_existing(&wanted.collection).await?;
    let what = format!("reading the chain in {}", wanted.collection);
    let resolving = store.resolve_subdir(&wanted.subdir);
    let subdir = core.bounded(&what, resolving).await?;
    let open = open_chain(core, &store, &subdir, &wanted.keys).await?;
    let chain = core.bounded(what, open.store.load_chain(&subdir)).await?;
    Ok((chain, open.key))
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
    plan: RestorePlan,
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
    check_kind(wanted, source.kind)?;
    let plan = choose(plan, newest, &wanted.target, &wanted.members)?;
    let target = resolved_target(&wanted.target, &plan);
    let renamed = wanted.names.resolve(&target)?;
    Ok(RestoreSpec {
        members: map_members(&plan, newest, &source, &wanted.members)?,
        source: source.name,
        kind: source.kind,
        renamed: renamed.databases,
        tables: renamed.tables,
        options: wanted.options,
        into_existing: matches!(target, Target::Tables(_)),
        target,
        collection: wanted.collection.to_string(),
        access: holdfast_types::CollectionAccess::default(),
        layers: plan.layers,
        as_of: plan.at,
        execution_locality: wanted.execution_locality.clone(),
        part_size,
        encryption: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_its_options() {
        let request = v1::SubmitRestoreRequest {
            from: "memory://c".into(),
            target: Some(v1::Target {
                databases: Vec::new(),
                tables: vec!["a.s.t".into()],
            }),
            into_schema: "x".into(),
            new_table_name: "y".into(),
            schema_only: true,
            members: vec!["m1=a".into()],
            ..v1::SubmitRestoreRequest::default()
        };
        let wanted = read(request.clone(), Collection::plain("memory://c")).expect("legal");
        assert_eq!(wanted.subdir, "LATEST");
        assert!(wanted.options.schema_only && wanted.members.len() == 1);
        assert!(check_kind(&wanted, SourceKind::Postgres).is_ok());
        let fault = check_kind(&wanted, SourceKind::Mvcc).expect_err("not known there");
        assert!(fault.message.contains("schema_only"), "{fault}");
        let plain = || v1::SubmitRestoreRequest {
            from: "memory://c".into(),
            ..v1::SubmitRestoreRequest::default()
        };
        for (request, option) in [
            (
                v1::SubmitRestoreRequest {
                    skip_missing_foreign_keys: true,
                    ..plain()
                },
                "skip_missing_foreign_keys",
            ),
            (
                v1::SubmitRestoreRequest {
                    grants: Some(false),
                    ..plain()
                },
                "grants",
            ),
            (
                v1::SubmitRestoreRequest {
                    owners: Some(false),
                    ..plain()
                },
                "owners",
            ),
        ] {
            let wanted = read(request, Collection::plain("memory://c")).expect("legal");
            assert!(check_kind(&wanted, SourceKind::Postgres).is_ok());
            let fault = check_kind(&wanted, SourceKind::Mvcc).expect_err("not known there");
            assert!(fault.message.contains(option), "{fault}");
        }
        for (change, text) in [
            (
                v1::SubmitRestoreRequest {
                    schema_only: false,
                    verify_backup_table_data: true,
                    ..request.clone()
                },
                "without \"schema_only\"",
            ),
            (
                v1::SubmitRestoreRequest {
                    skip_missing_sequences: true,
                    ..plain()
                },
                "\"skip_missing_sequences\" with whole databases",
            ),
            (
                v1::SubmitRestoreRequest {
                    target: None,
                    ..request.clone()
                },
                "cannot use \"into_schema\"",
            ),
            (
                v1::SubmitRestoreRequest {
                    members: vec!["=".into()],
                    ..request
                },
                "not a legal name",
            ),
        ] {
            let fault = read(change, Collection::plain("memory://c"))
                .err()
                .expect(text);
            assert!(fault.message.contains(text), "{fault}");
        }
    }
}
