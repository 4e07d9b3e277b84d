//! Which versions of a relation a backup holds.

use holdfast_types::{BackupSpec, Position, Relation, Window};

/// The window of one relation in one backup. A pure function of the specification and the relation, so that every worker that goes on with a
/// span reads the same rows.
///
/// | backup | relation | window |
/// |---|---|---|
/// | full | any | what is visible at the end |
/// | incremental | older than the parent's end | changes since the parent's end, deletions included |
/// | incremental | made since | what is visible at the end: there is nothing before it to be deleted |
/// | incremental with history | any | every version since the parent's end; one made since has no others |
pub(crate) fn window_of(spec: &BackupSpec, relation: &Relation) -> Window {
    let upto = Position::from(spec.end);
    let after = spec
        .parent
        .as_ref()
        .map(|parent| Position::from(parent.end))
        .filter(|after| spec.history || relation.created_at <= *after);
    Window {
        after,
        upto,
        history: spec.history && after.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{
        Digest, Hlc, LayerPath, Locality, ParentLayer, RelationId, SourceKind, TableName, Target,
        Timestamp,
    };

    fn at(micros: u64) -> Hlc {
        Hlc::at(Timestamp::from_micros(micros))
    }

    fn spec(parent: Option<u64>, history: bool) -> BackupSpec {
        BackupSpec {
            source: "shop".parse().expect("a name"),
            kind: SourceKind::Mvcc,
            members: Vec::new(),
            target: Target::Source,
            collection: "memory://c".to_owned(),
            access: holdfast_types::CollectionAccess::default(),
            path: LayerPath::full("f"),
            parent: parent.map(|end| ParentLayer {
                path: LayerPath::full("p"),
                manifest: Digest::default(),
                end: at(end),
            }),
            end: at(100),
            history,
            execution_locality: Locality::default(),
            part_size: 1,
            hold: holdfast_types::HoldUse::Job,
            encryption: None,
        }
    }

    fn relation(created: u64) -> Relation {
        Relation {
            id: RelationId(1),
            name: TableName {
                database: "d".to_owned(),
                table: "t".to_owned(),
            },
            created_at: at(created).into(),
            dropped_at: None,
            definition: Vec::new(),
        }
    }

    #[test]
    fn the_table_of_windows() {
        let upto = Position::from(at(100));
        let since = Some(Position::from(at(50)));
        let cases = [
            (spec(None, false), 10, None, false),
            (spec(None, true), 10, None, false),
            (spec(Some(50), false), 10, since, false),
            (spec(Some(50), false), 50, since, false),
            (spec(Some(50), false), 51, None, false),
            (spec(Some(50), true), 10, since, true),
            (spec(Some(50), true), 51, since, true),
        ];
        for (index, (spec, created, after, history)) in cases.into_iter().enumerate() {
            let expected = Window {
                after,
                upto,
                history,
            };
            assert_eq!(
                window_of(&spec, &relation(created)),
                expected,
                "case {index}"
            );
        }
    }
}
