//! What is told of subscriptions while they run: a bounded subscription of events, which holds nobody back.

use super::*;
use mproc::{AfterPanic, ErrorKind, Event, Spun};

const NUMBERS: Topic<u64> = Topic::new("numbers");

/// Waits for an event of this kind.
fn hear<R>(events: &Subscription<Event>, is_it: impl Fn(&Event) -> Option<R>) -> R {
    loop {
        if let Some(it) = is_it(&recv(events)) {
            return it;
        }
    }
}

/// What was told until now, without who came and went.
fn told(events: &Subscription<Event>) -> Vec<Event> {
    let all = events.try_iter().map(|event| (*event).clone());
    all.filter(|event| {
        !matches!(
            event,
            Event::SubscriberMatched { .. }
                | Event::SubscriberUnmatched { .. }
                | Event::PublisherMatched { .. }
                | Event::PublisherUnmatched { .. }
        )
    })
    .collect()
}

fn simulated() -> Node {
    Node::simulated_with(1, mproc::Options::default())
}

#[test]
fn pauses_are_told_to_who_listens_to_events() {
    both(|pair| {
        let events = pair.subscribe.events().unwrap();
        let numbers = pair.subscribe.subscription(&NUMBERS).unwrap();
        numbers.pause();
        numbers.pause();
        numbers.control().resume();
        numbers.resume();
        let (topic, subscription) = ("numbers".to_owned(), numbers.id());
        let paused = Event::Paused {
            topic: topic.clone(),
            subscription,
        };
        let resumed = Event::Resumed {
            topic,
            subscription,
        };
        assert_eq!(told(&events), [paused, resumed]);
    });
}

#[test]
fn lost_samples_are_told_with_their_count() {
    both(|pair| {
        let events = pair.subscribe.events().unwrap();
        let publishers_events = pair.publish.events().unwrap();
        let newest = options(2, WhenFull::DropOldest);
        let lossy = pair.subscribe.subscription_with(&NUMBERS, newest).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        (0..7).for_each(|n| _ = numbers.publish(n).unwrap());
        let sum = |events: &Subscription<Event>| {
            let mut sum = 0;
            while sum < 5 {
                sum += hear(events, |event| match event {
                    Event::Dropped { topic, count, .. } if topic == "numbers" => Some(*count),
                    _ => None,
                });
            }
            sum
        };
        // By the process that publishes when it happens, by the other when it finds the gap.
        assert_eq!(sum(&publishers_events), 5);
        assert_eq!(recv(&lossy).gap(), 5);
        assert_eq!(sum(&events), 5);
    });
}

#[test]
fn a_queue_is_told_to_be_high_and_then_low() {
    let node = simulated();
    let events = node.events().unwrap();
    let marked = SubscriptionOptions::new().capacity(10).water_marks(2, 5);
    let subscription = node.subscription_with(&NUMBERS, marked).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    let event = |is_high, queued| {
        let (topic, subscription) = ("numbers".to_owned(), subscription.id());
        if is_high {
            Event::QueueHigh {
                topic,
                subscription,
                queued,
            }
        } else {
            Event::QueueLow {
                topic,
                subscription,
                queued,
            }
        }
    };
    for _ in 0..2 {
        (0..4).for_each(|n| _ = numbers.publish(n).unwrap());
        assert_eq!(told(&events), []);
        (4..9).for_each(|n| _ = numbers.publish(n).unwrap());
        assert_eq!(told(&events), [event(true, 5)]);
        assert_eq!(subscription.run_pending(6, drop), 6);
        assert_eq!(told(&events), []);
        assert_eq!(subscription.run_pending(9, drop), 3);
        assert_eq!(told(&events), [event(false, 2)]);
    }
}

#[test]
fn a_processors_queue_is_told_to_be_high_and_then_low() {
    let node = simulated();
    let events = node.events().unwrap();
    let mut script = node.script().unwrap();
    let marked = SubscriptionOptions::new().capacity(3).water_marks(0, 3);
    script.on_with(&NUMBERS, marked, |_, _, _| ()).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    (0..3).for_each(|n| _ = numbers.publish(n).unwrap());
    assert!(matches!(
        told(&events)[..],
        [Event::QueueHigh { queued: 3, .. }]
    ));
    script.spin_some(2).unwrap();
    assert_eq!(told(&events), []);
    script.spin_some(1).unwrap();
    assert!(matches!(
        told(&events)[..],
        [Event::QueueLow { queued: 0, .. }]
    ));
}

