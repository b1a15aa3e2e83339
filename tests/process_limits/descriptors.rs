//! No more descriptors.

use super::*;
use crate::actor::{ordinary, start};

fn limited(base: &TempDir) -> actor::Actor {
    start("node", base.path(), &[("LIMITS_FILES", "32".as_ref())])
}

fn says_so(text: &str) -> bool {
    text.contains("descriptor")
        || text.contains("Too many open files")
        || text.contains("os error 24")
}

/// A node may have descriptors for some of what it does. What it cannot do it says, and it does it when there are more.
fn with_so_many_left(left: usize, publishes: bool) {
    let base = base();
    let mut limited = limited(&base);
    let mut other = ordinary(&base);
    let (publisher, subscriber) = if publishes {
        (&mut limited, &mut other)
    } else {
        (&mut other, &mut limited)
    };
    // Each has joined its domain, with a topic of its own.
    publisher.ask("publisher own", "made");
    subscriber.ask("publisher own", "made");
    publisher.ask("publisher data", "made");
    let full = if publishes {
        &mut *publisher
    } else {
        &mut *subscriber
    };
    full.ask(&format!("fill {left}"), "filled");
    subscriber.ask("subscribe data", "subscribed");
    let start = std::time::Instant::now();
    let (joined, reports) = loop {
        let joined = publisher.ask("probe data 1", "probe") == "true";
        let mut reports = publisher.reports();
        reports.extend(subscriber.reports());
        if joined || reports.iter().any(|text| says_so(text)) {
            break (joined, reports);
        }
        assert!(start.elapsed() < LONG, "{left} left: {reports:#?}");
    };
    let full = if publishes {
        &mut *publisher
    } else {
        &mut *subscriber
    };
    // The probe takes a second, as more do not come; who spins uses all of it.
    let before: u64 = full.ask("cpu", "cpu").parse().unwrap();
    assert_eq!(publisher.ask("probe data 2", "probe"), "false");
    let full = if publishes {
        &mut *publisher
    } else {
        &mut *subscriber
    };
    let used = full.ask("cpu", "cpu").parse::<u64>().unwrap() - before;
    assert!(used < 700, "{left} left: {used} ms of a processor");
    println!("{left} left, publishes {publishes}: joined {joined}, {used} ms, {reports:#?}");
    assert!(reports.len() < 8, "{left} left: {reports:#?}");
    let full = if publishes {
        &mut *publisher
    } else {
        &mut *subscriber
    };
    full.ask("free", "freed");
    // What was on its way on a link that could not be opened is lost with it.
    let arrives = (0..100).any(|n| {
        publisher.ask("joined data 1", "joined");
        publisher.ask(&format!("publish data 5 {n}"), "published");
        subscriber.ask("take-soon data", "took") == format!("5 {n}")
    });
    assert!(arrives, "{left} left");
    limited.leave();
    other.leave();
}

#[test]
fn publisher_without_descriptors_says_so_and_goes_on_when_there_are_some() {
    for left in 0..5 {
        with_so_many_left(left, true);
    }
}

#[test]
fn subscriber_without_descriptors_says_so_and_goes_on_when_there_are_some() {
    for left in 0..5 {
        with_so_many_left(left, false);
    }
}

/// It links to as many as it can; those go on whatever happens to the others.
#[test]
fn node_with_32_descriptors_links_to_as_many_as_it_can() {
    const PEERS: usize = 16;
    let base = base();
    let mut limited = limited(&base);
    limited.ask("publisher data", "made");
    // One after the other: a node joins when it is built, and many connections leave no descriptors for links.
    let subscriber = |_| {
        let mut other = ordinary(&base);
        other.ask("subscribe data", "subscribed");
        other
    };
    let mut others: Vec<_> = (0..PEERS).map(subscriber).collect();
    let all = limited.ask(&format!("probe data {PEERS}"), "probe");
    let before: u64 = limited.ask("cpu", "cpu").parse().unwrap();
    assert_eq!(limited.ask(&format!("probe data {PEERS}"), "probe"), all);
    let used = limited.ask("cpu", "cpu").parse::<u64>().unwrap() - before;
    let reports = limited.reports();
    println!("all {all}, {used} ms, {reports:#?}");
    assert_eq!(all, "false", "16 peers need more than 32 descriptors");
    assert!(used < 700, "{used} ms of a processor");
    assert!(reports.iter().any(|text| says_so(text)), "{reports:#?}");
    let start = std::time::Instant::now();
    while limited.ask("probe data 1", "probe") == "false" {
        assert!(start.elapsed() < LONG, "{reports:#?}");
    }
    let linked: usize = limited
        .ask("publish data 5 1", "published")
        .parse()
        .unwrap();
    assert!(linked > 0, "{reports:#?}");
    // When some leave, others take their places.
    others.truncate(PEERS - 12);
    limited.ask("left data 4", "left");
    limited.ask("joined data 4", "joined");
    assert_eq!(limited.ask("publish data 5 2", "published"), "4");
    for mut other in others {
        while other.ask("take data", "took") != "5 2" {}
    }
}
