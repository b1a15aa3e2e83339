//! What waits for handlers, and for drops, that go on for long.

use super::{SECOND, driver, real, simulated};
use mproc::prelude::*;
use mproc::{ErrorKind, Fault, PoolOptions};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

struct Begin;
struct Fired;

struct Timer(Sender<()>);
impl Processor for Timer {}
impl Handle<Begin> for Timer {
    type Reply = ();
    fn handle(&mut self, _: Begin, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.after(Duration::from_millis(1), Fired);
        Ok(())
    }
}
impl Handle<Fired> for Timer {
    type Reply = ();
    fn handle(&mut self, _: Fired, _: &mut Cx<'_, Self>) -> Outcome<()> {
        Ok(self.0.send(())?)
    }
}

/// The only thread is inside a handler that nobody has said of that it blocks. No cell stood on a queue, so nothing was seen to
/// wait, and the timer fired when that handler had returned.
#[test]
fn a_timer_fires_although_all_threads_are_inside_long_handlers() {
    let node = real();
    let pool = node.pool("workers", 1).unwrap();
    let (tell, told) = channel();
    let timer = pool.spawn("timer", Timer(tell)).unwrap();
    let told = Mutex::new(told);
    let limit = 20 * SECOND;
    let long = closure(move |(): (), _| Ok::<_, Fault>(told.lock().unwrap().recv_timeout(limit)?));
    let long = pool.spawn("long", long).unwrap();
    timer.send(Begin).unwrap();
    long.call(()).limit(60 * SECOND).wait().unwrap();
}

/// Waits for another member when it is dropped, which is after its last handler.
struct Clings {
    echo: Address<mproc::Closure<u32, u32>>,
    tell: Sender<Option<u32>>,
}
impl Processor for Clings {}
impl Drop for Clings {
    fn drop(&mut self) {
        let answer = self.echo.call(7).limit(5 * SECOND).wait();
        let _gone = self.tell.send(answer.ok());
    }
}

/// It did not count as blocked, and what it had woken stood on its thread's queue, where nobody was woken for it.
#[test]
fn a_processor_may_wait_for_another_when_it_is_dropped() {
    for threads in [1, 2] {
        // Where no monitor helps.
        let node = simulated(threads as u64);
        let pool = node.pool("workers", threads).unwrap();
        let echo = closure(|n: u32, _| Ok::<_, Fault>(n));
        let echo = pool.spawn("echo", echo).unwrap();
        let (tell, told) = channel();
        let clings = pool.spawn("clings", Clings { echo, tell }).unwrap();
        node.settle();
        clings.stop();
        node.settle();
        assert_eq!(told.try_recv(), Ok(Some(7)), "{threads} threads");
        clings.ended().wait().unwrap();
        assert_eq!(driver(&node, "workers").blocked, 0);
    }
}

/// The sum of both numbers ran over, and memory for all of them was taken at once.
#[test]
fn a_pool_of_more_threads_than_a_system_has_is_refused() {
    let node = real();
    for options in [
        PoolOptions::threads(usize::MAX),
        PoolOptions::threads(1).spares(usize::MAX),
        PoolOptions::threads(2).spares(usize::MAX / 2),
    ] {
        let error = node.pool_with("many", options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSetting, "{error}");
    }
    // The name is not taken by what was refused.
    node.pool_with("many", PoolOptions::threads(1).spares(1000))
        .unwrap();
}
