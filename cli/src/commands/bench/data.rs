//! Rows to back up.

use holdfast_mvcc::{Mutation, MvccClient};
use holdfast_types::{ByteCount, Fault, TableName};
use std::sync::Arc;

use crate::context::Context;

/// Bytes in a MiB.
pub(super) const MIB: u64 = 1024 * 1024;
/// Bytes of a row's value: a middling row of an application.
const VALUE_LENGTH: usize = 1000;
/// Rows that one transaction writes.
const ROWS_AT_ONCE: u64 = 4000;

/// Writes rows of about this many bytes in all; gives the exact number.
pub(super) async fn fill(context: &Context, address: &str, size: u64) -> Result<u64, Fault> {
    context
        .output
        .note(format!("writing {} of rows", ByteCount(size)));
    let client = MvccClient::new(Arc::clone(&context.env.net), address)?;
    let table: TableName = "bench.rows".parse()?;
    client.create_database(&table.database).await?;
    client.create_table(&table, "").await?;
    let (mut row, mut bytes) = (0u64, 0u64);
    while bytes < size {
        let batch: Vec<Mutation> = (row..row + ROWS_AT_ONCE)
            .map(|row| Mutation::put(table.clone(), format!("row-{row:012}"), value(row)))
            .collect();
        row += ROWS_AT_ONCE;
        bytes += batch
            .iter()
            .map(|mutation| mutation.logical_len() as u64)
            .sum::<u64>();
        client.write(batch).await?;
    }
    Ok(bytes)
}

/// Random hexadecimal digits: compresses to about a half, as text does.
pub(super) fn value(row: u64) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut state = row.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..VALUE_LENGTH)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            DIGITS[(state >> 60) as usize]
        })
        .collect()
}
