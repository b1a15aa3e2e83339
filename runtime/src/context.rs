//! What a handler is given beside the message.
//!
//! | file | idea |
//! |---|---|
//! | `context.rs` | who it is, faults, its end, and the doors for the rest of the runtime |
//! | `context/promise.rs` | who waits for the reply, and what they are told if none comes |
//! | `context/reply.rs` | replies: at once, later, by another |
//! | `context/continuation.rs` | what goes on when an operation is done |
//! | `context/timers.rs` | messages to itself by time, or by silence |
//! | `context/watch.rs` | being told when another ends |
//! | `context/lanes.rs` | lanes beside the mailbox |
//! | `context/by_hand.rs` | serving one of them out of its turn |
//! | `context/extensions.rs` | what layers above keep per processor |
//! | `context/local.rs` | doors for what is not `Send` |

mod by_hand;
mod continuation;
mod extensions;
mod lanes;
mod local;
mod promise;
mod reply;
mod timers;
mod watch;

pub(crate) use continuation::{Continuation, resume};
pub use extensions::Extensions;
pub(crate) use promise::{Promise, ReplySlot, drop_for_restart, tell_unwound};
pub use reply::ReplyToken;
pub use watch::WatchId;

use crate::address::Address;
use crate::cell::{Cell, Local};
use crate::driver::about_to_block;
use crate::error::{Fault, SpawnError};
use crate::id::ProcessorId;
use crate::mailbox::MailboxOptions;
use crate::name::Name;
use crate::processor::{Handle, Processor};
use crate::runtime::Runtime;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A handler's context: time, self address, timers, watches, replies, spawning, stopping.
///
/// `R` is the type of the reply that the handler owes.
pub struct Cx<'a, P: Processor, R: 'static = ()> {
    cell: &'a Arc<Cell<P>>,
    local: &'a mut Local<P>,
    promise: Promise<R>,
}

