//! BACKUP, RESTORE, VERIFY, EXPIRE, SHOW BACKUP(S), ALTER BACKUP.

use super::{Parsed, Parser};
use crate::error::SqlError;
use crate::syntax::ast::{
    AlterBackup, Backup, BackupDetail, Expire, Into, Restore, ShowBackup, ShowBackups, Statement,
    TablePattern, Targets, Verify,
};
use crate::syntax::expression::Str;
use crate::syntax::options;
use crate::syntax::token::TokenKind;

/// Who may be restored, and what can be named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    Backup,
    Restore,
}

impl Parser<'_> {
    pub(super) fn backup(&mut self) -> Parsed<Statement> {
        let targets = self.targets(Naming::Backup, &["INTO", "OF", "TO"])?;
        let source = self.of_source()?;
        if self.peek_is(0, "TO") {
            return Err(self.removed(
                "BACKUP … TO was removed",
                "write BACKUP … INTO 'collection' for a full, and BACKUP … INTO LATEST IN 'collection' for an incremental",
            ));
        }
        self.expect("INTO")?;
        let (into, collection) = self.destination()?;
        let as_of = self.as_of()?;
        if self.peek_is(0, "INCREMENTAL") {
            return Err(self.removed(
                "BACKUP … INCREMENTAL FROM was removed",
                "write BACKUP … INTO LATEST IN 'collection' for an incremental",
            ));
        }
        let options = self.with_options(&options::BACKUP)?;
        Ok(Statement::Backup(Backup {
            targets,
            source,
            into,
            collection,
            as_of,
            options,
        }))
    }

    /// An old form: understood, and not done.
    fn removed(&self, what: &str, instead: &str) -> SqlError {
        self.point(SqlError::meaningless(what).hint(instead))
    }

    fn destination(&mut self) -> Parsed<(Into, Vec<Str>)> {
        if self.peek_is(0, "LATEST") && self.peek_is(1, "IN") {
            self.expect("LATEST IN")?;
            return Ok((Into::Latest, self.uris()?));
        }
        let start = self.at;
        let mut uris = self.uris()?;
        if !self.word("IN") {
            return Ok((Into::Full, uris));
        }
        match (uris.pop(), uris.is_empty()) {
            (Some(subdir), true) => Ok((Into::Subdir(subdir), self.uris()?)),
            _ => Err(self.point_at(
                SqlError::syntax("several directories before IN: an incremental goes to one chain"),
                start,
            )),
        }
    }

    /// What is backed up: nothing before one of these words means everything.
    pub(super) fn backup_targets(&mut self) -> Parsed<Targets> {
        self.targets(Naming::Backup, &["INTO", "OF"])
    }

    fn targets(&mut self, naming: Naming, ends: &[&str]) -> Parsed<Targets> {
        for end in ends {
            self.expecting(end);
        }
        if ends.iter().any(|end| self.peek_is(0, end)) {
            return Ok(Targets::All);
        }
        if self.word("DATABASE") {
            let names = self.list(|parser| parser.name("the name of a database"))?;
            return Ok(Targets::Databases(names));
        }
        if naming == Naming::Restore && self.peek_is(0, "SYSTEM") {
            self.expect("SYSTEM USERS")?;
            return Ok(Targets::SystemUsers);
        }
        let is_tenant = self.peek_is(0, "TENANT") && !self.peek_is(1, "INTO");
        if is_tenant || self.peek_is(0, "VIRTUAL") {
            return Err(self.removed(
                "there are no virtual clusters here",
                "back up a source as a whole, its databases or its tables",
            ));
        }
        self.word("TABLE");
        let tables = self.list(|parser| parser.table_pattern(naming))?;
        Ok(Targets::Tables(tables))
    }

    fn table_pattern(&mut self, naming: Naming) -> Parsed<TablePattern> {
        let mut pattern = TablePattern {
            parts: Vec::new(),
            is_all: false,
            rename: None,
        };
        loop {
            if self.symbol("*") {
                pattern.is_all = true;
                break;
            }
            let start = self.at;
            pattern.parts.push(self.name("the name of a table")?);
            if pattern.parts.len() > 3 || !self.symbol(".") {
                if pattern.parts.len() > 3 {
                    let error =
                        SqlError::syntax("a table has at most three names: database.schema.table");
                    return Err(self.point_at(error, start));
                }
                break;
            }
        }
        if pattern.is_all && pattern.parts.len() > 2 {
            return Err(self.point(SqlError::syntax(
                "a pattern has at most two names before the asterisk: database.schema.*",
            )));
        }
        // `AS OF SYSTEM TIME` is no new name: OF is reserved.
        if naming == Naming::Restore && self.peek_is(0, "AS") && !self.peek_is(1, "OF") {
            let start = self.at;
            self.expect("AS")?;
            pattern.rename = Some(self.name("a new name of the table")?);
            if pattern.is_all {
                let error = SqlError::syntax(
                    "a pattern stands for many tables, which cannot all get one name",
                );
                return Err(self.point_at(error, start));
            }
        }
        Ok(pattern)
    }

    pub(super) fn restore(&mut self) -> Parsed<Statement> {
        let targets = self.targets(Naming::Restore, &["FROM", "OF"])?;
        let earlier = self.of_source()?;
        self.expect("FROM")?;
        let start = self.at;
        let subdir = self.subdir(
            "RESTORE … FROM 'uri' was removed",
            "write RESTORE … FROM LATEST IN 'collection', or FROM 'subdirectory' IN 'collection'",
        )?;
        debug_assert!(self.at > start, "a directory was read");
        let collection = self.uris()?;
        let as_of = self.as_of()?;
        let later_at = self.at;
        let later = match self.phrase("INTO", "SOURCE")? {
            true => Some(self.name("the name of a source")?),
            false => None,
        };
        let source = match (earlier, later) {
            (Some(_), Some(_)) => {
                let error = SqlError::syntax("the source that is restored to is named twice");
                return Err(self.point_at(error, later_at));
            }
            (one, other) => one.or(other),
        };
        let options = self.with_options(&options::RESTORE)?;
        Ok(Statement::Restore(Restore {
            targets,
            subdir,
            collection,
            as_of,
            source,
            options,
        }))
    }

    /// `'subdirectory' IN`. Without IN it is what the model system no longer reads either.
    fn subdir(&mut self, removed: &str, instead: &str) -> Parsed<Str> {
        let start = self.at;
        let old_form = |parser: &Self| {
            let error = SqlError::meaningless(removed).hint(instead);
            Err(parser.point_at(error, start))
        };
        if matches!(self.peek(), TokenKind::Symbol("(")) {
            return old_form(self);
        }
        let subdir = self.text("a subdirectory, or LATEST")?;
        if self.word("IN") {
            return Ok(latest_is_one(subdir));
        }
        let is_uri = match &subdir {
            Str::Literal(text) => text.contains("://"),
            Str::Placeholder(_) => false,
        };
        if is_uri {
            return old_form(self);
        }
        Err(self.unexpected())
    }

    pub(super) fn verify(&mut self) -> Parsed<Statement> {
        self.expect("BACKUP")?;
        self.word("FROM");
        let subdir = self.subdir(
            "a collection is named by IN",
            "write VERIFY BACKUP FROM LATEST IN 'collection'",
        )?;
        let collection = self.uris()?;
        let layer = match self.word("LAYER") {
            true => Some(self.text("the end of a layer")?),
            false => None,
        };
        let options = self.with_options(&options::VERIFY)?;
        Ok(Statement::Verify(Verify {
            subdir,
            collection,
            layer,
            options,
        }))
    }

    pub(super) fn expire(&mut self) -> Parsed<Statement> {
        self.expect("BACKUPS")?;
        if !self.word("FROM") {
            self.expect("IN")?;
        }
        let collection = self.uris()?;
        let (mut older_than, mut keep_fulls) = (None, None);
        loop {
            let start = self.at;
            let (is_twice, name) = if self.phrase("OLDER", "THAN")? {
                let age = self.text("an age such as '30d', or a time")?;
                (older_than.replace(age).is_some(), "OLDER THAN")
            } else if self.phrase("KEEP", "LAST")? {
                let count = self.operand()?;
                self.expect("FULLS")?;
                (keep_fulls.replace(count).is_some(), "KEEP LAST")
            } else {
                break;
            };
            if is_twice {
                let error = SqlError::syntax(format!("{name} specified multiple times"));
                return Err(self.point_at(error, start));
            }
        }
        if older_than.is_none() && keep_fulls.is_none() {
            return Err(self.unexpected());
        }
        let is_dry_run = self.phrase("DRY", "RUN")?;
        let options = self.with_options(&options::EXPIRE)?;
        Ok(Statement::Expire(Expire {
            collection,
            older_than,
            keep_fulls,
            is_dry_run,
            options,
        }))
    }

    /// What follows SHOW BACKUPS.
    pub(super) fn show_backups(&mut self) -> Parsed<Statement> {
        self.expect("IN")?;
        let collection = self.uris()?;
        let (mut newer_than, mut older_than) = (None, None);
        loop {
            let start = self.at;
            let (which, name) = if self.phrase("NEWER", "THAN")? {
                (&mut newer_than, "NEWER THAN")
            } else if self.phrase("OLDER", "THAN")? {
                (&mut older_than, "OLDER THAN")
            } else {
                break;
            };
            if which.is_some() {
                let error = SqlError::syntax(format!("{name} specified multiple times"));
                return Err(self.point_at(error, start));
            }
            *which = Some(self.operand()?);
        }
        let has_revision_start = self.word("WITH");
        if has_revision_start {
            let is_closed = self.word("OPTIONS");
            if is_closed {
                self.expect_symbol("(")?;
            }
            self.expect("REVISION START TIME")?;
            if is_closed {
                self.expect_symbol(")")?;
            }
        }
        Ok(Statement::ShowBackups(ShowBackups {
            collection,
            newer_than,
            older_than,
            has_revision_start,
        }))
    }

    /// What follows SHOW BACKUP.
    pub(super) fn show_backup(&mut self) -> Parsed<Statement> {
        if self.peek_is(0, "CONNECTION") && !self.peek_is(1, "IN") {
            return Err(self.removed(
                "SHOW BACKUP CONNECTION was removed",
                "write CHECK EXTERNAL CONNECTION 'name'",
            ));
        }
        let details = [
            ("SCHEMAS", BackupDetail::Schemas),
            ("FILES", BackupDetail::Files),
            ("RANGES", BackupDetail::Ranges),
            ("VALIDATE", BackupDetail::Validate),
        ];
        let mut detail = BackupDetail::Contents;
        let mut is_removed = false;
        for (word, named) in details {
            // Otherwise the word is a subdirectory: `SHOW BACKUP files IN …`.
            if self.peek_is(0, word) && !self.peek_is(1, "IN") {
                self.advance();
                detail = named;
                is_removed = !self.peek_is(0, "FROM");
            } else {
                self.expecting(word);
            }
        }
        if is_removed {
            return Err(self.removed(
                "SHOW BACKUP … without IN was removed",
                "write SHOW BACKUP FROM LATEST IN 'collection'",
            ));
        }
        self.word("FROM");
        let subdir = self.subdir(
            "SHOW BACKUP 'uri' was removed",
            "write SHOW BACKUP FROM LATEST IN 'collection', or SHOW BACKUPS IN 'collection'",
        )?;
        let collection = self.uris()?;
        let options = self.with_options(&options::SHOW_BACKUP)?;
        Ok(Statement::ShowBackup(ShowBackup {
            detail,
            subdir,
            collection,
            options,
        }))
    }

    /// What follows ALTER BACKUP.
    pub(super) fn alter_backup(&mut self) -> Parsed<Statement> {
        let subdir = latest_is_one(self.text("a subdirectory, or LATEST")?);
        let collection = match self.word("IN") {
            true => Some(self.text("a URI")?),
            false => None,
        };
        self.expect("ADD NEW_KMS")?;
        self.expect_symbol("=")?;
        let new_kms = self.uris()?;
        self.expect("WITH OLD_KMS")?;
        self.expect_symbol("=")?;
        let old_kms = self.uris()?;
        Ok(Statement::AlterBackup(AlterBackup {
            subdir,
            collection,
            new_kms,
            old_kms,
        }))
    }
}

/// `LATEST` is one word however it is written.
fn latest_is_one(subdir: Str) -> Str {
    match subdir {
        Str::Literal(text) if text.eq_ignore_ascii_case("latest") => {
            Str::Literal("latest".to_owned())
        }
        other => other,
    }
}
