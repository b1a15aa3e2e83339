//! Scripts: a node, the calling thread as its driver, and a state that callbacks get `&mut` to.

use crate::node::Node;
use mproc_pubsub::{
    Control, DEFAULT_DOMAIN, DomainOptions, Sample, SubscriptionOptions, Topic, Topics,
};
use mproc_runtime::{
    Address, AfterPanic, Cx, DEFAULT_LIMIT, Error, ErrorKind, Fault, IntoOutcome, MailboxOptions,
    Manual, Outcome, Pending, Processor, SpawnError, Spun, TimerId,
};
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a callback is given beside the state: the context of the script's own processor.
pub type ScriptCx<'a, S> = Cx<'a, Callbacks<S>>;

/// The processor that a script's callbacks belong to.
pub struct Callbacks<S> {
    state: S,
    on_fault: OnFault,
    failed: Option<Fault>,
}

/// What a script does when a callback fails. The fault is reported in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFault {
    /// It goes on.
    #[default]
    GoOn,
    /// It ends in order, and `spin` returns the fault.
    End,
}

impl<S: 'static> Processor for Callbacks<S> {
    fn on_error(&mut self, fault: Fault, cx: &mut Cx<'_, Self>) {
        if self.on_fault == OnFault::End {
            self.failed.get_or_insert(fault);
            cx.runtime().request_shutdown();
        }
    }

    fn on_panic(&mut self, _message: &str) -> AfterPanic {
        AfterPanic::GoOn
    }
}

impl<S> fmt::Debug for Callbacks<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callbacks")
    }
}

/// A node with the calling thread as its driver, and the script's state. Callbacks run while it spins, on this thread, one
/// at a time; nothing they use need be `Send`, and nothing is locked.
///
/// It derefs to its [`Node`].
///
/// # Examples
///
/// ```
/// use mproc::prelude::*;
///
/// const NUMBERS: Topic<i64> = Topic::new("numbers");
///
/// let node = Node::simulated(1);
/// let mut script = node.script()?.with(0);
/// script.on(&NUMBERS, |sum, n: Sample<i64>, _cx| *sum += *n)?;
/// let numbers = script.publisher(&NUMBERS)?;
/// numbers.publish(2)?;
/// numbers.publish(3)?;
/// assert_eq!(script.spin_some(10)?, 2);
/// assert_eq!(script.state(|sum| *sum)?, 5);
/// # Ok::<(), mproc::Error>(())
/// ```
pub struct Script<S: 'static> {
    // Dropped in this order: the callbacks end before the node may.
    /// `None` if the node was ending already when it was made.
    address: Option<Address<Callbacks<S>>>,
    manual: Rc<Manual>,
    node: Node,
}

/// Makes a node and a script on the calling thread. The node shares its topics with the other processes of its domain: the one
/// that `MPROC_DOMAIN` names, or [`DEFAULT_DOMAIN`] where [there can be any](DomainOptions::is_available). Ctrl-C and SIGTERM
/// end it in order; a second one drops what is still queued; a third ends the process. Further calls make further nodes, each with
/// its script; the signals end them all.
///
/// # Errors
///
/// As [`Node::new`]; [`ErrorKind::Refused`] if the program handles these signals itself already
/// (see [`init_without_signals`]).
pub fn init() -> Result<Script<()>, Error> {
    let script = init_without_signals()?;
    handle_signals(script.node.clone())?;
    Ok(script)
}

/// As [`init`], leaving signals alone.
///
/// # Errors
///
/// As [`Node::new`].
pub fn init_without_signals() -> Result<Script<()>, Error> {
    let domain = match DomainOptions::from_environment()? {
        None if DomainOptions::is_available() => Some(DomainOptions::new(DEFAULT_DOMAIN)?),
        domain => domain,
    };
    let builder = match domain {
        Some(domain) => Node::builder().domain_with(domain),
        // Nobody asked for other processes, and here there are none to be met.
        None => Node::builder(),
    };
    builder.build()?.script()
}

/// Nodes that a signal ends. A program has one set of signal handlers, so this is one for the program.
static ENDED_BY_SIGNALS: Mutex<Option<Vec<mproc_runtime::Runtime>>> = Mutex::new(None);

/// How many signals have come since the oldest living one of them was made.
static SIGNALS: AtomicU64 = AtomicU64::new(0);

fn handle_signals(node: Node) -> Result<(), Error> {
    let mut nodes = ENDED_BY_SIGNALS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if nodes.is_none() {
        ctrlc::set_handler(|| {
            let before = SIGNALS.fetch_add(1, Ordering::SeqCst);
            let nodes = ENDED_BY_SIGNALS
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            for node in nodes.iter().flatten() {
                match before {
                    0 => node.request_shutdown(),
                    _ => node.cut_short(),
                }
            }
            // The first ends in order, the second cuts that short, the third ends the process.
            if before >= 2 {
                std::process::exit(130);
            }
        })
        .map_err(|error| {
            Error::new(ErrorKind::Refused, "cannot handle Ctrl-C and SIGTERM").with_source(error)
        })?;
    }
    let kept = nodes.get_or_insert_default();
    // Those that have ended are let go of.
    kept.retain(|node| !node.is_ending());
    if kept.is_empty() {
        SIGNALS.store(0, Ordering::SeqCst);
    }
    kept.push(node.without_guard());
    Ok(())
}

