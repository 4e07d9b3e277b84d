//! Every service as a stub in this process: what is asked of it, what comes back, and what becomes of refusals. (Google Cloud KMS and Azure Key
//! Vault can be had as stubs only; the others are tested for real in `servers.rs`.)

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use holdfast_env::Env;
use holdfast_format::{DataKey, KeyInfo, WrapKind};
use holdfast_keys::{KeyRing, KeyService, Secret};
use holdfast_types::{ErrorCode, Fault};
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const FULL: &str = "2026/11/23-190800.50";
/// Part of every secret that is given; seen in no error.
const CANARY: &str = "hunter2";

/// What the stubs do.
#[derive(Debug, Default)]
struct Script {
    /// Hosts that do not answer.
    dead: Vec<&'static str>,
    /// Hosts that refuse, with a status.
    refusing: BTreeMap<&'static str, u16>,
    /// Requests so far: method, URI, headers that matter.
    asked: Vec<String>,
}

/// All services: each wraps by writing its own mark, its key's name and the context before the key, and takes off what it wrote.
#[derive(Debug, Clone, Default)]
struct Services(Arc<Mutex<Script>>);

fn wrap(mark: &str, context: &str, key: &[u8]) -> Vec<u8> {
    let mut wrapped = format!("{mark}|{context}|").into_bytes();
    wrapped.extend(key.iter().map(|byte| byte ^ 0x5a));
    wrapped
}

fn unwrap(mark: &str, context: &str, wrapped: &[u8]) -> Option<Vec<u8>> {
    let start = format!("{mark}|{context}|");
    let rest = wrapped.strip_prefix(start.as_bytes())?;
    Some(rest.iter().map(|byte| byte ^ 0x5a).collect())
}

impl Services {
    fn answer(&self, request: &HttpRequest) -> Result<(u16, String), HttpError> {
        let uri = request.uri().to_string();
        let host = request.uri().host().unwrap_or_default().to_owned();
        let body = request.body().as_bytes().cloned().unwrap_or_default();
        let text = String::from_utf8_lossy(&body).into_owned();
        let header = |name: &str| {
            let value = request.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let mut script = self.0.lock().expect("lock");
        script.asked.push(format!("{} {uri}", request.method()));
        if script.dead.iter().any(|dead| host.contains(dead)) {
            let error = std::io::Error::other(format!("no route to {CANARY}"));
            return Err(HttpError::new(HttpErrorKind::Connect, error));
        }
        let refusing = script
            .refusing
            .iter()
            .find(|(name, _)| host.contains(**name));
        if let Some((_, status)) = refusing {
            return Ok((*status, format!("denied for {CANARY}")));
        }
        let json: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let field = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let bytes = |name: &str| STANDARD.decode(field(name)).unwrap_or_default();
        let answer = if host.starts_with("kms.") {
            assert!(header("authorization").contains("/eu-west-1/kms/aws4_request"));
            let context = json["EncryptionContext"]["holdfast-chain"].as_str();
            let context = context.expect("a context");
            let mark = format!("aws {}", field("KeyId"));
            match header("x-amz-target").as_str() {
                "TrentService.Encrypt" => {
                    let blob = STANDARD.encode(wrap(&mark, context, &bytes("Plaintext")));
                    json!({ "CiphertextBlob": blob, "KeyId": field("KeyId") })
                }
                "TrentService.Decrypt" => match unwrap(&mark, context, &bytes("CiphertextBlob")) {
                    Some(key) => json!({ "Plaintext": STANDARD.encode(key) }),
                    None => {
                        return Ok((
                            400,
                            json!({ "__type": "com.amazonaws#IncorrectKeyException" }).to_string(),
                        ));
                    }
                },
                other => panic!("{other}"),
            }
        } else if host.starts_with("cloudkms.") {
            assert!(header("authorization").starts_with("Bearer "));
            let context = String::from_utf8(bytes("additionalAuthenticatedData")).expect("text");
            let (name, action) = uri.rsplit_once(':').expect("an action");
            match action {
                "encrypt" => {
                    json!({ "ciphertext": STANDARD.encode(wrap(name, &context, &bytes("plaintext"))) })
                }
                _ => match unwrap(name, &context, &bytes("ciphertext")) {
                    Some(key) => json!({ "plaintext": STANDARD.encode(key) }),
                    None => {
                        return Ok((
                            400,
                            json!({ "error": { "status": "INVALID_ARGUMENT" } }).to_string(),
                        ));
                    }
                },
            }
        } else if host.starts_with("login.") {
            assert!(
                text.contains("scope=https%3A%2F%2Fvault.azure.net%2F.default"),
                "{text}"
            );
            json!({ "access_token": "token-hunter2" })
        } else if host == "169.254.169.254" {
            assert_eq!(header("metadata"), "true");
            json!({ "access_token": "token-hunter2" })
        } else if host.ends_with(".vault.azure.net") {
            assert_eq!(header("authorization"), "Bearer token-hunter2");
            assert_eq!(field("alg"), "RSA-OAEP-256");
            let value = URL_SAFE_NO_PAD.decode(field("value")).expect("base64url");
            let mark = uri.split("/keys/").nth(1).unwrap_or_default();
            let mark = mark.rsplit_once('/').unwrap_or_default().0;
            let found = match uri.contains("/wrapkey?") {
                true => Some(wrap(mark, "", &value)),
                false => unwrap(mark, "", &value),
            };
            match found {
                Some(value) => json!({ "kid": uri, "value": URL_SAFE_NO_PAD.encode(value) }),
                None => {
                    return Ok((
                        400,
                        json!({ "error": { "code": "BadParameter" } }).to_string(),
                    ));
                }
            }
        } else {
            panic!("{uri}");
        };
        Ok((200, answer.to_string()))
    }
}

#[async_trait]
impl HttpService for Services {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (status, body) = self.answer(&request)?;
        let response = http::Response::builder().status(status).body(body.into());
        Ok(response.expect("legal"))
    }
}

