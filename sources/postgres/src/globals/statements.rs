//! The statements that make globals and databases again.

use super::database::{DatabaseFacts, Grant, Setting};
use super::{GlobalStatement, Globals, Membership, Role, Tablespace};
use crate::identifier::{literal, quote};
use std::collections::BTreeSet;

/// Parameters whose value is a list of quoted names; pg_dump has the same list, since the server does not tell.
const LISTS: [&str; 7] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
    "createrole_self_grant",
];

impl Setting {
    /// `name TO value`, for `ALTER DATABASE … SET` and the like.
    pub(crate) fn assignment(&self) -> String {
        let value = if LISTS.contains(&self.name.as_str()) {
            let elements: Vec<String> =
                split_list(&self.value).iter().map(|e| literal(e)).collect();
            if elements.is_empty() {
                "''".to_owned()
            } else {
                elements.join(", ")
            }
        } else {
            literal(&self.value)
        };
        // A parameter of an extension has a dot between two names.
        let name: Vec<String> = self.name.split('.').map(quote).collect();
        format!("{} TO {value}", name.join("."))
    }
}

/// Splits a list of names as the server keeps it: `"$user", public`.
fn split_list(text: &str) -> Vec<String> {
    let mut list = Vec::new();
    let mut letters = text.chars().peekable();
    let (mut name, mut quoted, mut any) = (String::new(), false, false);
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => name.push('"'),
            '"' => {
                quoted = !quoted;
                any = true;
            }
            ',' if !quoted => {
                list.push(std::mem::take(&mut name));
                any = false;
            }
            ' ' | '\t' | '\n' if !quoted => {}
            other => {
                name.push(other);
                any = true;
            }
        }
    }
    if any || !list.is_empty() {
        list.push(name);
    }
    list
}

/// `GRANT` statements for an object whose default rights were first taken away. Without an owner it belongs to the role that restores,
/// which keeps its own.
pub(crate) fn grants(object: &str, owner: Option<&str>, grants: &[Grant]) -> Vec<String> {
    let mut list = vec![format!("REVOKE ALL ON {object} FROM PUBLIC")];
    list.extend(owner.map(|owner| format!("REVOKE ALL ON {object} FROM {}", quote(owner))));
    for grant in grants {
        let grantee = grant.grantee.as_deref().map_or("PUBLIC".to_owned(), quote);
        let option = if grant.grantable {
            " WITH GRANT OPTION"
        } else {
            ""
        };
        list.push(format!(
            "GRANT {} ON {object} TO {grantee}{option}",
            grant.right
        ));
    }
    list
}

/// The rights of roles that exist, and of everybody.
pub(crate) fn of_roles(given: &[Grant], roles: &BTreeSet<String>) -> Vec<Grant> {
    let is_known = |grant: &&Grant| {
        let grantee = grant.grantee.as_ref();
        grantee.is_none_or(|name| roles.contains(name))
    };
    given.iter().filter(is_known).cloned().collect()
}

impl Globals {
    /// The statements that make what a server does not have yet. What it has is left as it is.
    #[must_use]
    pub fn statements(
        &self,
        roles: &BTreeSet<String>,
        tablespaces: &BTreeSet<String>,
        server_major: u32,
    ) -> Vec<GlobalStatement> {
        let mut list = Vec::new();
        let new: Vec<&Role> = self
            .roles
            .iter()
            .filter(|role| !roles.contains(&role.name))
            .collect();
        for role in &new {
            list.extend(role.statements());
        }
        let made = |name: &str| new.iter().any(|role| role.name == name);
        for membership in &self.memberships {
            if made(&membership.member) || made(&membership.group) {
                list.push(membership.statement(server_major));
            }
        }
        for tablespace in &self.tablespaces {
            if !tablespaces.contains(&tablespace.name) {
                list.extend(tablespace.statements());
            }
        }
        list
    }
}

impl Role {
    fn statements(&self) -> Vec<GlobalStatement> {
        let name = quote(&self.name);
        let flag = |on: bool, word: &str| {
            if on {
                word.to_owned()
            } else {
                format!("NO{word}")
            }
        };
        let mut sql = format!(
            "CREATE ROLE {name} WITH {} {} {} {} {} {} {} CONNECTION LIMIT {}",
            flag(self.superuser, "SUPERUSER"),
            flag(self.inherit, "INHERIT"),
            flag(self.create_role, "CREATEROLE"),
            flag(self.create_database, "CREATEDB"),
            flag(self.login, "LOGIN"),
            flag(self.replication, "REPLICATION"),
            flag(self.bypass_rls, "BYPASSRLS"),
            self.connection_limit
        );
        if let Some(password) = &self.password {
            sql += &format!(" PASSWORD {}", literal(password));
        }
        if let Some(until) = &self.valid_until {
            sql += &format!(" VALID UNTIL {}", literal(until));
        }
        let mut list = vec![sql];
        if let Some(comment) = &self.comment {
            list.push(format!("COMMENT ON ROLE {name} IS {}", literal(comment)));
        }
        for setting in &self.settings {
            list.push(format!("ALTER ROLE {name} SET {}", setting.assignment()));
        }
        named(&format!("role {}", self.name.escape_debug()), list)
    }
}

