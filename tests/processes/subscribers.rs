//! Rows: the subscriber's process is killed. Exactly what it had comes back, and publishers that wait for it go on.

use super::*;
use mproc::PublisherOptions;

/// No link is left, everything has come back, and somebody else can subscribe.
fn ends(place: &Place, node: Node, frames: Publisher<[u8]>, actor: Actor) {
    flush(&frames);
    until("the link is gone", || links(&node).is_empty());
    assert_eq!(frames.subscriber_count(), 0);
    let mut next = place.actor();
    // The same publisher goes on.
    next.ask("subscribe Wait 4 4", "subscribed");
    frames.wait_for_subscribers(1, LONG).unwrap();
    // If it was killed before this process has met it, its socket is left to the next that starts.
    place.forgets(&actor);
    drop(actor);
    publish(&frames, 1000..1002, 1000);
    assert_eq!(next.numbers("take 2", "took"), [1000, 1001, 0]);
    next.kill();
    flush(&frames);
    place.forgets(&next);
    drop((frames, next));
    end(node);
}

#[test]
fn killed_with_leases_and_a_queue_exactly_these_come_back() {
    alone(|place| {
        for when_full in WhenFull::ALL {
            println!("{when_full:?}");
            let node = place.node();
            let mut actor = place.actor();
            let line = format!("subscribe {when_full:?} 8 8");
            let frames = place.publisher(&node, &mut actor, &line);
            let (leased, queued) = match when_full {
                WhenFull::Latest => (1, 1),
                _ => (2, 3),
            };
            publish(&frames, 0..leased, 1000);
            actor.ask(&format!("take {leased}"), "took");
            publish(&frames, leased..leased + queued, 20_000);
            let link = &links(&node)[0];
            assert_eq!((link.held, link.queued), (leased, queued));
            assert_eq!(link.owner.as_deref(), Some(&*actor.label()));
            assert_eq!(frames.snapshot().outstanding, leased + queued);
            assert!(frames.flush(Duration::ZERO).is_err());
            actor.kill();
            ends(place, node, frames, actor);
        }
    });
}

#[test]
fn killed_with_tracked_values_each_comes_back() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 8 8");
        let tracked = |n| loan(&frames, n, 1000).publish_tracked().unwrap();
        let (held, queued) = (tracked(0), tracked(1));
        actor.ask("try", "has");
        let waits = thread::spawn(move || held.wait_timeout(LONG).map(|r| r.delivered.count));
        // Somebody waits for one, and nobody yet for the other.
        actor.kill();
        assert_eq!(waits.join().unwrap().unwrap(), 1);
        queued.wait_timeout(LONG).unwrap();
        ends(place, node, frames, actor);
    });
}

#[test]
fn killed_with_a_queue_that_lost_samples_exactly_the_rest_comes_back() {
    alone(|place| {
        use WhenFull::{DropNewest, DropOldest, Fail, Latest};
        for when_full in [DropOldest, DropNewest, Latest, Fail] {
            println!("{when_full:?}");
            let node = place.node();
            let mut actor = place.actor();
            let line = format!("subscribe {when_full:?} 4 4");
            let frames = place.publisher(&node, &mut actor, &line);
            publish(&frames, 0..1, 1000);
            actor.ask("take 1", "took");
            publish(&frames, 1..20, 1000);
            looked(&frames);
            let places = if when_full == Latest { 1 } else { 4 };
            let link = &links(&node)[0];
            assert_eq!((link.held, link.queued), (1, places));
            assert_eq!(frames.snapshot().outstanding, 1 + places);
            actor.kill();
            ends(place, node, frames, actor);
        }
    });
}

#[test]
fn aborts_and_what_it_had_comes_back() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 8 8");
        publish(&frames, 0..5, 1000);
        actor.ask("take 2", "took");
        actor.tell("abort");
        assert!(!actor.child.wait().unwrap().success());
        ends(place, node, frames, actor);
    });
}

#[test]
fn killed_inside_a_handler_what_it_had_comes_back() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "handle");
        publish(&frames, 0..5, 100_000);
        actor.hear("in handler 0");
        assert!(frames.flush(Duration::ZERO).is_err());
        actor.kill();
        ends(place, node, frames, actor);
    });
}

