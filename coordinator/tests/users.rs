//! Users: made on any node, and checked against what holds now.

mod scene;

use holdfast_client::{ControlApi, Credential, Verifiers};
use holdfast_node::verifier_of;
use holdfast_proto::v1;
use holdfast_types::ErrorCode;
use scene::{Trio, play};

fn put(name: &str, password: &str, alter: bool) -> v1::PutUserRequest {
    v1::PutUserRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        alter,
    }
}

/// What every node says of a user; all say the same.
async fn credential(trio: &Trio, user: &str) -> Option<Credential> {
    let mut said = Vec::new();
    for node in trio.nodes.keys() {
        let credential = trio.api(*node).credential(user).await;
        said.push(credential.expect("there is a leader"));
    }
    assert!(said.windows(2).all(|two| two[0] == two[1]), "{said:?}");
    said.pop().flatten()
}

async fn names(trio: &Trio) -> Vec<String> {
    let users = trio.client().list_users().await.expect("users").users;
    users.into_iter().map(|user| user.name).collect()
}

#[test]
fn every_node_checks_passwords_against_what_holds_now() {
    play(async {
        let trio = Trio::start().await;
        let (leader, follower) = (trio.leader().await, trio.follower().await);
        assert_eq!(credential(&trio, "ann").await, None, "there are no users");

        let request = put("ann", "hunter2", false);
        let made = trio.api(follower).put_user(request).await.expect("made");
        assert_eq!((made.name.as_str(), &made.created), ("ann", &made.changed));
        let ann = credential(&trio, "ann").await.expect("users");
        assert!(ann.exists);

        // Who is not there looks like one who is, always the same.
        for nobody in ["bob", "Ann", "", "a\nb"] {
            let found = credential(&trio, nobody).await.expect("users");
            assert!(!found.exists, "{nobody:?}");
            assert_eq!(found.verifier.iterations, ann.verifier.iterations);
            assert_eq!(found.verifier.salt.len(), ann.verifier.salt.len());
            assert_eq!(credential(&trio, nobody).await, Some(found));
        }

        let given = verifier_of("correct horse", trio.env.entropy.as_ref()).expect("a password");
        let request = put("ann", &given.to_string(), true);
        let changed = trio.api(leader).put_user(request).await.expect("changed");
        assert_eq!(changed.created, made.created);
        let found = credential(&trio, "ann").await.expect("users");
        assert_eq!(found.verifier, given, "a verifier is taken as it is");

        trio.client()
            .put_user(put("bob", "x", false))
            .await
            .expect("made");
        assert_eq!(names(&trio).await, ["ann", "bob"]);
        trio.api(leader).drop_user("ann").await.expect("dropped");
        let found = credential(&trio, "ann").await.expect("users");
        assert!(!found.exists);
        assert_eq!(names(&trio).await, ["bob"]);
    });
}

#[test]
fn users_that_cannot_be_are_refused() {
    play(async {
        let trio = Trio::start().await;
        let client = trio.client();
        client.put_user(put("ann", "x", false)).await.expect("made");
        for (request, code) in [
            (put("ann", "y", false), ErrorCode::AlreadyExists),
            (put("bob", "y", true), ErrorCode::NotFound),
            (put("", "y", false), ErrorCode::InvalidArgument),
            (put(&"x".repeat(64), "y", false), ErrorCode::InvalidArgument),
            (put("bob", "", false), ErrorCode::InvalidArgument),
            (
                put("bob", "md5c0ffeec0ffeec0ffeec0ffeec0ffeec0", false),
                ErrorCode::InvalidArgument,
            ),
            (
                put("bob", "SCRAM-SHA-256$1:x", false),
                ErrorCode::InvalidArgument,
            ),
        ] {
            let fault = client.put_user(request).await.expect_err("refused");
            assert_eq!(fault.code, code, "{fault}");
            assert!(!fault.message.contains("c0ffee"), "{fault}");
        }
        let fault = client.drop_user("bob").await.expect_err("refused");
        assert_eq!(fault.code, ErrorCode::NotFound);
        assert_eq!(names(&trio).await, ["ann"]);
    });
}

#[test]
fn without_a_leader_nobody_is_checked() {
    play(async {
        let mut trio = Trio::start().await;
        let client = trio.client();
        client.put_user(put("ann", "x", false)).await.expect("made");
        let (leader, follower) = (trio.leader().await, trio.follower().await);
        let last = *trio
            .nodes
            .keys()
            .find(|node| **node != leader && **node != follower)
            .expect("a third");
        trio.stop(leader).await;
        trio.stop(last).await;
        let fault = trio.api(follower).credential("ann").await;
        let fault = fault.expect_err("it may have changed");
        assert!(fault.is_retryable(), "{fault}");
    });
}
