//! Topics inside processors: publishing from handlers, and subscriptions as lanes.

use crate::callback_slot::{AnySlot, CallbackSlot};
use crate::delivery::Delivery;
use crate::error::PublishError;
use crate::events::{EVENTS, Event};
use crate::fan_out::Delivered;
use crate::graph::{Graph, Matches};
use crate::id::TopicId;
use crate::intake::{Intake, Next};
use crate::msg::Msg;
use crate::pattern::Pattern;
use crate::publisher::{Publisher, PublisherOptions};
use crate::sample::Sample;
use crate::subscriber::{Closed, Subscriber as _};
use crate::subscription::{Control, Hanging, SubscriptionOptions};
use crate::topic::Topic;
use mproc_runtime::{
    Address, Cx, Error, ErrorKind, Fault, Handle, LaneBell, LaneId, LaneSource, Processor, Runtime,
    Time, TimerId, WhenFull, hook,
};
use parking_lot::Mutex;
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What handlers do with topics, through their [`Cx`].
pub trait Topics<P: Processor> {
    /// Publishes `value`. The publisher is kept with the processor: there is no look-up by name per call.
    ///
    /// # Errors
    ///
    /// As [`Publisher::publish`], and [`PublishError::Refused`] if the topic cannot be declared.
    fn publish<T: Send + Sync + 'static>(
        &mut self,
        topic: &Topic<T>,
        value: T,
    ) -> Result<Delivered, PublishError<T>>;

    /// The processor's publisher of `topic`, made at its first use: for loans, `try_publish` and the rest.
    ///
    /// # Errors
    ///
    /// As [`Graph::publisher`].
    fn publisher<T: ?Sized + Send + Sync + 'static>(
        &mut self,
        topic: &Topic<T>,
    ) -> Result<Publisher<T>, Error>;

    /// A publisher of `topic` with options, which [`publish`](Self::publish) on the topic uses from now on.
    ///
    /// # Errors
    ///
    /// As [`Graph::publisher_with`].
    fn publisher_with<T: ?Sized + Send + Sync + 'static>(
        &mut self,
        topic: &Topic<T>,
        options: PublisherOptions,
    ) -> Result<Publisher<T>, Error>;

    /// Subscribes the processor to `topic`. What follows says how samples become messages:
    /// [`samples`](Subscribing::samples), [`map`](Subscribing::map) or [`call`](Subscribing::call).
    fn subscribe<T: ?Sized + Send + Sync + 'static>(
        &mut self,
        topic: &Topic<T>,
    ) -> Subscribing<'_, P, T>;

    /// Subscribes the processor to every topic of type `T` whose name matches, now and later. Topics of another type are
    /// left out, and so are the library's own, under `mproc/`, unless the pattern begins with `mproc/`.
    fn subscribe_matching<T: ?Sized + Send + Sync + 'static>(
        &mut self,
        pattern: &str,
    ) -> Subscribing<'_, P, T>;

    /// Subscribes the processor to what is published on the topic (`mid`, `cmd`), as dynamic messages.
    ///
    /// The topic may be declared later, with any type. What [`send_msg`](crate::send_msg) publishes arrives as it was
    /// sent. A value of a topic of another type arrives as a [`Msg`] of the topic's `mid` and `cmd` from nobody, and its
    /// [`data`](Msg::data) is a [`Sample`] of the value, shared and not copied. The sample is leased until the handler
    /// returns, or until the last duplicate of a message that it keeps is dropped. The capacity, the policy and the rest
    /// are the subscription's, whatever the number of topics and types.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_pubsub::{Graph, Msg, Sample, Topic, TopicId, Topics};
    /// use mproc_runtime::{Cx, Outcome, Processor, Runtime};
    ///
    /// const ALARM: Topic<String> = Topic::with_id(TopicId::new(7, 1));
    ///
    /// struct Logger;
    /// impl Processor for Logger {
    ///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         cx.subscribe_mid(7).call(|_, msg: Sample<Msg>, _| {
    ///             let text = msg.data.downcast_ref::<String>();
    ///             assert_eq!((msg.cmd, text.map(String::as_str)), (1, Some("too hot")));
    ///             Ok(())
    ///         })?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// node.spawn_thread("logger", Logger)?;
    /// node.settle();
    /// let alarms = Graph::of(&node).publisher(&node, &ALARM)?;
    /// assert_eq!(alarms.publish("too hot".into())?.count, 1);
    /// node.settle();
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    fn subscribe_msgs(&mut self, id: TopicId) -> Subscribing<'_, P, Msg>;

    /// As [`subscribe_msgs`](Self::subscribe_msgs), to every command of `mid`, through one queue.
    fn subscribe_mid(&mut self, mid: u32) -> Subscribing<'_, P, Msg>;
}

