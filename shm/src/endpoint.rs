//! One publisher's memory and links: loans are filled, published to every link, and come back.

use crate::bell::Ringer;
use crate::class::{class_bytes, class_for, stride};
use crate::error::{SegmentError, SegmentErrorKind};
use crate::fan_out::{FanOut, Guard, LinkId, Queued, Reaped, Refusal, SlotCounts};
use crate::fork::{Forked, Origin};
use crate::header::SlotHeader;
use crate::layout::SLOTS_MAX;
use crate::link::{LinkGeometry, LinkWords, WhenFull};
use crate::loan::{Filled, Loan, Returned, Returns};
use crate::segment::{DataGeometry, DataSegment};
use crate::slots::{LINKS_MAX, LOCAL};
use crate::sync::{SeqCst, fence};
use crate::waiter::Waiter;
use std::error::Error as StdError;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What an endpoint may use.
#[derive(Clone, Copy, Debug)]
pub struct EndpointOptions {
    /// How many bytes of shared memory its segments may have in all. What links that may lose samples can lease comes on top,
    /// so that they cannot hold back the others: for each such link its `leases_max`, times the largest slot in use.
    pub bytes_max: u64,
    /// How many slots it may ever have. Each link has a word for each of them.
    pub slots_max: u32,
    /// How many of the last samples that were [published](Endpoint::publish) to all are kept for those who come late.
    pub history: u32,
    /// Names the process, for those who look at the memory.
    pub node: [u8; 16],
}

/// A publisher's side of one topic: its segments, and its links to subscriptions in other processes.
///
/// It holds no lock; threads share it under one of their own (the publish lock).
///
/// There are two ways out for a loan. [`publish`](Self::publish) gives it to all links at once. [`Loan::freeze`] and
/// [`queue`](Self::queue) treat each link as a subscriber of its own: the caller decides which link gets what, and rings by
/// itself.
///
/// In a child made by `fork` every operation says so, or does nothing.
///
/// # Waiting with a thread
///
/// 1. under the lock, [`loan`](Self::loan) says [`Short`](LoanError::Short) or [`publish`](Self::publish) says
///    [`Full`](Unpublished::full): get a [`waiter`](Self::waiter);
/// 2. try again, still under the lock;
/// 3. release the lock, [`Waiter::wait`] for what is left of the limit, and begin anew.
///
/// # Waiting without one
///
/// A driver that sleeps on a bell of its own gives that bell to the subscriber ([`SubscriberLink::ring_on_return`]), and:
///
/// 1. [`watch`](Self::watch)es the link for room, or for memory [all of them](Self::watch_all) and what
///    [comes back in this process](Self::watch_local);
/// 2. tries again: what came back before the watch does not ring;
/// 3. goes on with other things. Before it sleeps it tries once more, between [`Bell::about_to_sleep`] and the wait: what came
///    back while it was awake did not wake it.
///
/// [`SubscriberLink::ring_on_return`]: crate::SubscriberLink::ring_on_return
/// [`Bell::about_to_sleep`]: crate::Bell::about_to_sleep
#[derive(Debug)]
pub struct Endpoint {
    options: EndpointOptions,
    fan_out: FanOut,
    segments: Vec<Arc<DataSegment>>,
    bytes: u64,
    /// The largest slot in use, with its header.
    stride_max: u64,
    returns: Arc<Returns>,
    origin: Origin,
}

/// A link that was attached.
#[derive(Debug)]
pub struct Attached {
    /// Its name from now on.
    pub id: LinkId,
    /// Its memory, to be sent to the subscriber.
    pub fd: OwnedFd,
    /// To be sent along.
    pub geometry: LinkGeometry,
}

/// Why a link was not attached.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttachError {
    /// There are 1024 links already.
    TooManyLinks,
    /// The endpoint belongs to the process from which this one was forked.
    Forked,
    /// Its memory could not be made.
    Segment(SegmentError),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyLinks => write!(f, "the publisher has {LINKS_MAX} links already"),
            Self::Forked => fmt::Display::fmt(&Forked, f),
            Self::Segment(_) => f.write_str("the link's memory could not be made"),
        }
    }
}

impl StdError for AttachError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::TooManyLinks | Self::Forked => None,
            Self::Segment(e) => Some(e),
        }
    }
}

