//! Meeting those who are to get the first value. A publisher that is new to the domain is matched moments after it is made, and what it
//! publishes before reaches nobody.
//!
//! Whom to wait for is known from what the nodes have reported: their subscriptions, also to patterns, and their taps. A node makes a
//! link for each of them, so that this node's own report says who is there.

use crate::session::Session;
use crate::world::World;
use mproc::{Error, ErrorKind, NodeReport, RawPublisher, TypeInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long to wait before it is looked again whether somebody has gone while another came.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How many topics of a node one topic's samples are followed to. Reports come from outside, and may lead anywhere.
const REACHED_MAX: usize = 64;

/// While a program has not said who listens there: nobody came for so long, so all are there.
const QUIET: Duration = Duration::from_millis(50);

/// How many subscriptions each node has that a publisher is going to meet, by the node's id.
pub(crate) type Expected = BTreeMap<String, usize>;

/// Who will get values of this type on `topic`, as far as nodes have reported. Taps are among them.
pub(crate) fn expected(world: &World, topic: &str, info: &TypeInfo) -> Expected {
    let counts = world.nodes.iter().map(|node| {
        let count = subscriptions_of(node, topic, info).len();
        (node.node.id.clone(), count)
    });
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The subscriptions of a node that samples of `topic` come to, each once.
fn subscriptions_of<'a>(
    node: &'a NodeReport,
    topic: &'a str,
    info: &TypeInfo,
) -> BTreeSet<mproc::SubscriptionId> {
    let snapshot = &node.snapshot;
    let fits = |type_hash, codec| type_hash == info.type_hash && codec == info.codec;
    let mut found = BTreeSet::new();
    let mut connections = BTreeMap::<&str, Vec<&str>>::new();
    for connection in &snapshot.connections {
        connections
            .entry(&connection.from)
            .or_default()
            .push(&connection.to);
    }
    // Over connections samples arrive at other topics of the node, too; but not at patterns of a type, nor at messages.
    let mut reached = vec![topic];
    let mut at = 0;
    while at < reached.len() {
        let name = reached[at];
        let declared = snapshot.topics.iter();
        let declared = declared.filter(|of| of.name == name && fits(of.type_hash, of.codec));
        let own = declared.flat_map(|of| &of.subscriptions);
        let own = own.filter(|s| s.node.is_none() && !s.closed && !is_of_pattern(node, s.id));
        found.extend(own.map(|s| s.id));
        let patterns = snapshot.patterns.iter();
        let patterns = patterns.filter(|p| at == 0 || p.subscription.tap);
        let patterns = patterns.filter(|p| !p.subscription.closed && p.wants(name, info));
        found.extend(patterns.map(|p| p.subscription.id));
        for to in connections.get(name).into_iter().flatten() {
            if reached.len() < REACHED_MAX && !reached.contains(to) {
                reached.push(to);
            }
        }
        at += 1;
    }
    found
}

fn is_of_pattern(node: &NodeReport, id: mproc::SubscriptionId) -> bool {
    let mut patterns = node.snapshot.patterns.iter();
    patterns.any(|pattern| pattern.subscription.id == id)
}

/// A publisher, and whom it is going to meet.
#[derive(Debug)]
pub(crate) struct Meeting<'a> {
    pub(crate) publisher: &'a RawPublisher,
    pub(crate) expected: Expected,
}

/// Waits until all have met whom they expect, at most so long. Says how many were not met.
///
/// The error: it was interrupted, or the node has ended.
pub(crate) fn meet(
    session: &Session,
    meetings: &[Meeting<'_>],
    limit: Duration,
) -> Result<usize, Error> {
    let deadline = session.now() + limit;
    let mut missing = 0;
    for meeting in meetings {
        let all = meeting.expected.values().sum();
        let mut count = all;
        loop {
            let left = deadline.saturating_duration_since(session.now());
            let met = meeting
                .publisher
                .wait_for_subscribers(count, left.min(LOOK_AGAIN));
            let is_late = match met {
                Ok(()) => false,
                Err(error) if error.kind() == ErrorKind::Timeout => left <= LOOK_AGAIN,
                Err(error) => return Err(error),
            };
            // Counted before it is looked: whoever comes later is waited for again.
            count = meeting.publisher.subscriber_count() + 1;
            let absent = absent(session, meeting);
            if absent == 0 && count > all {
                break;
            }
            if is_late {
                missing += absent.max(1);
                break;
            }
        }
    }
    Ok(missing)
}

/// Waits until no further subscription joins for a moment: of a program that has not answered it is not known who listens there.
///
/// The error: it was interrupted, or the node has ended.
pub(crate) fn settle(meetings: &[Meeting<'_>], limit: Duration) -> Result<(), Error> {
    let count = || -> usize {
        meetings
            .iter()
            .map(|m| m.publisher.subscriber_count())
            .sum()
    };
    let Some(first) = meetings.first().map(|meeting| meeting.publisher) else {
        return Ok(());
    };
    let rounds = (limit.as_millis() / QUIET.as_millis()).max(1);
    for _ in 0..rounds {
        let before = count();
        match first.wait_for_subscribers(first.subscriber_count() + 1, QUIET) {
            Err(error) if error.kind() == ErrorKind::Timeout && count() == before => break,
            Err(error) if error.kind() == ErrorKind::Timeout => {}
            met => met?,
        }
    }
    Ok(())
}

/// How many of those that are expected are not among this node's links.
fn absent(session: &Session, meeting: &Meeting<'_>) -> usize {
    if meeting.expected.is_empty() {
        return 0;
    }
    let topics = session.snapshot().topics;
    let name = meeting.publisher.topic();
    let own = topics.iter().filter(|topic| topic.name == name);
    let links: Vec<_> = own.flat_map(|topic| &topic.subscriptions).collect();
    let absent = meeting.expected.iter().map(|(id, expected)| {
        let is_theirs = |link: &&&mproc::SubscriptionSnapshot| {
            !link.closed && link.node.as_deref() == Some(id.as_str())
        };
        expected.saturating_sub(links.iter().filter(is_theirs).count())
    });
    absent.sum()
}
