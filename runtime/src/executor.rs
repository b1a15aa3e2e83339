//! Blocking a thread that polls futures: what of that can be seen, and what is done about it.
//!
//! Nobody can ask a thread whether an executor runs on it. Two things are known for sure: that this library itself is
//! polling a future on the thread, and what a function says that the program gave
//! ([`Options::inside_executor`](crate::Options::inside_executor)). Nothing else is guessed.

use crate::hook;
use crate::runtime::{InExecutor, RuntimeCore};
use crate::sync::Relaxed;
use std::cell::Cell;

thread_local! {
    /// How many futures this library polls on the thread, one inside the other.
    static POLLS: Cell<usize> = const { Cell::new(0) };
}

/// This library polls a future on the thread, until this is dropped.
#[derive(Debug)]
pub(crate) struct PollsFuture(());

impl PollsFuture {
    pub(crate) fn here() -> Self {
        POLLS.with(|polls| polls.set(polls.get() + 1));
        Self(())
    }
}

impl Drop for PollsFuture {
    fn drop(&mut self) {
        POLLS.with(|polls| polls.set(polls.get() - 1));
    }
}

/// True while this library polls a future on the thread.
pub(crate) fn polls_future() -> bool {
    POLLS.with(|polls| polls.get() > 0)
}

/// The thread is about to block for an operation, which people call `what`. True if the node was told to refuse that here.
#[inline]
pub(crate) fn refuses(runtime: &RuntimeCore, what: &'static str) -> bool {
    let (answer, probe) = runtime.options.in_executor;
    if answer == InExecutor::Allow || !(polls_future() || probe.is_some_and(|probe| probe())) {
        return false;
    }
    if answer == InExecutor::Refuse {
        return true;
    }
    // Relaxed: only who is first matters.
    if !runtime.warned_of_blocking.swap(true, Relaxed) {
        hook::blocks_in_executor(what);
    }
    false
}
