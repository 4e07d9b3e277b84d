//! A state machine that remembers numbers.

use holdfast_raft::{LogPosition, StateMachine};
use holdfast_types::{Digest, ErrorCode, Fault};
use std::io;
use std::time::Duration;

/// Remembers a number.
#[derive(Debug, Clone)]
pub struct Append {
    pub value: u64,
    /// Makes the command longer.
    pub padding: usize,
}

impl Append {
    /// A value that takes long to apply.
    pub const SLOW: u64 = u64::MAX;

    pub fn new(value: u64) -> Self {
        Self { value, padding: 0 }
    }
}

/// All numbers so far.
#[derive(Debug, Clone, Default)]
pub struct Toy {
    pub values: Vec<u64>,
    pub position: LogPosition,
    chain: Digest,
}

fn number(bytes: &[u8]) -> Result<u64, Fault> {
    let invalid = || Fault::new(ErrorCode::Corrupted, "not a number");
    let (number, _) = bytes.split_first_chunk().ok_or_else(invalid)?;
    Ok(u64::from_le_bytes(*number))
}

impl StateMachine for Toy {
    type Command = Append;
    type Outcome = u64;

    fn empty() -> Self {
        Self::default()
    }

    fn apply(&mut self, position: LogPosition, command: &Append) -> u64 {
        assert!(position > self.position, "positions only grow");
        if command.value == Append::SLOW {
            std::thread::sleep(Duration::from_millis(300));
        }
        self.position = position;
        self.values.push(command.value);
        let folded = [self.chain.0.as_slice(), &command.value.to_le_bytes()].concat();
        self.chain = Digest::of(&folded);
        self.values.len() as u64
    }

    fn advance(&mut self, position: LogPosition) {
        self.position = position;
    }

    fn encode_command(command: &Append) -> Vec<u8> {
        let mut bytes = command.value.to_le_bytes().to_vec();
        bytes.resize(8 + command.padding, 7);
        bytes
    }

    fn decode_command(bytes: &[u8]) -> Result<Append, Fault> {
        Ok(Append {
            value: number(bytes)?,
            padding: bytes.len() - 8,
        })
    }

    fn encode_outcome(outcome: &u64) -> Vec<u8> {
        outcome.to_le_bytes().to_vec()
    }

    fn decode_outcome(bytes: &[u8]) -> Result<u64, Fault> {
        number(bytes)
    }

    fn write_snapshot(&self, output: &mut Vec<u8>) -> io::Result<()> {
        output.extend_from_slice(&self.position.term.to_le_bytes());
        output.extend_from_slice(&self.position.index.to_le_bytes());
        output.extend_from_slice(&self.chain.0);
        for value in &self.values {
            output.extend_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }

    fn read_snapshot(bytes: &[u8]) -> Result<Self, Fault> {
        let rest = bytes.get(16..).unwrap_or_default();
        let invalid = || Fault::new(ErrorCode::Corrupted, "not a state");
        let (chain, values) = rest.split_first_chunk().ok_or_else(invalid)?;
        Ok(Self {
            values: values.chunks(8).map(number).collect::<Result<_, _>>()?,
            position: LogPosition {
                term: number(bytes)?,
                index: number(&bytes[8..])?,
            },
            chain: Digest(*chain),
        })
    }

    fn digest(&self) -> Digest {
        self.chain
    }
}
