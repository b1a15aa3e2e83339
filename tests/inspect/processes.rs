//! Surveys of other processes: what they have, what they are doing, and what became of them.

use super::*;
use mproc::{CodecKind, ErrorKind};
use std::task::{Context, Poll, Waker};

fn names(report: &NodeReport) -> Vec<&str> {
    let processors = report.snapshot.processors.iter();
    processors.map(|p| p.name.as_str()).collect()
}

#[test]
fn a_survey_of_three_processes_sees_exactly_what_they_have() {
    let place = Place::new();
    let [mut one, mut two, mut three] = [place.actor(), place.actor(), place.actor()];
    one.does("processor plain");
    one.does("publisher writer");
    two.does("subscribe");
    three.does("serve count");
    two.does("client count");
    let node = place.node();
    let seen = survey(&node);
    let mut pids = [&one, &two, &three].map(Actor::pid);
    pids.sort_unstable();
    let found: Vec<u32> = seen.reports.iter().map(|report| report.node.pid).collect();
    assert_eq!(found, pids);
    for (actor, report) in [&one, &two, &three].map(|actor| (actor, of_process(&seen, actor.pid())))
    {
        let info = &report.node;
        assert_eq!(info.id, actor.id);
        assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(info.domain.as_deref(), Some(DOMAIN));
        assert!(info.program.starts_with("inspect"), "{info:?}");
        assert!(info.started_unix_ns > 0 && info.started_unix_ns <= report.taken_unix_ns);
        assert_eq!(report.snapshot.waits, []);
    }

    let first = of_process(&seen, one.pid());
    assert_eq!(names(first), ["plain", "writer"]);
    let topic = |report: &NodeReport| {
        let mut topics = report.snapshot.topics.iter();
        topics.find(|topic| topic.name == "words").cloned().unwrap()
    };
    let words = topic(first);
    assert_eq!(words.codec, CodecKind::Serde);
    let owners: Vec<_> = words
        .publishers
        .iter()
        .map(|p| p.owner.as_deref())
        .collect();
    assert_eq!(owners, [Some("writer")]);

    let second = of_process(&seen, two.pid());
    assert_eq!(names(second), [""; 0]);
    assert_eq!(
        (
            topic(second).subscriptions.len(),
            topic(second).publishers.len()
        ),
        (1, 0)
    );
    assert_eq!(topic(second).subscriptions[0].node, None);

    let third = of_process(&seen, three.pid());
    let services = |report: &NodeReport| -> Vec<String> {
        let services = report.snapshot.services.iter();
        services.map(|service| service.name.clone()).collect()
    };
    assert_eq!(services(third), ["count"]);
    assert_eq!(services(second), ["count"]);
    assert_eq!(names(third).len(), 1);

    // The link between the first two is shown at the publisher's side, with the node that it leads to.
    until("the link is there", || {
        let seen = survey(&node);
        let links = topic(of_process(&seen, one.pid())).subscriptions;
        links
            .iter()
            .any(|link| link.node.as_deref() == Some(&*two.id))
    });
    for actor in [one, two, three] {
        actor.leave();
    }
    end(node);
}

/// Drivers are not asked: it is a thread of its own that looks.
#[test]
fn a_process_whose_only_driver_is_blocked_answers_and_shows_in_what_and_who_waits() {
    let place = Place::new();
    let mut actor = place.actor();
    actor.does("block");
    let node = place.node();
    let seen = survey(&node);
    let report = of_process(&seen, actor.pid());
    let processors = &report.snapshot.processors;
    let blocks = processors.iter().find(|p| p.name == "blocks").unwrap();
    assert!(blocks.handling_ns.is_some(), "{blocks:?}");
    assert!(blocks.last_message_type.as_ref().unwrap().ends_with("Wait"));
    let waits: Vec<_> = report.snapshot.waits.iter().collect();
    assert_eq!(waits.len(), 1, "{waits:?}");
    assert_eq!((&*waits[0].who, &*waits[0].why), ("calls", "call"));
    assert_eq!(waits[0].on, ["blocks"]);
    actor.does("unblock");
    until("nobody waits", || {
        let seen = survey(&node);
        of_process(&seen, actor.pid()).snapshot.waits.is_empty()
    });
    end(node);
}

#[test]
fn a_supervised_processor_says_whose_it_is() {
    let place = Place::new();
    let mut actor = place.actor();
    actor.does("supervised keeper");
    let node = place.node();
    let seen = survey(&node);
    let processors = &of_process(&seen, actor.pid()).snapshot.processors;
    let supervisor = |name: &str| {
        let found = processors.iter().find(|p| p.name == name);
        found.unwrap().supervisor.as_deref()
    };
    assert_eq!(supervisor("watched"), Some("keeper"));
    assert_eq!(supervisor("keeper"), None);
    end(node);
}

