//! What a handler that awaits promises.

use crate::support::*;
use mproc::prelude::*;
use mproc::{CallError, Options};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn handlers_that_await_are_still_entered_one_at_a_time() {
    everywhere(|place| {
        let clock = place.node.spawn_thread("clock", Clock).unwrap();
        let worker = place.spawn("worker", Worker::default());
        let inside = Arc::new(AtomicU32::new(0));
        for n in 0..10_u32 {
            let (clock, inside) = (clock.clone(), inside.clone());
            let work = Do::new(move |_, cx| {
                let me = cx.async_handle();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                async move {
                    me.update(move |me, _| me.note(format!("begin {n}")))
                        .await?;
                    // The first takes the longest.
                    sleep(&clock, u64::from(10 - n)).await?;
                    me.update(move |me, _| me.note(format!("end {n}"))).await?;
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    Ok(n)
                }
            });
            worker.send(work).unwrap();
        }
        let log = place.wait(worker.call(Log).limit(LONG)).unwrap();
        let expected: Vec<_> = (0..10)
            .flat_map(|n| [format!("begin {n}"), format!("end {n}")])
            .collect();
        assert_eq!(log, expected, "on {}", place.kind);
        let snapshot = worker.snapshot();
        assert_eq!((snapshot.received, snapshot.handled), (11, 11));
    });
}

#[test]
fn a_future_does_not_hold_its_driver() {
    for simulated in [false, true] {
        let node = match simulated {
            true => Node::simulated_with(3, Options::default()),
            false => Node::with_options(Options::default()),
        };
        let driver = node.driver("both").unwrap();
        let waits = driver.spawn("waits", Worker::default()).unwrap();
        let other = driver.spawn("other", Worker::default()).unwrap();
        let gate = Gate::default();
        let at_gate = gate.clone();
        let mut call = waits.call(Do::new(move |_, _| async move {
            at_gate.passed().await;
            Ok(5)
        }));
        call.begin();
        node.settle();
        // The other one is asked and answers, although the first has not returned.
        other.send(Note("ran")).unwrap();
        assert_eq!(other.call(Log).wait().unwrap(), ["ran"]);
        assert_eq!(waits.snapshot().handled, 1);
        gate.open();
        assert_eq!(call.wait().unwrap(), 5);
    }
}

#[test]
fn a_call_gets_what_the_future_returns() {
    everywhere(|place| {
        let source = place
            .node
            .spawn_thread("source", Worker::default())
            .unwrap();
        let worker = place.spawn("worker", Worker::default());
        let call = worker.call(Do::new(move |_, cx| {
            let me = cx.async_handle();
            async move {
                let n = source.call(Do::new(|_, _| async { Ok(20) })).await?;
                Ok(me.update(move |_, _| n + 1).await? * 2)
            }
        }));
        assert_eq!(place.wait(call).unwrap(), 42, "on {}", place.kind);
    });
}

/// What a future has sent counts as sent by its handler: without room the processor stalls, and nothing is lost.
#[test]
fn what_a_future_sends_waits_for_room() {
    let node = Node::simulated_with(1, Options::default());
    let gate = Gate::default();
    let slow = node
        .driver("slow one")
        .unwrap()
        .spawn_with("slow", MailboxOptions::bounded(1), Worker::default())
        .unwrap();
    let at_gate = gate.clone();
    slow.send(Do::new(move |_, _| async move {
        at_gate.passed().await;
        Ok(0)
    }))
    .unwrap();
    node.settle();
    let worker = node.spawn_thread("worker", Worker::default()).unwrap();
    let to = slow.clone();
    let sends = worker.call(Do::new(move |_, _| async move {
        for _ in 0..5 {
            to.send(Note("sent"))?;
        }
        Ok(1)
    }));
    assert_eq!(sends.wait().unwrap(), 1);
    assert!(worker.snapshot().stalled);
    gate.open();
    node.settle();
    assert_eq!(slow.call(Log).limit(LONG).wait().unwrap(), ["sent"; 5]);
    assert!(!worker.snapshot().stalled);
}

struct Beat;

impl Handle<Beat> for Worker {
    type Reply = ();
    fn handle(&mut self, _: Beat, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.note("beat");
        Ok(())
    }
}

const WORDS: Topic<String> = Topic::new("words");

