//! One address for several processors of one type.
//!
//! # Who gets a message
//!
//! | way                | first choice                                             | if it has no room          | if it has ended        |
//! |--------------------|----------------------------------------------------------|----------------------------|------------------------|
//! | in turn            | the one after the last                                   | the next that has          | left out, and removed  |
//! | least loaded       | the one with the least to do; of equal ones, in turn     | the next that has          | left out, and removed  |
//! | by key             | the one with the greatest weight for the key             | waits for it               | the next greatest      |
//!
//! *By key* is rendezvous hashing (D. Thaler, C. Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM
//! Transactions on Networking 6(1), 1998): the weight of a member for a key is a hash of both, and needs no table. A member
//! that is added takes the keys for which it has the greatest weight, about one in `n`, and no other key moves; of one that is
//! removed each key goes to whoever comes next for it. A member's hash is that of its *name*, so equal programs give equal
//! keys to equal names, whatever ids they have.
//!
//! *Least loaded* would cost a lock per member if it were exact: how many messages have come is known under the mailbox's
//! lock only. How many were handled is not, so each member remembers how many had come when somebody last looked, and counts
//! what is sent through here itself. The choice is made by these estimates, and then the chosen one alone is looked at: if
//! others have sent to it meanwhile and it is not the least loaded after all, the choice is made again. Drops make an estimate
//! too high, so now and then all are looked at.

use super::broadcast::{BroadcastError, Target, broadcast};
use super::pool_call::PoolCall;
use crate::address::Address;
use crate::cell::Refused;
use crate::error::{SendError, TrySendError};
use crate::pending::Pending;
use crate::processor::{Handle, Processor};
use crate::runtime::{Runtime, RuntimeCore};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Relaxed};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// So many choices of the least loaded between two looks at all.
const LOOK_EVERY: usize = 64;

/// One address for several processors of one type, on whatever drivers they run. Cheap to clone; `Send + Sync`.
///
/// A message goes to one of them: in turn, or to the [least loaded](Self::least_loaded), or by [key](Self::send_keyed); or to
/// [all](Self::broadcast). Members that have ended are left out and removed. A message sent without a key tries every member
/// before it waits, so one that is busy holds up nobody; messages of one sender may then be handled in any order, and by
/// several members at once. Messages with equal keys go to one member, in order.
///
/// # Deadlocks
///
/// No edge of who waits for whom passes through it: who will serve a call is not known before it is under way. A circle of calls
/// through it ends by their limit. A blocking call prefers members that another thread runs, and is refused if there are none.
///
/// # Examples
///
/// ```
/// # use mproc_runtime::{Runtime, closure};
/// let node = Runtime::simulated(1);
/// let pool = node.pool("workers", 2)?;
/// let mut squares = Vec::new();
/// for n in 0..4 {
///     squares.push(pool.spawn(&format!("square {n}"), closure(|n: u64, _cx| Ok::<_, std::fmt::Error>(n * n)))?);
/// }
/// let squares = node.pool_address(squares);
/// assert_eq!(squares.call(12).wait()?, 144);
/// squares.send(7)?; // to the next
/// squares.send_keyed("seven", 7)?; // to the member of this key
/// assert_eq!(squares.broadcast(&7)?, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PoolAddress<P: Processor> {
    shared: Arc<Shared<P>>,
    least_loaded: bool,
}

struct Shared<P: Processor> {
    runtime: Arc<RuntimeCore>,
    /// Replaced as a whole, so that whoever sends holds no lock.
    members: Mutex<Members<P>>,
    turn: AtomicUsize,
}

/// A message that found no room, and where to wait for some: nowhere, if all members have ended.
type NoRoom<P, M> = (M, Option<Arc<Member<P>>>);

pub(crate) type Members<P> = Arc<[Arc<Member<P>>]>;

/// One of those behind a pool address.
pub(crate) struct Member<P: Processor> {
    pub(crate) address: Address<P>,
    /// Of its name.
    hash: u64,
    /// How many messages had come when somebody last looked, and were sent through here since. An estimate, hence relaxed.
    came: AtomicU64,
}

