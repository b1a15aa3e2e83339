//! How messages, signals and control reach a cell, from any thread.

use super::Cell;
use crate::dead_letters::DropCause;
use crate::driver::Marked;
use crate::exit::Exit;
use crate::mailbox::{Control, Lane, Lanes};
use crate::parcel::{Envelope, Numbered, Parcel};
use crate::processor::Processor;
use crate::queue::{Admit, Reserve, Waiter, WhenFull};
use crate::sends::Sender;
use crate::sync::{MutexGuard, Relaxed};
use std::sync::Arc;
use std::task::Waker;

/// Why a message was not queued; the parcel comes back.
pub(crate) enum Refused<D> {
    Full(D),
    Closed(D),
}

impl<P: Processor> Cell<P> {
    /// Queues a parcel, or says why not. Never waits.
    #[inline]
    pub(crate) fn offer<D: Parcel<P>>(
        self: &Arc<Self>,
        lane: Lane,
        parcel: D,
        final_try: bool,
    ) -> Result<(), Refused<D>> {
        self.offer_by(Sender::Here, lane, parcel, final_try)
    }

    /// As [`offer`](Self::offer), on behalf of somebody.
    #[inline]
    pub(crate) fn offer_by<D: Parcel<P>>(
        self: &Arc<Self>,
        sender: Sender,
        lane: Lane,
        parcel: D,
        final_try: bool,
    ) -> Result<(), Refused<D>> {
        let mut lanes = self.lanes().lock();
        // The common case, as short as it can be: what is done here is done with the lock held.
        if lane == Lane::Normal
            && lanes.normal.has_room(self.flags())
            && self.driver.marks().is_none()
        {
            lanes.normal.insert_with(|parcels| parcels.push(parcel));
            lanes.received += 1;
            let schedule = lanes.schedule_for_message();
            drop(lanes);
            if schedule {
                self.schedule();
            }
            return Ok(());
        }
        self.offer_slowly(lanes, sender, lane, parcel, final_try)
    }

    fn offer_slowly<D: Parcel<P>>(
        self: &Arc<Self>,
        mut lanes: MutexGuard<'_, Lanes<P>>,
        sender: Sender,
        lane: Lane,
        parcel: D,
        final_try: bool,
    ) -> Result<(), Refused<D>> {
        let (queue, progress) = lanes.queue(lane, self.flags());
        let evicted = match queue.admit(progress) {
            Admit::Room => None,
            Admit::Evicted(oldest) => {
                lanes.drops(DropCause::Evicted, 1);
                Some(oldest)
            }
            Admit::Drop => {
                lanes.received += 1;
                lanes.drops(DropCause::NoRoom, 1);
                self.note_sender(self.driver.marks(), sender);
                drop(lanes);
                self.dead_letter(Envelope::new(parcel), DropCause::NoRoom, None);
                return Ok(());
            }
            Admit::Full => {
                if final_try {
                    self.count_returned_in(&mut lanes);
                }
                return Err(Refused::Full(parcel));
            }
            Admit::Closed => {
                if final_try {
                    self.count_returned_in(&mut lanes);
                }
                return Err(Refused::Closed(parcel));
            }
        };
        self.insert(lanes, sender, lane, parcel);
        if let Some(oldest) = evicted {
            self.dead_letter(oldest, DropCause::Evicted, None);
        }
        Ok(())
    }

    /// Queues a parcel for which there is a place, and sees to it that the driver comes.
    #[inline]
    fn insert<D: Parcel<P>>(
        self: &Arc<Self>,
        mut lanes: MutexGuard<'_, Lanes<P>>,
        sender: Sender,
        lane: Lane,
        parcel: D,
    ) {
        let (queue, _) = lanes.queue(lane, self.flags());
        let marks = self.driver.marks();
        if marks.is_none() {
            queue.insert_with(|parcels| parcels.push(parcel));
        } else {
            match self.driver.next_arrival() {
                None => queue.insert_with(|parcels| parcels.push(parcel)),
                Some(arrival) => {
                    queue.insert_with(|parcels| parcels.push(Numbered { arrival, parcel }))
                }
            }
            self.note_sender(marks, sender);
        }
        lanes.received += 1;
        let schedule = lanes.schedule_for_message();
        drop(lanes);
        if lane == Lane::High {
            self.flags().own.attention.store(true, Relaxed);
        }
        if schedule {
            self.schedule();
        }
    }

