//! Processors by key that end when they are idle.

use super::{MILLI, SECOND, busy, real, simulated};
use mproc::prelude::*;
use mproc::{CallError, Closure, ErrorKind, Keyed, KeyedError, SendError, SpawnError};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// What all sessions of a test have in common.
#[derive(Default)]
struct World {
    /// How many sessions of the one key live. Never more than one.
    alive: AtomicUsize,
    made: AtomicU64,
    handled: Mutex<Vec<u64>>,
}

struct Session(Arc<World>);
struct Note(u64);

impl Processor for Session {
    fn started(&mut self, _: &mut Cx<'_, Self>) -> Outcome<()> {
        assert_eq!(self.0.alive.fetch_add(1, SeqCst), 0, "two of one key");
        self.0.made.fetch_add(1, SeqCst);
        Ok(())
    }

    fn stopped(&mut self, _: &mproc::Exit, cx: &mut Cx<'_, Self>) {
        // Its end takes time: who comes meanwhile waits for it.
        busy(cx, MILLI / 4);
        self.0.alive.fetch_sub(1, SeqCst);
    }
}
impl Handle<Note> for Session {
    type Reply = u64;
    fn handle(&mut self, Note(n): Note, _: &mut Cx<'_, Self, u64>) -> Outcome<u64> {
        assert_eq!(self.0.alive.load(SeqCst), 1);
        self.0.handled.lock().unwrap().push(n);
        Ok(n)
    }
}

fn placed(seed: u64, node: &Node, keyed: Keyed<Session>) -> Keyed<Session> {
    match seed % 3 {
        0 => keyed,
        1 => keyed.on_driver(&node.driver("sessions").unwrap()),
        _ => keyed.on_pool(&node.pool("sessions", 2).unwrap()),
    }
}

/// Messages come just when the session has been idle for long enough: each is handled, by the old one or by a new one, and
/// there are never two.
#[test]
fn no_message_is_lost_between_the_end_of_an_idle_one_and_the_next() {
    let mut made = BTreeSet::new();
    for seed in 0..300 {
        let node = simulated(seed);
        let world = Arc::new(World::default());
        let keyed = placed(seed, &node, node.keyed("session", MILLI * 10));
        for s in 0..3_u64 {
            let (keyed, world) = (keyed.clone(), world.clone());
            let mut n = 0;
            let send = closure(move |(): (), _cx| {
                n += 1;
                let make = || Session(world.clone());
                keyed.send("a", Note(s * 1_000 + n), make)
            });
            let sender = node.spawn_thread(&format!("sender {s}"), send).unwrap();
            // All at the same moments, some of which are those of the end.
            let every = MILLI * 10 + Duration::from_micros(50 * (seed % 7));
            let clock = move |_: &mut Closure<(), ()>, cx: &mut Cx<'_, Closure<(), ()>>| {
                let tick = move |me: &mut Closure<(), ()>, _, cx: &mut Cx<'_, _>| {
                    cx.handle_now(me, ());
                };
                cx.every_with(every, tick);
            };
            sender.with_processor(clock).unwrap();
        }
        node.advance(MILLI * 105);
        let sent: u64 = node
            .snapshot()
            .processors
            .iter()
            .filter(|p| p.name.starts_with("sender"))
            .map(|p| p.faults)
            .sum();
        assert_eq!(sent, 0, "seed {seed}: a send has failed");
        node.advance(SECOND);
        let handled = world.handled.lock().unwrap().clone();
        let distinct: BTreeSet<_> = handled.iter().collect();
        assert_eq!(distinct.len(), handled.len(), "seed {seed}");
        for s in 0..3 {
            let its: Vec<_> = handled.iter().filter(|n| **n / 1_000 == s).collect();
            assert!(its.is_sorted(), "seed {seed}: {its:?}");
            let last = **its.last().unwrap() % 1_000;
            assert_eq!(its.len() as u64, last, "seed {seed}: {its:?}");
        }
        assert_eq!(node.snapshot().dead_letters, 0, "seed {seed}");
        made.insert(world.made.load(SeqCst));
    }
    // The race was run: in some worlds it lived through, in others it was made again and again.
    assert!(made.len() > 3, "{made:?}");
}

/// Whoever keeps an old address gets the message back, or it is handled.
#[test]
fn an_old_address_gives_the_message_back_or_it_is_handled() {
    let (mut back, mut kept) = (0, 0);
    for seed in 0..200 {
        let node = simulated(seed);
        let world = Arc::new(World::default());
        let keyed = placed(seed, &node, node.keyed("session", MILLI * 10));
        let address = keyed.get_or_spawn("a", || Session(world.clone())).unwrap();
        let late = closure(move |n: u64, cx| {
            busy(cx, MILLI * 10);
            match n % 2 {
                0 => Ok::<_, std::fmt::Error>(address.send(Note(n)).is_ok()),
                _ => match address.call(Note(n)).wait() {
                    Ok(_) => Ok(true),
                    Err(CallError::Stopped(_)) => Ok(false),
                    Err(other) => panic!("{other}"),
                },
            }
        });
        let late = node.spawn_thread("late", late).unwrap();
        let taken = late.call(seed).wait().unwrap();
        node.settle();
        let handled = world.handled.lock().unwrap().len();
        assert_eq!(handled, usize::from(taken), "seed {seed}");
        assert_eq!(node.snapshot().dead_letters, 0, "seed {seed}");
        *(if taken { &mut kept } else { &mut back }) += 1;
    }
    assert!(back > 10 && kept > 10, "{back} {kept}");
}

