//! The thread that deals with what other nodes send: it asks this node's servers, and hands replies to those who wait.
//!
//! It is there once a node that belongs to a domain serves or calls, and it sleeps unless it is kicked: by a frame that came, a
//! request that goes on, or room for frames that wait. It runs nobody's handler; what is decoded and encoded for requests of
//! other nodes is decoded and encoded here. It is no handler itself: a request that finds no room at a server waits in line
//! there, and holds up nothing else.

use super::registry::Registry;
use parking_lot::{Condvar, Mutex};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::task::Wake;
use std::thread::{self, JoinHandle};

/// What wakes the dispatcher.
#[derive(Default)]
pub(crate) struct Kick {
    state: Mutex<Kicked>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Kicked {
    is_kicked: bool,
    is_closing: bool,
}

impl Kick {
    pub(crate) fn kick(&self) {
        let was = std::mem::replace(&mut self.state.lock().is_kicked, true);
        if !was {
            self.changed.notify_one();
        }
    }

    /// The dispatcher ends after one more turn.
    pub(crate) fn close(&self) {
        self.state.lock().is_closing = true;
        self.changed.notify_one();
    }

    /// Sleeps until there is something to do. True if that is the last time.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.is_kicked && !state.is_closing {
            self.changed.wait(&mut state);
        }
        state.is_kicked = false;
        state.is_closing
    }
}

impl Wake for Kick {
    fn wake(self: Arc<Self>) {
        self.kick();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.kick();
    }
}

/// Starts the thread.
pub(crate) fn start(kick: &Arc<Kick>, registry: Weak<Registry>) -> std::io::Result<JoinHandle<()>> {
    let kick = Arc::clone(kick);
    let run = move || {
        loop {
            let is_last = kick.wait();
            let Some(registry) = registry.upgrade() else {
                return;
            };
            // What panics is code of others: a waker or a drop. Decoding and encoding are caught where they are done.
            let turned = catch_unwind(AssertUnwindSafe(|| registry.turn()));
            if turned.is_err() {
                mproc_runtime::hook::remote("what a frame about services led to panicked");
                kick.kick();
            }
            if is_last {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("mproc services".into())
        .spawn(run)
}