/// The processor's publishers, by topic and type. A handful at most: a list is searched faster than a map.
#[derive(Default)]
struct Publishers(Vec<(TopicId, Box<dyn Any + Send>)>);

impl<P: Processor, R: 'static> Topics<P> for Cx<'_, P, R> {
    fn publish<T: Send + Sync + 'static>(
        &mut self,
        topic: &Topic<T>,
        value: T,
    ) -> Result<Delivered, PublishError<T>> {
        let known = self.extensions().get_or_default::<Publishers>();
        if let Some(publisher) = known.find::<T>(topic) {
            return publisher.publish(value);
        }
        match self.publisher(topic) {
            Ok(publisher) => publisher.publish(value),
            Err(error) => Err(PublishError::Refused { value, error }),
        }
    }

    fn publisher<T: ?Sized + Send + Sync + 'static>(
        &mut self,
        topic: &Topic<T>,
    ) -> Result<Publisher<T>, Error> {
        let known = self.extensions().get_or_default::<Publishers>();
        if let Some(publisher) = known.find::<T>(topic) {
            return Ok(publisher.clone());
        }
        self.publisher_with(topic, PublisherOptions::default())
    }

    fn publisher_with<T: ?Sized + Send + Sync + 'static>(
        &mut self,
        topic: &Topic<T>,
        options: PublisherOptions,
    ) -> Result<Publisher<T>, Error> {
        let runtime = self.runtime();
        let publisher = Graph::of(&runtime).publisher_with(&runtime, topic, options)?;
        publisher.set_owner(self.name());
        let known = self.extensions().get_or_default::<Publishers>();
        known
            .0
            .retain(|(id, p)| *id != topic.id() || !p.is::<Publisher<T>>());
        known.0.push((topic.id(), Box::new(publisher.clone())));
        Ok(publisher)
    }

    fn subscribe<T: ?Sized + Send + Sync + 'static>(
        &mut self,
        topic: &Topic<T>,
    ) -> Subscribing<'_, P, T> {
        Subscribing::new(self, Ok(To::topic(*topic)))
    }

    fn subscribe_matching<T: ?Sized + Send + Sync + 'static>(
        &mut self,
        pattern: &str,
    ) -> Subscribing<'_, P, T> {
        Subscribing::new(self, Pattern::new(pattern).map(To::pattern))
    }

    fn subscribe_msgs(&mut self, id: TopicId) -> Subscribing<'_, P, Msg> {
        Subscribing::new(self, Ok(To::msgs(id, Matches::Id(id))))
    }

    fn subscribe_mid(&mut self, mid: u32) -> Subscribing<'_, P, Msg> {
        let all = To::msgs(TopicId::new(mid, 0), Matches::Mid(mid));
        Subscribing::new(self, Ok(all))
    }
}

impl Publishers {
    fn find<T: ?Sized + Send + Sync + 'static>(&self, topic: &Topic<T>) -> Option<&Publisher<T>> {
        self.0
            .iter()
            .filter(|(id, _)| *id == topic.id())
            .find_map(|(_, publisher)| publisher.downcast_ref())
    }
}

/// What a subscription is to.
struct To<T: ?Sized + Send + Sync + 'static> {
    /// For people.
    name: &'static str,
    id: TopicId,
    attach: Box<Attach<T>>,
}

