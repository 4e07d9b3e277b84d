//! SHOW BACKUPS, SHOW BACKUP and ALTER BACKUP.

use std::collections::BTreeSet;

use holdfast_client::v1;

use super::{Answer, Run};
use crate::error::{SqlError, state};
use crate::rows::{Rows, Value};
use crate::syntax::ast::{AlterBackup, BackupDetail, ShowBackup, ShowBackups};
use crate::syntax::expression::Str;

/// The schema of tables that have none of their own.
const PUBLIC: &str = "public";
/// Problems that an error lists.
const MOST_PROBLEMS: usize = 10;

impl Run<'_> {
    pub(super) async fn show_backups(
        &self,
        show: &ShowBackups,
        mut rows: Rows,
    ) -> Result<Rows, SqlError> {
        if show.has_revision_start {
            return Err(SqlError::unsupported(
                "SHOW BACKUPS WITH REVISION START TIME: SHOW BACKUP shows the times that can be restored",
            ));
        }
        let newer = show.newer_than.as_ref();
        let newer = newer.map(|expr| self.instant(expr)).transpose()?;
        let older = show.older_than.as_ref();
        let older = older.map(|expr| self.instant(expr)).transpose()?;
        // The default store has the manifests of all.
        let (collection, _) = self.stores(&show.collection)?;
        let mut chains = self.api().list_backups(&collection).await?.chains;
        chains.sort_by(|left, right| left.subdir.cmp(&right.subdir));
        for chain in chains {
            let end = time_of(&chain.end);
            let is_newer = newer.is_none_or(|newer| end.is_some_and(|end| end > newer));
            let is_older = older.is_none_or(|older| end.is_some_and(|end| end < older));
            if is_newer && is_older {
                rows.push(vec![Value::Text(format!("/{}", chain.subdir))]);
            }
        }
        Ok(rows)
    }

    /// ADD NEW_KMS … WITH OLD_KMS …: other keys open a chain, too.
    pub(super) async fn alter_backup(&self, alter: &AlterBackup) -> Result<Answer, SqlError> {
        let Some(collection) = &alter.collection else {
            return Err(SqlError::unsupported(
                "ALTER BACKUP without IN: write ALTER BACKUP 'subdirectory' IN 'collection'",
            ));
        };
        let keys = |uris: &[Str]| {
            let kms = uris.iter().map(|uri| self.text(uri));
            Ok::<_, SqlError>(Some(v1::EncryptionKeys {
                kms: kms.collect::<Result<_, _>>()?,
                ..v1::EncryptionKeys::default()
            }))
        };
        let request = v1::ChangeKeysRequest {
            collection: self.text(collection)?,
            subdir: self.text(&alter.subdir)?,
            old: keys(&alter.old_kms)?,
            add: keys(&alter.new_kms)?,
            drop: Vec::new(),
        };
        self.api().change_keys(request).await?;
        Ok(Answer::Done("ALTER BACKUP".to_owned()))
    }

    pub(super) async fn show_backup(
        &self,
        show: &ShowBackup,
        rows: Rows,
    ) -> Result<Rows, SqlError> {
        let options = &show.options;
        self.refuse_options(
            options,
            &[
                ("privileges", "owners and grants are not listed"),
                ("debug_ids", "objects have no ids of their own in a backup"),
            ],
        )?;
        match show.detail {
            BackupDetail::Contents | BackupDetail::Validate => {}
            BackupDetail::Schemas => {
                return Err(SqlError::unsupported("SHOW BACKUP SCHEMAS"));
            }
            BackupDetail::Files => return Err(SqlError::unsupported("SHOW BACKUP FILES")),
            BackupDetail::Ranges => return Err(SqlError::unsupported("SHOW BACKUP RANGES")),
        }
        let (collection, more_collections) = self.stores(&show.collection)?;
        let request = v1::ShowBackupRequest {
            collection,
            more_collections,
            encryption: self.encryption(options)?,
            subdir: self.text(&show.subdir)?,
            check_files: options.has("check_files"),
        };
        let shown = self.api().show_backup(request).await?;
        if show.detail == BackupDetail::Validate {
            return Ok(validation(&shown, rows));
        }
        if options.has("check_files") && !shown.problems.is_empty() {
            return Err(broken(&shown.problems));
        }
        for problem in &shown.problems {
            self.notice(problem.as_str(), None).await;
        }
        if options.has("as_json") {
            return Ok(manifests(shown, rows));
        }
        if !shown.restorable.is_empty() {
            let windows = shown.restorable.join(", ");
            self.notice(format!("restorable: {windows}"), None).await;
        }
        for log in &shown.logs {
            let places = log.places.join(", ");
            self.notice(format!("restorable of {}: {places}", log.member), None)
                .await;
        }
        let has_sizes = !options.has("skip size");
        Ok(contents(shown, rows, options.has("check_files"), has_sizes))
    }
}

