//! A processor's mailbox: the lanes, the schedule flag, and one lock around both.
//!
//! Whether the cell stands on a ready queue is decided under the same lock that guards the lanes, so a message that is
//! pushed while the driver finds the lanes empty cannot be left lying.
//!
//! | `scheduled` | `stalled` | the cell                                          | a push                     |
//! |-------------|-----------|---------------------------------------------------|----------------------------|
//! | false       | false     | idle                                              | schedules it               |
//! | true        | any       | on a ready queue, or running                      | just queues                |
//! | false       | true      | waits for room elsewhere, or for the future of a handler; messages must wait | just queues; control schedules |

use crate::cell::{Supervision, Watcher};
use crate::context::Cx;
use crate::dead_letters::{DropCause, Drops};
use crate::exit::Exit;
use crate::parcel::Envelope;
use crate::parcels::Parcels;
use crate::processor::Processor;
use crate::queue::{Progress, Queue, WhenFull};
use crate::sync::{AtomicBool, Mutex};
use crate::tasks::Woken;
use std::collections::VecDeque;

/// Which lane a message travels in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The ordinary one.
    #[default]
    Normal,
    /// Served first: of 17 messages at most 16 come from here while the normal lane has any.
    High,
}

/// How a mailbox is made.
///
/// # Examples
///
/// ```
/// use mproc_runtime::{MailboxOptions, WhenFull};
///
/// let small = MailboxOptions::bounded(16);
/// let newest_wins = MailboxOptions::bounded(1).when_full(WhenFull::DropOldest);
/// let no_bound = MailboxOptions::unbounded();
/// # let _ = (small, newest_wins, no_bound);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxOptions {
    /// `None`: the node's default.
    pub(crate) capacity: Option<usize>,
    pub(crate) when_full: WhenFull,
}

impl Default for MailboxOptions {
    /// The node's default capacity (1024 unless `MPROC_CAPACITY` or the node's [`Options`](crate::Options) say otherwise); senders wait.
    fn default() -> Self {
        Self {
            capacity: None,
            when_full: WhenFull::Wait,
        }
    }
}

impl MailboxOptions {
    /// Each lane holds exactly `capacity` messages, at least 1.
    pub fn bounded(capacity: usize) -> Self {
        Self {
            capacity: Some(capacity),
            when_full: WhenFull::Wait,
        }
    }

    /// No bound. Only for senders that are known to be slower than the processor: memory is the limit.
    pub fn unbounded() -> Self {
        Self::bounded(crate::queue::UNBOUNDED)
    }

    /// What a full lane does: `Wait`, `DropOldest`, `DropNewest` or `Fail`.
    ///
    /// `Latest` and `Disconnect` are for subscriptions. A processor is not spawned with them
    /// ([`SpawnError::Policy`](crate::SpawnError::Policy)): in place of `Latest` say `bounded(1)` and `DropOldest`.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }
}

