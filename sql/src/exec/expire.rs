//! EXPIRE BACKUPS.

use holdfast_client::v1;

use super::columns::columns_of;
use super::{Answer, Run};
use crate::error::{SqlError, state};
use crate::rows::{Rows, Value};
use crate::syntax::ast::{Expire, Statement};
use crate::times::parse_time;

impl Run<'_> {
    /// A row for every chain of the collection. What goes is gone then, unless nobody waits.
    pub(super) async fn expire(&self, expire: &Expire) -> Result<Answer, SqlError> {
        let is_dry = expire.is_dry_run;
        // What only looks may stand in a transaction.
        let is_detached = !is_dry && self.detached("EXPIRE BACKUPS", &expire.options).await?;
        let answer = self
            .api()
            .expire_backups(self.expire_request(expire, is_dry)?)
            .await?;
        let mut job = None;
        if answer.job != 0 && !is_detached {
            job = Some(self.wait_for(answer.job).await?);
        }
        let columns = columns_of(self.session, &Statement::Expire(expire.clone()))?;
        let mut rows = Rows::new(columns.unwrap_or_default());
        for chain in answer.chains {
            let removed = job.iter().flat_map(|job| &job.expired);
            let removed = removed.into_iter().find(|it| it.subdir == chain.subdir);
            let count = |value: Option<u64>| value.map_or(Value::Null, Value::count);
            rows.push(vec![
                Value::Text(format!("/{}", chain.subdir)),
                super::backups::time_of(&chain.end).map_or(Value::Null, Value::Time),
                Value::count(u64::from(chain.layers)),
                Value::Bool(chain.expires),
                Value::some_text(&chain.reason),
                count(removed.map(|it| it.objects)),
                count(removed.map(|it| it.bytes)),
                count((chain.expires && answer.job != 0).then_some(answer.job)),
            ]);
        }
        Ok(Answer::Rows {
            tag: "EXPIRE BACKUPS",
            rows,
        })
    }

    fn expire_request(
        &self,
        expire: &Expire,
        dry_run: bool,
    ) -> Result<v1::ExpireBackupsRequest, SqlError> {
        let (collection, more_collections) = self.stores(&expire.collection)?;
        let age = expire.older_than.as_ref();
        let age = age.map(|age| self.text(age)).transpose()?;
        // Times are written as everywhere in SQL; what is none is an age, which the cluster reads.
        let older_than = match age {
            Some(text) => parse_time(&text).map_or(text, |time| time.to_string()),
            None => String::new(),
        };
        let keep = expire.keep_fulls.as_ref();
        let keep = keep.map(|keep| self.number(keep, "a number of fulls"));
        let keep_fulls = match keep.transpose()? {
            None => 0,
            Some(keep) => u32::try_from(keep)
                .ok()
                .filter(|keep| *keep > 0)
                .ok_or_else(|| {
                    SqlError::new(
                        state::INVALID_PARAMETER_VALUE,
                        "KEEP LAST needs a number of fulls, at least 1",
                    )
                })?,
        };
        Ok(v1::ExpireBackupsRequest {
            request_key: String::new(),
            collection,
            more_collections,
            older_than,
            keep_fulls,
            dry_run,
        })
    }

    pub(super) async fn explain_expire(
        &self,
        expire: &Expire,
        lines: &mut Vec<String>,
    ) -> Result<(), SqlError> {
        let request = self.expire_request(expire, true)?;
        for chain in self.api().expire_backups(request).await?.chains {
            let what = match chain.expires {
                true => "expires",
                false => "stays",
            };
            let why = match chain.reason.as_str() {
                "" => String::new(),
                reason => format!(": {reason}"),
            };
            lines.push(format!("chain /{} {what}{why}", chain.subdir));
        }
        Ok(())
    }
}
