//! Other versions.

use super::*;
use crate::actor::{orders, ordinary, say, start};
use mproc_shm::{
    ABI_HASH, Directory, Domain, Hello, Identity, NodeId, PROTOCOL, Protocols, Rendezvous, Watch,
};
use std::sync::Arc;

/// A build of another version: it greets, and that is all that it can do here.
pub(crate) fn act(base: &Path) {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let directory = Directory::open_at(base, &Domain::new(DOMAIN).unwrap()).unwrap();
    let watch = Watch::start("skewed", |name, text| panic!("{name}: {text}")).unwrap();
    let protocol = number("LIMITS_PROTOCOL").unwrap_or(u64::from(PROTOCOL)) as u16;
    let hello = Hello {
        protocols: Protocols {
            min: protocol,
            max: protocol + 1,
        },
        features: 0,
        abi: number("LIMITS_ABI").unwrap_or(ABI_HASH),
        identity: Identity::here(NodeId::random().unwrap()).unwrap(),
    };
    let on_meeting = Arc::new(|met: Result<_, mproc_shm::MeetingError>, _: &_| match met {
        Ok(_) => say("met"),
        Err(error) => say(&format!("not met {error}")),
    });
    let rendezvous = Rendezvous::join(&directory, hello, watch.handle(), on_meeting).unwrap();
    say("joined");
    orders().for_each(drop);
    drop(rendezvous);
}

#[test]
fn other_versions_are_refused_with_both_values_and_the_others_go_on() {
    let base = base();
    let mut publisher = ordinary(&base);
    let mut subscriber = ordinary(&base);
    publisher.ask("publisher data", "made");
    subscriber.ask("subscribe data", "subscribed");
    publisher.ask("joined data 1", "joined");
    let mut publish = |n: u8, other: &str| {
        let reports = [&mut publisher, &mut subscriber].map(|node| {
            let mut text = String::new();
            while !text.contains(other) {
                text = node.wait_for("told a process was not met:");
            }
            text
        });
        let order = format!("publish data 10 {n}");
        assert_eq!(publisher.ask(&order, "published"), "1");
        assert_eq!(subscriber.ask("take data", "took"), format!("10 {n}"));
        let again = [publisher.reports(), subscriber.reports()].concat();
        let again = again.iter().filter(|text| text.contains(other)).count();
        assert!(other.is_empty() || again == 2, "each tells it once");
        reports
    };
    publish(1, "");
    let mine = format!("this build speaks {PROTOCOL}");
    let abi = format!("this build has {ABI_HASH:016x}");
    let cases = [
        ("LIMITS_PROTOCOL", "700", ["protocol 700 to 701", &mine]),
        ("LIMITS_ABI", "171", ["ABI 00000000000000ab", &abi]),
    ];
    for (n, (name, value, expected)) in cases.into_iter().enumerate() {
        let mut skewed = start("skewed", base.path(), &[(name, value.as_ref())]);
        skewed.wait_for("joined");
        // It is told, too.
        skewed.wait_for("not met");
        skewed.wait_for("not met");
        for text in publish(n as u8 + 2, &skewed.label()) {
            for what in expected {
                assert!(text.contains(what), "{what} is not in {text}");
            }
        }
        skewed.leave();
    }
}
