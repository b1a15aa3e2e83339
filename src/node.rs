//! A program's node: processors, drivers and topics.

use crate::script::Script;
use mproc_pubsub::{
    CallbackSubscription, ChannelSubscription, DomainOptions, DomainSnapshot, EVENTS, Event, Graph,
    Msg, Place, Publisher, PublisherOptions, Sample, Subscription, SubscriptionOptions, Topic,
    TopicSnapshot, Topics, accept_msgs, send_msg,
};
use mproc_runtime::{
    Address, Closure, Error, ErrorKind, Faults, Handle, Options, Processor, Runtime, WhenFull,
    closure,
};
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

/// This process's place for processors, drivers and topics. Cheap to clone; `Send + Sync`.
///
/// It derefs to the runtime, which has everything about processors: `spawn_thread`, `driver`, `lookup`, `shutdown`,
/// `dead_letters` and the rest. Dropping the last handle ends the node in order, waiting at most 5 seconds.
#[derive(Clone, Debug)]
pub struct Node {
    runtime: Runtime,
}

impl Deref for Node {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.runtime
    }
}

/// Everything that is known of a running program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Processors, drivers and totals.
    #[serde(flatten)]
    pub runtime: mproc_runtime::Snapshot,
    /// Topics, by name.
    pub topics: Vec<TopicSnapshot>,
    /// The other processes of its domain; `None` if it is for this process alone.
    #[serde(default)]
    pub domain: Option<DomainSnapshot>,
}

impl Deref for Snapshot {
    type Target = mproc_runtime::Snapshot;

    fn deref(&self) -> &mproc_runtime::Snapshot {
        &self.runtime
    }
}

/// What a node is made with; see [`Node::builder`].
#[derive(Clone, Debug)]
#[must_use = "it makes nothing until build() is called"]
pub struct NodeBuilder {
    options: Option<Options>,
    domain: Option<DomainOptions>,
}

impl NodeBuilder {
    /// With these options, and not those of the environment.
    pub fn options(mut self, options: Options) -> Self {
        self.options = Some(options);
        self
    }

    /// In the domain `name`, whatever the environment says.
    ///
    /// # Errors
    ///
    /// As [`DomainOptions::new`].
    pub fn domain(self, name: &str) -> Result<Self, Error> {
        Ok(self.domain_with(DomainOptions::new(name)?))
    }

    /// In this domain, with these bounds.
    pub fn domain_with(mut self, domain: DomainOptions) -> Self {
        self.domain = Some(domain);
        self
    }

    /// The node. It joins its domain when it first declares a topic whose values can leave the process.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::ErrorKind::InvalidSetting), naming the variable of the environment.
    pub fn build(self) -> Result<Node, Error> {
        let options = match self.options {
            Some(options) => options,
            None => Options::from_environment()?,
        };
        let domain = match self.domain {
            Some(domain) => Some(domain),
            None => DomainOptions::from_environment()?,
        };
        let node = Node::with_options(options);
        if let Some(domain) = domain {
            node.graph().join_domain(domain)?;
        }
        Ok(node)
    }
}

impl Node {
    /// A node with the options of the environment: `MPROC_CAPACITY`, and `MPROC_DOMAIN`. If that is not set, the node is for
    /// this process alone.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](crate::ErrorKind::InvalidSetting), naming the variable.
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// A node that is told what the environment does not say.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mproc::Node;
    ///
    /// // Shares its topics with the other processes of this user that are in the domain "lab".
    /// let node = Node::builder().domain("lab")?.build()?;
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn builder() -> NodeBuilder {
        NodeBuilder {
            options: None,
            domain: None,
        }
    }

    /// A node with these options, for this process alone.
    pub fn with_options(options: Options) -> Self {
        Self {
            runtime: Runtime::with_options(options),
        }
    }

    /// A node in a simulated world, for tests: one handler runs at a time, chosen by `seed`, in virtual time. The calling
    /// thread takes part: the others run while it waits.
    pub fn simulated(seed: u64) -> Self {
        Self {
            runtime: Runtime::simulated(seed),
        }
    }

    /// As [`simulated`](Self::simulated), with options.
    pub fn simulated_with(seed: u64, options: Options) -> Self {
        Self {
            runtime: Runtime::simulated_with(seed, options),
        }
    }

