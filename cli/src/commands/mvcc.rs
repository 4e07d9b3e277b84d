//! `holdfast mvcc`: serve a member of the embedded store, and use one by hand.

use bytes::Bytes;
use holdfast_mvcc::{Mutation, MvccClient};
use holdfast_node::{LogFormat, init_logging};
use holdfast_source::Change;
use holdfast_types::{AsOf, ByteCount, ErrorCode, Fault, Hlc, Millis, TableName};
use serde::Serialize;
use std::sync::Arc;

use crate::args::MvccCommand;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Table;
use crate::roles::{self, MemberRole, StartedView};
use crate::rows::Rows;

/// What a change was committed at.
#[derive(Serialize)]
struct CommittedView {
    position: String,
}

#[derive(Serialize)]
struct RowView {
    key: String,
    value: String,
}

#[derive(Serialize)]
struct MemberStatusView {
    position: String,
    threshold: String,
    ttl_ms: u64,
    holds: Vec<MemberHoldView>,
    stored_bytes: u64,
    commits: u64,
    relations: Vec<RelationView>,
}

#[derive(Serialize)]
struct MemberHoldView {
    id: String,
    position: String,
}

#[derive(Serialize)]
struct RelationView {
    id: u64,
    name: Option<String>,
    state: String,
    rows_read: u64,
    bytes_read: u64,
    rows_written: u64,
    bytes_written: u64,
}

pub(super) async fn run(context: &Context, command: MvccCommand) -> Result<Exit, Fault> {
    let client = |address: &str| MvccClient::new(Arc::clone(&context.env.net), address);
    match command {
        MvccCommand::Serve {
            data_dir,
            listen,
            ttl_s,
        } => serve(context, data_dir, listen, ttl_s).await,
        MvccCommand::Status { member } => status(context, &client(&member.member)?).await,
        MvccCommand::CreateDatabase { name, member } => {
            let at = client(&member.member)?.create_database(&name).await?;
            committed(context, at)
        }
        MvccCommand::CreateTable { table, member } => {
            let client = client(&member.member)?;
            match client.create_database(&table.database).await {
                Err(fault) if fault.code != ErrorCode::AlreadyExists => return Err(fault),
                _ => {}
            }
            client.create_table(&table, Bytes::new()).await?;
            context.output.note(format!("table {table} is there"));
            Ok(Exit::Ok)
        }
        MvccCommand::Put {
            table,
            key,
            value,
            member,
        } => {
            let mutation = Mutation::put(table, key, value);
            let at = client(&member.member)?.write(vec![mutation]).await?;
            committed(context, at)
        }
        MvccCommand::Delete { table, key, member } => {
            let mutation = Mutation::delete(table, key);
            let at = client(&member.member)?.write(vec![mutation]).await?;
            committed(context, at)
        }
        MvccCommand::Get {
            table,
            key,
            as_of,
            member,
        } => get(context, &client(&member.member)?, table, key, as_of).await,
        MvccCommand::Scan {
            table,
            as_of,
            limit,
            member,
        } => scan(context, &client(&member.member)?, &table, as_of, limit).await,
    }
}

async fn serve(
    context: &Context,
    directory: String,
    listen: String,
    ttl_s: Option<u64>,
) -> Result<Exit, Fault> {
    init_logging(LogFormat::Text, "info");
    let role = MemberRole {
        directory,
        listen,
        time_to_live: ttl_s.map(|seconds| Millis(seconds.saturating_mul(1000))),
    };
    let member = roles::start_member(&context.env, role).await?;
    let view = StartedView {
        address: Some(member.address()),
        sql_address: None,
    };
    context.output.item(&view, || {
        format!("mvcc member listens on {}", member.address())
    });
    roles::interrupted().await;
    member.shutdown().await;
    Ok(Exit::Ok)
}

fn committed(context: &Context, at: Hlc) -> Result<Exit, Fault> {
    let view = CommittedView {
        position: at.to_string(),
    };
    context.output.result(&view, || view.position.clone());
    Ok(Exit::Ok)
}

fn at(context: &Context, as_of: Option<AsOf>) -> Result<Option<Hlc>, Fault> {
    as_of
        .map(|as_of| as_of.instant(context.env.clock.now()))
        .transpose()
}

async fn get(
    context: &Context,
    client: &MvccClient,
    table: TableName,
    key: String,
    as_of: Option<AsOf>,
) -> Result<Exit, Fault> {
    let (position, row) = client.get(&table, key.clone(), at(context, as_of)?).await?;
    match row.map(|row| row.change) {
        Some(Change::Put(value)) => {
            let view = RowView {
                key,
                value: text(&value),
            };
            context.output.result(&view, || view.value.clone());
            Ok(Exit::Ok)
        }
        _ => Err(Fault::new(
            ErrorCode::NotFound,
            format!("table {table} has no such row at {position}"),
        )),
    }
}

async fn scan(
    context: &Context,
    client: &MvccClient,
    table: &TableName,
    as_of: Option<AsOf>,
    limit: usize,
) -> Result<Exit, Fault> {
    let mut rows = Rows::open(client, table, at(context, as_of)?).await?;
    let mut shown = 0;
    while let Some((key, value)) = rows.next().await? {
        if shown == limit {
            context.output.note(format!(
                "there is more: only {limit} rows are shown, see --limit"
            ));
            break;
        }
        let view = RowView {
            key: text(&key),
            value: text(&value),
        };
        context
            .output
            .item(&view, || format!("{}\t{}", view.key, view.value));
        shown += 1;
    }
    Ok(Exit::Ok)
}

async fn status(context: &Context, client: &MvccClient) -> Result<Exit, Fault> {
    let status = client.status().await?;
    let view = MemberStatusView {
        position: status.position.to_string(),
        threshold: status.threshold.to_string(),
        ttl_ms: status.ttl.0,
        holds: status
            .holds
            .iter()
            .map(|(id, at)| MemberHoldView {
                id: id.to_string(),
                position: at.to_string(),
            })
            .collect(),
        stored_bytes: status.stored.0,
        commits: status.commits,
        relations: status
            .relations
            .iter()
            .map(|relation| RelationView {
                id: relation.id.0,
                name: relation.name.as_ref().map(ToString::to_string),
                state: relation.state.to_owned(),
                rows_read: relation.count.rows_read.0,
                bytes_read: relation.count.bytes_read.0,
                rows_written: relation.count.rows_written.0,
                bytes_written: relation.count.bytes_written.0,
            })
            .collect(),
    };
    context.output.result(&view, || view.text());
    Ok(Exit::Ok)
}

impl MemberStatusView {
    fn text(&self) -> String {
        let mut table = Table::new(&["relation", "name", "state", "read", "written"]);
        for relation in &self.relations {
            table.row([
                relation.id.to_string(),
                relation.name.clone().unwrap_or_default(),
                relation.state.clone(),
                ByteCount(relation.bytes_read).to_string(),
                ByteCount(relation.bytes_written).to_string(),
            ]);
        }
        format!(
            "position {}, history from {}, {} stored, {} commits, {} holds\n{table}",
            self.position,
            self.threshold,
            ByteCount(self.stored_bytes),
            self.commits,
            self.holds.len()
        )
    }
}

/// Bytes as text; what is not UTF-8 is shown as such.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
