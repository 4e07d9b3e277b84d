//! How a session begins: encryption, requests to cancel, and who may come in.

use std::sync::Arc;

use pgwire::messages::response::{GssEncResponse, SslResponse, TransactionStatus};
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey, Startup,
};
use pgwire::messages::{
    PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion, SslNegotiationMetaMessage,
};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::codec::WireError;
use super::login::{self, Barred};
use super::registry::{Place, Registry};
use super::wire::{Lost, Wire};
use crate::error::{SqlError, state};
use crate::exec::Session;

/// Requests for encryption on one connection: of the two kinds, the one declined and the other granted or declined.
const MAX_REQUESTS: usize = 2;

/// A session that may begin.
pub(super) struct Started {
    pub(super) session: Session,
    pub(super) place: Place,
    /// One of the sessions that may be there at once.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Reads who the client is and answers; `None` if the connection is over.
pub(super) async fn start(wire: &mut Wire, shared: &Arc<Shared>, peer: &str) -> Option<Started> {
    let startup = read(wire, shared).await?;
    wire.started();
    let admitted = admit(wire, &startup, shared, peer).await;
    let (session, permit) = match admitted {
        Ok(admitted) => admitted,
        Err(Barred::Told(error)) => {
            wire.fatal(error).await;
            return None;
        }
        Err(Barred::Lost) => return None,
    };
    wire.admitted();
    let place = Registry::enter(shared);
    let greeted = greet(wire, &startup, &session, &place).await;
    greeted.ok().map(|()| Started {
        session,
        place,
        permit,
    })
}

async fn read(wire: &mut Wire, shared: &Shared) -> Option<Startup> {
    match hear(wire, shared).await {
        Ok(startup) => Some(startup),
        Err(Barred::Told(error)) => {
            wire.fatal(error).await;
            None
        }
        Err(Barred::Lost) => None,
    }
}

/// Goes on until the client has said who it is.
async fn hear(wire: &mut Wire, shared: &Shared) -> Result<Startup, Barred> {
    for _ in 0..=MAX_REQUESTS {
        let certificate = match wire.identity() {
            None => shared.certificate.as_ref(),
            Some(_) => None,
        };
        let message = match (wire.next().await.ok_or(Barred::Lost)?, certificate) {
            (Ok(message), _) => message,
            (Err(WireError::Handshake), Some(certificate)) => {
                let identity = certificate.identity().await;
                wire.encrypt_at_once(identity).await?;
                continue;
            }
            (Err(error), _) => return Err(error.into()),
        };
        let answer = match (message, certificate) {
            (PgWireFrontendMessage::Startup(startup), _) => return Ok(startup),
            (PgWireFrontendMessage::CancelRequest(request), _) => {
                let secret = request.secret_key.as_i32();
                shared.registry.cancel(request.pid, secret);
                return Err(Barred::Lost);
            }
            (
                PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::PostgresGss(_)),
                _,
            ) => PgWireBackendMessage::GssEncResponse(GssEncResponse::Refuse),
            (_, Some(certificate)) => {
                let identity = certificate.identity().await;
                let accept = PgWireBackendMessage::SslResponse(SslResponse::Accept);
                wire.feed(accept).await?;
                wire.flush().await?;
                wire.encrypt(identity).await?;
                continue;
            }
            (_, None) => PgWireBackendMessage::SslResponse(SslResponse::Refuse),
        };
        wire.feed(answer).await?;
        wire.flush().await?;
    }
    Err(Barred::Lost)
}

async fn admit(
    wire: &mut Wire,
    startup: &Startup,
    shared: &Arc<Shared>,
    peer: &str,
) -> Result<(Session, OwnedSemaphorePermit), Barred> {
    if startup.parameters.contains_key("replication") {
        return Err(SqlError::meaningless(
            "there is no replication here: this is a coordinator of backups",
        )
        .into());
    }
    let user = startup.parameters.get("user").map_or("", String::as_str);
    if user.is_empty() {
        return Err(SqlError::new(
            state::INVALID_AUTHORIZATION,
            "no PostgreSQL user name specified in startup packet",
        )
        .into());
    }
    login::check(wire, shared, user, peer).await?;
    let Ok(permit) = Arc::clone(&shared.sessions).try_acquire_owned() else {
        return Err(
            SqlError::new(state::TOO_MANY_CONNECTIONS, "too many sessions already")
                .hint("end one of them, or connect to another coordinator")
                .into(),
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
