//! What a node knows of one topic: who subscribes, what is kept for late subscribers.

use crate::carried::{Carrier, Carry};
use crate::codec::{Codec, CodecKind};
use crate::delivery::Delivery;
use crate::graph::Graph;
use crate::id::{PublisherId, SubscriptionId, TopicId};
use crate::leases::Gate;
use crate::msg::Msg;
use crate::publisher::{Publisher, PublisherOptions, PublisherStatus};
use crate::raw::{Decoding, Raw, RawSink, TypeInfo};
use crate::reader::{AsMsgs, Reader, RemoteNode, Typed};
use crate::remote::{self, OfferedTopic};
use crate::sample::Body;
use crate::snapshot::TopicSnapshot;
use crate::subscriber::{Afterwards, Closed, Joining, Late, Subscriber};
use crate::topic;
use crate::transport::{Offered, Outlet, TopicKey};
use mproc_runtime::{Name, Runtime, WaitSnapshot};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::Waker;

/// All subscriptions that a publish reaches, by ascending id, own and connected. Replaced as a whole.
pub(crate) type Subscribers<T> = Arc<[Arc<dyn Subscriber<T>>]>;

pub(crate) struct TopicCore<T: ?Sized + 'static> {
    pub(crate) name: &'static str,
    pub(crate) id: TopicId,
    pub(crate) codec: &'static Codec<T>,
    /// What is known of its type by those who do not have it. The schema is that of the first who announced one.
    pub(crate) info: Arc<Mutex<Arc<TypeInfo>>>,
    /// It was declared without its type.
    pub(crate) is_raw: bool,
    pub(crate) state: Mutex<TopicState<T>>,
    /// Of the whole node.
    pub(crate) gate: Arc<Gate>,
}

pub(crate) struct TopicState<T: ?Sized + 'static> {
    pub(crate) subscribers: Subscribers<T>,
    pub(crate) must_ask: bool,
    /// Subscriptions to this very topic.
    own: Vec<Arc<dyn Subscriber<T>>>,
    /// Links that have left, and whose subscriptions still hold samples.
    left: Vec<Arc<dyn Subscriber<T>>>,
    /// Those whose filters are being asked about history: they are in the list only after they have got it.
    joining: Vec<SubscriptionId>,
    pub(crate) publishers: Vec<Arc<PublisherStatus>>,
    /// The last values of publishers that keep any, in the order of their commits.
    history: VecDeque<Arc<dyn Body<T>>>,
    /// Those that wait for subscribers or publishers to come.
    pub(crate) waiters: Vec<Waker>,
    /// How many other nodes publish on it.
    publishers_elsewhere: usize,
    /// The node has ended.
    pub(crate) closed: bool,
}

