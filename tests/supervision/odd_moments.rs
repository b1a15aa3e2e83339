//! What panics or fails at odd moments.

use crate::{Boom, Busy, Log, MS, Quit, SECOND, address, fixed, node, part};
use mproc::prelude::*;
use mproc::{Backoff, DropCause, Exit, Fault, Strategy};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

#[test]
fn panics_in_factories_started_stopped_and_drops_are_failures_of_the_child_only() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Bad {
        Factory,
        FactoryFault,
        Started,
        Fault,
        Stopped,
        Drop,
    }
    struct Odd(Bad, Arc<AtomicBool>);
    impl Processor for Odd {
        fn started(&mut self, _: &mut Cx<'_, Self>) -> Outcome<()> {
            match self.0 {
                Bad::Started if self.1.swap(false, SeqCst) => panic!("started"),
                Bad::Fault if self.1.swap(false, SeqCst) => Err(Fault::new("started")),
                _ => Ok(()),
            }
        }
        fn stopped(&mut self, _: &Exit, _: &mut Cx<'_, Self>) {
            if self.0 == Bad::Stopped && self.1.swap(false, SeqCst) {
                panic!("stopped");
            }
        }
    }
    impl Handle<Quit> for Odd {
        type Reply = ();
        fn handle(&mut self, _: Quit, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.stop();
            Ok(())
        }
    }
    impl Drop for Odd {
        fn drop(&mut self) {
            let panics = self.0 == Bad::Drop && !std::thread::panicking();
            if panics && self.1.swap(false, SeqCst) {
                panic!("drop");
            }
        }
    }
    let all = [
        Bad::Factory,
        Bad::FactoryFault,
        Bad::Started,
        Bad::Fault,
        Bad::Stopped,
        Bad::Drop,
    ];
    for bad in all {
        let node = node(1);
        let driver = node.driver("shared").unwrap();
        let neighbour = closure(|n: u32, _cx| Ok::<_, Fault>(2 * n));
        let neighbour = driver.spawn("neighbour", neighbour).unwrap();
        let once = Arc::new(AtomicBool::new(true));
        let odd = Child::new("odd", move || match bad {
            Bad::Factory if once.swap(false, SeqCst) => panic!("factory"),
            Bad::FactoryFault if once.swap(false, SeqCst) => Err(Fault::new("factory")),
            _ => Ok(Odd(bad, once.clone())),
        });
        let plant = node.supervisor("plant").child(odd.on(&driver));
        let plant = plant.start().unwrap();
        let odd = plant.address::<Odd>("odd").unwrap();
        node.settle();
        odd.send(Quit).unwrap();
        node.advance(SECOND);
        assert_eq!(odd.snapshot().restarts, 1, "{bad:?}");
        assert_eq!(odd.snapshot().handled, 1, "{bad:?}");
        assert_eq!(neighbour.call(4).wait().unwrap(), 8, "{bad:?}");
    }
}

#[test]
fn a_node_that_ends_restarts_nobody_and_waits_for_no_delay() {
    for seed in 0..20 {
        let (node, log) = (node(seed), Log::default());
        let plant = node
            .supervisor("plant")
            .backoff(Backoff::exponential(3600 * SECOND, 3600 * SECOND))
            .child(part("a", &log))
            .child(part("b", &log))
            .child(part("c", &log))
            .start()
            .unwrap();
        node.settle();
        let (a, b, c) = (
            address(&plant, "a"),
            address(&plant, "b"),
            address(&plant, "c"),
        );
        a.send(Boom).unwrap();
        node.settle();
        a.send(1).unwrap();
        // Falls while the node ends.
        b.send(Busy(MS)).unwrap();
        b.send(Boom).unwrap();
        b.send(2).unwrap();
        c.send(3).unwrap();
        let before = node.now();
        let report = node.shutdown(10 * SECOND);
        assert!(report.is_clean(), "{report}");
        assert!(node.now() - before < SECOND, "{report}");
        assert!(matches!(a.exit(), Some(Exit::Panicked(_))));
        assert!(matches!(b.exit(), Some(Exit::Panicked(_))));
        assert!(matches!(c.exit(), Some(Exit::Stopped)));
        assert!(matches!(plant.exit(), Some(Exit::Stopped)));
        let totals = node.snapshot().totals.clone();
        assert_eq!(totals.dropped.by(DropCause::Killed), 2);
        assert_eq!(totals.received, totals.handled + totals.dropped.total());
    }
}

#[test]
fn a_child_that_does_not_stop_is_killed_at_its_limit_and_not_waited_for() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .child(part("a", &log))
        .child(part("b", &log).stop_limit(SECOND))
        .child(part("c", &log))
        .start()
        .unwrap();
    let b = address(&plant, "b");
    b.send(Busy(60 * SECOND)).unwrap();
    b.send(1).unwrap();
    node.settle();
    log.take();
    let before = node.now();
    plant.stop();
    plant.ended().wait().unwrap();
    assert_eq!(node.now() - before, SECOND);
    assert_eq!(log.take(), ["-c", "-a"]);
    node.advance(60 * SECOND);
    assert!(matches!(b.exit(), Some(Exit::Killed)));
}

#[test]
fn a_child_that_does_not_halt_is_cut_short_and_waited_for_before_the_next_begins() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .strategy(Strategy::OneForAll)
        .backoff(fixed())
        .child(part("a", &log))
        .child(part("b", &log).stop_limit(SECOND))
        .start()
        .unwrap();
    let (a, b) = (address(&plant, "a"), address(&plant, "b"));
    b.send(Busy(5 * SECOND)).unwrap();
    b.send(1).unwrap();
    node.settle();
    log.take();
    a.send(Boom).unwrap();
    node.advance(4 * SECOND);
    assert_eq!(log.take(), Vec::<String>::new());
    node.advance(2 * SECOND);
    assert_eq!(log.take(), ["-b", "+a", "+b", "b 1"]);
}
