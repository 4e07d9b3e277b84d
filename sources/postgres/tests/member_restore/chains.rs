//! Whole databases, from one layer and from several.

use holdfast_postgres_testing::Server;
use holdfast_source::LoggedSource;
use holdfast_types::{HoldId, JobId, Target};

use crate::store::Store;
use crate::{contents, hidden, member, renamed, restorer, schema_of};

const EVERYTHING: &str = concat!(
    include_str!("../fixtures/every_object_kind.sql"),
    include_str!("../fixtures/more_object_kinds.sql")
);

pub(crate) fn make_everything(server: &Server) -> String {
    for role in ["hf_owner", "hf_reader", "\"hf Odd\"\"Role\""] {
        // Another test may have made it.
        let _ = server.try_psql("postgres", &format!("CREATE ROLE {role}"));
    }
    let database = server.create_database("restored");
    server.psql(&database, EVERYTHING);
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_layer_comes_back_under_another_name_while_the_original_lives() {
    let server = Server::shared();
    let database = make_everything(server);
    let source = member(server, "chains1");
    let mut store = Store::default();
    let target = Target::Databases(vec![database.clone()]);
    store.backup(&source, 1, target, false, |_| {}).await;
    source.release(HoldId(1)).await.expect("released");
    let name = format!("{database}_again");
    let restore = renamed(501, &database, &name, None);
    let sum = store
        .restore(&restorer(server), &restore)
        .await
        .expect("restored");
    assert!(sum.rows.0 > 500);
    assert_eq!(contents(server, &database), contents(server, &name));
    assert_eq!(schema_of(server, &database), schema_of(server, &name));
    // Said once more by somebody who did not hear that it was done.
    let again = restorer(server).finish(&restore, &store).await;
    assert_eq!(again.expect("nothing left to do"), sum);
    restorer(server)
        .discard(JobId(501))
        .await
        .expect("discarded");
    assert_eq!(contents(server, &database), contents(server, &name));
    // The name is taken now, and so is no other restore's.
    let refused = restorer(server)
        .begin(&renamed(502, &database, &name, None), &store)
        .await;
    let refused = refused.expect_err("the name is taken");
    assert!(refused.message.contains(&name), "{refused:?}");
    assert_eq!(hidden(server, 502, &[]), "");
}

/// Changes of every kind, also some that a fold must follow: keys that move, values out of line that stay, tables that are emptied.
pub(crate) const TABLES: &str = "CREATE TABLE plain (id integer PRIMARY KEY, n integer, note text);
    ALTER TABLE plain ALTER note SET STORAGE EXTERNAL;
    INSERT INTO plain SELECT n, n, repeat(md5(n::text), CASE n % 3 WHEN 0 THEN 100 ELSE 1 END) FROM generate_series(1, 900) AS n;
    CREATE TABLE pair (a text, b bigint, v numeric, PRIMARY KEY (b, a));
    INSERT INTO pair SELECT md5(n::text), n, n / 7.0 FROM generate_series(1, 400) AS n;
    CREATE TABLE emptied (id serial PRIMARY KEY, v text);
    INSERT INTO emptied (v) SELECT md5(n::text) FROM generate_series(1, 300) AS n;
    CREATE TABLE quiet (id integer PRIMARY KEY, m text);
    INSERT INTO quiet SELECT n, md5(n::text) FROM generate_series(1, 2000) AS n;";

/// Some changes, others with each number.
pub(crate) fn change(server: &Server, database: &str, number: usize) {
    let statements = [
        "UPDATE plain SET n = n + 1000 WHERE id % 5 = 0; DELETE FROM plain WHERE id % 17 = 0".to_owned(),
        "UPDATE plain SET id = -id WHERE id % 7 = 0 AND id > 0".to_owned(),
        format!("INSERT INTO plain SELECT (SELECT max(id) FROM plain) + n, {number}, repeat('x', n * 60) FROM generate_series(1, 60) AS n"),
        "UPDATE pair SET a = a || 'é', v = -v WHERE b % 11 = 0".to_owned(),
        "DELETE FROM pair WHERE b % 13 = 0; INSERT INTO pair VALUES ('new', (SELECT max(b) + 1 FROM pair), 0)".to_owned(),
        "DELETE FROM emptied WHERE id % 2 = 0; TRUNCATE emptied; INSERT INTO emptied (v) SELECT 'after ' || n FROM generate_series(1, 40) AS n".to_owned(),
        "UPDATE plain SET id = id + 100000, n = 7 WHERE id < 0 AND id % 2 = 0; UPDATE emptied SET v = v || '!' WHERE id % 3 = 0".to_owned(),
        "UPDATE plain SET n = n + 1 WHERE id > 50000; VACUUM plain".to_owned(),
    ];
    for statement in statements[number % statements.len()].split("; VACUUM") {
        match statement.strip_prefix(' ') {
            Some(table) => server.psql(database, &format!("VACUUM {table}")),
            None => server.psql(database, statement),
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_layer_and_two_incrementals_are_the_last_state() {
    let server = Server::shared();
    let database = server.create_database("chain");
    server.psql(&database, TABLES);
    server.psql(
        &database,
        "CREATE TABLE loose (v text); INSERT INTO loose SELECT md5(n::text) FROM generate_series(1, 500) AS n",
    );
    let source = member(server, "chains2");
    let mut store = Store::default();
    let target = || Target::Databases(vec![database.clone()]);
    store
        .backup(&source, 2, target(), false, |number| {
            change(server, &database, number)
        })
        .await;
    let mut truths = vec![contents(server, &database)];
    for round in 0..2 {
        for number in 0..8 {
            change(server, &database, number + round);
        }
        server.psql(
            &database,
            &format!("CREATE TABLE new_{round} (id integer PRIMARY KEY, v text); INSERT INTO new_{round} SELECT n, md5(n::text) FROM generate_series(1, 250) AS n;
                INSERT INTO loose VALUES ('one more')"),
        );
        store
            .backup(&source, 2, target(), round == 0, |number| {
                change(server, &database, number)
            })
            .await;
        truths.push(contents(server, &database));
    }
    source.release(HoldId(2)).await.expect("released");
    for (layers, truth) in truths.iter().enumerate() {
        let name = format!("{database}_{layers}");
        let upto = Store(store.0[..=layers].to_vec());
        let restore = renamed(510 + layers as u64, &database, &name, None);
        upto.restore(&restorer(server), &restore)
            .await
            .expect("restored");
        assert_eq!(&contents(server, &name), truth, "{layers} layers");
    }
}
