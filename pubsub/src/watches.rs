//! What is noticed of a subscription although nothing happens: a lease is held for long, or nothing comes for long.
//!
//! Each has one alarm of the node at most, which is the limit of an operation that nothing else ends. An alarm is
//! looked at when it rings; what comes meanwhile is only noted.

use crate::events::Event;
use crate::monitor::Monitor;
use crate::sample::Held;
use mproc_runtime::queue::Waiter;
use mproc_runtime::{Operation, Pending, Runtime, RuntimeCore};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Rings once, when its time has come. Dropping it takes it back.
struct Alarm {
    _pending: Pending<(), ()>,
}

/// What came of setting an alarm.
enum Set {
    Alarm(Alarm),
    /// Its time has come already.
    Due,
    /// The node ends: nothing is told any more.
    Ending,
}

impl Alarm {
    /// Wakes `waker` when `delay` has passed. Nothing of others runs.
    fn set(runtime: &Runtime, delay: Duration, waker: &Waker) -> Set {
        if runtime.is_ending() {
            return Set::Ending;
        }
        let mut pending = Pending::new(Arc::new(Never(runtime.clone()))).limit(delay);
        match Pin::new(&mut pending).poll(&mut Context::from_waker(waker)) {
            Poll::Pending => Set::Alarm(Self { _pending: pending }),
            Poll::Ready(_) => Set::Due,
        }
    }
}

/// When samples that are held were received, and how many at that time.
pub(crate) type HeldSince = Mutex<BTreeMap<Instant, usize>>;

/// What the watch over leases looks at.
pub(crate) trait Leased: Held {
    fn held_since(&self) -> &HeldSince;
    fn monitor(&self) -> Option<&Monitor>;
}

/// Notices that a lease is held for longer than it should be, with one alarm of the node: it is set for the oldest that
/// was not told.
pub(crate) struct LeaseWatch {
    runtime: Runtime,
    limit: Duration,
    leased: OnceLock<Weak<dyn Leased>>,
    state: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    /// Ends when it is time to look. `None` if nothing is held, or all that is held was told.
    alarm: Option<Alarm>,
    /// Those received until then have been told.
    told: Option<Instant>,
}

impl LeaseWatch {
    pub(crate) fn new(runtime: Runtime, limit: Duration) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            limit,
            leased: OnceLock::new(),
            state: Mutex::default(),
        })
    }

    /// Of these leases.
    pub(crate) fn watch(&self, leased: Weak<dyn Leased>) {
        let _set_once = self.leased.set(leased);
    }

    /// A sample is held from now on. No lock is held.
    pub(crate) fn note(self: &Arc<Self>) {
        let is_due = {
            let mut state = self.state.lock();
            state.alarm.is_none() && !self.set_alarm(&mut state, self.limit)
        };
        if is_due {
            self.look();
        }
    }

    /// False if the time has come already. With its lock held: whoever rings waits until the alarm is kept. Nothing of
    /// others runs.
    fn set_alarm(self: &Arc<Self>, state: &mut Watched, delay: Duration) -> bool {
        match Alarm::set(&self.runtime, delay, &Waker::from(self.clone())) {
            Set::Alarm(alarm) => state.alarm = Some(alarm),
            Set::Due => return false,
            Set::Ending => {}
        }
        true
    }

    /// Tells of the oldest of those that are held for too long, and sets the alarm for the next.
    fn look(self: &Arc<Self>) {
        let Some(leased) = self.leased.get().and_then(Weak::upgrade) else {
            return;
        };
        let mut held_for = None;
        let _rung = {
            let mut state = self.state.lock();
            let rung = state.alarm.take();
            let held: Vec<Instant> = leased.held_since().lock().keys().copied().collect();
            let told = state.told;
            // From the oldest.
            for since in held.into_iter().filter(|since| Some(*since) > told) {
                let age = self.runtime.now().saturating_duration_since(since);
                let is_late = age >= self.limit;
                if !is_late && self.set_alarm(&mut state, self.limit - age) {
                    break;
                }
                state.told = Some(since);
                held_for.get_or_insert(age.max(self.limit));
            }
            rung
        };
        if let (Some(age), Some(monitor)) = (held_for, leased.monitor()) {
            let held_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            monitor.tell(|topic, subscription| Event::LeaseHeld {
                topic,
                subscription,
                held_ns,
            });
        }
    }
}

