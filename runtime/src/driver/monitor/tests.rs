//! When the monitor sleeps, and what waits behind long visits meanwhile.

use super::*;
use crate::{Cx, Fault, Options, Outcome, Runtime, closure};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

/// More than anything here takes, on a busy machine.
const LONG_ENOUGH: Duration = Duration::from_secs(30);

fn node() -> Runtime {
    Runtime::with_options(Options::default())
}

/// Waits for something that tells nobody. False if it does not come.
fn comes(node: &Runtime, what: impl Fn(&RuntimeCore) -> bool) -> bool {
    let until = node.now() + LONG_ENOUGH;
    while !what(node.core()) {
        if node.now() > until {
            return false;
        }
        node.park(Some(node.now() + TICK));
    }
    true
}

fn sleeps(core: &RuntimeCore) -> bool {
    core.monitor.asleep.load(SeqCst)
}

/// A handler that waits where nobody sees it.
fn waits<P: crate::Processor>(
    receiver: Receiver<u32>,
) -> impl FnMut((), &mut Cx<'_, P, u32>) -> Outcome<u32> + Send {
    let receiver = Mutex::new(receiver);
    move |(), _| Ok(receiver.lock().unwrap().recv()?)
}

/// The monitor had gone to sleep once all that went on was reported, and nobody woke it for work that came later and found no
/// thread.
#[test]
fn what_comes_after_all_long_handlers_were_reported_finds_a_thread() {
    let node = node();
    let pool = node.pool("workers", 1).unwrap();
    let (open, opened) = channel();
    let long = pool.spawn("long", closure(waits(opened))).unwrap();
    let mut call = long.call(()).limit(LONG_ENOUGH);
    call.begin();
    assert!(comes(&node, |core| {
        let drivers = core.drivers();
        let mut all = drivers.iter().flat_map(|d| d.activities());
        all.any(|a| a.visit().is_some_and(|v| v.is_known))
    }));
    assert!(comes(&node, sleeps));
    let opener = pool
        .spawn(
            "opener",
            closure(move |n: u32, _| Ok::<_, Fault>(open.send(n)?)),
        )
        .unwrap();
    opener.send(7).unwrap();
    assert_eq!(call.wait().unwrap(), 7);
}

/// A retired thread parks for as long as nobody blocks, and used to look busy meanwhile.
#[test]
fn a_spare_thread_that_has_retired_does_not_keep_the_monitor_awake() {
    let node = node();
    let pool = node.pool("workers", 1).unwrap();
    let echo = pool
        .spawn("echo", closure(|n: u32, _| Ok::<_, Fault>(n)))
        .unwrap();
    let blocks = pool
        .spawn(
            "blocks",
            closure(move |n: u32, _| Ok::<_, Fault>(echo.call(n).wait()?)),
        )
        .unwrap();
    assert_eq!(blocks.call(7).wait().unwrap(), 7);
    assert_eq!(node.snapshot().drivers[0].threads, 2);
    assert!(comes(&node, sleeps));
    // And it serves as before.
    assert_eq!(blocks.call(8).wait().unwrap(), 8);
}

/// What was seen of a driver is forgotten with the driver, although the monitor does not sleep.
#[test]
fn nothing_is_kept_of_drivers_that_have_ended() {
    let node = node();
    let mut seen = BTreeMap::new();
    let now = node.now();
    for _ in 0..3 {
        let (open, opened) = channel();
        let (enter, entered) = channel();
        let mut wait = waits(opened);
        let long = closure(move |(): (), cx: &mut Cx<'_, _, u32>| {
            enter.send(())?;
            wait((), cx)
        });
        let long = node.spawn_thread("long", long).unwrap();
        let mut call = long.call(());
        call.begin();
        entered.recv().unwrap();
        look(&node.core().drivers(), &mut seen, now);
        open.send(1).unwrap();
        assert_eq!(call.wait().unwrap(), 1);
        long.stop();
        long.ended().wait().unwrap();
        assert!(comes(&node, |core| core.drivers().is_empty()));
    }
    look(&node.core().drivers(), &mut seen, now);
    assert_eq!(seen.len(), 0);
}