pub(crate) type Task<P> = Box<dyn FnOnce(&mut P, &mut Cx<'_, P>) + Send>;

/// What reaches a processor without a bound, because each has its place by construction: one per timer, continuation
/// and watch.
pub(crate) enum Control<P: Processor> {
    /// A timer is due: its slot and the generation it was armed in.
    Tick { slot: u32, generation: u32 },
    /// A continuation may go on.
    Resume(u64),
    /// A message that has its place elsewhere.
    Deliver(Envelope<P>),
    /// Something to do on the driver's thread.
    Do(Task<P>),
}

/// One flag per kind of request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals(u8);

impl Signals {
    /// End after the current message.
    pub(crate) const STOP: Self = Self(1);
    /// Take no more, handle what is queued, then end.
    pub(crate) const DRAIN: Self = Self(2);
    /// End and drop what is queued.
    pub(crate) const KILL: Self = Self(4);
    /// The outbox may go on.
    pub(crate) const ROOM: Self = Self(8);
    /// Handle one message although the outbox is not empty.
    pub(crate) const PASS: Self = Self(16);
    /// Cancel all timers: the node is ending.
    pub(crate) const QUIET: Self = Self(32);
    /// Its supervisor, or one that it is linked to, wants something: see `cell/restart.rs`.
    pub(crate) const ORDER: Self = Self(64);

    /// Whoever sends it wants the processor to end for good, whatever its supervisor thinks.
    pub(crate) fn ends(self) -> bool {
        self.has(Self(Self::STOP.0 | Self::DRAIN.0 | Self::KILL.0))
    }

    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(crate) fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Where messages wait. What is read between messages without the lock stands elsewhere: see `cell/place.rs`.
pub(crate) struct Mailbox<P: Processor> {
    pub(crate) lanes: Mutex<Lanes<P>>,
}

/// What is read between messages without the lock, of the normal lane.
pub(crate) type Flags = Progress<OwnFlags>;

/// See [`Flags`].
#[derive(Debug, Default)]
pub(crate) struct OwnFlags {
    /// Something other than a normal message has come: look under the lock before the next message.
    pub(crate) attention: AtomicBool,
    /// Somebody is inside the cell's body. Only the thread that may touch that reads and writes this, hence relaxed.
    pub(crate) occupied: AtomicBool,
    pub(crate) manner: Manner,
}

impl OwnFlags {
    pub(crate) fn new(manner: Manner) -> Self {
        Self {
            manner,
            ..Self::default()
        }
    }
}

/// What is known of a mailbox without the lock: it never changes. (It is no number, so that an enum around it finds values that
/// are not used.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    #[default]
    Waits,
    WaitsUnbounded,
    Other,
    OtherUnbounded,
}

impl Manner {
    pub(crate) fn of<P: Processor>(queue: &LaneQueue<P>) -> Self {
        match (queue.when_full(), queue.is_unbounded()) {
            (WhenFull::Wait, false) => Self::Waits,
            (WhenFull::Wait, true) => Self::WaitsUnbounded,
            (_, false) => Self::Other,
            (_, true) => Self::OtherUnbounded,
        }
    }

    /// Senders wait for room.
    pub(crate) fn waits(self) -> bool {
        matches!(self, Self::Waits | Self::WaitsUnbounded)
    }

    #[inline]
    pub(crate) fn is_unbounded(self) -> bool {
        matches!(self, Self::WaitsUnbounded | Self::OtherUnbounded)
    }
}

/// A lane's queue, and whether its cell is to be scheduled.
pub(crate) type LaneQueue<P> = Queue<Parcels<P>, Schedule>;

/// See the module's documentation. That of the normal lane counts.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    pub(crate) scheduled: bool,
    pub(crate) stalled: bool,
    /// The future of a handler is not done: see `cell/awaiting.rs`.
    pub(crate) held: bool,
    /// `stalled` says no more than that.
    pub(crate) awaits: bool,
    pub(crate) signals: Signals,
}

/// What every push touches stands together.
#[repr(C)]
pub(crate) struct Lanes<P: Processor> {
    pub(crate) normal: LaneQueue<P>,
    /// Messages that came in, also those dropped at once by the policy.
    pub(crate) received: u64,
    pub(crate) rare: Option<Box<Rare<P>>>,
}

/// What most mailboxes never have.
pub(crate) struct Rare<P: Processor> {
    pub(crate) high: Option<High<P>>,
    pub(crate) control: VecDeque<Control<P>>,
    /// Lanes of subscriptions that have something.
    pub(crate) ready: VecDeque<LaneId>,
    /// Tasks that were woken: at most one place for each.
    pub(crate) woken: VecDeque<Woken>,
    /// What the future of a handler, which is being polled, does to the state.
    pub(crate) entries: VecDeque<Task<P>>,
    pub(crate) watchers: Vec<Watcher>,
    pub(crate) ended: Option<Exit>,
    pub(crate) drops: Drops,
    /// Messages given back to their senders.
    pub(crate) returned: u64,
    pub(crate) faults: u64,
    pub(crate) panics: u64,
    /// How many messages are in its outbox.
    pub(crate) outbox: u64,
    /// How many it gave up there.
    pub(crate) outbox_drops: u64,
    /// Its counts are in the node's sums.
    pub(crate) filed: bool,
    /// What its supervisor and those linked to it have to do with it.
    pub(crate) supervision: Option<Box<Supervision<P>>>,
}