    /// As [`simulated_with`](Self::simulated_with), in a world that makes faults: wakes come late or for nothing, threads
    /// are delayed, handlers panic. The seed chooses which. Faults take time, so wait for what is delayed with
    /// [`advance`](Runtime::advance).
    ///
    /// # Examples
    ///
    /// A message that panics is lost, and those behind it are not:
    ///
    /// ```
    /// use mproc::{Faults, Node, Options, closure};
    /// use std::time::Duration;
    ///
    /// let faults = Faults::new().panic_at(2).delays(100, Duration::from_millis(5));
    /// let node = Node::simulated_with_faults(1, Options::default(), faults);
    /// let (told, heard) = std::sync::mpsc::channel();
    /// let writer = node.spawn("writer", closure(move |n: u32, _cx| told.send(n)))?;
    /// for n in 1..=3 {
    ///     writer.send(n)?;
    /// }
    /// node.advance(Duration::from_secs(1));
    /// assert_eq!(heard.try_iter().collect::<Vec<_>>(), [1, 3]);
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn simulated_with_faults(seed: u64, options: Options, faults: Faults) -> Self {
        Self {
            runtime: Runtime::simulated_with_faults(seed, options, faults),
        }
    }

    /// The domain whose processes it shares topics with; `None` if it is for this process alone.
    pub fn domain(&self) -> Option<String> {
        self.graph().domain().map(str::to_owned)
    }

    /// The node's topics.
    fn graph(&self) -> std::sync::Arc<Graph> {
        Graph::of(&self.runtime)
    }