    /// While somebody watches who sends to whom: under the mailbox's lock, so that whoever handles the message finds it counted.
    fn note_sender(&self, marks: Marked, sender: Sender) {
        if marks.has(Marked::WATCHED) {
            let sends = &self.driver.runtime().sends;
            sends.count(sender.id(), self.id, &self.name);
        }
    }

    /// Queues a parcel when there is room for it, standing in line meanwhile. `parcel` is taken when it is queued.
    pub(crate) fn poll_push<D: Parcel<P>>(
        self: &Arc<Self>,
        sender: Sender,
        lane: Lane,
        ticket: &mut Waiter,
        waker: &Waker,
        parcel: &mut Option<D>,
    ) -> Reserve {
        let mut lanes = self.lanes().lock();
        let (queue, progress) = lanes.queue(lane, self.flags());
        let reserve = queue.poll_reserve(ticket, waker, progress);
        if reserve != Reserve::Granted {
            drop(lanes);
            ticket.tidy();
            return reserve;
        }
        let Some(parcel) = parcel.take() else {
            return Reserve::Granted;
        };
        lanes.queue(lane, self.flags()).0.use_reserved();
        self.insert(lanes, sender, lane, parcel);
        Reserve::Granted
    }

    /// Reserves a place without using it.
    pub(crate) fn poll_reserve(&self, lane: Lane, ticket: &mut Waiter, waker: &Waker) -> Reserve {
        let mut lanes = self.lanes().lock();
        let (queue, progress) = lanes.queue(lane, self.flags());
        let reserve = queue.poll_reserve(ticket, waker, progress);
        drop(lanes);
        ticket.tidy();
        reserve
    }

    /// Reserves a place without using it, and without standing in line.
    pub(crate) fn try_reserve(&self, lane: Lane) -> Reserve {
        let mut lanes = self.lanes().lock();
        let (queue, progress) = lanes.queue(lane, self.flags());
        queue.try_reserve(progress)
    }

    /// Uses a reserved place; the parcel comes back if the processor has ended.
    pub(crate) fn push_reserved<D: Parcel<P>>(
        self: &Arc<Self>,
        lane: Lane,
        parcel: D,
    ) -> Result<(), D> {
        let mut lanes = self.lanes().lock();
        if lanes.queue(lane, self.flags()).0.is_closed() {
            self.count_returned_in(&mut lanes);
            return Err(parcel);
        }
        lanes.queue(lane, self.flags()).0.use_reserved();
        self.insert(lanes, Sender::Here, lane, parcel);
        Ok(())
    }

    pub(crate) fn release_place(&self, lane: Lane) {
        let wake = {
            let mut lanes = self.lanes().lock();
            let (queue, progress) = lanes.queue(lane, self.flags());
            queue.release(progress)
        };
        wake.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn resign(&self, lane: Lane, ticket: &mut Waiter) {
        if !ticket.is_enlisted() {
            return;
        }
        let wake = {
            let mut lanes = self.lanes().lock();
            let (queue, progress) = lanes.queue(lane, self.flags());
            queue.resign(ticket, progress)
        };
        ticket.tidy();
        wake.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn count_returned(&self) {
        let mut lanes = self.lanes().lock();
        self.count_returned_in(&mut lanes);
    }

    /// Once its counts are in the node's sums, what comes later is added there, too. Lock order: mailbox, sums.
    fn count_returned_in(&self, lanes: &mut Lanes<P>) {
        let rare = lanes.rare();
        rare.returned += 1;
        if rare.filed {
            self.driver.runtime().returned_after_the_end();
        }
    }

    /// A message that is queued may be dropped by one that comes later.
    pub(crate) fn evicts(&self) -> bool {
        self.lanes().lock().normal.when_full() == WhenFull::DropOldest
    }

    /// Why it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Exit> {
        self.lanes().lock().ended().cloned()
    }

    /// True if no more messages are taken: it has ended, or is about to.
    pub(crate) fn is_closed(&self) -> bool {
        self.lanes().lock().normal.is_closed()
    }

    /// Adds to the control lane. A cell that has ended gives it back.
    pub(crate) fn control(self: &Arc<Self>, control: Control<P>) -> Result<(), Control<P>> {
        let mut lanes = self.lanes().lock();
        if lanes.ended().is_some() {
            return Err(control);
        }
        lanes.rare().control.push_back(control);
        let schedule = lanes.schedule_for_control();
        drop(lanes);
        self.flags().own.attention.store(true, Relaxed);
        if schedule {
            self.schedule();
        }
        Ok(())
    }

    #[inline]
    pub(super) fn schedule(self: &Arc<Self>) {
        self.driver.enqueue(self);
    }
}
