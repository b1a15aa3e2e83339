//! Where the callback of a subscription lies while it is not called, so that it can be taken out and another put in.
//!
//! Whoever calls takes it out for that long and puts it back, unless another was put in meanwhile. No lock is held
//! while it is called.
//!
//! A callback that is taken out for good stays here until the thread that calls it has said that it calls none: a sample may be
//! on its way to it. Then it is dropped there ([`CallbackSlot::clear`]).

use crate::sample::Sample;
use parking_lot::Mutex;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A callback that is called on one thread, with `&mut` to what it keeps.
type Callback<T> = Box<dyn FnMut(Sample<T>) + Send>;

/// The callback of a subscription. For the facade; clones are one.
pub struct CallbackSlot<T: ?Sized + 'static>(Arc<Mutex<Slot<T>>>);

struct Slot<T: ?Sized + 'static> {
    /// Absent while it is called.
    callback: Option<Callback<T>>,
    /// How many were put in or taken out.
    changes: u64,
}

impl<T: ?Sized + 'static> CallbackSlot<T> {
    /// With this callback in it.
    pub fn new(callback: impl FnMut(Sample<T>) + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Slot {
            callback: Some(Box::new(callback)),
            changes: 0,
        })))
    }

    /// Calls what is in it. One thread does so.
    pub fn call(&self, sample: Sample<T>) {
        let callback = self.0.lock().callback.take();
        let mut called = Called {
            slot: self,
            callback,
        };
        if let Some(callback) = &mut called.callback {
            callback(sample);
        }
    }

    /// Puts another in. The one before is not called again.
    pub(crate) fn set(&self, callback: Callback<T>) {
        // Dropped without the lock: it is the user's code.
        let _before = {
            let mut slot = self.0.lock();
            slot.changes += 1;
            slot.callback.replace(callback)
        };
    }
}

/// A slot whose type is forgotten.
pub(crate) trait AnySlot: Send + Sync {
    /// The callback is to go. Returns what says so to [`clear`](Self::clear).
    fn expel(&self) -> u64;
    /// Drops it, if nothing was put in since [`expel`](Self::expel). On the thread that calls it, between two calls.
    fn clear(&self, expelled: u64);
    fn clone_slot(&self) -> Box<dyn AnySlot>;
    fn as_any(&self) -> &dyn Any;
}

impl<T: ?Sized + 'static> AnySlot for CallbackSlot<T> {
    fn expel(&self) -> u64 {
        let mut slot = self.0.lock();
        slot.changes += 1;
        slot.changes
    }

    fn clear(&self, expelled: u64) {
        let _before = {
            let mut slot = self.0.lock();
            if slot.changes == expelled {
                slot.callback.take()
            } else {
                None
            }
        };
    }

    fn clone_slot(&self) -> Box<dyn AnySlot> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A callback that is being called. Put back when this is dropped, also if it panics.
struct Called<'a, T: ?Sized + 'static> {
    slot: &'a CallbackSlot<T>,
    callback: Option<Callback<T>>,
}

impl<T: ?Sized> Drop for Called<'_, T> {
    fn drop(&mut self) {
        let mut slot = self.slot.0.lock();
        // One that was only expelled comes back, to be cleared. One that was replaced is dropped, without the lock.
        if slot.callback.is_none() {
            slot.callback = self.callback.take();
        }
    }
}

impl<T: ?Sized> Clone for CallbackSlot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ?Sized> fmt::Debug for CallbackSlot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackSlot")
    }
}