const AWS: &str =
    "aws:///alias/backup?REGION=eu-west-1&AWS_ACCESS_KEY_ID=AK&AWS_SECRET_ACCESS_KEY=hunter2";
const AWS_OTHER: &str =
    "aws:///alias/other?REGION=eu-west-1&AWS_ACCESS_KEY_ID=AK&AWS_SECRET_ACCESS_KEY=hunter2";
const GCP: &str = "gs:///projects/p/locations/l/keyRings/r/cryptoKeys/k?BEARER_TOKEN=hunter2";
const AZURE: &str = "azure-kms:///k/v1?AZURE_VAULT_NAME=vault&AZURE_TENANT_ID=t&AZURE_CLIENT_ID=c&AZURE_CLIENT_SECRET=hunter2";
const AZURE_MACHINE: &str = "azure-kms:///k/v1?AZURE_VAULT_NAME=vault&AUTH=implicit";

fn ring(passphrase: &str, kms: &[&str]) -> KeyRing {
    let kms: Vec<Secret> = kms.iter().map(|uri| Secret::new(*uri)).collect();
    let kdf = if passphrase.is_empty() {
        ""
    } else {
        "argon2id"
    };
    KeyRing::read(Some(Secret::new(passphrase)), &kms, kdf).expect("legal")
}

struct World {
    services: Services,
    keys: KeyService,
}

impl World {
    fn new() -> Self {
        let services = Services::default();
        let keys = KeyService::with_client(Env::system(), HttpClient::new(services.clone()));
        Self { services, keys }
    }

    fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.services.0.lock().expect("lock"));
    }

    async fn create(&self, given: &KeyRing) -> (DataKey, KeyInfo) {
        self.keys.create(FULL, given).await.expect("wraps")
    }

    async fn refused(&self, info: &KeyInfo, given: &KeyRing) -> Fault {
        let opened = self.keys.open(info, given).await;
        let fault = opened.map(|key| key.id()).expect_err("refused");
        assert!(!fault.to_string().contains(CANARY), "{fault}");
        fault
    }
}