/// Why there is no loan.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoanError {
    /// There is no slot of that size, and the budget has no room for one: it is too small, or went into smaller slots. Waiting
    /// does not help.
    TooLarge,
    /// All slots of that size are in use, and the budget has no room for more. Wait, then try again.
    Short,
    /// The endpoint belongs to the process from which this one was forked.
    Forked,
    /// The host has no more shared memory, and no slot is free.
    Segment(SegmentError),
}

impl fmt::Display for LoanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forked => return fmt::Display::fmt(&Forked, f),
            Self::TooLarge => "the publisher's budget has no room for so large a message",
            Self::Short => "all memory of the publisher is in use",
            Self::Segment(_) => "no slot is free and no memory could be added",
        })
    }
}

impl StdError for LoanError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Segment(e) => Some(e),
            _ => None,
        }
    }
}

/// What became of a sample.
#[derive(Debug)]
pub struct Published {
    /// How many links have it queued.
    pub count: u32,
    /// The links that do not, and why.
    pub refused: Vec<(LinkId, Refusal)>,
    /// For subscribers in this process, if they were to have it.
    pub local: Option<Filled>,
}

/// Nothing was published: links that lose nothing have no room.
#[derive(Debug)]
pub struct Unpublished {
    /// What was to be published.
    pub loan: Loan,
    /// The links without room.
    pub full: Vec<LinkId>,
}

impl Endpoint {
    /// An endpoint without memory or links.
    ///
    /// # Panics
    ///
    /// If `slots_max` is 0 or more than [`SLOTS_MAX`].
    pub fn new(options: EndpointOptions) -> Self {
        assert!(
            (1..=SLOTS_MAX).contains(&options.slots_max),
            "an endpoint has at least one slot, and at most 2^24"
        );
        let origin = Origin::now();
        Self {
            options,
            fan_out: FanOut::new(options.history as usize),
            segments: Vec::new(),
            bytes: 0,
            stride_max: 0,
            returns: Arc::new(Returns::new(origin)),
            origin,
        }
    }

    /// Makes a link for a subscription. What is kept for those who come late is queued on it at once, so that nothing is missed
    /// between that and the next publish, and nothing comes twice. `ringer` wakes the subscription's driver.
    ///
    /// # Errors
    ///
    /// See [`AttachError`]; nothing has changed then.
    pub fn attach(
        &mut self,
        depth: u32,
        leases_max: u32,
        when_full: WhenFull,
        ringer: Option<Ringer>,
    ) -> Result<Attached, AttachError> {
        self.origin.check().map_err(|_| AttachError::Forked)?;
        let geometry = LinkGeometry {
            depth,
            slots: self.options.slots_max,
            leases_max,
            when_full,
        };
        let (fd, words) =
            LinkWords::create(geometry, self.options.node).map_err(AttachError::Segment)?;
        self.fan_out.collect(None);
        let id = self.fan_out.attach(Arc::new(words), ringer);
        let id = id.ok_or(AttachError::TooManyLinks)?;
        Ok(Attached { id, fd, geometry })
    }

    /// All segments, in the order of their slots. New ones are added behind; a subscriber has to have a segment before it can
    /// take what is in there, so announce new ones before publishing.
    pub fn segments(&self) -> &[Arc<DataSegment>] {
        &self.segments
    }

    /// Lends a slot with room for `bytes`. May add a segment: see [`segments`](Self::segments).
    ///
    /// When the budget is short, samples that wait in queues of links that may lose them are taken back first, then what is
    /// kept for those who come late.
    ///
    /// # Errors
    ///
    /// See [`LoanError`].
    pub fn loan(&mut self, bytes: usize) -> Result<Loan, LoanError> {
        self.origin.check().map_err(|_| LoanError::Forked)?;
        let class = class_for(bytes).ok_or(LoanError::TooLarge)?;
        self.take_returned();
        let slot = self.find_slot(class)?;
        let segment = self.segments.iter().find(|s| s.geometry().contains(slot));
        let segment = segment.expect("each slot is in a segment").clone();
        // SAFETY: the slot is in this segment; `find_slot` has just made it loaned, and it stays so until this loan is
        // published or comes back through `returns`.
        Ok(unsafe { Loan::new(slot, segment, self.returns.clone(), bytes) })
    }

