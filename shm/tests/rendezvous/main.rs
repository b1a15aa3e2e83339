//! Processes that find each other, and what happens when one is killed, stopped, forked, too old, or talks nonsense.
//!
//! This binary runs itself as the other processes: `role` is a test that does nothing unless it is told its role by the
//! environment. The parent and its children speak in lines. Nothing sleeps: the parent waits for a line, a child for a
//! line or for its watch.
//!
//! | file | subject |
//! |---|---|
//! | `main.rs` | the claims, on the parent's side |
//! | `garbage.rs` | the claim about nonsense |
//! | `actor.rs` | a child, as the parent has it |
//! | `acting.rs` | what a child does |

mod acting;
mod actor;
mod garbage;

use actor::{base, files, joined, start};
use mproc_shm::{Directory, Domain, NodeId};
use rustix::process::Signal;
use std::env;
use std::fs;
use std::path::Path;

fn lab(base: &Path) -> Directory {
    Directory::open_at(base, &Domain::new("lab").unwrap()).unwrap()
}

/// Of nodes 1 and 2 it is 1 that visits.
#[test]
fn peers_meet_in_whatever_order_they_start() {
    for (first, second) in [(1, 2), (2, 1)] {
        let base = base();
        let mut a = joined(&base, first);
        let mut b = joined(&base, second);
        assert_eq!(a.wait_for("met"), second.to_string());
        assert_eq!(b.wait_for("met"), first.to_string());
        assert_eq!(a.ask("send over", "sent"), "");
        assert_eq!(b.wait_for("got"), "over");
        assert_eq!(b.ask("send back", "sent"), "");
        assert_eq!(a.wait_for("got"), "back");
        b.leave();
        assert_eq!(a.wait_for("closed"), second.to_string());
        assert_eq!(a.wait_for("ended"), second.to_string());
        a.leave();
        assert_eq!(files(&base), 0);
    }
}

#[test]
fn peers_that_start_together_meet_once_each() {
    let base = base();
    let mut actors: Vec<_> = (1..=4)
        .map(|node| start("node", base.path(), node, &[]))
        .collect();
    for (i, actor) in actors.iter_mut().enumerate() {
        let mut met: Vec<_> = (0..3)
            .map(|_| actor.wait_for("met").parse::<usize>().unwrap())
            .collect();
        met.sort_unstable();
        let others: Vec<_> = (1..=4).filter(|&node| node != i + 1).collect();
        assert_eq!(met, others);
    }
    for mut actor in actors {
        // The answer comes after all that happened before.
        actor.ask("alive", "alive");
        let count = actor
            .seen
            .iter()
            .filter(|line| line.starts_with("met"))
            .count();
        assert_eq!(count, 3, "{:#?}", actor.seen);
    }
}

#[test]
fn kill_of_either_side_is_seen_and_its_socket_removed() {
    for (killed, survivor) in [(1, 2), (2, 1)] {
        let base = base();
        let mut survivor = joined(&base, survivor);
        let mut victim = joined(&base, killed);
        survivor.wait_for("met");
        victim.wait_for("met");
        assert_eq!(files(&base), 2);
        victim.kill();
        assert_eq!(survivor.wait_for("ended"), killed.to_string());
        assert_eq!(survivor.wait_for("removed"), "Ok(Removed)");
        assert_eq!(files(&base), 1);
        // And another can take the place.
        let mut next = joined(&base, killed);
        assert_eq!(survivor.wait_for("met"), killed.to_string());
        next.wait_for("met");
    }
}

#[test]
fn stopped_peer_is_not_dead_and_goes_on() {
    let base = base();
    let mut a = joined(&base, 1);
    let mut b = joined(&base, 2);
    a.wait_for("met");
    b.wait_for("met");
    b.stop();
    assert_eq!(a.ask("alive", "alive"), "true");
    a.ask("send while stopped", "sent");
    b.signal(Signal::CONT);
    assert_eq!(b.wait_for("got"), "while stopped");
    assert_eq!(b.ask("send awake", "sent"), "");
    assert_eq!(a.wait_for("got"), "awake");
    assert!(
        !a.has_seen("ended") && !a.has_seen("closed"),
        "{:#?}",
        a.seen
    );
}

