//! Where the binary under test is.

use std::path::PathBuf;

/// The `holdfast` binary: `HOLDFAST_BIN` if set, otherwise the one that cargo built beside this test.
///
/// # Panics
/// There is none: a missing binary is a failure, never a skip.
#[must_use]
pub fn holdfast_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("HOLDFAST_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("target/<profile>/deps/<test>");
    let binary = profile.join("holdfast");
    assert!(
        binary.exists(),
        "{} does not exist: run `cargo build -p holdfast-cli` first, or `cargo xtask ci`, which does",
        binary.display()
    );
    binary
}