    fn find_slot(&mut self, class: usize) -> Result<u32, LoanError> {
        let slots = &mut self.fan_out.slots;
        if let Some(slot) = slots.take(class) {
            return Ok(slot);
        }
        self.fan_out.collect(Some(class));
        if let Some(slot) = self.fan_out.slots.take(class) {
            return Ok(slot);
        }
        let grown = self.grow(class);
        let fan_out = &mut self.fan_out;
        let take = |fan_out: &mut FanOut| {
            let slots = &mut fan_out.slots;
            slots.take(class).or_else(|| slots.take_larger(class))
        };
        if let Some(slot) = take(fan_out) {
            return Ok(slot);
        }
        let idle = |fan_out: &FanOut| fan_out.slots.has_free_from(class);
        fan_out.revoke_lossy(class, |slots| slots.has_free_from(class));
        while !idle(fan_out) && fan_out.forget_oldest() {
            // What was kept may be leased, too.
            fan_out.collect(Some(class));
        }
        if let Some(slot) = take(fan_out) {
            return Ok(slot);
        }
        match grown {
            Err(e) => Err(LoanError::Segment(e)),
            Ok(()) if self.fan_out.slots.has_any_from(class) => Err(LoanError::Short),
            Ok(()) => Err(LoanError::TooLarge),
        }
    }

    /// Adds a segment of this class, if the budget has room: as many slots as there are already, at least 64 KiB of them.
    fn grow(&mut self, class: usize) -> Result<(), SegmentError> {
        const SEGMENT_BYTES_MIN: usize = 64 * 1024;
        let payload_bytes = class_bytes(class);
        let stride = stride(payload_bytes);
        let aside = self.fan_out.lossy_leases() * self.stride_max.max(stride as u64);
        let budget = self.options.bytes_max.saturating_add(aside);
        let fixed = self.geometry(0, payload_bytes).bytes() as u64;
        let left = budget.saturating_sub(self.bytes + fixed) / stride as u64;
        let wanted = self.fan_out.slots.of_class(class);
        let slots = wanted
            .max(SEGMENT_BYTES_MIN / stride)
            .max(1)
            .min(usize::try_from(left).unwrap_or(usize::MAX))
            .min((self.options.slots_max - self.fan_out.slots.len()) as usize);
        if slots == 0 {
            return Ok(());
        }
        let geometry = self.geometry(slots as u32, payload_bytes);
        let segment = match DataSegment::create(geometry, self.options.node) {
            Err(e) if slots > 1 && matches!(e.kind(), SegmentErrorKind::OutOfSharedMemory) => {
                // Perhaps there is room for one.
                DataSegment::create(self.geometry(1, payload_bytes), self.options.node)?
            }
            made => made?,
        };
        let geometry = segment.geometry();
        self.bytes += geometry.bytes() as u64;
        self.stride_max = self.stride_max.max(stride as u64);
        self.segments.push(Arc::new(segment));
        self.fan_out.slots.add(class, geometry.slots);
        Ok(())
    }

    fn geometry(&self, slots: u32, payload_bytes: usize) -> DataGeometry {
        DataGeometry {
            first_slot: self.fan_out.slots.len(),
            slots,
            payload_bytes: payload_bytes as u32,
        }
    }

    /// Slots that came back inside this process.
    fn take_returned(&mut self) {
        for (slot, was) in self.returns.take() {
            match was {
                Returned::Loaned => self.fan_out.slots.put_back(slot),
                Returned::Local => self.fan_out.local_done(slot),
            }
        }
    }

