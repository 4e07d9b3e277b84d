//! The rows that are backed up: lines of a ledger (narrow: numbers, times, short text) and documents (jsonb and text, some of it stored out
//! of line), about as many bytes of each, in two tables of each so that two streams of any tool have enough to do.

use futures::future::try_join_all;
use holdfast_types::{ErrorCode, Fault};

use super::server::Server;

/// Streams that every tool reads and writes with.
pub(super) const STREAMS: u32 = 2;
/// Tables of each shape.
const COPIES: u64 = 2;
/// Bytes of a ledger's line in COPY's binary format, about.
const LEDGER_BYTES: u64 = 113;
/// Bytes of a document in it, about.
const DOCUMENT_BYTES: u64 = 738;
/// Words of documents.
const WORDS: &str = "the,of,and,to,in,is,that,for,was,on,are,with,they,be,at,one,have,this,from,or,had,by,word,what,all,were,when,\
    your,can,said,there,use,each,which,she,how,their,will,other,about,out,many,then,them,these,some,would,make,like,him,into,time,has,look,\
    more,write,see,number,way,could,people,first,water,called";

/// What a table's rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Ledger,
    Documents,
}

/// Where the changed rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    /// There are none.
    Nowhere,
    /// All over the table.
    Scattered,
    /// One after the other.
    Clustered,
}

impl Spread {
    pub(super) const ALL: [Self; 3] = [Self::Nowhere, Self::Scattered, Self::Clustered];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Nowhere => "unchanged",
            Self::Scattered => "scattered",
            Self::Clustered => "clustered",
        }
    }
}

/// A table of the bench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    shape: Shape,
    rows: u64,
    /// The stream of the bench that fills it.
    stream: u64,
}

/// All tables for about this many bytes of rows.
pub(super) fn tables(bytes: u64) -> Vec<Table> {
    let share = bytes / (2 * COPIES);
    let table = |shape, name: &str, row: u64, stream: u64| Table {
        name: format!("{name}_{stream}"),
        shape,
        rows: (share / row).max(1),
        stream,
    };
    (1..=COPIES)
        .flat_map(|stream| {
            [
                table(Shape::Ledger, "ledger", LEDGER_BYTES, stream),
                table(Shape::Documents, "documents", DOCUMENT_BYTES, stream),
            ]
        })
        .collect()
}

/// Makes and fills the tables of a database, with keys and indexes.
pub(super) async fn fill(server: &Server, database: &str, tables: &[Table]) -> Result<(), Fault> {
    let streams = (1..=COPIES).map(|stream| {
        let own = tables.iter().filter(move |table| table.stream == stream);
        let statements: Vec<String> = own
            .flat_map(|table| {
                let mut statements = vec![table.definition(), table.filling()];
                statements.extend(table.keys());
                statements.push(format!("VACUUM (ANALYZE) {}", table.name));
                statements
            })
            .collect();
        async move { server.ask(Some(database), &statements).await }
    });
    try_join_all(streams).await.map(drop)
}

impl Table {
    /// How many of its rows a hundredth is.
    pub(super) fn hundredth(&self) -> u64 {
        (self.rows / 100).max(1)
    }

    /// Makes it, without keys.
    pub(super) fn definition(&self) -> String {
        let columns = match self.shape {
            Shape::Ledger => {
                "id bigint NOT NULL, account bigint NOT NULL, counterpart bigint NOT NULL, booked_at timestamptz NOT NULL, \
                 amount numeric(14,2) NOT NULL, currency text NOT NULL, kind smallint NOT NULL, reference uuid NOT NULL, memo text"
            }
            Shape::Documents => {
                "id bigint NOT NULL, name text NOT NULL, changed_at timestamptz NOT NULL, body jsonb NOT NULL, note text"
            }
        };
        let name = &self.name;
        format!("CREATE TABLE {name} ({columns}) WITH (autovacuum_enabled = off)")
    }

    /// Its primary key and index.
    fn keys(&self) -> [String; 2] {
        let (name, columns) = (&self.name, self.indexed());
        [
            format!("ALTER TABLE {name} ADD CONSTRAINT {name}_key PRIMARY KEY (id)"),
            format!("CREATE INDEX {name}_index ON {name} ({columns})"),
        ]
    }

