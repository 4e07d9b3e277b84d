//! What the tests need of a database: layouts, snapshots, rows.

use holdfast_env::Env;
use holdfast_postgres::copy::CopyRows;
use holdfast_postgres::exact::import;
use holdfast_postgres::key::Key;
use holdfast_postgres::layout::{Column, FileNode, Handling, Layout, Oid};
use holdfast_postgres::pages::select_list;
use holdfast_postgres::session::{Purpose, Session};
use holdfast_postgres::tuple::Tuple;
use holdfast_postgres_testing::Server;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_postgres::Client;

pub(crate) type Layouts = BTreeMap<Oid, Arc<Layout>>;

/// Rows of each relation.
pub(crate) type State = BTreeMap<Oid, BTreeMap<Key, Tuple>>;

/// The layouts of tables in `public` that have a primary key, as the session sees them.
pub(crate) async fn layouts(client: &Client, names: &[&str]) -> Layouts {
    let mut layouts = Layouts::new();
    for name in names {
        let class = client
            .query_one(
                "SELECT oid, relfilenode FROM pg_class WHERE relname = $1 AND relnamespace = 'public'::regnamespace",
                &[name],
            )
            .await
            .expect("the table");
        let oid: u32 = class.get(0);
        let rows = client
            .query(
                "SELECT attnum, attname::text, atttypid, atttypmod, format_type(atttypid, atttypmod), attnotnull, attgenerated::text \
                 FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                &[&oid],
            )
            .await
            .expect("columns");
        let (mut columns, mut generated) = (Vec::new(), Vec::new());
        for row in rows {
            let name: String = row.get(1);
            if row.get::<_, String>(6).is_empty() {
                columns.push(Column {
                    attnum: row.get(0),
                    name,
                    type_oid: Oid(row.get(2)),
                    typmod: row.get(3),
                    type_name: row.get(4),
                    collation: None,
                    not_null: row.get(5),
                    as_text: false,
                });
            } else {
                generated.push(name);
            }
        }
        let key: Vec<i16> = client
            .query_one(
                "SELECT indkey::int2[] FROM pg_index WHERE indrelid = $1 AND indisprimary",
                &[&oid],
            )
            .await
            .expect("a key")
            .get(0);
        let place = |attnum| {
            columns
                .iter()
                .position(|column: &Column| column.attnum == attnum)
        };
        let layout = Layout {
            oid: Oid(oid),
            schema: "public".to_owned(),
            name: (*name).to_owned(),
            file_node: FileNode(class.get(1)),
            key: key.into_iter().filter_map(place).collect(),
            columns,
            generated,
            filter: None,
            handling: Handling::Keyed,
        };
        layouts.insert(layout.oid, Arc::new(layout));
    }
    layouts
}

/// Which transactions wrote the catalog's rows of each relation's columns.
pub(crate) async fn columns(client: &Client, layouts: &Layouts) -> BTreeMap<Oid, String> {
    let oids: Vec<u32> = layouts.keys().map(|oid| oid.0).collect();
    let rows = client
        .query(
            "SELECT attrelid, string_agg(attnum || ':' || xmin::text, ' ' ORDER BY attnum) FROM pg_attribute \
             WHERE attrelid = ANY ($1) AND attnum > 0 GROUP BY 1",
            &[&oids],
        )
        .await
        .expect("columns");
    rows.iter()
        .map(|row| (Oid(row.get(0)), row.get(1)))
        .collect()
}

/// A session for rows, in a transaction with an exported snapshot or one of its own.
pub(crate) async fn session(server: &Server, database: &str, snapshot: Option<&str>) -> Session {
    let session = plain(server, database).await;
    match snapshot {
        Some(snapshot) => import(&session, snapshot).await.expect("imported"),
        None => {
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
            session.execute(begin).await.expect("a transaction");
        }
    }
    session
}

/// A session for rows, outside of a transaction.
pub(crate) async fn plain(server: &Server, database: &str) -> Session {
    let dsn = server.dsn(database).parse().expect("a DSN");
    let session = Session::connect(&Env::system(), &dsn, Purpose::Data).await;
    session.expect("connected")
}

/// Rows of a relation, with a condition.
pub(crate) async fn rows(session: &Session, layout: &Layout, condition: &str) -> Vec<(Key, Tuple)> {
    let columns = select_list(layout, session.spelling());
    let statement = format!(
        "COPY (SELECT {columns} FROM ONLY public.\"{}\" {condition}) TO STDOUT (FORMAT binary)",
        layout.name
    );
    let stream = session.copy_out(&statement).await.expect("copy");
    read(CopyRows::new(stream, layout.columns.len()), layout).await
}

/// All rows of a copy.
pub(crate) async fn read(mut copy: CopyRows, layout: &Layout) -> Vec<(Key, Tuple)> {
    let mut rows = Vec::new();
    while let Some(row) = copy.next().await.expect("rows") {
        rows.push((Key::of(&row, &layout.key).expect("a key"), row));
    }
    rows
}

/// Everything that a session's snapshot sees.
pub(crate) async fn truth(session: &Session, layouts: &Layouts) -> State {
    let mut state = State::new();
    for layout in layouts.values() {
        let rows = rows(session, layout, "").await.into_iter().collect();
        state.insert(layout.oid, rows);
    }
    state
}

/// Fails, naming the first difference, if two states are not equal byte by byte.
#[track_caller]
pub(crate) fn assert_same(what: &str, got: &State, want: &State, layouts: &Layouts) {
    for (oid, want) in want {
        let name = &layouts[oid].name;
        let none = BTreeMap::new();
        let got = got.get(oid).unwrap_or(&none);
        let missing = want.keys().filter(|key| !got.contains_key(key)).count();
        let extra = got.keys().filter(|key| !want.contains_key(key)).count();
        let wrong = want
            .iter()
            .filter(|(key, row)| got.get(key).is_some_and(|it| it != *row))
            .count();
        assert!(
            missing + extra + wrong == 0,
            "{what}: {name}: of {} rows {missing} are missing, {wrong} wrong, {extra} too many",
            want.len()
        );
    }
}
