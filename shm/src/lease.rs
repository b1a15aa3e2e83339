//! What a subscriber reads in place, and the subscriber's side of a link with its memory.

use crate::bell::Ringer;
use crate::error::{SegmentError, Violation};
use crate::header::SlotHeader;
use crate::link::{Held, LinkEnd, LinkGeometry, LinkWords, SubscriberHalf, Took};
use crate::mapped::{Known, SegmentsHandle};
use crate::segment::{DataGeometry, DataMap};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A subscription's side of a link to one publisher.
#[derive(Debug)]
pub struct SubscriberLink {
    half: SubscriberHalf,
    segments: SegmentsHandle,
    known: Known,
    violation: Option<Violation>,
}

/// What an attempt to take gave.
#[derive(Debug)]
pub enum Taken {
    /// The oldest queued sample.
    Sample(Lease),
    /// Nothing is queued.
    Empty,
    /// Something is queued, and as many samples are held as may be: the next is taken when one of them is let go. See
    /// [`SubscriberLink::on_lease_return`].
    LeaseLimit,
    /// The oldest queued sample is in a segment that was not announced yet: [`SubscriberLink::add_segment`] has to come
    /// first.
    Unannounced {
        /// The slot that is in none of the segments.
        slot: u32,
    },
    /// Nothing is queued, and nothing will be.
    End(LinkEnd),
}

impl SubscriberLink {
    /// Maps a link that a publisher made. The geometry is what was agreed in the handshake. The descriptor is not needed
    /// afterwards.
    ///
    /// # Errors
    ///
    /// The geometry is out of range, the file is not sealed or has another length, or it cannot be mapped.
    pub fn open(fd: BorrowedFd<'_>, geometry: LinkGeometry) -> Result<Self, SegmentError> {
        let words = LinkWords::open(fd, geometry)?;
        Ok(Self {
            half: SubscriberHalf::new(Arc::new(words)),
            segments: SegmentsHandle::default(),
            known: Known::default(),
            violation: None,
        })
    }

    /// Its memory, for whoever hears what the publisher announces.
    pub fn segments(&self) -> SegmentsHandle {
        self.segments.clone()
    }

    /// See [`SegmentsHandle::add`].
    ///
    /// # Errors
    ///
    /// The same.
    pub fn add_segment(
        &mut self,
        fd: BorrowedFd<'_>,
        geometry: DataGeometry,
    ) -> Result<(), SegmentError> {
        self.segments.add(fd, geometry)
    }

    /// See [`SegmentsHandle::remove`].
    #[must_use = "false is a violation of the protocol"]
    pub fn remove_segment(&mut self, first_slot: u32) -> bool {
        self.segments.remove(first_slot)
    }

    /// True if [`take`](Self::take) may have something to say that it did not say before. It is what a driver asks between
    /// [`Bell::about_to_sleep`](crate::Bell::about_to_sleep) and waiting.
    ///
    /// False after [`Taken::LeaseLimit`] until a lease is dropped, and after [`Taken::Unannounced`] until a segment is added or
    /// the publisher has taken that sample back.
    pub fn has_news(&self) -> bool {
        let known = |slot| self.known.has(&self.segments, slot);
        self.violation.is_none()
            && self.half.is_here()
            && self.half.has_news()
            && !self.half.waits_for_memory(known)
    }

    /// How many samples are queued and not taken yet: at most so many, since some may have been taken back by the publisher. 0
    /// if what the publisher says about it makes no sense.
    pub fn queued(&self) -> usize {
        if self.violation.is_some() || !self.half.is_here() {
            return 0;
        }
        self.half.queued() as usize
    }

    /// Rings `ringer`, a bell of the publisher's process, whenever a sample was taken or a lease was dropped while the
    /// publisher [watches](crate::Endpoint::watch) the link. Leases that were taken before ring it, too, and from any thread.
    /// It takes the place of an earlier one.
    pub fn ring_on_return(&mut self, ringer: Ringer) {
        if self.half.is_here() {
            self.half.ring_on_return(ringer);
        }
    }

    /// Calls `call` when a lease is dropped after [`take`](Self::take) said [`Taken::LeaseLimit`]: once for each time that it
    /// was said, or less often if it was said twice in a row. No lock of this crate is held meanwhile; the thread is the one
    /// that drops the lease. It takes the place of an earlier one.
    pub fn on_lease_return(&mut self, call: Arc<dyn Fn() + Send + Sync>) {
        self.half.on_lease_return(call);
    }

    /// The whole process of the publisher is dead. What is queued can still be taken; then `take` says
    /// [`LinkEnd::PublisherDied`], unless the publisher had ended the link before.
    ///
    /// Add the segments that it announced first: samples in others are missed from now on.
    pub fn publisher_ended(&mut self) {
        self.half.publisher_ended();
    }

    /// How many samples are held.
    pub fn leases(&self) -> u32 {
        self.half.leases()
    }

