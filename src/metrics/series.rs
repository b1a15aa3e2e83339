//! Which series there are. The table in `mod.rs` says the same, and a test compares them.

use super::shown::{By, End};
use super::write::{Kind, Out};
use crate::{
    DomainSnapshot, DriverSnapshot, DropCause, ProcessorSnapshot, PublisherSnapshot,
    ServiceSnapshot, Snapshot, SubscriptionSnapshot, TopicSnapshot,
};
use std::borrow::Cow;
use std::fmt;

use Kind::{Counter, Gauge, SecondsCounter, SecondsGauge, SecondsMax};

/// The capacity of a mailbox without a bound.
const NO_BOUND: u64 = u64::MAX;

/// The busiest, and how many are left out.
fn busiest<T>(all: impl Iterator<Item = T>, max: usize, load: impl Fn(&T) -> u64) -> (Vec<T>, u64) {
    let mut all: Vec<T> = all.collect();
    let left_out = all.len().saturating_sub(max);
    if left_out > 0 {
        // Stable: of those that are equally busy, the oldest.
        all.sort_by_key(|one| std::cmp::Reverse(load(one)));
        all.truncate(max);
    }
    (all, left_out as u64)
}

/// Writes all of it.
pub(super) fn write(snapshot: &Snapshot, max: usize, out: &mut Out<'_>) -> fmt::Result {
    let publishers = snapshot.topics.iter().flat_map(|topic| {
        let topic_name = &topic.name;
        let ends = topic.publishers.iter();
        ends.map(move |of| End {
            topic: topic_name,
            of,
        })
    });
    let subscriptions = snapshot.topics.iter().flat_map(|topic| {
        let topic_name = &topic.name;
        let ends = topic.subscriptions.iter();
        ends.map(move |of| End {
            topic: topic_name,
            of,
        })
    });
    let topic_load = |topic: &&TopicSnapshot| {
        let published = topic.publishers.iter().map(|p| p.published);
        let offered = topic.subscriptions.iter().map(|s| s.offered);
        published.chain(offered).fold(0, u64::saturating_add)
    };
    let service_load = |service: &&ServiceSnapshot| service.calls.saturating_add(service.requests);

    let (processors, left_processors) = busiest(snapshot.processors.iter(), max, |p| p.busy_ns);
    let (drivers, left_drivers) = busiest(snapshot.drivers.iter(), max, |d| d.turns);
    let (topics, left_topics) = busiest(snapshot.topics.iter(), max, topic_load);
    let (publishers, left_publishers) = busiest(publishers, max, |p| p.of.published);
    let (subscriptions, left_subscriptions) = busiest(subscriptions, max, |s| s.of.offered);
    let (services, left_services) = busiest(snapshot.services.iter(), max, service_load);

    node(snapshot, out)?;
    let ends = |count: fn(&TopicSnapshot) -> usize| {
        snapshot.topics.iter().map(count).sum::<usize>() as u64
    };
    let publishers_all = ends(|topic| topic.publishers.len());
    let subscriptions_all = ends(|topic| topic.subscriptions.len());
    out.one(Gauge, "mproc_publishers", "Publishers", publishers_all)?;
    out.one(
        Gauge,
        "mproc_subscriptions",
        "Subscriptions",
        subscriptions_all,
    )?;
    let left_out = [
        (By("kind", "processors"), left_processors),
        (By("kind", "drivers"), left_drivers),
        (By("kind", "topics"), left_topics),
        (By("kind", "publishers"), left_publishers),
        (By("kind", "subscriptions"), left_subscriptions),
        (By("kind", "services"), left_services),
    ];
    out.each(
        Gauge,
        "mproc_left_out",
        "How many are not shown one by one",
        &left_out,
        |(_, n)| Some(*n),
    )?;
    of_processors(&processors, out)?;
    of_drivers(&drivers, out)?;
    of_topics(&topics, out)?;
    of_publishers(&publishers, out)?;
    of_subscriptions(&subscriptions, out)?;
    of_services(&services, out)?;
    of_domain(snapshot.domain.as_ref().as_slice(), out)
}

