//! The memory that a subscriber has mapped: one thread hears what the publisher announces, another takes samples.

use crate::error::SegmentError;
use crate::segment::{DataGeometry, DataMap, open_data};
use parking_lot::Mutex;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Weak};

/// The memory of a [`SubscriberLink`](crate::SubscriberLink), which another thread may add to and take from while the link is
/// used: whoever hears what the publisher announces need not wait for whoever takes samples.
///
/// Clones are handles of the same memory. A lease has a share of its own in the segment that it lies in.
#[derive(Clone, Debug, Default)]
pub struct SegmentsHandle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Locked for a look or a change, and never while something is mapped or unmapped.
    maps: Mutex<Vec<Arc<DataMap>>>,
    /// How often `maps` was changed. Written with the lock held.
    changes: AtomicU64,
}

impl SegmentsHandle {
    /// Maps a data segment that the publisher announced. The descriptor is not needed afterwards.
    ///
    /// # Errors
    ///
    /// As [`SubscriberLink::open`](crate::SubscriberLink::open); and if it overlaps with a segment that is there already.
    pub fn add(&self, fd: BorrowedFd<'_>, geometry: DataGeometry) -> Result<(), SegmentError> {
        let map = open_data(fd, geometry)?;
        let numbers = geometry.numbers();
        let overlaps = |other: &Arc<DataMap>| {
            let others = other.geometry().numbers();
            numbers.start < others.end && others.start < numbers.end
        };
        let mut maps = self.0.maps.lock();
        if maps.iter().any(overlaps) {
            return Err(SegmentError::overlap());
        }
        maps.push(Arc::new(map));
        self.0.changed();
        Ok(())
    }

    /// Lets go of the segment that begins with this slot, which the publisher has retired. Tell the publisher when this has
    /// returned: samples are not looked for there any more.
    ///
    /// False if there is no such segment: the publisher does not keep to the protocol. One that retires a segment of which samples
    /// are queued or held does not either, and harms itself: those that are held keep their share of the memory, and those
    /// that are queued are [`Taken::Unannounced`](crate::Taken::Unannounced).
    #[must_use = "false is a violation of the protocol"]
    pub fn remove(&self, first_slot: u32) -> bool {
        let mut maps = self.0.maps.lock();
        let is_it = |map: &Arc<DataMap>| map.geometry().first_slot == first_slot;
        let Some(at) = maps.iter().position(is_it) else {
            return false;
        };
        let map = maps.swap_remove(at);
        self.0.changed();
        drop(maps);
        // It is unmapped here, unless a sample in it is being looked for at this moment, or is held.
        drop(map);
        true
    }
}

impl Shared {
    fn changed(&self) {
        // Release: partner `Known::is_current`. For what the publisher does after it was answered, the answer orders, too.
        self.changes.fetch_add(1, Release);
    }
}

/// What whoever takes samples knows of the memory, so that it needs no lock for each of them. It keeps nothing mapped: what was
/// let go of is gone, however long nothing is taken.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// `changes`, when it looked.
    seen: u64,
    maps: Vec<(DataGeometry, Weak<DataMap>)>,
}

impl Known {
    /// The segment of a slot that is queued. Call it after the entry was read that names the slot.
    ///
    /// It is never one that had the slot's number before, if the publisher keeps to the protocol: the sample was queued after this
    /// side had answered, so after the change that took the old one away, and whoever has read its entry sees that change.
    pub(crate) fn find(&mut self, handle: &SegmentsHandle, slot: u32) -> Option<Arc<DataMap>> {
        if !self.is_current(handle) {
            self.look(handle);
        }
        let mut maps = self.maps.iter();
        let (_, map) = maps.find(|(geometry, _)| geometry.contains(slot))?;
        // None if it is let go of at this moment: then nothing that lies in there is queued.
        map.upgrade()
    }

    /// True if the slot is in one of the segments.
    pub(crate) fn has(&self, handle: &SegmentsHandle, slot: u32) -> bool {
        if self.is_current(handle) {
            let mut maps = self.maps.iter();
            return maps.any(|(geometry, _)| geometry.contains(slot));
        }
        let maps = handle.0.maps.lock();
        maps.iter().any(|map| map.geometry().contains(slot))
    }

    fn is_current(&self, handle: &SegmentsHandle) -> bool {
        // Acquire: partner `Shared::changed`.
        handle.0.changes.load(Acquire) == self.seen
    }

    #[cold]
    fn look(&mut self, handle: &SegmentsHandle) {
        let maps = handle.0.maps.lock();
        self.seen = handle.0.changes.load(Acquire);
        let known = maps.iter().map(|map| (map.geometry(), Arc::downgrade(map)));
        self.maps = known.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::DataSegment;
    use std::os::fd::AsFd;

    fn segment(first_slot: u32, payload_bytes: u32) -> DataSegment {
        let geometry = DataGeometry {
            first_slot,
            slots: 4,
            payload_bytes,
        };
        DataSegment::create(geometry, 0, [0; 16]).unwrap()
    }

    #[test]
    fn what_was_let_go_of_is_not_found_and_not_mapped() {
        let handle = SegmentsHandle::default();
        let mut known = Known::default();
        let add = |segment: &DataSegment| handle.add(segment.as_fd(), segment.geometry());
        let [low, high, larger] = [(0, 256), (4, 256), (2, 512)].map(|(at, b)| segment(at, b));
        add(&low).unwrap();
        add(&high).unwrap();
        assert!(add(&larger).is_err() && known.has(&handle, 5));
        assert_eq!(known.find(&handle, 3).unwrap().geometry(), low.geometry());
        let held = known.find(&handle, 7).unwrap();
        assert!(!handle.remove(1) && handle.remove(0) && handle.remove(4));
        // Nothing was looked for since, and it is gone all the same; but what is held is not.
        let mapped: Vec<_> = known
            .maps
            .iter()
            .map(|(_, map)| map.strong_count())
            .collect();
        assert_eq!(mapped, [0, 1]);
        assert!(!known.has(&handle, 3) && known.find(&handle, 7).is_none());
        add(&larger).unwrap();
        assert_eq!(
            known.find(&handle, 4).unwrap().geometry(),
            larger.geometry()
        );
        assert_eq!(held.geometry(), high.geometry());
        assert!(!handle.remove(0) && handle.remove(2));
    }
}
