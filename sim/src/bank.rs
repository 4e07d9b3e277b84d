//! The data: accounts on every member, transfers between them, and a few tables that come and go. What the accounts of one member hold
//! together never changes, at no position of its history.

use bytes::Bytes;
use holdfast_env::Env;
use holdfast_proto::v1::mvcc_member_client::MvccMemberClient;
use holdfast_proto::{CallKind, ChannelOptions, channel, status_to_fault, v1};
use holdfast_types::{ErrorCode, Fault};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;

use crate::config::Config;
use crate::stage::{Progress, Stage};
use crate::trace;

/// The database that is backed up.
pub(crate) const DATABASE: &str = "bank";
/// The table with the accounts.
pub(crate) const ACCOUNTS: &str = "accounts";
const JOURNAL: &str = "journal";
/// What every account holds at first.
const OPENING_BALANCE: u64 = 1_000;
/// Rows of the journal that are kept.
const JOURNAL_ROWS: u64 = 40;
/// Rows written at once while a member is filled.
const BATCH: usize = 100;

/// What the accounts of one member hold together, always.
pub(crate) fn total(config: &Config) -> u64 {
    config.accounts * OPENING_BALANCE
}

/// The balance in an account's row.
pub(crate) fn balance(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn account_key(number: u64) -> Bytes {
    let mut key = b"account-".to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    key.into()
}

fn account_value(balance: u64, ballast: usize, rng: &mut StdRng) -> Bytes {
    let mut value = balance.to_le_bytes().to_vec();
    // Half of it compresses.
    value.extend((0..ballast).map(|at| if at % 2 == 0 { b'.' } else { rng.random() }));
    value.into()
}

/// A client of one member, for applications.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    client: MvccMemberClient<Channel>,
    env: Env,
    config: Config,
    member: String,
}

fn table(name: &str) -> Option<v1::MvccTableName> {
    Some(v1::MvccTableName {
        database: DATABASE.to_owned(),
        table: name.to_owned(),
    })
}

fn put(name: &str, key: Bytes, value: Bytes) -> v1::MvccMutation {
    v1::MvccMutation {
        table: table(name),
        key,
        change: Some(v1::mvcc_mutation::Change::Put(value)),
    }
}

fn delete(name: &str, key: Bytes) -> v1::MvccMutation {
    v1::MvccMutation {
        table: table(name),
        key,
        change: Some(v1::mvcc_mutation::Change::Delete(true)),
    }
}

fn fault(status: tonic::Status) -> Fault {
    status_to_fault(&status, CallKind::Mutation)
}

impl Teller {
    /// Of the member at an address; connecting is lazy.
    pub(crate) fn new(
        env: Env,
        config: Config,
        member: &str,
        address: &str,
    ) -> Result<Self, Fault> {
        let channel = channel(Arc::clone(&env.net), address, ChannelOptions::default())
            .map_err(|error| Fault::new(ErrorCode::InvalidArgument, error.to_string()))?;
        Ok(Self {
            client: MvccMemberClient::new(channel),
            env,
            config,
            member: member.to_owned(),
        })
    }