fn next_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("script-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Script<()> {
    pub(crate) fn on_node(node: Node) -> Result<Self, Error> {
        let manual = Rc::new(node.manual(&format!("{}/driver", next_name()))?);
        let address = spawn_callbacks(&manual, ())?;
        Ok(Self {
            address: Some(address),
            manual,
            node,
        })
    }
}

fn spawn_callbacks<S: 'static>(
    manual: &Manual,
    state: S,
) -> Result<Address<Callbacks<S>>, SpawnError> {
    let callbacks = Callbacks {
        state,
        on_fault: OnFault::GoOn,
        failed: None,
    };
    manual.spawn(&next_name(), MailboxOptions::default(), callbacks)
}

impl<S: 'static> Script<S> {
    /// The same script with `state` for its callbacks. Callbacks that were registered before keep the state they had.
    ///
    /// If the node is ending already (Ctrl-C may come at any time) the script has ended too: `spin` carries the node's end
    /// out and returns, and what needs the callbacks returns [`ErrorKind::Closed`].
    ///
    /// # Panics
    ///
    /// If the program has given one of its own processors the name that this one gets, `script-` and a number.
    pub fn with<T: 'static>(self, state: T) -> Script<T> {
        let address = match spawn_callbacks(&self.manual, state) {
            Ok(address) => Some(address),
            Err(SpawnError::Closed(_)) => None,
            Err(error) => panic!("{error}"),
        };
        Script {
            address,
            manual: self.manual,
            node: self.node,
        }
    }

    fn address(&self) -> Result<&Address<Callbacks<S>>, Error> {
        self.address
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Closed, "the script has ended"))
    }

    /// Sets what happens when a callback fails.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the script has ended.
    pub fn on_fault(&mut self, on_fault: OnFault) -> Result<(), Error> {
        self.manual
            .enter(self.address()?, |me, _| me.on_fault = on_fault)
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Calls `call` with each sample of `topic`, while the script spins.
    ///
    /// # Errors
    ///
    /// As [`Node::subscription`], and [`ErrorKind::Closed`] if the script has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    ///
    /// const NUMBERS: Topic<i64> = Topic::new("numbers");
    ///
    /// let node = Node::simulated(1);
    /// let mut script = node.script()?.with(Vec::new());
    /// script.on(&NUMBERS, |seen, n: Sample<i64>, _cx| seen.push(*n))?;
    /// script.publisher(&NUMBERS)?.publish(7)?;
    /// assert!(script.state(|seen| seen.is_empty())?); // it runs while the script spins
    /// script.spin_some(1)?;
    /// assert_eq!(script.state(|seen| seen.clone())?, [7]);
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn on<T: ?Sized + Send + Sync + 'static, D: IntoOutcome<Reply = ()>>(
        &mut self,
        topic: &Topic<T>,
        call: impl FnMut(&mut S, Sample<T>, &mut ScriptCx<'_, S>) -> D + 'static,
    ) -> Result<Control, Error> {
        self.on_with(topic, SubscriptionOptions::new(), call)
    }

    /// As [`on`](Self::on), with options.
    ///
    /// # Errors
    ///
    /// As [`Node::subscription_with`], and [`ErrorKind::Closed`] if the script has ended.
    pub fn on_with<T: ?Sized + Send + Sync + 'static, D: IntoOutcome<Reply = ()>>(
        &mut self,
        topic: &Topic<T>,
        options: SubscriptionOptions<T>,
        mut call: impl FnMut(&mut S, Sample<T>, &mut ScriptCx<'_, S>) -> D + 'static,
    ) -> Result<Control, Error> {
        self.manual.enter(self.address()?, |_, cx| {
            cx.subscribe(topic)
                .options(options)
                .call_local(move |me, sample, cx| call(&mut me.state, sample, cx).into_outcome())
        })?
    }

    /// Calls `call` every `period`, while the script spins. The first call is one period from now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the script has ended.
    pub fn every<D: IntoOutcome<Reply = ()>>(
        &mut self,
        period: Duration,
        mut call: impl FnMut(&mut S, &mut ScriptCx<'_, S>) -> D + 'static,
    ) -> Result<TimerId, Error> {
        self.manual.enter(self.address()?, |_, cx| {
            cx.every_with_local(period, move |me, _tick, cx| {
                let outcome = call(&mut me.state, cx).into_outcome();
                report(me, outcome, cx);
            })
        })
    }

    /// Calls `call` once, `delay` from now, while the script spins.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the script has ended.
    pub fn after<D: IntoOutcome<Reply = ()>>(
        &mut self,
        delay: Duration,
        call: impl FnOnce(&mut S, &mut ScriptCx<'_, S>) -> D + 'static,
    ) -> Result<TimerId, Error> {
        self.manual.enter(self.address()?, |_, cx| {
            cx.after_with_local(delay, move |me, cx| {
                let outcome = call(&mut me.state, cx).into_outcome();
                report(me, outcome, cx);
            })
        })
    }

    /// Ends a timer. False if it had ended before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the script has ended.
    pub fn cancel(&mut self, timer: TimerId) -> Result<bool, Error> {
        self.manual.enter(self.address()?, |_, cx| cx.cancel(timer))
    }

    /// Looks at the state, or changes it, between two spins.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the script has ended.
    pub fn state<R>(&mut self, look: impl FnOnce(&mut S) -> R) -> Result<R, Error> {
        self.manual
            .enter(self.address()?, |me, _| look(&mut me.state))
    }

    /// Spawns a processor on the script's thread: it runs while the script spins, and need not be `Send`.
    ///
    /// # Errors
    ///
    /// As [`mproc_runtime::Driver::spawn`].
    pub fn spawn<P: Processor>(
        &mut self,
        name: &str,
        processor: P,
    ) -> Result<Address<P>, SpawnError> {
        self.manual
            .spawn(name, MailboxOptions::default(), processor)
    }

    /// Runs callbacks until Ctrl-C, SIGTERM or a shutdown of the node, then ends the node in order, within 5 seconds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] inside a callback; [`ErrorKind::Fault`] if a callback failed and
    /// [`OnFault::End`] was asked for; [`ErrorKind::Timeout`], naming who, if not all ended within 5 seconds.
    ///
    /// # Deadlocks
    ///
    /// Nothing but the end of the node ends it. The thread's other scripts run nothing meanwhile, until the node ends: one
    /// that waits for them waits for its limit.
    pub fn spin(&mut self) -> Result<(), Error> {
        while self.manual.spin_once(Duration::MAX)? != Spun::Shutdown {}
        let failed = self.address().ok().and_then(|address| {
            let failed = self.manual.enter(address, |me, _| me.failed.take());
            failed.unwrap_or(None)
        });
        let report = self.manual.spin(DEFAULT_LIMIT)?;
        if let Some(fault) = failed {
            return Err(Error::from(fault));
        }
        if report.is_clean() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Timeout, report.to_string()))
        }
    }

    /// Runs at most one callback, waiting for it at most `timeout`, and says what happened.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] inside a callback.
    ///
    /// # Deadlocks
    ///
    /// The thread's other scripts run nothing while it waits.
    ///
    /// # Cancel safety
    ///
    /// A timeout that passes loses nothing: what comes later waits for the next spin.
    pub fn spin_once(&mut self, timeout: Duration) -> Result<Spun, Error> {
        self.manual.spin_once(timeout)
    }

    /// Runs what is ready, at most `budget` callbacks, and returns how many ran. Never waits, never discards. What
    /// callbacks queue while it runs is included, within the budget.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] inside a callback.
    pub fn spin_some(&mut self, budget: usize) -> Result<usize, Error> {
        self.manual.spin_some(budget)
    }

    /// Runs callbacks until `pending` is done and returns its result. A timeout of zero looks once and runs nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] if it was not done in time; [`ErrorKind::Closed`] if the node ended first;
    /// [`ErrorKind::Refused`] inside a callback; else the operation's own error.
    ///
    /// # Deadlocks
    ///
    /// Callbacks and processors of this script run while it waits, so it may wait for them, unlike [`Pending::wait`]. The
    /// thread's other scripts run nothing meanwhile.
    ///
    /// # Cancel safety
    ///
    /// After a timeout `pending` is still under way and can be waited for again, in any way. Dropping it cancels it.
    pub fn spin_until<T: 'static, E: 'static>(
        &mut self,
        pending: &mut Pending<T, E>,
        timeout: Duration,
    ) -> Result<T, Error>
    where
        Error: From<E>,
    {
        match self.manual.spin_until(pending, timeout)? {
            Some(result) => result.map_err(Error::from),
            None if self.node.is_ending() => {
                let text = "the node ended before the operation was done";
                Err(Error::new(ErrorKind::Closed, text))
            }
            None => {
                let text = format!("the operation was not done after {timeout:?}");
                Err(Error::new(ErrorKind::Timeout, text))
            }
        }
    }
}

fn report<S: 'static>(me: &mut Callbacks<S>, outcome: Outcome<()>, cx: &mut ScriptCx<'_, S>) {
    if let Err(fault) = outcome {
        cx.fault(me, fault);
    }
}

impl<S> Deref for Script<S> {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl<S> fmt::Debug for Script<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "Script({address:?})"),
            None => f.write_str("Script(ended)"),
        }
    }
}
