//! Assuming a role of AWS: one after another, if there is a chain of them.

use holdfast_types::{ErrorCode, Fault};
use http::Method;
use object_store::aws::AwsCredential;
use serde::Deserialize;
use std::sync::Arc;

use super::aws::sign;
use super::exchange::{Line, form, refused, request};
use super::uri::invalid;

/// The name of a session, as AWS's logs show it.
const SESSION: &str = "holdfast";

/// A role, and what its owner wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Role {
    arn: String,
    external_id: Option<String>,
}

impl Role {
    /// Reads `ROLE[;external_id=ID],ROLE…`.
    pub(super) fn read_chain(text: &str) -> Result<Vec<Self>, Fault> {
        text.split(',')
            .map(|element| {
                let mut parts = element.trim().split(';');
                let arn = parts.next().unwrap_or_default().trim();
                let mut external_id = None;
                for part in parts {
                    match part.trim().split_once('=') {
                        Some(("external_id", id)) if !id.is_empty() && external_id.is_none() => {
                            external_id = Some(id.to_owned());
                        }
                        _ => return Err(malformed()),
                    }
                }
                match arn.is_empty() {
                    true => Err(malformed()),
                    false => Ok(Self {
                        arn: arn.to_owned(),
                        external_id,
                    }),
                }
            })
            .collect()
    }
}

fn malformed() -> Fault {
    invalid("ASSUME_ROLE is ROLE[;external_id=ID], and further ones after commas")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    assume_role_result: AssumedResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumedResult {
    credentials: Session,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Session {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
}

/// Takes a role on.
pub(super) async fn assume(
    line: &Line,
    endpoint: &str,
    region: &str,
    credential: &AwsCredential,
    role: &Role,
) -> Result<Arc<AwsCredential>, Fault> {
    let mut fields = vec![
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", role.arn.as_str()),
        ("RoleSessionName", SESSION),
        ("DurationSeconds", "900"),
    ];
    fields.extend(role.external_id.as_deref().map(|id| ("ExternalId", id)));
    let body = form(&fields);
    let who = format!("AWS STS for {}", role.arn);
    let make = || {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let mut request = request(
            Method::POST,
            &format!("{endpoint}/"),
            &headers,
            body.as_str().to_owned(),
        )?;
        sign(&mut request, credential, "sts", region)?;
        Ok(request)
    };
    let answer = line.ask(&who, make).await?;
    if !answer.is_success() {
        return Err(refused(&who, "give a role", &answer));
    }
    let text = std::str::from_utf8(&answer.body).unwrap_or_default();
    let assumed: Assumed = quick_xml::de::from_str(text).map_err(|_| {
        Fault::new(
            ErrorCode::FailedPrecondition,
            format!("{who} gave an answer that cannot be understood"),
        )
    })?;
    let session = assumed.assume_role_result.credentials;
    Ok(Arc::new(AwsCredential {
        key_id: session.access_key_id,
        secret_key: session.secret_access_key,
        token: Some(session.session_token),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_roles_is_read() {
        let chain = Role::read_chain("arn:a;external_id=x, arn:b").expect("legal");
        assert_eq!(chain.len(), 2);
        assert_eq!(chain[0].external_id.as_deref(), Some("x"));
        assert_eq!(chain[1].arn, "arn:b");
        for text in [
            "",
            "a,",
            "a;b=c",
            "a;external_id=",
            "a;external_id=x;external_id=y",
        ] {
            assert!(Role::read_chain(text).is_err(), "{text}");
        }
    }
}