    /// Publishes a loan to all links, and rings for those that got it. With `locals` subscribers of this process read it,
    /// too.
    ///
    /// Links that lose nothing are all or nothing: if one has no room, nobody gets the sample.
    ///
    /// # Errors
    ///
    /// [`Unpublished`] gives the loan back, and names the links without room. In a child made by `fork` it names none.
    ///
    /// # Panics
    ///
    /// If the loan is another endpoint's.
    pub fn publish(
        &mut self,
        loan: Loan,
        header: &SlotHeader,
        locals: bool,
    ) -> Result<Published, Unpublished> {
        assert!(
            loan.is_of(&self.returns),
            "a loan is published where it was made"
        );
        let forked = !self.origin.is_here();
        let full = if forked {
            Vec::new()
        } else {
            self.fan_out.full()
        };
        if forked || !full.is_empty() {
            return Err(Unpublished { loan, full });
        }
        let slot = loan.slot();
        let words = loan.segment().data().header(slot);
        let generation = self.fan_out.slots.generation(slot) + 1;
        // The length of a loan is at most its capacity, which has 32 bits.
        header.store(words, generation, loan.len() as u32);
        crate::points::reach("publisher: filled");
        let mut refused = Vec::new();
        let count = self.fan_out.publish(slot, locals, |id, why| {
            refused.push((id, why));
        });
        let local = if locals {
            Some(loan.into_local())
        } else {
            loan.into_sent();
            None
        };
        // A link that was closed has news, too.
        if count > 0 || !refused.is_empty() {
            self.ring();
        }
        Ok(Published {
            count,
            refused,
            local,
        })
    }

    /// Rings the bell of every driver that takes from a live link, each once.
    fn ring(&self) {
        // Partner: the fence in `Bell::about_to_sleep`. One fence serves all bells.
        fence(SeqCst);
        for ringer in self.fan_out.ringers() {
            ringer.ring_after_fence();
        }
    }

    /// Queues a filled slot on one link, by that link's policy. It does not ring: see [`ringer`](Self::ringer).
    ///
    /// `header` is written when the slot is queued for the first time, on whatever link; later ones have the same, since
    /// others may read it already. A segment that [`loan`](Self::loan) added has to be announced on the link before.
    ///
    /// `guard` is kept while the link's subscriber has the sample queued or leased. When it came back, was revoked or evicted,
    /// or its subscriber is reaped, or if it was not queued at all, the guard is found in
    /// [`take_released`](Self::take_released).
    ///
    /// # Panics
    ///
    /// If `filled` is another endpoint's, or if the link holds it already.
    pub fn queue(
        &mut self,
        link: LinkId,
        filled: &Filled,
        header: &SlotHeader,
        guard: Option<Guard>,
    ) -> Queued {
        assert!(
            filled.is_of(&self.returns),
            "a slot is queued where it was lent"
        );
        if !self.origin.is_here() {
            self.fan_out.release(guard);
            return Queued::Gone { violation: None };
        }
        let slot = filled.slot();
        self.fan_out.queue(link, slot, guard, |slots| {
            if filled.becomes_local() {
                let generation = slots.send(slot);
                slots.hold(slot, LOCAL);
                // The length of a loan is at most its capacity, which has 32 bits.
                let words = filled.segment().data().header(slot);
                header.store(words, generation, filled.len() as u32);
                crate::points::reach("publisher: filled");
            }
        })
    }

    /// What wakes the driver that takes from a link: to be rung after something was queued there, without any lock. `None` if
    /// it has none, or has ended.
    ///
    /// It stays the same, so a caller may keep it from when it attached the link.
    pub fn ringer(&self, link: LinkId) -> Option<Ringer> {
        self.fan_out.ringer(link).cloned()
    }

    /// Guards of samples that links do not hold any more, as far as that was seen: [`loan`](Self::loan),
    /// [`queue`](Self::queue), [`sweep`](Self::sweep), [`detach`](Self::detach) and [`reap`](Self::reap) find them. Dropping
    /// one may run anything: release the locks before.
    pub fn take_released(&mut self) -> Vec<Guard> {
        self.fan_out.take_released()
    }

    /// How many samples of a link are not taken yet; 0 if it has ended. It looks at those that were taken since it was asked
    /// last, and at one more.
    pub fn queued(&mut self, link: LinkId) -> usize {
        if self.origin.is_here() {
            self.fan_out.queued(link)
        } else {
            0
        }
    }

    /// How many slots a link has, queued or leased, as far as is known. [`sweep`](Self::sweep) finds out about more.
    pub fn held(&self, link: LinkId) -> usize {
        self.fan_out.held(link)
    }

    /// Takes back what a link's subscriber has given back, after looking at all that the link holds.
    pub fn sweep(&mut self, link: LinkId) {
        if self.origin.is_here() {
            self.fan_out.sweep(link);
        }
    }

