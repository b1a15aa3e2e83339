//! The real cell, its mailbox and its driver under the model checker: a few threads, every interleaving.
//!
//! A lost wake-up leaves a model's thread parked for ever, which the checker reports as a deadlock.

use crate::mailbox::MailboxOptions;
use crate::queue::Waiter;
use crate::runtime::RuntimeCore;
use crate::sync::{Mutex, thread};
use crate::{
    Address, CallError, Cx, DropCause, Handle, Manual, Operation, Options, Outcome, Pending,
    Processor, ReplyToken, Runtime, Spun,
};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

struct Add(u32);
struct Get;

#[derive(Default)]
struct Sum(u32, u32);

impl Processor for Sum {}

impl Handle<Add> for Sum {
    type Reply = ();
    fn handle(&mut self, Add(n): Add, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0 += n;
        self.1 += 1;
        Ok(())
    }
}

impl Handle<Get> for Sum {
    type Reply = u32;
    fn handle(&mut self, _: Get, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        self.1 += 1;
        Ok(self.0)
    }
}

fn node() -> Runtime {
    // Its end is not what is looked at here.
    let node = Runtime::with_options(Options::default());
    let unguarded = node.without_guard();
    std::mem::forget(node);
    unguarded
}

/// Spins until `done` says so of the processor's state.
fn spin_until<P: Processor>(manual: &Manual, address: &Address<P>, done: impl Fn(&P) -> bool) {
    while !manual.enter(address, |p, _| done(p)).unwrap() {
        assert_ne!(manual.spin_once(Duration::MAX).unwrap(), Spun::Shutdown);
    }
}

/// Mailbox, schedule flag, inbox and sleep: a sender meets a driver that handles, goes idle, or sleeps.
#[test]
fn loom_a_message_is_handled_whatever_its_driver_does_when_it_comes() {
    loom::model(|| {
        let node = node();
        let manual = node.manual("m").unwrap();
        let sum = manual
            .spawn("sum", MailboxOptions::default(), Sum::default())
            .unwrap();
        let to = sum.clone();
        let sender = thread::spawn(move || {
            to.send(Add(1)).unwrap();
            to.send(Add(2)).unwrap();
        });
        spin_until(&manual, &sum, |sum| sum.1 == 2);
        assert_eq!(manual.enter(&sum, |sum, _| sum.0).unwrap(), 3);
        sender.join().unwrap();
        drop(manual);
    });
}

/// As above, for a cell that is released while its handler runs, because the message before was alone.
#[test]
fn loom_a_message_is_handled_that_comes_while_a_released_cell_runs() {
    loom::model(|| {
        let node = node();
        let manual = node.manual("m").unwrap();
        let sum = manual
            .spawn("sum", MailboxOptions::default(), Sum::default())
            .unwrap();
        sum.send(Add(1)).unwrap();
        while manual.spin_some(8).unwrap().handled > 0 {}
        let to = sum.clone();
        let sender = thread::spawn(move || {
            to.send(Add(2)).unwrap();
            to.send(Add(3)).unwrap();
        });
        spin_until(&manual, &sum, |sum| sum.1 == 3);
        assert_eq!(manual.enter(&sum, |sum, _| sum.0).unwrap(), 6);
        sender.join().unwrap();
        drop(manual);
    });
}

/// As above, with room for one message: the sender waits in line, and the place it waits for is handed to it.
#[test]
fn loom_a_sender_that_waits_for_room_is_let_in() {
    loom::model(|| {
        let node = node();
        let manual = node.manual("m").unwrap();
        let sum = manual
            .spawn("sum", MailboxOptions::bounded(1), Sum::default())
            .unwrap();
        sum.try_send(Add(1)).unwrap();
        let to = sum.clone();
        let sender = thread::spawn(move || to.send(Add(2)).unwrap());
        spin_until(&manual, &sum, |sum| sum.1 == 2);
        sender.join().unwrap();
        drop(manual);
    });
}

