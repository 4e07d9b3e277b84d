//! Where a cluster inside a process keeps its state.

use holdfast_env::Env;
use holdfast_types::{Digest, ErrorCode, Fault};
use std::sync::Arc;
use tempfile::TempDir;

use crate::roles;

/// Digits of the digest that names a directory.
const NAME_DIGITS: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) enum StateDirectory {
    /// One that goes with the process.
    Temporary(TempDir),
    /// One that stays until [`StateDirectory::remove`].
    Kept(String),
}

impl StateDirectory {
    /// One that goes with the process.
    pub(crate) fn temporary() -> Result<Self, Fault> {
        let mut builder = tempfile::Builder::new();
        let made = builder.prefix("holdfast-local-").tempdir();
        made.map(Self::Temporary).map_err(|error| {
            Fault::new(
                ErrorCode::Unavailable,
                format!("cannot make a temporary directory: {error}"),
            )
            .hint("set TMPDIR to a directory that can be written")
        })
    }

    /// The one of a job: the same command finds it again. `given` is where it is, if the user said so.
    pub(crate) async fn of_job(
        env: &Env,
        given: Option<String>,
        what: &[&str],
    ) -> Result<Self, Fault> {
        let directory = given.unwrap_or_else(|| {
            let mut name = Digest::of(what.join("\n").as_bytes()).to_string();
            name.truncate(NAME_DIGITS);
            format!("{}/holdfast/{name}", state_home())
        });
        roles::make_directory(env, &directory).await?;
        Ok(Self::Kept(directory))
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> String {
        match self {
            Self::Temporary(directory) => {
                directory.path().join(name).to_string_lossy().into_owned()
            }
            Self::Kept(directory) => format!("{directory}/{name}"),
        }
    }

    /// Removes it, with all that is in it.
    pub(crate) async fn remove(self, env: &Env) {
        let directory = match self {
            // What cannot be removed is in the system's temporary directory, and holds nothing but the log of a finished job.
            Self::Temporary(directory) => return drop(directory.close()),
            Self::Kept(directory) => directory,
        };
        let Some((parent, _)) = directory.rsplit_once('/') else {
            return;
        };
        // Moved as a whole first: half a state would be worse than none.
        let Ok(grave) = tempfile::Builder::new()
            .prefix(".removed-")
            .tempdir_in(parent)
        else {
            return;
        };
        let (disk, to) = (Arc::clone(&env.disk), grave.path().join("state"));
        let to = to.to_string_lossy().into_owned();
        let _ = env.blocking(move || disk.rename(&directory, &to)).await;
        let _ = grave.close();
    }
}

/// Where a user's programs keep state, by the XDG base directory specification.
fn state_home() -> String {
    let absolute = |name: &str| {
        let value = std::env::var(name).ok();
        value.filter(|value| value.starts_with('/'))
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| format!("{home}/.local/state")))
        .unwrap_or_else(|| std::env::temp_dir().to_string_lossy().into_owned())
}