type Attach<T> = dyn FnOnce(&Arc<Graph>, &Runtime, &Arc<Delivery<T>>) -> Result<(), Error>;

impl<T: ?Sized + Send + Sync + 'static> To<T> {
    fn topic(topic: Topic<T>) -> Self {
        Self {
            name: topic.name(),
            id: topic.id(),
            attach: Box::new(move |graph, runtime, queue| {
                graph.attach_delivery(runtime, &topic, queue)
            }),
        }
    }

    fn pattern(pattern: Pattern) -> Self {
        Self {
            name: "",
            id: TopicId::from_name(&pattern.to_string()),
            attach: Box::new(move |graph, runtime, queue| {
                graph.attach_matching(runtime, pattern, queue)
            }),
        }
    }
}

impl To<Msg> {
    fn msgs(id: TopicId, matches: Matches) -> Self {
        Self {
            name: "",
            id,
            attach: Box::new(move |graph, runtime, queue| {
                graph.attach_msgs(runtime, matches, queue)
            }),
        }
    }
}

/// What a processor's context can do for a subscription, whatever reply its handler owes.
trait Host<P: Processor> {
    fn runtime(&self) -> Runtime;
    fn add_lane(&mut self, lane: MakeLane<'_, dyn LaneSource<P> + Send>) -> LaneId;
    fn add_lane_local(&mut self, lane: MakeLane<'_, dyn LaneSource<P>>) -> Result<LaneId, Error>;
    fn remove_lane(&mut self, lane: LaneId);
    fn after(&mut self, delay: Duration, call: Expired<P>) -> TimerId;
    fn time(&self) -> Time;
}

type MakeLane<'a, L> = Box<dyn FnOnce(LaneBell) -> Box<L> + 'a>;
type Expired<P> = Box<dyn FnOnce(&mut P, &mut Cx<'_, P>) + Send>;
type SilenceCall<P> = Box<dyn FnMut(&mut P, &mut Cx<'_, P>) + Send>;

impl<P: Processor, R: 'static> Host<P> for Cx<'_, P, R> {
    fn runtime(&self) -> Runtime {
        Cx::runtime(self)
    }

    fn add_lane(&mut self, lane: MakeLane<'_, dyn LaneSource<P> + Send>) -> LaneId {
        Cx::add_lane(self, lane)
    }

    fn add_lane_local(&mut self, lane: MakeLane<'_, dyn LaneSource<P>>) -> Result<LaneId, Error> {
        Cx::add_lane_local(self, lane)
    }

    fn remove_lane(&mut self, lane: LaneId) {
        Cx::remove_lane(self, lane);
    }

    fn after(&mut self, delay: Duration, call: Expired<P>) -> TimerId {
        self.after_with(delay, call)
    }

    fn time(&self) -> Time {
        Cx::time(self)
    }
}

/// A subscription of a processor that is being made.
#[must_use = "say what becomes of the samples: samples(), map() or call()"]
pub struct Subscribing<'a, P: Processor, T: ?Sized + Send + Sync + 'static> {
    host: &'a mut dyn Host<P>,
    to: Result<To<T>, Error>,
    options: SubscriptionOptions<T>,
    silence: Option<(Duration, SilenceCall<P>)>,
}

impl<'a, P: Processor, T: ?Sized + Send + Sync + 'static> Subscribing<'a, P, T> {
    fn new<R: 'static>(cx: &'a mut Cx<'_, P, R>, to: Result<To<T>, Error>) -> Self {
        Self {
            host: cx,
            to,
            options: SubscriptionOptions::new(),
            silence: None,
        }
    }

    /// As [`SubscriptionOptions::capacity`].
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.options = self.options.capacity(capacity);
        self
    }

    /// As [`SubscriptionOptions::when_full`].
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.options = self.options.when_full(when_full);
        self
    }

    /// As [`SubscriptionOptions::filter`].
    pub fn filter(mut self, filter: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.options = self.options.filter(filter);
        self
    }

    /// As [`SubscriptionOptions::max_leases`].
    pub fn max_leases(mut self, count: usize) -> Self {
        self.options = self.options.max_leases(count);
        self
    }

