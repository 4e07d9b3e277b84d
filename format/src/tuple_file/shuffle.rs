//! Byte shuffle: values of one width, taken apart into all their first bytes, all their second bytes, and so on.

/// Transposes eight rows of eight bytes: byte `c` of number `r` becomes byte `r` of number `c`.
fn transpose(rows: [u64; 8]) -> [u64; 8] {
    /// Swaps the upper lanes of the first with the lower lanes of the second.
    fn swap<const SHIFT: u32>(mask: u64, low: &mut u64, high: &mut u64) {
        let change = ((*low >> SHIFT) ^ *high) & mask;
        *high ^= change;
        *low ^= change << SHIFT;
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = rows;
    for (low, high) in [
        (&mut a, &mut e),
        (&mut b, &mut f),
        (&mut c, &mut g),
        (&mut d, &mut h),
    ] {
        swap::<32>(0x0000_0000_ffff_ffff, low, high);
    }
    for (low, high) in [
        (&mut a, &mut c),
        (&mut b, &mut d),
        (&mut e, &mut g),
        (&mut f, &mut h),
    ] {
        swap::<16>(0x0000_ffff_0000_ffff, low, high);
    }
    for (low, high) in [
        (&mut a, &mut b),
        (&mut c, &mut d),
        (&mut e, &mut f),
        (&mut g, &mut h),
    ] {
        swap::<8>(0x00ff_00ff_00ff_00ff, low, high);
    }
    [a, b, c, d, e, f, g, h]
}

/// Eight planes at once, or fewer at the end of a width that is no multiple of eight.
type Planes<'a> = [&'a [u8]; 8];

/// Shuffles values of `width` bytes. The result has one plane after another, each a byte of every value.
pub(super) fn shuffle(values: &[u8], width: usize, planes: &mut Vec<u8>) {
    planes.clear();
    planes.resize(values.len(), 0);
    let count = values.len().checked_div(width).unwrap_or(0);
    if count == 0 {
        return;
    }
    match width {
        2 => split_pairs(values.as_chunks().0, planes),
        4 => split_quads(values.as_chunks().0, planes),
        _ => {
            // Eight planes at a time: that many bytes of eight values fit the registers.
            let groups = planes.chunks_mut(count.saturating_mul(8));
            for (group, offset) in groups.zip((0..width).step_by(8)) {
                split_group(values, width, offset, count, group);
            }
        }
    }
}

fn split_pairs(values: &[[u8; 2]], planes: &mut [u8]) {
    let (first, second) = planes.split_at_mut(values.len());
    for ((value, a), b) in values.iter().zip(first).zip(second) {
        [*a, *b] = *value;
    }
}

fn split_quads(values: &[[u8; 4]], planes: &mut [u8]) {
    let (low, high) = planes.split_at_mut(values.len().saturating_mul(2));
    let (first, second) = low.split_at_mut(values.len());
    let (third, fourth) = high.split_at_mut(values.len());
    let lanes = first.iter_mut().zip(second).zip(third).zip(fourth);
    for (value, (((a, b), c), d)) in values.iter().zip(lanes) {
        [*a, *b, *c, *d] = *value;
    }
}

/// Up to eight planes of all values, from the byte at `offset`.
fn split_group(values: &[u8], width: usize, offset: usize, count: usize, group: &mut [u8]) {
    let mut planes = group.chunks_exact_mut(count);
    let mut lanes: [&mut [u8]; 8] = std::array::from_fn(|_| planes.next().unwrap_or_default());
    let mut eights = values.chunks_exact(width.saturating_mul(8));
    let mut at = 0usize;
    for eight in eights.by_ref() {
        let mut rows = [0u64; 8];
        for (row, value) in rows.iter_mut().zip(eight.chunks_exact(width)) {
            *row = load(value.get(offset..).unwrap_or_default());
        }
        for (lane, column) in lanes.iter_mut().zip(transpose(rows)) {
            if let Some(to) = lane.get_mut(at..).and_then(|lane| lane.first_chunk_mut()) {
                *to = column.to_le_bytes();
            }
        }
        at = at.wrapping_add(8);
    }
    for value in eights.remainder().chunks_exact(width) {
        let bytes = value.get(offset..).unwrap_or_default();
        for (lane, byte) in lanes.iter_mut().zip(bytes) {
            if let Some(to) = lane.get_mut(at) {
                *to = *byte;
            }
        }
        at = at.wrapping_add(1);
    }
}

