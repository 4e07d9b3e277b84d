//! For how long a statement may run.

use std::time::Duration;

use crate::exec;

/// The session's `statement_timeout`: milliseconds, or with a unit. What cannot be read is none.
pub(super) fn statement_timeout(session: &exec::Session) -> Option<Duration> {
    let text = session.get("statement_timeout");
    let millis = match text.parse::<u64>() {
        Ok(millis) => millis,
        Err(_) => u64::try_from(crate::times::parse_interval(text)? / 1000).ok()?,
    };
    (millis > 0).then(|| Duration::from_millis(millis))
}

pub(super) async fn after(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}
