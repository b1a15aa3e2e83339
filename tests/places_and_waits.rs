//! Who gets a place in a mailbox, and who waits for what, at the edges: operations begun here and waited for there.

use mproc::prelude::*;
use mproc::{CallError, Closure, Fault, Options, Pending, ReplyToken, Spun};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};

const SECOND: Duration = Duration::from_secs(1);

/// Counts the messages it has handled, and answers with that.
fn counter() -> Closure<(), u32> {
    let mut count = 0;
    closure(move |(): (), _cx| {
        count += 1;
        Ok::<_, Fault>(count)
    })
}

/// The begun call stood in line, was given the place that became free, and did not use it before it was waited for: everybody
/// else waited for a place in an idle processor.
#[test]
fn a_call_begun_on_a_full_mailbox_takes_no_place_until_it_is_waited_for() {
    let node = Node::simulated(1);
    let one = MailboxOptions::bounded(1);
    let target = node.spawn_thread_with("target", one, counter()).unwrap();
    target.send(()).unwrap();
    let mut call = target.call(());
    call.begin();
    let before = node.now();
    target.send_timeout((), 60 * SECOND).unwrap();
    assert_eq!(node.now(), before);
    assert_eq!(call.wait().unwrap(), 3);
}

type Waiter = Closure<Pending<u32>, Result<u32, CallError>>;

/// Waits in its handler for what others have begun.
fn waiter() -> Waiter {
    closure(|call: Pending<u32>, _cx| Ok::<_, Fault>(call.wait_timeout(SECOND)))
}

/// The call kept its place in the line for places, although inside the handler it took another way: the mailbox had one place
/// less from then on.
#[test]
fn a_call_begun_outside_and_waited_for_in_a_handler_leaves_no_place_behind() {
    let node = Node::simulated_with(1, Options::default());
    let two = MailboxOptions::bounded(2);
    let target = node.spawn_thread_with("target", two, counter()).unwrap();
    let waiter = node.spawn_thread("waiter", waiter()).unwrap();
    (0..2).for_each(|_| target.try_send(()).unwrap());
    // There is no room: it is in line, or not begun.
    let mut call = target.call(());
    call.begin();
    let result = waiter.call(call).wait().unwrap();
    assert_eq!(result.unwrap(), 3);
    (0..2).for_each(|_| target.try_send(()).unwrap());
    assert!(target.try_send(()).is_err());
}

/// The same when the caller had polled the call, and so stood in line rightly.
#[test]
fn a_call_polled_outside_and_waited_for_in_a_handler_leaves_no_place_behind() {
    let node = Node::simulated_with(1, Options::default());
    let two = MailboxOptions::bounded(2);
    let target = node.spawn_thread_with("target", two, counter()).unwrap();
    let waiter = node.spawn_thread("waiter", waiter()).unwrap();
    (0..2).for_each(|_| target.try_send(()).unwrap());
    let mut call = target.call(());
    assert!(poll(&mut call, Waker::noop()).is_pending());
    let result = waiter.call(call).wait().unwrap();
    assert_eq!(result.unwrap(), 3);
    (0..2).for_each(|_| target.try_send(()).unwrap());
    assert!(target.try_send(()).is_err());
}

fn poll<T: 'static, E: 'static>(pending: &mut Pending<T, E>, waker: &Waker) -> Poll<Result<T, E>> {
    Pin::new(pending).poll(&mut Context::from_waker(waker))
}

/// Waiting was refused because only this thread could run the target, although it had run it.
#[test]
fn wait_takes_a_result_that_is_there_on_the_scripts_own_thread() {
    let mut script = Node::simulated(1).script().unwrap();
    let own = script.spawn("own", counter()).unwrap();
    let mut call = own.call(());
    call.begin();
    assert_eq!(script.spin_once(SECOND).unwrap(), Spun::Ran);
    assert_eq!(call.wait().unwrap(), 1);
    own.stop();
    let ended = own.ended();
    script.spin_some(10).unwrap();
    ended.wait().unwrap();
}

/// The same for a place in a mailbox with room.
#[test]
fn reserve_takes_a_place_that_is_there_on_the_scripts_own_thread() {
    let mut script = Node::simulated(1).script().unwrap();
    let own = script.spawn("own", counter()).unwrap();
    let permit = own.reserve().wait().unwrap();
    permit.send(()).unwrap();
    assert_eq!(script.spin_some(10).unwrap().handled, 1);
    assert_eq!(own.snapshot().handled, 1);
}

#[derive(Default)]
struct Woken(Mutex<u32>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() += 1;
    }
}

