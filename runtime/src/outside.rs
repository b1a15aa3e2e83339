//! The seam for what reaches a driver from outside its process.
//!
//! A driver's thread sleeps until its waker is woken. Another process cannot call a waker: it can only write into memory
//! that both map, and ring a bell there. Whoever knows that memory implements [`Outside`] and gives it to the driver
//! ([`LaneBell::outside`]); from then on the driver looks there in each turn, and sleeps there when it has nothing to do.
//! How that sleep and the thread's waker fit together stands in `parker.rs`.
//!
//! Only the idle sleep of a driver is spent there. A thread that blocks for something definite (a reply, room, an end) is
//! woken by that and by nothing else. The same goes for a script that carries out the end of its node: its turns look
//! outside, but news from there do not wake it.

use crate::lane::LaneBell;
use std::sync::Arc;
use std::time::Instant;

/// What reaches a driver from outside its process: queues that others fill, and the bell that they ring.
///
/// A driver has at most one, and asks it to sleep from one thread only.
///
/// What it keeps of a lane (its [`LaneBell`]) it must let go of when the lane ends
/// ([`LaneSource::end`](crate::LaneSource::end)): a bell holds its processor, that its driver, and that this.
pub trait Outside: Send + Sync + 'static {
    /// Looks for what came, and rings the lanes that it came for ([`LaneBell::ring`]). True if there was anything.
    ///
    /// Called on the driver's thread, in each of its turns and before it sleeps: it should cost a few loads. For a script that
    /// another event loop sleeps for, called on a thread that sleeps here in its place, too, perhaps at once. It must not
    /// block. What it said once it need not say again: a lane whose bell was rung is asked until it has nothing left.
    fn look(&self) -> bool;

    /// Announces to others that this thread is going to sleep; then asks `stay_awake` once; unless that says true, sleeps
    /// until [`ring`](Self::ring) is called (also if that was after the announcement), somebody outside rings, or `until`
    /// has come. May return early.
    ///
    /// No lock that `look` or `ring` takes may be held while `stay_awake` is asked: it calls `look`, and a message to this very
    /// thread rings.
    ///
    /// # Lost wake-ups
    ///
    /// Whoever wakes writes first and rings then; whoever sleeps announces first and looks then. Of the two, one must see
    /// the other: either the ring ends the sleep, or `stay_awake` sees what was written before it. Where a ring is left out
    /// unless somebody has announced a sleep, that takes a fence (`SeqCst`) on either side: between the announcement and
    /// `stay_awake`, and in `ring` before it reads the announcement. Where a ring always changes the word that the sleeper
    /// compares, it is enough that the sleeper reads that word (`Acquire`) before it asks, and that the ring is a `Release`.
    fn sleep(&self, until: Option<Instant>, stay_awake: &mut dyn FnMut() -> bool);

    /// Wakes the thread that is in [`sleep`](Self::sleep). From any thread, and also when that sleep is just over.
    fn ring(&self);
}

impl LaneBell {
    /// What reaches the lane's driver from outside, made by `make` at the first call for that driver.
    ///
    /// `None` if `make` said so (a later call asks again), and in a simulated world, which nothing reaches from outside:
    /// there `make` is not called. The driver keeps it as long as it lives.
    ///
    /// # Panics
    ///
    /// If the calling thread is not the driver's own. Where a lane is added it is.
    pub fn outside(
        &self,
        make: impl FnOnce() -> Option<Arc<dyn Outside>>,
    ) -> Option<Arc<dyn Outside>> {
        self.cell.driver().outside(make)
    }
}
