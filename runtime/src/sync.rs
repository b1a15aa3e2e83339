//! The one door to atomics, locks, cells and threads.
//!
//! Everything that takes part in a protocol between threads comes from here, so that the same source runs on the
//! real primitives, with `--cfg loom` under the model checker, which tries every order of a few steps, and with
//! `--cfg shuttle` under a scheduler that draws the order of many.

#[cfg(not(any(loom, shuttle)))]
mod real {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, fence};
    pub(crate) use std::thread;
    pub(crate) use std::thread_local;

    /// [`std::cell::UnsafeCell`] with loom's way of access, so that the model checker can see each use.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Passes the pointer on. Making it is safe; whoever dereferences it says why that is allowed.
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(shuttle)]
mod real {
    pub(crate) use shuttle::hint::spin_loop;
    pub(crate) use shuttle::sync::MutexGuard;
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, fence};
    pub(crate) use shuttle::thread::{self, yield_now};
    pub(crate) use shuttle::thread_local;

    /// As the real one: its threads take turns on one thread of the system.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Passes the pointer on. Making it is safe; whoever dereferences it says why that is allowed.
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }

    /// shuttle's mutex with the interface of `parking_lot`'s.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

#[cfg(loom)]
mod real {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, fence};
    pub(crate) use loom::thread;
    pub(crate) use loom::thread_local;

    /// loom's mutex with the interface of `parking_lot`'s. A panic inside a model ends the model, so poison never
    /// needs handling.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

pub(crate) use real::*;

pub(crate) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// A count that is part of no protocol: the model checker need not see it (and must not, where what is counted depends on
/// the clock).
pub(crate) type PlainCount = std::sync::atomic::AtomicU64;

/// Likewise, a flag.
pub(crate) type PlainFlag = std::sync::atomic::AtomicBool;

/// Puts what is written by one thread on a cache line that no other field shares.
///
/// 128 bytes: processors with 64-byte lines fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct OwnLine<T>(pub(crate) T);

impl<T> std::ops::Deref for OwnLine<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Stores `value` so that no later load of this thread is done before it.
///
/// It is one side of a handshake between two threads that each store one word and then read the other's: at least one
/// of them sees what the other stored. Each caller names its partner.
#[inline]
pub(crate) fn store_before_loads(word: &AtomicU32, value: u32) {
    // A swap is cheaper than a store and a fence on x86, and as strong: every access of the handshake is SeqCst, so
    // all of them stand in one order. loom knows that order only for fences.
    #[cfg(not(loom))]
    word.swap(value, SeqCst);
    #[cfg(loom)]
    {
        word.store(value, Release);
        fence(SeqCst);
    }
}
