//! Numbers of a column in as few bytes as they need: less the smallest, divided by what divides them all, and as differences where these are
//! smaller. Times of a clock that ticks in milliseconds, and numbers that count up, lose most of their bytes so.

use holdfast_types::Fault;

use super::FORM;
use crate::wire::{Decoder, Encoder};

/// The bit of the form that says that differences are stored. The lower ones are the bytes of each.
const DELTA: u8 = 1 << 4;
/// The most bytes of a packed number.
const MAX_SIZE: u8 = 8;
/// Bits that a number must be shorter by as a difference: differences of random numbers are about as long as they are.
const LEAST_GAIN: u64 = 2;

/// How the numbers of a column are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packing {
    base: u64,
    step: u64,
    is_delta: bool,
    /// Bytes of each.
    size: u8,
}

impl Packing {
    /// Packs numbers, in place.
    pub(super) fn pack(numbers: &mut [u64]) -> Self {
        let base = numbers.iter().map(|number| *number as i64).min();
        let base = base.unwrap_or(0) as u64;
        let step = step_of(numbers, base);
        for number in &mut *numbers {
            let above = number.wrapping_sub(base);
            *number = match step {
                1 => above,
                step => above.checked_div(step).unwrap_or(above),
            };
        }
        let (mut direct, mut differences, mut before) = (0u64, 0u64, 0u64);
        for number in &*numbers {
            direct = direct.wrapping_add(bits(*number));
            differences = differences.wrapping_add(bits(zigzag(number.wrapping_sub(before))));
            before = *number;
        }
        let margin = LEAST_GAIN.wrapping_mul(numbers.len() as u64);
        let is_delta = differences.saturating_add(margin) < direct;
        if is_delta {
            let mut before = 0u64;
            for number in &mut *numbers {
                let difference = number.wrapping_sub(before);
                before = *number;
                *number = zigzag(difference);
            }
        }
        let all = numbers.iter().fold(0, |all, number| all | number);
        Self {
            base,
            step,
            is_delta,
            size: bits(all).div_ceil(8) as u8,
        }
    }

    /// Whether this is more than leaving out bytes that are all the same, which compression does as well.
    pub(super) fn is_gain(self) -> bool {
        self.is_delta || self.step > 1
    }

    /// The first bytes of all packed numbers, the lowest ones, then the second ones, and so on.
    pub(super) fn planes(self, packed: &[u64], planes: &mut Vec<u8>) {
        planes.clear();
        for byte in 0..u32::from(self.size) {
            let shift = byte.wrapping_mul(8) & 63;
            planes.extend(packed.iter().map(|number| (number >> shift) as u8));
        }
    }

    pub(super) fn encode(self, encoder: &mut Encoder) {
        let delta = if self.is_delta { DELTA } else { 0 };
        encoder.u8(self.size | delta).u64(self.base).u64(self.step);
    }

    pub(super) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Fault> {
        let form = decoder.u8()?;
        let packing = Self {
            base: decoder.u64()?,
            step: decoder.u64()?,
            is_delta: form & DELTA != 0,
            size: form & !DELTA,
        };
        if packing.size > MAX_SIZE || packing.step == 0 {
            return Err(FORM.damaged("a column is stored unknown"));
        }
        Ok(packing)
    }

    /// The length of the planes of so many numbers.
    pub(super) fn length(self, count: usize) -> usize {
        count.saturating_mul(usize::from(self.size))
    }

    /// The numbers, as signed ones, from planes of that length.
    pub(super) fn unpack(self, planes: &[u8], count: usize, numbers: &mut Vec<u64>) {
        numbers.clear();
        numbers.resize(count, 0);
        let lanes = planes.chunks_exact(count.max(1));
        for (lane, shift) in lanes.zip((0u32..64).step_by(8)) {
            for (number, byte) in numbers.iter_mut().zip(lane) {
                *number |= u64::from(*byte) << (shift & 63);
            }
        }
        let mut before = 0u64;
        for number in numbers {
            if self.is_delta {
                before = before.wrapping_add(unzigzag(*number));
                *number = before;
            }
            *number = number.wrapping_mul(self.step).wrapping_add(self.base);
        }
    }
}

