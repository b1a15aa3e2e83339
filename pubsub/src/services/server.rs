//! Whoever serves.

use super::client::{Client, check_name};
use super::local::{LocalServer, Types};
use super::registry::Registry;
use crate::graph::Graph;
use mproc_runtime::{
    Address, Cx, Error, Handle, MailboxOptions, Name, Pending, Processor, Runtime,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::{Arc, Weak};

/// How a service is served.
#[derive(Clone, Debug, Default)]
#[must_use = "it is used by serve_with"]
pub struct ServeOptions {
    shared: bool,
    mailbox: MailboxOptions,
}

impl ServeOptions {
    /// One server of the name, and a mailbox as processors have it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Others may serve the name, too, in this process or others, if they say the same. Each call then goes to one of them: the
    /// one that has the fewest unanswered calls of the caller's node.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// The mailbox of the processor that is made for it. It bounds how many requests are queued; further ones wait in line.
    /// Where a processor serves that is there already, it keeps its own.
    pub fn mailbox(mut self, mailbox: MailboxOptions) -> Self {
        self.mailbox = mailbox;
        self
    }

    /// The mailbox to be made.
    #[doc(hidden)]
    pub fn mailbox_options(&self) -> MailboxOptions {
        self.mailbox
    }
}

/// A service that is being served. Dropping it changes nothing; the server's end, or [`unserve`](Self::unserve), ends it.
#[derive(Clone)]
pub struct Served {
    registry: Weak<Registry>,
    number: u64,
}

impl Served {
    /// Ends the service here: no further requests come. Those that are queued are handled. False if it had ended.
    pub fn unserve(&self) -> bool {
        let registry = self.registry.upgrade();
        registry.is_some_and(|registry| registry.unserve(self.number))
    }

    /// True while requests come here. Not any more when it was ended, or when it had to make way for a server of the same name
    /// in another process that was there before: the two were made before their nodes had met.
    pub fn is_serving(&self) -> bool {
        let registry = self.registry.upgrade();
        registry.is_some_and(|registry| registry.is_here() && registry.serves(self.number))
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Served({})", self.number)
    }
}

impl Graph {
    /// Has a processor serve `name`: each call becomes a message of type `Q`, and what its handler replies is the reply. It ends
    /// with the processor.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NameTaken`](mproc_runtime::ErrorKind::NameTaken), naming who: it is served already, and not both are
    ///   [shared](ServeOptions::shared).
    /// - [`ErrorKind::TypeConflict`](mproc_runtime::ErrorKind::TypeConflict), naming both: the service has other types.
    /// - [`ErrorKind::InvalidName`](mproc_runtime::ErrorKind::InvalidName), `Closed` and `Io`: as [`client`](Self::client).
    pub fn serve<P, Q, R>(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
        options: ServeOptions,
        processor: &Address<P>,
    ) -> Result<Served, Error>
    where
        P: Handle<Q, Reply = R>,
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        check_name(&format!("cannot serve {name:?}"), name)?;
        self.serve_at(runtime, name, options, processor)
    }

    /// As [`serve`](Self::serve), also for the library's own names.
    pub(crate) fn serve_at<P, Q, R>(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
        options: ServeOptions,
        processor: &Address<P>,
    ) -> Result<Served, Error>
    where
        P: Handle<Q, Reply = R>,
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let to = processor.clone();
        let call = move |request: Q| to.call(request);
        let served = self.serve_with_call(runtime, name, options, processor.name(), call)?;
        let of_processor = served.clone();
        // If it has ended meanwhile, so has the service.
        let kept = processor.with_processor(move |_, cx| keep(cx, of_processor));
        if kept.is_err() {
            served.unserve();
        }
        Ok(served)
    }

    /// As [`serve`](Self::serve), by whatever `call` makes of a request; for layers that end it themselves.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    pub fn serve_by<Q, R>(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
        options: ServeOptions,
        processor: &Name,
        call: impl Fn(Q) -> Pending<R> + Send + Sync + 'static,
    ) -> Result<Served, Error>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        check_name(&format!("cannot serve {name:?}"), name)?;
        self.serve_with_call(runtime, name, options, processor, call)
    }

    fn serve_with_call<Q, R>(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
        options: ServeOptions,
        processor: &Name,
        call: impl Fn(Q) -> Pending<R> + Send + Sync + 'static,
    ) -> Result<Served, Error>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let registry = self.services(runtime);
        let types = Types::of::<Q, R>();
        let call = Box::new(call);
        let server = Arc::new(LocalServer::<Q, R> { call });
        let number = registry.serve(name, &types, options.shared, server, processor)?;
        Ok(Served {
            registry: Arc::downgrade(&registry),
            number,
        })
    }
}

