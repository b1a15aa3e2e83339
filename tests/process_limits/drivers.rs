//! More drivers than bells.

use super::*;
use crate::actor::{orders, ordinary, say, start};
use mproc::{Closure, Cx};
use std::sync::mpsc::channel;

/// There are 15 bells to a page, one of which is for all who have none.
const DRIVERS: usize = 17;

pub(crate) fn act(base: &Path) {
    let node = node(base).unwrap();
    let (tell, told) = channel();
    let data = actor::topic("data");
    let mut all = Vec::new();
    for n in 0..DRIVERS {
        let tell = tell.clone();
        let subscriber = closure(move |(): (), cx: &mut Cx<'_, Closure<(), ()>>| {
            let tell = tell.clone();
            cx.subscribe(&data).capacity(4).call(move |_, sample, _| {
                tell.send((n, sample[0]))?;
                Ok(())
            })?;
            Ok::<_, mproc::Fault>(())
        });
        let address = node
            .spawn_thread(&format!("driver {n}"), subscriber)
            .unwrap();
        address.send(()).unwrap();
        all.push(address);
    }
    say("subscribed");
    for line in orders() {
        let count: u8 = line.parse().unwrap();
        let mut next = [0; DRIVERS];
        for _ in 0..DRIVERS * usize::from(count) {
            let (driver, value) = told.recv_timeout(LONG).unwrap();
            assert_eq!(value, next[driver], "driver {driver}");
            next[driver] += 1;
        }
        assert_eq!(next, [count; DRIVERS]);
        assert!(told.try_recv().is_err());
        say("all");
    }
}

#[test]
fn drivers_without_a_bell_of_their_own_get_everything() {
    let base = base();
    let mut publisher = ordinary(&base);
    publisher.ask("publisher data", "made");
    let mut drivers = start("drivers", base.path(), &[]);
    drivers.wait_for("subscribed");
    publisher.ask(&format!("joined data {DRIVERS}"), "joined");
    for _round in 0..3 {
        drivers.tell("40");
        for n in 0..40 {
            let count = publisher.ask(&format!("publish data 8 {n}"), "published");
            assert_eq!(count, DRIVERS.to_string());
        }
        // One at a time: each is waited for by all who sleep.
        drivers.wait_for("all");
        for _ in 0..3 {
            drivers.tell("1");
            publisher.ask("publish data 8 0", "published");
            drivers.wait_for("all");
        }
    }
    drivers.leave();
    publisher.leave();
}
