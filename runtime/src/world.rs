//! What a runtime takes from outside: time, threads, sleeping, and the choice of who goes next.
//!
//! Everything else asks the world and never `std`, so that a simulated node replaces all of it at once. Two files stand
//! beside it: `driver/simulated.rs`, which is the other half of the world and arranges real threads, and `clock.rs`, which
//! measures how long handlers take and decides nothing that a processor could see. (`tests/layering.rs` looks.)

use crate::driver::simulated::Simulation;
use crate::outside::Outside;
use crate::parker::Parker;
use crate::sync::thread;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::Waker;
use std::thread::ThreadId;
use std::time::{Duration, Instant, SystemTime};

/// The real machine, or a simulation of it.
#[derive(Clone, Debug)]
pub(crate) enum World {
    Real,
    Simulated(Arc<Simulation>),
}

impl World {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Real => Instant::now(),
            Self::Simulated(simulation) => simulation.now(),
        }
    }

    /// The time of day: nanoseconds since the beginning of 1970 (UTC).
    pub(crate) fn wall_ns(&self) -> u64 {
        let since = match self {
            // Before 1970 it is 1970.
            Self::Real => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
            Self::Simulated(simulation) => simulation.wall(),
        };
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// A waker that ends the calling thread's [`park`](Self::park).
    pub(crate) fn waker(&self) -> Waker {
        match self {
            Self::Real => thread_waker(),
            Self::Simulated(simulation) => simulation.waker(),
        }
    }

    /// Sleeps until the waker of this thread is woken (also if that was before) or `deadline` has come. It may return
    /// earlier for no reason, so callers look again at what they wait for.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        match (self, deadline) {
            (Self::Simulated(simulation), _) => simulation.park(deadline),
            (Self::Real, None) => park_thread(None),
            #[cfg(not(any(loom, shuttle)))]
            (Self::Real, Some(deadline)) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    park_thread(Some(left));
                }
            }
            // A model has no time; a limit there is a wake-up that may come at any moment.
            #[cfg(any(loom, shuttle))]
            (Self::Real, Some(_)) => thread::yield_now(),
        }
    }

    /// As [`park`](Self::park), and news from `outside` end it too. For a driver that has nothing to do.
    pub(crate) fn park_in(&self, outside: &Arc<dyn Outside>, deadline: Option<Instant>) {
        match self {
            Self::Simulated(simulation) => simulation.park(deadline),
            Self::Real => {
                let slept = PLACE.try_with(|place| place.parker.sleep_in(outside, deadline));
                if slept.is_err() {
                    self.park(deadline);
                }
            }
        }
    }

    /// Lets the simulation choose who goes on. Nothing in the real world, where the system does that.
    #[inline]
    pub(crate) fn choice_point(&self) {
        if let Self::Simulated(simulation) = self {
            simulation.choice_point();
        }
    }

    /// How often to look again before sleeping.
    pub(crate) fn spins(&self) -> u32 {
        match self {
            Self::Real => spins_real(),
            // Only the thread that holds the baton runs: whoever spins, spins for ever.
            Self::Simulated(_) => 0,
        }
    }

    /// A number below `bound`, by chance: from the seed, if there is one. 0 if `bound` is.
    pub(crate) fn random_below(&self, bound: u64) -> u64 {
        match self {
            _ if bound == 0 => 0,
            Self::Simulated(simulation) => simulation.random_below(bound),
            Self::Real => chance() % bound,
        }
    }

    /// Some handlers are to panic, by a fault of the simulation: [`is_to_panic`](Self::is_to_panic) is asked of each.
    pub(crate) fn may_panic(&self) -> bool {
        match self {
            Self::Real => false,
            Self::Simulated(simulation) => simulation.may_panic(),
        }
    }

    /// The processor `name` is about to handle a message. True if its handler is to panic.
    pub(crate) fn is_to_panic(&self, name: &str) -> bool {
        match self {
            Self::Real => false,
            Self::Simulated(simulation) => simulation.is_to_panic(name),
        }
    }

    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self, Self::Simulated(_))
    }

    /// Starts a thread that runs `body`.
    pub(crate) fn spawn(
        &self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<thread::JoinHandle<()>> {
        // Linux shows 15 bytes of a thread's name; std refuses an inner zero, which names cannot hold.
        let builder = thread::Builder::new().name(name.to_owned());
        match self {
            Self::Real => builder.spawn(body),
            Self::Simulated(simulation) => {
                let place = simulation.enter_later(name);
                let simulation = simulation.clone();
                let result = builder.spawn(move || simulation.take_part(place, body));
                if let (Err(_), Self::Simulated(simulation)) = (&result, self) {
                    simulation.leave(place);
                }
                result
            }
        }
    }
}

