//! With the feature `metrics`, what a node counts is read by scrapers.
#![cfg(feature = "metrics")]

mod parse;

use mproc::metrics::{self, Collector};
use mproc::prelude::*;
use mproc::{Closure, DomainOptions, DropCause, Fault, Options, PublisherOptions};
use parse::{Family, Line, parse};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};

/// The only value of a series with these labels.
fn value(families: &[Family], series: &str, labels: &[(&str, &str)]) -> f64 {
    let family = families.iter().find(|f| f.series() == series);
    let family = family.unwrap_or_else(|| panic!("no series {series}"));
    let has = |line: &&Line| {
        let found = |(label, value): &(&str, &str)| {
            line.labels.get(*label).map(String::as_str) == Some(value)
        };
        labels.iter().all(found)
    };
    let found: Vec<_> = family.lines.iter().filter(has).collect();
    assert_eq!(found.len(), 1, "{series} {labels:?}: {family:?}");
    found[0].value
}

fn sink(node: &Node, name: &str) -> Address<Closure<u8, ()>> {
    node.spawn_thread(name, closure(|_: u8, _cx| ())).unwrap()
}

/// The lines of the table in the module's documentation: series, type and labels.
fn table() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let source = include_str!("../../src/metrics/mod.rs");
    let rows = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `mproc_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let words = |cell: &str| {
            cell.split(',')
                .map(|word| word.trim().trim_matches('`').to_owned())
                .collect::<Vec<_>>()
        };
        let labels = words(cells[2])
            .into_iter()
            .filter(|label| !label.is_empty());
        let series = format!("mproc_{}", cells[0].trim_matches('`'));
        (series, (cells[1].to_owned(), labels.collect()))
    })
    .collect()
}

const NUMBERS: Topic<u64> = Topic::new("numbers");

/// A node that has something of everything.
fn full(directory: &std::path::Path) -> (Node, impl Sized + use<>) {
    let domain = DomainOptions::new("metrics").unwrap().directory(directory);
    let builder = Node::builder().options(Options::default());
    let node = builder.domain_with(domain).build().unwrap();
    let one = MailboxOptions::bounded(1).when_full(WhenFull::DropNewest);
    let (enter, entered) = std::sync::mpsc::channel();
    let (leave, left) = std::sync::mpsc::channel::<()>();
    let slow = closure(move |_: u8, _cx| {
        enter.send(()).unwrap();
        left.recv().unwrap();
    });
    let slow: Address<Closure<u8, ()>> = node.spawn_thread_with("slow", one, slow).unwrap();
    slow.send(1).unwrap();
    entered.recv().unwrap();
    // One waits, and one finds no room.
    slow.send(2).unwrap();
    slow.send(3).unwrap();
    let options = PublisherOptions::default().history(1);
    let publisher = node.publisher_with(&NUMBERS, options).unwrap();
    let newest = SubscriptionOptions::new()
        .capacity(1)
        .when_full(WhenFull::DropOldest);
    let subscription = node.subscription_with(&NUMBERS, newest).unwrap();
    publisher.publish(1).unwrap();
    publisher.publish(2).unwrap();
    let server = node.serve("double", |n: u64| Ok(n * 2)).unwrap();
    assert_eq!(
        node.client::<u64, u64>("double")
            .unwrap()
            .call(4)
            .wait()
            .unwrap(),
        8
    );
    (node, (leave, publisher, subscription, server))
}

#[test]
fn the_table_and_what_is_exported_are_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _all) = full(directory.path());
    let exported: BTreeMap<_, _> = parse(&metrics::text(&node))
        .into_iter()
        .map(|family| {
            let mut labels = family
                .lines
                .iter()
                .map(|l| l.labels.keys().cloned().collect::<BTreeSet<_>>());
            // All lines of a series have the same labels.
            let first = labels
                .next()
                .unwrap_or_else(|| panic!("nothing in {}", family.series()));
            assert!(labels.all(|other| other == first), "{family:?}");
            (family.series(), (family.kind, first))
        })
        .collect();
    assert_eq!(exported, table());
}

