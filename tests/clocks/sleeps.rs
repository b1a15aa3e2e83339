//! Sleeping by a clock, waited for in every way.

use super::*;
use mproc::{SleepError, Slept};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_blocking_sleep_takes_its_time_by_its_clock() {
    let node = simulated(1);
    for clock in [node.steady_clock(), node.wall_clock()] {
        let (steady, by_clock) = (node.now(), clock.now());
        assert_eq!(clock.sleep(90 * SECOND).wait(), Ok(Slept::Reached));
        assert_eq!(
            (node.now() - steady, clock.now() - by_clock),
            (90 * SECOND, 90 * SECOND)
        );
    }
    let time = node.drive_time().unwrap();
    time.rate(30.0).unwrap();
    time.resume().unwrap();
    let steady = node.now();
    assert_eq!(time.clock().sleep(90 * SECOND).wait(), Ok(Slept::Reached));
    assert_eq!(node.now() - steady, 3 * SECOND);
    // What has passed needs no waiting.
    assert_eq!(
        time.clock()
            .sleep_until(secs(90))
            .wait_timeout(Duration::ZERO),
        Ok(Slept::Reached)
    );
}

#[test]
fn an_awaited_sleep_is_woken_when_its_time_comes_and_by_nothing_else() {
    let node = simulated(2);
    let time = node.drive_time().unwrap();
    let clock = time.clock();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut sleep = pin!(clock.sleep_until(secs(5)));
    assert!(
        sleep
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    time.step(4 * SECOND).unwrap();
    time.resume().unwrap();
    node.advance(500 * MS);
    time.pause().unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    time.step(500 * MS).unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    let slept = sleep.as_mut().poll(&mut Context::from_waker(&waker));
    assert_eq!(slept, Poll::Ready(Ok(Slept::Reached)));
}

#[test]
fn a_sleep_goes_on_in_the_handler_that_began_it() {
    struct Sleeper(Clock, Sender<(Slept, Time)>);
    struct Nap;
    struct Hello;
    impl Processor for Sleeper {}
    impl Handle<Nap> for Sleeper {
        type Reply = ();
        fn handle(&mut self, _: Nap, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0.sleep(3 * SECOND).then(cx, |me, slept, _cx| {
                me.1.send((slept?, me.0.now()))?;
                Ok(())
            });
            Ok(())
        }
    }
    impl Handle<Hello> for Sleeper {
        type Reply = &'static str;
        fn handle(
            &mut self,
            _: Hello,
            _: &mut Cx<'_, Self, &'static str>,
        ) -> Outcome<&'static str> {
            Ok("awake")
        }
    }
    let node = simulated(3);
    let time = node.drive_time().unwrap();
    let (told, naps) = channel();
    let sleeper = node
        .spawn_thread("sleeper", Sleeper(time.clock(), told))
        .unwrap();
    sleeper.send(Nap).unwrap();
    // Nobody waits meanwhile: other messages are handled.
    assert_eq!(sleeper.call(Hello).wait().unwrap(), "awake");
    node.advance(3600 * SECOND);
    assert_eq!(naps.try_recv().ok(), None);
    time.step(3 * SECOND).unwrap();
    node.settle();
    assert_eq!(naps.try_recv().ok(), Some((Slept::Reached, secs(3))));
}

#[test]
fn a_clock_that_goes_back_ends_sleeps_and_one_that_goes_on_does_not() {
    let node = simulated(4);
    let time = node.drive_time().unwrap();
    let clock = time.clock();
    time.set(secs(100)).unwrap();
    let (mut near, mut far) = (clock.sleep_until(secs(110)), clock.sleep_until(secs(200)));
    near.begin();
    far.begin();
    time.set(secs(150)).unwrap();
    assert_eq!(near.wait_timeout(Duration::ZERO), Ok(Slept::Reached));
    time.pause().unwrap();
    time.rate(2.0).unwrap();
    assert!(format!("{far:?}").contains("is_done: false"));
    time.set(secs(120)).unwrap();
    match far.wait_timeout(Duration::ZERO) {
        Ok(Slept::Changed(jump)) => assert_eq!((jump.from, jump.to), (secs(150), secs(120))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sleep_ends_when_nobody_drives_its_clock_and_when_its_node_ends() {
    let node = simulated(5);
    let time = node.drive_time().unwrap();
    let clock = time.clock();
    let mut first = clock.sleep(SECOND);
    first.begin();
    time.end();
    assert_eq!(first.wait(), Ok(Slept::Ended));
    // Nobody does: there is nothing to wait for.
    assert_eq!(clock.sleep(SECOND).wait(), Ok(Slept::Ended));
    // Somebody does again.
    let _time = node.drive_time().unwrap();
    let mut second = clock.sleep(SECOND);
    let mut third = node.steady_clock().sleep(3600 * SECOND);
    second.begin();
    third.begin();
    assert!(node.shutdown(SECOND).is_clean());
    assert_eq!(second.wait(), Ok(Slept::Ended));
    assert_eq!(third.wait(), Ok(Slept::Ended));
    assert_eq!(node.steady_clock().sleep(SECOND).wait(), Ok(Slept::Ended));
}

#[test]
fn before_anybody_drives_a_sleep_waits_and_a_limit_ends_it() {
    let node = simulated(6);
    let clock = node.domain_clock().unwrap();
    let before = node.now();
    assert_eq!(
        clock.sleep(SECOND).wait_timeout(60 * SECOND),
        Err(SleepError::Timeout)
    );
    assert_eq!(node.now() - before, 60 * SECOND);
    let mut sleep = clock.sleep(SECOND);
    sleep.begin();
    let time = node.drive_time().unwrap();
    time.step(SECOND).unwrap();
    assert!(matches!(sleep.wait(), Ok(Slept::Reached)));
}

#[test]
fn a_sleep_that_is_dropped_leaves_nothing_behind() {
    let node = simulated(7);
    let time = node.drive_time().unwrap();
    let clock = time.clock();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    {
        let mut sleep = pin!(clock.sleep(SECOND));
        assert!(
            sleep
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    drop(waker);
    // Nobody has the waker any more.
    assert_eq!(Arc::strong_count(&woken), 1);
    time.step(2 * SECOND).unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
}

#[test]
fn real_threads_sleep_by_a_clock_that_another_drives() {
    let node = Node::with_options(Options::default());
    let time = node.drive_time().unwrap();
    let clock = time.clock();
    let sleepers: Vec<_> = (1..=4)
        .map(|n| {
            let clock = clock.clone();
            thread::spawn(move || clock.sleep_until(secs(n)).wait_timeout(LONG))
        })
        .collect();
    for _ in 0..4 {
        time.step(SECOND).unwrap();
    }
    for sleeper in sleepers {
        assert_eq!(sleeper.join().unwrap(), Ok(Slept::Reached));
    }
}
