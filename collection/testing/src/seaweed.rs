//! SeaweedFS: S3 over plain HTTP and TLS, object lock, roles.

use http::{HeaderValue, Method};
use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::child::{Server, free_ports, installed};
use crate::encoded;
use crate::signed::{ACCESS_KEY, REGION, SECRET_KEY, request, send};

/// How a server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeaweedOptions {
    /// Whoever comes may do everything: the server looks at no signature.
    pub anonymous: bool,
}

/// The role that a server has.
const ROLE: &str = "arn:aws:iam::role/backup";

/// A running server.
#[derive(Debug)]
pub struct Seaweed {
    server: Server,
    options: SeaweedOptions,
    s3: u16,
    https: u16,
    ports: [u16; 3],
    certificate: String,
    buckets: AtomicU32,
}

impl Seaweed {
    /// The server of this test binary, started by whoever asks first.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Seaweed> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(SeaweedOptions::default()))
    }

    /// Starts a server.
    ///
    /// # Panics
    /// With its log, if it does not answer.
    #[must_use]
    pub fn start(options: SeaweedOptions) -> Self {
        let server = Server::place("holdfast-weed-");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let certificate = made.cert.pem();
        let write = |name: &str, content: &str| {
            fs::write(server.directory().join(name), content).expect("a file");
        };
        write("cert.pem", &certificate);
        write("key.pem", &made.signing_key.serialize_pem());
        write("s3.json", &identities());
        write("iam.json", IAM);
        fs::create_dir(server.directory().join("data")).expect("a directory");
        let [s3, https, master, volume, filer] = free_ports();
        let weed = Self {
            server,
            options,
            s3,
            https,
            ports: [master, volume, filer],
            certificate,
            buckets: AtomicU32::new(0),
        };
        weed.launch();
        weed
    }

    fn launch(&self) {
        let [master, volume, filer] = self.ports;
        let mut command = Command::new(installed("seaweed/bin/weed"));
        command.args(["-logtostderr=true", "server", "-ip=127.0.0.1"]);
        command.args(["-ip.bind=127.0.0.1", "-dir=data", "-filer", "-s3"]);
        command.args(["-master.volumeSizeLimitMB=64", "-volume.max=64"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.arg(format!("-master.port={master}"));
        command.arg(format!("-volume.port={volume}"));
        command.arg(format!("-filer.port={filer}"));
        command.arg(format!("-s3.port={}", self.s3));
        if !self.options.anonymous {
            command.args(["-s3.config=s3.json", "-s3.iam.config=iam.json"]);
            command.arg(format!("-s3.port.https={}", self.https));
            command.args(["-s3.cert.file=cert.pem", "-s3.key.file=key.pem"]);
        }
        self.server.launch(&mut command);
        self.server.wait(self.s3, || self.takes_objects());
    }

    /// A port that is open does not mean that there is room for objects yet.
    fn takes_objects(&self) -> bool {
        let put = |path: &str| {
            let sent = send(request(Method::PUT, &format!("{}/{path}", self.endpoint())));
            sent.is_some_and(|(status, _)| status.is_success())
        };
        let bucket = put("ready");
        (bucket || put("ready/x")) && put("ready/x")
    }

    /// Ends the server at once, as `kill -9` does. What it had answered is on its disk.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Starts it again, on the same ports and with what is on its disk.
    ///
    /// # Panics
    /// With its log, if it does not answer.
    pub fn restart(&self) {
        self.kill();
        self.launch();
    }

    /// Its port for plain HTTP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.s3
    }

    /// Where it speaks plain HTTP.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.s3)
    }

    /// Where it speaks TLS.
    #[must_use]
    pub fn secure_endpoint(&self) -> String {
        format!("https://localhost:{}", self.https)
    }

    /// What its TLS is to be trusted by, as PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The secret of its one user, to look for it where it must not be.
    #[must_use]
    pub fn secret(&self) -> &'static str {
        SECRET_KEY
    }

    /// The role that its user may assume.
    #[must_use]
    pub fn role(&self) -> &'static str {
        ROLE
    }

    /// A new bucket, with the name that it got.
    ///
    /// # Panics
    /// The server refuses.
    #[must_use]
    pub fn bucket(&self) -> String {
        self.make_bucket(false)
    }

    /// The same, with object lock; objects are retained only as they say themselves.
    ///
    /// # Panics
    /// The server refuses.
    #[must_use]
    pub fn locked_bucket(&self) -> String {
        self.make_bucket(true)
    }

    fn make_bucket(&self, locked: bool) -> String {
        let number = self.buckets.fetch_add(1, Ordering::Relaxed);
        let name = format!("bucket-{}-{number}", std::process::id());
        let mut making = request(Method::PUT, &format!("{}/{name}", self.endpoint()));
        if locked {
            making.headers_mut().insert(
                "x-amz-bucket-object-lock-enabled",
                HeaderValue::from_static("true"),
            );
        }
        let answer = send(making).expect("an answer");
        assert!(answer.0.is_success(), "bucket {name}: {answer:?}");
        name
    }

    /// Gives a bucket a retention that all its objects get.
    ///
    /// # Panics
    /// The server refuses.
    pub fn retain(&self, bucket: &str, mode: &str, days: u32) {
        let body = format!(
            "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled</ObjectLockEnabled>\
             <Rule><DefaultRetention><Mode>{mode}</Mode><Days>{days}</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
        );
        let mut setting = request(
            Method::PUT,
            &format!("{}/{bucket}?object-lock=", self.endpoint()),
        );
        *setting.body_mut() = body.into();
        let answer = send(setting).expect("an answer");
        assert!(answer.0.is_success(), "{answer:?}");
    }

    /// A header of an object, as the server keeps it.
    ///
    /// # Panics
    /// Nobody answers.
    #[must_use]
    pub fn retention(&self, bucket: &str, key: &str) -> String {
        let url = format!("{}/{bucket}/{key}?retention=", self.endpoint());
        send(request(Method::GET, &url)).expect("an answer").1
    }

    /// All versions of a bucket's objects, as the server lists them.
    ///
    /// # Panics
    /// Nobody answers.
    #[must_use]
    pub fn versions(&self, bucket: &str) -> Vec<(String, String)> {
        let url = format!("{}/{bucket}?versions=", self.endpoint());
        let (_, text) = send(request(Method::GET, &url)).expect("an answer");
        let all = text.split("<Version>").skip(1);
        let field = |text: &str, name: &str| {
            let from = text.split_once(&format!("<{name}>"))?.1;
            Some(from.split_once(&format!("</{name}>"))?.0.to_owned())
        };
        all.filter_map(|one| Some((field(one, "Key")?, field(one, "VersionId")?)))
            .collect()
    }

    /// Whether a version of an object can be removed for good.
    ///
    /// # Panics
    /// Nobody answers.
    #[must_use]
    pub fn lets_go(&self, bucket: &str, key: &str, version: &str) -> bool {
        let url = format!(
            "{}/{bucket}/{key}?versionId={}",
            self.endpoint(),
            encoded(version)
        );
        let (status, _) = send(request(Method::DELETE, &url)).expect("an answer");
        status.is_success()
    }

    /// A URI of a collection in a bucket, with the user's keys; `more` are further parameters.
    #[must_use]
    pub fn uri(&self, bucket: &str, more: &str) -> String {
        self.uri_at(&self.endpoint(), bucket, more)
    }

    /// The same by another way to the server.
    #[must_use]
    pub fn uri_at(&self, endpoint: &str, bucket: &str, more: &str) -> String {
        let parameters = format!(
            "AWS_ENDPOINT={}&AWS_ACCESS_KEY_ID={ACCESS_KEY}&AWS_SECRET_ACCESS_KEY={}&AWS_REGION={REGION}",
            encoded(endpoint),
            encoded(SECRET_KEY)
        );
        match more.is_empty() {
            true => format!("s3://{bucket}/a/collection?{parameters}"),
            false => format!("s3://{bucket}/a/collection?{parameters}&{more}"),
        }
    }
}

fn identities() -> String {
    format!(
        r#"{{"identities":[{{"name":"admin","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],
        "actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
    )
}

const IAM: &str = r#"{
 "sts": {"tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "seaweedfs-sts",
         "signingKey": "aG9sZGZhc3QgdGVzdHMgc2lnbiB3aXRoIHRoaXMga2V5IQ=="},
 "policy": {"defaultEffect": "Deny", "storeType": "memory"},
 "policies": [{"name": "RW", "document": {"Version": "2012-10-17", "Statement": [
   {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]},
   {"Effect": "Allow", "Action": ["sts:*"], "Resource": ["*"]}]}}],
 "roles": [{"roleName": "backup", "roleArn": "arn:aws:iam::role/backup",
   "trustPolicy": {"Version": "2012-10-17", "Statement": [
     {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole"]}]},
   "attachedPolicies": ["RW"]}]
}"#;
