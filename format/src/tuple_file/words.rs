//! Texts by their words: each word that comes again is told once, and then by its place in the list of words. What is said of a word is a byte or two, so
//! that there is less to compress, and what zstd then finds are sentences.
//!
//! A word has at most [`LENGTH`] bytes: letters and digits (all bytes from `0` on), and then what separates it from the next one. A longer word is
//! several. Words end where fields end.

use holdfast_types::Fault;
use std::cmp::Reverse;

use super::FORM;
use super::decoder::Source;
use super::streams::{Compressor, Texture, write_stream};
use crate::wire::{Decoder, Encoder};

/// Bytes of the longest word.
const LENGTH: usize = 8;
/// Words that are told by one byte: those that come most often.
const SHORT: usize = 224;
/// Words that are told by any: two bytes for the others.
const MOST_ENTRIES: usize = SHORT + 31 * 256;
/// The first byte of a word that is not in the list.
const STRAY: u8 = 255;
/// Different words that are counted; more are told as they come.
const MOST_KNOWN: usize = 1 << 15;
/// Places in the table of known words, as a power of two: of a short text, and of a long one.
const LEAST_BITS: u32 = 8;
const MOST_BITS: u32 = 16;
/// Places that are looked at for a word.
const PROBES: usize = 4;
/// The number of a word that is not known.
const UNKNOWN: u16 = u16::MAX;
/// Times that a word in the list must come.
const LEAST_COUNT: u32 = 2;
/// Bytes of text from which on the words of the whole are guessed.
const SAMPLE: usize = 256 << 10;
/// The most bytes of text that are split: some bytes are kept for each word.
const MOST_BYTES: usize = 32 << 20;
/// The least, below which a list of words is not worth it.
const LEAST_BYTES: usize = 512;

/// Bytes in which the beginnings of words are looked for at once.
const CHUNK: usize = 64;
/// The highest bit of each byte.
const HIGH: u64 = 0x8080_8080_8080_8080;
/// The first letter, in each byte.
const LETTER: u64 = 0x3030_3030_3030_3030;
/// Gathers the lowest bit of each byte in the highest byte.
const GATHER: u64 = 0x0102_0408_1020_4080;

/// A word as a number: its bytes, the first one lowest, and in the highest byte its length if it is shorter than eight. (A word of eight bytes does not end with
/// what could be taken for a length.)
type Key = u64;

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// 0 in a free place.
    key: Key,
    count: u32,
    number: u16,
}

/// Splits texts into words. Its buffers are used anew for each.
#[derive(Debug, Default)]
pub(super) struct Words {
    table: Vec<Known>,
    /// Its places, as a power of two.
    bits: u32,
    /// Places in the table, by number.
    places: Vec<u32>,
    /// The number of each word of the text.
    numbers: Vec<u16>,
    /// Words that are not known, in their order.
    unknown: Vec<Key>,
    /// For each number the word's place in the list; beyond the list if it is not there.
    codes: Vec<u16>,
    entries: Pieces,
    firsts: Vec<u8>,
    seconds: Vec<u8>,
    strays: Pieces,
}

/// Words one after another, and their lengths.
#[derive(Debug, Default)]
struct Pieces {
    lengths: Vec<u8>,
    bytes: Vec<u8>,
}

impl Pieces {
    fn clear(&mut self) {
        self.lengths.clear();
        self.bytes.clear();
    }

    fn push(&mut self, key: Key) {
        let length = length_of(key);
        self.lengths.push(length as u8);
        let bytes = key.to_le_bytes();
        self.bytes
            .extend_from_slice(bytes.get(..length).unwrap_or_default());
    }
}

/// What the choice between the two ways of storing a column's text is made from.
pub(super) struct Trial<'a> {
    /// The fields one after another.
    pub(super) data: &'a [u8],
    /// The lengths of those that are not null.
    pub(super) lengths: &'a [u32],
}