#[test]
fn marks_that_make_no_sense_are_refused() {
    let node = simulated();
    for (low, high) in [(2, 2), (3, 2), (1, 5)] {
        let marked = || {
            SubscriptionOptions::new()
                .capacity(4)
                .water_marks(low, high)
        };
        let refused = node.subscription_with(&NUMBERS, marked());
        assert_eq!(kind(refused), Some(ErrorKind::InvalidSetting));
    }
    let marked = SubscriptionOptions::new().capacity(4).water_marks(1, 4);
    assert_eq!(
        kind(node.channel(&NUMBERS, marked)),
        Some(ErrorKind::InvalidSetting)
    );
}

/// Panics at one.
struct Clumsy;

impl Processor for Clumsy {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.subscribe(&NUMBERS).samples()?;
        Ok(())
    }

    fn on_panic(&mut self, _: &str) -> AfterPanic {
        AfterPanic::GoOn
    }
}

impl Handle<Sample<u64>> for Clumsy {
    type Reply = ();
    fn handle(&mut self, n: Sample<u64>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        assert_ne!(*n, 1, "on purpose");
        Ok(())
    }
}

#[test]
fn a_panic_of_a_handler_is_told() {
    both(|pair| {
        let events = pair.subscribe.events().unwrap();
        let _clumsy = pair.subscribe.spawn_thread("clumsy", Clumsy).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        (0..3).for_each(|n| _ = numbers.publish(n).unwrap());
        let who = hear(&events, |event| match event {
            Event::HandlerPanicked {
                topic, processor, ..
            } => Some(format!("{processor} at {topic}")),
            _ => None,
        });
        assert_eq!(who, "clumsy at numbers");
        numbers.flush(LONG).unwrap();
    });
}

#[test]
fn a_lease_that_is_held_long_is_told_once_while_it_is_held() {
    let node = simulated();
    let events = node.events().unwrap();
    let second = Duration::from_secs(1);
    let warns = SubscriptionOptions::new().lease_warning(second);
    let subscription = node.subscription_with(&NUMBERS, warns).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    (0..3).for_each(|n| _ = numbers.publish(n).unwrap());
    let quick = subscription.try_recv().unwrap();
    node.advance(second / 2);
    let slow = subscription.try_recv().unwrap();
    drop(quick);
    node.advance(second * 3 / 4);
    // The first was let go of in time, and the second is not held that long yet.
    assert_eq!(told(&events), []);
    node.advance(second / 2);
    match &told(&events)[..] {
        [
            Event::LeaseHeld {
                topic,
                subscription: id,
                held_ns,
            },
        ] => {
            assert_eq!((topic.as_str(), *id), ("numbers", subscription.id()));
            assert!(
                (1_000_000_000..1_250_000_001).contains(held_ns),
                "{held_ns}"
            );
        }
        other => panic!("{other:?}"),
    }
    node.advance(second * 10);
    assert_eq!(told(&events), []);
    drop(slow);
    // And again for the next.
    let _again = subscription.try_recv().unwrap();
    node.advance(second * 2);
    assert!(matches!(told(&events)[..], [Event::LeaseHeld { .. }]));
}

#[test]
fn silence_is_told_once_for_each_silence_to_who_listens_to_events() {
    let node = simulated();
    let events = node.events().unwrap();
    let second = Duration::from_secs(1);
    let quiet = SubscriptionOptions::new().silence(second);
    let subscription = node.subscription_with(&NUMBERS, quiet).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    node.advance(second / 2);
    numbers.publish(1).unwrap();
    // It waits to be received: that is no silence.
    node.advance(second * 5);
    assert_eq!(told(&events), []);
    drop(subscription.try_recv().unwrap());
    node.advance(second * 3 / 4);
    assert_eq!(told(&events), []);
    for _ in 0..2 {
        node.advance(second * 3);
        match &told(&events)[..] {
            [
                Event::Silent {
                    topic,
                    subscription: id,
                    silent_ns,
                },
            ] => {
                assert_eq!((topic.as_str(), *id), ("numbers", subscription.id()));
                assert!(*silent_ns >= 1_000_000_000, "{silent_ns}");
            }
            other => panic!("{other:?}"),
        }
        node.advance(second * 10);
        assert_eq!(told(&events), []);
        // Something comes, and then nothing again.
        numbers.publish(2).unwrap();
        drop(subscription.try_recv().unwrap());
    }
    drop(subscription);
    node.advance(second * 10);
    assert_eq!(told(&events), []);
}

