//! What URIs mean, and what is refused.

use super::*;

fn uri(text: &str) -> CollectionUri {
    text.parse()
        .unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn refused(text: &str) -> Fault {
    let fault = text.parse::<CollectionUri>().expect_err(text);
    assert!(fault.hint.is_some(), "{text}: {fault}");
    assert!(!fault.to_string().contains("hunter2"), "{fault}");
    fault
}

#[test]
fn one_place_has_one_spelling() {
    let cases = [
        ("file:///var/backups", "file:///var/backups"),
        ("file:///var//backups/", "file:///var/backups"),
        (
            "file:///var/my%20backups?HOLDFAST_LOCALITY=default",
            "file:///var/my%20backups",
        ),
        ("file:///var/x/../backups", "file:///var/backups"),
        ("nodelocal://self/a//b/", "nodelocal://self/a/b"),
        ("memory://demo", "memory://demo"),
        ("memory://demo/?COCKROACH_LOCALITY=default", "memory://demo"),
        ("s3://Bucket//a/b/?AUTH=implicit", "s3://Bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("gs://bucket/my%20path", "gs://bucket/my%20path"),
        (
            "s3://b/x?AWS_REGION=eu&AWS_ENDPOINT=http%3A%2F%2Flocalhost%3A1",
            "s3://b/x?AWS_ENDPOINT=http%3A%2F%2Flocalhost%3A1",
        ),
        (
            "az://c/x?AZURE_ACCOUNT_NAME=acme",
            "azure-blob://c/x?AZURE_ACCOUNT_NAME=acme",
        ),
    ];
    for (text, printed) in cases {
        let uri = uri(text);
        assert_eq!(uri.to_string(), printed);
        let again: CollectionUri = printed.parse().expect(printed);
        assert_eq!(again.to_string(), printed);
        assert_eq!(again.place(), uri.place());
    }
    assert_eq!(uri("file:///var/my%20backups").place(), "/var/my backups");
    let s3 = uri("s3://bucket/a/b");
    assert_eq!((s3.bucket(), s3.prefix()), ("bucket", "a/b"));
    assert_eq!(uri("s3://bucket").prefix(), "");
}

#[test]
fn what_cannot_be_opened_is_refused_with_what_can() {
    let invalid = ErrorCode::InvalidArgument;
    let cases = [
        ("s3://key:hunter2@bucket/x", invalid),
        ("s3://bucket:80/x", invalid),
        ("s3:///x", invalid),
        ("file://host/x", invalid),
        ("file:///", invalid),
        ("/var/backups", invalid),
        ("memory://", invalid),
        ("nodelocal://self", invalid),
        ("nodelocal://1/x", ErrorCode::Unsupported),
        ("ftp://host/x", ErrorCode::Unsupported),
        ("https://host/x", ErrorCode::Unsupported),
        ("userfile:///x", ErrorCode::Unsupported),
        ("null:///", ErrorCode::Unsupported),
        ("external://name/x", invalid),
        ("file:///x?hunter=2", invalid),
        ("file:///x?HOLDFAST_LOCALITY=eu", invalid),
        (
            "file:///x?HOLDFAST_LOCALITY=region%3Deu%2Czone%3Db",
            invalid,
        ),
        ("", invalid),
    ];
    for (text, code) in cases {
        assert_eq!(refused(text).code, code, "{text}");
    }
    assert!(refused("http://h/x").message.contains("cannot list"));
}

#[test]
fn parameters_that_contradict_each_other_are_refused_by_name() {
    let cases = [
        ("s3://b?AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY"),
        ("s3://b?AWS_SECRET_ACCESS_KEY=hunter2", "AWS_ACCESS_KEY_ID"),
        ("s3://b?AWS_SESSION_TOKEN=hunter2", "AWS_ACCESS_KEY_ID"),
        (
            "s3://b?AUTH=implicit&AWS_ACCESS_KEY_ID=a&AWS_SECRET_ACCESS_KEY=hunter2",
            "AUTH=implicit",
        ),
        ("s3://b?AUTH=magic", "AUTH is one of"),
        ("s3://b?AWS_SERVER_ENC_MODE=aws%3Akms", "AWS_SERVER_KMS_ID"),
        ("s3://b?AWS_SERVER_KMS_ID=k", "AWS_SERVER_ENC_MODE"),
        (
            "s3://b?AWS_SERVER_ENC_MODE=AES256&AWS_SERVER_KMS_ID=k",
            "aws:kms",
        ),
        ("s3://b?AWS_SERVER_ENC_MODE=rot13", "AES256"),
        ("s3://b?S3_STORAGE_CLASS=ICE", "GLACIER"),
        (
            "s3://b?S3_STORAGE_CLASS=GLACIER&HOLDFAST_STORAGE_CLASS=GLACIER",
            "S3_STORAGE_CLASS",
        ),
        ("s3://b?AWS_ENDPOINT=localhost", "AWS_ENDPOINT"),
        (
            "s3://b?AWS_ENDPOINT=http%3A%2F%2Fu%3Ahunter2%40h",
            "AWS_ENDPOINT",
        ),
        ("s3://b?AWS_USE_PATH_STYLE=maybe", "AWS_USE_PATH_STYLE"),
        (
            "s3://b?AWS_SKIP_CHECKSUM=true&HOLDFAST_CHECKSUM=sha256",
            "HOLDFAST_CHECKSUM",
        ),
        (
            "s3://b?HOLDFAST_OBJECT_LOCK_MODE=GOVERNANCE",
            "HOLDFAST_OBJECT_LOCK_RETAIN_DAYS",
        ),
        (
            "s3://b?HOLDFAST_OBJECT_LOCK_RETAIN_DAYS=3",
            "HOLDFAST_OBJECT_LOCK_MODE",
        ),
        (
            "s3://b?HOLDFAST_OBJECT_LOCK_MODE=GOVERNANCE&HOLDFAST_OBJECT_LOCK_RETAIN_DAYS=0",
            "HOLDFAST_OBJECT_LOCK_RETAIN_DAYS",
        ),
        (
            "s3://b?AWS_SKIP_CHECKSUM=true&HOLDFAST_OBJECT_LOCK_MODE=GOVERNANCE&HOLDFAST_OBJECT_LOCK_RETAIN_DAYS=1",
            "checksum",
        ),
        ("s3://b?ASSUME_ROLE=a,,b", "ASSUME_ROLE"),
        ("s3://b?ASSUME_ROLE=a;id%3D4", "ASSUME_ROLE"),
        (
            "s3://b?AWS_REGION=a&AWS_REGION=b",
            "\"AWS_REGION\" is given twice",
        ),
        (
            "s3://b?COCKROACH_LOCALITY=default&HOLDFAST_LOCALITY=default",
            "given twice",
        ),
        ("gs://b?CREDENTIALS=hunter2", "CREDENTIALS"),
        (
            "gs://b?CREDENTIALS=e30%3D&BEARER_TOKEN=hunter2",
            "BEARER_TOKEN",
        ),
        ("gs://b?AUTH=implicit&BEARER_TOKEN=hunter2", "AUTH=implicit"),
        ("azure://c/x", "AZURE_ACCOUNT_NAME"),
        (
            "azure://c?AZURE_ACCOUNT_NAME=a&AZURE_CLIENT_SECRET=hunter2",
            "AZURE_CLIENT_ID",
        ),
        (
            "azure://c?AZURE_ACCOUNT_NAME=a&AZURE_ACCOUNT_KEY=hunter2&AZURE_CLIENT_ID=b",
            "AZURE_CLIENT_ID",
        ),
        (
            "azure://c?AZURE_ACCOUNT_NAME=a&AZURE_ENVIRONMENT=Moon",
            "AzurePublicCloud",
        ),
        (
            "azure://c?AZURE_ACCOUNT_NAME=a&AUTH=implicit&AZURE_ACCOUNT_KEY=hunter2",
            "AUTH=implicit",
        ),
    ];
    for (text, named) in cases {
        let fault = refused(text);
        assert_eq!(fault.code, ErrorCode::InvalidArgument, "{text}");
        assert!(fault.to_string().contains(named), "{text}: {fault}");
    }
}

#[test]
fn an_unknown_parameter_is_answered_with_the_nearest() {
    let cases = [
        (
            "s3://b?AWS_SECRET_KEY=hunter2",
            "did you mean AWS_SECRET_ACCESS_KEY?",
        ),
        ("s3://b?aws_region=eu", "did you mean AWS_REGION?"),
        ("s3://b?ASUME_ROLE=x", "did you mean ASSUME_ROLE?"),
        ("gs://b?CREDENTIAL=hunter2", "did you mean CREDENTIALS?"),
        (
            "azure://c?AZURE_ACOUNT_NAME=x",
            "did you mean AZURE_ACCOUNT_NAME?",
        ),
        ("file:///x?zzz=1", "a file: URI takes HOLDFAST_LOCALITY"),
    ];
    for (text, hint) in cases {
        assert_eq!(refused(text).hint.as_deref(), Some(hint), "{text}");
    }
}

#[test]
fn what_is_secret_is_neither_printed_nor_lost() {
    let text = "s3://b/x?AUTH=specified&AWS_ACCESS_KEY_ID=AKIA&AWS_SECRET_ACCESS_KEY=hunter2/+=&AWS_SESSION_TOKEN=hunter2t\
                &AWS_REGION=eu-west-1&HOLDFAST_LOCALITY=region%3Deu";
    let read = uri(text);
    for shown in [read.to_string(), read.redacted(), format!("{read:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert_eq!(
        read.redacted(),
        "s3://b/x?AUTH=specified&AWS_ACCESS_KEY_ID=AKIA&AWS_REGION=eu-west-1&AWS_SECRET_ACCESS_KEY=redacted&AWS_SESSION_TOKEN=redacted"
    );
    let exposed = read.expose();
    assert!(exposed.contains("hunter2"));
    assert_eq!(exposed.parse::<CollectionUri>().expect("legible"), read);
    // The plus sign that a query turns into a blank is back.
    assert_eq!(
        read.secrets().collect::<Vec<_>>(),
        ["hunter2/+=", "hunter2t"]
    );
    assert!(!read.is_address() && uri("s3://b/x").is_address());
    let tier = "region=eu".parse().expect("a tier");
    assert_eq!(read.locality(), Some(&StoreLocality::Tier(tier)));
    let azure = uri("azure://c?AZURE_ACCOUNT_NAME=a&AZURE_ACCOUNT_KEY=hunter2");
    assert!(!azure.redacted().contains("hunter2"));
}

#[test]
fn classes_are_for_data() {
    let class = |text: &str| uri(text).data_class().map(str::to_owned);
    assert_eq!(
        class("s3://b?S3_STORAGE_CLASS=GLACIER_IR").as_deref(),
        Some("GLACIER_IR")
    );
    assert_eq!(
        class("gs://b?HOLDFAST_STORAGE_CLASS=COLDLINE").as_deref(),
        Some("COLDLINE")
    );
    assert_eq!(class("s3://b"), None);
}
