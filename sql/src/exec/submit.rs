//! BACKUP, RESTORE and VERIFY.

use holdfast_client::v1;
use holdfast_client::v1::submit_backup_request::Layer;
use holdfast_types::Locality;

use super::columns::columns_of_job;
use super::session::Transaction;
use super::targets::{Naming, new_table_name, wire_target};
use super::{Answer, Run};
use crate::error::{SqlError, state};
use crate::rows::{Rows, Value};
use crate::syntax::ast::{Backup, Into, Restore, Targets, Verify};
use crate::syntax::options::Options;

impl Run<'_> {
    pub(super) async fn backup(&self, backup: &Backup) -> Result<Answer, SqlError> {
        let is_detached = self.detached("BACKUP", &backup.options).await?;
        let request = self.backup_request(backup).await?;
        let submitted = self.api().submit_backup(request).await?;
        self.finish("BACKUP", submitted, is_detached).await
    }

    pub(super) async fn backup_request(
        &self,
        backup: &Backup,
    ) -> Result<v1::SubmitBackupRequest, SqlError> {
        let options = &backup.options;
        one_encryption(options)?;
        // That data of a locality goes to its own store only, is how it always is: `strict storage locality` asks for nothing else.
        self.refuse_options(
            options,
            &[(
                "updates_cluster_monitoring_metrics",
                "there are no such metrics",
            )],
        )?;
        let source = self.source_to_read(backup.source.as_deref()).await?;
        let naming = Naming::of_kind(&source.kind);
        let (into, more_into) = self.stores(&backup.collection)?;
        Ok(v1::SubmitBackupRequest {
            request_key: String::new(),
            target: Some(wire_target(&backup.targets, naming)?),
            source: source.name,
            into,
            more_into,
            layer: Some(match &backup.into {
                Into::Full => Layer::Full(true),
                Into::Latest => Layer::AppendToLatest(true),
                Into::Subdir(subdir) => match self.text(subdir)? {
                    text if text.eq_ignore_ascii_case("latest") => Layer::AppendToLatest(true),
                    text => Layer::AppendTo(text),
                },
            }),
            as_of: self.as_of(backup.as_of.as_ref())?,
            revision_history: self
                .option_bool(options, "revision_history")?
                .unwrap_or(false),
            execution_locality: self.execution_locality(options)?,
            start_chain: self.option_bool(options, "start_chain")?,
            encryption: self.encryption(options)?,
        })
    }

    pub(super) async fn restore(&self, restore: &Restore) -> Result<Answer, SqlError> {
        let is_detached = self.detached("RESTORE", &restore.options).await?;
        let request = self.restore_request(restore).await?;
        let submitted = self.api().submit_restore(request).await?;
        self.finish("RESTORE", submitted, is_detached).await
    }

    pub(super) async fn restore_request(
        &self,
        restore: &Restore,
    ) -> Result<v1::SubmitRestoreRequest, SqlError> {
        let options = &restore.options;
        check_restore_options(restore)?;
        self.refuse_options(
            options,
            &[
                (
                    "skip_missing_views",
                    "a view that lacks something is an error",
                ),
                (
                    "skip_missing_udfs",
                    "a function that is lacking is an error",
                ),
                ("skip_localities_check", "localities are not compared"),
                ("remove_regions", "databases have no regions"),
                (
                    "unsafe_restore_incompatible_version",
                    "every version of the format can be read",
                ),
            ],
        )?;
        let (from, more_from) = self.stores(&restore.collection)?;
        let subdir = self.text(&restore.subdir)?;
        let source = self.source_to_write(restore.source.as_deref()).await?;
        let naming = match &source {
            Some(source) => Naming::of_kind(&source.kind),
            None => {
                self.naming_of_chain(v1::ShowBackupRequest {
                    collection: from.clone(),
                    more_collections: more_from.clone(),
                    subdir: subdir.clone(),
                    check_files: false,
                    encryption: self.encryption(options)?,
                })
                .await?
            }
        };
        let text = |name: &str| {
            self.option_text(options, name)
                .map(Option::unwrap_or_default)
        };
        let members = text("members")?;
        let members = members.split(',').map(str::trim);
        Ok(v1::SubmitRestoreRequest {
            request_key: String::new(),
            target: Some(wire_target(&restore.targets, naming)?),
            from,
            more_from,
            encryption: self.encryption(options)?,
            subdir,
            as_of: self.as_of(restore.as_of.as_ref())?,
            into_source: source.map(|source| source.name).unwrap_or_default(),
            into_db: text("into_db")?,
            new_db_name: text("new_db_name")?,
            execution_locality: self.execution_locality(options)?,
            into_schema: text("into_schema")?,
            new_table_name: new_table_name(&restore.targets)?,
            schema_only: options.has("schema_only"),
            skip_missing_foreign_keys: options.has("skip_missing_foreign_keys"),
            grants: self.option_bool(options, "grants")?,
            owners: self.option_bool(options, "owners")?,
            skip_missing_roles: options.has("skip_missing_roles"),
            skip_missing_sequences: options.has("skip_missing_sequences"),
            skip_missing_sequence_owners: options.has("skip_missing_sequence_owners"),
            verify_backup_table_data: options.has("verify_backup_table_data"),
            members: members
                .filter(|member| !member.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }

    pub(super) async fn verify(&self, verify: &Verify) -> Result<Answer, SqlError> {
        let is_detached = self.detached("VERIFY BACKUP", &verify.options).await?;
        let layer = verify.layer.as_ref();
        let (from, more_from) = self.stores(&verify.collection)?;
        let request = v1::SubmitVerifyRequest {
            request_key: String::new(),
            from,
            more_from,
            encryption: self.encryption(&verify.options)?,
            subdir: self.text(&verify.subdir)?,
            layer_end: layer
                .map(|layer| self.text(layer))
                .transpose()?
                .unwrap_or_default(),
            execution_locality: self.execution_locality(&verify.options)?,
        };
        let submitted = self.api().submit_verify(request).await?;
        self.finish("VERIFY BACKUP", submitted, is_detached).await
    }

    /// Whether nobody waits for the job. Inside of a transaction block somebody would wait for what COMMIT decides on.
    pub(super) async fn detached(&self, what: &str, options: &Options) -> Result<bool, SqlError> {
        let is_detached = options.has("detached");
        if self.session.transaction == Transaction::Idle {
            return Ok(is_detached);
        }
        if !is_detached {
            return Err(SqlError::new(
                state::ACTIVE_TRANSACTION,
                format!(
                    "{what} cannot be used inside a multi-statement transaction without DETACHED option"
                ),
            )
            .hint("leave BEGIN out (drivers: turn autocommit on), or add WITH detached"));
        }
        self.notice(
            format!("the job of {what} starts at once"),
            Some("ROLLBACK does not undo it: use CANCEL JOB"),
        )
        .await;
        Ok(true)
    }

    pub(super) fn execution_locality(&self, options: &Options) -> Result<String, SqlError> {
        let text = self
            .option_text(options, "execution locality")?
            .unwrap_or_default();
        match text.parse::<Locality>() {
            Ok(_) => Ok(text),
            Err(error) => Err(SqlError::new(
                state::INVALID_PARAMETER_VALUE,
                format!("option execution locality: {error}"),
            )),
        }
    }

    async fn finish(
        &self,
        tag: &'static str,
        submitted: v1::SubmitJobResponse,
        is_detached: bool,
    ) -> Result<Answer, SqlError> {
        let mut rows = Rows::new(columns_of_job(is_detached));
        let id = Value::count(submitted.job);
        if is_detached {
            rows.push(vec![id]);
            return Ok(Answer::Rows { tag, rows });
        }
        let job = self.wait_for(submitted.job).await?;
        rows.push(vec![
            id,
            Value::Text(job.state),
            Value::Float(1.0),
            Value::count(job.rows),
        ]);
        Ok(Answer::Rows { tag, rows })
    }

    /// The source that is named, or that the session is connected to, or the only one.
    pub(super) async fn source_to_read(&self, named: Option<&str>) -> Result<v1::Source, SqlError> {
        let mut sources = self.api().list_sources().await?.sources;
        if let Some(name) = named {
            return find_source(sources, name);
        }
        let database = self.session.database.as_str();
        if let Some(place) = sources.iter().position(|source| source.name == database) {
            return Ok(sources.swap_remove(place));
        }
        let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
        match (sources.pop(), sources.is_empty()) {
            (Some(only), true) => {
                let message = format!("the source is {}, the only one there is", only.name);
                self.notice(message, None).await;
                Ok(only)
            }
            (None, _) => Err(SqlError::new(
                state::UNDEFINED_OBJECT,
                "there is no source to back up",
            )
            .hint("register one with CREATE SOURCE")),
            (Some(_), false) => Err(SqlError::new(
                state::UNDEFINED_OBJECT,
                format!("the statement names no source, and \"{database}\", which this session is connected to, is none"),
            )
            .hint(format!(
                "write OF SOURCE with one of {}, or connect to it as to a database",
                names.join(", ")
            ))),
        }
    }

    /// The source that is named, or that the session is connected to. `None`: the one that was backed up.
    async fn source_to_write(&self, named: Option<&str>) -> Result<Option<v1::Source>, SqlError> {
        let sources = self.api().list_sources().await?.sources;
        match named {
            Some(name) => find_source(sources, name).map(Some),
            None => {
                let database = &self.session.database;
                Ok(sources.into_iter().find(|source| source.name == *database))
            }
        }
    }

    /// How the source that a chain is of names its tables. What is no longer registered is refused by the restore itself.
    async fn naming_of_chain(&self, request: v1::ShowBackupRequest) -> Result<Naming, SqlError> {
        let shown = self.api().show_backup(request).await?;
        let name = shown.layers.into_iter().next().map(|layer| layer.source);
        let sources = self.api().list_sources().await?.sources;
        let source = sources
            .into_iter()
            .find(|source| Some(&source.name) == name.as_ref());
        Ok(Naming::of_kind(
            source.as_ref().map_or("", |source| source.kind.as_str()),
        ))
    }
}

pub(super) fn find_source(sources: Vec<v1::Source>, name: &str) -> Result<v1::Source, SqlError> {
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let found = sources.into_iter().find(|source| source.name == name);
    found.ok_or_else(|| {
        let error = SqlError::new(
            state::UNDEFINED_OBJECT,
            format!("there is no source named {name}"),
        );
        match names.as_slice() {
            [] => error.hint("register it with CREATE SOURCE"),
            names => error.hint(format!("there are {}", names.join(", "))),
        }
    })
}

/// What the model system refuses before there is a job.
fn check_restore_options(restore: &Restore) -> Result<(), SqlError> {
    let options = &restore.options;
    let refuse = |what: &str| Err(SqlError::new(state::INVALID_PARAMETER_VALUE, what));
    let is_of_tables = matches!(restore.targets, Targets::Tables(_));
    if options.has("into_db") && !is_of_tables {
        return refuse(
            "cannot use \"into_db\" option when not restoring tables: RESTORE TABLE puts tables into a database",
        );
    }
    let databases = match &restore.targets {
        Targets::Databases(names) => names.len(),
        _ => 0,
    };
    if options.has("new_db_name") && databases != 1 {
        return refuse(
            "\"new_db_name\" option can only be used when restoring one database: RESTORE DATABASE name",
        );
    }
    if options.has("verify_backup_table_data") && !options.has("schema_only") {
        return refuse(
            "to set the verify_backup_table_data option, the schema_only option must be set",
        );
    }
    one_encryption(options)
}

/// A passphrase and KMS keys exclude each other.
pub(super) fn one_encryption(options: &Options) -> Result<(), SqlError> {
    if options.has("kms") && options.has("encryption_passphrase") {
        return Err(SqlError::new(
            state::INVALID_PARAMETER_VALUE,
            "cannot have both encryption_passphrase and kms option set",
        ));
    }
    Ok(())
}
