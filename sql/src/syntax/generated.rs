//! Generated statements and texts: what is printed is read back as the same, and nothing breaks the parser.
//!
//! Strategies are boxed: their types are so large otherwise that an unoptimised build overflows its stack.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::ast::*;
use super::expression::*;
use super::options::{self, OptionKind, OptionTable, OptionValue, Options, Truth};
use super::words::VARIABLES;
use super::{Printed, Secrets, parse};

fn name() -> BoxedStrategy<String> {
    prop_oneof![
        "[a-z_][a-z0-9_]{0,8}",
        "[A-Za-z ä\".*]{1,6}",
        Just("table".to_owned()),
        Just("latest".to_owned()),
    ]
    .boxed()
}

fn literal() -> BoxedStrategy<String> {
    "[ -~äß'\n]{0,12}".boxed()
}

fn text() -> BoxedStrategy<Str> {
    prop_oneof![
        4 => literal().prop_map(Str::Literal),
        1 => (1..=u16::MAX).prop_map(Str::Placeholder),
    ]
    .boxed()
}

/// Subdirectories: LATEST is one word however it is written.
fn subdir() -> BoxedStrategy<Str> {
    text()
        .prop_map(|text| match text {
            Str::Literal(text) if text.eq_ignore_ascii_case("latest") => {
                Str::Literal("latest".into())
            }
            other => other,
        })
        .boxed()
}

fn uris() -> BoxedStrategy<Vec<Str>> {
    vec(text(), 1..3).boxed()
}

fn option_value(kind: OptionKind) -> BoxedStrategy<OptionValue> {
    match kind {
        OptionKind::Flag | OptionKind::Switch => Just(OptionValue::On).boxed(),
        OptionKind::Bool => prop_oneof![
            any::<bool>().prop_map(Truth::Value),
            (1..100u16).prop_map(Truth::Placeholder)
        ]
        .prop_map(OptionValue::Bool)
        .boxed(),
        OptionKind::Text | OptionKind::Secret => text().prop_map(OptionValue::Text).boxed(),
        OptionKind::Uris => uris().prop_map(OptionValue::Uris).boxed(),
    }
}

fn options_of(table: &'static OptionTable) -> BoxedStrategy<Options> {
    let all = table.options.iter().enumerate().map(|(place, option)| {
        of(option_value(option.kind)).prop_map(move |value| Some((place, value?)))
    });
    all.collect::<Vec<_>>()
        .prop_map(move |given| Options {
            table,
            given: given.into_iter().flatten().collect(),
        })
        .boxed()
}

fn number() -> BoxedStrategy<String> {
    prop_oneof!["[0-9]{1,6}", "[0-9]{1,6}\\.[0-9]{1,10}", "[1-9]e[0-9]{1,2}"].boxed()
}

fn expr() -> BoxedStrategy<Expr> {
    let leaf = prop_oneof![
        Just(Expr::Null),
        any::<bool>().prop_map(Expr::Bool),
        number().prop_map(Expr::Number),
        literal().prop_map(Expr::Text),
        (1..100u16).prop_map(Expr::Placeholder),
        literal().prop_map(Expr::Interval),
        (of(name()), name()).prop_map(|(table, name)| Expr::Column(ColumnName { table, name })),
    ];
    leaf.prop_recursive(3, 24, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            (any::<bool>(), boxed.clone()).prop_map(|(minus, operand)| {
                let operator = if minus {
                    UnaryOperator::Minus
                } else {
                    UnaryOperator::Not
                };
                Expr::Unary(operator, operand)
            }),
            (
                proptest::sample::select(&BinaryOperator::ALL[..]),
                boxed.clone(),
                boxed.clone()
            )
                .prop_map(|(operator, left, right)| Expr::Binary(operator, left, right)),
            (boxed.clone(), any::<bool>()).prop_map(|(operand, is_negated)| Expr::IsNull {
                operand,
                is_negated
            }),
            (boxed.clone(), vec(inner.clone(), 1..3), any::<bool>()).prop_map(
                |(operand, list, is_negated)| Expr::In {
                    operand,
                    list,
                    is_negated
                }
            ),
            ("[a-z]{3,6}_f", vec(inner, 0..3), any::<bool>()).prop_map(
                |(function, arguments, is_distinct)| {
                    let is_of_rows = arguments.is_empty() && is_distinct;
                    Expr::Call(Call {
                        function,
                        is_of_rows,
                        is_distinct: is_distinct && !is_of_rows,
                        arguments,
                    })
                }
            ),
            (boxed, 0..TypeName::ALL.len())
                .prop_map(|(operand, kind)| Expr::Cast(operand, TypeName::ALL[kind].0)),
        ]
    })
    .boxed()
}

