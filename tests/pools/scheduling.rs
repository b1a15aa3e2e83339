//! Who runs next, and on how many threads.

use super::{SECOND, driver, real, simulated};
use mproc::prelude::*;
use mproc::{Fault, SpawnError};
use std::sync::{Arc, Barrier, mpsc};

/// Two that wake each other for ever.
struct Player {
    other: Option<Address<Player>>,
}
struct Meet(Address<Player>);
struct Ball;
impl Processor for Player {}
impl Handle<Meet> for Player {
    type Reply = ();
    fn handle(&mut self, Meet(other): Meet, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.other = Some(other);
        Ok(())
    }
}
impl Handle<Ball> for Player {
    type Reply = ();
    fn handle(&mut self, _: Ball, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Some(other) = &self.other
            && !cx.runtime().is_ending()
        {
            other.send(Ball)?;
        }
        Ok(())
    }
}

/// On the only thread of a pool: a cell that was just woken comes first, but not for ever.
#[test]
fn two_that_wake_each_other_for_ever_do_not_hold_up_a_third() {
    let node = real();
    let pool = node.pool("workers", 1).unwrap();
    let left = pool.spawn("left", Player { other: None }).unwrap();
    let right = pool.spawn("right", Player { other: None }).unwrap();
    left.send(Meet(right.clone())).unwrap();
    right.send(Meet(left.clone())).unwrap();
    let third = pool
        .spawn("third", closure(|n: u32, _| Ok::<_, Fault>(n + 1)))
        .unwrap();
    left.send(Ball).unwrap();
    for n in 0..100 {
        assert_eq!(third.call(n).wait().unwrap(), n + 1);
    }
    drop(node.shutdown(60 * SECOND));
}

/// As many handlers run at once as there are threads: the barrier opens only then.
#[test]
fn as_many_handlers_run_at_once_as_there_are_threads() {
    let node = real();
    let pool = node.pool("workers", 4).unwrap();
    let barrier = Arc::new(Barrier::new(4));
    let all: Vec<_> = (0..4)
        .map(|n| {
            let barrier = barrier.clone();
            let meet = closure(move |(): (), _| {
                barrier.wait();
                Ok::<_, Fault>(())
            });
            pool.spawn(&format!("p{n}"), meet).unwrap()
        })
        .collect();
    let mut calls: Vec<_> = all.iter().map(|p| p.call(())).collect();
    calls.iter_mut().for_each(mproc::Pending::begin);
    for call in calls {
        call.wait().unwrap();
    }
    assert_eq!(driver(&node, "workers").threads, 4);
}

/// What a handler has woken stands in its worker's slot, which wakes nobody. A handler that goes on for long does not hold it up.
#[test]
fn what_a_long_handler_has_woken_is_handled_before_it_returns() {
    let node = real();
    let pool = node.pool("workers", 2).unwrap();
    let (tell, told) = mpsc::channel();
    let quick = pool
        .spawn(
            "quick",
            closure(move |n: u32, _| Ok::<_, Fault>(tell.send(n)?)),
        )
        .unwrap();
    let long = closure(move |n: u32, _| {
        quick.send(n)?;
        // Returns only when the other has handled it. No wait of mproc's: nothing tells the pool.
        assert_eq!(told.recv()?, n);
        Ok::<_, Fault>(n)
    });
    let long = pool.spawn("long", long).unwrap();
    for n in 0..3 {
        assert_eq!(long.call(n).wait().unwrap(), n);
    }
}

