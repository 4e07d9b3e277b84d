//! `holdfast backup`.

use holdfast_client::{ControlApi, v1};
use holdfast_types::Fault;

use super::{place_of, shown, wire_target};
use crate::args::{AppendTo, BackupArgs, Stores, Unread, either, read_words, stores};
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::follow_to_end;
use crate::keys;
use crate::local::{LOCAL_SOURCE, LocalCluster};
use crate::one_shot::{OneShot, read_server};

/// What the member of a backup is called that is no part of a fleet.
const ONE_MEMBER: &str = "server";

pub(super) async fn run(context: &Context, mut arguments: BackupArgs) -> Result<Exit, Fault> {
    let (source, into) = read_words(&arguments.words, "INTO")?;
    let into = stores(
        std::mem::take(&mut arguments.into),
        into,
        "say where the backup goes: INTO file:///backups/bank",
    )?;
    let server = arguments.server.take();
    let source = either(
        server.as_ref().map(|_| LOCAL_SOURCE.to_owned()),
        source,
        "the source",
        "name a registered source, or a server with --source postgres://ROLE@HOST/DATABASE",
    )?;
    let is_new = arguments.append.is_none();
    let encryption =
        keys::given(context, &arguments.keys, arguments.kdf.as_deref(), is_new).await?;
    if let Some(server) = server {
        return run_here(context, arguments, encryption, &server, into).await;
    }
    arguments.one_shot.refuse_state()?;
    let api = context.client()?;
    let detach = arguments.detach;
    let start_chain = arguments.no_chain.then_some(false);
    let submitted = api
        .submit_backup(v1::SubmitBackupRequest {
            encryption,
            ..request(arguments, source, into, start_chain)
        })
        .await?;
    let job = submitted.job;
    announce(context, submitted, detach);
    if detach {
        return Ok(Exit::Ok);
    }
    follow_to_end(context, &api, job).await
}

/// The same job in this process.
async fn run_here(
    context: &Context,
    arguments: BackupArgs,
    encryption: Option<v1::EncryptionKeys>,
    server: &Unread,
    into: Stores,
) -> Result<Exit, Fault> {
    let server = read_server(server, &arguments.one_shot)?;
    let place = place_of(&into.0);
    let what = ["backup", server.address.as_str(), place.as_str()];
    let one_shot = OneShot::start(context, &arguments.one_shot, &what).await?;
    let start_chain = arguments.start_chain;
    let done = async {
        let source = LOCAL_SOURCE.to_owned();
        let request = v1::SubmitBackupRequest {
            encryption,
            ..request(arguments, source, into.clone(), Some(start_chain))
        };
        let submit = async |cluster: &LocalCluster| {
            let submitted = cluster.api().submit_backup(request).await?;
            let job = submitted.job;
            announce(context, submitted, false);
            Ok(job)
        };
        let name = ONE_MEMBER.parse()?;
        one_shot
            .perform(context, name, server.clone(), submit)
            .await
    }
    .await;
    let is_kept = one_shot.end(context).await;
    if start_chain && !is_kept && matches!(done, Ok(Exit::Ok)) {
        context.output.note(
            "no chain was started: the server keeps no log for logical decoding (wal_level, or what docs/POSTGRES.md says of snapshot mode), so that \
             each backup of it must be a full one",
        );
    }
    done
}

/// Tells of an accepted job: the result itself if nobody waits for it, otherwise a note.
pub(super) fn announce(context: &Context, submitted: v1::SubmitJobResponse, detach: bool) {
    let view = crate::views::SubmittedView::from(submitted);
    if detach {
        context.output.result(&view, || view.text());
    } else {
        context.output.note(view.text());
    }
}

fn request(
    arguments: BackupArgs,
    source: String,
    (into, more_into): Stores,
    start_chain: Option<bool>,
) -> v1::SubmitBackupRequest {
    use v1::submit_backup_request::Layer;
    let layer = match arguments.append {
        None => Layer::Full(true),
        Some(AppendTo::Latest) => Layer::AppendToLatest(true),
        Some(AppendTo::Subdir(subdir)) => Layer::AppendTo(subdir),
    };
    v1::SubmitBackupRequest {
        request_key: arguments.request_key.unwrap_or_default(),
        source,
        target: Some(wire_target(&arguments.target)),
        into,
        layer: Some(layer),
        as_of: shown(arguments.as_of),
        revision_history: arguments.revision_history,
        execution_locality: shown(arguments.execution_locality),
        start_chain,
        more_into,
        encryption: None,
    }
}