    /// With these options.
    pub fn options(mut self, options: SubscriptionOptions<T>) -> Self {
        self.options = options;
        self
    }

    /// Sends the processor what `make` returns when nothing came for `limit`: once for each silence. While a silence lasts
    /// that was told, nothing is timed.
    ///
    /// `make` must be `Send` on every driver. What is not can be kept by the processor, which handles the message.
    pub fn silence<M: 'static>(
        mut self,
        limit: Duration,
        mut make: impl FnMut() -> M + Send + 'static,
    ) -> Self
    where
        P: Handle<M>,
    {
        self.silence = Some((limit, Box::new(move |me, cx| cx.handle_now(me, make()))));
        self
    }

    /// Each sample becomes a message `Sample<T>`.
    ///
    /// # Errors
    ///
    /// As [`Graph::subscription_with`](crate::Graph::subscription_with).
    pub fn samples(self) -> Result<Control, Error>
    where
        P: Handle<Sample<T>>,
    {
        self.call(|me, sample, cx| {
            cx.handle_now(me, sample);
            Ok(())
        })
    }

    /// Each sample becomes the message that `make` makes of it: so a processor tells apart topics of one type.
    ///
    /// # Errors
    ///
    /// As [`Graph::subscription_with`](crate::Graph::subscription_with).
    pub fn map<M: 'static>(
        self,
        mut make: impl FnMut(Sample<T>) -> M + Send + 'static,
    ) -> Result<Control, Error>
    where
        P: Handle<M>,
    {
        self.call(move |me, sample, cx| {
            cx.handle_now(me, make(sample));
            Ok(())
        })
    }

    /// As [`map`](Self::map), for a closure that is not `Send`. Not on a pool, whose processors go from thread to thread.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map), and [`ErrorKind::Refused`] if the processor runs on a pool.
    pub fn map_local<M: 'static>(
        self,
        mut make: impl FnMut(Sample<T>) -> M + 'static,
    ) -> Result<Control, Error>
    where
        P: Handle<M>,
    {
        self.call_local(move |me, sample, cx| {
            cx.handle_now(me, make(sample));
            Ok(())
        })
    }

    /// `call` is called with each sample. It is kept with the processor, so it must be `Send`.
    ///
    /// # Errors
    ///
    /// As [`Graph::subscription_with`](crate::Graph::subscription_with).
    ///
    /// # Examples
    ///
    /// A closure that keeps what is not `Send` does not compile; see [`call_local`](Self::call_local):
    ///
    /// ```compile_fail
    /// # use mproc_pubsub::{Topic, Topics};
    /// # use mproc_runtime::{Cx, Error, Processor};
    /// # use std::{cell::Cell, rc::Rc};
    /// const NUMBERS: Topic<i64> = Topic::new("numbers");
    /// fn add_up<P: Processor>(sum: Rc<Cell<i64>>, cx: &mut Cx<'_, P>) -> Result<(), Error> {
    ///     cx.subscribe(&NUMBERS).call(move |_, n, _| { sum.set(sum.get() + *n); Ok(()) })?;
    ///     Ok(())
    /// }
    /// ```
    pub fn call(
        self,
        call: impl FnMut(&mut P, Sample<T>, &mut Cx<'_, P>) -> Result<(), Fault> + Send + 'static,
    ) -> Result<Control, Error> {
        self.begin(call, |host, lane, delivery| {
            Ok(host.add_lane(Box::new(|bell| {
                delivery.set_bell(bell);
                Box::new(lane)
            })))
        })
    }

    /// As [`call`](Self::call), for a closure that is not `Send`. Not on a pool, whose processors go from thread to thread.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call), and [`ErrorKind::Refused`] if the processor runs on a pool.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_pubsub::{Topic, Topics};
    /// # use mproc_runtime::{Cx, Error, Processor};
    /// # use std::{cell::Cell, rc::Rc};
    /// const NUMBERS: Topic<i64> = Topic::new("numbers");
    /// fn add_up<P: Processor>(sum: Rc<Cell<i64>>, cx: &mut Cx<'_, P>) -> Result<(), Error> {
    ///     cx.subscribe(&NUMBERS).call_local(move |_, n, _| { sum.set(sum.get() + *n); Ok(()) })?;
    ///     Ok(())
    /// }
    /// ```
    pub fn call_local(
        self,
        call: impl FnMut(&mut P, Sample<T>, &mut Cx<'_, P>) -> Result<(), Fault> + 'static,
    ) -> Result<Control, Error> {
        self.begin(call, |host, lane, delivery| {
            let added = host.add_lane_local(Box::new(|bell| {
                delivery.set_bell(bell);
                Box::new(lane)
            }));
            added.map_err(|error| {
                let text = format!("cannot keep {}: {error}", delivery.label());
                Error::new(ErrorKind::Refused, text)
            })
        })
    }

    /// `add` says by which door the lane comes into the processor.
    fn begin<F>(
        self,
        call: F,
        add: impl FnOnce(
            &mut dyn Host<P>,
            SubscriptionLane<P, T, F>,
            &Arc<Delivery<T>>,
        ) -> Result<LaneId, Error>,
    ) -> Result<Control, Error> {
        let runtime = self.host.runtime();
        let graph = Graph::of(&runtime);
        let to = self.to?;
        let delivery = self.options.delivery(&runtime, to.name, to.id)?;
        let hanging = Arc::new(Hanging {
            delivery: delivery.clone(),
            graph: Arc::downgrade(&graph),
        });
        let control = hanging.control();
        let silence = self.silence.map(|(limit, tell)| {
            Arc::new(Silence {
                delivery: delivery.clone(),
                limit,
                watch: Mutex::new(Watch {
                    heard: self.host.time(),
                    armed: None,
                }),
                tell: Mutex::new(Some(tell)),
            })
        });
        let own_id = Arc::new(OnceLock::new());
        let lane = SubscriptionLane {
            intake: Intake::new(delivery.clone()),
            call,
            id: own_id.clone(),
            hanging,
            silence: silence.clone(),
        };
        let id = add(self.host, lane, &delivery)?;
        let _set_once = own_id.set(id);
        if let Err(error) = (to.attach)(&graph, &runtime, &delivery) {
            self.host.remove_lane(id);
            return Err(error);
        }
        if let Some(silence) = silence {
            let watch = silence.clone();
            let expired = move |me: &mut P, cx: &mut Cx<'_, P>| watch.expire(me, cx);
            let timer = self.host.after(silence.limit, Box::new(expired));
            silence.watch.lock().armed = Some(timer);
        }
        Ok(control)
    }
}

/// Notices that nothing came for a while, with one timer: it is armed for `limit` after what came last. What comes
/// meanwhile is only noted, and looked at when the timer fires. Once a silence is told there is no timer, until something
/// comes.
///
/// The processor alone has it, in its lane and in its timer, and is on one thread at a time, so the locks are never waited
/// for: they make it `Send`.
struct Silence<P: Processor, T: ?Sized + Send + Sync + 'static> {
    delivery: Arc<Delivery<T>>,
    limit: Duration,
    watch: Mutex<Watch>,
    /// Absent while it is called.
    tell: Mutex<Option<SilenceCall<P>>>,
}

