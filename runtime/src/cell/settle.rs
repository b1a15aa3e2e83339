//! After a message: what it could not send, and faults.

use super::{AnyCell as _, Body, Cell, Local};
use crate::context::{Cx, Promise};
use crate::driver::Due;
use crate::error::Fault;
use crate::mailbox::Signals;
use crate::processor::Processor;
use crate::sync::Relaxed;
use crate::{current, hook, waits_for};
use std::sync::Arc;
use std::task::{Wake, Waker};

impl<P: Processor> Cell<P> {
    /// Delivers what is in the outbox, and stalls if something is left.
    pub(super) fn settle(self: &Arc<Self>, body: &mut Body<'_, P>) {
        if let Some(processor) = body.processor {
            self.settle_parts(processor, body.local);
        }
    }

    #[inline(never)]
    pub(super) fn settle_parts(self: &Arc<Self>, processor: &mut P, local: &mut Local<P>) {
        self.settle_with(Some(processor), local);
    }

    /// Without a processor, between two incarnations, nobody is told of faults.
    pub(super) fn settle_with(self: &Arc<Self>, processor: Option<&mut P>, local: &mut Local<P>) {
        // The outbox is taken out of the thread's hands while user code (drops, `on_error`) may run.
        let taken = current::with_handling(|h| {
            h.map(|h| (std::mem::take(&mut h.outbox), std::mem::take(&mut h.faults)))
        });
        let given_up = current::with_handling(|h| h.map_or(0, |h| std::mem::take(&mut h.given_up)));
        self.count_outbox_drops(given_up);
        let Some((mut outbox, mut faults)) = taken else {
            return;
        };
        if outbox.is_empty() && !local.stalled {
            self.report_faults(faults, processor, local);
            return;
        }
        let waker = local
            .waker
            .get_or_insert_with(|| Waker::from(Arc::new(RoomWaker(self.clone()))))
            .clone();
        let (blocked_on, deadline, left) = loop {
            let flushed = outbox.flush(&waker, Some(self.driver.world().now()));
            self.count_outbox_drops(flushed.given_up.len() as u64);
            let left = outbox.len();
            let more = current::with_handling(|h| h.is_some_and(|h| h.put_back(outbox)));
            let given_up = flushed.given_up.into_iter();
            faults.extend(given_up.filter_map(|(_, fault)| fault));
            if !more {
                break (flushed.blocked_on, flushed.deadline, left);
            }
            outbox = current::with_handling(|h| {
                h.map(|h| std::mem::take(&mut h.outbox)).unwrap_or_default()
            });
        };
        if let Some(deadline) = local.outbox_deadline.take() {
            self.driver.cancel_deadline(deadline);
        }
        if left == 0 {
            if std::mem::take(&mut local.stalled) {
                local.pass = false;
                waits_for::cleared(self.id);
                // Messages may have come while none were wanted: the next look under the lock finds them.
                self.flags().own.attention.store(true, Relaxed);
            }
        } else {
            local.stalled = true;
            if let Some(at) = deadline {
                local.outbox_deadline = Some(self.driver.add_deadline(at, Due::Room(self.clone())));
            }
            let may_run = waits_for::stalled(self.clone(), blocked_on, left, local.pass);
            for member in may_run {
                if member.id() == self.id {
                    local.pass = true;
                    self.flags().own.attention.store(true, Relaxed);
                } else {
                    member.signal(Signals::PASS);
                }
            }
        }
        self.report_faults(faults, processor, local);
    }

    fn report_faults(
        self: &Arc<Self>,
        faults: Vec<Fault>,
        mut processor: Option<&mut P>,
        local: &mut Local<P>,
    ) {
        for fault in faults {
            match &mut processor {
                Some(processor) => self.report_fault(fault, processor, local),
                None => {
                    self.count_fault();
                    hook::fault(&self.name, self.last_type(), &fault);
                }
            }
        }
    }

    fn count_outbox_drops(&self, more: u64) {
        if more > 0 {
            self.rarely(|rare| rare.outbox_drops += more);
        }
    }

    pub(crate) fn report_fault(
        self: &Arc<Self>,
        fault: Fault,
        processor: &mut P,
        local: &mut Local<P>,
    ) {
        self.count_fault();
        hook::fault(&self.name, self.last_type(), &fault);
        processor.on_error(fault, &mut Cx::new(self, local, Promise::none()));
    }
}

/// Tells a stalled cell that there may be room for its outbox.
struct RoomWaker<P: Processor>(Arc<Cell<P>>);

impl<P: Processor> Wake for RoomWaker<P> {
    fn wake(self: Arc<Self>) {
        self.0.clone().signal(Signals::ROOM);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.clone().signal(Signals::ROOM);
    }
}
