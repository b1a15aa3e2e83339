//! Futures of a processor, as its cell sees them: see `tasks/mod.rs`.
//!
//! # While a handler's future waits
//!
//! `Local::held` is true. Messages, items of subscriptions and control (ticks, continuations, notices, tasks of
//! `with_processor`) wait: in the mailbox, and, as far as they were taken already, in `local`. Only tasks are served, and
//! signals. So that messages do not schedule the cell in vain, `lanes.normal.own.stalled` is true; `own.awaits` tells this
//! from a processor whose outbox is full.
//!
//! | what comes                              | while a handler's future waits                                       |
//! |-----------------------------------------|----------------------------------------------------------------------|
//! | its wake, or that of another task       | schedules the cell; the task is polled                               |
//! | its update                              | runs in the visit that polled it                                     |
//! | stop, kill, a supervisor's order        | schedules the cell; it ends, and the future is dropped               |
//! | drain                                   | closes the mailbox; what is queued is handled after the future       |
//! | anything else                           | waits                                                                |
//!
//! A message whose future waits was counted as handled when its handler was entered, as any other.

use super::{Body, Cell, Local};
use crate::context::{Cx, Promise};
use crate::executor::PollsFuture;
use crate::exit::Exit;
use crate::hook::FutureSpan;
use crate::mailbox::Control;
use crate::processor::Processor;
use crate::sync::Relaxed;
use crate::tasks::{PollsHandler, PollsInside, Run, Task, TaskWake, Woken};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

type Entry<P> = crate::mailbox::Task<P>;

impl<P: Processor> Cell<P> {
    /// Keeps a future. It is polled in this visit, or, outside of one, in the next.
    pub(crate) fn add_task(
        self: &Arc<Self>,
        local: &mut Local<P>,
        run: Box<dyn Run<P>>,
        holds: bool,
        name: fn() -> &'static str,
    ) -> Arc<TaskWake<P>> {
        let span = if holds {
            FutureSpan::here()
        } else {
            FutureSpan::spawned(&self.name)
        };
        let tasks = local.tasks.get_or_insert_default();
        let (key, wake) = tasks.add(self, run, holds, name, span);
        local.held |= holds;
        local.woken.push_back(self.woken(key));
        wake
    }

    /// The task with this number, woken now: it stands behind all that came before.
    fn woken(&self, key: u64) -> Woken {
        let arrival = self.driver.next_arrival().unwrap_or(0);
        Woken { key, arrival }
    }

    /// A task is to be polled again. From any thread; the task's `queued` says that it is not in the queue yet.
    pub(crate) fn wake_task(self: &Arc<Self>, key: u64) {
        let mut lanes = self.lanes().lock();
        if lanes.ended().is_some() {
            return;
        }
        // Under the lock, so that numbers stand in order.
        lanes.rare().woken.push_back(self.woken(key));
        let schedule = lanes.schedule_for_control();
        drop(lanes);
        self.flags().own.attention.store(true, Relaxed);
        if schedule {
            self.schedule();
        }
    }

    /// What the future of a handler does to the state, as soon as it has returned from the poll that goes on. False if the
    /// processor has ended.
    pub(crate) fn add_entry(&self, entry: Entry<P>) -> bool {
        let mut lanes = self.lanes().lock();
        let lives = lanes.ended().is_none();
        if lives {
            lanes.rare().entries.push_back(entry);
            return true;
        }
        drop(lanes);
        // It answers, which is the user's code.
        drop(entry);
        false
    }

    /// Polls the next task that was woken. False if there is none.
    pub(super) fn step_task(self: &Arc<Self>, processor: &mut P, local: &mut Local<P>) -> bool {
        while let Some(Woken { key, .. }) = local.woken.pop_front() {
            let task = local.tasks.as_mut().and_then(|tasks| tasks.take(key));
            if let Some(task) = task {
                self.poll_task(processor, local, key, task);
                return true;
            }
        }
        false
    }

