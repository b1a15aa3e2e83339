//! Where the answer of another node waits for its caller.

use super::error::ServiceError;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

/// The bytes of a reply, or why there are none. They are decoded by whoever waits, on its own thread.
#[derive(Default)]
pub(crate) struct Slot {
    /// Set after the result, so that a spinning caller need not lock.
    done: AtomicBool,
    /// The request was sent. Written and read under the registry's lock, so that no ordering is asked of it.
    sent: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    result: Option<Result<Vec<u8>, ServiceError>>,
    is_complete: bool,
    waker: Option<Waker>,
}

impl Slot {
    /// The first counts.
    pub(crate) fn complete(&self, result: Result<Vec<u8>, ServiceError>) {
        let waker = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.is_complete, true) {
                return;
            }
            state.result = Some(result);
            state.waker.take()
        };
        // Release pairs with the Acquire in `is_done`.
        self.done.store(true, Ordering::Release);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// For the registry, under its lock.
    pub(crate) fn set_sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// For the registry, under its lock.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Result<Vec<u8>, ServiceError>> {
        // Made before the lock is taken and dropped after it: a waker's clone and drop are the user's code.
        let mut waker = Some(waker.clone());
        let mut state = self.state.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                std::mem::swap(&mut state.waker, &mut waker);
                drop(state);
                Poll::Pending
            }
        }
    }
}
