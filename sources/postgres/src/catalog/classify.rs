//! What is done with a relation's rows, from what the catalogs say of it.

use crate::layout::{Column, DefinitionReason, Handling, WholeReason};

/// What decides on the handling.
pub(super) struct Traits<'a> {
    /// `pg_class.relkind`.
    pub(super) kind: u8,
    /// `pg_class.relpersistence`.
    pub(super) persistence: u8,
    /// `pg_class.relreplident`.
    pub(super) identity: u8,
    /// Its storage is the built-in heap.
    pub(super) is_heap: bool,
    /// It belongs to an extension; and if so, whether as a configuration table.
    pub(super) extension: Option<bool>,
    /// Its primary key, if it has one: whether it is checked at once, and its columns' numbers.
    pub(super) key: Option<(bool, &'a [i16])>,
    /// Its stored columns.
    pub(super) columns: &'a [Column],
    /// Some of them come in changes in another form than in a copy.
    pub(super) copy_only: bool,
    /// The role is its owner, or as good as that.
    pub(super) is_owner: bool,
    /// The server is a standby.
    pub(super) in_recovery: bool,
}

/// What is done with the rows; and the key's columns as indexes, empty if the relation is not keyed.
pub(super) fn classify(traits: &Traits<'_>) -> (Handling, Vec<usize>) {
    let whole = |reason| (Handling::Whole(reason), Vec::new());
    let definition = |reason| (Handling::Definition(reason), Vec::new());
    match traits.kind {
        b'p' => return definition(DefinitionReason::Partitioned),
        b'f' => return definition(DefinitionReason::Foreign),
        b'm' => return definition(DefinitionReason::MaterializedView),
        _ => {}
    }
    if traits.persistence == b'u' && traits.in_recovery {
        return definition(DefinitionReason::UnloggedOnStandby);
    }
    match traits.extension {
        Some(true) => return whole(WholeReason::ExtensionConfiguration),
        Some(false) => return definition(DefinitionReason::ExtensionMember),
        None => {}
    }
    if traits.persistence == b'u' {
        return whole(WholeReason::Unlogged);
    }
    if !traits.is_heap {
        return whole(WholeReason::AccessMethod);
    }
    match traits.identity {
        b'd' => {}
        b'f' => return whole(WholeReason::IdentityFull),
        b'i' => return whole(WholeReason::IdentityIndex),
        _ => return whole(WholeReason::IdentityNothing),
    }
    let Some((immediate, numbers)) = traits.key else {
        return whole(WholeReason::NoKey);
    };
    if !immediate {
        return whole(WholeReason::DeferrableKey);
    }
    let place = |number: &i16| {
        traits
            .columns
            .iter()
            .position(|column| column.attnum == *number)
    };
    let Some(key) = numbers.iter().map(place).collect::<Option<Vec<_>>>() else {
        // A generated column in the key (18 allows stored ones in constraints) is not in the change stream.
        return whole(WholeReason::ColumnForm);
    };
    let text_in_key = key
        .iter()
        .filter_map(|index| traits.columns.get(*index))
        .any(|c| c.as_text);
    if traits.copy_only || text_in_key {
        return whole(WholeReason::ColumnForm);
    }
    if !traits.is_owner {
        return whole(WholeReason::NotOwner);
    }
    (Handling::Keyed, key)
}