#[test]
fn silence_of_another_process_is_told() {
    both(|pair| {
        let events = pair.subscribe.events().unwrap();
        let quiet = SubscriptionOptions::new().silence(Duration::from_millis(1));
        let subscription = pair.subscribe.subscription_with(&NUMBERS, quiet).unwrap();
        let is_silence = |event: &Event| match event {
            Event::Silent { silent_ns, .. } => Some(*silent_ns),
            _ => None,
        };
        assert!(hear(&events, is_silence) >= 1_000_000);
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.publish(1).unwrap();
        drop(recv(&subscription));
        assert!(hear(&events, is_silence) >= 1_000_000);
    });
}

#[test]
fn a_lease_that_another_process_waits_for_is_told() {
    both(|pair| {
        let events = pair.subscribe.events().unwrap();
        let warns = SubscriptionOptions::new().lease_warning(Duration::from_millis(1));
        let subscription = pair.subscribe.subscription_with(&NUMBERS, warns).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.publish(1).unwrap();
        let held = recv(&subscription);
        let since = hear(&events, |event| match event {
            Event::LeaseHeld { held_ns, .. } => Some(*held_ns),
            _ => None,
        });
        assert!(since >= 1_000_000, "{since}");
        drop(held);
        numbers.flush(LONG).unwrap();
    });
}

/// Every subscription that could make events of events is full and lossy: each event that is dropped there would be the
/// next event.
#[test]
fn events_make_no_events_of_themselves() {
    let node = simulated();
    fn one<T: ?Sized>() -> SubscriptionOptions<T> {
        options(1, WhenFull::DropOldest)
    }
    let listener = node.events().unwrap();
    let by_topic = node.subscription_with(&mproc::EVENTS, one()).unwrap();
    let by_pattern = node.subscription_matching("mproc/**", one()).unwrap();
    let copied = Topic::<Event>::new("copied");
    node.connect(mproc::EVENTS.name(), "copied").unwrap();
    let connected = node
        .subscription_with(&copied, one().water_marks(0, 1))
        .unwrap();
    let lossy = node.subscription_with(&NUMBERS, one()).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    told(&listener);
    (0..4).for_each(|n| _ = numbers.publish(n).unwrap());
    // Three were dropped, and that is all that is told.
    let dropped = |event: &Event| match event {
        Event::Dropped {
            subscription,
            count: 1,
            ..
        } => *subscription == lossy.id(),
        _ => false,
    };
    let all = told(&listener);
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all.iter().all(dropped));
    for other in [&by_topic, &by_pattern, &connected] {
        assert!(dropped(&recv(other)));
        other.pause();
    }
    let more = told(&listener);
    // Of the one that gets them by a connection it is told that it is paused: nothing follows from that.
    assert!(
        matches!(&more[..], [Event::Paused { topic, .. }] if topic == "copied"),
        "{more:?}"
    );
}

/// Nobody reads the events, and a handler that panics at each sample keeps making more.
#[test]
fn events_that_nobody_reads_hold_nobody_back() {
    both(|pair| {
        let _unread = pair.subscribe.events().unwrap();
        let mut script = pair.subscribe.script().unwrap().with(0);
        script
            .on(&NUMBERS, |seen, n: Sample<u64>, _| {
                *seen += 1;
                assert!(*n > 1000, "on purpose");
            })
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        for n in 0..200 {
            numbers.publish(n).unwrap();
            assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
        }
        assert_eq!(script.state(|seen| *seen).unwrap(), 200);
    });
}
