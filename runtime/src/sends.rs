//! Who sends to whom, counted only while somebody asks.
//!
//! A message counts when a mailbox takes it, as it does in [`received`](crate::ProcessorSnapshot::received): once, whatever the
//! way, also if the mailbox's policy drops it.
//!
//! | the way into the mailbox                                        | counts as sent by                                      |
//! |-----------------------------------------------------------------|--------------------------------------------------------|
//! | `send`, `try_send`, a call, a permit, inside a handler          | that processor                                         |
//! | the same outside of handlers                                    | the program                                            |
//! | from an outbox                                                  | whose outbox it is, whoever's thread delivers it       |
//! | a call that stands in line for room by itself                   | the program: inside a handler it would be in the outbox |
//! | `forward`                                                       | whoever forwards it                                    |
//! | timers, replies, continuations, subscriptions, what was set aside | nobody: they take no place in the mailbox            |
//!
//! While somebody watches, all drivers carry a mark ([`Marked::WATCHED`]) that leads their members' messages past
//! [`Sends::count`]. The mark shares a word with another one, so that a message costs nothing more while nobody watches.
//!
//! Counts are kept by ids, in shards by receiver: whoever sends to one receiver is in line at its mailbox anyway. Names of
//! senders are looked up when somebody reads; a processor that ends leaves its name here before.

use crate::cell::AnyCell;
use crate::current;
use crate::driver::{DriverCore, Marked};
use crate::id::ProcessorId;
use crate::name::Name;
use crate::runtime::{Runtime, RuntimeCore};
use crate::snapshot::SendSnapshot;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Relaxed};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most pairs of a sender and a receiver that one watch tells apart.
const PAIRS_MAX: usize = 4096;

const SHARDS: usize = 16;

/// As whose a message counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sender {
    /// Of the processor in whose handler the thread is; outside of handlers the program.
    Here,
    Program,
    Processor(ProcessorId),
}

impl Sender {
    pub(crate) fn id(self) -> Option<ProcessorId> {
        match self {
            Self::Here => current::handler(),
            Self::Program => None,
            Self::Processor(id) => Some(id),
        }
    }
}

/// The counts of all watches of a node. Its locks are taken last, and nothing is dropped under them but names and numbers.
pub(crate) struct Sends {
    watches: Mutex<Watches>,
    shards: [Mutex<Vec<Tally>>; SHARDS],
}

#[derive(Default)]
struct Watches {
    open: usize,
    next: u64,
}

/// What one watch has counted in one shard.
struct Tally {
    watch: u64,
    bounds: Arc<Bounds>,
    pairs: BTreeMap<(Option<ProcessorId>, ProcessorId), Pair>,
}

struct Pair {
    /// Once the sender has ended.
    from: Option<Name>,
    to: Name,
    count: u64,
}

/// Of one watch, over all shards.
#[derive(Debug, Default)]
struct Bounds {
    pairs: AtomicUsize,
    more: AtomicU64,
}

impl Tally {
    fn count(&mut self, from: Option<ProcessorId>, to: ProcessorId, name: &Name) {
        if let Some(pair) = self.pairs.get_mut(&(from, to)) {
            pair.count += 1;
            return;
        }
        if self.bounds.pairs.fetch_add(1, Relaxed) >= PAIRS_MAX {
            self.bounds.pairs.fetch_sub(1, Relaxed);
            self.bounds.more.fetch_add(1, Relaxed);
            return;
        }
        let pair = Pair {
            from: None,
            to: name.clone(),
            count: 1,
        };
        self.pairs.insert((from, to), pair);
    }

    fn ended(&mut self, id: ProcessorId, name: &Name) {
        let from = Some(id);
        let oldest = ProcessorId::from_number(1).expect("it is not 0");
        let its = self.pairs.range_mut((from, oldest)..);
        for (_, pair) in its.take_while(|((sender, _), _)| *sender == from) {
            pair.from = Some(name.clone());
        }
    }
}

