//! URIs without what is secret in them.

use url::Url;

/// What stands for a secret.
const REDACTED: &str = "redacted";

/// Settings of a URI that are shown, in lower case: all others are taken for secrets. A new store's secret is thus never shown by mistake.
const SHOWN: [&str; 14] = [
    "auth",
    "aws_region",
    "aws_endpoint",
    "azure_account_name",
    "azure_environment",
    "azure_vault_name",
    "cockroach_locality",
    "holdfast_locality",
    "region",
    "s3_storage_class",
    "sslmode",
    "target_session_attrs",
    "connect_timeout",
    "version",
];

/// The URI with `redacted` in place of its password and of whatever else may be secret in it. What is no URI is kept: it holds nothing.
pub(super) fn redacted(uri: &str) -> String {
    let Ok(mut url) = Url::parse(uri) else {
        // A URI that is malformed may still hold a password.
        return match uri.contains(['@', '?']) {
            true => REDACTED.to_owned(),
            false => uri.to_owned(),
        };
    };
    if url.password().is_some() && url.set_password(Some(REDACTED)).is_err() {
        return REDACTED.to_owned();
    }
    if url.query().is_some() {
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                let is_shown = SHOWN.contains(&name.to_ascii_lowercase().as_str());
                let value = if is_shown {
                    value.into_owned()
                } else {
                    REDACTED.to_owned()
                };
                (name.into_owned(), value)
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    // `Url` gives a host a path; the text had none.
    let text = url.to_string();
    match (text.strip_suffix('/'), uri.ends_with('/')) {
        (Some(bare), false) if url.query().is_none() => bare.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_in_a_uri_is_not_shown() {
        for (uri, shown) in [
            ("file:///backups/bank", "file:///backups/bank"),
            (
                "s3://bucket/a?AWS_ACCESS_KEY_ID=k&AWS_SECRET_ACCESS_KEY=hush&AUTH=specified",
                "s3://bucket/a?AWS_ACCESS_KEY_ID=redacted&AWS_SECRET_ACCESS_KEY=redacted&AUTH=specified",
            ),
            (
                "postgres://backup:hush@h:5432/app",
                "postgres://backup:redacted@h:5432/app",
            ),
            (
                "postgres://backup@h/app?password=hush",
                "postgres://backup@h/app?password=redacted",
            ),
            (
                "gs://b/x?a_new_secret=hush",
                "gs://b/x?a_new_secret=redacted",
            ),
            ("127.0.0.1:7000", "127.0.0.1:7000"),
            ("external://name", "external://name"),
            ("://u:hush@h", "redacted"),
        ] {
            let text = redacted(uri);
            assert_eq!(text, shown, "{uri}");
            assert!(!text.contains("hush"));
        }
    }
}
