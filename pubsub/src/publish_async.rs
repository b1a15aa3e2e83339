//! A publish that waits for room as an operation: awaited, waited for, or continued in a handler.
//!
//! It goes the slow way of every publish ([`Passage`]): places at all that must not miss the value, then all at once.
//! So until it is done it has happened for nobody, and whoever drops it gives the places back.

use crate::error::PublishError;
use crate::fan_out::{Blocked, Delivered, Passage};
use crate::prepared::Prepared;
use crate::publisher::{Failure, Publisher};
use crate::sample::Body;
use mproc_runtime::queue::Waiter;
use mproc_runtime::{CutShort, Error, Operation, Pending, RuntimeCore, outbox_holds};
use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

impl<T: Send + Sync + 'static> Publisher<T> {
    /// Publishes `value` when there is room, as an operation: `.await` it, `wait` for it, or go on with `then`. It does what
    /// [`publish`](Self::publish) does and returns the same, but that no thread need wait, and that a handler does
    /// not put it into its outbox: the processor goes on with its messages meanwhile.
    ///
    /// Nothing happens before it is waited for. Values of one publisher are published in the order in which they find room, so
    /// wait for one before the next if their order matters; what the handler has in its outbox comes first.
    ///
    /// # Errors
    ///
    /// From waiting, as [`publish`](Self::publish). Nobody got the value, and it comes back: with
    /// [`PublishError::Timeout`] if there was no room until the limit, which is the publisher's unless told otherwise.
    ///
    /// # Cancel safety
    ///
    /// An operation that is dropped before it is done has published nothing for anybody, and the value is dropped. While it
    /// waits it may hold places at some subscriptions, so an operation that is kept and not polled holds others back.
    ///
    /// # Deadlocks
    ///
    /// `.await` and `then` never block the thread. `wait` blocks it, also inside a handler, and is refused at once if only this
    /// thread could make room ([`PublishError::Deadlock`]).
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_pubsub::{Graph, PublishError, SubscriptionOptions, Topic};
    /// # use mproc_runtime::Runtime;
    /// # use std::time::Duration;
    /// const NUMBERS: Topic<i64> = Topic::new("numbers");
    /// # let node = Runtime::simulated(1);
    /// # let graph = Graph::of(&node);
    /// let numbers = graph.publisher(&node, &NUMBERS)?;
    /// let one = SubscriptionOptions::new().capacity(1);
    /// let reader = graph.subscription_with(&node, &NUMBERS, one)?;
    ///
    /// numbers.publish_async(1).wait()?;
    /// let refused = numbers.publish_async(2).wait_timeout(Duration::from_millis(5));
    /// assert!(matches!(refused, Err(PublishError::Timeout { value: 2, .. })));
    /// assert_eq!(*reader.try_recv()?, 1);
    /// assert_eq!(numbers.publish_async(2).wait()?.count, 1);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn publish_async(&self, value: T) -> Pending<Delivered, PublishError<T>> {
        Pending::new(Arc::new(Publishing {
            publisher: self.clone(),
            state: Mutex::new(State {
                holds: Holds::Value(value),
                passage: None,
                full: Vec::new(),
                delivered: None,
            }),
        }))
    }
}

/// A publish that waits. One party at a time asks it, so what is taken out of its state is missed by nobody.
struct Publishing<T: Send + Sync + 'static> {
    publisher: Publisher<T>,
    state: Mutex<State<T>>,
}

struct State<T: Send + Sync + 'static> {
    holds: Holds<T>,
    /// While it waits.
    passage: Option<Passage<T>>,
    /// Who had no room at the last attempt.
    full: Vec<String>,
    /// It is published, and nobody has been told.
    delivered: Option<Delivered>,
}

/// The value, until it was published or given back.
enum Holds<T: Send + Sync + 'static> {
    /// Nothing is under way.
    Value(T),
    /// It counts as out.
    Body(Arc<dyn Body<T>>),
    Nothing,
}

