//! A restore: layers merged by the production fold, the newest first.

use futures::StreamExt;
use holdfast_postgres::fold::{Fold, Keep, Op};
use holdfast_postgres::layout::{Layout, Lsn, Oid};
use holdfast_postgres::member::rows::{read_final_row, relation_range};
use holdfast_source::{Inlet, LoggedRestore};
use holdfast_types::{ErrorCode, Fault, Position};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::{Catalog, Content, relation_id};
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
    database: String,
}

impl Chain {
    /// Reads catalogs up to the one that ends at what is asked for.
    pub(super) async fn read(restore: &LoggedRestore, inlet: &dyn Inlet) -> Result<Self, Fault> {
        let mut catalogs: Vec<Catalog> = Vec::new();
        for layer in 0..inlet.layers() {
            for bytes in inlet.catalogs(layer).await? {
                let catalog = Catalog::of(&bytes)?;
                let is_wanted = match restore.as_of {
                    Some(Position::Hlc(at)) => catalog.ended_at <= at.wall,
                    Some(Position::Lsn(at)) => catalog.end.0 <= at.lsn,
                    _ => true,
                };
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
                if is_wanted {
                    catalogs.push(catalog);
                }
            }
        }
        if catalogs.is_empty() {
            return Err(Fault::new(ErrorCode::NotFound, "no layer ends by then"));
        }
        let renamed = restore
            .databases
            .iter()
            .find(|(old, _)| old.as_str() == DATABASE);
        Ok(Self {
            catalogs,
            database: renamed.map_or(DATABASE, |(_, new)| new.as_str()).to_owned(),
        })
    }

    /// What the database is called from now on.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// The position that is restored.
    pub(super) fn end(&self) -> Lsn {
        self.catalogs
            .last()
            .map_or(Lsn::ZERO, |catalog| catalog.end)
    }

    /// The tables at that position.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Layout> {
        let last = self.catalogs.last().into_iter();
        last.flat_map(|catalog| catalog.tables.values().map(|entry| &entry.layout))
    }
}

/// The rows of a table.
pub(super) async fn load(
    client: &ModelClient,
    chain: &Chain,
    layout: &Layout,
    inlet: &dyn Inlet,
) -> Result<BTreeMap<u64, ModelRow>, Fault> {
    let directory = room(&client.env)?;
    let disk = Arc::clone(&client.env.disk);
    let mut fold = Fold::new(Keep::Last, disk, &directory, MEMORY);
    let mut bases: Vec<(usize, String)> = Vec::new();
    let mut is_open = true;
    // From the newest to the oldest, until one does not need what is older.
    for (layer, catalog) in chain.catalogs.iter().enumerate().rev() {
        let Some(entry) = catalog.tables.get(&layout.oid) else {
            break;
        };
        if !is_open {
            break;
        }
        if let Content::Whole(object) = &entry.content {
            bases.extend(object.iter().map(|name| (layer, name.clone())));
            break;
        }
        let mut rows = inlet.rows(layer, &catalog.rows, relation_range(layout.oid));
        while let Some(batch) = rows.next().await.transpose()? {
            for row in &batch {
                fold.put(read_final_row(row, &entry.layout)?)?;
            }
        }
        is_open = entry.truncated.is_none();
        if entry.content == Content::Base && is_open {
            let names = inlet.objects(layer, relation_id(layout.oid)).await?;
            bases.extend(names.into_iter().map(|name| (layer, name)));
        }
    }
    let folded = fold.finish()?;
    let mut touched = folded.touched()?;
    let mut rows = BTreeMap::new();
    for (layer, name) in bases {
        let mut blocks = inlet.tuples(layer, &name);
        while let Some(block) = blocks.next().await.transpose()? {
            for range in &block.rows {
                let (number, row) = read_row(block.bytes.slice(range.clone()))?;
                let is_gone = touched.contains(layout.oid, &key(number)?)?;
                if is_gone && !client.is(Mutant::BaseRowsWin) {
                    continue;
                }
                if rows.insert(number, row).is_some() && !client.is(Mutant::BaseRowsWin) {
                    return Err(twice(layout.oid, number));
                }
            }
        }
    }
    let mut changed = folded.rows();
    while let Some(entry) = changed.next_entry()? {
        if let Op::Put { row: values, .. } = entry.op {
            let (number, row) = row(&values)?;
            rows.entry(number).or_insert(row);
        }
    }
    Ok(rows)
}

fn twice(table: Oid, number: u64) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("row {number} of table {table} is there twice"),
    )
}