impl Sends {
    pub(crate) fn new() -> Self {
        Self {
            watches: Mutex::new(Watches::default()),
            shards: std::array::from_fn(|_| Mutex::new(Vec::new())),
        }
    }

    /// A mailbox has taken a message. Whoever calls it holds the lock of that mailbox.
    #[cold]
    pub(crate) fn count(&self, from: Option<ProcessorId>, to: ProcessorId, name: &Name) {
        let shard = &self.shards[to.get() as usize % SHARDS];
        for tally in &mut *shard.lock() {
            tally.count(from, to, name);
        }
    }

    /// A processor sends no more, and is about to be forgotten.
    pub(crate) fn ended(&self, cell: &dyn AnyCell) {
        if !cell.driver().marks().has(Marked::WATCHED) {
            return;
        }
        let (id, name) = (cell.id(), cell.name());
        for shard in &self.shards {
            for tally in &mut *shard.lock() {
                tally.ended(id, name);
            }
        }
    }

    /// A driver was filed. One that is not seen here, because it was filed later than whoever began to watch has looked, sees that
    /// somebody watches.
    pub(crate) fn driver_made(&self, driver: &DriverCore) {
        let watches = self.watches.lock();
        driver.mark(Marked::WATCHED, watches.open > 0);
    }

    fn begin(&self, runtime: &RuntimeCore) -> (u64, Arc<Bounds>) {
        let bounds = Arc::new(Bounds::default());
        let mut watches = self.watches.lock();
        let watch = watches.next;
        watches.next += 1;
        watches.open += 1;
        // Under the lock, so that the marks are those of whoever came last. Dropped after it is released. Before the tallies: a
        // processor that is counted and ends leaves its name only if its driver is marked.
        let drivers = runtime.drivers();
        for driver in &drivers {
            driver.mark(Marked::WATCHED, true);
        }
        for shard in &self.shards {
            shard.lock().push(Tally {
                watch,
                bounds: bounds.clone(),
                pairs: BTreeMap::new(),
            });
        }
        drop(watches);
        (watch, bounds)
    }

    fn end(&self, runtime: &RuntimeCore, watch: u64) {
        let mut watches = self.watches.lock();
        watches.open -= 1;
        let drivers = match watches.open {
            0 => runtime.drivers(),
            _ => Vec::new(),
        };
        for driver in &drivers {
            driver.mark(Marked::WATCHED, false);
        }
        drop(watches);
        for shard in &self.shards {
            let _tally = {
                let mut tallies = shard.lock();
                let at = tallies.iter().position(|tally| tally.watch == watch);
                at.map(|at| tallies.swap_remove(at))
            };
        }
    }

    /// What a watch has counted, by ids.
    fn read(&self, watch: u64) -> Vec<(Option<ProcessorId>, Pair)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let tallies = shard.lock();
            let tally = tallies.iter().find(|tally| tally.watch == watch);
            let pairs = tally.into_iter().flat_map(|tally| &tally.pairs);
            all.extend(pairs.map(|((from, _), pair)| {
                let pair = Pair {
                    from: pair.from.clone(),
                    to: pair.to.clone(),
                    count: pair.count,
                };
                (*from, pair)
            }));
        }
        all
    }
}

impl fmt::Debug for Sends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.watches.lock().open;
        f.debug_struct("Sends").field("watches", &open).finish()
    }
}

/// Counts who sends to whom, from [`Runtime::watch_sends`] until it is dropped.
#[must_use = "it counts until it is dropped"]
pub struct SendWatch {
    runtime: Arc<RuntimeCore>,
    /// `None` in a child that was forked: nothing is counted there.
    watch: Option<u64>,
    bounds: Arc<Bounds>,
    began: Instant,
}

