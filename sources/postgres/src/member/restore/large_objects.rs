//! Restores large objects, each list of descriptions in a transaction with its mark; or only reads them.

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use holdfast_source::{Inlet, LoggedRestore};
use holdfast_types::{ErrorCode, Fault, RestoreOptions};
use std::collections::BTreeSet;

use super::Restorer;
use super::plan::DatabasePlan;
use super::touched::parse;
use crate::globals::of_roles;
use crate::large_objects::{self, LargeObject, LargeObjectChunk};
use crate::layout::Oid;
use crate::member::catalog::from_json;
use crate::restore::Marks;
use crate::session::Session;
use crate::tuple::{Field, Tuple, take};

/// Columns of a chunk: number, offset, bytes.
const COLUMNS: usize = 3;

type Chunks<'a> = BoxStream<'a, Result<LargeObjectChunk, Fault>>;

/// Chunks in order, one of them read ahead.
struct Ahead<'a> {
    chunks: Chunks<'a>,
    next: Option<LargeObjectChunk>,
}

impl Ahead<'_> {
    /// The next chunk of an object with a number up to `last`.
    async fn upto(&mut self, last: Oid) -> Result<Option<LargeObjectChunk>, Fault> {
        if self.next.is_none() {
            self.next = self.chunks.try_next().await?;
        }
        Ok(self.next.take_if(|chunk| chunk.oid <= last))
    }
}

impl Restorer {
    /// Restores all large objects of a database; or reads them all, if rows are only verified. `roles` are those that exist.
    pub(super) async fn large_objects(
        &self,
        restore: &LoggedRestore,
        database: &DatabasePlan,
        roles: &BTreeSet<String>,
        marks: &Marks,
        session: &Session,
        inlet: &dyn Inlet,
    ) -> Result<(), Fault> {
        let newest = database.newest()?;
        let parts = &newest.catalog.large_objects;
        let layer = newest.layer;
        let chunks = stream::iter(&parts.chunks)
            .map(move |name| inlet.tuples(layer, name))
            .flatten()
            .map_ok(|block| {
                let rows: Vec<_> = block
                    .rows
                    .iter()
                    .map(|range| chunk(&parse(&block.bytes, range, COLUMNS)?))
                    .collect();
                stream::iter(rows)
            })
            .try_flatten();
        let mut ahead = Ahead {
            chunks: chunks.boxed(),
            next: None,
        };
        for (number, name) in parts.descriptions.iter().enumerate() {
            let mut objects: Vec<LargeObject> = from_json(&inlet.blob(layer, name).await?)?;
            let Some(last) = objects.last().map(|object| object.oid) else {
                continue;
            };
            if restore.options.schema_only {
                while ahead.upto(last).await?.is_some() {}
                continue;
            }
            for object in &mut objects {
                for_roles(object, roles, &session.info().user, &restore.options);
            }
            let own = stream::try_unfold(&mut ahead, |ahead| async move {
                Ok::<_, Fault>(ahead.upto(last).await?.map(|chunk| (chunk, ahead)))
            });
            let part = number.to_string();
            let (owners, grants) = (restore.options.owners, restore.options.grants);
            let own = own.boxed();
            large_objects::restore(session, marks, &part, &objects, own, owners, grants).await?;
            // What was restored by an earlier call is passed over.
            while ahead.upto(last).await?.is_some() {}
        }
        Ok(())
    }
}

/// The owners of a database's large objects: the schema does not name them.
pub(super) async fn owners(
    database: &DatabasePlan,
    inlet: &dyn Inlet,
) -> Result<BTreeSet<String>, Fault> {
    let newest = database.newest()?;
    let mut owners = BTreeSet::new();
    for name in &newest.catalog.large_objects.descriptions {
        let objects: Vec<LargeObject> = from_json(&inlet.blob(newest.layer, name).await?)?;
        for object in objects {
            if !owners.contains(&object.owner) {
                owners.insert(object.owner);
            }
        }
    }
    Ok(owners)
}

/// Gives an object to the role that restores if its owner does not exist and that is no error, and nothing to other roles that do not exist.
fn for_roles(
    object: &mut LargeObject,
    roles: &BTreeSet<String>,
    user: &str,
    options: &RestoreOptions,
) {
    let is_spared = options.skip_missing_roles && !roles.contains(&object.owner);
    if is_spared {
        for grant in object.grants.iter_mut().flatten() {
            if grant.grantee.as_ref() == Some(&object.owner) {
                grant.grantee = Some(user.to_owned());
            }
        }
        user.clone_into(&mut object.owner);
    }
    if let Some(given) = &mut object.grants {
        *given = of_roles(given, roles);
        // What it had as the owner is not granted to one that is not.
        given.retain(|it| options.owners || it.grantee.as_ref() != Some(&object.owner));
    }
}

fn chunk(row: &Tuple) -> Result<LargeObjectChunk, Fault> {
    let malformed = || {
        Fault::new(
            ErrorCode::Corrupted,
            "a piece of a large object is malformed",
        )
    };
    let mut fields = row.fields();
    let (Some(Field::Value(mut oid)), Some(Field::Value(mut offset)), Some(Field::Value(bytes))) =
        (fields.next(), fields.next(), fields.next())
    else {
        return Err(malformed());
    };
    let oid = take::<4>(&mut oid).ok_or_else(malformed)?;
    let offset = take::<8>(&mut offset).ok_or_else(malformed)?;
    Ok(LargeObjectChunk {
        oid: Oid(u32::from_be_bytes(oid)),
        offset: u64::from_be_bytes(offset),
        bytes: bytes::Bytes::copy_from_slice(bytes),
    })
}