/// Who visits a stopped process waits for it, since it will answer when it goes on.
#[test]
fn peer_that_is_stopped_before_it_is_met_is_met_when_it_goes_on() {
    let base = base();
    let mut b = joined(&base, 2);
    b.stop();
    let mut a = joined(&base, 1);
    a.ask("alive", "alive");
    b.signal(Signal::CONT);
    a.wait_for("met");
    b.wait_for("met");
}

#[test]
fn connection_that_was_lost_is_made_again() {
    let base = base();
    let returns = [("RENDEZVOUS_RETURN", "1")];
    let mut a = start("node", base.path(), 1, &returns);
    let mut b = start("node", base.path(), 2, &returns);
    for actor in [&mut a, &mut b] {
        actor.wait_for("met");
    }
    a.ask("shut", "shut");
    for actor in [&mut a, &mut b] {
        actor.wait_for("met");
    }
    a.ask("send again", "sent");
    assert_eq!(b.wait_for("got"), "again");
}

#[test]
fn sockets_of_the_dead_are_removed_by_the_next_who_starts() {
    for (killed, next) in [(1, 2), (2, 1)] {
        let base = base();
        let mut victim = joined(&base, killed);
        victim.kill();
        assert_eq!(files(&base), 1);
        let mut next_actor = start("node", base.path(), next, &[]);
        next_actor.wait_for("joined");
        if next < killed {
            // It is for the smaller one to visit, and so it finds out.
            let text = next_actor.wait_for("not met");
            assert!(text.contains("left its socket behind"), "{text}");
        }
        assert_eq!(files(&base), 1);
        let entry = lab(base.path()).list().unwrap()[0];
        assert_eq!(entry.node, NodeId::from_bytes([next; 16]));
    }
}

#[test]
fn descriptor_that_a_grandchild_keeps_does_not_hide_the_death() {
    let base = base();
    let mut survivor = joined(&base, 1);
    let mut victim = start("node", base.path(), 2, &[("RENDEZVOUS_KEEP", "1")]);
    survivor.wait_for("met");
    victim.wait_for("met");
    victim.ask("fork", "forked");
    victim.kill();
    assert_eq!(survivor.wait_for("ended"), "2");
    assert!(
        !survivor.has_seen("closed"),
        "the grandchild holds the connection open"
    );
    // The grandchild ends when its input does.
    victim.input = None;
    assert_eq!(survivor.wait_for("closed"), "2");
}

#[test]
fn forked_child_does_not_keep_connections_open() {
    let base = base();
    let mut survivor = joined(&base, 1);
    let mut parent = joined(&base, 2);
    survivor.wait_for("met");
    parent.wait_for("met");
    parent.ask("fork", "forked");
    parent.ask("hang up", "hung up");
    // The child lives and its parent too, and yet the connection is closed.
    assert_eq!(survivor.wait_for("closed"), "2");
    assert!(!survivor.has_seen("ended"));
    assert_eq!(survivor.ask("alive", "alive"), "true");
}

#[test]
fn handles_in_a_forked_child_answer_forked_and_their_drops_do_nothing() {
    let base = base();
    let mut other = joined(&base, 1);
    let mut parent = start("forker", base.path(), 2, &[]);
    other.wait_for("met");
    parent.wait_for("met");
    assert_eq!(parent.ask("fork", "child"), "status 0");
    // The parent is as before: listed, connected, listening.
    assert_eq!(files(&base), 2);
    assert_eq!(other.ask("send still there", "sent"), "");
    assert_eq!(parent.wait_for("got"), "still there");
    let mut third = joined(&base, 3);
    parent.wait_for("met");
    third.wait_for("met");
    assert!(
        !other.has_seen("closed") && !other.has_seen("ended"),
        "{:#?}",
        other.seen
    );
}

