//! The bytes of a manifest: a fixed head, the fields in order, a digest of all before it.

use bytes::Bytes;
use holdfast_types::{
    ByteCount, ClusterId, Digest, ErrorCode, Fault, JobId, LayerPath, Locality, ParentLayer,
    Position, Relation, RelationId, RowCount, SourceKind, TableName, Target, Tier, Window,
};

use super::{LayerRelation, LayerTotals, Manifest, ManifestMember, PartRef};
use crate::wire::{Decoder, Encoder, corrupted};

const MAGIC: &[u8; 8] = b"HFMANIF\n";
/// The newest version. It brought PostgreSQL and its positions, and nothing else: a manifest of another source is still written as version 1,
/// the same bytes as ever, so that older builds read it.
const VERSION: u16 = 2;
/// The flag of a manifest that ends with tiers.
const WITH_TIERS: u16 = 1;
const DIGEST_LENGTH: usize = 32;
const WHAT: &str = "a manifest";
/// The longest name, path or locality. Databases and tables are the source's to name; PostgreSQL's longest is 63 bytes.
const MAX_TEXT: usize = 4096;
/// The longest definition of one relation.
const MAX_DEFINITION: usize = 16 << 20;

const KIND_MVCC: u8 = 1;
const KIND_POSTGRES: u8 = 2;
const TARGET_SOURCE: u8 = 1;
const TARGET_DATABASES: u8 = 2;
const TARGET_TABLES: u8 = 3;

impl Manifest {
    /// The largest manifest that is read, in bytes: some hundred thousand relations with their definitions.
    pub const MAX_LENGTH: u64 = 256 << 20;

    /// The manifest as bytes.
    ///
    /// # Errors
    /// `Unsupported` if a field is of a kind that the format cannot hold, `Internal` if a position is not of the kind that the source's positions
    /// are, `ResourceExhausted` if it is too large.
    pub fn encode(&self) -> Result<Bytes, Fault> {
        if let Some(stray) = self.stray_position() {
            return Err(Fault::new(
                ErrorCode::Internal,
                format!(
                    "layer {} of a {} source has position {stray}",
                    self.path, self.kind
                ),
            ));
        }
        let mut encoder = Encoder::default();
        let flags = match self.tiers.is_empty() {
            true => 0,
            false => WITH_TIERS,
        };
        encoder.raw(MAGIC).u16(version_for(self.kind)).u16(flags);
        encoder.raw(&self.cluster.0).u64(self.job.0);
        encoder.text(self.source.as_str()).u8(kind_code(self.kind)?);
        write_path(&mut encoder, &self.path)?;
        encoder.option(self.parent.as_ref(), |encoder, parent| {
            write_path(encoder, &parent.path)?;
            encoder.digest(&parent.manifest).hlc(parent.end);
            Ok(())
        })?;
        write_target(&mut encoder, &self.target)?;
        encoder.list(&self.complete, write_text)?;
        encoder.hlc(self.end).flag(self.history);
        encoder.option(self.revision_start, |encoder, start| {
            encoder.hlc(start);
            Ok(())
        })?;
        encoder.list(&self.members, |encoder, member| {
            write_member(encoder, self.kind, member)
        })?;
        encoder
            .u64(self.totals.rows.0)
            .u64(self.totals.logical.0)
            .u64(self.totals.stored.0)
            .u64(self.totals.objects);
        encoder.list(&self.parts, |encoder, part| {
            encoder
                .text(&part.name)
                .u64(part.length.0)
                .digest(&part.digest)
                .u64(part.entries);
            Ok(())
        })?;
        self.write_tiers(&mut encoder)?;
        let digest = Digest::of(&encoder.0);
        encoder.digest(&digest);
        if encoder.0.len() as u64 > Self::MAX_LENGTH {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!("the manifest of layer {} would be too large", self.path),
            )
            .hint("back up fewer relations at once"));
        }
        Ok(encoder.finish())
    }

    /// Reads a manifest and checks the digest that it ends with.
    ///
    /// # Errors
    /// `Corrupted`, or `Unsupported` if a newer version wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.len() as u64 > Self::MAX_LENGTH {
            return Err(corrupted(WHAT, "it is larger than any manifest"));
        }
        let Some((body, digest)) = bytes.split_last_chunk::<DIGEST_LENGTH>() else {
            return Err(corrupted(WHAT, "it is too short"));
        };
        let mut decoder = Decoder::new(body, WHAT);
        if decoder.raw(MAGIC.len())? != MAGIC {
            return Err(corrupted(WHAT, "it does not start as one"));
        }
        if Digest::of(body).0 != *digest {
            return Err(corrupted(WHAT, "its digest does not match"));
        }
        let version = decoder.u16()?;
        let flags = decoder.u16()?;
        if !(1..=VERSION).contains(&version) || flags & !WITH_TIERS != 0 {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                format!(
                    "a manifest has format version {version}, and this build reads up to {VERSION}"
                ),
            )
            .hint("use the version of holdfast that wrote it, or a newer one"));
        }
        let mut manifest = read_fields(&mut decoder)?;
        if flags & WITH_TIERS != 0 {
            manifest.read_tiers(&mut decoder)?;
        }
        decoder.end()?;
        if version != version_for(manifest.kind) {
            return Err(corrupted(
                WHAT,
                "its version is not that of its source's kind",
            ));
        }
        if manifest.stray_position().is_some() {
            return Err(corrupted(
                WHAT,
                "its positions are not of its source's kind",
            ));
        }
        Ok(manifest)
    }

    /// A position that is not of the kind that the source's positions are.
    /// The tiers, and the number of each part's store; nothing if there are no tiers.
    fn write_tiers(&self, encoder: &mut Encoder) -> Result<(), Fault> {
        let tiers = u16::try_from(self.tiers.len()).unwrap_or(u16::MAX);
        if let Some(stray) = self.parts.iter().find(|part| part.store > tiers) {
            return Err(Fault::new(
                ErrorCode::Internal,
                format!(
                    "part {} of layer {} is in store {}, of {tiers}",
                    stray.name, self.path, stray.store
                ),
            ));
        }
        if self.tiers.is_empty() {
            return Ok(());
        }
        encoder.list(&self.tiers, |encoder, tier| {
            encoder.text(&tier.to_string());
            Ok(())
        })?;
        for part in &self.parts {
            encoder.u16(part.store);
        }
        Ok(())
    }

    fn read_tiers(&mut self, decoder: &mut Decoder<'_>) -> Result<(), Fault> {
        self.tiers = decoder.list(|decoder| decoder.parsed::<Tier>(MAX_TEXT))?;
        if self.tiers.is_empty() {
            return Err(decoder.damaged("it says that it has tiers, and has none"));
        }
        for part in &mut self.parts {
            part.store = decoder.u16()?;
            if usize::from(part.store) > self.tiers.len() {
                return Err(decoder.damaged("a part of its file list is in no store"));
            }
        }
        Ok(())
    }

    fn stray_position(&self) -> Option<Position> {
        let kind = self.kind.position_kind();
        let windows = self.members.iter().map(|member| &member.window);
        let relations = self.members.iter().flat_map(|member| &member.relations);
        windows
            .flat_map(|window| [window.after, Some(window.upto)])
            .chain(relations.flat_map(|held| {
                let relation = &held.relation;
                [Some(relation.created_at), relation.dropped_at]
            }))
            .flatten()
            .find(|position| position.kind() != kind)
    }
}

