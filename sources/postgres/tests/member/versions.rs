use holdfast_postgres::exact::{HeldSnapshot, import, moved_since};
use holdfast_postgres::hold::{HoldNames, advance, place, release, state, verify};
use holdfast_postgres::layout::{Handling, Oid};
use holdfast_postgres::pages::{Opened, PageRange, open_range, open_whole};
use holdfast_postgres::preflight::{Mode, Request, check};
use holdfast_postgres::replication::ReplicationSession;
use holdfast_postgres_testing::{Options, Server, Version};

use crate::{PATIENCE, all, control, data, dsn, env};

/// The whole way, on every version that is not the other tests' own: preflight, hold, pages, exact snapshot, release.
#[tokio::test]
async fn every_version_goes_the_whole_way() {
    for version in [Version::V14, Version::V16, Version::V17, Version::V18] {
        let server = Server::start(Options::of(version));
        server.psql(
            "postgres",
            "CREATE TYPE mood AS ENUM ('sad', 'ok');
             CREATE TABLE keyed (id int PRIMARY KEY, m mood[], o regclass[]); ALTER TABLE keyed DROP COLUMN o;
             CREATE TABLE keyless (a int); INSERT INTO keyed VALUES (1, '{ok}'); INSERT INTO keyless VALUES (1)",
        );
        let (env, dsn) = (env(), dsn(&server, "postgres"));
        let report = check(&env, &dsn, &Request::default())
            .await
            .expect("a report");
        assert_eq!(
            (report.mode, report.version / 10_000),
            (Mode::Log, version.major()),
            "{report}"
        );
        assert_eq!(report.blocking().count(), 0, "{report}");

        let layouts: Vec<_> = all(&server, "postgres")
            .await
            .into_iter()
            .map(|facts| facts.layout)
            .collect();
        let names = HoldNames::new("versions", Oid(5)).expect("names");
        let placed = place(&env, &dsn, &names, &layouts, PATIENCE, &|_| {})
            .await
            .expect("a hold");
        for layout in layouts
            .iter()
            .filter(|layout| layout.handling == Handling::Keyed)
        {
            let session = data(&server, "postgres").await;
            let Opened::Reading(part) = open_range(session, layout, PageRange::ALL)
                .await
                .expect("it opens")
            else {
                panic!("it has not changed");
            };
            drop(part);
        }
        server.psql(
            "postgres",
            "INSERT INTO keyed VALUES (2); INSERT INTO keyless VALUES (2)",
        );
        let held = HeldSnapshot::exact(&env, &dsn, PATIENCE).await.expect("F");
        server.psql("postgres", "INSERT INTO keyed VALUES (3)");
        let session = data(&server, "postgres").await;
        import(&session, held.id().expect("held"))
            .await
            .expect("imports");
        assert!(moved_since(&session).await.expect("asks").is_empty());
        let keyless = layouts
            .iter()
            .find(|layout| layout.name == "keyless")
            .expect("it is there");
        assert!(matches!(
            open_whole(session, keyless).await,
            Ok(Opened::Reading(_))
        ));

        let session = control(&server, "postgres").await;
        let changes = |upto: &str| {
            format!(
                "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('{}', {upto}, NULL, 'proto_version', '1', 'publication_names', '{}', 'binary', 'true')
                 WHERE get_byte(data, 0) = ascii('I')",
                names.slot, names.publication
            )
        };
        assert_eq!(
            server.psql("postgres", &changes("NULL")),
            "2",
            "of the keyed one"
        );
        let mut slots = ReplicationSession::connect(&env, &dsn)
            .await
            .expect("a session");
        let now = slots.identify().await.expect("answers");
        let slot = state(&session, &names.slot).await.expect("asks");
        verify(
            slot.as_ref(),
            "postgres",
            placed.start,
            &placed.identity,
            &now,
        )
        .expect("it is whole");
        advance(&session, &names.slot, held.lsn())
            .await
            .expect("moves on");
        assert_eq!(
            server.psql("postgres", &changes("NULL")),
            "1",
            "what came after F"
        );
        release(&session, &names).await.expect("released");
    }
}
