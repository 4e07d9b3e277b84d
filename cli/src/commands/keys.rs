//! `holdfast keys`.

use holdfast_client::{ControlApi, v1};
use holdfast_types::Fault;

use crate::args::{ChainArgs, KeysCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::keys;
use crate::local::LocalCluster;
use crate::views::KeysView;

pub(super) async fn run(context: &Context, command: KeysCommand) -> Result<Exit, Fault> {
    let chain = match &command {
        KeysCommand::Show { chain }
        | KeysCommand::Add { chain, .. }
        | KeysCommand::Drop { chain, .. } => chain.clone(),
    };
    if !chain.local {
        return ask(context, &context.client()?, chain, command).await;
    }
    let cluster = LocalCluster::start(&context.env).await?;
    let result = ask(context, cluster.api(), chain, command).await;
    cluster.stop().await.remove(&context.env).await;
    result
}

async fn ask(
    context: &Context,
    api: &dyn ControlApi,
    chain: ChainArgs,
    command: KeysCommand,
) -> Result<Exit, Fault> {
    let change = v1::ChangeKeysRequest {
        collection: chain.collection.clone(),
        subdir: chain.subdir.clone(),
        ..v1::ChangeKeysRequest::default()
    };
    let change = match command {
        KeysCommand::Show { .. } => {
            let request = v1::ShowKeysRequest {
                collection: chain.collection,
                subdir: chain.subdir,
            };
            show(context, api.show_keys(request).await?);
            return Ok(Exit::Ok);
        }
        KeysCommand::Add { keys, further, .. } => v1::ChangeKeysRequest {
            old: keys::given(context, &keys, None, false).await?,
            add: keys::further(context, &further).await?,
            ..change
        },
        KeysCommand::Drop { id, keys, .. } => v1::ChangeKeysRequest {
            old: keys::given(context, &keys, None, false).await?,
            drop: id,
            ..change
        },
    };
    let changed = api.change_keys(change).await?;
    for left in changed.left {
        context.output.note(format!(
            "an older key info object stays, in which a dropped key still stands, until the store lets it go: {left}"
        ));
    }
    show(context, changed.keys.unwrap_or_default());
    Ok(Exit::Ok)
}

fn show(context: &Context, keys: v1::ChainKeys) {
    let view = KeysView::from(keys);
    context.output.result(&view, || view.text());
}
