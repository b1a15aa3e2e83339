//! Rows: a process is stopped (SIGSTOP) and goes on later (SIGCONT). It is not dead: nothing is taken from it, however long it
//! takes, and nobody waits for it longer than it said.

use super::*;

#[test]
fn stopped_subscriber_that_must_miss_nothing_is_named_when_the_publisher_gives_up() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 4 4");
        publish(&frames, 0..2, 1000);
        actor.ask("take 2", "took");
        actor.stop();
        publish(&frames, 2..6, 1000);
        let waits = mproc::PublisherOptions::new().limit(Duration::from_millis(20));
        let impatient = node.publisher_with(&FRAMES, waits).unwrap();
        for _ in 0..3 {
            match loan(&impatient, 6, 1000).publish() {
                Err(PublishError::Timeout { full, .. }) => {
                    assert_eq!(full.len(), 1);
                    assert!(full[0].contains(&actor.label()), "{full:?}");
                }
                other => panic!("{other:?}"),
            }
        }
        drop(impatient);
        // All that it has stays with it.
        assert!(frames.flush(Duration::from_millis(20)).is_err());
        assert_eq!(frames.snapshot().outstanding, 6);
        assert_eq!(frames.subscriber_count(), 1);
        assert_eq!((links(&node)[0].held, links(&node)[0].queued), (2, 4));
        actor.go_on();
        actor.ask("check", "whole 2");
        actor.ask("drop", "dropped");
        assert_eq!(actor.numbers("take 4", "took"), [2, 5, 0]);
        actor.ask("drop", "dropped");
        publish(&frames, 6..8, 1000);
        assert_eq!(actor.numbers("take 2", "took"), [6, 7, 0]);
        actor.ask("drop", "dropped");
        flush(&frames);
        actor.leave();
        drop((frames, actor));
        end(node);
    });
}

#[test]
fn stopped_subscriber_that_may_miss_some_knows_exactly_how_many() {
    alone(|place| {
        use WhenFull::{DropNewest, DropOldest, Fail, Latest};
        for when_full in [DropOldest, DropNewest, Latest, Fail] {
            println!("{when_full:?}");
            let node = place.node();
            let mut actor = place.actor();
            let line = format!("subscribe {when_full:?} 4 8");
            let frames = place.publisher(&node, &mut actor, &line);
            publish(&frames, 0..1, 1000);
            actor.ask("take 1", "took");
            actor.stop();
            publish(&frames, 1..101, 1000);
            looked(&frames);
            let link = &links(&node)[0];
            let places = if when_full == Latest { 1 } else { 4 };
            assert_eq!((link.held, link.queued), (1, places));
            assert_eq!(link.offered, 101);
            let (dropped, refused) = match when_full {
                Fail => (0, 96),
                Latest => (99, 0),
                _ => (96, 0),
            };
            assert_eq!((link.dropped.total(), link.refused), (dropped, refused));
            assert_eq!(frames.snapshot().outstanding, 1 + places);
            actor.go_on();
            actor.ask("check", "whole 1");
            let taken = actor.numbers(&format!("take {places}"), "took");
            match when_full {
                DropOldest => assert_eq!(taken, [97, 100, 96]),
                Latest => assert_eq!(taken, [100, 100, 99]),
                // What was lost after them shows with the next.
                _ => assert_eq!(taken, [1, 4, 0]),
            }
            actor.ask("drop", "dropped");
            publish(&frames, 101..102, 1000);
            let gap = if matches!(when_full, DropNewest | Fail) {
                96
            } else {
                0
            };
            assert_eq!(actor.numbers("take 1", "took"), [101, 101, gap]);
            actor.ask("drop", "dropped");
            flush(&frames);
            actor.leave();
            drop((frames, actor));
            end(node);
        }
    });
}

