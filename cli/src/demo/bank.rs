//! The data: accounts on every member, and writers that move money between the accounts of one member, so that the sum of each member
//! never changes.

use bytes::Bytes;
use futures::future::try_join_all;
use holdfast_env::Env;
use holdfast_mvcc::{Mutation, MvccClient};
use holdfast_source::Change;
use holdfast_types::{ErrorCode, Fault, TableName};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

use super::wrong;

/// The database.
pub(super) const DATABASE: &str = "bank";
/// The table.
pub(super) const TABLE: &str = "accounts";
/// What every account starts with.
const OPENING_BALANCE: u64 = 1000;
/// Bytes beside the balance, so that an account is of the size of a row of an application.
const DETAILS_LENGTH: usize = 392;
/// Accounts that one transaction opens.
const OPENED_AT_ONCE: u32 = 2000;
/// Between two transfers of one writer: the demo shows a cluster at work, it is no load test.
const BETWEEN_TRANSFERS: Duration = Duration::from_millis(5);
/// The most that one transfer moves.
const MOST_MOVED: u64 = 50;

/// The part of the bank that is on one member.
#[derive(Debug)]
pub(super) struct Branch {
    name: String,
    client: MvccClient,
    accounts: u32,
}

impl Branch {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn client(&self) -> &MvccClient {
        &self.client
    }

    /// All the money in it, always.
    pub(super) fn money(&self) -> u64 {
        u64::from(self.accounts) * OPENING_BALANCE
    }

    async fn open_accounts(&self) -> Result<(), Fault> {
        self.client.create_database(DATABASE).await?;
        self.client.create_table(&accounts(), Bytes::new()).await?;
        let mut first = 0;
        while first < self.accounts {
            let last = self.accounts.min(first + OPENED_AT_ONCE);
            let opened = (first..last)
                .map(|number| {
                    let value = account_value(OPENING_BALANCE, &details(number));
                    Mutation::put(accounts(), account_key(number), value)
                })
                .collect();
            self.client.write(opened).await?;
            first = last;
        }
        Ok(())
    }

    /// Moves some money between two accounts in one transaction.
    async fn transfer(&self, env: &Env) -> Result<(), Fault> {
        let from = (env.entropy.next_u64() % u64::from(self.accounts)) as u32;
        let step = 1 + env.entropy.next_u64() % u64::from(self.accounts - 1);
        let to = ((u64::from(from) + step) % u64::from(self.accounts)) as u32;
        let (since, giver) = self.account(from).await?;
        let (_, taker) = self.account(to).await?;
        let amount = (1 + env.entropy.next_u64() % MOST_MOVED).min(balance_of(&giver)?);
        let moved = vec![
            changed(from, &giver, balance_of(&giver)? - amount),
            changed(to, &taker, balance_of(&taker)? + amount),
        ];
        self.client
            .write_unless_changed(moved, since)
            .await
            .map(|_| ())
    }

    async fn account(&self, number: u32) -> Result<(holdfast_types::Hlc, Bytes), Fault> {
        let (at, row) = self
            .client
            .get(&accounts(), account_key(number), None)
            .await?;
        match row.map(|row| row.change) {
            Some(Change::Put(value)) => Ok((at, value)),
            _ => Err(wrong(format!("{} has lost account {number}", self.name))),
        }
    }
}

/// All branches.
#[derive(Debug)]
pub(super) struct Bank {
    env: Env,
    branches: Vec<Rc<Branch>>,
}

impl Bank {
    /// Opens the accounts on every member, all members at once.
    pub(super) async fn open(
        env: &Env,
        members: impl Iterator<Item = (&str, &str)>,
        accounts: u32,
    ) -> Result<Self, Fault> {
        let branches = members
            .map(|(name, address)| {
                Ok(Rc::new(Branch {
                    name: name.to_owned(),
                    client: MvccClient::new(Arc::clone(&env.net), address)?,
                    accounts,
                }))
            })
            .collect::<Result<Vec<_>, Fault>>()?;
        try_join_all(branches.iter().map(|branch| branch.open_accounts())).await?;
        Ok(Self {
            env: env.clone(),
            branches,
        })
    }