    fn indexed(&self) -> &'static str {
        match self.shape {
            Shape::Ledger => "account, booked_at",
            Shape::Documents => "name",
        }
    }

    /// Takes them away.
    pub(super) fn without_keys(&self) -> [String; 2] {
        let name = &self.name;
        [
            format!("ALTER TABLE {name} DROP CONSTRAINT {name}_key"),
            format!("DROP INDEX {name}_index"),
        ]
    }

    /// The same rows each time: every value comes from the row's number.
    fn filling(&self) -> String {
        let (name, rows) = (&self.name, self.rows);
        // Two tables of a shape have different rows.
        let random = |seed: u64, mask: u32| {
            let seed = seed + 100 * self.stream;
            format!("(hashint8extended(g, {seed}) & {mask})")
        };
        let word = |seed: u64| format!("('{{{WORDS}}}'::text[])[1 + {}]", random(seed, 63));
        let values = match self.shape {
            Shape::Ledger => format!(
                "g, 1 + {}, 1 + {}, timestamptz '2024-01-01 00:00:00Z' + g * interval '1 second' + {} * interval '1 millisecond', \
                 {} / 100.0, ('{{EUR,USD,GBP,CHF}}'::text[])[1 + {}], {}::smallint, md5(g::text)::uuid, {} || ' ' || {}",
                random(1, 0xF_FFFF),
                random(2, 0xF_FFFF),
                random(3, 0xFFF),
                random(4, 0xF_FFFF),
                random(5, 3),
                random(6, 7),
                word(7),
                random(8, 0xFFFF),
            ),
            Shape::Documents => format!(
                "g, 'document-' || md5(g::text), timestamptz '2024-01-01 00:00:00Z' + g * interval '1 minute', \
                 jsonb_build_object('title', {} || ' ' || {}, 'author', md5({}::text), 'views', {}, 'tags', jsonb_build_array({}, {}), \
                 'place', jsonb_build_object('street', {} || ' ' || {}, 'zip', {}), 'open', {} = 0), \
                 (SELECT string_agg(('{{{WORDS}}}'::text[])[1 + (hashint8extended(g * 4096 + i, {}) & 63)], ' ') \
                 FROM generate_series(1, CASE WHEN g % 64 = 0 THEN 1600 ELSE 80 END) i)",
                word(10),
                word(11),
                random(12, 0xFFF),
                random(13, 0xFFFF),
                word(14),
                word(15),
                word(16),
                random(17, 0xFF),
                random(18, 0xFFFF),
                random(19, 1),
                20 + 100 * self.stream,
            ),
        };
        format!("INSERT INTO {name} SELECT {values} FROM generate_series(1::bigint, {rows}) g")
    }

    /// Changes this many rows, others in each round. `None` if there is nothing to do.
    pub(super) fn change(&self, spread: Spread, count: u64, round: u64) -> Option<String> {
        let step = (self.rows / count.max(1)).max(1);
        let rows = match spread {
            Spread::Nowhere => return None,
            Spread::Scattered => {
                format!("id % {step} = {} AND id <= {}", round % step, step * count)
            }
            Spread::Clustered => {
                let first = 1 + (round * count) % (self.rows.saturating_sub(count).max(1));
                format!("id BETWEEN {first} AND {}", first + count - 1)
            }
        };
        let name = &self.name;
        let change = match self.shape {
            Shape::Ledger => "amount = amount + 1, memo = memo || '.'",
            Shape::Documents => {
                "body = jsonb_set(body, '{views}', to_jsonb((body->>'views')::bigint + 1)), changed_at = now()"
            }
        };
        Some(format!("UPDATE {name} SET {change} WHERE {rows}"))
    }
}

/// The two halves of each table, by pages, so that two streams have as much to read.
pub(super) async fn halves(
    server: &Server,
    database: &str,
    tables: &[Table],
) -> Result<Vec<(String, [String; 2])>, Fault> {
    let mut halves = Vec::new();
    for Table { name, .. } in tables {
        let question = format!(
            "SELECT pg_relation_size('{name}') / current_setting('block_size')::bigint / 2"
        );
        let middle = server.ask(Some(database), &[question]).await?;
        let middle: u64 = middle.parse().map_err(|_| {
            Fault::new(
                ErrorCode::Internal,
                format!("psql says that table {name} has {middle} pages"),
            )
        })?;
        let half = |sign: &str| {
            format!(
                "COPY (SELECT * FROM {name} WHERE ctid {sign} '({middle},0)') TO STDOUT (FORMAT binary)"
            )
        };
        halves.push((name.clone(), [half("<"), half(">=")]));
    }
    Ok(halves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_bytes_of_both_shapes() {
        let tables = tables(1 << 30);
        assert_eq!(tables.len(), 4);
        let bytes = |table: &Table| match table.shape {
            Shape::Ledger => table.rows * LEDGER_BYTES,
            Shape::Documents => table.rows * DOCUMENT_BYTES,
        };
        for table in &tables {
            assert!(bytes(table).abs_diff(1 << 28) < 1000, "{table:?}");
            assert_eq!(table.hundredth(), table.rows / 100);
        }
    }

    #[test]
    fn as_many_rows_are_changed_wherever_they_are() {
        let table = Table {
            name: "ledger_1".to_owned(),
            shape: Shape::Ledger,
            rows: 1000,
            stream: 1,
        };
        let rows = |spread, round| {
            let change = table.change(spread, 10, round)?;
            change
                .split_once(" WHERE ")
                .map(|(_, rows)| rows.to_owned())
        };
        assert_eq!(rows(Spread::Nowhere, 0), None);
        let expected = "id % 100 = 3 AND id <= 1000";
        assert_eq!(rows(Spread::Scattered, 3).as_deref(), Some(expected));
        let expected = "id BETWEEN 31 AND 40";
        assert_eq!(rows(Spread::Clustered, 3).as_deref(), Some(expected));
        assert_eq!(
            rows(Spread::Clustered, 99).as_deref(),
            Some("id BETWEEN 1 AND 10")
        );
    }
}
