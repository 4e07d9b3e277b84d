//! Outside crates: banned ones (`[bans]` of `deny.toml`), sources other than the registry, and versions written outside the one table.

use super::Finding;
use crate::Result;
use crate::tree::{TextFile, Tree};
use cargo_metadata::{Metadata, Package, PackageId};
use serde::Deserialize;
use std::collections::BTreeSet;

#[derive(Debug, Deserialize)]
struct Deny {
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// Whether anything of the tree is built with a package. Cargo also locks what `name?/feature` merely mentions, and what that would need, and builds
/// neither.
fn is_built(metadata: &Metadata, package: &Package) -> bool {
    is_built_beside(metadata, package, &mut BTreeSet::new())
}

/// The same, passing over packages that were looked at on the way.
fn is_built_beside(metadata: &Metadata, package: &Package, seen: &mut BTreeSet<PackageId>) -> bool {
    if metadata.workspace_members.contains(&package.id) {
        return true;
    }
    if !seen.insert(package.id.clone()) {
        return false;
    }
    let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
    let mut users = nodes.filter(|node| node.deps.iter().any(|dep| dep.pkg == package.id));
    users.any(|node| {
        let user = &metadata[&node.id];
        let mut needs = user
            .dependencies
            .iter()
            .filter(|need| need.name == package.name.as_str());
        let is_needed = needs.any(|need| {
            let name = need.rename.as_ref().unwrap_or(&need.name);
            let asks = |feature: &String| {
                *feature == format!("dep:{name}")
                    || feature == name
                    || feature.starts_with(&format!("{name}/"))
            };
            let enabled = |feature: &str| node.features.iter().any(|on| on.as_str() == feature);
            !need.optional
                || user
                    .features
                    .iter()
                    .any(|(feature, implies)| enabled(feature) && implies.iter().any(asks))
        });
        is_needed && is_built_beside(metadata, user, seen)
    })
}

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let deny: Deny = toml::from_str(&std::fs::read_to_string(tree.root.join("deny.toml"))?)?;
    let mut findings = Vec::new();
    for package in &tree.metadata.packages {
        let place = format!("{} {}", package.name, package.version);
        if let Some(ban) = deny
            .bans
            .deny
            .iter()
            .find(|ban| ban.name == package.name.as_str())
            && is_built(&tree.metadata, package)
        {
            findings.push(Finding::file(&place, format!("is banned: {}", ban.reason)));
        }
        if let Some(source) = &package.source {
            let known = deny
                .sources
                .allow_registry
                .iter()
                .any(|allowed| source.repr == format!("registry+{allowed}"));
            if !known {
                findings.push(Finding::file(&place, format!("comes from {source}")));
            }
        }
    }
    for file in &tree.files {
        if file.path.ends_with("/Cargo.toml") {
            findings.extend(check_manifest(file)?);
        }
    }
    Ok(findings)
}

/// A member's manifest takes every dependency from the workspace's table, and the lints.
fn check_manifest(file: &TextFile) -> Result<Vec<Finding>> {
    let manifest: toml::Table = toml::from_str(&file.text)?;
    let mut findings = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let entries = manifest.get(section).and_then(toml::Value::as_table);
        for (name, value) in entries.into_iter().flatten() {
            let inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            if !inherited {
                findings.push(Finding::file(
                    &file.path,
                    format!("{name} is not taken from [workspace.dependencies]"),
                ));
            }
        }
    }
    let lints = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"));
    if lints.and_then(toml::Value::as_bool) != Some(true) {
        findings.push(Finding::file(
            &file.path,
            "does not take [lints] from the workspace",
        ));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_versions_and_missing_lints_are_found() {
        let file = |text: &str| TextFile {
            path: "a/Cargo.toml".to_owned(),
            text: text.to_owned(),
        };
        let good = "[lints]\nworkspace = true\n[dependencies]\na.workspace = true\n";
        assert!(check_manifest(&file(good)).expect("valid").is_empty());
        let bad = "[dependencies]\na = \"1\"\n[dev-dependencies]\nb = { workspace = true }\n";
        assert_eq!(check_manifest(&file(bad)).expect("valid").len(), 2);
    }
}
