//! A visit: the driver's thread serves a cell for up to a quantum of messages.

use super::{After, Body, Cell, Hot, Local, count, panic_message};
use crate::context::{Cx, Promise};
use crate::dead_letters::DropCause;
use crate::exit::Exit;
use crate::mailbox::{Control, Lanes, Signals};
use crate::parcel::Envelope;
use crate::processor::{AfterPanic, Processor};
use crate::queue::Items as _;
use crate::sync::{MutexGuard, Relaxed, Release};
use crate::timers::Timers;
use crate::waits_for::Domain;
use crate::{clock, current, hook};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::Waker;

/// Between two readings of the clock, at most this many messages.
const CLOCK_EVERY: u32 = 16;
/// Of so many high messages in a row, one normal message follows.
const HIGH_RUN: u32 = 16;

/// How a visit is over. It comes out of a `catch_unwind` once a visit, so it is small: two words, which move in registers.
enum Visit {
    Done(After),
    /// It ends in order.
    Stop,
    /// It ends for another reason.
    End(Box<Exit>),
}

enum Step {
    Served,
    Nothing,
}

impl<P: Processor> Cell<P> {
    /// Says that handlers of this processor run on this thread from now on.
    pub(super) fn open(&self, local: &mut Local<P>) {
        let domain = Domain::of(&self.driver, self.id);
        current::enter(self.id, domain, self.driver.is_own(), &mut local.outbox);
        local.by_mail = false;
    }

    #[inline]
    pub(super) fn close_visit(&self, body: &mut Body<'_, P>) {
        let given_up = current::leave(&mut body.local.outbox);
        let outbox = body.local.outbox.len() as u64;
        if given_up > 0 || body.local.outbox_counted != outbox {
            body.local.outbox_counted = outbox;
            self.count_outbox(given_up, outbox);
        }
    }

    #[inline(never)]
    fn count_outbox(&self, given_up: u64, outbox: u64) {
        self.rarely(|rare| {
            rare.outbox_drops += given_up;
            rare.outbox = outbox;
        });
    }

