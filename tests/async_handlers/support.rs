//! Where processors live, what they wait for, and a processor that awaits whatever it is told to.

use mproc::prelude::*;
use mproc::{AfterPanic, CallError, Options, Pending, ReplyToken};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// Longer than anything should take; whoever waits so long fails.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Something that happens once, from any thread.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    pub(crate) fn open(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn passed(&self) -> impl Future<Output = ()> + Send + 'static {
        let gate = self.clone();
        poll_fn(move |context| {
            let mut state = gate.0.lock().unwrap();
            if state.0 {
                return Poll::Ready(());
            }
            state.1.push(context.waker().clone());
            Poll::Pending
        })
    }

    /// How many futures have asked and were told to wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().unwrap().1.len()
    }

    pub(crate) fn wait_for_waiting(&self, count: usize) {
        let until = std::time::Instant::now() + LONG;
        while self.waiting() < count {
            assert!(std::time::Instant::now() < until, "nobody came to the gate");
            std::thread::yield_now();
        }
    }
}

/// Counts how many of its kind were dropped.
#[derive(Clone, Default)]
pub(crate) struct Drops(Arc<AtomicU32>);

impl Drops {
    pub(crate) fn guard(&self) -> Guard {
        Guard(self.clone())
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) struct Guard(Drops);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Lets time go by: `clock.call(Sleep(time))`, on the virtual clock in a simulated node.
pub(crate) struct Clock;
pub(crate) struct Sleep(pub(crate) Duration);

impl Processor for Clock {}

impl Handle<Sleep> for Clock {
    type Reply = ();
    fn handle(&mut self, Sleep(time): Sleep, cx: &mut Cx<'_, Self, ()>) -> Outcome<()> {
        let mut kept: Option<ReplyToken<()>> = None;
        let later = cx.reply_later(|token| kept = Some(token));
        cx.after_with(time, move |_, _| {
            if let Some(token) = kept.take() {
                token.send(());
            }
        });
        later
    }
}

pub(crate) fn sleep(clock: &Address<Clock>, ms: u64) -> Pending<()> {
    clock.call(Sleep(Duration::from_millis(ms))).limit(LONG)
}

pub(crate) type Work = Pin<Box<dyn Future<Output = Outcome<u32>> + Send>>;

type Make = dyn FnOnce(&mut Worker, &mut Cx<'_, Worker, u32>) -> Work + Send;

/// Makes the future of one message.
pub(crate) struct Do(pub(crate) Box<Make>);

impl Do {
    pub(crate) fn new<F: Future<Output = Outcome<u32>> + Send + 'static>(
        make: impl FnOnce(&mut Worker, &mut Cx<'_, Worker, u32>) -> F + Send + 'static,
    ) -> Self {
        Self(Box::new(move |me, cx| Box::pin(make(me, cx))))
    }
}

/// Writes a word into the log, at once.
pub(crate) struct Note(pub(crate) &'static str);
/// The log.
pub(crate) struct Log;

#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) log: Vec<String>,
    pub(crate) goes_on: bool,
}

impl Worker {
    pub(crate) fn note(&mut self, what: impl Into<String>) {
        self.log.push(what.into());
    }
}

impl Processor for Worker {
    fn on_panic(&mut self, message: &str) -> AfterPanic {
        self.note(format!("panic {message}"));
        if self.goes_on {
            AfterPanic::GoOn
        } else {
            AfterPanic::End
        }
    }

    fn on_error(&mut self, fault: mproc::Fault, _: &mut Cx<'_, Self>) {
        self.note(format!("fault {fault}"));
    }
}

impl AsyncProcessor for Worker {}

impl HandleAsync<Do> for Worker {
    type Reply = u32;
    fn handle_async(
        &mut self,
        Do(make): Do,
        cx: &mut Cx<'_, Self, u32>,
    ) -> impl Future<Output = Outcome<u32>> + Send + 'static {
        make(self, cx)
    }
}

impl Handle<Note> for Worker {
    type Reply = ();
    fn handle(&mut self, Note(what): Note, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.note(what);
        Ok(())
    }
}

impl Handle<Log> for Worker {
    type Reply = Vec<String>;
    fn handle(&mut self, _: Log, _: &mut Cx<'_, Self, Self::Reply>) -> Outcome<Self::Reply> {
        Ok(self.log.clone())
    }
}

/// A place for processors: each kind of driver, real and simulated.
pub(crate) struct Place {
    pub(crate) node: Node,
    pub(crate) kind: &'static str,
    script: Option<Script<()>>,
    driver: Option<mproc::Driver>,
    /// For tasks, where each processor has a driver of its own.
    tasks: Option<mproc::Driver>,
    pool: Option<mproc::Pool>,
}

impl Place {
    fn new(node: Node, kind: &'static str) -> Self {
        Self {
            script: (kind == "manual").then(|| node.script().unwrap()),
            driver: (kind == "shared").then(|| node.driver("shared").unwrap()),
            tasks: None,
            pool: (kind == "pool").then(|| node.pool("pool", 3).unwrap()),
            node,
            kind,
        }
    }

