//! Clocks that programs follow: steady time, wall time, domain time.
//!
//! | file        | holds                                                         |
//! |-------------|---------------------------------------------------------------|
//! | `time.rs`   | a moment by a clock                                           |
//! | `line.rs`   | how domain time goes with steady time; no clock inside        |
//! | `core.rs`   | one clock, its lock and its alarm                             |
//! | `state.rs`  | who waits for a time by it, and what a change means to them   |
//! | `sleep.rs`  | sleeping, as an operation                                     |
//! | `rate.rs`   | a loop that keeps in step                                     |
//! | `jump.rs`   | changes of a clock, and who is told                           |
//! | `setter.rs` | the hand that changes domain time, for layers above           |
//! | `follow.rs` | whose timers follow which clock                               |
//!
//! Limits on waiting follow steady time, whatever clock a processor follows.

pub(crate) mod core;
mod follow;
mod jump;
mod line;
mod rate;
mod setter;
mod sleep;
pub(crate) mod state;
mod time;

pub(crate) use self::follow::followed;
pub use self::jump::{Jump, JumpCallback, JumpKind, JumpThreshold};
pub use self::rate::{Beat, Rate};
pub use self::setter::{ClockSetter, Setting};
pub use self::sleep::{SleepError, Slept};
pub use self::time::Time;

use self::core::ClockCore;
use crate::runtime::{Runtime, RuntimeCore};
use crate::sync::{AtomicBool, Mutex, SeqCst};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// What a clock goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClockKind {
    /// The time since the node began. It never jumps. In a simulated node it is virtual.
    Steady,
    /// The system's time of day, since the beginning of 1970 (UTC). People and programs set it; the system tells nobody, so a
    /// timer or sleep by it is late by as much as it was set forward meanwhile. In a simulated node it begins in September
    /// 2020 and goes with virtual time.
    Wall,
    /// What whoever drives it says: a replay, a simulation.
    Domain,
}

/// A clock to read, to sleep by, and for timers to follow. Cheap to clone.
///
/// Steady and wall time are the [node's](Runtime::steady_clock); domain time is made by the layer of topics.
#[derive(Clone)]
pub struct Clock {
    pub(crate) core: Arc<ClockCore>,
    runtime: Arc<RuntimeCore>,
}

impl Clock {
    fn of(kind: ClockKind, runtime: &Arc<RuntimeCore>) -> Self {
        Self {
            core: runtime.clocks.get(kind, runtime),
            runtime: runtime.clone(),
        }
    }

    fn from_core(core: Arc<ClockCore>, runtime: &Arc<RuntimeCore>) -> Self {
        Self {
            core,
            runtime: runtime.clone(),
        }
    }

    /// What it shows.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::Runtime;
    /// use std::time::Duration;
    ///
    /// let node = Runtime::simulated(1);
    /// let clock = node.steady_clock();
    /// let before = clock.now();
    /// node.advance(Duration::from_secs(60)); // virtual: takes no time
    /// assert_eq!(clock.now() - before, Duration::from_secs(60));
    /// ```
    pub fn now(&self) -> Time {
        self.core.now()
    }

    /// What it goes by.
    pub fn kind(&self) -> ClockKind {
        self.core.kind()
    }

    /// True if it goes, or somebody could make it go: always for steady and wall time, and for domain time as long as
    /// somebody drives it.
    pub fn is_driven(&self) -> bool {
        self.core.is_driven()
    }

    /// True if it stands still. Domain time does that until it is driven and [resumed](ClockSetter::pause).
    pub fn is_paused(&self) -> bool {
        self.core.is_paused()
    }

    /// Has `call` called after each change of the clock that `threshold` lets through, until what this returns is dropped.
    /// Only domain time is changed in a way that the node learns of.
    ///
    /// It is called by whoever changed the clock, after timers and sleeps were told: let it be short. It may use the clock.
    /// A panic in it is reported, and others are called all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{ClockSetter, JumpThreshold, Runtime, Time};
    /// use std::time::Duration;
    ///
    /// let node = Runtime::simulated(1);
    /// let domain = ClockSetter::of(&node);
    /// domain.begin(1);
    /// domain.set(1, Time::from_secs(10));
    ///
    /// let (told, jumps) = std::sync::mpsc::channel();
    /// let far = JumpThreshold::new().forward(Duration::from_secs(60));
    /// let _callback = domain.clock().on_jump(far, move |jump| {
    ///     let _nobody = told.send(jump.backward());
    /// });
    /// domain.set(1, Time::from_secs(20)); // not far enough
    /// domain.set(1, Time::from_secs(5));
    /// assert_eq!(jumps.try_iter().collect::<Vec<_>>(), [Duration::from_secs(15)]);
    /// ```
    pub fn on_jump(
        &self,
        threshold: JumpThreshold,
        call: impl Fn(Jump) + Send + Sync + 'static,
    ) -> JumpCallback {
        let number = self.core.add_callback(threshold, Arc::new(call));
        JumpCallback {
            clock: Arc::downgrade(&self.core),
            number,
        }
    }
}

/// True if both are handles of one clock.
impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl Eq for Clock {}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.core, f)
    }
}

/// The clocks of a node, made when they are first asked for.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    steady: OnceLock<Arc<ClockCore>>,
    wall: OnceLock<Arc<ClockCore>>,
    domain: OnceLock<Arc<ClockCore>>,
    /// What those follow who were told nothing; steady time if it is `None`.
    followed: Mutex<Option<Arc<ClockCore>>>,
    closed: AtomicBool,
}

impl Clocks {
    fn get(&self, kind: ClockKind, runtime: &Arc<RuntimeCore>) -> Arc<ClockCore> {
        let place = match kind {
            ClockKind::Steady => &self.steady,
            ClockKind::Wall => &self.wall,
            ClockKind::Domain => &self.domain,
        };
        let core = place.get_or_init(|| ClockCore::new(kind, runtime)).clone();
        // Whoever closes them says so first and looks then which there are.
        if self.closed.load(SeqCst) {
            core.close();
        }
        core
    }

    /// The node ends.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
        for clock in [&self.steady, &self.wall, &self.domain] {
            if let Some(clock) = clock.get() {
                clock.close();
            }
        }
    }
}

impl Runtime {
    /// Steady time: since the node began. It is what timers follow if nobody says otherwise, and what all limits do.
    pub fn steady_clock(&self) -> Clock {
        Clock::of(ClockKind::Steady, self.core())
    }

    /// The system's time of day.
    pub fn wall_clock(&self) -> Clock {
        Clock::of(ClockKind::Wall, self.core())
    }
}
