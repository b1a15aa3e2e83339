//! Who of a pool's threads searches and who is asleep, and who is woken for what. `README.md` beside this file has the words,
//! the rules and the argument.

use crate::sync::{AtomicU64, Mutex, Relaxed, SeqCst, fence};
use std::task::Waker;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Sleep {
    /// Searching workers in the low half, sleeping ones in the high half. Changed under the lock of `sleepers` where
    /// `asleep` changes, so that it agrees with the list.
    counts: AtomicU64,
    sleepers: Mutex<Vec<Sleeper>>,
}

#[derive(Debug)]
struct Sleeper {
    worker: usize,
    waker: Waker,
}

const SEARCHING: u64 = 1;
const ASLEEP: u64 = 1 << 32;

fn searching(counts: u64) -> u64 {
    counts % ASLEEP
}

fn asleep(counts: u64) -> u64 {
    counts / ASLEEP
}

/// Where a worker stands that has been woken, or woke by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Somebody has taken it off the list: it searches now.
    Taken,
    /// It is in the list, and keeps the time.
    Keeper,
    /// It is in the list.
    Asleep,
}

impl Sleep {
    pub(crate) fn new() -> Self {
        Self {
            counts: AtomicU64::new(0),
            sleepers: Mutex::new(Vec::new()),
        }
    }

    /// Work has been added: rule 1. True if somebody was woken for it.
    #[inline]
    pub(crate) fn notify(&self) -> bool {
        // Partner: the fences in `lie_down` and `found`.
        fence(SeqCst);
        let counts = self.counts.load(Relaxed);
        if searching(counts) > 0 || asleep(counts) == 0 {
            return false;
        }
        self.wake_last()
    }

    #[cold]
    fn wake_last(&self) -> bool {
        let waker = {
            let mut sleepers = self.sleepers.lock();
            // Two may come here for two pushes; the second finds that the first has somebody searching.
            if searching(self.counts.load(Relaxed)) > 0 {
                return false;
            }
            let Some(last) = sleepers.pop() else {
                return false;
            };
            // One step: nobody sees it neither asleep nor searching.
            self.counts
                .fetch_add(SEARCHING.wrapping_sub(ASLEEP), SeqCst);
            last.waker
        };
        waker.wake();
        true
    }

    /// Begins to search, unless half of `threads` do already: more would only get in each other's way.
    pub(crate) fn begin_search(&self, threads: usize) -> bool {
        // A guess is good enough: it only limits how many search.
        if searching(self.counts.load(Relaxed)) * 2 >= threads as u64 {
            return false;
        }
        self.counts.fetch_add(SEARCHING, SeqCst);
        true
    }

    /// A searcher stops searching, because it has found work or has something else to do: rule 3. True if it was the last:
    /// then it looks whether there is more work, and calls [`notify`](Self::notify) if so.
    pub(crate) fn found(&self) -> bool {
        let before = self.counts.fetch_sub(SEARCHING, SeqCst);
        // Partner: the fence in `notify`.
        fence(SeqCst);
        searching(before) == 1
    }

    /// Enters the list of sleepers: rule 2. The caller then looks for work, and calls [`get_up`](Self::get_up) if there is
    /// any. `was_searching` says how it is counted now.
    pub(crate) fn lie_down(&self, worker: usize, waker: Waker, was_searching: bool) {
        {
            let mut sleepers = self.sleepers.lock();
            sleepers.push(Sleeper { worker, waker });
            let less = if was_searching { SEARCHING } else { 0 };
            self.counts.fetch_add(ASLEEP - less, SeqCst);
        }
        // Partner: the fence in `notify`.
        fence(SeqCst);
    }

    /// Leaves the list, if nobody has taken the worker off it meanwhile; either way it searches now.
    pub(crate) fn get_up(&self, worker: usize) {
        let (_sleeper, keeper) = {
            let mut sleepers = self.sleepers.lock();
            let Some(at) = sleepers.iter().position(|s| s.worker == worker) else {
                return;
            };
            self.counts
                .fetch_add(SEARCHING.wrapping_sub(ASLEEP), SeqCst);
            let sleeper = sleepers.remove(at);
            // The next one sleeps without a limit: it is the keeper from now on, and must read the deadlines.
            let next = sleepers.first().filter(|_| at == 0);
            (sleeper, next.map(|s| s.waker.clone()))
        };
        if let Some(keeper) = keeper {
            keeper.wake();
        }
    }

    /// Where a worker stands that entered the list.
    pub(crate) fn standing(&self, worker: usize) -> Standing {
        let sleepers = self.sleepers.lock();
        match sleepers.iter().position(|s| s.worker == worker) {
            None => Standing::Taken,
            Some(0) => Standing::Keeper,
            Some(_) => Standing::Asleep,
        }
    }

    /// The nearest deadline has changed: whoever keeps the time reads it again.
    pub(crate) fn ring_keeper(&self) {
        let keeper = self.sleepers.lock().first().map(|s| s.waker.clone());
        if let Some(keeper) = keeper {
            keeper.wake();
        }
    }

    /// Wakes all, for something that each must see for itself. They stay in the list until they get up.
    pub(crate) fn ring_all(&self) {
        let all: Vec<_> = self
            .sleepers
            .lock()
            .iter()
            .map(|s| s.waker.clone())
            .collect();
        all.into_iter().for_each(Waker::wake);
    }