/// The version of a manifest of a source.
const fn version_for(kind: SourceKind) -> u16 {
    match kind {
        SourceKind::Mvcc => 1,
        _ => VERSION,
    }
}

fn read_fields(decoder: &mut Decoder<'_>) -> Result<Manifest, Fault> {
    let cluster = ClusterId(decoder.array()?);
    let job = JobId(decoder.u64()?);
    let source = decoder.parsed(MAX_TEXT)?;
    let kind = match decoder.u8()? {
        KIND_MVCC => SourceKind::Mvcc,
        KIND_POSTGRES => SourceKind::Postgres,
        _ => return Err(decoder.damaged("its source is of an unknown kind")),
    };
    Ok(Manifest {
        cluster,
        job,
        source,
        kind,
        path: read_path(decoder)?,
        parent: decoder.option(|decoder| {
            Ok(ParentLayer {
                path: read_path(decoder)?,
                manifest: decoder.digest()?,
                end: decoder.hlc()?,
            })
        })?,
        target: read_target(decoder)?,
        complete: decoder.list(read_text)?,
        end: decoder.hlc()?,
        history: decoder.flag()?,
        revision_start: decoder.option(Decoder::hlc)?,
        members: decoder.list(|decoder| read_member(decoder, kind))?,
        totals: LayerTotals {
            rows: RowCount(decoder.u64()?),
            logical: ByteCount(decoder.u64()?),
            stored: ByteCount(decoder.u64()?),
            objects: decoder.u64()?,
        },
        parts: decoder.list(|decoder| {
            Ok(PartRef {
                name: read_text(decoder)?,
                length: ByteCount(decoder.u64()?),
                digest: decoder.digest()?,
                entries: decoder.u64()?,
                store: 0,
            })
        })?,
        tiers: Vec::new(),
    })
}