impl Handle<Sample<String>> for Worker {
    type Reply = ();
    fn handle(&mut self, word: Sample<String>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.note(format!("sample {}", *word));
        Ok(())
    }
}

/// Ticks, samples, continuations and high messages enter the processor as messages do.
#[test]
fn nothing_else_enters_the_processor_while_a_handler_awaits() {
    let node = Node::simulated_with(1, Options::default());
    let clock = node.spawn_thread("clock", Clock).unwrap();
    let worker = node.spawn_thread("worker", Worker::default()).unwrap();
    let other = clock.clone();
    worker
        .with_processor(move |_, cx| {
            cx.every(Duration::from_millis(100), |_| Beat);
            cx.subscribe(&WORDS).map(|word| word).unwrap();
            sleep(&other, 50).then(cx, |me, _, _| {
                me.note("continuation");
                Ok(())
            });
        })
        .unwrap();
    node.settle();
    let mut call = worker.call(Do::new(move |me, cx| {
        me.note("begin");
        let me = cx.async_handle();
        async move {
            sleep(&clock, 1000).await?;
            me.update(|me, _| me.note("end")).await?;
            Ok(0)
        }
    }));
    call.begin();
    node.settle();
    node.publisher(&WORDS)
        .unwrap()
        .publish("word".to_owned())
        .unwrap();
    worker.send(Note("message")).unwrap();
    worker.high().send(Note("high")).unwrap();
    node.advance(Duration::from_millis(500));
    let snapshot = worker.snapshot();
    assert_eq!((snapshot.handled, snapshot.queued), (1, 2));
    // It waits for its future, and not for room elsewhere.
    assert!(!snapshot.stalled);
    node.advance(Duration::from_millis(600));
    assert_eq!(call.limit(LONG).wait().unwrap(), 0);
    let log = worker.call(Log).wait().unwrap();
    assert_eq!(log[..2], ["begin", "end"]);
    let mut rest = log[2..].to_vec();
    let beats = rest.iter().filter(|word| *word == "beat").count();
    // One undelivered tick waited; the others were left out, as behind any long handler.
    assert!((1..=2).contains(&beats), "{log:?}");
    rest.retain(|word| word != "beat");
    rest.sort();
    assert_eq!(rest, ["continuation", "high", "message", "sample word"]);
}

#[test]
fn a_tick_may_be_handled_by_a_future() {
    struct Ticks(u32);
    struct Tick;
    struct Count;
    impl Processor for Ticks {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.every(Duration::from_secs(1), |_| Tick);
            Ok(())
        }
    }
    impl AsyncProcessor for Ticks {}
    impl HandleAsync<Tick> for Ticks {
        type Reply = ();
        fn handle_async(
            &mut self,
            _: Tick,
            cx: &mut Cx<'_, Self>,
        ) -> impl Future<Output = Outcome<()>> + Send + 'static {
            let me = cx.async_handle();
            async move { Ok(me.update(|me, _| me.0 += 1).await?) }
        }
    }
    impl Handle<Count> for Ticks {
        type Reply = u32;
        fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
            Ok(self.0)
        }
    }
    let node = Node::simulated_with(1, Options::default());
    let ticks = node.spawn_thread("ticks", Ticks(0)).unwrap();
    node.advance(Duration::from_secs(60));
    assert_eq!(ticks.call(Count).wait().unwrap(), 60);
}

#[test]
fn a_fault_of_a_future_is_the_handlers() {
    everywhere(|place| {
        let worker = place.spawn("worker", Worker::default());
        let call = worker.call(Do::new(|_, _| async {
            Err("no luck".parse::<u32>().unwrap_err().into())
        }));
        assert!(matches!(place.wait(call), Err(CallError::Faulted(_))));
        let log = place.wait(worker.call(Log)).unwrap();
        assert_eq!(
            log,
            ["fault invalid digit found in string"],
            "on {}",
            place.kind
        );
        assert_eq!(worker.snapshot().faults, 1);
    });
}

