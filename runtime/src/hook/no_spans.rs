//! Without the feature `spans`: types of no size, and functions that do nothing. `spans.rs` says what they are for.

use crate::name::Name;

/// Nothing.
#[derive(Clone, Debug, Default)]
pub struct Cause;

impl Cause {
    /// Nothing.
    #[inline(always)]
    pub fn here() -> Self {
        Self
    }

    /// Nothing.
    #[inline(always)]
    pub fn none() -> Self {
        Self
    }
}

// What is on its way carries one: it must not grow by it.
const _: () = assert!(size_of::<Cause>() == 0 && align_of::<Cause>() == 1);
const _: () = assert!(!std::mem::needs_drop::<Cause>() && !std::mem::needs_drop::<Handling>());

/// Nothing.
#[derive(Debug)]
#[must_use = "dropping it leaves the span"]
pub struct Handling;

/// Nothing.
#[inline(always)]
pub fn handling(_: &Name, _: &'static str, _: Cause) -> Handling {
    Handling
}

#[derive(Clone, Debug)]
pub(crate) struct FutureSpan;

impl FutureSpan {
    #[inline(always)]
    pub(crate) fn here() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn spawned(_: &Name) -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn enter(&self) -> Handling {
        Handling
    }
}