fn kind_code(kind: SourceKind) -> Result<u8, Fault> {
    match kind {
        SourceKind::Mvcc => Ok(KIND_MVCC),
        SourceKind::Postgres => Ok(KIND_POSTGRES),
        other => Err(Fault::new(
            ErrorCode::Unsupported,
            format!("the format holds no backups of {other} sources"),
        )),
    }
}

#[expect(clippy::ptr_arg, reason = "lists of texts are lists of `String`")]
fn write_text(encoder: &mut Encoder, text: &String) -> Result<(), Fault> {
    encoder.text(text);
    Ok(())
}

fn read_text(decoder: &mut Decoder<'_>) -> Result<String, Fault> {
    decoder.text(MAX_TEXT).map(str::to_owned)
}

fn write_path(encoder: &mut Encoder, path: &LayerPath) -> Result<(), Fault> {
    encoder.text(&path.full);
    encoder.option(path.incremental.as_ref(), write_text)?;
    Ok(())
}

fn read_path(decoder: &mut Decoder<'_>) -> Result<LayerPath, Fault> {
    Ok(LayerPath {
        full: read_text(decoder)?,
        incremental: decoder.option(read_text)?,
    })
}

fn write_table(encoder: &mut Encoder, name: &TableName) -> Result<(), Fault> {
    encoder.text(&name.database).text(&name.table);
    Ok(())
}

fn read_table(decoder: &mut Decoder<'_>) -> Result<TableName, Fault> {
    Ok(TableName {
        database: read_text(decoder)?,
        table: read_text(decoder)?,
    })
}

fn write_target(encoder: &mut Encoder, target: &Target) -> Result<(), Fault> {
    match target {
        Target::Source => encoder.u8(TARGET_SOURCE),
        Target::Databases(names) => encoder.u8(TARGET_DATABASES).list(names, write_text)?,
        Target::Tables(names) => encoder.u8(TARGET_TABLES).list(names, write_table)?,
    };
    Ok(())
}

fn read_target(decoder: &mut Decoder<'_>) -> Result<Target, Fault> {
    match decoder.u8()? {
        TARGET_SOURCE => Ok(Target::Source),
        TARGET_DATABASES => decoder.list(read_text).map(Target::Databases),
        TARGET_TABLES => decoder.list(read_table).map(Target::Tables),
        _ => Err(decoder.damaged("its target is of an unknown kind")),
    }
}

/// Positions of a member whose history is a log hold no time: version 2 says it beside them.
fn write_member(
    encoder: &mut Encoder,
    kind: SourceKind,
    member: &ManifestMember,
) -> Result<(), Fault> {
    encoder
        .text(member.name.as_str())
        .text(&member.locality.to_string());
    encoder.option(member.window.after, |encoder, after| {
        encoder.position(after).map(|_| ())
    })?;
    encoder
        .position(member.window.upto)?
        .flag(member.window.history);
    if kind.is_logged() {
        encoder.option(member.complete_until, |encoder, at| {
            encoder.hlc(at);
            Ok(())
        })?;
    }
    encoder.list(&member.relations, |encoder, held| {
        let relation = &held.relation;
        encoder.u64(relation.id.0);
        write_table(encoder, &relation.name)?;
        encoder.position(relation.created_at)?;
        encoder.option(relation.dropped_at, |encoder, at| {
            encoder.position(at).map(|_| ())
        })?;
        encoder.bytes(&relation.definition).flag(held.introduced);
        Ok(())
    })?;
    Ok(())
}

fn read_member(decoder: &mut Decoder<'_>, kind: SourceKind) -> Result<ManifestMember, Fault> {
    Ok(ManifestMember {
        name: decoder.parsed(MAX_TEXT)?,
        locality: decoder.parsed::<Locality>(MAX_TEXT)?,
        window: Window {
            after: decoder.option(Decoder::position)?,
            upto: decoder.position()?,
            history: decoder.flag()?,
        },
        complete_until: match kind.is_logged() {
            true => decoder.option(Decoder::hlc)?,
            false => None,
        },
        relations: decoder.list(|decoder| {
            Ok(LayerRelation {
                relation: Relation {
                    id: RelationId(decoder.u64()?),
                    name: read_table(decoder)?,
                    created_at: decoder.position()?,
                    dropped_at: decoder.option(Decoder::position)?,
                    definition: decoder.bytes(MAX_DEFINITION)?.to_vec(),
                },
                introduced: decoder.flag()?,
            })
        })?,
    })
}
