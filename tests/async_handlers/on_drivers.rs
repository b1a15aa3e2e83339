//! Tasks made on drivers.

use crate::support::*;
use mproc::prelude::*;
use mproc::{CallError, Exit, Options, Spun};
use std::future::poll_fn;
use std::task::Poll;

#[test]
fn a_task_runs_on_each_kind_of_driver_and_gives_its_result() {
    everywhere(|place| {
        let source = place
            .node
            .spawn_thread("source", Worker::default())
            .unwrap();
        let task = place.spawn_task(async move {
            let mut sum = 0;
            for n in 0..3 {
                sum += source
                    .call(Do::new(move |_, _| async move { Ok(n) }))
                    .await?;
            }
            Ok::<_, CallError>(sum)
        });
        assert_eq!(place.wait(task).unwrap().unwrap(), 3, "on {}", place.kind);
    });
}

#[test]
fn spin_once_polls_a_task_once_and_one_that_suspends_needs_another_call() {
    let node = Node::with_options(Options::default());
    let mut script = node.script().unwrap();
    let gate = Gate::default();
    let (at_gate, mut polls) = (gate.clone(), 0);
    let mut task = script
        .spawn_task(async move {
            poll_fn(|context| {
                polls += 1;
                if polls == 3 {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            at_gate.passed().await;
            "done"
        })
        .unwrap();
    for _ in 0..3 {
        assert_eq!(gate.waiting(), 0);
        assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
    }
    // It waits for the gate now: nothing is to be done.
    assert_eq!(gate.waiting(), 1);
    assert_eq!(script.spin_some(10).unwrap().handled, 0);
    let opens = std::thread::spawn(move || gate.open());
    // A wake from another thread ends the sleep of the spin.
    assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
    opens.join().unwrap();
    assert_eq!(
        script.spin_until(&mut task, Duration::ZERO).unwrap(),
        "done"
    );
}

/// It is in line with the other things that the script does, and not in front of them.
#[test]
fn a_task_that_never_waits_does_not_keep_others_from_running() {
    let node = Node::simulated_with(1, Options::default());
    let mut script = node.script().unwrap();
    let worker = script.spawn("worker", Worker::default()).unwrap();
    let _task = script
        .spawn_task(poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }))
        .unwrap();
    worker.send(Note("ran")).unwrap();
    assert_eq!(script.spin_some(10).unwrap().handled, 10);
    let mut log = worker.call(Log);
    assert_eq!(script.spin_until(&mut log, LONG).unwrap(), ["ran"]);
}

#[test]
fn a_task_that_panics_tells_whoever_waits() {
    quiet_panics();
    everywhere(|place| {
        let task = place.spawn_task(async { std::panic::panic_any("on purpose") });
        match place.wait::<()>(task) {
            Err(CallError::Panicked(message)) => assert_eq!(&*message, "on purpose"),
            other => panic!("on {}: {other:?}", place.kind),
        }
    });
}

#[test]
fn a_task_is_dropped_when_nobody_waits_for_it_any_more() {
    everywhere(|place| {
        let (gate, drops) = (Gate::default(), Drops::default());
        let (at_gate, guard) = (gate.clone(), drops.guard());
        let task = place.spawn_task(async move {
            let _guard = guard;
            at_gate.passed().await;
        });
        place.run_until_waiting(&gate, 1);
        drop(task);
        // Whatever comes later on the same driver comes after its end.
        while drops.count() == 0 {
            let next = place.spawn_task(async {});
            place.wait(next).unwrap();
        }
        place.run_until(|place| {
            let processors = place.node.snapshot().runtime.processors;
            let mut tasks = processors.iter().filter(|p| p.name.starts_with("task-"));
            tasks.all(|task| task.ended.is_some())
        });
    });
}

#[test]
fn the_limit_of_a_task_ends_it() {
    let node = Node::simulated_with(1, Options::default());
    let driver = node.driver("d").unwrap();
    let drops = Drops::default();
    let guard = drops.guard();
    let task = driver
        .spawn_task(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        })
        .unwrap();
    let before = node.now();
    let ended = task.limit(Duration::from_secs(30)).wait();
    assert!(matches!(ended, Err(CallError::Timeout)));
    assert_eq!(node.now() - before, Duration::from_secs(30));
    node.settle();
    assert_eq!(drops.count(), 1);
}

