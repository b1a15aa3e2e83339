//! Subscriptions join their topics, here and at other nodes, and leave them.

use super::matching::{Matches, is_internal};
use super::wiring::{Attach, PatternSubscription};
use super::{Graph, has_ended};
use crate::channel::{Channel, ChannelSubscription};
use crate::codec::CodecKind;
use crate::delivery::Delivery;
use crate::events::{EVENTS, Event};
use crate::id::{SubscriptionId, TopicId};
use crate::monitor::Monitor;
use crate::msg::Msg;
use crate::pattern::Pattern;
use crate::raw::{AsBytes, Raw, TypeInfo};
use crate::remote::{self, AsMessages, OfPattern, OfTopic, Receiver, Seeker};
use crate::subscriber::{Afterwards, Closed, Joining, Late, Subscriber};
use crate::subscription::{Subscription, SubscriptionOptions};
use crate::topic::{self, Topic};
use crate::topic_core::{AnyTopic, TopicCore};
use crate::transport::{Neighbourhood as _, Sought};
use mproc_runtime::{Error, ErrorKind, Runtime};
use std::sync::Arc;

/// A topic, and a subscription that joins it.
type Join = (Arc<dyn AnyTopic>, Box<dyn Joining>);

/// Takes a subscription out again whose filter has panicked.
struct Leave<'a> {
    graph: &'a Graph,
    id: SubscriptionId,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.graph.detach_id(self.id);
    }
}

impl Graph {
    /// Looks for a subscription's topics at other nodes.
    pub(super) fn seek(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
        sought: impl FnOnce() -> Arc<dyn Sought>,
    ) -> Result<(), Error> {
        if !is_internal(name)
            && let Some(transport) = self.transport(runtime)?
        {
            transport.seek(sought());
        }
        Ok(())
    }

