//! The end of a run: every acknowledged backup is restored and compared with the source's own history, every chain is verified, and
//! what nothing names must be gone.

use futures::{StreamExt, TryStreamExt};
use holdfast_client::{ControlApi, v1};
use holdfast_collection::{CollectionStore, CollectionUri, Location, StoreProvider};
use holdfast_mvcc::MvccFactory;
use holdfast_postgres::layout::Lsn;
use holdfast_source::{Change, ReadRequest, Source, SourceFactory};
use holdfast_types::{
    AsOf, Fault, Hlc, KeyRange, LayerPath, Position, Relation, SourceKind, Target, Timestamp,
    Window,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::bank::{self, ACCOUNTS, DATABASE};
use crate::model::{ModelRow, Rows, Shop, shop};
use crate::operator::chain_of;
use crate::oracle::is_terminal;
use crate::outcome::Failure;
use crate::places::{LOG_SOURCE, LOG_SPARE, SOURCE, SPARE, member_record, server_address};
use crate::script::{Script, surely};
use crate::trace;

/// Backups that are restored at the most; more are drawn from.
const MOST_RESTORES: usize = 8;
/// How long what nothing names may stay, after everything has come to its end.
const SWEEP_BOUND: Duration = Duration::from_secs(60);

const RESTORE_EQUALS: &str =
    "a restore equals the source at the position it was asked for, table by table, row by row";
const STAYS: &str = "once a client was told that a backup succeeded, it stays restorable";
const WHOLE: &str =
    "no restored state cuts a transaction in half: the accounts' total is what it always was";
pub(crate) const RESIDENT: &str =
    "bytes of a locality that has a store of its own never lie in another store";
const GONE: &str = "what no manifest and no live job names is gone within the sweep's bound";

/// Rows of the tables of one database, by table.
type Content = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// The audit of one run.
pub(crate) struct Audit<'a> {
    script: &'a Script,
    factory: MvccFactory,
    rng: StdRng,
    restores: u32,
}

impl<'a> Audit<'a> {
    /// After everything has converged.
    pub(crate) fn new(script: &'a Script) -> Self {
        Self {
            script,
            factory: MvccFactory::new(Arc::clone(&script.env.net)),
            rng: StdRng::seed_from_u64(script.env.entropy.next_u64()),
            restores: 0,
        }
    }

