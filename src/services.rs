//! Services of a node and of scripts.

use crate::node::Node;
use crate::script::{Callbacks, Script};
use mproc_pubsub::{
    Client, Graph, ServeOptions, Served, Services, TaskClient, TaskCx, TaskOptions, TaskServer,
};
use mproc_runtime::{Address, Closure, Cx, Error, ErrorKind, Handle, Outcome, closure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// A service that a closure serves. Dropping it ends the service and its processor after the current request; those that are
/// queued get [`Gone`](crate::ServiceError::Gone). [`detach`](Self::detach) keeps it.
#[must_use = "dropping it ends the service"]
pub struct Server<Q: 'static, R: 'static> {
    served: Served,
    /// `None` once it was detached.
    address: Option<Address<Closure<Q, R>>>,
}

impl<Q: 'static, R: 'static> Server<Q, R> {
    /// True while requests come here: see [`Served::is_serving`].
    pub fn is_serving(&self) -> bool {
        self.served.is_serving()
    }

    /// Keeps the service for the life of the node.
    pub fn detach(mut self) -> Served {
        self.address = None;
        self.served.clone()
    }

    /// Ends it, as dropping it does.
    pub fn unserve(self) {}
}

impl<Q: 'static, R: 'static> Drop for Server<Q, R> {
    fn drop(&mut self) {
        if let Some(address) = &self.address {
            self.served.unserve();
            address.stop();
        }
    }
}

impl<Q: 'static, R: 'static> fmt::Debug for Server<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({:?})", self.served)
    }
}

impl Node {
    /// Has `call` answer the requests of the service `name`, one at a time, on a thread of its own. What it returns is the
    /// reply; a fault or a panic in it is the caller's error, is reported, and the next request comes all the same.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NameTaken`](crate::ErrorKind::NameTaken), naming who: it is served already, here or in another process
    ///   that this node has met. [`serve_with`](Self::serve_with) shares a name.
    /// - [`ErrorKind::TypeConflict`](crate::ErrorKind::TypeConflict), naming both: the service has other types.
    /// - [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName): no name has this form.
    /// - [`ErrorKind::Closed`](crate::ErrorKind::Closed): the node has ended.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): there is no thread to be had, or the node cannot join its domain.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Add { a: i64, b: i64 }
    ///
    /// let node = Node::simulated(1);
    /// let server = node.serve("add", |add: Add| Ok(add.a + add.b))?;
    /// let add = node.client::<Add, i64>("add")?;
    /// assert_eq!(add.call(Add { a: 2, b: 3 }).wait(), Ok(5));
    ///
    /// drop(server);
    /// assert_eq!(add.call(Add { a: 2, b: 3 }).wait(), Err(mproc::ServiceError::NoServer));
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn serve<Q, R>(
        &self,
        name: &str,
        mut call: impl FnMut(Q) -> Outcome<R> + Send + 'static,
    ) -> Result<Server<Q, R>, Error>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.serve_with(name, ServeOptions::new(), move |request, _| call(request))
    }

    /// As [`serve`](Self::serve), with options, and with the context of the request: whether its caller has given up
    /// ([`Cx::is_cancelled`]), and a reply that comes later ([`Cx::reply_later`]).
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve), and [`ErrorKind::InvalidSetting`](crate::ErrorKind::InvalidSetting) for an impossible
    /// mailbox.
    ///
    /// # Examples
    ///
    /// Two that share a name, each called when it is the less busy:
    ///
    /// ```
    /// use mproc::{Node, ServeOptions};
    ///
    /// let node = Node::simulated(1);
    /// let shared = || ServeOptions::new().shared();
    /// let _one = node.serve_with("who", shared(), |(): (), _cx| Ok("one".to_owned()))?;
    /// let _two = node.serve_with("who", shared(), |(): (), _cx| Ok("two".to_owned()))?;
    /// let who = node.client::<(), String>("who")?;
    /// let (mut first, mut second) = (who.call(()), who.call(()));
    /// first.begin();
    /// second.begin();
    /// assert_ne!(first.wait()?, second.wait()?);
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn serve_with<Q, R>(
        &self,
        name: &str,
        options: ServeOptions,
        call: impl FnMut(Q, &mut Cx<'_, Closure<Q, R>, R>) -> Outcome<R> + Send + 'static,
    ) -> Result<Server<Q, R>, Error>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only uniqueness is wanted.
        let processor = format!("server-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mailbox = options.mailbox_options();
        let address = self.spawn_thread_with(&processor, mailbox, closure(call))?;
        match self.graph().serve(self, name, options, &address) {
            Ok(served) => Ok(Server {
                served,
                address: Some(address),
            }),
            Err(error) => {
                address.stop();
                Err(error)
            }
        }
    }

    /// A client of the service `name`. Nobody need serve it yet: [`Client::available`] waits for that.
    ///
    /// # Errors
    ///
    /// As [`Graph::client`].
    pub fn client<Q, R>(&self, name: &str) -> Result<Client<Q, R>, Error>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.graph().client(self, name)
    }
}

