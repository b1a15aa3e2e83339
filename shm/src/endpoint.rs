//! One publisher's memory and links: loans are filled, published to every link, and come back.

use crate::bell::Ringer;
use crate::class::{CLASSES, FOURFOLD, class_bytes, class_for, stride};
use crate::error::{SegmentError, SegmentErrorKind};
use crate::fan_out::{FanOut, Guard, LinkId, Queued, Reaped, Refusal, SlotCounts};
use crate::fork::{Forked, Origin};
use crate::header::SlotHeader;
use crate::layout::SLOTS_MAX;
use crate::link::{LinkGeometry, LinkWords, WhenFull};
use crate::loan::{Filled, Loan, Returned, Returns};
use crate::retiring::{Candidate, Retired, choose};
use crate::segment::{DataGeometry, DataSegment};
use crate::slots::{LINKS_MAX, LOCAL};
use crate::sync::{SeqCst, fence};
use crate::waiter::Waiter;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What an endpoint may use.
#[derive(Clone, Copy, Debug)]
pub struct EndpointOptions {
    /// How many bytes of shared memory its segments may have in all. What links that may lose samples can lease comes on top,
    /// so that they cannot hold back the others: for each such link its `leases_max`, times the largest slot that there ever was.
    pub bytes_max: u64,
    /// How many slots it may have at a time. Each link has a word for each of them.
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
/// # Memory
///
/// A segment has slots of one size. When a [`loan`](Self::loan) finds no slot and the budget has no room for more of that size,
/// segments of which nothing is out are *retired*: as few as make room, of sizes that were used longest ago. Every link is
/// asked to let go of them ([`take_retired`](Self::take_retired)), and answers ([`segment_removed`](Self::segment_removed)); then
/// there is room. Until then `loan` says [`Short`](LoanError::Short), and whoever waits for memory is woken by the last answer, or by
/// the end of the last link that owes one.
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
    /// In use, in the order in which they were made.
    segments: Vec<Arc<DataSegment>>,
    next_segment: u64,
    /// Not in use, and still mapped by subscribers.
    retired: Vec<Retired>,
    /// Of both.
    bytes: u64,
    /// The largest slot that there ever was, with its header. Were it the largest in use, to give one back could make the budget
    /// smaller than what is in use.
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
    /// The whole budget has no room for a slot of that size. Waiting does not help.
    TooLarge,
    /// The budget has room for it, but is in use, or is being given back by links. Wait, then try again.
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
            next_segment: 0,
            retired: Vec::new(),
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

    /// All segments in use, in the order of their numbers. New ones are added behind; a subscriber has to have a segment before
    /// it can take what is in there, so announce new ones before publishing.
    pub fn segments(&self) -> &[Arc<DataSegment>] {
        &self.segments
    }

    /// Which links have to be asked to let go of a segment, and of which: its first slot. Each is said once; ask after each
    /// [`loan`](Self::loan), before new segments are announced.
    ///
    /// The subscriber calls [`SegmentsHandle::remove`](crate::SegmentsHandle::remove), and the answer belongs to
    /// [`segment_removed`](Self::segment_removed).
    pub fn take_retired(&mut self) -> Vec<(LinkId, u32)> {
        let mut asked = Vec::new();
        for retired in &mut self.retired {
            let first_slot = retired.segment.geometry().first_slot;
            for (link, was_asked) in &mut retired.waits_for {
                if !std::mem::replace(was_asked, true) {
                    asked.push((*link, first_slot));
                }
            }
        }
        asked
    }

    /// A link's subscriber has let go of the segment that begins with this slot. The last answer makes room, and wakes those who
    /// wait for memory.
    ///
    /// False if the link gets what is queued and was not asked, or has answered before: its subscriber does not keep to the
    /// protocol.
    #[must_use = "false is a violation of the protocol"]
    pub fn segment_removed(&mut self, link: LinkId, first_slot: u32) -> bool {
        if !self.origin.is_here() {
            return true;
        }
        let is_it = |retired: &&mut Retired| retired.segment.geometry().first_slot == first_slot;
        let Some(retired) = self.retired.iter_mut().find(is_it) else {
            return !self.fan_out.is_taker(link);
        };
        let before = retired.waits_for.len();
        retired
            .waits_for
            .retain(|(id, was_asked)| !(*id == link && *was_asked));
        let has_answered = retired.waits_for.len() < before;
        self.let_go_and_tell();
        has_answered || !self.fan_out.is_taker(link)
    }

