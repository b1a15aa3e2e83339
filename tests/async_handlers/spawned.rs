//! Futures beside the messages of a processor.

use crate::support::*;
use mproc::prelude::*;
use mproc::{CallError, Exit, Options, TaskHandle};

/// Spawns a future, made with the context at hand.
struct Spawn(Box<Make>);
type Make = dyn FnOnce(&mut Cx<'_, Worker, TaskHandle>) -> TaskHandle + Send;

impl Spawn {
    fn new(
        make: impl FnOnce(&mut Cx<'_, Worker, TaskHandle>) -> TaskHandle + Send + 'static,
    ) -> Self {
        Self(Box::new(make))
    }
}

impl Handle<Spawn> for Worker {
    type Reply = TaskHandle;
    fn handle(
        &mut self,
        Spawn(make): Spawn,
        cx: &mut Cx<'_, Self, TaskHandle>,
    ) -> Outcome<TaskHandle> {
        Ok(make(cx))
    }
}

#[test]
fn a_spawned_future_does_not_hold_back_messages() {
    everywhere(|place| {
        let worker = place.spawn("worker", Worker::default());
        let (gate, at_gate) = (Gate::default(), Gate::default());
        let waits = at_gate.clone();
        let done = gate.clone();
        let task = worker.call(Spawn::new(move |cx| {
            let me = cx.async_handle();
            cx.spawn(async move {
                waits.passed().await;
                me.update(|me, _| me.note("future")).await?;
                done.open();
                Ok::<(), mproc::Fault>(())
            })
        }));
        let task = place.wait(task).unwrap();
        place.run_until_waiting(&at_gate, 1);
        worker.send(Note("message")).unwrap();
        assert_eq!(place.wait(worker.call(Log)).unwrap(), ["message"]);
        assert!(!task.is_finished());
        at_gate.open();
        let passed = place.spawn_task(gate.passed());
        place.wait(passed).unwrap();
        let log = place.wait(worker.call(Log)).unwrap();
        assert_eq!(log, ["message", "future"], "on {}", place.kind);
        // Two notes, the spawning, the update, and two looks at the log.
        let t = worker.snapshot();
        assert_eq!((t.received, t.handled, t.queued), (5, 5, 0));
    });
}

/// What the future has sent before its update comes before it, what it sends later comes later.
#[test]
fn an_update_has_its_place_in_the_order_of_messages() {
    for seed in 0..50 {
        let node = Node::simulated_with(seed, Options::default());
        let driver = node.driver("d").unwrap();
        // With room for one message, too.
        let options = MailboxOptions::bounded(if seed % 2 == 0 { 1 } else { 8 });
        let worker = driver
            .spawn_with("worker", options, Worker::default())
            .unwrap();
        let to = worker.clone();
        let task = worker.call(Spawn::new(move |cx| {
            let me = cx.async_handle();
            cx.spawn(async move {
                to.send(Note("1"))?;
                me.update(|me, _| me.note("2")).await?;
                to.send(Note("3"))?;
                to.send(Note("4"))?;
                me.update(|me, _| me.note("5")).await?;
                Ok::<(), mproc::Fault>(())
            })
        }));
        let task = task.wait().unwrap();
        node.settle();
        assert!(task.is_finished(), "seed {seed}");
        assert_eq!(
            worker.call(Log).wait().unwrap(),
            ["1", "2", "3", "4", "5"],
            "seed {seed}"
        );
    }
}

/// Spawned futures run while a handler awaits; their updates wait for it.
#[test]
fn an_update_of_a_spawned_future_waits_for_the_handler_that_awaits() {
    everywhere(|place| {
        let worker = place.spawn("worker", Worker::default());
        let (gate, begun) = (Gate::default(), Gate::default());
        let (at_gate, begins) = (gate.clone(), begun.clone());
        let mut call = worker.call(Do::new(move |_, cx| {
            let (me, inner) = (cx.async_handle(), cx.async_handle());
            let begins_too = begins.clone();
            cx.spawn(async move {
                begins_too.open();
                inner.update(|me, _| me.note("spawned")).await?;
                Ok::<(), mproc::Fault>(())
            });
            async move {
                begins.passed().await;
                me.update(|me, _| me.note("begin")).await?;
                at_gate.passed().await;
                me.update(|me, _| me.note("end")).await?;
                Ok(1)
            }
        }));
        call.begin();
        place.run_until_waiting(&gate, 1);
        gate.open();
        assert_eq!(place.wait(call).unwrap(), 1);
        let log = place.wait(worker.call(Log)).unwrap();
        assert_eq!(log, ["begin", "end", "spawned"], "on {}", place.kind);
    });
}

#[test]
fn a_spawned_future_ends_with_its_processor_or_when_it_is_cancelled() {
    everywhere(|place| {
        for cancel in [true, false] {
            let worker = place.spawn(&format!("worker {cancel}"), Worker::default());
            let (gate, drops) = (Gate::default(), Drops::default());
            let (at_gate, guard) = (gate.clone(), drops.guard());
            let task = worker.call(Spawn::new(move |cx| {
                cx.spawn(async move {
                    let _guard = guard;
                    at_gate.passed().await;
                    boom();
                })
            }));
            let task = place.wait(task).unwrap();
            place.run_until_waiting(&gate, 1);
            assert_eq!((task.is_finished(), drops.count()), (false, 0));
            if cancel {
                task.cancel();
                task.cancel();
                while !task.is_finished() {
                    assert_eq!(place.wait(worker.call(Log)).unwrap(), [""; 0]);
                }
                assert!(worker.exit().is_none());
            }
            // A drain does not wait for it.
            worker.drain();
            assert!(matches!(
                place.wait(worker.ended()).unwrap().exit,
                Exit::Stopped
            ));
            assert_eq!(
                (task.is_finished(), drops.count()),
                (true, 1),
                "on {}",
                place.kind
            );
            task.cancel();
        }
    });
}

#[test]
fn faults_and_panics_of_a_spawned_future_are_the_processors() {
    quiet_panics();
    everywhere(|place| {
        let start = Worker {
            goes_on: true,
            ..Worker::default()
        };
        let worker = place.spawn("worker", start);
        for _ in 0..2 {
            let spawned = worker.call(Spawn::new(|cx| {
                cx.spawn(async { boom() });
                cx.spawn(async { "no number".parse::<u32>().map(|_| ()) })
            }));
            let task = place.wait(spawned).unwrap();
            while !task.is_finished() {
                place.wait(worker.call(Log)).unwrap();
            }
        }
        let mut log = place.wait(worker.call(Log)).unwrap();
        log.sort();
        let fault = "fault invalid digit found in string";
        let panic = "panic on purpose";
        assert_eq!(log, [fault, fault, panic, panic], "on {}", place.kind);
        let t = worker.snapshot();
        assert_eq!((t.faults, t.panics), (2, 2));
    });
}

/// An update is a message: it is refused, taken back and lost in the same ways, and counted.
#[test]
fn an_update_meets_the_same_fates_as_a_message() {
    struct Enter;
    impl Handle<Enter> for Worker {
        type Reply = mproc::AsyncHandle<Worker>;
        fn handle(&mut self, _: Enter, cx: &mut Cx<'_, Self, Self::Reply>) -> Outcome<Self::Reply> {
            Ok(cx.async_handle())
        }
    }
    let node = Node::simulated_with(1, Options::default());
    let driver = node.driver("d").unwrap();
    let worker = driver
        .spawn_with("worker", MailboxOptions::bounded(1), Worker::default())
        .unwrap();
    let me = worker.call(Enter).wait().unwrap();
    let gate = Gate::default();
    let at_gate = gate.clone();
    worker
        .send(Do::new(move |_, _| async move {
            at_gate.passed().await;
            Ok(1)
        }))
        .unwrap();
    node.settle();
    // Taken back while it is queued.
    let mut given_up = me.update(|me, _| me.note("given up"));
    given_up.begin();
    assert_eq!(worker.snapshot().queued, 1);
    drop(given_up);
    // It stands in line for room, and is taken back there.
    let late = me.update(|me, _| me.note("late"));
    let late = late.wait_timeout(Duration::from_secs(1));
    assert!(matches!(late, Err(CallError::Timeout)));
    gate.open();
    node.settle();
    assert_eq!(me.update(|me, _| me.log.len()).wait().unwrap(), 0);
    let t = worker.snapshot();
    assert_eq!(t.dropped.by(mproc::DropCause::Cancelled), 1);
    assert_eq!((t.received, t.handled, t.queued), (4, 3, 0));
    // Lost with the processor.
    let (gate, at_gate) = (Gate::default(), Gate::default());
    let waits = at_gate.clone();
    worker
        .send(Do::new(move |_, _| async move {
            waits.passed().await;
            Ok(1)
        }))
        .unwrap();
    node.settle();
    let mut lost = me.update(|_, _| ());
    lost.begin();
    worker.kill();
    assert!(matches!(lost.wait(), Err(CallError::Stopped(Exit::Killed))));
    assert!(matches!(
        me.update(|_, _| ()).wait(),
        Err(CallError::Stopped(Exit::Killed))
    ));
    let t = worker.snapshot();
    assert_eq!(t.received, t.handled + t.dropped.total());
    gate.open();
}

/// Part of it has run, perhaps, and goes on.
#[test]
fn cancel_and_wait_waits_for_an_update_that_runs() {
    let node = Node::with_options(Options::default());
    let worker = node.spawn_thread("worker", Worker::default()).unwrap();
    let me = worker.call(Handles).wait().unwrap();
    let (began, has_begun) = std::sync::mpsc::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let mut update = me
        .update(move |me, _| {
            began.send(()).unwrap();
            let _told = goes_on.recv();
            me.note("updated");
        })
        .start();
    has_begun.recv_timeout(LONG).unwrap();
    assert!(!update.cancel_and_wait(Duration::ZERO));
    go_on.send(()).unwrap();
    assert!(update.cancel_and_wait(LONG));
    assert_eq!(worker.call(Log).wait().unwrap(), ["updated"]);
    // One that is taken back leaves nothing.
    let node = Node::simulated_with(1, Options::default());
    let worker = node.spawn_thread("worker", Worker::default()).unwrap();
    let me = worker.call(Handles).wait().unwrap();
    let mut update = me.update(|me, _| me.note("updated")).start();
    assert!(update.cancel_and_wait(Duration::ZERO));
    assert_eq!(worker.call(Log).wait().unwrap(), Vec::<String>::new());
}

/// The future has given its update away, and panics: whoever has the ticket waited until the limit.
#[test]
fn an_update_of_a_handler_that_panics_tells_whoever_has_its_ticket() {
    quiet_panics();
    let node = Node::simulated_with(1, Options::default());
    for by_update in [false, true] {
        let worker = Worker {
            goes_on: true,
            ..Worker::default()
        };
        let worker = node
            .spawn_thread(if by_update { "a" } else { "b" }, worker)
            .unwrap();
        let (give, given) = std::sync::mpsc::channel();
        worker
            .send(Do::new(move |_, cx| {
                let me = cx.async_handle();
                async move {
                    if by_update {
                        me.update(|_, _| boom()).start().detach();
                    }
                    give.send(me.update(|me, _| me.note("ran")).start())?;
                    if !by_update {
                        boom();
                    }
                    std::future::pending().await
                }
            }))
            .unwrap();
        node.settle();
        let ticket = given.try_recv().unwrap();
        assert!(ticket.is_done());
        assert!(matches!(ticket.wait(), Err(CallError::Dropped)));
        assert_eq!(worker.call(Log).wait().unwrap(), ["panic on purpose"]);
    }
}

struct Handles;
impl Handle<Handles> for Worker {
    type Reply = mproc::AsyncHandle<Worker>;
    fn handle(&mut self, _: Handles, cx: &mut Cx<'_, Self, Self::Reply>) -> Outcome<Self::Reply> {
        Ok(cx.async_handle())
    }
}
