//! How a driver sleeps, and how a peer wakes it: one pair of words for each driver.
//!
//! ```text
//! sleeper   b = bell;   sleeping = b + 1;   fence;   looks at every link again;   nothing: waits while bell is b;   sleeping = 0
//! ringer    tail = ..;  fence;   e = sleeping;   not 0: bell += 1,   wakes,   sleeping: e -> 0
//! ```
//!
//! *No wake-up is lost.* Both sides store, fence, then load. So either the sleeper sees the new tail when it looks again, or
//! the ringer sees `sleeping`; then it changes `bell`, and the sleeper's wait ends or does not begin.
//!
//! *A ringer may stop anywhere.* `sleeping` says which sleep it is about (an epoch, not a flag), and is cleared last and only if
//! it still is that one. A ringer that is killed between its steps leaves `sleeping` set, so the next one rings again. Were it
//! cleared first, a ringer that is stopped before it wakes would tell all others that somebody else has done it.
//!
//! A ringer that is stopped between the tail and the bell delays its own message; killed there, its process's end wakes the
//! sleeper, through [`Bell::ring_self`].
//!
//! *Whom it trusts.* All peers of a process map its page. One that lies can put a sleeper to sleep through the news of others,
//! but cannot make it read or write anything wrong.

#[cfg(loom)]
use crate::heap::BellMap;
use crate::points::reach;
#[cfg(not(loom))]
use crate::segment::BellMap;
use crate::sync::{AcqRel, Relaxed, SeqCst, fence};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

#[cfg(not(loom))]
mod page {
    use super::{Bell, BellMap, Ringer};
    use crate::error::SegmentError;
    use crate::segment::check_bell;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::sync::Arc;

    /// The doorbells of this process: one page, to be sent to every peer.
    #[derive(Debug)]
    pub struct BellPage {
        map: Arc<BellMap>,
        fd: OwnedFd,
    }

    impl BellPage {
        /// Makes the page. `node` names this process, for those who look at the memory.
        ///
        /// # Errors
        ///
        /// There is no memory for it, or no descriptor.
        pub fn create(node: [u8; 16]) -> Result<Self, SegmentError> {
            let (fd, map) = BellMap::create(node)?;
            let map = Arc::new(map);
            Ok(Self { map, fd })
        }

        /// The bell of one driver. Only one thread at a time may sleep on it.
        ///
        /// # Panics
        ///
        /// If `index` is not less than [`BELLS_PER_PAGE`](crate::BELLS_PER_PAGE).
        pub fn bell(&self, index: usize) -> Bell {
            let map = self.map.clone();
            let _there = map.words(index);
            Bell::new(map, index)
        }
    }

    /// The descriptor to send to peers.
    impl AsFd for BellPage {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.fd.as_fd()
        }
    }

    /// The doorbells of a peer.
    #[derive(Clone, Debug)]
    pub struct PeerBells(Arc<BellMap>);

    impl PeerBells {
        /// Maps a page that a peer sent. The descriptor is not needed afterwards.
        ///
        /// # Errors
        ///
        /// It is not a sealed page, or cannot be mapped.
        pub fn open(fd: BorrowedFd<'_>) -> Result<Self, SegmentError> {
            BellMap::open(fd).map(|map| Self(Arc::new(map)))
        }

        /// What rings one of them. The index comes from the peer.
        ///
        /// # Errors
        ///
        /// There is no such bell.
        pub fn ringer(&self, index: u32) -> Result<Ringer, SegmentError> {
            let index = check_bell(index)?;
            let map = self.0.clone();
            Ok(Ringer { map, index })
        }
    }
}

#[cfg(not(loom))]
pub use page::{BellPage, PeerBells};

/// What a driver sleeps on.
#[derive(Debug)]
pub struct Bell {
    map: Arc<BellMap>,
    index: usize,
    /// A thread is about to sleep, or sleeps. Only to find a second one.
    asleep: AtomicBool,
}

/// A sleep that was announced: the driver looks once more at everything that could wake it, and only then waits.
#[derive(Debug)]
#[must_use = "peers ring from now on: wait, or drop it"]
pub struct Drowsy<'a> {
    bell: &'a Bell,
    seen: u32,
}

impl Bell {
    fn new(map: Arc<BellMap>, index: usize) -> Self {
        let asleep = AtomicBool::new(false);
        Self { map, index, asleep }
    }

    #[cfg(loom)]
    pub(crate) fn of(map: Arc<BellMap>) -> Self {
        Self::new(map, 0)
    }

