//! Every kind of source that this binary serves.

use holdfast_env::Env;
use holdfast_mvcc::MvccFactory;
use holdfast_node::ClusterKey;
use holdfast_postgres::dsn::Secret;
use holdfast_postgres::factory::PostgresFactory;
use holdfast_source::{LoggedSource, Source, SourceFactory};
use holdfast_types::{ErrorCode, Fault, MemberRecord, SourceKind};
use std::sync::Arc;

/// Makes clients of members of every kind.
#[derive(Debug)]
pub(super) struct Sources {
    mvcc: MvccFactory,
    postgres: PostgresFactory,
    key: ClusterKey,
}

impl Sources {
    /// What does not fit into memory goes to files in `directory`, which is the process's own. PostgreSQL's programs are looked for in
    /// `tools` first.
    pub(super) fn new(
        env: &Env,
        key: ClusterKey,
        directory: String,
        tools: Option<String>,
    ) -> Self {
        Self {
            mvcc: MvccFactory::new(Arc::clone(&env.net)),
            postgres: PostgresFactory::new(env.clone(), key.tag(), directory, tools),
            key,
        }
    }

    fn password(&self, member: &MemberRecord) -> Result<Option<Secret>, Fault> {
        let Some(sealed) = &member.secret else {
            return Ok(None);
        };
        let opened = self.key.open_secret(&member.address, sealed)?;
        Ok(Some(Secret::new(opened.as_str())))
    }
}

impl SourceFactory for Sources {
    fn member(&self, kind: SourceKind, member: &MemberRecord) -> Result<Arc<dyn Source>, Fault> {
        self.mvcc.member(kind, member)
    }

    fn logged(
        &self,
        kind: SourceKind,
        member: &MemberRecord,
    ) -> Result<Arc<dyn LoggedSource>, Fault> {
        match kind {
            SourceKind::Postgres => {
                let password = self.password(member)?;
                Ok(Arc::new(self.postgres.member(member, password)?))
            }
            other => Err(Fault::new(
                ErrorCode::Unsupported,
                format!("this build serves no source of kind {other} by its log"),
            )),
        }
    }
}
