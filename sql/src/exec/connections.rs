//! External connections.

use holdfast_client::v1;
use holdfast_proto::wire_to_fault;
use holdfast_types::ByteCount;

use super::objects::bytes;
use super::{Answer, Run};
use crate::error::{SqlError, state};
use crate::rows::{Rows, Value};
use crate::syntax::ast::{AlterConnection, CreateConnection, Statement};
use crate::syntax::expression::Str;
use crate::syntax::options::Options;
use crate::syntax::{Printed, Secrets};

/// What all connections are for: keys are named by the statements that need them.
const STORAGE: &str = "STORAGE";

impl Run<'_> {
    async fn put_connection(&self, name: &Str, uri: &Str, alter: bool) -> Result<(), SqlError> {
        let request = v1::PutConnectionRequest {
            name: self.text(name)?,
            uri: self.text(uri)?,
            alter,
        };
        self.api().put_connection(request).await?;
        Ok(())
    }

    pub(super) async fn create_connection(
        &self,
        create: &CreateConnection,
    ) -> Result<Answer, SqlError> {
        let made = self.put_connection(&create.name, &create.uri, false).await;
        match made {
            Err(error) if create.if_not_exists && error.state == state::DUPLICATE_OBJECT => {
                let name = self.text(&create.name)?;
                self.notice(format!("connection {name} already exists, skipping"), None)
                    .await;
            }
            other => other?,
        }
        Ok(Answer::Done("CREATE EXTERNAL CONNECTION".to_owned()))
    }

    pub(super) async fn alter_connection(
        &self,
        alter: &AlterConnection,
    ) -> Result<Answer, SqlError> {
        let altered = self.put_connection(&alter.name, &alter.uri, true).await;
        match altered {
            Err(error) if alter.if_exists && error.state == state::UNDEFINED_OBJECT => {
                let name = self.text(&alter.name)?;
                self.notice(format!("connection {name} does not exist, skipping"), None)
                    .await;
            }
            other => other?,
        }
        Ok(Answer::Done("ALTER EXTERNAL CONNECTION".to_owned()))
    }

    pub(super) async fn drop_connection(&self, name: &Str) -> Result<Answer, SqlError> {
        self.api().drop_connection(&self.text(name)?).await?;
        Ok(Answer::Done("DROP EXTERNAL CONNECTION".to_owned()))
    }

    async fn connections(&self, name: Option<&Str>) -> Result<Vec<v1::Connection>, SqlError> {
        let name = name.map(|name| self.text(name)).transpose()?;
        let name = name.unwrap_or_default();
        Ok(self.api().list_connections(&name).await?.connections)
    }

    pub(super) async fn show_connections(
        &self,
        name: Option<&Str>,
        mut rows: Rows,
    ) -> Result<Rows, SqlError> {
        for connection in self.connections(name).await? {
            rows.push(vec![
                Value::Text(connection.name),
                Value::Text(connection.uri),
                Value::text(STORAGE),
            ]);
        }
        Ok(rows)
    }

    pub(super) async fn show_create_connections(
        &self,
        name: Option<&Str>,
        mut rows: Rows,
    ) -> Result<Rows, SqlError> {
        for connection in self.connections(name).await? {
            let statement = Statement::CreateConnection(CreateConnection {
                if_not_exists: false,
                name: Str::Literal(connection.name.clone()),
                uri: Str::Literal(connection.uri),
            });
            let printed = Printed(&statement, Secrets::Hidden).to_string();
            rows.push(vec![Value::Text(connection.name), Value::Text(printed)]);
        }
        Ok(rows)
    }

    pub(super) async fn check_connection(
        &self,
        name: &Str,
        options: &Options,
        mut rows: Rows,
    ) -> Result<Rows, SqlError> {
        self.refuse_options(
            options,
            &[
                ("time", "each worker tries the store once"),
                ("concurrently", "each worker tries the store once"),
            ],
        )?;
        let transfer = self.option_text(options, "transfer")?;
        let transfer = transfer.map(|text| bytes("transfer", &text)).transpose()?;
        let request = v1::CheckConnectionRequest {
            uri: format!("external://{}", self.text(name)?),
            transfer: transfer.unwrap_or_default(),
        };
        for worker in self.api().check_connection(request).await?.workers {
            let fault = worker.fault.map(|fault| wire_to_fault(fault).to_string());
            let speed = |bytes: u64| match bytes {
                0 => Value::Null,
                bytes => Value::Text(format!("{}/s", ByteCount(bytes))),
            };
            rows.push(vec![
                Value::Text(worker.worker),
                Value::some_text(worker.locality),
                Value::Bool(fault.is_none()),
                Value::some_text(fault.unwrap_or_default()),
                Value::Text(ByteCount(worker.transferred).to_string()),
                speed(worker.read_speed),
                speed(worker.write_speed),
                Value::Bool(worker.can_delete),
                Value::TextArray(worker.unseen),
            ]);
        }
        Ok(rows)
    }
}
