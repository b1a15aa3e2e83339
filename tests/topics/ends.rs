//! Who comes and goes, silence, and the end of a node.

use crate::{NUMBERS, OTHERS, SECOND, options, roomy};
use mproc::prelude::*;
use mproc::{ErrorKind, Event, Fault, Msg, Outcome, PublishError, RecvError, closure};
use std::sync::mpsc;

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
