//! SCRAM-SHA-256 on the server's side (RFC 5802, RFC 7677), as PostgreSQL speaks it. Pure: messages in, messages out.
//!
//! The user's name in the client's message is ignored: the one that the session was begun with counts. Messages with extensions that must be understood are refused.

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast_client::Credential;

use crate::error::{SqlError, state};

/// The mechanism.
pub(super) const PLAIN: &str = "SCRAM-SHA-256";
/// The mechanism that binds the password to the encrypted channel.
pub(super) const BOUND: &str = "SCRAM-SHA-256-PLUS";
/// The only kind of channel binding that PostgreSQL's clients know.
const END_POINT: &str = "p=tls-server-end-point";
/// The longest nonce of a client, in bytes; libpq's has 24.
const MAX_NONCE: usize = 256;

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The password is wrong, or there is no such user. Nobody is told which.
    WrongPassword,
    /// The messages are not those of the mechanism.
    Broken(SqlError),
}

/// A log-in of which the first message has come.
pub(super) struct Exchange {
    credential: Credential,
    /// What the client said first, without its header.
    client_first: String,
    /// What it was answered.
    server_first: String,
    /// Its nonce and ours.
    nonce: String,
    /// How its last message must repeat its header and the channel.
    channel: String,
}

fn broken(detail: &str) -> Refusal {
    Refusal::Broken(
        SqlError::new(state::PROTOCOL_VIOLATION, "malformed SCRAM message").detail(detail),
    )
}

/// The value of `a=value`.
fn value(attribute: Option<&str>, name: char) -> Result<&str, Refusal> {
    let missing = || broken(&format!("attribute \"{name}\" is missing"));
    let rest = attribute.and_then(|text| text.strip_prefix(name));
    rest.and_then(|text| text.strip_prefix('='))
        .ok_or_else(missing)
}

fn text(message: &[u8]) -> Result<&str, Refusal> {
    match std::str::from_utf8(message) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(broken("it is no text")),
    }
}

impl Exchange {
    /// Takes the client's first message, for a mechanism that was offered. `end_point` is the digest of the certificate, if the channel can be bound; `nonce` is fresh, and of
    /// characters that can be printed, without commas.
    pub(super) fn begin(
        credential: Credential,
        mechanism: &str,
        end_point: Option<&[u8]>,
        message: &[u8],
        nonce: &str,
    ) -> Result<Self, Refusal> {
        let message = text(message)?;
        let mut parts = message.splitn(3, ',');
        let (flag, identity, client_first) = match (parts.next(), parts.next(), parts.next()) {
            (Some(flag), Some(identity), Some(rest)) => (flag, identity, rest),
            _ => return Err(broken("it has no header")),
        };
        let mut channel = format!("{flag},{identity},").into_bytes();
        match (mechanism, flag, end_point) {
            (BOUND, END_POINT, Some(digest)) => channel.extend_from_slice(digest),
            (PLAIN, "n", _) | (PLAIN, "y", None) => {}
            // Somebody in between has taken the other mechanism from the list.
            (PLAIN, "y", Some(_)) => {
                return Err(Refusal::Broken(
                    SqlError::new(
                        state::INVALID_AUTHORIZATION,
                        "SCRAM channel binding negotiation error",
                    )
                    .detail("the client can bind the channel and believes that the server cannot, but it can"),
                ));
            }
            _ => return Err(broken("the channel binding does not fit the mechanism")),
        }
        if !identity.is_empty() {
            return Err(Refusal::Broken(SqlError::unsupported(
                "a log-in on behalf of another user",
            )));
        }
        let mut attributes = client_first.split(',');
        let first = attributes.next();
        if first.is_some_and(|text| text.starts_with("m=")) {
            return Err(Refusal::Broken(SqlError::unsupported(
                "extensions of SCRAM that must be understood",
            )));
        }
        value(first, 'n')?;
        let client_nonce = value(attributes.next(), 'r')?;
        let is_legal = (1..=MAX_NONCE).contains(&client_nonce.len())
            && client_nonce.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_legal {
            return Err(broken("the nonce cannot be used"));
        }
        let nonce = format!("{client_nonce}{nonce}");
        let server_first = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(&credential.verifier.salt),
            credential.verifier.iterations
        );
        Ok(Self {
            client_first: client_first.to_owned(),
            server_first,
            nonce,
            channel: STANDARD.encode(channel),
            credential,
        })
    }

    /// What the client is answered.
    pub(super) fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Takes the client's last message, and gives the proof that the server has the verifier.
    pub(super) fn finish(self, message: &[u8]) -> Result<String, Refusal> {
        let message = text(message)?;
        let (bare, proof) = message
            .rsplit_once(",p=")
            .ok_or_else(|| broken("it has no proof"))?;
        let mut attributes = bare.split(',');
        if value(attributes.next(), 'c')? != self.channel {
            return Err(broken("the channel is another one"));
        }
        if value(attributes.next(), 'r')? != self.nonce {
            return Err(broken("the nonce is another one"));
        }
        let proof: [u8; 32] = STANDARD
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or_else(|| broken("the proof is none"))?;
        let said = format!("{},{},{bare}", self.client_first, self.server_first);
        let verifier = &self.credential.verifier;
        let signature = sign(&verifier.stored_key, &said);
        let mut client_key = proof;
        for (key, signature) in client_key.iter_mut().zip(signature.as_ref()) {
            *key ^= signature;
        }
        let found = digest::digest(&digest::SHA256, &client_key);
        let fits =
            constant_time::verify_slices_are_equal(found.as_ref(), &verifier.stored_key).is_ok();
        let proof = STANDARD.encode(sign(&verifier.server_key, &said));
        match fits && self.credential.exists {
            true => Ok(format!("v={proof}")),
            false => Err(Refusal::WrongPassword),
        }
    }
}

