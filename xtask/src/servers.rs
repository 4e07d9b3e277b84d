//! Servers that the tests start themselves, where they come from Debian's packages. Others are fetched by the tests
//! (`sources/postgres/testing/`), which need no rights for that.

use crate::Result;
use crate::step::{execute, succeeds};
use std::path::Path;

/// The server of most PostgreSQL tests, with `psql` and `pgbench`.
const POSTGRES: &str = "/usr/lib/postgresql/15/bin/postgres";

/// Its package.
const PACKAGE: &str = "postgresql-15";

/// Installs what is missing, or says what to install.
///
/// # Errors
/// It is missing, and this user may not install it, or the system has no such package.
pub(crate) fn install(root: &Path) -> Result<()> {
    if Path::new(POSTGRES).exists() {
        println!("{POSTGRES} is there");
        return Ok(());
    }
    let needed = format!("PostgreSQL 15 is needed: run `apt-get install {PACKAGE}`");
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
        &format!("{privileged}apt-get install -q -y --no-install-recommends {PACKAGE}"),
    )
    .map_err(|error| format!("{needed}: {error}").into())
}