#[test]
fn figures_are_those_of_the_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _all) = full(directory.path());
    let snapshot = node.snapshot();
    let families = parse(&metrics::text(&node));
    let slow = [("processor", "slow"), ("driver", "slow")];
    let of = |what: &str| value(&families, &format!("mproc_processor_{what}"), &slow);
    assert_eq!(of("messages_received_total"), 3.0);
    assert_eq!(of("messages_handled_total"), 1.0);
    assert_eq!(of("messages_queued"), 1.0);
    assert_eq!(of("mailbox_capacity"), 1.0);
    let no_room = [slow[0], ("cause", "no_room")];
    assert_eq!(
        value(
            &families,
            "mproc_processor_messages_dropped_total",
            &no_room
        ),
        1.0
    );
    assert_eq!(
        value(&families, "mproc_messages_dropped_total", &[no_room[1]]),
        1.0
    );
    assert_eq!(
        value(
            &families,
            "mproc_messages_dropped_total",
            &[("cause", "evicted")]
        ),
        0.0
    );
    let numbers = [("topic", "numbers")];
    assert_eq!(
        value(&families, "mproc_publisher_published_total", &numbers),
        2.0
    );
    let pulled = snapshot
        .topics
        .iter()
        .find(|t| t.name == "numbers")
        .unwrap();
    let id = pulled.subscriptions[0].id.get().to_string();
    let evicted = [
        numbers[0],
        ("subscription", &id),
        ("owner", ""),
        ("cause", "evicted"),
    ];
    assert_eq!(
        value(&families, "mproc_subscription_dropped_total", &evicted),
        1.0
    );
    let topic = [numbers[0], ("type", "u64"), ("codec", "serde")];
    assert_eq!(value(&families, "mproc_topic_info", &topic), 1.0);
    assert_eq!(
        value(&families, "mproc_topic_history_values", &numbers),
        1.0
    );
    let double = [("service", "double")];
    assert_eq!(
        value(&families, "mproc_service_answered_total", &double),
        1.0
    );
    assert_eq!(
        value(&families, "mproc_domain_peers", &[("domain", "metrics")]),
        0.0
    );
    assert_eq!(
        value(&families, "mproc_processors", &[]),
        snapshot.processors.len() as f64
    );
    // A handler is inside, so time goes on between the two: the first is not later.
    let handling = snapshot
        .processors
        .iter()
        .find(|p| p.name == "slow")
        .unwrap();
    assert!(of("handling_seconds") >= handling.handling_ns.unwrap() as f64 / 1e9);
}

#[test]
fn times_are_in_seconds() {
    let node = Node::with_options(Options::default());
    // It sleeps, so that it has been busy for a known time at least.
    let slow = closure(|_: u8, _cx| std::thread::sleep(Duration::from_millis(20)));
    let slow: Address<Closure<u8, ()>> = node.spawn_thread("slow", slow).unwrap();
    slow.call(1).wait().unwrap();
    // The reply comes before the time is booked.
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    while slow.snapshot().handling_ns.is_some() && std::time::Instant::now() < limit {
        std::thread::yield_now();
    }
    let busy = slow.snapshot().busy_ns;
    assert!(busy >= 20_000_000, "{busy}");
    let families = parse(&metrics::text(&node));
    let shown = [("processor", "slow")];
    for (series, ns) in [
        ("mproc_processor_busy_seconds_total", busy),
        (
            "mproc_processor_longest_handler_seconds",
            slow.snapshot().longest_handler_ns,
        ),
    ] {
        let seconds = value(&families, series, &shown);
        assert!(
            (seconds - ns as f64 / 1e9).abs() < 1e-9,
            "{series} {seconds} {ns}"
        );
    }
}

#[test]
fn names_with_quotes_and_other_signs_are_escaped() {
    let node = Node::simulated_with(1, Options::default());
    // Names have no control characters, so no line ends in them.
    assert!(node.spawn_thread("a\nb", closure(|_: u8, _cx| ())).is_err());
    for name in [
        "say \"so\"",
        "back\\slash",
        "a\\",
        "{x=\"1\"} 2",
        "größe/π",
        "# EOF",
    ] {
        sink(&node, name).send(1).unwrap();
        let on_topic = format!("topic of {name}");
        drop(
            node.subscription(&Topic::<u64>::new(on_topic.leak()))
                .unwrap(),
        );
        node.settle();
        let families = parse(&metrics::text(&node));
        let labels = [("processor", name), ("driver", name)];
        assert_eq!(
            value(&families, "mproc_processor_messages_handled_total", &labels),
            1.0
        );
    }
}

#[test]
fn only_the_busiest_are_shown_one_by_one_and_nothing_is_missing_in_the_sums() {
    let node = Node::simulated_with(1, Options::default());
    let pool = node.pool("workers", 2).unwrap();
    let all: Vec<Address<Closure<u8, ()>>> = (0..30)
        .map(|n| {
            pool.spawn(&format!("p{n}"), closure(|_: u8, _cx| ()))
                .unwrap()
        })
        .collect();
    all.iter().for_each(|one| one.send(1).unwrap());
    node.settle();
    let busy = |name: &str| {
        let processors = node.snapshot().runtime.processors;
        processors.iter().find(|p| p.name == name).unwrap().busy_ns
    };
    for shown in [0, 1, 7, 30, 31] {
        let families = parse(&Collector::new(&node).shown_max(shown).text());
        let handled = families
            .iter()
            .find(|f| f.name == "mproc_processor_messages_handled")
            .unwrap();
        assert_eq!(handled.lines.len(), shown.min(30));
        let left_out = value(&families, "mproc_left_out", &[("kind", "processors")]);
        assert_eq!(left_out as usize, 30 - shown.min(30));
        assert_eq!(value(&families, "mproc_messages_handled_total", &[]), 30.0);
        assert_eq!(value(&families, "mproc_processors", &[]), 30.0);
        let names: BTreeSet<_> = handled
            .lines
            .iter()
            .map(|l| l.labels["processor"].clone())
            .collect();
        let least = names
            .iter()
            .map(|name| busy(name))
            .min()
            .unwrap_or(u64::MAX);
        let others = (0..30)
            .map(|n| format!("p{n}"))
            .filter(|name| !names.contains(name));
        assert!(others.map(|name| busy(&name)).all(|other| other <= least));
    }
}