impl Words {
    /// Whether a text is shorter by its words. A part of it is tried both ways.
    pub(super) fn are_shorter(
        &mut self,
        trial: &Trial<'_>,
        texture: Texture,
        compressor: &mut Compressor,
    ) -> Result<bool, Fault> {
        if !fits(trial.data) {
            return Ok(false);
        }
        let (mut count, mut end) = (0usize, 0usize);
        for length in trial.lengths {
            if end >= SAMPLE {
                break;
            }
            end = end.saturating_add(*length as usize);
            count = count.saturating_add(1);
        }
        let sample = Trial {
            data: trial.data.get(..end).unwrap_or(trial.data),
            lengths: trial.lengths.get(..count).unwrap_or(trial.lengths),
        };
        let mut plain = Vec::new();
        write_stream(Some(&mut *compressor), texture, sample.data, &mut plain)?;
        let mut by_words = Vec::new();
        self.write(&sample, compressor, &mut by_words)?;
        // Splitting takes about as long as what it saves zstd: a little is not worth it.
        let most = plain.len().saturating_sub(plain.len().div_ceil(8));
        Ok(by_words.len() < most)
    }

    /// Writes a text by its words.
    pub(super) fn write(
        &mut self,
        text: &Trial<'_>,
        compressor: &mut Compressor,
        stored: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.split(text);
        self.rank();
        self.spell();
        let mut head = Encoder::default();
        for count in [
            self.entries.lengths.len(),
            self.firsts.len(),
            self.seconds.len(),
            self.strays.lengths.len(),
        ] {
            head.varint(count as u64);
        }
        stored.extend_from_slice(&head.0);
        for (texture, stream) in [
            (Texture::Numbers, &self.entries.lengths),
            (Texture::Short, &self.entries.bytes),
            (Texture::Words, &self.firsts),
            (Texture::Numbers, &self.seconds),
            (Texture::Numbers, &self.strays.lengths),
            (Texture::Short, &self.strays.bytes),
        ] {
            write_stream(Some(&mut *compressor), texture, stream, stored)?;
        }
        Ok(())
    }

    /// Finds the words, and counts them.
    fn split(&mut self, text: &Trial<'_>) {
        // A place for every four bytes, about twice as many as there can be different words.
        let wanted = usize::BITS.wrapping_sub((text.data.len() >> 2).leading_zeros());
        self.bits = wanted.clamp(LEAST_BITS, MOST_BITS);
        self.table.clear();
        self.table.resize(1 << self.bits, Known::default());
        self.places.clear();
        self.numbers.clear();
        self.unknown.clear();
        let mut end = 0usize;
        for length in text.lengths {
            let start = end;
            end = end.saturating_add(*length as usize);
            self.split_field(text.data, start, end);
        }
    }

    /// Finds the words of a field. Where they begin is found for many bytes at once, so that one word need not wait for the length of the one before.
    fn split_field(&mut self, data: &[u8], start: usize, end: usize) {
        let (mut word, mut at, mut is_inside) = (start, start, true);
        while at < end {
            let mut starts = letters(data, at);
            let last = starts >> (CHUNK - 1) != 0;
            starts &= !(starts << 1 | u64::from(is_inside));
            is_inside = last;
            let left = end.saturating_sub(at);
            if left < CHUNK {
                starts &= !(u64::MAX.checked_shl(left as u32).unwrap_or(0));
            }
            while starts != 0 {
                let next = at.saturating_add(starts.trailing_zeros() as usize);
                starts &= starts.wrapping_sub(1);
                self.take(data, word, next);
                word = next;
            }
            at = at.saturating_add(CHUNK);
        }
        self.take(data, word, end);
    }

    /// Counts a word, or the several that a long one is.
    #[inline]
    fn take(&mut self, data: &[u8], start: usize, end: usize) {
        let mut at = start;
        while at < end {
            let (key, length) = word(data, at, end);
            at = at.saturating_add(length);
            let number = self.number(key);
            self.numbers.push(number);
            if number == UNKNOWN {
                self.unknown.push(key);
            }
        }
    }

    /// The number of a word, which it gets when it first comes.
    #[inline]
    fn number(&mut self, key: Key) -> u16 {
        let start =
            (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 64u32.wrapping_sub(self.bits)) as usize;
        let mask = self.table.len().wrapping_sub(1);
        for place in start..start.wrapping_add(PROBES) {
            let place = place & mask;
            let Some(known) = self.table.get_mut(place) else {
                break;
            };
            if known.key == key {
                known.count = known.count.saturating_add(1);
                return known.number;
            }
            if known.key == 0 {
                if self.places.len() >= MOST_KNOWN {
                    break;
                }
                *known = Known {
                    key,
                    count: 1,
                    number: self.places.len() as u16,
                };
                self.places.push(place as u32);
                return known.number;
            }
        }
        UNKNOWN
    }

