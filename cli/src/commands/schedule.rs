//! `holdfast schedule`.

use holdfast_client::{ControlApi, v1};
use holdfast_types::{ErrorCode, Fault};

use super::{shown, wire_target};
use crate::args::{
    AlterScheduleArgs, CreateScheduleArgs, ScheduleCommand, either, read_words, stores,
};
use crate::context::Context;
use crate::exit::Exit;
use crate::keys;
use crate::views::{ControlledScheduleView, ScheduleView, SchedulesView};

pub(super) async fn run(context: &Context, command: ScheduleCommand) -> Result<Exit, Fault> {
    let api = context.client()?;
    let (schedule, verb) = match command {
        ScheduleCommand::Create(arguments) => {
            let label = arguments.label.clone();
            let (keys, kdf) = (arguments.keys.clone(), arguments.kdf.clone());
            let encryption = keys::given(context, &keys, kdf.as_deref(), true).await?;
            let made = api
                .create_schedule(v1::CreateScheduleRequest {
                    encryption,
                    ..create(*arguments)?
                })
                .await?;
            if made.existed {
                let label = label.unwrap_or_default();
                context.output.note(format!(
                    "there is a schedule labelled \"{}\" already: nothing was made",
                    label.escape_debug()
                ));
            }
            let view = SchedulesView::from(made.schedules);
            context.output.result(&view, || view.text());
            return Ok(Exit::Ok);
        }
        ScheduleCommand::List => {
            let view = SchedulesView::from(api.list_schedules().await?.schedules);
            context.output.result(&view, || view.text());
            return Ok(Exit::Ok);
        }
        ScheduleCommand::Show { schedule } => {
            let all = api.list_schedules().await?.schedules;
            let found = all.into_iter().find(|it| it.id == schedule);
            let view = ScheduleView::from(found.ok_or_else(|| {
                Fault::new(
                    ErrorCode::NotFound,
                    format!("there is no schedule {schedule}"),
                )
                .hint("list the schedules with `holdfast schedule list`")
            })?);
            context.output.result(&view, || view.text());
            return Ok(Exit::Ok);
        }
        ScheduleCommand::Alter(arguments) => {
            let encryption = keys::further(context, &arguments.keys).await?;
            let changed = api
                .alter_schedule(v1::AlterScheduleRequest {
                    encryption,
                    ..alter(*arguments)
                })
                .await?;
            let view = SchedulesView::from(changed.schedules);
            context.output.result(&view, || view.text());
            return Ok(Exit::Ok);
        }
        ScheduleCommand::Pause { schedule } => (schedule, "pause"),
        ScheduleCommand::Resume { schedule } => (schedule, "resume"),
        ScheduleCommand::Run { schedule } => (schedule, "run"),
        ScheduleCommand::Drop { schedule } => (schedule, "drop"),
    };
    let request = v1::ControlScheduleRequest {
        schedule,
        verb: verb.to_owned(),
    };
    let view = ControlledScheduleView::new(schedule, verb, api.control_schedule(request).await?);
    context.output.result(&view, || view.text());
    Ok(Exit::Ok)
}

fn create(mut arguments: CreateScheduleArgs) -> Result<v1::CreateScheduleRequest, Fault> {
    let (source, into) = read_words(&arguments.words, "INTO")?;
    let (into, more_into) = stores(
        std::mem::take(&mut arguments.into),
        into,
        "say where the backups go: INTO file:///backups/bank",
    )?;
    let source = either(None, source, "the source", "name a registered source")?;
    Ok(v1::CreateScheduleRequest {
        label: arguments.label.unwrap_or_default(),
        if_not_exists: arguments.if_not_exists,
        source,
        target: Some(wire_target(&arguments.target)),
        into,
        more_into,
        revision_history: arguments.revision_history,
        execution_locality: shown(arguments.execution_locality),
        recurring: arguments.recurring,
        full_backup: arguments.full_backup.unwrap_or_default(),
        first_run: arguments.first_run.unwrap_or_default(),
        on_execution_failure: arguments.on_execution_failure.to_string(),
        on_previous_running: arguments.on_previous_running.to_string(),
        ignore_existing_backups: arguments.ignore_existing_backups,
        encryption: None,
    })
}

fn alter(arguments: AlterScheduleArgs) -> v1::AlterScheduleRequest {
    let mut into = arguments.into.into_iter();
    v1::AlterScheduleRequest {
        schedule: arguments.schedule,
        label: arguments.label,
        recurring: arguments.recurring,
        full_backup: arguments.full_backup,
        into: into.next(),
        more_into: into.collect(),
        revision_history: arguments.revision_history,
        on_execution_failure: arguments.on_execution_failure.map(|it| it.to_string()),
        on_previous_running: arguments.on_previous_running.map(|it| it.to_string()),
        encryption: None,
    }
}