impl<'a, P: Processor, R: 'static> Cx<'a, P, R> {
    #[inline]
    pub(crate) fn new(
        cell: &'a Arc<Cell<P>>,
        local: &'a mut Local<P>,
        promise: Promise<R>,
    ) -> Self {
        Self {
            cell,
            local,
            promise,
        }
    }

    /// The processor's own address.
    pub fn me(&self) -> Address<P> {
        Address::from_cell(self.cell.clone())
    }

    /// The processor's id.
    pub fn id(&self) -> ProcessorId {
        self.cell.id
    }

    /// The processor's name.
    pub fn name(&self) -> &Name {
        &self.cell.name
    }

    /// Steady time, as an instant: virtual in a simulated node. What the clock shows that its timers follow is
    /// [`time`](Self::time).
    pub fn now(&self) -> Instant {
        self.cell.driver.world().now()
    }

    /// The node, without topics.
    pub fn runtime(&self) -> Runtime {
        Runtime::from_core(self.cell.driver.runtime().clone())
    }

    /// True if whoever called has given up, so that nobody gets the reply: the [`Pending`](crate::Pending) was dropped or its
    /// limit has passed, or the caller's process is gone. False if the message was sent and not called, or if the reply was
    /// promised for later: then the token knows ([`ReplyToken::is_cancelled`]).
    ///
    /// For long handlers, which may look now and then and return early.
    pub fn is_cancelled(&self) -> bool {
        self.promise
            .0
            .as_ref()
            .is_some_and(|slot| slot.is_cancelled())
    }

    /// Ends the processor in order, after the current message.
    pub fn stop(&mut self) {
        self.local.stop = true;
    }

    /// Spawns a processor on the same driver: the two are never entered at once, and may share what is not `Send`.
    ///
    /// # Errors
    ///
    /// As [`Driver::spawn`](crate::Driver::spawn), and [`SpawnError::OnPool`] if the driver is a pool: there "here" is no one
    /// thread, so it is refused whether the processor is `Send` or not.
    pub fn spawn_here<Q: Processor>(
        &mut self,
        name: &str,
        processor: Q,
    ) -> Result<Address<Q>, SpawnError> {
        // A new cell of a driver that has one processor of its own makes it a shared one in all but name.
        crate::driver::spawn_cell(
            &self.cell.driver,
            name,
            processor,
            false,
            MailboxOptions::default(),
        )
    }

    /// Runs `work`, which may block for long: a file, a device, a computation. On a pool another thread takes this one's place
    /// meanwhile, so that the other members go on; on every other driver it just runs `work`, because its members may not move
    /// to another thread.
    ///
    /// Waiting for mproc's own operations ([`Pending::wait`](crate::Pending::wait) and the like) does this by itself. What the
    /// handler has sent before is on its way already, unless it found no room: then it goes on after the handler, as always.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::new()?;
    /// let pool = node.pool("files", 2)?;
    /// let read = pool.spawn("read", closure(|path: &'static str, cx| cx.block(|| std::fs::read_to_string(path))))?;
    /// let text = read.call("Cargo.toml").wait()?;
    /// assert!(text.contains("[package]"));
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn block<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let _blocks = about_to_block();
        work()
    }

    /// Handles `message` here and now, as if it had come by the mailbox; a fault goes the same way.
    ///
    /// For lanes and timers, which turn what comes into the processor's own messages.
    #[inline]
    pub fn handle_now<M: 'static>(&mut self, processor: &mut P, message: M)
    where
        P: Handle<M>,
    {
        self.cell.set_last_type(std::any::type_name::<M>);
        let outcome = {
            let mut cx = Cx::new(self.cell, self.local, Promise::none());
            processor.handle(message, &mut cx)
        };
        if let Err(fault) = outcome {
            self.fault(processor, fault);
        }
    }

    /// A message of the mailbox is about to be handled. Panics if a simulated world says so.
    #[inline]
    pub(crate) fn about_to_handle(&self) {
        if self.local.may_panic {
            self.meet_fault();
        }
    }

    #[cold]
    fn meet_fault(&self) {
        if self
            .cell
            .driver
            .world()
            .is_to_panic(self.cell.name.as_str())
        {
            // The handler's panic, for whoever catches those. Nobody's bug, so no hook is told.
            std::panic::resume_unwind(Box::new("a fault of the simulation"));
        }
    }

    pub(crate) fn cell(&self) -> &Arc<Cell<P>> {
        self.cell
    }

    /// What the parts of the runtime that add methods to it work on.
    pub(crate) fn parts(&mut self) -> (&'a Arc<Cell<P>>, &mut Local<P>) {
        (self.cell, self.local)
    }

    pub(crate) fn parts_ref(&self) -> (&Arc<Cell<P>>, &Local<P>) {
        (self.cell, self.local)
    }

    /// Who waits for the reply waits for another to give it.
    pub(crate) fn take_promise(&mut self) -> Promise<R> {
        Promise(self.promise.take())
    }

    pub(crate) fn with_promise<S: 'static>(&mut self, promise: Promise<S>) -> Cx<'_, P, S> {
        Cx::new(self.cell, self.local, promise)
    }

    pub(crate) fn uncount_cancelled(&self) {
        self.cell.uncount_cancelled();
    }

    /// Counts and reports a fault and gives it to [`Processor::on_error`].
    pub fn fault(&mut self, processor: &mut P, fault: Fault) {
        if !fault.is_reply_later() {
            self.cell.report_fault(fault, processor, self.local);
        }
    }

    /// A place for what a layer above the runtime keeps per processor, by type. It is dropped when the processor ends. On a
    /// pool it goes from thread to thread with the processor, so what is kept must be `Send`.
    pub fn extensions(&mut self) -> &mut Extensions {
        &mut self.local.extensions
    }
}

impl<P: Processor, R: 'static> fmt::Debug for Cx<'_, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cx({:?})", self.cell.name)
    }
}
