//! Triggers: what other systems call guard conditions.

use super::*;
use mproc::{Closure, Trigger, closure};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts its runs.
fn runs() -> (Arc<AtomicU32>, impl Fn() + Send + Sync + Clone) {
    let runs = Arc::new(AtomicU32::new(0));
    let count = runs.clone();
    (runs, move || {
        count.fetch_add(1, Ordering::SeqCst);
    })
}

#[test]
fn two_pulls_before_it_is_served_run_the_callback_once() {
    let mut script = simulated().script().unwrap().with(0);
    let trigger = script.trigger(|count, _| *count += 1).unwrap();
    assert_eq!(handled(script.spin_some(10)), 0);
    for round in 1..=3 {
        assert!(trigger.pull());
        assert!(trigger.clone().pull());
        assert_eq!(handled(script.spin_some(10)), 1);
        assert_eq!(script.state(|count| *count).unwrap(), round);
    }
}

#[test]
fn a_pull_while_the_callback_runs_has_it_run_once_more() {
    let mut script = simulated().script().unwrap().with((0, None::<Trigger>));
    let trigger = script
        .trigger(|(count, own), _| {
            *count += 1;
            if let Some(own) = own.take() {
                assert!(own.pull());
                assert!(own.pull());
            }
        })
        .unwrap();
    script
        .state(|(_, own)| *own = Some(trigger.clone()))
        .unwrap();
    trigger.pull();
    assert_eq!(handled(script.spin_some(10)), 2);
    assert_eq!(script.state(|(count, _)| *count).unwrap(), 2);
}

#[test]
fn it_wakes_a_script_that_spins_from_any_thread() {
    let mut script = real().script().unwrap().with(0);
    let trigger = script.trigger(|count, _| *count += 1).unwrap();
    let puller = std::thread::spawn(move || trigger.pull());
    assert_eq!(script.spin_once(LONG).unwrap(), mproc::Spun::Ran);
    assert!(puller.join().unwrap());
    assert_eq!(script.state(|count| *count).unwrap(), 1);
}

#[test]
fn it_runs_on_drivers_pools_and_the_node() {
    let node = simulated();
    let driver = node.driver("driver").unwrap();
    let pool = node.pool("pool", 2).unwrap();
    let (count, run) = runs();
    let run = move |_: &mut Cx<'_, mproc::Triggered>| run();
    let all = [
        node.trigger(run.clone()).unwrap(),
        driver.trigger(run.clone()).unwrap(),
        pool.trigger(run).unwrap(),
    ];
    // Also before their processors have started.
    for round in 1..=3 {
        all.iter().for_each(|trigger| assert!(trigger.pull()));
        all.iter().for_each(|trigger| assert!(trigger.pull()));
        node.settle();
        assert_eq!(count.load(Ordering::SeqCst), round * 3);
    }
}

#[test]
fn a_processor_makes_its_own_message_of_it() {
    struct Gate(u32);
    struct Open;
    impl Processor for Gate {}
    impl Handle<Open> for Gate {
        type Reply = ();
        fn handle(&mut self, _: Open, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0 += 1;
            Ok(())
        }
    }
    struct Make;
    impl Handle<Make> for Gate {
        type Reply = Trigger;
        fn handle(&mut self, _: Make, cx: &mut Cx<'_, Self, Trigger>) -> Outcome<Trigger> {
            Ok(cx.trigger(|| Open))
        }
    }
    struct Count;
    impl Handle<Count> for Gate {
        type Reply = u32;
        fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
            Ok(self.0)
        }
    }
    let node = simulated();
    let in_pool = node.pool("pool", 2).unwrap().spawn("a", Gate(0)).unwrap();
    let alone = node.spawn_thread("b", Gate(0)).unwrap();
    for gate in [in_pool, alone] {
        let open = gate.call(Make).wait().unwrap();
        open.pull();
        open.pull();
        node.settle();
        assert_eq!(gate.call(Count).wait().unwrap(), 1);
        gate.stop();
        node.settle();
        assert!(open.is_closed());
        assert!(!open.pull());
    }
}

#[test]
fn a_panic_or_a_fault_in_the_callback_does_not_stop_the_next() {
    let node = simulated();
    let (count, run) = runs();
    let mut goes_wrong = [true, true].into_iter();
    let trigger = node
        .trigger(move |_| {
            run();
            match goes_wrong.next() {
                Some(_) if goes_wrong.len() == 1 => panic!("wanted"),
                Some(_) => Err(mproc::Fault::new("wanted")),
                None => Ok(()),
            }
        })
        .unwrap();
    for round in 1..=4 {
        assert!(trigger.pull());
        node.settle();
        assert_eq!(count.load(Ordering::SeqCst), round);
    }
}

#[test]
fn a_closed_one_runs_no_more_and_lets_go_of_its_callback() {
    let node = simulated();
    let driver = node.driver("driver").unwrap();
    let (count, run) = runs();
    let kept = Arc::new(());
    let (held, members) = (kept.clone(), || driver_members(&node));
    let before = members();
    let trigger = driver
        .trigger(move |_| {
            let _held = &held;
            run();
        })
        .unwrap();
    node.settle();
    assert_eq!((members(), Arc::strong_count(&kept)), (before + 1, 2));
    // The driver's thread runs only while this one waits.
    assert!(trigger.pull());
    trigger.close();
    trigger.close();
    assert!(!trigger.pull());
    node.settle();
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert_eq!((members(), Arc::strong_count(&kept)), (before, 1));
}

fn driver_members(node: &Node) -> u64 {
    let snapshot = node.snapshot();
    let driver = snapshot.drivers.iter().find(|d| d.name == "driver");
    driver.unwrap().members
}

#[test]
fn it_keeps_its_place_on_a_driver_that_serves_in_order_of_arrival() {
    let node = simulated();
    let driver = node.driver("driver").unwrap().arrival_order();
    let (tell, told) = std::sync::mpsc::channel();
    let mine = tell.clone();
    let log = closure(move |n: u32, _: &mut Cx<'_, Closure<u32, ()>>| mine.send(n));
    let log = driver.spawn("log", log).unwrap();
    let trigger = driver.trigger(move |_| tell.send(100)).unwrap();
    node.settle();
    log.send(1).unwrap();
    trigger.pull();
    log.send(2).unwrap();
    trigger.pull();
    node.settle();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 100, 2]);
}
