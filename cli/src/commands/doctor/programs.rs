//! Checks of the programs of the domain, by what they report.

use super::facts::{Facts, Socket, SocketIs};
use super::finding::{Finding, Severity, counted, or_ok};
use crate::commands::top::causes;
use crate::commands::top::text::{short_type, shown};
use crate::output::duration;
use crate::world::{World, is_internal};
use mproc::{NodeReport, WhenFull};
use std::time::Duration;

/// A handler that takes longer is worth a look.
const HANDLING_NS_MAX: u64 = 1_000_000_000;
/// One that takes longer still will not end.
const STUCK_NS: u64 = 10_000_000_000;
/// A lease that is held longer is likely forgotten.
const LEASE_NS_MAX: u64 = 10_000_000_000;

fn world(facts: &Facts) -> Option<&World> {
    facts.world.as_ref().ok()
}

/// Each node, with what people call it.
fn nodes(facts: &Facts) -> impl Iterator<Item = (&NodeReport, String)> {
    let nodes = world(facts).map_or(&[][..], |world| &world.nodes[..]);
    nodes
        .iter()
        .map(|node| (node, shown(&World::label(node)).into_owned()))
}

fn time(ns: u64) -> String {
    duration(Duration::from_nanos(ns))
}

/// Whether the domain can be joined, and who answers there.
pub(crate) fn nodes_answer(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "nodes";
    let world = match &facts.world {
        Ok(world) => world,
        Err(why) => {
            let what = format!("{}; programs were not looked at", shown(why));
            return vec![
                Finding::problem(CHECK, what)
                    .advice("mend what is said above, or choose another with --domain"),
            ];
        }
    };
    let mut found = Vec::new();
    for silent in &world.silent {
        // Its socket is told of by the check of sockets.
        let is_dead = |socket: &Socket| socket.pid == silent.pid && socket.is == SocketIs::Stale;
        if facts.sockets.iter().any(is_dead) {
            continue;
        }
        let name = format!("process {}", silent.pid);
        let finding = match facts.process_states.get(&silent.pid) {
            Some(Some('T' | 't')) => {
                Finding::problem(CHECK, format!("{name} is stopped, and does not answer"))
                    .advice(format!("kill -CONT {}, or kill -KILL {0}", silent.pid))
            }
            Some(Some('Z')) => Finding::problem(
                CHECK,
                format!("{name} has ended, and nobody has waited for it"),
            )
            .advice("end the process that started it"),
            Some(None) => {
                let why = shown(&silent.why);
                Finding::warning(
                    CHECK,
                    format!("{name} has ended just now, or cannot be seen from here: {why}"),
                )
                .advice("look again; programs in containers have other process numbers")
            }
            _ => {
                let what = format!("{name} does not answer: {}", shown(&silent.why));
                Finding::problem(CHECK, what).advice(
                    "if it is a program of another version, build both with one; else look at it with a debugger",
                )
            }
        };
        found.push(finding);
    }
    if world.nodes.is_empty() && found.is_empty() {
        let what = format!("nobody is in domain {:?}", facts.domain);
        return vec![
            Finding::note(CHECK, what)
                .advice("start a program, or choose another domain with --domain"),
        ];
    }
    let answer = match world.nodes.len() {
        1 => "1 node answers".to_owned(),
        n => format!("{n} nodes answer"),
    };
    or_ok(found, CHECK, answer)
}

/// Programs built with another version.
pub(crate) fn versions(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "versions";
    let mut found = Vec::new();
    for (node, label) in nodes(facts) {
        if node.node.version != facts.version {
            let theirs = shown(&node.node.version);
            found.push(
                Finding::warning(
                    CHECK,
                    format!("{label} has mproc {theirs}, this command {}", facts.version),
                )
                .advice("build all programs of a domain with one version"),
            );
        }
    }
    or_ok(found, CHECK, format!("all have mproc {}", facts.version))
}