struct Watch {
    /// When something came last.
    heard: Time,
    armed: Option<TimerId>,
}

impl<P: Processor, T: ?Sized + Send + Sync + 'static> Silence<P, T> {
    /// Something came.
    fn hear(self: &Arc<Self>, cx: &mut Cx<'_, P>) {
        let is_armed = {
            let mut watch = self.watch.lock();
            watch.heard = cx.time();
            watch.armed.is_some()
        };
        if !is_armed {
            self.arm(self.limit, cx);
        }
    }

    fn arm(self: &Arc<Self>, delay: Duration, cx: &mut Cx<'_, P>) {
        let watch = self.clone();
        let timer = cx.after_with(delay, move |me, cx| watch.expire(me, cx));
        self.watch.lock().armed = Some(timer);
    }

    fn expire(self: Arc<Self>, me: &mut P, cx: &mut Cx<'_, P>) {
        let heard = {
            let mut watch = self.watch.lock();
            watch.armed = None;
            watch.heard
        };
        if self.delivery.is_ended() {
            return;
        }
        let silent = cx.time() - heard;
        if silent < self.limit {
            self.arm(self.limit - silent, cx);
        } else if !self.delivery.is_paused() && self.delivery.snapshot().queued > 0 {
            // It came and has not had its turn yet.
            self.arm(self.limit, cx);
        } else {
            self.tell(me, cx);
        }
    }

    /// With no lock held: it is the user's code.
    fn tell(&self, me: &mut P, cx: &mut Cx<'_, P>) {
        let Some(mut tell) = self.tell.lock().take() else {
            return;
        };
        let told = catch_unwind(AssertUnwindSafe(|| tell(me, cx)));
        // Also after a panic: the processor may go on.
        *self.tell.lock() = Some(tell);
        if let Err(payload) = told {
            resume_unwind(payload);
        }
    }

    /// The subscription has ended, and the watch over it with it.
    fn end(&self, cx: &mut Cx<'_, P>) {
        let armed = self.watch.lock().armed.take();
        if let Some(timer) = armed {
            cx.cancel(timer);
        }
    }
}

