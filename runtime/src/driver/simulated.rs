//! A world in which one thread runs at a time, chosen by a seed, in virtual time.
//!
//! Every driver keeps its own thread and its ordinary loop. What differs is that a thread runs only while it holds the
//! *baton*. It passes the baton on when it sleeps and at each choice point (between two messages); who gets it is drawn
//! from the seed. Handlers that block are therefore unchanged: their thread sleeps, and the others go on. Time stands
//! still while anybody can run. When all sleep, it jumps to the nearest deadline.
//!
//! | place       | meaning                                     | leaves by                                        |
//! |-------------|---------------------------------------------|--------------------------------------------------|
//! | `Ready`     | could run, or runs (`baton` says who)       | its own `park` or the end of its thread          |
//! | `Asleep`    | waits for its waker or its deadline         | its waker; time reaching the deadline            |
//! | `Held`      | could run, but a fault keeps it (`faults.rs`) | time reaching the end of that                  |
//! | `Gone`      | its thread has ended or left                | never                                            |
//!
//! A thread that takes no part (one the program started itself) may wake places. If nobody holds the baton then, the
//! woken place gets it. What such a thread does is outside the seed's power.

use super::faults::{FaultCounts, Faults};
use crate::world::TAKES_PART;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

// The simulation arranges real threads whatever the rest runs on, so these locks are never loom's.
use parking_lot::Mutex;

/// The place of the thread that made the world.
const FIRST: usize = 0;

/// One seeded world.
pub(crate) struct Simulation {
    /// Tells simulations apart that one thread takes part in.
    key: usize,
    start: Instant,
    /// Some handlers are to panic.
    may_panic: bool,
    state: Mutex<State>,
}

struct State {
    random: Random,
    elapsed: Duration,
    places: BTreeMap<usize, Place>,
    next_place: usize,
    baton: Option<usize>,
    /// Folded from every choice and every jump of time: equal for equal runs.
    fingerprint: u64,
    choices: u64,
    faults: Faults,
    made: FaultCounts,
}

struct Place {
    status: Status,
    /// Woken while not asleep: the next `park` returns at once.
    token: bool,
    thread: Option<Thread>,
    /// It has been held: it is not, before it has run.
    was_held: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ready,
    Asleep(Option<Duration>),
    Held(Duration),
}

