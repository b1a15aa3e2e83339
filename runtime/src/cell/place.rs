//! Where a cell keeps what is written: the mailbox, counters, state, and what is read without the lock.
//!
//! | the cell is                                    | it is kept                                                       |
//! |------------------------------------------------|------------------------------------------------------------------|
//! | one of few on its driver, so that it may be hot | apart, each part on lines of its own: senders on other threads write the mailbox while the driver writes the rest, and would pull a common line to and fro. What is left in the cell is only read |
//! | one of many                                    | in the cell, so that an idle one is small                        |

use super::{Counters, Local};
use crate::mailbox::{Flags, Lanes, Mailbox, Manner, OwnFlags};
use crate::processor::Processor;
use crate::sync::{Mutex, OwnLine, UnsafeCell};
use std::mem;
use std::ops::{Deref, DerefMut};

/// See the module's documentation. It is one or the other for the life of the cell.
pub(super) enum Place<P: Processor> {
    Here(Here<P>),
    Apart(Box<Apart<P>>),
}

pub(super) struct Here<P: Processor> {
    mailbox: Mailbox<P>,
    flags: Flags,
    counters: Counters,
    body: UnsafeCell<Kept<P>>,
}

pub(super) struct Apart<P: Processor> {
    mailbox: OwnLine<Mailbox<P>>,
    /// Senders read it when the queue is nearly full: not on a line with what is written for each message.
    flags: OwnLine<Flags>,
    counters: OwnLine<Counters>,
    body: UnsafeCell<OwnLine<Whole<P>>>,
}

/// What is written for each message: a driver that handles several need not look for it each time.
#[derive(Clone, Copy)]
pub(super) struct Hot<'a> {
    pub(super) flags: &'a Flags,
    pub(super) counters: &'a Counters,
}

impl<P: Processor> Place<P> {
    pub(super) fn new(
        processor: impl Into<Option<P>>,
        movable: bool,
        mailbox: Mailbox<P>,
        manner: Manner,
        apart: bool,
    ) -> Self {
        let processor = processor.into().map(|p| Resident::new(p, movable));
        let is_down = processor.is_none();
        let flags = Flags::new(OwnFlags::new(manner));
        let counters = Counters::default();
        if apart {
            let mut local = Local::new();
            local.down = is_down;
            Self::Apart(Box::new(Apart {
                mailbox: OwnLine(mailbox),
                flags: OwnLine(flags),
                counters: OwnLine(counters),
                body: UnsafeCell::new(OwnLine(Whole { processor, local })),
            }))
        } else {
            let local = is_down.then(|| {
                let mut local = Box::new(Local::new());
                local.down = true;
                local
            });
            Self::Here(Here {
                mailbox,
                flags,
                counters,
                body: UnsafeCell::new(Kept { processor, local }),
            })
        }
    }

    #[inline]
    pub(super) fn lanes(&self) -> &Mutex<Lanes<P>> {
        match self {
            Self::Apart(apart) => &apart.mailbox.lanes,
            Self::Here(here) => &here.mailbox.lanes,
        }
    }

    #[inline]
    pub(super) fn flags(&self) -> &Flags {
        match self {
            Self::Apart(apart) => &apart.flags,
            Self::Here(here) => &here.flags,
        }
    }

    #[inline]
    pub(super) fn counters(&self) -> &Counters {
        match self {
            Self::Apart(apart) => &apart.counters,
            Self::Here(here) => &here.counters,
        }
    }

