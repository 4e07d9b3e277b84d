//! A PKCS#11 token in software. Only with the feature `pkcs11`.

#![cfg(feature = "pkcs11")]

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use holdfast_env::Env;
use holdfast_keys::{KeyRing, KeyService, Secret};
use holdfast_keys_testing::SoftToken;
use holdfast_types::ErrorCode;
use std::process::Command;

const FULL: &str = "2026/11/23-190800.50";

/// Makes an AES key that cannot leave the token.
fn make_key(token: &SoftToken, label: &str) {
    let library = Pkcs11::new(token.module()).expect("the library");
    // It may have been initialised by the code under test before.
    let _ = library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let slots = library.get_slots_with_initialized_token().expect("slots");
    let session = library.open_rw_session(slots[0]).expect("a session");
    let pin = AuthPin::new(token.pin().into());
    session.login(UserType::User, Some(&pin)).expect("logs in");
    let template = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    session
        .generate_key(&Mechanism::AesKeyGen, &template)
        .expect("a key");
}

/// The library looks for its configuration in the environment, which only a process that is about to start can be given.
#[test]
fn a_token_wraps_and_unwraps() {
    if std::env::var_os("SOFTHSM2_CONF").is_none() {
        let token = SoftToken::make("backup");
        let status = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "a_token_wraps_and_unwraps", "--nocapture"])
            .env("SOFTHSM2_CONF", token.configuration())
            .status();
        assert!(status.expect("starts").success());
        return;
    }
    let token = SoftToken::made();
    make_key(&token, "holdfast");
    make_key(&token, "other");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .expect("a runtime")
        .block_on(wraps_and_unwraps(&token));
}

async fn wraps_and_unwraps(token: &SoftToken) {
    let service = KeyService::new(Env::system());
    let uri = |object: &str, pin: &str| {
        format!(
            "pkcs11:token=backup;object={object}?module-path={}&pin-value={pin}",
            token.module()
        )
    };
    let ring = |uri: &str| KeyRing::read(None, &[Secret::new(uri)], "").expect("legal");
    let own = uri("holdfast", token.pin());
    let (key, info) = service.create(FULL, &ring(&own)).await.expect("wraps");
    assert_eq!(info.wraps[0].label, "pkcs11:token=backup;object=holdfast");
    let opened = service.open(&info, &ring(&own)).await.expect("opens");
    assert_eq!(opened.expose(), key.expose());

    let file = token.configuration().with_file_name("pin");
    let disk = Env::system().disk;
    let path = file.to_str().expect("UTF-8");
    disk.write_atomically(path, format!("{}\n", token.pin()).as_bytes())
        .expect("written");
    let by_file = format!(
        "pkcs11:token=backup;object=holdfast?module-path={}&pin-source=file:{path}",
        token.module()
    );
    assert!(service.open(&info, &ring(&by_file)).await.is_ok());

    for (uri, text) in [
        (uri("other", token.pin()), "none of the keys"),
        (uri("missing", token.pin()), "0 AES keys"),
        (uri("holdfast", "000000"), "login is refused"),
        (own.replace("token=backup", "token=none"), "no such token"),
        (
            own.replace("libsofthsm2", "libnone"),
            "library cannot be used",
        ),
    ] {
        let fault = service.open(&info, &ring(&uri)).await.map(|key| key.id());
        let fault = fault.expect_err(text);
        assert!(fault.message.contains(text), "{fault}");
        assert!(!fault.to_string().contains(token.pin()), "{fault}");
        assert_ne!(fault.code, ErrorCode::Internal);
    }
    // Bound to its chain.
    let (_, another) = service.create(FULL, &ring(&own)).await.expect("wraps");
    let mut mixed = another.clone();
    mixed.wraps.clone_from(&info.wraps);
    assert!(service.open(&mixed, &ring(&own)).await.is_err());
}
