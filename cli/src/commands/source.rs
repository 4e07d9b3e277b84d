//! `holdfast source`.

use holdfast_client::{ControlApi, v1};
use holdfast_types::Fault;
use serde::Serialize;

use super::{kind_of, read_members};
use crate::args::{LimitArgs, MemberAddress, SourceArgs, SourceCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::views::{CheckView, SourceView, SourcesView};

#[derive(Serialize)]
struct DroppedView {
    dropped: String,
}

pub(super) async fn run(context: &Context, command: SourceCommand) -> Result<Exit, Fault> {
    let api = context.client()?;
    match command {
        SourceCommand::Add(arguments) => {
            let source = api.register_source(request(arguments)?).await?;
            show(context, source);
        }
        SourceCommand::Update {
            source,
            clear_passwords,
        } => {
            let mut request = request(source)?;
            for member in &mut request.members {
                member.clear_password = clear_passwords;
                // PGPASSWORD may be there for something else.
                if clear_passwords {
                    member.password.clear();
                }
            }
            let source = api.update_source(request).await?;
            show(context, source);
        }
        SourceCommand::Check { name, member } => {
            return check(context, &api, name, member).await;
        }
        SourceCommand::List => {
            let sources = api.list_sources().await?;
            let holds = api.cluster_status().await?.holds;
            let view = SourcesView::new(sources, holds);
            context.output.result(&view, || view.text());
        }
        SourceCommand::Drop { name } => {
            api.drop_source(&name).await?;
            let view = DroppedView { dropped: name };
            context
                .output
                .result(&view, || format!("source {} is forgotten", view.dropped));
        }
    }
    Ok(Exit::Ok)
}

/// Shows what the members say. Something that blocks, or a member that cannot be looked at, is an error, so that scripts see it.
async fn check(
    context: &Context,
    api: &dyn ControlApi,
    name: String,
    members: Vec<String>,
) -> Result<Exit, Fault> {
    let request = v1::CheckSourceRequest {
        name: name.clone(),
        members,
    };
    let answer = api.check_source(request).await?;
    let (view, fault) = CheckView::new(name, answer);
    context.output.result(&view, || view.text());
    match fault {
        Some(fault) => Err(fault),
        None if view.blocking() > 0 => Ok(Exit::Precondition),
        None => Ok(Exit::Ok),
    }
}

fn request(arguments: SourceArgs) -> Result<v1::RegisterSourceRequest, Fault> {
    let members = read_members(&arguments.member, arguments.password.as_ref())?;
    Ok(v1::RegisterSourceRequest {
        kind: kind_of(arguments.kind.as_deref(), &members)?.to_string(),
        members: (members.iter().map(MemberAddress::wire))
            .map(|member| limited(member, &arguments.limits))
            .collect(),
        name: arguments.name,
    })
}

fn limited(member: v1::Member, limits: &LimitArgs) -> v1::Member {
    v1::Member {
        streams: limits.streams,
        bytes_per_second: limits.max_rate_mib.map(|mib| mib << 20),
        wal_budget: limits.wal_budget_gib.map(|gib| gib << 30),
        ..member
    }
}

fn show(context: &Context, source: v1::Source) {
    let view = SourceView::from(source);
    context.output.result(&view, || view.text());
}
