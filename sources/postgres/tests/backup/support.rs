//! A job in small, and the content of what it made.

use bytes::Bytes;
use futures::StreamExt;
use holdfast_env::Env;
use holdfast_postgres::copy::CopyReader;
use holdfast_postgres::dsn::Dsn;
use holdfast_postgres::key::Key;
use holdfast_postgres::layout::Layout;
use holdfast_postgres::member::catalog::{Content, DatabaseCatalog, RelationEntry, relation_id};
use holdfast_postgres::member::rows::{read_final_row, relation_range};
use holdfast_postgres::member::{Limits, PostgresMember};
use holdfast_postgres::pages::copy_statement;
use holdfast_postgres::session::{Purpose, Session};
use holdfast_postgres::tuple::Tuple;
use holdfast_postgres_testing::Server;
use holdfast_source::{Inlet, LoggedBackup, LoggedRelation, LoggedSource};
use holdfast_types::{
    ByteCount, Fault, HoldId, JobId, KeyRange, Relation, SettledDatabase, Target,
};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::store::{Chain, SharedLayer};

/// Rows of tables by name, sorted.
pub(crate) type State = BTreeMap<String, Vec<Bytes>>;

/// A member and the chain that is made of it.
pub(crate) struct Job {
    pub(crate) server: &'static Server,
    pub(crate) member: PostgresMember,
    pub(crate) chain: Chain,
    pub(crate) target: Target,
    pub(crate) partial: bool,
    pub(crate) hold: HoldId,
    pub(crate) settled: Vec<SettledDatabase>,
    random: StdRng,
    _directory: tempfile::TempDir,
}

/// Small ones, so that folds write files.
pub(crate) fn limits() -> Limits {
    Limits {
        hold_deadline: Duration::from_secs(60),
        fold_memory: 64 << 10,
        ..Limits::default()
    }
}

impl Job {
    pub(crate) fn new(server: &'static Server, database: &str, hold: u64) -> Self {
        Self::over(server, &server.dsn("postgres"), database, hold, limits())
    }

    /// A job whose member is reached in another way.
    pub(crate) fn over(
        server: &'static Server,
        dsn: &str,
        database: &str,
        hold: u64,
        limits: Limits,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_str().expect("UTF-8").to_owned();
        let dsn: Dsn = dsn.parse().expect("a connection string");
        let limits = Limits {
            tools: Some(server.binaries().to_str().expect("UTF-8").to_owned()),
            ..limits
        };
        let member = PostgresMember::new(Env::system(), dsn, "test", path, limits);
        Self {
            server,
            member: member.expect("a member"),
            chain: Chain::default(),
            target: Target::Databases(vec![database.to_owned()]),
            partial: false,
            hold: HoldId(hold),
            settled: Vec::new(),
            random: StdRng::seed_from_u64(hold),
            _directory: directory,
        }
    }

    pub(crate) fn backup(&self, history: bool) -> LoggedBackup {
        let parent = self.chain.0.last().map(|layer| {
            let layer = layer.get();
            layer.catalogs.values().cloned().collect()
        });
        LoggedBackup {
            job: JobId(self.chain.0.len() as u64),
            hold: self.hold,
            target: self.target.clone(),
            partial: self.partial,
            parent: parent.unwrap_or_default(),
            history,
            part_size: ByteCount(256 << 10),
            notes: holdfast_source::Notes::default(),
            steps: holdfast_source::Steps::default(),
        }
    }