fn rows() -> BoxedStrategy<RowSource> {
    prop_oneof![
        name().prop_map(RowSource::Named),
        Just(RowSource::Statement(Box::new(Statement::ShowWorkers))),
        vec(expr(), 1..3).prop_map(|row| RowSource::Query(Query::Values(vec![row]))),
    ]
    .boxed()
}

fn select() -> BoxedStrategy<Select> {
    let item = prop_oneof![
        1 => Just(SelectItem::All),
        3 => (expr(), of(name())).prop_map(|(expr, alias)| SelectItem::Expr { expr, alias }),
    ];
    let order = (expr(), any::<bool>(), of(any::<bool>())).prop_map(
        |(expr, is_descending, nulls_first)| Order {
            expr,
            is_descending,
            nulls_first,
        },
    );
    let from = (rows(), of(name())).prop_map(|(rows, alias)| From { rows, alias });
    let inner = rows().prop_filter("a name stands for rows, and is none", |rows| {
        !matches!(rows, RowSource::Named(_))
    });
    (
        vec((name(), inner), 0..2),
        any::<bool>(),
        vec(item, 1..3),
        of(from),
        of(expr()),
        vec(expr(), 0..2),
        vec(order, 0..2),
        of(expr()),
        of(expr()),
    )
        .prop_map(
            |(with, is_distinct, items, from, filter, group_by, order_by, limit, offset)| Select {
                with,
                is_distinct,
                items,
                from,
                filter,
                group_by,
                order_by,
                limit,
                offset,
            },
        )
        .boxed()
}

fn query() -> BoxedStrategy<Query> {
    prop_oneof![
        vec(vec(expr(), 1..3), 1..3).prop_map(Query::Values),
        select().prop_map(|select| Query::Select(Box::new(select))),
    ]
    .boxed()
}

fn pattern() -> BoxedStrategy<TablePattern> {
    (vec(name(), 0..3), name(), any::<bool>())
        .prop_map(|(mut parts, last, is_all)| {
            if is_all {
                parts.truncate(2);
            } else {
                parts.push(last);
            }
            TablePattern {
                parts,
                is_all,
                rename: None,
            }
        })
        .boxed()
}

fn targets() -> BoxedStrategy<Targets> {
    prop_oneof![
        Just(Targets::All),
        vec(name(), 1..3).prop_map(Targets::Databases),
        vec(pattern(), 1..3).prop_map(Targets::Tables),
    ]
    .boxed()
}

fn restored() -> BoxedStrategy<Targets> {
    let renamed = (pattern(), of(name())).prop_map(|(mut pattern, rename)| {
        if !pattern.is_all {
            pattern.rename = rename;
        }
        pattern
    });
    prop_oneof![
        3 => targets(),
        1 => Just(Targets::SystemUsers),
        1 => vec(renamed, 1..3).prop_map(Targets::Tables),
    ]
    .boxed()
}

fn backup() -> BoxedStrategy<Statement> {
    let into = prop_oneof![
        Just(Into::Full),
        Just(Into::Latest),
        text().prop_map(Into::Subdir)
    ];
    (
        targets(),
        of(name()),
        into,
        uris(),
        of(expr()),
        options_of(&options::BACKUP),
    )
        .prop_map(|(targets, source, into, collection, as_of, options)| {
            Statement::Backup(Backup {
                targets,
                source,
                into,
                collection,
                as_of,
                options,
            })
        })
        .boxed()
}

fn restore() -> BoxedStrategy<Statement> {
    (
        restored(),
        subdir(),
        uris(),
        of(expr()),
        of(name()),
        options_of(&options::RESTORE),
    )
        .prop_map(|(targets, subdir, collection, as_of, source, options)| {
            Statement::Restore(Restore {
                targets,
                subdir,
                collection,
                as_of,
                source,
                options,
            })
        })
        .boxed()
}

