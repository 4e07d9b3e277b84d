//! `holdfast source`.

use holdfast_client::{ControlApi, v1};
use holdfast_types::Fault;
use serde::Serialize;

use super::wire_members;
use crate::args::{MemberAddress, SourceCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::views::{SourceView, SourcesView};

#[derive(Serialize)]
struct DroppedView {
    dropped: String,
}

pub(super) async fn run(context: &Context, command: SourceCommand) -> Result<Exit, Fault> {
    let api = context.client()?;
    match command {
        SourceCommand::Add { name, kind, member } => {
            let source = api.register_source(request(name, kind, &member)).await?;
            show(context, source);
        }
        SourceCommand::Update { name, kind, member } => {
            let source = api.update_source(request(name, kind, &member)).await?;
            show(context, source);
        }
        SourceCommand::List => {
            let view = SourcesView::from(api.list_sources().await?);
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

fn request(name: String, kind: String, members: &[MemberAddress]) -> v1::RegisterSourceRequest {
    v1::RegisterSourceRequest {
        name,
        kind,
        members: wire_members(members),
    }
}

fn show(context: &Context, source: v1::Source) {
    let view = SourceView::from(source);
    context.output.result(&view, || view.text());
}