/// The instant of a position as the cluster shows it.
pub(super) fn time_of(text: &str) -> Option<holdfast_types::Timestamp> {
    let as_of: holdfast_types::AsOf = text.parse().ok()?;
    let at = as_of.instant(holdfast_types::Timestamp::default()).ok()?;
    Some(at.wall)
}

fn time(text: &str) -> Value {
    time_of(text).map_or(Value::Null, Value::Time)
}

fn broken(problems: &[String]) -> SqlError {
    let error = SqlError::new(state::DATA_CORRUPTED, "files are missing from the backup");
    let mut listed: Vec<&str> = problems.iter().map(String::as_str).collect();
    listed.truncate(MOST_PROBLEMS);
    let left_out = problems.len() - listed.len();
    let mut detail = listed.join("\n");
    if left_out > 0 {
        detail.push_str(&format!("\n… and {left_out} more"));
    }
    error.detail(detail)
}

fn validation(shown: &v1::ShowBackupResponse, mut rows: Rows) -> Rows {
    if shown.problems.is_empty() {
        rows.push(vec![Value::text("No problems found!")]);
    }
    for problem in &shown.problems {
        rows.push(vec![Value::text(problem.as_str())]);
    }
    rows
}

/// One row a layer.
fn manifests(shown: v1::ShowBackupResponse, mut rows: Rows) -> Rows {
    for layer in shown.layers {
        let tables: Vec<_> = (layer.tables.iter())
            .map(|table| {
                serde_json::json!({
                    "member": table.member,
                    "database": table.database,
                    "table": table.table,
                    "rows": table.rows,
                    "size_bytes": table.size_bytes,
                })
            })
            .collect();
        let manifest = serde_json::json!({
            "path": layer.path,
            "backup_type": layer.backup_type,
            "start_time": layer.start,
            "end_time": layer.end,
            "revision_history": layer.revision_history,
            "rows": layer.rows,
            "size_bytes": layer.size_bytes,
            "file_bytes": layer.file_bytes,
            "objects": layer.objects,
            "job_id": layer.job,
            "source": layer.source,
            "manifest_digest": layer.manifest_digest,
            "tables": tables,
        });
        rows.push(vec![Value::Json(manifest.to_string())]);
    }
    rows
}

/// A block of rows for each layer: its databases, then its tables.
fn contents(
    shown: v1::ShowBackupResponse,
    mut rows: Rows,
    has_file_bytes: bool,
    has_sizes: bool,
) -> Rows {
    for layer in shown.layers {
        let databases: BTreeSet<(String, String)> = (layer.tables.iter())
            .map(|table| (table.member.clone(), table.database.clone()))
            .collect();
        let size = |bytes: u64| Value::count(if has_sizes { bytes } else { 0 });
        let whole: u64 = layer.tables.iter().map(|table| table.size_bytes).sum();
        let file_bytes = |bytes: u64| {
            // Files hold several tables: each is given its share.
            let share = u128::from(layer.file_bytes) * u128::from(bytes);
            Value::count(share.checked_div(u128::from(whole)).unwrap_or(0))
        };
        let mut push = |object: Object<'_>| {
            let mut row = vec![
                Value::some_text(object.database),
                Value::some_text(object.schema),
                Value::text(object.name),
                Value::text(object.kind),
                Value::text(layer.backup_type.as_str()),
                time(&layer.start),
                time(&layer.end),
                size(object.size),
                Value::count(object.rows),
                // A layer does not tell what its statement named.
                Value::Null,
                Value::Null,
            ];
            if has_file_bytes {
                row.push(file_bytes(object.size));
            }
            row.push(Value::text(object.member));
            rows.push(row);
        };
        for (member, database) in &databases {
            // What a layer has of the database itself: of PostgreSQL all changes.
            let mut own = layer.tables.iter().filter(|table| {
                table.table.is_empty() && table.member == *member && table.database == *database
            });
            let own = own.next();
            push(Object {
                member,
                database: "",
                schema: "",
                name: database,
                kind: "database",
                size: own.map_or(0, |table| table.size_bytes),
                rows: own.map_or(0, |table| table.rows),
            });
        }
        for table in layer.tables.iter().filter(|table| !table.table.is_empty()) {
            let (schema, name) = table
                .table
                .split_once('.')
                .unwrap_or((PUBLIC, table.table.as_str()));
            push(Object {
                member: &table.member,
                database: &table.database,
                schema,
                name,
                kind: "table",
                size: table.size_bytes,
                rows: table.rows,
            });
        }
    }
    rows
}

struct Object<'a> {
    member: &'a str,
    database: &'a str,
    schema: &'a str,
    name: &'a str,
    kind: &'a str,
    size: u64,
    rows: u64,
}
