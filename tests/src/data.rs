//! Data to protect: accounts on the members of an mvcc source, with writers that move money between them.

use holdfast_env::Env;
use holdfast_proto::v1;
use holdfast_proto::v1::mvcc_member_client::MvccMemberClient;
use holdfast_proto::{ChannelOptions, channel};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tonic::transport::Channel;

/// What every account starts with.
const OPENING_BALANCE: u64 = 1_000;
/// Accounts written in one transaction while loading.
const LOAD_BATCH: u64 = 500;

/// The accounts of one source: a table `<database>.accounts` on every member.
#[derive(Debug, Clone)]
pub struct Accounts {
    members: Vec<String>,
    database: String,
    accounts: u64,
}

fn client(address: &str) -> MvccMemberClient<Channel> {
    let options = ChannelOptions {
        call_timeout: None,
        ..ChannelOptions::default()
    };
    let channel = channel(Env::system().net, address, options).expect("a legal address");
    MvccMemberClient::new(channel).max_decoding_message_size(64 << 20)
}

fn key(number: u64) -> Vec<u8> {
    format!("account-{number:010}").into_bytes()
}

/// The value of an account: its balance, and filler that does not compress away and differs between versions.
fn value(number: u64, balance: u64, size: usize) -> Vec<u8> {
    let mut bytes = balance.to_le_bytes().to_vec();
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ balance.rotate_left(32) | 1;
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size.max(8));
    bytes
}

fn balance(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().expect("a balance of eight bytes"))
}

/// Makes a database without tables on a member.
///
/// # Panics
/// The member refuses.
pub async fn create_database(address: &str, name: &str) {
    let name = name.to_owned();
    client(address)
        .create_database(v1::MvccCreateDatabaseRequest { name })
        .await
        .expect("a new database");
}

/// The names of a member's databases now.
///
/// # Panics
/// The member refuses.
pub async fn databases(address: &str) -> Vec<String> {
    let mut member = client(address);
    let status = member.status(v1::MvccStatusRequest {}).await;
    let at = status.expect("a status").into_inner().position;
    let found = member.databases(v1::MvccDatabasesRequest { at }).await;
    found.expect("an answer").into_inner().names
}

impl Accounts {
    /// Makes the table on every member and fills it: `accounts` rows of about `size` bytes on each.
    ///
    /// # Panics
    /// A member refuses.
    pub async fn create(members: &[String], database: &str, accounts: u64, size: usize) -> Self {
        for address in members {
            let mut member = client(address);
            create_database(address, database).await;
            member
                .create_table(v1::MvccCreateTableRequest {
                    name: Some(table(database, "accounts")),
                    definition: Default::default(),
                })
                .await
                .expect("a new table");
            for from in (0..accounts).step_by(LOAD_BATCH as usize) {
                let mutations = (from..accounts.min(from + LOAD_BATCH))
                    .map(|number| put(database, number, value(number, OPENING_BALANCE, size)))
                    .collect();
                member
                    .write(v1::MvccWriteRequest {
                        mutations,
                        unless_changed_since: None,
                    })
                    .await
                    .expect("a transaction");
            }
        }
        Self {
            members: members.to_vec(),
            database: database.to_owned(),
            accounts,
        }
    }

    /// Starts writers: on every member one that moves money between random accounts, in transactions.
    #[must_use]
    pub fn start_writers(&self, size: usize) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let transfers = Arc::new(AtomicU64::new(0));
        let tasks = self
            .members
            .iter()
            .enumerate()
            .map(|(index, address)| {
                let (stop, transfers) = (Arc::clone(&stop), Arc::clone(&transfers));
                let (accounts, this) = (self.accounts, self.clone());
                let address = address.clone();
                tokio::spawn(async move {
                    let mut state = 0x1234_5678_9ABC_DEF1 ^ (index as u64) << 17;
                    while !stop.load(Ordering::Relaxed) {
                        if this.transfer(&address, accounts, size, &mut state).await {
                            transfers.fetch_add(1, Ordering::Relaxed);
                        }
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                })
            })
            .collect();
        Writers {
            stop,
            transfers,
            tasks,
        }
    }

    /// One transfer; false if it could not be made, which happens while the member is down.
    async fn transfer(&self, address: &str, accounts: u64, size: usize, state: &mut u64) -> bool {
        let mut draw = || {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            *state
        };
        let (from, to, amount) = (draw() % accounts, draw() % accounts, draw() % 10);
        if from == to {
            return false;
        }
        let mut member = client(address);
        let mut balances = [0; 2];
        let mut read_at = None;
        for (number, balance_read) in [from, to].into_iter().zip(&mut balances) {
            let request = v1::MvccGetRequest {
                table: Some(table(&self.database, "accounts")),
                key: key(number).into(),
                at: read_at,
            };
            let Ok(answer) = member.get(request).await else {
                return false;
            };
            let answer = answer.into_inner();
            read_at = answer.at;
            let Some(row) = answer.row else { return false };
            *balance_read = balance(&row.value);
        }
        let [from_balance, to_balance] = balances;
        if from_balance < amount {
            return false;
        }
        let mutations = vec![
            put(
                &self.database,
                from,
                value(from, from_balance - amount, size),
            ),
            put(&self.database, to, value(to, to_balance + amount, size)),
        ];
        member
            .write(v1::MvccWriteRequest {
                mutations,
                unless_changed_since: read_at,
            })
            .await
            .is_ok()
    }

