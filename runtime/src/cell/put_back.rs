//! Messages that a handler sets aside, and puts back before those that came later.
//!
//! A message that is set aside counts as queued: `received = handled + dropped + queued` holds all the time. It holds no
//! place of the mailbox, and takes none when it is put back, because the stash has a capacity of its own.
//!
//! | a message that                                   | set aside                | put back    | handled again | at the end of the processor |
//! |--------------------------------------------------|--------------------------|-------------|---------------|-----------------------------|
//! | came by the mailbox, and is handled now          | `handled` is one less    | no change   | `handled + 1` | `dropped + 1`               |
//! | did not (a timer's, a subscription's, made here) | `received` is one more   | no change   | `handled + 1` | `dropped + 1`               |

use super::{Cell, Local};
use crate::dead_letters::DropCause;
use crate::exit::Exit;
use crate::parcel::Envelope;
use crate::processor::Processor;
use crate::queue::Items as _;
use crate::sync::Relaxed;
use std::sync::Arc;

impl<P: Processor> Cell<P> {
    /// The message that is being handled is set aside.
    pub(crate) fn count_set_aside(&self, local: &mut Local<P>) {
        if std::mem::take(&mut local.by_mail) {
            // One writer, as for every count of the driver's.
            let handled = &self.counters().handled;
            handled.store(handled.load(Relaxed) - 1, Relaxed);
        } else {
            self.lanes().lock().received += 1;
        }
    }

    /// Puts what was set aside before everything that waits in the normal lane.
    pub(crate) fn put_back(
        self: &Arc<Self>,
        local: &mut Local<P>,
        envelopes: impl ExactSizeIterator<Item = Envelope<P>>,
    ) {
        if envelopes.len() == 0 {
            return;
        }
        local.put_back += envelopes.len();
        let mut newer = std::mem::take(&mut local.batch);
        envelopes.for_each(|envelope| local.batch.push_back(envelope));
        while !newer.is_empty() {
            newer.move_front(&mut local.batch);
        }
        // Inside a visit the cell is scheduled, or finds at its end what is in the batch. A script that reaches into its
        // processor between two visits has to see to the next one.
        let schedule = self.lanes().lock().schedule_for_message();
        if schedule {
            self.schedule();
        }
    }

    /// What was set aside will not be handled: its processor has ended.
    pub(crate) fn drop_set_aside(&self, envelopes: impl ExactSizeIterator<Item = Envelope<P>>) {
        let exit = {
            let mut lanes = self.lanes().lock();
            let exit = lanes.ended().cloned();
            lanes.drops(cause_of(exit.as_ref()), envelopes.len() as u64);
            exit
        };
        for envelope in envelopes {
            self.dead_letter(envelope, cause_of(exit.as_ref()), exit.as_ref());
        }
    }
}

fn cause_of(exit: Option<&Exit>) -> DropCause {
    match exit {
        Some(Exit::Stopped) => DropCause::Stopped,
        _ => DropCause::Killed,
    }
}