/// In the future itself, and in an update: the caller is told, and the processor's `on_panic` decides.
#[test]
fn a_panic_in_a_future_is_the_handlers() {
    quiet_panics();
    everywhere(|place| {
        for in_update in [false, true] {
            for goes_on in [true, false] {
                let name = format!("worker {in_update} {goes_on}");
                let start = Worker {
                    goes_on,
                    ..Worker::default()
                };
                let worker = place.spawn(&name, start);
                let drops = Drops::default();
                let guard = drops.guard();
                let gate = Gate::default();
                let at_gate = gate.clone();
                let mut call = worker.call(Do::new(move |_, cx| {
                    let me = cx.async_handle();
                    async move {
                        let _guard = guard;
                        at_gate.passed().await;
                        if in_update {
                            me.update(|_, _| std::panic::panic_any("on purpose"))
                                .await?;
                        }
                        std::panic::panic_any("on purpose")
                    }
                }));
                call.begin();
                let mut log = worker.call(Log);
                log.begin();
                place.run_until_waiting(&gate, 1);
                gate.open();
                match place.wait(call) {
                    Err(CallError::Panicked(message)) => assert_eq!(&*message, "on purpose"),
                    other => panic!("{name} on {}: {other:?}", place.kind),
                }
                assert_eq!(drops.count(), 1, "the future is gone");
                let snapshot = || worker.snapshot();
                match place.wait(log) {
                    Ok(log) => {
                        assert!(goes_on);
                        assert_eq!(log, ["panic on purpose"]);
                        assert_eq!((snapshot().handled, snapshot().panics), (2, 1));
                    }
                    Err(CallError::Stopped(mproc::Exit::Panicked(_))) => {
                        assert!(!goes_on);
                        assert_eq!((snapshot().handled, snapshot().panics), (1, 1));
                        assert_eq!(snapshot().dropped.total(), 1);
                    }
                    other => panic!("{name} on {}: {other:?}", place.kind),
                }
            }
        }
    });
}