/// All threads are inside handlers that wait for a fifth one, and nobody has told the pool: the monitor finds out.
#[test]
fn a_pool_whose_threads_are_all_inside_long_handlers_gets_another() {
    let node = real();
    let pool = node.pool("workers", 2).unwrap();
    let (open, opened) = mpsc::channel::<()>();
    let opened = Arc::new(std::sync::Mutex::new(opened));
    let (enter, entered) = mpsc::channel();
    let all: Vec<_> = (0..2)
        .map(|n| {
            let (opened, enter) = (opened.clone(), enter.clone());
            let wait = closure(move |(): (), _| {
                enter.send(())?;
                Ok::<_, Fault>(opened.lock().unwrap().recv()?)
            });
            pool.spawn(&format!("p{n}"), wait).unwrap()
        })
        .collect();
    let mut calls: Vec<_> = all.iter().map(|p| p.call(()).limit(60 * SECOND)).collect();
    calls.iter_mut().for_each(mproc::Pending::begin);
    (0..2).for_each(|_| entered.recv().unwrap());
    let opener = closure(move |(): (), _| {
        for _ in 0..2 {
            open.send(())?;
        }
        Ok::<_, Fault>(())
    });
    let opener = pool.spawn("opener", opener).unwrap();
    opener.call(()).limit(60 * SECOND).wait().unwrap();
    for call in calls {
        call.wait().unwrap();
    }
    assert!(driver(&node, "workers").threads > 2);
    // Nothing but the pool's own threads is in use afterwards.
    node.settle();
    assert_eq!(driver(&node, "workers").blocked, 0);
}

#[test]
fn the_default_pool_is_made_at_its_first_use_and_serves_all_that_name_none() {
    let node = simulated(1);
    assert!(node.snapshot().drivers.is_empty());
    let echo = node
        .spawn("echo", closure(|n: u32, _| Ok::<_, Fault>(n)))
        .unwrap();
    let other = node
        .spawn("other", closure(|n: u32, _| Ok::<_, Fault>(n)))
        .unwrap();
    assert_eq!(
        echo.call(1).wait().unwrap() + other.call(2).wait().unwrap(),
        3
    );
    let drivers = node.snapshot().drivers.clone();
    assert_eq!(drivers.len(), 1);
    assert_eq!(
        (drivers[0].name.as_str(), drivers[0].kind.as_str()),
        ("default pool", "pool")
    );
    assert_eq!(drivers[0].members, 2);
    assert!(drivers[0].threads >= 2);
}

#[test]
fn names_are_shared_with_other_drivers_and_wrong_pools_are_refused() {
    let node = simulated(1);
    let pool = node.pool("p", 1).unwrap();
    assert_eq!(
        node.pool("p", 1).unwrap_err().to_string(),
        "cannot make driver \"p\": the name is taken"
    );
    assert!(node.driver("p").is_err());
    let zero = node.pool("zero", 0).unwrap_err();
    assert_eq!(zero.kind(), mproc::ErrorKind::InvalidSetting);
    assert!(matches!(
        pool.spawn("p", closure(|(): (), _| ())),
        Err(SpawnError::NameTaken(_))
    ));
    pool.spawn("a", closure(|(): (), _| ())).unwrap();
    assert!(matches!(
        pool.spawn("a", closure(|(): (), _| ())),
        Err(SpawnError::NameTaken(_))
    ));
    assert_eq!(driver(&node, "p").members, 1);
}

/// Each message spawns two more processors, from inside handlers.
#[test]
fn a_tree_of_processors_grows_on_a_pool_and_counts_its_leaves() {
    struct Tree {
        pool: mproc::Pool,
        waiting: Option<mproc::ReplyToken<u64>>,
        missing: u32,
        sum: u64,
        path: String,
    }
    struct Grow(u32);
    struct Leaves(u64);
    impl Processor for Tree {}
    impl Handle<Grow> for Tree {
        type Reply = u64;
        fn handle(&mut self, Grow(depth): Grow, cx: &mut Cx<'_, Self, u64>) -> Outcome<u64> {
            if depth == 0 {
                cx.stop();
                return Ok(1);
            }
            for n in 0..2 {
                let path = format!("{}{n}", self.path);
                let child = Tree {
                    pool: self.pool.clone(),
                    waiting: None,
                    missing: 2,
                    sum: 0,
                    path: path.clone(),
                };
                let child = self.pool.spawn(&path, child)?;
                child.call(Grow(depth - 1)).then(cx, |me, leaves, cx| {
                    cx.handle_now(me, Leaves(leaves?));
                    Ok(())
                });
            }
            cx.reply_later(|token| self.waiting = Some(token))
        }
    }
    impl Handle<Leaves> for Tree {
        type Reply = ();
        fn handle(&mut self, Leaves(n): Leaves, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            self.sum += n;
            self.missing -= 1;
            if self.missing == 0
                && let Some(token) = self.waiting.take()
            {
                token.send(self.sum);
                cx.stop();
            }
            Ok(())
        }
    }
    for threads in [1, 2, 4] {
        let node = real();
        let pool = node.pool("workers", threads).unwrap();
        let root = Tree {
            pool: pool.clone(),
            waiting: None,
            missing: 2,
            sum: 0,
            path: "t".into(),
        };
        let root = pool.spawn("t", root).unwrap();
        assert_eq!(root.call(Grow(9)).limit(60 * SECOND).wait().unwrap(), 512);
    }
}