#[tokio::test(start_paused = true)]
async fn any_one_of_the_keys_opens_the_chain() {
    let world = World::new();
    let (key, info) = world
        .create(&ring("hunter2 horse", &[AWS, GCP, AZURE]))
        .await;
    let kinds: Vec<WrapKind> = info.wraps.iter().map(|wrap| wrap.kind).collect();
    assert_eq!(
        kinds,
        [
            WrapKind::Passphrase,
            WrapKind::Aws,
            WrapKind::Gcp,
            WrapKind::Azure
        ]
    );
    let bytes = info.encode().expect("legal");
    for secret in [CANARY.as_bytes(), key.expose()] {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret));
    }
    for given in [
        ring("hunter2 horse", &[]),
        ring("", &[AWS]),
        ring("", &[GCP]),
        ring("", &[AZURE]),
        ring("", &[AZURE_MACHINE]),
        ring("hunter2 horse", &[AWS, GCP]),
    ] {
        let opened = world.keys.open(&info, &given).await.expect("opens");
        assert_eq!(opened.expose(), key.expose());
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_missing_and_unneeded_keys_have_errors_of_their_own() {
    let world = World::new();
    let (_, info) = world.create(&ring("hunter2 horse", &[AWS])).await;
    let cases = [
        (ring("", &[]), "no key was given"),
        (ring("hunter2 cow", &[]), "the passphrase does not open"),
        (ring("hunter2 cow", &[AWS]), "the passphrase does not open"),
        (
            ring("", &[AWS_OTHER]),
            "alias/other?REGION=eu-west-1 is none of the keys",
        ),
        (
            ring("", &[AWS, AWS_OTHER]),
            "alias/other?REGION=eu-west-1 is none of the keys",
        ),
        (ring("hunter2 horse", &[GCP]), "is none of the keys"),
    ];
    for (given, text) in cases {
        let fault = world.refused(&info, &given).await;
        assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");
        assert!(fault.message.contains(text), "{fault}");
        assert!(fault.hint.is_some(), "{fault}");
    }
    let (_, kms_only) = world.create(&ring("", &[AWS])).await;
    let fault = world.refused(&kms_only, &ring("hunter2", &[])).await;
    assert!(
        fault.message.contains("not encrypted with a passphrase"),
        "{fault}"
    );
    // A wrap that somebody put there who does not have the key.
    let (_, other) = world.create(&ring("", &[AWS])).await;
    let mut forged = kms_only.clone();
    forged.wraps.clone_from(&other.wraps);
    let fault = world.refused(&forged, &ring("", &[AWS])).await;
    assert!(fault.message.contains("none of the keys"), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn one_region_may_be_out_of_reach() {
    let world = World::new();
    let (key, info) = world.create(&ring("", &[AWS, GCP])).await;
    world.script(|script| script.dead.push("amazonaws"));
    let opened = world.keys.open(&info, &ring("", &[AWS, GCP])).await;
    assert_eq!(opened.expect("by the other").id(), key.id());
    // And if there is no other: it may pass.
    let fault = world.refused(&info, &ring("", &[AWS])).await;
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
    // A new chain is not made with less than was asked for.
    let made = world.keys.create(FULL, &ring("", &[GCP, AWS])).await;
    assert_eq!(made.expect_err("unreachable").code, ErrorCode::Unavailable);
    world.script(|script| {
        script.dead.clear();
        script.refusing.insert("amazonaws", 403);
    });
    let fault = world.refused(&info, &ring("", &[AWS])).await;
    assert_eq!(fault.code, ErrorCode::FailedPrecondition);
    assert!(
        fault
            .message
            .contains("refuses to unwrap a key: 403 denied for redacted"),
        "{fault}"
    );
    world.script(|script| {
        script.refusing.insert("amazonaws", 503);
        script.asked.clear();
    });
    let fault = world.refused(&info, &ring("", &[AWS])).await;
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
    world.script(|script| assert_eq!(script.asked.len(), 3, "asked again"));
}

#[tokio::test(start_paused = true)]
async fn keys_are_added_and_dropped() {
    let world = World::new();
    let (key, first) = world.create(&ring("", &[AWS])).await;
    let further = ring("hunter2 horse", &[GCP]);
    let second = world.keys.add(&key, &first, &further).await.expect("adds");
    assert_eq!((second.number, second.wraps.len()), (2, 3));
    assert_eq!(second.check(&key), Ok(()));
    let opened = world.keys.open(&second, &ring("", &[GCP])).await;
    assert_eq!(opened.expect("opens").id(), key.id());
    let twice = world.keys.add(&key, &second, &ring("", &[AWS])).await;
    assert_eq!(twice.expect_err("is there").code, ErrorCode::AlreadyExists);

    let aws = second.wraps[0].id();
    let third = world.keys.leave_out(&key, &second, &[aws]).expect("drops");
    assert_eq!((third.number, third.wraps.len()), (3, 2));
    let fault = world.refused(&third, &ring("", &[AWS])).await;
    assert!(fault.message.contains("none of the keys"), "{fault}");
    let unknown = world.keys.leave_out(&key, &third, &["00000000".into()]);
    assert_eq!(unknown.expect_err("no such").code, ErrorCode::NotFound);
    let all: Vec<String> = third
        .wraps
        .iter()
        .map(holdfast_format::KeyWrap::id)
        .collect();
    let none = world
        .keys
        .leave_out(&key, &third, &all)
        .expect_err("none left");
    assert_eq!(none.code, ErrorCode::FailedPrecondition);
}

#[tokio::test(start_paused = true)]
async fn what_a_user_gives_is_checked_and_bounded() {
    let read = |passphrase: &str, kms: &[&str], kdf: &str| {
        let kms: Vec<Secret> = kms.iter().map(|uri| Secret::new(*uri)).collect();
        KeyRing::read(Some(Secret::new(passphrase)), &kms, kdf)
    };
    assert!(read("", &[], "").expect("nothing").is_empty());
    for (given, text) in [
        (read("", &[AWS, AWS], ""), "given twice"),
        (read("p", &[], "md5"), "no key is derived"),
        (read("", &[AWS], "argon2id"), "chosen for a passphrase"),
        (read(&"p".repeat(5000), &[], ""), "at most 4096"),
    ] {
        let fault = given.expect_err(text);
        assert!(fault.message.contains(text), "{fault}");
    }
    let shown = format!("{:?}", ring("hunter2", &[AWS, GCP, AZURE]));
    assert!(!shown.contains(CANARY), "{shown}");
}
