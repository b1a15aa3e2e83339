//! Timers of processors and scripts by steady time, as they were asked for in other systems' tests.

use super::*;

/// Runs with a timer's processor, on its driver.
fn with(
    node: &Node,
    ticker: &mproc::Address<Ticker>,
    what: impl FnOnce(TimerId, &mut Cx<'_, Ticker>) + Send + 'static,
) {
    ticker
        .with_processor(move |me, cx| what(me.timer.unwrap(), cx))
        .unwrap();
    node.settle();
}

#[test]
fn a_timer_that_is_stopped_where_it_is_made_starts_when_it_is_reset() {
    let node = simulated(1);
    let mut script = node.script().unwrap().with(0);
    let timer = script.every(SECOND, |count, _cx| *count += 1).unwrap();
    assert!(script.stop_timer(timer).unwrap());
    assert_eq!(script.time_until(timer).unwrap(), None);
    node.advance(10 * SECOND);
    assert_eq!(script.spin_some(10).unwrap().handled, 0);
    assert!(script.reset(timer).unwrap());
    assert_eq!(script.time_until(timer).unwrap(), Some(SECOND));
    node.advance(SECOND);
    assert_eq!(script.spin_some(10).unwrap().handled, 1);
    assert_eq!(script.state(|count| *count).unwrap(), 1);
}

#[test]
fn a_timer_that_is_stopped_is_not_seen_although_its_tick_is_on_its_way() {
    let node = simulated(2);
    let mut script = node.script().unwrap().with(0);
    let timer = script.every(SECOND, |count, _cx| *count += 1).unwrap();
    let other = script.after(SECOND, |count, _cx| *count += 100).unwrap();
    node.advance(5 * SECOND);
    assert!(script.stop_timer(timer).unwrap());
    assert_eq!(script.spin_some(10).unwrap().handled, 1);
    assert_eq!(script.state(|count| *count).unwrap(), 100);
    // It has come: it is no timer any more, the other still is.
    assert!(!script.stop_timer(other).unwrap());
    assert!(script.cancel(timer).unwrap());
    assert!(!script.stop_timer(timer).unwrap() && !script.reset(timer).unwrap());
    assert_eq!(script.time_until(timer).unwrap(), None);
}

#[test]
fn time_until_counts_down_and_a_new_period_starts_afresh() {
    let node = simulated(3);
    let (ticker, ticks) = Ticker::new(None, 10 * SECOND);
    let ticker = node.spawn_thread("ticker", ticker).unwrap();
    node.settle();
    let (told, left) = channel();
    let ask = || {
        let told = told.clone();
        with(&node, &ticker, move |timer, cx| {
            told.send(cx.time_until(timer)).unwrap()
        });
        left.recv().unwrap()
    };
    assert_eq!(ask(), Some(10 * SECOND));
    node.advance(4 * SECOND);
    assert_eq!(ask(), Some(6 * SECOND));
    with(&node, &ticker, |timer, cx| {
        assert!(cx.set_period(timer, 3 * SECOND))
    });
    assert_eq!(ask(), Some(3 * SECOND));
    node.advance(7 * SECOND);
    assert_eq!(times(&ticks), [secs(7), secs(10)]);
    assert_eq!(ask(), Some(2 * SECOND));
    with(&node, &ticker, |timer, cx| assert!(cx.cancel(timer)));
    assert_eq!(ask(), None);
    node.advance(60 * SECOND);
    assert_eq!(times(&ticks), []);
}

#[test]
fn a_tenfold_overrun_gives_no_burst() {
    let node = simulated(4);
    let mut script = node.script().unwrap().with(Vec::new());
    let clock = node.steady_clock();
    let now = clock.clone();
    script
        .every(100 * MS, move |seen: &mut Vec<Time>, _cx| {
            seen.push(now.now())
        })
        .unwrap();
    // The script does something else for ten periods and a half.
    node.advance(1050 * MS);
    let begun = Time::ZERO;
    while script.spin_once(100 * MS).unwrap() == mproc::Spun::Ran {
        if clock.now() >= begun + 1250 * MS {
            break;
        }
    }
    let seen = script.state(|seen| seen.clone()).unwrap();
    let expected = [1050, 1100, 1200, 1300].map(Time::from_millis);
    assert_eq!(seen, expected);
}

#[test]
fn a_tick_says_when_it_was_due_by_its_clock_and_by_steady_time() {
    struct Both(Sender<Tick>);
    impl Processor for Both {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.every(SECOND, Ticked);
            let wall = cx.runtime().wall_clock();
            cx.follow(&wall);
            cx.every(2 * SECOND, Ticked);
            Ok(())
        }
    }
    impl Handle<Ticked> for Both {
        type Reply = ();
        fn handle(&mut self, Ticked(tick): Ticked, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0.send(tick)?;
            Ok(())
        }
    }
    let node = simulated(5);
    let (begun, wall) = (node.now(), node.wall_clock().now());
    let (told, ticks) = channel();
    node.spawn_thread("both", Both(told)).unwrap();
    node.advance(SECOND);
    let by_steady = ticks.try_recv().unwrap();
    assert_eq!((by_steady.due, by_steady.time), (begun + SECOND, secs(1)));
    node.advance(SECOND);
    let mut two = [ticks.try_recv().unwrap(), ticks.try_recv().unwrap()];
    two.sort_by_key(|tick| tick.time);
    assert_eq!(two.map(|tick| tick.time), [secs(2), wall + 2 * SECOND]);
    assert_eq!(two.map(|tick| tick.due), [begun + 2 * SECOND; 2]);
}

/// The first incarnation follows domain time, which stands still; the second says nothing.
#[test]
fn after_a_restart_a_processor_follows_no_clock_unless_it_says_so_again() {
    use mproc::Child;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    struct Forgets(Clock, Arc<AtomicBool>, Sender<bool>);
    struct Quit;
    struct Ticks;
    impl Processor for Forgets {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            if !self.1.swap(true, SeqCst) {
                cx.follow(&self.0);
            }
            cx.every(SECOND, |_| Ticks);
            Ok(())
        }
    }
    impl Handle<Quit> for Forgets {
        type Reply = ();
        fn handle(&mut self, _: Quit, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.stop();
            Ok(())
        }
    }
    impl Handle<Ticks> for Forgets {
        type Reply = ();
        fn handle(&mut self, _: Ticks, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            self.2.send(cx.clock().kind() == mproc::ClockKind::Steady)?;
            Ok(())
        }
    }
    let node = simulated(1);
    let time = node.drive_time().unwrap();
    let (tell, told) = channel();
    let (clock, was_up) = (time.clock(), Arc::default());
    let make = move || Forgets(clock.clone(), Arc::clone(&was_up), tell.clone());
    let boss = node.supervisor("boss").child(Child::new("part", make));
    let _boss = boss.start().unwrap();
    node.settle();
    let part = node.lookup::<Forgets>("part").unwrap();
    node.advance(5 * SECOND);
    assert!(told.try_recv().is_err());
    part.send(Quit).unwrap();
    node.advance(SECOND);
    node.advance(5 * SECOND);
    assert_eq!(part.snapshot().restarts, 1);
    assert_eq!(told.try_recv(), Ok(true));
}
