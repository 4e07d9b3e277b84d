//! The second stage of a backup: makes a span file of a part.

use bytes::Bytes;
use holdfast_env::Env;
use holdfast_format::{SpanFileOptions, SpanFileSummary, SpanFileWriter};
use holdfast_source::{Change, RowBatch};
use holdfast_types::Fault;

use super::stage::Stage;

/// Bytes of a file that are collected in one chunk.
const CHUNK: u64 = 1 << 20;

/// A finished span file in memory.
#[derive(Debug)]
pub(crate) struct Packed {
    /// All its bytes.
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) summary: SpanFileSummary,
}

/// Makes a span file of a part, off the event loop.
pub(crate) struct Packer {
    env: Env,
}

impl Packer {
    pub(crate) fn new(env: Env) -> Self {
        Self { env }
    }
}

impl Stage for Packer {
    type Input = RowBatch;
    type Output = Packed;
    const NAME: &'static str = "packer";

    async fn run(&mut self, rows: RowBatch) -> Result<Packed, Fault> {
        self.env.blocking(move || pack(rows)).await
    }
}

fn pack(rows: RowBatch) -> Result<Packed, Fault> {
    let mut writer = SpanFileWriter::new(SpanFileOptions::default())?;
    let mut chunks = Vec::new();
    let mut taken = 0;
    // Rows go one by one, so that part and file are never both whole in memory.
    for row in rows {
        let value = match &row.change {
            Change::Put(value) => Some(value.as_ref()),
            Change::Delete => None,
        };
        writer.push_row(&row.key, row.position, value)?;
        if writer.stored().0.saturating_sub(taken) >= CHUNK {
            taken = writer.stored().0;
            chunks.push(writer.take());
        }
    }
    let (rest, summary) = writer.finish()?;
    chunks.push(rest);
    Ok(Packed { chunks, summary })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use holdfast_format::SpanFileReader;
    use holdfast_source::Row;
    use holdfast_types::{ErrorCode, Hlc, Timestamp};

    fn row(key: u32, change: Change) -> Row {
        Row {
            key: key.to_be_bytes().to_vec().into(),
            position: Hlc::at(Timestamp::from_micros(5)).into(),
            change,
        }
    }

    #[test]
    fn a_packed_part_is_a_sound_span_file_of_its_rows() {
        // Values that do not compress, so that there are several chunks.
        let value = |n: u32| {
            let mut digest = holdfast_types::Digest::of(&n.to_le_bytes()).0.to_vec();
            digest.extend(holdfast_types::Digest::of(&digest).0);
            digest.repeat(16)
        };
        let mut rows: Vec<Row> = (0..30_000)
            .map(|n| row(n, Change::Put(value(n).into())))
            .collect();
        rows.push(row(30_000, Change::Delete));
        let logical: u64 = rows.iter().map(|row| row.logical_len() as u64).sum();
        let packed = pack(rows).expect("packs");
        assert_eq!(packed.summary.rows.0, 30_001);
        assert_eq!(packed.summary.logical.0, logical);
        let mut file = BytesMut::new();
        packed.chunks.iter().for_each(|chunk| file.extend(chunk));
        assert_eq!(file.len() as u64, packed.summary.length.0);
        let checked = SpanFileReader::check(&file.freeze()).expect("sound");
        assert_eq!(checked.digest, packed.summary.digest);
    }

    #[test]
    fn a_source_that_breaks_the_order_is_found_out() {
        let rows = vec![row(2, Change::Delete), row(1, Change::Delete)];
        let fault = pack(rows).expect_err("out of order");
        assert_eq!(fault.code, ErrorCode::Internal);
    }
}
