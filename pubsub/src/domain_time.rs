//! Domain time: one clock for all nodes of a domain, driven by a topic.
//!
//! Whoever drives it publishes on [`CLOCK`] how time goes *from now on*: what it shows, at which rate, whether it is paused. Each
//! node computes the time from that and its own steady clock, so no message per tick is needed, and nothing wakes while it is
//! paused. The topic keeps the last value for those who come later.
//!
//! | a node                             | has                                                                                  |
//! |------------------------------------|--------------------------------------------------------------------------------------|
//! | that drives                        | a publisher, as long as its [`DomainTime`] lives; its own clock it changes directly   |
//! | of a domain, that reads the clock  | a processor on a thread of its own that hears the others, asleep but when time changes |
//! | of no domain, or simulated         | neither listener nor thread                                                          |
//!
//! # Who may
//!
//! One at a time. Within a node that is known at once. A node of a domain listens for a moment before it begins
//! ([`LISTENS`]), and is refused if it hears that another drives. Two that begin at the same moment may miss each other; then
//! each hears the other a moment later, and both decide alike: who began first goes on (by wall time, then by number), and the
//! other's handle refuses from there on. Changes carry the number of who makes them, so that one who has lost it and does not know
//! yet changes nothing ([`ClockSetter`]).
//!
//! # How it ends
//!
//! Whoever drives says so before it goes. If its process dies, its publisher is gone, which the node's events tell.

mod heard;