/// Topics of which there is one side only.
pub(crate) fn topics(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "topics";
    let Some(world) = world(facts) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for topic in world.topics() {
        let subscribers = topic
            .subscriptions
            .iter()
            .filter(|of| !of.what.closed)
            .count()
            + topic.patterns.len();
        if is_internal(topic.name) {
            continue;
        }
        let name = shown(topic.name);
        match (topic.publishers.first(), subscribers) {
            (Some(of), 0) => found.push(
                Finding::note(
                    CHECK,
                    format!(
                        "topic {name} has no subscriber{}; {} publishes",
                        match topic.taps.first() {
                            Some(tap) => format!(" but a tap of {}", shown(&World::label(tap.node))),
                            None => String::new(),
                        },
                        shown(&World::label(of.node))
                    ),
                )
                .advice("nothing, if a recorder or a screen hears it now and then; else see its name in mproc list topics"),
            ),
            (None, 1..) => {
                let of = topic.subscriptions.first().map(|of| of.node);
                let of = of.or_else(|| topic.patterns.first().map(|of| of.node));
                let of = of.map(World::label);
                found.push(
                    Finding::note(
                        CHECK,
                        format!(
                            "topic {name} has no publisher; {} subscribes",
                            shown(&of.unwrap_or_default())
                        ),
                    )
                    .advice("see whether its name is written alike everywhere: mproc list topics"),
                );
            }
            _ => {}
        }
    }
    or_ok(found, CHECK, "each has publishers and subscribers")
}

/// Nodes that do not mean the same by one name.
pub(crate) fn types(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "types";
    let Some(world) = world(facts) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for topic in world.topics() {
        if topic.types.len() < 2 {
            continue;
        }
        let kinds = topic.types.iter().map(|info| {
            let of_this = topic
                .declared
                .iter()
                .filter(|of| of.what.type_hash == info.type_hash && of.what.codec == info.codec);
            let nodes: Vec<_> = of_this.map(|of| World::label(of.node)).collect();
            format!(
                "{} ({:?}) at {}",
                shown(&info.type_name),
                info.codec,
                shown(&nodes.join(", "))
            )
        });
        let kinds: Vec<_> = kinds.collect();
        let what = format!(
            "topic {} has type {}",
            shown(topic.name),
            kinds.join(", and ")
        );
        found.push(
            Finding::problem(CHECK, what).advice("give one of them another name, or both one type"),
        );
    }
    or_ok(found, CHECK, "each topic has one type everywhere")
}

/// Handlers that do not come to an end.
pub(crate) fn handlers(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "handlers";
    let mut found = Vec::new();
    for (node, label) in nodes(facts) {
        for p in &node.snapshot.processors {
            let Some(ns) = p.handling_ns.filter(|ns| *ns > HANDLING_NS_MAX) else {
                continue;
            };
            let severity = match ns > STUCK_NS {
                true => Severity::Problem,
                false => Severity::Warning,
            };
            let message = p.last_message_type.as_deref().unwrap_or("a message");
            let what = format!(
                "{} of {label} has been handling {} for {}; {} wait",
                shown(&p.name),
                shown(&short_type(message)),
                time(ns),
                p.queued
            );
            let advice = match node.snapshot.waits.iter().find(|wait| wait.who == p.name) {
                Some(wait) => format!(
                    "it waits for {} ({}): look there",
                    shown(&wait.on.join(", ")),
                    shown(&wait.why)
                ),
                None => format!("look where it is: gdb -p {}", node.node.pid),
            };
            found.push(Finding::new(severity, CHECK, what).advice(advice));
        }
    }
    or_ok(
        found,
        CHECK,
        format!("none takes longer than {}", time(HANDLING_NS_MAX)),
    )
}

/// Processors that wait for each other in a circle.
pub(crate) fn circles(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "circles";
    let mut found = Vec::new();
    for (node, label) in nodes(facts) {
        for circle in circles_of(node) {
            let names: Vec<_> = circle.iter().map(|name| shown(name)).collect();
            let what = match &names[..] {
                [one] => format!("in {label} {one} waits for itself"),
                names => format!("in {label} {} wait for each other", names.join(" -> ")),
            };
            found.push(Finding::problem(CHECK, what).advice(
                "send in one direction and call in the other only, or give the call a limit",
            ));
        }
    }
    or_ok(found, CHECK, "nobody waits in a circle")
}

