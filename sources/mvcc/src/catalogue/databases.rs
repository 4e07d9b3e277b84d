//! Databases as a backup lists them: relations without rows, so that those without tables are not lost.

use holdfast_types::{Hlc, Position, Relation, RelationId, TableName, Target};

use super::{Catalogue, Visibility};

impl Catalogue {
    /// The databases of a target that exist at `upto`, and with `after` those that were dropped in `(after, upto]`; sorted by id. Databases
    /// and tables take their ids from one sequence.
    pub(crate) fn describe_databases(
        &self,
        target: &Target,
        after: Option<Hlc>,
        upto: Hlc,
    ) -> Vec<Relation> {
        let is_covered = |name: &String| match target {
            Target::Source => true,
            Target::Databases(names) => names.contains(name),
            Target::Tables(_) => false,
        };
        self.databases
            .iter()
            .filter(|(_, record)| {
                record.visibility == Visibility::Online && is_covered(&record.name)
            })
            .filter_map(|(id, record)| {
                let dropped_at = record.dropped_at.filter(|dropped| *dropped <= upto);
                let is_listed = match dropped_at {
                    None => record.created_at <= upto,
                    Some(dropped) => after.is_some_and(|after| after < dropped),
                };
                is_listed.then(|| Relation {
                    id: RelationId(*id),
                    name: TableName::of_database(record.name.as_str()),
                    created_at: Position::Hlc(record.created_at),
                    dropped_at: dropped_at.map(Position::Hlc),
                    definition: Vec::new(),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{ErrorCode, JobId, Timestamp};

    fn at(micros: u64) -> Hlc {
        Hlc::at(Timestamp::from_micros(micros))
    }

    #[test]
    fn databases_are_listed_as_of_any_position_and_in_any_window() {
        let mut catalogue = Catalogue::default();
        catalogue.create_database("kept", at(10)).expect("made");
        catalogue.create_database("gone", at(20)).expect("made");
        catalogue.drop_database("gone", at(30)).expect("dropped");
        let seen = |target: &Target, after: Option<u64>, upto| {
            catalogue
                .describe_databases(target, after.map(at), at(upto))
                .iter()
                .map(|held| (held.name.to_string(), held.dropped_at.is_some()))
                .collect::<Vec<_>>()
        };
        let (kept, gone) = ("kept".to_owned(), "gone".to_owned());
        let all = Target::Source;
        assert_eq!(seen(&all, None, 9), []);
        assert_eq!(
            seen(&all, None, 29),
            [(kept.clone(), false), (gone.clone(), false)]
        );
        assert_eq!(seen(&all, None, 30), [(kept.clone(), false)]);
        assert_eq!(
            seen(&all, Some(25), 30),
            [(kept.clone(), false), (gone.clone(), true)]
        );
        assert_eq!(seen(&all, Some(30), 40), [(kept, false)]);
        let one = Target::Databases(vec![gone.clone(), "never".into()]);
        assert_eq!(seen(&one, Some(5), 40), [(gone, true)]);
        let tables = Target::Tables(vec!["kept.t".parse().expect("a name")]);
        assert_eq!(seen(&tables, None, 40), []);
    }

    #[test]
    fn a_restore_makes_a_database_without_tables_and_undoes_it() {
        let mut catalogue = Catalogue::default();
        let wanted = [(TableName::of_database("void"), Vec::new())];
        let job = JobId(7);
        catalogue.prepare(job, &wanted, false).expect("prepared");
        catalogue.prepare(job, &wanted, false).expect("again");
        assert!(catalogue.databases_at(at(50)).is_empty(), "not yet");
        let mut undone = catalogue.clone();
        undone.discard(job);
        assert!(!undone.publish(job, at(50)));
        assert!(catalogue.publish(job, at(50)));
        assert_eq!(catalogue.databases_at(at(50)), ["void"]);
        let fault = catalogue
            .prepare(JobId(8), &wanted, false)
            .expect_err("taken");
        assert_eq!(fault.code, ErrorCode::AlreadyExists);
    }
}