impl Simulation {
    /// A new world, with the calling thread in it, holding the baton.
    #[cfg(test)]
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Self::with_faults(seed, Faults::new())
    }

    /// A new world that makes these faults, with the calling thread in it, holding the baton.
    pub(crate) fn with_faults(seed: u64, faults: Faults) -> Arc<Self> {
        static NEXT_KEY: AtomicUsize = AtomicUsize::new(0);
        let simulation = Arc::new(Self {
            may_panic: faults.has_panics(),
            // Relaxed: only uniqueness is wanted.
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            start: Instant::now(),
            state: Mutex::new(State {
                random: Random::new(seed),
                elapsed: Duration::ZERO,
                places: BTreeMap::new(),
                next_place: 0,
                baton: None,
                fingerprint: seed,
                choices: 0,
                faults,
                made: FaultCounts::default(),
            }),
        });
        let place = simulation.enter_later("main");
        let mut state = simulation.state.lock();
        state.baton = Some(place);
        if let Some(me) = state.places.get_mut(&place) {
            me.thread = Some(thread::current());
        }
        drop(state);
        simulation.remember(place);
        simulation
    }

    pub(crate) fn now(&self) -> Instant {
        self.start + self.state.lock().elapsed
    }

    /// The time of day there, since the beginning of 1970: it begins at a round number.
    pub(crate) fn wall(&self) -> Duration {
        Duration::from_secs(1_600_000_000) + self.state.lock().elapsed
    }

    /// How many choices were made, and a number that is equal for equal runs.
    pub(crate) fn fingerprint(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.choices, state.fingerprint)
    }

    /// A number below `bound`, from the seed.
    pub(crate) fn random_below(&self, bound: u64) -> u64 {
        self.state.lock().random.below(bound)
    }

    /// Makes a place for a thread that is about to start. It takes part from now on, so that the order of places does
    /// not depend on how fast the system starts threads.
    pub(crate) fn enter_later(&self, _name: &str) -> usize {
        let mut state = self.state.lock();
        let place = state.next_place;
        state.next_place += 1;
        state.places.insert(
            place,
            Place {
                status: Status::Ready,
                token: false,
                thread: None,
                was_held: false,
            },
        );
        place
    }

    /// Runs `body` on the calling thread as `place`, from when it first gets the baton.
    pub(crate) fn take_part(self: Arc<Self>, place: usize, body: impl FnOnce()) {
        let nobody = {
            let mut state = self.state.lock();
            if let Some(me) = state.places.get_mut(&place) {
                me.thread = Some(thread::current());
            }
            state.baton.is_none()
        };
        self.remember(place);
        if nobody {
            self.pass_on();
        }
        self.wait_for_baton(place);
        // Leaves also when the body unwinds: a baton held by a dead thread would stop the world.
        struct Leave(Arc<Simulation>, usize);
        impl Drop for Leave {
            fn drop(&mut self) {
                self.0.leave(self.1);
            }
        }
        let _leave = Leave(self, place);
        body();
    }

    /// Takes `place` out of the world and passes the baton on if it holds it.
    pub(crate) fn leave(&self, place: usize) {
        let mut state = self.state.lock();
        state.places.remove(&place);
        let held = state.baton == Some(place);
        if held {
            state.baton = None;
        }
        drop(state);
        let key = self.key;
        let _ = TAKES_PART.try_with(|t| t.borrow_mut().retain(|(k, p)| (*k, *p) != (key, place)));
        if held {
            self.pass_on();
        }
    }

    /// Sleeps until woken or until virtual time reaches `deadline`. For a thread that takes no part, a short real nap:
    /// its deadline means nothing in virtual time, and callers look again.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        let Some(place) = self.place_here() else {
            thread::park_timeout(Duration::from_millis(1));
            return;
        };
        {
            let mut state = self.state.lock();
            let until = deadline.map(|d| d.saturating_duration_since(self.start));
            let now = state.elapsed;
            let Some(me) = state.places.get_mut(&place) else {
                return;
            };
            if std::mem::take(&mut me.token) || until.is_some_and(|until| until <= now) {
                return;
            }
            me.status = Status::Asleep(until);
            state.baton = None;
        }
        self.pass_on();
        self.wait_for_baton(place);
        let mut state = self.state.lock();
        if let Some(me) = state.places.get_mut(&place) {
            me.token = false;
        }
    }

    /// Lets the others run until none of them can without time going on.
    pub(crate) fn settle(&self) {
        let Some(place) = self.place_here() else {
            return;
        };
        loop {
            {
                let mut state = self.state.lock();
                if state.baton != Some(place) || state.ready().nth(1).is_none() {
                    return;
                }
                let now = state.elapsed;
                if let Some(me) = state.places.get_mut(&place) {
                    me.status = Status::Asleep(Some(now));
                }
                state.baton = None;
            }
            self.pass_on();
            self.wait_for_baton(place);
        }
    }

    /// Passes the baton to anybody who can run, perhaps back to the caller.
    pub(crate) fn choice_point(&self) {
        let Some(place) = self.place_here() else {
            return;
        };
        {
            let mut state = self.state.lock();
            if state.baton != Some(place) {
                return;
            }
            if state.ready().nth(1).is_none() && !state.faults.delays_anybody() {
                return;
            }
            state.baton = None;
        }
        self.pass_on();
        self.wait_for_baton(place);
    }

    /// Some handlers are to panic: [`is_to_panic`](Self::is_to_panic) is asked of each.
    pub(crate) fn may_panic(&self) -> bool {
        self.may_panic
    }

    /// The processor `name` is about to handle a message. True if its handler is to panic.
    pub(crate) fn is_to_panic(&self, name: &str) -> bool {
        let mut state = self.state.lock();
        let panics = state.faults.message(name);
        state.made.panics += u64::from(panics);
        panics
    }

    pub(crate) fn fault_counts(&self) -> FaultCounts {
        self.state.lock().made
    }

    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        match self.place_here() {
            Some(place) => Waker::from(Arc::new(WakePlace {
                simulation: self.clone(),
                place,
            })),
            None => Waker::from(Arc::new(WakeForeign(thread::current()))),
        }
    }

    fn wake(&self, place: usize) {
        let mut state = self.state.lock();
        let State {
            places,
            faults,
            random,
            elapsed,
            made,
            ..
        } = &mut *state;
        let Some(woken) = places.get_mut(&place) else {
            return;
        };
        match woken.status {
            Status::Asleep(until) => {
                let late = faults.late_wake(random).map(|late| *elapsed + late);
                made.late_wakes += u64::from(late.is_some());
                woken.status = match (late, until) {
                    (None, _) => Status::Ready,
                    (Some(late), None) => Status::Held(late),
                    (Some(late), Some(until)) => Status::Held(late.min(until)),
                };
            }
            Status::Ready | Status::Held(_) => woken.token = true,
        }
        let nobody = state.baton.is_none();
        drop(state);
        if nobody {
            self.pass_on();
        }
    }

    /// Gives the free baton to one who can run, letting time jump to the nearest deadline if nobody can. If nobody has
    /// a deadline either, the baton stays free until a thread from outside wakes somebody.
    fn pass_on(&self) {
        let mut state = self.state.lock();
        if state.baton.is_some() {
            return;
        }
        state.wake_for_nothing();
        let chosen = loop {
            if state.ready().next().is_none() {
                let Some(nearest) = state.places.values().filter_map(Place::deadline).min() else {
                    return;
                };
                state.elapsed = state.elapsed.max(nearest);
                let now = state.elapsed;
                state.fold(now.as_nanos() as u64);
                for place in state.places.values_mut() {
                    if place.deadline().is_some_and(|deadline| deadline <= now) {
                        place.status = Status::Ready;
                    }
                }
            }
            let count = state.ready().count() as u64;
            let pick = if count == 1 {
                0
            } else {
                state.random.below(count)
            };
            let Some(chosen) = state.ready().nth(pick as usize) else {
                return;
            };
            if !state.hold(chosen) {
                break chosen;
            }
        };
        state.fold(chosen as u64);
        state.choices += 1;
        state.baton = Some(chosen);
        // A thread that is still starting finds the baton by itself.
        let thread = state.places.get(&chosen).and_then(|p| p.thread.clone());
        drop(state);
        if let Some(thread) = thread
            && thread.id() != thread::current().id()
        {
            thread.unpark();
        }
    }

    fn wait_for_baton(&self, place: usize) {
        while self.state.lock().baton != Some(place) {
            thread::park();
        }
    }

    fn remember(&self, place: usize) {
        let key = self.key;
        TAKES_PART.with(|t| t.borrow_mut().push((key, place)));
    }

    fn place_here(&self) -> Option<usize> {
        let key = self.key;
        TAKES_PART
            .try_with(|t| {
                t.borrow()
                    .iter()
                    .rev()
                    .find(|(k, _)| *k == key)
                    .map(|&(_, place)| place)
            })
            .ok()
            .flatten()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        let key = self.key;
        let _ = TAKES_PART.try_with(|t| t.borrow_mut().retain(|(k, _)| *k != key));
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Simulation")
            .field("elapsed", &state.elapsed)
            .field("choices", &state.choices)
            .finish_non_exhaustive()
    }
}

