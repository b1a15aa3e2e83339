//! Domain time in one node.

use super::*;
use mproc::{ClockKind, ErrorKind, PoolOptions, SubscriptionOptions};

#[test]
fn timers_stand_while_domain_time_does_and_come_with_its_rate() {
    let node = simulated(1);
    let time = node.drive_time().unwrap();
    let (ticker, ticks) = Ticker::new(Some(&time.clock()), SECOND);
    node.spawn_thread("ticker", ticker).unwrap();
    node.advance(3600 * SECOND);
    assert_eq!(times(&ticks), []);

    time.rate(10.0).unwrap();
    time.resume().unwrap();
    node.advance(350 * MS);
    assert_eq!(times(&ticks), [secs(1), secs(2), secs(3)]);

    // Slower from here on: half a second is left, and takes one.
    time.rate(0.5).unwrap();
    node.advance(999 * MS);
    assert_eq!(times(&ticks), []);
    node.advance(MS);
    assert_eq!(times(&ticks), [secs(4)]);

    time.pause().unwrap();
    node.advance(3600 * SECOND);
    assert_eq!(times(&ticks), []);
    assert_eq!(time.clock().now(), secs(4));
}

#[test]
fn a_step_over_ten_periods_gives_one_tick_that_counts_the_others() {
    let node = simulated(2);
    let time = node.drive_time().unwrap();
    let (ticker, ticks) = Ticker::new(Some(&time.clock()), SECOND);
    node.spawn_thread("ticker", ticker).unwrap();
    node.settle();
    time.step(10 * SECOND + 300 * MS).unwrap();
    node.settle();
    let told: Vec<_> = ticks.try_iter().collect();
    let now = secs(10) + 300 * MS;
    assert_eq!(
        told,
        [Told {
            time: secs(10),
            skipped: 9,
            now
        }]
    );
    // And goes on on the grid.
    time.step(700 * MS).unwrap();
    node.settle();
    assert_eq!(times(&ticks), [secs(11)]);
}

#[test]
fn the_first_time_that_is_set_begins_anew_and_skips_nothing() {
    let node = simulated(3);
    let time = node.drive_time().unwrap();
    let (ticker, ticks) = Ticker::new(Some(&time.clock()), SECOND);
    node.spawn_thread("ticker", ticker).unwrap();
    node.settle();
    let begin = secs(1_700_000_000);
    time.set(begin).unwrap();
    node.settle();
    assert_eq!(times(&ticks), []);
    time.step(SECOND).unwrap();
    node.settle();
    let told = ticks.try_iter().map(|t| (t.time, t.skipped));
    assert_eq!(told.collect::<Vec<_>>(), [(begin + SECOND, 0)]);
}

#[test]
fn a_timer_waits_no_longer_than_its_period_after_the_clock_went_back() {
    let node = simulated(4);
    let time = node.drive_time().unwrap();
    let clock = time.clock();
    time.set(secs(100)).unwrap();
    let (ticker, ticks) = Ticker::new(Some(&clock), 10 * SECOND);
    node.spawn_thread("ticker", ticker).unwrap();
    node.settle();
    // A little: what it was due at is still the next.
    time.set(secs(105)).unwrap();
    time.set(secs(103)).unwrap();
    node.settle();
    time.step(7 * SECOND).unwrap();
    node.settle();
    assert_eq!(times(&ticks), [secs(110)]);
    // Far.
    time.set(secs(20)).unwrap();
    node.settle();
    assert_eq!(times(&ticks), []);
    time.step(10 * SECOND).unwrap();
    node.settle();
    assert_eq!(times(&ticks), [secs(30)]);
}

