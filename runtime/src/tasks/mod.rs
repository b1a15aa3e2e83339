//! Futures that belong to a processor, and are polled by its driver.
//!
//! | made by                                    | holds back messages | at its end                                | file           |
//! |--------------------------------------------|---------------------|-------------------------------------------|----------------|
//! | [`HandleAsync`], [`Cx::reply_async`]       | yes                 | its outcome is the handler's              | `handler.rs`   |
//! | [`Cx::spawn`]                              | no                  | a fault goes to `on_error`                | `spawned.rs`   |
//! | [`Driver::spawn_task`](crate::Driver::spawn_task) and the like | (it has a processor of its own) | that ends, too  | `on_driver.rs` |
//!
//! A future holds no state of its processor: it is `'static`. It enters by [`AsyncHandle::update`] (`entry.rs`), and what is
//! given there runs with `&mut` to the state, on the driver, one at a time, like a handler.
//!
//! # Who polls, and when
//!
//! Each future is a [`Task`] with a number in its processor's [`Tasks`], which the driver alone touches. It is polled in a
//! visit of its cell (`cell/awaiting.rs`), so it never runs beside a handler, and the driver serves others between two polls.
//!
//! | step | the waker, any thread ([`TaskWake`])            | the driver, in a visit                                         |
//! |------|-------------------------------------------------|----------------------------------------------------------------|
//! | 1    | makes ready what the future waits for           | takes the number out of the queue                              |
//! | 2    | `queued.swap(true)`: was it false?              | `queued.swap(false)`                                           |
//! | 3    | then puts the number into the cell's queue, and the cell on its driver's, under the mailbox's lock | polls |
//!
//! Both swaps are read-modify-writes of one word, so one comes first. If the waker's does, and finds true, the driver's reads
//! what it wrote, and sees what was made ready. If the driver's does, the waker finds false, and the number is queued again.
//! So a wake is never lost, and a number stands in the queue at most once for each task. A task that has ended leaves its
//! wakers behind: they find no task, or another one of that number, which is then polled once in vain, as futures must
//! expect.

mod entry;
mod handler;
mod hook;
#[cfg(all(test, loom))]
mod loom_tests;
mod on_driver;
mod reply;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
mod spawned;

pub use self::entry::AsyncHandle;
pub use self::handler::{AsyncProcessor, HandleAsync};
pub(crate) use self::hook::PollsInside;
pub use self::spawned::TaskHandle;

use crate::cell::Cell;
use crate::context::Cx;
use crate::exit::Exit;
use crate::hook::FutureSpan;
use crate::id::ProcessorId;
use crate::processor::Processor;
use crate::sync::{AcqRel, Acquire, AtomicBool, Release, thread_local};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// A future as it is kept. On a pool it came by a door that demands `Send`.
pub(crate) type Kept<T> = Pin<Box<dyn Future<Output = T>>>;

/// A future, and what its end leads to.
pub(crate) trait Run<P: Processor> {
    /// Polls the future, and drops it when it is ready.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// It was ready: deals with what came of it.
    fn finish(self: Box<Self>, processor: &mut P, cx: &mut Cx<'_, P>);

    /// Drops the future, which will not be polled again. The user's code.
    fn drop_future(&mut self);

    /// Its processor has ended: tells whoever waits.
    fn refuse(self: Box<Self>, exit: &Exit);
}

/// A task that is to be polled, in line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Woken {
    pub(crate) key: u64,
    /// Its arrival number, on drivers that serve in that order; else 0.
    pub(crate) arrival: u64,
}

/// A future of a processor.
pub(crate) struct Task<P: Processor> {
    pub(crate) run: Box<dyn Run<P>>,
    /// The next message waits until it is done.
    pub(crate) holds: bool,
    /// What the driver says it is at while the future runs.
    pub(crate) name: fn() -> &'static str,
    pub(crate) wake: Arc<TaskWake<P>>,
    pub(crate) waker: Waker,
    pub(crate) span: FutureSpan,
}

/// The futures of a processor. Absent while there are none.
pub(crate) struct Tasks<P: Processor> {
    next: u64,
    /// All but the one that runs.
    all: BTreeMap<u64, Task<P>>,
    /// Those that hold back messages, in order: only the first is polled, so that handlers are entered one at a time.
    holding: VecDeque<u64>,
}

impl<P: Processor> Default for Tasks<P> {
    fn default() -> Self {
        Self {
            next: 0,
            all: BTreeMap::new(),
            holding: VecDeque::new(),
        }
    }
}

