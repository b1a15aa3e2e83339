//! What a subscription tells of itself: events, marks, silence.

use super::Delivery;
use crate::events::Event;
use crate::id::SubscriptionId;
use crate::monitor::Monitor;
use crate::subscriber::Subscriber as _;
use crate::watches::Hears;
use std::sync::{Arc, Weak};

impl<T: ?Sized + Send + Sync + 'static> Delivery<T> {
    /// Has it tell what happens here. Before it joins its topic.
    pub(crate) fn set_monitor(self: &Arc<Self>, monitor: Monitor) {
        let _set_once = self.monitor.set(monitor);
        if let Some(watch) = &self.silence_watch {
            let hears: Weak<dyn Hears> = Arc::<Self>::downgrade(self);
            watch.begin(hears);
        }
    }

    /// A sample was received, from this node or another. No lock is held.
    #[inline]
    pub(super) fn note_received(&self) {
        if let Some(watch) = &self.silence_watch {
            watch.hear();
        }
    }

    /// Tells an event, if anybody listens. No lock is held.
    pub(crate) fn tell(&self, make: impl FnOnce(String, SubscriptionId) -> Event) {
        if let Some(monitor) = self.monitor.get() {
            monitor.tell(make);
        }
    }

    /// Tells that samples were lost. No lock is held.
    pub(super) fn tell_dropped(&self, count: u64) {
        self.tell(|topic, subscription| Event::Dropped {
            topic,
            subscription,
            count,
        });
    }

    /// A sample was taken from the queue. No lock is held.
    #[inline]
    pub(crate) fn note_taken(&self) {
        self.note_received();
        if let Some(marks) = self.marks.as_ref().filter(|marks| marks.is_high())
            && let Some(monitor) = self.monitor.get()
        {
            let queued = self.state.lock().queue.len() + self.progress.rest();
            marks.tell_if_low(monitor, queued);
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Hears for Delivery<T> {
    fn has_something(&self) -> bool {
        !self.is_paused() && self.snapshot().queued > 0
    }

    fn has_ended(&self) -> bool {
        !self.is_here() || self.state.lock().closed.is_some()
    }

    fn monitor(&self) -> Option<&Monitor> {
        self.monitor.get()
    }
}
