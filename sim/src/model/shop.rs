//! What is done to a server: transfers that leave big values alone, keys that change, rows that come and go, truncations, rewrites.

use holdfast_postgres::layout::Oid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

use super::log::Write;
use super::rows::{ModelRow, Rows};
use super::server::ModelServer;
use crate::config::Config;
use crate::stage::{Progress, Stage};

/// The accounts: their total never changes.
pub(crate) const ACCOUNTS: Oid = Oid(16_401);
/// Rows that come and go, all at once at times.
pub(crate) const JOURNAL: Oid = Oid(16_402);
/// The tables with their names.
pub(crate) const TABLES: [(Oid, &str); 2] = [(ACCOUNTS, "accounts"), (JOURNAL, "journal")];
/// Part of the transactions that change a table itself: a few in a run.
const SCHEMA_CHANGES: f64 = 0.001;
/// What every account holds at first.
const OPENING_BALANCE: u64 = 1_000;

/// The application of one server.
#[derive(Debug)]
pub(crate) struct Shop {
    server: ModelServer,
    config: Config,
    rng: StdRng,
    next: u64,
}

impl Shop {
    /// Opens the accounts.
    pub(crate) fn open(server: ModelServer, config: Config, seed: u64) -> Self {
        let mut shop = Self {
            server,
            next: config.accounts,
            config,
            rng: StdRng::seed_from_u64(seed),
        };
        let writes = (0..shop.config.accounts)
            .map(|number| shop.put(ACCOUNTS, number, None, OPENING_BALANCE, true))
            .collect();
        shop.server.commit(writes);
        shop
    }

    /// What the accounts hold together.
    pub(crate) fn total(config: &Config) -> u64 {
        config.accounts * OPENING_BALANCE
    }

    /// What the accounts of some rows hold together.
    pub(crate) fn total_of(rows: &Rows) -> u64 {
        let accounts = rows.get(&ACCOUNTS).into_iter().flat_map(BTreeMap::values);
        accounts.map(|row| row.balance).sum()
    }

    /// Works until the audit begins.
    pub(crate) async fn work(mut self, progress: Progress) {
        while progress.stage() < Stage::Audit {
            if progress.stage() >= Stage::Chaos {
                let writes = self.transaction();
                if !writes.is_empty() {
                    progress.mark("logged transactions");
                    let changes = |write: &Write| {
                        matches!(write, Write::AddColumn { .. } | Write::DropColumn { .. })
                    };
                    if writes.iter().any(changes) {
                        progress.mark("schema changes");
                    }
                    self.server.commit(writes);
                }
            }
            let most = self.config.transfer_interval.as_micros() as u64;
            let pause = self.rng.random_range(1..=most.max(2));
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
    }

    fn put(
        &mut self,
        table: Oid,
        key: u64,
        old_key: Option<u64>,
        balance: u64,
        big: bool,
    ) -> Write {
        let length = self.config.ballast.max(8);
        let ballast = big.then(|| (0..length).map(|_| self.rng.random()).collect());
        Write::Put {
            table,
            key,
            old_key,
            balance,
            ballast,
            extra: Vec::new(),
        }
    }

    /// A column comes or goes.
    fn schema_change(&mut self) -> Write {
        let table = TABLES[self.rng.random_range(0..TABLES.len())].0;
        match self.rng.random_bool(0.6) {
            true => Write::AddColumn {
                table,
                attnum: 0,
                value: self.rng.random(),
            },
            false => Write::DropColumn { table },
        }
    }

    fn transaction(&mut self) -> Vec<Write> {
        let rows = self.server.present();
        let pick = |rng: &mut StdRng, table: Oid| {
            let rows = rows.get(&table)?;
            let at = rng.random_range(0..rows.len().max(1));
            rows.iter().nth(at).map(|(key, row)| (*key, row.clone()))
        };
        if self.config.faults.schema_changes && self.rng.random_bool(SCHEMA_CHANGES) {
            return vec![self.schema_change()];
        }
        match self.rng.random_range(0..1_000) {
            // Money moves; the big values are as they were, and are not logged.
            0..600 => {
                let (one, two) = (pick(&mut self.rng, ACCOUNTS), pick(&mut self.rng, ACCOUNTS));
                let (Some((from, rich)), Some((to, poor))) = (one, two) else {
                    return Vec::new();
                };
                if from == to {
                    return Vec::new();
                }
                let amount = self.rng.random_range(0..=rich.balance);
                let big = self.rng.random_bool(0.2);
                vec![
                    self.put(ACCOUNTS, from, None, rich.balance - amount, big),
                    self.put(ACCOUNTS, to, None, poor.balance + amount, false),
                ]
            }
            // An account gets another number: a change of the key, with an unchanged value.
            600..680 => {
                let Some((number, ModelRow { balance, .. })) = pick(&mut self.rng, ACCOUNTS) else {
                    return Vec::new();
                };
                self.next += 1;
                vec![self.put(ACCOUNTS, self.next, Some(number), balance, false)]
            }
            // Two accounts swap their numbers, by way of a third one.
            680..720 => {
                let (one, two) = (pick(&mut self.rng, ACCOUNTS), pick(&mut self.rng, ACCOUNTS));
                let (Some((from, first)), Some((to, second))) = (one, two) else {
                    return Vec::new();
                };
                if from == to {
                    return Vec::new();
                }
                let away = u64::MAX;
                vec![
                    self.put(ACCOUNTS, away, Some(from), first.balance, false),
                    self.put(ACCOUNTS, from, Some(to), second.balance, false),
                    self.put(ACCOUNTS, to, Some(away), first.balance, false),
                ]
            }
            720..900 => {
                self.next += 1;
                vec![self.put(JOURNAL, self.next, None, 1, true)]
            }
            900..970 => match pick(&mut self.rng, JOURNAL) {
                Some((key, _)) => vec![Write::Delete {
                    table: JOURNAL,
                    key,
                }],
                None => Vec::new(),
            },
            970..982 => {
                self.next += 1;
                let after = self.put(JOURNAL, self.next, None, 2, true);
                vec![Write::Truncate { table: JOURNAL }, after]
            }
            982..990 => vec![Write::Truncate { table: JOURNAL }],
            _ => match self.rng.random_bool(0.3) {
                true => vec![Write::Rewrite { table: ACCOUNTS }],
                false => vec![Write::Rewrite { table: JOURNAL }],
            },
        }
    }
}