use self::heard::{Act, Heard};
use crate::events::{EVENTS, Event};
use crate::forked::{Origin, forked};
use crate::graph::Graph;
use crate::processors::Topics as _;
use crate::publisher::{Publisher, PublisherOptions};
use crate::topic::Topic;
use mproc_runtime::{
    Clock, ClockSetter, Error, ErrorKind, Runtime, Setting, Time, WhenFull, closure,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How domain time goes, told by whoever drives it at each change.
///
/// Programs read the clock ([`domain_clock`]) and need not listen to this. A recorder may.
pub const CLOCK: Topic<ClockState> = Topic::plain("clock");

/// What is published on [`CLOCK`].
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ClockState {
    /// What the clock showed when this was published, in nanoseconds.
    pub time_ns: u64,
    /// How many seconds go by in a second of steady time, unless it is paused.
    pub rate: f64,
    /// When whoever drives it began: nanoseconds of wall time since 1970.
    pub since_ns: u64,
    /// Who drives it: a number that no other has.
    pub driver: u64,
    /// How often it was set or stepped since then.
    pub moves: u64,
    /// Which change since then this is.
    pub sequence: u64,
    /// The process of whoever drives it.
    pub process: u32,
    /// 0: it goes. 1: it is paused. 2: nobody drives it from here on.
    pub state: u16,
    /// 1 if whoever drives it began by saying what time it is, so that what clocks showed before means nothing; else 0.
    pub begun: u16,
}

const RUNS: u16 = 0;
const PAUSED: u16 = 1;
const ENDED: u16 = 2;

/// For how long a node of a domain listens whether another drives, before it does.
const LISTENS: Duration = Duration::from_millis(250);

impl ClockState {
    /// True while time stands still.
    pub fn is_paused(&self) -> bool {
        self.state != RUNS
    }

    fn setting(&self) -> Setting {
        Setting {
            time: Time::from_nanos(self.time_ns),
            rate: self.rate,
            paused: self.is_paused(),
            moves: self.moves,
            begun: self.begun != 0,
            sequence: self.sequence,
        }
    }

    /// Who is first comes first.
    fn order(&self) -> (u64, u64) {
        (self.since_ns, self.driver)
    }
}

/// The domain time of one node.
struct Shared {
    setter: ClockSetter,
    runtime: Runtime,
    state: Mutex<State>,
    origin: Origin,
}

#[derive(Default)]
struct State {
    /// Since when it listens to others.
    listens: Option<Instant>,
    /// What was heard of other nodes that drive.
    heard: Heard,
    /// Told when something is heard.
    waiting: Vec<Waker>,
    driving: Option<Arc<Driving>>,
}

/// This node drives.
struct Driving {
    since_ns: u64,
    driver: u64,
    publisher: Publisher<ClockState>,
    outgoing: Mutex<Outgoing>,
    /// The process that had begun before, if that was heard too late.
    lost_to: Mutex<Option<u32>>,
}

#[derive(Default)]
struct Outgoing {
    queue: VecDeque<ClockState>,
    /// Some thread is publishing: it takes what is queued meanwhile.
    busy: bool,
    /// The sequence of what was published last.
    last: u64,
}

/// The clock of the node's domain: what whoever drives it says. It shows zero, and stands, until somebody does.
///
/// In a domain the node listens from now on; then the first call makes a thread, and blocks until that has subscribed.
///
/// # Errors
///
/// [`ErrorKind::TypeConflict`] if the program has another topic called `clock`; [`ErrorKind::Closed`] if the node has ended;
/// [`ErrorKind::Io`] if the system gives no thread; [`ErrorKind::Timeout`] if the thread has not subscribed within the node's
/// limit; else as [`Graph::subscription`].
pub fn domain_clock(node: &Runtime) -> Result<Clock, Error> {
    let shared = Shared::of(node);
    shared.listen()?;
    Ok(shared.setter.clock().clone())
}

/// Drives the domain's time from now on, until what this returns is dropped. Time stands still, at what the clock shows, until
/// it is [resumed](DomainTime::resume).
///
/// A node of a domain first listens for a quarter of a second whether another node drives.
///
/// # Errors
///
/// [`ErrorKind::Refused`], naming who, if somebody drives it already; else as [`domain_clock`].
pub fn drive_time(node: &Runtime) -> Result<DomainTime, Error> {
    let shared = Shared::of(node);
    let listens = shared.listen()?;
    if let Some(since) = listens {
        // Waits no longer than until something is heard.
        let _heard = node.block_until(since.checked_add(LISTENS), |waker| {
            let mut state = shared.state.lock();
            if state.heard.followed().is_some() {
                return Some(());
            }
            if !state.waiting.iter().any(|w| w.will_wake(waker)) {
                state.waiting.push(waker.clone());
            }
            None
        });
    }
    shared.refuse_second()?;
    let graph = Graph::of(node);
    let options = PublisherOptions::new().history(1);
    let driving = Arc::new(Driving {
        since_ns: node.wall_clock().now().as_nanos(),
        driver: next_driver(),
        publisher: graph.publisher_with(node, &CLOCK, options)?,
        outgoing: Mutex::default(),
        lost_to: Mutex::default(),
    });
    {
        let mut state = shared.state.lock();
        shared.refuse_second_in(&state)?;
        state.driving = Some(driving.clone());
    }
    let time = DomainTime { shared, driving };
    let begun = time.shared.setter.begin(time.driving.driver);
    // Somebody who had begun before may have been heard meanwhile, and what was heard is undone by now.
    let heard = time.shared.state.lock().heard.followed();
    if let Some((heard, said)) = heard {
        time.shared
            .setter
            .hear(heard.driver, &heard.setting(), said);
    }
    time.tell(begun)?;
    Ok(time)
}

/// A number that nobody else on this host has.
fn next_driver() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: only uniqueness is wanted.
    u64::from(std::process::id()) << 32 | (NEXT.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff)
}

impl Shared {
    fn of(node: &Runtime) -> Arc<Self> {
        let make = || Self {
            setter: ClockSetter::of(node),
            runtime: node.without_guard(),
            state: Mutex::default(),
            origin: Origin::now(),
        };
        if node.has_ended() {
            // It has let go of what it kept: what it kept now would keep it.
            return Arc::new(make());
        }
        node.extension(make)
    }

    fn check_here(&self, cannot: &str) -> Result<(), Error> {
        self.origin.check().map_err(|_| forked(cannot))
    }

    fn refuse_second(&self) -> Result<(), Error> {
        self.refuse_second_in(&self.state.lock())
    }

