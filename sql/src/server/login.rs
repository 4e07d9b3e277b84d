//! Who a client is: by where it comes from, or by a password.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use holdfast_types::UserName;
use pgwire::messages::startup::{Authentication, PasswordMessageFamily};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::codec::WireError;
use super::scram::{BOUND, Exchange, PLAIN, Refusal};
use super::wire::{Lost, Wire};
use super::{Shared, is_loopback};
use crate::error::{SqlError, state};

/// How long somebody waits for the answer that the password is wrong: guesses take their time.
const PENALTY: Duration = Duration::from_secs(1);
/// Bytes of a nonce, as in PostgreSQL.
const NONCE: usize = 18;

/// How often a password was wrong since the server was started.
#[derive(Debug, Default)]
pub(super) struct Failures(AtomicU64);

impl Failures {
    /// Counts one more.
    fn note(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Why a client is not let in.
pub(super) enum Barred {
    /// It is told.
    Told(SqlError),
    /// It has gone.
    Lost,
}

impl From<SqlError> for Barred {
    fn from(error: SqlError) -> Self {
        Self::Told(error)
    }
}

impl From<Lost> for Barred {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
}

impl From<WireError> for Barred {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Broken(error) => Self::Told(error),
            // What is no message of the protocol, and no handshake that was waited for, is not answered.
            WireError::Io | WireError::Handshake => Self::Lost,
        }
    }
}

fn refuse(message: &str) -> SqlError {
    SqlError::new(state::INVALID_AUTHORIZATION, message)
}

/// Lets a client in, or does not.
pub(super) async fn check(
    wire: &mut Wire,
    shared: &Arc<Shared>,
    user: &str,
    peer: &str,
) -> Result<(), Barred> {
    let is_local = is_loopback(peer);
    if is_local && shared.access.trusts_loopback {
        return Ok(());
    }
    if !is_local && wire.identity().is_none() && !shared.access.allows_plaintext {
        let error = refuse("connections from other machines must be encrypted");
        return Err(error.hint(match shared.certificate {
            Some(_) => "connect with sslmode=require, or better verify-full",
            None => "start the coordinator with --sql-cert and --sql-key, or connect from its machine, for example through ssh",
        }).into());
    }
    let credential = shared.verifiers.credential(user).await;
    let Some(credential) = credential.map_err(SqlError::from)? else {
        return Err(refuse("connections are refused: there are no users yet")
            .hint("make the first one with `holdfast user add NAME`; or start the coordinator with --sql-trust-loopback, to let in everybody who connects from its machine")
            .into());
    };
    let end_point = wire
        .identity()
        .and_then(|identity| identity.end_point.clone());
    let mut mechanisms = vec![PLAIN.to_owned()];
    if end_point.is_some() {
        mechanisms.insert(0, BOUND.to_owned());
    }
    ask(wire, Authentication::SASL(mechanisms.clone())).await?;
    let (mechanism, message) = first(answer(wire).await?)?;
    if !mechanisms.contains(&mechanism) {
        return Err(SqlError::new(
            state::PROTOCOL_VIOLATION,
            "client selected an invalid SASL authentication mechanism",
        )
        .into());
    }
    let mut nonce = [0; NONCE];
    shared.env.entropy.fill(&mut nonce);
    let nonce = STANDARD.encode(nonce);
    let begun = Exchange::begin(
        credential,
        &mechanism,
        end_point.as_deref(),
        &message,
        &nonce,
    );
    let exchange = match begun {
        Ok(exchange) => exchange,
        Err(refusal) => return Err(fail(shared, refusal, user, peer).await.into()),
    };
    let server_first = Bytes::copy_from_slice(exchange.server_first().as_bytes());
    ask(wire, Authentication::SASLContinue(server_first)).await?;
    match exchange.finish(&answer(wire).await?) {
        Ok(proof) => {
            let proof = Authentication::SASLFinal(Bytes::from(proof));
            let message = PgWireBackendMessage::Authentication(proof);
            Ok(wire.feed(message).await?)
        }
        Err(refusal) => Err(fail(shared, refusal, user, peer).await.into()),
    }
}

/// What the client is told after it has waited.
async fn fail(shared: &Shared, refusal: Refusal, user: &str, peer: &str) -> SqlError {
    match refusal {
        Refusal::Broken(error) => error,
        Refusal::WrongPassword => {
            let failures = shared.failures.note();
            // A name that nobody can have would only fill the log.
            let name: String = user.chars().take(UserName::MAX_BYTES).collect();
            tracing::warn!(%peer, user = ?name, failures, "a password for SQL is wrong, or there is no such user");
            tokio::time::sleep(PENALTY).await;
            SqlError::new(
                state::INVALID_PASSWORD,
                format!("password authentication failed for user \"{user}\""),
            )
        }
    }
}

async fn ask(wire: &mut Wire, question: Authentication) -> Result<(), Barred> {
    let message = PgWireBackendMessage::Authentication(question);
    wire.feed(message).await?;
    Ok(wire.flush().await?)
}

/// The body of the client's next message.
async fn answer(wire: &mut Wire) -> Result<Bytes, Barred> {
    match wire.next().await {
        Some(Ok(PgWireFrontendMessage::PasswordMessageFamily(PasswordMessageFamily::Raw(
            body,
        )))) => Ok(body.freeze()),
        Some(Ok(_)) => {
            Err(SqlError::new(state::PROTOCOL_VIOLATION, "expected SASL response").into())
        }
        Some(Err(error)) => Err(error.into()),
        None => Err(Barred::Lost),
    }
}

/// The mechanism that a client has chosen, and its first message.
fn first(mut body: Bytes) -> Result<(String, Bytes), SqlError> {
    let malformed = || SqlError::new(state::PROTOCOL_VIOLATION, "malformed SASL initial response");
    let end = body.iter().position(|byte| *byte == 0);
    let name = body.split_to(end.ok_or_else(malformed)?);
    let name = String::from_utf8(name.to_vec()).map_err(|_| malformed())?;
    body.advance(1);
    if body.len() < 4 {
        return Err(malformed());
    }
    let length = usize::try_from(body.get_i32()).map_err(|_| malformed())?;
    match length == body.len() {
        true => Ok((name, body)),
        false => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_answer_has_a_mechanism_and_a_message() {
        let body = Bytes::from_static(b"SCRAM-SHA-256\0\0\0\0\x03abc");
        let (mechanism, message) = first(body).expect("well-formed");
        assert_eq!((mechanism.as_str(), &message[..]), (PLAIN, &b"abc"[..]));
        for body in [
            &b""[..],
            b"SCRAM-SHA-256",
            b"SCRAM-SHA-256\0",
            b"SCRAM-SHA-256\0\0\0\0\x04abc",
            b"SCRAM-SHA-256\0\0\0\0\x02abc",
            // A client may leave the message out; no client of this mechanism does.
            b"SCRAM-SHA-256\0\xff\xff\xff\xff",
            b"\xff\0\0\0\0\x01a",
        ] {
            let error = first(Bytes::from_static(body)).expect_err("malformed");
            assert_eq!(error.state, "08P01");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes: Vec<u8>) {
            let _ = first(Bytes::from(bytes));
        }
    }
}
