//! What a runtime takes from outside: time, threads, sleeping, and the choice of who goes next.
//!
//! Everything else asks the world and never `std`, so that a simulated node replaces all of it at once. Two files stand
//! beside it: `driver/simulated.rs`, which is the other half of the world and arranges real threads, and `clock.rs`, which
//! measures how long handlers take and decides nothing that a processor could see. (`tests/layering.rs` looks.)

use crate::driver::simulated::Simulation;
use crate::sync::thread;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

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
            (Self::Real, None) => thread::park(),
            #[cfg(not(loom))]
            (Self::Real, Some(deadline)) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    thread::park_timeout(left);
                }
            }
            // A model has no time; a limit there is a wake-up that may come at any moment.
            #[cfg(loom)]
            (Self::Real, Some(_)) => thread::yield_now(),
        }
    }

    /// Lets the simulation choose who goes on. Nothing in the real world, where the system does that.
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

/// 300 looks, some 7 microseconds: about what it costs to wake a sleeper, so that sleeping at once never costs more
/// than twice the best choice. None on a single core, where the one we wait for could not run meanwhile.
#[cfg(not(loom))]
fn spins_real() -> u32 {
    use std::sync::OnceLock;
    static SPINS: OnceLock<u32> = OnceLock::new();
    *SPINS.get_or_init(|| match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => 300,
        _ => 0,
    })
}

#[cfg(loom)]
fn spins_real() -> u32 {
    0
}

/// The waker of the calling thread: unparks it.
#[cfg(not(loom))]
fn thread_waker() -> Waker {
    thread_local!(static WAKER: Waker = Waker::from(Arc::new(Unpark(std::thread::current()))));
    // A thread that is being torn down has lost the cache, but can still sleep.
    WAKER
        .try_with(Waker::clone)
        .unwrap_or_else(|_| Waker::from(Arc::new(Unpark(std::thread::current()))))
}

#[cfg(loom)]
fn thread_waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// Which thread this is, to tell it from others.
pub(crate) fn this_thread() -> ThreadId {
    std::thread::current().id()
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// `now + limit`, or `None` if that is beyond what the clock can say: a wait without an end.
pub(crate) fn deadline_after(now: Instant, limit: Duration) -> Option<Instant> {
    now.checked_add(limit)
}

thread_local! {
    /// In which simulations the thread takes part: normally none or one.
    pub(crate) static TAKES_PART: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
}
