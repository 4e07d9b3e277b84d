//! Tuple files against the plainest way to store the rows of a COPY: zstd level 1 over blocks of 4 MiB of rows.
//! `cargo bench -p holdfast-format`.
//!
//! Rows are made up, in two shapes that are common in PostgreSQL: the lines of a ledger, of ten columns, most of them numbers and times;
//! and documents, most of whose bytes are text. Rounds of both ways alternate, and what is measured is the processor time of the thread, so that
//! whatever else the machine does matters little: the rates are those of one core.

use bytes::Bytes;
use holdfast_format::{DataKey, Envelope, TupleFileOptions, TupleFileReader, TupleFileWriter};
use holdfast_types::{Digest, Hasher};
use rustix::time::{ClockId, clock_gettime};

/// Bytes of rows of each shape.
const SIZE: usize = 128 << 20;
/// Times that each way is measured.
const ROUNDS: usize = 7;
/// Bytes of rows that are pushed at a time.
const CHUNK: usize = 1 << 20;
/// Bytes of rows in a block of the plain way.
const PLAIN_BLOCK: usize = 4 << 20;

/// Seconds that this thread has computed.
fn computed() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Numbers that look random and are the same every time (xorshift64*).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }
}

fn field(rows: &mut Vec<u8>, bytes: &[u8]) {
    rows.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    rows.extend_from_slice(bytes);
}

fn null(rows: &mut Vec<u8>) {
    rows.extend_from_slice(&(-1i32).to_be_bytes());
}

/// A positive amount with two decimals, as `numeric` is sent: digits to the base of 10,000.
fn amount(rows: &mut Vec<u8>, cents: u64) {
    let (whole, fraction) = (cents / 100, (cents % 100 * 100) as u16);
    let mut digits = Vec::new();
    if whole >= 10_000 {
        digits.push((whole / 10_000) as u16);
    }
    digits.push((whole % 10_000) as u16);
    let weight = digits.len() as u16 - 1;
    if fraction > 0 {
        digits.push(fraction);
    }
    let mut bytes = Vec::new();
    for part in [digits.len() as u16, weight, 0, 2].iter().chain(&digits) {
        bytes.extend_from_slice(&part.to_be_bytes());
    }
    field(rows, &bytes);
}

const STATES: [&str; 5] = ["settled", "pending", "refunded", "authorised", "failed"];
const COUNTRIES: [&str; 6] = ["DE", "FR", "NL", "US", "GB", "SE"];
const WORDS: [&str; 24] = [
    "the", "customer", "asked", "for", "a", "second", "delivery", "of", "order", "before",
    "friday", "and", "paid", "by", "card", "invoice", "returned", "because", "parcel", "was",
    "damaged", "address", "changed", "twice",
];

/// Ten columns: id, account, time, state, amount, reference, quantity, whether it was seen, country, and in some rows a note.
fn ledger_lines() -> (u16, Vec<u8>) {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut rows = Vec::with_capacity(SIZE + 400);
    let (mut id, mut time) = (81_000_000u64, 812_345_678_000_000u64);
    while rows.len() < SIZE {
        id += 1;
        time += noise.below(40_000);
        rows.extend_from_slice(&10i16.to_be_bytes());
        field(&mut rows, &id.to_be_bytes());
        field(&mut rows, &(noise.below(400_000) as u32).to_be_bytes());
        field(&mut rows, &time.to_be_bytes());
        field(
            &mut rows,
            STATES[(noise.below(25) / 5 * noise.below(2)) as usize].as_bytes(),
        );
        let size = [1_000, 20_000, 5_000_000][noise.below(3) as usize];
        let cents = noise.below(size);
        amount(&mut rows, cents);
        let reference = [noise.next().to_be_bytes(), noise.next().to_be_bytes()].concat();
        field(&mut rows, &reference);
        field(&mut rows, &(1 + noise.below(9) as u16).to_be_bytes());
        field(&mut rows, &[u8::from(noise.below(10) > 0)]);
        field(&mut rows, COUNTRIES[noise.below(6) as usize].as_bytes());
        if noise.below(4) == 0 {
            let words = 2 + noise.below(6);
            let note = text(&mut noise, words);
            field(&mut rows, note.as_bytes());
        } else {
            null(&mut rows);
        }
    }
    (10, rows)
}

/// Five columns: id, owner, time, a title, and a JSON text of some hundred bytes.
fn documents() -> (u16, Vec<u8>) {
    let mut noise = Noise(0xd1b5_4a32_d192_ed03);
    let mut rows = Vec::with_capacity(SIZE + 4000);
    let (mut id, mut time) = (5_000u64, 812_345_678_000_000u64);
    while rows.len() < SIZE {
        id += 1;
        time += noise.below(9_000_000);
        rows.extend_from_slice(&5i16.to_be_bytes());
        field(&mut rows, &id.to_be_bytes());
        let owner = [noise.next().to_be_bytes(), noise.next().to_be_bytes()].concat();
        field(&mut rows, &owner);
        field(&mut rows, &time.to_be_bytes());
        let words = 3 + noise.below(5);
        let title = text(&mut noise, words);
        field(&mut rows, title.as_bytes());
        let words = 20 + noise.below(60);
        let body = format!(
            "{{\"version\": {}, \"state\": \"{}\", \"score\": {}, \"body\": \"{}\"}}",
            noise.below(12),
            STATES[noise.below(5) as usize],
            noise.below(1_000_000),
            text(&mut noise, words)
        );
        field(&mut rows, body.as_bytes());
    }
    (5, rows)
}

