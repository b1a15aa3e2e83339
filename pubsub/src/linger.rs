//! Closing a subscription that still has samples.

use crate::subscription::Subscription;
use std::time::Duration;

/// What closing does about samples that are still queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linger {
    /// They are given back at once.
    Discard,
    /// Others may take them, for at most so long. What is left then is given back.
    Drain(Duration),
}

impl<T: ?Sized + Send + Sync + 'static> Subscription<T> {
    /// Closes the subscription: from now on nothing more comes to it. Returns how many samples were queued and taken by nobody;
    /// they are given back, so that their publishers go on.
    ///
    /// With [`Linger::Drain`] what is queued can still be taken meanwhile, by other threads, and by tasks, tickets and streams of
    /// this subscription. Whoever waits then, or asks later, gets `Closed`.
    ///
    /// # Deadlocks
    ///
    /// `Drain` blocks this thread, at most for its time, also if nobody takes. Inside a handler, what the handler has sent is
    /// delivered first.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_pubsub::{Graph, Linger, RecvError, Topic};
    /// # use mproc_runtime::Runtime;
    /// const NUMBERS: Topic<i64> = Topic::new("numbers");
    /// # let node = Runtime::simulated(1);
    /// # let graph = Graph::of(&node);
    /// let numbers = graph.subscription(&node, &NUMBERS)?;
    /// let publisher = graph.publisher(&node, &NUMBERS)?;
    /// publisher.publish(1)?;
    /// publisher.publish(2)?;
    /// assert_eq!(numbers.close(Linger::Discard), 2);
    /// assert_eq!(numbers.recv().wait().unwrap_err(), RecvError::Closed);
    /// assert_eq!(publisher.publish(3)?.count, 0);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn close(&self, linger: Linger) -> u64 {
        let delivery = self.delivery();
        delivery.take_no_more();
        if let Linger::Drain(limit) = linger {
            let deadline = self.runtime().now().checked_add(limit);
            let look = |waker: &_| delivery.poll_drained(waker).then_some(());
            let _drained = self.runtime().block_until(deadline, look);
        }
        let (waits, before) = delivery.left_behind();
        self.end();
        let (_, after) = delivery.left_behind();
        waits + (after - before)
    }
}
