//! Full queues under each policy, and who holds whom back.

use crate::{NUMBERS, SECOND, assert_conserved, options, roomy, values, values_and_gaps};
use mproc::prelude::*;
use mproc::{
    DropCause, ErrorKind, Outcome, PublishError, PublisherOptions, RecvError, TryRecvError,
};

#[test]
fn drop_oldest_keeps_the_newest_and_tells_the_exact_gap() {
    let node = Node::simulated(1);
    let o = options().capacity(3).when_full(WhenFull::DropOldest);
    let s = node.subscription_with(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..10).for_each(|n| drop(p.publish(n).unwrap()));
    assert_conserved(&s.snapshot());
    assert_eq!(values_and_gaps(&s), [(7, 7), (8, 0), (9, 0)]);
    let shot = s.snapshot();
    assert_eq!((shot.offered, shot.taken, shot.queued), (10, 3, 0));
    assert_eq!(shot.dropped.by(DropCause::Evicted), 7);
    assert_eq!(shot.lost, 7);
    assert_eq!(node.dead_letters().count(), 7);
}

#[test]
fn drop_newest_keeps_the_oldest_and_tells_the_exact_gap() {
    let node = Node::simulated(1);
    let o = options().capacity(2).when_full(WhenFull::DropNewest);
    let s = node.subscription_with(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..6).for_each(|n| drop(p.publish(n).unwrap()));
    assert_eq!(values_and_gaps(&s), [(0, 0), (1, 0)]);
    p.publish(6).unwrap();
    assert_eq!(values_and_gaps(&s), [(6, 4)]);
    assert_eq!(s.snapshot().dropped.by(DropCause::NoRoom), 4);
    assert_conserved(&s.snapshot());
}

#[test]
fn latest_keeps_one_whatever_its_capacity() {
    let node = Node::simulated(1);
    let o = options().capacity(9).when_full(WhenFull::Latest);
    let s = node.subscription_with(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..5).for_each(|n| drop(p.publish(n).unwrap()));
    assert_eq!(s.snapshot().capacity, 1);
    assert_eq!(values_and_gaps(&s), [(4, 4)]);
    assert_conserved(&s.snapshot());
}

#[test]
fn fail_refuses_and_names_who_was_full() {
    let node = Node::simulated(1);
    let o = options().capacity(1).when_full(WhenFull::Fail);
    let s = node.subscription_with(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    assert_eq!(p.publish(0).unwrap().count, 1);
    let delivered = p.publish(1).unwrap();
    assert_eq!((delivered.count, delivered.refused.len()), (0, 1));
    assert!(
        delivered.refused[0].label.contains("numbers"),
        "{delivered:?}"
    );
    assert_eq!(values(&s), [0]);
    p.publish(2).unwrap();
    assert_eq!(values_and_gaps(&s), [(2, 1)]);
    assert_eq!(s.snapshot().refused, 1);
    assert_conserved(&s.snapshot());
}

#[test]
fn disconnect_closes_with_the_reason_after_what_is_queued() {
    let node = Node::simulated(1);
    let o = options().capacity(2).when_full(WhenFull::Disconnect);
    let s = node.subscription_with(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..2).for_each(|n| drop(p.publish(n).unwrap()));
    assert_eq!(p.publish(2).unwrap().refused.len(), 1);
    assert_eq!(values(&s), [0, 1]);
    assert_eq!(s.try_recv().unwrap_err(), TryRecvError::Disconnected);
    assert_eq!(s.recv().wait().unwrap_err(), RecvError::Disconnected);
    assert!(s.snapshot().closed);
    assert_conserved(&s.snapshot());
    assert_eq!(p.publish(3).unwrap().count, 0);
}

#[test]
fn capacity_n_accepts_exactly_n() {
    for n in [1_u32, 2, 3, 64] {
        let node = Node::simulated(1);
        let o = options().capacity(n as usize);
        let s = node.subscription_with(&NUMBERS, o).unwrap();
        let p = node.publisher(&NUMBERS).unwrap();
        (0..n).for_each(|i| drop(p.try_publish(i).unwrap()));
        let error = p.try_publish(n).unwrap_err();
        assert!(matches!(&error, PublishError::Full { .. }));
        assert_eq!(error.into_inner(), Some(n));
        assert_eq!(s.snapshot().queued, u64::from(n));
    }
}

#[test]
fn capacity_0_and_0_in_flight_are_refused() {
    let node = Node::simulated(1);
    let error = node.subscription_with(&NUMBERS, options().capacity(0));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidSetting);
    let error = node.subscription_with(&NUMBERS, options().max_leases(0));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidSetting);
    let error = node.publisher_with(&NUMBERS, PublisherOptions::new().in_flight(0));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidSetting);
    let error = node.channel(&NUMBERS, options().capacity(0));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidSetting);
}

