//! `holdfast connection`.

use holdfast_client::{ControlApi, v1};
use holdfast_types::{ErrorCode, Fault};
use serde::Serialize;

use crate::args::{ConnectionArgs, ConnectionCommand, read_file};
use crate::context::Context;
use crate::exit::Exit;
use crate::views::{CheckedStoresView, ConnectionsView};

#[derive(Serialize)]
struct DroppedView {
    dropped: String,
}

pub(super) async fn run(context: &Context, command: ConnectionCommand) -> Result<Exit, Fault> {
    let api = context.client()?;
    match command {
        ConnectionCommand::Create(arguments) => put(context, &api, arguments, false).await?,
        ConnectionCommand::Alter(arguments) => put(context, &api, arguments, true).await?,
        ConnectionCommand::Drop { name } => {
            api.drop_connection(&name).await?;
            let view = DroppedView { dropped: name };
            context.output.result(&view, || {
                format!("connection {} is forgotten", view.dropped)
            });
        }
        ConnectionCommand::Show { name } => {
            let found = api.list_connections(&name.unwrap_or_default()).await?;
            let view = ConnectionsView::from(found.connections);
            context.output.result(&view, || view.text());
        }
        ConnectionCommand::Check {
            connection,
            transfer_mib,
        } => return check(context, &api, connection, transfer_mib).await,
    }
    Ok(Exit::Ok)
}

async fn put(
    context: &Context,
    api: &dyn ControlApi,
    arguments: ConnectionArgs,
    alter: bool,
) -> Result<(), Fault> {
    let uri = match (arguments.uri, arguments.uri_file) {
        (Some(uri), _) => uri,
        (None, Some(file)) => {
            let bytes = read_file(&context.env, file.clone()).await?;
            let text = String::from_utf8(bytes).map_err(|_| {
                Fault::new(
                    ErrorCode::InvalidArgument,
                    format!("the file {file} holds no text"),
                )
            })?;
            text.trim().to_owned()
        }
        (None, None) => String::new(),
    };
    let request = v1::PutConnectionRequest {
        name: arguments.name,
        uri,
        alter,
    };
    let view = ConnectionsView::from(vec![api.put_connection(request).await?]);
    context.output.result(&view, || view.text());
    Ok(())
}

/// Shows what the workers found. That one cannot use the store is an error, so that scripts see it.
async fn check(
    context: &Context,
    api: &dyn ControlApi,
    connection: String,
    transfer_mib: u64,
) -> Result<Exit, Fault> {
    let uri = match connection.contains("://") {
        true => connection,
        false => format!("external://{connection}"),
    };
    let request = v1::CheckConnectionRequest {
        uri,
        transfer: transfer_mib << 20,
    };
    let view = CheckedStoresView::from(api.check_connection(request).await?);
    context.output.result(&view, || view.text());
    Ok(match view.is_fine() {
        true => Exit::Ok,
        false => Exit::Precondition,
    })
}