fn sign(key: &[u8], message: &str) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    use proptest::prelude::*;

    /// PostgreSQL's own verifier of the password `secret`.
    fn credential(exists: bool) -> Credential {
        let text = "SCRAM-SHA-256$4096:AQIDBAUGBwgJCgsMDQ4PEA==$8rrDg00OqaiWXJ7p+sCgHEIaBSHY89ZJl3mfIsf32oY=:05L1f+yZbiN8O0AnO40Og85NNRhvzTS57naKRWCcsIA=";
        Credential {
            verifier: text.parse().expect("a verifier"),
            exists,
        }
    }

    /// A whole log-in of the client of rust-postgres.
    fn play(
        password: &str,
        exists: bool,
        mechanism: &str,
        binding: ChannelBinding,
        end_point: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        let mut client = ScramSha256::new(password.as_bytes(), binding);
        let exchange = Exchange::begin(
            credential(exists),
            mechanism,
            end_point,
            client.message(),
            "ours",
        )?;
        client
            .update(exchange.server_first().as_bytes())
            .expect("the client goes on");
        let last = exchange.finish(client.message())?;
        client
            .finish(last.as_bytes())
            .expect("the server has proved itself");
        Ok(())
    }

    #[test]
    fn only_the_right_password_of_a_user_who_is_there_is_let_in() {
        let wrong = Err(Refusal::WrongPassword);
        for (password, exists, expected) in [
            ("secret", true, Ok(())),
            ("Secret", true, Err(Refusal::WrongPassword)),
            ("", true, Err(Refusal::WrongPassword)),
            ("secret", false, wrong),
        ] {
            let played = play(password, exists, PLAIN, ChannelBinding::unsupported(), None);
            assert_eq!(played, expected, "{password} {exists}");
        }
    }

    #[test]
    fn a_channel_is_bound_to_its_certificate() {
        let bound = |digest: &[u8]| ChannelBinding::tls_server_end_point(digest.to_vec());
        let here: Option<&[u8]> = Some(b"digest");
        assert_eq!(play("secret", true, BOUND, bound(b"digest"), here), Ok(()));
        // Somebody in between has another certificate.
        let error = play("secret", true, BOUND, bound(b"another"), here);
        assert!(matches!(error, Err(Refusal::Broken(_))), "{error:?}");
        // Somebody in between has hidden that the channel can be bound.
        let hidden = ChannelBinding::unrequested();
        let error = play("secret", true, PLAIN, hidden, here);
        match error {
            Err(Refusal::Broken(error)) => assert_eq!(error.state, "28000"),
            other => panic!("{other:?}"),
        }
        // A client that cannot bind it may come in without.
        let cannot = ChannelBinding::unsupported();
        assert_eq!(play("secret", true, PLAIN, cannot, here), Ok(()));
        // A mechanism that was not offered.
        let error = play("secret", true, BOUND, bound(b"digest"), None);
        assert!(matches!(error, Err(Refusal::Broken(_))), "{error:?}");
    }

    fn begin(message: &str) -> Result<Exchange, Refusal> {
        Exchange::begin(credential(true), PLAIN, None, message.as_bytes(), "ours")
    }

    #[test]
    fn messages_that_are_malformed_are_refused() {
        let long = format!("n,,n=,r={}", "x".repeat(300));
        for message in [
            "",
            "n",
            "n,,",
            "n,,r=x",
            "n,,n=",
            "n,,n=,r=",
            "n,,n=,r=a b",
            "n,,m=x,n=,r=x",
            "n,a=bob,n=,r=x",
            "p=tls-unique,,n=,r=x",
            "p=tls-server-end-point,,n=,r=x",
            "z,,n=,r=x",
            "n,,n=,r=x\0",
            &long,
        ] {
            let refused = begin(message).err();
            assert!(matches!(refused, Some(Refusal::Broken(_))), "{message}");
        }
        for message in [
            "",
            "c=biws,r=xours",
            "c=biws,r=xours,p=",
            "c=biws,r=xours,p=AAAA",
            "c=biws,r=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "c=eSws,r=xours,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "r=xours,c=biws,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ] {
            let exchange = begin("n,,n=ann,r=x").expect("the first is well-formed");
            let refused = exchange.finish(message.as_bytes());
            assert!(matches!(refused, Err(Refusal::Broken(_))), "{message}");
        }
        let exchange = begin("n,,n=ann,r=x").expect("the first is well-formed");
        let message = "c=biws,r=xours,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let refused = exchange.finish(message.as_bytes());
        assert_eq!(refused, Err(Refusal::WrongPassword));
    }

    proptest! {
        #[test]
        fn no_bytes_let_anybody_in(first: Vec<u8>, last: Vec<u8>) {
            let begun = Exchange::begin(credential(true), PLAIN, None, &first, "ours");
            prop_assert!(begun.is_err() || first.starts_with(b"n,") || first.starts_with(b"y,"));
            let exchange = begin("n,,n=,r=x").expect("well-formed");
            prop_assert!(exchange.finish(&last).is_err());
        }
    }
}