impl<T: ?Sized + Send + Sync + 'static> TopicCore<T> {
    pub(crate) fn new(topic: &topic::Topic<T>, gate: Arc<Gate>) -> Arc<Self> {
        Arc::new(Self {
            name: topic.name(),
            id: topic.id(),
            codec: topic.codec_ref(),
            info: Arc::new(Mutex::new(Arc::new(topic.info()))),
            is_raw: topic.is_raw(),
            state: Mutex::new(TopicState {
                subscribers: Arc::new([]),
                must_ask: false,
                own: Vec::new(),
                left: Vec::new(),
                joining: Vec::new(),
                publishers: Vec::new(),
                history: VecDeque::new(),
                waiters: Vec::new(),
                publishers_elsewhere: 0,
                closed: false,
            }),
            gate,
        })
    }

    pub(crate) fn info(&self) -> Arc<TypeInfo> {
        self.info.lock().clone()
    }

    /// It is declared again, with this. The error: what does not fit.
    pub(crate) fn announce(&self, topic: &topic::Topic<T>) -> Result<(), String> {
        let mut info = self.info.lock();
        let again = topic.info();
        if again.type_hash != info.type_hash {
            return Err(format!(
                "it has type {}, not {}, or these have other layouts",
                info.type_name, again.type_name
            ));
        }
        match (&info.schema, &again.schema) {
            (Some(known), Some(schema)) if known != schema => {
                Err(format!("it has schema {known:?}, not {schema:?}"))
            }
            (None, Some(_)) => {
                *info = Arc::new(again);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Adds a queue of what its values are carried as.
    fn add_carried<Q: Carry>(&self, queue: &Arc<Delivery<Q>>) -> Box<dyn Joining> {
        let capacity = queue.capacity();
        let me: &dyn Any = self;
        // A topic of the same values queues them as they are.
        if let Some(of_these) = me.downcast_ref::<TopicCore<Q>>() {
            let late = Late::<Q>::new(queue.clone(), capacity);
            of_these.add_own(&late);
            return Box::new(late);
        }
        let late = Late::<T>::new(Arc::new(Carrier::new(queue, &self.info)), capacity);
        self.add_own(&late);
        Box::new(late)
    }

    /// Adds a subscription to this very topic. It gets nothing before the next [`AnyTopic::relink`].
    pub(crate) fn add_own(&self, late: &Late<T>) {
        let mut state = self.state.lock();
        state.own.push(late.subscriber.clone());
        state.own.sort_by_key(|s| s.id());
    }

    pub(crate) fn own(&self) -> Vec<Arc<dyn Subscriber<T>>> {
        self.state.lock().own.clone()
    }

    /// The memory of a link, if there is one.
    pub(crate) fn outlet(&self) -> Option<Arc<dyn Outlet>> {
        let subscribers = self.state.lock().subscribers.clone();
        subscribers
            .iter()
            .find_map(|subscriber| subscriber.outlet())
    }

    /// Closes a subscription of this very topic: publishes that wait for it go on.
    pub(crate) fn close_own(&self, id: SubscriptionId) {
        let own = self.own();
        if let Some(subscriber) = own.iter().find(|s| s.id() == id) {
            subscriber.close(Closed::Unsubscribed);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    pub(crate) fn poll_subscribers(&self, count: usize, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.subscribers.len() >= count {
            return true;
        }
        state.waiters.push(waker.clone());
        false
    }

    pub(crate) fn poll_publishers(&self, count: usize, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.publishers.len() + state.publishers_elsewhere >= count {
            return true;
        }
        state.waiters.push(waker.clone());
        false
    }

    /// Replaces the list of all who are reached, giving history to one who is new.
    ///
    /// `late` is a new subscription with a queue, which gets this topic's history first. If its filter must be asked about
    /// that, it is left out until it comes again.
    fn set_subscribers(
        &self,
        mut list: Vec<Arc<dyn Subscriber<T>>>,
        late: Option<&mut Late<T>>,
        after: &mut Afterwards,
    ) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let had = |id: SubscriptionId| state.subscribers.iter().any(|s| s.id() == id);
        let in_list = |id: SubscriptionId| list.iter().any(|s| s.id() == id);
        state.joining.retain(|&id| in_list(id));
        if let Some(late) = late {
            let id = late.subscriber.id();
            if in_list(id) && !had(id) {
                state.joining.retain(|&joining| joining != id);
                if !late.push_history(state.history.iter(), after) {
                    state.joining.push(id);
                }
            }
        }
        list.retain(|s| !state.joining.contains(&s.id()));
        state.must_ask = list.iter().any(|s| s.must_be_asked());
        let old = std::mem::replace(&mut state.subscribers, list.into());
        self.note_liveness(state);
        // Perhaps the last of a subscription, with values and a filter of the user's.
        after.call(move || drop(old));
        after.wake(std::mem::take(&mut state.waiters));
    }

    /// Tells the publishers whether publishing does anything: somebody listens, or history is kept.
    pub(crate) fn note_liveness(&self, state: &TopicState<T>) {
        let keeps = state.publishers.iter().any(|p| p.history > 0);
        let is_live = !state.subscribers.is_empty() || keeps;
        for publisher in &state.publishers {
            publisher.note_liveness(is_live);
        }
    }

    /// Somebody waits for values to come back: see that it becomes known when they do.
    pub(crate) fn watch_returns(&self) {
        let all = {
            let mut state = self.state.lock();
            let left = std::mem::take(&mut state.left);
            let (left, back): (Vec<_>, Vec<_>) = left.into_iter().partition(|link| link.has_out());
            state.left = left;
            let left = state.left.iter().cloned();
            // Those that have everything back are watched once more, and dropped without the lock.
            let all = state.subscribers.iter().cloned().chain(left).chain(back);
            all.collect::<Vec<_>>()
        };
        all.iter().for_each(|subscriber| subscriber.watch_returns());
    }

    /// Lanes of processors that nobody but the calling thread can run, so that what waits in them stays there while it
    /// waits. Those that evict are not among them: another publisher may make them let go.
    pub(crate) fn lanes_that_only_run_here(
        &self,
        runtime: &Runtime,
    ) -> Vec<Arc<dyn Subscriber<T>>> {
        let mut lanes = self.state.lock().subscribers.to_vec();
        lanes.retain(|lane| {
            !lane.when_full().evicts()
                && lane
                    .owner()
                    .is_some_and(|bell| runtime.only_here(bell.driver()))
        });
        lanes
    }
}

impl<T: ?Sized> TopicState<T> {
    /// Keeps a value, and returns one that is too old now, to be dropped without the lock.
    pub(crate) fn keep(
        &mut self,
        publisher: PublisherId,
        depth: usize,
        body: Arc<dyn Body<T>>,
    ) -> Option<Arc<dyn Body<T>>> {
        self.history.push_back(body);
        let of = |body: &Arc<dyn Body<T>>| body.header().publisher == publisher;
        let kept = self.history.iter().filter(|body| of(body)).count();
        if kept <= depth {
            return None;
        }
        let oldest = self.history.iter().position(of)?;
        self.history.remove(oldest)
    }

    /// A publisher is gone, and its history with it.
    pub(crate) fn forget(&mut self, publisher: PublisherId) -> VecDeque<Arc<dyn Body<T>>> {
        let (gone, kept) = std::mem::take(&mut self.history)
            .into_iter()
            .partition(|body| body.header().publisher == publisher);
        self.history = kept;
        gone
    }
}

/// A topic whose type is forgotten.
pub(crate) trait AnyTopic: Send + Sync {
    fn id(&self) -> TopicId;
    fn name(&self) -> &'static str;
    fn label(&self) -> String;
    /// For people: two topics with the same label have the same values.
    fn type_label(&self) -> String;
    fn info(&self) -> Arc<TypeInfo>;
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// Adds a subscription to dynamic messages. Returns the [`Late`] for the next [`relink`](Self::relink).
    fn add_msgs(&self, queue: &Arc<Delivery<Msg>>) -> Box<dyn Joining>;
    /// As [`add_msgs`](Self::add_msgs), of raw bytes.
    fn add_raw(&self, queue: &Arc<Delivery<Raw>>) -> Box<dyn Joining>;
    /// A publisher of bytes that are decoded here. `None` if it is declared without its type, too.
    fn decoding_publisher(
        self: Arc<Self>,
        graph: &Arc<Graph>,
        runtime: &Runtime,
        options: PublisherOptions,
    ) -> Option<Arc<dyn RawSink>>;
    /// Removes a subscription of this very topic. True if it had it.
    fn remove_own(&self, id: SubscriptionId, after: &mut Afterwards) -> bool;
    /// Makes its list anew from the topics that it reaches, itself first; those of other types are left out.
    fn relink(
        &self,
        reached: &[Arc<dyn AnyTopic>],
        late: Option<&mut dyn Joining>,
        after: &mut Afterwards,
    );
    fn subscriber_count(&self) -> usize;
    fn publisher_count(&self) -> usize;
    /// Of this node.
    fn own_publisher_count(&self) -> usize;
    /// Other nodes publish on it: so many.
    fn note_publishers_elsewhere(&self, count: usize);
    /// The topic as it is offered to other nodes; `None` if its values stay here.
    fn offered(self: Arc<Self>, graph: Weak<Graph>, runtime: &Runtime) -> Option<Arc<dyn Offered>>;
    /// What makes messages of values that come from another node, if they are of the topic's type.
    fn msg_reader(&self, theirs: &TopicKey, from: &Arc<RemoteNode>)
    -> Option<Arc<dyn Reader<Msg>>>;
    /// Closes its publishers and its own subscriptions: the node has ended.
    fn close_all(&self);
    fn snapshot(&self) -> TopicSnapshot;
    /// Publishes that wait.
    fn waits(&self) -> Vec<WaitSnapshot>;
}

impl<T: ?Sized + Send + Sync + 'static> AnyTopic for TopicCore<T> {
    fn id(&self) -> TopicId {
        self.id
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn label(&self) -> String {
        topic::label(self.name, self.id)
    }

    fn type_label(&self) -> String {
        type_label(&self.info(), self.is_raw)
    }

    fn info(&self) -> Arc<TypeInfo> {
        Self::info(self)
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn add_msgs(&self, queue: &Arc<Delivery<Msg>>) -> Box<dyn Joining> {
        self.add_carried(queue)
    }

    fn add_raw(&self, queue: &Arc<Delivery<Raw>>) -> Box<dyn Joining> {
        self.add_carried(queue)
    }

    fn decoding_publisher(
        self: Arc<Self>,
        graph: &Arc<Graph>,
        runtime: &Runtime,
        options: PublisherOptions,
    ) -> Option<Arc<dyn RawSink>> {
        if self.is_raw {
            return None;
        }
        let publisher = Publisher::new(graph, runtime, self, options);
        Some(Arc::new(Decoding(publisher)))
    }

    fn remove_own(&self, id: SubscriptionId, after: &mut Afterwards) -> bool {
        let mut state = self.state.lock();
        let Some(at) = state.own.iter().position(|s| s.id() == id) else {
            return false;
        };
        let gone = state.own.remove(at);
        if gone.has_out() {
            state.left.push(gone.clone());
        }
        after.call(move || drop(gone));
        true
    }

    fn relink(
        &self,
        reached: &[Arc<dyn AnyTopic>],
        late: Option<&mut dyn Joining>,
        after: &mut Afterwards,
    ) {
        let mut list = self.own();
        for topic in reached {
            if let Ok(topic) = topic.clone().as_any().downcast::<Self>()
                && topic.id != self.id
            {
                list.extend(topic.own());
            }
        }
        list.sort_by_key(|s| s.id());
        list.dedup_by_key(|s| s.id());
        let late = late.and_then(|late| late.as_any().downcast_mut::<Late<T>>());
        self.set_subscribers(list, late, after);
    }

    fn subscriber_count(&self) -> usize {
        self.state.lock().subscribers.len()
    }

    fn publisher_count(&self) -> usize {
        let state = self.state.lock();
        state.publishers.len() + state.publishers_elsewhere
    }

    fn own_publisher_count(&self) -> usize {
        self.state.lock().publishers.len()
    }

    fn note_publishers_elsewhere(&self, count: usize) {
        let waiters = {
            let mut state = self.state.lock();
            state.publishers_elsewhere = count;
            std::mem::take(&mut state.waiters)
        };
        waiters.into_iter().for_each(Waker::wake);
    }

    fn offered(self: Arc<Self>, graph: Weak<Graph>, runtime: &Runtime) -> Option<Arc<dyn Offered>> {
        if self.codec.kind() == CodecKind::Local {
            return None;
        }
        Some(Arc::new(OfferedTopic {
            key: remote::key(self.name, self.id, &self.info()),
            core: self,
            graph,
            runtime: runtime.without_guard(),
        }))
    }

    fn msg_reader(
        &self,
        theirs: &TopicKey,
        from: &Arc<RemoteNode>,
    ) -> Option<Arc<dyn Reader<Msg>>> {
        let fits = !self.is_raw
            && theirs.codec == self.codec.kind()
            && theirs.type_hash == self.codec.hash();
        let typed = || Typed::new(self.name, self.id, self.codec, from.clone());
        fits.then(|| Arc::new(AsMsgs(typed())) as Arc<dyn Reader<Msg>>)
    }

    fn close_all(&self) {
        let (own, publishers, waiters, _history) = {
            let mut state = self.state.lock();
            state.closed = true;
            let publishers = std::mem::take(&mut state.publishers);
            for publisher in &publishers {
                publisher.set_closed();
            }
            (
                state.own.clone(),
                publishers,
                std::mem::take(&mut state.waiters),
                std::mem::take(&mut state.history),
            )
        };
        waiters.into_iter().for_each(Waker::wake);
        publishers.iter().for_each(|p| p.tell_closed());
        for subscriber in own {
            subscriber.close(Closed::Unsubscribed);
        }
    }

    fn snapshot(&self) -> TopicSnapshot {
        let (own, publishers, history) = {
            let state = self.state.lock();
            (
                state.own.clone(),
                state.publishers.clone(),
                state.history.len() as u64,
            )
        };
        let info = Arc::unwrap_or_clone(self.info());
        TopicSnapshot {
            name: self.label(),
            id: self.id,
            type_name: info.type_name,
            type_hash: info.type_hash,
            codec: info.codec,
            schema: info.schema,
            publishers: publishers.iter().map(|p| p.snapshot()).collect(),
            subscriptions: own.iter().map(|s| s.snapshot()).collect(),
            history,
            connected_to: Vec::new(),
        }
    }

    fn waits(&self) -> Vec<WaitSnapshot> {
        let publishers = self.state.lock().publishers.clone();
        let label = AnyTopic::label(self);
        publishers.iter().flat_map(|p| p.waits(&label)).collect()
    }
}

/// For people: what a topic's values are.
pub(crate) fn type_label(info: &TypeInfo, is_raw: bool) -> String {
    match is_raw {
        true => format!(
            "{} ({:?}, {:016x}), known by its bytes only",
            info.type_name, info.codec, info.type_hash
        ),
        false => info.type_name.clone(),
    }
}

/// The label as a name, for dead letters. Labels come from valid names or ids, so this does not fail.
pub(crate) fn label_as_name(name: &str, id: TopicId) -> Option<Name> {
    Name::new(&topic::label(name, id)).ok()
}
