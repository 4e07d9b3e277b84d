//! Messages that hold secrets are not shown as they are.

use std::fmt;

use crate::v1;

impl fmt::Debug for v1::Member {
    /// Neither the password, nor the address, in which one may have been written by mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name)
            .field("locality", &self.locality)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::EncryptionKeys {
    /// Only that there are some: a URI may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionKeys")
            .field("passphrase", &!self.passphrase.is_empty())
            .field("kms", &self.kms.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_and_not_shown() {
        let request = v1::SubmitBackupRequest {
            encryption: Some(v1::EncryptionKeys {
                passphrase: "canary".into(),
                kms: vec!["vault://h/transit/k?VAULT_TOKEN=canary".into()],
                kdf: String::new(),
            }),
            ..v1::SubmitBackupRequest::default()
        };
        let shown = format!("{request:?}");
        assert!(
            shown.contains("kms: 1") && !shown.contains("canary"),
            "{shown}"
        );
    }

    #[test]
    fn a_member_is_shown_without_what_may_be_secret() {
        let member = v1::Member {
            name: "m1".into(),
            address: "postgres://role:canary@h/d".into(),
            password: "canary".into(),
            ..v1::Member::default()
        };
        let request = v1::RegisterSourceRequest {
            members: vec![member],
            ..v1::RegisterSourceRequest::default()
        };
        let shown = format!("{request:?}");
        assert!(shown.contains("m1") && !shown.contains("canary"), "{shown}");
    }
}