/// A processor that keeps its callers waiting: its replies are never sent, and not given up either.
fn keeps_waiting(node: &Node) -> (Address<Closure<(), ()>>, mpsc::Receiver<ReplyToken<()>>) {
    let (keep, kept) = mpsc::channel();
    let never = closure(move |(): (), cx: &mut Cx<'_, Closure<(), ()>, ()>| {
        cx.reply_later(|token| keep.send(token).unwrap())
    });
    (node.spawn_thread("never", never).unwrap(), kept)
}

/// Whoever keeps the limits of awaits ends with the node. What was awaited then was never told that its limit passed.
#[test]
fn what_is_awaited_when_the_node_ends_is_woken_and_ends() {
    let node = Node::simulated(1);
    let (never, _kept) = keeps_waiting(&node);
    let mut call = never.call(()).limit(60 * SECOND);
    let woken = Arc::new(Woken::default());
    assert!(poll(&mut call, &woken.clone().into()).is_pending());
    node.settle();
    assert!(node.shutdown(SECOND).is_clean());
    assert!(*woken.0.lock().unwrap() > 0);
    assert!(poll(&mut call, Waker::noop()).is_ready());
}

/// The same for what was begun before and is awaited only after the end.
#[test]
fn what_is_awaited_after_the_end_of_the_node_ends_at_once() {
    let node = Node::simulated(1);
    let (never, _kept) = keeps_waiting(&node);
    let mut call = never.call(()).limit(60 * SECOND);
    call.begin();
    node.settle();
    assert!(node.shutdown(SECOND).is_clean());
    assert!(poll(&mut call, Waker::noop()).is_ready());
}

/// A waker that lets time go by when it is dropped.
struct DropsSlowly(Node, Duration);

impl Wake for DropsSlowly {
    fn wake(self: Arc<Self>) {}
}

impl Drop for DropsSlowly {
    fn drop(&mut self) {
        self.0.advance(self.1);
    }
}

/// The waker before was dropped with its limit locked: whoever keeps the limits waited for that, and the drop for them.
#[test]
fn a_waker_that_is_replaced_may_outlast_the_limit_in_its_drop() {
    // On a thread of its own, which waits for ever if this fails.
    let (done, told) = mpsc::channel();
    std::thread::spawn(move || {
        let node = Node::simulated(1);
        let (never, _kept) = keeps_waiting(&node);
        let mut call = never.call(()).limit(SECOND);
        let waker = Waker::from(Arc::new(DropsSlowly(node, 2 * SECOND)));
        assert!(poll(&mut call, &waker).is_pending());
        drop(waker);
        let _now_or_next_time = poll(&mut call, Waker::noop());
        let result = poll(&mut call, Waker::noop());
        done.send(matches!(result, Poll::Ready(Err(CallError::Timeout))))
            .unwrap();
    });
    assert!(told.recv_timeout(20 * SECOND).unwrap());
}

/// A waker whose drop sends to the mailbox in whose line it stands.
struct SendsWhenDropped(Address<Closure<(), u32>>);

impl Wake for SendsWhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for SendsWhenDropped {
    fn drop(&mut self) {
        let _full = self.0.try_send(());
    }
}

/// After the limit only the line still had the waker, which was dropped with the mailbox locked when another took its place: a
/// drop that uses the mailbox waited for itself.
#[test]
fn a_waker_whose_wait_is_over_may_use_the_mailbox_in_its_drop() {
    // On a thread of its own, which waits for ever if this fails.
    let (done, told) = mpsc::channel();
    std::thread::spawn(move || {
        let node = Node::simulated(1);
        let script = node.manual("script").unwrap();
        let one = MailboxOptions::bounded(1);
        let full = script.spawn("full", one, counter()).unwrap();
        full.try_send(()).unwrap();
        let mut place = full.reserve().limit(SECOND);
        let waker = Waker::from(Arc::new(SendsWhenDropped(full.clone())));
        assert!(poll(&mut place, &waker).is_pending());
        drop(waker);
        node.advance(2 * SECOND);
        assert!(poll(&mut place, Waker::noop()).is_ready());
        done.send(()).unwrap();
    });
    told.recv_timeout(20 * SECOND).unwrap();
}

/// A period of 0 was taken as one of a nanosecond: a million ticks for a millisecond.
#[test]
fn a_period_of_0_is_one_of_a_microsecond() {
    let mut script = Node::simulated(1).script().unwrap();
    script.every(Duration::ZERO, |(), _| ()).unwrap();
    assert_eq!(script.spin_once(SECOND).unwrap(), Spun::Ran);
    let first = script.now();
    for _ in 0..100 {
        assert_eq!(script.spin_once(SECOND).unwrap(), Spun::Ran);
    }
    assert_eq!(script.now() - first, Duration::from_micros(100));
}
