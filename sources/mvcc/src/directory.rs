//! The small things that a member remembers besides rows: catalogue, holds, GC threshold, settings. All of it is kept in memory and
//! replaced as a whole after the commit that changed it.

use holdfast_types::{Hlc, HoldId, Millis, RelationId};
use redb::{ReadableTable, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

use crate::catalogue::Catalogue;
use crate::engine::corrupted;
use crate::layout::{
    self, DATABASES, FORMAT, HOLDS, META, META_FORMAT, META_NEXT_ID, META_THRESHOLD, META_TTL,
    RECORD_VERSION, RELATIONS,
};
use crate::writer::{Step, StepError};

/// How long history is kept by default: the model system's `gc.ttlseconds`.
pub const DEFAULT_TIME_TO_LIVE: Millis = Millis(14_400_000);

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    pub(crate) catalogue: Catalogue,
    pub(crate) holds: BTreeMap<HoldId, Hlc>,
    /// Nothing before this position can be read.
    pub(crate) threshold: Hlc,
    pub(crate) ttl: Millis,
}

impl Directory {
    /// Reads what is stored, and makes an empty store if there is nothing.
    pub(crate) fn load(transaction: &WriteTransaction) -> Step<Self> {
        let mut directory = Self {
            catalogue: Catalogue::default(),
            holds: BTreeMap::new(),
            threshold: Hlc::ZERO,
            ttl: DEFAULT_TIME_TO_LIVE,
        };
        let mut next_id = 1;
        {
            let mut meta = transaction.open_table(META)?;
            let format = meta
                .get(META_FORMAT)?
                .map(|value| layout::decode_u64(value.value()));
            match format {
                None => {
                    meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
                }
                Some(Some(FORMAT)) => {}
                Some(Some(other)) => return Err(unknown_format(other)),
                Some(None) => return Err(corrupted("format number").into()),
            }
            if let Some(value) = meta.get(META_THRESHOLD)? {
                directory.threshold = layout::decode_position(value.value())
                    .ok_or_else(|| corrupted("GC threshold"))?;
            }
            if let Some(value) = meta.get(META_TTL)? {
                directory.ttl = layout::decode_u64(value.value())
                    .map(Millis)
                    .ok_or_else(|| corrupted("time to live"))?;
            }
            if let Some(value) = meta.get(META_NEXT_ID)? {
                next_id = layout::decode_u64(value.value()).ok_or_else(|| corrupted("next id"))?;
            }
        }
        for entry in transaction.open_table(HOLDS)?.iter()? {
            let (id, at) = entry?;
            let at = layout::decode_position(at.value()).ok_or_else(|| corrupted("hold"))?;
            directory.holds.insert(HoldId(id.value()), at);
        }
        directory.catalogue = Catalogue::new(
            load_records(transaction, DATABASES, "database record", |id| id)?,
            load_records(transaction, RELATIONS, "relation record", RelationId)?,
            next_id,
        );
        transaction.open_table(layout::ROWS)?;
        transaction.open_table(layout::RUNS)?;
        transaction.open_table(layout::CHANGES)?;
        Ok(directory)
    }

    /// Stores what differs from `old`.
    pub(crate) fn save(&self, old: &Self, transaction: &WriteTransaction) -> Step<()> {
        {
            let mut meta = transaction.open_table(META)?;
            let threshold = layout::encode_position(self.threshold);
            meta.insert(META_THRESHOLD, threshold.as_slice())?;
            meta.insert(META_TTL, self.ttl.0.to_be_bytes().as_slice())?;
            let next_id = self.catalogue.next_id.to_be_bytes();
            meta.insert(META_NEXT_ID, next_id.as_slice())?;
        }
        {
            let mut holds = transaction.open_table(HOLDS)?;
            for id in old.holds.keys().filter(|id| !self.holds.contains_key(id)) {
                holds.remove(id.0)?;
            }
            for (id, at) in &self.holds {
                if old.holds.get(id) != Some(at) {
                    holds.insert(id.0, layout::encode_position(*at).as_slice())?;
                }
            }
        }
        let (new, old) = (&self.catalogue, &old.catalogue);
        save_records(
            transaction,
            DATABASES,
            &old.databases,
            &new.databases,
            |id| *id,
        )?;
        save_records(
            transaction,
            RELATIONS,
            &old.relations,
            &new.relations,
            |id| id.0,
        )
    }
}

