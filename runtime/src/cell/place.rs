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
use std::mem::{self, ManuallyDrop};
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

    /// Passes on what its driver alone may touch. In a small cell the part beside the processor is made for it on the stack, and
    /// kept if anything is left in it: see [`Made`].
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
                let Kept {
                    processor,
                    local: kept,
                } = unsafe { &mut *kept };
                let Some(local) = kept else {
                    let mut made = Made::new(kept);
                    let local = &mut *made.local;
                    let mut body = Body { processor, local };
                    let result = f(&mut body);
                    if body.has_ended() {
                        *body.local = Local::new();
                    }
                    return result;
                };
                let mut body = Body { processor, local };
                let result = f(&mut body);
                if body.has_ended() || body.local.is_blank() {
                    *kept = None;
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
    /// Kept by a visit that leaves something in it, and given back at the end of one that does not.
    local: Option<Box<Local<P>>>,
}

/// The part beside the processor, on the stack of a visit to a small cell that keeps none. At the end of the visit, also of one that
/// unwinds, it goes where the cell keeps it, if anything is left in it.
///
/// A token that goes around among many cells makes one for each hop. So it costs no allocation, and as a rule no drop: most visits
/// leave it as it was made.
struct Made<'a, P: Processor> {
    /// Dropped by `drop`, unless that would do nothing.
    local: ManuallyDrop<Local<P>>,
    /// Empty until then.
    keep: &'a mut Option<Box<Local<P>>>,
}

impl<'a, P: Processor> Made<'a, P> {
    #[inline]
    fn new(keep: &'a mut Option<Box<Local<P>>>) -> Self {
        Self {
            local: ManuallyDrop::new(Local::of_many()),
            keep,
        }
    }

    #[cold]
    fn keep_or_drop(&mut self) {
        // A new one holds nothing, so nothing leaks that is left here.
        let local = mem::replace(&mut *self.local, Local::new());
        if !local.is_blank() {
            *self.keep = Some(Box::new(local));
        }
    }
}

impl<P: Processor> Drop for Made<'_, P> {
    #[inline]
    fn drop(&mut self) {
        if self.local.holds_memory() || !self.local.is_blank() {
            self.keep_or_drop();
        }
    }
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

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::mailbox::Control;
    use crate::queue::WhenFull;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::task::Waker;

    struct Quiet;

    impl Processor for Quiet {}

    fn small() -> Place<Quiet> {
        let mailbox = Mailbox::new(8, WhenFull::Wait);
        let manner = Manner::of(&mailbox.lanes.lock().normal);
        Place::new(Quiet, true, mailbox, manner, false)
    }

    fn visit<R>(place: &Place<Quiet>, f: impl FnOnce(&mut Body<'_, Quiet>) -> R) -> R {
        // SAFETY: each test has one thread, and no visit is inside another.
        unsafe { place.with_body(f) }
    }

    fn keeps_local(place: &Place<Quiet>) -> bool {
        let Place::Here(here) = place else {
            panic!("the place is that of a small cell")
        };
        // SAFETY: as above; nobody is inside.
        here.body
            .with_mut(|kept| unsafe { (*kept).local.is_some() })
    }

    fn is_seven(control: Option<Control<Quiet>>) -> bool {
        matches!(control, Some(Control::Resume(7)))
    }

    #[test]
    fn what_a_visit_leaves_is_kept_until_it_is_gone() {
        let place = small();
        visit(&place, |body| {
            body.local.control.push_back(Control::Resume(1));
            body.local.control.pop_front();
        });
        assert!(!keeps_local(&place), "there is room, and nothing in it");
        visit(&place, |body| {
            body.local.control.push_back(Control::Resume(7));
        });
        assert!(keeps_local(&place));
        assert!(visit(&place, |body| is_seven(
            body.local.control.pop_front()
        )));
        assert!(!keeps_local(&place));
    }

    #[test]
    fn what_a_visit_leaves_that_unwinds_is_kept() {
        let place = small();
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            visit(&place, |body| {
                body.local.control.push_back(Control::Resume(7));
                panic!("in the middle");
            });
        }));
        assert!(unwound.is_err());
        assert!(visit(&place, |body| is_seven(
            body.local.control.pop_front()
        )));
    }

    #[test]
    fn nothing_is_kept_of_one_that_has_ended() {
        let place = small();
        let alive = Arc::new(());
        let left = alive.clone();
        visit(&place, |body| {
            let task = Control::Do(Box::new(move |_, _| drop(left)));
            body.local.control.push_back(task);
            assert!(body.begin_to_end());
        });
        assert!(!keeps_local(&place));
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    /// What is not known to hold memory would leak at the end of each visit.
    #[test]
    fn what_has_memory_is_not_forgotten() {
        let fill: [fn(&mut Local<Quiet>); 7] = [
            |local| local.control.reserve(1),
            |local| local.ready.reserve(1),
            |local| local.woken.reserve(1),
            |local| local.lanes.reserve(1),
            |local| local.waker = Some(Waker::noop().clone()),
            |local| local.tasks = Some(Box::default()),
            |local| *local.extensions.get_or_default::<u64>() = 1,
        ];
        assert!(!Local::<Quiet>::of_many().holds_memory());
        for (index, fill) in fill.into_iter().enumerate() {
            let mut local = Local::of_many();
            fill(&mut local);
            assert!(local.holds_memory(), "field {index}");
        }
    }
}
