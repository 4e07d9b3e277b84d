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

/// Shows requests without the URIs in them, which may hold secrets, and without passwords.
macro_rules! without_uris {
    ($($message:ident { $($field:ident),* })*) => {$(
        impl fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    )*};
}

impl fmt::Debug for v1::submit_backup_request::Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full"),
            Self::AppendToLatest(_) => f.write_str("AppendToLatest"),
            Self::AppendTo(subdir) => f.debug_tuple("AppendTo").field(subdir).finish(),
        }
    }
}

without_uris! {
    SubmitBackupRequest { request_key, source, target, layer, as_of, revision_history, execution_locality, start_chain, encryption }
    SubmitRestoreRequest { request_key, subdir, target, as_of, into_source, into_db, new_db_name, execution_locality, into_schema, new_table_name, schema_only, skip_missing_foreign_keys, grants, owners, skip_missing_roles, skip_missing_sequences, skip_missing_sequence_owners, verify_backup_table_data, members, encryption }
    SubmitVerifyRequest { request_key, subdir, layer_end, execution_locality, encryption }
    ExpireBackupsRequest { request_key, older_than, keep_fulls, dry_run }
    ListBackupsRequest {}
    ShowBackupRequest { subdir, check_files, encryption }
    PutConnectionRequest { name, alter }
    PutUserRequest { name, alter }
    CheckConnectionRequest { transfer }
    CheckResidencyRequest { subdir, encryption }
    CreateScheduleRequest { label, if_not_exists, source, target, revision_history, execution_locality, recurring, full_backup, first_run, on_execution_failure, on_previous_running, ignore_existing_backups, encryption }
    AlterScheduleRequest { schedule, label, recurring, full_backup, revision_history, on_execution_failure, on_previous_running, encryption }
    ShowKeysRequest { subdir }
    ChangeKeysRequest { subdir, old, add, drop }
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
    fn a_request_is_shown_without_its_uris() {
        let uri = || "s3://b?AWS_SECRET_ACCESS_KEY=canary".to_owned();
        let shown = [
            format!(
                "{:?}",
                v1::SubmitBackupRequest {
                    source: "shop".into(),
                    into: uri(),
                    more_into: vec![uri()],
                    ..v1::SubmitBackupRequest::default()
                }
            ),
            format!(
                "{:?}",
                v1::SubmitRestoreRequest {
                    into_source: "shop".into(),
                    from: uri(),
                    more_from: vec![uri()],
                    ..v1::SubmitRestoreRequest::default()
                }
            ),
            format!(
                "{:?}",
                v1::ExpireBackupsRequest {
                    older_than: "shop".into(),
                    collection: uri(),
                    more_collections: vec![uri()],
                    ..v1::ExpireBackupsRequest::default()
                }
            ),
            format!(
                "{:?}",
                v1::PutConnectionRequest {
                    name: "shop".into(),
                    uri: uri(),
                    alter: false,
                }
            ),
            format!(
                "{:?}",
                v1::PutUserRequest {
                    name: "shop".into(),
                    password: "canary".into(),
                    alter: false,
                }
            ),
        ];
        for shown in shown {
            assert!(
                shown.contains("shop") && !shown.contains("canary"),
                "{shown}"
            );
        }
    }

    #[test]
    fn keys_are_counted_and_not_shown() {
        let encryption = || {
            Some(v1::EncryptionKeys {
                passphrase: "canary".into(),
                kms: vec!["vault://h/transit/k?VAULT_TOKEN=canary".into()],
                kdf: String::new(),
            })
        };
        let backup = v1::SubmitBackupRequest {
            encryption: encryption(),
            ..v1::SubmitBackupRequest::default()
        };
        let create = v1::CreateScheduleRequest {
            encryption: encryption(),
            ..v1::CreateScheduleRequest::default()
        };
        let alter = v1::AlterScheduleRequest {
            encryption: encryption(),
            ..v1::AlterScheduleRequest::default()
        };
        let residency = v1::CheckResidencyRequest {
            encryption: encryption(),
            ..v1::CheckResidencyRequest::default()
        };
        for shown in [
            format!("{backup:?}"),
            format!("{create:?}"),
            format!("{alter:?}"),
            format!("{residency:?}"),
        ] {
            assert!(
                shown.contains("kms: 1") && !shown.contains("canary"),
                "{shown}"
            );
        }
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
