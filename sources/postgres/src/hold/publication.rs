//! The publication of a hold: the keyed relations, one by one.

use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeSet;

use crate::identifier::{qualified, quote};
use crate::layout::{Layout, Oid};
use crate::session::{Session, name_holders};

/// How many relations one statement adds: its text stays small, and each statement's locks are short.
const RELATIONS_PER_STATEMENT: usize = 200;

/// A relation as a publication has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicationState {
    /// The relation.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether changes of it can carry a key. If not, publishing it makes updates and deletes fail for the application.
    pub identified: bool,
    /// Whether somebody gave it a filter of rows or a list of columns: its changes are not all there.
    pub narrowed: bool,
}

/// What a publication of ours has now; empty if there is none.
///
/// # Errors
/// What the server says.
pub async fn published(
    session: &Session,
    publication: &str,
) -> Result<Vec<PublicationState>, Fault> {
    let rows = session
        .query(
            "SELECT c.oid, n.nspname::text, c.relname::text,
                    c.relreplident IN ('f', 'i') OR (c.relreplident = 'd' AND EXISTS (
                        SELECT 1 FROM pg_catalog.pg_index i
                        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid)),
                    -- 14 has neither column.
                    coalesce(pg_catalog.to_jsonb(r) ->> 'prqual', pg_catalog.to_jsonb(r) ->> 'prattrs') IS NOT NULL
             FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
             JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE p.pubname = $1 ORDER BY c.oid",
            &[&publication],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| PublicationState {
            oid: Oid(row.get(0)),
            schema: row.get(1),
            name: row.get(2),
            identified: row.get(3),
            narrowed: row.get(4),
        })
        .collect())
}

/// Makes a publication have exactly the published ones of `layouts`: makes it, adds and drops relations. Idempotent.
///
/// # Errors
/// `Unavailable` if a relation stays locked (it can be tried again at once); `FailedPrecondition` if the role does not own one, or
/// if the name is taken by a publication of another kind.
pub async fn publish(
    session: &Session,
    publication: &str,
    layouts: &[Layout],
) -> Result<(), Fault> {
    let name = quote(publication);
    match kind(session, publication).await? {
        Some(true) => {}
        Some(false) => {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("there is a publication {publication} that Holdfast did not make"),
            )
            .hint("drop it, or rename it"));
        }
        // Partitions are relations of their own here, so changes must name them and not their root.
        None => {
            session
                .execute(&format!(
                    "CREATE PUBLICATION {name} WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)"
                ))
                .await
                .map_err(|fault| fault.context("making the publication"))?;
        }
    }
    let present = published(session, publication).await?;
    let wanted: BTreeSet<Oid> = layouts
        .iter()
        .filter(|layout| layout.is_published())
        .map(|layout| layout.oid)
        .collect();
    let (kept, superfluous): (Vec<_>, Vec<_>) = present
        .iter()
        .partition(|state| wanted.contains(&state.oid) && !state.narrowed);
    let have: BTreeSet<Oid> = kept.iter().map(|state| state.oid).collect();
    let superfluous: Vec<Table> = superfluous.into_iter().map(Table::of).collect();
    alter(session, &name, "DROP TABLE ", &superfluous).await?;
    let missing: Vec<Table> = layouts
        .iter()
        .filter(|layout| wanted.contains(&layout.oid) && !have.contains(&layout.oid))
        .map(|layout| Table {
            oid: layout.oid.0,
            // Tables that inherit are relations of their own.
            name: format!("ONLY {}", qualified(&layout.schema, &layout.name)),
        })
        .collect();
    alter(session, &name, "ADD TABLE ", &missing).await
}

/// A relation in a statement.
struct Table {
    oid: u32,
    name: String,
}

impl Table {
    fn of(state: &PublicationState) -> Self {
        Self {
            oid: state.oid.0,
            name: qualified(&state.schema, &state.name),
        }
    }
}

/// Adds or drops relations. The locks conflict with `VACUUM` and changes of the relation, not with the application's reads and writes.
async fn alter(
    session: &Session,
    publication: &str,
    verb: &str,
    tables: &[Table],
) -> Result<(), Fault> {
    for tables in tables.chunks(RELATIONS_PER_STATEMENT) {
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let sql = format!("ALTER PUBLICATION {publication} {verb}{}", names.join(", "));
        if let Err(fault) = session.execute(&sql).await {
            let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
            let fault = name_holders(session, &oids, fault).await;
            return Err(fault.context("publishing relations"));
        }
    }
    Ok(())
}

/// Whether there is a publication, and whether it is one of ours: named relations, partitions by themselves.
pub(super) async fn kind(session: &Session, publication: &str) -> Result<Option<bool>, Fault> {
    let rows = session
        .query(
            "SELECT NOT p.puballtables AND NOT p.pubviaroot AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate
             FROM pg_catalog.pg_publication p WHERE p.pubname = $1",
            &[&publication],
        )
        .await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// Takes relations that lost their identity out of the publication, so that the application can update them again, and names
/// them: their changes since then are not in the log, and they need a new base.
///
/// # Errors
/// What the server says.
pub async fn unpublish_unidentified(
    session: &Session,
    publication: &str,
) -> Result<Vec<PublicationState>, Fault> {
    let mut present = published(session, publication).await?;
    present.retain(|state| !state.identified);
    let tables: Vec<Table> = present.iter().map(Table::of).collect();
    alter(session, &quote(publication), "DROP TABLE ", &tables).await?;
    Ok(present)
}
