use holdfast_postgres::dsn::Dsn;
use holdfast_postgres::replication::ReplicationSession;
use holdfast_postgres::session::{Purpose, Session};
use holdfast_postgres_testing::{Options, Server};
use holdfast_types::{ErrorCode, Fault};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::env;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key.
    fn issue(&self, names: &[&str], common_name: &str) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

async fn both(text: &str) -> Result<bool, Fault> {
    let dsn: Dsn = text.parse()?;
    let session = Session::connect(&env(), &dsn, Purpose::Control).await?;
    ReplicationSession::connect(&env(), &dsn)
        .await?
        .identify()
        .await?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(session.query_one(sql, &[]).await?.get(0))
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn every_mode_means_what_it_means_to_libpq() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.issue(&["localhost"], "db");
    let hba = "local all all trust
               hostssl all scram 127.0.0.1/32 scram-sha-256
               hostssl all alice 127.0.0.1/32 cert
               hostssl all ssl 127.0.0.1/32 trust
               host all postgres 127.0.0.1/32 trust";
    let options = Options::default()
        .set("ssl", "on")
        .set("ssl_ca_file", "root.crt")
        .hba(hba)
        .file("root.crt", authority.pem())
        .file("server.crt", certificate.as_str())
        .file("server.key", key);
    let server = Server::start(options);
    server.psql(
        "postgres",
        "CREATE ROLE scram LOGIN REPLICATION PASSWORD 'pw'; CREATE ROLE alice LOGIN REPLICATION; CREATE ROLE ssl LOGIN REPLICATION",
    );
    let port = server.port();
    let root = server.directory().join("root.pem");
    let root = root.to_str().expect("a plain path");
    env()
        .disk
        .write_atomically(root, authority.pem().as_bytes())
        .expect("a file");
    let at = |role: &str, host: &str, rest: &str| {
        format!("postgres://{role}@{host}:{port}/postgres?{rest}")
    };

    assert!(
        !both(&at("postgres", "127.0.0.1", "sslmode=disable"))
            .await
            .expect("plain")
    );
    assert!(
        both(&at("postgres", "127.0.0.1", "sslmode=prefer"))
            .await
            .expect("encrypted")
    );
    assert!(
        both(&at("ssl", "127.0.0.1", "sslmode=require"))
            .await
            .expect("encrypted")
    );
    let fault = both(&at("ssl", "127.0.0.1", "sslmode=disable"))
        .await
        .expect_err("the server insists");
    assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");

    // The chain is right, the name is not: 127.0.0.1 is not in the certificate.
    assert!(
        both(&at(
            "ssl",
            "127.0.0.1",
            &format!("sslmode=verify-ca&sslrootcert={root}")
        ))
        .await
        .expect("trusted")
    );
    let wrong_name = format!("sslmode=verify-full&sslrootcert={root}");
    let fault = both(&at("ssl", "127.0.0.1", &wrong_name))
        .await
        .expect_err("another name");
    assert!(fault.message.contains("not trusted"), "{fault}");
    assert!(
        both(&at("ssl", "localhost", &wrong_name))
            .await
            .expect("the name is right")
    );

    // An authority that did not sign it; the certificate itself as what is trusted.
    let strange = format!("sslmode=verify-ca&sslrootcert={}", escape(&stranger.pem()));
    let fault = both(&at("ssl", "localhost", &strange))
        .await
        .expect_err("a stranger's");
    assert!(fault.message.contains("not trusted"), "{fault}");
    let require = strange.replace("verify-ca", "require");
    both(&at("ssl", "localhost", &require))
        .await
        .expect_err("authorities that are named are asked");
    let pinned = format!("sslmode=verify-full&sslrootcert={}", escape(&certificate));
    assert!(
        both(&at("ssl", "localhost", &pinned))
            .await
            .expect("trusted as it is")
    );
    both(&at("ssl", "127.0.0.1", &pinned))
        .await
        .expect_err("but only under its name");
    both(&at("ssl", "localhost", "sslmode=verify-full"))
        .await
        .expect_err("no public authority signed it");
    both(&at(
        "ssl",
        "localhost",
        "sslmode=verify-full&sslrootcert=/nowhere",
    ))
    .await
    .expect_err("no file");

    // Channel binding.
    let bound = at(
        "scram:pw",
        "127.0.0.1",
        "sslmode=require&channel_binding=require",
    );
    assert!(both(&bound).await.expect("bound"));
    both(&at(
        "ssl",
        "127.0.0.1",
        "sslmode=require&channel_binding=require",
    ))
    .await
    .expect_err("trust binds nothing");

    // Client certificates.
    let (certificate, key) = authority.issue(&[], "alice");
    let (certificate, key) = (escape(&certificate), escape(&key));
    let with = format!("sslmode=require&sslcert={certificate}&sslkey={key}");
    assert!(
        both(&at("alice", "127.0.0.1", &with))
            .await
            .expect("her certificate")
    );
    both(&at("alice", "127.0.0.1", "sslmode=require"))
        .await
        .expect_err("no certificate");
    let (certificate, key) = stranger.issue(&[], "alice");
    let with = format!(
        "sslmode=require&sslcert={}&sslkey={}",
        escape(&certificate),
        escape(&key)
    );
    both(&at("alice", "127.0.0.1", &with))
        .await
        .expect_err("a stranger's certificate");
}

#[tokio::test]
async fn tls_that_is_required_and_not_offered_is_an_error() {
    let server = Server::shared();
    let dsn = format!("{}?sslmode=require", server.dsn("postgres"));
    let fault = both(&dsn).await.expect_err("the server has no TLS");
    assert!(fault.message.contains("offers no TLS"), "{fault}");
    let dsn = format!("{}?sslmode=prefer", server.dsn("postgres"));
    assert!(!both(&dsn).await.expect("plain"));
}
