//! Samples that are held: how many, since when, and the limit.

use super::Delivery;
use crate::monitor::Monitor;
use crate::sample::{Gap, Held, Receipt};
use crate::watches::{HeldSince, Leased};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl<T: ?Sized + Send + Sync + 'static> Delivery<T> {
    pub(crate) fn receipt(self: &Arc<Self>, gap: u64, received: Instant) -> Receipt {
        let held = (self.max_leases.is_some() || self.lease_watch.is_some())
            .then(|| self.clone() as Arc<dyn Held>);
        Receipt {
            subscription: self.id,
            gap: Gap::Known(gap),
            received,
            held,
        }
    }

    pub(crate) fn is_at_lease_limit(&self) -> bool {
        self.max_leases
            .is_some_and(|max| self.held.load(Ordering::Acquire) >= max)
    }
}

impl<T: ?Sized + Send + Sync + 'static> Leased for Delivery<T> {
    fn held_since(&self) -> &HeldSince {
        &self.held_since
    }

    fn monitor(&self) -> Option<&Monitor> {
        self.monitor.get()
    }
}

impl<T: ?Sized + Send + Sync + 'static> Held for Delivery<T> {
    fn keep(&self, received: Instant) {
        if !self.is_here() {
            return;
        }
        self.held.fetch_add(1, Ordering::AcqRel);
        *self.held_since.lock().entry(received).or_default() += 1;
        if let Some(watch) = &self.lease_watch {
            watch.note();
        }
    }

    fn let_go(&self, received: Instant) {
        if !self.is_here() {
            return;
        }
        {
            let mut since = self.held_since.lock();
            if let Some(count) = since.get_mut(&received) {
                *count -= 1;
                if *count == 0 {
                    since.remove(&received);
                }
            }
        }
        let before = self.held.fetch_sub(1, Ordering::AcqRel);
        // At the limit nothing more is taken: now something may be.
        if Some(before) == self.max_leases {
            self.look_again();
        }
    }
}