impl Runtime {
    /// Counts from now on which processor sends messages to which, until what this returns is dropped. Several may watch at once;
    /// each counts from its own beginning.
    ///
    /// While nobody watches, a message takes no instruction more. While somebody does, it took 40 to 160 nanoseconds more on a busy
    /// machine, and more with each further watch. Also processors and drivers that are made meanwhile are watched.
    ///
    /// In a child that was forked from the process that made the node, it counts nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let sink = node.spawn_thread("sink", closure(|_: u8, _cx| ()))?;
    /// sink.send(1)?; // nobody watches yet
    ///
    /// let watch = node.watch_sends();
    /// let to_sink = sink.clone();
    /// let source = node.spawn_thread("source", closure(move |n: u8, _cx| to_sink.send(n)))?;
    /// source.send(2)?;
    /// node.settle();
    ///
    /// let sends = watch.sends();
    /// assert_eq!((sends[0].from.as_deref(), sends[0].to.as_str()), (None, "source"));
    /// assert_eq!((sends[1].from.as_deref(), sends[1].to.as_str()), (Some("source"), "sink"));
    /// assert!(sends.iter().all(|send| send.count == 1));
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn watch_sends(&self) -> SendWatch {
        let runtime = self.core().clone();
        let began = runtime.world.now();
        // A lock may be held here by a thread that a forked child does not have.
        let (watch, bounds) = match runtime.is_here() {
            true => {
                let (watch, bounds) = runtime.sends.begin(&runtime);
                (Some(watch), bounds)
            }
            false => (None, Arc::default()),
        };
        SendWatch {
            runtime,
            watch,
            bounds,
            began,
        }
    }
}

impl SendWatch {
    /// What was sent since the watch began: for each pair of a sender and a receiver how many messages, by sender and then by
    /// receiver, what the program itself has sent first.
    ///
    /// A message counts when a mailbox has taken it, as in [`ProcessorSnapshot::received`](crate::ProcessorSnapshot::received):
    /// sent, called, forwarded, by a permit or from an outbox, and also if the mailbox's policy then drops it. What is given back
    /// does not count, and neither do timers, replies and samples of topics. Processors that have ended are there, too; what those
    /// of one name have sent is one.
    ///
    /// While messages are being sent, the counts are not of one moment.
    pub fn sends(&self) -> Vec<SendSnapshot> {
        let Some(watch) = self.watch.filter(|_| self.runtime.is_here()) else {
            return Vec::new();
        };
        let sends = &self.runtime.sends;
        let unnamed = |pairs: &[(Option<ProcessorId>, Pair)]| -> BTreeSet<ProcessorId> {
            let unnamed = pairs.iter().filter(|(_, pair)| pair.from.is_none());
            unnamed.filter_map(|(from, _)| *from).collect()
        };
        let names = self.runtime.names_of(&unnamed(&sends.read(watch)));
        // Again: whoever has ended since, and was not found, has left its name.
        let mut all = BTreeMap::<(Option<String>, String), u64>::new();
        for (from, pair) in sends.read(watch) {
            let name = pair.from.as_ref();
            let name = name.or_else(|| names.get(&from?));
            let key = (
                name.map(|name| name.as_str().to_owned()),
                pair.to.as_str().to_owned(),
            );
            *all.entry(key).or_default() += pair.count;
        }
        let all = all.into_iter();
        all.map(|((from, to), count)| SendSnapshot { from, to, count })
            .collect()
    }

    /// How many messages were sent since the watch began that are not among [`sends`](Self::sends): it tells 4096 pairs of a sender
    /// and a receiver apart, the first that it sees.
    pub fn more(&self) -> u64 {
        self.bounds.more.load(Relaxed)
    }

    /// For how long it has watched, by the node's clock: virtual in a simulated node.
    pub fn window(&self) -> Duration {
        let now = self.runtime.world.now();
        now.saturating_duration_since(self.began)
    }
}

impl Drop for SendWatch {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take()
            && self.runtime.is_here()
        {
            self.runtime.sends.end(&self.runtime, watch);
        }
    }
}

impl fmt::Debug for SendWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendWatch")
            .field("window", &self.window())
            .field("more", &self.more())
            .finish_non_exhaustive()
    }
}
