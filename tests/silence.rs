//! `Cx::receive_timeout`: a processor is told when nothing came for a while.

use mproc::prelude::*;
use mproc::{Tick, TimerId};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const S: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);
const SAMPLES: Topic<u32> = Topic::new("samples");

/// Writes down when it was told of silence.
struct Listener {
    told: Arc<Mutex<Vec<Instant>>>,
    timer: Option<TimerId>,
}

struct Silence;
/// Keeps the handler for so long.
struct Busy(Duration);
struct Sampled;
type Change = fn(&mut Cx<'_, Listener>, TimerId);

impl Processor for Listener {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.timer = Some(cx.receive_timeout(LIMIT, || Silence));
        cx.subscribe(&SAMPLES).map(|_| Sampled)?;
        Ok(())
    }
}

impl Handle<Silence> for Listener {
    type Reply = ();
    fn handle(&mut self, _: Silence, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.told.lock().unwrap().push(cx.now());
        Ok(())
    }
}

impl Handle<Busy> for Listener {
    type Reply = ();
    fn handle(&mut self, Busy(time): Busy, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let (node, until) = (cx.runtime(), cx.now() + time);
        while node.now() < until {
            node.park(Some(until));
        }
        Ok(())
    }
}

impl Handle<Sampled> for Listener {
    type Reply = ();
    fn handle(&mut self, _: Sampled, _: &mut Cx<'_, Self>) -> Outcome<()> {
        Ok(())
    }
}

impl Handle<Tick> for Listener {
    type Reply = ();
    fn handle(&mut self, _: Tick, _: &mut Cx<'_, Self>) -> Outcome<()> {
        Ok(())
    }
}

impl Handle<Change> for Listener {
    type Reply = ();
    fn handle(&mut self, change: Change, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        change(cx, self.timer.unwrap());
        Ok(())
    }
}

struct Scene {
    node: Node,
    listener: Address<Listener>,
    told: Arc<Mutex<Vec<Instant>>>,
    start: Instant,
}

impl Scene {
    fn new() -> Self {
        let node = Node::simulated(1);
        let told = Arc::default();
        let listener = Listener {
            told: Arc::clone(&told),
            timer: None,
        };
        let listener = node.spawn_thread("listener", listener).unwrap();
        node.settle();
        let start = node.now();
        Self {
            node,
            listener,
            told,
            start,
        }
    }

    /// When it was told, in milliseconds since the beginning.
    fn told_ms(&self) -> Vec<u128> {
        let told = self.told.lock().unwrap();
        told.iter().map(|t| (*t - self.start).as_millis()).collect()
    }

    fn change(&self, change: Change) {
        self.listener.call(change).wait().unwrap();
    }

    /// How often its driver was busy or went to sleep.
    fn turns_and_parks(&self) -> (u64, u64) {
        let snapshot = self.node.snapshot();
        let own = snapshot
            .drivers
            .iter()
            .find(|d| d.name == "listener")
            .unwrap();
        (own.turns, own.parks)
    }
}

#[test]
fn silence_is_told_once_and_again_only_after_another_message() {
    let scene = Scene::new();
    scene.node.advance(100 * S);
    assert_eq!(scene.told_ms(), [10_000]);
    scene.listener.send(Busy(Duration::ZERO)).unwrap();
    scene.node.advance(100 * S);
    assert_eq!(scene.told_ms(), [10_000, 110_000]);
}

/// It used to look four times per limit for ever, so that a program with one such timer never slept.
#[test]
fn a_processor_that_was_told_of_silence_is_not_woken_again() {
    let scene = Scene::new();
    scene.node.advance(LIMIT);
    assert_eq!(scene.told_ms(), [10_000]);
    let before = scene.turns_and_parks();
    scene.node.advance(100_000 * S);
    assert_eq!(scene.turns_and_parks(), before);
    assert_eq!(scene.told_ms(), [10_000]);
}

#[test]
fn each_message_and_each_sample_puts_the_silence_off_to_its_limit() {
    let scene = Scene::new();
    let samples = scene.node.publisher(&SAMPLES).unwrap();
    for round in 0..10 {
        scene.node.advance(9 * S);
        if round % 2 == 0 {
            scene.listener.send(Busy(Duration::ZERO)).unwrap();
        } else {
            samples.publish(round).unwrap();
        }
    }
    // The last came at 90 s.
    scene.node.advance(9 * S + 999 * S / 1000);
    assert_eq!(scene.told_ms(), []);
    scene.node.advance(S / 1000);
    assert_eq!(scene.told_ms(), [100_000]);
}

/// Looking at messages that came must not cost a wake-up each: one per limit is enough.
#[test]
fn many_messages_cost_one_look_per_limit() {
    let woken = |listens: bool| {
        let scene = Scene::new();
        if !listens {
            scene.change(|cx, timer| assert!(cx.cancel(timer)));
        }
        let before = scene.turns_and_parks().1;
        for _ in 0..1000 {
            scene.listener.send(Busy(Duration::ZERO)).unwrap();
            scene.node.advance(S / 10);
        }
        scene.turns_and_parks().1 - before
    };
    let looks = woken(true) - woken(false);
    assert!((9..=11).contains(&looks), "{looks} in ten limits");
}

#[test]
fn silence_begins_when_a_long_handler_returns_and_not_while_messages_wait() {
    let scene = Scene::new();
    scene.listener.send(Busy(30 * S)).unwrap();
    scene.listener.send(Busy(30 * S)).unwrap();
    scene.node.advance(200 * S);
    assert_eq!(scene.told_ms(), [70_000]);
}

#[test]
fn timers_are_not_messages() {
    let scene = Scene::new();
    scene.change(|cx, _| {
        cx.every(S, |tick| tick);
    });
    scene.node.advance(100 * S);
    assert_eq!(scene.told_ms(), [10_000]);
}

#[test]
fn reset_set_period_time_until_and_cancel_work_on_silence() {
    let scene = Scene::new();
    scene.node.advance(20 * S);
    assert_eq!(scene.told_ms(), [10_000]);
    // A message puts it off; a reset lets it begin even earlier, within the handler.
    scene.change(|cx, timer| {
        assert_eq!(cx.time_until(timer), Some(LIMIT));
        assert!(cx.reset(timer));
        assert_eq!(cx.time_until(timer), Some(LIMIT));
    });
    scene.node.advance(4 * S);
    scene.change(|cx, timer| assert_eq!(cx.time_until(timer), Some(6 * S)));
    scene.node.advance(10 * S);
    assert_eq!(scene.told_ms(), [10_000, 34_000]);
    scene.change(|cx, timer| assert!(cx.set_period(timer, 2 * S)));
    scene.node.advance(10 * S);
    assert_eq!(scene.told_ms(), [10_000, 34_000, 36_000]);
    scene.change(|cx, timer| {
        assert!(cx.cancel(timer));
        assert_eq!(cx.time_until(timer), None);
    });
    scene.node.advance(100 * S);
    assert_eq!(scene.told_ms().len(), 3);
}
