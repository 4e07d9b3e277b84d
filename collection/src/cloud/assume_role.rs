//! Roles at Amazon's token service, one on top of the other.

use async_trait::async_trait;
use holdfast_env::Clock;
use holdfast_types::{ErrorCode, Fault, Millis, Timestamp};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use object_store::{ClientOptions, CredentialProvider, Error, Result};
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use url::form_urlencoded::Serializer;

use crate::uri::parameters::{invalid, name};

/// How long a session is asked for, in seconds: what every role gives.
const SESSION: u64 = 3600;
/// A session is renewed when it has so much left.
const RENEW_BEFORE: Millis = Millis(5 * 60 * 1000);
/// One that is still good is used when it cannot be renewed; after that it is tried again.
const RETRY_AFTER: Millis = Millis(10 * 1000);
const SESSION_NAME: &str = "holdfast";
const STORE: &str = "S3";
/// The longest that the service may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an error's body that are shown.
const SHOWN: usize = 300;

/// A role to assume.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Role {
    arn: String,
    external_id: Option<String>,
}

impl fmt::Debug for Role {
    /// Not the external id: to some it is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Role({})", self.arn)
    }
}

impl Role {
    /// `ROLE[;external_id=ID][,ROLE…]`: each is assumed with the session of the one before.
    ///
    /// # Errors
    /// `InvalidArgument` if the text is anything else.
    pub(super) fn chain(text: &str) -> Result<Vec<Self>, Fault> {
        let read = |element: &str| {
            let mut parts = element.split(';').map(str::trim);
            let arn = parts.next().filter(|arn| !arn.is_empty())?.to_owned();
            let external_id = match parts.next() {
                None => None,
                Some(more) => {
                    let id = more.strip_prefix("external_id=")?;
                    Some((!id.is_empty()).then(|| id.to_owned())?)
                }
            };
            parts.next().is_none().then_some(Self { arn, external_id })
        };
        let roles: Option<Vec<Self>> = text.split(',').map(read).collect();
        roles.ok_or_else(|| {
            invalid(format!(
                "{} is ROLE[;external_id=ID], or several of these with commas between them",
                name::ASSUME_ROLE
            ))
        })
    }
}

impl Role {
    /// What is asked of the token service.
    fn form(&self) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("Action", "AssumeRole")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &self.arn)
            .append_pair("RoleSessionName", SESSION_NAME)
            .append_pair("DurationSeconds", &SESSION.to_string());
        if let Some(id) = &self.external_id {
            form.append_pair("ExternalId", id);
        }
        form.finish()
    }
}

/// The token service.
#[derive(Debug)]
pub(super) struct Sts {
    address: String,
    region: String,
    client: HttpClient,
}

impl Sts {
    pub(super) fn new(
        address: String,
        region: &str,
        options: &ClientOptions,
    ) -> Result<Self, Fault> {
        let client = ReqwestConnector::default()
            .connect(options)
            .map_err(|error| {
                Fault::new(
                    ErrorCode::InvalidArgument,
                    format!("the token service cannot be used: {error}"),
                )
            })?;
        Ok(Self {
            address,
            region: region.to_owned(),
            client,
        })
    }

