//! How a thread sleeps, in one of two beds, and how its waker ends either.
//!
//! | `state`    | the thread                                  | a wake                                   |
//! |------------|---------------------------------------------|------------------------------------------|
//! | `AWAKE`    | does something                              | makes it `NOTIFIED`                      |
//! | `NOTIFIED` | does something, and will not sleep next     | changes nothing                          |
//! | `PARKED`   | sleeps in the system's park, or goes to it  | makes it `NOTIFIED` and unparks it       |
//! | `ON_BELL`  | sleeps in an [`Outside`], or goes to it     | makes it `NOTIFIED` and rings the bell   |
//!
//! Only the thread itself leaves `AWAKE` for a bed, and only the thread itself makes it `AWAKE` again. A wake is one swap, and
//! nothing more unless the thread sleeps. Because of the swap, exactly one wake sees `PARKED` or `ON_BELL`, and ends that
//! sleep.
//!
//! No wake is lost:
//!
//! - In the park: the unpark may come before the park, whose token keeps it.
//! - On the bell: the state is `ON_BELL` before the sleep is announced. A ring before the announcement ends nothing; but the
//!   swap came before the ring, so the thread, which looks at the state after the announcement, sees `NOTIFIED` and stays
//!   awake ([`Outside::sleep`] says what orders this).
//!
//! An unpark or a ring may come late, when the thread has left that bed by itself (its time was over, or somebody outside
//! rang). Then it ends the next sleep in that bed for nothing, which every caller allows for.

use crate::outside::Outside;
use crate::sync::{AcqRel, Acquire, AtomicUsize, Mutex, Relaxed, Release, thread};
use std::sync::Arc;
use std::task::Wake;
use std::time::Instant;

// `park` counts down by one: from a wake that is kept to awake, from awake to asleep.
const ON_BELL: usize = 2;
const NOTIFIED: usize = 1;
const AWAKE: usize = 0;
const PARKED: usize = usize::MAX;

/// One thread's.
pub(crate) struct Parker {
    state: AtomicUsize,
    thread: thread::Thread,
    /// Where it sleeps while it is `ON_BELL`. A thread may run several drivers, so that may be another one each time. Touched
    /// only for such sleeps, and nothing is called under the lock.
    bell: Mutex<Option<Arc<dyn Outside>>>,
}

impl Parker {
    pub(crate) fn new(thread: thread::Thread) -> Self {
        Self {
            state: AtomicUsize::new(AWAKE),
            thread,
            bell: Mutex::new(None),
        }
    }

    /// Calls `sleep`, which parks the thread, unless a wake was kept. On the parker's own thread.
    pub(crate) fn park(&self, sleep: impl FnOnce()) {
        // Acquire, here and below, pairs with the Release in `wake_by_ref`: what was done before the wake is seen.
        let before = self.state.fetch_sub(1, Acquire);
        debug_assert!(before <= NOTIFIED, "a thread sleeps in one bed at a time");
        if before == AWAKE {
            sleep();
            self.state.swap(AWAKE, Acquire);
        }
    }

    /// Sleeps in `outside` unless a wake was kept or it has something. On the parker's own thread.
    pub(crate) fn sleep_in(&self, outside: &Arc<dyn Outside>, until: Option<Instant>) {
        *self.bell.lock() = Some(outside.clone());
        // Release pairs with the Acquire in `wake_by_ref`: who sees `ON_BELL` finds the bell.
        let to_bed = self
            .state
            .compare_exchange(AWAKE, ON_BELL, Release, Relaxed);
        if to_bed.is_ok() {
            outside.sleep(until, &mut || {
                self.state.load(Acquire) == NOTIFIED || outside.look()
            });
        }
        self.state.swap(AWAKE, Acquire);
        let _bell = self.bell.lock().take();
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match self.state.swap(NOTIFIED, AcqRel) {
            PARKED => self.thread.unpark(),
            ON_BELL => {
                let bell = self.bell.lock().clone();
                // If it is gone the thread is out of that bed.
                if let Some(bell) = bell {
                    bell.ring();
                }
            }
            _ => {}
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::{AtomicBool, SeqCst, fence};
    use crate::world::World;

    /// An outside of loom's own parts. It rings only if a sleep was announced, which needs the order most.
    struct Bell {
        announced: AtomicBool,
        news: AtomicUsize,
        found: AtomicUsize,
        rung: loom::sync::Notify,
    }

    impl Bell {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                announced: AtomicBool::new(false),
                news: AtomicUsize::new(0),
                found: AtomicUsize::new(0),
                rung: loom::sync::Notify::new(),
            })
        }