#[test]
fn what_has_ended_stays_in_the_sums_only() {
    let node = Node::simulated_with(1, Options::default());
    let gone = sink(&node, "gone");
    let stays = sink(&node, "stays");
    gone.send(1).unwrap();
    stays.send(1).unwrap();
    gone.drain();
    node.settle();
    let families = parse(&metrics::text(&node));
    assert_eq!(value(&families, "mproc_messages_handled_total", &[]), 2.0);
    assert_eq!(value(&families, "mproc_processors_ended_total", &[]), 1.0);
    let handled = families
        .iter()
        .find(|f| f.name == "mproc_processor_messages_handled")
        .unwrap();
    let names: Vec<_> = handled
        .lines
        .iter()
        .map(|l| l.labels["processor"].as_str())
        .collect();
    assert_eq!(names, ["stays"]);
}

/// Shows the metrics from inside a handler, and sets the message aside: it counts as handled while the handler runs, and then
/// no more.
struct Shows {
    collector: Collector,
    seen: std::sync::mpsc::Sender<String>,
}

impl Processor for Shows {}

impl Handle<u8> for Shows {
    type Reply = ();
    fn handle(&mut self, n: u8, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.seen.send(self.collector.text())?;
        match cx.stash(n) {
            Ok(later) => later,
            Err(_) => Err(Fault::new("the stash is full")),
        }
    }
}

#[test]
fn a_counter_never_goes_down() {
    let node = Node::simulated_with(1, Options::default());
    let collector = Collector::new(&node);
    let (seen, texts) = std::sync::mpsc::channel();
    let shows = Shows {
        collector: collector.clone(),
        seen,
    };
    let shows = node.spawn_thread("shows", shows).unwrap();
    shows.send(1).unwrap();
    node.settle();
    assert_eq!(shows.snapshot().handled, 0, "it was set aside");
    let inside = parse(&texts.recv().unwrap());
    let after = parse(&collector.text());
    let fresh = parse(&metrics::text(&node));
    let shown = [("processor", "shows")];
    for (series, labels) in [
        ("mproc_processor_messages_handled_total", &shown[..]),
        ("mproc_messages_handled_total", &[]),
    ] {
        assert_eq!(value(&inside, series, labels), 1.0, "{series}");
        assert_eq!(value(&after, series, labels), 1.0, "{series}");
        assert_eq!(value(&fresh, series, labels), 0.0, "{series}");
    }
}

#[test]
fn a_processor_of_the_same_name_counts_from_the_beginning() {
    let node = Node::simulated_with(1, Options::default());
    let collector = Collector::new(&node);
    let labels = [("processor", "twice")];
    let series = "mproc_processor_messages_handled_total";
    for sent in [3, 1] {
        let twice = sink(&node, "twice");
        (0..sent).for_each(|n| twice.send(n).unwrap());
        node.settle();
        assert_eq!(
            value(&parse(&collector.text()), series, &labels),
            f64::from(sent)
        );
        twice.drain();
        node.settle();
    }
    assert_eq!(
        value(
            &parse(&collector.text()),
            "mproc_messages_handled_total",
            &[]
        ),
        4.0
    );
}

#[test]
fn it_stands_in_a_registry_with_the_programs_own() {
    let node = Node::simulated_with(1, Options::default());
    let mut registry = Registry::with_prefix("plant");
    let own: Counter = Counter::default();
    registry.register("valves_opened", "Valves", own.clone());
    registry.register_collector(Box::new(Collector::new(&node)));
    own.inc();
    sink(&node, "sink").send(1).unwrap();
    node.settle();
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let families = parse(&text);
    assert_eq!(value(&families, "plant_valves_opened_total", &[]), 1.0);
    assert_eq!(
        value(&families, "plant_mproc_messages_handled_total", &[]),
        1.0
    );
}

#[test]
fn every_cause_has_a_name_that_needs_no_quotes() {
    let node = Node::simulated_with(1, Options::default());
    let families = parse(&metrics::text(&node));
    let dropped = families
        .iter()
        .find(|f| f.name == "mproc_messages_dropped")
        .unwrap();
    let causes: BTreeSet<_> = dropped
        .lines
        .iter()
        .map(|l| l.labels["cause"].clone())
        .collect();
    assert_eq!(causes.len(), DropCause::ALL.len());
    assert!(
        causes
            .iter()
            .all(|cause| cause.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    );
}

#[test]
fn a_node_that_has_ended_is_still_shown() {
    let node = Node::simulated_with(1, Options::default());
    sink(&node, "sink").send(1).unwrap();
    node.settle();
    let collector = Collector::new(&node);
    assert!(node.shutdown(Duration::from_secs(5)).is_clean());
    let families = parse(&collector.text());
    assert_eq!(value(&families, "mproc_messages_handled_total", &[]), 1.0);
    assert_eq!(value(&families, "mproc_processors", &[]), 0.0);
}
