//! Encrypting an object.

use aws_lc_rs::aead::Aad;
use bytes::{Buf, Bytes};
use holdfast_types::{Digest, ErrorCode, Fault};

use super::data_key::DataKey;
use super::frame::{CHUNK, bound, chunks, head, nonce};

/// Bytes after which what is sealed is handed on, so that not all of an object is there twice.
const PIECE: usize = 1 << 20;

/// Bytes in pieces, taken from the front. A piece is let go of as soon as it is used up.
struct Feed {
    rest: std::vec::IntoIter<Bytes>,
    current: Bytes,
}

impl Feed {
    /// Moves as much as there is, and not more than `limit`.
    fn fill(&mut self, out: &mut Vec<u8>, limit: usize) {
        let mut missing = limit;
        while missing > 0 {
            if self.current.is_empty() {
                match self.rest.next() {
                    Some(next) => self.current = next,
                    None => return,
                }
            }
            let take = self.current.len().min(missing);
            let (taken, _) = self.current.split_at(take);
            out.extend_from_slice(taken);
            self.current.advance(take);
            missing = missing.saturating_sub(take);
        }
    }
}

/// Seals an object; `digest` is that of its bytes.
pub(super) fn seal(
    key: &DataKey,
    path: &str,
    clear: Vec<Bytes>,
    digest: &Digest,
) -> Result<Vec<Bytes>, Fault> {
    let length: u64 = clear.iter().map(|piece| piece.len() as u64).sum();
    let salt = key.salt(path, length, digest);
    let file_key = key.file_key(&salt)?;
    let head = head(key, &salt);
    let bound = bound(&head, path);
    let chunk = usize::try_from(CHUNK).unwrap_or_default();

    let mut feed = Feed {
        rest: clear.into_iter(),
        current: Bytes::new(),
    };
    let (mut sealed, mut piece) = (Vec::new(), head);
    let count = chunks(length);
    for index in 0..count {
        let start = piece.len();
        feed.fill(&mut piece, chunk);
        let is_last = index.saturating_add(1) == count;
        let content = piece.get_mut(start..).unwrap_or_default();
        let tag = file_key
            .seal_in_place_separate_tag(nonce(index, is_last), Aad::from(&bound), content)
            .map_err(|_| {
                Fault::new(
                    ErrorCode::Internal,
                    format!("object {path} could not be encrypted"),
                )
            })?;
        piece.extend_from_slice(tag.as_ref());
        if piece.len() >= PIECE {
            let room = Vec::with_capacity(PIECE.saturating_add(chunk).saturating_add(1024));
            sealed.push(std::mem::replace(&mut piece, room).into());
        }
    }
    sealed.push(piece.into());
    Ok(sealed)
}
