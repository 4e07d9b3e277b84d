//! `holdfast sql`.

use holdfast_sql::{SqlConsole, SqlEvent};
use holdfast_types::{ErrorCode, Fault};
use serde_json::{Map, Value};
use std::io::Read;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::Table;

/// The longest text that is read from stdin, in bytes: what the wire takes too.
const MAX_TEXT: u64 = 1 << 20;

pub(super) async fn run(
    context: &Context,
    execute: Vec<String>,
    source: &str,
) -> Result<Exit, Fault> {
    let text = match execute.is_empty() {
        true => read_stdin(context).await?,
        false => execute.join(";\n"),
    };
    let api = Arc::new(context.client()?);
    let mut console = SqlConsole::new(api, context.env.clone(), source);
    let cancelled = CancellationToken::new();
    let interrupted = async {
        crate::roles::interrupted().await;
        cancelled.cancel();
        std::future::pending::<()>().await;
    };
    let running = console.run(&text, &cancelled, |event| show(context, event));
    tokio::select! {
        biased;
        ended = running => match ended {
            Ok(()) => Ok(Exit::Ok),
            Err(fault) if fault.code == ErrorCode::Cancelled && cancelled.is_cancelled() => {
                context.output.error(&fault);
                Ok(Exit::Interrupted)
            }
            Err(fault) => Err(fault),
        },
        () = interrupted => Ok(Exit::Interrupted),
    }
}

async fn read_stdin(context: &Context) -> Result<String, Fault> {
    let read = || {
        let mut text = String::new();
        let mut stdin = std::io::stdin().lock().take(MAX_TEXT + 1);
        stdin.read_to_string(&mut text).map(|_| text)
    };
    let text = context.env.blocking(read).await.map_err(|error| {
        Fault::new(
            ErrorCode::InvalidArgument,
            format!("the statements cannot be read: {error}"),
        )
    })?;
    if text.len() as u64 > MAX_TEXT {
        return Err(Fault::new(
            ErrorCode::ResourceExhausted,
            format!("the statements are longer than {MAX_TEXT} bytes"),
        ));
    }
    Ok(text)
}

fn show(context: &Context, event: SqlEvent) {
    let output = context.output;
    match event {
        SqlEvent::Notice { message, hint } => {
            output.note(format!("notice: {message}"));
            if let Some(hint) = hint {
                output.note(format!("hint: {hint}"));
            }
        }
        SqlEvent::Done { tag } => {
            let mut value = Map::new();
            value.insert("done".to_owned(), Value::String(tag.clone()));
            output.item(&value, || tag);
        }
        SqlEvent::Rows { columns, rows } if output.is_json() => {
            for row in rows {
                let cells = row
                    .into_iter()
                    .map(|cell| cell.map_or(Value::Null, Value::String));
                let row: Map<String, Value> = columns.iter().cloned().zip(cells).collect();
                output.item(&row, String::new);
            }
        }
        SqlEvent::Rows { columns, rows } => {
            let names: Vec<&str> = columns.iter().map(String::as_str).collect();
            let mut table = Table::new(&names);
            for row in rows {
                table.cells(row.into_iter().map(Option::unwrap_or_default));
            }
            output.item(&(), || table.to_string());
        }
    }
}
