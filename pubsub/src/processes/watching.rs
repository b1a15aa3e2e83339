//! Who waits for what comes back, and how they are told.
//!
//! A link is *watched* while its listener asked for it, or while somebody waits for memory. Its subscriber then rings this
//! node's bell 0 whenever it takes or gives back, and the bell thread [looks](Outlet::look): it compares how many samples each
//! watched link has taken and given back with what it saw before, and tells those who wait if that has changed. Both numbers
//! only grow, so a change is never hidden by a publish in between, and what nobody can use is told once.

use super::outlet::{End, Inside, Outlet};
use crate::transport::{Guard, Listener};
use mproc_shm::{Endpoint, LinkId};
use std::sync::Weak;
use std::sync::atomic::{Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::task::Waker;

/// What had come back when it was looked at last: samples taken, and samples given back.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    taken: u64,
    returned: u64,
}

/// What a lock let go of, to be told or dropped after it.
#[derive(Default)]
pub(super) struct Afterwards {
    pub(super) guards: Vec<Guard>,
    pub(super) listeners: Vec<Weak<dyn Listener>>,
    pub(super) wakers: Vec<Waker>,
    pub(super) endpoint: Option<Endpoint>,
}

impl Afterwards {
    /// With no lock held.
    pub(super) fn carry_out(self) {
        drop(self.guards);
        drop(self.endpoint);
        for listener in self.listeners {
            if let Some(listener) = listener.upgrade() {
                listener.came_back();
            }
        }
        for waker in self.wakers {
            waker.wake();
        }
    }
}

impl Inside {
    pub(super) fn end(&mut self, id: LinkId) -> Option<&mut End> {
        self.ends.iter_mut().find(|end| end.id == id)
    }

    fn standing(endpoint: &mut Endpoint, end: &End) -> Seen {
        endpoint.sweep(end.id);
        let queued = endpoint.queued(end.id) as u64;
        let held = endpoint.held(end.id) as u64;
        Seen {
            taken: end.sent.saturating_sub(queued),
            returned: end.sent.saturating_sub(held),
        }
    }

    /// Asks the subscribers to ring, or no longer. True if the bell thread has something to look at.
    pub(super) fn set_watches(&mut self) -> bool {
        let Some(endpoint) = &mut self.endpoint else {
            return false;
        };
        let memory = !self.wakers.is_empty();
        let mut any = memory;
        for end in &mut self.ends {
            let was_watched = end.is_asked || self.watches_memory;
            if (end.is_wanted || memory) && !was_watched {
                // Before the subscriber is asked: what changes from here on is news.
                end.seen = Self::standing(endpoint, end);
            }
            if end.is_wanted != end.is_asked {
                end.is_asked = end.is_wanted;
                endpoint.watch(end.id, end.is_wanted);
            }
            any |= end.is_wanted;
        }
        if memory != self.watches_memory {
            self.watches_memory = memory;
            endpoint.watch_all(memory);
            endpoint.watch_local(memory);
        }
        any
    }

    /// Nothing is pushed on a link any more. What it has still comes back, unless it was `reaped`.
    pub(super) fn gone(&mut self, id: LinkId, reaped: bool) -> Afterwards {
        let mut after = Afterwards::default();
        if let Some(end) = self.end(id) {
            after.listeners.extend(end.listener.take());
            (end.is_wanted, end.is_closed, end.has_left) = (false, true, true);
        }
        self.forget_empty(reaped.then_some(id));
        after.wakers = std::mem::take(&mut self.wakers);
        after.guards = self.take_guards();
        after
    }

    /// What can be dropped as soon as no lock is held.
    pub(super) fn take_guards(&mut self) -> Vec<Guard> {
        let mut guards = std::mem::take(&mut self.kept);
        if let Some(endpoint) = &mut self.endpoint {
            guards.append(&mut endpoint.take_released());
        }
        guards
    }

    /// Forgets the links that are closed and hold nothing.
    fn forget_empty(&mut self, reaped: Option<LinkId>) {
        let Some(endpoint) = &mut self.endpoint else {
            return;
        };
        self.ends.retain(|end| {
            let is_over = end.has_left && endpoint.held(end.id) == 0;
            !is_over && Some(end.id) != reaped
        });
    }
}

impl Outlet {
    pub(super) fn watch(&self, id: LinkId, on: bool) {
        let mut inside = self.inside.lock();
        if let Some(end) = inside.end(id) {
            end.is_wanted = on;
        }
        let any = inside.set_watches();
        self.is_watched.store(any, Release);
    }

    /// Tells those who wait what has come back. True if anything had.
    pub(super) fn look(&self) -> bool {
        let has_local = self.has_local.swap(false, AcqRel);
        if !has_local && !self.is_watched.load(Acquire) {
            return false;
        }
        let mut inside = self.inside.lock();
        let mut after = Afterwards::default();
        let Inside {
            endpoint,
            ends,
            wakers,
            ..
        } = &mut *inside;
        let Some(endpoint) = endpoint else {
            return false;
        };
        let mut found = has_local;
        let memory = !wakers.is_empty();
        for end in ends.iter_mut().filter(|end| end.is_asked || memory) {
            let standing = Inside::standing(endpoint, end);
            if standing == end.seen {
                continue;
            }
            found = true;
            end.seen = standing;
            if end.is_wanted {
                after.listeners.extend(end.listener.clone());
            }
        }
        if found {
            after.wakers = std::mem::take(wakers);
        }
        after.guards = inside.take_guards();
        inside.forget_empty(None);
        let any = inside.set_watches();
        self.is_watched.store(any, Release);
        drop(inside);
        after.carry_out();
        found
    }
}
