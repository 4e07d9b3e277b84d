//! Comparing stored objects with what a manifest says of them.

use holdfast_format::{CatalogFile, ManifestEntry, SpanFileReader, TupleFileReader};
use holdfast_types::{ByteCount, ErrorCode, Fault, LayerPath, ObjectKind, RowCount};
use std::ops::ControlFlow;

use crate::layers::data_key;
use crate::store::{CollectionStore, Stored, damaged};

/// How thoroughly objects are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Each exists with its length.
    Length,
    /// Each has its digest, too: every byte is read.
    Digest,
    /// Each can be decoded, too, and holds as many rows as it should.
    Rows,
}

/// An object that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its key in the collection.
    pub object: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Objects looked at.
    pub objects: u64,
    /// Stored bytes read.
    pub bytes: ByteCount,
    /// Rows in them (counted with [`Depth::Rows`], else as the manifest says).
    pub rows: u64,
    /// Damaged or missing objects, in the order of the list.
    pub damaged: Vec<Damage>,
    /// Whether the verification stopped because of [`VerifyReport::LIMIT`], so that there may be more.
    pub stopped: bool,
}

impl VerifyReport {
    /// Damaged objects after which a verification stops: the layer is lost, and the list would not get more useful. As in the model
    /// system.
    pub const LIMIT: usize = 10;

    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty()
    }

    /// Adds what another verification found, up to the limit.
    pub fn merge(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.rows += other.rows;
        self.damaged.extend(other.damaged);
        self.damaged.truncate(Self::LIMIT);
        self.stopped |= other.stopped || self.damaged.len() >= Self::LIMIT;
    }
}

impl CollectionStore {
    /// Looks at objects of a layer one after another, and adds what it finds to the report.
    ///
    /// Breaks when the report has [`VerifyReport::LIMIT`] damaged objects.
    ///
    /// # Errors
    /// What the store failed with, if it is neither damage nor absence: nothing is said about the object then.
    pub async fn verify_objects(
        &self,
        path: &LayerPath,
        entries: &[ManifestEntry],
        depth: Depth,
        report: &mut VerifyReport,
    ) -> Result<ControlFlow<()>, Fault> {
        for entry in entries {
            if report.damaged.len() >= VerifyReport::LIMIT {
                report.stopped = true;
                return Ok(ControlFlow::Break(()));
            }
            let verified = async {
                let store = self.of_member(path, entry.member).await?;
                store.verify_object(path, entry, depth).await
            };
            match verified.await {
                Ok(()) => report.rows += entry.object.rows.0,
                Err(fault) if matches!(fault.code, ErrorCode::Corrupted | ErrorCode::NotFound) => {
                    report.damaged.push(Damage {
                        object: data_key(path, entry).to_string(),
                        fault,
                    });
                }
                Err(fault) => return Err(fault),
            }
            report.objects += 1;
            if depth > Depth::Length {
                report.bytes += entry.object.length;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn verify_object(
        &self,
        path: &LayerPath,
        entry: &ManifestEntry,
        depth: Depth,
    ) -> Result<(), Fault> {
        let at = data_key(path, entry);
        let object = &entry.object;
        let missing = || Fault::new(ErrorCode::NotFound, format!("object {at} is missing"));
        match depth {
            Depth::Length => match self.head(&at).await? {
                None => Err(missing()),
                Some(meta) if meta.size == object.length.0 => Ok(()),
                Some(meta) => Err(damaged(
                    &at,
                    &format!(
                        "it has {} bytes and should have {}",
                        meta.size, object.length.0
                    ),
                )),
            },
            Depth::Digest => {
                let expected = Stored {
                    length: object.length,
                    digest: object.digest,
                };
                let compared = self.compare(&at, expected).await;
                compared.map_err(|fault| match fault.code {
                    ErrorCode::NotFound => missing(),
                    _ => fault,
                })
            }
            Depth::Rows => {
                let bytes = match self.get_verified(path, object).await {
                    Err(fault) if fault.code == ErrorCode::NotFound => return Err(missing()),
                    other => other?,
                };
                let kind = object.kind();
                let check = move || match kind {
                    ObjectKind::Rows => {
                        SpanFileReader::check(&bytes).map(|found| (found.rows, found.logical))
                    }
                    ObjectKind::Tuples => {
                        TupleFileReader::check(&bytes).map(|found| (found.rows, found.logical))
                    }
                    ObjectKind::Catalog => CatalogFile::decode(&bytes)
                        .map(|content| (RowCount(0), ByteCount(content.len() as u64))),
                };
                let checked = self.env().blocking(check).await;
                let found = checked.map_err(|fault| fault.context(&at))?;
                if found == (object.rows, object.logical) {
                    Ok(())
                } else {
                    Err(damaged(&at, "it does not hold what its manifest says"))
                }
            }
        }
    }
}
