//! An address that keeps what arrives, for tests to look at.

use crate::address::Address;
use crate::context::Cx;
use crate::error::{Outcome, SpawnError};
use crate::name::Name;
use crate::processor::{Handle, Processor};
use crate::recipient::Recipient;
use crate::runtime::Runtime;
use crate::sync::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// A processor that keeps the messages of type `M` that it is sent, to be handed to code under test in the place of a real
/// one. It works in simulated and in real nodes. Dropping it ends the processor.
///
/// # Examples
///
/// ```
/// # use mproc_runtime::{Probe, Recipient, Runtime, closure};
/// # use std::time::Duration;
/// let node = Runtime::simulated(1);
/// let probe = Probe::new(&node, "probe")?;
/// let out: Recipient<u32> = probe.recipient();
/// let double = node.spawn_thread("double", closure(move |n: u32, _cx| out.send(2 * n)))?;
///
/// double.send(1)?;
/// assert_eq!(probe.recv(Duration::from_secs(1)), Some(2));
/// probe.expect_none();
/// double.send(2)?;
/// double.send(3)?;
/// assert_eq!(probe.take_all(), [4, 6]);
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
pub struct Probe<M: Send + 'static> {
    runtime: Runtime,
    address: Address<Recorder<M>>,
    arrived: Arc<Mutex<Arrived<M>>>,
}

struct Arrived<M> {
    messages: VecDeque<M>,
    /// Of the threads that wait in `recv`.
    waiting: Vec<Waker>,
}

/// The processor of a [`Probe`]. Its reply is `()`.
pub struct Recorder<M: Send + 'static> {
    arrived: Arc<Mutex<Arrived<M>>>,
    log: Arc<Log>,
}

/// A message that a [`Probe`] has got; see [`TestCx::sent`](crate::TestCx::sent).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The name of the probe.
    pub to: Name,
    /// The type of the message, as the compiler names it.
    pub message_type: &'static str,
}

/// What all probes of a node got, in order; kept once somebody wants to know.
#[derive(Default)]
pub(crate) struct Log(Mutex<Option<Vec<Sent>>>);

impl Log {
    pub(crate) fn of(runtime: &Runtime) -> Arc<Self> {
        runtime.extension(Self::default)
    }

    /// It is kept from now on.
    pub(crate) fn begin(&self) {
        self.0.lock().get_or_insert_default();
    }

    /// What has come since it was taken last.
    pub(crate) fn take(&self) -> Vec<Sent> {
        self.0
            .lock()
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn note(&self, sent: impl FnOnce() -> Sent) {
        if let Some(log) = &mut *self.0.lock() {
            log.push(sent());
        }
    }
}

impl<M: Send + 'static> Processor for Recorder<M> {}

impl<M: Send + 'static> Handle<M> for Recorder<M> {
    type Reply = ();

    fn handle(&mut self, message: M, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.log.note(|| Sent {
            to: cx.name().clone(),
            message_type: std::any::type_name::<M>(),
        });
        let waiting = {
            let mut arrived = self.arrived.lock();
            arrived.messages.push_back(message);
            std::mem::take(&mut arrived.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

impl<M: Send + 'static> Probe<M> {
    /// A probe called `name`, with a thread of its own.
    ///
    /// # Errors
    ///
    /// As [`Runtime::spawn_thread`].
    pub fn new(node: &Runtime, name: &str) -> Result<Self, SpawnError> {
        let arrived = Arc::new(Mutex::new(Arrived {
            messages: VecDeque::new(),
            waiting: Vec::new(),
        }));
        let recorder = Recorder {
            arrived: arrived.clone(),
            log: Log::of(node),
        };
        Ok(Self {
            address: node.spawn_thread(name, recorder)?,
            runtime: node.without_guard(),
            arrived,
        })
    }

    /// The address to hand to the code under test.
    pub fn address(&self) -> Address<Recorder<M>> {
        self.address.clone()
    }

    /// The same, as one that takes messages of type `M`.
    pub fn recipient(&self) -> Recipient<M> {
        self.address.recipient()
    }

    /// The oldest message that was not received yet, waiting for one at most `limit`: virtual time in a simulated node. `None` if
    /// none came.
    pub fn recv(&self, limit: Duration) -> Option<M> {
        let deadline = self.runtime.now().checked_add(limit);
        self.runtime.block_until(deadline, |waker| {
            let mut waker = Some(waker.clone());
            let mut arrived = self.arrived.lock();
            let first = arrived.messages.pop_front();
            if first.is_none() {
                arrived.waiting.extend(waker.take());
            }
            first
        })
    }

    /// Lets everything that is queued in the node be handled ([`Runtime::settle`]), and sees to it that nothing has arrived.
    ///
    /// # Panics
    ///
    /// If there are messages that were not received, saying how many.
    #[track_caller]
    pub fn expect_none(&self) {
        self.runtime.settle();
        let count = self.arrived.lock().messages.len();
        let name = self.address.name();
        assert_eq!(count, 0, "messages that probe {name:?} was not to get");
    }

    /// Lets everything that is queued in the node be handled ([`Runtime::settle`]), and returns all messages that were not
    /// received yet, oldest first.
    pub fn take_all(&self) -> Vec<M> {
        self.runtime.settle();
        std::mem::take(&mut self.arrived.lock().messages).into()
    }
}

impl<M: Send + 'static> Drop for Probe<M> {
    fn drop(&mut self) {
        self.address.stop();
    }
}

impl<M: Send + 'static> fmt::Debug for Probe<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probe({:?})", self.address.name())
    }
}

impl<M: Send + 'static> fmt::Debug for Recorder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}