impl Membership {
    fn statement(&self, server_major: u32) -> GlobalStatement {
        let mut options = Vec::new();
        if self.admin {
            options.push("ADMIN OPTION".to_owned());
        }
        if server_major >= 16 {
            let flag =
                |name: &str, on: bool| format!("{name} {}", if on { "TRUE" } else { "FALSE" });
            options = vec![flag("ADMIN", self.admin)];
            options.extend(self.inherit.map(|on| flag("INHERIT", on)));
            options.extend(self.set.map(|on| flag("SET", on)));
        }
        let with = if options.is_empty() {
            String::new()
        } else {
            format!(" WITH {}", options.join(", "))
        };
        GlobalStatement {
            name: format!(
                "membership of {} in {}",
                self.member.escape_debug(),
                self.group.escape_debug()
            ),
            sql: format!(
                "GRANT {} TO {}{with}",
                quote(&self.group),
                quote(&self.member)
            ),
        }
    }
}

impl Tablespace {
    fn statements(&self) -> Vec<GlobalStatement> {
        let name = quote(&self.name);
        let mut list = vec![format!(
            "CREATE TABLESPACE {name} OWNER {} LOCATION {}",
            quote(&self.owner),
            literal(&self.location)
        )];
        for option in &self.options {
            list.push(format!(
                "ALTER TABLESPACE {name} SET ({} = {})",
                quote(&option.name),
                literal(&option.value)
            ));
        }
        if let Some(rights) = &self.grants {
            let owner = Some(self.owner.as_str());
            list.extend(grants(&format!("TABLESPACE {name}"), owner, rights));
        }
        if let Some(comment) = &self.comment {
            list.push(format!(
                "COMMENT ON TABLESPACE {name} IS {}",
                literal(comment)
            ));
        }
        named(&format!("tablespace {}", self.name.escape_debug()), list)
    }
}

impl DatabaseFacts {
    /// The statement that makes an empty database of another name with the same locale. It lets nobody in but superusers and its
    /// owner, and belongs to the role that restores.
    pub(crate) fn create(&self, name: &str, server_major: u32, tablespace: Option<&str>) -> String {
        let locale = &self.locale;
        let mut sql = format!(
            "CREATE DATABASE {} WITH TEMPLATE = template0 ENCODING = {} LC_COLLATE = {} LC_CTYPE = {}",
            quote(name),
            literal(&locale.encoding),
            literal(&locale.collate),
            literal(&locale.ctype)
        );
        if server_major >= 15 {
            let provider = match locale.provider {
                'i' => "icu",
                'b' => "builtin",
                _ => "libc",
            };
            sql += &format!(" LOCALE_PROVIDER = {provider}");
            if let (Some(own), true) = (&locale.locale, locale.provider == 'i') {
                sql += &format!(" ICU_LOCALE = {}", literal(own));
            }
            if let (Some(own), true) = (&locale.locale, locale.provider == 'b') {
                sql += &format!(" BUILTIN_LOCALE = {}", literal(own));
            }
            if let (Some(rules), true) = (&locale.icu_rules, server_major >= 16) {
                sql += &format!(" ICU_RULES = {}", literal(rules));
            }
        }
        if let Some(tablespace) = tablespace {
            sql += &format!(" TABLESPACE = {}", quote(tablespace));
        }
        sql
    }

    /// Whatever else the database had, to be run in any database of the server. Roles that do not exist are left out.
    pub(crate) fn settings_statements(
        &self,
        name: &str,
        roles: &BTreeSet<String>,
        rights: bool,
        owners: bool,
    ) -> Vec<GlobalStatement> {
        let quoted = quote(name);
        let mut list = Vec::new();
        let owner_known = owners && roles.contains(&self.owner);
        if owner_known {
            list.push(format!(
                "ALTER DATABASE {quoted} OWNER TO {}",
                quote(&self.owner)
            ));
        }
        for (role, setting) in &self.settings {
            match role {
                None => list.push(format!(
                    "ALTER DATABASE {quoted} SET {}",
                    setting.assignment()
                )),
                Some(role) if roles.contains(role) => list.push(format!(
                    "ALTER ROLE {} IN DATABASE {quoted} SET {}",
                    quote(role),
                    setting.assignment()
                )),
                Some(_) => {}
            }
        }
        match &self.grants {
            Some(given) if rights => {
                let owner = owner_known.then_some(self.owner.as_str());
                let mut known = of_roles(given, roles);
                // What it had as the owner is not granted to one that is not.
                known.retain(|it| owner_known || it.grantee.as_ref() != Some(&self.owner));
                list.extend(grants(&format!("DATABASE {quoted}"), owner, &known));
            }
            _ => list.push(format!(
                "GRANT CONNECT, TEMPORARY ON DATABASE {quoted} TO PUBLIC"
            )),
        }
        if let Some(comment) = &self.comment {
            list.push(format!(
                "COMMENT ON DATABASE {quoted} IS {}",
                literal(comment)
            ));
        }
        list.push(format!(
            "ALTER DATABASE {quoted} WITH CONNECTION LIMIT {} IS_TEMPLATE {} ALLOW_CONNECTIONS {}",
            self.connection_limit, self.is_template, self.allow_connections
        ));
        named(&format!("database {}", self.name.escape_debug()), list)
    }
}

