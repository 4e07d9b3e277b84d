//! Real services: OpenBao's transit engine, which is Vault's, and a server with the API of AWS KMS.

use holdfast_env::Env;
use holdfast_format::{DataKey, KeyInfo};
use holdfast_keys::{KeyRing, KeyService, Secret};
use holdfast_keys_testing::{Bao, Ministack};
use holdfast_types::{ErrorCode, Fault};

const FULL: &str = "2026/11/23-190800.50";

fn ring(kms: &[&str]) -> KeyRing {
    let kms: Vec<Secret> = kms.iter().map(|uri| Secret::new(*uri)).collect();
    KeyRing::read(None, &kms, "").expect("legal")
}

fn service() -> KeyService {
    KeyService::new(Env::system())
}

async fn create(given: &KeyRing) -> (DataKey, KeyInfo) {
    service().create(FULL, given).await.expect("wraps")
}

/// What opening fails with; it shows no secret.
async fn refused(info: &KeyInfo, uri: &str, secret: &str) -> Fault {
    let opened = service().open(info, &ring(&[uri])).await;
    let fault = opened.map(|key| key.id()).expect_err("refused");
    assert!(!fault.to_string().contains(secret), "{fault}");
    fault
}

#[tokio::test]
async fn openbao_wraps_and_unwraps() {
    let mut bao = Bao::start();
    let uri = bao.key("backup");
    let (key, info) = create(&ring(&[&uri])).await;
    let open = async |uri: &str| service().open(&info, &ring(&[uri])).await;
    assert_eq!(open(&uri).await.expect("opens").expose(), key.expose());
    let bytes = info.encode().expect("legal");
    assert!(
        !bytes
            .windows(8)
            .any(|part| part == &bao.secret().as_bytes()[..8])
    );

    // A new version of the key opens what the old one wrapped.
    bao.rotate("backup");
    assert!(open(&uri).await.is_ok());

    // A role that may use this key, and nothing else.
    let (by_role, secret) = bao.role("backup");
    assert!(open(&by_role).await.is_ok());
    let wrong_secret = by_role.replace(&secret, "00000000-0000-0000-0000-000000000000");
    let fault = refused(&info, &wrong_secret, bao.secret()).await;
    assert!(
        fault.message.contains("refuses to log the role in"),
        "{fault}"
    );

    let other = bao.key("other");
    let fault = refused(&info, &other, bao.secret()).await;
    assert!(fault.message.contains("is none of the keys"), "{fault}");
    let no_token = format!("{}&VAULT_TOKEN=wrong-token", bao.address("backup"));
    let fault = refused(&info, &no_token, "wrong-token").await;
    assert_eq!(fault.code, ErrorCode::FailedPrecondition);
    assert!(fault.message.contains("403"), "{fault}");
    let tls = uri.replace("VAULT_TLS=disable", "VAULT_TLS=require");
    let fault = refused(&info, &tls, bao.secret()).await;
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");

    // Bound to its chain: the wrap of one is no wrap of another.
    let (_, another) = create(&ring(&[&uri])).await;
    let mut mixed = another.clone();
    mixed.wraps.clone_from(&info.wraps);
    let fault = refused(&mixed, &uri, bao.secret()).await;
    assert!(fault.message.contains("is none of the keys"), "{fault}");

    bao.kill();
    let fault = refused(&info, &uri, bao.secret()).await;
    assert_eq!(fault.code, ErrorCode::Unavailable, "{fault}");
}

#[tokio::test]
async fn aws_kms_wraps_and_unwraps() {
    let aws = Ministack::start();
    let id = aws.key();
    let uri = aws.uri(&id);
    let (key, info) = create(&ring(&[&uri])).await;
    let open = async |uri: &str| service().open(&info, &ring(&[uri])).await;
    assert_eq!(open(&uri).await.expect("opens").expose(), key.expose());

    // The same key by another name, and by way of a role.
    aws.alias("backup", &id);
    assert!(open(&aws.uri("alias/backup")).await.is_ok());
    let role = format!("{uri}&ASSUME_ROLE=arn:aws:iam::000000000000:role/backup;external_id=x");
    assert!(open(&role).await.is_ok());

    let fault = refused(&info, &aws.uri(&aws.key()), aws.secret()).await;
    assert!(fault.message.contains("is none of the keys"), "{fault}");
    let (_, another) = create(&ring(&[&uri])).await;
    let mut mixed = another.clone();
    mixed.wraps.clone_from(&info.wraps);
    let fault = refused(&mixed, &uri, aws.secret()).await;
    assert!(fault.message.contains("is none of the keys"), "{fault}");

    aws.disable(&id);
    let fault = refused(&info, &uri, aws.secret()).await;
    assert_eq!(fault.code, ErrorCode::FailedPrecondition);
    assert!(fault.message.contains("DisabledException"), "{fault}");
}
