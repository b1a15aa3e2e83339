//! What reaches a driver from outside its process, played by a queue with a lock and a condition.

use mproc::{Address, Closure, Cx, Handle, Idle, Node, Options, Outcome, Processor, Spun, closure};
use mproc_runtime::{LaneBell, LaneSource, Outside};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

const S: Duration = Duration::from_secs(1);

/// Stands for the memory that processes share, and the driver's end of it.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    /// Wakes the driver's thread.
    bell: Condvar,
    /// Tells the test that `state.asleep` has changed.
    told: Condvar,
    lane: Mutex<Option<Arc<Queue>>>,
}

#[derive(Default)]
struct State {
    /// What others have put, and the driver has not found yet.
    mail: VecDeque<u64>,
    /// A sleep was announced, and nobody has rung since.
    announced: bool,
    /// The thread sleeps. What it was told about the end of its sleep.
    asleep: Option<Option<Instant>>,
    /// How often it was told to sleep.
    sleeps: u64,
}

/// The queue of a lane.
struct Queue {
    /// The items, and whether the bell was rung for them.
    items: Mutex<(VecDeque<u64>, bool)>,
    bell: LaneBell,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What another process does.
    fn put(&self, n: u64) {
        self.state().mail.push_back(n);
        self.ring();
    }

    /// Waits until the driver's thread sleeps here. Returns until when it means to.
    fn wait_until_asleep(&self) -> Option<Instant> {
        let state = self.state();
        let awake = |state: &mut State| state.asleep.is_none();
        let (state, waited) = self.told.wait_timeout_while(state, 20 * S, awake).unwrap();
        assert!(!waited.timed_out(), "the driver does not sleep outside");
        state.asleep.unwrap()
    }
}

impl Outside for Gate {
    fn look(&self) -> bool {
        let mail = std::mem::take(&mut self.state().mail);
        if mail.is_empty() {
            return false;
        }
        let lane = self.lane.lock().unwrap().clone();
        if let Some(lane) = lane {
            let mut items = lane.items.lock().unwrap();
            items.0.extend(mail);
            let ring = !std::mem::replace(&mut items.1, true);
            drop(items);
            if ring {
                lane.bell.ring();
            }
        }
        true
    }

    fn sleep(&self, until: Option<Instant>, stay_awake: &mut dyn FnMut() -> bool) {
        {
            let mut state = self.state();
            state.announced = true;
            state.sleeps += 1;
        }
        if stay_awake() {
            self.state().announced = false;
            return;
        }
        let mut state = self.state();
        // News that came after the look were followed by a ring, or will be.
        while state.announced {
            state.asleep = Some(until);
            self.told.notify_all();
            state = match until {
                None => self.bell.wait(state).unwrap(),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.bell.wait_timeout(state, left).unwrap().0
                }
            };
        }
        state.announced = false;
        state.asleep = None;
    }

    fn ring(&self) {
        self.state().announced = false;
        self.bell.notify_all();
    }
}

/// What a processor was told, and on which thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Started(ThreadId),
    Outside(u64, ThreadId),
    Local(u64, ThreadId),
    Timer(ThreadId),
    Asks,
}

/// Says what it is told, by the lane and otherwise.
struct Member {
    gate: Arc<Gate>,
    tell: Sender<Told>,
}

impl Member {
    fn tell(&self, told: Told) {
        // A test that has seen enough has let go of the other end.
        let _gone = self.tell.send(told);
    }
}

struct FromOutside {
    gate: Arc<Gate>,
    queue: Arc<Queue>,
}

impl LaneSource<Member> for FromOutside {
    fn serve(&mut self, member: &mut Member, _cx: &mut Cx<'_, Member>) -> bool {
        let next = {
            let mut items = self.queue.items.lock().unwrap();
            let next = items.0.pop_front();
            items.1 = next.is_some();
            next
        };
        if let Some(n) = next {
            member.tell(Told::Outside(n, thread::current().id()));
        }
        next.is_some()
    }

    fn head(&self) -> Option<u64> {
        None
    }

    fn item_type(&self) -> fn() -> &'static str {
        std::any::type_name::<u64>
    }

    fn drain(&mut self) {}

    fn end(&mut self) {
        *self.gate.lane.lock().unwrap() = None;
    }
}

impl Processor for Member {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let gate = self.gate.clone();
        cx.add_lane(|bell| {
            let outside = bell.outside(|| Some(gate.clone())).unwrap();
            assert!(bell.outside(|| panic!("there is one")).is_some());
            drop(outside);
            let queue = Arc::new(Queue {
                items: Mutex::default(),
                bell,
            });
            *gate.lane.lock().unwrap() = Some(queue.clone());
            Box::new(FromOutside { gate, queue })
        });
        self.tell(Told::Started(thread::current().id()));
        Ok(())
    }
}