#[test]
fn version_skew_is_refused_by_both_with_both_values() {
    let base = base();
    let mut old = start("node", base.path(), 1, &[("RENDEZVOUS_PROTOCOLS", "1 2")]);
    let mut new = start("node", base.path(), 2, &[("RENDEZVOUS_PROTOCOLS", "3 5")]);
    let text = old.wait_for("not met");
    assert!(
        text.contains("the peer speaks protocol 3 to 5, this build speaks 1 to 2"),
        "{text}"
    );
    assert!(
        text.contains(&format!("process {}", new.child.id())),
        "{text}"
    );
    let text = new.wait_for("not met");
    assert!(
        text.contains("the peer speaks protocol 1 to 2, this build speaks 3 to 5"),
        "{text}"
    );
    // A third one that speaks both languages meets both.
    let mut both = start("node", base.path(), 3, &[("RENDEZVOUS_PROTOCOLS", "2 3")]);
    for actor in [&mut old, &mut new] {
        assert_eq!(actor.wait_for("met"), "3");
    }
    let mut met = [both.wait_for("met"), both.wait_for("met")];
    met.sort();
    assert_eq!(met, ["1", "2"]);
}

#[test]
fn abi_mismatch_is_refused_by_both_with_both_values() {
    let base = base();
    let mut a = start("node", base.path(), 1, &[("RENDEZVOUS_ABI", "171")]);
    let mut b = start("node", base.path(), 2, &[("RENDEZVOUS_ABI", "205")]);
    let text = a.wait_for("not met");
    assert!(
        text.contains("the peer has ABI 00000000000000cd, this build has 00000000000000ab"),
        "{text}"
    );
    let text = b.wait_for("not met");
    assert!(
        text.contains("the peer has ABI 00000000000000ab, this build has 00000000000000cd"),
        "{text}"
    );
}

#[test]
fn process_without_descriptors_says_so_and_its_listener_goes_on() {
    let base = base();
    let mut limited = start("node", base.path(), 2, &[("RENDEZVOUS_DESCRIPTORS", "32")]);
    limited.wait_for("joined");
    limited.ask("fill", "filled");
    let mut visitor = joined(&base, 1);
    let text = limited.wait_for("not met");
    let expected =
        "cannot accept a peer: no descriptor is left (this process may have 32, RLIMIT_NOFILE)";
    assert_eq!(text, expected);
    let text = visitor.wait_for("not met");
    assert!(
        text.contains("closed the connection before it said hello"),
        "{text}"
    );
    limited.ask("free", "freed");
    // The visitor tries again by itself.
    assert_eq!(limited.wait_for("met"), "1");
    assert_eq!(visitor.wait_for("met"), "2");
}

#[test]
fn domain_and_directory_follow_the_environment() {
    let base = base();
    let at = base.path().to_str().unwrap();
    let answer =
        |more: &[(&str, &str)]| start("environment", base.path(), 1, more).wait_for("answer");
    let path = format!("{at}/mproc/default");
    assert_eq!(
        answer(&[("XDG_RUNTIME_DIR", at), ("MPROC_DOMAIN", "default")]),
        path
    );
    let text = answer(&[("XDG_RUNTIME_DIR", at), ("MPROC_DOMAIN", "a b")]);
    let expected = "MPROC_DOMAIN: domain \"a b\" has ' ' at byte 1; letters, digits, '-', '_' and '.' are allowed";
    assert_eq!(text, expected);
    let text = answer(&[("XDG_RUNTIME_DIR", at), ("MPROC_DOMAIN", "")]);
    assert_eq!(text, "MPROC_DOMAIN: domain has an empty name");
    let text = answer(&[("XDG_RUNTIME_DIR", "here"), ("MPROC_DOMAIN", "lab")]);
    assert!(
        text.starts_with("cannot use directory \"here\": it is a relative path"),
        "{text}"
    );
    // Without a directory for this user's run-time files there is one under /tmp.
    if let Err(error) = tempfile::tempdir_in("/tmp") {
        println!("skipped: /tmp: {error}");
        return;
    }
    let domain = format!("test-{}", std::process::id());
    let path = answer(&[("XDG_RUNTIME_DIR", ""), ("MPROC_DOMAIN", &domain)]);
    fs::remove_dir(&path).unwrap();
    let user = rustix::process::geteuid().as_raw();
    assert_eq!(path, format!("/tmp/mproc-{user}/{domain}"));
}

#[test]
fn role() {
    let Ok(role) = env::var("RENDEZVOUS_ROLE") else {
        return;
    };
    let base = env::var("RENDEZVOUS_BASE").unwrap();
    acting::act(&role, Path::new(&base));
}
