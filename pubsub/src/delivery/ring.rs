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
            return;
        }
        let (first, watchers) = {
            let mut state = self.state.lock();
            let state = &mut *state;
            let free = state
                .queue
                .len()
                .saturating_add(self.sources.available())
                .saturating_sub(state.receivers.granted.len());
            let mut first = Vec::new();
            if !self.is_paused() {
                for _ in 0..free {
                    let Some((number, waker)) = state.receivers.in_order.pop_front() else {
                        break;
                    };
                    state.receivers.granted.push(number);
                    first.push(waker);
                }
            }
            (first, std::mem::take(&mut state.receivers.watchers))
        };
        first.into_iter().chain(watchers).for_each(Waker::wake);
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
            let wake = waiting.collect::<Vec<_>>();
            wake.into_iter()
                .chain(std::mem::take(&mut receivers.watchers))
                .collect()
        };
        wake.into_iter().for_each(Waker::wake);
    }
}