/// A number by chance. The keys of the standard hasher are drawn from the system once per thread, and differ from call to
/// call: good enough to keep those apart who would all come at once.
fn chance() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// 300 looks, some 7 microseconds: about what it costs to wake a sleeper, so that sleeping at once never costs more
/// than twice the best choice. None on a single core, where the one we wait for could not run meanwhile.
#[cfg(not(any(loom, shuttle)))]
fn spins_real() -> u32 {
    use std::sync::OnceLock;
    static SPINS: OnceLock<u32> = OnceLock::new();
    *SPINS.get_or_init(|| if cores() > 1 { 300 } else { 0 })
}

#[cfg(any(loom, shuttle))]
fn spins_real() -> u32 {
    0
}

/// How many threads can run at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Where the calling thread sleeps, and the waker that ends it.
struct Place {
    parker: Arc<Parker>,
    waker: Waker,
}

impl Place {
    fn new() -> Self {
        let parker = Arc::new(Parker::new(thread::current()));
        let waker = Waker::from(parker.clone());
        Self { parker, waker }
    }
}

crate::sync::thread_local!(static PLACE: Place = Place::new());

/// The waker of the calling thread: ends its sleep, in whichever bed.
fn thread_waker() -> Waker {
    PLACE
        .try_with(|place| place.waker.clone())
        .unwrap_or_else(|_| Place::new().waker)
}

#[cfg(not(any(loom, shuttle)))]
fn park_thread(limit: Option<Duration>) {
    let parked = PLACE.try_with(|place| {
        place.parker.park(|| match limit {
            None => thread::park(),
            Some(limit) => thread::park_timeout(limit),
        });
    });
    if parked.is_err() {
        // A thread that is being torn down has lost its place, and its wakers wake nobody. It can still wait: it looks again
        // from time to time.
        let limit = limit.unwrap_or(Duration::MAX);
        thread::park_timeout(limit.min(Duration::from_millis(1)));
    }
}

#[cfg(any(loom, shuttle))]
fn park_thread(_no_limit: Option<Duration>) {
    PLACE.with(|place| place.parker.park(thread::park));
}

/// Which thread this is, to tell it from others.
pub(crate) fn this_thread() -> ThreadId {
    std::thread::current().id()
}

/// `now + limit`, or `None` if that is beyond what the clock can say: a wait without an end.
pub(crate) fn deadline_after(now: Instant, limit: Duration) -> Option<Instant> {
    now.checked_add(limit)
}

thread_local! {
    /// In which simulations the thread takes part: normally none or one.
    pub(crate) static TAKES_PART: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::driver::Completion;
    use std::sync::mpsc::{Sender, channel};

    /// Waits when its thread is torn down.
    struct Late {
        over: Arc<Completion>,
        tell: Sender<bool>,
        waits: Sender<()>,
    }

    impl Drop for Late {
        fn drop(&mut self) {
            self.waits.send(()).unwrap();
            let deadline = World::Real.now() + Duration::from_secs(20);
            let came = self.over.wait(&World::Real, Some(deadline));
            self.tell.send(came).unwrap();
        }
    }

    #[test]
    fn a_thread_that_is_being_torn_down_can_still_wait() {
        thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
        let over = Arc::new(Completion::default());
        let (tell, told) = channel();
        let (waits, waiting) = channel();
        let theirs = over.clone();
        let thread = thread::spawn(move || {
            let over = theirs;
            LATE.set(Some(Late { over, tell, waits }));
            // Made after it, and therefore torn down before it on most systems.
            let _waker = World::Real.waker();
        });
        waiting.recv().unwrap();
        over.complete();
        thread.join().unwrap();
        assert_eq!(told.iter().collect::<Vec<_>>(), [true]);
    }
}
