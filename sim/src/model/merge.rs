//! A restore: layers merged by the production fold, the newest first, and the last of them perhaps only up to a commit inside of it.

use futures::StreamExt;
use holdfast_postgres::changes::{Event, Truncation};
use holdfast_postgres::fold::{Entry, Fold, Folded, Keep, Op, Touched, Version};
use holdfast_postgres::layout::{Layout, Lsn, Oid};
use holdfast_postgres::member::rows::{read_final_row, read_version_row, relation_range};
use holdfast_source::{Inlet, LoggedRestore};
use holdfast_types::{ErrorCode, Fault};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::{Catalog, Content, Versions, relation_id};
use super::client::{ModelClient, room};
use super::rows::{ModelRow, key, row};
use super::settle::read_row;
use crate::bank::DATABASE;
use crate::mutant::Mutant;

/// Memory of a fold: little, so that it writes runs.
const MEMORY: usize = 8 * 1024;

/// The layers that a restore needs.
#[derive(Debug)]
pub(super) struct Chain {
    catalogs: Vec<Catalog>,
    /// Before which position of the last layer the restore ends, if that is not its end.
    upto: Option<Lsn>,
    database: String,
}

impl Chain {
    /// Reads catalogs up to the one in which what is asked for lies.
    pub(super) async fn read(restore: &LoggedRestore, inlet: &dyn Inlet) -> Result<Self, Fault> {
        let mut catalogs: Vec<Catalog> = Vec::new();
        let mut upto = None;
        'layers: for layer in 0..inlet.layers() {
            for bytes in inlet.catalogs(layer).await? {
                let catalog = Catalog::of(&bytes)?;
                if let Some(before) = catalogs.last()
                    && before.end != catalog.start
                {
                    return Err(Fault::new(
                        ErrorCode::Corrupted,
                        format!(
                            "a layer starts at {} and the one before ended at {}",
                            catalog.start, before.end
                        ),
                    ));
                }
                if !catalog.is_whole_at(restore.as_of) {
                    upto = catalog.commit_after(restore.as_of);
                    catalogs.extend(upto.map(|_| catalog));
                    break 'layers;
                }
                catalogs.push(catalog);
            }
        }
        let chain = Self {
            catalogs,
            upto,
            database: restore
                .databases
                .iter()
                .find(|(old, _)| old.as_str() == DATABASE)
                .map_or(DATABASE, |(_, new)| new.as_str())
                .to_owned(),
        };
        chain.check()?;
        Ok(chain)
    }

    /// Tables that a layer has only as of its end cannot be restored inside of it.
    fn check(&self) -> Result<(), Fault> {
        let last = self
            .catalogs
            .last()
            .ok_or_else(|| Fault::new(ErrorCode::NotFound, "no layer ends by then"))?;
        let mut tables = last.tables.values();
        if self.upto.is_some() && tables.any(|entry| entry.content != Content::Continued) {
            return Err(Fault::new(
                ErrorCode::NotCovered,
                "the layer has a table only as of its end",
            ));
        }
        Ok(())
    }

    /// What the database is called from now on.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// The position that is restored.
    pub(super) fn end(&self) -> Lsn {
        let end = self.catalogs.last().map(|catalog| catalog.end);
        self.upto.or(end).unwrap_or(Lsn::ZERO)
    }

    /// The tables at that position.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Layout> {
        let last = self.catalogs.last().into_iter();
        last.flat_map(|catalog| catalog.tables.values().map(|entry| &entry.layout))
    }

    /// Where the restore ends inside a layer, if it does.
    fn history_of(&self, layer: usize) -> Option<(&Versions, Lsn)> {
        let versions = self.catalogs.get(layer)?.history.as_ref()?;
        let upto = self.upto.filter(|_| layer + 1 == self.catalogs.len())?;
        Some((versions, upto))
    }
}

/// What the layers say of one table.
struct Parts {
    changed: Folded,
    /// Objects with rows that count unless they were touched, each with its layer.
    bases: Vec<(usize, String)>,
}

/// The rows of a table.
pub(super) async fn load(
    client: &ModelClient,
    chain: &Chain,
    layout: &Layout,
    inlet: &dyn Inlet,
) -> Result<BTreeMap<u64, ModelRow>, Fault> {
    let Parts { changed, bases } = gather(client, chain, layout, inlet).await?;
    let mut touched = changed.touched()?;
    let heirs = heirs(client, &changed)?;
    let mut rows = BTreeMap::new();
    for (layer, name) in bases {
        let mut blocks = inlet.tuples(layer, &name);
        while let Some(block) = blocks.next().await.transpose()? {
            for range in &block.rows {
                let bytes = block.bytes.slice(range.clone());
                let (number, found) = read_row(bytes.clone(), layout)?;
                if let Some(heir) = heirs.find(layout.oid, &key(number)?)? {
                    if let Op::Put { row: values, .. } = heir {
                        let before = super::settle::parse(bytes, layout)?;
                        let (number, completed) = row(&values.filled_from(&before)?)?;
                        rows.insert(number, completed);
                    }
                    continue;
                }
                let is_gone = touched.contains(layout.oid, &key(number)?)?;
                if is_gone && !client.is(Mutant::BaseRowsWin) {
                    continue;
                }
                if rows.insert(number, found).is_some() && !client.is(Mutant::BaseRowsWin) {
                    return Err(twice(layout.oid, number));
                }
            }
        }
    }
    let mut entries = changed.rows();
    while let Some(entry) = entries.next_entry()? {
        // One that lacks values comes with the row of the base that has them.
        if let Op::Put {
            row: values,
            origin: None,
        } = entry.op
        {
            let (number, row) = row(&values)?;
            rows.entry(number).or_insert(row);
        }
    }
    Ok(rows)
}