fn text(noise: &mut Noise, words: u64) -> String {
    let words = (0..words).map(|_| match noise.below(5) {
        0 => format!("{:x}", noise.below(1 << 20)),
        _ => WORDS[noise.below(24) as usize].to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Bytes stored, and the seconds that it took to write and to read them.
struct Measured {
    stored: usize,
    write: f64,
    read: f64,
}

fn tuple_file(columns: u16, rows: &[u8]) -> Measured {
    let started = computed();
    let mut writer = TupleFileWriter::new(columns, TupleFileOptions::default()).expect("a level");
    let mut file = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        // A row that is cut off stays with the rest.
        let taken = writer.push(&rest[..rest.len().min(CHUNK)]).expect("rows");
        rest = &rest[taken..];
        file.extend_from_slice(&writer.take());
    }
    let (rest, _) = writer.finish().expect("closes");
    file.extend_from_slice(&rest);
    let write = computed() - started;
    let file = Bytes::from(file);
    let started = computed();
    let reader = TupleFileReader::open(file.clone()).expect("sound");
    let mut length = 0;
    for block in reader.read() {
        length += block.expect("sound").bytes().len();
    }
    let read = computed() - started;
    assert_eq!(length, rows.len());
    Measured {
        stored: file.len(),
        write,
        read,
    }
}

/// Bytes stored, and the seconds that it takes to encrypt a file and to digest what is stored, and to decrypt it.
fn encryption(columns: u16, rows: &[u8]) -> Measured {
    let mut writer = TupleFileWriter::new(columns, TupleFileOptions::default()).expect("a level");
    assert_eq!(writer.push(rows).expect("rows"), rows.len());
    let (file, summary) = writer.finish().expect("closes");
    let key = DataKey::from_slice(&[7; 32]).expect("32 bytes");
    let (envelope, path) = (
        Envelope::Sealed(key),
        "2026/11/23-190800.50/data/1-0-1-0.hft",
    );
    let started = computed();
    let sealed = envelope.seal(path, vec![file.clone()], &summary.digest);
    let sealed = sealed.expect("seals");
    let mut hasher = Hasher::new();
    for piece in &sealed {
        hasher.update(piece);
    }
    let digest = hasher.finish();
    let write = computed() - started;
    let stored = Bytes::from(sealed.concat());
    assert_eq!(Digest::of(&stored), digest);
    let started = computed();
    let opened = envelope.open(path, stored).expect("opens");
    let read = computed() - started;
    assert_eq!(opened, file);
    Measured {
        stored: file.len(),
        write,
        read,
    }
}

fn plain(rows: &[u8]) -> Measured {
    let started = computed();
    let mut compressor = zstd::bulk::Compressor::new(1).expect("a level");
    let blocks: Vec<Vec<u8>> = rows
        .chunks(PLAIN_BLOCK)
        .map(|block| compressor.compress(block).expect("compressed"))
        .collect();
    let write = computed() - started;
    let started = computed();
    let mut decompressor = zstd::bulk::Decompressor::new().expect("a decompressor");
    let mut length = 0;
    for block in &blocks {
        let rows = decompressor.decompress(block, PLAIN_BLOCK);
        length += rows.expect("sound").len();
    }
    let read = computed() - started;
    assert_eq!(length, rows.len());
    Measured {
        stored: blocks.iter().map(Vec::len).sum(),
        write,
        read,
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What encryption costs, beside what it takes to write and read the same file.
fn print_encryption(shape: &str, columns: u16, rows: &[u8], rounds: &[[Measured; 2]]) {
    let sealing: Vec<Measured> = (0..ROUNDS).map(|_| encryption(columns, rows)).collect();
    let stored = sealing[0].stored as f64 / 1e9;
    let write = median(sealing.iter().map(|round| round.write));
    let read = median(sealing.iter().map(|round| round.read));
    let share = |of: f64, all: f64| 100.0 * of / (of + all);
    println!(
        "{shape:<13} encryption    {:.3} s to write and {:.3} s to read 10^9 stored bytes: {:.1} % and {:.1} % of all",
        write / stored,
        read / stored,
        share(write, median(rounds.iter().map(|round| round[1].write))),
        share(read, median(rounds.iter().map(|round| round[1].read))),
    );
}

fn main() {
    println!(
        "                            stored     write        read    rates: 10^6 bytes of rows a second of one core"
    );
    for (shape, (columns, rows)) in [("ledger lines", ledger_lines()), ("documents", documents())] {
        // One round before anything counts.
        let _ = (plain(&rows), tuple_file(columns, &rows));
        let rounds: Vec<[Measured; 2]> = (0..ROUNDS)
            .map(|_| [plain(&rows), tuple_file(columns, &rows)])
            .collect();
        let megabytes = rows.len() as f64 / 1e6;
        for (at, way) in ["rows, zstd 1", "tuple file"].into_iter().enumerate() {
            println!(
                "{shape:<13} {way:<13} {:>6.2}× {:>5.0} MB/s {:>6.0} MB/s",
                rows.len() as f64 / rounds[0][at].stored as f64,
                median(rounds.iter().map(|round| megabytes / round[at].write)),
                median(rounds.iter().map(|round| megabytes / round[at].read)),
            );
        }
        // Of each round, so that what slowed one down slowed both ways down.
        let write = rounds.iter().map(|[plain, file]| plain.write / file.write);
        let read = rounds.iter().map(|[plain, file]| plain.read / file.read);
        print_encryption(shape, columns, &rows, &rounds);
        println!(
            "{shape:<13} ratio         {:>6.2}  {:>8.2}  {:>9.2}",
            rounds[0][1].stored as f64 / rounds[0][0].stored as f64,
            median(write),
            median(read),
        );
    }
}
