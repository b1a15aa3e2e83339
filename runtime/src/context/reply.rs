//! Replies: at once, later, or by another.

use super::Cx;
use super::promise::{ReplySlot, let_go};
use crate::address::Address;
use crate::error::{CallError, Fault, Outcome};
use crate::processor::{Handle, Processor};
use std::fmt;
use std::sync::Arc;
use std::task::Waker;

impl<P: Processor, R: Send + 'static> Cx<'_, P, R> {
    /// Promises the reply for later: `keep` is given a token, which can be kept, or sent anywhere, and answered with
    /// [`ReplyToken::send`]. The handler returns what this returns.
    ///
    /// If nobody waits for the reply (the message was sent, not called), the token leads nowhere. A token that is dropped
    /// unanswered tells the caller [`CallError::NoReply`].
    ///
    /// # Errors
    ///
    /// What it returns is always an `Err` to the compiler's eyes, and means "later", not a fault.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Cx, Handle, Outcome, Processor, ReplyToken, Runtime};
    /// struct Door { waiting: Vec<ReplyToken<&'static str>> }
    /// struct Knock;
    /// struct Open;
    /// impl Processor for Door {}
    /// impl Handle<Knock> for Door {
    ///     type Reply = &'static str;
    ///     fn handle(&mut self, _: Knock, cx: &mut Cx<'_, Self, &'static str>) -> Outcome<&'static str> {
    ///         cx.reply_later(|token| self.waiting.push(token))
    ///     }
    /// }
    /// impl Handle<Open> for Door {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: Open, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         self.waiting.drain(..).for_each(|token| token.send("come in"));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let door = node.spawn_thread("door", Door { waiting: vec![] })?;
    /// let mut answer = door.call(Knock);
    /// answer.begin();
    /// door.send(Open)?;
    /// assert_eq!(answer.wait()?, "come in");
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn reply_later(&mut self, keep: impl FnOnce(ReplyToken<R>)) -> Outcome<R> {
        let slot = self.promise.take();
        if let Some(slot) = &slot {
            // Nobody can know who will answer.
            slot.hand_on(None);
        }
        keep(ReplyToken(slot));
        Err(Fault::reply_later())
    }

    /// Hands the message on: `other` replies in this processor's place. The handler returns what this returns.
    ///
    /// # Errors
    ///
    /// As [`reply_later`](Self::reply_later). If `other` has ended, the caller gets [`CallError::Stopped`]; if it waits,
    /// perhaps over others, for the caller, that gets [`CallError::Deadlock`].
    pub fn forward<Q, M>(&mut self, other: &Address<Q>, message: M) -> Outcome<R>
    where
        Q: Handle<M, Reply = R>,
        M: Send + 'static,
    {
        let slot = self.promise.take();
        other.send_forwarded(message, slot);
        Err(Fault::reply_later())
    }

    /// Deals with what a handler returned, when somebody may wait for it.
    #[inline]
    pub(crate) fn conclude(&mut self, processor: &mut P, outcome: Outcome<R>) {
        let slot = self.promise.take();
        match outcome {
            Ok(reply) => {
                if let Some(slot) = slot {
                    slot.answer(Ok(reply));
                }
            }
            Err(fault) if fault.is_reply_later() => {
                // The promise was taken by whoever answers; if it was not, the caller must not wait for nothing.
                if let Some(slot) = slot {
                    slot.answer(Err(CallError::NoReply));
                }
            }
            Err(fault) => {
                if let Some(slot) = slot {
                    slot.answer(Err(CallError::Faulted(fault.clone())));
                }
                self.cell.report_fault(fault, processor, self.local);
            }
        }
    }
}

/// A promised reply. Whoever holds it owes an answer; dropping it tells the caller [`CallError::NoReply`].
#[must_use = "dropping the token tells the caller that no reply comes"]
pub struct ReplyToken<R: 'static>(Option<Arc<dyn ReplySlot<R>>>);

impl<R: 'static> ReplyToken<R> {
    /// Answers.
    pub fn send(mut self, reply: R) {
        if let Some(slot) = self.0.take() {
            slot.answer(Ok(reply));
        }
    }

    /// Answers with a fault: the caller gets [`CallError::Faulted`].
    pub fn fail(mut self, fault: Fault) {
        if let Some(slot) = self.0.take() {
            slot.answer(Err(CallError::Faulted(fault)));
        }
    }

    /// Where the answer goes, for whoever owes it from now on.
    pub(crate) fn into_slot(mut self) -> Option<Arc<dyn ReplySlot<R>>> {
        self.0.take()
    }

    /// True if somebody waits for it: the message was called and not sent.
    pub fn is_awaited(&self) -> bool {
        self.0.is_some()
    }

    /// True if whoever called has given up since: nobody gets the reply.
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|slot| slot.is_cancelled())
    }

    /// Has `waker` woken when whoever called gives up; at once if that has happened. Of several, the last one counts. It is
    /// called on the thread of whoever gives up, with no lock held.
    pub fn on_cancel(&self, waker: Waker) {
        if let Some(slot) = &self.0 {
            slot.on_cancel(waker);
        }
    }
}

impl<R: 'static> Drop for ReplyToken<R> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.answer(Err(let_go()));
        }
    }
}

impl<R: 'static> fmt::Debug for ReplyToken<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyToken")
            .field("is_awaited", &self.is_awaited())
            .finish()
    }
}
