//! `holdfast user`.

use holdfast_client::{ControlApi, v1};
use holdfast_node::verifier_of;
use holdfast_types::{Fault, UserName};
use serde::Serialize;

use crate::args::{UserArgs, UserCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::password;
use crate::views::UsersView;

#[derive(Serialize)]
struct DroppedView {
    dropped: String,
}

pub(super) async fn run(context: &Context, command: UserCommand) -> Result<Exit, Fault> {
    let api = context.client()?;
    match command {
        UserCommand::Add(arguments) => put(context, &api, arguments, false).await?,
        UserCommand::Password(arguments) => put(context, &api, arguments, true).await?,
        UserCommand::Drop { name } => {
            api.drop_user(&name).await?;
            let view = DroppedView { dropped: name };
            context
                .output
                .result(&view, || format!("user {} is forgotten", view.dropped));
        }
        UserCommand::List => {
            let view = UsersView::from(api.list_users().await?.users);
            context.output.result(&view, || view.text());
        }
    }
    Ok(Exit::Ok)
}

async fn put(
    context: &Context,
    api: &dyn ControlApi,
    arguments: UserArgs,
    alter: bool,
) -> Result<(), Fault> {
    // Before anything is asked for.
    let name: UserName = arguments.name.parse()?;
    let password = password::read(context, arguments.password_file.as_deref()).await?;
    // The password does not leave this process: the coordinators get what they check it against.
    let verifier = verifier_of(&password, context.env.entropy.as_ref())?;
    let request = v1::PutUserRequest {
        name: name.to_string(),
        password: verifier.to_string(),
        alter,
    };
    let view = UsersView::from(vec![api.put_user(request).await?]);
    context.output.result(&view, || view.text());
    Ok(())
}