impl<P: Processor, T: ?Sized + Send + Sync> fmt::Debug for Subscribing<'_, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscribing({:?})", self.options)
    }
}

/// The receiving half of a processor's subscription.
struct SubscriptionLane<P: Processor, T: ?Sized + Send + Sync + 'static, F> {
    intake: Intake<T>,
    call: F,
    /// Where it stands in its cell; set right after it was added.
    id: Arc<OnceLock<LaneId>>,
    /// What controls point to: it lives as long as the lane.
    hanging: Arc<Hanging<T>>,
    silence: Option<Arc<Silence<P, T>>>,
}

impl<P: Processor, T: ?Sized + Send + Sync + 'static, F> SubscriptionLane<P, T, F> {
    #[cold]
    fn tell_panic(&self) {
        let delivery = &self.hanging.delivery;
        let name = delivery.lane_bell().map(LaneBell::processor_name);
        let processor = name.map_or_else(String::new, |name| name.as_str().to_owned());
        delivery.tell(|topic, subscription| Event::HandlerPanicked {
            topic,
            subscription,
            processor,
        });
    }
}

impl<P, T, F> LaneSource<P> for SubscriptionLane<P, T, F>
where
    P: Processor,
    T: ?Sized + Send + Sync + 'static,
    F: FnMut(&mut P, Sample<T>, &mut Cx<'_, P>) -> Result<(), Fault> + 'static,
{
    fn serve(&mut self, processor: &mut P, cx: &mut Cx<'_, P>) -> bool {
        match self.intake.next() {
            Next::Sample(sample) => {
                if let Some(silence) = &self.silence {
                    silence.hear(cx);
                }
                let is_event = sample.topic_id() == EVENTS.id();
                let _span = hook::handling(
                    cx.name(),
                    std::any::type_name::<Sample<T>>(),
                    sample.cause(),
                );
                let called = catch_unwind(AssertUnwindSafe(|| (self.call)(processor, sample, cx)));
                match called {
                    Ok(Ok(())) => {}
                    Ok(Err(fault)) => cx.fault(processor, fault),
                    Err(payload) => {
                        if !is_event {
                            self.tell_panic();
                        }
                        resume_unwind(payload);
                    }
                }
                true
            }
            Next::Nothing => false,
            Next::LeaseLimit => {
                let fault = Fault::new(format!(
                    "{} holds as many samples as it may; no more are taken until one is let go of",
                    self.intake.label()
                ));
                cx.fault(processor, fault);
                false
            }
            Next::Ended => {
                if let Some(silence) = &self.silence {
                    silence.end(cx);
                }
                // It was unsubscribed. It ends with what is left of its batch, and its closure, when this returns.
                if let Some(&id) = self.id.get() {
                    cx.remove_lane(id);
                }
                false
            }
        }
    }

    fn rest(&mut self) -> bool {
        self.intake.rest()
    }

    fn head(&self) -> Option<u64> {
        self.intake.head()
    }

    fn item_type(&self) -> fn() -> &'static str {
        std::any::type_name::<Sample<T>>
    }

    fn drain(&mut self) {
        // Out of the topic, so that nothing new comes; what is queued is still served.
        self.hanging.delivery.drain_sources();
        if let Some(graph) = self.hanging.graph.upgrade() {
            graph.detach_id(self.hanging.delivery.id_of());
        }
    }

    fn end(&mut self) {
        self.intake.end();
        match self.hanging.graph.upgrade() {
            Some(graph) => graph.detach(&self.hanging.delivery),
            None => {
                self.hanging.delivery.close(Closed::Unsubscribed);
            }
        }
    }
}

