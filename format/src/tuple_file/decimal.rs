//! Decimal numbers as PostgreSQL's `numeric` has them in binary: four `i16` (digits, weight, sign, scale), then digits to the base 10,000, big endian. Those
//! of one scale are whole numbers of its last place.

/// Bytes before the digits.
const HEAD: usize = 8;
/// The base of the digits.
const BASE: i64 = 10_000;
/// Places of a digit.
const PLACES: u16 = 4;
/// The sign of a negative number; that of others is 0. Further ones are infinities and no number at all.
const NEGATIVE: u16 = 0x4000;
/// The largest scale: 10^18 is the highest power of ten in 64 bits.
pub(super) const MAX_SCALE: u16 = 18;
/// The longest decimal that is made of a number: 19 places before and behind the point, and what a digit takes beyond them.
const MAX_DIGITS: usize = 8;

/// The scale of a decimal, if it is one.
pub(super) fn scale_of(field: &[u8]) -> Option<u16> {
    let ([digits, _, _, scale], rest) = head_of(field)?;
    let is_whole = rest.len() == usize::from(digits).checked_mul(2)?;
    (is_whole && scale <= MAX_SCALE).then_some(scale)
}

/// The whole number that a decimal of this scale is; `None` if it is none that [`write`] spells the same.
pub(super) fn parse(field: &[u8], scale: u16) -> Option<i64> {
    let ([count, weight, sign, own_scale], rest) = head_of(field)?;
    let (digits, odd) = rest.as_chunks::<2>();
    if own_scale != scale || digits.len() != usize::from(count) || !odd.is_empty() {
        return None;
    }
    let (Some(first), Some(last)) = (digits.first(), digits.last()) else {
        return (weight == 0 && sign == 0).then_some(0);
    };
    if *first == [0; 2] || *last == [0; 2] || !(sign == 0 || sign == NEGATIVE) {
        return None;
    }
    let mut number = 0i64;
    for digit in digits {
        let digit = i64::from(u16::from_be_bytes(*digit));
        if digit >= BASE {
            return None;
        }
        number = number.checked_mul(BASE)?.checked_add(digit)?;
    }
    // Places behind the point that the digits reach, below zero if they end before it.
    let behind = i64::from(count)
        .checked_sub(1)?
        .checked_sub(i64::from(weight as i16))?
        .checked_mul(i64::from(PLACES))?;
    let missing = i64::from(scale).checked_sub(behind)?;
    let power = 10i64.checked_pow(u32::try_from(missing.unsigned_abs()).ok()?)?;
    number = match missing {
        0.. => number.checked_mul(power)?,
        _ if number.checked_rem(power)? == 0 => number.checked_div(power)?,
        _ => return None,
    };
    Some(if sign == NEGATIVE {
        number.wrapping_neg()
    } else {
        number
    })
}

/// Appends the decimal of this scale that a number is.
pub(super) fn write(number: i64, scale: u16, fields: &mut Vec<u8>) {
    let behind = scale.div_ceil(PLACES);
    let padding = behind.wrapping_mul(PLACES).wrapping_sub(scale);
    let padded =
        u128::from(number.unsigned_abs()).wrapping_mul(10u128.wrapping_pow(u32::from(padding)));
    let mut digits = [0u16; MAX_DIGITS];
    // Most numbers are short, and their division is much quicker.
    match u64::try_from(padded) {
        Ok(mut rest) => {
            for digit in digits.iter_mut().rev() {
                *digit = (rest % 10_000) as u16;
                rest /= 10_000;
            }
        }
        Err(_) => {
            let mut rest = padded;
            for digit in digits.iter_mut().rev() {
                *digit = (rest % 10_000) as u16;
                rest /= 10_000;
            }
        }
    }
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let significant = digits.get(zeros..).unwrap_or_default();
    let trailing = significant.iter().rev().take_while(|digit| **digit == 0);
    let length = significant.len().wrapping_sub(trailing.count());
    let significant = significant.get(..length).unwrap_or_default();
    let weight = match significant.is_empty() {
        true => 0,
        false => MAX_DIGITS
            .wrapping_sub(zeros)
            .wrapping_sub(usize::from(behind))
            .wrapping_sub(1) as u16,
    };
    let sign = if number < 0 { NEGATIVE } else { 0 };
    for part in [significant.len() as u16, weight, sign, scale] {
        fields.extend_from_slice(&part.to_be_bytes());
    }
    for digit in significant {
        fields.extend_from_slice(&digit.to_be_bytes());
    }
}