    /// The end, if nothing is queued and nothing will be: what [`take`](Self::take) would say, but it takes no sample that comes
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn take_end(&mut self) -> Result<Option<LinkEnd>, Violation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        if !self.half.is_here() {
            return Ok(Some(LinkEnd::Forked));
        }
        let end = self.half.take_end();
        if let Err(violation) = end {
            self.violation = Some(violation);
        }
        end
    }

    /// Takes the oldest queued sample.
    ///
    /// Samples come in the order in which they were published. Those that were revoked, or never queued because the link was
    /// full, are counted in [`Lease::gap`] of the next one.
    ///
    /// # Errors
    ///
    /// The publisher does not keep to the protocol. The link is not looked at any more: every later call says the same.
    pub fn take(&mut self) -> Result<Taken, Violation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        if !self.half.is_here() {
            return Ok(Taken::End(LinkEnd::Forked));
        }
        let taken = self.take_unless_broken();
        if let Err(violation) = &taken {
            self.violation = Some(*violation);
        }
        taken
    }

    fn take_unless_broken(&mut self) -> Result<Taken, Violation> {
        let mut found = None;
        // Found before the sample is taken, and after its entry was read: in between its slot is not free, so its segment is not
        // retired, and this is the memory in which it was queued (`retiring.rs`).
        let took = self.half.take(|slot| {
            found = self.known.find(&self.segments, slot);
            found.is_some()
        })?;
        let (held, gap) = match took {
            Took::Held(held, gap) => (held, gap),
            Took::Empty => return Ok(Taken::Empty),
            Took::LeaseLimit => return Ok(Taken::LeaseLimit),
            Took::Unannounced(slot) => return Ok(Taken::Unannounced { slot }),
            Took::End(end) => return Ok(Taken::End(end)),
        };
        let data = found.expect("only known slots are taken");
        let (header, bytes) = SlotHeader::load(data.header(held.slot()));
        if bytes > data.geometry().payload_bytes {
            return Err(Violation::Length);
        }
        Ok(Taken::Sample(Lease {
            data,
            held,
            bytes: bytes as usize,
            header,
            gap,
        }))
    }
}

/// A sample that is read where its publisher wrote it. Dropping it gives the slot back, in any order, from any thread.
///
/// It stays valid when its link, its subscription or its publisher are gone.
pub struct Lease {
    /// Dropped before `held`: when the publisher sees that the lease has ended, and perhaps retires the segment, this share of
    /// it is gone.
    data: Arc<DataMap>,
    held: Held,
    bytes: usize,
    header: SlotHeader,
    gap: u64,
}

impl Lease {
    /// What its publisher says about it.
    pub fn header(&self) -> &SlotHeader {
        &self.header
    }

    /// How many samples that were offered to this subscription, since the one taken before, did not arrive.
    pub fn gap(&self) -> u64 {
        self.gap
    }

    /// Its number among those queued on this link, from 0.
    pub fn sequence(&self) -> u64 {
        self.held.sequence()
    }

    /// The payload, where the publisher wrote it.
    ///
    /// Reading in place trusts the publisher (see the crate's premises): use it for types for which every bit pattern is
    /// valid, or check what you read as you read it once. For a publisher that is not trusted there is
    /// [`copy_into`](Self::copy_into).
    ///
    /// In a child made by `fork` it is empty.
    pub fn payload(&self) -> &[u8] {
        if !self.held.is_here() {
            return &[];
        }
        let start = self.data.payload(self.held.slot());
        // SAFETY: `start` has `payload_bytes` bytes of mapped, sealed memory, `bytes` is not more (checked when it was
        // taken), and `data` keeps the mapping. The bytes were written before the Release of `tail`, which `take` acquired.
        // `held` has set the cell to LEASED under this very sequence: by the protocol the publisher does not write to the slot
        // until it is dropped, and no other process can write to it at all. `data` is the segment in which it was queued, not
        // one that had the same numbers before (`retiring.rs`). That the publisher keeps to the protocol is the crate's first
        // premise.
        unsafe { std::slice::from_raw_parts(start, self.bytes) }
    }

    /// Copies the payload into `buffer`, which is emptied first. What is copied does not change any more, whatever the
    /// publisher does.
    pub fn copy_into(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        if !self.held.is_here() {
            return;
        }
        buffer.reserve(self.bytes);
        let start = self.data.payload(self.held.slot());
        let words = self.bytes / 8;
        for i in 0..words {
            // SAFETY: inside the payload, as in `payload`, and aligned, since a payload starts at a line. Volatile: it is read
            // once, and the compiler assumes nothing about what another process may do to it meanwhile.
            let word = unsafe { start.cast::<u64>().add(i).read_volatile() };
            buffer.extend_from_slice(&word.to_ne_bytes());
        }
        for i in words * 8..self.bytes {
            // SAFETY: as above.
            buffer.push(unsafe { start.add(i).read_volatile() });
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, bytes) = (&self.held, self.bytes);
        write!(f, "Lease({held:?}, {bytes} bytes)")
    }
}