#[test]
fn an_idle_one_ends_and_its_name_is_free_and_one_that_is_used_does_not() {
    for seed in 0..9 {
        let node = simulated(seed);
        let world = Arc::new(World::default());
        let keyed = placed(seed, &node, node.keyed("session", SECOND));
        let make = || Session(world.clone());
        let first = keyed.get_or_spawn(7, make).unwrap();
        assert_eq!(first.name().as_str(), "session/7");
        assert_eq!(node.lookup::<Session>("session/7").unwrap(), first);
        for n in 0..10 {
            node.advance(SECOND / 2);
            assert_eq!(keyed.get_or_spawn(7, make).unwrap(), first);
            first.send(Note(n)).unwrap();
        }
        node.advance(SECOND * 2);
        assert!(first.exit().unwrap().is_orderly());
        assert_eq!(keyed.find(7), None);
        let gone = node.lookup::<Session>("session/7").unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        let Err(SendError::Closed(Note(1))) = first.send(Note(1)) else {
            panic!("it has ended");
        };
        assert_ne!(keyed.get_or_spawn(7, make).unwrap(), first);
        node.settle();
        assert_eq!(world.made.load(SeqCst), 2);
    }
}

/// Neither a permit, nor what is set aside, nor a call under way is silence.
#[test]
fn one_for_which_something_waits_is_not_idle() {
    struct Waits {
        other: Recipient<(), ()>,
        got: u32,
    }
    use mproc::Recipient;
    struct Ask;
    struct Aside;
    impl Processor for Waits {}
    impl Handle<Ask> for Waits {
        type Reply = ();
        fn handle(&mut self, _: Ask, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            let reply = self.other.call(()).limit(SECOND * 60);
            reply.then(cx, |me, reply, _| {
                reply?;
                me.got += 1;
                Ok(())
            });
            Ok(())
        }
    }
    impl Handle<Aside> for Waits {
        type Reply = ();
        fn handle(&mut self, aside: Aside, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.stash(aside)?
        }
    }
    for seed in 0..9 {
        let node = simulated(seed);
        let slow = closure(|(): (), cx: &mut Cx<'_, _>| busy(cx, SECOND * 10));
        let slow = node.spawn_thread("slow", slow).unwrap();
        let keyed = node.keyed::<Waits>("waits", SECOND);
        let make = || Waits {
            other: slow.recipient(),
            got: 0,
        };
        let asks = keyed.get_or_spawn("asks", make).unwrap();
        asks.send(Ask).unwrap();
        let held = keyed.get_or_spawn("held", make).unwrap();
        let permit = held.reserve().wait().unwrap();
        let aside = keyed.get_or_spawn("aside", make).unwrap();
        aside.send(Aside).unwrap();
        node.advance(SECOND * 9);
        assert!(keyed.find("asks").is_some(), "seed {seed}");
        assert!(keyed.find("held").is_some(), "seed {seed}");
        node.advance(SECOND * 4);
        assert!(keyed.find("asks").is_none(), "seed {seed}");
        assert!(keyed.find("held").is_some(), "seed {seed}");
        drop(permit);
        node.advance(SECOND * 2);
        assert!(keyed.find("held").is_none(), "seed {seed}");
        assert!(keyed.find("aside").is_some(), "seed {seed}");
    }
}

#[test]
fn what_cannot_be_spawned_gives_the_message_back() {
    let node = simulated(1);
    let world = Arc::new(World::default());
    let keyed = node.keyed::<Session>("session", SECOND);
    let make = || Session(world.clone());
    let refused = keyed.send("a\nb", Note(1), make).unwrap_err();
    assert!(matches!(
        refused,
        KeyedError::Spawn(SpawnError::Name(_), Note(1))
    ));
    assert_eq!(refused.into_inner().0, 1);
    // The name belongs to something else.
    node.spawn_thread("session/other", closure(|_: u8, _cx| ()))
        .unwrap();
    let refused = keyed.send("other", Note(2), make).unwrap_err();
    assert!(matches!(
        refused,
        KeyedError::Spawn(SpawnError::NameTaken(_), Note(2))
    ));
    assert!(node.shutdown(SECOND).is_clean());
    let refused = keyed.send("late", Note(3), make).unwrap_err();
    assert!(matches!(
        refused,
        KeyedError::Spawn(SpawnError::Closed(_), Note(3))
    ));
}

#[test]
fn real_threads_find_one_processor_of_a_key_and_lose_nothing() {
    let node = real();
    let world = Arc::new(World::default());
    // So short that it ends again and again.
    let keyed = node.keyed::<Session>("session", Duration::from_micros(50));
    std::thread::scope(|scope| {
        for s in 0..3_u64 {
            let (keyed, world) = (&keyed, &world);
            scope.spawn(move || {
                for n in 0..300 {
                    let make = || Session(world.clone());
                    keyed.send("a", Note(s * 1_000 + n), make).unwrap();
                }
            });
        }
    });
    assert!(node.shutdown(SECOND * 5).is_clean());
    assert_eq!(world.handled.lock().unwrap().len(), 900);
    assert_eq!(node.snapshot().dead_letters, 0);
}
