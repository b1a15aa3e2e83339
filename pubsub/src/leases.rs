//! What a publisher knows of the samples that are still out.
//!
//! Two counts. *Outstanding*: values of which any sample is held or queued, whatever the policy; `flush` waits for it to
//! become zero. *In flight*: values that a `Wait` subscription has not given back; a bound on it holds the publisher back.
//! Both fall when the last reference to a value's guard is dropped. A value that is tracked has a count of its own beside
//! them ([`Tracker`]), which falls after the publisher's.
//!
//! Waiting is a handshake of two words, so that giving back costs no lock while nobody waits:
//!
//! ```text
//! whoever gives back:  count -= 1;        then reads `waited`    (Count::fall)
//! whoever waits:       waited = true;     then reads `count`     (Count::poll_below)
//! ```
//!
//! All four accesses are SeqCst, so at least one side sees the other.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::task::Waker;

/// A count that can be waited for to fall.
#[derive(Debug, Default)]
pub(crate) struct Count {
    count: AtomicUsize,
    waited: AtomicBool,
    waiters: Mutex<Vec<Waker>>,
}

impl Count {
    pub(crate) fn get(&self) -> usize {
        self.count.load(SeqCst)
    }

    pub(crate) fn rise(&self) {
        self.count.fetch_add(1, SeqCst);
    }

    /// Rises unless it is at `bound`.
    pub(crate) fn try_rise(&self, bound: usize) -> bool {
        self.count
            .fetch_update(SeqCst, SeqCst, |n| (n < bound).then_some(n + 1))
            .is_ok()
    }

    pub(crate) fn fall(&self) {
        self.count.fetch_sub(1, SeqCst);
        if self.waited.load(SeqCst) {
            let waiters = {
                let mut waiters = self.waiters.lock();
                self.waited.store(false, SeqCst);
                std::mem::take(&mut *waiters)
            };
            waiters.into_iter().for_each(Waker::wake);
        }
    }

    /// True if it is below `bound`; else `waker` is woken when it falls.
    pub(crate) fn poll_below(&self, bound: usize, waker: &Waker) -> bool {
        if self.get() < bound {
            return true;
        }
        {
            let mut waiters = self.waiters.lock();
            if !waiters.iter().any(|w| w.will_wake(waker)) {
                waiters.push(waker.clone());
            }
            self.waited.store(true, SeqCst);
        }
        self.get() < bound
    }
}

/// What is known of one value that is tracked.
#[derive(Debug)]
pub(crate) struct Tracker {
    /// How many guards of the value live.
    out: Count,
    /// [`UNPUBLISHED`](Self::UNPUBLISHED), or its number. Written at commit, while its publisher still holds a guard.
    sequence: AtomicU64,
}

impl Tracker {
    const UNPUBLISHED: u64 = u64::MAX;

    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            out: Count::default(),
            sequence: AtomicU64::new(Self::UNPUBLISHED),
        })
    }

    /// The value is published. Its publisher still holds a guard, and lets go of it next: so those who wait look again, and
    /// find it out at the links, which they must watch.
    pub(crate) fn publish(&self, sequence: u64) {
        self.sequence.store(sequence, SeqCst);
    }

    /// Its number; `None` while it is not published, and if it never was.
    pub(crate) fn sequence(&self) -> Option<u64> {
        let sequence = self.sequence.load(SeqCst);
        (sequence != Self::UNPUBLISHED).then_some(sequence)
    }

    /// True if nobody has it any more; else `waker` is woken when that may have changed.
    pub(crate) fn poll_back(&self, waker: &Waker) -> bool {
        self.out.poll_below(1, waker)
    }

    pub(crate) fn is_back(&self) -> bool {
        self.out.get() == 0
    }
}

/// Held by a body: one more value is out until it is dropped.
#[derive(Debug)]
pub(crate) struct Outstanding {
    of_publisher: Arc<Count>,
    /// If this value is tracked.
    of_value: Option<Arc<Tracker>>,
}

impl Outstanding {
    pub(crate) fn new(of_publisher: &Arc<Count>, of_value: Option<Arc<Tracker>>) -> Self {
        of_publisher.rise();
        if let Some(tracker) = &of_value {
            tracker.out.rise();
        }
        Self {
            of_publisher: of_publisher.clone(),
            of_value,
        }
    }

    /// One more of the same value.
    pub(crate) fn again(&self) -> Self {
        Self::new(&self.of_publisher, self.of_value.clone())
    }

    pub(crate) fn tracker(&self) -> Option<&Arc<Tracker>> {
        self.of_value.as_ref()
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        // In this order: whoever learns that a value is back finds it out of its publisher's count.
        self.of_publisher.fall();
        if let Some(tracker) = &self.of_value {
            tracker.out.fall();
        }
    }
}

/// Shared by the samples of one value at `Wait` subscriptions: one more value is in flight until the last is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Count>);

impl InFlight {
    /// One more, unless `bound` are in flight.
    pub(crate) fn try_new(count: &Arc<Count>, bound: usize) -> Option<Arc<Self>> {
        count.try_rise(bound).then(|| Arc::new(Self(count.clone())))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fall();
    }
}

/// Something that can be paused, and waited for to go on.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    paused: AtomicBool,
    waiters: Mutex<Vec<Waker>>,
}

impl Gate {
    pub(crate) fn pause(&self) {
        self.paused.store(true, SeqCst);
    }

    pub(crate) fn resume(&self) {
        let waiters = {
            let mut waiters = self.waiters.lock();
            self.paused.store(false, SeqCst);
            std::mem::take(&mut *waiters)
        };
        waiters.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(SeqCst)
    }

    /// True if it is open; else `waker` is woken when it is.
    pub(crate) fn poll_open(&self, waker: &Waker) -> bool {
        if !self.is_paused() {
            return true;
        }
        let mut waiters = self.waiters.lock();
        // Under the lock that `resume` takes before it wakes.
        if !self.is_paused() {
            return true;
        }
        if !waiters.iter().any(|w| w.will_wake(waker)) {
            waiters.push(waker.clone());
        }
        false
    }
}
