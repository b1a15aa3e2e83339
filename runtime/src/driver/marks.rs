//! What makes messages for a driver's members take the longer way into their mailboxes. It is one word, so that the common way
//! asks once.

use crate::sync::{AtomicU32, Relaxed};

/// See the module's documentation. The marks order nothing, hence relaxed.
#[derive(Debug)]
pub(crate) struct Marks(AtomicU32);

/// The marks of a driver at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marked(u32);

impl Marked {
    /// The driver serves its members strictly in the order in which messages arrived.
    pub(crate) const IN_ARRIVAL_ORDER: Self = Self(1);
    /// Somebody wants to know who sends to its members: see `sends.rs`.
    pub(crate) const WATCHED: Self = Self(2);

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(crate) fn has(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }
}

impl Marks {
    pub(crate) fn none() -> Self {
        Self(AtomicU32::new(0))
    }

    #[inline]
    pub(crate) fn get(&self) -> Marked {
        Marked(self.0.load(Relaxed))
    }

    pub(crate) fn set(&self, mark: Marked, on: bool) {
        if on {
            self.0.fetch_or(mark.0, Relaxed);
        } else {
            self.0.fetch_and(!mark.0, Relaxed);
        }
    }
}
