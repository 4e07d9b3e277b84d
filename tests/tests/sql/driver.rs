//! A driver that is not written in Rust: psycopg, pinned by digest, in an environment of its own below the build directory.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What `driver.py` prints.
pub(crate) const EXPECTED: &str = "\
version 160000
BACKUP 1 ['job_id', 'status', 'fraction_completed', 'rows'] ('succeeded', 1.0, 3)
text ['int', 'datetime', 'float', 'list', 'timedelta']
binary ['int', 'datetime', 'float', 'list', 'timedelta']
notice restorable
rows 2
prepared 1
error 42601 6 did you mean JOBS?
error 58P01
error 25001
detached succeeded
pipeline 1 (1,)
";

/// The environment's interpreter, which is made the first time.
fn python() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let test = std::env::current_exe().expect("the path of this test");
    let target = test
        .ancestors()
        .nth(3)
        .expect("target/<profile>/deps/<test>");
    let environment = target.join("drivers/psycopg-3.3.9");
    let python = environment.join("bin/python");
    let made = environment.join("made");
    if made.exists() {
        return python;
    }
    let run = |command: &mut Command, what: &str| {
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {said}");
    };
    run(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&environment),
        "python3 -m venv (run `apt-get install python3-venv`)",
    );
    let requirements = manifest.join("tests/sql/requirements.txt");
    run(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "-q",
                "--no-deps",
                "--require-hashes",
                "-r",
            ])
            .arg(requirements),
        "pip install",
    );
    std::fs::write(&made, "").expect("a mark that it is complete");
    python
}

/// Runs the driver against a cluster; what it prints.
pub(crate) fn run(port: &str, collection: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/driver.py");
    let output = Command::new(python())
        .arg(script)
        .args([port, collection])
        .output()
        .expect("python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