fn head_of(field: &[u8]) -> Option<([u16; 4], &[u8])> {
    let (head, rest) = field.split_first_chunk::<HEAD>()?;
    let (parts, _) = head.as_chunks::<2>();
    let mut parts = parts.iter().map(|part| u16::from_be_bytes(*part));
    let head = std::array::from_fn(|_| parts.next().unwrap_or_default());
    Some((head, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spelt(parts: &[u16]) -> Vec<u8> {
        parts.iter().flat_map(|part| part.to_be_bytes()).collect()
    }

    #[test]
    fn decimals_are_spelt_as_the_server_does() {
        for (number, scale, parts) in [
            (0, 0, &[0, 0, 0, 0][..]),
            (0, 2, &[0, 0, 0, 2]),
            (123_456, 2, &[2, 0, 0, 2, 1234, 5600]),
            (-123_456, 2, &[2, 0, NEGATIVE, 2, 1234, 5600]),
            (1, 2, &[1, 0xffff, 0, 2, 100]),
            (1, 8, &[1, 0xfffe, 0, 8, 1]),
            (10_000, 0, &[1, 1, 0, 0, 1]),
            (100_000_000, 2, &[1, 1, 0, 2, 100]),
            (i64::MAX, 0, &[5, 4, 0, 0, 922, 3372, 368, 5477, 5807]),
        ] {
            let mut field = Vec::new();
            write(number, scale, &mut field);
            assert_eq!(field, spelt(parts), "{number} {scale}");
            assert_eq!(parse(&field, scale), Some(number), "{number} {scale}");
            assert_eq!(scale_of(&field), Some(scale));
        }
    }

    #[test]
    fn what_would_not_come_back_the_same_is_no_number() {
        for parts in [
            // NaN and the infinities.
            &[0, 0, 0xc000, 0][..],
            &[0, 0, 0xd000, 0],
            // Zero with a sign or a weight; zeros in front and behind.
            &[0, 0, NEGATIVE, 2],
            &[0, 1, 0, 2],
            &[2, 1, 0, 2, 0, 5],
            &[2, 1, 0, 2, 5, 0],
            // A digit beyond the base; places behind the scale; another scale; another count.
            &[1, 0, 0, 2, 10_000],
            &[2, 0, 0, 2, 1, 1],
            &[1, 0, 0, 3, 1],
            &[2, 0, 0, 2, 1],
            // Too large.
            &[1, 5, 0, 2, 1],
        ] {
            assert_eq!(parse(&spelt(parts), 2), None, "{parts:?}");
        }
        assert_eq!(parse(&[0; 7], 0), None);
        assert_eq!(parse(&[0; 9], 0), None);
    }

    proptest! {
        #[test]
        fn any_number_comes_back(number in any::<i64>(), shift in 0_u32..64, scale in 0_u16..=MAX_SCALE) {
            let number = number >> shift;
            let mut field = Vec::new();
            write(number, scale, &mut field);
            // Digits reach behind the scale, and may leave 64 bits; whatever is taken comes back.
            if let Some(back) = parse(&field, scale) {
                prop_assert_eq!(back, number);
            } else {
                prop_assert!(number.unsigned_abs() > i64::MAX as u64 / 1000);
            }
        }

        #[test]
        fn what_is_taken_is_spelt_the_same(
            digits in proptest::collection::vec(0_u16..10_001, 0..6), weight in -3_i16..5, sign in 0_u16..4, scale in 0_u16..12,
        ) {
            let mut parts = vec![digits.len() as u16, weight as u16, sign << 14, scale];
            parts.extend(digits);
            let field = spelt(&parts);
            if let Some(number) = parse(&field, scale) {
                let mut back = Vec::new();
                write(number, scale, &mut back);
                prop_assert_eq!(back, field);
            }
        }
    }
}
