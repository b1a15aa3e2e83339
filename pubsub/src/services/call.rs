//! A call of a service: to a processor of this process, or to another node. Which it is, is decided when it is put on its way.

use super::client::Calls;
use super::error::ServiceError;
use super::local::{AnyLocal, LocalServer, decode};
use super::serving::encode;
use super::slot::Slot;
use super::state::{Place, Server};
use crate::codec::Codec;
use mproc_runtime::queue::Waiter;
use mproc_runtime::{CallError, CleanUp, CutShort, Debt, Name, Operation, RuntimeCore};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

/// A call to a server of this process, unless the request is none for it.
pub(crate) type Called<R> = Result<Arc<dyn Operation<R, CallError>>, ServiceError>;

/// A request, and what comes back.
pub(crate) trait Request: Send + Sized + 'static {
    /// What the caller gets.
    type Reply: Send + 'static;
    /// What a server of this process replies.
    type Here: Send + 'static;

    /// Calls a server of this process. `None` if it has other types.
    fn call(self, local: &dyn AnyLocal) -> Option<Called<Self::Here>>;
    fn reply(here: Self::Here) -> Result<Self::Reply, ServiceError>;
    /// Its bytes, for a server of another process.
    fn encode(&self) -> Result<Vec<u8>, ServiceError>;
    fn decode(body: Vec<u8>) -> Result<Self::Reply, ServiceError>;
}

/// A request of a type, for a reply of a type.
pub(crate) struct Typed<Q, R>(pub(crate) Q, pub(crate) PhantomData<fn() -> R>);

impl<Q, R> Request for Typed<Q, R>
where
    Q: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    type Reply = R;
    type Here = R;

    fn call(self, local: &dyn AnyLocal) -> Option<Called<R>> {
        let local = local.as_any().downcast_ref::<LocalServer<Q, R>>()?;
        Some(Ok((local.call)(self.0).into_operation()))
    }

    fn reply(here: R) -> Result<R, ServiceError> {
        Ok(here)
    }

    fn encode(&self) -> Result<Vec<u8>, ServiceError> {
        let codec = const { &Codec::<Q>::serde() };
        encode(codec, &self.0, "request")
    }

    fn decode(body: Vec<u8>) -> Result<R, ServiceError> {
        decode(&body, "reply")
    }
}

pub(crate) struct ServiceCall<Q: Request> {
    calls: Arc<Calls>,
    /// Never used again in this program.
    number: u64,
    state: Mutex<State<Q>>,
}

struct State<Q: Request> {
    /// Until it is handed to a processor, or was sent.
    request: Option<Q>,
    chosen: Option<Chosen<Q::Here>>,
    /// Kept while it is under way.
    busy: Option<Busy>,
    is_begun: bool,
    is_over: bool,
}

/// Who answers.
enum Chosen<R> {
    Here(Arc<dyn Operation<R, CallError>>),
    There {
        server: Arc<Server>,
        slot: Arc<Slot>,
        body: Arc<Vec<u8>>,
    },
}

impl<R> Clone for Chosen<R> {
    fn clone(&self) -> Self {
        match self {
            Self::Here(op) => Self::Here(Arc::clone(op)),
            Self::There { server, slot, body } => Self::There {
                server: Arc::clone(server),
                slot: Arc::clone(slot),
                body: Arc::clone(body),
            },
        }
    }
}

/// Counts a call for the choice between servers.
struct Busy(Arc<Server>);

impl Busy {
    fn new(server: &Arc<Server>) -> Self {
        // Relaxed: a count that only makes choices better.
        server.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(server))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<Q: Request> ServiceCall<Q> {
    pub(crate) fn new(calls: &Arc<Calls>, request: Q) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            calls: Arc::clone(calls),
            // Relaxed: only uniqueness is wanted.
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new(State {
                request: Some(request),
                chosen: None,
                busy: None,
                is_begun: false,
                is_over: false,
            }),
        }
    }

    fn chosen(&self) -> Option<Chosen<Q::Here>> {
        self.state.lock().chosen.clone()
    }

    fn chosen_or_choose(&self) -> Result<Chosen<Q::Here>, ServiceError> {
        if let Some(chosen) = self.chosen() {
            return Ok(chosen);
        }
        let Calls {
            registry,
            name,
            types,
            ..
        } = &*self.calls;
        let server = registry.choose(name, types)?;
        let busy = Busy::new(&server);
        // It is this operation's owner that is here: nobody else takes the request.
        let Some(request) = self.state.lock().request.take() else {
            return Err(ServiceError::NoServer);
        };
        let (chosen, request) = match &server.at {
            Place::Here(local, _) => match request.call(&**local) {
                Some(op) => (Chosen::Here(op?), None),
                None => {
                    let text = format!("service {name:?} has other types");
                    return Err(ServiceError::TypeConflict(text));
                }
            },
            Place::There(..) => {
                let body = Arc::new(request.encode()?);
                let slot = Arc::default();
                let server = Arc::clone(&server);
                // Kept until it is sent: the server may be gone before that.
                (Chosen::There { server, slot, body }, Some(request))
            }
        };
        let mut state = self.state.lock();
        state.chosen = Some(chosen.clone());
        state.busy = Some(busy);
        state.request = request;
        Ok(chosen)
    }

    /// Whoever was chosen is gone, and nothing was sent: another may be.
    fn choose_again(&self) {
        let mut state = self.state.lock();
        let before = (state.chosen.take(), state.busy.take());
        drop(state);
        drop(before);
    }

    fn has_begun(&self) {
        let mut state = self.state.lock();
        state.is_begun = true;
        let request = state.request.take();
        drop(state);
        drop(request);
        self.calls.counts.add_call();
    }

    /// `begin_here` puts a call to a processor of this process on its way.
    fn begin_by(
        &self,
        mut begin_here: impl FnMut(
            Arc<dyn Operation<Q::Here, CallError>>,
        ) -> Poll<Result<(), CallError>>,
        waker: &Waker,
    ) -> Poll<Result<(), ServiceError>> {
        loop {
            let begun = match self.chosen_or_choose()? {
                Chosen::Here(op) => begin_here(op).map_err(ServiceError::of_call),
                Chosen::There { server, slot, body } => {
                    let registry = &self.calls.registry;
                    match registry.send(&server, self.number, &slot, &body, waker) {
                        None => Poll::Pending,
                        Some(Err(ServiceError::NoServer)) => {
                            self.choose_again();
                            continue;
                        }
                        Some(sent) => Poll::Ready(sent),
                    }
                }
            };
            if matches!(begun, Poll::Ready(Ok(()))) {
                self.has_begun();
            }
            return begun;
        }
    }

    fn finish(&self, is_reply: bool) {
        let mut state = self.state.lock();
        state.is_over = true;
        let busy = state.busy.take();
        drop(state);
        drop(busy);
        self.calls.counts.add_result(is_reply);
    }
}

