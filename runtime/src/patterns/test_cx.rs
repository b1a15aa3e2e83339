//! Running a handler in a test, without making a node for it.

use super::probe::{Log, Sent};
use crate::address::Address;
use crate::context::{Cx, Promise};
use crate::driver::{Manual, Spun};
use crate::error::{CallError, Fault, Outcome};
use crate::exit::Exit;
use crate::mailbox::MailboxOptions;
use crate::processor::{Handle, Processor};
use crate::runtime::{Options, Runtime};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A processor under test, whose handlers run on the test's own thread, one by one, in virtual time. It need not be `Send`.
///
/// It lives on a manual driver of a simulated node, so everything that a [`Cx`] can do works: timers, watches, calls that go
/// on later, messages to itself. What it sends to a [`Probe`](crate::Probe) of the same node can be looked at. A panic in
/// [`handle`](Self::handle) or [`with`](Self::with) is the test's panic.
///
/// # Examples
///
/// ```
/// # use mproc_runtime::{Cx, Handle, Outcome, Processor, Probe, Recipient, Runtime, TestCx};
/// # use std::time::Duration;
/// struct Lamp { on: bool, log: Recipient<&'static str> }
/// struct Press;
/// struct Off;
/// impl Processor for Lamp {}
/// impl Handle<Press> for Lamp {
///     type Reply = bool;
///     fn handle(&mut self, _: Press, cx: &mut Cx<'_, Self, bool>) -> Outcome<bool> {
///         self.on = true;
///         cx.after(Duration::from_secs(60), Off);
///         Ok(self.on)
///     }
/// }
/// impl Handle<Off> for Lamp {
///     type Reply = ();
///     fn handle(&mut self, _: Off, _: &mut Cx<'_, Self>) -> Outcome<()> {
///         self.on = false;
///         self.log.send("off")?;
///         Ok(())
///     }
/// }
///
/// let node = Runtime::simulated(1);
/// let log = Probe::new(&node, "log")?;
/// let mut t = TestCx::in_node(&node, Lamp { on: false, log: log.recipient() });
/// assert!(t.handle(Press)?);
/// t.advance(Duration::from_secs(59));
/// assert!(t.sent().is_empty());
/// t.advance(Duration::from_secs(1)); // virtual: takes no time
/// assert_eq!(log.take_all(), ["off"]);
/// assert!(!t.with(|lamp, _cx| lamp.on));
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
pub struct TestCx<P: Processor> {
    // Dropped first: it ends the processor on this thread, in a node that lives.
    driver: Manual,
    address: Address<P>,
    node: Runtime,
}

