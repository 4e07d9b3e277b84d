//! Large objects. They are in no change stream, so every full and every incremental reads them whole, under the exact snapshot.

use crate::answer::{ask, run};
use crate::globals::Grant;
use crate::identifier::{literal, quote};
use crate::layout::Oid;
use crate::restore::Marks;
use crate::session::{Session, fault as session_fault};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt};
use holdfast_types::{ErrorCode, Fault};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Pages of large objects that go into one block of the server.
const PAGES_PER_BLOCK: u64 = 4;

/// Bytes written by one statement at most.
const MOST_WRITE: usize = 256 * 1024;

/// Bytes of a chunk where pages cannot be read directly.
const CHUNK: i32 = 256 * 1024;

/// A large object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObject {
    /// Its number, which rows refer to it by.
    pub oid: Oid,
    /// Its owner.
    pub owner: String,
    /// Rights, where they are not the default ones.
    pub grants: Option<Vec<Grant>>,
    /// Its comment.
    pub comment: Option<String>,
}

/// Bytes of a large object at an offset. What no chunk covers is a hole, which reads as zeros.
#[derive(Clone, PartialEq, Eq)]
pub struct LargeObjectChunk {
    /// The large object.
    pub oid: Oid,
    /// Where the bytes begin in it.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

impl fmt::Debug for LargeObjectChunk {
    /// Contents never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "LargeObjectChunk({} at {}, {} bytes)",
            self.oid,
            self.offset,
            self.bytes.len()
        )
    }
}

/// Lists all large objects with `after` < number, at most `limit`, by number.
///
/// # Errors
/// What the server says.
pub async fn list(session: &Session, after: Oid, limit: u32) -> Result<Vec<LargeObject>, Fault> {
    let sql = format!(
        "SELECT oid, pg_get_userbyid(lomowner), lomacl IS NOT NULL, obj_description(oid, 'pg_largeobject') \
         FROM pg_catalog.pg_largeobject_metadata WHERE oid > {after} ORDER BY oid LIMIT {limit}"
    );
    let mut objects = Vec::new();
    for row in ask(session, "cannot list large objects", &sql).await? {
        let oid = row.oid(0)?;
        let grants = if row.flag(2) {
            Some(rights(session, oid).await?)
        } else {
            None
        };
        objects.push(LargeObject {
            oid,
            owner: row.text(1),
            grants,
            comment: row.maybe(3).map(str::to_owned),
        });
    }
    Ok(objects)
}

async fn rights(session: &Session, oid: Oid) -> Result<Vec<Grant>, Fault> {
    let sql = format!(
        "SELECT CASE x.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(x.grantee) END, x.privilege_type, x.is_grantable \
         FROM pg_catalog.pg_largeobject_metadata AS m, aclexplode(m.lomacl) AS x WHERE m.oid = {oid} ORDER BY 1, 2, 3"
    );
    let rows = ask(session, "cannot read rights on large objects", &sql).await?;
    Ok(rows
        .into_iter()
        .map(|row| Grant {
            grantee: row.maybe(0).map(str::to_owned),
            right: row.text(1),
            grantable: row.flag(2),
        })
        .collect())
}

/// Whether the role may read the pages of all large objects in one go; otherwise each is read through its own rights.
///
/// # Errors
/// What the server says.
pub async fn can_read_pages(session: &Session) -> Result<bool, Fault> {
    let rows = ask(
        session,
        "cannot read rights",
        "SELECT has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')",
    )
    .await?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}

/// Reads all bytes of the large objects from `first` to `last` (inclusive), in order of number and offset, in the client's present
/// transaction. Memory is bounded by one page. Needs [`can_read_pages`].
///
/// # Errors
/// What the server says.
pub async fn read_pages(
    session: &Session,
    first: Oid,
    last: Oid,
) -> Result<impl Stream<Item = Result<LargeObjectChunk, Fault>> + use<>, Fault> {
    let sql = format!(
        "SELECT loid, pageno, data FROM pg_catalog.pg_largeobject \
         WHERE loid BETWEEN {first} AND {last} ORDER BY loid, pageno"
    );
    let fault =
        |error: tokio_postgres::Error| session_fault(&error).context("cannot read large objects");
    let block = session.info().page_bytes;
    let rows = session
        .client()
        .query_raw::<_, i32, [i32; 0]>(sql.as_str(), [])
        .await
        .map_err(fault)?;
    Ok(rows.map(move |row| {
        let row = row.map_err(fault)?;
        let oid: u32 = row.try_get(0).map_err(fault)?;
        let page: i32 = row.try_get(1).map_err(fault)?;
        let bytes: &[u8] = row.try_get(2).map_err(fault)?;
        Ok(LargeObjectChunk {
            oid: Oid(oid),
            offset: offset(page, block),
            bytes: Bytes::copy_from_slice(bytes),
        })
    }))
}

/// Where a page begins in its large object, on a server with blocks of that many bytes.
fn offset(page: i32, block: u64) -> u64 {
    u64::try_from(page).unwrap_or_default() * (block / PAGES_PER_BLOCK)
}