/// The first eight bytes, or all and zeros.
fn load(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => {
            let mut padded = [0u8; 8];
            for (to, from) in padded.iter_mut().zip(bytes) {
                *to = *from;
            }
            u64::from_le_bytes(padded)
        }
    }
}

/// Puts some of the values together again that [`shuffle`] took apart: `count` of them from the one at `first`.
///
/// `planes` has a whole number of values of `width` bytes, and those asked for are among them.
pub(super) fn unshuffle(
    planes: &[u8],
    width: usize,
    first: usize,
    count: usize,
    values: &mut Vec<u8>,
) {
    values.clear();
    values.resize(count.saturating_mul(width), 0);
    let total = planes.len().checked_div(width).unwrap_or(0);
    if total == 0 || count == 0 {
        return;
    }
    let mut lanes = planes.chunks_exact(total).map(|plane| {
        let rest = plane.get(first..).unwrap_or_default();
        rest.get(..count).unwrap_or(rest)
    });
    match width {
        2 => {
            let [a, b] = std::array::from_fn(|_| lanes.next().unwrap_or_default());
            for ((value, a), b) in values.as_chunks_mut().0.iter_mut().zip(a).zip(b) {
                *value = [*a, *b];
            }
        }
        4 => {
            let [a, b, c, d] = std::array::from_fn(|_| lanes.next().unwrap_or_default());
            let bytes = a.iter().zip(b).zip(c).zip(d);
            for (value, (((a, b), c), d)) in values.as_chunks_mut().0.iter_mut().zip(bytes) {
                *value = [*a, *b, *c, *d];
            }
        }
        _ => {
            for offset in (0..width).step_by(8) {
                let group = std::array::from_fn(|_| lanes.next().unwrap_or_default());
                join_group(group, width, offset, values);
            }
        }
    }
}

/// Up to eight bytes of all values, from the byte at `offset`. Lanes that there are none of are empty.
fn join_group(group: Planes<'_>, width: usize, offset: usize, values: &mut [u8]) {
    let whole = offset.saturating_add(8) <= width;
    let mut eights = values.chunks_exact_mut(width.saturating_mul(8));
    let mut at = 0usize;
    for eight in eights.by_ref() {
        let columns = group.map(|lane| load(lane.get(at..).unwrap_or_default()));
        for (value, row) in eight.chunks_exact_mut(width).zip(transpose(columns)) {
            let to = value.get_mut(offset..).unwrap_or_default();
            let bytes = row.to_le_bytes();
            match to.first_chunk_mut::<8>() {
                Some(to) if whole => *to = bytes,
                _ => to.iter_mut().zip(bytes).for_each(|(to, from)| *to = from),
            }
        }
        at = at.wrapping_add(8);
    }
    for value in eights.into_remainder().chunks_exact_mut(width) {
        let to = value.get_mut(offset..).unwrap_or_default();
        for (to, lane) in to.iter_mut().zip(group) {
            *to = lane.get(at).copied().unwrap_or(0);
        }
        at = at.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_the_bytes_of_all_values_in_order() {
        for width in 1..40usize {
            for count in [0usize, 1, 2, 7, 8, 9, 16, 31, 100] {
                let values: Vec<u8> = (0..width * count).map(|n| (n * 7 % 251) as u8).collect();
                let expected: Vec<u8> = (0..width)
                    .flat_map(|plane| (0..count).map(move |row| row * width + plane))
                    .map(|at| values[at])
                    .collect();
                let mut planes = Vec::new();
                shuffle(&values, width, &mut planes);
                assert_eq!(planes, expected, "{width} {count}");
                let mut back = Vec::new();
                for (first, some) in [(0, count), (count / 3, count / 2), (count, 0)] {
                    unshuffle(&planes, width, first, some, &mut back);
                    let wanted = &values[first * width..(first + some) * width];
                    assert_eq!(back, wanted, "{width} {count} {first} {some}");
                }
            }
        }
    }
}