    fn poll_task(
        self: &Arc<Self>,
        processor: &mut P,
        local: &mut Local<P>,
        key: u64,
        mut task: Task<P>,
    ) {
        local.by_mail = false;
        self.set_last_type(task.name);
        if !task.wake.begin_poll() {
            // It was cancelled.
            local.forget_task(key);
            self.drop_future(&mut task);
            return;
        }
        let span = task.span.clone();
        let _in_span = span.enter();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let poll = {
                let _polls = PollsHandler::new(task.holds.then_some(self.id));
                let _in_future = PollsFuture::here();
                let (run, waker) = (&mut task.run, &task.waker);
                self.hook()
                    .run(|| run.poll(&mut Context::from_waker(waker)))
                    .unwrap_or(Poll::Pending)
            };
            if task.holds {
                self.run_entries(processor, local);
            }
            poll
        }));
        match polled {
            Ok(Poll::Pending) => {
                if let Some(tasks) = &mut local.tasks {
                    tasks.put_back(key, task);
                }
            }
            Ok(Poll::Ready(())) => {
                local.forget_task(key);
                task.wake.is_over();
                // A silence begins when a message is dealt with, not when its handler has returned.
                local.messages += u64::from(task.holds);
                task.run
                    .finish(processor, &mut Cx::new(self, local, Promise::none()));
            }
            Err(payload) => {
                local.forget_task(key);
                // What it wanted to do to the state, it has not done.
                let entries = self.take_entries();
                self.quietly("drop", || drop(entries));
                self.drop_future(&mut task);
                // Dropped while this unwinds, what is left of it tells its caller of the panic.
                resume_unwind(payload);
            }
        }
    }

    fn run_entries(self: &Arc<Self>, processor: &mut P, local: &mut Local<P>) {
        let mut entries = self.take_entries();
        while let Some(entry) = entries.pop_front() {
            let cx = &mut Cx::new(self, local, Promise::none());
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| entry(processor, cx))) {
                // Those behind it have not run, and say so.
                self.quietly("drop", || drop(entries));
                resume_unwind(payload);
            }
        }
    }

    fn take_entries(&self) -> std::collections::VecDeque<Entry<P>> {
        let mut lanes = self.lanes().lock();
        let rare = lanes.rare.as_deref_mut();
        rare.map(|rare| std::mem::take(&mut rare.entries))
            .unwrap_or_default()
    }

    /// Drops a future where its panic hurts nothing else.
    fn drop_future(&self, task: &mut Task<P>) {
        let span = task.span.clone();
        let _in_span = span.enter();
        self.quietly("drop", || {
            if self.hook().run(|| task.run.drop_future()).is_none() {
                task.run.drop_future();
            }
        });
        task.wake.is_over();
    }

    fn hook(&self) -> &PollsInside {
        &self.driver.runtime().options.polls_inside
    }

    /// The processor, or its incarnation, ends: its futures are dropped. With `exit` those who wait for a reply are told that;
    /// without, that their promise was let go of.
    pub(super) fn drop_tasks(&self, body: &mut Body<'_, P>, exit: Option<&Exit>) {
        let Some(tasks) = body.local.tasks.take() else {
            return;
        };
        body.local.held = false;
        body.local.woken.clear();
        {
            let mut lanes = self.lanes().lock();
            (lanes.normal.own.held, lanes.normal.own.awaits) = (false, false);
            if let Some(rare) = lanes.rare.as_deref_mut() {
                rare.woken.clear();
            }
        }
        // What their drops send is sent by the processor.
        self.open(body.local);
        for mut task in tasks.into_all() {
            self.drop_future(&mut task);
            self.quietly("drop", || match exit {
                Some(exit) => task.run.refuse(exit),
                None => drop(task.run),
            });
        }
        self.close_visit(body);
    }

    /// True if there is control that may be served.
    pub(super) fn has_open_control(local: &Local<P>) -> bool {
        let control: &std::collections::VecDeque<Control<P>> = &local.control;
        !local.held && !control.is_empty()
    }
}

impl<P: Processor> Local<P> {
    /// A task that was taken out is gone.
    fn forget_task(&mut self, key: u64) {
        let Some(tasks) = &mut self.tasks else {
            return;
        };
        // It has waited for its turn: nothing that came meanwhile goes first.
        let next = tasks.forget(key);
        self.woken.extend(next.map(|key| Woken { key, arrival: 0 }));
        self.held = tasks.hold();
        if tasks.is_empty() {
            self.tasks = None;
        }
    }

    /// The processor ends, and does not wait for the future of a handler.
    pub(super) fn let_go_of_messages(&mut self) {
        self.held = false;
        if let Some(tasks) = &mut self.tasks {
            tasks.let_go();
        }
    }
}
