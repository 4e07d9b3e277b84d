//! How a session begins: encryption that is declined, requests to cancel, and who may come in.

use std::sync::Arc;

use pgwire::messages::response::{GssEncResponse, SslResponse, TransactionStatus};
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey, Startup,
};
use pgwire::messages::{
    PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion, SslNegotiationMetaMessage,
};
use tokio::sync::OwnedSemaphorePermit;

use super::codec::WireError;
use super::registry::{Place, Registry};
use super::wire::{Lost, Wire};
use super::{Access, Shared};
use crate::error::{SqlError, state};
use crate::exec::Session;

/// Requests for encryption that are declined on one connection.
const MAX_DECLINED: usize = 2;

/// A session that may begin.
pub(super) struct Started {
    pub(super) session: Session,
    pub(super) place: Place,
    /// One of the sessions that may be there at once.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Reads who the client is and answers; `None` if the connection is over.
pub(super) async fn start(
    wire: &mut Wire,
    shared: &Arc<Shared>,
    is_local: bool,
) -> Option<Started> {
    let startup = read(wire, shared).await?;
    wire.started();
    let admitted = admit(&startup, shared, is_local);
    let (session, permit) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            wire.fatal(error).await;
            return None;
        }
    };
    let place = Registry::enter(shared);
    let greeted = greet(wire, &startup, &session, &place).await;
    greeted.ok().map(|()| Started {
        session,
        place,
        permit,
    })
}

async fn read(wire: &mut Wire, shared: &Shared) -> Option<Startup> {
    for _ in 0..=MAX_DECLINED {
        let message = match wire.next().await? {
            Ok(message) => message,
            Err(WireError::Io) => return None,
            Err(WireError::Broken(error)) => {
                wire.fatal(error).await;
                return None;
            }
        };
        let declined = match message {
            PgWireFrontendMessage::Startup(startup) => return Some(startup),
            PgWireFrontendMessage::CancelRequest(request) => {
                shared
                    .registry
                    .cancel(request.pid, request.secret_key.as_i32());
                return None;
            }
            // There is no certificate that it could be done with.
            PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::PostgresGss(_)) => {
                PgWireBackendMessage::GssEncResponse(GssEncResponse::Refuse)
            }
            _ => PgWireBackendMessage::SslResponse(SslResponse::Refuse),
        };
        wire.feed(declined).await.ok()?;
        wire.flush().await.ok()?;
    }
    None
}

fn admit(
    startup: &Startup,
    shared: &Shared,
    is_local: bool,
) -> Result<(Session, OwnedSemaphorePermit), SqlError> {
    let refuse = |message: &str| SqlError::new(state::INVALID_AUTHORIZATION, message);
    if startup.parameters.contains_key("replication") {
        return Err(SqlError::meaningless(
            "there is no replication here: this is a coordinator of backups",
        ));
    }
    let user = startup.parameters.get("user").map_or("", String::as_str);
    if user.is_empty() {
        return Err(refuse(
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    match shared.access {
        Access::TrustLoopback if is_local => {}
        Access::TrustLoopback => {
            return Err(refuse(
                "connections from other machines are refused: users and passwords are not kept yet",
            )
            .hint(
                "connect from the machine that the coordinator runs on, for example through ssh",
            ));
        }
        Access::Nobody => {
            return Err(
                refuse("connections are refused: users and passwords are not kept yet").hint(
                    "start the coordinator with --sql-trust-loopback to let in everybody who connects from its machine",
                ),
            );
        }
    }
    let Ok(permit) = Arc::clone(&shared.sessions).try_acquire_owned() else {
        return Err(
            SqlError::new(state::TOO_MANY_CONNECTIONS, "too many sessions already")
                .hint("end one of them, or connect to another coordinator"),
        );
    };
    let database = startup
        .parameters
        .get("database")
        .map_or(user, String::as_str);
    let mut session = Session::new(user, database);
    for (name, value) in &startup.parameters {
        match name.as_str() {
            "user" | "database" => {}
            "options" => options(&mut session, value),
            name => session.start_with(name, value),
        }
    }
    Ok((session, permit))
}

/// `-c name=value` and `--name=value`, as in PGOPTIONS.
fn options(session: &mut Session, text: &str) {
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let setting = match word {
            "-c" => words.next(),
            word => word.strip_prefix("-c").or_else(|| word.strip_prefix("--")),
        };
        if let Some((name, value)) = setting.and_then(|setting| setting.split_once('=')) {
            session.start_with(&name.replace('-', "_"), value);
        }
    }
}

async fn greet(
    wire: &mut Wire,
    startup: &Startup,
    session: &Session,
    place: &Place,
) -> Result<(), Lost> {
    let extensions: Vec<String> = (startup.parameters.keys())
        .filter(|name| name.starts_with("_pq_."))
        .cloned()
        .collect();
    if startup.protocol_number_minor > 0 || !extensions.is_empty() {
        let newest = ProtocolVersion::PROTOCOL3_0.into();
        let negotiate = NegotiateProtocolVersion::new(newest, extensions);
        wire.feed(PgWireBackendMessage::NegotiateProtocolVersion(negotiate))
            .await?;
    }
    wire.feed(PgWireBackendMessage::Authentication(Authentication::Ok))
        .await?;
    for (name, value) in session.reported() {
        wire.parameter(name, value).await?;
    }
    let key = BackendKeyData::new(place.number, SecretKey::I32(place.secret));
    wire.feed(PgWireBackendMessage::BackendKeyData(key)).await?;
    wire.ready(TransactionStatus::Idle).await
}