    /// The present position of the first member, as text that AS OF understands.
    ///
    /// # Panics
    /// The member is down.
    pub async fn now(&self) -> String {
        let mut member = client(&self.members[0]);
        let status = member
            .status(v1::MvccStatusRequest {})
            .await
            .expect("a status");
        let position = status.into_inner().position.expect("a position");
        format!("{}.{:010}", position.micros, position.logical)
    }

    /// All rows of a database's accounts on every member, as of a position (`micros.logical`) or now.
    ///
    /// # Panics
    /// A member is down, or has no such table.
    pub async fn rows(&self, database: &str, at: Option<&str>) -> Vec<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut all = Vec::new();
        for address in &self.members {
            all.push(rows_of(address, database, at).await);
        }
        all
    }

    /// Asserts that what was restored into `database` is what the source had at `at`, row by row, with the money all there.
    ///
    /// # Panics
    /// It is not.
    pub async fn assert_restored(&self, database: &str, at: &str) {
        let expected = self.rows(&self.database, Some(at)).await;
        let restored = self.rows(database, None).await;
        for (index, (expected, restored)) in expected.iter().zip(&restored).enumerate() {
            assert_eq!(
                expected.len(),
                restored.len(),
                "rows of member {index} at {at}"
            );
            for (key, value) in expected {
                assert_eq!(
                    restored.get(key),
                    Some(value),
                    "{} of member {index} at {at}",
                    String::from_utf8_lossy(key)
                );
            }
            let total: u64 = restored.values().map(|value| balance(value)).sum();
            assert_eq!(
                total,
                self.accounts * OPENING_BALANCE,
                "money of member {index} at {at}"
            );
        }
    }

    /// Logical bytes that the members have served from this database's accounts so far: an independent measure of what was read twice.
    ///
    /// # Panics
    /// A member is down.
    pub async fn bytes_served(&self) -> u64 {
        let mut served = 0;
        for address in &self.members {
            let status = client(address)
                .status(v1::MvccStatusRequest {})
                .await
                .expect("a status");
            served += status
                .into_inner()
                .relations
                .iter()
                .filter(|relation| {
                    relation
                        .name
                        .as_ref()
                        .is_some_and(|name| name.database == self.database)
                })
                .map(|relation| relation.bytes_read)
                .sum::<u64>();
        }
        served
    }
}

async fn rows_of(address: &str, database: &str, at: Option<&str>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut member = client(address);
    let at = match at {
        Some(text) => {
            let (micros, logical) = text.split_once('.').expect("micros.logical");
            v1::MvccPosition {
                micros: micros.parse().expect("micros"),
                logical: logical.parse().expect("a counter"),
            }
        }
        None => {
            let status = member
                .status(v1::MvccStatusRequest {})
                .await
                .expect("a status");
            status.into_inner().position.expect("a position")
        }
    };
    let described = member
        .describe(v1::MvccDescribeRequest {
            databases: vec![database.to_owned()],
            tables: Vec::new(),
            at: Some(at),
            ..Default::default()
        })
        .await
        .unwrap_or_else(|status| panic!("{database} on {address}: {status}"))
        .into_inner();
    let relation = described
        .relations
        .iter()
        .find(|relation| {
            relation
                .name
                .as_ref()
                .is_some_and(|name| name.table == "accounts")
        })
        .unwrap_or_else(|| panic!("{database}.accounts does not exist on {address}"));
    let mut stream = member
        .read(v1::MvccReadRequest {
            relation: relation.id,
            range: Some(v1::MvccKeyRange::default()),
            window: Some(v1::MvccWindow {
                after: None,
                upto: Some(at),
                history: false,
            }),
        })
        .await
        .expect("a read")
        .into_inner();
    let mut rows = BTreeMap::new();
    while let Some(batch) = stream.message().await.expect("a batch") {
        for row in batch.rows {
            rows.insert(row.key.to_vec(), row.value.to_vec());
        }
    }
    rows
}

fn table(database: &str, table: &str) -> v1::MvccTableName {
    v1::MvccTableName {
        database: database.to_owned(),
        table: table.to_owned(),
    }
}

fn put(database: &str, number: u64, value: Vec<u8>) -> v1::MvccMutation {
    v1::MvccMutation {
        table: Some(table(database, "accounts")),
        key: key(number).into(),
        change: Some(v1::mvcc_mutation::Change::Put(value.into())),
    }
}

/// Running writers.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    transfers: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    /// Transfers made so far.
    #[must_use]
    pub fn transfers(&self) -> u64 {
        self.transfers.load(Ordering::Relaxed)
    }

    /// Stops them, and waits until no transaction is in flight.
    ///
    /// # Panics
    /// A writer panicked.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer");
        }
        self.transfers.load(Ordering::Relaxed)
    }
}
