//! A survey on its way: what whoever waits for it and whoever makes it have in common.

use super::Survey;
use mproc_runtime::{Error, ErrorKind};
use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Poll, Waker};

#[derive(Default)]
struct State {
    result: Option<Result<Survey, Error>>,
    /// It has its result, or nobody wants it.
    is_over: bool,
    waker: Option<Waker>,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Ask {
    state: Mutex<State>,
}

impl Ask {
    /// The result. The first counts. Wakes whoever waits, so that no lock may be held.
    pub(crate) fn finish(&self, result: Result<Survey, Error>) {
        let (waker, _late) = {
            let mut state = self.state.lock();
            if state.is_over {
                (None, Some(result))
            } else {
                state.is_over = true;
                state.result = Some(result);
                (state.waker.take(), None)
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The result, once; else `waker` is woken when it is there.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Result<Survey, Error>> {
        let waker = waker.clone();
        let (poll, _dropped_unlocked) = {
            let mut state = self.state.lock();
            match state.result.take() {
                Some(result) => (Poll::Ready(result), (state.waker.take(), Some(waker))),
                None => (Poll::Pending, (state.waker.replace(waker), None)),
            }
        };
        poll
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state.lock().result.is_some()
    }

    /// Nobody waits any more.
    pub(crate) fn abandon(&self) {
        let _waker = {
            let mut state = self.state.lock();
            state.is_over = true;
            state.waker.take()
        };
    }

    /// True if it has its result, or nobody wants it.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().is_over
    }
}

/// Whoever makes a survey holds this. Dropped without a result, it says that the node has left its domain.
pub(crate) struct Asking(pub(crate) Arc<Ask>);

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.0.is_over() {
            let text = "cannot survey the domain: this node has left it";
            self.0.finish(Err(Error::new(ErrorKind::Closed, text)));
        }
    }
}