/// A `Send` closure that is called with each sample on a thread of its own; see `Node::subscribe` in the facade.
#[must_use = "dropping it ends the subscription; detach() keeps it"]
pub struct CallbackSubscription<P: Processor> {
    control: Control,
    address: Option<Address<P>>,
    slot: Box<dyn AnySlot>,
}

impl<P: Processor> CallbackSubscription<P> {
    /// For the facade.
    pub fn new<T: ?Sized + 'static>(
        control: Control,
        address: Address<P>,
        slot: CallbackSlot<T>,
    ) -> Self {
        Self {
            control,
            address: Some(address),
            slot: Box::new(slot),
        }
    }

    /// Takes the callback out and drops it. Samples wait meanwhile, in order, under the subscription's policy, as if it were
    /// paused. A call that is under way returns as usual, and one sample that was on its way already may still come to it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the subscription has ended.
    pub fn take_callback(&self) -> Result<(), Error> {
        self.check_open()?;
        self.control.take_callback_out();
        let expelled = self.slot.expel();
        let slot = self.slot.clone_slot();
        match &self.address {
            Some(address) => address.with_processor(move |_, _| slot.clear(expelled)),
            None => Ok(()),
        }
    }

    /// Puts another callback in the place of the one that there is, or was. It gets all samples from the next on, and
    /// what has waited, in order. Inside the callback it replaces that one after its call.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the subscription has ended; [`ErrorKind::TypeConflict`] if its samples are of another
    /// type. Then `call` is dropped.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use mproc_pubsub::{CallbackSubscription, Sample};
    /// # use mproc_runtime::Closure;
    /// # fn of(numbers: CallbackSubscription<Closure<(), ()>>) -> Result<(), mproc_runtime::Error> {
    /// numbers.take_callback()?; // numbers wait
    /// numbers.set_callback(|n: Sample<i64>| println!("{}", *n))?; // and go on
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_callback<T: ?Sized + 'static>(
        &self,
        call: impl FnMut(Sample<T>) + Send + 'static,
    ) -> Result<(), Error> {
        self.check_open()?;
        let Some(slot) = self.slot.as_any().downcast_ref::<CallbackSlot<T>>() else {
            let text = format!(
                "cannot set a callback for {}: the samples of {:?} are of another type",
                std::any::type_name::<T>(),
                self.control
            );
            return Err(Error::new(ErrorKind::TypeConflict, text));
        };
        slot.set(Box::new(call));
        self.control.put_callback_back();
        Ok(())
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.control.has_ended() {
            let text = format!("{:?} has ended", self.control);
            return Err(Error::new(ErrorKind::Closed, text));
        }
        Ok(())
    }

    /// Its controls.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Keeps it for the life of the node.
    pub fn detach(mut self) -> Control {
        self.address = None;
        self.control.clone()
    }

    /// Ends it at once; what is queued is given back. The same as dropping it, said in words.
    pub fn unsubscribe(self) {
        drop(self);
    }
}

impl<P: Processor> Drop for CallbackSubscription<P> {
    fn drop(&mut self) {
        if let Some(address) = self.address.take() {
            self.control.unsubscribe();
            address.stop();
        }
    }
}

impl<P: Processor> fmt::Debug for CallbackSubscription<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackSubscription({:?})", self.control)
    }
}