/// What a processor serves. Dropped when it ends.
#[derive(Default)]
struct Kept(Vec<Served>);

impl Drop for Kept {
    fn drop(&mut self) {
        for served in self.0.drain(..) {
            served.unserve();
        }
    }
}

/// Ends the service with the processor, and with its incarnation if it is restarted.
fn keep<P: Processor, R: 'static>(cx: &mut Cx<'_, P, R>, served: Served) {
    cx.extensions().get_or_default::<Kept>().0.push(served);
}

/// What processors do with services, through their [`Cx`].
///
/// # Examples
///
/// ```
/// use mproc_pubsub::{Graph, Services};
/// use mproc_runtime::{Cx, Handle, Outcome, Processor, Runtime};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Add(i64);
///
/// struct Counter { total: i64 }
/// impl Processor for Counter {
///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
///         cx.serve::<Add, i64>("counter/add")?;
///         Ok(())
///     }
/// }
/// impl Handle<Add> for Counter {
///     type Reply = i64;
///     fn handle(&mut self, Add(n): Add, _: &mut Cx<'_, Self, i64>) -> Outcome<i64> {
///         self.total += n;
///         Ok(self.total)
///     }
/// }
///
/// let node = Runtime::simulated(1);
/// let add = Graph::of(&node).client::<Add, i64>(&node, "counter/add")?;
/// node.spawn("counter", Counter { total: 0 })?;
/// add.available().wait()?;
/// assert_eq!(add.call(Add(2)).wait(), Ok(2));
/// assert_eq!(add.call(Add(3)).wait(), Ok(5));
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
pub trait Services<P: Processor> {
    /// Serves `name` with this processor's handler of `Q`, until it ends.
    ///
    /// # Errors
    ///
    /// As [`Graph::serve`].
    fn serve<Q, R>(&mut self, name: &str) -> Result<Served, Error>
    where
        P: Handle<Q, Reply = R>,
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.serve_with(name, ServeOptions::new())
    }

    /// As [`serve`](Self::serve), with options.
    ///
    /// # Errors
    ///
    /// As [`Graph::serve`].
    fn serve_with<Q, R>(&mut self, name: &str, options: ServeOptions) -> Result<Served, Error>
    where
        P: Handle<Q, Reply = R>,
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static;

    /// A client of the service `name`.
    ///
    /// # Errors
    ///
    /// As [`Graph::client`].
    fn client<Q, R>(&mut self, name: &str) -> Result<Client<Q, R>, Error>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static;

    /// Ends a service with this processor, or its incarnation: for layers that serve with [`Graph::serve_by`].
    fn keep_served(&mut self, served: Served);
}

impl<P: Processor, A: 'static> Services<P> for Cx<'_, P, A> {
    fn serve_with<Q, R>(&mut self, name: &str, options: ServeOptions) -> Result<Served, Error>
    where
        P: Handle<Q, Reply = R>,
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let runtime = self.runtime();
        let to = self.me();
        let processor = self.name().clone();
        let call = move |request: Q| to.call(request);
        let graph = Graph::of(&runtime);
        let served = graph.serve_by(&runtime, name, options, &processor, call)?;
        keep(self, served.clone());
        Ok(served)
    }

    fn client<Q, R>(&mut self, name: &str) -> Result<Client<Q, R>, Error>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let runtime = self.runtime();
        Graph::of(&runtime).client(&runtime, name)
    }

    fn keep_served(&mut self, served: Served) {
        keep(self, served);
    }
}
