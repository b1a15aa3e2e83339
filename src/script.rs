//! Scripts: a node, the calling thread as its driver, and a state that callbacks get `&mut` to.

use crate::node::Node;
use mproc_pubsub::{
    Control, DEFAULT_DOMAIN, DomainOptions, Sample, SubscriptionId, SubscriptionOptions, Topic,
    Topics,
};
use mproc_runtime::{
    Address, AfterPanic, Clock, Cx, DEFAULT_LIMIT, Error, ErrorKind, Fault, IntoOutcome,
    MailboxOptions, Manual, Outcome, Pending, Processor, SpawnError, SpinReport, Spun, TimerId,
    Trigger,
};
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a callback is given beside the state: the context of the script's own processor.
pub type ScriptCx<'a, S> = Cx<'a, Callbacks<S>>;

/// The processor that a script's callbacks belong to.
pub struct Callbacks<S> {
    pub(crate) state: S,
    on_fault: OnFault,
    failed: Option<Fault>,
    /// The closures of services; see `services.rs`.
    pub(crate) serves: Vec<Box<dyn std::any::Any>>,
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
/// assert_eq!(script.spin_some(10)?.handled, 2);
/// assert_eq!(script.state(|sum| *sum)?, 5);
/// # Ok::<(), mproc::Error>(())
/// ```
pub struct Script<S: 'static> {
    // Dropped in this order: the callbacks end before the node may.
    /// `None` if the node was ending already when it was made.
    address: Option<Address<Callbacks<S>>>,
    manual: Rc<Manual>,
    /// The callbacks of its subscriptions, by their ids.
    callbacks: BTreeMap<SubscriptionId, Kept>,
    node: Node,
}

/// What a script knows of a callback that its subscription has.
struct Kept {
    /// A [`Callback`].
    slot: Weak<dyn Any>,
    /// Drops what is in it.
    clear: Box<dyn Fn()>,
}

/// The callback of one subscription. `None` while it is called, and while it is taken out.
type Callback<S, T> = RefCell<Option<Box<Call<S, T>>>>;
type Call<S, T> = dyn FnMut(&mut S, Sample<T>, &mut ScriptCx<'_, S>) -> Outcome<()>;

/// Makes a node and a script on the calling thread. The node shares its topics with the other processes of its domain: the one
/// that `MPROC_DOMAIN` names, or [`DEFAULT_DOMAIN`] where [there can be any](DomainOptions::is_available). It joins at once; if it
/// cannot, whatever first needs the others says so. Ctrl-C and SIGTERM
/// end it in order; a second one drops what is still queued; a third ends the process. What this thread waits for when they
/// come is given up, and the wait returns `Interrupted` ([`Runtime::interrupt`](mproc_runtime::Runtime::interrupt)). Further calls make further nodes, each with
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
        Some(domain) => Node::builder().domain_if_possible(domain),
        // Nobody asked for other processes, and here there are none to be met.
        None => Node::builder(),
    };
    builder.build()?.script()
}

/// Nodes that a signal ends. A program has one set of signal handlers, so this is one for the program.
static ENDED_BY_SIGNALS: Mutex<Option<Vec<mproc_runtime::Runtime>>> = Mutex::new(None);