/// The cores that a thread may run on, and its nice value, as the system says.
#[cfg(target_os = "linux")]
#[test]
fn threads_are_as_they_were_asked_to_be_and_what_cannot_be_is_refused() {
    use mproc::{ErrorKind, PoolOptions, ThreadOptions};
    let node = real();
    // Of the calling thread: the cores that it may use, and how nice it is.
    let of_this_thread = || {
        let status = std::fs::read_to_string("/proc/thread-self/status")?;
        let mut lines = status.lines();
        let cores = lines.find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
        let stat = std::fs::read_to_string("/proc/thread-self/stat")?;
        // Behind the name, which stands in brackets: the 17th word.
        let nice = stat.rsplit(')').next();
        let nice = nice.and_then(|rest| rest.split_whitespace().nth(16));
        let cores = cores.unwrap_or_default().trim().to_owned();
        Ok::<(String, i32), Fault>((cores, nice.unwrap_or_default().parse()?))
    };
    let tell = || closure(move |(): (), _cx| of_this_thread());
    // The first core that this process may use, and a niceness that it may take.
    let (cores, own_nice) = of_this_thread().unwrap();
    let core: usize = cores.split([',', '-']).next().unwrap().parse().unwrap();
    let nice = own_nice.max(3);
    let wanted = (core.to_string(), nice);
    let first = ThreadOptions::default().cores([core]).nice(nice);
    let options = PoolOptions::threads(2).each_thread(first.clone());
    let pool = node.pool_with("pool", options).unwrap();
    let on_pool = pool.spawn("on the pool", tell()).unwrap();
    let shared = node.driver_with("shared", first).unwrap();
    let on_shared = shared.spawn("on the driver", tell()).unwrap();
    assert_eq!(on_pool.call(()).wait().unwrap(), wanted);
    assert_eq!(on_shared.call(()).wait().unwrap(), wanted);
    let refused = |options: ThreadOptions| node.driver_with("odd", options).unwrap_err();
    for options in [
        ThreadOptions::default().nice(20),
        ThreadOptions::default().cores([]),
        ThreadOptions::default().cores([1000]),
        ThreadOptions::default().cores([1_000_000]),
    ] {
        let error = refused(options);
        assert_eq!(error.kind(), ErrorKind::InvalidSetting, "{error}");
        assert!(
            error
                .to_string()
                .starts_with("cannot make driver \"odd\": "),
            "{error}"
        );
    }
    // Nothing is left of them.
    node.driver("odd").unwrap();
}

/// One that has very many messages, each of which takes longer than a turn may, gives the only thread away in between.
#[test]
fn a_flooded_processor_with_slow_handlers_does_not_keep_its_thread_for_a_whole_batch() {
    let node = real();
    let pool = node.pool("workers", 1).unwrap();
    let (order, came) = mpsc::channel();
    let (open, opened) = mpsc::channel::<()>();
    let tell = order.clone();
    let mut is_first = true;
    let slow = closure(move |(): (), _cx| {
        if std::mem::take(&mut is_first) {
            opened.recv()?;
        }
        // Longer than a turn, on any machine.
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        Ok::<_, Fault>(tell.send("slow")?)
    });
    let slow = pool.spawn("slow", slow).unwrap();
    let other = closure(move |(): (), _| Ok::<_, Fault>(order.send("other")?));
    let other = pool.spawn("other", other).unwrap();
    (0..60).for_each(|_| slow.send(()).unwrap());
    other.send(()).unwrap();
    open.send(()).unwrap();
    // All is queued before the first of them returns, so the order says it, and not the time.
    let before = (0..61).position(|_| came.recv().unwrap() == "other");
    assert!(before.unwrap() < 16, "{before:?} came before it");
}