fn unknown_format(format: u64) -> StepError {
    holdfast_types::Fault::new(
        holdfast_types::ErrorCode::Unsupported,
        format!("the member's store has format {format}; this version reads format {FORMAT}"),
    )
    .hint("use the version of holdfast that wrote it")
    .into()
}

type RecordTable = redb::TableDefinition<'static, u64, layout::Raw>;

fn load_records<K: Ord, V: DeserializeOwned>(
    transaction: &WriteTransaction,
    table: RecordTable,
    what: &str,
    id: impl Fn(u64) -> K,
) -> Step<BTreeMap<K, V>> {
    let mut records = BTreeMap::new();
    for entry in transaction.open_table(table)?.iter()? {
        let (key, value) = entry?;
        let record = match value.value().split_first() {
            Some((&RECORD_VERSION, bytes)) => postcard::from_bytes(bytes).ok(),
            _ => None,
        };
        records.insert(id(key.value()), record.ok_or_else(|| corrupted(what))?);
    }
    Ok(records)
}

fn save_records<K: Ord, V: Serialize + PartialEq>(
    transaction: &WriteTransaction,
    table: RecordTable,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    id: impl Fn(&K) -> u64,
) -> Step<()> {
    let mut table = transaction.open_table(table)?;
    for key in old.keys().filter(|key| !new.contains_key(key)) {
        table.remove(id(key))?;
    }
    for (key, record) in new {
        if old.get(key) != Some(record) {
            let bytes = postcard::to_extend(record, vec![RECORD_VERSION])
                .map_err(|_| corrupted("record in memory"))?;
            table.insert(id(key), bytes.as_slice())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{DatabaseRecord, RelationRecord, Visibility};
    use holdfast_types::{JobId, Timestamp};

    /// The stored form of every record, byte by byte: a store that an earlier version wrote must open. If this fails, do not change the bytes
    /// here: raise `RECORD_VERSION`, and read both.
    #[test]
    fn stored_records_are_what_version_1_wrote() {
        let at = |micros| Hlc {
            wall: Timestamp::from_micros(micros),
            logical: 3,
        };
        let database = DatabaseRecord {
            name: "app".to_owned(),
            created_at: at(5),
            dropped_at: Some(at(300)),
            visibility: Visibility::Discarded,
            restored_by: None,
        };
        let relation = RelationRecord {
            name: "app.t".parse().expect("a name"),
            created_at: at(5),
            dropped_at: None,
            visibility: Visibility::Restoring(JobId(7)),
            restored_by: Some(JobId(7)),
            definition: vec![0xd0, 0xd1],
        };
        let bytes = postcard::to_stdvec(&database).expect("encodes");
        assert_eq!(bytes, b"\x03app\x05\x03\x01\xac\x02\x03\x02\x00");
        let read: DatabaseRecord = postcard::from_bytes(&bytes).expect("decodes");
        assert_eq!(read, database);
        let bytes = postcard::to_stdvec(&relation).expect("encodes");
        assert_eq!(
            bytes,
            b"\x03app\x01t\x05\x03\x00\x01\x07\x01\x07\x02\xd0\xd1"
        );
        let read: RelationRecord = postcard::from_bytes(&bytes).expect("decodes");
        assert_eq!(read, relation);
        assert_eq!(
            layout::row_key(RelationId(2), b"a\0", at(5)),
            b"\0\0\0\0\0\0\0\x02a\0\xff\0\x01\xff\xff\xff\xff\xff\xff\xff\xfa\xff\xff\xff\xfc"
        );
        let run = layout::Run {
            first: at(1),
            last: at(2),
            keys: 3,
            bytes: 4,
        };
        assert_eq!(
            run.encode(),
            *b"\0\0\0\0\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04"
        );
    }
}
