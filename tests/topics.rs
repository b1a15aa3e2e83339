//! Topics, from outside: every claim of the design about publishing and subscribing within one process.

use mproc::prelude::*;
use mproc::{
    Data, DropCause, ErrorKind, Event, Fault, Msg, Outcome, Place, PublishError, PublisherOptions,
    RecvError, SubscriptionSnapshot, TryRecvError, closure, select,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

const NUMBERS: Topic<u32> = Topic::new("numbers");
const OTHERS: Topic<u32> = Topic::new("others");
const WORDS: Topic<String> = Topic::new("words");
const SECOND: Duration = Duration::from_secs(1);

fn options() -> SubscriptionOptions<u32> {
    SubscriptionOptions::new()
}

fn values(subscription: &Subscription<u32>) -> Vec<u32> {
    subscription.try_iter().map(|n| *n).collect()
}

fn values_and_gaps(subscription: &Subscription<u32>) -> Vec<(u32, u64)> {
    subscription.try_iter().map(|n| (*n, n.gap())).collect()
}

#[track_caller]
fn assert_conserved(s: &SubscriptionSnapshot) {
    assert_eq!(
        s.offered,
        s.taken + s.dropped.total() + s.refused + s.queued,
        "{s:?}"
    );
}

/// Counts how often it is cloned.
struct Precious(Arc<AtomicUsize>);
impl Clone for Precious {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::SeqCst);
        Self(self.0.clone())
    }
}
const PRECIOUS: Topic<Precious> = Topic::local("precious");

// ---- one sample, in order

#[test]
fn all_subscribers_share_one_sample() {
    let node = Node::simulated(1);
    let a = node.subscription(&WORDS).unwrap();
    let b = node.subscription(&WORDS).unwrap();
    let words = node.publisher(&WORDS).unwrap();
    assert_eq!(words.publish("hello".into()).unwrap().count, 2);
    let (a, b) = (a.try_recv().unwrap(), b.try_recv().unwrap());
    assert!(std::ptr::eq::<String>(&*a, &*b));
    assert_eq!(a.publisher(), words.id());
    assert_ne!(a.subscription(), b.subscription());
}

#[test]
fn samples_arrive_in_order_without_gaps() {
    let node = Node::simulated(1);
    let (tell, told) = mpsc::channel();
    let _subscriber = node
        .subscribe(&NUMBERS, move |n| {
            tell.send((*n, n.sequence(), n.gap())).unwrap();
        })
        .unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    for n in 0..500 {
        numbers.publish(n).unwrap();
    }
    node.settle();
    let expected: Vec<_> = (0..500).map(|n| (n, u64::from(n), 0)).collect();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn many_threads_on_one_publisher_give_unique_sequence_numbers_without_gaps() {
    let node = Node::new().unwrap();
    let all = node
        .subscription_with(&NUMBERS, options().capacity(400))
        .unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|n| assert_eq!(numbers.publish(n).unwrap().count, 1)));
        }
    });
    let sequence: Vec<_> = all.try_iter().map(|s| s.sequence()).collect();
    assert_eq!(sequence, (0..400).collect::<Vec<_>>());
}

// ---- policies

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

// ---- in flight, flush, leases

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

#[test]
fn a_sample_stays_unchanged_after_its_publisher_is_gone() {
    let node = Node::simulated(1);
    let s = node.subscription(&WORDS).unwrap();
    let p = node.publisher(&WORDS).unwrap();
    p.publish("first".into()).unwrap();
    let held = s.try_recv().unwrap();
    let at: *const String = &*held;
    p.publish("second".into()).unwrap();
    p.close();
    assert!(matches!(
        p.publish("x".into()),
        Err(PublishError::Closed(_))
    ));
    drop(p);
    assert_eq!((held.as_str(), &*held as *const String), ("first", at));
    assert_eq!(*s.try_recv().unwrap(), "second"); // queued ones are delivered all the same
}

#[test]
fn into_owned_moves_for_the_last_holder_and_clones_otherwise() {
    let node = Node::simulated(1);
    let clones = Arc::new(AtomicUsize::new(0));
    let a = node.subscription(&PRECIOUS).unwrap();
    let b = node.subscription(&PRECIOUS).unwrap();
    let p = node.publisher(&PRECIOUS).unwrap();
    p.publish(Precious(clones.clone())).unwrap();
    drop(a.try_recv().unwrap().into_owned());
    assert_eq!(clones.load(Ordering::SeqCst), 1);
    drop(b.try_recv().unwrap().into_owned());
    assert_eq!(clones.load(Ordering::SeqCst), 1);
}

#[test]
fn a_value_is_encoded_once_for_all_its_samples() {
    let node = Node::simulated(1);
    let a = node.subscription(&WORDS).unwrap();
    let b = node.subscription(&WORDS).unwrap();
    node.publisher(&WORDS)
        .unwrap()
        .publish("hi".into())
        .unwrap();
    let (a, b) = (a.try_recv().unwrap(), b.try_recv().unwrap());
    assert!(std::ptr::eq(a.encoded().unwrap(), b.encoded().unwrap()));
    assert_eq!(*WORDS.decode(a.encoded().unwrap()).unwrap(), "hi");
    let p = node.subscription(&PRECIOUS).unwrap();
    let precious = node.publisher(&PRECIOUS).unwrap();
    precious.publish(Precious(Arc::default())).unwrap();
    assert!(p.try_recv().unwrap().encoded().is_err());
}

#[test]
fn parts_travel_with_the_value_in_order() {
    let node = Node::simulated(1);
    let s = node.subscription(&NUMBERS).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    p.publish_with_parts(1, vec![b"one".to_vec(), Vec::new(), b"three".to_vec()])
        .unwrap();
    let sample = s.try_recv().unwrap();
    let parts: Vec<_> = sample.parts().collect();
    assert_eq!(parts, [&b"one"[..], b"", b"three"]);
}

