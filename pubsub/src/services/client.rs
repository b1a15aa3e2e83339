//! Whoever calls a service.

use super::call::{ServiceCall, Typed};
use super::error::ServiceError;
use super::local::Types;
use super::registry::Registry;
use super::snapshot::Counts;
use crate::graph::Graph;
use mproc_runtime::queue::Waiter;
use mproc_runtime::{CutShort, Error, ErrorKind, Operation, Pending, Runtime, RuntimeCore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Calls a service by its name, whoever serves it, in this process or another. Cheap to clone; `Send + Sync`.
///
/// # Examples
///
/// ```
/// use mproc_pubsub::{Client, Graph, ServeOptions, ServiceError};
/// use mproc_runtime::{Fault, Runtime, closure};
/// use std::time::Duration;
///
/// let node = Runtime::simulated(1);
/// let graph = Graph::of(&node);
/// let squares: Client<u32, u32> = graph.client(&node, "square")?;
/// assert_eq!(squares.call(7).wait(), Err(ServiceError::NoServer));
///
/// let square = node.spawn("squarer", closure(|n: u32, _cx| Ok::<_, Fault>(n * n)))?;
/// let served = graph.serve(&node, "square", ServeOptions::new(), &square)?;
/// squares.wait_for_service(Duration::from_secs(5))?;
/// assert_eq!(squares.call(7).wait(), Ok(49));
/// served.unserve();
/// assert_eq!(squares.server_count(), 0);
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
pub struct Client<Q, R> {
    calls: Arc<Calls>,
    types: PhantomData<fn(Q) -> R>,
}

/// What all calls of one client have in common.
pub(crate) struct Calls {
    pub(crate) registry: Arc<Registry>,
    pub(crate) name: String,
    pub(crate) types: Types,
    pub(crate) counts: Arc<Counts>,
}

impl Graph {
    /// A client of the service `name`. Nobody need serve it yet.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::TypeConflict`], naming both: the service has other types.
    /// - [`ErrorKind::InvalidName`]: no name has this form, or it is one of the library's own, under `mproc/`.
    /// - [`ErrorKind::Closed`]: the node has ended.
    /// - [`ErrorKind::Io`]: the node belongs to a domain and cannot join it; the text says why.
    pub fn client<Q, R>(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
    ) -> Result<Client<Q, R>, Error>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        check_name(&format!("cannot call service {name:?}"), name)?;
        self.client_of(runtime, name)
    }

    /// As [`client`](Self::client), also for the library's own names.
    pub(crate) fn client_of<Q, R>(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
    ) -> Result<Client<Q, R>, Error>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let types = Types::of::<Q, R>();
        let registry = self.services(runtime);
        let counts = registry.client(name, &types)?;
        Ok(Client {
            calls: Arc::new(Calls {
                registry,
                name: name.to_owned(),
                types,
                counts,
            }),
            types: PhantomData,
        })
    }
}

impl<Q, R> Client<Q, R>
where
    Q: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    /// Calls the service and gives a [`Pending`] for the reply. Nothing is sent before that is waited for.
    ///
    /// In one process this is a call to the server's processor: the request moves without being encoded, takes a place in the
    /// processor's mailbox, and waits in line for it if the mailbox is full. To another process it travels as MessagePack; at
    /// most 64 of a node's requests to one server are on their way or in line there, and further ones stand in line here. The
    /// requests of one client that are begun one after the other reach one server in that order. Of several servers that share
    /// the name, the one is called that has the fewest unanswered calls of this node.
    ///
    /// # Errors
    ///
    /// [`ServiceError`], from waiting for the reply; within 5 seconds unless told otherwise.
    ///
    /// # Deadlocks
    ///
    /// Inside a handler, as [`Address::call`](mproc_runtime::Address::call): a circle of calls within this process is refused
    /// with [`ServiceError::Deadlock`]. A circle over several processes ends by the limits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`Pending`] tells the server: a request that is still queued is taken back and never handled, and a handler
    /// that runs can see it ([`Cx::is_cancelled`](mproc_runtime::Cx::is_cancelled)). Its reply is dropped.
    /// [`cancel_and_wait`](mproc_runtime::Ticket::cancel_and_wait) waits for a handler of this process; what a handler of another
    /// one does about a cancel is not heard of here, and is not waited for.
    pub fn call(&self, request: Q) -> Pending<R, ServiceError> {
        Pending::new(Arc::new(ServiceCall::new(
            &self.calls,
            Typed::<Q, R>(request, PhantomData),
        )))
    }

    /// Waits until somebody serves it. Done at once if somebody does.
    ///
    /// # Errors
    ///
    /// From waiting for it: [`ServiceError::Timeout`], within 5 seconds unless told otherwise;
    /// [`ServiceError::TypeConflict`] if it is served with other types; [`ServiceError::Closed`] if the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub fn available(&self) -> Pending<(), ServiceError> {
        self.calls.available()
    }

    /// Blocks this thread until somebody serves it, at most for `limit`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], [`ErrorKind::TypeConflict`] or [`ErrorKind::Closed`], as [`available`](Self::available).
    ///
    /// # Deadlocks
    ///
    /// Inside a handler, what the handler has sent is delivered first. On the thread of a script that is to serve it, it waits
    /// for its limit: a script that waits for [`available`](Self::available) with `spin_until` runs meanwhile.
    pub fn wait_for_service(&self, limit: Duration) -> Result<(), Error> {
        self.calls.wait_for_service(limit)
    }

    /// How many servers can be called now, in this process and others.
    pub fn server_count(&self) -> usize {
        self.calls.server_count()
    }

    /// What the service is called.
    pub fn name(&self) -> &str {
        &self.calls.name
    }
}