impl Node {
    /// Has `run` carry out goals of the task `name`: one at once, on a thread of its own. It is given the goal and a [`TaskCx`],
    /// by which it tells how far it is and learns that it should end early. What it returns is the result; a fault or a panic
    /// in it ends the task as failed, with the reason.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    /// use mproc::TaskCx;
    ///
    /// let node = Node::simulated(1);
    /// let _server = node.task("count", |to: u32, task: &TaskCx<u32>| {
    ///     for n in 1..=to {
    ///         if task.is_cancel_requested() {
    ///             task.accept_cancel();
    ///             break;
    ///         }
    ///         task.feedback(n);
    ///     }
    ///     Ok(format!("counted to {to}"))
    /// })?;
    ///
    /// let count = node.task_client::<u32, u32, String>("count")?;
    /// let task = count.start(3).wait()?;
    /// let said: Vec<u32> = task.feedback().map(|feedback| feedback.value).collect();
    /// assert_eq!(said, [1, 2, 3]);
    /// assert_eq!(task.result().wait()?, "counted to 3");
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn task<G, F, R>(
        &self,
        name: &str,
        run: impl Fn(G, &TaskCx<F>) -> Outcome<R> + Send + Sync + 'static,
    ) -> Result<TaskServer, Error>
    where
        G: Serialize + DeserializeOwned + Send + 'static,
        F: Serialize + DeserializeOwned + Clone + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.task_with(name, TaskOptions::new(), run)
    }

    /// As [`task`](Self::task), with options: which goals are accepted, how many tasks run at once, for how long results are kept.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    pub fn task_with<G, F, R>(
        &self,
        name: &str,
        options: TaskOptions<G>,
        run: impl Fn(G, &TaskCx<F>) -> Outcome<R> + Send + Sync + 'static,
    ) -> Result<TaskServer, Error>
    where
        G: Serialize + DeserializeOwned + Send + 'static,
        F: Serialize + DeserializeOwned + Clone + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.graph().task(self, name, options, run)
    }

    /// A client of the task `name`. Nobody need serve it yet.
    ///
    /// # Errors
    ///
    /// As [`Graph::client`].
    pub fn task_client<G, F, R>(&self, name: &str) -> Result<TaskClient<G, F, R>, Error>
    where
        G: Serialize + DeserializeOwned + Send + 'static,
        F: Serialize + DeserializeOwned + Clone + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.graph().task_client(self, name)
    }
}

/// A request to a script.
struct ScriptRequest<Q, R> {
    /// Which of its services.
    index: usize,
    request: Q,
    reply: PhantomData<fn() -> R>,
}

type ScriptCall<S, Q, R> = Box<dyn FnMut(&mut S, Q, &mut Cx<'_, Callbacks<S>, R>) -> Outcome<R>>;

impl<S: 'static, Q: 'static, R: Send + 'static> Handle<ScriptRequest<Q, R>> for Callbacks<S> {
    type Reply = R;

    fn handle(&mut self, message: ScriptRequest<Q, R>, cx: &mut Cx<'_, Self, R>) -> Outcome<R> {
        let call = self.serves.get_mut(message.index);
        let call = call.and_then(|call| call.downcast_mut::<ScriptCall<S, Q, R>>());
        match call {
            Some(call) => call(&mut self.state, message.request, cx),
            // A service's number and types are given together.
            None => {
                Err(Error::new(ErrorKind::NotFound, "the script serves nothing like it").into())
            }
        }
    }
}

impl<S: 'static> Script<S> {
    /// Has `call` answer the requests of the service `name`, while the script spins. What it returns is the reply; a fault or a
    /// panic in it is the caller's error, and follows the script's [`OnFault`](crate::OnFault) policy. Requests wait meanwhile in the
    /// script's mailbox. It ends with the script, or by [`Served::unserve`].
    ///
    /// # Errors
    ///
    /// As [`Node::serve`], and [`ErrorKind::Closed`](crate::ErrorKind::Closed) if the script has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    ///
    /// let node = Node::simulated(1);
    /// let mut script = node.script()?.with(0);
    /// script.serve("count", |count, step: i64, _cx| {
    ///     *count += step;
    ///     Ok(*count)
    /// })?;
    /// let mut counted = node.client::<i64, i64>("count")?.call(3);
    /// assert_eq!(script.spin_until(&mut counted, Duration::from_secs(5))?, 3);
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn serve<Q, R>(
        &mut self,
        name: &str,
        call: impl FnMut(&mut S, Q, &mut Cx<'_, Callbacks<S>, R>) -> Outcome<R> + 'static,
    ) -> Result<Served, Error>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.serve_with(name, ServeOptions::new(), call)
    }

    /// As [`serve`](Self::serve), with options.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    pub fn serve_with<Q, R>(
        &mut self,
        name: &str,
        options: ServeOptions,
        call: impl FnMut(&mut S, Q, &mut Cx<'_, Callbacks<S>, R>) -> Outcome<R> + 'static,
    ) -> Result<Served, Error>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let call: ScriptCall<S, Q, R> = Box::new(call);
        let to = self.address()?.clone();
        let name = name.to_owned();
        self.enter(move |me, cx| {
            let index = me.serves.len();
            me.serves.push(Box::new(call));
            let processor = cx.name().clone();
            let runtime = cx.runtime();
            let request = move |request: Q| {
                to.call(ScriptRequest::<Q, R> {
                    index,
                    request,
                    reply: PhantomData,
                })
            };
            let graph = Graph::of(&runtime);
            let served = graph.serve_by(&runtime, &name, options, &processor, request);
            match &served {
                Ok(served) => cx.keep_served(served.clone()),
                Err(_) => me.serves.truncate(index),
            }
            served
        })?
    }
}