fn node(snapshot: &Snapshot, out: &mut Out<'_>) -> fmt::Result {
    let totals = &snapshot.totals;
    let (processors, drivers) = (snapshot.processors.len(), snapshot.drivers.len());
    let (topics, services) = (snapshot.topics.len(), snapshot.services.len());
    out.one(
        Counter,
        "mproc_messages_received",
        "Messages that came in",
        totals.received,
    )?;
    out.one(
        Counter,
        "mproc_messages_handled",
        "Messages whose handler was entered",
        totals.handled,
    )?;
    out.one(
        Counter,
        "mproc_messages_returned",
        "Messages given back to their senders",
        totals.returned,
    )?;
    // All causes, so that the first drop is seen as one more.
    let dropped =
        DropCause::ALL.map(|cause| (By("cause", cause.as_str()), totals.dropped.by(cause)));
    out.each(
        Counter,
        "mproc_messages_dropped",
        "Messages that were dropped",
        &dropped,
        |(_, n)| Some(*n),
    )?;
    out.one(
        Gauge,
        "mproc_messages_queued",
        "Messages that wait in mailboxes",
        totals.queued,
    )?;
    out.one(
        Gauge,
        "mproc_outbox_messages",
        "Messages that wait in outboxes",
        totals.outbox,
    )?;
    out.one(
        Counter,
        "mproc_outbox_dropped",
        "Messages given up in outboxes",
        totals.outbox_dropped,
    )?;
    out.one(
        Counter,
        "mproc_faults",
        "Handlers that returned a fault",
        totals.faults,
    )?;
    out.one(
        Counter,
        "mproc_panics",
        "Handlers that panicked",
        totals.panics,
    )?;
    out.one(
        Counter,
        "mproc_restarts",
        "How often supervisors have brought processors up again",
        totals.restarts,
    )?;
    out.one(
        Counter,
        "mproc_dead_letters",
        "Dead letters",
        snapshot.dead_letters,
    )?;
    out.one(
        Gauge,
        "mproc_processors",
        "Processors that live",
        processors as u64,
    )?;
    out.one(
        Counter,
        "mproc_processors_ended",
        "Processors that have ended",
        totals.ended,
    )?;
    out.one(Gauge, "mproc_drivers", "Drivers", drivers as u64)?;
    out.one(Gauge, "mproc_topics", "Topics", topics as u64)?;
    out.one(
        Gauge,
        "mproc_services",
        "Services that are served, called or known",
        services as u64,
    )
}

fn of_processors(all: &[&ProcessorSnapshot], out: &mut Out<'_>) -> fmt::Result {
    let mut each = |kind, name, help: &str, value: fn(&ProcessorSnapshot) -> Option<u64>| {
        out.each(kind, name, help, all, |p| value(p))
    };
    each(
        Counter,
        "mproc_processor_messages_received",
        "Messages that came in",
        |p| Some(p.received),
    )?;
    each(
        Counter,
        "mproc_processor_messages_handled",
        "Messages whose handler was entered",
        |p| Some(p.handled),
    )?;
    each(
        Counter,
        "mproc_processor_messages_returned",
        "Messages given back to their senders",
        |p| Some(p.returned),
    )?;
    each(
        Gauge,
        "mproc_processor_messages_queued",
        "Messages that wait",
        |p| Some(p.queued),
    )?;
    each(
        Gauge,
        "mproc_processor_messages_queued_max",
        "The most that ever waited",
        |p| Some(p.high_water),
    )?;
    each(
        Gauge,
        "mproc_processor_mailbox_capacity",
        "Places of the mailbox",
        |p| (p.capacity != NO_BOUND).then_some(p.capacity),
    )?;
    each(
        Gauge,
        "mproc_processor_outbox_messages",
        "Messages that wait in its outbox",
        |p| Some(p.outbox),
    )?;
    each(
        Counter,
        "mproc_processor_outbox_dropped",
        "Messages given up in its outbox",
        |p| Some(p.outbox_dropped),
    )?;
    each(
        Counter,
        "mproc_processor_faults",
        "Handlers that returned a fault",
        |p| Some(p.faults),
    )?;
    each(
        Counter,
        "mproc_processor_panics",
        "Handlers that panicked",
        |p| Some(p.panics),
    )?;
    each(
        Counter,
        "mproc_processor_restarts",
        "How often its supervisor has brought it up again",
        |p| Some(p.restarts),
    )?;
    each(
        SecondsCounter,
        "mproc_processor_busy",
        "Time spent in handlers",
        |p| Some(p.busy_ns),
    )?;
    each(
        SecondsGauge,
        "mproc_processor_longest_handler",
        "The longest handler",
        |p| Some(p.longest_handler_ns),
    )?;
    each(
        SecondsGauge,
        "mproc_processor_handling",
        "For how long it has been in a handler",
        |p| Some(p.handling_ns.unwrap_or(0)),
    )?;
    each(
        Gauge,
        "mproc_processor_stalled",
        "1 while its outbox waits for room elsewhere",
        |p| Some(p.stalled.into()),
    )?;
    each(
        Gauge,
        "mproc_processor_restarting",
        "1 while it waits for its supervisor",
        |p| Some(p.restarting.into()),
    )?;
    out.drops(
        "mproc_processor_messages_dropped",
        "Messages that were dropped",
        all,
        |p| &p.dropped,
    )
}