#[test]
fn a_processor_follows_what_it_says_else_its_driver_else_its_node() {
    let node = simulated(5);
    let time = node.drive_time().unwrap();
    let domain = time.clock();
    let driver = node.driver("shared").unwrap();
    let pool = node.pool_with("pool", PoolOptions::threads(2)).unwrap();
    driver.follow(&domain);
    pool.follow(&node.wall_clock());
    let spawn = |name: &str, clock: Option<Clock>, on: u8| {
        let (ticker, ticks) = Ticker::new(clock.as_ref(), SECOND);
        match on {
            0 => node.spawn_thread(name, ticker),
            1 => driver.spawn(name, ticker),
            _ => pool.spawn(name, ticker),
        }
        .unwrap();
        ticks
    };
    let of_node = spawn("of node", None, 0);
    let of_driver = spawn("of driver", None, 1);
    let own = spawn("own", Some(node.steady_clock()), 1);
    let of_pool = spawn("of pool", None, 2);
    node.settle();
    // Said late: what is set stays.
    node.follow(&domain);
    let late = spawn("late", None, 0);
    let wall = node.wall_clock().now();
    node.advance(2 * SECOND);
    assert_eq!(times(&of_node).len(), 2);
    assert_eq!(times(&own).len(), 2);
    assert_eq!(times(&of_pool), [wall + SECOND, wall + 2 * SECOND]);
    assert_eq!((times(&of_driver), times(&late)), (vec![], vec![]));
    time.step(SECOND).unwrap();
    node.settle();
    assert_eq!(
        (times(&of_driver), times(&late)),
        (vec![secs(1)], vec![secs(1)])
    );
}

#[test]
fn the_builder_lets_all_follow_domain_time() {
    // No threads of the node's own here: a script spins on this thread, in real time that does not matter.
    let builder = Node::builder().options(Options::default());
    let node = builder.domain_time().build().unwrap();
    let time = node.drive_time().unwrap();
    let mut script = node.script().unwrap().with(0);
    script
        .every(3600 * SECOND, |count, _cx| *count += 1)
        .unwrap();
    assert_eq!(script.spin_some(10).unwrap().handled, 0);
    time.step(3600 * SECOND).unwrap();
    assert_eq!(script.spin_some(10).unwrap().handled, 1);
    assert_eq!(script.state(|count| *count).unwrap(), 1);
}

#[test]
fn a_second_driver_is_refused_until_the_first_ends() {
    let node = simulated(6);
    let first = node.drive_time().unwrap();
    let refused = node.drive_time().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("this node"), "{refused}");
    first.set(secs(7)).unwrap();
    first.end();
    let clock = node.domain_clock().unwrap();
    assert!(!clock.is_driven());
    let second = node.drive_time().unwrap();
    // It begins where the first has left it.
    assert_eq!((clock.now(), clock.is_driven()), (secs(7), true));
    drop(second);
    assert!(!clock.is_driven());
}

#[test]
fn a_rate_that_time_cannot_have_is_refused_and_changes_nothing() {
    let node = simulated(7);
    let time = node.drive_time().unwrap();
    time.resume().unwrap();
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
        let refused = time.rate(rate).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidSetting, "{rate}");
    }
    node.advance(SECOND);
    assert_eq!(time.clock().now(), secs(1));
}

#[test]
fn a_node_that_has_ended_has_no_time_to_drive() {
    let node = simulated(8);
    let time = node.drive_time().unwrap();
    assert!(node.shutdown(SECOND).is_clean());
    assert_eq!(time.step(SECOND).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(node.domain_clock().unwrap().kind(), ClockKind::Domain);
}

#[test]
fn silences_follow_the_clock_of_their_processor() {
    const NUMBERS: Topic<u8> = Topic::new("numbers");
    struct Ear(Clock, Sender<&'static str>);
    struct Silence(&'static str);
    impl Processor for Ear {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.follow(&self.0);
            cx.receive_timeout(5 * SECOND, || Silence("no message"));
            cx.subscribe(&NUMBERS)
                .silence(3 * SECOND, || Silence("no sample"))
                .call(|_, _, _| Ok(()))?;
            Ok(())
        }
    }
    impl Handle<Silence> for Ear {
        type Reply = ();
        fn handle(&mut self, silence: Silence, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.1.send(silence.0)?;
            Ok(())
        }
    }
    let node = simulated(9);
    let time = node.drive_time().unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    let (told, heard) = channel();
    node.spawn_thread("ear", Ear(time.clock(), told)).unwrap();
    node.advance(3600 * SECOND);
    assert_eq!(heard.try_recv().ok(), None);
    time.step(2 * SECOND).unwrap();
    numbers.publish(1).unwrap();
    node.settle();
    time.step(2 * SECOND).unwrap();
    node.settle();
    assert_eq!(heard.try_recv().ok(), None);
    time.step(SECOND).unwrap();
    node.settle();
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["no sample"]);
    time.step(2 * SECOND).unwrap();
    node.settle();
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["no message"]);
}

