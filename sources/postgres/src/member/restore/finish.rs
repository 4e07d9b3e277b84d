//! Builds what comes after the rows, compares what was loaded, and publishes.

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use holdfast_source::{Inlet, LoadProgress, LoggedRestore};
use holdfast_types::{ByteCount, Fault, KeyRange, RowCount, RowSum};
use std::collections::BTreeSet;

use super::begin::{Definitions, is_bare};
use super::compare::compare;
use super::load::parts_of;
use super::plan::{DatabasePlan, Into};
use super::{Destination, LANES, Restorer, Sums, Told};
use crate::fingerprint::fingerprint;
use crate::layout::Oid;
use crate::member::catalog::from_json;
use crate::restore::{DatabaseRestore, Progress, TableRestore, TargetFacts};
use crate::schema::Kind;
use crate::sequences::{self, SequenceValue, SetTo};
use crate::session::{Purpose, Session};

/// The mark that what the target holds was compared. From then on more than rows is made.
const COMPARED: &str = "phase/compared";

/// Rows that a finish loads anew are reported by nobody.
struct Unreported;

#[async_trait]
impl LoadProgress for Unreported {
    async fn advance(
        &mut self,
        _upto: Option<Bytes>,
        _read: ByteCount,
        _written: ByteCount,
        _rows: RowCount,
    ) -> Result<(), Fault> {
        Ok(())
    }
}

impl Restorer {
    /// See [`holdfast_source::LoggedSource::finish_restore`]. Databases are finished one after the other, and then all are published.
    ///
    /// # Errors
    /// `Corrupted` if other rows were loaded than the backup counted; what the server or the inlet says.
    pub async fn finish(
        &self,
        restore: &LoggedRestore,
        inlet: &dyn Inlet,
    ) -> Result<RowSum, Fault> {
        let plan = self.plan(restore, inlet).await?;
        let offers = TargetFacts::read(&self.target.maintenance().await?).await?;
        let mut total = RowSum::default();
        let mut finished = Vec::new();
        for database in &plan.databases {
            let definitions = self.definitions(restore, database, &offers, None, inlet);
            let definitions = definitions.await?;
            if is_bare(restore, database, &definitions.archive) {
                continue;
            }
            let sum = match self.destination(restore, database)? {
                Destination::New(new) => {
                    self.finish_new(restore, database, &definitions, &new, inlet)
                        .boxed()
                        .await?
                }
                Destination::Existing(tables) => {
                    self.finish_tables(restore, database, &tables, inlet)
                        .boxed()
                        .await?
                }
            };
            total.merge(&sum);
            finished.push(database);
        }
        restore.steps.begin("publishing", 0, 0);
        for database in finished {
            match self.destination(restore, database)? {
                Destination::New(new) => {
                    new.publish(restore.options.grants, restore.options.owners)
                        .await?
                }
                Destination::Existing(tables) => tables.publish().await?,
            }
        }
        restore.steps.clear();
        self.forget(restore.job);
        Ok(total)
    }

    async fn finish_new(
        &self,
        restore: &LoggedRestore,
        database: &DatabasePlan,
        definitions: &Definitions,
        new: &DatabaseRestore,
        inlet: &dyn Inlet,
    ) -> Result<RowSum, Fault> {
        let maintenance = self.target.maintenance().await?;
        if !self.target.has_database(&maintenance, new.hidden()).await? {
            // Published by a call that did not come to its end; or gone, which publishing will say.
            return match self
                .target
                .has_database(&maintenance, &database.name)
                .await?
            {
                true => self.read_back(restore, database, &database.name).await,
                false => Ok(RowSum::default()),
            };
        }
        drop(maintenance);
        let session = new.session().await?;
        if !new.marks().exist(&session).await? {
            drop(session);
            return self.read_back(restore, database, new.hidden()).await;
        }
        let mut sum = RowSum::default();
        let plan = definitions.plan();
        let is_whole = matches!(database.into, Into::New(None));
        if restore.options.reads_rows() {
            sum = self
                .settle_rows(restore, database, new.marks(), &session, inlet)
                .await?;
            if is_whole {
                let roles = &definitions.roles;
                self.large_objects(restore, database, roles, new.marks(), &session, inlet)
                    .await?;
            }
        }
        let told = Told::of(restore, &database.name);
        new.indexes(&plan, LANES, &told).await?;
        if !restore.options.schema_only {
            let mut values = sequence_values(database, inlet).await?;
            if !is_whole {
                let made: BTreeSet<Oid> = definitions
                    .subset
                    .entries
                    .iter()
                    .filter(|entry| entry.kind() == Kind::Sequence)
                    .map(|entry| entry.oid)
                    .collect();
                values.retain(|value| made.contains(&value.oid));
            }
            // Inside a layer the values of its end are never behind, unless a truncation after the instant began them anew.
            let to = match database.upto {
                None => SetTo::Captured,
                Some(_) => SetTo::AtLeastColumn,
            };
            sequences::restore(&session, &values, to).await?;
        }
        new.after(&plan, LANES, &told).await?;
        let views = match (restore.options.schema_only, is_whole) {
            (false, true) => database.newest()?.catalog.matviews.clone(),
            _ => Vec::new(),
        };
        new.fill(&plan, &views, LANES, &told).await?;
        drop(session);
        new.finish(&plan).await?;
        Ok(sum)
    }

