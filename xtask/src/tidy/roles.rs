//! The binary wires the roles; its front-end commands see only `ControlApi`. Cargo cannot tell the two apart, so this does: outside
//! the files listed here, `cli/` does not name the coordinator's or the worker's crate.

use super::Finding;
use crate::Result;
use crate::tree::Tree;

/// The part of the binary that starts roles: `roles.rs` and what is below it.
const WIRING: [&str; 1] = ["cli/src/roles"];
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
        assert!(is_wiring("cli/src/roles.rs"));
        assert!(is_wiring("cli/src/roles/signals.rs"));
        assert!(!is_wiring("cli/src/roles_shown.rs"));
        assert!(!is_wiring("cli/src/commands/backup.rs"));
    }
}