fn of_drivers(all: &[&DriverSnapshot], out: &mut Out<'_>) -> fmt::Result {
    let mut each = |kind, name, help: &str, value: fn(&DriverSnapshot) -> u64| {
        out.each(kind, name, help, all, |d| Some(value(d)))
    };
    each(
        Gauge,
        "mproc_driver_members",
        "Processors that it serves",
        |d| d.members,
    )?;
    each(
        Counter,
        "mproc_driver_turns",
        "How often it served a processor",
        |d| d.turns,
    )?;
    each(
        Counter,
        "mproc_driver_parks",
        "How often it went to sleep",
        |d| d.parks,
    )?;
    each(
        Counter,
        "mproc_driver_wakes",
        "How often it was woken",
        |d| d.wakes,
    )?;
    each(
        Gauge,
        "mproc_driver_threads",
        "Its threads, spare ones included",
        |d| d.threads,
    )?;
    each(
        Gauge,
        "mproc_driver_threads_blocked",
        "Threads of a pool that are blocked inside a handler",
        |d| d.blocked,
    )?;
    each(
        Counter,
        "mproc_driver_steals",
        "How often one of a pool's threads took work from another",
        |d| d.steals,
    )?;
    each(
        Counter,
        "mproc_driver_exhausted",
        "How often a pool's thread blocked and no spare one was left",
        |d| d.exhausted,
    )
}

fn of_topics(all: &[&TopicSnapshot], out: &mut Out<'_>) -> fmt::Result {
    out.info(
        "mproc_topic",
        "The type of its values, and how they travel",
        all,
        |topic| {
            let codec = format!("{:?}", topic.codec).to_lowercase();
            vec![
                ("type", Cow::Borrowed(topic.type_name.as_str())),
                ("codec", Cow::Owned(codec)),
            ]
        },
    )?;
    let mut each = |kind, name, help: &str, value: fn(&TopicSnapshot) -> u64| {
        out.each(kind, name, help, all, |topic| Some(value(topic)))
    };
    each(
        Gauge,
        "mproc_topic_publishers",
        "Its publishers in this process",
        |t| t.publishers.len() as u64,
    )?;
    each(
        Gauge,
        "mproc_topic_subscriptions",
        "Its subscriptions, links to other processes included",
        |t| t.subscriptions.len() as u64,
    )?;
    each(
        Gauge,
        "mproc_topic_history_values",
        "Values kept for late subscribers",
        |t| t.history,
    )
}