    /// Asks the link's subscriber to ring when it takes something, drops a lease or leaves; or not to ring any more. It rings
    /// the bell of [`SubscriberLink::ring_on_return`](crate::SubscriberLink::ring_on_return).
    ///
    /// After `watch(.., true)` look again: what comes back from then on rings, what came back before does not. And look between
    /// [`Bell::about_to_sleep`](crate::Bell::about_to_sleep) and the wait: a bell wakes those who sleep. The end of a
    /// subscriber's process rings nothing; [`reap`](Self::reap) is called by somebody who knows.
    ///
    /// Each take and each drop costs the subscriber two system calls meanwhile.
    pub fn watch(&mut self, link: LinkId, on: bool) {
        if self.origin.is_here() {
            self.fan_out.watch(link, on);
        }
    }

    /// [`watch`](Self::watch) for every link that holds something or gets something, and for each that is attached later: when
    /// memory is short. It is apart from what is watched alone.
    pub fn watch_all(&mut self, on: bool) {
        if self.origin.is_here() {
            self.fan_out.watch_all(on);
        }
    }

    /// Calls `call` when a [`Loan`] or the last handle of a [`Filled`] is dropped while [`watch_local`](Self::watch_local) is
    /// on. No lock of this crate is held meanwhile; the thread is the one that drops. It takes the place of an earlier one.
    pub fn on_local_return(&mut self, call: Arc<dyn Fn() + Send + Sync>) {
        if self.origin.is_here() {
            self.returns.on_return(call);
        }
    }

    /// Asks for calls of what [`on_local_return`](Self::on_local_return) was given, or for none any more. Look again after
    /// `watch_local(true)`, as after [`watch`](Self::watch).
    pub fn watch_local(&mut self, on: bool) {
        self.returns.watch(on);
    }

    /// True if a publish would find room now.
    pub fn has_room(&mut self) -> bool {
        self.origin.is_here() && self.fan_out.full().is_empty()
    }

    /// Announces that a thread is going to wait for room or for memory; see the type's documentation.
    pub fn waiter(&self) -> Waiter {
        let links = self.origin.is_here().then(|| self.fan_out.words());
        Waiter::with_returns(links.into_iter().flatten(), &self.returns)
    }

    /// Ends a link in order, as when its subscription has left: what is queued is taken back, what is leased comes back when its
    /// leases end. The subscriber sees the end.
    pub fn detach(&mut self, id: LinkId) {
        if self.origin.is_here() {
            self.fan_out.detach(id);
            self.ring_last(id);
        }
    }

    /// Takes back everything that a link holds, and ends it. Threads that wait for room there look again.
    ///
    /// Call it only when the subscriber's process is dead, all of its threads: only then it cannot read any more what is
    /// written next. `None` if the link is gone already.
    pub fn reap(&mut self, id: LinkId) -> Option<Reaped> {
        if !self.origin.is_here() {
            return None;
        }
        self.ring_last(id);
        self.fan_out.reap(id)
    }

    fn ring_last(&mut self, id: LinkId) {
        // The last words of a link wake its driver, so that it sees the end.
        if let Some(ringer) = self.fan_out.take_ringer(id) {
            ringer.ring();
        }
    }

    /// The live links.
    pub fn links(&self) -> Vec<LinkId> {
        self.fan_out.live().map(|(id, _)| id).collect()
    }

    /// Links whose subscribers do not keep to the protocol. They get nothing any more, and what they hold stays with them until
    /// they are reaped.
    pub fn faulted(&self) -> Vec<LinkId> {
        self.fan_out.faulted()
    }

    /// How many samples wait in a link's queue, and how many are leased. `None` if the link is gone, or not believed.
    pub fn link_counts(&mut self, id: LinkId) -> Option<(usize, usize)> {
        if !self.origin.is_here() {
            return None;
        }
        self.fan_out.link_counts(id)
    }

    /// What all slots are used for. It looks at every slot: for people and tests.
    pub fn counts(&mut self) -> SlotCounts {
        if !self.origin.is_here() {
            return SlotCounts::default();
        }
        self.take_returned();
        self.fan_out.counts()
    }

    /// How many bytes of shared memory its segments have.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The subscribers see the end after what is queued.
impl Drop for Endpoint {
    fn drop(&mut self) {
        if !self.origin.is_here() {
            return;
        }
        for (_, half) in self.fan_out.live() {
            half.close();
        }
        self.ring();
    }
}
