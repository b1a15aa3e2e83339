//! What comes of an update or a task, and who waits for it.

use crate::error::CallError;
use crate::sync::{Acquire, AtomicBool, Mutex, Release};
use std::task::{Poll, Waker};

pub(super) struct Reply<T> {
    /// Set after `state.result`.
    done: AtomicBool,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Nothing of it goes on.
    over: bool,
    /// Nobody waits for the result.
    cancelled: bool,
    result: Option<Result<T, CallError>>,
    waker: Option<Waker>,
}

impl<T> Reply<T> {
    pub(super) fn new() -> Self {
        Self {
            done: AtomicBool::new(false),
            state: Mutex::new(State {
                over: false,
                cancelled: false,
                result: None,
                waker: None,
            }),
        }
    }

    /// The first answer counts.
    pub(super) fn answer(&self, result: Result<T, CallError>) {
        // What nobody wants is dropped after the lock is released: its drop is the user's code.
        let mut unwanted = Some(result);
        let waker = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.over, true) {
                return;
            }
            if !state.cancelled {
                state.result = unwanted.take();
            }
            state.waker.take()
        };
        // Release pairs with the Acquire in `is_done`.
        self.done.store(true, Release);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, waker: &Waker) -> Poll<Result<T, CallError>> {
        // Made before the lock is taken and dropped after it: a waker's clone and drop are the user's code.
        let mut waker = (!self.is_done()).then(|| waker.clone());
        let mut state = self.state.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                std::mem::swap(&mut state.waker, &mut waker);
                Poll::Pending
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Acquire)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled
    }

    /// Nobody waits any more. `is_over` says that nothing of it goes on.
    pub(super) fn cancel(&self, is_over: bool) {
        // Dropped after the lock is released, as above.
        let _dropped = {
            let mut state = self.state.lock();
            state.cancelled = true;
            state.over |= is_over;
            (state.result.take(), state.waker.take())
        };
    }

    /// True if nothing of it goes on; else `waker` is woken when that is so.
    pub(super) fn poll_over(&self, waker: &Waker) -> bool {
        let mut waker = Some(waker.clone());
        let mut state = self.state.lock();
        if state.over {
            return true;
        }
        std::mem::swap(&mut state.waker, &mut waker);
        drop(state);
        false
    }
}