    /// Announces that this driver is going to sleep. What is queued from now on rings; what was queued before is seen by
    /// whoever looks after this call.
    ///
    /// In a child made by `fork` the wait does not begin: nobody could end it.
    pub fn about_to_sleep(&mut self) -> Drowsy<'_> {
        // A sleep that was forgotten rather than dropped is over, since this is the only handle.
        self.asleep.store(false, Relaxed);
        self.about_to_sleep_shared()
    }

    /// [`about_to_sleep`](Self::about_to_sleep) for a driver that keeps its bell behind an `Arc`.
    ///
    /// # Lost wake-ups
    ///
    /// Only one thread at a time may sleep on a bell: `sleeping` names one sleep, so that of two, one could sleep through
    /// what the other was woken for. Builds with debug assertions panic when a second one begins.
    pub fn about_to_sleep_shared(&self) -> Drowsy<'_> {
        let second = self.asleep.swap(true, Relaxed);
        debug_assert!(!second, "one thread at a time sleeps on a bell");
        if !self.map.is_here() {
            return Drowsy {
                bell: self,
                seen: 0,
            };
        }
        let words = self.map.words(self.index);
        let seen = words.bell.bell.load();
        // A swap rather than a store costs nothing here. It lets the model checker see that this comes after what a ringer has
        // cleared: it does not know that nothing comes between the two halves of a ringer's exchange.
        words.sleeping.sleeping.swap(epoch(seen), Relaxed);
        // Partner: the fence in `Ringer::ring`.
        fence(SeqCst);
        Drowsy { bell: self, seen }
    }

    /// Wakes the driver from another thread of its own process. Unlike a ringer it does not ask whether anybody sleeps: it is
    /// for what peers cannot do themselves, as when they are dead.
    pub fn ring_self(&self) {
        if !self.map.is_here() {
            return;
        }
        self.map.words(self.index).bell.bell.bump_and_wake();
    }

    /// Wakes the driver from another thread of its own process, if it sleeps or is about to. It believes nothing that peers can
    /// write: of a driver that they have put to sleep through their own news, the process has still the use. As
    /// [`Ringer::ring`] otherwise.
    pub fn ring_own(&self) {
        // Partner: the fence in `about_to_sleep_shared`, which comes after `asleep`.
        fence(SeqCst);
        if self.asleep.load(Relaxed) {
            self.ring_self();
        }
    }

    /// Another handle of the same bell, for [`ring_self`](Self::ring_self) in other threads.
    pub fn ringer(&self) -> Ringer {
        Ringer {
            map: self.map.clone(),
            index: self.index,
        }
    }
}

impl Drowsy<'_> {
    /// Sleeps until somebody rings. Returns early for no reason at times.
    pub fn wait(self) {
        self.wait_until(None);
    }

    /// Sleeps until somebody rings, but not past `until`: what else the driver has to do then, such as its next timer. `None`
    /// is no limit. Returns early for no reason at times.
    pub fn wait_until(self, until: Option<Instant>) {
        if !self.bell.map.is_here() {
            return;
        }
        let words = self.bell.map.words(self.bell.index);
        let limit = until.map(|until| until.saturating_duration_since(Instant::now()));
        words.bell.bell.wait(self.seen, limit);
    }
}

/// Awake again.
impl Drop for Drowsy<'_> {
    fn drop(&mut self) {
        self.bell.asleep.store(false, Relaxed);
        if self.bell.map.is_here() {
            let words = self.bell.map.words(self.bell.index);
            words.sleeping.sleeping.swap(0, Relaxed);
        }
    }
}

/// The name of the sleep that begins when the bell is at `seen`. Never 0.
fn epoch(seen: u32) -> u32 {
    seen.wrapping_add(1).max(1)
}

/// What wakes one driver of a peer.
#[derive(Clone, Debug)]
pub struct Ringer {
    map: Arc<BellMap>,
    index: usize,
}

impl Ringer {
    /// Wakes the driver if it sleeps. What this thread has stored before is seen by the driver when it is awake. Costs a fence
    /// and a load when it is awake already. True if it rang; never in a child made by `fork`.
    pub fn ring(&self) -> bool {
        // Partner: the fence in `Bell::about_to_sleep`.
        fence(SeqCst);
        self.ring_after_fence()
    }

