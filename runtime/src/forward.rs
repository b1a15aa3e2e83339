//! Handing a message on, with the promise of its reply.

use crate::address::Address;
use crate::call::discarded;
use crate::cell::{CellRef, Refused};
use crate::context::{Cx, Promise, ReplySlot};
use crate::current;
use crate::dead_letters::DropCause;
use crate::error::{CallError, Fault};
use crate::exit::Exit;
use crate::hook::{self, Cause};
use crate::parcel::Parcel;
use crate::processor::{Handle, Processor};
use crate::spill::spill;
use crate::waits_for;
use std::any::Any;
use std::sync::Arc;

/// A message on its way by `forward`, with the promise that another processor gave.
struct Forwarded<M, R: 'static> {
    message: M,
    slot: Option<Arc<dyn ReplySlot<R>>>,
    cause: Cause,
}

impl<P: Handle<M>, M: Send + 'static> Parcel<P> for Forwarded<M, P::Reply> {
    fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        let _span = hook::handling(cx.name(), std::any::type_name::<M>(), self.cause);
        cx.handle_for(processor, self.message, Promise::owed(self.slot));
    }

    fn discard(self, _: DropCause, exit: Option<&Exit>) -> Option<Box<dyn Any + Send>> {
        if let Some(slot) = self.slot {
            slot.answer(Err(discarded(exit)));
        }
        Some(Box::new(self.message))
    }

    fn message_type() -> &'static str {
        std::any::type_name::<M>()
    }
}

impl<P: Processor> Address<P> {
    pub(crate) fn send_forwarded<M: Send + 'static>(
        &self,
        message: M,
        slot: Option<Arc<dyn ReplySlot<P::Reply>>>,
    ) where
        P: Handle<M>,
    {
        // Before the message can be handled: its handler may hand it on again.
        let circle = slot.as_ref().and_then(|slot| {
            // What may be evicted can be answered by anybody who sends.
            let owner = (!self.cell.evicts()).then(|| self.cell.clone() as CellRef);
            let is_shown = slot.hand_on(owner);
            is_shown
                .then(|| waits_for::handed_on(Arc::as_ptr(slot).cast()))
                .flatten()
        });
        let parcel = Forwarded {
            message,
            slot,
            cause: Cause::here(),
        };
        if let Some(circle) = circle {
            let error = CallError::Deadlock(circle);
            return self.fail_forwarded(parcel, error, DropCause::Cancelled);
        }
        let behind = current::outbox_holds(self.key());
        let refused = if behind {
            Refused::Full(parcel)
        } else {
            match self.cell.offer(self.lane, parcel, false) {
                Ok(()) => return,
                Err(refused) => refused,
            }
        };
        let (parcel, error, cause) = match refused {
            Refused::Full(parcel) if self.waits() => match spill(self, parcel, None) {
                Ok(()) => return,
                Err(parcel) => (parcel, CallError::Full, DropCause::NoRoom),
            },
            Refused::Full(parcel) => (parcel, CallError::Full, DropCause::NoRoom),
            Refused::Closed(parcel) => {
                let exit = self.cell.ended().unwrap_or(Exit::Stopped);
                (parcel, CallError::Stopped(exit), DropCause::TargetEnded)
            }
        };
        self.fail_forwarded(parcel, error, cause);
    }

    /// Tells whoever waits that the message was not handed on; if nobody does, whoever forwarded it.
    fn fail_forwarded<M: Send + 'static>(
        &self,
        parcel: Forwarded<M, P::Reply>,
        error: CallError,
        cause: DropCause,
    ) where
        P: Handle<M>,
    {
        let Forwarded { message, slot, .. } = parcel;
        if let Some(slot) = slot {
            self.cell.count_returned();
            slot.answer(Err(error));
            return;
        }
        // Nobody waits for it and nobody gets it back: whoever forwarded it is told, and it becomes a dead letter.
        let message_type = std::any::type_name::<M>();
        let name = &self.cell.name;
        let fault = Fault::new(format!(
            "cannot forward {message_type} to {name:?}: {error}"
        ));
        current::with_handling(|h| {
            if let Some(h) = h {
                h.given_up += 1;
                h.faults.push(fault);
            }
        });
        crate::hook::dropped(name, message_type, cause);
        self.runtime().dead_letters.record(
            (Some(self.cell.id), name.clone()),
            message_type,
            cause,
            self.runtime().world.now(),
            Some(Box::new(message)),
        );
    }
}