    /// Everything.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        self.swept().await?;
        let mut backups = self.script.oracle.backups();
        while backups.len() > MOST_RESTORES {
            backups.swap_remove(self.rng.random_range(0..backups.len()));
        }
        let chains: BTreeSet<(String, String)> = backups
            .iter()
            .map(|job| (job.collection.clone(), chain_of(&job.path)))
            .collect();
        let mut layers = BTreeMap::new();
        for (collection, chain) in &chains {
            for layer in self.show(collection, chain).await? {
                layers.insert((collection.clone(), layer.path.clone()), layer);
            }
            self.verify(collection, chain).await?;
            self.check_residency(collection, chain).await?;
        }
        for backup in &backups {
            let Some(layer) = layers.get(&(backup.collection.clone(), backup.path.clone())) else {
                let seen = format!(
                    "job {} wrote {}, which is not listed",
                    backup.id, backup.path
                );
                return Err(Failure::safety("D2", STAYS, seen));
            };
            let chain = (backup.collection.as_str(), &*chain_of(&backup.path));
            if backup.source == LOG_SOURCE {
                self.restore_log(chain, &backup.as_of).await?;
                if layer.revision_history && !layer.start.is_empty() {
                    self.restore_log_inside(chain, layer).await?;
                }
                continue;
            }
            self.restore(chain, position(&backup.as_of)?).await?;
            if layer.revision_history && !layer.start.is_empty() {
                let instant = self.instant(layer)?;
                self.restore(chain, instant).await?;
            }
        }
        Ok(())
    }

    /// A random position inside a layer.
    fn instant(&mut self, layer: &v1::Layer) -> Result<Hlc, Failure> {
        let (start, end) = (position(&layer.start)?, position(&layer.end)?);
        let (from, to) = (start.wall.as_micros() + 1, end.wall.as_micros());
        Ok(if from < to {
            Hlc::at(Timestamp::from_micros(self.rng.random_range(from..to)))
        } else {
            end
        })
    }

    async fn show(&self, collection: &str, chain: &str) -> Result<Vec<v1::Layer>, Failure> {
        let request = v1::ShowBackupRequest {
            collection: collection.to_owned(),
            subdir: chain.to_owned(),
            check_files: true,
            more_collections: self.script.config.further_stores(collection),
            encryption: None,
        };
        let shown = surely(|| self.script.client.show_backup(request.clone())).await?;
        if let Some(problem) = shown.problems.first() {
            let holds =
                "every object that a live manifest names exists, with its length and digest";
            return Err(Failure::safety("C1", holds, problem.clone()));
        }
        Ok(shown.layers)
    }

    async fn verify(&self, collection: &str, chain: &str) -> Result<(), Failure> {
        let request = v1::SubmitVerifyRequest {
            request_key: format!("verify-{collection}-{chain}").replace(['/', ':'], "-"),
            from: collection.to_owned(),
            more_from: self.script.config.further_stores(collection),
            subdir: chain.to_owned(),
            ..v1::SubmitVerifyRequest::default()
        };
        let answer = surely(|| self.script.client.submit_verify(request.clone())).await?;
        self.script.succeed(answer.job, "verification").await?;
        self.script.progress.mark("chains verified");
        Ok(())
    }

    /// Every byte of a chain lies in the store of its member's locality.
    async fn check_residency(&self, collection: &str, chain: &str) -> Result<(), Failure> {
        let further = self.script.config.further_stores(collection);
        let collections = [vec![collection.to_owned()], further].concat();
        let request = v1::CheckResidencyRequest {
            collections,
            subdir: chain.to_owned(),
            encryption: None,
        };
        let report = surely(|| self.script.client.check_residency(request.clone())).await?;
        match report.violations.first() {
            None => Ok(()),
            Some(violation) => Err(Failure::safety("Z1", RESIDENT, violation.clone())),
        }
    }

    /// Restores a chain as of a position, and compares.
    async fn restore(&mut self, (collection, chain): (&str, &str), at: Hlc) -> Result<(), Failure> {
        self.restores += 1;
        let name = format!("audit_{}", self.restores);
        let request = v1::SubmitRestoreRequest {
            request_key: name.clone(),
            from: collection.to_owned(),
            more_from: self.script.config.further_stores(collection),
            subdir: chain.to_owned(),
            as_of: at.to_string(),
            into_source: SPARE.to_owned(),
            target: Some(v1::Target {
                databases: vec![DATABASE.to_owned()],
                tables: Vec::new(),
            }),
            new_db_name: name.clone(),
            ..v1::SubmitRestoreRequest::default()
        };
        let answer = surely(|| self.script.client.submit_restore(request.clone())).await?;
        let what = format!("restore of {chain} as of {at}");
        self.script.succeed(answer.job, &what).await?;
        let mut rows = 0;
        for region in self.script.config.members.clone() {
            let expected = self.content(SOURCE, region, DATABASE, Some(at)).await?;
            let restored = self.content(SPARE, region, &name, None).await?;
            if let Some(difference) = difference(&expected, &restored) {
                let seen = format!("{what}, member {region}: {difference}");
                return Err(Failure::safety("D1", RESTORE_EQUALS, seen));
            }
            self.check_total(region, &restored, &what)?;
            rows += restored.values().map(BTreeMap::len).sum::<usize>();
        }
        trace::event("user", format_args!("{what} compared: {rows} rows"));
        self.script.progress.mark("restores compared");
        Ok(())
    }

    /// Restores a chain of the source whose history is a log, and compares each member with what its log says.
    async fn restore_log(&mut self, chain: (&str, &str), at: &str) -> Result<(), Failure> {
        let (name, what) = self.next_copy(chain.1, at);
        let answer = self.submit_log_restore(&name, chain, at).await?;
        self.script.succeed(answer.job, &what).await?;
        self.compare_log(&name, &what)?;
        self.script.progress.mark("logged restores compared");
        Ok(())
    }

    /// The same as of an instant inside a layer with history. A table that was read whole is there only as of the layer's end.
    async fn restore_log_inside(
        &mut self,
        chain: (&str, &str),
        layer: &v1::Layer,
    ) -> Result<(), Failure> {
        let at = self.instant(layer)?.to_string();
        let (name, what) = self.next_copy(chain.1, &at);
        let answer = self.submit_log_restore(&name, chain, &at).await?;
        loop {
            let seen = surely(|| self.script.client.get_job(answer.job)).await?;
            let why = seen.error.as_ref().map(|fault| fault.code.as_str());
            match (seen.state.as_str(), why) {
                ("succeeded", _) => break,
                ("failed", Some("not-covered")) => {
                    self.script.progress.mark("instants not covered");
                    return Ok(());
                }
                _ if is_terminal(&seen) => {
                    return Err(Failure::Liveness(format!(
                        "L1: {what}, with nothing failing any more, ended {}: {:?}",
                        seen.state, seen.error
                    )));
                }
                _ => tokio::time::sleep(Duration::from_millis(250)).await,
            }
        }
        self.compare_log(&name, &what)?;
        self.script.progress.mark("commits inside layers compared");
        Ok(())
    }

    fn next_copy(&mut self, chain: &str, at: &str) -> (String, String) {
        self.restores += 1;
        let name = format!("audit_{}", self.restores);
        (name, format!("restore of {chain} as of {at}"))
    }

    async fn submit_log_restore(
        &self,
        name: &str,
        (collection, chain): (&str, &str),
        at: &str,
    ) -> Result<v1::SubmitJobResponse, Failure> {
        let request = v1::SubmitRestoreRequest {
            request_key: name.to_owned(),
            from: collection.to_owned(),
            more_from: self.script.config.further_stores(collection),
            subdir: chain.to_owned(),
            as_of: at.to_owned(),
            into_source: LOG_SPARE.to_owned(),
            target: Some(v1::Target {
                databases: vec![DATABASE.to_owned()],
                tables: Vec::new(),
            }),
            new_db_name: name.to_owned(),
            ..v1::SubmitRestoreRequest::default()
        };
        surely(|| self.script.client.submit_restore(request.clone())).await
    }

    /// Compares what was restored on each member with what the source's log says of that position.
    fn compare_log(&self, name: &str, what: &str) -> Result<(), Failure> {
        let broken = |seen: String| Failure::safety("D1", RESTORE_EQUALS, seen);
        for region in &self.script.config.members {
            let server = |source| self.script.servers.get(&server_address(source, region));
            let (Some(source), Some(spare)) = (server(LOG_SOURCE), server(LOG_SPARE)) else {
                return Err(Failure::Harness(format!("there is no server in {region}")));
            };
            let restored = spare.database(name).unwrap_or_default();
            let seen = format!("{what}, server {region} at {}", restored.at);
            if !restored.is_published {
                return Err(broken(format!("{seen}: it is not there")));
            }
            let expected = source.at(Lsn(restored.at));
            if let Some(difference) = difference(&named(&expected), &named(&restored.rows)) {
                return Err(broken(format!("{seen}: {difference}")));
            }
            let (total, whole) = (
                Shop::total_of(&restored.rows),
                Shop::total(&self.script.config),
            );
            if total != whole {
                let seen = format!("{seen}: the accounts hold {total} instead of {whole}");
                return Err(Failure::safety("D3", WHOLE, seen));
            }
        }
        trace::event("user", format_args!("{what} compared"));
        Ok(())
    }

    fn check_total(&self, region: &str, restored: &Content, what: &str) -> Result<(), Failure> {
        let accounts = restored.get(ACCOUNTS);
        let total: u64 = accounts
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter_map(|value| bank::balance(value))
            .sum();
        let expected = bank::total(&self.script.config);
        if total == expected {
            return Ok(());
        }
        let seen =
            format!("{what}, member {region}: the accounts hold {total} instead of {expected}");
        Err(Failure::safety("D3", WHOLE, seen))
    }

    /// What a database of a member holds, now or as of a position.
    async fn content(
        &self,
        source: &str,
        region: &str,
        database: &str,
        at: Option<Hlc>,
    ) -> Result<Content, Failure> {
        let record = member_record(source, region);
        let member = self
            .factory
            .member(SourceKind::Mvcc, &record)
            .map_err(Failure::harness)?;
        let member = &*member;
        let at = match at {
            Some(at) => Position::from(at),
            None => surely(|| member.position(Hlc::ZERO.into())).await?,
        };
        let target = Target::Databases(vec![database.to_owned()]);
        let relations = surely(|| member.describe(&target, at)).await?;
        let mut content = Content::new();
        for relation in relations {
            let rows = surely(|| read(member, &relation, at)).await?;
            content.insert(relation.name.table.clone(), rows);
        }
        Ok(content)
    }

    /// What nothing names must go by itself.
    async fn swept(&self) -> Result<(), Failure> {
        let deadline = trace::now() + SWEEP_BOUND;
        loop {
            let mut orphans = Vec::new();
            for collection in self.script.config.collections() {
                orphans.extend(surely(|| self.orphans(collection)).await?);
            }
            let Some(orphan) = orphans.first() else {
                return Ok(());
            };
            self.script
                .progress
                .doing(format!("{} orphans, {orphan} among them", orphans.len()));
            if trace::now() > deadline {
                let seen = format!("{orphan} and {} more are still there", orphans.len() - 1);
                return Err(Failure::safety("C6", GONE, seen));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Objects in directories of layers that are not there, and objects of layers that their manifests do not name.
    async fn orphans(&self, collection: &str) -> Result<Vec<String>, Fault> {
        let provider = self.script.vault.provider("user");
        let provider: Arc<dyn StoreProvider> = provider;
        let config = &self.script.config;
        let stores: Vec<CollectionUri> = std::iter::once(collection.to_owned())
            .chain(config.further_stores(collection))
            .map(|store| store.parse())
            .collect::<Result<_, Fault>>()?;
        let location = Location::to_read(stores.clone())?;
        let store = CollectionStore::open_all(&provider, &location, &self.script.env).await?;
        let mut named = BTreeSet::new();
        for chain in store.list_chains().await? {
            for layer in store.load_chain(&chain.full).await?.all_layers() {
                let path: &LayerPath = &layer.manifest.path;
                named.insert(format!("{path}/MANIFEST"));
                named.insert(format!("{path}/BACKUP-LOCK"));
                for part in &layer.manifest.parts {
                    named.insert(format!("{path}/parts/{}", part.name));
                }
                let mut entries = store.entries(layer);
                while let Some(batch) = entries.try_next().await? {
                    named.extend(
                        batch
                            .iter()
                            .map(|entry| format!("{path}/data/{}", entry.object.name)),
                    );
                }
            }
        }
        let mut orphans = Vec::new();
        for store in &stores {
            let keys = self.script.vault.keys(store.place()).await;
            let is_named = |key: &String| {
                // A store of one locality describes its part of a layer.
                let part = key.split_once("/BACKUP_PART_");
                part.map_or_else(
                    || named.contains(key),
                    |(path, _)| named.contains(&format!("{path}/MANIFEST")),
                )
            };
            let nobodys = keys
                .into_iter()
                .filter(|key| !is_named(key) && !key.starts_with("metadata/"));
            orphans.extend(nobodys.map(|key| format!("{store}/{key}")));
        }
        Ok(orphans)
    }
}

/// Rows of the model's tables as bytes, by the tables' names.
fn named(rows: &Rows) -> Content {
    let bytes = |(key, row): (&u64, &ModelRow)| {
        let mut value = row.balance.to_be_bytes().to_vec();
        value.extend_from_slice(&row.ballast);
        value.extend(row.extra.iter().flat_map(|extra| extra.to_be_bytes()));
        (key.to_be_bytes().to_vec(), value)
    };
    shop::TABLES
        .iter()
        .map(|(oid, name)| {
            let rows = rows.get(oid).into_iter().flatten();
            ((*name).to_owned(), rows.map(bytes).collect())
        })
        .collect()
}

fn position(text: &str) -> Result<Hlc, Failure> {
    let as_of: AsOf = text
        .parse()
        .map_err(|fault: Fault| Failure::Harness(format!("\"{text}\" is no position: {fault}")))?;
    as_of
        .instant(Timestamp::from_micros(0))
        .map_err(|fault| Failure::Harness(format!("\"{text}\" is no instant: {fault}")))
}

async fn read(
    member: &dyn Source,
    relation: &Relation,
    at: Position,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Fault> {
    let request = ReadRequest {
        relation: relation.id,
        range: KeyRange::default(),
        window: Window {
            after: None,
            upto: at,
            history: false,
        },
    };
    let mut stream = member.read(request).await?;
    let mut rows = BTreeMap::new();
    while let Some(batch) = stream.next().await {
        for row in batch? {
            if let Change::Put(value) = row.change {
                rows.insert(row.key.to_vec(), value.to_vec());
            }
        }
    }
    Ok(rows)
}

/// The first difference, without the rows' content.
fn difference(expected: &Content, restored: &Content) -> Option<String> {
    let names = |content: &Content| content.keys().cloned().collect::<Vec<_>>().join(", ");
    if names(expected) != names(restored) {
        return Some(format!(
            "tables {} instead of {}",
            names(restored),
            names(expected)
        ));
    }
    expected.iter().find_map(|(table, rows)| {
        let found = restored.get(table)?;
        let missing = rows.keys().filter(|key| !found.contains_key(*key)).count();
        let extra = found.keys().filter(|key| !rows.contains_key(*key)).count();
        let other = rows
            .iter()
            .filter(|(key, value)| found.get(*key).is_some_and(|found| found != *value))
            .count();
        (missing + extra + other > 0).then(|| {
            format!(
                "table {table}: of {} rows {missing} are missing, {other} are different, {extra} should not be there",
                rows.len()
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(tables: &[(&str, &[(u8, u8)])]) -> Content {
        let rows = |rows: &[(u8, u8)]| rows.iter().map(|(k, v)| (vec![*k], vec![*v])).collect();
        tables
            .iter()
            .map(|(name, list)| ((*name).to_owned(), rows(list)))
            .collect()
    }

    #[test]
    fn every_difference_is_found() {
        let expected = content(&[("a", &[(1, 1), (2, 2)]), ("b", &[])]);
        assert_eq!(difference(&expected, &expected), None);
        let lost = content(&[("a", &[(1, 1)]), ("b", &[])]);
        assert!(
            difference(&expected, &lost)
                .expect("lost")
                .contains("1 are missing")
        );
        let other = content(&[("a", &[(1, 1), (2, 3)]), ("b", &[])]);
        assert!(
            difference(&expected, &other)
                .expect("other")
                .contains("1 are different")
        );
        let extra = content(&[("a", &[(1, 1), (2, 2)]), ("b", &[(1, 1)])]);
        assert!(
            difference(&expected, &extra)
                .expect("extra")
                .contains("1 should not")
        );
        let table = content(&[("a", &[(1, 1), (2, 2)])]);
        assert!(
            difference(&expected, &table)
                .expect("table")
                .starts_with("tables a ")
        );
    }
}