    /// [`ring`](Self::ring), by a caller that has just made the fence for several of them.
    pub(crate) fn ring_after_fence(&self) -> bool {
        if !self.map.is_here() {
            return false;
        }
        let words = self.map.words(self.index);
        let sleeping = &words.sleeping.sleeping;
        let epoch = sleeping.load(Relaxed);
        if epoch == 0 {
            return false;
        }
        reach("ringer: saw a sleeper");
        words.bell.bell.bump();
        reach("ringer: bell changed");
        words.bell.bell.wake();
        reach("ringer: woke");
        // Another ringer may have done it, or the sleeper, who may even sleep again: that is another epoch.
        let _cleared = sleeping.compare_exchange(epoch, 0, AcqRel, Relaxed);
        true
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::AtomicU32;
    use loom::thread;

    fn bell() -> (Bell, Ringer) {
        let map = Arc::new(BellMap::default());
        let ringer = Ringer {
            map: map.clone(),
            index: 0,
        };
        (Bell::new(map, 0), ringer)
    }

    /// Sleeps until all tails are 1. A wake-up that is lost is a deadlock, which the model reports.
    fn sleep_until_all_came(bell: &mut Bell, tails: &[Arc<AtomicU32>]) {
        let came = |tail: &Arc<AtomicU32>| tail.load(Relaxed) == 1;
        while !tails.iter().all(came) {
            let drowsy = bell.about_to_sleep();
            if !tails.iter().all(came) {
                drowsy.wait();
            }
        }
    }

    #[test]
    fn loom_a_sleeper_sees_what_was_stored_before_the_ring() {
        loom::model(|| {
            let (mut bell, ringer) = bell();
            let tail = Arc::new(AtomicU32::new(0));
            let publisher = thread::spawn({
                let tail = tail.clone();
                move || {
                    tail.store(1, Relaxed);
                    ringer.ring();
                }
            });
            sleep_until_all_came(&mut bell, &[tail]);
            publisher.join().unwrap();
        });
    }

    #[test]
    fn loom_two_ringers_lose_no_wake_up_between_them() {
        loom::model(|| {
            let (mut bell, ringer) = bell();
            let tails = [0, 1].map(|_| Arc::new(AtomicU32::new(0)));
            let publishers = [0, 1].map(|i| {
                let (tail, ringer) = (tails[i].clone(), ringer.clone());
                thread::spawn(move || {
                    tail.store(1, Relaxed);
                    ringer.ring();
                })
            });
            sleep_until_all_came(&mut bell, &tails);
            for publisher in publishers {
                publisher.join().unwrap();
            }
        });
    }

    /// The first ringer is killed after each of its steps: the second still wakes the sleeper.
    #[test]
    fn loom_a_ringer_that_dies_half_way_hides_nothing_of_the_other() {
        for steps in 0..3 {
            loom::model(move || {
                let (mut bell, ringer) = bell();
                let tail = Arc::new(AtomicU32::new(0));
                let killed = thread::spawn({
                    let map = ringer.map.clone();
                    move || {
                        fence(SeqCst);
                        let words = map.words(0);
                        if steps > 0 && words.sleeping.sleeping.load(Relaxed) != 0 {
                            words.bell.bell.bump();
                            if steps > 1 {
                                words.bell.bell.wake();
                            }
                        }
                    }
                });
                let publisher = thread::spawn({
                    let tail = tail.clone();
                    move || {
                        tail.store(1, Relaxed);
                        ringer.ring();
                    }
                });
                sleep_until_all_came(&mut bell, &[tail]);
                killed.join().unwrap();
                publisher.join().unwrap();
            });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::SeqCst;

    #[test]
    fn an_epoch_is_never_0() {
        assert_eq!(epoch(0), 1);
        assert_eq!(epoch(u32::MAX), 1);
    }

    #[test]
    fn a_peer_rings_through_its_own_mapping() {
        let page = BellPage::create([0; 16]).unwrap();
        let mut bell = page.bell(14);
        let ringer = PeerBells::open(page.as_fd()).unwrap().ringer(14).unwrap();
        assert!(!ringer.ring(), "nobody sleeps");
        let drowsy = bell.about_to_sleep();
        assert!(ringer.ring());
        assert!(!ringer.ring(), "it was woken already");
        drowsy.wait();
        assert!(PeerBells::open(page.as_fd()).unwrap().ringer(15).is_err());
    }

    #[test]
    fn a_wait_ends_at_its_limit() {
        let page = BellPage::create([0; 16]).unwrap();
        let bell = page.bell(0);
        let begin = Instant::now();
        // Nobody rings: only the limit ends it, apart from wake-ups for no reason.
        let until = begin + std::time::Duration::from_millis(20);
        while Instant::now() < until {
            bell.about_to_sleep_shared().wait_until(Some(until));
        }
        bell.about_to_sleep_shared().wait_until(Some(begin));
        assert_eq!(bell.map.words(0).sleeping.sleeping.load(Relaxed), 0);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "one thread at a time sleeps on a bell")]
    fn a_second_sleeper_is_found() {
        let page = BellPage::create([0; 16]).unwrap();
        let bell = page.bell(0);
        let _first = bell.about_to_sleep_shared();
        let _second = bell.about_to_sleep_shared();
    }

    #[test]
    fn a_sleep_that_was_forgotten_is_over_when_the_next_begins() {
        let page = BellPage::create([0; 16]).unwrap();
        let mut bell = page.bell(0);
        std::mem::forget(bell.about_to_sleep());
        drop(bell.about_to_sleep());
    }

    #[test]
    fn a_sleeper_is_woken_for_each_of_many_messages() {
        const ROUNDS: u64 = 20_000;
        let page = BellPage::create([0; 16]).unwrap();
        let (mut there, mut back) = (page.bell(0), page.bell(1));
        let (to_there, to_back) = (there.ringer(), back.ringer());
        let (ping, pong) = (AtomicU64::new(0), AtomicU64::new(0));
        let until = |bell: &mut Bell, word: &AtomicU64, value| {
            while word.load(SeqCst) != value {
                let drowsy = bell.about_to_sleep();
                if word.load(SeqCst) != value {
                    drowsy.wait();
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    until(&mut there, &ping, round);
                    pong.store(round, SeqCst);
                    to_back.ring();
                }
            });
            for round in 1..=ROUNDS {
                ping.store(round, SeqCst);
                to_there.ring();
                until(&mut back, &pong, round);
            }
        });
    }
}
