//! Reads globals and databases from the catalogs.

use super::database::{DatabaseFacts, Extension, Grant, LocaleFacts, Setting};
use super::{Globals, Membership, Role, Tablespace};
use crate::answer::{Answer, ask};
use crate::session::Session;
use holdfast_types::{ErrorCode, Fault};

/// Settings as a JSON list of `name=value`.
const SETTINGS: &str = "array_to_json(s.setconfig)";

/// Rights as a JSON list of `grantee\nright\ngrantable`; null where they are the default. Role names cannot hold a line break that
/// would be taken for ours: the right and the flag are the last two lines.
fn rights(acl: &str) -> String {
    format!(
        "CASE WHEN {acl} IS NULL THEN NULL ELSE (SELECT COALESCE(json_agg(x.t ORDER BY x.t), '[]') FROM \
         (SELECT CASE x.grantee WHEN 0 THEN '' ELSE '+' || pg_get_userbyid(x.grantee) END || E'\\n' \
         || x.privilege_type || E'\\n' || x.is_grantable AS t FROM aclexplode({acl}) AS x) AS x) END"
    )
}

fn parse_rights(answer: &Answer, column: usize) -> Result<Option<Vec<Grant>>, Fault> {
    if answer.maybe(column).is_none() {
        return Ok(None);
    }
    let mut grants = Vec::new();
    for text in answer.list(column)? {
        let mut parts = text.rsplitn(3, '\n');
        let (Some(grantable), Some(right), Some(grantee)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::new(ErrorCode::Internal, "malformed rights"));
        };
        grants.push(Grant {
            grantee: grantee.strip_prefix('+').map(str::to_owned),
            right: right.to_owned(),
            grantable: grantable == "true",
        });
    }
    grants.dedup();
    Ok(Some(grants))
}

fn parse_settings(list: Vec<String>) -> Vec<Setting> {
    list.into_iter()
        .filter_map(|text| {
            let (name, value) = text.split_once('=')?;
            Some(Setting {
                name: name.to_owned(),
                value: value.to_owned(),
            })
        })
        .collect()
}

/// The server's major version.
pub(crate) async fn server_major(session: &Session) -> Result<u32, Fault> {
    let rows = ask(
        session,
        "cannot read the server's version",
        "SELECT current_setting('server_version_num')::int / 10000",
    )
    .await?;
    rows.first()
        .ok_or_else(|| Fault::new(ErrorCode::Internal, "no server version"))?
        .number(0)
}

impl Globals {
    /// Reads roles, memberships and tablespaces. Passwords only where the role may see them.
    ///
    /// # Errors
    /// What the server says.
    pub async fn capture(session: &Session) -> Result<Self, Fault> {
        let passwords = ask(
            session,
            "cannot read rights",
            "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')",
        )
        .await?
        .first()
        .is_some_and(|row| row.flag(0));
        Ok(Self {
            roles: roles(session, passwords).await?,
            memberships: memberships(session).await?,
            tablespaces: tablespaces(session).await?,
            passwords,
        })
    }
}

async fn roles(session: &Session, passwords: bool) -> Result<Vec<Role>, Fault> {
    let (table, password) = if passwords {
        ("pg_authid", "r.rolpassword")
    } else {
        ("pg_roles", "NULL")
    };
    let sql = format!(
        "SELECT r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, \
         r.rolbypassrls, r.rolconnlimit, {password}, r.rolvaliduntil, shobj_description(r.oid, 'pg_authid'), {SETTINGS} \
         FROM pg_catalog.{table} AS r LEFT JOIN pg_catalog.pg_db_role_setting AS s ON s.setrole = r.oid AND s.setdatabase = 0 \
         WHERE r.rolname !~ '^pg_' ORDER BY r.rolname COLLATE \"C\""
    );
    let mut roles = Vec::new();
    for row in ask(session, "cannot read roles", &sql).await? {
        roles.push(Role {
            name: row.text(0),
            superuser: row.flag(1),
            inherit: row.flag(2),
            create_role: row.flag(3),
            create_database: row.flag(4),
            login: row.flag(5),
            replication: row.flag(6),
            bypass_rls: row.flag(7),
            connection_limit: row.number(8)?,
            password: row.maybe(9).map(str::to_owned),
            valid_until: row.maybe(10).map(str::to_owned),
            comment: row.maybe(11).map(str::to_owned),
            settings: parse_settings(row.list(12)?),
        });
    }
    Ok(roles)
}

