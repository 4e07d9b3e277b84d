//! Several members that settle.

use holdfast_ledger::Action;

use crate::specs;
use crate::world::{World, checkpoint, settling_plan_of};

/// Members are cut at about one time: nobody settles while another one is still read.
#[test]
fn all_members_settle_when_the_last_is_read() {
    let mut world = World::new();
    let spec = specs::full("app", &["eu", "us"], 10);
    let job = world.submit(holdfast_types::JobSpec::Backup(spec));
    world.done(Action::StartJob { job });
    for (plan, id) in world.lease_all(job).iter().zip([1, 2]) {
        world.accepted(plan, settling_plan_of(id));
    }
    let spans = world.lease_all(job);
    assert_eq!(spans.len(), 6, "none that settles");
    let (last, others) = spans.split_last().expect("six");
    for span in others {
        world.accepted(span, checkpoint(span, None, 60, true));
        assert!(world.lease_all(job).is_empty(), "one is still read");
    }
    world.accepted(last, checkpoint(last, None, 60, true));
    let settling = world.lease_all(job);
    assert_eq!(settling.len(), 4, "two of each member");
    for span in &settling {
        world.accepted(span, checkpoint(span, None, 60, true));
    }
    let job = world.ledger.job(job).expect("there");
    assert!(job.settled(0).is_some() && job.settled(1).is_some());
}
