//! Sends from inside a handler that find no room: they go to the handler's outbox.

use crate::address::Address;
use crate::current;
use crate::dead_letters::DropCause;
use crate::error::Fault;
use crate::outbox::{Attempt, OUTBOX_CAPACITY, OutboxKey, Undelivered};
use crate::parcel::Parcel;
use crate::processor::Processor;
use crate::queue::{Reserve, Waiter};
use crate::runtime::RuntimeCore;
use crate::sends::Sender;
use crate::waits_for::Keeper;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Puts a parcel into the outbox of the handler that the thread is in. Gives it back if the outbox is at its cap, or if
/// there is no handler.
pub(crate) fn spill<P: Processor, D: Parcel<P>>(
    address: &Address<P>,
    parcel: D,
    limit: Option<Duration>,
) -> Result<(), D> {
    let runtime = address.runtime();
    let now = runtime.world.now();
    let deadline = now.checked_add(limit.unwrap_or(runtime.options.send_limit));
    make_room_in_outbox(runtime, deadline);
    current::with_handling(|h| match h {
        Some(h) if h.outbox.len() < OUTBOX_CAPACITY => {
            let entry = Spilled {
                sender: Sender::Processor(h.id),
                target: address.clone(),
                ticket: Waiter::default(),
                parcel: Some(parcel),
            };
            h.outbox.push(address.key(), Box::new(entry), deadline);
            Ok(())
        }
        _ => Err(parcel),
    })
}

/// On a driver that serves one processor alone, a full outbox makes the thread wait.
pub(crate) fn make_room_in_outbox(runtime: &RuntimeCore, deadline: Option<Instant>) {
    let taken = current::with_handling(|h| {
        h.filter(|h| h.may_block && h.outbox.len() >= OUTBOX_CAPACITY)
            .map(|h| std::mem::take(&mut h.outbox))
    });
    if let Some(mut outbox) = taken {
        let faults = outbox.block_until_below(OUTBOX_CAPACITY, runtime, deadline);
        current::with_handling(|h| {
            if let Some(h) = h {
                h.put_back(outbox);
                h.faults.extend(faults);
            }
        });
    }
}

/// Puts something that found no room into the outbox of the handler that the thread is in. It is tried again until
/// `limit` has passed.
///
/// For layers that deliver in their own way.
///
/// # Errors
///
/// Gives it back, undelivered, if the thread is in no handler, or the outbox is at its cap ([`OUTBOX_CAPACITY`]).
pub fn spill_undelivered(
    runtime: &crate::Runtime,
    key: OutboxKey,
    what: Box<dyn Undelivered>,
    limit: Duration,
) -> Result<(), Box<dyn Undelivered>> {
    let core = runtime.core();
    let deadline = core.world.now().checked_add(limit);
    make_room_in_outbox(core, deadline);
    current::with_handling(|h| match h {
        Some(h) if h.outbox.len() < OUTBOX_CAPACITY => {
            h.outbox.push(key, what, deadline);
            Ok(())
        }
        _ => Err(what),
    })
}

/// True if the handler that the thread is in has something under `key` in its outbox: what comes later must stand behind.
pub fn outbox_holds(key: OutboxKey) -> bool {
    current::outbox_holds(key)
}

/// A parcel in an outbox.
struct Spilled<P: Processor, D: Parcel<P>> {
    /// Whose message it stays, whoever's thread delivers it.
    sender: Sender,
    target: Address<P>,
    ticket: Waiter,
    parcel: Option<D>,
}

impl<P: Processor, D: Parcel<P>> Undelivered for Spilled<P, D> {
    fn attempt(&mut self, waker: &Waker) -> Attempt {
        let cell = &self.target.cell;
        let (lane, ticket) = (self.target.lane, &mut self.ticket);
        match cell.poll_push(self.sender, lane, ticket, waker, &mut self.parcel) {
            Reserve::Granted => Attempt::Delivered,
            Reserve::Full => Attempt::Blocked(Some(Keeper::of(&**cell))),
            Reserve::Closed => Attempt::Ended,
        }
    }

    fn give_up(mut self: Box<Self>, cause: DropCause) -> Option<Fault> {
        let cell = &self.target.cell;
        cell.resign(self.target.lane, &mut self.ticket);
        let parcel = self.parcel.take()?;
        let message_type = D::message_type();
        crate::hook::dropped(&cell.name, message_type, cause);
        let exit = cell.ended();
        let message = parcel.discard(cause, exit.as_ref());
        self.target.runtime().dead_letters.record(
            (Some(cell.id), cell.name.clone()),
            message_type,
            cause,
            self.target.runtime().world.now(),
            message,
        );
        None
    }
}
