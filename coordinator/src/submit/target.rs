//! What a request wants covered.

use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Fault, TableName, Target};
use std::collections::BTreeSet;

/// Databases or tables that one request may name.
const MAX_NAMES: usize = 10_000;
/// The longest name of a database or table.
const MAX_NAME_LENGTH: usize = 256;

/// Reads a target: names sorted, each once.
pub(super) fn read_target(wire: Option<v1::Target>) -> Result<Target, Fault> {
    let v1::Target { databases, tables } = wire.unwrap_or_default();
    let invalid = |text: String| Fault::new(ErrorCode::InvalidArgument, text);
    if databases.len() + tables.len() > MAX_NAMES {
        return Err(invalid(format!("more than {MAX_NAMES} names in a target")));
    }
    for name in databases.iter().chain(&tables) {
        if name.is_empty() || name.len() > MAX_NAME_LENGTH || name.chars().any(char::is_control) {
            return Err(invalid(format!(
                "\"{}\" is not a legal name of a database or table",
                name.escape_debug()
            )));
        }
    }
    match (databases.is_empty(), tables.is_empty()) {
        (true, true) => Ok(Target::Source),
        (false, true) => {
            let names: BTreeSet<String> = databases.into_iter().collect();
            Ok(Target::Databases(names.into_iter().collect()))
        }
        (true, false) => {
            let names: BTreeSet<TableName> = tables
                .iter()
                .map(|name| name.parse())
                .collect::<Result<_, _>>()?;
            Ok(Target::Tables(names.into_iter().collect()))
        }
        (false, false) => Err(invalid(
            "a target names databases or tables, not both".to_owned(),
        )),
    }
}

/// A target as it was asked for.
pub(crate) fn wire_target(target: &Target) -> v1::Target {
    let (databases, tables) = match target {
        Target::Source => (Vec::new(), Vec::new()),
        Target::Databases(names) => (names.to_vec(), Vec::new()),
        Target::Tables(names) => (Vec::new(), names.iter().map(ToString::to_string).collect()),
    };
    v1::Target { databases, tables }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(databases: &[&str], tables: &[&str]) -> Option<v1::Target> {
        Some(v1::Target {
            databases: databases.iter().map(ToString::to_string).collect(),
            tables: tables.iter().map(ToString::to_string).collect(),
        })
    }

    #[test]
    fn targets_are_sorted_and_checked() {
        assert_eq!(read_target(None), Ok(Target::Source));
        assert_eq!(
            read_target(wire(&["b", "a", "b"], &[])),
            Ok(Target::Databases(vec!["a".into(), "b".into()]))
        );
        let tables = read_target(wire(&[], &["b.t", "a.t"])).expect("legal");
        assert_eq!(tables.to_string(), "TABLE a.t, b.t");
        for (databases, tables, text) in [
            (&["a"][..], &["a.t"][..], "not both"),
            (&[], &["t"], "database.table"),
            (&[""], &[], "not a legal name"),
            (&["a\n"], &[], "not a legal name"),
        ] {
            let fault = read_target(wire(databases, tables)).expect_err(text);
            assert!(fault.message.contains(text), "{fault}");
        }
    }
}
