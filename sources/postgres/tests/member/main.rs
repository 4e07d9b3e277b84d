//! Sessions, catalog, hold, pages, exact snapshots and preflight against real servers.

mod catalog;
mod exact;
mod hold;
mod pages;
mod pooler;
mod preflight;
mod providers;
mod session;
mod tls;
mod versions;

use bytes::Bytes;
use futures::StreamExt;
use holdfast_env::Env;
use holdfast_postgres::catalog::RelationFacts;
use holdfast_postgres::dsn::Dsn;
use holdfast_postgres::layout::Layout;
use holdfast_postgres::session::{Purpose, Session};
use holdfast_postgres_testing::Server;
use std::time::Duration;

/// Long enough for everything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn env() -> Env {
    Env::system()
}

fn dsn(server: &Server, database: &str) -> Dsn {
    server.dsn(database).parse().expect("a connection string")
}

fn dsn_as(server: &Server, role: &str, database: &str) -> Dsn {
    server
        .dsn_as(role, database)
        .parse()
        .expect("a connection string")
}

async fn control(server: &Server, database: &str) -> Session {
    Session::connect(&env(), &dsn(server, database), Purpose::Control)
        .await
        .expect("a session")
}

async fn data(server: &Server, database: &str) -> Session {
    Session::connect(&env(), &dsn(server, database), Purpose::Data)
        .await
        .expect("a session")
}

async fn all(server: &Server, database: &str) -> Vec<RelationFacts> {
    let session = control(server, database).await;
    holdfast_postgres::catalog::read(&session)
        .await
        .expect("the catalogs")
}

/// The layout of a table in the schema `public`.
async fn layout(server: &Server, database: &str, table: &str) -> Layout {
    let relations = all(server, database).await;
    let found = relations
        .into_iter()
        .find(|facts| facts.layout.name == table);
    found.expect("the table is there").layout
}

async fn copied(session: &Session, sql: &str) -> Vec<u8> {
    let stream = session.copy_out(sql).await.expect("a copy starts");
    let chunks: Vec<Bytes> = stream.map(|chunk| chunk.expect("a chunk")).collect().await;
    chunks.concat()
}

/// Waits until a query on the server gives `wanted`, and lets tasks run meanwhile.
async fn eventually(server: &Server, database: &str, sql: &str, wanted: &str) {
    for _ in 0..400 {
        if server.psql(database, sql) == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("`{sql}` stays at {}", server.psql(database, sql));
}