fn named(name: &str, sql: Vec<String>) -> Vec<GlobalStatement> {
    sql.into_iter()
        .map(|sql| GlobalStatement {
            name: name.to_owned(),
            sql,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_are_split_as_the_server_keeps_them() {
        let setting = |name: &str, value: &str| {
            Setting {
                name: name.to_owned(),
                value: value.to_owned(),
            }
            .assignment()
        };
        assert_eq!(
            setting("search_path", "\"$user\", public, \"a\"\"b, c\""),
            "\"search_path\" TO '$user', 'public', 'a\"b, c'"
        );
        assert_eq!(setting("search_path", "\"\""), "\"search_path\" TO ''");
        assert_eq!(setting("search_path", ""), "\"search_path\" TO ''");
        assert_eq!(
            setting("plpgsql.extra_errors", "all"),
            "\"plpgsql\".\"extra_errors\" TO 'all'"
        );
        assert_eq!(
            setting("TimeZone", "Europe/Berlin"),
            "\"TimeZone\" TO 'Europe/Berlin'"
        );
    }

    #[test]
    fn a_database_without_its_owner_is_as_closed_as_it_was() {
        let grant = |grantee: Option<&str>, right: &str| Grant {
            grantee: grantee.map(str::to_owned),
            right: right.to_owned(),
            grantable: false,
        };
        let facts = DatabaseFacts {
            name: "d".to_owned(),
            owner: "gone".to_owned(),
            locale: crate::globals::LocaleFacts {
                encoding: "UTF8".to_owned(),
                collate: "C".to_owned(),
                ctype: "C".to_owned(),
                provider: 'c',
                locale: None,
                icu_rules: None,
                version: None,
            },
            tablespace: "pg_default".to_owned(),
            allow_connections: true,
            connection_limit: -1,
            is_template: false,
            comment: None,
            grants: Some(vec![
                grant(Some("gone"), "CREATE"),
                grant(Some("here"), "CONNECT"),
            ]),
            settings: Vec::new(),
            search_path: String::new(),
            has_public: true,
            extensions: Vec::new(),
            server_major: 15,
        };
        let of = |roles: &[&str], owners: bool| {
            let roles = roles.iter().map(|name| (*name).to_owned()).collect();
            let statements = facts.settings_statements("x", &roles, true, owners);
            let sql = statements.into_iter().map(|it| it.sql);
            let rights = sql.filter(|sql| sql.contains(" ON DATABASE "));
            rights.collect::<Vec<_>>()
        };
        let closed = "REVOKE ALL ON DATABASE \"x\" FROM PUBLIC";
        let here = "GRANT CONNECT ON DATABASE \"x\" TO \"here\"";
        assert_eq!(of(&["here"], true), [closed, here]);
        assert_eq!(of(&["gone", "here"], false), [closed, here]);
        let own = "REVOKE ALL ON DATABASE \"x\" FROM \"gone\"";
        let create = "GRANT CREATE ON DATABASE \"x\" TO \"gone\"";
        assert_eq!(of(&["gone", "here"], true), [closed, own, create, here]);
    }

    #[test]
    fn only_what_is_missing_is_made() {
        let role = |name: &str| Role {
            name: name.to_owned(),
            superuser: false,
            inherit: true,
            create_role: false,
            create_database: false,
            login: true,
            replication: false,
            bypass_rls: false,
            connection_limit: -1,
            password: Some("SCRAM-SHA-256$x".to_owned()),
            valid_until: None,
            comment: None,
            settings: Vec::new(),
        };
        let globals = Globals {
            roles: vec![role("new"), role("old")],
            memberships: vec![Membership {
                group: "old".to_owned(),
                member: "new".to_owned(),
                admin: true,
                inherit: None,
                set: Some(false),
            }],
            ..Globals::default()
        };
        let statements = globals.statements(&["old".to_owned()].into(), &BTreeSet::new(), 16);
        let [create, grant] = statements.as_slice() else {
            panic!("two statements expected");
        };
        assert!(
            create
                .sql
                .starts_with("CREATE ROLE \"new\" WITH NOSUPERUSER INHERIT")
        );
        assert_eq!(
            grant.sql,
            "GRANT \"old\" TO \"new\" WITH ADMIN TRUE, SET FALSE"
        );
        assert!(!format!("{globals:?}").contains("SCRAM"));
    }
}
