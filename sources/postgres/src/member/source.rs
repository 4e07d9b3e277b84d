//! A PostgreSQL server as what the rest of Holdfast works with.

use async_trait::async_trait;
use holdfast_source::{
    HoldStanding, Inlet, LoadProgress, LoggedBackup, LoggedRelation, LoggedRestore, LoggedSource,
    MemberCheck, Outlet, SettledDatabase,
};
use holdfast_types::{Fault, HoldId, JobId, KeyRange, Position, Relation, RowSum};

use super::{PostgresMember, begin, check, holds, look, read, settle};

#[async_trait]
impl LoggedSource for PostgresMember {
    async fn check(&self) -> Result<MemberCheck, Fault> {
        check::check(self).await
    }

    async fn begin(&self, backup: &LoggedBackup) -> Result<Vec<LoggedRelation>, Fault> {
        begin::begin(self, backup).await
    }

    async fn read(
        &self,
        backup: &LoggedBackup,
        relation: &Relation,
        range: KeyRange,
        outlet: &mut dyn Outlet,
    ) -> Result<(), Fault> {
        read::read(self, backup, relation, range, outlet).await
    }

    async fn settle(
        &self,
        backup: &LoggedBackup,
        relation: &Relation,
        planned: &[Relation],
        outlet: &mut dyn Outlet,
    ) -> Result<SettledDatabase, Fault> {
        settle::settle(self, backup, relation, planned, outlet).await
    }

    async fn advance_hold(&self, hold: HoldId, to: Position) -> Result<(), Fault> {
        holds::advance(self, hold, to).await
    }

    async fn look_after_hold(&self, hold: HoldId) -> Result<Vec<HoldStanding>, Fault> {
        look::look_after(self, hold).await
    }

    async fn release(&self, hold: HoldId) -> Result<(), Fault> {
        holds::release(self, hold).await
    }

    async fn check_restore(
        &self,
        restore: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<MemberCheck, Fault> {
        self.restorer.check(restore, inlet).await
    }

    async fn begin_restore(
        &self,
        restore: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<Vec<LoggedRelation>, Fault> {
        self.restorer.begin(restore, inlet).await
    }

    async fn load(
        &self,
        restore: &LoggedRestore,
        relation: &Relation,
        range: KeyRange,
        inlet: &dyn Inlet,
        progress: &mut dyn LoadProgress,
    ) -> Result<(), Fault> {
        self.restorer
            .load(restore, relation, range, inlet, progress)
            .await
    }

    async fn finish_restore(
        &self,
        restore: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<RowSum, Fault> {
        self.restorer.finish(restore, inlet).await
    }

    async fn discard_restore(&self, job: JobId) -> Result<(), Fault> {
        self.restorer.discard(job).await
    }
}
