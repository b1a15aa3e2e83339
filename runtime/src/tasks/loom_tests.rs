//! Wake against poll against drop, with the real cell, mailbox and driver under the model checker.
//!
//! A lost wake-up leaves a model's thread parked for ever, which the checker reports as a deadlock.

use crate::mailbox::MailboxOptions;
use crate::runtime::Runtime;
use crate::sync::{Acquire, AtomicBool, Mutex, Release, thread};
use crate::{CallError, Cx, Handle, Manual, Options, Outcome, Processor, TaskHandle};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// What a future waits for: that both flags are up. Nothing but the wake protocol orders the flags with the polls: each is one
/// atomic, and the waker was given away once, before.
#[derive(Default)]
struct Flags {
    one: AtomicBool,
    two: AtomicBool,
}

/// Counts the drops of a future.
struct Guard(Arc<Mutex<u32>>);

impl Drop for Guard {
    fn drop(&mut self) {
        *self.0.lock() += 1;
    }
}

type Shared<T> = Arc<Mutex<Option<T>>>;

/// Waits for the flags in its handler.
struct Waits {
    flags: Arc<Flags>,
    waker: Shared<Waker>,
    drops: Arc<Mutex<u32>>,
}

impl Waits {
    /// Ready when both flags are up. The first poll gives the waker away.
    fn both(&self) -> impl Future<Output = u32> + use<> {
        let (flags, waker) = (self.flags.clone(), self.waker.clone());
        let (guard, mut polls) = (Guard(self.drops.clone()), 0);
        poll_fn(move |context| {
            let _kept = &guard;
            if polls == 0 {
                *waker.lock() = Some(context.waker().clone());
            }
            polls += 1;
            if flags.one.load(Acquire) && flags.two.load(Acquire) {
                Poll::Ready(polls)
            } else {
                Poll::Pending
            }
        })
    }
}

struct Wait;
struct Spawn;

impl Processor for Waits {}

impl Handle<Wait> for Waits {
    type Reply = u32;
    fn handle(&mut self, _: Wait, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        let both = self.both();
        cx.reply_async_local(async move { Ok(both.await) })
    }
}

impl Handle<Spawn> for Waits {
    type Reply = TaskHandle;
    fn handle(&mut self, _: Spawn, cx: &mut Cx<'_, Self, TaskHandle>) -> Outcome<TaskHandle> {
        let both = self.both();
        Ok(cx.spawn_local(async move {
            both.await;
        }))
    }
}

struct Model {
    manual: Manual,
    waits: crate::Address<Waits>,
    flags: Arc<Flags>,
    waker: Shared<Waker>,
    drops: Arc<Mutex<u32>>,
}

fn model() -> Model {
    let node = Runtime::with_options(Options::default());
    let unguarded = node.without_guard();
    // Its end is not what is looked at here.
    std::mem::forget(node);
    let manual = unguarded.manual("m").unwrap();
    let (flags, waker, drops) = (Arc::default(), Arc::default(), Arc::default());
    let waits = Waits {
        flags: Arc::clone(&flags),
        waker: Arc::clone(&waker),
        drops: Arc::clone(&drops),
    };
    let waits = manual
        .spawn("waits", MailboxOptions::default(), waits)
        .unwrap();
    Model {
        manual,
        waits,
        flags,
        waker,
        drops,
    }
}

impl Model {
    /// Runs what is ready, which is to have the future polled once.
    fn first_poll(&self) -> Waker {
        while self.manual.spin_some(8).unwrap().handled > 0 {}
        self.waker.lock().take().unwrap()
    }

    fn end(self) {
        drop(self.manual);
        assert_eq!(*self.drops.lock(), 1, "a future is dropped once");
    }
}

/// Two threads wake, each for its own part: whichever poll comes after both sees both.
#[test]
fn loom_a_wake_is_not_lost_whatever_the_poll_does_when_it_comes() {
    loom::model(|| {
        let model = model();
        let mut call = model.waits.call(Wait);
        call.begin();
        let waker = model.first_poll();
        let (flags, first) = (model.flags.clone(), waker.clone());
        let one = thread::spawn(move || {
            flags.one.store(true, Release);
            first.wake();
        });
        let flags = model.flags.clone();
        let two = thread::spawn(move || {
            flags.two.store(true, Release);
            waker.wake();
        });
        let polls = model.manual.spin_until(&mut call, Duration::MAX);
        // The first, and one for each wake at most.
        let polls = polls.unwrap().unwrap().unwrap();
        assert!((2..=3).contains(&polls), "{polls}");
        one.join().unwrap();
        two.join().unwrap();
        model.end();
    });
}

/// The processor is killed while its handler's future is woken: the call ends, with the reply or without.
#[test]
fn loom_a_wake_meets_the_end_of_the_processor() {
    loom::model(|| {
        let model = model();
        let mut call = model.waits.call(Wait);
        call.begin();
        let waker = model.first_poll();
        model.flags.two.store(true, Release);
        let flags = model.flags.clone();
        let wakes = thread::spawn(move || {
            flags.one.store(true, Release);
            waker.wake();
        });
        let ends = model.waits.clone();
        let kills = thread::spawn(move || ends.kill());
        let result = model.manual.spin_until(&mut call, Duration::MAX);
        match result.unwrap().unwrap() {
            Ok(2) | Err(CallError::Stopped(_)) => {}
            other => unreachable!("{other:?}"),
        }
        wakes.join().unwrap();
        kills.join().unwrap();
        model.end();
    });
}

/// A spawned future is cancelled by one thread while another wakes it.
#[test]
fn loom_a_wake_meets_a_cancellation() {
    loom::model(|| {
        let model = model();
        let mut spawned = model.waits.call(Spawn);
        let task = model.manual.spin_until(&mut spawned, Duration::MAX);
        let task = task.unwrap().unwrap().unwrap();
        let waker = model.first_poll();
        model.flags.two.store(true, Release);
        let flags = model.flags.clone();
        let wakes = thread::spawn(move || {
            flags.one.store(true, Release);
            waker.wake();
        });
        let cancels = task.clone();
        let cancels = thread::spawn(move || cancels.cancel());
        while !task.is_finished() {
            model.manual.spin_once(Duration::MAX).unwrap();
        }
        assert_eq!(*model.drops.lock(), 1);
        wakes.join().unwrap();
        cancels.join().unwrap();
        model.end();
    });
}
