//! The binary wires the roles; its front-end commands see only `ControlApi`. Cargo cannot tell the two apart, so this does: outside
//! the files listed here, `cli/` does not name the coordinator's or the worker's crate.

use super::Finding;
use crate::Result;
use crate::tree::Tree;

/// The files of the binary that start roles.
const WIRING: [&str; 4] = [
    "cli/src/roles",
    "cli/src/commands/start",
    "cli/src/commands/demo",
    "cli/src/commands/bench",
];
const ROLES: [&str; 2] = [
    concat!("holdfast_", "coordinator"),
    concat!("holdfast_", "worker"),
];

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in tree
        .files
        .iter()
        .filter(|file| file.is_rust() && file.path.starts_with("cli/"))
    {
        if is_wiring(&file.path) {
            continue;
        }
        for (index, line) in file.text.lines().enumerate() {
            if let Some(role) = ROLES.into_iter().find(|role| line.contains(role)) {
                findings.push(Finding::line(
                    &file.path,
                    index + 1,
                    format!(
                        "names {role}: front ends see ControlApi; roles are started in {}",
                        WIRING.join(", ")
                    ),
                ));
            }
        }
    }
    Ok(findings)
}

fn is_wiring(path: &str) -> bool {
    WIRING.iter().any(|allowed| {
        path.strip_prefix(allowed)
            .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_files_wire() {
        assert!(is_wiring("cli/src/commands/start.rs"));
        assert!(is_wiring("cli/src/commands/demo/steps.rs"));
        assert!(!is_wiring("cli/src/commands/started.rs"));
        assert!(!is_wiring("cli/src/commands/backup.rs"));
    }
}
