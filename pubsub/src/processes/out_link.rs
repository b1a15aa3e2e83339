//! The publisher's end of a link, as the layer above sees it.

use super::control::Command;
use super::memory::FilledInShm;
use super::outlet::Outlet;
use crate::transport::{self, Carried, Filled, Guard, Listener, OutLink, Remote, Stamp};
use mproc_runtime::WhenFull;
use mproc_shm::{LinkId, Ringer};
use std::sync::{Arc, Weak};

pub(super) struct LinkOut {
    pub(super) outlet: Arc<Outlet>,
    pub(super) shared: Arc<dyn transport::Outlet>,
    pub(super) id: LinkId,
    pub(super) connection: u64,
    pub(super) number: u32,
    pub(super) capacity: usize,
    pub(super) when_full: WhenFull,
    pub(super) is_tap: bool,
    pub(super) remote: Remote,
    pub(super) ringer: Ringer,
}

impl LinkOut {
    /// A sample in the memory of another outlet: of another transport, or of this topic's before all of its links had left.
    fn push_copy(&self, filled: &dyn Filled, stamp: &Stamp, guard: Guard) -> Carried {
        let copied = self
            .outlet
            .lend(filled.bytes().len(), None)
            .map(|mut loan| {
                loan.bytes_mut().copy_from_slice(filled.bytes());
                loan.freeze()
            });
        match copied {
            Ok(copy) => return self.push(&copy, stamp, guard),
            Err(_) => self.outlet.keep(guard),
        }
        // Short or never: a publisher that waits for memory has to do so when it borrows, not here.
        match self.when_full {
            WhenFull::Wait => Carried::Full,
            _ => Carried::Dropped,
        }
    }
}

impl OutLink for LinkOut {
    fn outlet(&self) -> &Arc<dyn transport::Outlet> {
        &self.shared
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn when_full(&self) -> WhenFull {
        self.when_full
    }

    fn is_tap(&self) -> bool {
        self.is_tap
    }

    fn remote(&self) -> &Remote {
        &self.remote
    }

    fn set_listener(&self, listener: Weak<dyn Listener>) {
        if self.outlet.is_here() {
            self.outlet.set_listener(self.id, listener);
        }
    }

    fn push(&self, filled: &Arc<dyn Filled>, stamp: &Stamp, guard: Guard) -> Carried {
        if !self.outlet.is_here() {
            return Carried::Gone;
        }
        let ours = filled.as_any().downcast_ref::<FilledInShm>();
        let Some(ours) = ours.and_then(|filled| filled.of(&self.outlet)) else {
            return self.push_copy(&**filled, stamp, guard);
        };
        let mut faulted = None;
        let carried = self.outlet.push(self.id, ours, stamp, guard, &mut faulted);
        if let Some(why) = faulted {
            self.outlet.core().post(Command::Violated {
                connection: self.connection,
                number: self.number,
                why,
            });
        }
        carried
    }

    fn queued(&self) -> usize {
        if self.outlet.is_here() {
            self.outlet.queued(self.id)
        } else {
            0
        }
    }

    fn sweep(&self) {
        if self.outlet.is_here() {
            self.outlet.sweep(self.id);
        }
    }

    fn watch(&self, on: bool) {
        if self.outlet.is_here() {
            self.outlet.watch(self.id, on);
        }
    }

    fn ring(&self) {
        if self.outlet.is_here() {
            self.ringer.ring();
            self.outlet.drop_released();
        }
    }

    fn close(&self) {
        if self.outlet.is_here() {
            self.outlet.close_link(self.id);
            let (connection, number) = (self.connection, self.number);
            let command = Command::CloseLink { connection, number };
            self.outlet.core().post(command);
        }
    }
}