impl<P: Processor> Member<P> {
    fn new(address: Address<P>) -> Self {
        let member = Self {
            hash: hash_of(address.name().as_str()),
            came: AtomicU64::new(0),
            address,
        };
        member.look();
        member
    }

    /// How much it has to do, as far as can be known without its lock.
    fn load(&self) -> u64 {
        let done = self.address.cell.done();
        self.came.load(Relaxed).saturating_sub(done)
    }

    /// How much it has to do, exactly.
    fn look(&self) -> u64 {
        self.came.store(self.address.cell.came(), Relaxed);
        self.load()
    }

    /// A message was sent to it.
    pub(crate) fn count_sent(&self) {
        self.came.fetch_add(1, Relaxed);
    }

    fn weight(&self, key: u64) -> u64 {
        mix(key ^ self.hash)
    }
}

/// A hash that is the same in every run: the one of `std`'s maps would be drawn from the system's chance.
fn hash_of<K: Hash + ?Sized>(key: &K) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    mix(hasher.finish())
}

/// The finish of SplitMix64: every bit of the result depends on every bit of `z`.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Runtime {
    /// One address for these processors, which get messages in turn. There may be none at first; see
    /// [`PoolAddress::add`].
    pub fn pool_address<P: Processor>(
        &self,
        members: impl IntoIterator<Item = Address<P>>,
    ) -> PoolAddress<P> {
        let pool = PoolAddress {
            shared: Arc::new(Shared {
                runtime: self.shared(),
                members: Mutex::new(Arc::new([])),
                turn: AtomicUsize::new(0),
            }),
            least_loaded: false,
        };
        for member in members {
            pool.add(member);
        }
        pool
    }
}