    async fn assume(&self, role: &Role, with: &AwsCredential) -> Result<Session> {
        let mut request = HttpRequest::new(HttpRequestBody::from(role.form()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("{}/", self.address)
            .parse()
            .map_err(|_| failed("its address is not one"))?;
        request.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        AwsAuthorizer::new(with, "sts", &self.region).try_authorize(&mut request, None)?;
        let answer = tokio::time::timeout(TIMEOUT, async {
            let answer = self.client.execute(request).await?;
            let status = answer.status();
            let body = answer.into_body().bytes().await?;
            Ok::<_, object_store::client::HttpError>((status, body))
        });
        let (status, body) = match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(failed(&error.to_string())),
            Err(_) => return Err(failed(&format!("no answer within {} s", TIMEOUT.as_secs()))),
        };
        let text = String::from_utf8_lossy(&body);
        if status.is_success() {
            return read_session(&text);
        }
        let shown: String = text.chars().take(SHOWN).collect();
        let why = format!("role {}: {status}: {shown}", role.arn);
        match status.is_client_error() {
            true => Err(Error::PermissionDenied {
                path: role.arn.clone(),
                source: why.into(),
            }),
            false => Err(failed(&why)),
        }
    }
}

fn failed(why: &str) -> Error {
    Error::Generic {
        store: STORE,
        source: format!("the token service: {why}").into(),
    }
}

/// What it gives.
#[derive(Clone)]
struct Session {
    credential: Arc<AwsCredential>,
    expires: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    assume_role_result: Outcome,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

/// Reads an answer. Errors do not repeat it: it is a secret.
fn read_session(text: &str) -> Result<Session> {
    let answer: Answer =
        quick_xml::de::from_str(text).map_err(|_| failed("its answer cannot be read"))?;
    let found = answer.assume_role_result.credentials;
    let expires = found
        .expiration
        .parse()
        .map_err(|_| failed("it does not say until when its answer is good"))?;
    Ok(Session {
        credential: Arc::new(AwsCredential {
            key_id: found.access_key_id,
            secret_key: found.secret_access_key,
            token: Some(found.session_token),
        }),
        expires,
    })
}

/// Credentials of a role, renewed before they expire, however long a job takes.
pub(super) struct AssumedRole {
    sts: Arc<Sts>,
    role: Role,
    base: AwsCredentialProvider,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    session: Option<Session>,
    /// Not before this is it renewed.
    renew_at: Timestamp,
}

impl AssumedRole {
    pub(super) fn new(
        sts: Arc<Sts>,
        role: Role,
        base: AwsCredentialProvider,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            sts,
            role,
            base,
            clock,
            held: Mutex::default(),
        }
    }
}

impl fmt::Debug for AssumedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssumedRole({:?})", self.role)
    }
}