    /// Reads all spans, in random order, each by a worker that dies and one that goes on; some of them twice.
    pub(crate) async fn read_all(&mut self, relations: &[LoggedRelation], layer: &SharedLayer) {
        let backup = self.backup(false);
        let mut spans: Vec<(&Relation, KeyRange)> = relations
            .iter()
            .filter(|relation| !relation.settles)
            .flat_map(|it| {
                it.spans
                    .iter()
                    .map(|(range, _)| (&it.relation, range.clone()))
            })
            .collect();
        spans.shuffle(&mut self.random);
        for (relation, range) in spans {
            let dies_at = self.random.random_range(1..3);
            let mut span = layer.span(relation.id, range.start.clone(), Some(dies_at));
            let first = self
                .member
                .read(&backup, relation, range.clone(), &mut span)
                .await;
            let key = (relation.id, range.start.clone());
            let progress = layer.get().progress.get(&key).cloned();
            let start = match (first, progress) {
                (Ok(()), _) | (_, Some(None)) => continue,
                (Err(_), Some(Some(upto))) => upto,
                (Err(_), None) => range.start.clone(),
            };
            let rest = KeyRange {
                start,
                end: range.end.clone(),
            };
            let mut span = layer.span(relation.id, range.start.clone(), None);
            self.member
                .read(&backup, relation, rest, &mut span)
                .await
                .expect("read");
        }
    }

    /// Settles all databases; killed after a while first.
    pub(crate) async fn settle_all(
        &mut self,
        backup: &LoggedBackup,
        relations: &[LoggedRelation],
        layer: &SharedLayer,
    ) -> Result<(), Fault> {
        let planned: Vec<Relation> = relations
            .iter()
            .filter(|relation| !relation.settles)
            .map(|relation| relation.relation.clone())
            .collect();
        for relation in relations.iter().filter(|relation| relation.settles) {
            let relation = &relation.relation;
            let kill = Duration::from_millis(self.random.random_range(50..400));
            let mut span = layer.span(relation.id, Bytes::new(), None);
            let _ = tokio::time::timeout(
                kill,
                self.member.settle(backup, relation, &planned, &mut span),
            )
            .await;
            layer.get().spans.remove(&(relation.id, Bytes::new()));
            let mut span = layer.span(relation.id, Bytes::new(), None);
            let settled = self
                .member
                .settle(backup, relation, &planned, &mut span)
                .await?;
            span.settled();
            self.settled.push(settled);
        }
        Ok(())
    }

    /// A whole backup: a full, or the next layer of the chain.
    pub(crate) async fn run(&mut self, history: bool) -> Result<(), Fault> {
        let backup = self.backup(history);
        let relations = self.member.begin(&backup).await?;
        let layer = SharedLayer::default();
        self.read_all(&relations, &layer).await;
        self.settle_all(&backup, &relations, &layer).await?;
        self.chain.0.push(layer);
        let end = self.settled.iter().rev().map(|it| it.end);
        let end = end.take(relations.iter().filter(|it| it.settles).count());
        if let Some(end) = end.reduce(holdfast_types::Settled::and) {
            self.member.advance_hold(self.hold, end.position).await?;
        }
        Ok(())
    }

    pub(crate) async fn catalogs(&self) -> Vec<Vec<DatabaseCatalog>> {
        let mut all = Vec::new();
        for layer in 0..self.chain.layers() {
            let catalogs = self.chain.catalogs(layer).await.expect("catalogs");
            let decode = |bytes: &Bytes| DatabaseCatalog::decode(bytes).expect("a catalog");
            all.push(catalogs.iter().map(decode).collect());
        }
        all
    }

    /// What the chain holds at its end.
    pub(crate) async fn content(&self) -> State {
        let catalogs = self.catalogs().await;
        let mut state = State::new();
        for catalog in catalogs.last().expect("a layer") {
            for entry in &catalog.relations {
                if entry.content == Content::Definition {
                    continue;
                }
                let name = format!("{}.{}", catalog.facts.name, entry.layout.display_name());
                let mut rows = self.rows_of(&catalogs, catalog, entry).await;
                rows.sort();
                state.insert(name, rows);
            }
        }
        state
    }

