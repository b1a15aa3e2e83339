//! Setting messages aside until they can be handled.
//!
//! How they are counted stands in `cell/put_back.rs`.

use crate::cell::Cell;
use crate::context::{Cx, Promise, ReplyToken};
use crate::dead_letters::DropCause;
use crate::error::{CallError, Outcome};
use crate::exit::Exit;
use crate::hook::{self, Cause};
use crate::parcel::{Envelope, Parcel};
use crate::processor::{Handle, Processor};
use std::any::Any;
use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Weak;

/// The stash is full: the message was not set aside, and is given back.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct StashFull<M>(pub M);

impl<M> StashFull<M> {
    /// The message that was not set aside.
    pub fn into_inner(self) -> M {
        self.0
    }
}

// Written by hand so that `M` need not be `Debug`, and so that a log line never holds a payload.
impl<M> fmt::Debug for StashFull<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StashFull(..)")
    }
}

impl<M> fmt::Display for StashFull<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stash is full")
    }
}

impl<M> StdError for StashFull<M> {}

/// What a processor has set aside. Kept with the processor, and dropped when it has ended.
struct Aside<P: Processor> {
    /// Set with the first message.
    cell: Weak<Cell<P>>,
    capacity: Option<usize>,
    envelopes: VecDeque<Envelope<P>>,
}

impl<P: Processor> Default for Aside<P> {
    fn default() -> Self {
        Self {
            cell: Weak::new(),
            capacity: None,
            envelopes: VecDeque::new(),
        }
    }
}

impl<P: Processor> Drop for Aside<P> {
    fn drop(&mut self) {
        let envelopes = std::mem::take(&mut self.envelopes);
        if let Some(cell) = self.cell.upgrade()
            && !envelopes.is_empty()
        {
            cell.drop_set_aside(envelopes.into_iter());
        }
    }
}

/// A message that was set aside, with the promise of its reply.
struct Stashed<M, R: 'static> {
    message: M,
    token: ReplyToken<R>,
    cause: Cause,
}

impl<P: Handle<M>, M: Send + 'static> Parcel<P> for Stashed<M, P::Reply> {
    fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        let _span = hook::handling(cx.name(), std::any::type_name::<M>(), self.cause);
        cx.handle_for(
            processor,
            self.message,
            Promise::owed(self.token.into_slot()),
        );
    }

    fn discard(self, _: DropCause, exit: Option<&Exit>) -> Option<Box<dyn Any + Send>> {
        if let Some(slot) = self.token.into_slot() {
            slot.answer(Err(exit.map_or(CallError::Dropped, |exit| {
                CallError::Stopped(exit.clone())
            })));
        }
        Some(Box::new(self.message))
    }

    fn message_type() -> &'static str {
        std::any::type_name::<M>()
    }
}

