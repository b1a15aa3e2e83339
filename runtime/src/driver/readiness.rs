//! Whether a manual driver has something to run: for loops of other libraries, which must know when to spin it.
//!
//! `is_ready` is a level, not a count of events: it says what would be found by looking. It is kept true to that by
//! looking, under its lock, whenever something may have changed. Nobody lowers it by reading it, and whatever a callback
//! does, the next look tells the truth.
//!
//! | what may have changed                                            | who looks                  | sees     |
//! |------------------------------------------------------------------|----------------------------|----------|
//! | something came through the inbox (also from another process)     | whoever posted it          | its part |
//! | a deadline has come                                              | the thread of limits       | its part |
//! | the node ends                                                    | whoever ends it            | its part |
//! | the driver's thread has run something, or reached into a member  | the driver's thread, after | all      |
//! | the driver has ended                                             | the driver's thread        | all      |
//!
//! Only the driver's own thread sees the cells that stand on its ready queue, so only it lowers the level. The others
//! raise it, if what they see is still there.
//!
//! No change is lost. Whoever posts adds to the inbox first and looks then; the driver's thread takes from the inbox first
//! and looks then. Of two looks, which exclude each other, the later one sees what was done before either. The descriptor is
//! raised and lowered under the same lock, so it says what the level says.
//!
//! A cell that stands on the ready queue is not posted again, so the level is lowered only when the queue is empty, and not
//! when what stands there has nothing to do (`rest`).
//!
//! All this is done only once somebody has asked for it (`is_wanted`). Until then it is one load for each cell that comes
//! through the inbox. It is set before the driver's thread looks for the first time: who posts before that look is seen by
//! it, and who posts after it sees that it is wanted, since both take the inbox's lock.

use super::{DriverCore, ReadyCells};
#[cfg(unix)]
use crate::descriptor::Level;
use crate::error::{Error, ErrorKind};
use crate::outside::Outside;
use crate::sync::{AtomicBool, Mutex, Relaxed, SeqCst, thread};
use crate::time_keeper::Alarm;
use crate::{current, hook};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Instant;

type Call = Arc<dyn Fn() + Send + Sync>;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Readiness {
    is_wanted: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_ready: bool,
    has_ended: bool,
    /// What is called when it becomes ready.
    call: Option<Call>,
    #[cfg(unix)]
    descriptor: Option<Arc<Level>>,
    /// Looks when the nearest deadline has come.
    alarm: Option<(Instant, Alarm)>,
    stand_in: Option<StandIn>,
}

impl State {
    fn set(&mut self, is_ready: bool) {
        self.is_ready = is_ready;
        #[cfg(unix)]
        if let Some(level) = &self.descriptor {
            if is_ready {
                level.raise();
            } else {
                level.lower();
            }
        }
    }
}

impl Readiness {
    fn is_wanted(&self) -> bool {
        self.is_wanted.load(Relaxed)
    }

    /// Sets the level to what `look` says; only up unless the caller `sees_all`. `look` is asked under the lock, and takes
    /// no other but the inbox's.
    fn update(&self, name: &crate::Name, sees_all: bool, look: impl FnOnce() -> bool) {
        let call = {
            let mut state = self.state.lock();
            let is_ready = state.has_ended || look();
            if is_ready == state.is_ready || !(is_ready || sees_all) {
                return;
            }
            state.set(is_ready);
            if is_ready { state.call.clone() } else { None }
        };
        let Some(call) = call else {
            return;
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| call())) {
            hook::panic(name, "on_ready", &crate::cell::panic_message(&*payload));
        }
    }
}

/// A thread that sleeps on the bell in the place of a driver whose own thread sleeps elsewhere, in another loop.
struct StandIn {
    is_over: Arc<AtomicBool>,
    outside: Arc<dyn Outside>,
    thread: thread::JoinHandle<()>,
}