#[test]
fn killed_after_it_has_given_all_back_nothing_is_owed() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 8 8");
        publish(&frames, 0..5, 1000);
        actor.ask("take 5", "took");
        actor.ask("drop", "dropped");
        flush(&frames);
        actor.kill();
        ends(place, node, frames, actor);
    });
}

#[test]
fn killed_after_it_has_unsubscribed_its_leases_come_back() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 8 8");
        publish(&frames, 0..5, 1000);
        actor.ask("take 2", "took");
        actor.ask("unsubscribe", "unsubscribed");
        // What was queued comes back without a kill; what it holds does not.
        until("two are out", || {
            let _looks = frames.flush(Duration::ZERO);
            frames.snapshot().outstanding == 2
        });
        actor.ask("check", "whole 2");
        actor.kill();
        ends(place, node, frames, actor);
    });
}

/// In the middle of what it takes to get a link, at ten different moments.
#[test]
fn killed_while_it_subscribes_nothing_is_left_of_it() {
    alone(|place| {
        for round in 0..10 {
            let node = place.node();
            let frames = node.publisher(&FRAMES).unwrap();
            let mut actor = place.actor();
            actor.tell("subscribe Wait 8 8");
            (0..round * 200).for_each(|_| thread::yield_now());
            publish(&frames, 0..2, 1000);
            actor.kill();
            ends(place, node, frames, actor);
        }
    });
}

#[test]
fn killed_before_it_subscribes_nobody_notices() {
    alone(|place| {
        let node = place.node();
        let frames = node.publisher(&FRAMES).unwrap();
        let mut actor = place.actor();
        actor.ask("declare 0", "declared");
        actor.kill();
        publish(&frames, 0..2, 1000);
        ends(place, node, frames, actor);
    });
}

/// A publisher blocks in `blocked` until the actor is killed, and what that returns is well before any limit.
fn wakes<R: Send + 'static>(
    what: &str,
    actor: &mut Actor,
    blocked: impl FnOnce() -> R + Send + 'static,
) -> R {
    let waits = thread::Builder::new().name("waits".into());
    let (tell, told) = channel();
    let waits = waits
        .spawn(move || {
            let done = blocked();
            tell.send(Instant::now()).unwrap();
            done
        })
        .unwrap();
    // It sleeps, so it is blocked.
    until("it waits", || sleeps("waits"));
    assert!(told.try_recv().is_err(), "{what}: it does not wait");
    let start = Instant::now();
    actor.kill();
    let woken = told.recv_timeout(LONG).unwrap();
    // On an idle machine a few milliseconds. Its limit is minutes.
    println!("{what}: {:?} after the kill", woken - start);
    waits.join().unwrap()
}

/// True if this process has a thread of that name that waits for something.
fn sleeps(name: &str) -> bool {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let state = format!("({name}) S");
    stats.into_iter().any(|stat| stat.contains(&state))
}

/// No limit ends what waits here before the test would have failed.
const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn killed_while_a_publisher_waits_for_room_the_publisher_goes_on() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 4 4");
        publish(&frames, 0..4, 1000);
        let next = loan(&frames, 4, 1000);
        let PublishError::Full { value, full } = next.try_publish().unwrap_err() else {
            panic!("it is full");
        };
        assert!(full[0].contains(&actor.label()), "{full:?}");
        drop(value);
        let publisher = {
            let options = PublisherOptions::new().limit(NEVER);
            node.publisher_with(&FRAMES, options).unwrap()
        };
        let delivered = wakes("room", &mut actor, move || {
            let published = loan(&publisher, 4, 1000).publish();
            published.map_err(|error| format!("{error:?}")).unwrap()
        });
        assert_eq!(delivered.count, 0);
        ends(place, node, frames, actor);
    });
}

#[test]
fn killed_while_several_publishers_wait_all_go_on() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let mut other = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 2 2");
        place.publisher(&node, &mut other, "subscribe Wait 100 100");
        publish(&frames, 0..2, 1000);
        let publishers: Vec<_> = (0..4)
            .map(|_| {
                let options = PublisherOptions::new().limit(NEVER);
                node.publisher_with(&FRAMES, options).unwrap()
            })
            .collect();
        let counts = wakes("room for four", &mut actor, move || {
            let threads = publishers.into_iter().map(|publisher| {
                thread::spawn(move || {
                    let published = loan(&publisher, 0, 1000).publish();
                    published.map_err(|error| format!("{error:?}")).unwrap()
                })
            });
            let threads: Vec<_> = threads.collect();
            let all = threads.into_iter().map(|thread| thread.join().unwrap());
            all.map(|delivered| delivered.count).collect::<Vec<_>>()
        });
        // The one who lives has them all.
        assert_eq!(counts, [1, 1, 1, 1]);
        assert_eq!(links(&node).len(), 1);
        assert_eq!(links(&node)[0].queued, 6);
        other.kill();
        place.forgets(&other);
        ends(place, node, frames, actor);
    });
}

