//! EXPLAIN: what a statement would do, without doing it.

use holdfast_client::v1;
use holdfast_client::v1::submit_backup_request::Layer;

use holdfast_types::ErrorCode;

use super::columns::columns_of;
use super::{Answer, Run, unsupported};
use crate::error::SqlError;
use crate::rows::{Rows, Value};
use crate::syntax::ast::{Backup, JobSet, Restore, Statement};
use crate::syntax::{Printed, Secrets};

impl Run<'_> {
    pub(super) async fn explain(&self, statement: &Statement) -> Result<Answer, SqlError> {
        if let Some(error) = unsupported::refusal(statement) {
            return Err(error);
        }
        let mut lines = vec![Printed(statement, Secrets::Hidden).to_string()];
        match statement {
            Statement::Backup(backup) => self.explain_backup(backup, &mut lines).await?,
            Statement::Restore(restore) => self.explain_restore(restore, &mut lines).await?,
            Statement::Expire(expire) => self.explain_expire(expire, &mut lines).await?,
            Statement::ControlJobs(control) => {
                if let JobSet::Query(query) = &control.jobs {
                    let ids = Box::pin(self.ids(query)).await?;
                    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                    lines.push(format!("jobs: {}", ids.join(", ")));
                }
            }
            other => {
                if let Some(columns) = columns_of(self.session, other)? {
                    let names: Vec<_> = columns.into_iter().map(|column| column.name).collect();
                    lines.push(format!("columns: {}", names.join(", ")));
                }
            }
        }
        let explained = Statement::Explain(Box::new(statement.clone()));
        let mut rows = Rows::new(columns_of(self.session, &explained)?.unwrap_or_default());
        for line in lines {
            rows.push(vec![Value::Text(line)]);
        }
        Ok(Answer::Rows {
            tag: "EXPLAIN",
            rows,
        })
    }

    async fn explain_backup(
        &self,
        backup: &Backup,
        lines: &mut Vec<String>,
    ) -> Result<(), SqlError> {
        let request = self.backup_request(backup).await?;
        let source = self.source_to_read(backup.source.as_deref()).await?;
        lines.push(format!("source: {} of kind {}", source.name, source.kind));
        let target = request.target.unwrap_or_default();
        let names = [target.databases, target.tables].concat();
        lines.push(match names.as_slice() {
            [] => "target: the whole source".to_owned(),
            names => format!("target: {}", names.join(", ")),
        });
        let subdir = match request.layer {
            Some(Layer::AppendToLatest(_)) => Some("LATEST".to_owned()),
            Some(Layer::AppendTo(subdir)) => Some(subdir),
            _ => None,
        };
        match subdir {
            None => lines.push("layer: a new full".to_owned()),
            Some(subdir) => {
                let shown = v1::ShowBackupRequest {
                    collection: request.into,
                    more_collections: request.more_into,
                    subdir,
                    check_files: false,
                    encryption: request.encryption,
                };
                let chain = self.api().show_backup(shown).await?;
                let last = chain.layers.last();
                let end = last.map(|layer| layer.end.as_str()).unwrap_or_default();
                lines.push(format!(
                    "layer: an incremental on {} from {end}",
                    chain.subdir
                ));
            }
        }
        lines.push(match request.as_of.as_str() {
            "" => "as of: now".to_owned(),
            as_of => format!("as of: {as_of}"),
        });
        let workers = self.api().cluster_status().await?.workers;
        for member in source.members {
            let near = workers.iter().filter(|worker| {
                member.locality.is_empty()
                    || worker.locality == member.locality
                    || worker
                        .locality
                        .starts_with(&format!("{},", member.locality))
            });
            let near: Vec<&str> = near.map(|worker| worker.id.as_str()).collect();
            let place = match member.locality.as_str() {
                "" => String::new(),
                locality => format!(" in {locality}"),
            };
            lines.push(format!(
                "member: {}{place}, workers near it: {}",
                member.name,
                match near.as_slice() {
                    [] => "none".to_owned(),
                    near => near.join(", "),
                }
            ));
        }
        Ok(())
    }

    async fn explain_restore(
        &self,
        restore: &Restore,
        lines: &mut Vec<String>,
    ) -> Result<(), SqlError> {
        let request = self.restore_request(restore).await?;
        let (from, more_from) = (request.from.clone(), request.more_from.clone());
        let encryption = request.encryption.clone();
        let subdir = request.subdir.clone();
        let answer = match self.api().check_restore(request).await {
            Ok(answer) => answer,
            // A source that is nothing but rows has nothing that could stand in the way but names.
            Err(fault) if fault.code == ErrorCode::Unsupported => {
                lines.push(format!("objects: {}", fault.message));
                v1::CheckRestoreResponse::default()
            }
            Err(fault) => return Err(fault.into()),
        };
        if !answer.description.is_empty() {
            lines.push(format!("plan: {}", answer.description));
        }
        let shown = v1::ShowBackupRequest {
            collection: from,
            more_collections: more_from,
            subdir,
            check_files: false,
            encryption,
        };
        for layer in self.api().show_backup(shown).await?.layers {
            lines.push(format!(
                "layer of the chain: {} ending {}, {} rows, {} bytes stored",
                layer.backup_type, layer.end, layer.rows, layer.file_bytes
            ));
        }
        for member in answer.members {
            lines.push(format!("member: {}", member.name));
            if let Some(fault) = member.fault {
                lines.push(format!("  could not be looked at: {}", fault.message));
                continue;
            }
            let report: serde_json::Value =
                serde_json::from_str(&member.report).unwrap_or_default();
            for finding in report["findings"].as_array().into_iter().flatten() {
                let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
                let level = match text("level").as_str() {
                    "fine" => "restored",
                    "handled" => "differs",
                    _ => "REFUSED",
                };
                lines.push(format!("  {level} {}: {}", text("object"), text("what")));
            }
        }
        Ok(())
    }
}
