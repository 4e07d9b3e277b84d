//! `holdfast restore`.

use holdfast_client::{ControlApi, v1};
use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeSet;

use super::backup::announce;
use super::{kind_of, place_of, read_members, shown, wire_target};
use crate::args::{MemberAddress, RestoreArgs, ServerAddress, Stores, Unread, read_words, stores};
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::follow_to_end;
use crate::keys;
use crate::local::{LOCAL_SOURCE, LocalCluster, StateDirectory};
use crate::one_shot::{OneShot, read_server};
use crate::views::DryRunView;

pub(super) async fn run(context: &Context, mut arguments: RestoreArgs) -> Result<Exit, Fault> {
    let (before, from) = read_words(&arguments.words, "FROM")?;
    if before.is_some() {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            "what is restored is named by --database or --table, and the place by FROM",
        ));
    }
    let from = stores(
        std::mem::take(&mut arguments.from),
        from,
        "say where the backup is: FROM file:///backups/bank",
    )?;
    let encryption = keys::given(context, &arguments.keys, None, false).await?;
    if let Some(server) = arguments.to.take() {
        return run_here(context, arguments, encryption, &server, from).await;
    }
    arguments.one_shot.refuse_state()?;
    if arguments.local {
        return run_local(context, arguments, encryption, from).await;
    }
    let api = context.client()?;
    if arguments.dry_run {
        return look(context, &api, request(arguments, encryption, from)).await;
    }
    let detach = arguments.detach;
    let submitted = api
        .submit_restore(request(arguments, encryption, from))
        .await?;
    let job = submitted.job;
    announce(context, submitted, detach);
    if detach {
        return Ok(Exit::Ok);
    }
    follow_to_end(context, &api, job).await
}

/// Shows what the restore would make of every object. Something that stands in the way is an error, so that scripts see it.
async fn look(
    context: &Context,
    api: &dyn ControlApi,
    request: v1::SubmitRestoreRequest,
) -> Result<Exit, Fault> {
    let (view, fault) = DryRunView::new(api.check_restore(request).await?);
    context.output.result(&view, || view.text());
    match fault {
        Some(fault) => Err(fault),
        None if view.refused() > 0 => Ok(Exit::Precondition),
        None => Ok(Exit::Ok),
    }
}

/// The restore of one server's backup onto one server, in this process.
async fn run_here(
    context: &Context,
    arguments: RestoreArgs,
    encryption: Option<v1::EncryptionKeys>,
    server: &Unread,
    from: Stores,
) -> Result<Exit, Fault> {
    let server = read_server(server, &arguments.one_shot)?;
    if arguments.dry_run {
        return look_here(context, arguments, encryption, server, from).await;
    }
    let place = place_of(&from.0);
    let what = ["restore", server.address.as_str(), place.as_str()];
    let one_shot = OneShot::start(context, &arguments.one_shot, &what).await?;
    let done = async {
        let name = chosen_member(one_shot.cluster(), &from, &arguments, &encryption).await?;
        let request = request_here(arguments, encryption, from.clone());
        let submit = async |cluster: &LocalCluster| {
            let submitted = cluster.api().submit_restore(request).await?;
            let job = submitted.job;
            announce(context, submitted, false);
            Ok(job)
        };
        let name = name.parse()?;
        one_shot
            .perform(context, name, server.clone(), submit)
            .await
    }
    .await;
    one_shot.end(context).await;
    done
}

/// The same, without a job: its state goes with the process.
async fn look_here(
    context: &Context,
    arguments: RestoreArgs,
    encryption: Option<v1::EncryptionKeys>,
    server: ServerAddress,
    from: Stores,
) -> Result<Exit, Fault> {
    let one_shot = OneShot::start_anew(context, &arguments.one_shot).await?;
    let looked = async {
        let name = chosen_member(one_shot.cluster(), &from, &arguments, &encryption).await?;
        one_shot.register(name.parse()?, server).await?;
        let request = request_here(arguments, encryption, from);
        look(context, one_shot.cluster().api(), request).await
    }
    .await;
    one_shot.abandon(context).await;
    looked
}

