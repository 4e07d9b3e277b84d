//! `cargo xtask fixtures`: a file of every format version, as it was first written, stands in `tests/compat` for ever, and tests read it. This
//! writes those of the current versions, where they are missing; what is there is never touched.

use crate::Result;
use crate::step::execute;

/// The crates whose tests write fixtures when `HOLDFAST_WRITE_FIXTURES` is set.
const CRATES: [&str; 2] = ["holdfast-format", "holdfast-ledger"];

/// Writes what is missing.
pub(crate) fn run() -> Result<()> {
    let root = crate::tree::root();
    for name in CRATES {
        execute(
            &root,
            &format!("env HOLDFAST_WRITE_FIXTURES=1 cargo test --locked -p {name} compat"),
        )?;
    }
    Ok(())
}
