//! One subscription's queue, under its own policy.
//!
//! The sending side is [`Subscriber`](crate::subscriber::Subscriber): publishers of this node reserve places and
//! push. What other nodes publish stands in links, which have queues of their own ([`Sources`]); the receiver takes from
//! those itself, in turns with the queue (`delivery/outside.rs`). The receiving side takes items: a processor's lane takes
//! batches (`intake.rs`), a pulled subscription takes one at a time ([`Delivery::poll_recv`]).
//!
//! Lock order: a topic's lock, then one delivery's lock, then that of its sources. Nothing else is taken under these, and nothing
//! of the user's runs under them.
//!
//! | file | idea |
//! |---|---|
//! | `delivery.rs` | the subscription itself: what it is made with, and what it keeps |
//! | `delivery/subscriber.rs` | what publishers of this node see of it: places, pushes, its end |
//! | `delivery/outside.rs` | what comes from other nodes |
//! | `delivery/pulled.rs` | receivers that take one at a time, in line |
//! | `delivery/line.rs` | a place in that line that takes nothing; the end of a subscription that is still read |
//! | `delivery/ring.rs` | telling the receiving side that there is something |
//! | `delivery/pause.rs` | pauses |
//! | `delivery/taken.rs` | what the receiving side counts |
//! | `delivery/held.rs` | samples that are held: how many, since when, and the limit |
//! | `delivery/telling.rs` | what it tells of itself: events, marks, silence |

mod held;
mod line;
mod outside;
mod pause;
mod pulled;
mod ring;
mod subscriber;
mod taken;
mod telling;

pub(crate) use outside::AtLimit;
pub(crate) use pause::Paused;
pub(crate) use taken::Taken;

use crate::codec::Codec;
use crate::forked::Origin;
use crate::id::{SubscriptionId, TopicId};
use crate::monitor::{Marks, Monitor};
use crate::sample::{Body, Item};
use crate::sources::Sources;
use crate::subscriber::Closed;
use crate::watches::{HeldSince, LeaseWatch, Leased, SilenceWatch};
use mproc_runtime::queue::{Progress, Queue};
use mproc_runtime::{Drops, LaneBell, Runtime, WhenFull};
use parking_lot::Mutex;
use pulled::Receivers;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// The capacity of subscriptions that are not given one.
pub const DEFAULT_SUBSCRIPTION_CAPACITY: usize = 64;

pub(crate) type Filter<T> = Box<dyn Fn(&T) -> bool + Send + Sync>;

/// What a subscription is made with.
pub(crate) struct Settings<T: ?Sized + 'static> {
    pub(crate) capacity: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) max_leases: Option<usize>,
    pub(crate) filter: Option<Filter<T>>,
    /// How values travel, if that is known without a topic.
    pub(crate) codec: Option<&'static Codec<T>>,
    /// What other processes publish is copied before it is looked at.
    pub(crate) copies_first: bool,
    /// When the queue counts as low again, and when as high.
    pub(crate) water_marks: Option<(usize, usize)>,
    /// For how long a sample may be held before that is told.
    pub(crate) lease_warning: Option<Duration>,
    /// For how long nothing may come before that is told.
    pub(crate) silence: Option<Duration>,
}

pub(crate) struct Delivery<T: ?Sized + 'static> {
    id: SubscriptionId,
    topic: &'static str,
    topic_id: TopicId,
    when_full: WhenFull,
    capacity: usize,
    filter: Option<Filter<T>>,
    codec: Option<&'static Codec<T>>,
    max_leases: Option<usize>,
    held: AtomicUsize,
    /// When those that are held were received, and how many at that time. Like `held`, kept only if there is a bound on
    /// leases: otherwise samples have nobody to tell.
    held_since: HeldSince,
    /// Why nothing is handed out; 0 if it is. See [`Paused`].
    paused: AtomicU8,
    /// It was unsubscribed: nothing more is handed out. Written under the lock of `state`.
    ended: AtomicBool,
    pub(crate) taken: Taken,
    pub(crate) progress: Progress,
    pub(crate) state: Mutex<State<T>>,
    /// Tells what happens here; set before it joins its topic. Never for those that events may come to.
    monitor: OnceLock<Monitor>,
    marks: Option<Marks>,
    lease_watch: Option<Arc<LeaseWatch>>,
    silence_watch: Option<Arc<SilenceWatch>>,
    /// What comes from other nodes.
    sources: Sources<T>,
    /// It is the sources' turn, not the queue's. A hint.
    sources_turn: AtomicBool,
    /// When the next of the sources arrived, for drivers that serve in that order.
    source_arrival: AtomicU64,
    /// Set right after a processor's lane is made; never for the other kinds.
    bell: OnceLock<LaneBell>,
    /// The lane's processor runs only while a script's thread spins it.
    is_of_script: OnceLock<bool>,
    pub(crate) runtime: Runtime,
    origin: Origin,
}