    pub(crate) fn spawn<P: Processor + Send>(&mut self, name: &str, processor: P) -> Address<P> {
        let spawned = match (&mut self.script, &self.driver, &self.pool) {
            (Some(script), _, _) => script.spawn(name, processor),
            (_, Some(driver), _) => driver.spawn(name, processor),
            (_, _, Some(pool)) => pool.spawn(name, processor),
            _ => self.node.spawn_thread(name, processor),
        };
        spawned.unwrap()
    }

    pub(crate) fn spawn_task<T: Send + 'static>(
        &mut self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Pending<T> {
        let spawned = match (&mut self.script, &self.driver, &self.pool) {
            (Some(script), _, _) => script.spawn_task(future),
            (_, Some(driver), _) => driver.spawn_task(future),
            (_, _, Some(pool)) => pool.spawn_task(future),
            _ => {
                let make = || self.node.driver("tasks").unwrap();
                self.tasks.get_or_insert_with(make).spawn_task(future)
            }
        };
        spawned.unwrap()
    }

    /// Waits for a result, spinning where that is needed.
    pub(crate) fn wait<T: 'static>(&mut self, mut pending: Pending<T>) -> Result<T, CallError> {
        match &mut self.script {
            None => pending.wait_timeout(LONG),
            Some(script) => {
                let mut result = None;
                let waits = std::time::Instant::now();
                while result.is_none() {
                    assert!(waits.elapsed() < LONG, "no result");
                    // Time-outs of the operation itself are results, too.
                    result = spin_for(script, &mut pending);
                }
                result.unwrap()
            }
        }
    }

    /// Runs what is ready until `gate` has been come to by so many.
    pub(crate) fn run_until_waiting(&mut self, gate: &Gate, count: usize) {
        self.run_until(|_| gate.waiting() >= count);
    }

    /// Runs what is ready until `done` says so.
    pub(crate) fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let began = std::time::Instant::now();
        while !done(self) {
            assert!(
                began.elapsed() < LONG,
                "it did not come to that on {}",
                self.kind
            );
            let script = self.script.as_mut();
            let spun = script.map(|script| script.spin_once(Duration::ZERO).unwrap());
            if spun != Some(mproc::Spun::Ran) {
                // What lives in the script is quiet: nobody else runs that.
                self.node.settle();
            }
        }
    }
}

fn spin_for<T: 'static>(
    script: &mut Script<()>,
    pending: &mut Pending<T>,
) -> Option<Result<T, CallError>> {
    let mut context = std::task::Context::from_waker(Waker::noop());
    if let Poll::Ready(result) = Pin::new(pending).poll(&mut context) {
        return Some(result);
    }
    script.spin_once(Duration::from_millis(1)).unwrap();
    None
}

/// Runs a claim on each kind of driver, in a real node and in a simulated one.
pub(crate) fn everywhere(claim: impl Fn(&mut Place)) {
    for kind in ["own", "shared", "pool", "manual"] {
        claim(&mut Place::new(
            Node::with_options(Options::default().call_limit(LONG).send_limit(LONG)),
            kind,
        ));
        let simulated = Node::simulated_with(7, Options::default());
        claim(&mut Place::new(simulated, kind));
    }
}

/// A panic on purpose.
pub(crate) fn boom() {
    std::panic::panic_any("on purpose")
}

/// Panics on purpose are not printed.
pub(crate) fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref() != Some(&"on purpose") {
                before(info);
            }
        }));
    });
}