    /// A subscription to pull from.
    ///
    /// # Errors
    ///
    /// As [`publisher`](Self::publisher).
    pub fn subscription<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
    ) -> Result<Subscription<T>, Error> {
        self.subscription_with(runtime, topic, SubscriptionOptions::new())
    }

    /// As [`subscription`](Self::subscription), with options.
    ///
    /// # Errors
    ///
    /// As [`publisher`](Self::publisher), and [`ErrorKind::InvalidSetting`] for a capacity of 0.
    pub fn subscription_with<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
        options: SubscriptionOptions<T>,
    ) -> Result<Subscription<T>, Error> {
        let delivery = options.delivery(runtime, topic.name(), topic.id())?;
        let subscription = Subscription::new(self, runtime, delivery.clone());
        self.attach_delivery(runtime, topic, &delivery)?;
        Ok(subscription)
    }

    /// A subscription as a crossbeam channel.
    ///
    /// # Errors
    ///
    /// As [`subscription_with`](Self::subscription_with).
    pub fn channel<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
        options: SubscriptionOptions<T>,
    ) -> Result<ChannelSubscription<T>, Error> {
        if options.is_watched() {
            let text = format!(
                "cannot subscribe to {:?}: a channel has no water marks and no limit for leases",
                topic.label()
            );
            return Err(Error::new(ErrorKind::InvalidSetting, text));
        }
        let settings = options.settings(runtime, topic.name(), topic.id())?;
        let channel = Channel::new(runtime, topic.name(), topic.id(), settings);
        let capacity = channel.capacity();
        let subscription = ChannelSubscription {
            channel: channel.clone(),
            graph: Arc::downgrade(self),
        };
        self.attach(topic, channel.clone(), capacity)?;
        self.seek_topic(runtime, topic, channel)?;
        Ok(subscription)
    }

    /// A subscription to pull from, to every topic of `pattern` and type `T`, now and later. Topics of another type are
    /// left out, and so are the library's own, under `mproc/`, unless the pattern begins with `mproc/`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] for an impossible pattern; [`ErrorKind::InvalidSetting`] for a capacity of 0;
    /// [`ErrorKind::Closed`] if the node has ended.
    pub fn subscription_matching<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        pattern: &str,
        options: SubscriptionOptions<T>,
    ) -> Result<Subscription<T>, Error> {
        let pattern = Pattern::new(pattern)?;
        let delivery = options.delivery(runtime, "", TopicId::from_name(&pattern.to_string()))?;
        let subscription = Subscription::new(self, runtime, delivery.clone());
        self.attach_matching(runtime, pattern, &delivery)?;
        Ok(subscription)
    }

    /// Attaches a queue to its topic, here and at other nodes. If it fails, whoever made the queue detaches it.
    pub(crate) fn attach_delivery<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
        delivery: &Arc<Delivery<T>>,
    ) -> Result<(), Error> {
        if topic.id() != EVENTS.id() {
            let graph = Arc::downgrade(self);
            delivery.set_monitor(Monitor::new(graph, topic.label(), delivery.id_of()));
        }
        self.attach(topic, delivery.clone(), delivery.capacity())?;
        self.seek_topic(runtime, topic, delivery.clone())
    }

    pub(super) fn seek_topic<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
        receiver: Arc<dyn Receiver<T>>,
    ) -> Result<(), Error> {
        if topic.codec() == CodecKind::Local {
            return Ok(());
        }
        let graph = Arc::downgrade(self);
        self.seek(runtime, topic.name(), || {
            let seeks = OfTopic {
                key: remote::key(topic.name(), topic.id(), &topic.info()),
                codec: topic.codec_ref(),
            };
            Arc::new(Seeker {
                receiver,
                graph,
                seeks,
            })
        })?;
        // Those that were met before the topic was declared.
        self.publishers_changed(topic.id());
        Ok(())
    }

    /// Attaches a queue to its topic of this node.
    pub(super) fn attach<T: ?Sized + Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        subscriber: Arc<dyn Subscriber<T>>,
        capacity: usize,
    ) -> Result<(), Error> {
        self.check_here()?;
        let mut after = Afterwards::default();
        let mut late = Late::new(subscriber, capacity);
        let declared = {
            let mut wiring = self.wiring.lock();
            let declared = self.declare_in(&mut wiring, topic, &mut after);
            if let Ok((core, _)) = &declared {
                core.add_own(&late);
                wiring.relink(topic.id(), Some(&mut late), &mut after);
            }
            declared
        };
        after.run();
        let (core, joined) = declared?;
        let id = late.subscriber.id();
        self.join(id, &mut [(core.clone(), Box::new(late))]);
        self.tell_joined(&*core, joined + 1);
        Ok(())
    }

    /// Goes on until a new subscription has joined each of these topics: it is told what history they keep, asks its
    /// filter, and comes again.
    ///
    /// Each value is asked about once, so this ends as soon as nothing is published while the filter runs.
    pub(super) fn join(&self, id: SubscriptionId, joins: &mut [Join]) {
        let unless_it_panics = Leave { graph: self, id };
        loop {
            let mut after = Afterwards::default();
            // All are asked before any comes again: the lock is taken once for all.
            let asked: Vec<bool> = joins.iter_mut().map(|(_, late)| late.ask()).collect();
            if !asked.contains(&true) {
                break;
            }
            {
                let wiring = self.wiring.lock();
                for ((topic, late), asked) in joins.iter_mut().zip(asked) {
                    if asked {
                        wiring.relink(topic.id(), Some(&mut **late), &mut after);
                    }
                }
            }
            after.run();
        }
        std::mem::forget(unless_it_panics);
    }

    /// Attaches a queue to every topic of its type that `pattern` names, now and later.
    pub(crate) fn attach_matching<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        pattern: Pattern,
        delivery: &Arc<Delivery<T>>,
    ) -> Result<(), Error> {
        let subscriber = delivery.clone();
        let attach: Attach = Box::new(move |topic| {
            let core = topic.clone().as_any().downcast::<TopicCore<T>>().ok()?;
            let late = Late::<T>::new(subscriber.clone(), subscriber.capacity());
            core.add_own(&late);
            Some(Box::new(late))
        });
        let cannot = format!("cannot subscribe to {pattern:?}");
        let label = pattern.to_string();
        let matches = Arc::new(Matches::Names(pattern));
        self.monitor_matching(&matches, label, delivery);
        let info = match delivery.codec() {
            Some(codec) => (codec.hash(), codec.kind()),
            None => (0, CodecKind::Local),
        };
        let info = TypeInfo::new(std::any::type_name::<T>(), info.0, info.1);
        let is_closed = self.attach_where(matches.clone(), delivery, attach, Some(info));
        is_closed.map_err(|()| has_ended(cannot))?;
        let Some(codec) = delivery.codec() else {
            return Ok(());
        };
        let graph = Arc::downgrade(self);
        self.seek(runtime, "", || {
            Arc::new(Seeker {
                receiver: delivery.clone(),
                graph,
                seeks: OfPattern { matches, codec },
            })
        })
    }

    /// Attaches a queue of dynamic messages to every topic that matches, of whatever type, now and later.
    pub(crate) fn attach_msgs(
        self: &Arc<Self>,
        runtime: &Runtime,
        matches: Matches,
        delivery: &Arc<Delivery<Msg>>,
    ) -> Result<(), Error> {
        let queue = delivery.clone();
        let attach: Attach = Box::new(move |topic| Some(topic.add_msgs(&queue)));
        let matches = Arc::new(matches);
        let label = topic::label("", delivery.topic_id());
        self.monitor_matching(&matches, label, delivery);
        self.attach_where(matches.clone(), delivery, attach, None)
            .map_err(|()| has_ended("cannot subscribe to messages".to_owned()))?;
        let graph = Arc::downgrade(self);
        self.seek(runtime, "", || {
            Arc::new(Seeker {
                receiver: delivery.clone(),
                graph,
                seeks: AsMessages { matches },
            })
        })
    }

    /// Attaches a tap to every topic that matches, of whatever type, now and later.
    pub(crate) fn attach_raw(
        self: &Arc<Self>,
        runtime: &Runtime,
        matches: Matches,
        label: &str,
        delivery: &Arc<Delivery<Raw>>,
    ) -> Result<(), Error> {
        let queue = delivery.clone();
        let attach: Attach = Box::new(move |topic| Some(topic.add_raw(&queue)));
        let matches = Arc::new(matches);
        self.monitor_matching(&matches, label.to_owned(), delivery);
        self.attach_where(matches.clone(), delivery, attach, None)
            .map_err(|()| has_ended(format!("cannot tap {label:?}")))?;
        let graph = Arc::downgrade(self);
        self.seek(runtime, "", || {
            Arc::new(Seeker {
                receiver: delivery.clone(),
                graph,
                seeks: AsBytes::new(matches),
            })
        })
    }

    /// Has the queue tell of itself, unless events may come to it.
    fn monitor_matching<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        matches: &Matches,
        label: String,
        delivery: &Arc<Delivery<T>>,
    ) {
        if !matches.matches(EVENTS.name(), EVENTS.id()) {
            let graph = Arc::downgrade(self);
            delivery.set_monitor(Monitor::new(graph, label, delivery.id_of()));
        }
    }

    /// Attaches to every topic that matches and that `attach` can attach to, now and later. The error: the node has ended.
    fn attach_where<T: ?Sized + Send + Sync + 'static>(
        &self,
        matches: Arc<Matches>,
        delivery: &Arc<Delivery<T>>,
        attach: Attach,
        info: Option<TypeInfo>,
    ) -> Result<(), ()> {
        let (id, queue) = (delivery.id_of(), delivery.clone());
        let shown = delivery.clone();
        self.check_here().map_err(drop)?;
        let mut after = Afterwards::default();
        let mut joins: Vec<Join> = Vec::new();
        {
            let mut wiring = self.wiring.lock();
            if wiring.closed {
                return Err(());
            }
            let topics = wiring.topics.values();
            for topic in topics.filter(|topic| matches.matches(topic.name(), topic.id())) {
                // One of another type is not what was asked for, declared before or after.
                if let Some(late) = attach(topic) {
                    joins.push((topic.clone(), late));
                }
            }
            wiring.patterns.push(PatternSubscription {
                id,
                matches,
                attach,
                close: Box::new(move || queue.close(Closed::Unsubscribed)),
                info,
                snapshot: Box::new(move || shown.snapshot()),
            });
            for (topic, late) in &mut joins {
                wiring.relink(topic.id(), Some(&mut **late), &mut after);
            }
        }
        after.run();
        self.join(id, &mut joins);
        for (topic, _) in joins {
            self.tell_joined(&*topic, 1);
        }
        Ok(())
    }

    /// Takes a subscription out of all topics and closes its queue.
    pub(crate) fn detach<T: ?Sized + Send + Sync + 'static>(&self, delivery: &Arc<Delivery<T>>) {
        self.detach_id(delivery.id_of());
        delivery.close(Closed::Unsubscribed);
    }

    /// Takes a subscription out of all topics, here and at other nodes.
    pub(crate) fn detach_id(&self, id: SubscriptionId) {
        if !self.origin.is_here() {
            return;
        }
        if let Some(transport) = self.made_transport() {
            transport.forget(id);
        }
        self.detach_local(id);
    }

    pub(crate) fn detach_local(&self, id: SubscriptionId) {
        let mut gone = Vec::new();
        let mut after = Afterwards::default();
        let _pattern = {
            let mut wiring = self.wiring.lock();
            let patterns = &mut wiring.patterns;
            let at = patterns.iter().position(|p| p.id == id);
            let pattern = at.map(|at| patterns.remove(at));
            for topic in wiring.topics.values() {
                if topic.remove_own(id, &mut after) {
                    wiring.relink(topic.id(), None, &mut after);
                    gone.push((topic.label(), topic.subscriber_count()));
                }
            }
            pattern
        };
        after.run();
        for (topic, subscribers) in gone {
            self.tell(Event::SubscriberUnmatched { topic, subscribers });
        }
    }
}