    #[inline]
    pub(super) fn hot(&self) -> Hot<'_> {
        Hot {
            flags: self.flags(),
            counters: self.counters(),
        }
    }

    /// Passes on what its driver alone may touch. In a small cell the part beside the processor is made for it, and given
    /// back if nothing is left in it.
    ///
    /// # Safety
    ///
    /// Until this returns, nobody else comes here, on this thread or another.
    #[inline]
    pub(super) unsafe fn with_body<R>(&self, f: impl FnOnce(&mut Body<'_, P>) -> R) -> R {
        match self {
            Self::Apart(apart) => apart.body.with_mut(|whole| {
                // SAFETY: by the caller's promise this is the only reference.
                let Whole { processor, local } = unsafe { &mut (*whole).0 };
                f(&mut Body { processor, local })
            }),
            Self::Here(here) => here.body.with_mut(|kept| {
                // SAFETY: as above.
                let kept = unsafe { &mut *kept };
                let mut body = Body {
                    processor: &mut kept.processor,
                    local: kept.local.get_or_insert_with(|| Box::new(Local::of_many())),
                };
                let result = f(&mut body);
                if body.has_ended() || body.local.is_blank() {
                    kept.local = None;
                }
                result
            }),
        }
    }
}

impl<P: Processor> Place<P> {
    /// The cell is dropped by a thread that is not its driver's, which is gone without ending it. What is not known to be
    /// `Send` is leaked.
    pub(super) fn leak_what_is_not_send(&mut self) {
        let leak = |processor: &mut Option<Resident<P>>, leak_local: &mut dyn FnMut()| {
            if processor.as_ref().is_some_and(|p| p.started && !p.ended) {
                leak_local();
            }
            if processor.as_ref().is_some_and(|p| !p.movable) {
                mem::forget(processor.take());
            }
        };
        match self {
            Self::Apart(apart) => apart.body.with_mut(|whole| {
                // SAFETY: `self` is borrowed for this alone.
                let Whole { processor, local } = unsafe { &mut (*whole).0 };
                leak(processor, &mut || {
                    mem::forget(mem::replace(local, Local::new()))
                });
            }),
            Self::Here(here) => here.body.with_mut(|kept| {
                // SAFETY: as above.
                let Kept { processor, local } = unsafe { &mut *kept };
                leak(processor, &mut || mem::forget(local.take()));
            }),
        }
    }
}

/// What a cell that stands apart keeps for its driver.
struct Whole<P: Processor> {
    processor: Option<Resident<P>>,
    local: Local<P>,
}

/// What a small cell keeps for its driver between two visits.
struct Kept<P: Processor> {
    /// `None` once it has ended, and while one that is supervised is down.
    processor: Option<Resident<P>>,
    /// Made by a visit, and given back at the end of one that leaves nothing in it.
    local: Option<Box<Local<P>>>,
}

/// A processor's state, and how far its life has come.
pub(super) struct Resident<P> {
    processor: P,
    /// The processor is `Send`: it may be dropped by any thread.
    pub(super) movable: bool,
    pub(super) started: bool,
    /// It is ending: nothing enters it any more but `stopped`.
    pub(super) ended: bool,
}

impl<P> Resident<P> {
    pub(super) fn new(processor: P, movable: bool) -> Self {
        Self {
            processor,
            movable,
            started: false,
            ended: false,
        }
    }
}

impl<P> Deref for Resident<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.processor
    }
}

impl<P> DerefMut for Resident<P> {
    fn deref_mut(&mut self) -> &mut P {
        &mut self.processor
    }
}

/// The inside of a cell, for whoever may touch it.
pub(super) struct Body<'a, P: Processor> {
    pub(super) processor: &'a mut Option<Resident<P>>,
    pub(super) local: &'a mut Local<P>,
}

impl<P: Processor> Body<'_, P> {
    /// True once `started` was called.
    #[inline]
    pub(super) fn is_up(&self) -> bool {
        self.processor.as_ref().is_some_and(|p| p.started)
    }

    /// True until `started` is called.
    #[inline]
    pub(super) fn is_new(&self) -> bool {
        self.processor.as_ref().is_some_and(|p| !p.started)
    }

    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        match &self.processor {
            Some(processor) => processor.ended,
            None => !self.local.down,
        }
    }

    /// The processor is to end for good. False if it has, or is about to.
    pub(super) fn begin_to_end(&mut self) -> bool {
        if self.has_ended() {
            return false;
        }
        self.local.down = false;
        if let Some(processor) = self.processor {
            processor.ended = true;
        }
        true
    }
}
