//! A program's node: processors, drivers and topics.

use crate::script::{Script, handle_signals};
use mproc_pubsub::{
    CallbackSlot, CallbackSubscription, ChannelSubscription, DomainOptions, DomainTime, EVENTS,
    Event, Graph, Msg, NodeInfo, Place, Publisher, PublisherOptions, Relay, RelayOptions, Sample,
    Snapshot, Subscription, SubscriptionOptions, Survey, SurveyOptions, Topic, Topics, accept_msgs,
    send_msg,
};
use mproc_runtime::{
    Address, Clock, Closure, Error, ErrorKind, Faults, Handle, Options, Pending, Processor,
    Runtime, WhenFull, closure,
};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// What a node is made with; see [`Node::builder`].
#[derive(Clone, Debug)]
#[must_use = "it makes nothing until build() is called"]
pub struct NodeBuilder {
    options: Option<Options>,
    domain: Option<DomainOptions>,
    /// The program has asked for the domain: it is an error if it cannot be joined.
    must_join: bool,
    follows_domain_time: bool,
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
        self.must_join = true;
        self
    }

    /// In this domain, if it can be joined. If not, whatever needs it says so.
    pub(crate) fn domain_if_possible(mut self, domain: DomainOptions) -> Self {
        self.domain = Some(domain);
        self.must_join = false;
        self
    }

    /// Timers follow [domain time](Node::domain_clock) on every driver and in every processor that is not told otherwise.
    pub fn domain_time(mut self) -> Self {
        self.follows_domain_time = true;
        self
    }

    /// The node. It joins its domain now, so that others see it whatever it does. Where `MPROC_DOMAIN` names the domain and it
    /// cannot be joined, the node is made all the same: it tries again when it first declares a topic whose values can leave
    /// the process, or a service, and that returns the error.
    ///
    /// # Errors
    ///
    /// - [`InvalidSetting`](crate::ErrorKind::InvalidSetting), naming the variable of the environment; or what is wrong with a
    ///   number of the domain that it was told, or with its directory.
    /// - [`Io`](crate::ErrorKind::Io): the domain that it was told cannot be joined. The text says what was refused, and what to
    ///   do.
    /// - [`Refused`](crate::ErrorKind::Refused): it was told a domain, and [there can be none](DomainOptions::is_available).
    /// - With [`domain_time`](Self::domain_time), as [`Node::domain_clock`].
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
            let graph = node.graph();
            graph.join_domain(domain)?;
            let joined = graph.join_now(&node.runtime);
            if self.must_join {
                joined?;
            }
        }
        if self.follows_domain_time {
            let clock = node.domain_clock()?;
            node.follow(&clock);
        }
        Ok(node)
    }

    /// The node, and a script of it on the calling thread, which Ctrl-C and SIGTERM end in order, as
    /// [`init`](crate::init) describes.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build); [`Refused`](crate::ErrorKind::Refused) if the program handles these signals itself already.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mproc::Node;
    ///
    /// let mut script = Node::builder().domain("lab")?.init()?;
    /// script.spin()?;
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn init(self) -> Result<Script<()>, Error> {
        let script = self.build()?.script()?;
        handle_signals(script.node().clone())?;
        Ok(script)
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
            must_join: false,
            follows_domain_time: false,
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

    /// The clock of the node's domain, which a replay or a simulation drives ([`drive_time`](Self::drive_time)), here or in
    /// another process. It shows zero, and stands, until somebody does. A node of no domain has its own.
    ///
    /// Let a processor's timers follow it by [`Cx::follow`](crate::Cx::follow), a driver's by
    /// [`Driver::follow`](crate::Driver::follow), the node's by [`NodeBuilder::domain_time`]. Limits on waiting follow steady
    /// time all the same.
    ///
    /// In a domain the first call makes a thread, asleep but when time is changed, and blocks until that listens.
    ///
    /// # Errors
    ///
    /// As [`mproc_pubsub::domain_clock`].
    pub fn domain_clock(&self) -> Result<Clock, Error> {
        mproc_pubsub::domain_clock(&self.runtime)
    }

    /// Drives the time of the node's domain from now on, until what this returns is dropped. One at a time. Time stands still
    /// until it is [resumed](DomainTime::resume).
    ///
    /// A node of a domain first listens for a quarter of a second whether another drives.
    ///
    /// # Errors
    ///
    /// As [`mproc_pubsub::drive_time`]: [`Refused`](crate::ErrorKind::Refused), naming who, if somebody drives it already.
    ///
    /// # Examples
    ///
    /// A minute of a processor's life in six seconds:
    ///
    /// ```
    /// use mproc::prelude::*;
    ///
    /// struct Pulse;
    /// struct Beat;
    /// const BEATS: Topic<u64> = Topic::new("beats");
    /// impl Processor for Pulse {
    ///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         let clock = Node::from(&*cx).domain_clock()?;
    ///         cx.follow(&clock);
    ///         cx.every(Duration::from_secs(20), |_tick| Beat);
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<Beat> for Pulse {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: Beat, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         let seconds = cx.time().as_nanos() / 1_000_000_000;
    ///         cx.publish(&BEATS, seconds)?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let node = Node::simulated(1);
    /// let beats = node.subscription(&BEATS)?;
    /// let time = node.drive_time()?;
    /// node.spawn_thread("pulse", Pulse)?;
    /// time.rate(10.0)?;
    /// time.resume()?;
    /// node.advance(Duration::from_secs(6));
    /// assert_eq!(beats.try_iter().map(|s| *s).collect::<Vec<_>>(), [20, 40, 60]);
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn drive_time(&self) -> Result<DomainTime, Error> {
        mproc_pubsub::drive_time(&self.runtime)
    }

    /// The node's topics.
    pub(crate) fn graph(&self) -> std::sync::Arc<Graph> {
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
        let slot = CallbackSlot::new(call);
        let called = slot.clone();
        let (answer, made) = crossbeam_channel::bounded(1);
        let (waker, told) = (self.waker(), answer);
        address.with_processor(move |_, cx| {
            let control = cx.subscribe(&topic).call(move |_, sample, _| {
                called.call(sample);
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
            Some(Ok(control)) => Ok(CallbackSubscription::new(control, address, slot)),
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

    /// What happens to topics, subscriptions and services, as it happens: who comes and goes, queues that are high, samples that are
    /// dropped, pauses, panics of handlers, leases that are held long. The oldest are dropped if nobody reads them, and nobody
    /// waits for them.
    ///
    /// # Errors
    ///
    /// As [`subscription`](Self::subscription).
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::{Event, prelude::*};
    ///
    /// const NUMBERS: Topic<i64> = Topic::new("numbers");
    ///
    /// let node = Node::simulated(1);
    /// let newest = SubscriptionOptions::new().capacity(1).when_full(WhenFull::DropOldest);
    /// let numbers = node.subscription_with(&NUMBERS, newest)?;
    /// let publisher = node.publisher(&NUMBERS)?;
    /// let events = node.events()?;
    ///
    /// publisher.publish(1)?;
    /// publisher.publish(2)?;
    /// let is_drop = |event: &Event| matches!(event, Event::Dropped { count: 1, .. });
    /// assert!(events.try_iter().any(|event| is_drop(&event)));
    /// # drop(numbers);
    /// # Ok::<(), mproc::Error>(())
    /// ```
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

    /// Publishes on topic `to` what comes on topic `from`, on a thread of its own, until the [`Relay`] is dropped. It
    /// has a queue, a publisher, a pause and counters of its own; to share a topic's subscribers without them,
    /// [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// As [`Graph::relay`].
    ///
    /// # Deadlocks
    ///
    /// As [`Graph::relay`].
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    ///
    /// const RAW: Topic<i64> = Topic::new("raw");
    /// const SHOWN: Topic<i64> = Topic::new("shown");
    ///
    /// let node = Node::simulated(1);
    /// let shown = node.subscription(&SHOWN)?;
    /// let relay = node.relay(&RAW, &SHOWN)?;
    /// node.publisher(&RAW)?.publish(3)?;
    /// assert_eq!(*shown.recv().wait()?, 3);
    /// assert_eq!(relay.snapshot().sent, 1);
    /// assert!(node.relay(&SHOWN, &RAW).is_err()); // a circle
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn relay<T: ?Sized + Send + Sync + 'static>(
        &self,
        from: &Topic<T>,
        to: &Topic<T>,
    ) -> Result<Relay, Error> {
        self.relay_with(from, to, RelayOptions::new())
    }

    /// As [`relay`](Self::relay), with options.
    ///
    /// # Errors
    ///
    /// As [`Graph::relay`].
    ///
    /// # Deadlocks
    ///
    /// As [`Graph::relay`].
    pub fn relay_with<T: ?Sized + Send + Sync + 'static>(
        &self,
        from: &Topic<T>,
        to: &Topic<T>,
        options: RelayOptions<T>,
    ) -> Result<Relay, Error> {
        self.graph().relay(&self.runtime, from, to, options)
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
        self.graph().node_snapshot(&self.runtime)
    }

    /// Which node this is, as the others of its domain see it.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::Node;
    ///
    /// let info = Node::simulated(1).info();
    /// assert_eq!(info.pid, std::process::id());
    /// assert_eq!(info.domain, None); // it is for this process alone
    /// ```
    pub fn info(&self) -> NodeInfo {
        self.graph().node_info(&self.runtime)
    }

    /// Asks every other node of the domain for its snapshot, and gives a [`Survey`] when each has answered or is dead, or
    /// `limit` is over. This node is not in it. Whoever has not answered is in [`Survey::silent`], with the reason in words:
    /// it is stopped, has another version, could not be met in time.
    ///
    /// A node answers also while all its drivers are blocked, and pays nothing while nobody asks. For a node of no domain and for
    /// a simulated one the survey is empty, at once. Nothing begins before it is waited for.
    ///
    /// # Errors
    ///
    /// From waiting, as [`Graph::survey`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels: reports that come later are let go of unread.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mproc::Node;
    /// use std::time::Duration;
    ///
    /// let node = Node::builder().domain("lab")?.build()?;
    /// let survey = node.survey(Duration::from_secs(1)).wait()?;
    /// for report in &survey.reports {
    ///     println!("{} has {} processors", report.node.program, report.snapshot.processors.len());
    /// }
    /// for silent in &survey.silent {
    ///     println!("process {} does not answer: {}", silent.pid, silent.why);
    /// }
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn survey(&self, limit: Duration) -> Pending<Survey, Error> {
        self.graph().survey(&self.runtime, limit)
    }

    /// As [`survey`](Self::survey), with options.
    ///
    /// # Errors
    ///
    /// From waiting, as [`Graph::survey`].
    ///
    /// # Cancel safety
    ///
    /// As [`survey`](Self::survey). Nodes that watch who sends to whom do so to the end of that time.
    ///
    /// # Examples
    ///
    /// Who sends to whom in other processes:
    ///
    /// ```no_run
    /// use mproc::{Node, SurveyOptions};
    /// use std::time::Duration;
    ///
    /// let node = Node::builder().domain("lab")?.build()?;
    /// let options = SurveyOptions::new().watch_sends(Duration::from_secs(1));
    /// for report in node.survey_with(options).wait()?.reports {
    ///     for send in report.snapshot.sends.iter().flat_map(|sends| &sends.pairs) {
    ///         let from = send.from.as_deref().unwrap_or("program");
    ///         println!("{}: {from} -> {}: {}", report.node.program, send.to, send.count);
    ///     }
    /// }
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn survey_with(&self, options: SurveyOptions) -> Pending<Survey, Error> {
        self.graph().survey_with(&self.runtime, options)
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
