//! Samples that are held: in flight, flush, leases.

use crate::{NUMBERS, SECOND, options, roomy, values};
use mproc::prelude::*;
use mproc::{ErrorKind, Fault, Outcome, PublisherOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn with_one_in_flight_the_second_publish_waits_until_the_first_handler_has_returned() {
    let node = Node::simulated(1);
    let handled = Arc::new(AtomicUsize::new(0));
    let counted = handled.clone();
    let _s = node
        .subscribe(&NUMBERS, move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    let o = PublisherOptions::new().in_flight(1);
    let p = node.publisher_with(&NUMBERS, o).unwrap();
    for n in 0..20 {
        p.publish(n).unwrap();
        assert!(handled.load(Ordering::SeqCst) >= n as usize);
    }
}

#[test]
fn a_held_sample_counts_as_in_flight_and_lossy_subscribers_do_not() {
    let node = roomy(1);
    let o = PublisherOptions::new().in_flight(1);
    let p = node.publisher_with(&NUMBERS, o).unwrap();
    let lossy = options().when_full(WhenFull::DropOldest);
    let lossy = node.subscription_with(&NUMBERS, lossy).unwrap();
    (0..3).for_each(|n| drop(p.try_publish(n).unwrap()));
    let waits = node.subscription(&NUMBERS).unwrap();
    p.try_publish(3).unwrap();
    let held = waits.try_recv().unwrap();
    assert!(p.try_publish(4).is_err());
    drop(held);
    p.try_publish(4).unwrap();
    assert_eq!(values(&lossy), [0, 1, 2, 3, 4]);
}

#[test]
fn flush_waits_for_every_lease_and_says_how_many_are_out() {
    let node = roomy(1);
    let s = node.subscription(&NUMBERS).unwrap();
    let p = node
        .publisher_with(&NUMBERS, PublisherOptions::new().history(5))
        .unwrap();
    p.publish(1).unwrap();
    p.publish(2).unwrap();
    let held = s.try_recv().unwrap();
    let error = p.flush(SECOND).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().starts_with("2 values"), "{error}");
    drop((held, values(&s)));
    p.flush(Duration::ZERO).unwrap(); // history does not count
}

#[test]
fn a_processor_that_holds_max_leases_gets_no_more_until_it_lets_go() {
    #[derive(Default)]
    struct Keeper(Vec<Sample<u32>>, usize);
    struct LetGo;
    struct Count;
    impl Processor for Keeper {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.subscribe(&NUMBERS).max_leases(2).samples()?;
            Ok(())
        }
        fn on_error(&mut self, _: Fault, _: &mut Cx<'_, Self>) {
            self.1 += 1;
        }
    }
    impl Handle<Sample<u32>> for Keeper {
        type Reply = ();
        fn handle(&mut self, n: Sample<u32>, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0.push(n);
            Ok(())
        }
    }
    impl Handle<LetGo> for Keeper {
        type Reply = ();
        fn handle(&mut self, _: LetGo, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0.remove(0);
            Ok(())
        }
    }
    impl Handle<Count> for Keeper {
        type Reply = (Vec<u32>, usize);
        fn handle(
            &mut self,
            _: Count,
            _: &mut Cx<'_, Self, (Vec<u32>, usize)>,
        ) -> Outcome<(Vec<u32>, usize)> {
            Ok((self.0.iter().map(|n| **n).collect(), self.1))
        }
    }
    let node = roomy(1);
    let keeper = node.spawn_thread("keeper", Keeper::default()).unwrap();
    node.settle();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..4).for_each(|n| drop(p.publish(n).unwrap()));
    node.settle();
    assert_eq!(keeper.call(Count).wait().unwrap(), (vec![0, 1], 1));
    keeper.send(LetGo).unwrap();
    node.settle();
    assert_eq!(keeper.call(Count).wait().unwrap(), (vec![1, 2], 2));
}

#[test]
fn the_snapshot_tells_the_age_of_the_oldest_lease_that_is_held() {
    let node = roomy(1);
    let bounded = node.subscription_with(&NUMBERS, options().max_leases(3));
    let (bounded, free) = (bounded.unwrap(), node.subscription(&NUMBERS).unwrap());
    let p = node.publisher(&NUMBERS).unwrap();
    let age = || bounded.snapshot().held_ns_max.map(Duration::from_nanos);
    let mut held = Vec::new();
    for n in 0..2 {
        p.publish(n).unwrap();
        held.push(bounded.try_recv().unwrap());
        node.advance(SECOND);
    }
    let _unbounded = free.try_recv().unwrap();
    node.advance(SECOND);
    assert_eq!(age(), Some(SECOND * 3));
    let clone = held[0].clone();
    drop(held.remove(0));
    assert_eq!(age(), Some(SECOND * 3));
    drop(clone);
    assert_eq!(age(), Some(SECOND * 2));
    drop(held);
    assert_eq!(age(), None);
    assert_eq!(free.snapshot().held_ns_max, None);
}
