//! `holdfast backups`.

use holdfast_client::{ControlApi, v1};
use holdfast_types::Fault;

use crate::args::{BackupsCommand, ExpireArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::follow_to_end;
use crate::keys;
use crate::local::LocalCluster;
use crate::views::{ChainsView, ExpiryView, ResidencyView, ShownChainView};

pub(super) async fn run(context: &Context, command: BackupsCommand) -> Result<Exit, Fault> {
    let local = match &command {
        BackupsCommand::Expire(_) => false,
        BackupsCommand::List { local, .. }
        | BackupsCommand::Show { local, .. }
        | BackupsCommand::Residency { local, .. } => *local,
    };
    if !local {
        return ask(context, &context.client()?, command).await;
    }
    let cluster = LocalCluster::start(&context.env).await?;
    let result = ask(context, cluster.api(), command).await;
    cluster.stop().await;
    result
}

async fn ask(
    context: &Context,
    api: &dyn ControlApi,
    command: BackupsCommand,
) -> Result<Exit, Fault> {
    match command {
        BackupsCommand::List { collection, .. } => {
            let view = ChainsView::from(api.list_backups(&collection).await?);
            context.output.result(&view, || view.text());
            Ok(Exit::Ok)
        }
        BackupsCommand::Expire(arguments) => expire(context, api, arguments).await,
        BackupsCommand::Residency {
            collections,
            subdir,
            keys,
            ..
        } => {
            let request = v1::CheckResidencyRequest {
                collections,
                subdir,
                encryption: keys::given(context, &keys, None, false).await?,
            };
            let view = ResidencyView::from(api.check_residency(request).await?);
            context.output.result(&view, || view.text());
            Ok(match view.is_fine() {
                true => Exit::Ok,
                false => Exit::Precondition,
            })
        }
        BackupsCommand::Show {
            collection,
            subdir,
            check_files,
            also,
            keys,
            ..
        } => {
            let request = v1::ShowBackupRequest {
                collection,
                subdir,
                check_files,
                more_collections: also,
                encryption: keys::given(context, &keys, None, false).await?,
            };
            let view = ShownChainView::from(api.show_backup(request).await?);
            context.output.result(&view, || view.text());
            Ok(if view.has_problems() {
                Exit::Corrupted
            } else {
                Exit::Ok
            })
        }
    }
}

async fn expire(
    context: &Context,
    api: &dyn ControlApi,
    arguments: ExpireArgs,
) -> Result<Exit, Fault> {
    let request = v1::ExpireBackupsRequest {
        request_key: arguments.request_key.unwrap_or_default(),
        collection: arguments.collection,
        more_collections: arguments.also,
        older_than: arguments.older_than.unwrap_or_default(),
        keep_fulls: arguments.keep_fulls.unwrap_or_default(),
        dry_run: arguments.dry_run,
    };
    let answer = api.expire_backups(request).await?;
    let job = answer.job;
    let view = ExpiryView::new(answer, arguments.dry_run);
    if job == 0 || arguments.detach {
        context.output.result(&view, || view.text());
        return Ok(Exit::Ok);
    }
    context.output.note(view.text());
    follow_to_end(context, api, job).await
}