impl StandIn {
    fn start(driver: &DriverCore, outside: &Arc<dyn Outside>) -> std::io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, bell) = (is_over.clone(), outside.clone());
        let thread = driver.world().spawn("mproc readiness", move || {
            // What it finds goes through the inbox. SeqCst: `end` sets the flag and rings then, this announces its sleep and
            // looks then (`Outside::sleep`).
            while !over.load(SeqCst) {
                bell.sleep(None, &mut || over.load(SeqCst) || bell.look());
            }
        })?;
        Ok(Self {
            is_over,
            outside: outside.clone(),
            thread,
        })
    }

    fn end(self) {
        self.is_over.store(true, SeqCst);
        self.outside.ring();
        // It sleeps, or looks, and leaves. A panic in it was reported.
        let _panicked = self.thread.join();
    }
}

/// Looks when the nearest deadline has come.
struct AtDeadline(Weak<DriverCore>);

impl Wake for AtDeadline {
    fn wake(self: Arc<Self>) {
        if let Some(driver) = self.0.upgrade() {
            // It may have been woken before its time, with all others who wait (`TimeKeeper::wake_all`), and was taken out of
            // the alarm for that. Back first, then the look: if the time has come in between, the look finds it.
            if let Some((_, alarm)) = &mut driver.readiness.state.lock().alarm {
                let _rung = alarm.poll(&Waker::from(self));
            }
            driver.look_for_others();
        }
    }
}

impl DriverCore {
    /// Somebody else sleeps for this driver's thread: nothing is to reach that thread but by the inbox.
    pub(super) fn is_readiness_wanted(&self) -> bool {
        self.readiness.is_wanted()
    }

    /// Something may have come, by whatever thread.
    #[inline]
    pub(crate) fn look_for_others(&self) {
        if self.readiness.is_wanted() {
            self.look_and_raise();
        }
    }

    #[cold]
    fn look_and_raise(&self) {
        // In a forked child the descriptor is the parent's.
        if self.runtime.is_here() {
            let look = || self.has_come();
            self.readiness.update(self.name(), false, look);
        }
    }

    /// What every thread can see.
    fn has_come(&self) -> bool {
        self.runtime.is_ending() || self.inbox.has_items() || self.has_due()
    }

    /// The driver's thread has done something.
    pub(super) fn look_for_oneself(self: &Arc<Self>) {
        if !self.readiness.is_wanted() || !self.runtime.is_here() {
            return;
        }
        self.set_alarm();
        let is_ready_here = self.rest();
        let look = || is_ready_here || self.has_come();
        self.readiness.update(self.name(), true, look);
    }

    /// True if a cell on the ready queue has something to do. If none has, they leave it: a cell stands there with nothing to
    /// do when its last item used up the budget. As long as it does, nobody who sends to it posts it, and so nobody would look.
    ///
    /// On the driver's thread, outside of all handlers. Nothing is served.
    fn rest(&self) -> bool {
        let count = || current::ready(|ready| ready.len());
        let _serves = current::serve_script(self.id);
        for _ in 0..count() {
            if current::ready(|ready| ready.has_work()) {
                return true;
            }
            let Some(cell) = current::ready(ReadyCells::pop) else {
                return false;
            };
            cell.rest_lanes();
            let (cell, after, _nothing) = cell.run(0);
            let _not_kept = current::ready(|ready| ready.put_back(cell, after));
        }
        count() > 0
    }

    /// Sees to it that somebody looks at the nearest deadline. On the driver's thread, which alone changes its deadlines.
    fn set_alarm(self: &Arc<Self>) {
        let nearest = self.nearest_deadline();
        let before = {
            let mut state = self.readiness.state.lock();
            if state.alarm.as_ref().map(|(at, _)| *at) == nearest {
                return;
            }
            state.alarm.take()
        };
        drop(before);
        let alarm = nearest.map(|at| {
            let limit = at.saturating_duration_since(self.world().now());
            let mut alarm = Alarm::new(&self.runtime, limit);
            // If it has rung already, whoever set it looks next.
            let _rung = alarm.poll(&Waker::from(Arc::new(AtDeadline(Arc::downgrade(self)))));
            (at, alarm)
        });
        self.readiness.state.lock().alarm = alarm;
    }