impl<P: Processor> PoolAddress<P> {
    /// The same members, and messages without a key go to the one with the least to do: with the fewest messages queued, the
    /// one in its handler included. That is looked at for each message; two senders at one moment may choose the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let a = node.spawn_thread("a", closure(|_: u8, _cx| ()))?;
    /// let b = node.spawn_thread("b", closure(|_: u8, _cx| ()))?;
    /// let both = node.pool_address([a.clone(), b.clone()]).least_loaded();
    /// a.send(1)?;
    /// a.send(2)?;
    /// both.send(3)?;
    /// both.send(4)?;
    /// assert_eq!((a.snapshot().received, b.snapshot().received), (2, 2));
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn least_loaded(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            least_loaded: true,
        }
    }

    /// Adds a member for all clones of this address. False if it is one already, or has ended.
    ///
    /// About one key in `n` moves to it, and no other key moves. What was sent before with such a key may still be handled by
    /// its old member while the new one handles what comes later: for a strict order, let the old ones become empty first.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let pool = node.pool_address([]);
    /// assert!(pool.try_send(1_u8).is_err()); // nobody is there: closed
    /// let only = node.spawn_thread("only", closure(|_: u8, _cx| ()))?;
    /// assert!(pool.add(only.clone()));
    /// assert_eq!(pool.member_of("any key"), Some(only.clone()));
    /// pool.try_send(1)?;
    /// assert!(pool.remove(&only));
    /// assert!(pool.members().is_empty());
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn add(&self, member: Address<P>) -> bool {
        if member.is_closed() {
            return false;
        }
        // Made before the lock is taken: it looks at the member's mailbox.
        let member = Arc::new(Member::new(member));
        let mut members = self.shared.members.lock();
        if members.iter().any(|m| m.address == member.address) {
            return false;
        }
        let all = members.iter().cloned().chain([member]).collect();
        let _before = std::mem::replace(&mut *members, all);
        drop(members);
        true
    }

    /// Removes a member for all clones of this address; it goes on, and handles what it was sent. False if it is none. Its keys
    /// go to the others; see [`add`](Self::add) for their order.
    pub fn remove(&self, member: &Address<P>) -> bool {
        let mut members = self.shared.members.lock();
        let left: Members<P> = members
            .iter()
            .filter(|m| m.address != *member)
            .cloned()
            .collect();
        let found = left.len() < members.len();
        // The last reference to a member may be the last to its processor: dropped after the lock is released.
        let before = std::mem::replace(&mut *members, left);
        drop(members);
        drop(before);
        found
    }

    /// The members that have not ended, in the order in which they were added.
    pub fn members(&self) -> Vec<Address<P>> {
        let members = self.now();
        let (closed, open): (Vec<_>, Vec<_>) = members.iter().partition(|m| m.address.is_closed());
        closed.iter().for_each(|m| self.let_go(m));
        open.iter().map(|m| m.address.clone()).collect()
    }

    /// The member that messages with this key go to; `None` if all have ended.
    pub fn member_of<K: Hash + ?Sized>(&self, key: &K) -> Option<Address<P>> {
        let key = hash_of(key);
        loop {
            let member = self.of_key(&self.now(), key)?;
            if !member.address.is_closed() {
                return Some(member.address.clone());
            }
            self.let_go(&member);
        }
    }

    /// Sends `message` to one member: the first with room, beginning with the one whose turn it is, or the least loaded. If none
    /// has room, it waits at that one, as [`Address::send`] does.
    ///
    /// # Errors
    ///
    /// Each gives `message` back; see [`SendError`]. [`Closed`](SendError::Closed): all members have ended.
    ///
    /// # Deadlocks
    ///
    /// As [`Address::send`]: inside a handler it does not wait, the message goes to the outbox. If none has room and the calling
    /// thread's own scripts run some, it waits at one of the others.
    pub fn send<M: Send + 'static>(&self, message: M) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        self.send_within(message, None)
    }

    /// As [`send`](Self::send), waiting at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Deadlocks
    ///
    /// As [`send`](Self::send).
    pub fn send_timeout<M: Send + 'static>(
        &self,
        message: M,
        limit: Duration,
    ) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        self.send_within(message, Some(limit))
    }

    /// Sends `message` to a member that has room now. Never waits.
    ///
    /// # Errors
    ///
    /// Each gives `message` back. [`Full`](TrySendError::Full): no member has room. [`Closed`](TrySendError::Closed): all have
    /// ended.
    pub fn try_send<M: Send + 'static>(&self, message: M) -> Result<(), TrySendError<M>>
    where
        P: Handle<M>,
    {
        match self.offer(message) {
            Ok(()) => Ok(()),
            Err((message, None)) => Err(TrySendError::Closed(message)),
            Err((message, Some(first))) => {
                first.address.cell.count_returned();
                Err(TrySendError::Full(message))
            }
        }
    }

    /// Calls one member, chosen as for [`send`](Self::send) when the call is put on its way.
    ///
    /// # Errors
    ///
    /// As [`Address::call`]. [`CallError::Stopped`](crate::CallError::Stopped) also if all members have ended. A member that ends
    /// while the call waits for room is none to fail with: another is called. Inside a handler the call waits in the outbox, for that one
    /// member.
    ///
    /// # Deadlocks
    ///
    /// No edge of who waits for whom is followed through it; see [`PoolAddress`].
    ///
    /// # Cancel safety
    ///
    /// As [`Address::call`].
    pub fn call<M: Send + 'static>(&self, message: M) -> Pending<P::Reply>
    where
        P: Handle<M>,
    {
        Pending::new(Arc::new(PoolCall::new(self.clone(), None, message)))
    }

    /// Sends `message` to the member of `key`, waiting for that one. Messages of one sender with equal keys are handled in the
    /// order sent, by one member, as long as the set of members does not change; see [`add`](Self::add). If that member has
    /// ended, the next takes over its keys.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Deadlocks
    ///
    /// As [`Address::send`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let mut counts = Vec::new();
    /// for n in 0..3 {
    ///     let mut words = std::collections::BTreeMap::new();
    ///     let count = closure(move |word: &'static str, _cx| {
    ///         let count = words.entry(word).or_insert(0);
    ///         *count += 1;
    ///         Ok::<u32, std::fmt::Error>(*count)
    ///     });
    ///     counts.push(node.spawn_thread(&format!("count {n}"), count)?);
    /// }
    /// let counts = node.pool_address(counts);
    /// for word in ["a", "rose", "is", "a", "rose"] {
    ///     counts.send_keyed(word, word)?;
    /// }
    /// assert_eq!(counts.call_keyed("rose", "rose").wait()?, 3); // one member has seen all of them
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn send_keyed<K: Hash + ?Sized, M: Send + 'static>(
        &self,
        key: &K,
        message: M,
    ) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        self.send_keyed_within(hash_of(key), message, None)
    }

    /// As [`send_keyed`](Self::send_keyed), waiting at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Deadlocks
    ///
    /// As [`Address::send`].
    pub fn send_keyed_timeout<K: Hash + ?Sized, M: Send + 'static>(
        &self,
        key: &K,
        message: M,
        limit: Duration,
    ) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        self.send_keyed_within(hash_of(key), message, Some(limit))
    }

    /// Sends `message` to the member of `key` if that one has room now.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), for that one member.
    pub fn try_send_keyed<K: Hash + ?Sized, M: Send + 'static>(
        &self,
        key: &K,
        mut message: M,
    ) -> Result<(), TrySendError<M>>
    where
        P: Handle<M>,
    {
        let key = hash_of(key);
        loop {
            let Some(member) = self.of_key(&self.now(), key) else {
                return Err(TrySendError::Closed(message));
            };
            match member.address.offer(message) {
                Ok(()) => {
                    member.count_sent();
                    return Ok(());
                }
                Err(Refused::Full(m)) => {
                    member.address.cell.count_returned();
                    return Err(TrySendError::Full(m));
                }
                Err(Refused::Closed(m)) => {
                    message = m;
                    self.let_go(&member);
                }
            }
        }
    }

    /// Calls the member of `key`.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`Address::call`].
    pub fn call_keyed<K: Hash + ?Sized, M: Send + 'static>(
        &self,
        key: &K,
        message: M,
    ) -> Pending<P::Reply>
    where
        P: Handle<M>,
    {
        let key = Some(hash_of(key));
        Pending::new(Arc::new(PoolCall::new(self.clone(), key, message)))
    }

    /// Sends a clone of `message` to every member: first to those that have room, then, waiting, to the others. Returns how many
    /// have it.
    ///
    /// # Errors
    ///
    /// [`BroadcastError`] says who did not take it within the node's limit for sends, and how many did;
    /// [`is_closed`](BroadcastError::is_closed) if all have ended.
    ///
    /// # Deadlocks
    ///
    /// As [`Address::send`].
    pub fn broadcast<M: Clone + Send + 'static>(&self, message: &M) -> Result<usize, BroadcastError>
    where
        P: Handle<M>,
    {
        let members = self.members();
        let runtime = &self.shared.runtime;
        let result = broadcast(
            &runtime.world,
            runtime.options.send_limit,
            &members,
            message,
        );
        self.now().iter().for_each(|m| {
            // What all were sent changes nothing in who has the least to do, but the estimates should know.
            m.count_sent();
        });
        if result.sent == 0 || !result.refused.is_empty() {
            return Err(result);
        }
        Ok(result.sent)
    }

    pub(crate) fn runtime(&self) -> &Arc<RuntimeCore> {
        &self.shared.runtime
    }

    pub(crate) fn now(&self) -> Members<P> {
        self.shared.members.lock().clone()
    }

    /// A member has ended.
    pub(crate) fn let_go(&self, member: &Member<P>) {
        self.remove(&member.address);
    }

    /// Where the next message without a key goes first.
    fn first(&self, members: &[Arc<Member<P>>]) -> usize {
        let turn = self.shared.turn.fetch_add(1, Relaxed);
        let start = turn % members.len();
        if !self.least_loaded {
            return start;
        }
        if turn.is_multiple_of(LOOK_EVERY) {
            members.iter().for_each(|m| {
                m.look();
            });
        }
        let mut best = start;
        for _ in 0..members.len() {
            let mut second = u64::MAX;
            let mut least = u64::MAX;
            for at in (0..members.len()).map(|i| (start + i) % members.len()) {
                let load = members[at].load();
                if load < least {
                    (second, least, best) = (least, load, at);
                } else {
                    second = second.min(load);
                }
            }
            if members[best].look() <= second {
                break;
            }
        }
        best
    }

    /// The members in the order in which a message without a key tries them.
    pub(crate) fn in_order(
        &self,
        members: &Members<P>,
    ) -> impl Iterator<Item = Arc<Member<P>>> + use<P> {
        let first = if members.is_empty() {
            0
        } else {
            self.first(members)
        };
        let members = members.clone();
        (0..members.len()).map(move |i| members[(first + i) % members.len()].clone())
    }

    pub(crate) fn of_key(&self, members: &Members<P>, key: u64) -> Option<Arc<Member<P>>> {
        members.iter().max_by_key(|m| m.weight(key)).cloned()
    }

    /// Tries all members.
    fn offer<M: Send + 'static>(&self, mut message: M) -> Result<(), NoRoom<P, M>>
    where
        P: Handle<M>,
    {
        let mut full = Vec::new();
        for member in self.in_order(&self.now()) {
            match member.address.offer(message) {
                Ok(()) => {
                    member.count_sent();
                    return Ok(());
                }
                Err(Refused::Full(m)) => {
                    message = m;
                    full.push(member);
                }
                Err(Refused::Closed(m)) => {
                    message = m;
                    self.let_go(&member);
                }
            }
        }
        Err((message, wait_at(full)))
    }

    fn send_within<M: Send + 'static>(
        &self,
        mut message: M,
        limit: Option<Duration>,
    ) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        let mut deadline = None;
        loop {
            let member = match self.offer(message) {
                Ok(()) => return Ok(()),
                Err((m, None)) => return Err(SendError::Closed(m)),
                Err((m, Some(member))) => {
                    message = m;
                    member
                }
            };
            let left = self.left(limit, &mut deadline);
            match member.address.send_within(message, Some(left)) {
                Ok(()) => {
                    member.count_sent();
                    return Ok(());
                }
                Err(SendError::Closed(m)) => {
                    message = m;
                    self.let_go(&member);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn send_keyed_within<M: Send + 'static>(
        &self,
        key: u64,
        mut message: M,
        limit: Option<Duration>,
    ) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        let mut deadline = None;
        loop {
            let Some(member) = self.of_key(&self.now(), key) else {
                return Err(SendError::Closed(message));
            };
            // The clock is read only if it comes to a second attempt.
            let left = match deadline {
                None => limit,
                Some(_) => Some(self.left(limit, &mut deadline)),
            };
            match member.address.send_within(message, left) {
                Ok(()) => {
                    member.count_sent();
                    return Ok(());
                }
                Err(SendError::Closed(m)) => {
                    message = m;
                    self.let_go(&member);
                    self.left(limit, &mut deadline);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What is left of the limit, which begins when this is asked for the first time.
    fn left(
        &self,
        limit: Option<Duration>,
        deadline: &mut Option<Option<std::time::Instant>>,
    ) -> Duration {
        let limit = limit.unwrap_or(self.shared.runtime.options.send_limit);
        let now = self.shared.runtime.world.now();
        let until = *deadline.get_or_insert_with(|| now.checked_add(limit));
        until.map_or(limit, |until| until.saturating_duration_since(now))
    }
}

/// Of those that have no room, the one to wait at: the first that another thread can make room at.
pub(crate) fn wait_at<P: Processor>(full: Vec<Arc<Member<P>>>) -> Option<Arc<Member<P>>> {
    let first = full.first().cloned();
    let elsewhere = full.into_iter().find(|m| !m.address.only_here());
    elsewhere.or(first)
}

impl<P: Processor> Clone for PoolAddress<P> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            least_loaded: self.least_loaded,
        }
    }
}

impl<P: Processor> fmt::Debug for PoolAddress<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.now();
        f.debug_list()
            .entries(members.iter().map(|m| &m.address))
            .finish()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// Each of `n` names gets its share of the keys, within a fifth.
    #[test]
    fn keys_are_spread_evenly_over_names_that_look_alike() {
        const KEYS: u64 = 20_000;
        let names: Vec<_> = (0..8).map(|n| hash_of(&format!("worker {n}"))).collect();
        let mut shares = vec![0_u64; names.len()];
        for key in 0..KEYS {
            let key = hash_of(&key);
            let best = (0..names.len()).max_by_key(|&n| mix(key ^ names[n]));
            shares[best.unwrap()] += 1;
        }
        let fair = KEYS / names.len() as u64;
        for share in &shares {
            assert!(share.abs_diff(fair) < fair / 5, "{shares:?}");
        }
    }
}