async fn memberships(session: &Session) -> Result<Vec<Membership>, Fault> {
    let options = if server_major(session).await? >= 16 {
        "m.inherit_option, m.set_option"
    } else {
        "NULL, NULL"
    };
    // The same membership may have been granted by several: granted once it is the same.
    let sql = format!(
        "SELECT DISTINCT ON (g.rolname, u.rolname) g.rolname, u.rolname, m.admin_option, {options} \
         FROM pg_catalog.pg_auth_members AS m JOIN pg_catalog.pg_roles AS g ON g.oid = m.roleid \
         JOIN pg_catalog.pg_roles AS u ON u.oid = m.member \
         WHERE u.rolname !~ '^pg_' ORDER BY g.rolname, u.rolname, m.admin_option DESC"
    );
    let rows = ask(session, "cannot read memberships of roles", &sql).await?;
    Ok(rows
        .into_iter()
        .map(|row| Membership {
            group: row.text(0),
            member: row.text(1),
            admin: row.flag(2),
            inherit: row.maybe(3).map(|flag| flag == "t"),
            set: row.maybe(4).map(|flag| flag == "t"),
        })
        .collect())
}

async fn tablespaces(session: &Session) -> Result<Vec<Tablespace>, Fault> {
    let sql = format!(
        "SELECT spcname, pg_get_userbyid(spcowner), pg_tablespace_location(oid), array_to_json(spcoptions), {}, \
         shobj_description(oid, 'pg_tablespace') FROM pg_catalog.pg_tablespace \
         WHERE spcname !~ '^pg_' ORDER BY spcname COLLATE \"C\"",
        rights("spcacl")
    );
    let mut list = Vec::new();
    for row in ask(session, "cannot read tablespaces", &sql).await? {
        list.push(Tablespace {
            name: row.text(0),
            owner: row.text(1),
            location: row.text(2),
            options: parse_settings(row.list(3)?),
            grants: parse_rights(&row, 4)?,
            comment: row.maybe(5).map(str::to_owned),
        });
    }
    Ok(list)
}

impl DatabaseFacts {
    /// Reads the database that the client is connected to.
    ///
    /// # Errors
    /// What the server says.
    pub async fn capture(session: &Session) -> Result<Self, Fault> {
        let server_major = server_major(session).await?;
        let locale = match server_major {
            ..15 => "'c', NULL, NULL, NULL",
            15 => "d.datlocprovider, d.daticulocale, NULL, d.datcollversion",
            16 => "d.datlocprovider, d.daticulocale, d.daticurules, d.datcollversion",
            _ => "d.datlocprovider, d.datlocale, d.daticurules, d.datcollversion",
        };
        let sql = format!(
            "SELECT d.datname, pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, {locale}, \
             t.spcname, d.datallowconn, d.datconnlimit, d.datistemplate, shobj_description(d.oid, 'pg_database'), {}, \
             (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'), \
             EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'public') \
             FROM pg_catalog.pg_database AS d JOIN pg_catalog.pg_tablespace AS t ON t.oid = d.dattablespace \
             WHERE d.datname = current_database()",
            rights("d.datacl")
        );
        let rows = ask(session, "cannot read the database's settings", &sql).await?;
        let row = rows
            .first()
            .ok_or_else(|| Fault::new(ErrorCode::Internal, "no row of pg_database"))?;
        Ok(Self {
            name: row.text(0),
            owner: row.text(1),
            locale: LocaleFacts {
                encoding: row.text(2),
                collate: row.text(3),
                ctype: row.text(4),
                provider: row.text(5).chars().next().unwrap_or('c'),
                locale: row.maybe(6).map(str::to_owned),
                icu_rules: row.maybe(7).map(str::to_owned),
                version: row.maybe(8).map(str::to_owned),
            },
            tablespace: row.text(9),
            allow_connections: row.flag(10),
            connection_limit: row.number(11)?,
            is_template: row.flag(12),
            comment: row.maybe(13).map(str::to_owned),
            grants: parse_rights(row, 14)?,
            settings: database_settings(session).await?,
            search_path: row.text(15),
            has_public: row.flag(16),
            extensions: extensions(session).await?,
            server_major,
        })
    }
}

async fn database_settings(session: &Session) -> Result<Vec<(Option<String>, Setting)>, Fault> {
    let sql = format!(
        "SELECT CASE s.setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END, {SETTINGS} \
         FROM pg_catalog.pg_db_role_setting AS s JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase \
         WHERE d.datname = current_database() ORDER BY s.setrole"
    );
    let mut list = Vec::new();
    for row in ask(session, "cannot read the database's settings", &sql).await? {
        let role = row.maybe(0).map(str::to_owned);
        for setting in parse_settings(row.list(1)?) {
            list.push((role.clone(), setting));
        }
    }
    Ok(list)
}

async fn extensions(session: &Session) -> Result<Vec<Extension>, Fault> {
    let rows = ask(
        session,
        "cannot read extensions",
        "SELECT e.extname, e.extversion, n.nspname FROM pg_catalog.pg_extension AS e \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql' \
         ORDER BY e.extname COLLATE \"C\"",
    )
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Extension {
            name: row.text(0),
            version: row.text(1),
            schema: row.text(2),
        })
        .collect())
}
