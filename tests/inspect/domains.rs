//! Nodes that nobody sees, and when a node is seen.

use super::*;
use mproc::ErrorKind;

#[test]
fn a_simulated_node_and_one_of_no_domain_see_nobody_at_once() {
    let alone = Node::with_options(Options::default());
    for node in [Node::simulated(1), alone] {
        assert_eq!(node.survey(LONG).wait().unwrap(), Survey::default());
        let info = node.info();
        assert_eq!((info.domain, info.id), (None, "0".repeat(32)));
        assert_eq!(info.pid, std::process::id());
    }
}

#[test]
fn a_node_of_a_domain_is_seen_before_it_declares_anything() {
    let place = Place::new();
    let [one, other] = [place.node(), place.node()];
    let seen = survey(&one);
    assert_eq!(seen.reports.len(), 1);
    assert_eq!(seen.reports[0].node, other.info());
    assert_eq!(seen.reports[0].snapshot.topics, []);
    end(other);
    assert_eq!(survey(&one), Survey::default());
    end(one);
}

#[test]
fn a_domain_that_cannot_be_joined_is_an_error_of_build() {
    let place = Place::new();
    let missing = domain(&place.path().join("missing"));
    let builder = Node::builder().options(Options::default());
    let error = builder.domain_with(missing).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSetting);
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn a_wait_that_is_shorter_than_the_survey_ends_with_its_own_limit() {
    let place = Place::new();
    let actor = place.actor();
    let node = place.node();
    assert_eq!(survey(&node).reports.len(), 1);
    actor.stop();
    let error = node.survey(LONG).wait_timeout(Duration::from_millis(10));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Timeout);
    actor.go_on();
    end(node);
}