impl State {
    fn ready(&self) -> impl Iterator<Item = usize> + '_ {
        self.places
            .iter()
            .filter(|(_, p)| p.status == Status::Ready)
            .map(|(&i, _)| i)
    }

    /// Wakes a sleeper without a reason, if that is its turn among the faults.
    fn wake_for_nothing(&mut self) {
        if !self.faults.is_spurious(&mut self.random) {
            return;
        }
        let is_asleep = |place: &&mut Place| matches!(place.status, Status::Asleep(_));
        let asleep = self.places.values_mut().filter(is_asleep).count();
        if asleep == 0 {
            return;
        }
        let pick = self.random.below(asleep as u64) as usize;
        if let Some(place) = self.places.values_mut().filter(is_asleep).nth(pick) {
            place.status = Status::Ready;
            self.made.spurious_wakes += 1;
        }
    }

    /// A place is about to get the baton. True if a fault keeps it from running for now.
    fn hold(&mut self, chosen: usize) -> bool {
        if chosen == FIRST {
            return false;
        }
        let Some(place) = self.places.get_mut(&chosen) else {
            return false;
        };
        if std::mem::take(&mut place.was_held) {
            return false;
        }
        let Some(late) = self.faults.delay(&mut self.random) else {
            return false;
        };
        place.status = Status::Held(self.elapsed + late);
        place.was_held = true;
        self.made.delays += 1;
        true
    }

    fn fold(&mut self, value: u64) {
        self.fingerprint = (self.fingerprint ^ value)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29);
    }
}

impl Place {
    fn deadline(&self) -> Option<Duration> {
        match self.status {
            Status::Asleep(deadline) => deadline,
            Status::Held(until) => Some(until),
            Status::Ready => None,
        }
    }
}

struct WakePlace {
    simulation: Arc<Simulation>,
    place: usize,
}

impl Wake for WakePlace {
    fn wake(self: Arc<Self>) {
        self.simulation.wake(self.place);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.simulation.wake(self.place);
    }
}

struct WakeForeign(Thread);

impl Wake for WakeForeign {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): small, and good enough to
/// choose who goes next.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0. The bias of the remainder does not matter for small bounds.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_jumps_to_the_nearest_deadline_when_all_sleep() {
        let world = Simulation::new(1);
        let before = world.now();
        world.park(Some(before + Duration::from_secs(3600)));
        assert_eq!(world.now() - before, Duration::from_secs(3600));
    }

    #[test]
    fn a_wake_before_the_sleep_is_kept() {
        let world = Simulation::new(1);
        let before = world.now();
        world.waker().wake();
        world.park(Some(before + Duration::from_secs(1)));
        assert_eq!(world.now(), before);
    }
}