pub(crate) struct State<T: ?Sized + 'static> {
    pub(crate) queue: Queue<VecDeque<Item<T>>>,
    /// How many were offered by publishers of this node: the number of the next.
    offered: u64,
    /// How many were taken from the sources, or dropped there because they could not be decoded.
    from_sources: u64,
    refused: u64,
    pub(crate) drops: Drops,
    /// The receiving side has been told and has not yet found the queue empty. See `mproc_runtime::LaneSource`.
    pub(crate) rung: bool,
    closed: Option<Closed>,
    receivers: Receivers,
}

impl<T: ?Sized + Send + Sync + 'static> Delivery<T> {
    pub(crate) fn new(
        runtime: &Runtime,
        topic: &'static str,
        topic_id: TopicId,
        settings: Settings<T>,
    ) -> Arc<Self> {
        let lease_watch = settings.lease_warning.map(|limit| {
            let runtime = runtime.without_guard();
            LeaseWatch::new(runtime, limit)
        });
        let silence_watch = settings.silence.map(|limit| {
            let runtime = runtime.without_guard();
            SilenceWatch::new(runtime, limit)
        });
        let made = Arc::new(Self {
            id: SubscriptionId::next(),
            topic,
            topic_id,
            when_full: settings.when_full,
            capacity: settings.capacity,
            filter: settings.filter,
            codec: settings.codec,
            max_leases: settings.max_leases,
            held: AtomicUsize::new(0),
            held_since: Mutex::default(),
            paused: AtomicU8::new(0),
            ended: AtomicBool::new(false),
            taken: Taken::default(),
            progress: Progress::default(),
            state: Mutex::new(State {
                queue: Queue::new(settings.capacity, settings.when_full),
                offered: 0,
                from_sources: 0,
                refused: 0,
                drops: Drops::default(),
                rung: false,
                closed: None,
                receivers: Receivers::default(),
            }),
            monitor: OnceLock::new(),
            marks: settings
                .water_marks
                .map(|(low, high)| Marks::new(low, high)),
            lease_watch,
            silence_watch,
            sources: Sources::new(settings.copies_first),
            sources_turn: AtomicBool::new(false),
            source_arrival: AtomicU64::new(0),
            bell: OnceLock::new(),
            is_of_script: OnceLock::new(),
            runtime: runtime.without_guard(),
            origin: Origin::now(),
        });
        if let Some(watch) = &made.lease_watch {
            let leased: Weak<dyn Leased> = Arc::<Self>::downgrade(&made);
            watch.watch(leased);
        }
        made
    }

    /// False in a child that was forked from the process that made it.
    pub(crate) fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    /// On the thread of the lane's processor.
    pub(crate) fn set_bell(&self, bell: LaneBell) {
        let is_of_script = self.runtime.is_script_here(bell.driver());
        let _set_once = self.is_of_script.set(is_of_script);
        let _set_once = self.bell.set(bell);
    }

    pub(crate) fn is_of_script(&self) -> bool {
        self.is_of_script.get() == Some(&true)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How values travel, if its options said so.
    pub(crate) fn codec(&self) -> Option<&'static Codec<T>> {
        self.codec
    }

    pub(crate) fn policy(&self) -> WhenFull {
        self.when_full
    }

    pub(crate) fn max_leases(&self) -> Option<usize> {
        self.max_leases
    }

    pub(crate) fn lane_bell(&self) -> Option<&LaneBell> {
        self.bell.get()
    }

    pub(crate) fn id_of(&self) -> SubscriptionId {
        self.id
    }

    fn passes(&self, body: &Arc<dyn Body<T>>) -> bool {
        let filter = self.filter.as_ref();
        filter.is_none_or(|filter| body.shown_to(filter))
    }

    /// True once it was unsubscribed.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn topic_id(&self) -> TopicId {
        self.topic_id
    }
}
