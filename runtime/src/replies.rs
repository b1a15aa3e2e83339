//! The results of many operations, in order: an iterator, and a stream.

use crate::pending::Pending;
use crate::ticket::Ticket;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The results of operations, one after the other, in the order of the operations: an [`Iterator`] that blocks, and a
/// [`Stream`] for any executor. Made by [`replies`].
///
/// It is lock-step: an operation is taken and started when its result is asked for, and nothing ahead, unless
/// [`prefetch`](Self::prefetch) says so.
///
/// # Deadlocks
///
/// As an iterator it waits as [`Pending::wait`] does, with the limit of each operation, and what is refused there is refused here.
///
/// # Cancel safety
///
/// Dropping it half way cancels what it has started and not given out, at most as many operations as it prefetches; it never
/// blocks. The rest was never started.
#[must_use = "it starts nothing until a result is asked for"]
pub struct Replies<T, E, I> {
    operations: Option<I>,
    ahead: VecDeque<Ticket<T, E>>,
    prefetch: usize,
}

/// Gives the results of `operations` in their order. Many calls of one processor, or of several, from a script or in a future.
///
/// # Examples
///
/// ```
/// # use mproc_runtime::{Runtime, closure, replies};
/// let node = Runtime::simulated(1);
/// let square = closure(|n: u64, _cx| Ok::<_, std::fmt::Error>(n * n));
/// let square = node.spawn_thread("square", square)?;
///
/// let calls = (1..=4).map(|n| square.call(n));
/// // While one is waited for, up to two more are under way.
/// let squares: Result<Vec<_>, _> = replies(calls).prefetch(2).collect();
/// assert_eq!(squares?, [1, 4, 9, 16]);
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
pub fn replies<T, E, I>(operations: I) -> Replies<T, E, I::IntoIter>
where
    T: 'static,
    E: Send + 'static,
    I: IntoIterator<Item = Pending<T, E>>,
{
    Replies {
        operations: Some(operations.into_iter()),
        ahead: VecDeque::new(),
        prefetch: 0,
    }
}

impl<T, E, I> Replies<T, E, I> {
    /// Lets `count` operations be under way beside the one whose result is waited for. They are started when a result is asked
    /// for.
    pub fn prefetch(mut self, count: usize) -> Self {
        self.prefetch = count;
        self
    }
}

impl<T, E, I> Replies<T, E, I>
where
    T: 'static,
    E: Send + 'static,
    I: Iterator<Item = Pending<T, E>>,
{
    /// Starts as many as may be under way.
    fn start_ahead(&mut self) {
        while self.ahead.len() <= self.prefetch
            && let Some(operations) = &mut self.operations
        {
            match operations.next() {
                Some(operation) => self.ahead.push_back(operation.start()),
                None => self.operations = None,
            }
        }
    }
}

impl<T, E, I> Iterator for Replies<T, E, I>
where
    T: 'static,
    E: Send + 'static,
    I: Iterator<Item = Pending<T, E>>,
{
    type Item = Result<T, E>;

    fn next(&mut self) -> Option<Result<T, E>> {
        self.start_ahead();
        self.ahead.pop_front().map(Ticket::wait)
    }
}

impl<T, E, I> Stream for Replies<T, E, I>
where
    T: 'static,
    E: Send + 'static,
    I: Iterator<Item = Pending<T, E>> + Unpin,
{
    type Item = Result<T, E>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T, E>>> {
        let this = self.get_mut();
        this.start_ahead();
        let Some(first) = this.ahead.front_mut() else {
            return Poll::Ready(None);
        };
        let poll = Pin::new(first).poll(context);
        if poll.is_ready() {
            this.ahead.pop_front();
        }
        poll.map(Some)
    }
}

impl<T, E, I> FusedStream for Replies<T, E, I>
where
    T: 'static,
    E: Send + 'static,
    I: Iterator<Item = Pending<T, E>> + Unpin,
{
    fn is_terminated(&self) -> bool {
        self.operations.is_none() && self.ahead.is_empty()
    }
}

impl<T, E, I> fmt::Debug for Replies<T, E, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("under_way", &self.ahead.len())
            .field("prefetch", &self.prefetch)
            .finish_non_exhaustive()
    }
}
