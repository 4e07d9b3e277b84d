//! SELECT and VALUES: their rows come from statements that show something.

use super::Run;
use crate::error::{SqlError, state};
use crate::query::{evaluate, to_int, values};
use crate::rows::Rows;
use crate::syntax::expression::{Query, RowSource};

type With = Vec<(String, Rows)>;

pub(super) fn no_such_table(name: &str) -> SqlError {
    SqlError::new(
        state::UNDEFINED_TABLE,
        format!("relation \"{name}\" does not exist"),
    )
    .hint(
        "there are no tables here: rows come from statements in brackets, such as FROM [SHOW JOBS]",
    )
}

impl Run<'_> {
    pub(super) async fn query(&self, query: &Query) -> Result<Rows, SqlError> {
        self.query_with(query, &Vec::new()).await
    }

    async fn query_with(&self, query: &Query, with: &With) -> Result<Rows, SqlError> {
        let select = match query {
            Query::Values(rows) => return values(&self.known(), rows),
            Query::Select(select) => select,
        };
        let mut with = with.clone();
        for (name, rows) in &select.with {
            let rows = Box::pin(self.rows(rows, &with)).await?;
            // The innermost counts.
            with.insert(0, (name.clone(), rows));
        }
        let from = match &select.from {
            Some(from) => Some(Box::pin(self.rows(&from.rows, &with)).await?),
            None => None,
        };
        evaluate(&self.known(), select, from)
    }

    async fn rows(&self, rows: &RowSource, with: &With) -> Result<Rows, SqlError> {
        match rows {
            RowSource::Statement(statement) => {
                let part = Run {
                    is_part: true,
                    ..*self
                };
                Box::pin(part.show(statement)).await
            }
            RowSource::Query(query) => self.query_with(query, with).await,
            RowSource::Named(name) => match with.iter().find(|(known, _)| known == name) {
                Some((_, rows)) => Ok(rows.clone()),
                None => Err(no_such_table(name)),
            },
        }
    }

    /// The ids that a query gives, each once.
    pub(super) async fn ids(&self, query: &Query) -> Result<Vec<u64>, SqlError> {
        let rows = Box::pin(self.query(query)).await?;
        if rows.columns.len() != 1 {
            return Err(SqlError::syntax(format!(
                "ids are read from one column, and the query has {}",
                rows.columns.len()
            )));
        }
        let mut ids = Vec::new();
        for value in rows.rows.into_iter().flatten() {
            if value.is_null() {
                continue;
            }
            let id = to_int(value)?;
            let id = u64::try_from(id).map_err(|_| {
                SqlError::new(
                    state::INVALID_PARAMETER_VALUE,
                    format!("{id} is no id: ids are not negative"),
                )
            })?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}