    /// Makes the list: the word that comes most often is the first.
    fn rank(&mut self) {
        let known = |number: u16| {
            let place = self.places.get(usize::from(number)).copied();
            let known = place.and_then(|place| self.table.get(place as usize));
            known.copied().unwrap_or_default()
        };
        let mut order: Vec<(Reverse<u32>, u16)> = (0..self.places.len() as u16)
            .map(|number| (Reverse(known(number).count), number))
            .filter(|(count, _)| count.0 >= LEAST_COUNT)
            .collect();
        order.sort_unstable();
        order.truncate(MOST_ENTRIES);
        self.codes.clear();
        self.codes.resize(self.places.len(), UNKNOWN);
        self.entries.clear();
        for (code, (_, number)) in order.into_iter().enumerate() {
            self.entries.push(known(number).key);
            if let Some(to) = self.codes.get_mut(usize::from(number)) {
                *to = code as u16;
            }
        }
    }

    /// Says the text.
    fn spell(&mut self) {
        self.firsts.clear();
        self.seconds.clear();
        self.strays.clear();
        let mut unknown = self.unknown.iter();
        for number in &self.numbers {
            let code = self.codes.get(usize::from(*number)).copied();
            let code = usize::from(code.unwrap_or(UNKNOWN));
            if code < SHORT {
                self.firsts.push(code as u8);
            } else if code < MOST_ENTRIES {
                let beyond = code.wrapping_sub(SHORT);
                self.firsts.push((SHORT.wrapping_add(beyond >> 8)) as u8);
                self.seconds.push(beyond as u8);
            } else {
                let key = match *number {
                    UNKNOWN => unknown.next().copied(),
                    number => {
                        let place = self.places.get(usize::from(number));
                        place
                            .and_then(|place| self.table.get(*place as usize))
                            .map(|known| known.key)
                    }
                };
                self.firsts.push(STRAY);
                self.strays.push(key.unwrap_or_default());
            }
        }
    }
}

/// Whether a text may be split.
pub(super) fn fits(data: &[u8]) -> bool {
    (LEAST_BYTES..=MOST_BYTES).contains(&data.len())
}

/// Which of the bytes from a place on are letters or digits: a bit each, the lowest first.
#[inline]
fn letters(data: &[u8], at: usize) -> u64 {
    let rest = data.get(at..).unwrap_or_default();
    let mut padded = [0; CHUNK];
    let chunk = rest.first_chunk::<CHUNK>().unwrap_or_else(|| {
        padded
            .iter_mut()
            .zip(rest)
            .for_each(|(to, from)| *to = *from);
        &padded
    });
    let (eights, _) = chunk.as_chunks::<8>();
    eights.iter().rev().fold(0u64, |letters, eight| {
        let bytes = u64::from_le_bytes(*eight);
        let found = (((bytes | HIGH).wrapping_sub(LETTER) | bytes) & HIGH) >> 7;
        letters << 8 | found.wrapping_mul(GATHER) >> 56
    })
}

/// The word that begins at a place, up to `end` or eight bytes of it, and its length.
#[inline]
fn word(data: &[u8], at: usize, end: usize) -> (Key, usize) {
    let rest = data.get(at..).unwrap_or_default();
    let bytes = match rest.first_chunk::<LENGTH>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => {
            let mut bytes = [0; LENGTH];
            bytes
                .iter_mut()
                .zip(rest)
                .for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(bytes)
        }
    };
    let mut length = end.saturating_sub(at);
    if length >= LENGTH {
        if bytes >> 56 >= LENGTH as u64 {
            return (bytes, LENGTH);
        }
        length = LENGTH - 1;
    }
    let bits = (length as u32).wrapping_mul(8);
    let kept = bytes & !(u64::MAX.checked_shl(bits).unwrap_or(0));
    (kept | (length as u64) << 56, length)
}

/// The length of a word.
fn length_of(key: Key) -> usize {
    match (key >> 56) as usize {
        length @ 1..LENGTH => length,
        _ => LENGTH,
    }
}

