//! Rows: the publisher's process is killed.

use super::*;

/// A survivor with one subscription, and an actor that publishes to it.
fn scene(place: &Place, capacity: usize, when_full: WhenFull) -> Scene {
    let node = place.node();
    let events = node.events().unwrap();
    let watched = Watched::new(&node, capacity, when_full);
    let mut actor = place.actor();
    actor.ask("declare 1", "declared");
    Scene {
        node,
        events,
        watched,
        actor,
    }
}

struct Scene {
    node: Node,
    events: Subscription<Event>,
    watched: Watched,
    actor: Actor,
}

impl Scene {
    fn kill(&mut self) {
        self.actor.kill();
        lost_publisher(&self.events, 0);
    }

    /// Nothing more is there and nothing more comes, but from the next who publishes.
    fn ends(mut self, place: &Place) {
        assert_eq!(self.watched.rest(), [0; 0]);
        place.forgets(&self.actor);
        let mut next = place.actor();
        next.ask("declare 1", "declared");
        next.ask("publish 1 100", "published");
        assert_eq!(self.watched.checked_next(), 0);
        next.kill();
        place.forgets(&next);
        drop((self.watched, self.events, self.actor, next));
        end(self.node);
    }
}

impl Watched {
    fn checked_next(&mut self) -> u64 {
        let sample = self.recv();
        payload::check(&sample).unwrap().1
    }
}

#[test]
fn killed_before_it_has_published_anything() {
    alone(|place| {
        let mut scene = scene(place, 8, WhenFull::Wait);
        scene.kill();
        scene.ends(place);
    });
}

#[test]
fn killed_with_a_loan_half_filled_subscribers_see_nothing_of_it() {
    alone(|place| {
        let mut scene = scene(place, 8, WhenFull::Wait);
        scene.actor.ask("publish 2 1000", "published");
        scene.actor.ask("loan 100000", "loaned");
        scene.kill();
        assert_eq!(scene.watched.rest(), [0, 1]);
        scene.ends(place);
    });
}

#[test]
fn killed_after_it_has_published_all_of_it_is_delivered() {
    alone(|place| {
        for when_full in WhenFull::ALL {
            println!("{when_full:?}");
            let mut scene = scene(place, 8, when_full);
            scene.actor.ask("publish 3 1000", "published 3");
            scene.kill();
            let expected: &[u64] = match when_full {
                WhenFull::Latest => &[2],
                _ => &[0, 1, 2],
            };
            assert_eq!(scene.watched.rest(), expected);
            scene.ends(place);
        }
    });
}

/// In memory that was announced for them, and that this process had not mapped before the kill.
#[test]
fn killed_after_it_has_published_in_new_memory_all_of_it_is_delivered() {
    alone(|place| {
        let mut scene = scene(place, 8, WhenFull::Wait);
        for bytes in [100, 10_000, 1_000_000] {
            let line = format!("publish 2 {bytes}");
            scene.actor.ask(&line, "published");
        }
        scene.kill();
        assert_eq!(scene.watched.rest(), [0, 1, 2, 3, 4, 5]);
        scene.ends(place);
    });
}

#[test]
fn aborts_and_what_it_has_published_is_delivered() {
    alone(|place| {
        let mut scene = scene(place, 8, WhenFull::Wait);
        scene.actor.ask("publish 3 1000", "published 3");
        scene.actor.tell("abort");
        assert!(!scene.actor.child.wait().unwrap().success());
        lost_publisher(&scene.events, 0);
        assert_eq!(scene.watched.rest(), [0, 1, 2]);
        scene.ends(place);
    });
}

#[test]
fn killed_while_its_slots_are_leased_they_stay_as_they_are() {
    alone(|place| {
        for when_full in WhenFull::ALL {
            println!("{when_full:?}");
            let mut scene = scene(place, 8, when_full);
            let mut held = Vec::new();
            for n in 0..3 {
                scene.actor.ask("publish 1 50000", "published");
                held.push(scene.watched.recv());
                assert_eq!(held.len(), n + 1);
            }
            scene.kill();
            for (n, sample) in held.iter().enumerate() {
                assert_eq!(payload::check(sample).unwrap().1, n as u64);
            }
            // They are whole when everything else of it is gone, too.
            scene.ends(place);
            for (n, sample) in held.iter().enumerate() {
                assert_eq!(payload::check(sample).unwrap().1, n as u64);
            }
        }
    });
}