fn shows() -> BoxedStrategy<Statement> {
    let detail = proptest::sample::select(vec![
        BackupDetail::Contents,
        BackupDetail::Schemas,
        BackupDetail::Files,
        BackupDetail::Ranges,
        BackupDetail::Validate,
    ]);
    prop_oneof![
        (uris(), of(expr()), of(expr()), any::<bool>()).prop_map(
            |(collection, newer_than, older_than, has_revision_start)| {
                Statement::ShowBackups(ShowBackups {
                    collection,
                    newer_than,
                    older_than,
                    has_revision_start,
                })
            }
        ),
        (detail, subdir(), uris(), options_of(&options::SHOW_BACKUP)).prop_map(
            |(detail, subdir, collection, options)| {
                Statement::ShowBackup(ShowBackup {
                    detail,
                    subdir,
                    collection,
                    options,
                })
            }
        ),
        (subdir(), uris(), of(text()), options_of(&options::VERIFY)).prop_map(
            |(subdir, collection, layer, options)| {
                Statement::Verify(Verify {
                    subdir,
                    collection,
                    layer,
                    options,
                })
            }
        ),
        (
            uris(),
            text(),
            of(expr()),
            any::<(bool, bool)>(),
            options_of(&options::EXPIRE)
        )
            .prop_map(
                |(collection, age, keep_fulls, (has_age, is_dry_run), options)| {
                    Statement::Expire(Expire {
                        collection,
                        older_than: (has_age || keep_fulls.is_none()).then_some(age),
                        keep_fulls,
                        is_dry_run,
                        options,
                    })
                }
            ),
        (of(query()), options_of(&options::SHOW_JOBS)).prop_map(|(query, options)| {
            Statement::ShowJobs(ShowJobs {
                is_automatic: false,
                when_complete: false,
                jobs: query.map(JobSet::Query),
                options,
            })
        }),
        (any::<bool>(), query(), of(text())).prop_map(|(pauses, query, reason)| {
            Statement::ControlJobs(ControlJobs {
                verb: if pauses {
                    JobVerb::Pause
                } else {
                    JobVerb::Cancel
                },
                jobs: JobSet::Query(query),
                reason: reason.filter(|_| pauses),
            })
        }),
        (subdir(), of(text()), uris(), uris()).prop_map(
            |(subdir, collection, new_kms, old_kms)| {
                Statement::AlterBackup(AlterBackup {
                    subdir,
                    collection,
                    new_kms,
                    old_kms,
                })
            }
        ),
        query().prop_map(Statement::Query),
    ]
    .boxed()
}

fn schedules() -> BoxedStrategy<Statement> {
    let full = || {
        prop_oneof![
            Just(FullCadence::Always),
            text().prop_map(FullCadence::Cron)
        ]
    };
    let command = prop_oneof![
        text().prop_map(ScheduleCommand::Label),
        uris().prop_map(ScheduleCommand::Into),
        text().prop_map(ScheduleCommand::Recurring),
        full().prop_map(ScheduleCommand::FullBackup),
        (name(), of(text())).prop_map(ScheduleCommand::Option),
        any::<bool>().prop_map(|is_full| ScheduleCommand::Execute { is_full }),
    ];
    prop_oneof![
        (
            (of(text()), any::<bool>()),
            targets(),
            of(name()),
            uris(),
            options_of(&options::BACKUP),
            text(),
            of(full()),
            vec((name(), of(text())), 0..3),
        )
            .prop_map(
                |(
                    (label, exists),
                    targets,
                    source,
                    collection,
                    options,
                    recurring,
                    full,
                    schedule_options,
                )| {
                    Statement::CreateSchedule(CreateSchedule {
                        if_not_exists: exists && label.is_some(),
                        label,
                        targets,
                        source,
                        collection,
                        options,
                        recurring,
                        full,
                        schedule_options,
                    })
                }
            ),
        ("[0-9]{1,9}", vec(command, 1..4)).prop_map(|(id, commands)| {
            Statement::AlterSchedule(AlterSchedule { id, commands })
        }),
        query().prop_map(|schedules| Statement::ControlSchedules {
            verb: ScheduleVerb::Drop,
            schedules
        }),
        expr().prop_map(Statement::ShowSchedule),
    ]
    .boxed()
}