/// Reads a text of so many bytes.
pub(super) fn read(source: &mut Source<'_>, total: usize, text: &mut Vec<u8>) -> Result<(), Fault> {
    let mut count = || -> Result<usize, Fault> {
        let count = usize::try_from(source.take(Decoder::varint)?).unwrap_or(usize::MAX);
        // A word has at least one byte.
        if count > total {
            return Err(unknown());
        }
        Ok(count)
    };
    let (entries, firsts, seconds, strays) = (count()?, count()?, count()?, count()?);
    if entries > MOST_ENTRIES {
        return Err(unknown());
    }
    let entries = pieces(source, entries, total)?;
    let entries: Vec<(u64, u8)> = entries.iter().collect();
    let mut first_bytes = Vec::new();
    source.fill(firsts, &mut first_bytes)?;
    let mut second_bytes = Vec::new();
    source.fill(seconds, &mut second_bytes)?;
    let strays = pieces(source, strays, total)?;
    let mut strays = strays.iter();
    let mut second_bytes = second_bytes.iter();
    text.clear();
    // Each word is written as eight bytes, of which the next one takes back what is too much.
    text.resize(total.saturating_add(LENGTH), 0);
    let mut at = 0usize;
    for first in &first_bytes {
        let known = match usize::from(*first) {
            first if first < SHORT => entries.get(first).copied(),
            _ if *first == STRAY => strays.next(),
            first => {
                let page = first.wrapping_sub(SHORT) << 8;
                let second = second_bytes.next();
                second.and_then(|second| {
                    let code = SHORT.wrapping_add(page).wrapping_add(usize::from(*second));
                    entries.get(code).copied()
                })
            }
        };
        let (bytes, length) = known.ok_or_else(unknown)?;
        let place = text
            .get_mut(at..)
            .and_then(<[u8]>::first_chunk_mut::<LENGTH>);
        let place = place.ok_or_else(too_long)?;
        *place = bytes.to_le_bytes();
        at = at.wrapping_add(usize::from(length));
    }
    if at != total || second_bytes.next().is_some() || strays.next().is_some() {
        return Err(too_long());
    }
    text.truncate(total);
    Ok(())
}

/// Reads words that are spelt out.
fn pieces(source: &mut Source<'_>, count: usize, most: usize) -> Result<Pieces, Fault> {
    let mut pieces = Pieces::default();
    source.fill(count, &mut pieces.lengths)?;
    let mut lengths = pieces.lengths.iter();
    if lengths.any(|length| !(1..=LENGTH).contains(&usize::from(*length))) {
        return Err(unknown());
    }
    let total = pieces
        .lengths
        .iter()
        .map(|length| usize::from(*length))
        .sum();
    // Every word that is listed or spelt is somewhere in the text.
    if total > most {
        return Err(too_long());
    }
    source.fill(total, &mut pieces.bytes)?;
    Ok(pieces)
}

impl Pieces {
    /// Each word as a number, and its length.
    fn iter(&self) -> impl Iterator<Item = (u64, u8)> + '_ {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map(move |length| {
            let (word, after) = rest
                .split_at_checked(usize::from(*length))
                .unwrap_or_default();
            rest = after;
            let mut bytes = [0; LENGTH];
            bytes
                .iter_mut()
                .zip(word)
                .for_each(|(to, from)| *to = *from);
            (u64::from_le_bytes(bytes), *length)
        })
    }
}

fn unknown() -> Fault {
    FORM.damaged("a column is stored unknown")
}

