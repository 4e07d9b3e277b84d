//! Azurite: Azure Blob Storage.

use http::{HeaderValue, Method};
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::child::{Server, free_ports, installed};
use crate::encoded;
use crate::signed::{plain, request};

/// The account that every such server has, and its key: both are known to everybody.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running server.
#[derive(Debug)]
pub struct Azurite {
    server: Server,
    port: u16,
    containers: AtomicU32,
}

impl Azurite {
    /// The server of this test binary, started by whoever asks first.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Azurite> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let server = Server::place("holdfast-azurite-");
        let [port] = free_ports();
        let program = installed("azurite/node_modules/azurite/dist/src/blob/main.js");
        let mut command = Command::new("node");
        command
            .arg(program)
            .args(["--silent", "--inMemoryPersistence"]);
        command.args(["--skipApiVersionCheck", "--disableTelemetry"]);
        command.args(["--blobHost", "127.0.0.1", "--blobPort"]);
        command.arg(port.to_string());
        server.launch(&mut command);
        server.wait(port, || true);
        Self {
            server,
            port,
            containers: AtomicU32::new(0),
        }
    }

    /// Ends the server at once.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// The secret of its one account, to look for it where it must not be.
    #[must_use]
    pub fn secret(&self) -> &'static str {
        KEY
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
    }

    /// A new container, with the name that it got.
    ///
    /// # Panics
    /// The server refuses.
    #[must_use]
    pub fn container(&self) -> String {
        let number = self.containers.fetch_add(1, Ordering::Relaxed);
        let name = format!("container-{number}");
        let url = format!("{}/{name}?restype=container", self.endpoint());
        let mut making = request(Method::PUT, &url);
        making
            .headers_mut()
            .insert("content-length", HeaderValue::from_static("0"));
        let key = AzureAccessKey::try_new(KEY).expect("a key");
        let credential = AzureCredential::AccessKey(key);
        AzureAuthorizer::new(&credential, ACCOUNT)
            .try_authorize(&mut making)
            .expect("signed");
        let answer = plain(making).expect("an answer");
        assert!(answer.0.is_success(), "container {name}: {answer:?}");
        name
    }

    /// A URI of a collection in a container.
    #[must_use]
    pub fn uri(&self, container: &str) -> String {
        format!(
            "azure-blob://{container}/a/collection?AZURE_ACCOUNT_NAME={ACCOUNT}&AZURE_ACCOUNT_KEY={}&HOLDFAST_ENDPOINT={}",
            encoded(KEY),
            encoded(&self.endpoint())
        )
    }
}
