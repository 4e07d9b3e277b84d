//! What a server has to offer to a restore.

use crate::answer::ask;
use crate::restore::database::{roles, tablespaces};
use crate::session::Session;
use holdfast_types::Fault;
use std::collections::{BTreeMap, BTreeSet};

/// What a server has to offer to a restore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetFacts {
    /// Its major version.
    pub major: u32,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Whether the role that restores is a superuser.
    pub is_superuser: bool,
    /// Whether it may create databases.
    pub may_create_databases: bool,
    /// Whether it may create roles.
    pub may_create_roles: bool,
    /// Names of databases.
    pub databases: BTreeSet<String>,
    /// Names of roles.
    pub roles: BTreeSet<String>,
    /// Roles that the role that restores may become.
    pub member_of: BTreeSet<String>,
    /// Names of tablespaces.
    pub tablespaces: BTreeSet<String>,
    /// Extensions that can be made: each with its versions, and whether the role may make it.
    pub extensions: BTreeMap<String, AvailableExtension>,
    /// Access methods of tables.
    pub access_methods: BTreeSet<String>,
    /// Locales of the C library that are known.
    pub locales: BTreeSet<String>,
    /// Whether ICU is there.
    pub has_icu: bool,
}

/// An extension that can be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AvailableExtension {
    /// The version that is made if none is named.
    pub default_version: String,
    /// Whether only a superuser may make it.
    pub needs_superuser: bool,
}

impl TargetFacts {
    /// Asks a server.
    ///
    /// # Errors
    /// What the server says.
    pub async fn read(session: &Session) -> Result<Self, Fault> {
        let context = "cannot read what the server offers";
        let names = async |sql: &str| -> Result<BTreeSet<String>, Fault> {
            let rows = ask(session, context, sql).await?;
            Ok(rows.into_iter().map(|row| row.text(0)).collect())
        };
        let info = session.info();
        let may_create = ask(
            session,
            context,
            "SELECT rolcreatedb OR rolsuper, rolcreaterole OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user",
        )
        .await?;
        let mut extensions = BTreeMap::new();
        let sql = "SELECT e.name, e.default_version, bool_and(v.superuser AND NOT v.trusted) \
             FROM pg_catalog.pg_available_extensions AS e JOIN pg_catalog.pg_available_extension_versions AS v USING (name) \
             GROUP BY 1, 2";
        for row in ask(session, context, sql).await? {
            let extension = AvailableExtension {
                default_version: row.text(1),
                needs_superuser: row.flag(2),
            };
            extensions.insert(row.text(0), extension);
        }
        Ok(Self {
            major: info.major(),
            in_recovery: info.in_recovery,
            is_superuser: info.superuser,
            may_create_databases: may_create.first().is_some_and(|row| row.flag(0)),
            may_create_roles: may_create.first().is_some_and(|row| row.flag(1)),
            databases: names("SELECT datname FROM pg_catalog.pg_database").await?,
            roles: roles(session).await?,
            member_of: names(
                "SELECT rolname FROM pg_catalog.pg_roles WHERE pg_catalog.pg_has_role(oid, 'MEMBER')",
            )
            .await?,
            tablespaces: tablespaces(session).await?,
            extensions,
            access_methods: names("SELECT amname FROM pg_catalog.pg_am WHERE amtype = 't'").await?,
            locales: names(
                "SELECT collcollate FROM pg_catalog.pg_collation WHERE collprovider = 'c' AND collcollate IS NOT NULL \
                 UNION SELECT datcollate FROM pg_catalog.pg_database",
            )
            .await?,
            has_icu: !names("SELECT '1' FROM pg_catalog.pg_collation WHERE collprovider = 'i' LIMIT 1")
                .await?
                .is_empty(),
        })
    }

    /// Whether the C library's locale is known, in any spelling of its encoding: `en_US.UTF-8`, `en_US.utf8`.
    pub(super) fn knows_locale(&self, name: &str) -> bool {
        let plain = |name: &str| name.replace('-', "").to_lowercase();
        ["C", "POSIX"].contains(&name)
            || self.locales.iter().any(|known| plain(known) == plain(name))
    }
}