    /// How many are asleep, by a look that may be late.
    pub(crate) fn asleep(&self) -> u64 {
        asleep(self.counts.load(Relaxed))
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::thread;
    use crate::world::World;
    use std::sync::Arc;

    /// A pool in which a cell is a bit, and a worker ends when all were handled.
    struct Model {
        sleep: Sleep,
        /// No lock orders a push before a look at it, as none does in a deque: only the fences of the protocol do.
        queue: AtomicU64,
        /// Handled so far.
        sum: Mutex<u64>,
        until: u64,
        /// Whoever handles 1 stays at it until 2 is handled.
        one_is_long: bool,
    }

    impl Model {
        fn new(until: u64) -> Arc<Self> {
            Arc::new(Self {
                sleep: Sleep::new(),
                queue: AtomicU64::new(0),
                sum: Mutex::new(0),
                until,
                one_is_long: false,
            })
        }

        fn push(&self, n: u64) {
            self.queue.fetch_or(n, Relaxed);
            self.sleep.notify();
        }

        fn has_work(&self) -> bool {
            self.queue.load(Relaxed) != 0
        }

        /// Takes one, if its look is not late.
        fn pop(&self) -> Option<u64> {
            let seen = self.queue.load(Relaxed);
            let n = seen & seen.wrapping_neg();
            (n != 0 && self.queue.fetch_and(!n, Relaxed) & n != 0).then_some(n)
        }

        fn work(&self, worker: usize) {
            let waker = World::Real.waker();
            let mut searching = false;
            loop {
                let found = self.pop();
                if let Some(n) = found {
                    if std::mem::take(&mut searching) && self.sleep.found() && self.has_work() {
                        self.sleep.notify();
                    }
                    while self.one_is_long && n == 1 && *self.sum.lock() & 2 == 0 {
                        thread::yield_now();
                    }
                    let over = {
                        let mut sum = self.sum.lock();
                        *sum += n;
                        *sum == self.until
                    };
                    if over {
                        // The end is said to all, as by a pool.
                        self.sleep.ring_all();
                    }
                    continue;
                }
                if *self.sum.lock() == self.until {
                    return;
                }
                if !searching && self.sleep.begin_search(2) {
                    searching = true;
                    continue;
                }
                self.sleep.lie_down(worker, waker.clone(), searching);
                if self.has_work() || *self.sum.lock() == self.until {
                    self.sleep.get_up(worker);
                    searching = true;
                    continue;
                }
                while self.sleep.standing(worker) != Standing::Taken {
                    if *self.sum.lock() == self.until {
                        self.sleep.get_up(worker);
                        break;
                    }
                    World::Real.park(None);
                }
                searching = true;
            }
        }
    }

    /// Two workers, of which none may sleep over what a thread from outside pushes.
    #[test]
    fn loom_no_work_is_slept_over_by_two_workers() {
        loom::model(|| {
            let model = Model::new(3);
            let theirs = model.clone();
            let worker = thread::spawn(move || theirs.work(1));
            let theirs = model.clone();
            let pusher = thread::spawn(move || {
                theirs.push(1);
                theirs.push(2);
            });
            model.work(0);
            pusher.join().unwrap();
            worker.join().unwrap();
        });
    }

    /// Work that came while one searched is not left to that one alone, which has found something long.
    #[test]
    fn loom_no_work_waits_for_a_worker_that_is_busy_while_another_sleeps() {
        loom::model(|| {
            let model = Arc::new(Model {
                one_is_long: true,
                sleep: Sleep::new(),
                queue: AtomicU64::new(0),
                sum: Mutex::new(0),
                until: 3,
            });
            let theirs = model.clone();
            let worker = thread::spawn(move || theirs.work(1));
            let theirs = model.clone();
            let pusher = thread::spawn(move || {
                theirs.push(1);
                theirs.push(2);
            });
            model.work(0);
            pusher.join().unwrap();
            worker.join().unwrap();
        });
    }

    /// One worker, two that push.
    #[test]
    fn loom_no_work_is_slept_over_that_two_push() {
        loom::model(|| {
            let model = Model::new(3);
            let pushers: Vec<_> = (1..=2)
                .map(|n| {
                    let theirs = model.clone();
                    thread::spawn(move || theirs.push(n))
                })
                .collect();
            model.work(0);
            for pusher in pushers {
                pusher.join().unwrap();
            }
        });
    }

    /// A deadline that is added while the keeper goes to sleep is read by it.
    #[test]
    fn loom_a_new_deadline_reaches_the_keeper() {
        loom::model(|| {
            let sleep = Arc::new(Sleep::new());
            let deadlines = Arc::new(Mutex::new(0));
            let (theirs, added) = (sleep.clone(), deadlines.clone());
            let adder = thread::spawn(move || {
                *added.lock() = 1;
                theirs.ring_keeper();
            });
            sleep.lie_down(0, World::Real.waker(), false);
            while *deadlines.lock() == 0 {
                World::Real.park(None);
            }
            adder.join().unwrap();
        });
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Wake;

    #[derive(Default)]
    struct Bell(std::sync::atomic::AtomicU32);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// The second had parked without a limit, since the first kept the time, and the first had found work before it slept: it
    /// came back behind the second, and nobody kept the time.
    #[test]
    fn who_becomes_the_keeper_while_it_sleeps_is_woken_to_read_the_deadlines() {
        let sleep = Sleep::new();
        let bells: [Arc<Bell>; 3] = Default::default();
        for (number, bell) in bells.iter().enumerate() {
            sleep.lie_down(number, bell.clone().into(), false);
        }
        let rung = || bells.clone().map(|bell| bell.0.load(SeqCst));
        assert_eq!(sleep.standing(1), Standing::Asleep);
        sleep.get_up(0);
        assert_eq!(sleep.standing(1), Standing::Keeper);
        assert_eq!(rung(), [0, 1, 0]);
        // Who was none leaves nothing to be done.
        sleep.get_up(2);
        assert_eq!(rung(), [0, 1, 0]);
    }
}