/// Each circle once, from its first name on.
fn circles_of(node: &NodeReport) -> Vec<Vec<&str>> {
    let waits = &node.snapshot.waits;
    let mut circles = Vec::new();
    for start in waits {
        let start = start.who.as_str();
        // Whoever is reached from `start`, each with whom it was reached from.
        let mut reached: Vec<(&str, usize)> = vec![(start, 0)];
        let mut at = 0;
        'search: while at < reached.len() {
            let (name, _) = reached[at];
            let on = waits.iter().filter(|wait| wait.who == name);
            for next in on.flat_map(|wait| &wait.on) {
                if next == start {
                    let mut circle = Vec::new();
                    let mut step = at;
                    while step != 0 {
                        circle.push(reached[step].0);
                        step = reached[step].1;
                    }
                    circle.push(start);
                    circle.reverse();
                    // The same one is found from each of its members.
                    if circle.iter().all(|name| start <= *name) {
                        circles.push(circle);
                    }
                    break 'search;
                }
                if !reached.iter().any(|(known, _)| known == next) {
                    reached.push((next, at));
                }
            }
            at += 1;
        }
    }
    circles.sort();
    circles.dedup();
    circles
}

/// Samples that are held for long.
pub(crate) fn leases(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "leases";
    let mut found = Vec::new();
    for (node, label) in nodes(facts) {
        for topic in &node.snapshot.topics {
            for s in &topic.subscriptions {
                let Some(ns) = s.held_ns_max.filter(|ns| *ns > LEASE_NS_MAX) else {
                    continue;
                };
                found.push(
                    Finding::warning(
                        CHECK,
                        format!(
                            "{} of {label} holds {} of {}, the oldest for {}",
                            shown(s.owner.as_deref().unwrap_or("a subscription")),
                            counted(s.held, "sample"),
                            shown(&topic.name),
                            time(ns)
                        ),
                    )
                    .advice("drop samples when they are done with, or copy what is to be kept"),
                );
            }
        }
    }
    or_ok(
        found,
        CHECK,
        format!("none is older than {}", time(LEASE_NS_MAX)),
    )
}

/// Queues without room.
pub(crate) fn queues(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "queues";
    let mut found = Vec::new();
    for (node, label) in nodes(facts) {
        for p in &node.snapshot.processors {
            if p.queued > 0 && p.queued >= p.capacity {
                found.push(
                    Finding::warning(
                        CHECK,
                        format!(
                            "the mailbox of {} of {label} is full: {}",
                            shown(&p.name),
                            p.queued
                        ),
                    )
                    .advice("it gets more than it can handle: see its load in mproc top"),
                );
            }
        }
        for topic in &node.snapshot.topics {
            for s in topic
                .subscriptions
                .iter()
                .filter(|s| !s.closed && s.node.is_none())
            {
                // The latest value is always there.
                if s.queued == 0 || s.queued < s.capacity || s.when_full == WhenFull::Latest {
                    continue;
                }
                let severity = match s.when_full {
                    WhenFull::Wait => Severity::Warning,
                    _ => Severity::Note,
                };
                let what = format!(
                    "the queue of {} of {label} for {} is full: {} ({:?}{})",
                    shown(s.owner.as_deref().unwrap_or("a subscription")),
                    shown(&topic.name),
                    s.queued,
                    s.when_full,
                    if s.paused { ", paused" } else { "" }
                );
                let advice = match s.when_full {
                    WhenFull::Wait => {
                        "its publishers wait for it: see its load in mproc top, or choose another WhenFull"
                    }
                    _ => "it does not keep up, and samples are dropped or refused",
                };
                found.push(Finding::new(severity, CHECK, what).advice(advice));
            }
        }
    }
    or_ok(found, CHECK, "none is full")
}

