//! A request of another node that a server of this node handles.

use super::dispatcher::Kick;
use super::error::ServiceError;
use super::frame::Frame;
use crate::codec::Codec;
use mproc_runtime::queue::Waiter;
use mproc_runtime::{CallError, Operation};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};

/// For the dispatcher alone, which owns all of them.
pub(crate) trait Serving: Send + Sync {
    /// Goes on. Called again when its waker was woken.
    fn step(self: Arc<Self>) -> Step;
    /// Nobody waits for it: what is queued is taken back, and a handler that runs is told if it asks. True if it stood in
    /// line for the server's mailbox until now.
    fn cancel(&self) -> bool;
    /// Which of this node's servers handles it.
    fn server(&self) -> u64;
    /// The session that it came by, and its number there.
    fn call(&self) -> (u64, u64);
}

/// What has become of it.
pub(crate) struct Step {
    /// It has left the line for the server's mailbox just now.
    pub(crate) is_taken: bool,
    /// The answer's frame, and whether it is a reply. It is over.
    pub(crate) answer: Option<(Vec<u8>, bool)>,
}

/// Servings that were woken.
#[derive(Default)]
pub(crate) struct Woken {
    list: Mutex<Vec<Arc<dyn Serving>>>,
    kick: Arc<Kick>,
}

impl Woken {
    pub(crate) fn new(kick: &Arc<Kick>) -> Arc<Self> {
        Arc::new(Self {
            list: Mutex::default(),
            kick: Arc::clone(kick),
        })
    }

    pub(crate) fn take(&self) -> Vec<Arc<dyn Serving>> {
        std::mem::take(&mut self.list.lock())
    }

    pub(crate) fn push(&self, serving: Arc<dyn Serving>) {
        self.list.lock().push(serving);
        self.kick.kick();
    }
}

pub(crate) struct ServingOf<R: 'static> {
    op: Arc<dyn Operation<R, CallError>>,
    place: Mutex<Place>,
    woken: Arc<Woken>,
    is_woken: AtomicBool,
    server: u64,
    call: (u64, u64),
}

#[derive(Default)]
struct Place {
    ticket: Waiter,
    is_begun: bool,
    is_over: bool,
}

impl<R: Serialize + DeserializeOwned + Send + 'static> ServingOf<R> {
    pub(crate) fn new(
        op: Arc<dyn Operation<R, CallError>>,
        woken: &Arc<Woken>,
        server: u64,
        call: (u64, u64),
    ) -> Arc<Self> {
        Arc::new(Self {
            op,
            place: Mutex::default(),
            woken: Arc::clone(woken),
            is_woken: AtomicBool::new(false),
            server,
            call,
        })
    }

    fn answer(&self, result: Result<R, CallError>) -> (Vec<u8>, bool) {
        let call = self.call.1;
        let encoded = result.map_err(ServiceError::of_call).and_then(|reply| {
            let codec = const { &Codec::<R>::serde() };
            encode(codec, &reply, "reply")
        });
        match encoded {
            Ok(body) => {
                let body = &body;
                (Frame::Reply { call, body }.to_bytes(), true)
            }
            Err(error) => (failure(call, &error), false),
        }
    }
}

/// The frame of an answer that is none.
pub(crate) fn failure(call: u64, error: &ServiceError) -> Vec<u8> {
    let (number, text) = error.to_wire();
    let text = &text;
    Frame::Failure { call, number, text }.to_bytes()
}

/// The bytes of a request or a reply. What panics in it is the user's code.
pub(crate) fn encode<T>(codec: &Codec<T>, value: &T, what: &str) -> Result<Vec<u8>, ServiceError> {
    let type_name = std::any::type_name::<T>();
    match catch_unwind(AssertUnwindSafe(|| codec.encode(value))) {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(ServiceError::NotSent(format!(
            "the {what} ({type_name}) cannot be encoded: {error}"
        ))),
        Err(_) => Err(ServiceError::NotSent(format!(
            "encoding the {what} ({type_name}) panicked"
        ))),
    }
}

impl<R: Serialize + DeserializeOwned + Send + 'static> Serving for ServingOf<R> {
    fn step(self: Arc<Self>) -> Step {
        self.is_woken.store(false, Ordering::Release);
        let mut step = Step {
            is_taken: false,
            answer: None,
        };
        let waker = Waker::from(Arc::clone(&self));
        // Out of the lock while mailboxes are asked: what they do may drop or wake what belongs to others.
        let mut place = std::mem::take(&mut *self.place.lock());
        if !place.is_over && !place.is_begun {
            match self.op.clone().begin(&mut place.ticket, &waker) {
                Poll::Ready(Ok(())) => {
                    place.is_begun = true;
                    step.is_taken = true;
                }
                Poll::Ready(Err(error)) => {
                    place.is_over = true;
                    step.is_taken = true;
                    step.answer = Some(self.answer(Err(error)));
                }
                Poll::Pending => {}
            }
        }
        if !place.is_over
            && place.is_begun
            && let Poll::Ready(result) = self.op.poll(&waker)
        {
            place.is_over = true;
            step.answer = Some(self.answer(result));
        }
        *self.place.lock() = place;
        step
    }

    fn cancel(&self) -> bool {
        let mut place = std::mem::take(&mut *self.place.lock());
        let stood_in_line = !place.is_over && !place.is_begun;
        if !place.is_over {
            place.is_over = true;
            self.op.abandon(&mut place.ticket);
        }
        *self.place.lock() = place;
        stood_in_line
    }

    fn server(&self) -> u64 {
        self.server
    }

    fn call(&self) -> (u64, u64) {
        self.call
    }
}

impl<R: Serialize + DeserializeOwned + Send + 'static> Wake for ServingOf<R> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.woken.push(self.clone());
        }
    }
}