    /// A publisher of `topic`.
    ///
    /// # Errors
    ///
    /// As [`Graph::publisher`].
    pub fn publisher<T: ?Sized + Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
    ) -> Result<Publisher<T>, Error> {
        self.graph().publisher(&self.runtime, topic)
    }

    /// A publisher with options.
    ///
    /// # Errors
    ///
    /// As [`Graph::publisher_with`].
    pub fn publisher_with<T: ?Sized + Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        options: PublisherOptions,
    ) -> Result<Publisher<T>, Error> {
        self.graph().publisher_with(&self.runtime, topic, options)
    }

    /// A subscription to pull from.
    ///
    /// # Errors
    ///
    /// As [`Graph::subscription`].
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    ///
    /// const WORDS: Topic<String> = Topic::new("words");
    ///
    /// let node = Node::simulated(1);
    /// let words = node.subscription(&WORDS)?;
    /// node.publisher(&WORDS)?.publish("hello".into())?;
    /// assert_eq!(*words.recv().wait()?, "hello");
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn subscription<T: ?Sized + Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
    ) -> Result<Subscription<T>, Error> {
        self.graph().subscription(&self.runtime, topic)
    }

    /// A subscription to pull from, with options.
    ///
    /// # Errors
    ///
    /// As [`Graph::subscription_with`].
    pub fn subscription_with<T: ?Sized + Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        options: SubscriptionOptions<T>,
    ) -> Result<Subscription<T>, Error> {
        self.graph()
            .subscription_with(&self.runtime, topic, options)
    }

    /// A subscription to pull from, to all topics of a pattern (`robot/*/pose`, `robot/**`) and of type `T`, now and later.
    /// Topics of another type are left out, and so are the library's own, under `mproc/`, unless the pattern begins with
    /// `mproc/`.
    ///
    /// # Errors
    ///
    /// As [`Graph::subscription_matching`].
    pub fn subscription_matching<T: ?Sized + Send + Sync + 'static>(
        &self,
        pattern: &str,
        options: SubscriptionOptions<T>,
    ) -> Result<Subscription<T>, Error> {
        self.graph()
            .subscription_matching(&self.runtime, pattern, options)
    }

    /// A subscription as a crossbeam channel.
    ///
    /// # Errors
    ///
    /// As [`Graph::channel`].
    pub fn channel<T: ?Sized + Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        options: SubscriptionOptions<T>,
    ) -> Result<ChannelSubscription<T>, Error> {
        self.graph().channel(&self.runtime, topic, options)
    }

    /// Has `call` called with each sample, on a thread of its own. A panic in it is reported, and the next sample comes all
    /// the same. Dropping what this returns ends the subscription; `detach` keeps it.
    ///
    /// # Errors
    ///
    /// As [`subscription`](Self::subscription) and [`spawn_thread`](Runtime::spawn_thread);
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if the thread has not subscribed within the node's limit
    /// ([`Options::send_limit`], 5 seconds unless told otherwise). Nothing is left of it then.
    ///
    /// # Deadlocks
    ///
    /// It blocks this thread until the other has subscribed. Inside a handler, what the handler has sent is delivered first.
    pub fn subscribe<T: ?Sized + Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        call: impl FnMut(Sample<T>) + Send + 'static,
    ) -> Result<CallbackSubscription<Closure<(), ()>>, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let name = format!("subscriber-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let address = self.spawn_thread(&name, closure(|(): (), _cx| ()))?;
        let topic = *topic;
        let mut call = call;
        let (answer, made) = crossbeam_channel::bounded(1);
        let (waker, told) = (self.waker(), answer);
        address.with_processor(move |_, cx| {
            let control = cx.subscribe(&topic).call(move |_, sample, _| {
                call(sample);
                Ok(())
            });
            // The other end waits for it, at most for the node's limit. If it has given up, the processor ends next.
            let _gave_up = told.send(control);
            waker.wake();
        })?;
        let deadline = self.now().checked_add(self.options().wait_limit());
        let subscribed = self.block_until(deadline, |_| match made.try_recv() {
            Ok(control) => Some(Some(control)),
            Err(_) => address.is_closed().then_some(None),
        });
        match subscribed.flatten() {
            Some(Ok(control)) => Ok(CallbackSubscription::new(control, address)),
            Some(Err(error)) => {
                address.stop();
                Err(error)
            }
            None => {
                // It may still subscribe before it looks at this; then it unsubscribes as it ends.
                address.stop();
                let text = format!("subscriber {name:?} did not start");
                Err(Error::new(ErrorKind::Timeout, text))
            }
        }
    }

    /// Changes of who publishes and subscribes, as they happen. The oldest are dropped if nobody reads them.
    ///
    /// # Errors
    ///
    /// As [`subscription`](Self::subscription).
    pub fn events(&self) -> Result<Subscription<Event>, Error> {
        let graph = self.graph();
        graph.publish_events(&self.runtime)?;
        let options = SubscriptionOptions::new().when_full(WhenFull::DropOldest);
        graph.subscription_with(&self.runtime, &EVENTS, options)
    }

    /// Makes samples of topic `from` arrive at subscribers of topic `to`, too.
    ///
    /// # Errors
    ///
    /// As [`Graph::connect`].
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    ///
    /// const LEFT: Topic<i64> = Topic::new("left/speed");
    /// const SPEED: Topic<i64> = Topic::new("speed");
    ///
    /// let node = Node::simulated(1);
    /// let speeds = node.subscription(&SPEED)?;
    /// node.connect("left/speed", "speed")?;
    /// node.publisher(&LEFT)?.publish(3)?;
    /// let speed = speeds.recv().wait()?;
    /// assert_eq!((*speed, speed.topic()), (3, "left/speed".to_owned()));
    /// assert!(node.connect("speed", "left/speed").is_err()); // a circle
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn connect(&self, from: &str, to: &str) -> Result<(), Error> {
        self.graph().connect(from, to)
    }

    /// Ends a connection. False if there was none.
    pub fn disconnect(&self, from: &str, to: &str) -> bool {
        self.graph().disconnect(from, to)
    }

    /// Makes every publisher of the node wait until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.graph().pause();
    }

    /// Lets the node's publishers go on.
    pub fn resume(&self) {
        self.graph().resume();
    }

    /// Lets a processor be reached by dynamic messages. Returns its place.
    pub fn accept_msgs<P: Handle<Msg>>(&self, address: &Address<P>) -> Place {
        accept_msgs(&self.runtime, address)
    }

    /// Sends a dynamic message: to its `dst`, or to all who subscribe to (`mid`, `cmd`).
    ///
    /// # Errors
    ///
    /// As [`send_msg`].
    pub fn send(&self, msg: Msg) -> Result<(), Error> {
        send_msg(&self.runtime, msg)
    }

    /// What is known of the program now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            runtime: self.runtime.snapshot(),
            topics: self.graph().snapshot(),
            domain: self.graph().domain_snapshot(),
        }
    }

    /// A script on the calling thread, with `()` for a state. A thread may have several; each runs only while it is spun.
    ///
    /// # Errors
    ///
    /// As [`Runtime::manual`].
    pub fn script(&self) -> Result<Script<()>, Error> {
        Script::on_node(self.clone())
    }
}

/// The node of a processor's context, with topics.
impl<P: Processor, R: 'static> From<&mproc_runtime::Cx<'_, P, R>> for Node {
    fn from(cx: &mproc_runtime::Cx<'_, P, R>) -> Self {
        Self {
            runtime: cx.runtime(),
        }
    }
}