#[test]
fn killed_while_a_publisher_waits_for_memory_the_publisher_goes_on() {
    alone(|place| {
        let node = place.node_with(|options| options.topic_bytes(1 << 20));
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 100 100");
        let options = PublisherOptions::new().limit(Duration::ZERO);
        let impatient = node.publisher_with(&FRAMES, options).unwrap();
        let mut n = 0;
        while let Ok(mut loan) = impatient.loan(100_000) {
            payload::fill(&mut loan, 1, n);
            loan.publish()
                .map_err(|error| format!("{error:?}"))
                .unwrap();
            n += 1;
        }
        let publisher = {
            let options = PublisherOptions::new().limit(NEVER);
            node.publisher_with(&FRAMES, options).unwrap()
        };
        wakes("memory", &mut actor, move || {
            drop(publisher.loan(100_000).unwrap());
        });
        flush(&impatient);
        drop(impatient);
        ends(place, node, frames, actor);
    });
}

#[test]
fn killed_while_a_publisher_waits_for_samples_in_flight_the_publisher_goes_on() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 4 4");
        let options = PublisherOptions::new().limit(NEVER).in_flight(1);
        let publisher = node.publisher_with(&FRAMES, options).unwrap();
        publish(&publisher, 0..1, 1000);
        actor.ask("take 1", "took");
        let delivered = wakes("in flight", &mut actor, move || {
            let published = loan(&publisher, 1, 1000).publish();
            published.map_err(|error| format!("{error:?}")).unwrap()
        });
        assert_eq!(delivered.count, 0);
        ends(place, node, frames, actor);
    });
}

#[test]
fn killed_while_a_publisher_flushes_flush_returns() {
    alone(|place| {
        let node = place.node();
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 4 4");
        publish(&frames, 0..3, 1000);
        actor.ask("take 1", "took");
        let flushes = frames.clone();
        wakes("flush", &mut actor, move || flushes.flush(NEVER).unwrap());
        ends(place, node, frames, actor);
    });
}

/// Others have what they had.
#[test]
fn one_of_two_subscribers_killed_the_other_keeps_its_leases() {
    alone(|place| {
        let node = place.node();
        let (mut actor, mut other) = (place.actor(), place.actor());
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 8 8");
        place.publisher(&node, &mut other, "subscribe Wait 8 8");
        publish(&frames, 0..5, 50_000);
        actor.ask("take 3", "took");
        other.ask("take 2", "took");
        actor.kill();
        frames.wait_for_subscribers(1, LONG).unwrap();
        until("one link is left", || links(&node).len() == 1);
        // The memory of those that came back is used again.
        publish(&frames, 5..8, 50_000);
        assert_eq!(frames.snapshot().outstanding, 8);
        other.ask("check", "whole 2");
        assert_eq!(other.numbers("take 6", "took"), [2, 7, 0]);
        other.ask("check", "whole 8");
        other.ask("drop", "dropped");
        flush(&frames);
        other.leave();
        ends(place, node, frames, actor);
    });
}

/// The same for those of this process: they share the memory.
#[test]
fn killed_subscriber_leaves_the_survivors_own_samples_alone() {
    alone(|place| {
        let node = place.node();
        let mut own = Watched::new(&node, 8, WhenFull::Wait);
        let mut actor = place.actor();
        let frames = place.publisher(&node, &mut actor, "subscribe Wait 8 8");
        publish(&frames, 0..3, 50_000);
        let held = [own.recv(), own.recv(), own.recv()];
        actor.ask("take 3", "took");
        actor.kill();
        until("the link is gone", || links(&node).is_empty());
        publish(&frames, 3..6, 50_000);
        for (n, sample) in held.iter().enumerate() {
            assert_eq!(payload::check(sample).unwrap().1, n as u64);
        }
        assert_eq!(own.rest(), [3, 4, 5]);
        drop((held, own));
        ends(place, node, frames, actor);
    });
}
