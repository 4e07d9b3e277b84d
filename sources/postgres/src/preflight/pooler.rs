//! Whether a connection is a session of its own, or shares the server's with others.

use holdfast_env::Env;
use holdfast_types::Fault;

use super::report::{Finding, Severity};
use crate::dsn::Dsn;
use crate::session::{Purpose, Session};

/// How many transactions each of two open sessions does while the other waits.
const ROUNDS: usize = 3;

/// Two open sessions that are served by one backend in turn are behind a pooler that shares connections: settings, snapshots and locks would wander.
/// (That the numbers of backends differ from what the greeting said proves nothing: providers' proxies replace them.)
pub(super) async fn look(env: &Env, dsn: &Dsn, first: &Session) -> Result<Vec<Finding>, Fault> {
    let second = match Session::connect(env, dsn, Purpose::Control).await {
        Ok(session) => session,
        // The settings did not hold.
        Err(fault) if fault.code == holdfast_types::ErrorCode::Unsupported => {
            return Ok(vec![shared(&fault.message)]);
        }
        Err(fault) => return Err(fault),
    };
    for _ in 0..ROUNDS {
        let of_first = pid(first).await?;
        let of_second = pid(&second).await?;
        if of_first == of_second {
            return Ok(vec![shared("two sessions are served by the same backend")]);
        }
        if of_first != first.info().pid || of_second != second.info().pid {
            return Ok(vec![shared("a session's backend changed")]);
        }
    }
    Ok(Vec::new())
}

async fn pid(session: &Session) -> Result<i32, Fault> {
    Ok(session
        .query_one("SELECT pg_catalog.pg_backend_pid()", &[])
        .await?
        .get(0))
}

fn shared(how: &str) -> Finding {
    Finding::new(
        Severity::Blocks,
        "connection",
        format!("it goes through a pooler that shares the server's connections: {how}"),
    )
    .mend("connect to the server directly, or to the pooler's port for session pooling")
}