        /// What somebody outside does.
        fn bring_news(&self) {
            self.news.fetch_add(1, Release);
            self.ring();
        }

        fn found(&self) -> usize {
            self.look();
            self.found.load(Relaxed)
        }
    }

    impl Outside for Bell {
        fn look(&self) -> bool {
            let news = self.news.swap(0, Acquire);
            self.found.fetch_add(news, Relaxed);
            news > 0
        }

        fn sleep(&self, _until: Option<Instant>, stay_awake: &mut dyn FnMut() -> bool) {
            self.announced.store(true, Relaxed);
            // Partner: the fence in `ring`.
            fence(SeqCst);
            if !stay_awake() {
                self.rung.wait();
            }
            self.announced.store(false, Relaxed);
        }

        fn ring(&self) {
            // Partner: the fence in `sleep`.
            fence(SeqCst);
            if self.announced.load(Relaxed) {
                self.rung.notify();
            }
        }
    }

    fn sleep_in(bell: &Arc<Bell>) {
        let bell: Arc<dyn Outside> = bell.clone();
        World::Real.park_in(&bell, None);
    }

    /// A thread that counts one up and wakes the calling one.
    fn spawn_waker(count: &Arc<AtomicUsize>) -> thread::JoinHandle<()> {
        let (count, waker) = (count.clone(), World::Real.waker());
        thread::spawn(move || {
            count.fetch_add(1, Release);
            waker.wake();
        })
    }

    /// A thread that goes to sleep on a bell is woken by its waker and by news from outside.
    #[test]
    fn loom_neither_a_wake_nor_news_is_lost_on_a_bell() {
        loom::model(|| {
            let bell = Bell::new();
            let count = Arc::new(AtomicUsize::new(0));
            let waker = spawn_waker(&count);
            let outside = bell.clone();
            let outside = thread::spawn(move || outside.bring_news());
            while count.load(Acquire) < 1 || bell.found() < 1 {
                sleep_in(&bell);
            }
            waker.join().unwrap();
            outside.join().unwrap();
        });
    }

    /// Two wakes of a thread that sleeps in one bed and then in the other.
    fn changes_beds(first: fn(&Arc<Bell>), second: fn(&Arc<Bell>)) {
        loom::model(move || {
            let bell = Bell::new();
            let count = Arc::new(AtomicUsize::new(0));
            let wakers = [spawn_waker(&count), spawn_waker(&count)];
            while count.load(Acquire) < 1 {
                first(&bell);
            }
            while count.load(Acquire) < 2 {
                second(&bell);
            }
            for waker in wakers {
                waker.join().unwrap();
            }
        });
    }

    #[test]
    fn loom_no_wake_is_lost_between_the_park_and_a_bell() {
        changes_beds(|_| World::Real.park(None), sleep_in);
    }

    #[test]
    fn loom_no_wake_is_lost_between_a_bell_and_the_park() {
        changes_beds(sleep_in, |_| World::Real.park(None));
    }

    /// A thread with two scripts sleeps in one outside, and next in another: a late ring goes to either.
    #[test]
    fn loom_no_wake_is_lost_between_two_bells() {
        changes_beds(sleep_in, |_| {
            // Another one for each sleep.
            sleep_in(&Bell::new());
        });
    }
}
