//! Children that come later, and mistakes.

use crate::{Boom, Broken, Log, MS, Part, SECOND, address, node, part, plant};
use mproc::prelude::*;
use mproc::{Backoff, CallError, ChildPlace, Exit, Options, Strategy, SupervisorSpec};

#[test]
fn a_child_is_added_found_by_its_type_and_its_name_is_free_when_it_has_ended() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    assert!(matches!(
        plant.add(part("a", &log)),
        Err(mproc::SpawnError::NameTaken(_))
    ));
    plant.add(part("d", &log).temporary()).unwrap();
    let d = address(&plant, "d");
    assert_eq!(d.call(1).wait().unwrap(), 1);
    assert_eq!(log.take(), ["+d", "d 1"]);
    let wrong = plant.address::<Broken>("d").unwrap_err();
    assert_eq!(wrong.kind(), mproc::ErrorKind::TypeConflict);
    d.stop();
    node.settle();
    let gone = plant.address::<Part>("d").unwrap_err();
    assert_eq!(gone.kind(), mproc::ErrorKind::NotFound);
    plant.add(part("d", &log)).unwrap();
    assert_eq!(address(&plant, "d").call(2).wait().unwrap(), 2);
}

#[test]
fn a_supervisor_that_cannot_start_leaves_nothing_behind() {
    let (node, log) = (node(1), Log::default());
    node.spawn_thread("taken", closure(|(): (), _cx| ()))
        .unwrap();
    let specs: [SupervisorSpec; 3] = [
        node.supervisor("plant")
            .child(part("a", &log))
            .child(part("taken", &log)),
        node.supervisor("taken").child(part("a", &log)),
        node.supervisor("").child(part("a", &log)),
    ];
    for spec in specs {
        assert!(spec.start().is_err());
        node.settle();
        assert_eq!(node.snapshot().processors.len(), 1);
    }
    assert_eq!(log.take(), Vec::<String>::new());
    let report = node.shutdown(SECOND);
    assert!(report.is_clean(), "{report}");
    assert!(node.supervisor("plant").start().is_err());
}

#[test]
fn children_live_on_a_driver_or_pool_with_others_if_they_are_told_so() {
    let (with_driver, with_pool) = (node(1), node(1));
    let driver = with_driver.driver("shared").unwrap();
    let end = |limit| driver.shutdown(limit);
    live_with_others(&with_driver, &ChildPlace::from(&driver), &end);
    let pool = with_pool.pool("shared", 2).unwrap();
    let end = |limit| pool.shutdown(limit);
    live_with_others(&with_pool, &ChildPlace::from(&pool), &end);
}

fn live_with_others(
    node: &Node,
    place: &ChildPlace,
    end: &dyn Fn(Duration) -> mproc::ShutdownReport,
) {
    let log = Log::default();
    let plant = node
        .supervisor("plant")
        .child(part("a", &log).on(place.clone()))
        .child(part("b", &log).on(place.clone()))
        .start()
        .unwrap();
    let (a, b) = (address(&plant, "a"), address(&plant, "b"));
    a.send(Boom).unwrap();
    assert_eq!(b.call(1).wait().unwrap(), 1);
    assert_eq!(a.call(2).wait().unwrap(), 2);
    assert_eq!(a.snapshot().driver, "shared");
    assert_eq!(a.snapshot().restarts, 1);
    // Their driver's end is theirs.
    let report = end(SECOND);
    assert!(report.is_clean(), "{report}");
    node.settle();
    assert!(plant.children().is_empty());
    assert!(plant.exit().is_none());
}

#[test]
fn a_node_on_the_real_machine_restarts_too() {
    let node = Node::with_options(Options::default());
    let log = Log::default();
    let plant = node
        .supervisor("plant")
        .backoff(Backoff::exponential(MS, MS))
        .restarts(100, SECOND)
        .child(part("a", &log))
        .start()
        .unwrap();
    let a = address(&plant, "a");
    for n in 0..20 {
        assert!(matches!(a.call(Boom).wait(), Err(CallError::Panicked(_))));
        assert_eq!(a.call(n).wait().unwrap(), n);
    }
    assert_eq!(a.snapshot().restarts, 20);
    plant.stop();
    assert!(matches!(plant.ended().wait().unwrap().exit, Exit::Stopped));
    let report = node.shutdown(10 * SECOND);
    assert!(report.is_clean(), "{report}");
}