#[test]
fn a_loan_is_read_in_place_and_comes_back_if_there_is_no_room() {
    const FRAMES: Topic<[u8]> = Topic::slices("frames");
    let node = Node::simulated(1);
    let s = node
        .subscription_with(&FRAMES, SubscriptionOptions::new().capacity(1))
        .unwrap();
    let p = node.publisher(&FRAMES).unwrap();
    let mut loan = p.loan(3).unwrap();
    loan.copy_from_slice(b"RGB");
    let memory = loan.as_ptr();
    loan.publish().unwrap();
    let mut second = p.loan(2).unwrap();
    second.copy_from_slice(b"ab");
    let second = second.try_publish().unwrap_err().into_inner().unwrap();
    assert_eq!(&*second, b"ab");
    let sample = s.try_recv().unwrap();
    assert_eq!((&*sample, sample.as_ptr()), (&b"RGB"[..], memory));
    second.publish().unwrap();
    assert_eq!(&*s.try_recv().unwrap(), b"ab");
}

// ---- history, pause, filters

#[test]
fn a_late_subscriber_gets_history_then_live_samples_none_twice() {
    for (published, depth, capacity) in [(2_u32, 3_usize, 64_usize), (9, 3, 64), (9, 5, 2)] {
        let node = Node::simulated(1);
        let o = PublisherOptions::new().history(depth);
        let p = node.publisher_with(&NUMBERS, o).unwrap();
        (0..published).for_each(|n| drop(p.publish(n).unwrap()));
        let s = node
            .subscription_with(&NUMBERS, options().capacity(capacity))
            .unwrap();
        let first = (published as usize).min(depth).min(capacity) as u32;
        let mut seen = values(&s);
        p.publish(published).unwrap();
        seen.extend(values(&s));
        let expected: Vec<_> = (published - first..=published).collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_paused_subscription_fills_and_then_its_policy_applies() {
    let node = Node::simulated(1);
    let s = node
        .subscription_with(&NUMBERS, options().capacity(2))
        .unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    s.pause();
    p.publish(0).unwrap();
    p.publish(1).unwrap();
    assert!(p.try_publish(2).is_err());
    assert_eq!(s.try_recv().unwrap_err(), TryRecvError::Empty);
    assert!(s.snapshot().paused);
    s.resume();
    assert_eq!(values(&s), [0, 1]);
}

#[test]
fn a_paused_processor_subscription_goes_on_in_order() {
    let node = roomy(1);
    let (tell, told) = mpsc::channel();
    let s = node.subscribe(&NUMBERS, move |n| tell.send(*n).unwrap());
    let s = s.unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    s.control().pause();
    (0..5).for_each(|n| drop(p.publish(n).unwrap()));
    node.settle();
    assert_eq!(told.try_iter().count(), 0);
    s.control().resume();
    node.settle();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_conserved(&s.control().snapshot().unwrap());
}

#[test]
fn a_paused_publisher_or_node_waits_until_it_is_resumed() {
    let node = roomy(1);
    let s = node.subscription(&NUMBERS).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    p.pause();
    assert!(p.try_publish(0).is_err());
    assert!(matches!(
        p.publish_timeout(0, SECOND),
        Err(PublishError::Timeout { .. })
    ));
    p.resume();
    p.try_publish(1).unwrap();
    node.pause();
    assert!(p.try_publish(2).is_err());
    node.resume();
    p.try_publish(3).unwrap();
    assert_eq!(values(&s), [1, 3]);
}

#[test]
fn a_filter_runs_before_queueing_and_makes_no_gaps() {
    let node = Node::simulated(1);
    let o = options().capacity(5).filter(|n| n % 2 == 0);
    let s = node.subscription_with(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..10).for_each(|n| drop(p.try_publish(n).unwrap()));
    assert!(p.try_publish(10).is_err());
    assert_eq!(p.try_publish(11).unwrap().count, 0);
    assert_eq!(s.snapshot().offered, 5);
    assert!(s.try_iter().all(|n| *n % 2 == 0 && n.gap() == 0));
}

// ---- names, types, wiring

#[test]
fn patterns_reach_topics_now_and_later_and_no_others() {
    const LEFT: Topic<u32> = Topic::new("robot/left/pose");
    const RIGHT: Topic<u32> = Topic::new("robot/right/pose");
    const DEEP: Topic<u32> = Topic::new("robot/left/arm/pose");
    let node = roomy(1);
    let left = node.publisher(&LEFT).unwrap();
    let one = node.subscription_matching("robot/*/pose", options());
    let one = one.unwrap();
    let all = node.subscription_matching("robot/**", options()).unwrap();
    let right = node.publisher(&RIGHT).unwrap();
    let deep = node.publisher(&DEEP).unwrap();
    left.publish(1).unwrap();
    right.publish(2).unwrap();
    deep.publish(3).unwrap();
    assert_eq!(values(&one), [1, 2]);
    assert_eq!(values(&all), [1, 2, 3]);
    for wrong in ["", "robot//pose", "robot/*left", "a/***", "a/\n"] {
        let error = node.subscription_matching(wrong, options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{wrong:?}");
    }
}

/// A pattern was refused if a topic of another type was there before it, and left that topic out if it came later. So after
/// `node.events()` the pattern `**` was refused for every type but that of events.
#[test]
fn a_pattern_leaves_out_topics_of_another_type_and_internal_ones_declared_before_or_after_it() {
    const BYTE: Topic<u8> = Topic::new("a/byte");
    const WORD: Topic<u32> = Topic::new("a/word");
    for before in [true, false] {
        let node = Node::simulated(1);
        let events = before.then(|| node.events().unwrap());
        let bytes = before.then(|| node.publisher(&BYTE).unwrap());
        let words = before.then(|| node.publisher(&WORD).unwrap());
        let some = node.subscription_matching("a/*", options()).unwrap();
        let all = node.subscription_matching("**", options()).unwrap();
        let all_events = SubscriptionOptions::<Event>::new();
        let no_events = node.subscription_matching("**", all_events).unwrap();
        let all_events = SubscriptionOptions::<Event>::new();
        let their_events = node.subscription_matching("mproc/*", all_events).unwrap();
        let events = events.unwrap_or_else(|| node.events().unwrap());
        let bytes = bytes.unwrap_or_else(|| node.publisher(&BYTE).unwrap());
        let words = words.unwrap_or_else(|| node.publisher(&WORD).unwrap());
        events.try_iter().for_each(drop);
        their_events.try_iter().for_each(drop);
        assert_eq!(bytes.publish(1).unwrap().count, 0);
        assert_eq!(words.publish(2).unwrap().count, 2);
        assert_eq!((values(&some), values(&all)), (vec![2], vec![2]));
        drop(bytes);
        assert_eq!(events.try_iter().count(), 1);
        assert_eq!(their_events.try_iter().count(), 1);
        assert_eq!(no_events.try_iter().count(), 0);
    }
}

#[test]
fn a_conflict_of_types_names_both() {
    let node = Node::simulated(1);
    let _p = node.publisher(&NUMBERS).unwrap();
    let error = node
        .subscription(&Topic::<String>::new("numbers"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeConflict);
    let text = error.to_string();
    assert!(text.contains("u32") && text.contains("String"), "{text}");
    let error = node.publisher(&Topic::<u32>::local("numbers")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeConflict);
    let text = error.to_string();
    assert!(text.contains("Serde") && text.contains("Local"), "{text}");
    let error = node.publisher(&Topic::<u32>::new("a/*")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
}

/// Two names with one 64-bit FNV-1a hash.
const TWINS: [&str; 2] = ["8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ"];

#[test]
fn two_names_with_one_id_are_refused_and_the_error_names_both() {
    for [first, second] in [TWINS, [TWINS[1], TWINS[0]]] {
        let node = Node::simulated(1);
        let (known, wanted) = (NUMBERS.renamed(first), NUMBERS.renamed(second));
        assert_eq!(known.id(), wanted.id());
        let p = node.publisher(&known).unwrap();
        let s = node.subscription(&known).unwrap();
        for error in [
            node.publisher(&wanted).unwrap_err(),
            node.subscription(&wanted).unwrap_err(),
            node.channel(&wanted, options()).unwrap_err(),
            node.subscribe(&wanted, drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::TypeConflict);
            let text = error.to_string();
            assert!(text.contains(first) && text.contains(second), "{text}");
        }
        // The first is none the worse for it.
        p.publish(1).unwrap();
        assert_eq!(values(&s), [1]);
    }
}

#[test]
fn a_pair_that_is_the_id_of_a_name_is_refused_and_the_error_names_both() {
    let id = NUMBERS.id();
    let pair: Topic<u32> = Topic::with_id(TopicId::new(id.mid(), id.cmd()));
    for (known, wanted) in [(NUMBERS, pair), (pair, NUMBERS)] {
        let node = Node::simulated(1);
        let _p = node.publisher(&known).unwrap();
        let error = node.subscription(&wanted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TypeConflict);
        let text = error.to_string();
        let named = text.contains("\"numbers\"") && text.contains(&id.to_string());
        assert!(named, "{text}");
    }
}

#[test]
fn a_bad_topic_name_is_refused_and_the_error_says_why() {
    let node = Node::simulated(1);
    let long = "x".repeat(256);
    for (name, problem) in [(&*long, "256 bytes"), ("a\nb", "byte 1"), ("a/*", "*")] {
        let topic = NUMBERS.renamed(name);
        for error in [
            node.publisher(&topic).unwrap_err(),
            node.subscription(&topic).unwrap_err(),
            node.channel(&topic, options()).unwrap_err(),
            node.subscribe(&topic, drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidName);
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
    for (name, problem) in [("", "empty"), (&*long, "256 bytes"), ("a\nb", "byte 1")] {
        for (from, to) in [(name, "fine"), ("fine", name)] {
            let error = node.connect(from, to).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName);
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
    // 255 bytes are not too many.
    node.publisher(&NUMBERS.renamed(&long[1..])).unwrap();
}

#[test]
fn an_empty_topic_name_is_refused() {
    let node = Node::simulated(1);
    let error = node.publisher(&Topic::<u32>::new("")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert!(error.to_string().contains("empty"), "{error}");
    let error = node.subscription(&Topic::<u32>::local("")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
}

#[test]
fn an_impossible_pattern_is_refused_and_the_error_names_the_segment() {
    let node = Node::simulated(1);
    for (pattern, problem) in [
        ("", "empty"),
        ("robot//pose", "segment 2"),
        ("/robot", "segment 1"),
        ("robot/", "segment 2"),
        ("robot/*left", "\"*left\""),
        ("a/b/***", "segment 3"),
        ("a/\n", "control character"),
    ] {
        let error = node.subscription_matching(pattern, options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{pattern:?}");
        let text = error.to_string();
        let named = text.contains(problem) && text.contains(&format!("{pattern:?}"));
        assert!(named, "{text}");
    }
}

#[test]
fn connected_topics_share_samples_and_circles_are_refused() {
    let node = Node::simulated(1);
    node.connect("numbers", "others").unwrap();
    let others = node.subscription(&OTHERS).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    numbers.publish(1).unwrap();
    assert_eq!(values(&others), [1]);
    for (from, to) in [("others", "numbers"), ("numbers", "numbers")] {
        let error = node.connect(from, to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    node.connect("others", "third").unwrap();
    let error = node.connect("third", "numbers").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let _words = node.publisher(&WORDS).unwrap();
    let error = node.connect("numbers", "words").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeConflict);
    assert!(node.disconnect("numbers", "others"));
    assert!(!node.disconnect("numbers", "others"));
    numbers.publish(2).unwrap();
    assert_eq!(values(&others), []);
}

// ---- ends

#[test]
fn unsubscribing_gives_queued_samples_back_and_unblocks_the_publisher() {
    let node = Node::new().unwrap();
    let s = node
        .subscription_with(&NUMBERS, options().capacity(1))
        .unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    p.publish(0).unwrap();
    let q = p.clone();
    let blocked = std::thread::spawn(move || q.publish(1).map(|d| d.count));
    s.unsubscribe();
    assert_eq!(blocked.join().unwrap().unwrap(), 0);
    p.flush(Duration::ZERO).unwrap();
    assert_eq!(p.subscriber_count(), 0);
}

#[test]
fn waiting_for_partners_ends_or_times_out() {
    let node = Node::simulated(1);
    let p = node.publisher(&NUMBERS).unwrap();
    let error = p.wait_for_subscribers(1, SECOND).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let s = node.subscription(&NUMBERS).unwrap();
    p.wait_for_subscribers(1, Duration::ZERO).unwrap();
    s.wait_for_publishers(1, Duration::ZERO).unwrap();
    let error = s.wait_for_publishers(2, SECOND).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("1 of 2") && text.contains("numbers"),
        "{text}"
    );
    let pattern = node.subscription_matching("*", options()).unwrap();
    let refused = pattern.wait_for_publishers(1, SECOND).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let later = closure(|(): (), cx: &mut Cx<'_, _>| cx.publisher(&NUMBERS).map(drop));
    let later = node.spawn_thread("later", later).unwrap();
    later.send(()).unwrap();
    s.wait_for_publishers(2, SECOND).unwrap();
}

#[test]
fn events_tell_who_comes_and_goes() {
    let node = roomy(1);
    let events = node.events().unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    let s = node.subscription(&NUMBERS).unwrap();
    drop(s);
    drop(p);
    let topic = || "numbers".to_owned();
    let seen: Vec<Event> = events.try_iter().map(Sample::into_owned).collect();
    let expected = [
        Event::PublisherMatched {
            topic: topic(),
            publishers: 1,
        },
        Event::SubscriberMatched {
            topic: topic(),
            subscribers: 1,
        },
        Event::SubscriberUnmatched {
            topic: topic(),
            subscribers: 0,
        },
        Event::PublisherUnmatched {
            topic: topic(),
            publishers: 0,
        },
    ];
    assert_eq!(seen, expected);
}

#[test]
fn silence_is_told_once_for_each_silence() {
    struct Listener(mpsc::Sender<&'static str>);
    struct Silent;
    impl Processor for Listener {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.subscribe(&NUMBERS)
                .silence(SECOND, || Silent)
                .samples()?;
            Ok(())
        }
    }
    impl Handle<Silent> for Listener {
        type Reply = ();
        fn handle(&mut self, _: Silent, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0.send("silent")?;
            Ok(())
        }
    }
    impl Handle<Sample<u32>> for Listener {
        type Reply = ();
        fn handle(&mut self, _: Sample<u32>, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0.send("sample")?;
            Ok(())
        }
    }
    let node = Node::simulated(1);
    let (tell, told) = mpsc::channel();
    node.spawn_thread("listener", Listener(tell)).unwrap();
    node.advance(Duration::from_secs(5));
    node.publisher(&NUMBERS).unwrap().publish(1).unwrap();
    node.advance(Duration::from_secs(5));
    let told: Vec<_> = told.try_iter().collect();
    assert_eq!(told, ["silent", "sample", "silent"]);
}

/// The watch over silences looked at the clock four times per limit, for ever: an idle program did not sleep.
#[test]
fn a_silence_that_was_told_times_nothing_until_something_comes() {
    let node = Node::simulated(1);
    let (tell, told) = mpsc::channel();
    let subscriber = closure(move |told_now: bool, cx: &mut Cx<'_, _>| {
        if told_now {
            tell.send(cx.now())?;
        } else {
            cx.subscribe(&NUMBERS)
                .silence(SECOND, || true)
                .call(|_, _, _| Ok(()))?;
        }
        Ok::<_, Fault>(())
    });
    let subscriber = node.spawn_thread("subscriber", subscriber).unwrap();
    subscriber.send(false).unwrap();
    node.settle();
    let start = node.now();
    let numbers = node.publisher(&NUMBERS).unwrap();
    // What comes within the limit puts the silence off, to the moment.
    node.advance(SECOND * 3 / 4);
    numbers.publish(1).unwrap();
    node.advance(SECOND * 3 / 4);
    numbers.publish(2).unwrap();
    node.advance(SECOND * 5);
    let silences: Vec<_> = told.try_iter().map(|at| at - start).collect();
    assert_eq!(silences, [SECOND * 5 / 2]);
    let parks = || node.snapshot().drivers.iter().map(|d| d.parks).sum::<u64>();
    let before = parks();
    node.advance(SECOND * 3600);
    assert_eq!(parks(), before);
    let again = node.now();
    numbers.publish(3).unwrap();
    node.advance(SECOND * 5);
    let silences: Vec<_> = told.try_iter().map(|at| at - again).collect();
    assert_eq!(silences, [SECOND]);
}

// ---- the end

/// The topics of a node that had ended were forgotten, and whoever asked for some got new ones.
#[test]
fn a_node_that_has_ended_takes_no_topics_and_its_publishers_are_closed() {
    let node = Node::simulated(1);
    let numbers = node.publisher(&NUMBERS).unwrap();
    let idle = node.publisher(&OTHERS).unwrap();
    let heard = node.subscription(&NUMBERS).unwrap();
    let nothing_yet = node.subscription_matching("later/*", options()).unwrap();
    let graph = mproc::Graph::of(&node);
    assert!(node.shutdown(SECOND).is_clean());

    let closed = [
        node.publisher(&NUMBERS).map(drop),
        node.subscription(&NUMBERS).map(drop),
        node.subscription_matching("*", options()).map(drop),
        node.channel(&NUMBERS, options()).map(drop),
        node.subscribe(&NUMBERS, |_| ()).map(drop),
        node.events().map(drop),
        node.connect("a", "b"),
        node.send(Msg::new(1, 1)),
        graph.publisher(&node, &NUMBERS).map(drop),
        idle.wait_for_subscribers(1, SECOND),
        heard.wait_for_publishers(2, SECOND),
        nothing_yet.wait_for_publishers(1, SECOND),
    ];
    for (i, result) in closed.into_iter().enumerate() {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed, "{i}");
    }
    for publisher in [&numbers, &idle] {
        assert!(matches!(publisher.publish(7), Err(PublishError::Closed(7))));
    }
    let before = node.now();
    assert_eq!(heard.recv().wait().unwrap_err(), RecvError::Closed);
    assert_eq!(nothing_yet.recv().wait().unwrap_err(), RecvError::Closed);
    assert_eq!(node.now(), before);
}

#[test]
fn a_processor_publishes_while_its_node_ends() {
    struct LastWords(mpsc::Sender<usize>);
    impl Processor for LastWords {
        fn stopped(&mut self, _: &mproc::Exit, cx: &mut Cx<'_, Self>) {
            assert!(cx.runtime().is_ending());
            let delivered = cx.publish(&NUMBERS, 1).unwrap();
            self.0.send(delivered.count).unwrap();
        }
    }
    let node = Node::simulated(1);
    let (tell, told) = mpsc::channel();
    let _listener = node.subscription(&NUMBERS).unwrap();
    let last_words = LastWords(tell);
    node.spawn_thread("last words", last_words).unwrap();
    let report = node.shutdown(SECOND);
    assert!(report.is_clean(), "{report}");
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [1]);
}

// ---- pulling

#[test]
fn select_over_two_types_takes_turns() {
    let node = Node::simulated(1);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let words = node.subscription(&WORDS).unwrap();
    let both: [&dyn mproc::Selectable; 2] = [&numbers, &words];
    assert_eq!(select(&both, None, SECOND), Err(RecvError::Timeout));
    node.publisher(&WORDS).unwrap().publish("a".into()).unwrap();
    assert_eq!(select(&both, None, SECOND), Ok(1));
    node.publisher(&NUMBERS).unwrap().publish(1).unwrap();
    assert_eq!(select(&both, None, SECOND), Ok(0));
    assert_eq!(select(&both, Some(0), SECOND), Ok(1));
    assert_eq!(select(&both, Some(1), SECOND), Ok(0));
    assert_eq!(select(&[], None, SECOND), Err(RecvError::Closed));
}

#[test]
fn a_channel_bounds_queued_and_held_together() {
    let node = Node::simulated(1);
    let c = node.channel(&NUMBERS, options().capacity(2)).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    p.publish(0).unwrap();
    p.publish(1).unwrap();
    let held = c.try_recv().unwrap();
    assert!(p.try_publish(2).is_err());
    assert_conserved(&c.snapshot());
    drop(held);
    p.try_publish(2).unwrap();
    assert_eq!(c.try_iter().map(|n| *n).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_channel_that_drops_the_oldest_keeps_the_newest() {
    let node = Node::simulated(1);
    let o = options().capacity(2).when_full(WhenFull::DropOldest);
    let c = node.channel(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..5).for_each(|n| drop(p.publish(n).unwrap()));
    assert_conserved(&c.snapshot());
    assert_eq!(c.snapshot().dropped.by(DropCause::Evicted), 3);
    assert_eq!(c.try_iter().map(|n| *n).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn the_first_sample_of_a_channel_after_a_drop_tells_the_gap() {
    let node = Node::simulated(1);
    let o = options().capacity(2).when_full(WhenFull::DropOldest);
    let c = node.channel(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..5).for_each(|n| drop(p.publish(n).unwrap()));
    let seen: Vec<_> = c.try_iter().map(|n| (*n, n.gap())).collect();
    assert_eq!(seen, [(3, 3), (4, 0)]);
}

#[test]
fn a_cancelled_receive_consumes_nothing() {
    let node = Node::simulated(1);
    let s = node.subscription(&NUMBERS).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    let waker = node.waker();
    for n in 0..3 {
        let mut pending = s.recv();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(std::pin::Pin::new(&mut pending).poll(&mut cx).is_pending());
        p.publish(n).unwrap(); // it is woken, and cancelled before it looks
        drop(pending);
        assert_eq!(*s.try_recv().unwrap(), n);
    }
    assert_eq!(s.snapshot().taken, 3);
}

#[test]
fn a_receiver_that_takes_a_sample_leaves_no_other_asleep() {
    let node = roomy(1);
    let s = node.subscription(&NUMBERS).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    let waker = node.waker();
    let mut cx = std::task::Context::from_waker(&waker);
    let (mut first, mut second) = (s.recv(), s.recv());
    assert!(std::pin::Pin::new(&mut first).poll(&mut cx).is_pending());
    assert!(std::pin::Pin::new(&mut second).poll(&mut cx).is_pending());
    p.publish(0).unwrap();
    p.publish(1).unwrap();
    // Out of turn: the second looks before the first, whose turn it was.
    assert_eq!(*second.wait_timeout(SECOND).unwrap(), 0);
    assert_eq!(*first.wait_timeout(SECOND).unwrap(), 1);
}

// ---- inside handlers

struct Pusher(Vec<String>);
struct Push(u32);
struct Faults;
impl Processor for Pusher {
    fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
        self.0.push(fault.to_string());
    }
}
impl Handle<Push> for Pusher {
    type Reply = bool;
    fn handle(&mut self, Push(n): Push, cx: &mut Cx<'_, Self, bool>) -> Outcome<bool> {
        Ok(cx.publish(&NUMBERS, n)?.deferred)
    }
}
impl Handle<Faults> for Pusher {
    type Reply = Vec<String>;
    fn handle(&mut self, _: Faults, _: &mut Cx<'_, Self, Vec<String>>) -> Outcome<Vec<String>> {
        Ok(self.0.clone())
    }
}

#[test]
fn a_publish_in_a_handler_without_room_is_deferred_and_delivered() {
    let node = Node::simulated(1);
    let s = node
        .subscription_with(&NUMBERS, options().capacity(1))
        .unwrap();
    let pusher = node.spawn_thread("pusher", Pusher(Vec::new())).unwrap();
    assert!(!pusher.call(Push(0)).wait().unwrap());
    assert!(pusher.call(Push(1)).wait().unwrap());
    node.settle();
    assert_eq!(values(&s), [0]);
    node.settle();
    assert_eq!(values(&s), [1]);
    assert_eq!(node.dead_letters().count(), 0);
}

#[test]
fn a_deferred_publish_that_never_finds_room_is_a_dead_letter_and_its_processor_is_told() {
    let node = Node::simulated(1);
    let s = node
        .subscription_with(&NUMBERS, options().capacity(1))
        .unwrap();
    let pusher = node.spawn_thread("pusher", Pusher(Vec::new())).unwrap();
    pusher.send(Push(0)).unwrap();
    pusher.send(Push(1)).unwrap();
    node.advance(Duration::from_secs(6));
    let letters = node.dead_letters().recent();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].cause, DropCause::Timeout);
    assert_eq!(letters[0].to_name.as_str(), "numbers");
    let faults = pusher.call(Faults).wait().unwrap();
    assert!(
        faults.len() == 1 && faults[0].contains("numbers"),
        "{faults:?}"
    );
    assert_eq!(values(&s), [0]);
}

// ---- dynamic messages

struct Peer(mpsc::Sender<(&'static str, Msg)>);
impl Processor for Peer {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.subscribe_msgs(TopicId::new(7, 1)).call(|me, m, _| {
            me.0.send(("7:1", m.into_owned()))?;
            Ok(())
        })?;
        cx.subscribe_mid(8).call(|me, m, _| {
            me.0.send(("8:*", m.into_owned()))?;
            Ok(())
        })?;
        Ok(())
    }
}
impl Handle<Msg> for Peer {
    type Reply = ();
    fn handle(&mut self, msg: Msg, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if msg.status == 0 {
            Node::from(&*cx).send(msg.reply(1, Data::Bytes(b"yes"[..].into())))?;
        }
        self.0.send(("direct", msg))?;
        Ok(())
    }
}

#[test]
fn dynamic_messages_go_to_their_receiver_and_answers_come_back() {
    let node = Node::simulated(1);
    let (tell, told) = mpsc::channel();
    let (answer, answered) = mpsc::channel();
    let a = node.spawn_thread("a", Peer(tell)).unwrap();
    let b = node.spawn_thread("b", Peer(answer)).unwrap();
    let (a, b): (Place, Place) = (node.accept_msgs(&a), node.accept_msgs(&b));
    let question = Msg::new(7, 1).from(b).to(a.component(3)).tag(42);
    node.send(question.data(Data::shared(5_i64))).unwrap();
    node.settle();
    let (how, got) = told.try_recv().unwrap();
    assert_eq!((how, got.data.downcast_ref()), ("direct", Some(&5_i64)));
    let (how, got) = answered.try_recv().unwrap();
    assert_eq!((how, got.tag, got.status), ("direct", 42, 1));
    assert_eq!(
        (got.src, got.data.as_bytes()),
        (Some(a.component(3)), Some(&b"yes"[..]))
    );
    assert!(told.try_recv().is_err());
}

#[test]
fn dynamic_messages_without_a_receiver_reach_all_who_subscribe_to_their_kind() {
    let node = Node::simulated(1);
    let (tell, told) = mpsc::channel();
    node.spawn_thread("a", Peer(tell)).unwrap();
    node.settle();
    for (mid, cmd) in [(7, 1), (7, 2), (8, 1), (8, 2), (9, 1)] {
        node.send(Msg::new(mid, cmd)).unwrap();
        node.settle();
    }
    let seen: Vec<_> = told.try_iter().map(|(h, m)| (h, m.mid, m.cmd)).collect();
    assert_eq!(seen, [("7:1", 7, 1), ("8:*", 8, 1), ("8:*", 8, 2)]);
}

#[test]
fn a_dynamic_message_to_nobody_is_not_found() {
    let node = Node::simulated(1);
    let (tell, _told) = mpsc::channel();
    let deaf = node.spawn_thread("a", Peer(tell)).unwrap();
    let error = node.send(Msg::new(1, 1).to(Place::of(deaf.id())));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
}

// ---- values of typed topics as dynamic messages

const COUNT: Topic<u32> = Topic::with_id(TopicId::new(20, 1));
const TEXT: Topic<String> = Topic::with_id(TopicId::new(20, 2));
const MIXED: u32 = 20;

/// Tells each message that it hears.
struct Listener {
    /// `None` for every topic of [`MIXED`].
    to: Option<TopicId>,
    options: Option<SubscriptionOptions<Msg>>,
    controls: mpsc::Sender<mproc::Control>,
    heard: mpsc::Sender<Sample<Msg>>,
}
impl Processor for Listener {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let options = self.options.take().unwrap_or_default();
        let subscribing = match self.to {
            Some(topic) => cx.subscribe_msgs(topic),
            None => cx.subscribe_mid(MIXED),
        };
        let control = subscribing.options(options).call(|me, msg, _| {
            me.heard.send(msg)?;
            Ok(())
        })?;
        self.controls.send(control)?;
        Ok(())
    }
    fn on_error(&mut self, _: Fault, _: &mut Cx<'_, Self>) {}
}

fn listen(
    node: &Node,
    to: Option<TopicId>,
    options: SubscriptionOptions<Msg>,
) -> (mpsc::Receiver<Sample<Msg>>, mproc::Control) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("listener-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let (heard, hears) = mpsc::channel();
    let (controls, control) = mpsc::channel();
    let listener = Listener {
        to,
        options: Some(options),
        controls,
        heard,
    };
    node.spawn_thread(&name, listener).unwrap();
    node.settle();
    (hears, control.try_recv().unwrap())
}

fn hear_all(node: &Node) -> (mpsc::Receiver<Sample<Msg>>, mproc::Control) {
    listen(node, None, SubscriptionOptions::new())
}

fn counts(hears: &mpsc::Receiver<Sample<Msg>>) -> Vec<(u32, u64)> {
    let count = |m: &Sample<Msg>| *m.data.downcast_ref::<u32>().unwrap();
    hears.try_iter().map(|m| (count(&m), m.gap())).collect()
}

#[test]
fn values_of_typed_topics_come_to_listeners_of_their_mid_and_share_one_sample() {
    const FRAGILE: Topic<Precious> = Topic::local_with_id(TopicId::new(MIXED, 3));
    let node = Node::simulated(1);
    let early = node.publisher(&COUNT).unwrap(); // declared before
    let (hears, _) = hear_all(&node);
    let (hears_one, _) = listen(&node, Some(FRAGILE.id()), SubscriptionOptions::new());
    let late = node.publisher(&TEXT).unwrap(); // and after
    let elsewhere: Topic<u32> = Topic::with_id(TopicId::new(MIXED + 1, 1));
    assert_eq!(early.publish(5).unwrap().count, 1);
    node.settle();
    assert_eq!(late.publish("hot".into()).unwrap().count, 1);
    node.settle();
    let other = node.publisher(&elsewhere).unwrap();
    assert_eq!(other.publish(6).unwrap().count, 0);
    let heard: Vec<_> = hears.try_iter().collect();
    let kinds: Vec<_> = heard.iter().map(|m| (m.mid, m.cmd)).collect();
    assert_eq!(kinds, [(MIXED, 1), (MIXED, 2)]);
    assert_eq!(heard[0].data.downcast_ref(), Some(&5_u32));
    assert_eq!(heard[1].data.downcast_ref::<u32>(), None);
    assert_eq!((heard[1].src, heard[1].dst), (None, None));
    let text = heard[1].data.sample::<String>().unwrap();
    assert_eq!((text.as_str(), text.publisher()), ("hot", late.id()));
    assert_eq!((heard[1].number(), text.number()), (1, 1));
    assert_eq!(heard[1].encoded(), text.encoded());

    let typed = node.subscription(&FRAGILE).unwrap();
    let copies = Arc::new(AtomicUsize::new(0));
    let fragile = node.publisher(&FRAGILE).unwrap();
    let precious = Precious(copies.clone());
    assert_eq!(fragile.publish(precious).unwrap().count, 3);
    node.settle();
    let typed = typed.try_recv().unwrap();
    for hears in [hears, hears_one] {
        let msg = hears.try_recv().unwrap().into_owned();
        let value = msg.data.downcast_ref::<Precious>().unwrap();
        assert!(std::ptr::eq(value, &raw const *typed));
    }
    assert_eq!(copies.load(Ordering::SeqCst), 0);
}

#[test]
fn slices_are_heard_in_the_memory_that_their_publisher_filled() {
    const FRAMES: Topic<[u8]> = Topic::slices("frames");
    let node = Node::simulated(1);
    let (hears, _) = listen(&node, Some(FRAMES.id()), SubscriptionOptions::new());
    let mut loan = node.publisher(&FRAMES).unwrap().loan(3).unwrap();
    loan.copy_from_slice(b"RGB");
    let filled = loan.as_ptr();
    loan.publish().unwrap();
    node.settle();
    let msg = hears.try_recv().unwrap();
    let frame = msg.data.sample::<[u8]>().unwrap();
    assert_eq!((&**frame, frame.as_ptr()), (&b"RGB"[..], filled));
    assert_eq!(msg.topic_id(), FRAMES.id());
}

#[test]
fn a_value_heard_as_a_message_is_leased_until_the_last_duplicate_is_dropped() {
    let node = Node::simulated(1);
    let (hears, _) = hear_all(&node);
    let one = PublisherOptions::new().in_flight(1);
    let p = node.publisher_with(&COUNT, one).unwrap();
    p.try_publish(1).unwrap();
    node.settle();
    let sample = hears.try_recv().unwrap();
    let msg = sample.into_owned(); // its sample is gone, its message is not
    let dup = msg.dup();
    drop(msg);
    assert!(matches!(p.try_publish(2), Err(PublishError::Full { .. })));
    assert!(p.flush(SECOND).is_err());
    drop(dup);
    p.flush(Duration::ZERO).unwrap();
    p.try_publish(2).unwrap();
    node.settle();
    let msg = hears.try_recv().unwrap().into_owned();
    let kept = msg.data.sample::<u32>().unwrap().clone();
    drop(msg);
    assert!(p.try_publish(3).is_err());
    drop(kept);
    p.try_publish(3).unwrap();
}

#[test]
fn a_value_heard_as_a_message_is_leased_until_its_handler_returns() {
    struct Looker(Publisher<u32>, mpsc::Sender<(u64, bool)>);
    impl Processor for Looker {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.subscribe_mid(MIXED).map(Sample::into_owned)?;
            Ok(())
        }
    }
    impl Handle<Msg> for Looker {
        type Reply = ();
        fn handle(&mut self, _: Msg, _: &mut Cx<'_, Self>) -> Outcome<()> {
            let full = self.0.try_publish(0).is_err();
            self.1.send((self.0.snapshot().in_flight, full))?;
            Ok(())
        }
    }
    let node = Node::simulated(1);
    let one = PublisherOptions::new().in_flight(1);
    let p = node.publisher_with(&COUNT, one).unwrap();
    let (tell, told) = mpsc::channel();
    node.spawn_thread("looker", Looker(p.clone(), tell))
        .unwrap();
    node.settle();
    for n in 1..4 {
        p.try_publish(n).unwrap();
        node.settle();
        assert_eq!(told.try_recv(), Ok((1, true)));
        assert_eq!(p.snapshot().outstanding, 0);
    }
}

#[test]
fn a_kept_message_counts_once_against_the_bound_on_leases() {
    let node = roomy(1);
    let (hears, control) = listen(&node, None, SubscriptionOptions::new().max_leases(2));
    let p = node.publisher(&COUNT).unwrap();
    (0..4).for_each(|n| drop(p.publish(n).unwrap()));
    node.settle();
    let mut kept: Vec<Msg> = hears.try_iter().map(Sample::into_owned).collect();
    assert_eq!((kept.len(), control.snapshot().unwrap().held), (2, 2));
    kept.remove(0);
    node.settle();
    assert_eq!(hears.try_iter().count(), 1);
}

#[test]
fn a_listener_pushes_back_as_any_subscription_and_all_or_nobody_gets_a_value() {
    let node = roomy(1);
    let typed = node.subscription(&COUNT).unwrap();
    let (hears, control) = listen(&node, None, SubscriptionOptions::new().capacity(1));
    control.pause();
    let (count, text) = (node.publisher(&COUNT), node.publisher(&TEXT));
    let (count, text) = (count.unwrap(), text.unwrap());
    // One place for both topics: alone on the second, and beside another on the first.
    text.publish("first".into()).unwrap();
    assert_eq!(
        text.try_publish("no".into()).unwrap_err().into_inner(),
        Some("no".into())
    );
    let before = node.now();
    let PublishError::Timeout { value, full } = count.publish_timeout(1, SECOND).unwrap_err()
    else {
        panic!("it times out");
    };
    assert_eq!((node.now() - before, value), (SECOND, 1));
    assert!(full.len() == 1 && full[0].contains("listener"), "{full:?}");
    assert_eq!(values(&typed), []);
    assert_eq!(control.snapshot().unwrap().offered, 1);
    control.resume();
    count.publish(2).unwrap(); // waits for the place
    node.settle();
    let (first, second) = (hears.try_recv().unwrap(), hears.try_recv().unwrap());
    assert_eq!(first.data.downcast_ref::<String>().unwrap(), "first");
    assert_eq!(second.data.downcast_ref(), Some(&2_u32));
    assert_eq!(values(&typed), [2]);
    assert_conserved(&control.snapshot().unwrap());
}

#[test]
fn a_lossy_listener_holds_nobody_back_and_is_told_the_gap() {
    for (when_full, told, cause) in [
        (WhenFull::DropOldest, [(3, 3), (4, 0)], DropCause::Evicted),
        (WhenFull::DropNewest, [(0, 0), (1, 0)], DropCause::NoRoom),
    ] {
        let node = Node::simulated(1);
        let o = SubscriptionOptions::new().capacity(2).when_full(when_full);
        let (hears, control) = listen(&node, Some(COUNT.id()), o);
        let p = node.publisher(&COUNT).unwrap();
        control.pause();
        (0..5).for_each(|n| drop(p.try_publish(n).unwrap()));
        assert_eq!(p.snapshot().outstanding, 2);
        control.resume();
        node.settle();
        let inner = |m: &Sample<Msg>| m.data.sample::<u32>().unwrap().gap();
        let heard: Vec<_> = hears.try_iter().collect();
        assert!(heard.iter().all(|m| inner(m) == m.gap()));
        let values = heard.iter().map(|m| *m.data.downcast_ref::<u32>().unwrap());
        let heard: Vec<_> = values.zip(heard.iter().map(|m| m.gap())).collect();
        assert_eq!(heard, told);
        let shot = control.snapshot().unwrap();
        assert_eq!(shot.dropped.by(cause), 3);
        assert_eq!(node.dead_letters().count(), 3);
        assert_conserved(&shot);
    }
}

#[test]
fn a_late_listener_gets_history_first() {
    let node = roomy(1);
    let o = PublisherOptions::new().history(2);
    let p = node.publisher_with(&COUNT, o).unwrap();
    (0..3).for_each(|n| drop(p.publish(n).unwrap()));
    let (hears, _) = hear_all(&node);
    p.publish(3).unwrap();
    node.settle();
    assert_eq!(counts(&hears), [(1, 0), (2, 0), (3, 0)]);
}

#[test]
fn a_listener_filters_by_the_value() {
    let node = roomy(1);
    let even = SubscriptionOptions::new().capacity(1).filter(|m: &Msg| {
        m.data
            .downcast_ref()
            .is_some_and(|n: &u32| n.is_multiple_of(2))
    });
    let (hears, _) = listen(&node, None, even);
    let p = node.publisher(&COUNT).unwrap();
    assert_eq!(p.publish(1).unwrap().count, 0);
    p.publish(2).unwrap();
    assert_eq!(p.try_publish(4).unwrap_err().into_inner(), Some(4));
    p.try_publish(5).unwrap();
    node.settle();
    assert_eq!(counts(&hears), [(2, 0)]);
}

#[test]
fn with_no_listener_left_a_publish_does_nothing() {
    let node = Node::simulated(1);
    let (hears, control) = hear_all(&node);
    let p = node.publisher(&COUNT).unwrap();
    p.publish(0).unwrap();
    control.unsubscribe(); // and what is queued is given back
    assert_eq!(p.publish(1).unwrap().count, 0);
    assert_eq!((p.snapshot().published, p.snapshot().outstanding), (1, 0));
    node.settle();
    assert_eq!(counts(&hears), []);
}

#[test]
fn events_tell_that_listeners_join_topics_of_now_and_later() {
    let node = roomy(1);
    let events = node.events().unwrap();
    let now = node.publisher(&COUNT).unwrap();
    let (_hears, control) = hear_all(&node);
    let later = node.publisher(&TEXT).unwrap();
    control.unsubscribe();
    let joined_and_left = |topic_id: TopicId| {
        let topic = topic_id.to_string();
        let joined = Event::SubscriberMatched {
            topic: topic.clone(),
            subscribers: 1,
        };
        let subscribers = 0;
        [joined, Event::SubscriberUnmatched { topic, subscribers }]
    };
    let seen: Vec<Event> = events.try_iter().map(Sample::into_owned).collect();
    for topic in [now.topic_id(), later.topic_id()] {
        let of_subscribers = |event: &&Event| {
            event.topic() == topic.to_string() && !matches!(event, Event::PublisherMatched { .. })
        };
        let seen: Vec<Event> = seen.iter().filter(of_subscribers).cloned().collect();
        assert_eq!(seen, joined_and_left(topic));
    }
}

#[test]
fn a_publish_deferred_by_its_handler_reaches_listeners() {
    let node = Node::simulated(1);
    let (hears, control) = listen(&node, None, SubscriptionOptions::new().capacity(1));
    let pusher = closure(|n: u32, cx: &mut Cx<'_, _>| cx.publish(&COUNT, n).map(drop));
    let pusher = node.spawn_thread("pusher", pusher).unwrap();
    control.pause();
    for n in 0..3 {
        pusher.try_send(n).unwrap();
        node.settle();
    }
    control.resume();
    node.settle();
    assert_eq!(counts(&hears), [(0, 0), (1, 0), (2, 0)]);
    assert_eq!(node.dead_letters().count(), 0);
}

#[test]
fn a_script_listens_to_a_mid() {
    let node = Node::simulated(1);
    let mut script = node.script().unwrap();
    let (tell, told) = mpsc::channel();
    script.spawn("peer", Peer(tell)).unwrap();
    let p = node.publisher(&Topic::<u32>::with_id(TopicId::new(8, 5)));
    let p = p.unwrap();
    script.spin_some(10).unwrap();
    p.publish(9).unwrap();
    assert_eq!(script.spin_some(10).unwrap().handled, 1);
    let (how, msg) = told.try_recv().unwrap();
    assert_eq!((how, msg.cmd), ("8:*", 5));
    assert_eq!(msg.data.downcast_ref(), Some(&9_u32));
}

#[test]
fn a_topic_has_one_type_so_a_message_does_not_become_a_value() {
    let node = Node::simulated(1);
    let typed = node.subscription(&COUNT).unwrap();
    let msg = Msg::new(MIXED, 1).data(Data::shared(1_u32));
    let error = node.send(msg).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeConflict);
    let text = error.to_string();
    assert!(text.contains("u32") && text.contains("Msg"), "{text}");
    assert_eq!(values(&typed), []);
}

/// A node whose queues have their ordinary room whatever `MPROC_CAPACITY` says: for claims that need several places.
fn roomy(seed: u64) -> Node {
    Node::simulated_with(seed, mproc::Options::default())
}