#[test]
fn a_stopped_process_is_named_with_the_reason_and_answers_when_it_goes_on() {
    let place = Place::new();
    let [stopped, other] = [place.actor(), place.actor()];
    let node = place.node();
    assert_eq!(survey(&node).reports.len(), 2);
    stopped.stop();
    // Its limit is what such a survey takes.
    let start = Instant::now();
    let seen = loop {
        let seen = node.survey(Duration::from_secs(3)).wait().unwrap();
        // The other one may be slow, too.
        if seen.reports.len() == 1 {
            break seen;
        }
        assert!(start.elapsed() < LONG, "{seen:?}");
    };
    assert_eq!(seen.reports[0].node.id, other.id);
    let silent = only_silent(&seen);
    assert_eq!((&silent.id, silent.pid), (&stopped.id, stopped.pid()));
    assert!(silent.why.contains("is stopped"), "{silent:?}");
    // One that has never met it says the same.
    let late = place.node();
    let seen = late.survey(Duration::from_millis(300)).wait().unwrap();
    let why =
        |silent: &SilentNode| silent.pid == stopped.pid() && silent.why.contains("is stopped");
    assert_eq!(
        seen.silent.iter().filter(|silent| why(silent)).count(),
        1,
        "{seen:?}"
    );
    stopped.go_on();
    until("it answers again", || {
        let seen = survey(&node);
        seen.reports
            .iter()
            .any(|report| report.node.id == stopped.id)
    });
    end(late);
    end(node);
}

/// Each survey put one more question on the connection of a process that reads nothing, until that was full and was closed, with all
/// links on it.
#[test]
fn a_stopped_process_keeps_its_connection_however_often_it_is_asked() {
    let place = Place::new();
    let actor = place.actor();
    let node = place.node();
    assert_eq!(survey(&node).reports.len(), 1);
    actor.stop();
    for _ in 0..6000 {
        let seen = node.survey(Duration::ZERO).wait().unwrap();
        assert_eq!(seen.reports.len(), 0);
    }
    let seen = node.survey(LONG).wait().unwrap();
    assert!(only_silent(&seen).why.contains("is stopped"), "{seen:?}");
    actor.go_on();
    until("it answers again", || {
        let seen = node.survey(LONG).wait().unwrap();
        seen.reports.len() == 1
    });
    let domain = node.snapshot().domain.unwrap();
    assert_eq!((domain.peers, domain.lost_connections), (1, 0));
    end(node);
}

#[test]
fn a_process_that_is_killed_while_it_is_asked_is_named_at_once() {
    let place = Place::new();
    let mut actor = place.actor();
    let node = place.node();
    assert_eq!(survey(&node).reports.len(), 1);
    actor.stop();
    let ticket = node.survey(LONG).start();
    assert!(!ticket.is_done());
    actor.kill();
    let seen = ticket.wait().unwrap();
    assert_eq!(seen.reports.len(), 0);
    let why = &only_silent(&seen).why;
    assert!(why.starts_with("its process has ended"), "{why}");
    // It is forgotten: nobody waits for it again.
    assert_eq!(survey(&node), Survey::default());
    end(node);
}

#[test]
fn many_surveys_at_the_same_time_all_see_everybody() {
    let place = Place::new();
    let mut actors = [place.actor(), place.actor()];
    for actor in &mut actors {
        actor.does("many 2000");
    }
    let node = place.node();
    let tickets: Vec<_> = (0..20).map(|_| node.survey(LONG * 4).start()).collect();
    for ticket in tickets {
        let seen = ticket.wait().unwrap();
        assert_eq!(seen.silent, []);
        let counts: Vec<_> = seen
            .reports
            .iter()
            .map(|r| r.snapshot.processors.len())
            .collect();
        assert_eq!(counts, [2000, 2000]);
    }
    end(node);
}

#[test]
fn a_node_that_nobody_asks_has_no_thread_for_it_and_one_that_was_asked_ends_it() {
    let place = Place::new();
    let mut actor = place.actor();
    let node = place.node();
    actor.tell("threads mproc inspect");
    assert_eq!(actor.hear(), "0");
    // It ends by itself after a while, which a busy machine may take to ask.
    until("its thread is there", || {
        survey(&node);
        actor.tell("threads mproc inspect");
        actor.hear() == "1"
    });
    until("its thread has ended", || {
        actor.tell("threads mproc inspect");
        actor.hear() == "0"
    });
    // And it begins again.
    assert_eq!(survey(&node).reports.len(), 1);
    end(node);
}

#[test]
fn a_survey_that_is_dropped_leaves_nothing_behind() {
    let place = Place::new();
    let actor = place.actor();
    let node = place.node();
    assert_eq!(survey(&node).reports.len(), 1);
    actor.stop();
    let mut waits: Vec<_> = (0..10).map(|_| Box::pin(node.survey(LONG))).collect();
    for pending in &mut waits {
        let poll = pending
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(poll, Poll::Pending));
    }
    drop(waits);
    actor.go_on();
    // Their answers come before this one's, and find nobody.
    assert_eq!(survey(&node).reports.len(), 1);
    assert_eq!(node.snapshot().domain.unwrap().violations, 0);
    end(node);
}

#[test]
fn whoever_leaves_the_domain_while_it_asks_is_told_so() {
    let place = Place::new();
    let actor = place.actor();
    let node = place.node();
    assert_eq!(survey(&node).reports.len(), 1);
    actor.stop();
    let ticket = node.survey(LONG).start();
    end(node.clone());
    assert_eq!(ticket.wait().unwrap_err().kind(), ErrorKind::Closed);
    let again = node.survey(LONG).wait().unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Closed);
    actor.go_on();
}

/// The time that `mproc list` takes is this and what it prints.
#[test]
fn a_process_that_has_just_started_sees_a_domain_of_five_at_once() {
    let place = Place::new();
    let _actors: Vec<Actor> = (0..5).map(|_| place.actor()).collect();
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let node = place.node();
        let seen = survey(&node);
        times.push(start.elapsed());
        assert_eq!(seen.reports.len(), 5);
        end(node);
    }
    times.sort_unstable();
    println!(
        "joining and a survey of 5 nodes: {:?}, at most {:?}",
        times[10], times[19]
    );
}