    /// Lets go of retired segments of which nobody has to say more. True if there were any.
    fn let_go(&mut self) -> bool {
        let (fan_out, bytes) = (&mut self.fan_out, &mut self.bytes);
        let before = self.retired.len();
        self.retired.retain_mut(|retired| {
            // Nothing is queued any more on a link that has ended, and what was queued there lies elsewhere.
            retired.waits_for.retain(|(id, _)| fan_out.is_taker(*id));
            let is_waited_for = !retired.waits_for.is_empty();
            if !is_waited_for {
                let geometry = retired.segment.geometry();
                *bytes -= geometry.bytes() as u64;
                fan_out.slots.forget(geometry.numbers());
            }
            is_waited_for
        });
        self.retired.len() < before
    }

    /// A link has answered, or may have ended: then those who wait look again.
    fn let_go_and_tell(&mut self) {
        if !self.retired.is_empty() && self.let_go() {
            self.returns.tell();
        }
    }

    /// Lends a slot with room for `bytes`. May add a segment: see [`segments`](Self::segments).
    ///
    /// When there is no slot of the size, and the budget has no room for one, it tries in this order:
    ///
    /// 1. a free slot of up to four times the size;
    /// 2. to retire segments of other sizes (see the type's documentation);
    /// 3. a free slot of any larger size;
    /// 4. to take back samples of that size or a larger one that wait in queues of links that may lose them;
    /// 5. to forget what is kept for those who come late, unless memory comes by the second already;
    /// 6. the fourth for samples of any size, if segments can be retired then.
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
        if let Some(slot) = self.fan_out.slots.take(class) {
            return Ok(slot);
        }
        self.fan_out.collect(Some(class));
        if let Some(slot) = self.fan_out.slots.take(class) {
            return Ok(slot);
        }
        self.let_go();
        let mut grown = self.grow(class);
        // A larger one serves before anything is given back: that costs a message to each link and back.
        let near = class..CLASSES.min(class + FOURFOLD + 1);
        if let Some(slot) = self.fan_out.slots.take_from(near) {
            return Ok(slot);
        }
        // If the host has no more memory, room in the budget does not help.
        let can_grow = grown.is_ok();
        let mut comes = can_grow && self.retire_for(class);
        if comes {
            // Perhaps nobody had to be asked.
            grown = self.grow(class);
        }
        if let Some(slot) = self.fan_out.slots.take_from(class..CLASSES) {
            return Ok(slot);
        }
        let fan_out = &mut self.fan_out;
        fan_out.revoke_lossy(class, |slots| slots.has_free_from(class));
        if let Some(slot) = fan_out.slots.take_from(class..CLASSES) {
            return Ok(slot);
        }
        while !comes && self.fan_out.forget_oldest() {
            // What was kept may be leased, too.
            self.fan_out.collect(Some(class));
            if let Some(slot) = self.fan_out.slots.take_from(class..CLASSES) {
                return Ok(slot);
            }
            comes = can_grow && self.retire_for(class);
        }
        comes = comes || can_grow && self.retire_lossy_for(class);
        if comes {
            grown = self.grow(class);
            if let Some(slot) = self.fan_out.slots.take(class) {
                return Ok(slot);
            }
        }
        match grown {
            Err(e) => Err(LoanError::Segment(e)),
            Ok(()) if self.one_bytes(class) <= self.budget(class) => Err(LoanError::Short),
            // One that was added when more was set aside.
            Ok(()) if self.segments.iter().any(|s| holds(s, class)) => Err(LoanError::Short),
            Ok(()) => Err(LoanError::TooLarge),
        }
    }

    /// How many bytes there may be while a slot of this class is one of them.
    fn budget(&self, class: usize) -> u64 {
        let stride = stride(class_bytes(class)) as u64;
        let aside = self.fan_out.lossy_leases() * self.stride_max.max(stride);
        self.options.bytes_max.saturating_add(aside)
    }

    /// The bytes of a segment with one slot of this class.
    fn one_bytes(&self, class: usize) -> u64 {
        geometry(0..1, class_bytes(class)).bytes() as u64
    }

    /// How many bytes are missing for a segment of this class, when all that is retired has been given back; 0 if it is only
    /// numbers for its slots. `None` if nothing is missing.
    fn missing(&self, class: usize) -> Option<u64> {
        let bytes = |retired: &Retired| retired.segment.geometry().bytes() as u64;
        let comes: u64 = self.retired.iter().map(bytes).sum();
        let needed = self.bytes - comes + self.one_bytes(class);
        let missing = needed.saturating_sub(self.budget(class));
        let has_numbers = comes > 0 || !self.unused(1).is_empty();
        (missing > 0 || !has_numbers).then_some(missing)
    }

    fn unused(&self, wanted: u32) -> Range<u32> {
        self.fan_out.slots.unused(wanted, self.options.slots_max)
    }

    fn candidates(&self, is_one: impl Fn(Range<u32>) -> bool) -> Vec<Candidate> {
        let all = self.segments.iter().enumerate();
        let ones = all.filter(|(_, segment)| is_one(segment.geometry().numbers()));
        ones.map(|(index, segment)| {
            let geometry = segment.geometry();
            let class = class_for(geometry.payload_bytes as usize);
            Candidate {
                index,
                bytes: geometry.bytes() as u64,
                last_used: class.map_or(0, |class| self.fan_out.slots.last_used(class)),
            }
        })
        .collect()
    }

    /// Retires segments of which nothing is out, if that makes room for a slot of this class. True if there is room, or it
    /// comes with the answers.
    fn retire_for(&mut self, class: usize) -> bool {
        let Some(bytes) = self.missing(class) else {
            return true;
        };
        let idle = self.candidates(|numbers| self.fan_out.slots.all_free(numbers));
        let Some(chosen) = choose(idle, bytes) else {
            return false;
        };
        for index in chosen.into_iter().rev() {
            let segment = self.segments.remove(index);
            self.fan_out.slots.retire(segment.geometry().numbers());
            let waits_for = self.fan_out.takers().map(|id| (id, false)).collect();
            self.retired.push(Retired { segment, waits_for });
        }
        self.let_go();
        true
    }

    /// The same, and takes back what waits in queues of links that may lose samples: only if that suffices.
    fn retire_lossy_for(&mut self, class: usize) -> bool {
        let Some(bytes) = self.missing(class) else {
            return true;
        };
        let idle = self.candidates(|numbers| self.fan_out.can_be_free(numbers));
        let Some(chosen) = choose(idle, bytes) else {
            return false;
        };
        for index in chosen {
            for slot in self.segments[index].geometry().numbers() {
                self.fan_out.revoke_everywhere(slot);
            }
        }
        // Some of it may have been taken just now.
        self.retire_for(class)
    }

    /// Adds a segment of this class, if the budget has room: as many slots as there are already, at least 64 KiB of them.
    fn grow(&mut self, class: usize) -> Result<(), SegmentError> {
        const SEGMENT_BYTES_MIN: usize = 64 * 1024;
        let payload_bytes = class_bytes(class);
        let stride = stride(payload_bytes);
        let fixed = self.one_bytes(class) - stride as u64;
        let left = self.budget(class).saturating_sub(self.bytes + fixed) / stride as u64;
        let wanted = self.fan_out.slots.of_class(class);
        let slots = wanted
            .max(SEGMENT_BYTES_MIN / stride)
            .max(1)
            .min(usize::try_from(left).unwrap_or(usize::MAX))
            .min(self.options.slots_max as usize);
        if slots == 0 {
            return Ok(());
        }
        let numbers = self.unused(slots as u32);
        if numbers.is_empty() {
            return Ok(());
        }
        let (serial, node) = (self.next_segment, self.options.node);
        let create = |numbers| DataSegment::create(geometry(numbers, payload_bytes), serial, node);
        let first = numbers.start;
        let segment = match create(numbers.clone()) {
            Err(e)
                if numbers.len() > 1 && matches!(e.kind(), SegmentErrorKind::OutOfSharedMemory) =>
            {
                // Perhaps there is room for one.
                create(first..first + 1)?
            }
            made => made?,
        };
        self.next_segment += 1;
        self.bytes += segment.geometry().bytes() as u64;
        self.stride_max = self.stride_max.max(stride as u64);
        self.fan_out.slots.add(class, segment.geometry().numbers());
        self.segments.push(Arc::new(segment));
        Ok(())
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
        if !refused.is_empty() {
            self.let_go_and_tell();
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
        let queued = self.fan_out.queue(link, slot, guard, |slots| {
            if filled.becomes_local() {
                let generation = slots.send(slot);
                slots.hold(slot, LOCAL);
                // The length of a loan is at most its capacity, which has 32 bits.
                let words = filled.segment().data().header(slot);
                header.store(words, generation, filled.len() as u32);
                crate::points::reach("publisher: filled");
            }
        });
        if matches!(queued, Queued::Overflowed | Queued::Gone { .. }) {
            self.let_go_and_tell();
        }
        queued
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
            self.let_go_and_tell();
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
        let reaped = self.fan_out.reap(id);
        self.let_go_and_tell();
        reaped
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

    /// How many bytes of shared memory its segments have, those with them that are being given back.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn geometry(numbers: Range<u32>, payload_bytes: usize) -> DataGeometry {
    DataGeometry {
        first_slot: numbers.start,
        slots: numbers.end - numbers.start,
        payload_bytes: payload_bytes as u32,
    }
}

/// True if the segment's slots are of this class or a larger one.
fn holds(segment: &DataSegment, class: usize) -> bool {
    segment.geometry().payload_bytes as usize >= class_bytes(class)
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