/// A caller waits while its processor handles the call, is stopped before it, or is gone already: one answer comes, and
/// it is the right one.
#[test]
fn loom_a_call_is_answered_whenever_its_processor_ends() {
    loom::model(|| {
        let node = node();
        let manual = node.manual("m").unwrap();
        let sum = manual
            .spawn("sum", MailboxOptions::default(), Sum(7, 0))
            .unwrap();
        let to = sum.clone();
        let caller = thread::spawn(move || to.call(Get).wait());
        // Starts it, and lets it handle the call if that has come.
        let _ran = manual.spin_some(1).unwrap();
        sum.stop();
        let down = manual.spin_until(&mut sum.ended(), Duration::MAX);
        assert!(down.unwrap().is_some());
        match caller.join().unwrap() {
            Ok(7) | Err(CallError::Stopped(_)) => {}
            other => unreachable!("{other:?}"),
        }
        drop(manual);
    });
}

/// A caller gives up while its call is queued, handled, or answered: it was handled, or it was taken back and counted.
#[test]
fn loom_a_call_that_is_given_up_is_handled_or_taken_back() {
    loom::model(|| {
        let node = node();
        let manual = node.manual("m").unwrap();
        let sum = manual
            .spawn("sum", MailboxOptions::default(), Sum::default())
            .unwrap();
        let to = sum.clone();
        let caller = thread::spawn(move || {
            let mut call = to.call(Get);
            call.begin();
            drop(call);
        });
        let settled = |sum: &Address<Sum>| {
            let s = sum.snapshot();
            s.received == 1 && s.handled + s.dropped.by(DropCause::Cancelled) == 1
        };
        while !settled(&sum) {
            assert_ne!(manual.spin_once(Duration::MAX).unwrap(), Spun::Shutdown);
        }
        caller.join().unwrap();
        let handled = manual.enter(&sum, |sum, _| sum.1).unwrap();
        assert_eq!(u64::from(handled), sum.snapshot().handled);
        drop(manual);
    });
}

/// Passes on what it is told, and counts.
struct Relay {
    to: Address<Sum>,
    told: u32,
}

impl Processor for Relay {}

impl Handle<Add> for Relay {
    type Reply = ();
    fn handle(&mut self, add: Add, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.told += 1;
        self.to.send(add)?;
        Ok(())
    }
}

/// Outbox and stall: what a handler could not send is delivered when its target, on another thread, has room, and the
/// stall ends.
#[test]
fn loom_a_stalled_processor_goes_on_when_its_target_has_room() {
    loom::model(|| {
        let node = node();
        let (ours, theirs) = (node.manual("ours").unwrap(), node.clone());
        // The other thread makes its driver itself and says whom to send to, and later what the sum is. Nobody joins it: the
        // checker does not allow for a thread to be unparked while it joins another.
        let place = Arc::new(Mutex::new((None, None)));
        let (waker, told) = (node.shared().world.waker(), place.clone());
        let _other = thread::spawn(move || {
            let manual = theirs.manual("theirs").unwrap();
            let sum = manual
                .spawn("sum", MailboxOptions::bounded(1), Sum::default())
                .unwrap();
            sum.try_send(Add(1)).unwrap();
            told.lock().0 = Some(sum.clone());
            waker.wake_by_ref();
            spin_until(&manual, &sum, |sum| sum.1 == 3);
            let total = manual.enter(&sum, |sum, _| sum.0).unwrap();
            told.lock().1 = Some(total);
            waker.wake();
        });
        let wait_for = |what: &dyn Fn() -> bool| {
            while !what() {
                node.shared().world.park(None);
            }
        };
        wait_for(&|| place.lock().0.is_some());
        let to = place.lock().0.clone().unwrap();
        let relay = ours
            .spawn("relay", MailboxOptions::default(), Relay { to, told: 0 })
            .unwrap();
        for n in 2..=4 {
            relay.send(Add(n)).unwrap();
        }
        // Told the third, it has delivered the second: a stalled processor is told nothing.
        spin_until(&ours, &relay, |relay| relay.told == 3);
        wait_for(&|| place.lock().1.is_some());
        assert_eq!(place.lock().1, Some(6));
        drop(ours);
    });
}

