//! Columns of few different values: each once, and for every row which one it is.

/// The most different values: their numbers fit into a byte.
pub(super) const MAX_ENTRIES: usize = 256;
/// The longest value that is looked up. Long ones are seldom few, and compression finds them again.
const MAX_LENGTH: usize = 32;
/// The longest value that a reader takes.
pub(super) const MAX_READ_LENGTH: usize = 255;
/// Rows for each different value that there must at least be.
const LEAST_REPEATED: usize = 4;
/// Places in the table, some for each entry.
const TABLE: usize = 1024;

/// Finds the different values of a column.
#[derive(Debug, Default)]
pub(super) struct Dictionary<'a> {
    pub(super) entries: Vec<&'a [u8]>,
}

impl<'a> Dictionary<'a> {
    /// The values of so many rows, in the order in which they first come, and their numbers in `indices`; `None` if they are too many or too long for that.
    pub(super) fn of(
        fields: impl Iterator<Item = &'a [u8]>,
        rows: usize,
        indices: &mut Vec<u8>,
    ) -> Option<Self> {
        indices.clear();
        let most = (rows / LEAST_REPEATED).min(MAX_ENTRIES);
        let mut entries: Vec<&[u8]> = Vec::new();
        // The number after that of the entry; 0 is a free place.
        let mut table = [0u16; TABLE];
        for field in fields {
            let mut place = hash(field);
            let number = loop {
                place %= TABLE;
                let known = table.get(place).copied().unwrap_or(0);
                match usize::from(known).checked_sub(1) {
                    Some(number) if entries.get(number) == Some(&field) => break number,
                    Some(_) => place = place.wrapping_add(1),
                    None if entries.len() >= most || field.len() > MAX_LENGTH => return None,
                    None => {
                        entries.push(field);
                        if let Some(free) = table.get_mut(place) {
                            *free = entries.len() as u16;
                        }
                        break entries.len().wrapping_sub(1);
                    }
                }
            };
            indices.push(number as u8);
        }
        Some(Self { entries })
    }
}

fn hash(field: &[u8]) -> usize {
    let (words, rest) = field.as_chunks::<8>();
    let mut last = [0u8; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let all = words.iter().chain([&last]);
    let sum = all.fold(field.len() as u64, |sum, word| {
        (sum ^ u64::from_le_bytes(*word))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    });
    (sum >> 20) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_have_numbers_and_many_have_none() {
        let words: [&[u8]; 5] = [b"EUR", b"USD", b"", b"US", b"USD\0"];
        let fields: Vec<&[u8]> = (0..100).map(|row| words[row * 7 % 5]).collect();
        let mut indices = Vec::new();
        let found = Dictionary::of(fields.iter().copied(), 100, &mut indices).expect("few");
        assert_eq!(found.entries.len(), 5);
        let back: Vec<&[u8]> = indices
            .iter()
            .map(|index| found.entries[usize::from(*index)])
            .collect();
        assert_eq!(back, fields);
        let of = |different: u32, rows: u32| {
            let fields: Vec<[u8; 4]> = (0..rows)
                .map(|row| (row % different).to_le_bytes())
                .collect();
            let mut indices = Vec::new();
            let found = Dictionary::of(
                fields.iter().map(|field| &field[..]),
                fields.len(),
                &mut indices,
            );
            found.map(|found| found.entries.len())
        };
        assert_eq!(of(256, 1024), Some(256));
        assert_eq!(of(257, 9999), None);
        assert_eq!(of(256, 1023), None);
        assert_eq!(of(1, 3), None);
        let long = [7; MAX_LENGTH + 1];
        let mut indices = Vec::new();
        assert!(Dictionary::of([&long[..]; 50].into_iter(), 50, &mut indices).is_none());
    }
}
