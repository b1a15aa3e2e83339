//! The line of those who pull: a place in it that takes nothing, and the end of a subscription that is still read.

use super::{Closed, Delivery, State};
use crate::subscriber::Subscriber as _;
use mproc_runtime::DropCause;
use std::task::Waker;

impl<T: ?Sized + Send + Sync + 'static> Delivery<T> {
    /// Has a place in the line from now on. Nothing is taken: the sample that comes stays in the queue and is kept for this
    /// place, until [`poll_recv`](Self::poll_recv) takes it or [`leave_line`](Self::leave_line) gives it to the next.
    pub(crate) fn stand_in_line(&self, place: &mut Option<u64>, waker: &Waker) {
        if !self.is_here() || place.is_some() {
            return;
        }
        // A waker's clone is the user's code: not under the lock.
        let waker = waker.clone();
        {
            let mut state = self.state.lock();
            let receivers = &mut state.receivers;
            let number = receivers.next;
            receivers.next += 1;
            receivers.in_order.push_back((number, waker));
            *place = Some(number);
        }
        self.enlisted();
        // What is there already is kept for those who are first.
        self.ring_now();
    }

    /// True if a sample is kept for this place, or none comes any more.
    pub(crate) fn is_kept_for(&self, place: Option<u64>) -> bool {
        if !self.is_here() {
            return true;
        }
        let state = self.state.lock();
        place.is_some_and(|number| state.receivers.granted.contains(&number))
            || (state.closed.is_some() && self.is_dry(&state))
    }

    fn is_dry(&self, state: &State<T>) -> bool {
        state.queue.is_empty() && (!self.sources.any() || self.sources.available() == 0)
    }

    /// No more comes; what is queued can still be taken.
    pub(crate) fn take_no_more(&self) {
        self.close(Closed::Draining);
    }

    /// True if nothing is left to take; else `waker` is woken when it is worth asking again.
    pub(crate) fn poll_drained(&self, waker: &Waker) -> bool {
        if !self.is_here() {
            return true;
        }
        let waker = waker.clone();
        let mut state = self.state.lock();
        if self.is_dry(&state) {
            return true;
        }
        let drainers = &mut state.receivers.drainers;
        if !drainers.iter().any(|w| w.will_wake(&waker)) {
            drainers.push(waker);
        }
        false
    }

    /// How many samples wait at other processes for this subscription, and how many were given back because it was
    /// unsubscribed.
    pub(crate) fn left_behind(&self) -> (u64, u64) {
        let waits = self.sources.queued() as u64;
        let given_back = self.state.lock().drops.by(DropCause::Unsubscribed);
        (waits, given_back)
    }
}
