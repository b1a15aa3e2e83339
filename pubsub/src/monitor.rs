//! What a subscription tells of itself, as events: its queue is high or low, samples were dropped. What takes an alarm
//! is in `watches.rs`.
//!
//! An event is a publish that does not wait, with no lock held, and only while somebody subscribes to events. What the
//! publish of an event makes happen at subscriptions is not told again ([`Telling`]), and a subscription that gets
//! events by its own topic or pattern has no monitor.

use crate::events::Event;
use crate::graph::Graph;
use crate::id::SubscriptionId;
use std::cell::Cell;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// An event is being published on this thread.
    static TELLS: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, an event is being published on this thread, and what happens there is not told.
pub(crate) struct Telling {
    was_telling: bool,
}

impl Telling {
    pub(crate) fn begin() -> Self {
        let before = TELLS.try_with(|tells| tells.replace(true));
        Self {
            was_telling: before.unwrap_or(true),
        }
    }

    /// True also while the thread ends, when it cannot be asked.
    fn is_telling() -> bool {
        TELLS.try_with(Cell::get).unwrap_or(true)
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let _gone = TELLS.try_with(|tells| tells.set(self.was_telling));
    }
}

/// Where a subscription's events go.
#[derive(Debug)]
pub(crate) struct Monitor {
    graph: Weak<Graph>,
    topic: String,
    subscription: SubscriptionId,
}

impl Monitor {
    pub(crate) fn new(graph: Weak<Graph>, topic: String, subscription: SubscriptionId) -> Self {
        Self {
            graph,
            topic,
            subscription,
        }
    }

    /// Publishes the event that `make` makes of the topic's name and the subscription, if anybody listens. No lock is
    /// held. True if it was published.
    pub(crate) fn tell(&self, make: impl FnOnce(String, SubscriptionId) -> Event) -> bool {
        let graph = self.graph.upgrade().filter(|graph| graph.has_events());
        let Some(graph) = graph.filter(|_| !Telling::is_telling()) else {
            return false;
        };
        graph.tell(make(self.topic.clone(), self.subscription));
        true
    }
}

/// When a queue counts as high, and when as low again.
#[derive(Debug)]
pub(crate) struct Marks {
    low: usize,
    high: usize,
    /// It was told that it is high.
    is_high: AtomicBool,
}

impl Marks {
    pub(crate) fn new(low: usize, high: usize) -> Self {
        Self {
            low,
            high,
            is_high: AtomicBool::new(false),
        }
    }

    /// True if that it is high is to be told. The queue's lock is held.
    pub(crate) fn rises(&self, queued: usize) -> bool {
        queued >= self.high && !self.is_high.load(Ordering::Relaxed)
    }

    /// True if it is worth looking whether it is low again.
    pub(crate) fn is_high(&self) -> bool {
        // Relaxed: whoever sees it late looks at the next sample. What is told is decided by the swaps below.
        self.is_high.load(Ordering::Relaxed)
    }

    pub(crate) fn tell_high(&self, monitor: &Monitor, queued: usize) {
        if self.is_high.swap(true, Ordering::Relaxed) {
            return;
        }
        let queued = queued as u64;
        let told = monitor.tell(|topic, subscription| Event::QueueHigh {
            topic,
            subscription,
            queued,
        });
        if !told {
            // What is not told to be high is not told to be low.
            self.is_high.store(false, Ordering::Relaxed);
        }
    }

    pub(crate) fn tell_if_low(&self, monitor: &Monitor, queued: usize) {
        if queued <= self.low && self.is_high.swap(false, Ordering::Relaxed) {
            let queued = queued as u64;
            monitor.tell(|topic, subscription| Event::QueueLow {
                topic,
                subscription,
                queued,
            });
        }
    }
}
