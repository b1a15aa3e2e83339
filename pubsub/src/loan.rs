//! Memory to fill before publishing.
//!
//! While the topic has links it is memory that the other nodes read, so that nothing is copied. Otherwise it is a box.

use crate::codec::{Codec, CodecError};
use crate::error::PublishError;
use crate::fan_out::Delivered;
use crate::leases::Tracker;
use crate::publisher::{Publisher, Wait};
use crate::sample::{Body, Header, InMemory};
use crate::tracked::Released;
use crate::transport::{Filled, LoanRefusal, OutLoan, Outlet};
use mproc_runtime::{Error, ErrorKind, Pending};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Memory to fill before publishing: what the subscribers will read, in this process and in others.
#[must_use = "a loan that is dropped publishes nothing"]
pub struct Loan<T: ?Sized + Send + Sync + 'static> {
    publisher: Publisher<T>,
    memory: Memory<T>,
}

enum Memory<T: ?Sized + 'static> {
    Heap(Box<T>),
    Lent {
        outlet: Arc<dyn Outlet>,
        loan: Box<dyn OutLoan>,
        codec: &'static Codec<T>,
    },
}

impl<T: zerocopy::FromZeros + Send + Sync + 'static> Publisher<[T]> {
    /// Memory for `count` values, to be filled and published. It is initialised, with zeros or with older values.
    ///
    /// While other processes subscribe it is shared memory, and they read it where it is filled.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if there is not that much memory; [`ErrorKind::Timeout`] if all shared memory of the topic was out until
    /// the publisher's limit.
    ///
    /// # Deadlocks
    ///
    /// It waits for shared memory that is out. Inside a handler it does not wait: the memory is this process's own then, and is
    /// copied when it is published.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_pubsub::{Graph, Topic};
    /// # use mproc_runtime::Runtime;
    /// const FRAMES: Topic<[u8]> = Topic::slices("frames");
    /// # let node = Runtime::simulated(1);
    /// # let graph = Graph::of(&node);
    /// let camera = graph.publisher(&node, &FRAMES)?;
    /// let screen = graph.subscription(&node, &FRAMES)?;
    /// let mut loan = camera.loan(3)?;
    /// loan.copy_from_slice(b"RGB");
    /// loan.publish()?; // consumed: nobody can write to it afterwards
    /// assert_eq!(&*screen.recv().wait()?, b"RGB");
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn loan(&self, count: usize) -> Result<Loan<[T]>, Error> {
        if let Some(bytes) = count.checked_mul(size_of::<T>())
            && let Some(lent) = self.lend(bytes)?
        {
            return Ok(lent);
        }
        // Through a vector, because that is how the crate allocates slices of any type.
        let memory = T::new_vec_zeroed(count)
            .map(Vec::into_boxed_slice)
            .map_err(|_| {
                let text = format!(
                    "cannot loan {count} values of {} bytes on topic {:?}: no memory",
                    size_of::<T>(),
                    self.topic_label()
                );
                Error::new(ErrorKind::Io, text)
            })?;
        Ok(Loan {
            publisher: self.clone(),
            memory: Memory::Heap(memory),
        })
    }
}

impl<T: zerocopy::FromZeros + Send + Sync + 'static> Publisher<T> {
    /// Memory for one value, to be filled and published, as [`loan`](Publisher::loan).
    ///
    /// # Errors
    ///
    /// As [`loan`](Publisher::loan).
    ///
    /// # Deadlocks
    ///
    /// As [`loan`](Publisher::loan).
    pub fn loan_one(&self) -> Result<Loan<T>, Error> {
        if let Some(lent) = self.lend(size_of::<T>())? {
            return Ok(lent);
        }
        let memory = T::new_box_zeroed()
            .map_err(|_| Error::new(ErrorKind::Io, "cannot loan a value: no memory"))?;
        Ok(Loan {
            publisher: self.clone(),
            memory: Memory::Heap(memory),
        })
    }
}

impl<T: ?Sized + Send + Sync + 'static> Publisher<T> {
    /// Memory that other nodes will read, if any listens and values of this type are read in place.
    fn lend(&self, bytes: usize) -> Result<Option<Loan<T>>, Error> {
        self.check_here("cannot loan")?;
        let codec = self.codec();
        let (Some(in_place), Some(outlet)) = (codec.in_place(), self.outlet()) else {
            return Ok(None);
        };
        let lent = match outlet.loan(bytes) {
            Err(LoanRefusal::Short) if self.runtime().in_handler() => return Ok(None),
            Err(LoanRefusal::Short) => self.wait_for_loan(&outlet, bytes)?,
            lent => lent,
        };
        let mut loan = match lent {
            Ok(loan) => loan,
            Err(LoanRefusal::Never(error)) => return Err(error),
            Err(LoanRefusal::Short) => return Ok(None),
        };
        if (in_place.view_mut)(loan.bytes_mut()).is_none() {
            // Its alignment is more than that of shared memory.
            return Ok(None);
        }
        Ok(Some(Loan {
            publisher: self.clone(),
            memory: Memory::Lent {
                outlet,
                loan,
                codec,
            },
        }))
    }

    fn wait_for_loan(
        &self,
        outlet: &Arc<dyn Outlet>,
        bytes: usize,
    ) -> Result<Result<Box<dyn OutLoan>, LoanRefusal>, Error> {
        let limit = self.limit();
        let deadline = self.runtime().now().checked_add(limit);
        let lent =
            self.runtime()
                .wait_until(deadline, |waker| match outlet.poll_loan(bytes, waker) {
                    Err(LoanRefusal::Short) => None,
                    lent => Some(lent),
                });
        lent.map_err(|kind| {
            if kind == ErrorKind::Interrupted {
                let text = "cannot loan: waiting for shared memory was interrupted";
                return Error::new(ErrorKind::Interrupted, text);
            }
            let text = format!(
                "cannot loan {bytes} bytes on topic {:?}: all its shared memory was out for {limit:?}",
                self.topic_label()
            );
            Error::new(ErrorKind::Timeout, text)
        })
    }
}

