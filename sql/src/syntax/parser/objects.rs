//! CREATE, ALTER, DROP, CHECK and SHOW of what a cluster knows: connections, sources, users, settings.

use super::{Parsed, Parser};
use crate::syntax::ast::{
    AlterConnection, AlterSource, CreateConnection, CreateSource, Member, Statement, User,
};
use crate::syntax::options;
use crate::syntax::token::TokenKind;

impl Parser<'_> {
    /// What follows CREATE.
    pub(super) fn create(&mut self) -> Parsed<Statement> {
        match () {
            () if self.word("SCHEDULE") => self.create_schedule(),
            () if self.phrase("EXTERNAL", "CONNECTION")? => {
                let if_not_exists = self.phrase("IF", "NOT EXISTS")?;
                let name = self.text("the name of a connection")?;
                self.expect("AS")?;
                let uri = self.text("a URI")?;
                Ok(Statement::CreateConnection(CreateConnection {
                    if_not_exists,
                    name,
                    uri,
                }))
            }
            () if self.word("SOURCE") => self.create_source(),
            () if self.word("USER") || self.word("ROLE") => {
                let if_not_exists = self.phrase("IF", "NOT EXISTS")?;
                let name = self.name("the name of a user")?;
                let password = self.password()?;
                Ok(Statement::CreateUser(User {
                    name,
                    if_not_exists,
                    password,
                }))
            }
            () => Err(self.unexpected()),
        }
    }

    /// `[WITH] PASSWORD 'x'`
    fn password(&mut self) -> Parsed<Option<super::super::expression::Str>> {
        let has_with = self.word("WITH");
        if self.word("PASSWORD") {
            return self.text("a password").map(Some);
        }
        match has_with {
            true => Err(self.unexpected()),
            false => Ok(None),
        }
    }

    fn create_source(&mut self) -> Parsed<Statement> {
        let if_not_exists = self.phrase("IF", "NOT EXISTS")?;
        let name = self.name("the name of a source")?;
        let kind = match self.word("KIND") {
            true => Some(self.name("mvcc or postgres")?),
            false => None,
        };
        let members = self.members(&name)?;
        Ok(Statement::CreateSource(CreateSource {
            if_not_exists,
            name,
            kind,
            members,
        }))
    }

    /// `AS 'address'`, whose only member has the source's name, or `MEMBERS (m1 AT 'address', …)`.
    fn members(&mut self, source: &str) -> Parsed<Vec<Member>> {
        if self.word("AS") {
            let address = self.text("an address")?;
            let options = self.with_options(&options::MEMBER)?;
            return Ok(vec![Member {
                name: source.to_owned(),
                address,
                options,
            }]);
        }
        self.expect("MEMBERS")?;
        self.expect_symbol("(")?;
        let members = self.list(Self::member)?;
        self.expect_symbol(")")?;
        Ok(members)
    }

    fn member(&mut self) -> Parsed<Member> {
        let name = self.name("the name of a member")?;
        self.expect("AT")?;
        let address = self.text("an address")?;
        let options = self.with_closed_options(&options::MEMBER)?;
        Ok(Member {
            name,
            address,
            options,
        })
    }

    /// What follows ALTER.
    pub(super) fn alter(&mut self) -> Parsed<Statement> {
        match () {
            () if self.word("BACKUP") => {
                let is_schedule = self.peek_is(0, "SCHEDULE")
                    && matches!(self.token(1).kind, TokenKind::Number(_));
                if is_schedule {
                    self.advance();
                    return self.alter_schedule();
                }
                self.alter_backup()
            }
            () if self.word("JOB") => {
                let job = self.operand()?;
                self.expect("OWNER TO")?;
                let owner = self.name("the name of a user")?;
                Ok(Statement::AlterJobOwner { job, owner })
            }
            () if self.phrase("EXTERNAL", "CONNECTION")? => {
                let if_exists = self.phrase("IF", "EXISTS")?;
                let name = self.text("the name of a connection")?;
                self.expect("AS")?;
                let uri = self.text("a URI")?;
                Ok(Statement::AlterConnection(AlterConnection {
                    if_exists,
                    name,
                    uri,
                }))
            }
            () if self.word("SOURCE") => {
                let name = self.name("the name of a source")?;
                self.word("SET");
                let members = self.members(&name)?;
                Ok(Statement::AlterSource(AlterSource { name, members }))
            }
            () if self.word("USER") || self.word("ROLE") => {
                let name = self.name("the name of a user")?;
                match self.password()? {
                    Some(password) => Ok(Statement::AlterUser(User {
                        name,
                        if_not_exists: false,
                        password: Some(password),
                    })),
                    None => Err(self.unexpected()),
                }
            }
            () => Err(self.unexpected()),
        }
    }

    /// What follows DROP.
    pub(super) fn drop_object(&mut self) -> Parsed<Statement> {
        use crate::syntax::ast::ScheduleVerb;
        if let Some(statement) = self.control_schedules(ScheduleVerb::Drop)? {
            return Ok(statement);
        }
        match () {
            () if self.phrase("EXTERNAL", "CONNECTION")? => {
                let name = self.text("the name of a connection")?;
                Ok(Statement::DropConnection(name))
            }
            () if self.word("SOURCE") => {
                let if_exists = self.phrase("IF", "EXISTS")?;
                let name = self.name("the name of a source")?;
                Ok(Statement::DropSource { name, if_exists })
            }
            () if self.word("USER") || self.word("ROLE") => {
                let if_exists = self.phrase("IF", "EXISTS")?;
                let name = self.name("the name of a user")?;
                Ok(Statement::DropUser { name, if_exists })
            }
            () if self.word("HOLD") => self.operand().map(Statement::DropHold),
            () => Err(self.unexpected()),
        }
    }

    /// What follows CHECK.
    pub(super) fn check(&mut self) -> Parsed<Statement> {
        if self.phrase("EXTERNAL", "CONNECTION")? {
            let name = self.text("the name of a connection")?;
            let options = self.with_options(&options::CHECK_CONNECTION)?;
            return Ok(Statement::CheckConnection { name, options });
        }
        self.expect("SOURCE")?;
        let name = self.name("the name of a source")?;
        let mut members = Vec::new();
        if self.word("MEMBERS") {
            self.expect_symbol("(")?;
            members = self.list(|parser| parser.name("the name of a member"))?;
            self.expect_symbol(")")?;
        }
        Ok(Statement::CheckSource { name, members })
    }

    /// The SHOW of everything that is no backup, job or schedule.
    pub(super) fn show_object(&mut self) -> Parsed<Statement> {
        if self.word("CREATE") {
            return self.show_create();
        }
        if self.word("EXTERNAL") {
            if self.word("CONNECTIONS") {
                return Ok(Statement::ShowConnections(None));
            }
            self.expect("CONNECTION")?;
            let name = self.text("the name of a connection")?;
            return Ok(Statement::ShowConnections(Some(name)));
        }
        if self.word("CLUSTER") {
            return self.show_cluster();
        }
        if self.word("SOURCE") {
            let name = self.name("the name of a source")?;
            return Ok(Statement::ShowSources(Some(name)));
        }
        let whole = [
            ("SOURCES", Statement::ShowSources(None)),
            ("WORKERS", Statement::ShowWorkers),
            ("COORDINATORS", Statement::ShowCoordinators),
            ("HOLDS", Statement::ShowHolds),
            ("USERS", Statement::ShowUsers),
        ];
        for (word, statement) in whole {
            if self.word(word) {
                return Ok(statement);
            }
        }
        self.show_variable()
    }

    fn show_create(&mut self) -> Parsed<Statement> {
        if self.word("ALL") {
            if self.word("SCHEDULES") {
                return Ok(Statement::ShowCreateSchedules(None));
            }
            self.expect("EXTERNAL CONNECTIONS")?;
            return Ok(Statement::ShowCreateConnections(None));
        }
        if self.word("SCHEDULE") {
            let id = self.operand()?;
            return Ok(Statement::ShowCreateSchedules(Some(id)));
        }
        if self.word("SOURCE") {
            let name = self.name("the name of a source")?;
            return Ok(Statement::ShowCreateSource(name));
        }
        self.expect("EXTERNAL CONNECTION")?;
        let name = self.text("the name of a connection")?;
        Ok(Statement::ShowCreateConnections(Some(name)))
    }

    fn show_cluster(&mut self) -> Parsed<Statement> {
        if self.word("SETTINGS") {
            return Ok(Statement::ShowClusterSettings(None));
        }
        if self.word("SETTING") {
            let name = self.setting_name()?;
            return Ok(Statement::ShowClusterSettings(Some(name)));
        }
        Ok(Statement::ShowCluster)
    }

    /// Names of settings may have dots.
    pub(super) fn setting_name(&mut self) -> Parsed<String> {
        let mut name = self.name("the name of a setting")?;
        while self.symbol(".") {
            name.push('.');
            name.push_str(&self.name("the name of a setting")?);
        }
        Ok(name)
    }
}
