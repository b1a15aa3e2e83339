//! The one door to atomics and to waiting on a word: the real ones, or with `--cfg loom` the model checker's.

#[cfg(not(loom))]
mod real {
    use crate::sys;
    use std::time::Duration;

    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

    /// A word that threads of several processes can sleep on.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub(crate) struct Futex(AtomicU32);

    impl Futex {
        pub(crate) fn load(&self) -> u32 {
            // Partner: `bump_and_wake`. What happened before the change is seen by whoever sees the change.
            self.0.load(super::Acquire)
        }

        /// Changes the word, then wakes those who sleep on what it was.
        pub(crate) fn bump_and_wake(&self) {
            self.bump();
            self.wake();
        }

        pub(crate) fn bump(&self) {
            self.0.fetch_add(1, super::Release);
        }

        pub(crate) fn wake(&self) {
            sys::wake_all(&self.0);
        }

        /// Sleeps while the word is `seen`, at most for `limit`. May return early for no reason.
        pub(crate) fn wait(&self, seen: u32, limit: Option<Duration>) {
            sys::wait(&self.0, seen, limit);
        }
    }

    /// Sleeps while every word is as it was seen, at most for `limit`. May return early for no reason.
    pub(crate) fn wait_any(words: &[(&Futex, u32)], limit: Option<Duration>) {
        match words {
            [] => {}
            [(word, seen)] => word.wait(*seen, limit),
            many => {
                let many: Vec<_> = many.iter().map(|(word, seen)| (&word.0, *seen)).collect();
                sys::wait_any(&many, limit);
            }
        }
    }
}

#[cfg(loom)]
mod real {
    use loom::sync::{Condvar, Mutex};
    use std::time::Duration;

    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};

    /// What the kernel does: it compares the word and enlists the sleeper under one lock, which a waker takes after it has
    /// changed the word.
    #[derive(Debug, Default)]
    pub(crate) struct Futex {
        word: AtomicU32,
        sleepers: Mutex<()>,
        woken: Condvar,
    }

    impl Futex {
        pub(crate) fn load(&self) -> u32 {
            self.word.load(super::Acquire)
        }

        pub(crate) fn bump_and_wake(&self) {
            self.bump();
            self.wake();
        }

        pub(crate) fn bump(&self) {
            self.word.fetch_add(1, super::Release);
        }

        pub(crate) fn wake(&self) {
            let sleepers = self.sleepers.lock().expect("a panic ends the model");
            self.woken.notify_all();
            drop(sleepers);
        }

        /// In a model no limit ever passes: a wake-up that is lost ends it as a deadlock.
        pub(crate) fn wait(&self, seen: u32, _limit: Option<Duration>) {
            let sleepers = self.sleepers.lock().expect("a panic ends the model");
            if self.word.load(super::Relaxed) == seen {
                drop(self.woken.wait(sleepers));
            }
        }
    }

    pub(crate) fn wait_any(words: &[(&Futex, u32)], limit: Option<Duration>) {
        assert_eq!(words.len(), 1, "a model waits on one word");
        words[0].0.wait(words[0].1, limit);
    }
}

pub(crate) use real::*;

/// What is called when something happened that somebody waits for.
pub(crate) type Call = std::sync::Arc<dyn Fn() + Send + Sync>;

pub(crate) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
