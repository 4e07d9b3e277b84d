//! Start-up and authentication: cleartext, MD5 and SCRAM with or without channel binding.

use fallible_iterator::FallibleIterator;
use holdfast_types::{ErrorCode, Fault};
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::wire::{BackendKey, Wire, malformed};
use crate::dsn::{Binding, Dsn};

/// Logs in, and gives what names the backend.
pub(super) async fn log_in(
    wire: &mut Wire,
    dsn: &Dsn,
    startup: &[(&str, &str)],
) -> Result<BackendKey, Fault> {
    wire.send(|buffer| frontend::startup_message(startup.iter().copied(), buffer))
        .await?;
    let mut bound = false;
    loop {
        match wire.receive().await? {
            Message::AuthenticationOk if dsn.binding == Binding::Require && !bound => {
                return Err(refused(
                    "the server did not bind the login to the TLS channel",
                ));
            }
            Message::AuthenticationOk => break,
            Message::AuthenticationCleartextPassword => {
                let password = password(dsn)?;
                wire.send(|buffer| frontend::password_message(password, buffer))
                    .await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(dsn.user.as_bytes(), password(dsn)?, body.salt());
                wire.send(|buffer| frontend::password_message(hash.as_bytes(), buffer))
                    .await?;
            }
            Message::AuthenticationSasl(body) => bound = scram(wire, dsn, &body).await?,
            _ => {
                return Err(
                    refused("the server asks for a way to log in that is not offered")
                        .hint("use scram-sha-256, md5, password, cert or trust in pg_hba.conf"),
                );
            }
        }
    }
    let mut key = BackendKey::default();
    loop {
        match wire.receive().await? {
            Message::BackendKeyData(body) => {
                key = BackendKey {
                    pid: body.process_id(),
                    secret: body.secret_key(),
                };
            }
            Message::ReadyForQuery(_) => return Ok(key),
            _ => {}
        }
    }
}

/// SCRAM-SHA-256; gives whether it was bound to the channel.
async fn scram(wire: &mut Wire, dsn: &Dsn, body: &AuthenticationSaslBody) -> Result<bool, Fault> {
    let offered: Vec<&str> = body
        .mechanisms()
        .collect()
        .map_err(|error| malformed(&error))?;
    let end_point = match dsn.binding {
        Binding::Disable => None,
        Binding::Prefer | Binding::Require => wire.channel.end_point.clone(),
    };
    let (mechanism, binding) = match end_point {
        Some(digest) if offered.contains(&sasl::SCRAM_SHA_256_PLUS) => (
            sasl::SCRAM_SHA_256_PLUS,
            sasl::ChannelBinding::tls_server_end_point(digest),
        ),
        // We could and the server cannot: saying so lets it see whether somebody in between took the offer away.
        Some(_) => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
        None => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
    };
    if !offered.contains(&mechanism) {
        return Err(refused("the server offers no SCRAM-SHA-256"));
    }
    let mut scram = sasl::ScramSha256::new(password(dsn)?, binding);
    wire.send(|buffer| frontend::sasl_initial_response(mechanism, scram.message(), buffer))
        .await?;
    let Message::AuthenticationSaslContinue(body) = wire.receive().await? else {
        return Err(refused("the server broke off the login"));
    };
    let wrong = |_| refused("the server's part of the login is wrong");
    scram.update(body.data()).map_err(wrong)?;
    wire.send(|buffer| frontend::sasl_response(scram.message(), buffer))
        .await?;
    let Message::AuthenticationSaslFinal(body) = wire.receive().await? else {
        return Err(refused("the server broke off the login"));
    };
    scram.finish(body.data()).map_err(wrong)?;
    Ok(mechanism == sasl::SCRAM_SHA_256_PLUS)
}

fn password(dsn: &Dsn) -> Result<&[u8], Fault> {
    let password = dsn
        .password
        .as_ref()
        .map(|secret| secret.expose().as_bytes());
    password.ok_or_else(|| {
        refused("the server asks for a password, and the connection string has none")
    })
}

fn refused(message: &str) -> Fault {
    Fault::new(ErrorCode::FailedPrecondition, message)
}