/// Reads what the layers say of a table, from the newest to the oldest, until one does not need what is older.
async fn gather(
    client: &ModelClient,
    chain: &Chain,
    layout: &Layout,
    inlet: &dyn Inlet,
) -> Result<Parts, Fault> {
    let fold = |keep| {
        let disk = Arc::clone(&client.env.disk);
        Ok::<_, Fault>(Fold::new(keep, disk, &room(&client.env)?, MEMORY))
    };
    let mut older = fold(Keep::Last)?;
    let mut history = None;
    let mut bases: Vec<(usize, String)> = Vec::new();
    let mut is_open = true;
    for (layer, catalog) in chain.catalogs.iter().enumerate().rev() {
        let Some(entry) = catalog.tables.get(&layout.oid).filter(|_| is_open) else {
            break;
        };
        if let Content::Whole(object) = &entry.content {
            bases.extend(object.iter().map(|name| (layer, name.clone())));
            break;
        }
        let range = relation_range(layout.oid);
        if let Some((versions, upto)) = chain.history_of(layer) {
            let mut all = fold(Keep::All)?;
            for (table, position) in &versions.truncations {
                if *table == layout.oid && position.commit < upto {
                    is_open = false;
                    all.push(Event::Truncate(Truncation {
                        relations: vec![layout.oid],
                        position: *position,
                        xid: 0,
                        restart_identity: false,
                    }))?;
                }
            }
            let mut rows = inlet.rows(layer, &versions.objects, range);
            while let Some(batch) = rows.next().await.transpose()? {
                for row in &batch {
                    let entry = read_version_row(row, &entry.layout)?;
                    if entry.version.position.commit < upto {
                        all.put(entry)?;
                    }
                }
            }
            history = Some((all.finish_history()?, upto));
            continue;
        }
        let mut rows = inlet.rows(layer, &catalog.rows, range);
        while let Some(batch) = rows.next().await.transpose()? {
            for row in &batch {
                older.put(read_final_row(row, &entry.layout)?)?;
            }
        }
        is_open = entry.truncated.is_none();
        if entry.content == Content::Base && is_open {
            let names = inlet.objects(layer, relation_id(layout.oid)).await?;
            bases.extend(names.into_iter().map(|name| (layer, name)));
        }
    }
    let older = older.finish()?;
    let changed = match history {
        None => older,
        Some((history, upto)) => {
            let resolved = history.as_of(upto, &room(&client.env)?, MEMORY)?;
            over(client, older, &resolved)?
        }
    };
    Ok(Parts { changed, bases })
}

/// A state inside a layer, over the changes of the layers before it. Rows that still lack values say which row of the base has them.
fn over(client: &ModelClient, older: Folded, resolved: &Folded) -> Result<Folded, Fault> {
    let start = older.touched()?;
    let mut fold = Fold::resume(older, &room(&client.env)?, MEMORY)?;
    let mut rows = resolved.rows();
    while let Some(mut entry) = rows.next_entry()? {
        if let Op::Put { row, origin } = &mut entry.op
            && !row.is_whole()
        {
            let key = origin.take().unwrap_or_else(|| entry.version.key.clone());
            match start.find(entry.version.relation, &key)? {
                Some(Op::Put { row: before, .. }) => *row = row.filled_from(&before)?,
                Some(Op::Delete) => {
                    return Err(Fault::new(
                        ErrorCode::Corrupted,
                        "a changed row was not there before",
                    ));
                }
                None => *origin = Some(key),
            }
        }
        fold.put(entry)?;
    }
    fold.finish()
}

/// Rows that lack values, by the key of the row of the base that has them.
fn heirs(client: &ModelClient, changed: &Folded) -> Result<Touched, Fault> {
    let disk = Arc::clone(&client.env.disk);
    let mut fold = Fold::new(Keep::Last, disk, &room(&client.env)?, MEMORY);
    let mut entries = changed.rows();
    while let Some(Entry { version, op }) = entries.next_entry()? {
        if let Op::Put {
            row,
            origin: Some(key),
        } = op
        {
            fold.put(Entry {
                version: Version { key, ..version },
                op: Op::Put { row, origin: None },
            })?;
        }
    }
    fold.finish()?.touched()
}

fn twice(table: Oid, number: u64) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("row {number} of table {table} is there twice"),
    )
}