impl<T: Send + Sync + 'static> Publishing<T> {
    /// Goes on as far as it can. The error is why it cannot now; `waker` is woken when it is worth trying again.
    fn attempt(&self, waker: &Waker) -> Result<(), Blocked<T>> {
        let core = &self.publisher.core;
        let (holds, passage) = {
            let mut state = self.state.lock();
            if state.delivered.is_some() {
                return Ok(());
            }
            let holds = std::mem::replace(&mut state.holds, Holds::Nothing);
            (holds, state.passage.take())
        };
        let body = match holds {
            Holds::Value(value) => self.publisher.body_of(value, Vec::new(), None),
            Holds::Body(body) => body,
            Holds::Nothing => return Err(Blocked::Closed),
        };
        // Kept there meanwhile: filters and codecs run below, without the lock, and may panic.
        self.state.lock().holds = Holds::Body(body.clone());
        core.check_here("cannot publish")
            .map_err(Blocked::Impossible)?;
        if self.publisher.is_idle() {
            drop(passage);
            self.finish(body, Delivered::default());
            return Ok(());
        }
        let mut passage = passage.unwrap_or_else(|| {
            let prepared = Prepared::default();
            Passage::new(core, body.clone(), prepared)
        });
        match passage.advance(core, waker) {
            Ok(delivered) => {
                drop(passage);
                self.finish(body, delivered);
                Ok(())
            }
            Err(blocked) => {
                let mut state = self.state.lock();
                state.full = blocked.names();
                state.passage = Some(passage);
                Err(blocked)
            }
        }
    }

    fn finish(&self, body: Arc<dyn Body<T>>, delivered: Delivered) {
        let kept = {
            let mut state = self.state.lock();
            state.delivered = Some(delivered);
            std::mem::replace(&mut state.holds, Holds::Nothing)
        };
        // Perhaps the last of the value: its drop is the user's code.
        drop((body, kept));
    }

    /// True if a value of this publisher stands in the outbox of the handler that the thread is in.
    fn is_behind(&self) -> bool {
        outbox_holds(self.publisher.core.key())
    }

    /// What can end it for good.
    fn settled(&self, blocked: Blocked<T>) -> Option<PublishError<T>> {
        match blocked {
            Blocked::Closed => Some(self.failed(Failure::Closed)),
            Blocked::Impossible(error) => Some(self.failed(Failure::Refused(error))),
            _ => None,
        }
    }

    /// Gives the value back.
    fn failed(&self, failure: Failure) -> PublishError<T> {
        self.leave();
        let holds = {
            let mut state = self.state.lock();
            std::mem::replace(&mut state.holds, Holds::Nothing)
        };
        match holds {
            Holds::Value(value) => failure.with(value),
            Holds::Body(body) => failure.with_value_of(body).map(|value| *value),
            // It was asked again after it was done.
            Holds::Nothing => PublishError::Kept {
                error: Error::from(failure.with(())),
            },
        }
    }

    /// Gives the places back. Nothing is under way any more.
    fn leave(&self) {
        let (passage, holds) = {
            let mut state = self.state.lock();
            let holds = std::mem::replace(&mut state.holds, Holds::Nothing);
            (state.passage.take(), holds)
        };
        drop(passage);
        let holds = match holds {
            Holds::Body(body) => match body.into_box() {
                Ok(value) => Holds::Value(*value),
                Err(kept) => Holds::Body(kept),
            },
            other => other,
        };
        self.state.lock().holds = holds;
    }
}

impl<T: Send + Sync + 'static> Operation<Delivered, PublishError<T>> for Publishing<T> {
    fn begin(self: Arc<Self>, _: &mut Waiter, waker: &Waker) -> Poll<Result<(), PublishError<T>>> {
        if self.is_behind() {
            self.publisher.core.watch_outbox(waker);
            return Poll::Pending;
        }
        match self.attempt(waker) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(blocked) => match self.settled(blocked) {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            },
        }
    }

    fn cut_short(&self, why: CutShort) -> PublishError<T> {
        self.failed(Failure::Refused(why.error("value was not published")))
    }

    fn what(&self) -> &'static str {
        "publish_async"
    }

    fn retreat(&self, _: &mut Waiter) {
        self.leave();
    }

    fn poll(&self, _: &Waker) -> Poll<Result<Delivered, PublishError<T>>> {
        // Once it is begun it is published.
        match self.state.lock().delivered.take() {
            Some(delivered) => Poll::Ready(Ok(delivered)),
            None => Poll::Pending,
        }
    }

    fn is_done(&self) -> bool {
        self.state.lock().delivered.is_some()
    }

    fn abandon(&self, _: &mut Waiter) {
        self.leave();
    }

    fn refuse_to_block(&self) -> Option<PublishError<T>> {
        if self.is_behind() {
            return None;
        }
        let blocked = self.attempt(Waker::noop()).err()?;
        match self.publisher.core.waits_for_this_thread(&blocked) {
            Some(names) => Some(self.failed(Failure::Deadlock(names))),
            // The wait asks again, and stands in line with a waker of its own.
            None => self.settled(blocked),
        }
    }

    fn timeout(&self) -> PublishError<T> {
        let full = {
            let mut state = self.state.lock();
            std::mem::take(&mut state.full)
        };
        self.failed(Failure::Timeout(full))
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.publisher.runtime().shared()
    }

    fn limit(&self) -> Duration {
        self.publisher.limit()
    }
}