    async fn finish_tables(
        &self,
        restore: &LoggedRestore,
        database: &DatabasePlan,
        tables: &TableRestore,
        inlet: &dyn Inlet,
    ) -> Result<RowSum, Fault> {
        let session = tables.session().await?;
        if !tables.marks().exist(&session).await? {
            drop(session);
            // Published, or gone: publishing tells.
            tables.publish().await?;
            return self.read_back(restore, database, &database.name).await;
        }
        let mut sum = RowSum::default();
        if restore.options.reads_rows() {
            sum = self
                .settle_rows(restore, database, tables.marks(), &session, inlet)
                .await?;
        }
        if !restore.options.schema_only {
            tables
                .sequences(&sequence_values(database, inlet).await?)
                .await?;
        }
        drop(session);
        let told = Told::of(restore, &database.name);
        tables.finish(LANES, &told).await?;
        Ok(sum)
    }

    /// Sees to it that every part was loaded (a crash of the server empties unlogged tables), compares the sums with the backup's, and what the
    /// target holds with the sums.
    async fn settle_rows(
        &self,
        restore: &LoggedRestore,
        database: &DatabasePlan,
        marks: &crate::restore::Marks,
        session: &Session,
        inlet: &dyn Inlet,
    ) -> Result<RowSum, Fault> {
        let done = marks.with_prefix(session, "part/").await?;
        let mut is_compared = !marks.with_prefix(session, COMPARED).await?.is_empty();
        for relation in &database.relations {
            let parts = parts_of(database, relation, inlet).await?;
            if !parts
                .iter()
                .all(|part| done.contains(&format!("part/{part}")))
            {
                is_compared = false;
                let all = KeyRange::all();
                self.load_range(restore, database, relation, &all, inlet, &mut Unreported)
                    .await?;
            }
        }
        let mut sums = Sums::new();
        for (part, note) in marks.part_notes(session).await? {
            let oid = part.split('/').next().and_then(|oid| oid.parse().ok());
            let oid = oid.ok_or_else(|| super::plan::broken("the notes of parts are damaged"))?;
            let sum: RowSum = from_json(note.as_bytes())?;
            sums.entry(Oid(oid)).or_default().merge(&sum);
        }
        let mut total = RowSum::default();
        for relation in &database.relations {
            let loaded = sums.get(&relation.layout.oid).copied().unwrap_or_default();
            compare(database, relation, &loaded)?;
            total.merge(&loaded);
        }
        if !is_compared && !restore.options.schema_only {
            let told = Told::of(restore, &database.name);
            let tables = database.relations.len();
            told.phase("comparing the rows", tables, total.bytes.0);
            let destination = self.destination(restore, database)?;
            self.compare_held(database, &destination, &sums, &told)
                .await?;
            let phase = COMPARED.trim_start_matches("phase/");
            marks.flush(session, phase).await?;
        }
        Ok(total)
    }

    /// Reads what was restored by a call that did not come to its end.
    async fn read_back(
        &self,
        restore: &LoggedRestore,
        database: &DatabasePlan,
        place: &str,
    ) -> Result<RowSum, Fault> {
        let mut total = RowSum::default();
        if restore.options.schema_only {
            return Ok(total);
        }
        let dsn = self.target.dsn().with_database(place);
        let session = Session::connect(self.env(), &dsn, Purpose::Data).await?;
        for relation in &database.relations {
            let layout = &relation.layout;
            let (mut schema, mut table) = (&layout.schema, &layout.name);
            if let Into::Existing(tables) = &database.into
                && let Some(staged) = tables.iter().find(|staged| staged.oid == layout.oid)
            {
                (schema, table) = (&staged.to_schema, &staged.to_name);
            }
            total.merge(&fingerprint(&session, layout, schema, table, None).await?);
        }
        Ok(total)
    }
}

async fn sequence_values(
    database: &DatabasePlan,
    inlet: &dyn Inlet,
) -> Result<Vec<SequenceValue>, Fault> {
    let newest = database.newest()?;
    let bytes = inlet.blob(newest.layer, &newest.catalog.sequences).await?;
    from_json(&bytes)
}