impl<P: Processor, R: Send + 'static> Cx<'_, P, R> {
    /// Sets the message that is being handled aside until [`unstash_all`](Self::unstash_all). The handler returns what this
    /// returns, as with [`reply_later`](Self::reply_later): a caller goes on waiting, and is answered when the message is
    /// handled after all.
    ///
    /// The stash holds as many messages as the mailbox has places, or as many as
    /// [`limit_stash`](Self::limit_stash) says; these places are its own. A message that is set aside counts as queued. It is not
    /// looked at by timers, nor waited for by `drain` and an orderly stop: what is still set aside when the processor ends
    /// becomes a dead letter, and whoever called gets [`CallError::Stopped`].
    ///
    /// # Errors
    ///
    /// [`StashFull`], with the message. Nothing was promised then: the handler can still reply.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Cx, Handle, Outcome, Processor, Runtime};
    /// struct Door { open: bool }
    /// struct Enter;
    /// struct Open;
    /// impl Processor for Door {}
    /// impl Handle<Enter> for Door {
    ///     type Reply = &'static str;
    ///     fn handle(&mut self, enter: Enter, cx: &mut Cx<'_, Self, &'static str>) -> Outcome<&'static str> {
    ///         if !self.open {
    ///             return cx.stash(enter)?; // a full stash is a fault here
    ///         }
    ///         Ok("come in")
    ///     }
    /// }
    /// impl Handle<Open> for Door {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: Open, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         self.open = true;
    ///         cx.unstash_all();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let door = node.spawn_thread("door", Door { open: false })?;
    /// let mut answer = door.call(Enter);
    /// answer.begin();
    /// door.send(Open)?;
    /// assert_eq!(answer.wait()?, "come in");
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn stash<M: Send + 'static>(&mut self, message: M) -> Result<Outcome<R>, StashFull<M>>
    where
        P: Handle<M, Reply = R>,
    {
        let mailbox = self.parts().0.lanes().lock().normal.capacity();
        let aside = self.extensions().get_or_default::<Aside<P>>();
        if aside.envelopes.len() >= aside.capacity.unwrap_or(mailbox) {
            return Err(StashFull(message));
        }
        let mut promised = None;
        let later = self.reply_later(|token| promised = Some(token));
        let (cell, local) = self.parts();
        cell.count_set_aside(local);
        let aside = self.extensions().get_or_default::<Aside<P>>();
        aside.cell = std::sync::Arc::downgrade(cell);
        // `reply_later` always gives a token.
        if let Some(token) = promised {
            let stashed = Stashed {
                message,
                token,
                cause: Cause::here(),
            };
            aside.envelopes.push_back(Envelope::new(stashed));
        }
        Ok(later)
    }
}

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// Puts all messages that were set aside back before those that wait in the mailbox, in the order in which they were
    /// set aside: they are handled next, but for the high lane, which always goes first. Returns how many there were.
    ///
    /// A handler may set them aside again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Cx, Handle, Outcome, Processor, TestCx};
    /// struct Late { ready: bool, seen: Vec<u8> }
    /// impl Processor for Late {}
    /// impl Handle<u8> for Late {
    ///     type Reply = ();
    ///     fn handle(&mut self, n: u8, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         if n == 3 {
    ///             self.ready = true;
    ///             cx.unstash_all();
    ///         } else if !self.ready {
    ///             return cx.stash(n)?;
    ///         }
    ///         self.seen.push(n);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut t = TestCx::new(Late { ready: false, seen: vec![] });
    /// for n in [1, 2, 3, 4] {
    ///     t.address().send(n)?;
    /// }
    /// assert_eq!(t.with(|late, _cx| late.seen.clone()), []); // not handled yet
    /// assert_eq!(t.with(|late, _cx| late.seen.clone()), [3, 1, 2, 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unstash_all(&mut self) -> usize {
        let aside = self.extensions().get_or_default::<Aside<P>>();
        let envelopes = std::mem::take(&mut aside.envelopes);
        let count = envelopes.len();
        let (cell, local) = self.parts();
        cell.put_back(local, envelopes.into_iter());
        count
    }

    /// How many messages are set aside.
    pub fn stashed(&mut self) -> usize {
        let aside = self.extensions().get_or_default::<Aside<P>>();
        aside.envelopes.len()
    }

    /// From now on at most `capacity` messages are set aside at once; 0 for none. Those that are stay.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Cx, Handle, Outcome, Processor, Runtime};
    /// struct Busy;
    /// impl Processor for Busy {
    ///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         cx.limit_stash(1);
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<u8> for Busy {
    ///     type Reply = String;
    ///     fn handle(&mut self, n: u8, cx: &mut Cx<'_, Self, String>) -> Outcome<String> {
    ///         cx.stash(n).unwrap_or_else(|full| Ok(format!("no room for {}", full.into_inner())))
    ///     }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let busy = node.spawn_thread("busy", Busy)?;
    /// busy.send(1)?;
    /// assert_eq!(busy.call(2).wait()?, "no room for 2");
    /// assert_eq!(busy.snapshot().queued, 1);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn limit_stash(&mut self, capacity: usize) {
        let aside = self.extensions().get_or_default::<Aside<P>>();
        aside.capacity = Some(capacity);
    }
}
