//! Whoever calls a service without having its types.

use super::call::{Called, Request, ServiceCall};
use super::client::{Calls, check_name};
use super::error::ServiceError;
use super::local::{AnyLocal, Types};
use crate::graph::Graph;
use mproc_runtime::{Error, Pending, Runtime};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Calls a service by its name with the bytes of a request, and gets the bytes of the reply: MessagePack, whatever types the
/// server has. [`ServiceSnapshot`](crate::ServiceSnapshot) names these. Cheap to clone; `Send + Sync`.
///
/// # Examples
///
/// ```
/// use mproc_pubsub::{Graph, ServeOptions, ServiceError};
/// use mproc_runtime::{Fault, Runtime, closure};
///
/// let node = Runtime::simulated(1);
/// let graph = Graph::of(&node);
/// let square = node.spawn("squarer", closure(|n: u32, _cx| Ok::<_, Fault>(n * n)))?;
/// let _served = graph.serve(&node, "square", ServeOptions::new(), &square)?;
///
/// let squares = graph.raw_client(&node, "square")?;
/// assert_eq!(squares.call(vec![7]).wait(), Ok(vec![49])); // small numbers are one byte
/// let wrong = squares.call(b"\xa3two".to_vec()).wait().unwrap_err();
/// assert!(matches!(wrong, ServiceError::Undecodable(_)));
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
#[derive(Clone)]
pub struct RawClient {
    calls: Arc<Calls>,
}

impl Graph {
    /// A client of the service `name` that has none of its types. Nobody need serve it yet.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`](mproc_runtime::ErrorKind::InvalidName): no name has this form, or it is one of the library's
    ///   own, under `mproc/`.
    /// - [`ErrorKind::Closed`](mproc_runtime::ErrorKind::Closed): the node has ended.
    /// - [`ErrorKind::Io`](mproc_runtime::ErrorKind::Io): the node belongs to a domain and cannot join it; the text says why.
    pub fn raw_client(self: &Arc<Self>, runtime: &Runtime, name: &str) -> Result<RawClient, Error> {
        check_name(&format!("cannot call service {name:?}"), name)?;
        let types = Types::any();
        let registry = self.services(runtime);
        let counts = registry.client(name, &types)?;
        Ok(RawClient {
            calls: Arc::new(Calls {
                registry,
                name: name.to_owned(),
                types,
                counts,
            }),
        })
    }
}

impl RawClient {
    /// Calls the service with `request`, the bytes of one value of MessagePack, and gives a [`Pending`] for those of the reply.
    /// Nothing is sent before that is waited for. Otherwise as [`Client::call`](crate::Client::call); to a server of this process the
    /// request is decoded on the thread that waits, and the reply is encoded there.
    ///
    /// # Errors
    ///
    /// As [`Client::call`](crate::Client::call). [`ServiceError::Undecodable`], naming the server's type, for bytes that are none of it;
    /// never [`ServiceError::TypeConflict`].
    ///
    /// # Deadlocks
    ///
    /// As [`Client::call`](crate::Client::call).
    ///
    /// # Cancel safety
    ///
    /// As [`Client::call`](crate::Client::call).
    pub fn call(&self, request: Vec<u8>) -> Pending<Vec<u8>, ServiceError> {
        Pending::new(Arc::new(ServiceCall::new(&self.calls, Bytes(request))))
    }

    /// Waits until somebody serves it. Done at once if somebody does.
    ///
    /// # Errors
    ///
    /// From waiting for it: [`ServiceError::Timeout`], within 5 seconds unless told otherwise; [`ServiceError::Closed`] if the
    /// node has ended.
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
    /// As [`Client::wait_for_service`](crate::Client::wait_for_service).
    ///
    /// # Deadlocks
    ///
    /// As [`Client::wait_for_service`](crate::Client::wait_for_service).
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

impl fmt::Debug for RawClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawClient({:?})", self.calls.name)
    }
}

/// A request of which only the bytes are known.
struct Bytes(Vec<u8>);

impl Request for Bytes {
    type Reply = Vec<u8>;
    type Here = Result<Vec<u8>, ServiceError>;

    fn call(self, local: &dyn AnyLocal) -> Option<Called<Self::Here>> {
        Some(local.call_raw(&self.0))
    }

    fn reply(here: Self::Here) -> Result<Vec<u8>, ServiceError> {
        here
    }

    fn encode(&self) -> Result<Vec<u8>, ServiceError> {
        Ok(self.0.clone())
    }

    fn decode(body: Vec<u8>) -> Result<Vec<u8>, ServiceError> {
        Ok(body)
    }
}