    /// From now on the level is kept.
    fn want_readiness(self: &Arc<Self>) -> Result<(), Error> {
        if !self.runtime.is_here() {
            let text =
                "cannot watch a driver: it belongs to the process from which this one was forked";
            return Err(Error::new(ErrorKind::Forked, text));
        }
        if self.readiness.is_wanted() {
            return Ok(());
        }
        if let Some(outside) = self.outside.get() {
            let stand_in = StandIn::start(self, outside).map_err(|error| {
                let text = format!("cannot watch driver {:?}: no thread to be had", self.name);
                Error::new(ErrorKind::Io, text).with_source(error)
            })?;
            self.readiness.state.lock().stand_in = Some(stand_in);
        }
        self.readiness.is_wanted.store(true, Relaxed);
        Ok(())
    }

    /// Has `call` called whenever something comes where nothing was, and now if there is something.
    pub(super) fn set_on_ready(self: &Arc<Self>, call: Call) -> Result<(), Error> {
        self.want_readiness()?;
        let _before = {
            let mut state = self.readiness.state.lock();
            if state.is_ready && !state.has_ended {
                // The new one knows of nothing yet.
                state.set(false);
            }
            state.call.replace(call)
        };
        self.look_for_oneself();
        Ok(())
    }

    /// The descriptor, made now if this is the first time.
    #[cfg(unix)]
    pub(super) fn readiness_descriptor(self: &Arc<Self>) -> Result<ReadyFd, Error> {
        self.want_readiness()?;
        let level = {
            let mut state = self.readiness.state.lock();
            match &state.descriptor {
                Some(level) => level.clone(),
                None => {
                    let level = Level::new().map_err(|error| {
                        let text = format!("cannot watch driver {:?}: no descriptor", self.name);
                        Error::new(ErrorKind::Io, text).with_source(error)
                    })?;
                    if state.is_ready {
                        level.raise();
                    }
                    state.descriptor.insert(Arc::new(level)).clone()
                }
            }
        };
        self.look_for_oneself();
        Ok(ReadyFd { level })
    }

    /// True if a spin would run something, or the node is ending. On the driver's thread.
    pub(super) fn is_ready(&self) -> bool {
        self.look_outside();
        current::has_work(self.id) || self.has_come()
    }

    /// The driver has ended: it is ready for ever.
    pub(super) fn end_readiness(&self) {
        if !self.readiness.is_wanted() || !self.runtime.is_here() {
            return;
        }
        let (alarm, stand_in) = {
            let mut state = self.readiness.state.lock();
            state.has_ended = true;
            (state.alarm.take(), state.stand_in.take())
        };
        drop(alarm);
        self.readiness.update(self.name(), true, || true);
        if let Some(stand_in) = stand_in {
            stand_in.end();
        }
        let _call = self.readiness.state.lock().call.take();
    }
}

/// The readiness descriptor of a manual driver or a script: readable exactly while a spin would run something, or the node
/// is ending, or the driver is gone. Watch it for reading, by level or by edge, in `poll`, `epoll`, `kqueue` or whatever loop
/// there is, and spin when it is readable. Nobody is to read from it; on Linux nobody can.
///
/// It is readable also when a timer is due, and when a sample has come from another process. It is closed when the last
/// copy of this handle and its driver are gone.
///
/// # Examples
///
/// ```
/// use mproc_runtime::{MailboxOptions, Runtime, closure};
/// use std::os::fd::AsFd;
///
/// let node = Runtime::new()?;
/// let manual = node.manual("loop")?;
/// let print = manual.spawn("print", MailboxOptions::default(), closure(|text: &str, _cx| println!("{text}")))?;
/// let ready = manual.ready_fd()?;
/// let _watched = ready.as_fd(); // given to the other loop
///
/// print.send("hello")?; // now it is readable
/// assert!(manual.is_ready());
/// assert_eq!(manual.spin_some(10)?.handled, 1);
/// assert!(!manual.is_ready()); // now it is not
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
#[cfg(unix)]
#[derive(Clone)]
pub struct ReadyFd {
    level: Arc<Level>,
}

#[cfg(unix)]
impl std::os::fd::AsFd for ReadyFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.level.as_fd()
    }
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for ReadyFd {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(self).as_raw_fd()
    }
}

