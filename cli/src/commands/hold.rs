//! `holdfast hold`.

use holdfast_client::ControlApi;
use holdfast_types::Fault;

use crate::args::HoldCommand;
use crate::context::Context;
use crate::exit::Exit;
use crate::views::{DroppedHoldView, HoldsView};

pub(super) async fn run(context: &Context, command: HoldCommand) -> Result<Exit, Fault> {
    let api = context.client()?;
    match command {
        HoldCommand::List => {
            let view = HoldsView::from(api.cluster_status().await?);
            context.output.result(&view, || view.text());
        }
        HoldCommand::Drop { hold } => {
            let view = DroppedHoldView::new(hold, api.drop_hold(hold).await?);
            context.output.result(&view, || view.text());
        }
    }
    Ok(Exit::Ok)
}