fn of_publishers(all: &[End<'_, PublisherSnapshot>], out: &mut Out<'_>) -> fmt::Result {
    let mut each = |kind, name, help: &str, value: fn(&PublisherSnapshot) -> u64| {
        out.each(kind, name, help, all, |end| Some(value(end.of)))
    };
    each(
        Counter,
        "mproc_publisher_published",
        "Values published while anybody listened or history was kept",
        |p| p.published,
    )?;
    each(
        Gauge,
        "mproc_publisher_outstanding",
        "Values of which samples are queued or held",
        |p| p.outstanding,
    )?;
    each(
        Gauge,
        "mproc_publisher_in_flight",
        "Values not given back by Wait subscriptions",
        |p| p.in_flight,
    )?;
    each(
        Gauge,
        "mproc_publisher_paused",
        "1 while it is paused",
        |p| p.paused.into(),
    )
}

fn of_subscriptions(all: &[End<'_, SubscriptionSnapshot>], out: &mut Out<'_>) -> fmt::Result {
    let mut each = |kind, name, help: &str, value: fn(&SubscriptionSnapshot) -> u64| {
        out.each(kind, name, help, all, |end| Some(value(end.of)))
    };
    each(
        Counter,
        "mproc_subscription_offered",
        "Samples that passed its filter",
        |s| s.offered,
    )?;
    each(
        Counter,
        "mproc_subscription_taken",
        "Samples handed to its handler or receiver",
        |s| s.taken,
    )?;
    each(
        Counter,
        "mproc_subscription_refused",
        "Samples refused because it was full",
        |s| s.refused,
    )?;
    each(
        Counter,
        "mproc_subscription_lost",
        "Sum of the gaps that its receiver has seen",
        |s| s.lost,
    )?;
    each(
        Gauge,
        "mproc_subscription_queued",
        "Samples that wait",
        |s| s.queued,
    )?;
    each(
        Gauge,
        "mproc_subscription_queued_max",
        "The most that ever waited",
        |s| s.high_water,
    )?;
    each(Gauge, "mproc_subscription_capacity", "Its places", |s| {
        s.capacity
    })?;
    each(
        Gauge,
        "mproc_subscription_held",
        "Samples that are held, if that is bounded",
        |s| s.held,
    )?;
    each(
        SecondsMax,
        "mproc_subscription_held_seconds_max",
        "The age of the oldest of them",
        |s| s.held_ns_max.unwrap_or(0),
    )?;
    each(
        Gauge,
        "mproc_subscription_paused",
        "1 while it is paused",
        |s| s.paused.into(),
    )?;
    each(
        Gauge,
        "mproc_subscription_closed",
        "1 if it is closed",
        |s| s.closed.into(),
    )?;
    out.drops(
        "mproc_subscription_dropped",
        "Samples that were dropped",
        all,
        |end| &end.of.dropped,
    )
}

fn of_services(all: &[&ServiceSnapshot], out: &mut Out<'_>) -> fmt::Result {
    let mut each = |kind, name, help: &str, value: fn(&ServiceSnapshot) -> u64| {
        out.each(kind, name, help, all, |service| Some(value(service)))
    };
    each(
        Gauge,
        "mproc_service_servers",
        "Servers in this process",
        |s| s.servers,
    )?;
    each(
        Gauge,
        "mproc_service_servers_elsewhere",
        "Servers of other processes that can be called",
        |s| s.servers_elsewhere,
    )?;
    each(
        Counter,
        "mproc_service_calls",
        "Calls of this process that were put on their way",
        |s| s.calls,
    )?;
    each(
        Counter,
        "mproc_service_answered",
        "Of these, those that got a reply",
        |s| s.answered,
    )?;
    each(
        Counter,
        "mproc_service_failed",
        "Of these, those that got an error",
        |s| s.failed,
    )?;
    each(
        Counter,
        "mproc_service_cancelled",
        "Of these, those that were given up",
        |s| s.cancelled,
    )?;
    each(
        Counter,
        "mproc_service_requests",
        "Requests of other processes",
        |s| s.requests,
    )?;
    each(
        Counter,
        "mproc_service_replies",
        "Of these, those that were answered",
        |s| s.replies,
    )?;
    each(
        Counter,
        "mproc_service_replies_dropped",
        "Replies dropped because their caller's process was gone",
        |s| s.replies_dropped,
    )?;
    each(
        Counter,
        "mproc_service_requests_cancelled",
        "Requests given up before they were answered",
        |s| s.requests_cancelled,
    )
}

fn of_domain(all: &[&DomainSnapshot], out: &mut Out<'_>) -> fmt::Result {
    let mut each = |kind, name, help: &str, value: fn(&DomainSnapshot) -> u64| {
        out.each(kind, name, help, all, |domain| Some(value(domain)))
    };
    each(
        Gauge,
        "mproc_domain_peers",
        "Other nodes to which there is a connection",
        |d| d.peers,
    )?;
    each(
        Gauge,
        "mproc_domain_links",
        "Links from their publishers and to their subscriptions",
        |d| d.links,
    )?;
    each(
        Counter,
        "mproc_domain_violations",
        "How often a peer did not keep to the protocol",
        |d| d.violations,
    )?;
    each(
        Counter,
        "mproc_domain_refused",
        "Topics and subscriptions that did not fit",
        |d| d.refused,
    )?;
    each(
        Counter,
        "mproc_domain_lost_connections",
        "Connections that ended without a word",
        |d| d.lost_connections,
    )
}
