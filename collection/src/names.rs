//! Names of objects and directories: built here, and read back here.

use holdfast_types::{Epoch, ErrorCode, Fault, JobId, ObjectKind, TaskId};
use std::fmt;
use std::str::FromStr;

/// The name of a data object under a layer's `data/`: `<job>-<task>-<epoch>-<sequence>`, and the suffix of its kind: `.hfs`, `.hft` or `.hfc`.
///
/// No two leases ever share a name, so that a zombie's late write cannot meet its successor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataName {
    /// The job that wrote it.
    pub job: JobId,
    /// The task's index in the job.
    pub task: u32,
    /// The lease under which it was written.
    pub epoch: Epoch,
    /// Objects of one lease count from 0, whatever their kinds.
    pub sequence: u32,
    /// What the object holds.
    pub kind: ObjectKind,
}

impl DataName {
    /// The name of a lease's nth object, a span file.
    #[must_use]
    pub fn new(task: TaskId, epoch: Epoch, sequence: u32) -> Self {
        Self {
            job: task.job,
            task: task.index,
            epoch,
            sequence,
            kind: ObjectKind::Rows,
        }
    }

    /// The name of a lease's nth object, a tuple file.
    #[must_use]
    pub fn tuples(task: TaskId, epoch: Epoch, sequence: u32) -> Self {
        Self {
            kind: ObjectKind::Tuples,
            ..Self::new(task, epoch, sequence)
        }
    }

    /// The name of a lease's nth object, a catalog file.
    #[must_use]
    pub fn catalog(task: TaskId, epoch: Epoch, sequence: u32) -> Self {
        Self {
            kind: ObjectKind::Catalog,
            ..Self::new(task, epoch, sequence)
        }
    }
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            job,
            task,
            epoch,
            sequence,
            kind,
        } = self;
        write!(f, "{job}-{task}-{epoch}-{sequence}{}", kind.suffix())
    }
}

/// The name of a part of a file list under a layer's `parts/`: `<job>-<part>.hfp`. Its content is a pure function of the ledger, so it
/// needs no epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartName {
    /// The job that wrote it.
    pub job: JobId,
    /// Parts of a job count from 0.
    pub part: u32,
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.hfp", self.job, self.part)
    }
}

fn illegal(what: &str, text: &str) -> Fault {
    Fault::new(
        ErrorCode::InvalidArgument,
        format!("\"{}\" is not the name of a {what}", text.escape_debug()),
    )
}

impl FromStr for DataName {
    type Err = Fault;

    /// Reads the one spelling of a name; anything else, leading zeros included, is an error.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let parse = || {
            let kinds = ObjectKind::ALL.into_iter();
            let mut forms =
                kinds.filter_map(|kind| Some((kind, text.strip_suffix(kind.suffix())?)));
            let (kind, numbers) = forms.next()?;
            let mut numbers = numbers.split('-');
            let name = Self {
                job: numbers.next()?.parse().ok()?,
                task: numbers.next()?.parse().ok()?,
                epoch: numbers.next()?.parse().ok()?,
                sequence: numbers.next()?.parse().ok()?,
                kind,
            };
            (name.to_string() == text).then_some(name)
        };
        parse().ok_or_else(|| illegal("data object", text))
    }
}

impl FromStr for PartName {
    type Err = Fault;

    /// Reads the one spelling of a name; anything else is an error.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let parse = || {
            let (job, part) = text.strip_suffix(".hfp")?.split_once('-')?;
            let name = Self {
                job: job.parse().ok()?,
                part: part.parse().ok()?,
            };
            (name.to_string() == text).then_some(name)
        };
        parse().ok_or_else(|| illegal("part of a file list", text))
    }
}

/// Whether a text has the shape of a pattern in which `0` stands for a digit.
fn has_shape(text: &str, pattern: &str) -> bool {
    let fits = |(c, p): (u8, u8)| {
        if p == b'0' {
            c.is_ascii_digit()
        } else {
            c == p
        }
    };
    text.len() == pattern.len() && text.bytes().zip(pattern.bytes()).all(fits)
}

