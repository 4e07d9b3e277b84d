//! `holdfast sim`: the simulator is a binary of its own, because it overrides the C library's clock and randomness, which must not
//! be linkable into the product.

use holdfast_types::{ErrorCode, Fault};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::exit::Exit;

const NAME: &str = "holdfast-sim";

pub(super) fn run(arguments: Vec<OsString>) -> Result<Exit, Fault> {
    let own = std::env::current_exe().map_err(|error| {
        Fault::new(
            ErrorCode::Internal,
            format!("cannot find the path of this binary: {error}"),
        )
    })?;
    let simulator = beside(&own).ok_or_else(|| {
        Fault::new(
            ErrorCode::NotFound,
            format!("{NAME} does not stand beside {}", own.display()),
        )
        .hint(format!("build it with `cargo build --release -p {NAME}`"))
    })?;
    // Replaces this process, so that signals and the exit code are the simulator's own.
    let error = std::os::unix::process::CommandExt::exec(
        std::process::Command::new(&simulator).args(arguments),
    );
    Err(Fault::new(
        ErrorCode::Internal,
        format!("cannot run {}: {error}", simulator.display()),
    ))
}

fn beside(own: &Path) -> Option<PathBuf> {
    let path = own.with_file_name(NAME);
    path.exists().then_some(path)
}