    pub(super) fn start(self: &Arc<Self>, body: &mut Body<'_, P>) {
        if let Some(processor) = &mut body.processor {
            processor.started = true;
        }
        self.open(body.local);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if let Some(processor) = &mut body.processor {
                let _span = hook::handling(&self.name, "started", hook::Cause::none());
                processor.started(&mut Cx::new(self, body.local, Promise::none()))?;
            }
            self.settle(body);
            Ok(())
        }));
        let exit = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => {
                self.count_fault();
                hook::fault(&self.name, "started", &fault);
                Some(Exit::Faulted(fault))
            }
            Err(payload) => {
                let message = panic_message(&*payload);
                self.rarely(|rare| rare.panics += 1);
                hook::panic(&self.name, "started", &message);
                Some(Exit::Panicked(message))
            }
        };
        self.close_visit(body);
        if let Some(exit) = exit {
            self.end(body, exit);
        }
    }

    pub(super) fn serve(self: &Arc<Self>, body: &mut Body<'_, P>, budget: u32) -> (After, u32) {
        let mut served = 0;
        let next = loop {
            if body.has_ended() {
                break After::Ended;
            }
            if !body.is_up() {
                match self.rise(body) {
                    Some(after) => break after,
                    None => continue,
                }
            }
            self.open(body.local);
            // One catch for many messages: what is queued lives outside of it, and a message that panics is consumed.
            let result = catch_unwind(AssertUnwindSafe(|| {
                self.serve_batch(body, budget, &mut served)
            }));
            match result {
                Ok(visit) => {
                    self.close_visit(body);
                    match visit {
                        Visit::Done(next) => break next,
                        Visit::Stop => self.stop(body),
                        Visit::End(exit) => self.end(body, *exit),
                    }
                }
                Err(payload) => {
                    served += 1;
                    self.panicked(body, &*payload);
                }
            }
        };
        (next, served)
    }

    /// It ends in order. Apart from `serve`, as is all that happens to a processor once: what would be inlined there makes each
    /// visit longer.
    #[inline(never)]
    fn stop(self: &Arc<Self>, body: &mut Body<'_, P>) {
        if body.local.farewell || self.falls(body, &Exit::Stopped) {
            self.end(body, Exit::Stopped);
            return;
        }
        // Ends for good when what it sends in `stopped` is delivered or given up. Meanwhile nobody may wait for it, or two could
        // wait for each other.
        self.say_farewell(body, &Exit::Stopped);
        if body.local.stalled {
            let _nobody = self.close_mailbox(body, &Exit::Stopped, false);
        }
    }

    #[cold]
    fn panicked(self: &Arc<Self>, body: &mut Body<'_, P>, payload: &(dyn Any + Send)) {
        let message = panic_message(payload);
        self.rarely(|rare| rare.panics += 1);
        hook::panic(&self.name, self.last_type(), &message);
        crate::context::tell_unwound(&message);
        let after = match &mut body.processor {
            Some(processor) => catch_unwind(AssertUnwindSafe(|| processor.on_panic(&message)))
                .unwrap_or(AfterPanic::End),
            None => AfterPanic::End,
        };
        // What the message sent before it panicked is delivered like any other. Faults of that go to `on_error`, which is
        // the user's code again.
        let settled = after == AfterPanic::GoOn
            && catch_unwind(AssertUnwindSafe(|| self.settle(body)))
                .map_err(|payload| {
                    let again = panic_message(&*payload);
                    hook::panic(&self.name, "on_error", &again);
                    crate::context::tell_unwound(&again);
                })
                .is_ok();
        self.close_visit(body);
        if !settled {
            self.end(body, Exit::Panicked(message));
        }
    }

    /// Serves messages until the budget is used up, nothing is left, or the processor is to end.
    fn serve_batch(
        self: &Arc<Self>,
        body: &mut Body<'_, P>,
        budget: u32,
        served: &mut u32,
    ) -> Visit {
        body.local.may_panic = self.driver.world().may_panic();
        // The last visit's end is this one's beginning, if nothing came in between.
        let mut clock = current::clock().unwrap_or_else(clock::cycles);
        let hot = self.place.hot();
        hot.counters.since.store(clock, Relaxed);
        let began = clock;
        let mut unread = 0;
        // After the first message it is known whether they are short.
        let mut read_after = 1;
        let mut is_over = false;
        let visit = loop {
            if body.local.batch.is_empty() && self.was_all(body.local) {
                break Visit::Done(After::Idle);
            }
            if !self.has_plain_batch(body.local)
                && let Some(visit) = self.refill(body)
            {
                break visit;
            }
            let Body { processor, local } = &mut *body;
            let Some(processor) = processor else {
                break Visit::Done(After::Idle);
            };
            while *served < budget && !is_over {
                match self.step(hot, processor, local) {
                    Step::Served => {}
                    Step::Nothing => break,
                }
                *served += 1;
                unread += 1;
                if unread == read_after {
                    let now = self.read_clock(hot, clock, unread);
                    let took = now.saturating_sub(clock) * u64::from(CLOCK_EVERY);
                    let are_short = took < clock::quantum() * u64::from(unread);
                    read_after = if are_short { CLOCK_EVERY } else { 1 };
                    (clock, unread) = (now, 0);
                    is_over = self.is_over(began, now);
                }
                // A handler that was let run while stalled may have waited until its outbox was empty: nothing is unsettled
                // then, and the stall is over all the same.
                if current::is_unsettled() || local.stalled {
                    self.settle_parts(processor, local);
                }
                if local.stop || hot.flags.own.attention.load(Relaxed) {
                    break;
                }
            }
            if self.was_all(local) {
                break Visit::Done(After::Idle);
            }
            if local.stop && !local.stalled && !local.held {
                break Visit::Stop;
            }
            if *served >= budget || is_over {
                break Visit::Done(After::Again);
            }
        };
        if unread > 0 {
            clock = self.read_clock(hot, clock, unread);
        }
        if body.local.timers.watch_for_silence() {
            Timers::hear(self, body.local);
        }
        current::set_clock(clock);
        // Release: partner in `is_quiet`.
        hot.counters.since.store(0, Release);
        visit
    }

    /// After a message that was taken to be the only one. True if the visit is over behind it.
    #[inline]
    fn was_all(&self, local: &mut Local<P>) -> bool {
        if local.released {
            return !self.hold_on(local);
        }
        if !local.last_look_is_later || !local.batch.is_empty() {
            return false;
        }
        local.last_look_is_later = false;
        local.batch.shrink();
        local.is_plain()
    }

    /// After the message for which the cell was released. False if the visit is over: nothing is left to do, or the cell
    /// stands on the ready queue again. Else it is `scheduled`, as in any other visit.
    fn hold_on(&self, local: &mut Local<P>) -> bool {
        local.released = false;
        if local.batch.is_empty() {
            local.batch.shrink();
            if local.is_plain() {
                return false;
            }
        }
        let mut lanes = self.lanes().lock();
        !std::mem::replace(&mut lanes.normal.own.scheduled, true)
    }

    /// True if there are messages to serve and nothing to look for under the lock before them.
    #[inline]
    fn has_plain_batch(&self, local: &Local<P>) -> bool {
        !local.batch.is_empty() && local.is_plain() && !self.flags().own.attention.load(Relaxed)
    }

    /// Looks under the lock at what has come. `None`: there is something to serve.
    fn refill(self: &Arc<Self>, body: &mut Body<'_, P>) -> Option<Visit> {
        let local = &mut *body.local;
        local.pace.look_away(self);
        let attention = &self.flags().own.attention;
        let mut lanes = self.lanes().lock();
        if attention.load(Relaxed) {
            // Cleared before the lanes are read: whoever sets it later is seen later.
            attention.store(false, Relaxed);
        }
        if !lanes.is_plain() || !local.is_plain() || !local.batch.is_empty() {
            return self.refill_slowly(lanes, body);
        }
        // The common case: nothing but normal messages.
        local.high = false;
        if lanes.normal.is_empty() {
            local.pace.found(0);
            return Some(self.go_idle(&mut lanes, local));
        }
        let wake = self.take(&mut lanes, local);
        local.pace.found(local.batch.len());
        if lanes.normal.is_empty() {
            if self.driver.is_pool() {
                // Not released: another thread might enter it meanwhile.
                local.last_look_is_later = local.pace.is_single();
            } else if local.pace.is_alone() {
                lanes.normal.own.scheduled = false;
                lanes.normal.shrink();
                local.released = true;
            }
        }
        drop(lanes);
        wake.into_iter().for_each(Waker::wake);
        None
    }

    /// Takes what stands in the normal lane.
    #[inline]
    fn take(&self, lanes: &mut Lanes<P>, local: &mut Local<P>) -> Vec<Waker> {
        let progress = self.flags();
        if self.driver.is_in_arrival_order() {
            lanes.normal.take_one(&mut local.batch, progress)
        } else {
            lanes.normal.take_batch(&mut local.batch, progress)
        }
    }

    /// Whoever pushes next schedules the cell. On a pool that would let another thread in while this one is still inside, so
    /// there it waits for [`leave_idle`](Self::leave_idle).
    fn go_idle(&self, lanes: &mut Lanes<P>, local: &mut Local<P>) -> Visit {
        lanes.normal.own.scheduled = self.driver.is_pool();
        if local.batch.is_empty() {
            local.batch.shrink();
        }
        lanes.normal.shrink();
        Visit::Done(After::Idle)
    }

    /// After a visit on a pool that found nothing left to do, when nothing of the body is touched any more: whoever pushes
    /// next schedules the cell. If something has come since, it goes to the back of the queue.
    pub(super) fn leave_idle(&self) -> After {
        let mut lanes = self.lanes().lock();
        let is_empty = lanes.normal.is_empty() && !lanes.has_ready() && lanes.high_len() == 0;
        // Without an incarnation, control waits for the next one.
        let is_down = lanes.supervision().is_some_and(|s| s.is_down());
        let control = !is_down && lanes.has_control();
        if !(lanes.normal.own.stalled || is_empty)
            || control
            || !lanes.normal.own.signals.is_empty()
        {
            return After::Again;
        }
        lanes.normal.own.scheduled = false;
        if is_empty {
            lanes.normal.shrink();
        }
        After::Idle
    }

    /// As [`refill`](Self::refill), with everything that can be there beside normal messages.
    #[cold]
    fn refill_slowly(
        self: &Arc<Self>,
        mut lanes: MutexGuard<'_, Lanes<P>>,
        body: &mut Body<'_, P>,
    ) -> Option<Visit> {
        let progress = self.flags();
        let local = &mut *body.local;
        let signals = std::mem::take(&mut lanes.normal.own.signals);
        if local.farewell {
            return self.refill_after_farewell(lanes, body, signals);
        }
        if let Some(rare) = lanes.rare.as_deref_mut() {
            local.control.append(&mut rare.control);
            local.ready.append(&mut rare.ready);
            local.woken.append(&mut rare.woken);
        }
        if signals.has(Signals::PASS) {
            local.pass = true;
        }
        local.high = lanes.high_len() > 0;
        let open = (!local.stalled || local.pass) && !local.held;
        lanes.normal.own.stalled = !open;
        lanes.normal.own.held = local.held;
        lanes.normal.own.awaits = local.held && !local.stalled;
        let mut wake = Vec::new();
        let mut drain_lanes = false;
        if open && local.batch.is_empty() {
            wake = self.take(&mut lanes, local);
        }
        if local.draining && lanes.normal.is_empty() && lanes.high_len() == 0 && local.is_drained()
        {
            local.stop = true;
        }
        let nothing = signals.is_empty()
            && !Self::has_open_control(local)
            && local.woken.is_empty()
            && (!local.stop || local.stalled || local.held)
            && (!open
                || (local.batch.is_empty() && local.ready.is_empty() && lanes.high_len() == 0));
        if nothing {
            let visit = self.go_idle(&mut lanes, local);
            drop(lanes);
            wake.into_iter().for_each(Waker::wake);
            return Some(visit);
        }
        if signals.has(Signals::DRAIN) && !local.draining {
            local.draining = true;
            drain_lanes = true;
            wake.append(&mut lanes.normal.close(progress));
            if let Some(high) = lanes.rare().high.as_mut() {
                wake.append(&mut high.queue.close(&high.progress));
            }
            if lanes.normal.is_empty() && lanes.high_len() == 0 && local.is_drained() {
                local.stop = true;
            }
        }
        drop(lanes);
        wake.into_iter().for_each(Waker::wake);
        if drain_lanes {
            for lane in local.lanes.iter_mut().filter_map(|slot| slot.lane.as_mut()) {
                lane.drain();
            }
        }
        if signals.has(Signals::KILL) {
            return Some(Visit::End(Box::new(Exit::Killed)));
        }
        if signals.has(Signals::QUIET) {
            local.timers.clear(&self.driver);
        }
        if signals.has(Signals::STOP) {
            local.stop = true;
            local.let_go_of_messages();
        }
        if signals.has(Signals::ORDER)
            && let Some(exit) = self.obey()
        {
            return Some(match exit {
                Exit::Stopped => Visit::Stop,
                exit => Visit::End(Box::new(exit)),
            });
        }
        if signals.has(Signals::ROOM) || local.stalled {
            self.settle(body);
        }
        if body.local.stop && !body.local.stalled && !body.local.held {
            return Some(Visit::Stop);
        }
        None
    }

    /// `stopped` was called: nothing more is served, and the processor ends when its outbox is empty.
    fn refill_after_farewell(
        self: &Arc<Self>,
        mut lanes: MutexGuard<'_, Lanes<P>>,
        body: &mut Body<'_, P>,
        signals: Signals,
    ) -> Option<Visit> {
        if signals.is_empty() && body.local.stalled {
            lanes.normal.own.stalled = true;
            // It is not carried out any more, and on a pool it would keep the cell from being left idle.
            if let Some(rare) = lanes.rare.as_deref_mut() {
                body.local.control.append(&mut rare.control);
            }
            return Some(self.go_idle(&mut lanes, body.local));
        }
        drop(lanes);
        if signals.has(Signals::KILL) {
            return Some(Visit::End(Box::new(Exit::Killed)));
        }
        self.settle(body);
        if !body.local.stalled {
            return Some(Visit::Stop);
        }
        // What has come meanwhile is seen under the lock.
        self.refill(body)
    }

    /// Serves one thing: control, a message or an item of a subscription, in turn.
    #[inline]
    fn step(self: &Arc<Self>, hot: Hot<'_>, processor: &mut P, local: &mut Local<P>) -> Step {
        if local.is_plain() && !local.high {
            return if self.deliver_normal(hot, processor, local) {
                Step::Served
            } else {
                Step::Nothing
            };
        }
        self.step_in_turn(hot, processor, local)
    }

    #[inline(never)]
    fn step_in_turn(
        self: &Arc<Self>,
        hot: Hot<'_>,
        processor: &mut P,
        local: &mut Local<P>,
    ) -> Step {
        for _ in 0..4 {
            let turn = local.turn;
            local.turn = (local.turn + 1) % 4;
            let served = match turn {
                0 => self.step_control(processor, local),
                1 => self.step_message(hot, processor, local),
                2 => self.step_task(processor, local),
                _ => self.step_lane(processor, local),
            };
            if served {
                return Step::Served;
            }
        }
        Step::Nothing
    }

    fn step_control(self: &Arc<Self>, processor: &mut P, local: &mut Local<P>) -> bool {
        if local.held {
            return false;
        }
        local.by_mail = false;
        while let Some(control) = local.control.pop_front() {
            match control {
                Control::Tick { slot, generation } => {
                    let fired = Timers::fire(self, processor, local, slot, generation);
                    if fired {
                        return true;
                    }
                }
                Control::Resume(key) => {
                    self.set_last_type(|| "continuation");
                    if crate::context::resume(self, processor, local, key) {
                        return true;
                    }
                }
                Control::Deliver(envelope) => {
                    self.set_last_type(|| "notice");
                    envelope.deliver(processor, &mut Cx::new(self, local, Promise::none()));
                    return true;
                }
                Control::Do(f) => {
                    f(processor, &mut Cx::new(self, local, Promise::none()));
                    return true;
                }
            }
        }
        false
    }

    fn step_message(
        self: &Arc<Self>,
        hot: Hot<'_>,
        processor: &mut P,
        local: &mut Local<P>,
    ) -> bool {
        if local.held || (local.stalled && !std::mem::take(&mut local.pass)) {
            return false;
        }
        let had_pass = local.stalled;
        let served = if local.high_run >= HIGH_RUN {
            local.high_run = 0;
            if local.batch.is_empty() {
                // A lane that is taken one by one has no batch to go on with, and must have its turn all the same.
                let wake = self.take(&mut self.lanes().lock(), local);
                wake.into_iter().for_each(Waker::wake);
            }
            self.deliver_either(hot, processor, local, false)
        } else {
            self.deliver_either(hot, processor, local, true)
        };
        if !served {
            // The pass is for one message; it is kept until there is one.
            local.pass = had_pass;
        }
        served
    }

    fn step_lane(self: &Arc<Self>, processor: &mut P, local: &mut Local<P>) -> bool {
        if local.held || (local.stalled && !local.pass) {
            return false;
        }
        local.by_mail = false;
        // Each ready lane is asked at most once; one that served goes to the back.
        for _ in 0..local.ready.len() {
            let Some(id) = local.ready.pop_front() else {
                return false;
            };
            let Some(mut lane) = local.take_lane(id) else {
                continue;
            };
            self.set_last_type(lane.item_type());
            // A callback that panics must not take its subscription along.
            let served = catch_unwind(AssertUnwindSafe(|| {
                lane.serve(processor, &mut Cx::new(self, local, Promise::none()))
            }));
            local.put_lane(id, lane);
            if !matches!(served, Ok(false)) {
                local.messages += 1;
                local.pass = false;
                local.ready.push_back(id);
            }
            match served {
                Ok(false) => {}
                Ok(true) => return true,
                Err(payload) => resume_unwind(payload),
            }
        }
        false
    }

    /// Handles the next message, of the high lane or the normal one.
    fn deliver_either(
        self: &Arc<Self>,
        hot: Hot<'_>,
        processor: &mut P,
        local: &mut Local<P>,
        high_first: bool,
    ) -> bool {
        (high_first && self.deliver_high(hot, processor, local))
            || self.deliver_normal(hot, processor, local)
            || (!high_first && self.deliver_high(hot, processor, local))
    }

    /// Handles the next normal message, if there is one.
    #[inline(always)]
    fn deliver_normal(
        self: &Arc<Self>,
        hot: Hot<'_>,
        processor: &mut P,
        local: &mut Local<P>,
    ) -> bool {
        let Some(front) = local.batch.take_front() else {
            return false;
        };
        let progress = hot.flags;
        let rest = local.batch.len();
        if local.put_back > 0 {
            // It was set aside and holds no place of the mailbox: none becomes free.
            local.put_back -= 1;
        } else if rest != progress.rest() {
            if progress.own.manner.is_unbounded() {
                progress.step_unwatched(rest);
            } else if progress.step(rest) {
                self.hand_out_place();
            }
        }
        self.count_message(hot, local, front.message_type());
        // SAFETY: the batch belongs to this cell's `local`, which only this visit touches (the table in `cell/mod.rs`), and
        // since `take_front` it was only asked for its length.
        unsafe { front.deliver(processor, &mut Cx::new(self, local, Promise::none())) };
        true
    }

    /// Somebody waits for the place that has become free.
    #[inline(never)]
    fn hand_out_place(&self) {
        let wake = self.lanes().lock().normal.hand_out(self.flags());
        wake.into_iter().for_each(Waker::wake);
    }

    /// Handles the next high message, if there is one.
    fn deliver_high(
        self: &Arc<Self>,
        hot: Hot<'_>,
        processor: &mut P,
        local: &mut Local<P>,
    ) -> bool {
        if !local.high {
            local.high_run = 0;
            return false;
        }
        let envelope = self.next_high();
        local.high = envelope.is_some();
        local.high_run = if local.high { local.high_run + 1 } else { 0 };
        let Some(envelope) = envelope else {
            return false;
        };
        self.count_message(hot, local, envelope.message_type_of());
        envelope.deliver(processor, &mut Cx::new(self, local, Promise::none()));
        true
    }

    fn next_high(&self) -> Option<Envelope<P>> {
        let (envelope, wake) = {
            let mut lanes = self.lanes().lock();
            let high = lanes.rare.as_mut()?.high.as_mut()?;
            high.queue.pop(&high.progress)
        };
        wake.into_iter().for_each(Waker::wake);
        envelope
    }

    /// Counts before the handler runs, so that a message that panics is counted too.
    #[inline]
    fn count_message(
        &self,
        hot: Hot<'_>,
        local: &mut Local<P>,
        message_type: fn() -> &'static str,
    ) {
        hot.counters.last_type.set(message_type);
        local.messages += 1;
        local.by_mail = true;
        count(&hot.counters.handled, 1);
    }

    /// A call that was given up while it was queued: it counts as dropped, not as handled.
    pub(crate) fn uncount_cancelled(&self) {
        self.counters()
            .handled
            .store(self.counters().handled.load(Relaxed) - 1, Relaxed);
        self.lanes().lock().drops(DropCause::Cancelled, 1);
    }

    pub(crate) fn count_fault(&self) {
        self.rarely(|rare| rare.faults += 1);
    }

    /// True if the visit has had its time. In a simulated world handlers take none.
    fn is_over(&self, began: u64, now: u64) -> bool {
        now.saturating_sub(began) > clock::quantum() && !self.driver.world().is_simulated()
    }

    /// Books the time since `before`, which `messages` messages took, and returns the time now.
    fn read_clock(&self, hot: Hot<'_>, before: u64, messages: u32) -> u64 {
        let now = clock::cycles();
        let took = now.saturating_sub(before);
        count(&hot.counters.busy, took);
        // Of several short ones only the sum is known: their mean says what one took.
        // A division takes longer than all the rest of this.
        let each = match messages {
            0 | 1 => took,
            more => took / u64::from(more),
        };
        if each > hot.counters.longest.load(Relaxed) {
            hot.counters.longest.store(each, Relaxed);
        }
        if took > clock::long_handler() && !self.driver.world().is_simulated() {
            hook::long_handler(&self.name, self.last_type(), clock::nanos(took));
        }
        hot.counters.since.store(now, Relaxed);
        now
    }
}