    async fn rows_of(
        &self,
        catalogs: &[Vec<DatabaseCatalog>],
        newest: &DatabaseCatalog,
        entry: &RelationEntry,
    ) -> Vec<Bytes> {
        let oid = entry.layout.oid;
        let of_layer = |layer: usize| {
            let catalog = catalogs[layer]
                .iter()
                .find(|it| it.database == newest.database);
            let catalog = catalog.expect("the database");
            (catalog, catalog.relation(oid).expect("the relation"))
        };
        let mut first = catalogs.len() - 1;
        while of_layer(first).1.content == Content::Continued {
            first -= 1;
        }
        let (catalog, start) = of_layer(first);
        let names = match &start.content {
            Content::Whole { objects } => objects.clone(),
            _ => {
                let id = relation_id(catalog.database, oid);
                self.chain.objects(first, id).await.expect("objects")
            }
        };
        let mut rows = Vec::new();
        for name in names {
            let mut blocks = self.chain.tuples(first, &name);
            while let Some(block) = blocks.next().await {
                let block = block.expect("a block");
                rows.extend(block.rows.iter().map(|row| block.bytes.slice(row.clone())));
            }
        }
        if entry.layout.key.is_empty() {
            return rows;
        }
        let layout = &start.layout;
        let mut by_key: BTreeMap<Key, Vec<Bytes>> = BTreeMap::new();
        for row in rows {
            let tuple = Tuple::parse(row.clone(), layout.columns.len()).expect("a row");
            let key = Key::of(&tuple, &layout.key).expect("a key");
            by_key.entry(key).or_default().push(row);
        }
        for layer in first..catalogs.len() {
            let (catalog, entry) = of_layer(layer);
            if entry.truncated.is_some() {
                by_key.clear();
            }
            let mut batches = self.chain.rows(layer, &catalog.rows, relation_range(oid));
            while let Some(batch) = batches.next().await {
                for row in batch.expect("rows") {
                    let entry = read_final_row(&row, layout).expect("a row");
                    match entry.op {
                        holdfast_postgres::fold::Op::Delete => by_key.remove(&entry.version.key),
                        holdfast_postgres::fold::Op::Put { row, .. } => {
                            by_key.insert(entry.version.key, vec![row.bytes().clone()])
                        }
                    };
                }
            }
        }
        for rows in by_key.values() {
            assert_eq!(rows.len(), 1, "an untouched row stands in one range");
        }
        by_key.into_values().flatten().collect()
    }

    /// What the tables hold now.
    pub(crate) async fn truth(&self, database: &str) -> State {
        let dsn: Dsn = self
            .server
            .dsn(database)
            .parse()
            .expect("a connection string");
        let env = Env::system();
        let control = Session::connect(&env, &dsn, Purpose::Control)
            .await
            .expect("a session");
        let data = Session::connect(&env, &dsn, Purpose::Data)
            .await
            .expect("a session");
        let mut state = State::new();
        for facts in holdfast_postgres::catalog::read(&control)
            .await
            .expect("relations")
        {
            if facts.layout.handling.has_rows() {
                let name = format!("{database}.{}", facts.layout.display_name());
                state.insert(name, table(&data, &facts.layout).await);
            }
        }
        state
    }

    /// Compares the chain with the databases, at rest.
    pub(crate) async fn compare(&self, databases: &[&str]) {
        let mut truth = State::new();
        for database in databases {
            truth.extend(self.truth(database).await);
        }
        let content = self.content().await;
        let names = |state: &State| state.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&content), names(&truth));
        for (name, rows) in &truth {
            assert!(
                content[name] == *rows,
                "{name} differs: {} rows, {} expected",
                content[name].len(),
                rows.len()
            );
        }
    }
}

async fn table(session: &Session, layout: &Layout) -> Vec<Bytes> {
    let sql = copy_statement(layout, None, session.spelling());
    let mut stream = session.copy_out(&sql).await.expect("a copy");
    let mut reader = CopyReader::new(layout.columns.len());
    let mut rows = Vec::new();
    while let Some(chunk) = stream.next().await {
        reader.feed(chunk.expect("a chunk"));
        while let Some(row) = reader.next_row().expect("rows") {
            rows.push(Bytes::copy_from_slice(row.bytes()));
        }
    }
    rows.sort();
    rows
}