/// Whether a text is a full's directory: `YYYY/MM/DD-HHMMSS.ss`.
#[must_use]
pub fn is_full_subdir(text: &str) -> bool {
    has_shape(text, "0000/00/00-000000.00")
}

/// Whether a directory component of a full has the shape of its level: year, month, day and time.
pub(crate) fn is_full_component(level: usize, text: &str) -> bool {
    const SHAPES: [&str; 3] = ["0000", "00", "00-000000.00"];
    SHAPES
        .get(level)
        .is_some_and(|shape| has_shape(text, shape))
}

/// The same for an incremental below its full's directory: end date, end time and start.
pub(crate) fn is_incremental_component(level: usize, text: &str) -> bool {
    const SHAPES: [&str; 2] = ["00000000", "000000.00-00000000-000000.00"];
    SHAPES
        .get(level)
        .is_some_and(|shape| has_shape(text, shape))
}

/// Hexadecimal digits of the byte-wise complement of a text: of texts of one length, the greatest sorts first.
pub(crate) fn descending(text: &str) -> String {
    text.bytes().map(|byte| format!("{:02x}", !byte)).collect()
}

/// The text that [`descending`] was made of.
pub(crate) fn ascending(digits: &str) -> Option<String> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    let byte = |at: usize| {
        u8::from_str_radix(digits.get(at..at + 2)?, 16)
            .ok()
            .map(|byte| !byte)
    };
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{Timestamp, full_subdir, incremental_subdir};

    #[test]
    fn names_are_read_back_as_they_were_written() {
        let task = TaskId {
            job: JobId(1_763_924_880_500_001),
            index: 17,
        };
        let name = DataName::new(task, Epoch(3), 42);
        assert_eq!(name.to_string(), "1763924880500001-17-3-42.hfs");
        assert_eq!(name.to_string().parse::<DataName>().expect("legal"), name);
        let name = DataName::tuples(task, Epoch(3), 43);
        assert_eq!(name.to_string(), "1763924880500001-17-3-43.hft");
        assert_eq!(name.to_string().parse::<DataName>().expect("legal"), name);
        let name = DataName::catalog(task, Epoch(3), 44);
        assert_eq!(name.to_string(), "1763924880500001-17-3-44.hfc");
        assert_eq!(name.to_string().parse::<DataName>().expect("legal"), name);
        let part = PartName {
            job: JobId(5),
            part: 0,
        };
        assert_eq!(part.to_string().parse::<PartName>().expect("legal"), part);
    }

    #[test]
    fn a_name_has_one_spelling() {
        for text in [
            "",
            "1-2-3.hfs",
            "1-2-3-4",
            "1-2-3-4.hfp",
            "1-2-3-4.hft.hfs",
            "01-2-3-4.hfs",
            "1-2-3-4-5.hfs",
            "1-2-+3-4.hfs",
            "a-2-3-4.hfs",
        ] {
            assert!(text.parse::<DataName>().is_err(), "{text}");
        }
        for text in ["", "1.hfp", "1-2", "1-02.hfp", "1-2-3.hfp"] {
            assert!(text.parse::<PartName>().is_err(), "{text}");
        }
    }

    #[test]
    fn directories_are_told_by_their_shape() {
        let time = Timestamp::from_millis(1_790_000_000_120);
        assert!(is_full_subdir(&full_subdir(time)));
        let own = incremental_subdir(time, time);
        for (level, name) in own.split('/').enumerate() {
            assert!(is_incremental_component(level, name), "{name}");
        }
        assert!(!is_full_subdir("2022/09/19-134123.64/data"));
        assert!(!is_full_subdir("latest"));
    }

    #[test]
    fn the_newest_pointer_sorts_first() {
        let mut names = [
            "20220919-134123.640000",
            "20220919-134123.650000",
            "20230101-000000.000000",
        ]
        .map(descending);
        names.sort();
        assert_eq!(names[0], descending("20230101-000000.000000"));
    }
}
