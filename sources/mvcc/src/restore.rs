//! Writing a backup back: tables that stay invisible until all of them are published by one commit.

use bytes::Bytes;
use holdfast_source::{Change, RestoreTable, Row};
use holdfast_types::{ErrorCode, Fault, Hlc, JobId, KeyRange, RowSum, TableName, Timestamp};

use crate::catalogue::Visibility;
use crate::commit::{Request, submit};
use crate::layout::ROWS;
use crate::mutation::check_row;
use crate::read::history_gone;
use crate::store::MvccStore;
use crate::walk::{SumSink, View, walk};

/// Bytes of rows that one commit of a load takes; larger loads are committed in several steps, which is as good, since loading again
/// changes nothing.
const LOAD_LENGTH: usize = 4 * 1024 * 1024;

/// Bytes that one step of a fingerprint looks at.
const FINGERPRINT_STEP: u64 = 32 * 1024 * 1024;

/// After everything.
const END_OF_TIME: Hlc = Hlc {
    wall: Timestamp::MAX,
    logical: u32::MAX,
};

/// One step of a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FingerprintStep {
    /// What the rows of this step add up to.
    pub sum: RowSum,
    /// Where to go on; `None` at the end.
    pub next: Option<Bytes>,
    /// As of when the rows were read; the next step takes it.
    pub at: Option<Hlc>,
}

impl MvccStore {
    /// Makes the tables of a restore; see [`holdfast_source::Source::prepare_restore`].
    ///
    /// # Errors
    /// A name is taken or illegal, or a database is missing.
    pub async fn prepare_restore(
        &self,
        job: JobId,
        tables: &[RestoreTable],
        into_existing: bool,
    ) -> Result<(), Fault> {
        let tables: Vec<(TableName, Vec<u8>)> = tables
            .iter()
            .map(|table| (table.name.clone(), table.relation.definition.clone()))
            .collect();
        self.exclusive(move |writer| {
            writer.change(|directory| directory.catalogue.prepare(job, &tables, into_existing))
        })
        .await
    }

    /// Writes rows of a prepared table; see [`holdfast_source::Source::load`].
    ///
    /// # Errors
    /// The table has not been prepared by this job; a row is out of bounds; the disk is full.
    pub async fn load(&self, job: JobId, table: &TableName, rows: Vec<Row>) -> Result<(), Fault> {
        for row in &rows {
            match &row.change {
                Change::Put(value) => check_row(table, &row.key, Some(value))?,
                Change::Delete => {
                    return Err(Fault::new(
                        ErrorCode::InvalidArgument,
                        format!("a deletion cannot be loaded into table \"{table}\""),
                    ));
                }
            }
        }
        let mut rows = rows.into_iter().peekable();
        // Also without rows: whether the table is there must be known.
        loop {
            let (mut part, mut length) = (Vec::new(), 0);
            while length < LOAD_LENGTH
                && let Some(row) = rows.next()
            {
                length += row.logical_len();
                part.push(row);
            }
            let request = Request::Load {
                job,
                table: table.clone(),
                rows: part,
            };
            submit(&self.inner, request, length).await?;
            if rows.peek().is_none() {
                return Ok(());
            }
        }
    }

    /// Makes all tables of a restore visible at one position; see [`holdfast_source::Source::publish`].
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn publish(&self, job: JobId) -> Result<(), Fault> {
        self.exclusive(move |writer| {
            let at = writer.tick();
            let mut probe = writer.shared.directory().catalogue.clone();
            if !probe.publish(job, at) {
                return Ok(());
            }
            writer.change(|directory| {
                directory.catalogue = probe;
                Ok(())
            })
        })
        .await
    }

    /// Undoes an unpublished restore; see [`holdfast_source::Source::discard_restore`].
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn discard_restore(&self, job: JobId) -> Result<(), Fault> {
        while self.discard_step(job).await? {}
        Ok(())
    }

    /// Count and digest of a range of a table; see [`holdfast_source::Source::fingerprint`].
    ///
    /// # Errors
    /// There is no such table, or history is gone.
    pub async fn fingerprint(
        &self,
        job: Option<JobId>,
        table: &TableName,
        range: KeyRange,
        at: Option<Hlc>,
    ) -> Result<RowSum, Fault> {
        let (mut total, mut rest, mut at) = (RowSum::default(), range, at);
        loop {
            let step = self.fingerprint_step(job, table, rest.clone(), at).await?;
            total.merge(&step.sum);
            match step.next {
                Some(next) => rest.start = next,
                None => return Ok(total),
            }
            at = step.at;
        }
    }

    /// Does one step of a fingerprint, from the start of a range.
    ///
    /// # Errors
    /// There is no such table, or history is gone.
    pub async fn fingerprint_step(
        &self,
        job: Option<JobId>,
        table: &TableName,
        range: KeyRange,
        at: Option<Hlc>,
    ) -> Result<FingerprintStep, Fault> {
        let view = self.fingerprint_view(job, table, at).await?;
        let (sum, next) = self
            .reading(view.upto, move |transaction| {
                let mut sink = SumSink::new(FINGERPRINT_STEP);
                let next = walk(&transaction.open_table(ROWS)?, &view, &range, &mut sink)?;
                Ok((sink.sum, next))
            })
            .await?;
        let counters = &self.inner.shared.counters;
        counters.read(view.relation, sum.rows.0, sum.bytes.0);
        let at = (view.upto != END_OF_TIME).then_some(view.upto);
        Ok(FingerprintStep { sum, next, at })
    }

    async fn fingerprint_view(
        &self,
        job: Option<JobId>,
        table: &TableName,
        at: Option<Hlc>,
    ) -> Result<View, Fault> {
        if let Some(job) = job {
            let directory = self.inner.shared.directory();
            let found = directory
                .catalogue
                .live_table(table)
                .filter(|(_, record)| record.restored_by == Some(job));
            let Some((relation, record)) = found else {
                return Err(Fault::new(
                    ErrorCode::NotFound,
                    format!("job {job} has prepared no table \"{table}\""),
                ));
            };
            if record.visibility == Visibility::Restoring(job) {
                return Ok(View {
                    relation,
                    created_at: Hlc::ZERO,
                    after: None,
                    upto: END_OF_TIME,
                    history: false,
                });
            }
        }
        let upto = self.settled(at).await?;
        history_gone(upto, self.inner.shared.directory().threshold)?;
        let (relation, created_at) = self.table_at(table, upto)?;
        Ok(View {
            relation,
            created_at,
            after: None,
            upto,
            history: false,
        })
    }
}
