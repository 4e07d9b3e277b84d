//! Compares what was loaded with what the backup counted, and what the target holds with what was loaded.

use futures::future::try_join_all;
use holdfast_types::{ErrorCode, Fault, RowSum};
use std::sync::Mutex;

use super::plan::{DatabasePlan, RelationPlan};
use super::{Destination, LANES, Restorer, Sums, Told, lock};
use crate::answer::LONG_DEADLINE;
use crate::fingerprint::fingerprint;
use crate::layout::{Handling, Layout, Oid, WholeReason};
use crate::restore::{LoadTarget, Progress};
use crate::session::{Purpose, Session};

/// Tables of up to so many bytes are read again and summed up; the rows of larger ones are counted, which the server does by itself.
const SUMMED_BYTES: u64 = 16 << 20;

/// Types below are the server's own: what it reads in binary form it writes in the same form.
const FIRST_USER_TYPE: Oid = Oid(16_384);

impl Restorer {
    /// Compares each table, in the place that it was loaded into, with what was loaded.
    ///
    /// # Errors
    /// `Corrupted`, naming the first table that holds anything else; what the server says.
    pub(super) async fn compare_held(
        &self,
        database: &DatabasePlan,
        destination: &Destination,
        loaded: &Sums,
        told: &Told,
    ) -> Result<(), Fault> {
        let place = match destination {
            Destination::New(new) => new.hidden(),
            Destination::Existing(_) => &database.name,
        };
        let dsn = self.target.dsn().with_database(place);
        let sum_of = |relation: &RelationPlan| {
            let sum = loaded.get(&relation.layout.oid);
            sum.copied().unwrap_or_default()
        };
        let mut queue: Vec<&RelationPlan> = database.relations.iter().collect();
        // The largest are taken first, from the end.
        queue.sort_by_key(|relation| sum_of(relation).bytes);
        let count = LANES.lanes.clamp(1, queue.len().max(1));
        let queue = Mutex::new(queue);
        let next = || lock(&queue).pop();
        let lane = || async {
            let Some(mut relation) = next() else {
                return Ok(());
            };
            let session = Session::connect(self.env(), &dsn, Purpose::Data).await?;
            loop {
                let (name, sum) = (relation.layout.display_name(), sum_of(relation));
                told.started(&name);
                let target = destination.load_target(database, &relation.layout)?;
                compare_one(&session, &relation.layout, &target, &sum).await?;
                told.ended(&name, sum.bytes.0);
                match next() {
                    Some(another) => relation = another,
                    None => return Ok(()),
                }
            }
        };
        try_join_all((0..count).map(|_| lane())).await.map(drop)
    }
}

async fn compare_one(
    session: &Session,
    layout: &Layout,
    target: &LoadTarget,
    loaded: &RowSum,
) -> Result<(), Fault> {
    let is_same = if is_summed(session, layout, target, loaded) {
        let held = fingerprint(session, layout, &target.schema, &target.table, None);
        held.await? == *loaded
    } else if let Some(rows) = count(session, layout, target).await? {
        rows == loaded.rows.0
    } else {
        true
    };
    if is_same {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::Corrupted,
        format!(
            "table {}: {} rows were loaded, and the target does not hold them as they were",
            layout.display_name().escape_debug(),
            loaded.rows.0
        ),
    )
    .hint("something else wrote to the target: cancel this restore, and begin it again"))
}

/// Whether the sum of what is there must be the sum of what was loaded, and is cheap.
fn is_summed(session: &Session, layout: &Layout, target: &LoadTarget, loaded: &RowSum) -> bool {
    let mut columns = layout.columns.iter();
    loaded.bytes.0 <= SUMMED_BYTES
        && layout.handling != Handling::Whole(WholeReason::ExtensionConfiguration)
        && session.info().server_encoding == target.encoding
        && columns.all(|column| !column.as_text && column.type_oid < FIRST_USER_TYPE)
}

/// The rows of a table that may have been loaded; `None` where an extension may have put others beside them.
async fn count(
    session: &Session,
    layout: &Layout,
    target: &LoadTarget,
) -> Result<Option<u64>, Fault> {
    let is_configuration = layout.handling == Handling::Whole(WholeReason::ExtensionConfiguration);
    if is_configuration && layout.filter.is_none() {
        return Ok(None);
    }
    let name = session.spelling().qualified(&target.schema, &target.table);
    let filter = layout.filter.as_deref().unwrap_or_default();
    let sql = format!("SELECT count(*) FROM ONLY {name} {filter}");
    let row = session
        .within(LONG_DEADLINE, session.client().query_one(&sql, &[]))
        .await?;
    Ok(u64::try_from(row.get::<_, i64>(0)).ok())
}

/// Compares what was loaded with what the backup counted, where it did.
pub(super) fn compare(
    database: &DatabasePlan,
    relation: &RelationPlan,
    loaded: &RowSum,
) -> Result<(), Fault> {
    if database.upto.is_some() {
        return Ok(());
    }
    let Some(entry) = database.newest()?.relation(relation.layout.oid) else {
        return Ok(());
    };
    let same_rows = entry.rows.is_none_or(|rows| rows == loaded.rows.0);
    if same_rows && entry.sum.is_none_or(|sum| sum == *loaded) {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::Corrupted,
        format!(
            "table {}: {} rows were loaded, and they are not those that were backed up",
            relation.layout.display_name().escape_debug(),
            loaded.rows.0
        ),
    )
    .hint("cancel this restore, verify the backup, and restore an earlier layer if it is damaged"))
}