/// Reads one large object through its own rights. Memory is bounded by one chunk.
///
/// # Errors
/// What the server says.
pub fn read_object(
    session: &Session,
    oid: Oid,
) -> impl Stream<Item = Result<LargeObjectChunk, Fault>> + '_ {
    futures::stream::try_unfold(0u64, move |offset| async move {
        let fault = |error: tokio_postgres::Error| {
            session_fault(&error).context(format!("cannot read large object {oid}"))
        };
        let at = i64::try_from(offset).map_err(|_| {
            Fault::new(
                ErrorCode::Internal,
                format!("large object {oid} is too long"),
            )
        })?;
        let row = session
            .client()
            .query_one(
                "SELECT pg_catalog.lo_get($1, $2, $3)",
                &[&oid.0, &at, &CHUNK],
            )
            .await
            .map_err(fault)?;
        let bytes: &[u8] = row.try_get(0).map_err(fault)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let chunk = LargeObjectChunk {
            oid,
            offset,
            bytes: Bytes::copy_from_slice(bytes),
        };
        Ok(Some((chunk, offset + bytes.len() as u64)))
    })
}

/// Makes large objects with owner, rights and comment, and writes their bytes, which come in order of number and offset: all in one
/// transaction with the mark `part`. Doing it again changes nothing.
///
/// # Errors
/// `AlreadyExists` if one of them was made by somebody else; what the server says, or `chunks` gives.
pub async fn restore(
    session: &Session,
    marks: &Marks,
    part: &str,
    objects: &[LargeObject],
    chunks: impl Stream<Item = Result<LargeObjectChunk, Fault>> + Send,
    owners: bool,
    rights: bool,
) -> Result<(), Fault> {
    if !marks.begin(session, &format!("objects/{part}")).await? {
        return Ok(());
    }
    let context = "cannot restore large objects";
    let written = async {
        create(session, objects, owners, rights).await?;
        write(session, chunks).await?;
        let end = "SET LOCAL synchronous_commit = on; COMMIT";
        run(session, context, end).await
    }
    .await;
    if written.is_err() {
        let _ = run(session, context, "ROLLBACK").await;
    }
    written
}

/// Makes large objects, empty, with owner, rights and comment.
async fn create(
    session: &Session,
    objects: &[LargeObject],
    owners: bool,
    rights: bool,
) -> Result<(), Fault> {
    for object in objects {
        let oid = object.oid;
        let mut sql = format!("SELECT pg_catalog.lo_create({oid});");
        if let Some(comment) = &object.comment {
            sql += &format!("COMMENT ON LARGE OBJECT {oid} IS {};", literal(comment));
        }
        if owners {
            sql += &format!(
                "ALTER LARGE OBJECT {oid} OWNER TO {};",
                quote(&object.owner)
            );
        }
        if let (Some(given), true) = (&object.grants, rights) {
            let target = format!("LARGE OBJECT {oid}");
            for statement in crate::globals::grants(&target, owners.then_some(&object.owner), given)
            {
                sql += &format!("{statement};");
            }
        }
        run(session, &format!("cannot make large object {oid}"), &sql).await?;
    }
    Ok(())
}

/// Writes bytes of large objects that were made before; adjoining ones are written together.
async fn write(
    session: &Session,
    chunks: impl Stream<Item = Result<LargeObjectChunk, Fault>> + Send,
) -> Result<(), Fault> {
    let fault =
        |error: tokio_postgres::Error| session_fault(&error).context("cannot write a large object");
    let put = session
        .client()
        .prepare("SELECT pg_catalog.lo_put($1, $2, $3)")
        .await
        .map_err(fault)?;
    let mut chunks = std::pin::pin!(chunks);
    let mut pending: Option<(Oid, u64, BytesMut)> = None;
    loop {
        let chunk = chunks.try_next().await?;
        if let (Some(chunk), Some((oid, offset, bytes))) = (&chunk, &mut pending)
            && chunk.oid == *oid
            && *offset + bytes.len() as u64 == chunk.offset
            && bytes.len() + chunk.bytes.len() <= MOST_WRITE
        {
            bytes.extend_from_slice(&chunk.bytes);
            continue;
        }
        if let Some((oid, offset, bytes)) = pending.take() {
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            session
                .client()
                .execute(&put, &[&oid.0, &offset, &bytes.as_ref()])
                .await
                .map_err(fault)?;
        }
        let Some(chunk) = chunk else {
            return Ok(());
        };
        pending = Some((chunk.oid, chunk.offset, BytesMut::from(&chunk.bytes[..])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_as_long_as_the_servers_blocks_make_them() {
        assert_eq!(offset(0, 8192), 0);
        assert_eq!(offset(3, 8192), 6144);
        assert_eq!(offset(3, 32_768), 24_576);
        assert_eq!(offset(1_048_575, 8192), (2 << 30) - 2048);
    }
}
