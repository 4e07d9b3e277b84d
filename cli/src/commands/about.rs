//! `holdfast version` and `completions`.

use clap::CommandFactory;
use serde::Serialize;

use crate::args::Cli;
use crate::context::Context;
use crate::exit::Exit;

#[derive(Serialize)]
struct VersionView {
    version: &'static str,
}

pub(super) fn version(context: &Context) -> Exit {
    let view = VersionView {
        version: env!("CARGO_PKG_VERSION"),
    };
    context
        .output
        .result(&view, || format!("holdfast {}", view.version));
    Exit::Ok
}

pub(super) fn completions(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "holdfast", &mut script);
    // A reader that went away is no error.
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), &script);
    Exit::Ok
}
