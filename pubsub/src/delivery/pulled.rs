//! Pulled subscriptions: receivers that take one item at a time, and the line in which they wait.

use super::outside::Fetched;
use super::{Delivery, State};
use crate::error::RecvError;
use crate::sample::Sample;
use crate::subscriber::Closed;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

/// Threads and tasks that wait for an item, in order.
#[derive(Default)]
pub(super) struct Receivers {
    pub(super) next: u64,
    pub(super) in_order: VecDeque<(u64, Waker)>,
    /// Those that were woken for an item and have not taken it yet.
    pub(super) granted: Vec<u64>,
    /// Those that only want to know that something is there.
    pub(super) watchers: Vec<Waker>,
    /// Those that want to know that nothing is left.
    pub(super) drainers: Vec<Waker>,
}

impl Receivers {
    /// True if anybody wants to know that something is there.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.in_order.is_empty() || !self.watchers.is_empty()
    }

    /// True if anybody wants to know that nothing comes any more.
    pub(super) fn end_is_waited_for(&self) -> bool {
        self.is_waited_for() || !self.drainers.is_empty()
    }
}

enum Choice {
    Queue,
    Sources,
    Nothing,
}

impl<T: ?Sized + Send + Sync + 'static> Delivery<T> {
    /// Takes an item, or stands in line for one.
    pub(crate) fn poll_recv(
        self: &Arc<Self>,
        ticket: &mut Option<u64>,
        waker: &Waker,
    ) -> Poll<Result<Sample<T>, RecvError>> {
        if !self.is_here() {
            return Poll::Ready(Err(RecvError::Closed));
        }
        // Dropped after the lock, because it is made before: a waker's drop is the user's code.
        let mut _old = None;
        let mut was_granted = false;
        let mut sources_are_dry = !self.sources.any();
        loop {
            let mut state = self.state.lock();
            let granted = was_granted
                || match *ticket {
                    Some(number) => {
                        let granted = &mut state.receivers.granted;
                        match granted.iter().position(|&n| n == number) {
                            Some(at) => {
                                granted.swap_remove(at);
                                true
                            }
                            None => false,
                        }
                    }
                    None => state.receivers.in_order.is_empty(),
                };
            match self.choose(&state, granted, sources_are_dry) {
                Choice::Queue => {
                    *ticket = None;
                    return Poll::Ready(Ok(self.take(state)));
                }
                Choice::Sources => {
                    drop(state);
                    if let Fetched::Sample(body, gap) = self.fetch() {
                        *ticket = None;
                        return Poll::Ready(Ok(self.fetched(body, gap)));
                    }
                    self.tell_the_end();
                    was_granted = granted;
                    sources_are_dry = true;
                    continue;
                }
                Choice::Nothing => {}
            }
            if let Some(closed) = state.closed
                && state.queue.is_empty()
                && (sources_are_dry || self.sources.available() == 0)
            {
                *ticket = None;
                return Poll::Ready(Err(match closed {
                    Closed::Unsubscribed | Closed::Draining => RecvError::Closed,
                    Closed::Full => RecvError::Disconnected,
                }));
            }
            match *ticket {
                Some(number) if !granted => {
                    let in_order = &mut state.receivers.in_order;
                    match in_order.iter_mut().find(|(n, _)| *n == number) {
                        Some((_, kept)) => _old = Some(std::mem::replace(kept, waker.clone())),
                        // It was told of a sample whose filter or decoder panicked.
                        None => in_order.push_front((number, waker.clone())),
                    }
                }
                // Woken in vain keeps the place at the head of the line.
                Some(number) => state.receivers.in_order.push_front((number, waker.clone())),
                None => {
                    let number = state.receivers.next;
                    state.receivers.next += 1;
                    state.receivers.in_order.push_back((number, waker.clone()));
                    *ticket = Some(number);
                }
            }
            drop(state);
            self.enlisted();
            return Poll::Pending;
        }
    }

    /// From where a receiver takes that may take: queue and sources have their turns.
    fn choose(&self, state: &State<T>, granted: bool, sources_are_dry: bool) -> Choice {
        if !granted || self.is_paused() || self.is_at_lease_limit() {
            return Choice::Nothing;
        }
        let from_sources = if sources_are_dry {
            0
        } else {
            self.sources.available()
        };
        let spoken_for = state.receivers.granted.len();
        if state.queue.len() + from_sources <= spoken_for {
            return Choice::Nothing;
        }
        let is_sources_turn = self.sources_turn.fetch_not(Ordering::Relaxed);
        if from_sources > 0 && (state.queue.is_empty() || is_sources_turn) {
            Choice::Sources
        } else if state.queue.is_empty() {
            Choice::Nothing
        } else {
            Choice::Queue
        }
    }

    /// Takes an item if nobody else waits for it.
    pub(crate) fn try_recv(self: &Arc<Self>) -> Result<Option<Sample<T>>, RecvError> {
        if !self.is_here() {
            return Err(RecvError::Closed);
        }
        let mut sources_are_dry = !self.sources.any();
        loop {
            let state = self.state.lock();
            let granted = state.receivers.in_order.is_empty();
            match self.choose(&state, granted, sources_are_dry) {
                Choice::Queue => return Ok(Some(self.take(state))),
                Choice::Sources => {
                    drop(state);
                    if let Fetched::Sample(body, gap) = self.fetch() {
                        return Ok(Some(self.fetched(body, gap)));
                    }
                    self.tell_the_end();
                    sources_are_dry = true;
                }
                Choice::Nothing => {
                    return match state.closed {
                        Some(Closed::Unsubscribed | Closed::Draining) if state.queue.is_empty() => {
                            Err(RecvError::Closed)
                        }
                        Some(Closed::Full) if state.queue.is_empty() => {
                            Err(RecvError::Disconnected)
                        }
                        _ => Ok(None),
                    };
                }
            }
        }
    }

    fn take(self: &Arc<Self>, mut state: parking_lot::MutexGuard<'_, State<T>>) -> Sample<T> {
        let (item, wake) = state.queue.pop(&self.progress);
        let Some(mut item) = item else {
            unreachable!("the caller saw an item under this lock");
        };
        let gap = self.taken.note(&mut item.number);
        let is_last = state.closed.is_some() && state.queue.is_empty();
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        if is_last {
            // Those who wait have been told that it is closed, and have found this item still there.
            self.wake_all_receivers();
        }
        self.note_taken();
        let received = self.runtime.now();
        let receipt = self.receipt(gap, received);
        Sample::new(item, receipt)
    }

    /// Leaves the line. An item it was woken for goes to the next.
    pub(crate) fn leave_line(&self, ticket: &mut Option<u64>) {
        let Some(number) = ticket.take().filter(|_| self.is_here()) else {
            return;
        };
        // Dropped after the lock is released: a waker's drop is the user's code.
        let _left = {
            let mut state = self.state.lock();
            let receivers = &mut state.receivers;
            receivers.granted.retain(|n| *n != number);
            let at = receivers.in_order.iter().position(|(n, _)| *n == number);
            at.and_then(|at| receivers.in_order.remove(at))
        };
        self.ring_now();
    }

    /// True if something can be taken or the subscription is closed; else `waker` is woken when that changes.
    pub(crate) fn poll_ready(&self, waker: &Waker) -> bool {
        if !self.is_here() {
            return true;
        }
        let mut state = self.state.lock();
        let spoken_for = state.receivers.granted.len();
        let there = state.queue.len() + self.sources.available();
        if (there > spoken_for && !self.is_paused() && !self.is_at_lease_limit())
            || state.closed.is_some()
        {
            return true;
        }
        if !state.receivers.watchers.iter().any(|w| w.will_wake(waker)) {
            state.receivers.watchers.push(waker.clone());
        }
        drop(state);
        self.enlisted();
        false
    }

    /// A look for those who spin.
    pub(crate) fn has_samples(&self) -> bool {
        if !self.is_here() || self.sources.have_news() {
            return true;
        }
        let state = self.state.lock();
        !state.queue.is_empty() || state.closed.is_some()
    }
}