impl Handle<u64> for Member {
    type Reply = ();
    fn handle(&mut self, n: u64, _cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.tell(Told::Local(n, thread::current().id()));
        Ok(())
    }
}

/// Sets a timer.
struct In(Duration);

impl Handle<In> for Member {
    type Reply = ();
    fn handle(&mut self, delay: In, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.after_with(delay.0, |me, _| {
            me.tell(Told::Timer(thread::current().id()));
        });
        Ok(())
    }
}

/// Asks somebody who takes long. The reply: how often the thread slept outside meanwhile.
struct Ask(Address<Closure<(), ()>>);

impl Handle<Ask> for Member {
    type Reply = u64;
    fn handle(&mut self, slow: Ask, _cx: &mut Cx<'_, Self, u64>) -> Outcome<u64> {
        let before = self.gate.state().sleeps;
        self.tell(Told::Asks);
        slow.0.call(()).wait()?;
        Ok(self.gate.state().sleeps - before)
    }
}

/// A member on one kind of driver.
struct Scene {
    node: Node,
    gate: Arc<Gate>,
    member: Address<Member>,
    told: Receiver<Told>,
    thread: ThreadId,
    script: Option<thread::JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Own,
    Shared,
    Script,
}

const KINDS: [Kind; 3] = [Kind::Own, Kind::Shared, Kind::Script];

impl Scene {
    fn new(kind: Kind, idle: Idle) -> Self {
        let node = Node::with_options(Options::default().idle(idle).call_limit(60 * S));
        let gate = Arc::new(Gate::default());
        let (tell, told) = channel();
        let processor = Member {
            gate: gate.clone(),
            tell,
        };
        let mut script = None;
        let member = match kind {
            Kind::Own => node.spawn_thread("member", processor).unwrap(),
            Kind::Shared => {
                let driver = node.driver("shared").unwrap();
                driver.spawn("member", processor).unwrap()
            }
            Kind::Script => {
                let (give, given) = channel();
                let node = node.clone();
                script = Some(thread::spawn(move || {
                    let mut script = node.script().unwrap();
                    give.send(script.spawn("member", processor).unwrap())
                        .unwrap();
                    while script.spin_once(3600 * S).unwrap() != Spun::Shutdown {}
                    let _report = script.spin();
                }));
                given.recv().unwrap()
            }
        };
        let Told::Started(thread) = told.recv_timeout(20 * S).unwrap() else {
            panic!("it starts first");
        };
        assert_ne!(thread, thread::current().id());
        Self {
            node,
            gate,
            member,
            told,
            thread,
            script,
        }
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(20 * S).expect("it is told nothing")
    }

    /// Ends the node, after which nothing is left of the driver and what it held.
    fn end(mut self) {
        let report = self.node.shutdown(20 * S);
        assert!(report.is_clean(), "{report}");
        if let Some(script) = self.script.take() {
            script.join().unwrap();
        }
        let gate = Arc::downgrade(&self.gate);
        drop(self);
        assert!(gate.upgrade().is_none(), "somebody still holds the gate");
    }
}

#[test]
fn a_driver_that_sleeps_outside_is_woken_from_there_and_serves_the_lane_on_its_own_thread() {
    for kind in KINDS {
        let scene = Scene::new(kind, Idle::default());
        for n in 0..10 {
            scene.gate.wait_until_asleep();
            scene.gate.put(n);
            assert_eq!(scene.next(), Told::Outside(n, scene.thread), "{kind:?}");
        }
        scene.end();
    }
}

#[test]
fn a_driver_that_sleeps_outside_is_woken_by_messages_from_its_own_process() {
    for kind in KINDS {
        let scene = Scene::new(kind, Idle::default());
        for n in 0..10 {
            scene.gate.wait_until_asleep();
            scene.member.send(n).unwrap();
            assert_eq!(scene.next(), Told::Local(n, scene.thread), "{kind:?}");
        }
        scene.end();
    }
}

#[test]
fn timers_end_a_sleep_outside() {
    for kind in KINDS {
        let scene = Scene::new(kind, Idle::default());
        scene.member.send(In(S / 100)).unwrap();
        assert_eq!(scene.next(), Told::Timer(scene.thread), "{kind:?}");
        // Far enough away to find it asleep.
        scene.member.call(In(1800 * S)).wait().unwrap();
        let asleep_until = scene.gate.wait_until_asleep().unwrap();
        assert!(asleep_until <= Instant::now() + 1800 * S, "{kind:?}");
        scene.end();
    }
}

#[test]
fn the_end_of_the_node_wakes_a_driver_that_sleeps_outside() {
    for kind in KINDS {
        let scene = Scene::new(kind, Idle::Park);
        scene.gate.wait_until_asleep();
        scene.end();
    }
}

#[test]
fn a_driver_that_never_sleeps_finds_what_comes_from_outside() {
    for kind in KINDS {
        let scene = Scene::new(kind, Idle::Spin);
        for n in 0..10 {
            scene.gate.put(n);
            assert_eq!(scene.next(), Told::Outside(n, scene.thread), "{kind:?}");
        }
        scene.end();
    }
}