#[async_trait]
impl CredentialProvider for AssumedRole {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        // Held over the call: all who need it wait for the one that fetches it.
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        if let Some(session) = &held.session
            && now < held.renew_at
        {
            return Ok(Arc::clone(&session.credential));
        }
        let renewed = async {
            let base = self.base.get_credential().await?;
            self.sts.assume(&self.role, &base).await
        };
        match (renewed.await, &held.session) {
            (Ok(session), _) => {
                let credential = Arc::clone(&session.credential);
                held.renew_at = session.expires.minus(RENEW_BEFORE);
                held.session = Some(session);
                Ok(credential)
            }
            (Err(error), Some(session)) if now < session.expires => {
                tracing::warn!(role = %self.role.arn, %error, "a session is not renewed yet");
                let credential = Arc::clone(&session.credential);
                held.renew_at = now.plus(RETRY_AFTER);
                Ok(credential)
            }
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::StaticCredentialProvider;
    use object_store::client::{HttpError, HttpErrorKind, HttpResponse, HttpService};
    use std::sync::Mutex as SyncMutex;

    /// A token service whose sessions last an hour, and a clock.
    #[derive(Debug, Default)]
    struct Service {
        now: SyncMutex<Timestamp>,
        is_dead: SyncMutex<bool>,
        /// Who asked, by the key of the signature, and for what.
        asked: SyncMutex<Vec<String>>,
    }

    impl Service {
        fn pass(&self, minutes: u64) {
            let mut now = self.now.lock().expect("lock");
            *now = now.plus(Millis(minutes * 60_000));
        }

        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut *self.asked.lock().expect("lock"))
        }
    }

    #[derive(Debug)]
    struct Stub(Arc<Service>);

    impl Clock for Service {
        fn now(&self) -> Timestamp {
            *self.now.lock().expect("lock")
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[async_trait]
    impl HttpService for Stub {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let service = &self.0;
            if *service.is_dead.lock().expect("lock") {
                let error = std::io::Error::other("nobody there");
                return Err(HttpError::new(HttpErrorKind::Connect, error));
            }
            let header = |name: &str| {
                let value = request.headers().get(name);
                value
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
            };
            let signed = header("authorization");
            let key = signed.split(['=', '/']).nth(1).unwrap_or_default();
            let token = header("x-amz-security-token");
            let form = request.body().as_bytes().cloned().unwrap_or_default();
            let form = String::from_utf8_lossy(&form).into_owned();
            let mut asked = service.asked.lock().expect("lock");
            asked.push(format!("{key} {token} {form}"));
            let role = form
                .split("RoleArn=")
                .nth(1)
                .and_then(|rest| rest.split('&').next());
            let role = role.unwrap_or_default();
            let expires = service.now().plus(Millis(SESSION * 1000));
            let body = format!(
                "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>KEY-{role}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                 <SessionToken>token-{role}</SessionToken><Expiration>{expires}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
            );
            Ok(http::Response::new(body.into()))
        }
    }

    fn role(service: &Arc<Service>, chain: &str) -> AwsCredentialProvider {
        let sts = Arc::new(Sts {
            address: "https://sts.example".to_owned(),
            region: "eu-central-1".to_owned(),
            client: HttpClient::new(Stub(Arc::clone(service))),
        });
        let base: AwsCredentialProvider = Arc::new(StaticCredentialProvider::new(AwsCredential {
            key_id: "OWN".to_owned(),
            secret_key: "s".to_owned(),
            token: None,
        }));
        let roles = Role::chain(chain).expect("legal");
        roles.into_iter().fold(base, |base, role| {
            let clock = Arc::<Service>::clone(service);
            Arc::new(AssumedRole::new(Arc::clone(&sts), role, base, clock))
        })
    }

    #[tokio::test]
    async fn each_role_is_assumed_with_the_session_of_the_one_before() {
        let service = Arc::<Service>::default();
        let last = role(&service, "first;external_id=x y,second");
        let credential = last.get_credential().await.expect("a session");
        assert_eq!(credential.key_id, "KEY-second");
        let asked = service.asked();
        let [first, second] = asked.as_slice() else {
            panic!("{asked:?}");
        };
        assert!(
            first.starts_with("OWN  ") && first.contains("RoleArn=first"),
            "{first}"
        );
        assert!(first.contains("ExternalId=x+y"), "{first}");
        assert!(second.starts_with("KEY-first token-first "), "{second}");
        assert!(second.contains("RoleArn=second"), "{second}");
        assert!(!second.contains("ExternalId"), "{second}");
    }

    #[tokio::test]
    async fn a_session_is_renewed_before_it_ends_and_outlives_an_outage() {
        let service = Arc::<Service>::default();
        let provider = role(&service, "worker");
        let asks = async |minutes: u64| {
            service.pass(minutes);
            let got = provider.get_credential().await;
            (got.is_ok(), service.asked().len())
        };
        assert_eq!(asks(0).await, (true, 1), "the first");
        assert_eq!(asks(54).await, (true, 0), "good for six minutes more");
        assert_eq!(asks(2).await, (true, 1), "less than five minutes are left");
        assert_eq!(asks(54).await, (true, 0), "the second began then");
        let dead = |is_dead| *service.is_dead.lock().expect("lock") = is_dead;
        dead(true);
        assert_eq!(
            asks(3).await,
            (true, 0),
            "it is good for three minutes more"
        );
        assert_eq!(asks(2).await, (true, 0), "and for one");
        assert_eq!(asks(2).await, (false, 0), "it has ended");
        dead(false);
        assert_eq!(asks(0).await, (true, 1), "the service is back");
    }

    #[test]
    fn chains_are_read_in_order() {
        let role = |arn: &str, id: Option<&str>| Role {
            arn: arn.to_owned(),
            external_id: id.map(str::to_owned),
        };
        let cases = [
            ("a", vec![role("a", None)]),
            (
                "a;external_id=x,b",
                vec![role("a", Some("x")), role("b", None)],
            ),
            (
                "a, b;external_id=y=z",
                vec![role("a", None), role("b", Some("y=z"))],
            ),
        ];
        for (text, roles) in cases {
            assert_eq!(Role::chain(text).expect(text), roles);
        }
        for text in [
            "",
            ",",
            "a,",
            ";external_id=x",
            "a;id=x",
            "a;external_id=",
            "a;external_id=x;y",
        ] {
            assert!(Role::chain(text).is_err(), "{text}");
        }
        assert!(!format!("{:?}", role("a", Some("hunter2"))).contains("hunter2"));
    }

    #[test]
    fn an_answer_is_read_and_never_shown() {
        let answer = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
            <AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>hunter2</SecretAccessKey><SessionToken>tok</SessionToken>\
            <Expiration>2026-12-01T10:00:00Z</Expiration></Credentials><AssumedRoleUser><Arn>x</Arn></AssumedRoleUser></AssumeRoleResult>\
            <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>";
        let session = read_session(answer).expect("legible");
        assert_eq!(session.credential.key_id, "ASIA");
        assert_eq!(session.credential.token.as_deref(), Some("tok"));
        assert_eq!(session.expires.to_string(), "2026-12-01T10:00:00Z");
        for damaged in [
            answer.replace("Expiration", "Other"),
            answer.replace("2026-12-01", "soon"),
            "<html/>".to_owned(),
        ] {
            let Err(error) = read_session(&damaged) else {
                panic!("{damaged}")
            };
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