/// A wake-up may come at any moment, from any thread: each of many steps is seen, and none twice.
#[test]
fn no_wake_up_is_lost_whoever_wakes() {
    for kind in ["own", "shared", "pool"] {
        let node = Node::with_options(Options::default());
        let (driver, pool) = (node.driver("d").unwrap(), node.pool("p", 3).unwrap());
        let spawn = |name: &str| match kind {
            "own" => node.spawn_thread(name, Worker::default()).unwrap(),
            "shared" => driver.spawn(name, Worker::default()).unwrap(),
            _ => pool.spawn(name, Worker::default()).unwrap(),
        };
        let mut waking = Vec::new();
        let calls: Vec<_> = (0..4)
            .map(|n| {
                let gates: Vec<_> = (0..500).map(|_| Gate::default()).collect();
                let theirs = gates.clone();
                waking.push(std::thread::spawn(move || {
                    gates.iter().for_each(Gate::open)
                }));
                let mut call =
                    spawn(&format!("worker {n}")).call(Do::new(move |_, _| async move {
                        let mut passed = 0;
                        for gate in theirs {
                            gate.passed().await;
                            passed += 1;
                        }
                        Ok(passed)
                    }));
                call.begin();
                call
            })
            .collect();
        for call in calls {
            assert_eq!(call.wait_timeout(LONG).unwrap(), 500, "on {kind}");
        }
        waking.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// The message would wait until the future is done, which waits for the message.
#[test]
fn a_future_that_calls_its_own_processor_ends_by_the_limit() {
    let node = Node::simulated_with(1, Options::default());
    let worker = node.spawn_thread("worker", Worker::default()).unwrap();
    let me = worker.clone();
    let call = worker.call(Do::new(move |_, _| async move {
        match me.call(Log).await {
            Err(CallError::Timeout) => Ok(1),
            _ => Ok(0),
        }
    }));
    assert_eq!(call.limit(LONG).wait().unwrap(), 1);
    // It was taken back.
    assert_eq!(worker.snapshot().dropped.total(), 1);
}

/// An update from the handler itself, and one from its future, could never run while they wait.
#[test]
fn blocking_for_an_update_of_oneself_is_refused() {
    everywhere(|place| {
        let worker = place.spawn("worker", Worker::default());
        let call = worker.call(Do::new(|_, cx| {
            let me = cx.async_handle();
            let in_handler = me.update(|_, _| ()).wait();
            async move {
                let in_future = me.update(|_, _| ()).wait();
                let refused = |r| matches!(r, Err(CallError::Deadlock(_)));
                Ok(u32::from(refused(in_handler)) + u32::from(refused(in_future)))
            }
        }));
        assert_eq!(place.wait(call).unwrap(), 2, "on {}", place.kind);
    });
}

#[test]
fn a_restart_drops_the_future_and_tells_its_caller() {
    quiet_panics();
    let node = Node::simulated_with(1, Options::default());
    let boss = node
        .supervisor("boss")
        .child(Child::new("worker", Worker::default))
        .start()
        .unwrap();
    node.settle();
    let worker = node.lookup::<Worker>("worker").unwrap();
    let (drops, gate) = (Drops::default(), Gate::default());
    let (guard, at_gate) = (drops.guard(), gate.clone());
    let mut call = worker.call(Do::new(move |_, cx| {
        cx.spawn(async move {
            at_gate.passed().await;
            boom();
        });
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    }));
    call.begin();
    node.settle();
    worker.send(Note("for the next")).unwrap();
    assert_eq!(drops.count(), 0);
    // The panic of the other future ends the incarnation.
    gate.open();
    assert!(matches!(call.wait(), Err(CallError::Restarted)));
    assert_eq!(drops.count(), 1);
    assert_eq!(worker.call(Log).wait().unwrap(), ["for the next"]);
    assert_eq!(worker.snapshot().restarts, 1);
    boss.stop();
}

#[test]
fn futures_may_keep_what_is_not_send_where_nothing_moves() {
    use std::cell::Cell;
    use std::rc::Rc;

    struct Stays(Rc<Cell<u32>>);
    struct Go(Gate);
    impl Processor for Stays {}
    impl Handle<Go> for Stays {
        type Reply = u32;
        fn handle(&mut self, Go(gate): Go, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
            let sum = self.0.clone();
            let beside = self.0.clone();
            cx.spawn_local(async move { beside.set(beside.get() + 1) });
            cx.reply_async_local(async move {
                gate.passed().await;
                sum.set(sum.get() + 10);
                Ok(sum.get())
            })
        }
    }
    let node = Node::with_options(Options::default());
    let stays = node
        .driver("d")
        .unwrap()
        .build(|on| Ok(on.spawn("stays", Stays(Rc::new(Cell::new(0))))?))
        .unwrap();
    let gate = Gate::default();
    let mut call = stays.call(Go(gate.clone()));
    call.begin();
    gate.wait_for_waiting(1);
    gate.open();
    assert_eq!(call.wait().unwrap(), 11);

    // On a pool it is refused by a panic of the handler.
    quiet_panics();
    let pool = node.pool("pool", 1).unwrap();
    struct Moves;
    struct Local;
    impl Processor for Moves {}
    impl Handle<Local> for Moves {
        type Reply = ();
        fn handle(&mut self, _: Local, cx: &mut Cx<'_, Self, ()>) -> Outcome<()> {
            cx.reply_async_local(async { Ok(()) })
        }
    }
    let moves = pool.spawn("moves", Moves).unwrap();
    match moves.call(Local).wait() {
        Err(CallError::Panicked(why)) => assert!(why.contains("without `_local`"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// A message that was being awaited is no silence, and neither is the moment after it.
#[test]
fn a_silence_begins_when_the_future_of_the_last_handler_is_done() {
    struct Ear(Address<Clock>, std::sync::mpsc::Sender<std::time::Instant>);
    struct Hear;
    struct Silent;
    impl Processor for Ear {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.receive_timeout(Duration::from_secs(1), || Silent);
            Ok(())
        }
    }
    impl Handle<Hear> for Ear {
        type Reply = ();
        fn handle(&mut self, _: Hear, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            let clock = self.0.clone();
            cx.reply_async(async move { Ok(sleep(&clock, 10_000).await?) })
        }
    }
    impl Handle<Silent> for Ear {
        type Reply = ();
        fn handle(&mut self, _: Silent, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            self.1.send(cx.now())?;
            Ok(())
        }
    }
    let node = Node::simulated_with(1, Options::default());
    let clock = node.spawn_thread("clock", Clock).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let ear = node.spawn_thread("ear", Ear(clock, tell)).unwrap();
    ear.call(Hear).limit(LONG).wait().unwrap();
    let done = node.now();
    node.advance(Duration::from_secs(5));
    let silences: Vec<_> = told.try_iter().map(|at| at - done).collect();
    assert_eq!(silences, [Duration::from_secs(1)]);
}
