//! The queues of a pool: one that everybody may push to, and one for each worker, from which the others steal.
//!
//! They are crossbeam's. The model checker cannot look into those, so models run on plain locked queues with the same names.

#[cfg(not(any(loom, shuttle)))]
pub(super) use crossbeam_deque::{Injector, Stealer, Worker as WorkerQueue};

#[cfg(not(any(loom, shuttle)))]
use crossbeam_deque::Steal;

/// Takes from the injector: one to return, and with it some more into `queue`.
#[cfg(not(any(loom, shuttle)))]
pub(super) fn take_batch<T>(injector: &Injector<T>, queue: &WorkerQueue<T>) -> Option<T> {
    insist(|| injector.steal_batch_and_pop(queue))
}

/// Takes one from the injector.
#[cfg(not(any(loom, shuttle)))]
pub(super) fn take_one<T>(injector: &Injector<T>) -> Option<T> {
    insist(|| injector.steal())
}

/// Takes half of what another worker has, at most some dozens: one to return, the others into `queue`.
#[cfg(not(any(loom, shuttle)))]
pub(super) fn steal_half<T>(stealer: &Stealer<T>, queue: &WorkerQueue<T>) -> Option<T> {
    insist(|| stealer.steal_batch_and_pop(queue))
}

/// "Retry" says that somebody else was faster: then somebody got on, and this ends.
#[cfg(not(any(loom, shuttle)))]
fn insist<T>(mut steal: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match steal() {
            Steal::Success(cell) => return Some(cell),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

#[cfg(any(loom, shuttle))]
pub(super) use self::plain::{Injector, Stealer, WorkerQueue, steal_half, take_batch, take_one};

#[cfg(any(loom, shuttle))]
mod plain {
    use crate::sync::Mutex;
    use std::collections::VecDeque;
    use std::sync::Arc;

    pub(crate) type Injector<T> = WorkerQueue<T>;
    pub(crate) type Stealer<T> = WorkerQueue<T>;

    pub(crate) struct WorkerQueue<T>(Arc<Mutex<VecDeque<T>>>);

    impl<T> WorkerQueue<T> {
        pub(crate) fn new() -> Self {
            Self(Arc::new(Mutex::new(VecDeque::new())))
        }

        pub(crate) fn new_fifo() -> Self {
            Self::new()
        }

        pub(crate) fn stealer(&self) -> Self {
            Self(self.0.clone())
        }

        pub(crate) fn push(&self, item: T) {
            self.0.lock().push_back(item);
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.lock().pop_front()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.lock().is_empty()
        }
    }

    pub(crate) fn take_batch<T>(injector: &Injector<T>, _: &WorkerQueue<T>) -> Option<T> {
        injector.pop()
    }

    pub(crate) fn take_one<T>(injector: &Injector<T>) -> Option<T> {
        injector.pop()
    }

    pub(crate) fn steal_half<T>(stealer: &Stealer<T>, _: &WorkerQueue<T>) -> Option<T> {
        stealer.pop()
    }
}