/// What was lost.
pub(crate) fn drops(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "drops";
    let mut found = Vec::new();
    let Some(world) = world(facts) else {
        return found;
    };
    for (node, label) in nodes(facts) {
        for p in node
            .snapshot
            .processors
            .iter()
            .filter(|p| p.dropped.total() > 0)
        {
            found.push(
                Finding::warning(
                    CHECK,
                    format!(
                        "{} of {label} has lost {}: {}",
                        shown(&p.name),
                        counted(p.dropped.total(), "message"),
                        causes(&p.dropped)
                    ),
                )
                .advice("see its queue and its longest handler in mproc top"),
            );
        }
        for topic in &node.snapshot.topics {
            for s in &topic.subscriptions {
                let lost = s.dropped.total().saturating_add(s.refused);
                if lost == 0 {
                    continue;
                }
                // Whoever chose such a policy expects it.
                let severity = match s.when_full {
                    WhenFull::DropOldest | WhenFull::DropNewest | WhenFull::Latest => {
                        Severity::Note
                    }
                    _ => Severity::Warning,
                };
                let mut parts = causes(&s.dropped);
                if s.refused > 0 {
                    let join = if parts.is_empty() { "" } else { ", " };
                    parts.push_str(&format!("{join}refused {}", s.refused));
                }
                // What does not go into the full queue of another process is dropped on the way there.
                let who = match (&s.node, &s.owner) {
                    (Some(id), _) => world.label_of(id),
                    (None, Some(owner)) => format!("{owner} of {label}"),
                    (None, None) => format!("a subscription of {label}"),
                };
                let what = format!(
                    "{} has not got {} of {} ({:?}): {parts}",
                    shown(&who),
                    counted(lost, "sample"),
                    shown(&topic.name),
                    s.when_full
                );
                let topic = shown(&topic.name);
                found.push(Finding::new(severity, CHECK, what).advice(format!(
                    "mproc info {topic} shows whose queue is full; what is undecodable has another type than its subscriber"
                )));
            }
        }
        let letters = node.snapshot.dead_letters;
        if letters > 0 {
            found.push(
                Finding::note(
                    CHECK,
                    format!("{label} has {}", counted(letters, "dead letter")),
                )
                .advice("node.dead_letters() has the last of them"),
            );
        }
    }
    or_ok(found, CHECK, "nothing was dropped")
}

/// What went wrong in handlers.
pub(crate) fn faults(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "faults";
    let mut found = Vec::new();
    for (node, label) in nodes(facts) {
        for p in &node.snapshot.processors {
            let name = shown(&p.name);
            let counts = [
                (p.faults, "fault"),
                (p.panics, "panic"),
                (p.restarts, "restart"),
            ];
            let counts: Vec<_> = counts
                .into_iter()
                .filter(|(n, _)| *n > 0)
                .map(|(n, what)| counted(n, what))
                .collect();
            if !counts.is_empty() {
                found.push(
                    Finding::warning(
                        CHECK,
                        format!("{name} of {label} has had {}", counts.join(", ")),
                    )
                    .advice("its program's log says why"),
                );
            }
            if p.restarting {
                found.push(
                    Finding::warning(
                        CHECK,
                        format!("{name} of {label} is down, and is being restarted"),
                    )
                    .advice("its program's log says why"),
                );
            }
        }
        // Those of processors that are no more.
        let totals = &node.snapshot.totals;
        let living: u64 = node.snapshot.processors.iter().map(|p| p.panics).sum();
        if totals.panics > living {
            let n = totals.panics - living;
            found.push(
                Finding::warning(
                    CHECK,
                    format!(
                        "{label} has had {} of processors that are gone",
                        counted(n, "panic")
                    ),
                )
                .advice("its program's log says why"),
            );
        }
    }
    or_ok(found, CHECK, "no handler has failed")
}

/// Pools without a thread to spare.
pub(crate) fn pools(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "pools";
    let mut found = Vec::new();
    for (node, label) in nodes(facts) {
        for d in node.snapshot.drivers.iter().filter(|d| d.exhausted > 0) {
            found.push(
                Finding::warning(
                    CHECK,
                    format!(
                        "{} of {label} had no spare thread {} times; {} of {} are blocked now",
                        shown(&d.name),
                        d.exhausted,
                        d.blocked,
                        d.threads
                    ),
                )
                .advice("give it more (PoolOptions::spares), or block elsewhere"),
            );
        }
    }
    or_ok(found, CHECK, "none was exhausted")
}

/// What nodes think of each other.
pub(crate) fn peers(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "peers";
    let mut found = Vec::new();
    for (node, label) in nodes(facts) {
        let Some(domain) = &node.snapshot.domain else {
            continue;
        };
        if domain.violations > 0 {
            found.push(
                Finding::problem(
                    CHECK,
                    format!(
                        "{label} has seen {} breaches of the protocol",
                        domain.violations
                    ),
                )
                .advice("build all programs of the domain with one version"),
            );
        }
        if domain.refused > 0 {
            found.push(
                Finding::warning(
                    CHECK,
                    format!(
                        "{label} has refused {} topics or subscriptions of others: another type, another codec, or no memory",
                        domain.refused
                    ),
                )
                .advice("see types above, and the program's log"),
            );
        }
        if domain.lost_connections > 0 {
            found.push(Finding::note(
                CHECK,
                format!(
                    "{label} has lost {} to processes that ended without a word",
                    counted(domain.lost_connections, "connection")
                ),
            ));
        }
    }
    or_ok(found, CHECK, "all keep to the protocol")
}
