//! A promise: who waits for the reply of a message, and what they are told if none comes.

use crate::cell::CellRef;
use crate::error::CallError;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::Waker;

/// Who waits for the reply of the message that is being handled; nobody if it was sent, not called.
pub(crate) struct Promise<R: 'static>(pub(super) Option<Arc<dyn ReplySlot<R>>>);

/// Where a reply goes.
pub(crate) trait ReplySlot<R>: Send + Sync {
    /// The first answer counts; later ones are ignored.
    fn answer(&self, result: Result<R, CallError>);

    /// From now on this processor owes the answer; `None`: whoever has the token. True if a thread that blocks for it has
    /// shown that: then whoever hands it on looks for a circle.
    fn hand_on(&self, to: Option<CellRef>) -> bool;

    /// True if the caller has given up: nobody gets the answer.
    fn is_cancelled(&self) -> bool;

    /// Has `waker` woken when the caller gives up; at once if it has. The last one counts.
    fn on_cancel(&self, waker: Waker);
}

impl<R: 'static> Promise<R> {
    #[inline]
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn owed(slot: Option<Arc<dyn ReplySlot<R>>>) -> Self {
        Self(slot)
    }

    #[inline]
    pub(super) fn take(&mut self) -> Option<Arc<dyn ReplySlot<R>>> {
        self.0.take()
    }

    pub(crate) fn answer(mut self, result: Result<R, CallError>) {
        if let Some(slot) = self.take() {
            slot.answer(result);
        }
    }
}

impl<R: 'static> Drop for Promise<R> {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.take() {
            Self::broken(slot);
        }
    }
}

impl<R: 'static> Promise<R> {
    /// A handler that unwinds leaves its promise behind. Its caller is told when the panic's message is known, a few
    /// frames further out.
    #[cold]
    fn broken(slot: Arc<dyn ReplySlot<R>>) {
        if std::thread::panicking() {
            UNWOUND.with(|unwound| {
                unwound.borrow_mut().push(Box::new(move |message| {
                    slot.answer(Err(CallError::Panicked(message)));
                }));
            });
        } else {
            slot.answer(Err(let_go()));
        }
    }
}

type TellPanicked = Box<dyn FnOnce(Arc<str>)>;

thread_local! {
    /// Promises of handlers that are unwinding on this thread.
    static UNWOUND: RefCell<Vec<TellPanicked>> = const { RefCell::new(Vec::new()) };
    /// What is dropped on this thread belonged to an incarnation that another will follow.
    static RESTARTING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// What those are told who wait for a reply whose promise was let go of.
pub(super) fn let_go() -> CallError {
    match RESTARTING.try_with(std::cell::Cell::get) {
        Ok(true) => CallError::Restarted,
        _ => CallError::NoReply,
    }
}

/// Drops what a dead incarnation has left: those who wait for its replies are told that it is restarted.
pub(crate) fn drop_for_restart(what: impl FnOnce()) {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            RESTARTING.set(self.0);
        }
    }
    let _before = Before(RESTARTING.replace(true));
    what();
}

/// The panic has been caught: tells those who waited for a reply of the handler.
pub(crate) fn tell_unwound(message: &Arc<str>) {
    let unwound = UNWOUND.with(|unwound| std::mem::take(&mut *unwound.borrow_mut()));
    for tell in unwound {
        tell(message.clone());
    }
}