impl Calls {
    pub(crate) fn available(self: &Arc<Self>) -> Pending<(), ServiceError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only uniqueness is wanted.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let calls = Arc::clone(self);
        Pending::new(Arc::new(Available { calls, number }))
    }

    pub(crate) fn wait_for_service(self: &Arc<Self>, limit: Duration) -> Result<(), Error> {
        match self.available().wait_timeout(limit) {
            Err(ServiceError::Timeout) => {
                let text = format!("nobody served {:?} within {limit:?}", self.name);
                Err(Error::new(ErrorKind::Timeout, text))
            }
            other => other.map_err(Error::from),
        }
    }

    pub(crate) fn server_count(&self) -> usize {
        match self.registry.is_here() {
            true => self.registry.servers(&self.name),
            false => 0,
        }
    }
}

impl<Q, R> Clone for Client<Q, R> {
    fn clone(&self) -> Self {
        Self {
            calls: Arc::clone(&self.calls),
            types: PhantomData,
        }
    }
}

impl<Q, R> fmt::Debug for Client<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.calls.name)
    }
}

/// A wait for a server.
struct Available {
    calls: Arc<Calls>,
    number: u64,
}

impl Operation<(), ServiceError> for Available {
    fn begin(self: Arc<Self>, _: &mut Waiter, _: &Waker) -> Poll<Result<(), ServiceError>> {
        match self.calls.registry.is_here() {
            true => Poll::Ready(Ok(())),
            false => Poll::Ready(Err(ServiceError::Closed)),
        }
    }

    fn detach(&self, waiter: &mut Waiter) {
        self.abandon(waiter);
    }

    fn cut_short(&self, why: CutShort) -> ServiceError {
        ServiceError::cut_short(why)
    }

    fn what(&self) -> &'static str {
        "available"
    }

    fn retreat(&self, _: &mut Waiter) {}

    fn poll(&self, waker: &Waker) -> Poll<Result<(), ServiceError>> {
        let Calls {
            registry,
            name,
            types,
            ..
        } = &*self.calls;
        match registry.poll_available(name, types, self.number, waker) {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }

    fn is_done(&self) -> bool {
        let Calls { registry, name, .. } = &*self.calls;
        registry.servers(name) > 0 || registry.has_closed()
    }

    fn abandon(&self, _: &mut Waiter) {
        if self.calls.registry.is_here() {
            let registry = &self.calls.registry;
            registry.forget_waiting(&self.calls.name, self.number);
        }
    }

    fn refuse_to_block(&self) -> Option<ServiceError> {
        None
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

/// Names under `mproc/` are the library's own.
pub(crate) fn check_name(cannot: &str, name: &str) -> Result<(), Error> {
    if crate::graph::is_internal(name) {
        let text = format!("{cannot}: names under \"mproc/\" are the library's own");
        return Err(Error::new(ErrorKind::InvalidName, text));
    }
    Ok(())
}