/// Keeps the token of whoever asks.
#[derive(Default)]
struct Keeper(Option<ReplyToken<u32>>);

impl Processor for Keeper {}

impl Handle<Get> for Keeper {
    type Reply = u32;
    fn handle(&mut self, _: Get, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        cx.reply_later(|token| self.0 = Some(token))
    }
}

/// Goes on with what it was told.
#[derive(Default)]
struct GoesOn(Option<u32>);

impl Processor for GoesOn {}

/// A call that another thread answers is gone on with, whatever the driver of the continuation does at that moment.
#[test]
fn loom_a_continuation_goes_on_when_another_thread_answers() {
    loom::model(|| {
        let node = node();
        let manual = node.manual("m").unwrap();
        let of = MailboxOptions::default();
        let keeper = manual.spawn("keeper", of, Keeper::default()).unwrap();
        let asker = manual.spawn("asker", of, GoesOn::default()).unwrap();
        manual
            .enter(&asker, |_, cx| {
                // Without a limit: a deadline would let the driver look again by itself.
                let call = keeper.call(Get).limit(Duration::MAX);
                call.then(cx, |me, reply, _| {
                    me.0 = Some(reply?);
                    Ok(())
                });
            })
            .unwrap();
        spin_until(&manual, &keeper, |keeper| keeper.0.is_some());
        let token = manual.enter(&keeper, |keeper, _| keeper.0.take()).unwrap();
        let answers = thread::spawn(move || token.unwrap().send(7));
        spin_until(&manual, &asker, |asker| asker.0.is_some());
        assert_eq!(manual.enter(&asker, |asker, _| asker.0).unwrap(), Some(7));
        answers.join().unwrap();
        drop(manual);
    });
}

/// An operation that wakes whoever waits for it before it is done, and again when it is.
struct WakesTwice {
    node: Runtime,
    state: Mutex<(Option<u32>, Option<Waker>)>,
}

impl WakesTwice {
    fn wake(&self, result: Option<u32>) {
        let waker = {
            let mut state = self.state.lock();
            state.0 = result;
            state.1.clone()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Operation<u32, CallError> for WakesTwice {
    fn begin(self: Arc<Self>, _: &mut Waiter, _: &Waker) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn retreat(&self, _: &mut Waiter) {}

    fn poll(&self, waker: &Waker) -> Poll<Result<u32, CallError>> {
        let mut state = self.state.lock();
        state.1 = Some(waker.clone());
        match state.0 {
            Some(result) => Poll::Ready(Ok(result)),
            None => Poll::Pending,
        }
    }

    fn is_done(&self) -> bool {
        self.state.lock().0.is_some()
    }

    fn abandon(&self, _: &mut Waiter) {}

    fn refuse_to_block(&self) -> Option<CallError> {
        None
    }

    fn timeout(&self) -> CallError {
        CallError::Timeout
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.node.shared()
    }

    fn limit(&self) -> Duration {
        Duration::MAX
    }
}

/// A continuation has one place in the control lane. A wake-up that comes while it looks in vain is not taken for the one
/// that made it look.
#[test]
fn loom_a_continuation_that_looks_in_vain_misses_no_wake_up() {
    loom::model(|| {
        let node = node();
        let manual = node.manual("m").unwrap();
        let waits = manual
            .spawn("waits", MailboxOptions::default(), GoesOn::default())
            .unwrap();
        let op = Arc::new(WakesTwice {
            node,
            state: Mutex::new((None, None)),
        });
        let pending = Pending::new(op.clone());
        manual
            .enter(&waits, |_, cx| {
                pending.then(cx, |me: &mut GoesOn, result, _| {
                    me.0 = Some(result?);
                    Ok(())
                });
            })
            .unwrap();
        let (theirs, wakes) = (op.clone(), op);
        let waker = thread::spawn(move || {
            theirs.wake(None);
            theirs.wake(Some(7));
        });
        spin_until(&manual, &waits, |waits| waits.0.is_some());
        waker.join().unwrap();
        // Its waker holds the cell.
        wakes.state.lock().1 = None;
        drop(manual);
    });
}
