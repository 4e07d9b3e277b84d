//! Taking in what a store answers to a read.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use holdfast_types::Fault;
use object_store::path::Path;
use object_store::{GetResult, GetResultPayload};

use crate::store::{CALL_DEADLINE, within};

/// The bytes of an answer, and at most one piece more than `most` of them: a store that sends more than it should is not listened to for long.
///
/// A file is read at once: its stream comes in pieces of 8 KiB, each by way of another thread, which costs more than reading it.
pub(crate) async fn received(result: GetResult, at: &Path, most: u64) -> Result<Bytes, Fault> {
    let claimed = result.range.end.saturating_sub(result.range.start);
    if claimed <= most && matches!(result.payload, GetResultPayload::File(..)) {
        return within(CALL_DEADLINE, "reading", at, result.bytes()).await;
    }
    let mut stream = result.into_stream();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = within(CALL_DEADLINE, "reading", at, stream.try_next()).await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > most {
            break;
        }
    }
    Ok(bytes.freeze())
}
