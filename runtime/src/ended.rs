//! Waiting for the end of a processor.

use crate::address::Address;
use crate::current;
use crate::error::CallError;
use crate::exit::Down;
use crate::name::Name;
use crate::pending::{CutShort, Operation};
use crate::processor::Processor;
use crate::queue::Waiter;
use crate::runtime::RuntimeCore;
use crate::sync::Mutex;
use crate::waits_for::{Answer, Debt, Owed, Owner};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

#[derive(Default)]
struct EndedState {
    down: Option<Down>,
    /// `down` is there, or was and has been taken.
    told: bool,
    waker: Option<Waker>,
    watching: Option<u64>,
}

pub(crate) struct Ended<P: Processor> {
    target: Address<P>,
    state: Arc<Mutex<EndedState>>,
}

impl<P: Processor> Ended<P> {
    pub(crate) fn new(target: Address<P>) -> Self {
        Self {
            target,
            state: Arc::new(Mutex::new(EndedState::default())),
        }
    }
}

/// A processor ends on its own driver's thread.
impl<P: Processor> Answer for Ended<P> {
    fn is_there(&self) -> bool {
        self.state.lock().told
    }

    fn owner(&self) -> Option<Owner> {
        Some(Owner::of(&**self.target.cell()))
    }
}

impl<P: Processor> Operation<Down, CallError> for Ended<P> {
    fn begin(self: Arc<Self>, _: &mut Waiter, waker: &Waker) -> Poll<Result<(), CallError>> {
        let number = next_watch();
        {
            let mut state = self.state.lock();
            state.waker = Some(waker.clone());
            state.watching = Some(number);
        }
        let shared = self.state.clone();
        self.target.watch_with(
            number,
            Box::new(move |down| {
                let waker = {
                    let mut state = shared.lock();
                    state.down = Some(down);
                    state.told = true;
                    state.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }),
        );
        Poll::Ready(Ok(()))
    }

    fn retreat(&self, _: &mut Waiter) {
        // It stands in no line.
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<Down, CallError>> {
        // Made before the lock is taken and dropped after it, as in `Call::poll`.
        let mut waker = Some(waker.clone());
        let mut state = self.state.lock();
        match state.down.take() {
            Some(down) => Poll::Ready(Ok(down)),
            None => {
                std::mem::swap(&mut state.waker, &mut waker);
                Poll::Pending
            }
        }
    }

    fn is_done(&self) -> bool {
        self.state.lock().down.is_some()
    }

    fn abandon(&self, _: &mut Waiter) {
        let number = self.state.lock().watching.take();
        if let Some(number) = number {
            self.target.unwatch(number);
        }
    }

    fn refuse_to_block(&self) -> Option<CallError> {
        let inside = current::handler().is_some();
        (inside && !self.is_done() && self.target.only_here() && !self.target.is_closed())
            .then(|| CallError::Deadlock(self.target.circle_here()))
    }

    fn debt(self: Arc<Self>) -> Option<Debt> {
        Some(Debt(Owed::Answer(self)))
    }

    fn deadlock(&self, circle: Vec<Name>) -> CallError {
        CallError::Deadlock(circle)
    }

    fn detach(&self, waiter: &mut Waiter) {
        self.abandon(waiter);
    }

    fn cut_short(&self, why: CutShort) -> CallError {
        CallError::cut_short(why)
    }

    fn what(&self) -> &'static str {
        "ended"
    }

    fn timeout(&self) -> CallError {
        CallError::Timeout
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.target.runtime().clone()
    }

    fn limit(&self) -> Duration {
        self.target.runtime().options.call_limit
    }
}

pub(crate) fn next_watch() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Relaxed: only uniqueness is wanted.
    NEXT.fetch_add(1, Ordering::Relaxed)
}