    fn refuse_second_in(&self, state: &State) -> Result<(), Error> {
        let who = match (&state.driving, state.heard.followed()) {
            (Some(_), _) => "this node".to_owned(),
            (None, Some((heard, _))) => format!("process {}", heard.process),
            (None, None) => return Ok(()),
        };
        Err(refused(&who))
    }

    /// Listens to other nodes from now on. Returns since when it does, `None` if there can be no others.
    fn listen(self: &Arc<Self>) -> Result<Option<Instant>, Error> {
        self.check_here("cannot follow domain time")?;
        let node = &self.runtime;
        let graph = Graph::of(node);
        if graph.domain().is_none() || node.is_simulated() {
            return Ok(None);
        }
        {
            let mut state = self.state.lock();
            if let Some(since) = state.listens {
                return Ok(Some(since));
            }
            state.listens = Some(node.now());
        }
        let listens = self.make_listener(&graph);
        let mut state = self.state.lock();
        match listens {
            Ok(()) => {
                let since = node.now();
                state.listens = Some(since);
                Ok(Some(since))
            }
            Err(error) => {
                state.listens = None;
                Err(error)
            }
        }
    }

    fn make_listener(self: &Arc<Self>, graph: &Arc<Graph>) -> Result<(), Error> {
        let node = &self.runtime;
        graph.publish_events(node)?;
        let listener = node.spawn_thread("mproc/clock", closure(|(): (), _cx| ()))?;
        let (of_states, of_events) = (Arc::downgrade(self), Arc::downgrade(self));
        let (answer, made) = crossbeam_channel::bounded(1);
        let waker = node.waker();
        listener.with_processor(move |_, cx| {
            let subscribed = (|| {
                cx.subscribe(&EVENTS)
                    .capacity(64)
                    .when_full(WhenFull::DropOldest)
                    .filter(|event| event.is_about(CLOCK.name()))
                    .call(move |_, event, _| {
                        if let (Event::PublisherUnmatched { publishers, .. }, Some(shared)) =
                            (&*event, of_events.upgrade())
                        {
                            shared.publisher_gone(*publishers);
                        }
                        Ok(())
                    })?;
                // One that is dropped is followed by another that says all.
                cx.subscribe(&CLOCK)
                    .capacity(16)
                    .when_full(WhenFull::DropOldest)
                    .call(move |_, state, _| {
                        Self::hear(&of_states, *state, state.published());
                        Ok(())
                    })
            })();
            let _gave_up = answer.send(subscribed.map(|_| ()));
            waker.wake();
        })?;
        let deadline = node.now().checked_add(node.options().wait_limit());
        let subscribed = node.block_until(deadline, |_| match made.try_recv() {
            Ok(subscribed) => Some(subscribed),
            Err(_) => listener.is_closed().then(|| {
                let text = "cannot listen to domain time: the node has ended";
                Err(Error::new(ErrorKind::Closed, text))
            }),
        });
        subscribed
            .unwrap_or_else(|| {
                let text = "cannot listen to domain time: the listener did not start";
                Err(Error::new(ErrorKind::Timeout, text))
            })
            .inspect_err(|_| listener.stop())
    }