impl<P: Processor> Tasks<P> {
    /// Its number. It is to be polled as if it had been woken.
    pub(crate) fn add(
        &mut self,
        cell: &Arc<Cell<P>>,
        run: Box<dyn Run<P>>,
        holds: bool,
        name: fn() -> &'static str,
        span: FutureSpan,
    ) -> (u64, Arc<TaskWake<P>>) {
        let key = self.next;
        self.next += 1;
        let wake = Arc::new(TaskWake {
            cell: cell.clone(),
            key,
            queued: AtomicBool::new(true),
            cancelled: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let task = Task {
            run,
            holds,
            name,
            waker: Waker::from(wake.clone()),
            wake: wake.clone(),
            span,
        };
        if holds {
            self.holding.push_back(key);
        }
        self.all.insert(key, task);
        (key, wake)
    }

    /// Takes out a task that may run: not one that holds back messages behind another.
    pub(crate) fn take(&mut self, key: u64) -> Option<Task<P>> {
        let waits = self.holding.front().is_some_and(|first| *first != key);
        if waits && self.all.get(&key).is_some_and(|task| task.holds) {
            return None;
        }
        self.all.remove(&key)
    }

    /// It waits for something: it will be woken.
    pub(crate) fn put_back(&mut self, key: u64, task: Task<P>) {
        self.all.insert(key, task);
    }

    /// A task that was taken out will not come back. The next of those that hold back messages, which is to be polled now.
    pub(crate) fn forget(&mut self, key: u64) -> Option<u64> {
        let was_first = self.holding.front() == Some(&key);
        self.holding.retain(|held| *held != key);
        self.holding.front().copied().filter(|_| was_first)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.holding.is_empty()
    }

    /// True if messages are held back.
    pub(crate) fn hold(&self) -> bool {
        !self.holding.is_empty()
    }

    /// Messages are not held back any more, whatever goes on: the processor ends.
    pub(crate) fn let_go(&mut self) {
        self.holding.clear();
    }

    /// All that wait, in the order in which they were made.
    pub(crate) fn into_all(self) -> impl Iterator<Item = Task<P>> {
        self.all.into_values()
    }
}

/// Wakes one task, as the module's table says.
pub(crate) struct TaskWake<P: Processor> {
    cell: Arc<Cell<P>>,
    key: u64,
    /// Its number is in the cell's queue, or about to be.
    queued: AtomicBool,
    /// It is to be dropped and not polled. Set before a wake, read after `queued` was cleared.
    cancelled: AtomicBool,
    /// Its future is gone.
    over: AtomicBool,
}

impl<P: Processor> TaskWake<P> {
    /// Before the poll: whoever wakes from now on has it polled again. False if it was cancelled.
    pub(crate) fn begin_poll(&self) -> bool {
        // AcqRel: partner of the swap in `wake_by_ref`, in both directions.
        self.queued.swap(false, AcqRel);
        !self.cancelled.load(Acquire)
    }

    /// The future is gone.
    pub(crate) fn is_over(&self) {
        // Release pairs with the Acquire in `TaskHandle::is_finished`.
        self.over.store(true, Release);
    }
}

impl<P: Processor> Wake for TaskWake<P> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // AcqRel: partner of the swap in `begin_poll`, in both directions.
        if !self.queued.swap(true, AcqRel) {
            self.cell.wake_task(self.key);
        }
    }
}

#[cfg(not(any(loom, shuttle)))]
thread_local! {
    /// Whose handler's future this thread polls, if it does.
    static HANDLES: std::cell::Cell<Option<ProcessorId>> = const { std::cell::Cell::new(None) };
}

#[cfg(any(loom, shuttle))]
thread_local! {
    static HANDLES: std::cell::Cell<Option<ProcessorId>> = std::cell::Cell::new(None);
}

/// True while this thread polls the future of a handler of `id`.
pub(crate) fn is_in_handler_future_of(id: ProcessorId) -> bool {
    HANDLES.with(|handles| handles.get() == Some(id))
}

/// Says that the future of a handler of this processor is polled, until it is dropped.
pub(crate) struct PollsHandler(Option<ProcessorId>);

impl PollsHandler {
    pub(crate) fn new(of: Option<ProcessorId>) -> Self {
        Self(HANDLES.with(|handles| handles.replace(of)))
    }
}

impl Drop for PollsHandler {
    fn drop(&mut self) {
        HANDLES.with(|handles| handles.set(self.0));
    }
}