#[test]
fn limits_on_waiting_follow_steady_time() {
    struct Slow;
    struct Never;
    impl Processor for Slow {}
    impl Handle<Never> for Slow {
        type Reply = ();
        fn handle(&mut self, _: Never, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.reply_later(std::mem::forget)
        }
    }
    let node = simulated(10);
    let time = node.drive_time().unwrap();
    node.follow(&time.clock());
    let slow = node.spawn_thread("slow", Slow).unwrap();
    let before = node.now();
    let error = slow.call(Never).wait_timeout(SECOND).unwrap_err();
    assert!(matches!(error, mproc::CallError::Timeout), "{error}");
    assert_eq!((node.now() - before, time.clock().now()), (SECOND, secs(0)));
}

#[test]
fn a_paused_domain_wakes_nobody() {
    let node = simulated(11);
    let time = node.drive_time().unwrap();
    let (ticker, _ticks) = Ticker::new(Some(&time.clock()), MS);
    node.spawn_thread("ticker", ticker).unwrap();
    time.resume().unwrap();
    node.advance(10 * MS);
    time.pause().unwrap();
    // Who slept until the next tick finds that it is not due any more.
    node.advance(SECOND);
    let before = node.fingerprint();
    node.advance(3600 * SECOND);
    // One choice: this thread went on when its own time had come.
    let choices = |at: Option<(u64, u64)>| at.unwrap().0;
    assert_eq!(choices(node.fingerprint()) - choices(before), 1);
}

#[test]
fn equal_seeds_run_equally() {
    let run = |seed| {
        let node = simulated(seed);
        let time = node.drive_time().unwrap();
        let all: Vec<_> = (0..4_u32)
            .map(|n| {
                let (ticker, ticks) = Ticker::new(Some(&time.clock()), (n + 1) * 7 * MS);
                node.spawn_thread(&format!("ticker {n}"), ticker).unwrap();
                ticks
            })
            .collect();
        time.rate(3.0).unwrap();
        time.resume().unwrap();
        node.advance(100 * MS);
        time.step(50 * MS).unwrap();
        node.advance(100 * MS);
        time.set(Time::from_millis(10)).unwrap();
        node.advance(100 * MS);
        let told: Vec<Vec<_>> = all.iter().map(|t| t.try_iter().collect()).collect();
        (told, node.fingerprint())
    };
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

#[test]
fn what_is_driven_is_published_for_whoever_records_it() {
    let node = simulated(12);
    let options = SubscriptionOptions::new().capacity(16);
    let states = node.subscription_with(&mproc::CLOCK, options).unwrap();
    let time = node.drive_time().unwrap();
    time.set(secs(5)).unwrap();
    time.rate(2.0).unwrap();
    time.resume().unwrap();
    node.advance(SECOND);
    time.pause().unwrap();
    time.end();
    let seen: Vec<_> = states
        .try_iter()
        .map(|s| (s.time_ns / 1_000_000_000, s.rate, s.is_paused()))
        .collect();
    let expected = [
        (0, 1.0, true),
        (5, 1.0, true),
        (5, 2.0, true),
        (5, 2.0, false),
        (7, 2.0, true),
        (7, 2.0, true),
    ];
    assert_eq!(seen, expected);
}