/// How many signals have come since the oldest living one of them was made.
static SIGNALS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn handle_signals(node: Node) -> Result<(), Error> {
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
                // What a script's thread waits for is given up, so that it comes to the end; from the second on also the
                // waits with which it cleans up.
                node.interrupt();
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
            callbacks: BTreeMap::new(),
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
        serves: Vec::new(),
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
            // They have a state of another type.
            callbacks: BTreeMap::new(),
            node: self.node,
        }
    }

    pub(crate) fn address(&self) -> Result<&Address<Callbacks<S>>, Error> {
        self.address
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Closed, "the script has ended"))
    }

    /// Does something with the callbacks' processor, between two spins.
    pub(crate) fn enter<R>(
        &mut self,
        work: impl FnOnce(&mut Callbacks<S>, &mut ScriptCx<'_, S>) -> R,
    ) -> Result<R, Error> {
        self.manual.enter(self.address()?, work)
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
        call: impl FnMut(&mut S, Sample<T>, &mut ScriptCx<'_, S>) -> D + 'static,
    ) -> Result<Control, Error> {
        let slot: Rc<Callback<S, T>> = Rc::new(RefCell::new(Some(boxed(call))));
        let called = slot.clone();
        let control = self.manual.enter(self.address()?, |_, cx| {
            cx.subscribe(topic)
                .options(options)
                .call_local(move |me, sample, cx| call_in(&called, &mut me.state, sample, cx))
        })??;
        let weak = Rc::downgrade(&slot);
        let kept = Kept {
            clear: Box::new(move || {
                let callback = weak.upgrade().and_then(|slot| slot.borrow_mut().take());
                drop(callback);
            }),
            slot: Rc::<Callback<S, T>>::downgrade(&slot),
        };
        // Those whose subscriptions have ended are let go of.
        self.callbacks
            .retain(|_, kept| kept.slot.strong_count() > 0);
        self.callbacks.insert(control.id(), kept);
        Ok(control)
    }

    /// Takes the callback of a subscription out and drops it. Samples wait meanwhile, in order, under the subscription's
    /// policy, as if it were paused.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the subscription has ended, or was not made by [`on`](Self::on) with the script's present
    /// state.
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
    /// let numbers = script.on(&NUMBERS, |seen, n: Sample<i64>, _cx| seen.push(*n))?;
    /// script.take_callback(&numbers)?;
    /// script.publisher(&NUMBERS)?.publish(7)?;
    /// assert_eq!(script.spin_some(10)?.handled, 0);
    /// script.set_callback(&numbers, |seen, n: Sample<i64>, _cx| seen.push(-*n))?;
    /// assert_eq!(script.spin_some(10)?.handled, 1);
    /// assert_eq!(script.state(|seen| seen.clone())?, [-7]);
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn take_callback(&mut self, subscription: &Control) -> Result<(), Error> {
        let kept = self.kept(subscription)?;
        subscription.take_callback_out();
        (kept.clear)();
        Ok(())
    }

    /// Puts another callback in the place of the one that a subscription has, or had. It gets the samples that wait, in
    /// order, and all that come.
    ///
    /// # Errors
    ///
    /// As [`take_callback`](Self::take_callback), and [`ErrorKind::TypeConflict`] if its samples are of another type. Then
    /// `call` is dropped.
    pub fn set_callback<T: ?Sized + Send + Sync + 'static, D: IntoOutcome<Reply = ()>>(
        &mut self,
        subscription: &Control,
        call: impl FnMut(&mut S, Sample<T>, &mut ScriptCx<'_, S>) -> D + 'static,
    ) -> Result<(), Error> {
        let slot = self.kept(subscription)?.slot.upgrade();
        let Some(slot) = slot.and_then(|slot| slot.downcast::<Callback<S, T>>().ok()) else {
            let text = format!(
                "cannot set a callback for {}: the samples of {subscription:?} are of another type",
                std::any::type_name::<T>()
            );
            return Err(Error::new(ErrorKind::TypeConflict, text));
        };
        let before = slot.borrow_mut().replace(boxed(call));
        drop(before);
        subscription.put_callback_back();
        Ok(())
    }

    fn kept(&self, subscription: &Control) -> Result<&Kept, Error> {
        let kept = self.callbacks.get(&subscription.id());
        kept.filter(|kept| kept.slot.strong_count() > 0 && !subscription.has_ended())
            .ok_or_else(|| {
                let text = format!("{subscription:?} is no callback of this script, or has ended");
                Error::new(ErrorKind::Closed, text)
            })
    }

    /// Runs the callback of one subscription with at most `limit` samples that are queued, and returns how many:
    /// exactly `limit`, or all that there were. A sample of another process is there when its memory has been met here.
    /// Nothing else of the script runs. Never waits, never discards. What the callback itself makes come is included,
    /// within the limit. Fewer run if it publishes or sends what finds no room: then the script waits for that first,
    /// as while it spins.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] inside a callback; [`ErrorKind::Closed`] as [`take_callback`](Self::take_callback).
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    ///
    /// const LEFT: Topic<i64> = Topic::new("left");
    /// const RIGHT: Topic<i64> = Topic::new("right");
    ///
    /// let node = Node::simulated(1);
    /// let mut script = node.script()?.with(Vec::new());
    /// let left = script.on(&LEFT, |seen, n: Sample<i64>, _cx| seen.push(*n))?;
    /// script.on(&RIGHT, |seen, n: Sample<i64>, _cx| seen.push(*n))?;
    /// for n in 1..=5 {
    ///     script.publisher(&LEFT)?.publish(n)?;
    ///     script.publisher(&RIGHT)?.publish(-n)?;
    /// }
    /// assert_eq!(script.run_pending(&left, 3)?, 3);
    /// assert_eq!(script.state(|seen| seen.clone())?, [1, 2, 3]);
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn run_pending(&mut self, subscription: &Control, limit: usize) -> Result<usize, Error> {
        self.kept(subscription)?;
        let mut ran = 0;
        while ran < limit {
            let serve =
                |me: &mut Callbacks<S>, cx: &mut ScriptCx<'_, S>| subscription.serve_one(me, cx);
            if !self.manual.enter(self.address()?, serve)? {
                break;
            }
            ran += 1;
        }
        Ok(ran)
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

    /// Starts a timer afresh: its next call is one period (or its delay) from now. False if it has ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the script has ended.
    pub fn reset(&mut self, timer: TimerId) -> Result<bool, Error> {
        self.manual.enter(self.address()?, |_, cx| cx.reset(timer))
    }

    /// Changes a timer's period (or delay) and starts it afresh. False if it has ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the script has ended.
    pub fn set_period(&mut self, timer: TimerId, period: Duration) -> Result<bool, Error> {
        self.manual
            .enter(self.address()?, |_, cx| cx.set_period(timer, period))
    }

    /// Stops a timer without ending it: it does not come until it is [`reset`](Self::reset). False if it has ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the script has ended.
    pub fn stop_timer(&mut self, timer: TimerId) -> Result<bool, Error> {
        self.manual
            .enter(self.address()?, |_, cx| cx.stop_timer(timer))
    }

    /// How long until a timer is due, by the clock that it follows; zero if it is overdue, `None` if it has ended or was
    /// stopped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the script has ended.
    pub fn time_until(&mut self, timer: TimerId) -> Result<Option<Duration>, Error> {
        self.manual
            .enter(self.address()?, |_, cx| cx.time_until(timer))
    }

    /// From now on new timers of the script, and of processors on its thread, follow `clock`, but of those that were told
    /// otherwise: see [`Cx::follow`].
    pub fn follow(&mut self, clock: &Clock) {
        self.manual.follow(clock);
    }

    /// A [`Trigger`] that has `call` called while the script spins: pulled from any thread, and however often before that,
    /// it is called once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the script has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    ///
    /// let node = Node::simulated(1);
    /// let mut script = node.script()?.with(0);
    /// let redraw = script.trigger(|drawn, _cx| *drawn += 1)?;
    /// redraw.pull();
    /// redraw.pull();
    /// script.spin_some(10)?;
    /// assert_eq!(script.state(|drawn| *drawn)?, 1);
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn trigger<D: IntoOutcome<Reply = ()>>(
        &mut self,
        mut call: impl FnMut(&mut S, &mut ScriptCx<'_, S>) -> D + 'static,
    ) -> Result<Trigger, Error> {
        self.manual.enter(self.address()?, |_, cx| {
            cx.trigger_with_local(move |me, cx| {
                let outcome = call(&mut me.state, cx).into_outcome();
                report(me, outcome, cx);
            })
        })?
    }

    /// Calls `call` whenever `fd` is ready for what `interest` says, while the script spins: once for each time, by level, as
    /// [`Cx::watch_fd`] says.
    ///
    /// # Errors
    ///
    /// As [`Cx::watch_fd`], and [`ErrorKind::Closed`] if the script has ended.
    #[cfg(unix)]
    pub fn watch_fd<D: IntoOutcome<Reply = ()>>(
        &mut self,
        fd: impl std::os::fd::AsFd + Send + Sync + 'static,
        interest: mproc_runtime::Interest,
        mut call: impl FnMut(&mut S, mproc_runtime::Interest, &mut ScriptCx<'_, S>) -> D + 'static,
    ) -> Result<mproc_runtime::FdWatch, Error> {
        self.manual.enter(self.address()?, |_, cx| {
            cx.watch_fd_with_local(fd, interest, move |me, ready, cx| {
                let outcome = call(&mut me.state, ready, cx).into_outcome();
                report(me, outcome, cx);
            })
        })?
    }

    /// Ends a watch. Ending it twice is harmless.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the script has ended.
    #[cfg(unix)]
    pub fn unwatch_fd(&mut self, watch: mproc_runtime::FdWatch) -> Result<(), Error> {
        self.manual
            .enter(self.address()?, |_, cx| cx.unwatch_fd(watch))
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

    /// Makes a task on the script's thread: `future` runs while the script spins, and need not be `Send`; its result must be.
    /// Each poll is one step of [`spin_once`](Self::spin_once), so a task that suspends needs another call.
    ///
    /// # Errors
    ///
    /// As [`mproc_runtime::Driver::spawn_task`], also what the [`Pending`] ends with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`Pending`] has the future dropped, also when its limit passes.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    ///
    /// let node = Node::simulated(1);
    /// let twice = node.spawn_thread("twice", closure(|n: i32, _cx| n.checked_mul(2).ok_or(std::fmt::Error)))?;
    /// let mut script = node.script()?;
    /// let mut task = script.spawn_task(async move { twice.call(5).await })?;
    /// let doubled = script.spin_until(&mut task, Duration::from_secs(1))??;
    /// assert_eq!(doubled, 10);
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn spawn_task<T: Send + 'static>(
        &mut self,
        future: impl Future<Output = T> + 'static,
    ) -> Result<Pending<T>, SpawnError> {
        self.manual.spawn_task(future)
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
        self.manual.spin_until_the_end()?;
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
    /// callbacks queue while it runs is included, within the budget. With a budget of 0 nothing is done at all.
    ///
    /// Other systems call this *flush*; here that word is for waiting until samples have been given back
    /// ([`Publisher::flush`](mproc_pubsub::Publisher::flush)).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] inside a callback.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc::prelude::*;
    ///
    /// const NUMBERS: Topic<u32> = Topic::new("numbers");
    ///
    /// // Each number is followed by the next one, for ever.
    /// let node = Node::simulated(1);
    /// let mut script = node.script()?;
    /// script.on(&NUMBERS, |_, n, cx| cx.publish(&NUMBERS, *n + 1).map(drop))?;
    /// script.publisher(&NUMBERS)?.publish(0)?;
    /// assert_eq!(script.spin_some(0)?.handled, 0);
    /// assert_eq!(script.spin_some(7)?.handled, 7);
    /// # Ok::<(), mproc::Error>(())
    /// ```
    pub fn spin_some(&mut self, budget: usize) -> Result<SpinReport, Error> {
        self.manual.spin_some(budget)
    }

    /// True if a spin would run something now, or the node is ending.
    pub fn is_ready(&self) -> bool {
        self.manual.is_ready()
    }

    /// The descriptor that is readable exactly while a spin would run something, the node is ending, or the script is gone: to
    /// be watched by another event loop ([`ReadyFd`](mproc_runtime::ReadyFd)). It is made at the first call; a script that is
    /// not asked for it pays nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the system gives no descriptor or thread; [`ErrorKind::Forked`] in a forked child.
    ///
    /// # Examples
    ///
    /// A whole program is `examples/epoll_loop.rs`. When the descriptor is readable:
    ///
    /// ```
    /// # use mproc::prelude::*;
    /// fn when_readable(script: &mut Script<()>) -> mproc::Result<bool> {
    ///     let report = script.spin_some(100)?; // if more is left, the descriptor stays readable
    ///     if report.is_ending {
    ///         script.spin()?; // ends in order
    ///     }
    ///     Ok(!report.is_ending)
    /// }
    /// # let mut script = Node::simulated(1).script()?;
    /// # assert!(when_readable(&mut script)?);
    /// # script.request_shutdown();
    /// # assert!(!when_readable(&mut script)?);
    /// # Ok::<(), mproc::Error>(())
    /// ```
    #[cfg(unix)]
    pub fn ready_fd(&self) -> Result<mproc_runtime::ReadyFd, Error> {
        self.manual.ready_fd()
    }

    /// Has `call` called once whenever there is something to run, or an end of the node, where there was nothing before, by
    /// the thread that brought it; at once if there is something. For loops that watch no descriptors; see
    /// [`Manual::on_ready`], which says what such a call may do, and when the next one comes.
    ///
    /// # Errors
    ///
    /// As [`Manual::on_ready`].
    pub fn on_ready(&self, call: impl Fn() + Send + Sync + 'static) -> Result<(), Error> {
        self.manual.on_ready(call)
    }

    /// Runs callbacks until `pending` is done and returns its result. A timeout of zero looks once and runs nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] if it was not done in time; [`ErrorKind::Interrupted`] if Ctrl-C came first, and
    /// [`ErrorKind::Closed`] if the node ended first for another reason;
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

fn boxed<S: 'static, T: ?Sized + 'static, D: IntoOutcome<Reply = ()>>(
    mut call: impl FnMut(&mut S, Sample<T>, &mut ScriptCx<'_, S>) -> D + 'static,
) -> Box<Call<S, T>> {
    Box::new(move |state, sample, cx| call(state, sample, cx).into_outcome())
}

/// Calls what is in the slot, and puts it back, also if it panics. Only the script itself changes it, between two calls.
fn call_in<S: 'static, T: ?Sized + 'static>(
    slot: &Callback<S, T>,
    state: &mut S,
    sample: Sample<T>,
    cx: &mut ScriptCx<'_, S>,
) -> Outcome<()> {
    struct Called<'a, S: 'static, T: ?Sized + 'static> {
        slot: &'a Callback<S, T>,
        callback: Option<Box<Call<S, T>>>,
    }
    impl<S, T: ?Sized> Drop for Called<'_, S, T> {
        fn drop(&mut self) {
            *self.slot.borrow_mut() = self.callback.take();
        }
    }
    let callback = slot.borrow_mut().take();
    let mut called = Called { slot, callback };
    match &mut called.callback {
        Some(callback) => callback(state, sample, cx),
        // While it is out, nothing is handed out.
        None => Ok(()),
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