/// The node ends in order: tasks are waited for as handlers are.
#[test]
fn the_end_of_a_driver_waits_for_its_tasks() {
    let node = Node::simulated_with(1, Options::default());
    let clock = node.spawn_thread("clock", Clock).unwrap();
    let driver = node.driver("d").unwrap();
    let mut task = driver
        .spawn_task(async move {
            sleep(&clock, 100).await?;
            Ok::<_, CallError>("done")
        })
        .unwrap();
    task.begin();
    node.settle();
    assert!(driver.shutdown(Duration::from_secs(1)).is_clean());
    assert_eq!(task.wait().unwrap().unwrap(), "done");
    assert!(driver.spawn_task(async {}).is_err());
}

/// Only this thread could run it, and it waits: refused, as such a call is. It may be spun for.
#[test]
fn blocking_for_a_task_of_ones_own_script_is_refused() {
    let node = Node::simulated_with(1, Options::default());
    let mut script = node.script().unwrap();
    let task = script.spawn_task(async { 1 }).unwrap();
    assert!(matches!(task.wait(), Err(CallError::Deadlock(_))));
    let mut task = script.spawn_task(async { 1 }).unwrap();
    assert_eq!(script.spin_until(&mut task, LONG).unwrap(), 1);
}

#[test]
fn a_task_made_on_the_drivers_thread_may_keep_what_is_not_send() {
    use std::cell::Cell;
    use std::rc::Rc;
    let node = Node::with_options(Options::default());
    let task = node
        .driver("d")
        .unwrap()
        .build(|on| {
            let count = Rc::new(Cell::new(1));
            Ok(on.spawn_task(async move {
                count.set(count.get() + 1);
                count.get()
            })?)
        })
        .unwrap();
    assert_eq!(task.wait().unwrap(), 2);
}

/// A task has no message whose arrival counts. One that wakes itself again and again came before everybody, for ever.
#[test]
fn a_task_that_never_waits_has_its_place_in_the_order_of_arrival() {
    let node = Node::simulated_with(1, Options::default());
    let driver = node.driver("ordered").unwrap().arrival_order();
    let worker = driver.spawn("worker", Worker::default()).unwrap();
    // A start comes before everything.
    node.settle();
    let mut polls = 0;
    let task = driver
        .spawn_task(poll_fn(move |context| {
            polls += 1;
            if polls == 10_000 {
                return Poll::Ready("nobody else ran");
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }))
        .unwrap();
    let task = task.start();
    worker.call(Note("ran")).wait().unwrap();
    assert!(!task.is_done());
}

/// What was cancelled goes on until its driver has dropped it, and who waits for that is told then.
#[test]
fn cancel_and_wait_waits_until_the_future_of_a_task_is_dropped() {
    let node = Node::with_options(Options::default());
    let driver = node.driver("tasks").unwrap();
    let drops = Drops::default();
    let (polled, is_polled) = std::sync::mpsc::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let guard = drops.guard();
    let mut task = driver
        .spawn_task(async move {
            let _guard = guard;
            polled.send(()).unwrap();
            // In the middle of a poll.
            let _told = goes_on.recv();
            std::future::pending::<()>().await
        })
        .unwrap()
        .start();
    is_polled.recv_timeout(LONG).unwrap();
    assert!(!task.cancel_and_wait(Duration::ZERO));
    assert_eq!(drops.count(), 0);
    go_on.send(()).unwrap();
    assert!(task.cancel_and_wait(LONG));
    assert_eq!(drops.count(), 1);
}

#[test]
fn a_task_whose_driver_ends_before_it_began_is_told_so() {
    let (drops, node) = (
        Drops::default(),
        Node::simulated_with(1, Options::default()),
    );
    let mut script = node.script().unwrap();
    let guard = drops.guard();
    let task = script.spawn_task(async move { drop(guard) }).unwrap();
    drop(script);
    assert!(matches!(
        task.wait(),
        Err(CallError::Stopped(Exit::Stopped))
    ));
    assert_eq!(drops.count(), 1);
}