impl Wake for LeaseWatch {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl fmt::Debug for LeaseWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseWatch({:?})", self.limit)
    }
}

/// What the watch over silence looks at.
pub(crate) trait Hears: Send + Sync {
    /// Something waits for its turn.
    fn has_something(&self) -> bool;
    fn has_ended(&self) -> bool;
    fn monitor(&self) -> Option<&Monitor>;
}

/// Notices that nothing comes. Once a silence is told nothing is timed, until something comes.
pub(crate) struct SilenceWatch {
    runtime: Runtime,
    limit: Duration,
    of: OnceLock<Weak<dyn Hears>>,
    state: Mutex<Silence>,
}

struct Silence {
    /// When something came last.
    heard: Instant,
    /// `None` while a silence lasts that was told.
    alarm: Option<Alarm>,
}

impl SilenceWatch {
    pub(crate) fn new(runtime: Runtime, limit: Duration) -> Arc<Self> {
        let heard = runtime.now();
        Arc::new(Self {
            runtime,
            limit,
            of: OnceLock::new(),
            state: Mutex::new(Silence { heard, alarm: None }),
        })
    }

    /// From now on it is listened to this.
    pub(crate) fn begin(self: &Arc<Self>, of: Weak<dyn Hears>) {
        let _set_once = self.of.set(of);
        self.hear();
    }

    /// Something came. No lock is held.
    pub(crate) fn hear(self: &Arc<Self>) {
        let is_due = {
            let mut state = self.state.lock();
            state.heard = self.runtime.now();
            state.alarm.is_none() && !self.set_alarm(&mut state, self.limit)
        };
        if is_due {
            self.look();
        }
    }

    /// As that of [`LeaseWatch`].
    fn set_alarm(self: &Arc<Self>, state: &mut Silence, delay: Duration) -> bool {
        match Alarm::set(&self.runtime, delay, &Waker::from(self.clone())) {
            Set::Alarm(alarm) => state.alarm = Some(alarm),
            Set::Due => return false,
            Set::Ending => {}
        }
        true
    }

    fn look(self: &Arc<Self>) {
        let of = self.of.get().and_then(Weak::upgrade);
        let Some(of) = of.filter(|of| !of.has_ended()) else {
            return;
        };
        // What came and has not had its turn is no silence.
        let has_something = of.has_something();
        let (_rung, silent) = {
            let mut state = self.state.lock();
            let rung = state.alarm.take();
            let silent = self.runtime.now().saturating_duration_since(state.heard);
            let rest = self.limit.saturating_sub(silent);
            let again = if has_something { self.limit } else { rest };
            let goes_on = !again.is_zero() && self.set_alarm(&mut state, again);
            (rung, (!goes_on).then_some(silent.max(self.limit)))
        };
        if let (Some(silent), Some(monitor)) = (silent, of.monitor()) {
            let silent_ns = u64::try_from(silent.as_nanos()).unwrap_or(u64::MAX);
            monitor.tell(|topic, subscription| Event::Silent {
                topic,
                subscription,
                silent_ns,
            });
        }
    }
}

impl Wake for SilenceWatch {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl fmt::Debug for SilenceWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SilenceWatch({:?})", self.limit)
    }
}

/// An operation that only its limit ends.
struct Never(Runtime);

impl Operation<(), ()> for Never {
    fn begin(self: Arc<Self>, _: &mut Waiter, _: &Waker) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn retreat(&self, _: &mut Waiter) {
        // It stands in no line.
    }

    fn poll(&self, _: &Waker) -> Poll<Result<(), ()>> {
        Poll::Pending
    }

    fn is_done(&self) -> bool {
        false
    }

    fn abandon(&self, _: &mut Waiter) {
        // Nothing is under way.
    }

    fn refuse_to_block(&self) -> Option<()> {
        None
    }

    fn timeout(&self) {}

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.0.shared()
    }

    fn limit(&self) -> Duration {
        Duration::MAX
    }
}