#[test]
fn killed_while_a_handler_has_its_sample_the_handler_sees_it_to_its_end() {
    alone(|place| {
        let node = place.node();
        let events = node.events().unwrap();
        let (enter, entered) = channel();
        let (go, gone_on) = channel();
        let (tell, told) = channel();
        let handler = node.subscribe(&FRAMES, move |sample| {
            enter.send(()).unwrap();
            gone_on.recv_timeout(LONG).unwrap();
            let checked = payload::check(&sample);
            tell.send(checked.map(|(_, sequence)| sequence)).unwrap();
        });
        let mut actor = place.actor();
        actor.ask("declare 1", "declared");
        actor.ask("publish 3 100000", "published 3");
        entered.recv_timeout(LONG).unwrap();
        actor.kill();
        lost_publisher(&events, 0);
        // What waits behind it comes all the same.
        for n in 0..3 {
            go.send(()).unwrap();
            assert_eq!(told.recv_timeout(LONG).unwrap(), Ok(n));
        }
        place.forgets(&actor);
        handler.unwrap().unsubscribe();
        drop((events, actor));
        end(node);
    });
}

#[test]
fn killed_while_it_waits_for_room_what_was_queued_is_delivered() {
    alone(|place| {
        let mut scene = scene(place, 4, WhenFull::Wait);
        scene.actor.ask("fill", "full 4");
        scene.actor.ask("block", "blocks");
        scene.kill();
        assert_eq!(scene.watched.rest(), [0, 1, 2, 3]);
        scene.ends(place);
    });
}

/// Anywhere in a stream, under every policy at once: what arrives is whole and in order, and gaps are exact.
#[test]
fn killed_while_it_publishes_each_policy_keeps_its_promises() {
    alone(|place| {
        for round in 0..10 {
            let node = place.node();
            let events = node.events().unwrap();
            let subscriptions = WhenFull::ALL.map(|policy| Watched::new(&node, 4, policy));
            let mut actor = place.actor();
            actor.ask("declare 6", "declared");
            actor.tell("publish forever");
            let threads = subscriptions.map(|mut watched| {
                thread::spawn(move || {
                    let mut count = 0_u64;
                    // Ends with the node, or because its queue was full (Disconnect).
                    while let Ok(sample) = watched.subscription.recv().wait() {
                        watched.checked(&sample);
                        count += 1;
                    }
                    let snapshot = watched.subscription.snapshot();
                    println!(
                        "{:?}: {count} and lost {}",
                        snapshot.when_full, snapshot.lost
                    );
                    (snapshot.when_full, count, snapshot.lost)
                })
            });
            actor.hear("publishes");
            // Not always at the same place.
            (0..round * 3000).for_each(|_| thread::yield_now());
            actor.kill();
            lost_publisher(&events, 0);
            place.forgets(&actor);
            drop(events);
            end(node);
            for thread in threads {
                let (when_full, count, lost) = thread.join().unwrap();
                assert!(count > 0);
                if when_full == WhenFull::Wait {
                    // All of the first 101, but for what its queue may have had when the node ended.
                    assert!(count >= 97, "{count}");
                    assert_eq!(lost, 0);
                }
            }
        }
    });
}

/// Each subscription has what its own link had when the publisher died: in order and without a hole.
#[test]
fn killed_in_the_middle_of_a_fan_out_each_has_a_beginning_of_the_stream() {
    alone(|place| {
        let node = place.node();
        let events = node.events().unwrap();
        let mut all: Vec<_> = (0..4)
            .map(|_| Watched::new(&node, 4096, WhenFull::DropNewest))
            .collect();
        let mut actor = place.actor();
        actor.ask("declare 4", "declared");
        actor.tell("publish forever");
        actor.hear("publishes");
        actor.kill();
        lost_publisher(&events, 0);
        let lengths: Vec<_> = all
            .iter_mut()
            .map(|watched| {
                let got = watched.rest();
                assert!(got.iter().copied().eq(0..got.len() as u64) || got.len() >= 4096);
                got.len()
            })
            .collect();
        let (most, least) = (lengths.iter().max().unwrap(), lengths.iter().min().unwrap());
        println!("{lengths:?}");
        assert!(most - least <= 1, "one publish was under way");
        place.forgets(&actor);
        drop((all, events, actor));
        end(node);
    });
}

#[test]
fn one_of_two_publishers_killed_the_other_goes_on() {
    alone(|place| {
        let mut scene = scene(place, 8, WhenFull::Wait);
        let mut other = place.actor();
        other.ask("declare 1", "declared");
        scene.actor.ask("publish 2 1000", "published");
        other.ask("publish 2 1000", "published");
        scene.actor.kill();
        lost_publisher(&scene.events, 1);
        other.ask("publish 2 1000", "published");
        let mut all = (0..6)
            .map(|_| scene.watched.checked_next())
            .collect::<Vec<_>>();
        all.sort();
        assert_eq!(all, [0, 0, 1, 1, 2, 3]);
        other.leave();
        lost_publisher(&scene.events, 0);
        scene.ends(place);
    });
}
