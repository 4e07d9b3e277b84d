//! Incrementals of a small and of a large database in which as many rows were changed.

use holdfast_types::Fault;

use super::Bench;
use super::data::{Spread, Table, fill, tables};
use super::export::backup;
use super::figures::{Line, Sample, Series, slope};

/// How many times as much data the large database has.
pub(super) const GROWTH: u64 = 4;

/// Incrementals after the same changes, at both sizes.
#[derive(Debug)]
pub(super) struct Incremental {
    pub(super) spread: Spread,
    pub(super) changed_rows: u64,
    pub(super) small: Series,
    pub(super) large: Series,
}

/// The fulls that the chains start with, and the incrementals on them.
#[derive(Debug)]
pub(super) struct Chains {
    pub(super) small_full: Sample,
    pub(super) large_full: Sample,
    pub(super) incrementals: Vec<Incremental>,
}

/// Measures them. What is changed is a hundredth of the large database's rows, in both.
pub(super) async fn run(bench: &Bench<'_>, size: u64) -> Result<Chains, Fault> {
    let small_tables = tables(size / GROWTH);
    let small = bench.server.create("small").await?;
    fill(&bench.server, &small, &small_tables).await?;
    let counts: Vec<u64> = bench.tables.iter().map(Table::hundredth).collect();
    let sizes = [
        (small.as_str(), small_tables.as_slice(), "chain-small"),
        (bench.main.as_str(), bench.tables.as_slice(), "chain-large"),
    ];
    let mut fulls = Vec::new();
    for (database, _, collection) in sizes {
        fulls.push(backup(bench, database, collection, &["--start-chain"]).await?);
    }
    let mut incrementals: Vec<Incremental> = Spread::ALL
        .into_iter()
        .map(|spread| Incremental {
            spread,
            changed_rows: match spread {
                Spread::Nowhere => 0,
                _ => counts.iter().sum(),
            },
            small: Series::default(),
            large: Series::default(),
        })
        .collect();
    for round in 0..u64::from(bench.rounds) {
        for incremental in &mut incrementals {
            for (database, tables, collection) in sizes {
                let changes: Vec<String> = tables
                    .iter()
                    .zip(&counts)
                    .filter_map(|(table, count)| table.change(incremental.spread, *count, round))
                    .collect();
                if !changes.is_empty() {
                    bench.server.ask(Some(database), &changes).await?;
                }
                let sample = backup(bench, database, collection, &["--append"]).await?;
                match database == small {
                    true => incremental.small.samples.push(sample),
                    false => incremental.large.samples.push(sample),
                }
            }
        }
    }
    bench.server.drop(&small).await?;
    let mut fulls = fulls.into_iter();
    Ok(Chains {
        small_full: fulls.next().unwrap_or_default(),
        large_full: fulls.next().unwrap_or_default(),
        incrementals,
    })
}

impl Incremental {
    /// How a figure of it grows with the data.
    pub(super) fn slope(&self, of: fn(&Sample) -> Option<f64>) -> Option<f64> {
        slope(
            self.small.median(of)?,
            self.large.median(of)?,
            GROWTH as f64,
        )
    }

    /// The figures of both.
    pub(super) fn lines(&self) -> [Line; 2] {
        let line = |series: &Series, size: &str| Line {
            name: format!("incremental, {} rows, {size} data", self.spread.as_str()),
            ..series.line()
        };
        [
            line(&self.small, "a quarter of the"),
            line(&self.large, "all the"),
        ]
    }
}