/// The member that is restored: the one that was chosen, or the only one there is. What it is restored onto goes by its name.
async fn chosen_member(
    cluster: &LocalCluster,
    (from, more): &Stores,
    arguments: &RestoreArgs,
    encryption: &Option<v1::EncryptionKeys>,
) -> Result<String, Fault> {
    match arguments.only.as_slice() {
        [] => {}
        [only] if !only.contains('=') => return Ok(only.clone()),
        _ => {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                "only one member can be restored onto one server: write --only NAME",
            ));
        }
    }
    let request = v1::ShowBackupRequest {
        collection: from.clone(),
        subdir: arguments.subdir.clone(),
        check_files: false,
        more_collections: more.clone(),
        encryption: encryption.clone(),
    };
    let from = place_of(from);
    let shown = cluster.api().show_backup(request).await?;
    let tables = shown.layers.into_iter().flat_map(|layer| layer.tables);
    let mut members: BTreeSet<_> = tables.map(|table| table.member).collect();
    match (members.pop_first(), members.first()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Fault::new(
            ErrorCode::FailedPrecondition,
            format!("the backup in {from} holds nothing"),
        )),
        (Some(first), Some(_)) => Err(Fault::new(
            ErrorCode::FailedPrecondition,
            format!(
                "the backup in {from} is one of several servers: {first}, {}",
                members.into_iter().collect::<Vec<_>>().join(", ")
            ),
        )
        .hint("choose one with --only NAME")),
    }
}

/// The same job, run by a cluster of one that lives in this process for as long as the job.
async fn run_local(
    context: &Context,
    arguments: RestoreArgs,
    encryption: Option<v1::EncryptionKeys>,
    from: Stores,
) -> Result<Exit, Fault> {
    let members = read_members(&arguments.member, arguments.one_shot.password.as_ref())?;
    let kind = kind_of(None, &members)?.to_string();
    let slots = arguments.one_shot.streams;
    let tools = arguments.one_shot.pg_tools.clone();
    let directory = StateDirectory::temporary()?;
    let cluster = LocalCluster::start_in(&context.env, directory, slots, tools).await?;
    let result = async {
        let members = members.iter().map(MemberAddress::wire).collect();
        cluster.register(kind, members).await?;
        let request = request_here(arguments, encryption, from);
        let submitted = cluster.api().submit_restore(request).await?;
        cluster.follow(context, submitted.job).await
    }
    .await;
    cluster.stop().await.remove(&context.env).await;
    result
}

fn request_here(
    arguments: RestoreArgs,
    encryption: Option<v1::EncryptionKeys>,
    from: Stores,
) -> v1::SubmitRestoreRequest {
    v1::SubmitRestoreRequest {
        into_source: LOCAL_SOURCE.to_owned(),
        ..request(arguments, encryption, from)
    }
}

fn request(
    arguments: RestoreArgs,
    encryption: Option<v1::EncryptionKeys>,
    from: Stores,
) -> v1::SubmitRestoreRequest {
    v1::SubmitRestoreRequest {
        request_key: arguments.request_key.unwrap_or_default(),
        from: from.0,
        more_from: from.1,
        subdir: arguments.subdir,
        target: Some(wire_target(&arguments.target)),
        as_of: shown(arguments.as_of),
        into_source: arguments.into_source.unwrap_or_default(),
        into_db: arguments.into_db.unwrap_or_default(),
        new_db_name: arguments.new_db_name.unwrap_or_default(),
        execution_locality: shown(arguments.execution_locality),
        into_schema: arguments.into_schema.unwrap_or_default(),
        new_table_name: arguments.new_table_name.unwrap_or_default(),
        schema_only: arguments.schema_only,
        skip_missing_foreign_keys: arguments.skip_missing_foreign_keys,
        grants: arguments.no_grants.then_some(false),
        owners: arguments.no_owner.then_some(false),
        skip_missing_roles: arguments.skip_missing_roles,
        skip_missing_sequences: arguments.skip_missing_sequences,
        skip_missing_sequence_owners: arguments.skip_missing_sequence_owners,
        verify_backup_table_data: arguments.verify_backup_table_data,
        members: arguments.only,
        encryption,
    }
}