    pub(super) fn branches(&self) -> &[Rc<Branch>] {
        &self.branches
    }

    /// Accounts of all branches.
    pub(super) fn rows(&self) -> u64 {
        self.branches
            .iter()
            .map(|branch| u64::from(branch.accounts))
            .sum()
    }

    /// About how many bytes they have.
    pub(super) fn bytes(&self) -> u64 {
        self.rows() * (account_key(0).len() + 8 + DETAILS_LENGTH) as u64
    }

    /// Starts a writer in every branch.
    pub(super) fn start_writers(&self) -> Writers {
        let (stop, transfers) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let tasks = self
            .branches
            .iter()
            .map(|branch| {
                let (branch, env) = (Rc::clone(branch), self.env.clone());
                let (stop, transfers) = (Rc::clone(&stop), Rc::clone(&transfers));
                tokio::task::spawn_local(write(branch, env, stop, transfers))
            })
            .collect();
        Writers {
            stop,
            transfers,
            tasks,
        }
    }
}

async fn write(
    branch: Rc<Branch>,
    env: Env,
    stop: Rc<Cell<bool>>,
    transfers: Rc<Cell<u64>>,
) -> Result<(), Fault> {
    while !stop.get() {
        match branch.transfer(&env).await {
            Ok(()) => transfers.set(transfers.get() + 1),
            // A transfer that was not made, or whose answer was lost, leaves the sum as it was.
            Err(fault) if fault.is_retryable() || fault.code == ErrorCode::FailedPrecondition => {}
            Err(fault) => return Err(fault.context(format!("the writer of {}", branch.name))),
        }
        tokio::time::sleep(BETWEEN_TRANSFERS).await;
    }
    Ok(())
}

/// The running writers. Dropping them stops them.
#[derive(Debug)]
pub(super) struct Writers {
    stop: Rc<Cell<bool>>,
    transfers: Rc<Cell<u64>>,
    tasks: Vec<JoinHandle<Result<(), Fault>>>,
}

impl Writers {
    /// Transfers made so far.
    pub(super) fn transfers(&self) -> u64 {
        self.transfers.get()
    }

    /// Stops them after their present transfer.
    pub(super) async fn stop(mut self) -> Result<(), Fault> {
        self.stop.set(true);
        for task in std::mem::take(&mut self.tasks) {
            task.await
                .map_err(|error| wrong(format!("a writer ended: {error}")))??;
        }
        Ok(())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn accounts() -> TableName {
    TableName {
        database: DATABASE.to_owned(),
        table: TABLE.to_owned(),
    }
}

fn account_key(number: u32) -> Bytes {
    format!("account-{number:08}").into()
}

fn account_value(balance: u64, details: &[u8]) -> Bytes {
    [&balance.to_be_bytes(), details].concat().into()
}

fn changed(number: u32, old: &Bytes, balance: u64) -> Mutation {
    let details = old.get(8..).unwrap_or_default();
    Mutation::put(
        accounts(),
        account_key(number),
        account_value(balance, details),
    )
}

/// The balance of an account's row.
pub(super) fn balance_of(value: &[u8]) -> Result<u64, Fault> {
    value
        .first_chunk()
        .map(|bytes| u64::from_be_bytes(*bytes))
        .ok_or_else(|| wrong("an account without a balance"))
}

/// Text that compresses about as well as that of real rows: random hexadecimal digits.
fn details(number: u32) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut state = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..DETAILS_LENGTH)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            DIGITS[(state >> 60) as usize]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_account_keeps_its_details() {
        let old = account_value(7, &details(3));
        let Change::Put(new) = changed(3, &old, 9).change else {
            panic!("not a put");
        };
        assert_eq!(balance_of(&new), Ok(9));
        assert_eq!(new.len(), 8 + DETAILS_LENGTH);
        assert_eq!(new[8..], old[8..]);
        assert!(balance_of(b"short").is_err());
    }
}
