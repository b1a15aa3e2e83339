//! Telling the receiving side that there is something, or that nothing comes any more.

use super::Delivery;
use std::task::Waker;

impl<T: ?Sized + Send + Sync + 'static> Delivery<T> {
    /// Has the receiving side look again. A lane that is rung will do so anyway: to ring it once more would put it on its
    /// processor's list twice, and give it two turns where other lanes have one.
    pub(super) fn look_again(&self) {
        let is_rung = std::mem::replace(&mut self.state.lock().rung, true);
        if !is_rung || self.bell.get().is_none() {
            self.ring_now();
        }
    }

    pub(super) fn ring_now(&self) {
        if let Some(bell) = self.bell.get() {
            bell.ring();
        } else {
            self.tell_those_who_wait();
        }
    }

    /// Pulled from: each item that is kept for nobody is kept for the next in line. True if anybody was woken.
    ///
    /// What there is counts under the lock of the line. What somebody has seen before it may be taken meanwhile.
    pub(super) fn tell_those_who_wait(&self) -> bool {
        let (first, watchers) = {
            let mut state = self.state.lock();
            let state = &mut *state;
            if !state.receivers.is_waited_for() || self.is_paused() {
                return false;
            }
            let free = state
                .queue
                .len()
                .saturating_add(self.sources.available())
                .saturating_sub(state.receivers.granted.len());
            let mut first = Vec::new();
            while first.len() < free
                && let Some((number, waker)) = state.receivers.in_order.pop_front()
            {
                state.receivers.granted.push(number);
                first.push(waker);
            }
            // Those who watch are woken for what they can take: not for what is kept for others.
            let watchers = if first.len() < free {
                std::mem::take(&mut state.receivers.watchers)
            } else {
                Vec::new()
            };
            (first, watchers)
        };
        let any = !first.is_empty() || !watchers.is_empty();
        first.into_iter().chain(watchers).for_each(Waker::wake);
        any
    }

    /// What waited at the sources was taken, and nothing of it is handed on. If no more comes, whoever waits may be waiting for that.
    pub(super) fn tell_the_end(&self) {
        let is_waited_for = {
            let state = self.state.lock();
            state.closed.is_some() && state.receivers.end_is_waited_for()
        };
        if is_waited_for {
            self.wake_all_receivers();
        }
    }

    pub(super) fn wake_all_receivers(&self) {
        if self.bell.get().is_some() {
            self.look_again();
            return;
        }
        let wake: Vec<Waker> = {
            let mut state = self.state.lock();
            let receivers = &mut state.receivers;
            let waiting = receivers.in_order.iter().map(|(_, w)| w.clone());
            let mut wake: Vec<_> = waiting.collect();
            wake.append(&mut receivers.watchers);
            wake.append(&mut receivers.drainers);
            wake
        };
        wake.into_iter().for_each(Waker::wake);
    }
}