    /// Makes the database with its accounts. There are no faults yet; the member may still be starting.
    pub(crate) async fn open_accounts(&mut self) -> Result<(), Fault> {
        let request = v1::MvccCreateDatabaseRequest {
            name: DATABASE.to_owned(),
        };
        for attempt in 0.. {
            match self
                .client
                .create_database(request.clone())
                .await
                .map_err(fault)
            {
                Ok(_) => break,
                Err(error) if attempt == 50 => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        for name in [ACCOUNTS, JOURNAL] {
            self.create_table(name).await?;
        }
        let mut rng = StdRng::seed_from_u64(self.env.entropy.next_u64());
        let accounts: Vec<u64> = (0..self.config.accounts).collect();
        for batch in accounts.chunks(BATCH) {
            let ballast = self.config.ballast;
            let mutations = batch
                .iter()
                .map(|number| {
                    let value = account_value(OPENING_BALANCE, ballast, &mut rng);
                    put(ACCOUNTS, account_key(*number), value)
                })
                .collect();
            self.write(mutations, None).await?;
        }
        Ok(())
    }

    /// Moves money around until the audit begins. Failures are part of the game: an unknown outcome is left unknown.
    pub(crate) async fn work(mut self, progress: Progress) {
        let mut rng = StdRng::seed_from_u64(self.env.entropy.next_u64());
        let mut number = 0;
        while progress.stage() < Stage::Audit {
            if progress.stage() >= Stage::Chaos {
                number += 1;
                let result = if rng.random_bool(0.02) {
                    self.reform(&mut rng).await
                } else {
                    self.transfer(&mut rng, number).await
                };
                match result {
                    Ok(()) => progress.mark("transfers"),
                    Err(fault) => {
                        progress.mark("transfers failed");
                        trace::event(&self.member, format_args!("teller: {fault}"));
                    }
                }
            }
            let most = 2 * self.config.transfer_interval.as_micros() as u64;
            tokio::time::sleep(Duration::from_micros(rng.random_range(1..=most))).await;
        }
    }

    /// One transaction: money from one account to another, and a line in the journal. Guarded by the position that was read, so that
    /// a request that arrives late changes nothing.
    async fn transfer(&mut self, rng: &mut StdRng, number: u64) -> Result<(), Fault> {
        let from = rng.random_range(0..self.config.accounts);
        let to = (from + rng.random_range(1..self.config.accounts)) % self.config.accounts;
        let (rich, at) = self.account(from, None).await?;
        let (poor, _) = self.account(to, Some(at)).await?;
        let amount = rng.random_range(0..=rich);
        let ballast = self.config.ballast;
        let mut mutations = vec![
            put(
                ACCOUNTS,
                account_key(from),
                account_value(rich - amount, ballast, rng),
            ),
            put(
                ACCOUNTS,
                account_key(to),
                account_value(poor + amount, ballast, rng),
            ),
            put(JOURNAL, account_key(number), account_value(amount, 0, rng)),
        ];
        if number > JOURNAL_ROWS {
            mutations.push(delete(JOURNAL, account_key(number - JOURNAL_ROWS)));
        }
        self.write(mutations, Some(at)).await
    }

    async fn account(
        &mut self,
        number: u64,
        at: Option<v1::MvccPosition>,
    ) -> Result<(u64, v1::MvccPosition), Fault> {
        let request = v1::MvccGetRequest {
            table: table(ACCOUNTS),
            key: account_key(number),
            at,
        };
        let answer = self.client.get(request).await.map_err(fault)?.into_inner();
        let found = answer.row.as_ref().and_then(|row| balance(&row.value));
        match (found, answer.at) {
            (Some(balance), Some(at)) => Ok((balance, at)),
            _ => Err(Fault::new(
                ErrorCode::Internal,
                format!("account {number} is not there"),
            )),
        }
    }

    /// A table comes, or goes.
    async fn reform(&mut self, rng: &mut StdRng) -> Result<(), Fault> {
        let name = format!("extra-{}", rng.random_range(0..3));
        let request = v1::MvccDropTableRequest { name: table(&name) };
        match self.client.drop_table(request).await.map_err(fault) {
            Ok(_) => return Ok(()),
            Err(error) if error.code == ErrorCode::NotFound => {}
            Err(error) => return Err(error),
        }
        self.create_table(&name).await?;
        let rows = (0..20)
            .map(|number| put(&name, account_key(number), account_value(number, 30, rng)))
            .collect();
        self.write(rows, None).await
    }

    async fn create_table(&mut self, name: &str) -> Result<(), Fault> {
        let request = v1::MvccCreateTableRequest {
            name: table(name),
            definition: format!("definition of {name}").into_bytes().into(),
        };
        self.client.create_table(request).await.map_err(fault)?;
        Ok(())
    }

    async fn write(
        &mut self,
        mutations: Vec<v1::MvccMutation>,
        unless_changed_since: Option<v1::MvccPosition>,
    ) -> Result<(), Fault> {
        let request = v1::MvccWriteRequest {
            mutations,
            unless_changed_since,
        };
        self.client.write(request).await.map_err(fault)?;
        Ok(())
    }
}