impl<P: Processor> TestCx<P> {
    /// A test of `processor` in a simulated node of its own, with the documented capacities. It is started.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{TestCx, closure};
    /// let mut t = TestCx::new(closure(|n: u32, _cx| n.checked_mul(2).ok_or(std::fmt::Error)));
    /// assert_eq!(t.handle(21)?, 42);
    /// assert!(t.handle(u32::MAX).is_err());
    /// assert_eq!(t.faults(), 1);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn new(processor: P) -> Self {
        let node = Runtime::simulated_with(1, Options::default());
        Self::in_node(&node, processor)
    }

    /// A test of `processor` in this node, which is a simulated one that the calling thread has made: for a processor that is
    /// given addresses of other processors, as of probes. It is started.
    ///
    /// # Panics
    ///
    /// If the node has ended.
    #[track_caller]
    pub fn in_node(node: &Runtime, processor: P) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only uniqueness is wanted.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let driver = match node.manual(&format!("test driver {number}")) {
            Ok(driver) => driver,
            Err(error) => panic!("no place for the processor under test: {error}"),
        };
        let name = format!("under test {number}");
        let address = match driver.spawn(&name, MailboxOptions::default(), processor) {
            Ok(address) => address,
            Err(error) => panic!("no place for the processor under test: {error}"),
        };
        Log::of(node).begin();
        let mut this = Self {
            driver,
            address,
            node: node.clone(),
        };
        this.run();
        this
    }

    /// Has the processor handle `message` now, and everything that follows from it without time going by. Returns what the
    /// handler returned.
    ///
    /// A message that the processor [sets aside](Cx::stash) or answers later is sent, not called: see [`call`](Self::call).
    ///
    /// # Errors
    ///
    /// The handler's fault, which was also counted and given to [`on_error`](Processor::on_error). A handler that replies later
    /// returns one that says so. A fault that says that the processor has ended, if it has.
    pub fn handle<M: Send + 'static>(&mut self, message: M) -> Outcome<P::Reply>
    where
        P: Handle<M>,
    {
        let entered = self.driver.enter(&self.address, |processor, cx| {
            let outcome = {
                let mut cx = cx.with_promise(Promise::none());
                processor.handle(message, &mut cx)
            };
            if let Err(fault) = &outcome {
                cx.fault(processor, fault.clone());
            }
            outcome
        });
        self.run();
        entered.unwrap_or_else(|error| Err(Fault::from(error)))
    }

    /// Calls the processor and waits for the reply, also for one that comes later.
    ///
    /// # Errors
    ///
    /// As [`Address::call`]; [`CallError::Timeout`] after 5 seconds of virtual time.
    pub fn call<M: Send + 'static>(&mut self, message: M) -> Result<P::Reply, CallError>
    where
        P: Handle<M>,
    {
        let limit = self.node.options().call_limit;
        let mut pending = self.address.call(message);
        let replied = self.driver.spin_until(&mut pending, limit);
        let reply = match replied {
            Ok(Some(reply)) => reply,
            _ => Err(CallError::Timeout),
        };
        self.run();
        reply
    }

    /// Has `f` look at the processor, or change it, as if it were a handler.
    ///
    /// # Panics
    ///
    /// If the processor has ended.
    #[track_caller]
    pub fn with<T>(&mut self, f: impl FnOnce(&mut P, &mut Cx<'_, P>) -> T) -> T {
        match self.driver.enter(&self.address, f) {
            Ok(result) => {
                self.run();
                result
            }
            Err(error) => panic!("cannot look at the processor under test: {error}"),
        }
    }

    /// Lets virtual time go by: timers that are due by then come, in order.
    pub fn advance(&mut self, time: Duration) {
        let until = self.node.now().checked_add(time);
        loop {
            self.run();
            let now = self.node.now();
            let left = until.map_or(time, |until| until.saturating_duration_since(now));
            if left.is_zero() || !matches!(self.driver.spin_once(left), Ok(Spun::Ran | Spun::Idle))
            {
                break;
            }
        }
        self.run();
    }

    /// What the probes of the node were sent since this was asked last, by whomever, in the order in which it arrived.
    pub fn sent(&mut self) -> Vec<Sent> {
        self.run();
        Log::of(&self.node).take()
    }

    /// How many faults its handlers have returned.
    pub fn faults(&self) -> u64 {
        self.address.snapshot().faults
    }

    /// Why the processor ended; `None` while it lives.
    pub fn exit(&self) -> Option<Exit> {
        self.address.exit()
    }

    /// Its address. What is sent to it is handled by the next method called here.
    pub fn address(&self) -> Address<P> {
        self.address.clone()
    }

    /// The node that it is in.
    pub fn node(&self) -> &Runtime {
        &self.node
    }

    /// Runs what is ready, here and elsewhere, until nothing is.
    fn run(&mut self) {
        loop {
            let here = self
                .driver
                .spin_some(usize::MAX)
                .map(|report| report.handled);
            self.node.settle();
            // Others may have sent something meanwhile.
            if !matches!(here, Ok(1..)) {
                break;
            }
        }
    }
}

impl<P: Processor> fmt::Debug for TestCx<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestCx({:?})", self.address)
    }
}