/// The greatest number that divides all distances from the smallest.
fn step_of(numbers: &[u64], base: u64) -> u64 {
    let mut step = 0u64;
    for number in numbers {
        let above = number.wrapping_sub(base);
        if step == 1 {
            return 1;
        }
        // The first distance is its own divisor.
        if above.checked_rem(step).unwrap_or(above) != 0 {
            step = common_divisor(above, step);
        }
    }
    step.max(1)
}

fn common_divisor(mut larger: u64, mut smaller: u64) -> u64 {
    while smaller != 0 {
        (larger, smaller) = (smaller, larger.checked_rem(smaller).unwrap_or(0));
    }
    larger
}

const fn bits(number: u64) -> u64 {
    (u64::BITS.wrapping_sub(number.leading_zeros())) as u64
}

const fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (((difference as i64) >> 63) as u64)
}

const fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(numbers: &[i64]) -> (Packing, Vec<u8>) {
        let mut own: Vec<u64> = numbers.iter().map(|number| *number as u64).collect();
        let packing = Packing::pack(&mut own);
        let mut planes = Vec::new();
        packing.planes(&own, &mut planes);
        (packing, planes)
    }

    fn there_and_back(numbers: &[i64]) -> Packing {
        let (packing, planes) = packed(numbers);
        assert_eq!(planes.len(), packing.length(numbers.len()));
        let mut head = Encoder::default();
        packing.encode(&mut head);
        let read = Packing::decode(&mut Decoder::new(&head.0, "it")).expect("sound");
        assert_eq!(read, packing);
        let mut back = Vec::new();
        read.unpack(&planes, numbers.len(), &mut back);
        let back: Vec<i64> = back.into_iter().map(|number| number as i64).collect();
        assert_eq!(back, numbers);
        packing
    }

    #[test]
    fn clocks_and_counters_are_short() {
        let milliseconds: Vec<i64> = (0..1000).map(|n| n * 7_919_000 % 86_400_000_000).collect();
        let packing = there_and_back(&milliseconds);
        assert!(packing.step >= 1000 && packing.is_gain(), "{packing:?}");
        let counter: Vec<i64> = (0..1000).map(|n| -500 + n).collect();
        let packing = there_and_back(&counter);
        assert_eq!((packing.size, packing.is_delta), (1, true));
        let same = there_and_back(&[i64::MIN; 9]);
        assert_eq!((same.size, same.is_gain()), (0, false));
        assert!(!there_and_back(&[]).is_gain());
        let ends = there_and_back(&[i64::MIN, i64::MAX, 0, -1, i64::MIN]);
        assert_eq!((ends.size, ends.step), (8, 1));
    }

    #[test]
    fn impossible_forms_are_refused() {
        let mut head = Encoder::default();
        there_and_back(&[1, 2, 4]).encode(&mut head);
        let form = |byte: u8| {
            let mut bytes = head.0.clone();
            bytes[0] = byte;
            Packing::decode(&mut Decoder::new(&bytes, "it")).is_ok()
        };
        assert!(form(8) && form(DELTA | 8));
        assert!(!form(9) && !form(DELTA | 9) && !form(1 << 5));
        let mut zero = head.0.clone();
        zero[9..17].fill(0);
        assert!(Packing::decode(&mut Decoder::new(&zero, "it")).is_err());
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(
            numbers in proptest::collection::vec(any::<i64>(), 0..200),
            shift in 0_u32..64, step in 1_i64..5000,
        ) {
            there_and_back(&numbers);
            let small: Vec<i64> = numbers.iter().map(|number| (number >> shift).wrapping_mul(step)).collect();
            there_and_back(&small);
        }
    }
}