#[test]
fn a_publish_that_cannot_reach_all_who_wait_reaches_nobody() {
    let node = roomy(1);
    let roomy = node.subscription(&NUMBERS).unwrap();
    let tight = node.subscription_with(&NUMBERS, options().capacity(1));
    let tight = tight.unwrap();
    let latest = options().when_full(WhenFull::Latest);
    let latest = node.subscription_with(&NUMBERS, latest).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    p.publish(0).unwrap();
    let before = node.now();
    let PublishError::Timeout { value, full } = p.publish_timeout(1, SECOND).unwrap_err() else {
        panic!("it times out");
    };
    assert_eq!(node.now() - before, SECOND);
    assert_eq!(value, 1);
    let named = format!("subscription {} on", tight.id().get());
    assert!(full.len() == 1 && full[0].contains(&named), "{full:?}");
    for s in [&roomy, &tight, &latest] {
        assert_eq!(values(s), [0]);
        assert_eq!(s.snapshot().offered, 1);
    }
    p.publish(2).unwrap();
    for s in [&roomy, &tight, &latest] {
        let sample = s.try_recv().unwrap();
        assert_eq!((*sample, sample.sequence(), sample.gap()), (2, 1, 0));
    }
}

#[test]
fn a_lossy_subscriber_never_holds_a_publisher_back() {
    let node = Node::simulated(1);
    for when_full in [
        WhenFull::DropOldest,
        WhenFull::DropNewest,
        WhenFull::Latest,
        WhenFull::Fail,
    ] {
        let o = options().capacity(1).when_full(when_full);
        let s = node.subscription_with(&NUMBERS, o).unwrap();
        let p = node.publisher(&NUMBERS).unwrap();
        let before = node.now();
        (0..50).for_each(|n| drop(p.try_publish(n).unwrap()));
        assert_eq!(node.now(), before);
        assert_conserved(&s.snapshot());
    }
}

#[test]
fn a_lossy_subscriber_never_holds_a_publisher_back_while_its_handler_is_busy() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Latest] {
        struct Busy(WhenFull);
        impl Processor for Busy {
            fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
                let options = options().capacity(2).when_full(self.0);
                cx.subscribe(&NUMBERS).options(options).call(|_, _, cx| {
                    let node = cx.runtime();
                    let until = node.now() + SECOND * 60;
                    while node.now() < until {
                        node.park(Some(until));
                    }
                    Ok(())
                })?;
                Ok(())
            }
        }
        let node = Node::simulated(1);
        node.spawn_thread("busy", Busy(when_full)).unwrap();
        let p = node.publisher(&NUMBERS).unwrap();
        p.wait_for_subscribers(1, SECOND).unwrap();
        p.publish(0).unwrap();
        node.settle();
        let before = node.now();
        (1..50).for_each(|n| drop(p.publish(n).unwrap()));
        assert_eq!(node.now(), before, "{when_full:?}");
        node.advance(SECOND * 600);
        let shot = node
            .snapshot()
            .topics
            .into_iter()
            .find(|t| t.name == "numbers");
        let shot = shot.unwrap();
        assert_eq!(shot.subscriptions.len(), 1);
        assert_conserved(&shot.subscriptions[0]);
    }
}
