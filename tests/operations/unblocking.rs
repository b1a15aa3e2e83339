//! Blocking work for those who must not block.

use crate::{HALF, LONG, SECOND, real, simulated};
use mproc::prelude::*;
use mproc::{Fault, UnblockError};
use std::sync::mpsc;

/// Blocks for half a second of the node's time.
fn half_a_second(node: &Node) -> impl FnOnce() + Send + 'static {
    let nothing = node.subscription(&crate::NUMBERS).unwrap();
    move || {
        let _timeout = nothing.recv_timeout(HALF);
    }
}

#[test]
fn blocking_work_is_waited_for_in_every_way() {
    let node = simulated(1);
    assert_eq!(node.unblock(|| 1).wait(), Ok(1));
    assert_eq!(node.unblock(|| 2).start().wait(), Ok(2));
    assert_eq!(node.run(node.unblock(|| 3)).unwrap(), Ok(3));
    let (tell, told) = mpsc::channel();
    let asks = closure(move |(): (), cx: &mut Cx<'_, _>| {
        let tell = tell.clone();
        let work = cx.runtime().unblock(|| 4);
        work.then(cx, move |_, result, _| Ok(tell.send(result)?));
        Ok::<_, Fault>(())
    });
    let asks = node.spawn_thread("asks", asks).unwrap();
    asks.send(()).unwrap();
    node.settle();
    assert_eq!(told.try_recv(), Ok(Ok(4)));
}

#[test]
fn blocking_work_runs_side_by_side_and_not_on_a_driver() {
    let node = simulated(1);
    let before = node.now();
    let tickets: Vec<_> = (0..10)
        .map(|_| node.unblock(half_a_second(&node)).start())
        .collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(node.now() - before, HALF);
}

#[test]
fn equal_seeds_run_blocking_work_in_equal_order() {
    let order = |seed| {
        let node = simulated(seed);
        let (tell, told) = mpsc::channel();
        let work = |n: u32| {
            let tell = tell.clone();
            node.unblock(move || tell.send(n).unwrap()).start()
        };
        let tickets: Vec<_> = (0..6).map(work).collect();
        tickets
            .into_iter()
            .for_each(|ticket| ticket.wait().unwrap());
        told.try_iter().collect::<Vec<_>>()
    };
    let orders: Vec<_> = (0..10).map(order).collect();
    assert_eq!(orders, (0..10).map(order).collect::<Vec<_>>());
    assert!(orders.iter().any(|other| *other != orders[0]));
}

#[test]
fn a_panic_is_an_error_with_its_text_and_the_thread_goes_on() {
    let node = simulated(1);
    let panics = node.unblock(|| -> u32 { panic!("no such device: {}", 7) });
    let error = panics.wait().unwrap_err();
    assert_eq!(error, UnblockError::Panicked("no such device: 7".into()));
    assert_eq!(node.unblock(|| 1).wait(), Ok(1));
}

#[test]
fn more_work_than_threads_waits_in_line_and_leaves_it_when_it_is_cancelled() {
    let node = real();
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(held));
    let (tell, told) = mpsc::channel();
    let blocked: Vec<_> = (0..64)
        .map(|_| {
            let (tell, held) = (tell.clone(), held.clone());
            node.unblock(move || {
                tell.send(()).unwrap();
                let _over = held.lock().unwrap().recv();
            })
            .start()
        })
        .collect();
    for _ in 0..64 {
        told.recv_timeout(LONG).unwrap();
    }
    let (run, ran) = mpsc::channel();
    let theirs = run.clone();
    let mut cancelled = node.unblock(move || theirs.send("cancelled")).start();
    let waits = node.unblock(move || run.send("waits")).limit(LONG).start();
    assert!(cancelled.cancel_and_wait(LONG));
    drop(release);
    waits.wait().unwrap().unwrap();
    for ticket in blocked {
        ticket.wait().unwrap();
    }
    assert_eq!(ran.iter().collect::<Vec<_>>(), ["waits"]);
}

/// Told when its thread ends.
struct OfThread(mpsc::Sender<()>);

impl Drop for OfThread {
    fn drop(&mut self) {
        let _nobody = self.0.send(());
    }
}

#[test]
fn a_thread_without_work_ends() {
    thread_local!(static KEPT: std::cell::RefCell<Option<OfThread>> = const { std::cell::RefCell::new(None) });
    let node = simulated(1);
    let (tell, told) = mpsc::channel();
    node.unblock(move || KEPT.set(Some(OfThread(tell))))
        .wait()
        .unwrap();
    node.advance(SECOND * 9);
    assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
    node.advance(SECOND * 2);
    told.recv_timeout(LONG).unwrap();
    // And the next work gets another.
    assert_eq!(node.unblock(|| 1).wait(), Ok(1));
}

/// Nothing can stop a closure. Whoever waits for it is not held up by that, and neither is the end of the node.
#[test]
fn the_end_is_bounded_though_a_closure_swallows_its_cancellation() {
    let node = simulated(1);
    let (begun, has_begun) = mpsc::channel();
    let long = {
        let nothing = node.subscription(&crate::NUMBERS).unwrap();
        move || {
            begun.send(()).unwrap();
            let _timeout = nothing.recv_timeout(LONG);
        }
    };
    let mut ticket = node.unblock(long).start();
    node.settle();
    has_begun.try_recv().unwrap();
    let before = node.now();
    assert!(!ticket.cancel_and_wait(HALF));
    assert_eq!(node.now() - before, HALF);
    let queued = node.unblock(|| ()).start();
    node.settle();
    assert_eq!(queued.wait(), Ok(()));
    let _report = node.shutdown(SECOND);
    assert!(node.now() - before <= SECOND * 2);
    assert_eq!(node.unblock(|| ()).wait(), Err(UnblockError::Closed));
}

#[test]
fn a_closure_may_have_the_last_handle_of_its_node() {
    let node = real();
    let (tell, told) = mpsc::channel();
    let theirs = node.clone();
    node.unblock(move || {
        // Until it is the last.
        told.recv_timeout(LONG).unwrap();
        drop(theirs);
    })
    .start()
    .detach();
    let (ended, end) = mpsc::channel();
    let watcher = node
        .spawn_thread("watched", closure(|(): (), _cx| ()))
        .unwrap();
    let down = watcher.ended().limit(LONG).start();
    drop(node);
    tell.send(()).unwrap();
    std::thread::spawn(move || ended.send(down.wait().is_ok()));
    assert!(end.recv_timeout(LONG).unwrap());
}

/// Its thread was lost, and was waited for at the end of the node.
#[test]
fn a_result_that_panics_when_it_is_dropped_takes_no_thread_along() {
    struct Touchy;
    impl Drop for Touchy {
        fn drop(&mut self) {
            panic!("not like this");
        }
    }
    for detached in [false, true] {
        let node = simulated(1);
        let (begun, has_begun) = mpsc::channel();
        let nothing = node.subscription(&crate::NUMBERS).unwrap();
        let mut ticket = node
            .unblock(move || {
                begun.send(()).unwrap();
                let _timeout = nothing.recv_timeout(SECOND);
                Touchy
            })
            .start();
        node.settle();
        has_begun.try_recv().unwrap();
        if detached {
            ticket.detach();
        } else {
            assert!(ticket.cancel_and_wait(LONG));
        }
        node.advance(SECOND * 2);
        assert_eq!(node.unblock(|| 1).wait(), Ok(1));
        let before = node.now();
        let _report = node.shutdown(LONG);
        assert_eq!(node.now(), before);
    }
}