#[test]
fn nothing_is_lost_when_messages_and_news_come_at_once() {
    const ROUNDS: u64 = 5_000;
    for kind in KINDS {
        for idle in [Idle::Park, Idle::SpinThenPark] {
            let scene = Scene::new(kind, idle);
            // Each waits for its last one to be told, so that the driver goes to sleep again and again, in all orders.
            let (saw_local, local) = channel();
            let (saw_outside, outside) = channel();
            thread::scope(|threads| {
                threads.spawn(|| {
                    for n in 0..ROUNDS {
                        scene.member.send(n).unwrap();
                        assert_eq!(local.recv_timeout(20 * S), Ok(n), "{kind:?} {idle:?}");
                    }
                    drop(local);
                });
                threads.spawn(|| {
                    for n in 0..ROUNDS {
                        scene.gate.put(n);
                        assert_eq!(outside.recv_timeout(20 * S), Ok(n), "{kind:?} {idle:?}");
                    }
                    drop(outside);
                });
                for _ in 0..2 * ROUNDS {
                    let seen = match scene.next() {
                        Told::Local(n, _) => saw_local.send(n),
                        Told::Outside(n, _) => saw_outside.send(n),
                        told => panic!("told {told:?}"),
                    };
                    seen.unwrap();
                }
            });
            scene.end();
        }
    }
}

#[test]
fn a_thread_with_two_scripts_is_woken_in_either_of_their_sleeps() {
    let gates = [Arc::new(Gate::default()), Arc::new(Gate::default())];
    let (tell, told) = channel();
    let (give, given) = channel();
    let ours = gates.clone();
    let scripts = thread::spawn(move || {
        let node = Node::with_options(Options::default().idle(Idle::Park));
        let mut scripts = ours.map(|gate| {
            let mut script = node.script().unwrap();
            let name = format!("member {:p}", Arc::as_ptr(&gate));
            let tell = tell.clone();
            let member = script.spawn(&name, Member { gate, tell }).unwrap();
            give.send(member).unwrap();
            assert_eq!(script.spin_once(Duration::ZERO).unwrap(), Spun::Idle);
            script
        });
        for _ in 0..10 {
            for script in &mut scripts {
                // Once by what came from outside, once by a message.
                assert_eq!(script.spin_once(20 * S).unwrap(), Spun::Ran);
                assert_eq!(script.spin_once(20 * S).unwrap(), Spun::Ran);
            }
        }
    });
    let members = [given.recv().unwrap(), given.recv().unwrap()];
    let next = || told.recv_timeout(20 * S).unwrap();
    let thread = scripts.thread().id();
    assert_eq!([next(), next()], [Told::Started(thread); 2]);
    for n in 0..10 {
        for (gate, member) in gates.iter().zip(&members) {
            gate.wait_until_asleep();
            gate.put(n);
            assert_eq!(next(), Told::Outside(n, thread));
            gate.wait_until_asleep();
            member.send(n).unwrap();
            assert_eq!(next(), Told::Local(n, thread));
        }
    }
    scripts.join().unwrap();
}

#[test]
fn a_wait_inside_a_handler_is_not_spent_outside() {
    let scene = Scene::new(Kind::Own, Idle::Park);
    let (release, released) = channel::<()>();
    let slow = closure(move |(): (), _cx| released.recv().unwrap());
    let slow = scene.node.spawn_thread("slow", slow).unwrap();
    scene.gate.wait_until_asleep();
    let mut asked = scene.member.call(Ask(slow));
    asked.begin();
    assert_eq!(scene.next(), Told::Asks);
    scene.gate.put(1);
    release.send(()).unwrap();
    assert_eq!(asked.wait().unwrap(), 0, "sleeps outside while it asked");
    assert_eq!(scene.next(), Told::Outside(1, scene.thread));
    scene.end();
}

#[test]
fn nothing_reaches_a_simulated_node_from_outside() {
    struct Alone;
    impl Processor for Alone {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.add_lane(|bell| {
                assert!(bell.outside(|| panic!("it is not made")).is_none());
                struct Empty;
                impl LaneSource<Alone> for Empty {
                    fn serve(&mut self, _: &mut Alone, _: &mut Cx<'_, Alone>) -> bool {
                        false
                    }
                    fn head(&self) -> Option<u64> {
                        None
                    }
                    fn item_type(&self) -> fn() -> &'static str {
                        std::any::type_name::<()>
                    }
                    fn drain(&mut self) {}
                    fn end(&mut self) {}
                }
                Box::new(Empty)
            });
            Ok(())
        }
    }
    let node = Node::simulated(1);
    let alone = node.spawn_thread("alone", Alone).unwrap();
    node.settle();
    assert_eq!(alone.snapshot().ended, None);
}