/// The high lane. Its messages are taken one by one, so nothing is ever left of a batch.
pub(crate) struct High<P: Processor> {
    pub(crate) queue: LaneQueue<P>,
    pub(crate) progress: Flags,
}

impl<P: Processor> Default for Rare<P> {
    fn default() -> Self {
        Self {
            high: None,
            control: VecDeque::new(),
            ready: VecDeque::new(),
            woken: VecDeque::new(),
            entries: VecDeque::new(),
            watchers: Vec::new(),
            ended: None,
            drops: Drops::default(),
            returned: 0,
            faults: 0,
            panics: 0,
            outbox: 0,
            outbox_drops: 0,
            filed: false,
            supervision: None,
        }
    }
}

/// A lane of a subscription within its processor. A slot is used again; the generation tells its users apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl<P: Processor> Mailbox<P> {
    pub(crate) fn new(capacity: usize, when_full: WhenFull) -> Self {
        let mut normal = LaneQueue::new(capacity, when_full);
        // A new cell is put on its driver's queue by whoever makes it, so that it starts.
        normal.own.scheduled = true;
        Self {
            lanes: Mutex::new(Lanes {
                normal,
                received: 0,
                rare: None,
            }),
        }
    }
}

impl<P: Processor> Lanes<P> {
    /// A message was queued: true if the cell must be put on its driver's queue.
    #[inline]
    pub(crate) fn schedule_for_message(&mut self) -> bool {
        let own = &mut self.normal.own;
        !own.stalled && !std::mem::replace(&mut own.scheduled, true)
    }

    /// Control has come: likewise, also while the cell is stalled.
    pub(crate) fn schedule_for_control(&mut self) -> bool {
        !std::mem::replace(&mut self.normal.own.scheduled, true)
    }

    pub(crate) fn rare(&mut self) -> &mut Rare<P> {
        self.rare.get_or_insert_default()
    }

    pub(crate) fn has_control(&self) -> bool {
        let any = |r: &Rare<P>| !r.control.is_empty() || !r.woken.is_empty();
        self.rare.as_deref().is_some_and(any)
    }

    /// Subscriptions have something.
    pub(crate) fn has_ready(&self) -> bool {
        self.rare.as_ref().is_some_and(|r| !r.ready.is_empty())
    }

    pub(crate) fn drops(&mut self, cause: DropCause, n: u64) {
        if n > 0 {
            self.rare().drops.add(cause, n);
        }
    }

    /// What is kept of a processor that is supervised or linked.
    pub(crate) fn supervision(&mut self) -> Option<&mut Supervision<P>> {
        self.rare.as_mut()?.supervision.as_deref_mut()
    }

    pub(crate) fn ended(&self) -> Option<&Exit> {
        self.rare.as_ref()?.ended.as_ref()
    }

    /// The queue of a lane, and its progress, which is `normal` for the normal one. The high one is made at its first use, as
    /// large as the normal one.
    #[inline]
    pub(crate) fn queue<'a>(
        &'a mut self,
        lane: Lane,
        normal: &'a Flags,
    ) -> (&'a mut LaneQueue<P>, &'a Flags) {
        if lane == Lane::Normal {
            return (&mut self.normal, normal);
        }
        let (capacity, when_full) = (self.normal.capacity(), self.normal.when_full());
        let closed = self.normal.is_closed();
        let high = self.rare().high.get_or_insert_with(|| {
            let mut high = High {
                queue: Queue::new(capacity, when_full),
                progress: Progress::default(),
            };
            if closed {
                // Nobody waits for a queue that was just made.
                let _nobody = high.queue.close(&high.progress);
            }
            high
        });
        (&mut high.queue, &high.progress)
    }

    /// Nothing is there, or to be done, but normal messages.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.normal.own.signals.is_empty()
            && !self.normal.own.stalled
            && self.rare.as_ref().is_none_or(|rare| {
                rare.control.is_empty()
                    && rare.ready.is_empty()
                    && rare.woken.is_empty()
                    && rare.high_len() == 0
            })
    }

    #[inline]
    pub(crate) fn high_len(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.high_len())
    }
}

impl<P: Processor> Rare<P> {
    fn high_len(&self) -> usize {
        self.high.as_ref().map_or(0, |high| high.queue.len())
    }
}