#[test]
fn stopped_subscriber_that_asked_for_it_is_disconnected() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Disconnect 4 8");
        publish(&frames, 0..1, 1000);
        actor.ask("take 1", "took");
        actor.stop();
        publish(&frames, 1..5, 1000);
        let delivered = loan(&frames, 5, 1000).publish();
        let delivered = delivered.map_err(|error| format!("{error:?}")).unwrap();
        assert_eq!((delivered.count, delivered.refused.len()), (0, 1));
        assert!(delivered.refused[0].label.contains(&actor.label()));
        // What it has is its own until it says otherwise.
        assert!(frames.flush(Duration::from_millis(20)).is_err());
        actor.go_on();
        assert_eq!(actor.numbers("take 4", "took"), [1, 4, 0]);
        actor.ask("try", "has Disconnected");
        actor.ask("check", "whole 5");
        actor.ask("drop", "dropped");
        flush(&frames);
        actor.leave();
        drop((frames, actor));
        end(node);
    });
}

#[test]
fn stopped_inside_a_handler_the_sample_is_not_taken_from_it() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "handle");
        publish(&frames, 0..2, 100_000);
        actor.hear("in handler 0");
        actor.stop();
        publish(&frames, 2..10, 100_000);
        assert!(frames.flush(Duration::from_millis(20)).is_err());
        actor.go_on();
        for n in 0..10 {
            if n > 0 {
                actor.hear(&format!("in handler {n}"));
            }
            actor.ask("go", &format!("returns {n}"));
        }
        flush(&frames);
        actor.leave();
        drop((frames, actor));
        end(node);
    });
}

#[test]
fn stopped_and_then_killed_all_comes_back() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 4 4");
        publish(&frames, 0..4, 1000);
        actor.ask("take 2", "took");
        actor.stop();
        assert!(frames.flush(Duration::from_millis(20)).is_err());
        actor.kill();
        flush(&frames);
        place.forgets(&actor);
        drop((frames, actor));
        end(node);
    });
}

#[test]
fn stopped_publisher_is_there_and_silent() {
    alone(|place| {
        let node = place.node();
        let mut watched = Watched::new(&node, 8, WhenFull::Wait);
        let mut actor = place.actor();
        actor.ask("declare 1", "declared");
        actor.ask("publish 3 1000", "published");
        actor.stop();
        let held = watched.recv();
        assert_eq!(watched.rest(), [1, 2]);
        let nothing = watched.subscription.recv_timeout(Duration::from_millis(20));
        assert_eq!(nothing.err(), Some(RecvError::Timeout));
        watched.subscription.wait_for_publishers(1, LONG).unwrap();
        assert_eq!(place.files().len(), 2);
        actor.go_on();
        actor.ask("publish 2 1000", "published 5");
        drop(watched.recv());
        drop(watched.recv());
        assert_eq!(payload::check(&held).unwrap().1, 0);
        drop((held, watched));
        actor.leave();
        drop(actor);
        end(node);
    });
}

/// Who is stopped for longer than this process lives finds out when it goes on.
#[test]
fn stopped_while_the_survivor_ends_and_another_takes_its_place() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 8 8");
        publish(&frames, 0..3, 1000);
        actor.ask("take 1", "took");
        actor.stop();
        drop(frames);
        end(node);
        let node = place.node();
        let frames = node.publisher(&FRAMES).unwrap();
        actor.go_on();
        frames.wait_for_subscribers(1, LONG).unwrap();
        actor.ask("check", "whole 1");
        assert_eq!(actor.numbers("take 2", "took"), [1, 2, 0]);
        actor.ask("drop", "dropped");
        // Writer 1 goes on counting; for the subscription it is another link, which begins with its first.
        publish(&frames, 3..5, 1000);
        assert_eq!(actor.numbers("take 2", "took"), [3, 4, 0]);
        actor.ask("drop", "dropped");
        flush(&frames);
        actor.leave();
        drop((frames, actor));
        end(node);
    });
}
