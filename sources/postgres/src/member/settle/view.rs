//! What the snapshot F shows of a database, beside rows.

use bytes::Bytes;
use holdfast_types::{ErrorCode, Fault, TableName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Settling;
use crate::catalog;
use crate::exact::{HeldSnapshot, import, moved_since};
use crate::globals::{DatabaseFacts, Globals};
use crate::layout::{Layout, Oid};
use crate::member::standing::{self, Standings};
use crate::restore::MaterializedView;
use crate::schema::{DumpOptions, DumpTool, dump};
use crate::sequences::{self, SequenceFacts, SequenceValue};
use crate::session::{LOCK_TIMEOUT, Session};

/// A database under F.
pub(super) struct View {
    /// The relations that are covered.
    pub(super) relations: Vec<Arc<Layout>>,
    /// Bytes of the heap of each, and of all its rows: estimates, for they may grow.
    pub(super) sizes: BTreeMap<Oid, (u64, u64)>,
    pub(super) standings: Standings,
    pub(super) facts: DatabaseFacts,
    pub(super) globals: Globals,
    pub(super) sequences: Vec<SequenceValue>,
    pub(super) matviews: Vec<MaterializedView>,
    /// Bytes of a page.
    pub(super) page_bytes: u64,
    pub(super) server_version: u32,
}

impl View {
    /// Looks.
    pub(super) async fn take(settling: &Settling<'_>, held: &HeldSnapshot) -> Result<Self, Fault> {
        let session = settling.member.control(&settling.plan.name).await?;
        import(&session, held.id()?).await?;
        let relations = catalog::read(&session).await?;
        let (publication, slot) = match &settling.plan.log {
            Some(log) => (log.names.publication.as_str(), log.names.slot.as_str()),
            None => ("", ""),
        };
        let standings = standing::read(&session, publication, slot).await?;
        let mut sizes = BTreeMap::new();
        let relations: Vec<_> = relations
            .into_iter()
            .filter(|facts| settling.covers(&facts.layout))
            .map(|facts| {
                sizes.insert(facts.layout.oid, (facts.heap_bytes, facts.total_bytes));
                Arc::new(facts.layout)
            })
            .collect();
        let tables: BTreeSet<String> = relations.iter().map(|it| it.display_name()).collect();
        let has_sequence = |facts: &SequenceFacts| {
            let own = TableName {
                database: settling.plan.name.clone(),
                table: facts.display_name(),
            };
            settling.backup.target.covers(&own) || facts.serves(|table| tables.contains(table))
        };
        Ok(Self {
            standings,
            facts: DatabaseFacts::capture(&session).await?,
            globals: Globals::capture(&session).await?,
            matviews: MaterializedView::capture(&session).await?,
            // Last: one that was dropped after F ends the transaction.
            sequences: sequences::capture(&session, &has_sequence).await?,
            relations,
            sizes,
            page_bytes: session.info().page_bytes,
            server_version: session.info().version,
        })
    }
}

/// The server's clock. Read before F is begun to be taken, which waits for all transactions that are writing by then: what was committed
/// until that time is seen under F.
pub(super) async fn clock(session: &Session) -> Result<Timestamp, Fault> {
    const CLOCK: &str =
        "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::pg_catalog.int8";
    let row = session.query_one(CLOCK, &[]).await?;
    Ok(Timestamp::from_micros(
        u64::try_from(row.get::<_, i64>(0)).unwrap_or_default(),
    ))
}

/// The schema under F, as pg_dump writes it.
pub(super) async fn schema(
    settling: &Settling<'_>,
    held: &HeldSnapshot,
    major: u32,
) -> Result<Bytes, Fault> {
    let preferred = settling.member.limits.tools.as_deref();
    let tool = DumpTool::find(&settling.member.env, major, preferred).await?;
    let options = DumpOptions {
        snapshot: Some(held.id()?.to_owned()),
        schemas: Vec::new(),
        lock_timeout: Some(u32::try_from(LOCK_TIMEOUT.as_millis()).unwrap_or(u32::MAX)),
    };
    let mut is_last = false;
    loop {
        let fault = match dump(&tool, &settling.dsn, &options).await {
            Ok(archive) => return Ok(archive.into()),
            Err(fault) => fault,
        };
        if fault.code != ErrorCode::FailedPrecondition {
            return Err(fault);
        }
        let code = why(&fault, held).await?;
        if is_last || code != fault.code {
            return Err(Fault { code, ..fault });
        }
        // In whatever language it was said: what passes does not come twice.
        is_last = true;
    }
}

/// Why pg_dump failed, of which it tells people alone. It stumbles over relations that were dropped after F, and, as everybody, over locks,
/// cancels and connections that end.
async fn why(fault: &Fault, held: &HeldSnapshot) -> Result<ErrorCode, Fault> {
    const PASSING: [&str; 8] = [
        "lock timeout",
        "canceling statement",
        "terminating connection",
        "server closed the connection",
        "connection to server",
        "could not receive data",
        "could not send data",
        "invalid snapshot identifier",
    ];
    // An index, a function, whatever is not a table: these are said in English by every server.
    const DROPPED: [&str; 2] = [
        "cache lookup failed for",
        "could not open relation with OID",
    ];
    let is_dropped = DROPPED.iter().any(|sign| fault.message.contains(sign));
    let session = held.session()?;
    if is_dropped || !moved_since(session).await?.is_empty() || is_renamed(session).await? {
        return Ok(ErrorCode::HistoryGone);
    }
    let is_passing = PASSING.iter().any(|sign| fault.message.contains(sign));
    Ok(match is_passing {
        true => ErrorCode::Unavailable,
        false => fault.code,
    })
}

/// Whether a table has another name, or is in a schema of another name, than the session's snapshot shows, so that what is locked by its name is not found. With an
/// empty search path `regclass` is the whole name as it is now.
async fn is_renamed(session: &Session) -> Result<bool, Fault> {
    let rows = session
        .query(
            "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
               AND c.oid::pg_catalog.regclass::pg_catalog.text <> pg_catalog.format('%I.%I', n.nspname, c.relname)
             LIMIT 1",
            &[],
        )
        .await?;
    Ok(!rows.is_empty())
}
