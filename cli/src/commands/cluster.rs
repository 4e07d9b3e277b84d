//! `holdfast init`, `status`, `member` and `setting`.

use holdfast_client::{ControlApi, v1};
use holdfast_node::ClusterKey;
use holdfast_types::{ErrorCode, Fault};
use serde::Serialize;

use crate::args::{InitArgs, MemberCommand, SettingCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::views::{MembersView, SettingsView, StatusView};

#[derive(Serialize)]
struct InitialisedView {
    cluster_id: String,
}

#[derive(Serialize)]
struct KeyFileView {
    key_file: String,
}

#[derive(Serialize)]
struct SetView {
    setting: String,
    value: u64,
}

pub(super) async fn init(context: &Context, arguments: InitArgs) -> Result<Exit, Fault> {
    if let Some(path) = arguments.key_file {
        return make_key(context, path).await;
    }
    let request = v1::InitClusterRequest {
        members: arguments
            .members
            .into_iter()
            .map(|member| v1::MemberAddress {
                node: member.node,
                address: member.address,
            })
            .collect(),
    };
    let answer = context.client()?.init_cluster(request).await?;
    let view = InitialisedView {
        cluster_id: answer.cluster_id,
    };
    context
        .output
        .result(&view, || format!("cluster {}", view.cluster_id));
    Ok(Exit::Ok)
}

/// Makes a key file; one that is there is kept and refused, for a lost key makes span bounds in the ledger unreadable.
async fn make_key(context: &Context, path: String) -> Result<Exit, Fault> {
    let env = context.env.clone();
    let file = path.clone();
    context
        .env
        .blocking(move || {
            let unreadable = |error: std::io::Error| {
                Fault::new(
                    ErrorCode::Unavailable,
                    format!("cannot look at {file}: {error}"),
                )
            };
            if env.disk.exists(&file).map_err(unreadable)? {
                return Err(
                    Fault::new(ErrorCode::AlreadyExists, format!("{file} exists already")).hint(
                        "copy it to the other nodes, or choose another path for another cluster",
                    ),
                );
            }
            ClusterKey::read_or_create(env.disk.as_ref(), env.entropy.as_ref(), &file).map(drop)
        })
        .await?;
    let view = KeyFileView { key_file: path };
    context.output.result(&view, || {
        format!(
            "{} is the cluster key: give a copy to every coordinator and worker, and to nobody else",
            view.key_file
        )
    });
    Ok(Exit::Ok)
}

pub(super) async fn status(context: &Context) -> Result<Exit, Fault> {
    let view = StatusView::from(context.client()?.cluster_status().await?);
    context.output.result(&view, || view.text());
    Ok(Exit::Ok)
}

pub(super) async fn member(context: &Context, command: MemberCommand) -> Result<Exit, Fault> {
    let api = context.client()?;
    let coordinators = match command {
        MemberCommand::List => api.cluster_status().await?.coordinators,
        MemberCommand::Add { node, replace } => {
            let request = v1::AddMemberRequest {
                node: node.node,
                address: node.address,
                replace: replace.unwrap_or_default(),
            };
            api.add_member(request).await?.coordinators
        }
        MemberCommand::Remove { node } => api.remove_member(node).await?.coordinators,
    };
    let view = MembersView::from(coordinators);
    context.output.result(&view, || view.text());
    Ok(Exit::Ok)
}

pub(super) async fn setting(context: &Context, command: SettingCommand) -> Result<Exit, Fault> {
    let api = context.client()?;
    match command {
        SettingCommand::List => {
            let view = SettingsView::new(api.cluster_status().await?.settings);
            context.output.result(&view, || view.text());
        }
        SettingCommand::Set { name, value } => {
            api.set_setting(&name, value).await?;
            let view = SetView {
                setting: name,
                value,
            };
            context
                .output
                .result(&view, || format!("{} = {}", view.setting, view.value));
        }
    }
    Ok(Exit::Ok)
}
