//! The end of a processor whose futures wait.

use crate::support::*;
use mproc::prelude::*;
use mproc::{CallError, Exit, Options};

/// A handler that waits at `gate` for ever or until it is opened.
fn waits(gate: &Gate, drops: &Drops) -> Do {
    let (gate, guard) = (gate.clone(), drops.guard());
    Do::new(move |_, _| async move {
        let _guard = guard;
        gate.passed().await;
        Ok(1)
    })
}

#[test]
fn stop_and_kill_end_a_processor_while_its_handler_awaits() {
    everywhere(|place| {
        for kill in [false, true] {
            let worker = place.spawn(&format!("worker {kill}"), Worker::default());
            let (gate, drops) = (Gate::default(), Drops::default());
            let mut call = worker.call(waits(&gate, &drops));
            call.begin();
            let mut queued = worker.call(waits(&gate, &drops));
            queued.begin();
            worker.send(Note("queued")).unwrap();
            place.run_until_waiting(&gate, 1);
            assert_eq!(drops.count(), 0);
            let exit = if kill { Exit::Killed } else { Exit::Stopped };
            if kill {
                worker.kill();
            } else {
                worker.stop();
            }
            let is_it = |e: &Exit| e.to_string() == exit.to_string();
            for call in [call, queued] {
                match place.wait(call) {
                    Err(CallError::Stopped(why)) => assert!(is_it(&why), "{why}"),
                    other => panic!("on {}: {other:?}", place.kind),
                }
            }
            let down = place.wait(worker.ended()).unwrap();
            assert!(is_it(&down.exit), "{down:?}");
            // That of the future, and that of the message that was queued.
            place.run_until(|place| {
                drop(place.node.dead_letters().take());
                drops.count() == 2
            });
            let t = worker.snapshot();
            assert_eq!((t.received, t.handled, t.queued), (3, 1, 0));
            assert_eq!(t.dropped.total(), 2);
        }
    });
}

#[test]
fn a_drain_waits_for_the_future_and_for_what_is_queued_behind_it() {
    everywhere(|place| {
        let worker = place.spawn("worker", Worker::default());
        let (gate, drops) = (Gate::default(), Drops::default());
        let mut call = worker.call(waits(&gate, &drops));
        call.begin();
        let mut behind = worker.call(Do::new(|_, cx| {
            let me = cx.async_handle();
            async move { Ok(me.update(|_, _| 2).await?) }
        }));
        behind.begin();
        place.run_until_waiting(&gate, 1);
        worker.drain();
        assert!(worker.exit().is_none());
        gate.open();
        assert_eq!(place.wait(call).unwrap(), 1, "on {}", place.kind);
        assert_eq!(place.wait(behind).unwrap(), 2);
        let down = place.wait(worker.ended()).unwrap();
        assert!(matches!(down.exit, Exit::Stopped));
        assert_eq!(worker.snapshot().handled, 2);
    });
}

/// It is a wish of the handler that runs, which is still to reply.
#[test]
fn a_stop_in_an_update_of_its_own_waits_for_the_future() {
    everywhere(|place| {
        let worker = place.spawn("worker", Worker::default());
        let (gate, at_gate) = (Gate::default(), Gate::default());
        let waits = at_gate.clone();
        let call = worker.call(Do::new(move |_, cx| {
            let me = cx.async_handle();
            async move {
                me.update(|_, cx| cx.stop()).await?;
                waits.passed().await;
                me.update(|_, _| 3).await.map_err(Into::into)
            }
        }));
        let mut call = call;
        call.begin();
        place.run_until_waiting(&at_gate, 1);
        at_gate.open();
        assert_eq!(place.wait(call).unwrap(), 3, "on {}", place.kind);
        assert!(matches!(
            place.wait(worker.ended()).unwrap().exit,
            Exit::Stopped
        ));
        gate.open();
    });
}

#[test]
fn the_end_of_a_node_is_bounded_whatever_its_futures_wait_for() {
    let node = Node::simulated_with(1, Options::default());
    let drops = Drops::default();
    let (gate, at) = (Gate::default(), node.now());
    for n in 0..3 {
        let worker = node
            .spawn_thread(&format!("worker {n}"), Worker::default())
            .unwrap();
        worker.send(waits(&gate, &drops)).unwrap();
    }
    node.settle();
    // Nobody opens the gate.
    let report = node.shutdown(Duration::from_secs(2));
    assert_eq!(report.left.len(), 3, "{report}");
    assert_eq!(report.took, Duration::from_secs(2));
    assert_eq!(node.now() - at, Duration::from_secs(2));
}

/// A future that does not run any more has nothing to say; whoever it had asked is not kept from going on.
#[test]
fn calls_of_a_future_are_given_up_with_it() {
    let node = Node::simulated_with(1, Options::default());
    let busy = node.spawn_thread("busy", Worker::default()).unwrap();
    let gate = Gate::default();
    busy.send(waits(&gate, &Drops::default())).unwrap();
    let worker = node.spawn_thread("worker", Worker::default()).unwrap();
    let to = busy.clone();
    let mut call = worker.call(Do::new(move |_, _| async move {
        to.call(Log).limit(LONG).await?;
        Ok(1)
    }));
    call.begin();
    node.settle();
    assert_eq!(busy.snapshot().queued, 1);
    worker.stop();
    assert!(matches!(
        call.wait(),
        Err(CallError::Stopped(Exit::Stopped))
    ));
    gate.open();
    node.settle();
    let t = busy.snapshot();
    assert_eq!((t.received, t.handled, t.queued), (2, 1, 0));
    assert_eq!(t.dropped.by(mproc::DropCause::Cancelled), 1);
}

/// What a future's drop sends is delivered like what `stopped` sends.
#[test]
fn a_future_may_send_when_it_is_dropped() {
    struct Tells(Address<Worker>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(Note("dropped")).unwrap();
        }
    }
    everywhere(|place| {
        let log = place.node.spawn_thread("log", Worker::default()).unwrap();
        let worker = place.spawn("worker", Worker::default());
        let gate = Gate::default();
        let (tells, at_gate) = (Tells(log.clone()), gate.clone());
        worker
            .send(Do::new(move |_, _| async move {
                let _tells = tells;
                at_gate.passed().await;
                Ok(1)
            }))
            .unwrap();
        place.run_until_waiting(&gate, 1);
        worker.stop();
        place.wait(worker.ended()).unwrap();
        assert_eq!(
            place.wait(log.call(Log)).unwrap(),
            ["dropped"],
            "on {}",
            place.kind
        );
    });
}