fn too_long() -> Fault {
    FORM.damaged("a column is longer than its block")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words_of(text: &str) -> Vec<String> {
        let mut words = Words::default();
        let lengths = [text.len() as u32];
        words.split(&Trial {
            data: text.as_bytes(),
            lengths: &lengths,
        });
        let mut spelt = Pieces::default();
        for number in &words.numbers {
            let place = words.places[usize::from(*number)];
            spelt.push(words.table[place as usize].key);
        }
        let (mut rest, mut list) = (spelt.bytes.as_slice(), Vec::new());
        for length in spelt.lengths {
            let (word, after) = rest.split_at(usize::from(length));
            list.push(String::from_utf8(word.to_vec()).expect("text"));
            rest = after;
        }
        list
    }

    #[test]
    fn words_end_with_what_is_between_them() {
        for (text, words) in [
            ("", &[][..]),
            ("the end", &["the ", "end"]),
            ("a  b", &["a  ", "b"]),
            (", and", &[", ", "and"]),
            ("somewhere else", &["somewher", "e ", "else"]),
            ("eight888 nine", &["eight888", " ", "nine"]),
            ("{\"key\": 1}", &["{\"", "key\"", ": ", "1}"]),
            ("grün ist", &["grün ", "ist"]),
        ] {
            assert_eq!(words_of(text), words, "{text}");
        }
        // Across the bytes that are looked at at once, wherever a word lies in them.
        let list = ["one ", "seven ", "eleven, ", "I ", "it. "];
        for skipped in 0..70 {
            let words: Vec<&str> = (0..60).map(|at| list[(at * 7 + skipped) % 5]).collect();
            let text = format!("{}{}", "a ".repeat(skipped), words.concat());
            let found = words_of(&text);
            assert_eq!(found[skipped..], words, "{skipped}");
            assert_eq!(found[..skipped].concat(), "a ".repeat(skipped));
        }
    }

    #[test]
    fn no_word_is_taken_for_another() {
        let end = |data: &[u8]| word(data, 0, data.len());
        assert_eq!(end(b"a\0\0\0\0\0\0\x01").1, 7);
        assert_ne!(end(b"a\0").0, end(b"a").0);
        assert_ne!(end(b"\0").0, end(b"\0\0").0);
    }

    fn text() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let words = prop_oneof![
            "[a-d]{1,3} ",
            "[a-z0-9]{0,12}[ ,.]{0,3}",
            Just("document ".to_owned()),
        ];
        let bytes = proptest::collection::vec(any::<u8>(), 0..20);
        let field = prop_oneof![
            proptest::collection::vec(words, 0..30).prop_map(|words| words.concat().into_bytes()),
            bytes
        ];
        proptest::collection::vec(field, 0..60)
    }

    fn written(fields: &[Vec<u8>], words: &mut Words) -> (Vec<u8>, Vec<u8>) {
        let data = fields.concat();
        let lengths: Vec<u32> = fields.iter().map(|field| field.len() as u32).collect();
        let trial = Trial {
            data: &data,
            lengths: &lengths,
        };
        let mut compressor = Compressor::new(1).expect("a level");
        let mut stored = Vec::new();
        words
            .write(&trial, &mut compressor, &mut stored)
            .expect("written");
        (data, stored)
    }

    fn read_back(stored: &[u8], total: usize) -> Result<Vec<u8>, Fault> {
        let (mut zstd, mut at, mut text) = (None, 0, Vec::new());
        let mut source = Source::new(&mut zstd, stored, &mut at);
        read(&mut source, total, &mut text)?;
        assert_eq!(at, stored.len());
        Ok(text)
    }

    proptest! {
        #[test]
        fn texts_come_back(fields in text(), more in text()) {
            let mut words = Words::default();
            for fields in [fields, more] {
                let (data, stored) = written(&fields, &mut words);
                prop_assert_eq!(read_back(&stored, data.len()), Ok(data.clone()));
                prop_assert!(read_back(&stored, data.len() + 1).is_err());
            }
        }

        #[test]
        fn damage_is_survived(fields in text(), at: proptest::sample::Index, byte: u8) {
            let (data, mut stored) = written(&fields, &mut Words::default());
            let at = at.index(stored.len());
            stored[at] = byte;
            // It must neither panic nor take memory beyond the text's; the block's checksum finds the damage.
            let (mut zstd, mut from, mut text) = (None, 0, Vec::new());
            let mut source = Source::new(&mut zstd, &stored, &mut from);
            let _ = read(&mut source, data.len(), &mut text);
        }
    }

    #[test]
    fn words_beyond_the_list_and_the_table_come_back() {
        let many: Vec<Vec<u8>> = (0..100_000u32)
            .map(|number| format!("{} and {number} ", number % 20_000).into_bytes())
            .collect();
        let (data, stored) = written(&many, &mut Words::default());
        assert_eq!(read_back(&stored, data.len()), Ok(data));
    }

    #[test]
    fn few_words_are_shorter_by_their_words_and_noise_is_not() {
        let mut state = 1u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let list = [
            "people ", "water ", "called ", "first ", "number ", "which ", "their ", "time ",
        ];
        let text: String = (0..20_000)
            .map(|_| list[(next() >> 40) as usize % 8])
            .collect();
        let noise: String = (0..20_000).map(|_| format!("{:x}", next())).collect();
        let mut compressor = Compressor::new(1).expect("a level");
        for (text, expected) in [(text, true), (noise, false)] {
            let lengths = [text.len() as u32];
            let trial = Trial {
                data: text.as_bytes(),
                lengths: &lengths,
            };
            let chosen = Words::default().are_shorter(&trial, Texture::Long, &mut compressor);
            assert_eq!(chosen, Ok(expected));
        }
    }
}
