//! Servers that the tests start themselves, where they come from Debian's packages. Others are fetched by the tests
//! (`sources/postgres/testing/`), which need no rights for that.

use crate::Result;
use crate::step::{execute, succeeds};
use std::path::Path;

/// What is needed: what it is called, a program of it, and its package.
const NEEDED: [(&str, &str, &str); 3] = [
    // The server of most PostgreSQL tests, with `psql` and `pgbench`.
    (
        "PostgreSQL 15",
        "/usr/lib/postgresql/15/bin/postgres",
        "postgresql-15",
    ),
    // A PKCS#11 token in software.
    ("SoftHSM2", "/usr/bin/softhsm2-util", "softhsm2"),
    // Where the key management services are installed from PyPI (`keys/testing/`).
    ("Python's venv", "/usr/share/python-wheels", "python3-venv"),
];

/// Installs what is missing, or says what to install.
///
/// # Errors
/// It is missing, and this user may not install it, or the system has no such package.
pub(crate) fn install(root: &Path) -> Result<()> {
    for (name, program, package) in NEEDED {
        install_one(root, name, program, package)?;
    }
    Ok(())
}

fn install_one(root: &Path, name: &str, program: &str, package: &str) -> Result<()> {
    if Path::new(program).exists() {
        println!("{program} is there");
        return Ok(());
    }
    let needed = format!("{name} is needed: run `apt-get install {package}`");
    if !succeeds(root, "apt-get --version") {
        return Err(format!("{needed}, or put its programs where Debian has them").into());
    }
    // Without a password: nobody may be there to type it.
    let privileged = match succeeds(root, "test -w /var/lib/dpkg") {
        true => "",
        false if succeeds(root, "sudo -n true") => "sudo -n ",
        false => return Err(format!("{needed} as root").into()),
    };
    execute(root, &format!("{privileged}apt-get update -q"))?;
    execute(
        root,
        &format!("{privileged}apt-get install -q -y --no-install-recommends {package}"),
    )
    .map_err(|error| format!("{needed}: {error}").into())
}
