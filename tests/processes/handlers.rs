//! Rows: handlers that panic or keep what they got, and queues that are full. Nobody dies.

use super::*;

#[test]
fn handler_that_panics_gives_its_sample_back_and_gets_the_next() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "handle panic");
        publish(&frames, 0..3, 1000);
        flush(&frames);
        assert_eq!(frames.subscriber_count(), 1);
        actor.leave();
        let said = actor.stop_and_read();
        assert_eq!(said.matches("mproc: processor").count(), 3, "{said}");
        drop((frames, actor));
        end(node);
    });
}

#[test]
fn processor_that_ends_by_a_panic_gives_all_back() {
    struct Strict;
    impl Processor for Strict {}
    impl Handle<Sample<[u8]>> for Strict {
        type Reply = ();
        fn handle(&mut self, sample: Sample<[u8]>, _: &mut Cx<'_, Self>) -> Outcome<()> {
            panic!("of {:?}", payload::check(&sample).unwrap());
        }
    }
    alone(|place| {
        let node = place.node();
        let strict = node.spawn_thread("strict", Strict).unwrap();
        strict
            .with_processor(|_, cx| drop(cx.subscribe(&FRAMES).samples().unwrap()))
            .unwrap();
        let mut actor = place.actor();
        actor.ask("declare 1", "declared");
        actor.ask("publish 3 1000", "published");
        // It publishes to nobody, without waiting.
        until("it has ended", || strict.is_closed());
        actor.ask("publish 200 1000", "published");
        actor.leave();
        drop((strict, actor));
        end(node);
    });
}

#[test]
fn handler_that_leaks_reaches_its_bound_and_is_seen() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 8 3");
        publish(&frames, 0..5, 1000);
        actor.ask("take 3", "took");
        actor.ask("leak", "leaked 3");
        // Two wait, and are not handed out any more.
        actor.ask("try", "has Empty");
        let link = &links(&node)[0];
        assert_eq!((link.held, link.queued), (3, 2));
        match loan(&frames, 5, 1000).try_publish() {
            Ok(delivered) => assert_eq!(delivered.count, 1),
            Err(error) => panic!("{error:?}"),
        }
        assert!(frames.flush(Duration::from_millis(20)).is_err());
        actor.kill();
        flush(&frames);
        place.forgets(&actor);
        drop((frames, actor));
        end(node);
    });
}

/// The survivor's own handler leaks: the bound is the survivor's, and its age is known.
#[test]
fn survivor_that_leaks_sees_the_age_of_what_it_holds() {
    alone(|place| {
        let node = place.node();
        let options = options(8, WhenFull::DropOldest).max_leases(2);
        let subscription = node.subscription_with(&FRAMES, options).unwrap();
        let mut actor = place.actor();
        actor.ask("declare 1", "declared");
        actor.ask("publish 4 1000", "published");
        let held = [
            subscription.recv_timeout(LONG).unwrap(),
            subscription.recv_timeout(LONG).unwrap(),
        ];
        assert_eq!(subscription.try_recv().err(), Some(TryRecvError::Empty));
        let snapshot = subscription.snapshot();
        assert_eq!((snapshot.held, snapshot.queued), (2, 2));
        assert!(snapshot.held_ns_max.is_some());
        // It may as well be killed: the bound stays.
        actor.kill();
        place.forgets(&actor);
        assert_eq!(subscription.try_recv().err(), Some(TryRecvError::Empty));
        drop(held);
        assert_eq!(subscription.try_iter().count(), 2);
        drop((subscription, actor));
        end(node);
    });
}

#[test]
fn full_queue_does_what_its_policy_says() {
    alone(|place| {
        for when_full in WhenFull::ALL {
            println!("{when_full:?}");
            let node = place.node();
            let mut actor = place.actor();
            let line = format!("subscribe {when_full:?} 3 8");
            let frames = place.publisher(&node, &mut actor, &line);
            publish(&frames, 0..1, 1000);
            let room = if when_full == WhenFull::Latest { 1 } else { 3 };
            publish(&frames, 1..room, 1000);
            let over = loan(&frames, room, 1000);
            match (when_full, over.try_publish()) {
                (WhenFull::Wait, Err(PublishError::Full { full, .. })) => {
                    assert!(full[0].contains(&actor.label()), "{full:?}");
                }
                (WhenFull::DropOldest | WhenFull::Latest, Ok(delivered)) => {
                    assert_eq!((delivered.count, delivered.refused.len()), (1, 0));
                }
                (WhenFull::DropNewest, Ok(delivered)) => {
                    assert_eq!((delivered.count, delivered.refused.len()), (0, 0));
                }
                (WhenFull::Fail | WhenFull::Disconnect, Ok(delivered)) => {
                    assert_eq!((delivered.count, delivered.refused.len()), (0, 1));
                }
                (_, other) => panic!("{other:?}"),
            }
            let taken = actor.numbers(&format!("take {room}"), "took");
            let expected = match when_full {
                WhenFull::DropOldest => [1, 3, 1],
                WhenFull::Latest => [1, 1, 1],
                _ => [0, 2, 0],
            };
            assert_eq!(taken, expected);
            let next = match when_full {
                WhenFull::Disconnect => "has Disconnected",
                _ => "has Empty",
            };
            actor.ask("try", next);
            actor.ask("drop", "dropped");
            flush(&frames);
            actor.leave();
            drop((frames, actor));
            end(node);
        }
    });
}