    /// On the listener's thread, the only one that hears.
    fn hear(shared: &Weak<Self>, said: ClockState, at: Instant) {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if said.state > ENDED || !Setting::is_rate(said.rate) {
            // No node says that.
            return;
        }
        let (act, lost, waiting) = {
            let mut state = shared.state.lock();
            let lost = match &state.driving {
                // What this node has said itself, or one that will hear of it and give up.
                Some(own) if said.order() >= (own.since_ns, own.driver) => return,
                Some(_) if said.state == ENDED => return,
                Some(_) => state.driving.take(),
                None => None,
            };
            let waiting = std::mem::take(&mut state.waiting);
            (state.heard.hear((said, at)), lost, waiting)
        };
        if let Some(own) = lost {
            *own.lost_to.lock() = Some(said.process);
            own.end(&shared.setter.setting());
        }
        shared.act(act);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Somebody has died, or left without a word. On the listener's thread, too.
    fn publisher_gone(&self, left: usize) {
        let act = {
            let mut state = self.state.lock();
            // Its own publisher is one that is left.
            let left = left - usize::from(state.driving.is_some()).min(left);
            state.heard.publisher_gone(left)
        };
        self.act(act);
    }

    fn act(&self, act: Option<Act>) {
        match act {
            Some(Act::Follow((state, at))) => {
                self.setter.hear(state.driver, &state.setting(), at);
            }
            Some(Act::End(driver)) => {
                self.setter.end(driver);
            }
            None => {}
        }
    }
}

fn refused(who: &str) -> Error {
    let text = format!("cannot drive the domain's time: {who} does already");
    Error::new(ErrorKind::Refused, text)
}

/// Drives the domain's time: made by [`drive_time`]. Dropping it ends that, as [`end`](Self::end) does.
///
/// Each method returns once the node's own timers, sleeps and jump callbacks were told. Other nodes of the domain hear of it a
/// moment later.
///
/// # Errors
///
/// Each method that changes time returns [`ErrorKind::Refused`], naming the process, if another had begun to drive before, which
/// was heard only now: this handle does nothing any more. [`ErrorKind::Closed`] if the node has ended, or belongs to
/// the process from which this one was forked.
/// [`ErrorKind::Timeout`] if a subscription to [`CLOCK`] with the policy `Wait` had no room: this node's time is changed, and
/// others hear of it with the next change.
///
/// # Examples
///
/// ```
/// use mproc_pubsub::drive_time;
/// use mproc_runtime::{Runtime, Time};
/// use std::time::Duration;
///
/// let node = Runtime::simulated(1);
/// let time = drive_time(&node)?;
/// let clock = time.clock();
/// time.set(Time::from_secs(1_000))?;
/// time.rate(10.0)?;
/// time.resume()?;
/// node.advance(Duration::from_secs(2));
/// assert_eq!(clock.now(), Time::from_secs(1_020));
/// time.pause()?;
/// node.advance(Duration::from_secs(2));
/// time.step(Duration::from_millis(500))?;
/// assert_eq!(clock.now(), Time::from_millis(1_020_500));
/// assert!(drive_time(&node).is_err()); // one at a time
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
pub struct DomainTime {
    shared: Arc<Shared>,
    driving: Arc<Driving>,
}

impl DomainTime {
    /// The clock that it drives.
    pub fn clock(&self) -> Clock {
        self.shared.setter.clock().clone()
    }

    /// From now on the clock shows `time`. If that is the first change, domain time begins anew there: timers start afresh.
    ///
    /// # Errors
    ///
    /// As [`DomainTime`] says.
    pub fn set(&self, time: Time) -> Result<(), Error> {
        self.change(|setter, by| setter.set(by, time))
    }

    /// Moves the clock forward by `time`, whether it is paused or not. Timers that become due over several periods tick once,
    /// and say how many were skipped.
    ///
    /// # Errors
    ///
    /// As [`DomainTime`] says.
    pub fn step(&self, time: Duration) -> Result<(), Error> {
        self.change(|setter, by| setter.step(by, time))
    }

    /// The clock stands still. While it does nothing wakes.
    ///
    /// # Errors
    ///
    /// As [`DomainTime`] says.
    pub fn pause(&self) -> Result<(), Error> {
        self.change(|setter, by| setter.pause(by, true))
    }

    /// The clock goes, from what it shows.
    ///
    /// # Errors
    ///
    /// As [`DomainTime`] says.
    pub fn resume(&self) -> Result<(), Error> {
        self.change(|setter, by| setter.pause(by, false))
    }

