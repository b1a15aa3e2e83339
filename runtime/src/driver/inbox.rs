//! How work reaches a driver's thread from other threads, and how the thread goes to sleep.
//!
//! The lock guards the items and the flag `asleep`. The driver goes to sleep by looking into the inbox and, if it is
//! empty, setting `asleep`, in one critical section; then it parks. Whoever posts takes `asleep` down in the same critical
//! section as it adds the item and, if it was up, rings the driver's bell afterwards. So either the driver sees the item, or
//! the sender sees `asleep`. A ring between setting `asleep` and parking is kept by the park's token.
//!
//! `hint` only saves looking under the lock. It is set after the lock is released, so that a driver that spins on it does not
//! pull the lock's cache line away from whoever posts; a driver that misses it finds the item before it sleeps, and one that
//! sees it late looks once in vain.

use crate::sync::{Acquire, AtomicBool, Mutex, OwnLine, Relaxed, Release};
use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Inbox<T> {
    state: OwnLine<Mutex<State<T>>>,
    hint: OwnLine<AtomicBool>,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    asleep: bool,
    /// The thread is to leave when it has nobody left to serve.
    ending: bool,
    /// `ending` was set and the driver has not looked since: it must look once more before it sleeps.
    news: bool,
    closed: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        Self {
            state: OwnLine(Mutex::new(State {
                items: VecDeque::new(),
                asleep: false,
                ending: false,
                news: false,
                closed: false,
            })),
            hint: OwnLine(AtomicBool::new(false)),
        }
    }

    /// Adds an item. `Ok(true)`: ring the driver's bell. A closed inbox gives the item back.
    pub(crate) fn post(&self, item: T) -> Result<bool, T> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(item);
        }
        state.items.push_back(item);
        let ring = std::mem::replace(&mut state.asleep, false);
        drop(state);
        self.hint.store(true, Release);
        Ok(ring)
    }

    /// Says that the driver is to leave when it has nobody left. True: ring its bell.
    pub(crate) fn end(&self) -> bool {
        let mut state = self.state.lock();
        state.ending = true;
        state.news = true;
        let ring = std::mem::replace(&mut state.asleep, false);
        drop(state);
        self.hint.store(true, Release);
        ring
    }

    /// A look without the lock whether there may be something.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        // Acquire pairs with the Release in `post`; the lock orders the contents anyway.
        self.hint.load(Acquire)
    }

    pub(crate) fn take(&self) -> VecDeque<T> {
        let mut state = self.state.lock();
        self.hint.store(false, Relaxed);
        state.news = false;
        std::mem::take(&mut state.items)
    }

    /// True if nothing is there: then the caller parks, and whoever posts next rings.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut state = self.state.lock();
        state.asleep = state.items.is_empty() && !state.news;
        if !state.asleep {
            // Whoever posted has perhaps not come to set it.
            self.hint.store(true, Relaxed);
        }
        state.asleep
    }

    /// True if there is something to take. Exact, unlike [`has_mail`](Self::has_mail).
    pub(crate) fn has_items(&self) -> bool {
        let state = self.state.lock();
        if !state.items.is_empty() {
            // Whoever posted has perhaps not come to set it, and whoever is told that there is something looks at it.
            self.hint.store(true, Relaxed);
        }
        !state.items.is_empty()
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.state.lock().ending
    }

    /// Closes it if nothing is there and the driver is to leave, or `anyway`.
    pub(crate) fn close_if_empty(&self, anyway: bool) -> bool {
        let mut state = self.state.lock();
        if (anyway || state.ending) && state.items.is_empty() {
            state.closed = true;
        }
        state.closed
    }

    /// Closes it and returns what was left.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let mut state = self.state.lock();
        state.closed = true;
        std::mem::take(&mut state.items)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::thread;
    use crate::world::World;
    use std::sync::Arc;

    /// A driver that sleeps whenever it finds nothing handles all that two threads post.
    #[test]
    fn loom_no_post_is_slept_over() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            let bell = World::Real.waker();
            let senders: Vec<_> = (1..=2)
                .map(|n| {
                    let (inbox, bell) = (inbox.clone(), bell.clone());
                    thread::spawn(move || {
                        if inbox.post(n) == Ok(true) {
                            bell.wake_by_ref();
                        }
                    })
                })
                .collect();
            let mut sum = 0;
            while sum < 3 {
                let items = inbox.take();
                if items.is_empty() {
                    if inbox.may_sleep() {
                        World::Real.park(None);
                    }
                } else {
                    sum += items.into_iter().sum::<i32>();
                }
            }
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }

    /// A driver that is told to leave leaves, whatever it is doing at that moment.
    #[test]
    fn loom_the_end_is_not_slept_over() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::<()>::new());
            let bell = World::Real.waker();
            let (theirs, ring) = (inbox.clone(), bell.clone());
            let ender = thread::spawn(move || {
                if theirs.end() {
                    ring.wake_by_ref();
                }
            });
            loop {
                let _items = inbox.take();
                if inbox.close_if_empty(false) {
                    break;
                }
                if inbox.may_sleep() {
                    World::Real.park(None);
                }
            }
            ender.join().unwrap();
        });
    }
}
