//! How a publisher waits: for room in a queue, or for a slot.
//!
//! ```text
//! publisher    waiting += 1;   fence;   looks again;   nothing: waits while space is as it was;   waiting -= 1
//! subscriber   gives back;     fence;   waiting not 0: space += 1, wakes
//! ```
//!
//! Both store, fence, then load, so that either the publisher finds what was given back when it looks again, or the subscriber
//! sees that it waits. A subscriber that dies in between is reaped by the publisher's own process, which changes `space` too.

use crate::link::LinkWords;
#[cfg(not(loom))]
use crate::loan::Returns;
use crate::sync::{AtomicU32, Futex, Relaxed, SeqCst, fence, wait_any};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

enum Source {
    Link(Arc<LinkWords>),
    #[cfg(not(loom))]
    Returns(Arc<Returns>),
}

impl Source {
    /// False in a child made by `fork`, which does not have the words.
    fn is_here(&self) -> bool {
        match self {
            Self::Link(words) => words.is_here(),
            #[cfg(not(loom))]
            Self::Returns(_) => true,
        }
    }

    fn words(&self) -> (&Futex, &AtomicU32) {
        match self {
            Self::Link(words) => (&words.head().space.space, &words.head().waiting.waiting),
            #[cfg(not(loom))]
            Self::Returns(returns) => (&returns.space, &returns.waiting),
        }
    }
}

/// A publisher's wait that was announced: it looks once more whether there is room, under its lock, and only then waits,
/// without the lock.
#[must_use = "subscribers wake from now on: wait, or drop it"]
pub struct Waiter {
    /// Each with what its word was before the caller looks again.
    sources: Vec<(Source, u32)>,
}

impl Waiter {
    #[cfg(loom)]
    pub(crate) fn new<'a>(links: impl Iterator<Item = &'a Arc<LinkWords>>) -> Self {
        let sources = links.map(|link| (Source::Link(link.clone()), 0)).collect();
        Self { sources }.announced()
    }

    /// What comes back inside this process wakes, too.
    #[cfg(not(loom))]
    pub(crate) fn with_returns<'a>(
        links: impl Iterator<Item = &'a Arc<LinkWords>>,
        returns: &Arc<Returns>,
    ) -> Self {
        let links = links.map(|link| (Source::Link(link.clone()), 0));
        let returns = (Source::Returns(returns.clone()), 0);
        // The kernel waits for 128 words at once: what comes back here is always one of them.
        let sources = std::iter::once(returns).chain(links).collect();
        Self { sources }.announced()
    }

    fn announced(mut self) -> Self {
        for (source, seen) in &mut self.sources {
            let (space, waiting) = source.words();
            // Before the caller looks again: what changes from then on ends the wait.
            *seen = space.load();
            waiting.fetch_add(1, Relaxed);
        }
        // Partners: the fences in `Shared::tell_publisher` and `Returns::push`.
        fence(SeqCst);
        self
    }

    /// Sleeps until something was given back, at most for `limit`. Returns early for no reason at times.
    ///
    /// # Many links
    ///
    /// The kernel waits for 128 words at once. A publisher with more links than 127 is woken by the first of them only, or by
    /// its limit: it had better have its drivers [watch](crate::Endpoint::watch).
    pub fn wait(self, limit: Option<Duration>) {
        let words: Vec<_> = self
            .sources
            .iter()
            .filter(|(source, _)| source.is_here())
            .map(|(source, seen)| (source.words().0, *seen))
            .collect();
        wait_any(&words, limit);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        for (source, _) in &self.sources {
            if source.is_here() {
                source.words().1.fetch_sub(1, Relaxed);
            }
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiter({} sources)", self.sources.len())
    }
}