impl<Q: Request> Operation<Q::Reply, ServiceError> for ServiceCall<Q> {
    fn begin(
        self: Arc<Self>,
        ticket: &mut Waiter,
        waker: &Waker,
    ) -> Poll<Result<(), ServiceError>> {
        self.begin_by(|op| op.begin(ticket, waker), waker)
    }

    fn start(
        self: Arc<Self>,
        ticket: &mut Waiter,
        waker: &Waker,
    ) -> Poll<Result<(), ServiceError>> {
        self.begin_by(|op| op.start(ticket, waker), waker)
    }

    fn go_on(
        self: Arc<Self>,
        ticket: &mut Waiter,
        waker: &Waker,
    ) -> Poll<Result<(), ServiceError>> {
        self.begin_by(|op| op.go_on(ticket, waker), waker)
    }

    fn detach(&self, ticket: &mut Waiter) {
        if let Some(Chosen::Here(op)) = self.chosen() {
            op.detach(ticket);
        }
        let mut state = self.state.lock();
        let was_over = std::mem::replace(&mut state.is_over, true);
        let busy = state.busy.take();
        drop(state);
        drop(busy);
        if !was_over {
            // It goes on, and nobody here will see how it ends.
            self.calls.counts.add_cancelled();
        }
    }

    fn clean_up(self: Arc<Self>) -> Option<CleanUp> {
        match self.chosen()? {
            Chosen::Here(op) => op.clean_up(),
            // What a server elsewhere does about a cancel is not heard of.
            Chosen::There { .. } => None,
        }
    }

    fn cut_short(&self, why: CutShort) -> ServiceError {
        ServiceError::cut_short(why)
    }

    fn what(&self) -> &'static str {
        "call of a service"
    }

    fn retreat(&self, ticket: &mut Waiter) {
        match self.chosen() {
            Some(Chosen::Here(op)) => op.retreat(ticket),
            Some(Chosen::There { server, .. }) => {
                self.calls.registry.leave_line(&server, self.number);
                // It may have been sent from the line, and is cancelled then: the next attempt is another one.
                self.choose_again();
            }
            None => {}
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<Q::Reply, ServiceError>> {
        let result = match self.chosen() {
            Some(Chosen::Here(op)) => op
                .poll(waker)
                .map(|reply| reply.map_err(ServiceError::of_call).and_then(Q::reply)),
            Some(Chosen::There { slot, .. }) => {
                slot.poll(waker).map(|reply| reply.and_then(Q::decode))
            }
            None => Poll::Pending,
        };
        if let Poll::Ready(result) = &result {
            self.finish(result.is_ok());
        }
        result
    }

    fn is_done(&self) -> bool {
        match self.chosen() {
            Some(Chosen::Here(op)) => op.is_done(),
            Some(Chosen::There { slot, .. }) => slot.is_done(),
            None => false,
        }
    }

    fn abandon(&self, ticket: &mut Waiter) {
        let (chosen, is_begun, before) = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.is_over, true) {
                return;
            }
            let before = (state.request.take(), state.busy.take());
            (state.chosen.clone(), state.is_begun, before)
        };
        drop(before);
        match chosen {
            Some(Chosen::Here(op)) => op.abandon(ticket),
            Some(Chosen::There { server, .. }) => {
                let registry = &self.calls.registry;
                match is_begun {
                    true => registry.cancel(&server, self.number),
                    false => registry.leave_line(&server, self.number),
                }
            }
            None => {}
        }
        if is_begun {
            self.calls.counts.add_cancelled();
        }
    }

    fn refuse_to_block(&self) -> Option<ServiceError> {
        match self.chosen_or_choose() {
            Ok(Chosen::Here(op)) => op.refuse_to_block().map(ServiceError::of_call),
            Ok(Chosen::There { .. }) => None,
            Err(error) => Some(error),
        }
    }

    fn debt(self: Arc<Self>) -> Option<Debt> {
        match self.chosen() {
            Some(Chosen::Here(op)) => op.debt(),
            // Nobody knows what another process waits for: the limit ends it.
            _ => None,
        }
    }

    fn deadlock(&self, circle: Vec<Name>) -> ServiceError {
        ServiceError::Deadlock(circle)
    }

    fn timeout(&self) -> ServiceError {
        ServiceError::Timeout
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.calls.registry.runtime.shared()
    }

    fn limit(&self) -> Duration {
        self.calls.registry.runtime.options().reply_limit()
    }
}