#[cfg(unix)]
impl fmt::Debug for ReadyFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&std::os::fd::AsFd::as_fd(self), f)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("is_wanted", &self.is_wanted())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::mailbox::MailboxOptions;
    use crate::{Address, Cx, Handle, Manual, Options, Outcome, Processor, Runtime};
    use std::time::Duration;

    struct Sum(u32);
    struct Add(u32);

    impl Processor for Sum {}

    impl Handle<Add> for Sum {
        type Reply = ();
        fn handle(&mut self, Add(n): Add, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0 += n;
            Ok(())
        }
    }

    /// A driver whose member has started and has nothing to do.
    fn idle() -> (Manual, Address<Sum>) {
        let node = Runtime::with_options(Options::default());
        let manual = node.manual("m").unwrap();
        // Its end is not what is looked at here.
        std::mem::forget(node);
        let sum = manual.spawn("sum", MailboxOptions::default(), Sum(0));
        assert_eq!(manual.spin_some(8).unwrap().handled, 0);
        (manual, sum.unwrap())
    }

    fn send(to: &Address<Sum>, numbers: &'static [u32]) -> thread::JoinHandle<()> {
        let to = to.clone();
        thread::spawn(move || numbers.iter().for_each(|n| to.send(Add(*n)).unwrap()))
    }

    fn level(manual: &Manual) -> bool {
        manual.core().readiness.state.lock().is_ready
    }

    /// Such a wait may end for no reason, once.
    fn wait_for_level(manual: &Manual, told: &loom::sync::Notify) {
        while !level(manual) {
            told.wait();
        }
    }

    fn sum(manual: &Manual, of: &Address<Sum>) -> u32 {
        manual.enter(of, |sum, _| sum.0).unwrap()
    }

    /// A loop that sleeps until it is told that there is something handles all that comes.
    #[test]
    fn loom_a_loop_that_is_told_sleeps_over_nothing() {
        loom::model(|| {
            let (manual, to) = idle();
            let told = Arc::new(loom::sync::Notify::new());
            let tell = told.clone();
            manual.on_ready(move || tell.notify()).unwrap();
            let sender = send(&to, &[1, 2]);
            let mut handled = 0;
            while handled < 2 {
                wait_for_level(&manual, &told);
                // Until nothing is left, with a budget that is used up each time.
                while level(&manual) {
                    handled += manual.spin_some(1).unwrap().handled;
                }
            }
            sender.join().unwrap();
            assert_eq!(sum(&manual, &to), 3);
            drop(manual);
        });
    }

    /// Whatever spin and send do to each other, and whoever looks first: when both are over the level is the truth.
    #[test]
    fn loom_the_level_says_what_is_there() {
        loom::model(|| {
            let (manual, to) = idle();
            manual.on_ready(|| ()).unwrap();
            let sender = send(&to, &[1]);
            let mut handled = manual.spin_some(1).unwrap().handled;
            sender.join().unwrap();
            assert_eq!(level(&manual), handled == 0);
            handled += manual.spin_some(1).unwrap().handled;
            assert_eq!(handled, 1);
            assert!(!level(&manual));
            drop(manual);
        });
    }

    /// Asked for while somebody sends: either the first look finds it, or the sender looks.
    #[test]
    fn loom_what_comes_while_it_is_asked_for_is_told() {
        loom::model(|| {
            let (manual, to) = idle();
            let sender = send(&to, &[1]);
            let told = Arc::new(loom::sync::Notify::new());
            let tell = told.clone();
            manual.on_ready(move || tell.notify()).unwrap();
            wait_for_level(&manual, &told);
            assert_eq!(manual.spin_some(8).unwrap().handled, 1);
            sender.join().unwrap();
            assert!(!level(&manual));
            drop(manual);
        });
    }

    /// The end of the node is told, too, and the level stays up.
    #[test]
    fn loom_the_end_of_the_node_is_told() {
        loom::model(|| {
            let (manual, _to) = idle();
            let told = Arc::new(loom::sync::Notify::new());
            let tell = told.clone();
            manual.on_ready(move || tell.notify()).unwrap();
            let node = manual.runtime();
            let ender = thread::spawn(move || node.request_shutdown());
            let before = manual.spin_once(Duration::ZERO).unwrap();
            assert_ne!(before, crate::Spun::Ran);
            wait_for_level(&manual, &told);
            assert!(manual.spin_some(8).unwrap().is_ending);
            assert!(level(&manual));
            ender.join().unwrap();
            drop(manual);
        });
    }
}
