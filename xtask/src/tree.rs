//! The tree of source files, read once.

use crate::Result;
use cargo_metadata::{Metadata, MetadataCommand};
use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the tree.
#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

impl TextFile {
    /// Whether it is Rust source.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Its lines before the first `#[cfg(test)]` that is followed by a module: the product part of a Rust file.
    pub(crate) fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let end = lines
            .iter()
            .enumerate()
            .find(|(index, line)| {
                line.trim() == "#[cfg(test)]"
                    && lines[index + 1..]
                        .iter()
                        .find(|line| !line.trim_start().starts_with("#["))
                        .is_some_and(|line| line.trim_start().starts_with("mod "))
            })
            .map_or(lines.len(), |(index, _)| index);
        lines
            .into_iter()
            .take(end)
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

/// Everything that the rules look at.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The workspace's directory.
    pub(crate) root: PathBuf,
    /// Every text file, sorted by path.
    pub(crate) files: Vec<TextFile>,
    /// What cargo knows.
    pub(crate) metadata: Metadata,
}

const TEXT: [&str; 8] = ["rs", "md", "toml", "proto", "txt", "sh", "yml", "json"];

impl Tree {
    /// Reads the tree that this tool was built in.
    pub(crate) fn read() -> Result<Self> {
        let root = root();
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .other_options(vec!["--locked".to_owned()])
            .exec()?;
        let mut files = Vec::new();
        collect(&root, &root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self {
            root,
            files,
            metadata,
        })
    }

    /// Whether there is a file or directory of this path.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

/// The workspace's directory.
pub(crate) fn root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.parent().map_or_else(|| own.clone(), Path::to_path_buf)
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<TextFile>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
            if !hidden && name != "target" {
                collect(root, &path, files)?;
            }
            continue;
        }
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        let known =
            TEXT.contains(&extension.as_ref()) || directory.file_name() == Some(".ci".as_ref());
        if known && let Ok(text) = fs::read_to_string(&path) {
            let relative = path
                .strip_prefix(root)?
                .to_string_lossy()
                .replace('\\', "/");
            files.push(TextFile {
                path: relative,
                text,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_part_ends_where_the_tests_begin() {
        let file = TextFile {
            path: "a.rs".to_owned(),
            text: "fn a() {}\n#[cfg(test)]\nfn helper() {}\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n}\n".to_owned(),
        };
        let lines: Vec<_> = file.product_lines().map(|(number, _)| number).collect();
        assert_eq!(lines, [1, 2, 3]);
    }

    #[test]
    fn this_tree_can_be_read() {
        let tree = Tree::read().expect("the tree");
        assert!(
            tree.files
                .iter()
                .any(|file| file.path == "xtask/src/tree.rs")
        );
        assert!(tree.exists("Cargo.toml") && !tree.exists("no-such-file"));
    }
}