    /// How many seconds go by in a second of steady time, from now on, unless it is paused: 1 at first. From a millionth to a
    /// million.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidSetting`] for a rate that time cannot have; to stop it, [`pause`](Self::pause). Else as
    /// [`DomainTime`] says.
    pub fn rate(&self, rate: f64) -> Result<(), Error> {
        if !Setting::is_rate(rate) {
            let text = format!("domain time goes at a rate from 0.000001 to 1000000, not {rate}");
            return Err(Error::new(ErrorKind::InvalidSetting, text));
        }
        self.change(|setter, by| setter.rate(by, rate))
    }

    /// Nobody drives it any more: it stands still at what it shows, and sleeps by it end. Somebody else may begin.
    pub fn end(self) {}

    fn check(&self) -> Result<(), Error> {
        self.shared.check_here("cannot drive the domain's time")?;
        if let Some(process) = *self.driving.lost_to.lock() {
            return Err(refused(&format!("process {process}")));
        }
        if self.shared.runtime.has_ended() {
            let text = "cannot drive the domain's time: the node has ended";
            return Err(Error::new(ErrorKind::Closed, text));
        }
        Ok(())
    }

    fn change(
        &self,
        change: impl FnOnce(&ClockSetter, u64) -> Option<Setting>,
    ) -> Result<(), Error> {
        self.check()?;
        self.tell(change(&self.shared.setter, self.driving.driver))
    }

    /// Tells other nodes. `None` if it was not done: another drives.
    fn tell(&self, setting: Option<Setting>) -> Result<(), Error> {
        let told = match setting {
            Some(setting) => {
                let state = if setting.paused { PAUSED } else { RUNS };
                self.driving.publish(&setting, state)
            }
            None => Err(refused("another")),
        };
        // That another drives may be known by now, and says more.
        told.or_else(|error| self.check().and(Err(error)))
    }
}

impl Driving {
    /// Publishes it after all that was told before. User code (wakers, filters) runs meanwhile, so no lock is held; what comes
    /// then, perhaps from that code, is queued for whoever publishes already.
    fn publish(&self, setting: &Setting, state: u16) -> Result<(), Error> {
        let said = ClockState {
            time_ns: setting.time.as_nanos(),
            rate: setting.rate,
            since_ns: self.since_ns,
            driver: self.driver,
            moves: setting.moves,
            sequence: setting.sequence,
            process: std::process::id(),
            state,
            begun: u16::from(setting.begun),
        };
        {
            let mut outgoing = self.outgoing.lock();
            outgoing.queue.push_back(said);
            if std::mem::replace(&mut outgoing.busy, true) {
                return Ok(());
            }
        }
        /// Also if the code of others unwinds.
        struct Over<'a>(&'a Driving);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.outgoing.lock().busy = false;
            }
        }
        let over = Over(self);
        loop {
            let next = {
                let mut outgoing = self.outgoing.lock();
                let Some(next) = outgoing.queue.pop_front() else {
                    outgoing.busy = false;
                    std::mem::forget(over);
                    return Ok(());
                };
                // Two threads may have changed the time in one order and come here in the other.
                if next.sequence < outgoing.last && next.state != ENDED {
                    continue;
                }
                outgoing.last = next.sequence;
                next
            };
            self.publisher.publish(next).map_err(Error::from)?;
        }
    }
}

impl Driving {
    /// Says that it drives no more.
    fn end(&self, last: &Setting) {
        // Whoever is not told sees that the publisher is gone.
        let _not_told = self.publish(last, ENDED);
        self.publisher.close();
    }
}

impl Drop for DomainTime {
    fn drop(&mut self) {
        if !self.shared.origin.is_here() {
            return;
        }
        let own = {
            let mut state = self.shared.state.lock();
            let is_own = |own: &Arc<Driving>| Arc::ptr_eq(own, &self.driving);
            if state.driving.as_ref().is_some_and(is_own) {
                state.driving.take()
            } else {
                None
            }
        };
        if own.is_none() {
            return;
        }
        self.shared.setter.end(self.driving.driver);
        self.driving.end(&self.shared.setter.setting());
    }
}

impl fmt::Debug for DomainTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainTime")
            .field("clock", self.shared.setter.clock())
            .finish_non_exhaustive()
    }
}
