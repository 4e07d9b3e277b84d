//! Ends a server when the process that started it ends, in whatever way.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Who a server runs as: PostgreSQL refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    /// The user and group to change to, where this process is root.
    ids: Option<(u32, u32)>,
}

impl User {
    /// The user `postgres`, or else `nobody`, where this process is root; otherwise whoever runs the tests.
    pub(crate) fn find() -> Self {
        if !rustix::process::getuid().is_root() {
            return Self { ids: None };
        }
        let users = std::fs::read_to_string("/etc/passwd").expect("the list of users");
        let ids = ["postgres", "nobody"].iter().find_map(|name| {
            let line = users
                .lines()
                .find(|line| line.split(':').next() == Some(*name))?;
            let mut fields = line.split(':').skip(2).map(str::parse);
            Some((fields.next()?.ok()?, fields.next()?.ok()?))
        });
        Self {
            ids: Some(ids.expect("a user `postgres` or `nobody` to run the server as")),
        }
    }

    /// A command as this user, in a process group of its own, so that Ctrl-C reaches the tests alone.
    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::null());
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a file or directory to this user.
    pub(crate) fn own(self, path: &Path) {
        if let Some((uid, gid)) = self.ids {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown");
        }
    }
}

/// A shell that waits for its input to end, which it does when this process is gone, and then ends the server and removes
/// its directory.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
}

const SCRIPT: &str = r#"
cat > /dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null)
if [ -n "$pid" ]; then
    kill -QUIT "$pid" 2> /dev/null
    tries=0
    while kill -0 "$pid" 2> /dev/null && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
fi
rm -rf "$1"
"#;

impl Guard {
    pub(crate) fn new(user: User, directory: &Path) -> Self {
        let mut command = user.command(Path::new("/bin/sh"));
        command.args(["-c", SCRIPT, "guard"]).arg(directory);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self {
            shell: command.spawn().expect("a shell starts"),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // The shell ends by itself within seconds.
        let _ = self.shell.wait();
    }
}
