//! Materialized views: filled again, each after those that it reads.

use super::progress::Progress;
use super::site::Site;
use crate::answer::ask;
use crate::identifier::{literal, qualified};
use crate::schema::Step;
use crate::session::Session;
use holdfast_types::Fault;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which view or materialized view reads which.
const EDGES: &str = "SELECT DISTINCT r.ev_class, d.refobjid FROM pg_catalog.pg_rewrite AS r \
     JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid \
       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class \
     JOIN pg_catalog.pg_class AS c ON c.oid = d.refobjid AND c.relkind IN ('m', 'v') \
     WHERE r.ev_class >= 16384";

/// A materialized view at the source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MaterializedView {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it is filled; one that is not stays so.
    pub is_filled: bool,
}

impl MaterializedView {
    /// Lists those of a database, without those of extensions.
    ///
    /// # Errors
    /// What the server says.
    pub async fn capture(session: &Session) -> Result<Vec<Self>, Fault> {
        let rows = ask(
            session,
            "cannot list materialized views",
            "SELECT n.nspname, c.relname, c.relispopulated FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind = 'm' \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS e WHERE e.deptype = 'e' \
               AND e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid) ORDER BY 1, 2",
        )
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Self {
                schema: row.text(0),
                name: row.text(1),
                is_filled: row.flag(2),
            })
            .collect())
    }
}

impl Site {
    /// Fills materialized views. One that cannot be filled stays empty, with a warning, after all others had their turn: what a
    /// function reads is in no catalog.
    pub(super) async fn fill(
        &self,
        views: &[MaterializedView],
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let session = self.open_as_application().await?;
        let mut waiting = in_order(&session, views).await?;
        progress.phase("materialized views", waiting.len(), 0);
        loop {
            let before = waiting.len();
            let mut failed = Vec::new();
            for view in waiting {
                let name = qualified(&view.schema, &view.name);
                progress.started(&name);
                match self.refresh(&session, &view).await {
                    Ok(()) => progress.ended(&name, 0),
                    Err(fault) if fault.is_retryable() => return Err(fault),
                    Err(fault) => {
                        progress.given_up(&name);
                        failed.push((view, fault));
                    }
                }
            }
            if failed.len() == before {
                for (_, fault) in &failed {
                    progress.warning(&format!("left empty: {fault}"));
                }
                break;
            }
            waiting = failed.into_iter().map(|(view, _)| view).collect();
        }
        self.marks.flush(&session, "materialized views").await
    }

    async fn refresh(&self, session: &Session, view: &MaterializedView) -> Result<(), Fault> {
        let name = qualified(&view.schema, &view.name);
        let step = Step {
            mark: format!("filled/{name}"),
            name: format!(
                "materialized view {}.{}",
                view.schema.escape_debug(),
                view.name.escape_debug()
            ),
            sql: format!("REFRESH MATERIALIZED VIEW {name};"),
        };
        self.marks.run_once(session, &step).await
    }
}

/// The filled ones, each after those that it reads, directly or through views.
async fn in_order(
    session: &Session,
    views: &[MaterializedView],
) -> Result<Vec<MaterializedView>, Fault> {
    let mut reads: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for row in ask(session, "cannot read dependencies of views", EDGES).await? {
        reads
            .entry(row.oid(0)?.0)
            .or_default()
            .insert(row.oid(1)?.0);
    }
    let mut numbered = BTreeMap::new();
    for view in views.iter().filter(|view| view.is_filled) {
        let sql = format!(
            "SELECT pg_catalog.to_regclass({})::pg_catalog.oid",
            literal(&qualified(&view.schema, &view.name))
        );
        let rows = ask(session, "cannot find a materialized view", &sql).await?;
        if let Some(row) = rows.first()
            && row.maybe(0).is_some()
        {
            numbered.insert(row.oid(0)?.0, view.clone());
        }
    }
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for start in numbered.keys() {
        visit(*start, &reads, &mut seen, &mut order);
    }
    Ok(order
        .into_iter()
        .filter_map(|oid| numbered.remove(&oid))
        .collect())
}

/// Depth first, without recursion: what is read comes before its reader. Views cannot read each other in a circle.
fn visit(
    start: u32,
    reads: &BTreeMap<u32, BTreeSet<u32>>,
    seen: &mut BTreeSet<u32>,
    order: &mut Vec<u32>,
) {
    let mut stack = vec![(start, false)];
    while let Some((oid, entered)) = stack.pop() {
        if entered {
            order.push(oid);
            continue;
        }
        if !seen.insert(oid) {
            continue;
        }
        stack.push((oid, true));
        for read in reads.get(&oid).into_iter().flatten() {
            if !seen.contains(read) {
                stack.push((*read, false));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_comes_first() {
        let reads: BTreeMap<u32, BTreeSet<u32>> = [
            (1, [5, 2].into()),
            (5, [3].into()),
            (2, [3, 4].into()),
            (4, [3].into()),
        ]
        .into();
        let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
        for start in [1, 2, 3] {
            visit(start, &reads, &mut seen, &mut order);
        }
        assert_eq!(order.len(), 5);
        let place = |oid| order.iter().position(|other| *other == oid);
        for (reader, read) in &reads {
            for oid in read {
                assert!(place(*oid) < place(*reader), "{order:?}");
            }
        }
    }
}
