//! Steal against run, with the real cell: two workers that take it, run it, put it back and steal it from each other, while
//! somebody sends to it.
//!
//! That the cell is never entered by both is seen by the model checker itself, which knows each access to its body. How a
//! worker sleeps is modelled in `../sleep/`; here one that finds nothing leaves, and whoever is last looks again.

use super::queues::{Stealer, WorkerQueue, steal_half, take_batch};
use super::*;
use crate::cell::After;
use crate::current;
use crate::sync::thread;
use crate::{Cx, Handle, Options, Outcome, Processor, Runtime};

struct Add(u32);

#[derive(Default)]
struct Sum {
    sum: u32,
    last: u32,
}

impl Processor for Sum {}

impl Handle<Add> for Sum {
    type Reply = ();
    fn handle(&mut self, Add(n): Add, _: &mut Cx<'_, Self>) -> Outcome<()> {
        assert!(n > self.last, "{n} after {}", self.last);
        self.last = n;
        self.sum += n;
        Ok(())
    }
}

/// A pool whose workers are the model's threads.
fn pool() -> Arc<DriverCore> {
    let node = Runtime::with_options(Options::default());
    let core = node.without_guard().shared();
    // Its end is not what is looked at here.
    std::mem::forget(node);
    let name = Name::new("pool").unwrap();
    DriverCore::new_pool(name, core, PoolOptions::threads(2).spares(0))
}

fn spawn(core: &Arc<DriverCore>, capacity: usize) -> Address<Sum> {
    let options = MailboxOptions::bounded(capacity);
    spawn_cell(core, "sum", Sum::default(), true, options).unwrap()
}

/// Serves until nothing is found, one message at a time.
fn work(core: &Arc<DriverCore>, own: &WorkerQueue<CellRef>, victim: &Stealer<CellRef>) {
    let pool = core.pool().unwrap();
    current::set_driver(Some(core.id()));
    while let Some(cell) = own
        .pop()
        .or_else(|| take_batch(&pool.injector, own))
        .or_else(|| steal_half(victim, own))
    {
        match cell.run(1) {
            (cell, After::Again, _) => own.push(cell),
            (cell, After::Idle | After::Ended, _) => drop(cell),
        }
    }
    current::set_driver(None);
}

/// What is left, when the other threads have ended: a cell that has messages and stands on no queue would be lost.
fn ends_with(
    core: &Arc<DriverCore>,
    sum: Address<Sum>,
    expected: u32,
    queue: &WorkerQueue<CellRef>,
) {
    work(core, queue, &queue.stealer());
    let queued = sum.snapshot().queued;
    let found = Arc::new(Mutex::new(0));
    let tells = found.clone();
    sum.with_processor(move |sum, _| *tells.lock() = sum.sum)
        .unwrap();
    work(core, queue, &queue.stealer());
    assert_eq!((*found.lock(), queued), (expected, 0));
    core.finish();
}

/// One that sends and then works, and one that works.
#[test]
fn loom_a_cell_that_is_stolen_is_entered_once_at_a_time_and_loses_no_message() {
    loom::model(|| {
        let core = pool();
        let sum = spawn(&core, 8);
        let (ours, theirs) = (WorkerQueue::new_fifo(), WorkerQueue::new_fifo());
        let (victim, thief) = (ours.stealer(), theirs.stealer());
        let their_core = core.clone();
        let worker = thread::spawn(move || work(&their_core, &theirs, &victim));
        sum.send(Add(1)).unwrap();
        sum.send(Add(2)).unwrap();
        work(&core, &ours, &thief);
        worker.join().unwrap();
        ends_with(&core, sum, 3, &ours);
    });
}

/// Two that work, and one that sends whatever they do.
#[test]
fn loom_a_message_is_handled_that_comes_while_a_stolen_cell_goes_idle() {
    loom::model(|| {
        let core = pool();
        let sum = spawn(&core, 8);
        let (ours, theirs) = (WorkerQueue::new_fifo(), WorkerQueue::new_fifo());
        let (victim, thief) = (ours.stealer(), theirs.stealer());
        sum.send(Add(1)).unwrap();
        let to = sum.clone();
        let sender = thread::spawn(move || to.send(Add(2)).unwrap());
        let their_core = core.clone();
        let worker = thread::spawn(move || work(&their_core, &theirs, &victim));
        work(&core, &ours, &thief);
        worker.join().unwrap();
        sender.join().unwrap();
        ends_with(&core, sum, 3, &ours);
    });
}