impl<T: ?Sized + Send + Sync + 'static> Loan<T> {
    /// Publishes it without copying, as [`Publisher::publish`].
    ///
    /// # Errors
    ///
    /// As [`Publisher::publish`]; the loan comes back as a value does.
    pub fn publish(self) -> Result<Delivered, PublishError<Self>> {
        self.publish_by(Wait::Limit, None)
    }

    /// As [`publish`](Self::publish), without waiting.
    ///
    /// # Errors
    ///
    /// As [`Publisher::try_publish`]; the loan comes back as a value does.
    pub fn try_publish(self) -> Result<Delivered, PublishError<Self>> {
        self.publish_by(Wait::No, None)
    }

    /// Publishes it without copying, as [`publish`](Self::publish), and gives an operation that completes when all who got it
    /// have given it back, as [`Publisher::publish_tracked`].
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish), and as [`Publisher::publish_tracked`] from waiting.
    ///
    /// # Deadlocks
    ///
    /// As [`Publisher::publish_tracked`].
    pub fn publish_tracked(self) -> Result<Pending<Released, Error>, PublishError<Self>> {
        let publisher = self.publisher.clone();
        publisher.tracked(|tracker| self.publish_by(Wait::Limit, Some(tracker)))
    }

    fn publish_by(
        self,
        wait: Wait,
        tracker: Option<Arc<Tracker>>,
    ) -> Result<Delivered, PublishError<Self>> {
        let Self { publisher, memory } = self;
        let (outlet, loan, codec) = match memory {
            Memory::Heap(memory) => {
                return publisher
                    .publish_boxed(memory, wait, tracker)
                    .map_err(|error| {
                        error.map(|memory| Self {
                            publisher,
                            memory: Memory::Heap(memory),
                        })
                    });
            }
            Memory::Lent {
                outlet,
                loan,
                codec,
            } => (outlet, loan, codec),
        };
        if publisher.is_idle() {
            return Ok(Delivered::default());
        }
        let filled = loan.freeze();
        let body = Arc::new(Lent {
            header: publisher.header(tracker),
            codec,
            outlet: outlet.clone(),
            filled: filled.clone(),
        });
        publisher
            .publish_body(body, wait)
            .map_err(|(body, failure)| {
                drop(body);
                match filled.thaw() {
                    Ok(loan) => failure.with(Self {
                        publisher,
                        memory: Memory::Lent {
                            outlet,
                            loan,
                            codec,
                        },
                    }),
                    Err(_kept) => PublishError::Kept {
                        error: Error::from(failure.with(())),
                    },
                }
            })
    }
}

impl<T: ?Sized + Send + Sync> Deref for Loan<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.memory {
            Memory::Heap(memory) => memory,
            Memory::Lent { loan, codec, .. } => view(codec, loan.bytes()),
        }
    }
}

impl<T: ?Sized + Send + Sync> DerefMut for Loan<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.memory {
            Memory::Heap(memory) => memory,
            Memory::Lent { loan, codec, .. } => {
                let in_place = codec.in_place().map(|in_place| in_place.view_mut);
                match in_place.and_then(|view| view(loan.bytes_mut())) {
                    Some(value) => value,
                    None => unreachable!("it was a value when it was lent"),
                }
            }
        }
    }
}

impl<T: ?Sized + Send + Sync> fmt::Debug for Loan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loan({:?})", self.publisher)
    }
}

fn view<'a, T: ?Sized>(codec: &Codec<T>, bytes: &'a [u8]) -> &'a T {
    let in_place = codec.in_place().map(|in_place| in_place.view);
    match in_place.and_then(|view| view(bytes)) {
        Some(value) => value,
        None => unreachable!("it was a value when it was lent"),
    }
}

/// The body of a value that stands in memory that other nodes read.
struct Lent<T: ?Sized + 'static> {
    header: Header,
    codec: &'static Codec<T>,
    outlet: Arc<dyn Outlet>,
    filled: Arc<dyn Filled>,
}

impl<T: ?Sized + Send + Sync + 'static> Body<T> for Lent<T> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn value(&self) -> &T {
        view(self.codec, self.filled.bytes())
    }

    fn encoded(&self) -> Result<&[u8], CodecError> {
        Ok(self.filled.bytes())
    }

    fn into_box(self: Arc<Self>) -> Result<Box<T>, Arc<dyn Body<T>>> {
        // Shared memory does not become the caller's own: it is copied.
        match self.codec.decode(self.filled.bytes()) {
            Ok(value) => Ok(value),
            Err(_) => Err(self),
        }
    }

    fn filled(&self) -> Option<InMemory<'_>> {
        Some((&self.outlet, &self.filled))
    }

    fn to_history(&self) -> Option<Arc<dyn Body<T>>> {
        Some(Arc::new(Self {
            header: self.header.without_lease(),
            codec: self.codec,
            outlet: self.outlet.clone(),
            filled: self.filled.clone(),
        }))
    }
}
