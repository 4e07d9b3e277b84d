//! Users: who may log in.

use holdfast_client::v1;

use super::{Answer, Run};
use crate::error::{SqlError, state};
use crate::rows::{Rows, Value};
use crate::syntax::ast::User;

impl Run<'_> {
    async fn put_user(&self, user: &User, alter: bool) -> Result<(), SqlError> {
        let Some(password) = &user.password else {
            return Err(SqlError::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("user {} could not log in: a password is missing", user.name),
            )
            .hint("write CREATE USER … WITH PASSWORD '…'"));
        };
        let request = v1::PutUserRequest {
            name: user.name.clone(),
            password: self.text(password)?,
            alter,
        };
        self.api().put_user(request).await?;
        Ok(())
    }

    pub(super) async fn create_user(&self, user: &User) -> Result<Answer, SqlError> {
        match self.put_user(user, false).await {
            Err(error) if user.if_not_exists && error.state == state::DUPLICATE_OBJECT => {
                let text = format!("user {} already exists, skipping", user.name);
                self.notice(text, None).await;
            }
            made => made?,
        }
        Ok(Answer::Done("CREATE ROLE".to_owned()))
    }

    pub(super) async fn alter_user(&self, user: &User) -> Result<Answer, SqlError> {
        self.put_user(user, true).await?;
        Ok(Answer::Done("ALTER ROLE".to_owned()))
    }

    pub(super) async fn drop_user(&self, name: &str, if_exists: bool) -> Result<Answer, SqlError> {
        let dropped = self.api().drop_user(name).await.map_err(SqlError::from);
        match dropped {
            Err(error) if if_exists && error.state == state::UNDEFINED_OBJECT => {
                let text = format!("user {name} does not exist, skipping");
                self.notice(text, None).await;
            }
            dropped => dropped?,
        }
        Ok(Answer::Done("DROP ROLE".to_owned()))
    }

    pub(super) async fn show_users(&self, mut rows: Rows) -> Result<Rows, SqlError> {
        for user in self.api().list_users().await?.users {
            rows.push(vec![
                Value::Text(user.name),
                Value::time(&user.created),
                Value::time(&user.changed),
            ]);
        }
        Ok(rows)
    }
}
