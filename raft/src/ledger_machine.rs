//! The ledger as a state machine.

use holdfast_ledger::{Command, Ledger, LogPosition, Outcome};
use holdfast_types::{Digest, Fault};

use crate::machine::StateMachine;

impl StateMachine for Ledger {
    type Command = Command;
    type Outcome = Outcome;

    fn empty() -> Self {
        Self::new()
    }

    fn apply(&mut self, position: LogPosition, command: &Command) -> Outcome {
        // The leader computes the effects that are owed from the state, so those of one command are not needed.
        let (outcome, _effects) = Self::apply(self, position, command);
        outcome
    }

    fn advance(&mut self, position: LogPosition) {
        self.advance_to(position);
    }

    fn encode_command(command: &Command) -> Vec<u8> {
        holdfast_ledger::encode_command(command)
    }

    fn decode_command(bytes: &[u8]) -> Result<Command, Fault> {
        holdfast_ledger::decode_command(bytes)
    }

    fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
        holdfast_ledger::encode_outcome(outcome)
    }

    fn decode_outcome(bytes: &[u8]) -> Result<Outcome, Fault> {
        holdfast_ledger::decode_outcome(bytes)
    }

    fn write_snapshot(&self, output: &mut Vec<u8>) -> std::io::Result<()> {
        Self::write_snapshot(self, output)
    }

    fn read_snapshot(bytes: &[u8]) -> Result<Self, Fault> {
        Self::read_snapshot(bytes)
    }

    fn digest(&self) -> Digest {
        self.chain_digest()
    }
}
