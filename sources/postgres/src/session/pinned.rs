//! The settings of a session. Roles and databases may have settings of their own that change the bytes the server sends, or end
//! a long statement; none of them reaches a session of ours.

use holdfast_types::{ErrorCode, Fault};

use super::{LOCK_TIMEOUT, Session};
use crate::identifier::literal;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Catalog queries and commands: text is UTF-8.
    Control,
    /// Rows and changes: text is in the database's encoding, so that bytes are never converted. Names of catalog rows that are not
    /// ASCII cannot be read in such a session; write them with [`Session::spelling`].
    Data,
}

/// Settings and the value that `current_setting` then shows.
const SETTINGS: [(&str, &str); 25] = [
    // Names are written with their schema, and types come with theirs.
    ("search_path", ""),
    ("row_security", "off"),
    // What text forms depend on.
    ("bytea_output", "hex"),
    ("datestyle", "ISO, YMD"),
    ("extra_float_digits", "3"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("xmloption", "content"),
    ("lc_monetary", "C"),
    ("quote_all_identifiers", "off"),
    ("standard_conforming_strings", "on"),
    // What ends or delays a long statement.
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("client_min_messages", "error"),
    // What a statement costs and in which order rows come.
    ("synchronize_seqscans", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    ("enable_tidscan", "on"),
    // What a transaction is.
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_read_only", "off"),
    ("session_replication_role", "origin"),
    ("array_nulls", "on"),
    ("check_function_bodies", "on"),
];

/// Settings that not every role may change; they are left where they are right already.
const PRIVILEGED: [&str; 1] = ["session_replication_role"];

/// Pins the settings and sees that they hold in a later transaction: behind a pooler that shares connections they do not.
pub(super) async fn pin(session: &mut Session, purpose: Purpose) -> Result<(), Fault> {
    let lock_timeout = format!("{}s", LOCK_TIMEOUT.as_secs());
    let encoding = match purpose {
        Purpose::Control => "UTF8".to_owned(),
        Purpose::Data => session.info.server_encoding.clone(),
    };
    let mut wanted: Vec<(&str, &str)> = SETTINGS
        .into_iter()
        .filter(|(name, _)| !PRIVILEGED.contains(name) || session.info.superuser)
        .collect();
    wanted.push(("lock_timeout", &lock_timeout));
    if session.info.major() >= 17 {
        wanted.push(("transaction_timeout", "0"));
    }
    wanted.push(("client_encoding", &encoding));
    let statements: String = wanted
        .iter()
        .map(|(name, value)| match (*name, *value) {
            // An empty list of schemas is written as one empty name.
            ("search_path", _) => "SET search_path = '';".to_owned(),
            (name, value) => format!("SET {name} = {};", literal(value)),
        })
        .collect();
    session.execute(&statements).await?;
    // Not every platform can watch a connection while a statement runs.
    let _ = session
        .execute("SET client_connection_check_interval = '5s'")
        .await;
    verify(session, &wanted).await?;
    session.info.client_encoding = encoding;
    Ok(())
}

async fn verify(session: &Session, wanted: &[(&str, &str)]) -> Result<(), Fault> {
    let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    let shown = session
        .query(
            "SELECT pg_catalog.current_setting(name) FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS n(name, place)
             ORDER BY place",
            &[&names],
        )
        .await?;
    for ((name, value), row) in wanted.iter().zip(&shown) {
        let shown: String = row.get(0);
        let shown = if *name == "search_path" {
            shown.trim_matches('"')
        } else {
            &shown
        };
        if !shown.eq_ignore_ascii_case(value) {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                format!("the session does not keep its settings: {name} is not what it was set to"),
            )
            .hint(
                "connect to the server directly: a pooler that shares connections cannot be used",
            ));
        }
    }
    Ok(())
}
