//! Samples as an asynchronous stream.

use crate::delivery::Delivery;
use crate::sample::Sample;
use crate::subscription::Subscription;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The samples of a subscription, one after the other: a [`Stream`] for any executor.
///
/// It is lock-step: it takes a sample when it is asked for one, and nothing ahead. It waits as long as it takes, and ends when the
/// subscription is closed and everything queued was taken.
///
/// # Cancel safety
///
/// A sample leaves the queue in the very poll that returns it. Dropping the stream half way takes nothing, gives up its place in
/// the line of receivers, and never blocks, whatever is queued.
#[must_use = "a stream does nothing unless it is polled"]
pub struct SampleStream<T: ?Sized + Send + Sync + 'static> {
    delivery: Arc<Delivery<T>>,
    place: Option<u64>,
    ended: bool,
    /// Ends the subscription with the stream.
    owned: Option<Subscription<T>>,
}

impl<T: ?Sized + Send + Sync + 'static> Subscription<T> {
    /// A stream of the samples that come. It ends with the subscription, which it does not keep. Streams and other receivers of
    /// one subscription share its samples: each goes to one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_pubsub::{Graph, Topic};
    /// # use mproc_runtime::Runtime;
    /// use futures_core::Stream;
    /// use std::pin::pin;
    ///
    /// const NUMBERS: Topic<i64> = Topic::new("numbers");
    /// # let node = Runtime::simulated(1);
    /// # let graph = Graph::of(&node);
    /// let numbers = graph.subscription(&node, &NUMBERS)?;
    /// graph.publisher(&node, &NUMBERS)?.publish(7)?;
    /// let mut stream = pin!(numbers.stream());
    /// // With the `futures` crate: `stream.next().await`.
    /// let next = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx));
    /// assert_eq!(node.run(next)?.map(|sample| *sample), Some(7));
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn stream(&self) -> SampleStream<T> {
        SampleStream {
            delivery: self.delivery().clone(),
            place: None,
            ended: false,
            owned: None,
        }
    }

    /// As [`stream`](Self::stream), and the stream owns the subscription: dropping it ends that.
    pub fn into_stream(self) -> SampleStream<T> {
        let mut stream = self.stream();
        stream.owned = Some(self);
        stream
    }
}

impl<T: ?Sized + Send + Sync + 'static> Stream for SampleStream<T> {
    type Item = Sample<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Sample<T>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let poll = this.delivery.poll_recv(&mut this.place, context.waker());
        poll.map(|received| {
            this.ended = received.is_err();
            received.ok()
        })
    }
}

impl<T: ?Sized + Send + Sync + 'static> FusedStream for SampleStream<T> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<T: ?Sized + Send + Sync + 'static> Drop for SampleStream<T> {
    fn drop(&mut self) {
        self.delivery.leave_line(&mut self.place);
    }
}

impl<T: ?Sized + Send + Sync> fmt::Debug for SampleStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampleStream")
            .field("owns", &self.owned)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