fn objects() -> BoxedStrategy<Statement> {
    let member =
        (name(), text(), options_of(&options::MEMBER)).prop_map(|(name, address, options)| {
            Member {
                name,
                address,
                options,
            }
        });
    let user =
        (name(), any::<bool>(), of(text())).prop_map(|(name, if_not_exists, password)| User {
            name,
            if_not_exists,
            password,
        });
    prop_oneof![
        (any::<bool>(), name(), of(name()), vec(member, 1..3)).prop_map(
            |(if_not_exists, name, kind, members)| {
                Statement::CreateSource(CreateSource {
                    if_not_exists,
                    name,
                    kind,
                    members,
                })
            }
        ),
        (name(), vec(name(), 0..3))
            .prop_map(|(name, members)| Statement::CheckSource { name, members }),
        (any::<bool>(), text(), text()).prop_map(|(if_not_exists, name, uri)| {
            Statement::CreateConnection(CreateConnection {
                if_not_exists,
                name,
                uri,
            })
        }),
        (text(), options_of(&options::CHECK_CONNECTION))
            .prop_map(|(name, options)| Statement::CheckConnection { name, options }),
        (name(), expr()).prop_map(|(name, value)| {
            let name = name.replace('.', "_");
            Statement::SetClusterSetting { name, value }
        }),
        user.prop_map(Statement::CreateUser),
        (proptest::sample::select(&VARIABLES[..]), literal()).prop_map(|(variable, value)| {
            Statement::Set {
                variable: variable.to_owned(),
                value,
            }
        }),
    ]
    .boxed()
}

fn statement() -> BoxedStrategy<Statement> {
    let plain = prop_oneof![backup(), restore(), shows(), schedules(), objects()];
    (plain, any::<bool>())
        .prop_map(|(statement, is_explained)| match is_explained {
            true => Statement::Explain(Box::new(statement)),
            false => statement,
        })
        .boxed()
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back_as_the_same(statement in statement()) {
        let text = Printed(&statement, Secrets::Shown).to_string();
        let read = parse(&text);
        prop_assert_eq!(read, Ok(vec![statement.clone()]), "{}", text);
        // Without its secrets it is a statement still.
        let hidden = Printed(&statement, Secrets::Hidden).to_string();
        prop_assert!(parse(&hidden).is_ok(), "{}", hidden);
    }

    #[test]
    fn no_text_breaks_the_parser(sql in "\\PC{0,80}") {
        let _ = parse(&sql);
    }

    #[test]
    fn no_heap_of_words_breaks_the_parser(
        words in vec(
            proptest::sample::select(vec![
                "BACKUP", "RESTORE", "INTO", "LATEST", "IN", "FROM", "'x'", "AS", "OF", "SYSTEM", "TIME", "WITH", "OPTIONS",
                "(", ")", ",", "=", "*", ".", "[", "]", ";", "SHOW", "JOBS", "JOB", "SELECT", "VALUES", "WHERE", "$1", "1", "-",
                "detached", "kms", "SCHEDULE", "FOR", "CREATE", "ALTER", "SET", "SOURCE", "MEMBERS", "AT", "TABLE", "DATABASE",
                "a", "\"b\"", "NOT", "NULL", "IS", "::", "int", "EXPLAIN", "WHEN", "COMPLETE", "FULL", "RECURRING", "EXECUTE",
            ]),
            0..24,
        )
    ) {
        let sql = words.join(" ");
        match parse(&sql) {
            Ok(statements) => {
                for statement in &statements {
                    let text = Printed(statement, Secrets::Shown).to_string();
                    prop_assert_eq!(parse(&text), Ok(vec![statement.clone()]), "{} from {}", text, sql);
                }
            }
            Err(error) => {
                let length = sql.chars().count() + 1;
                prop_assert!(error.position.is_none_or(|at| (1..=length).contains(&at)), "{sql}");
            }
        }
    }
}

#[test]
fn the_tables_of_options_hold_each_name_once() {
    for table in options::ALL {
        let mut names: Vec<&str> = table.options.iter().map(|option| option.name).collect();
        names.extend(table.aliases.iter().map(|(from, _)| *from));
        names.extend(table.refused.iter().map(|refused| refused.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
        for (_, to) in table.aliases {
            assert!(
                table.options.iter().any(|option| option.name == *to),
                "{to}"
            );
        }
    }
}
