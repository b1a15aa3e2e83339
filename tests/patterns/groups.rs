//! Groups by name, and who watches them.

use super::{Where, simulated};
use mproc::prelude::*;
use mproc::{Closure, ErrorKind, Exit, GroupChange, GroupEvent, Name};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

type Log = Arc<Mutex<Vec<(Name, String)>>>;

/// Notes what it is told of a group.
struct Watches(Log);

impl Processor for Watches {}
impl Handle<GroupEvent> for Watches {
    type Reply = ();
    fn handle(&mut self, event: GroupEvent, _: &mut Cx<'_, Self>) -> Outcome<()> {
        let change = match event.change {
            GroupChange::Joined => "joined".to_owned(),
            GroupChange::Left => "left".to_owned(),
            GroupChange::Ended(exit) => format!("ended: {exit}"),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push((event.name, change));
        Ok(())
    }
}

fn member(place: &Where, name: &str) -> Address<Closure<u32, ()>> {
    place.spawn(name, closure(|n: u32, _cx| assert_ne!(n, 13)))
}

#[test]
fn members_join_leave_and_end_and_who_watches_is_told_once_of_each() {
    for seed in 0..30 {
        let node = simulated(seed);
        let place = Where::of(seed, &node);
        let log = Log::default();
        let watcher = place.spawn("watcher", Watches(log.clone()));
        let group = node.group::<u32>("group").unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| member(&place, name));
        assert!(group.join(&a));
        let there: Vec<_> = group.watch(&watcher).iter().map(|m| m.id()).collect();
        assert_eq!(there, [a.id()], "seed {seed}");
        assert!(group.join(&b) && group.join(&c));
        assert!(!group.join(&b));
        assert_eq!(group.len(), 3);
        assert_eq!(group.broadcast(&7).unwrap(), 3);
        assert!(group.leave(&b));
        assert!(!group.leave(&b));
        c.kill();
        node.settle();
        assert!(!group.join(&c), "it has ended");
        let members: Vec<_> = group.members().iter().map(|m| m.id()).collect();
        assert_eq!(members, [a.id()], "seed {seed}");
        let told: Vec<_> = log
            .lock()
            .unwrap()
            .iter()
            .map(|(n, w)| format!("{n} {w}"))
            .collect();
        let expected = ["b joined", "c joined", "b left", "c ended: killed"];
        assert_eq!(told, expected, "seed {seed}");
        assert!(group.unwatch(&watcher));
        assert!(!group.unwatch(&watcher));
        a.stop();
        b.stop();
        node.settle();
        assert_eq!(log.lock().unwrap().len(), 4);
        assert!(group.is_empty());
        assert_eq!(group.broadcast(&7).unwrap(), 0);
    }
}

/// The members at the moment of the watch, with what was told since, are the members: whoever joined, left or ended meanwhile.
#[test]
fn what_a_watcher_knows_is_what_the_group_is_whatever_goes_on_meanwhile() {
    for seed in 0..100 {
        let node = simulated(seed);
        let place = Where::of(seed, &node);
        let members: Vec<_> = (0..6).map(|n| member(&place, &format!("m{n}"))).collect();
        for (n, address) in members.iter().enumerate() {
            let address = address.clone();
            let join = closure(move |(): (), cx| {
                let group = cx.runtime().group::<u32>("group").unwrap();
                group.join(&address);
                match n % 3 {
                    0 => assert!(group.leave(&address) || address.is_closed()),
                    1 => address.stop(),
                    _ => {}
                }
                if n == 3 {
                    group.join(&address);
                }
            });
            let name = format!("joins {n}");
            node.spawn_thread(&name, join).unwrap().send(()).unwrap();
        }
        let log = Log::default();
        let watcher = place.spawn("watcher", Watches(log.clone()));
        let known: Arc<Mutex<BTreeSet<Name>>> = Arc::default();
        let (knows, watches) = (known.clone(), watcher.clone());
        let begin = closure(move |(): (), cx| {
            let group = cx.runtime().group::<u32>("group").unwrap();
            let there = group.watch(&watches);
            knows
                .lock()
                .unwrap()
                .extend(there.iter().map(|m| m.name().clone()));
        });
        node.spawn_thread("begins", begin)
            .unwrap()
            .send(())
            .unwrap();
        node.settle();
        let mut known = known.lock().unwrap().clone();
        for (name, what) in log.lock().unwrap().iter() {
            match what.as_str() {
                "joined" => assert!(known.insert(name.clone()), "seed {seed}: twice"),
                _ => assert!(known.remove(name), "seed {seed}: was not there"),
            }
        }
        let group = node.group::<u32>("group").unwrap();
        let is: BTreeSet<_> = group.members().iter().map(|m| m.name().clone()).collect();
        assert_eq!(known, is, "seed {seed}");
        assert_eq!(is.len(), 3, "seed {seed}: {is:?}");
    }
}

#[test]
fn a_group_is_one_by_its_name_and_has_one_type() {
    let node = simulated(1);
    let place = Where::Own(node.clone());
    let a = member(&place, "a");
    // The group stays although nobody has a handle of it: somebody is in it.
    assert!(node.group("g").unwrap().join(&a));
    for n in 0..100 {
        let _unused = node.group::<u8>(&format!("unused {n}")).unwrap();
    }
    assert_eq!(node.group::<u32>("g").unwrap().members()[0].id(), a.id());
    let conflict = node.group::<String>("g").unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::TypeConflict);
    assert!(conflict.to_string().contains("u32"), "{conflict}");
    assert_eq!(
        node.group::<u8>("").unwrap_err().kind(),
        ErrorKind::InvalidName
    );
    // Processors have names of their own.
    assert!(node.group::<u8>("a").is_ok());
}

#[test]
fn a_member_that_panics_leaves_with_its_exit() {
    struct Fragile;
    impl Processor for Fragile {}
    impl Handle<u32> for Fragile {
        type Reply = ();
        fn handle(&mut self, n: u32, _: &mut Cx<'_, Self>) -> Outcome<()> {
            assert_ne!(n, 13);
            Ok(())
        }
    }
    let node = simulated(1);
    let log = Log::default();
    let watcher = node.spawn_thread("watcher", Watches(log.clone())).unwrap();
    let group = node.group::<u32>("group").unwrap();
    group.watch(&watcher);
    let fragile = node.spawn_thread("fragile", Fragile).unwrap();
    group.join(&fragile);
    assert_eq!(group.broadcast(&13).unwrap(), 1);
    node.settle();
    assert!(matches!(fragile.exit(), Some(Exit::Panicked(_))));
    assert!(log.lock().unwrap()[1].1.starts_with("ended: panicked"));
    assert!(group.is_empty());
}

#[test]
fn a_watcher_that_has_ended_is_told_nothing_and_the_others_are() {
    for seed in 0..20 {
        let node = simulated(seed);
        let place = Where::of(seed, &node);
        let (gone, stays) = (Log::default(), Log::default());
        let ends = place.spawn("ends", Watches(gone.clone()));
        let watches = place.spawn("watches", Watches(stays.clone()));
        let group = node.group::<u32>("group").unwrap();
        group.watch(&ends);
        group.watch(&watches);
        group.watch(&watches);
        ends.stop();
        node.settle();
        group.join(&member(&place, "a"));
        node.settle();
        assert!(gone.lock().unwrap().is_empty());
        assert_eq!(stays.lock().unwrap().len(), 1, "seed {seed}");
    }
}
