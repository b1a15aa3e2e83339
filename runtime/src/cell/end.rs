//! The end of a processor.

use super::{Body, Cell, Watcher, panic_message};
use crate::context::{Cx, Promise};
use crate::dead_letters::DropCause;
use crate::exit::{Down, Exit};
use crate::parcel::Envelope;
use crate::parcels::Parcels;
use crate::processor::Processor;
use crate::queue::Items as _;
use crate::sync::Release;
use crate::timers::Timers;
use crate::{hook, waits_for};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

impl<P: Processor> Cell<P> {
    pub(super) fn dead_letter(&self, envelope: Envelope<P>, cause: DropCause, exit: Option<&Exit>) {
        let message_type = envelope.message_type();
        hook::dropped(&self.name, message_type, cause);
        // The message's drop, and telling its caller, are the user's code.
        let message =
            catch_unwind(AssertUnwindSafe(|| envelope.discard(cause, exit))).unwrap_or(None);
        self.driver.runtime().dead_letters.record(
            (Some(self.id), self.name.clone()),
            message_type,
            cause,
            self.driver.world().now(),
            message,
        );
    }

    /// Calls `stopped`, once. What it sends is delivered if there is room; an orderly end waits for the rest (see `serve`).
    pub(super) fn say_farewell(self: &Arc<Self>, body: &mut Body<'_, P>, exit: &Exit) {
        if std::mem::replace(&mut body.local.farewell, true) {
            return;
        }
        self.drop_tasks(body, Some(exit));
        self.open(body.local);
        let stopped = catch_unwind(AssertUnwindSafe(|| {
            if let Some(processor) = &mut body.processor {
                let _span = hook::handling(&self.name, "stopped", hook::Cause::none());
                processor.stopped(exit, &mut Cx::new(self, body.local, Promise::none()));
            }
            self.settle(body);
        }));
        if let Err(payload) = stopped {
            let message = panic_message(&*payload);
            hook::panic(&self.name, "stopped", &message);
            crate::context::tell_unwound(&message);
        }
        self.close_visit(body);
    }

    /// Takes no more messages; what is queued becomes dead letters. With `ended` the processor has ended, and those who
    /// watch it are returned.
    pub(super) fn close_mailbox(
        &self,
        body: &mut Body<'_, P>,
        exit: &Exit,
        ended: bool,
    ) -> Vec<Watcher> {
        let cause = if matches!(exit, Exit::Stopped) {
            DropCause::Stopped
        } else {
            DropCause::Killed
        };
        let mut left: Vec<Envelope<P>> = Vec::new();
        move_all(&mut body.local.batch, &mut left);
        let (wake, watchers) = {
            let mut lanes = self.lanes().lock();
            let mut wake = lanes.normal.close(self.flags());
            lanes.normal.abandon_batch(self.flags());
            move_all(&mut lanes.normal.drain(), &mut left);
            let rare = lanes.rare();
            if let Some(high) = rare.high.as_mut() {
                wake.extend(high.queue.close(&high.progress));
                move_all(&mut high.queue.drain(), &mut left);
            }
            rare.drops.add(cause, left.len() as u64);
            if ended {
                rare.ended = Some(exit.clone());
                (wake, std::mem::take(&mut rare.watchers))
            } else {
                (wake, Vec::new())
            }
        };
        wake.into_iter().for_each(Waker::wake);
        for envelope in left {
            self.dead_letter(envelope, cause, Some(exit));
        }
        watchers
    }

    /// The end of the processor, on its driver's thread.
    pub(super) fn end_for_good(self: &Arc<Self>, body: &mut Body<'_, P>, exit: Exit) {
        if !body.begin_to_end() {
            return;
        }
        if !matches!(exit, Exit::Panicked(_)) {
            self.say_farewell(body, &exit);
        }
        self.drop_tasks(body, Some(&exit));
        let watchers = self.close_mailbox(body, &exit, true);
        let local = &mut *body.local;
        let control = {
            let mut lanes = self.lanes().lock();
            std::mem::take(&mut lanes.rare().control)
        };
        // From here on, dropping things runs user code that might panic; the end goes on all the same.
        let control = (control, std::mem::take(&mut local.control));
        self.quietly("drop", || drop(control));
        self.quietly("drop", || local.timers.clear(&self.driver));
        if let Some(deadline) = local.outbox_deadline.take() {
            self.driver.cancel_deadline(deadline);
        }
        let abandoned = local.outbox.abandon(DropCause::SenderEnded);
        local.outbox_counted = 0;
        self.rarely(|rare| {
            rare.outbox_drops += abandoned as u64;
            rare.outbox = 0;
        });
        if std::mem::take(&mut local.stalled) {
            waits_for::cleared(self.id);
        }
        for slot in std::mem::take(&mut local.lanes) {
            if let Some(mut lane) = slot.lane {
                self.quietly("drop", || lane.end());
                self.quietly("drop", || drop(lane));
            }
        }
        let continuations = std::mem::take(&mut local.continuations);
        self.quietly("drop", || drop(continuations));
        let extensions = std::mem::take(&mut local.extensions);
        self.quietly("drop", || drop(extensions));
        let timers = std::mem::replace(&mut local.timers, Timers::new());
        self.quietly("drop", || drop(timers));
        local.waker = None;
        let processor = body.processor.take();
        self.quietly("drop", || drop(processor));
        self.drop_factory();
        // A handler that panicked has left its visit half way.
        self.counters().since.store(0, Release);
        hook::ended(&self.name, &exit);
        self.driver.runtime().processor_ended(&**self, || {
            let mut lanes = self.lanes().lock();
            lanes.rare().filed = true;
            self.snapshot_of(&lanes)
        });
        let down = Down {
            id: self.id,
            name: self.name.clone(),
            exit,
        };
        for watcher in watchers {
            let down = down.clone();
            self.quietly("watch", || (watcher.tell)(down));
        }
        self.driver.disown(&**self);
    }
}

fn move_all<P: Processor>(from: &mut Parcels<P>, to: &mut Vec<Envelope<P>>) {
    while let Some(envelope) = from.pop_front() {
        to.push(envelope);
    }
}
