//! Futures on whole pools, under a scheduler that draws the order of all steps.

use crate::sync::{Mutex, thread};
use crate::{Cx, Handle, Options, Outcome, Processor, Runtime};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

const ORDERS: usize = 300;

fn in_many_orders(program: impl Fn() + Send + Sync + 'static) {
    let orders = std::env::var("MPROC_ORDERS").ok();
    let orders = orders.and_then(|n| n.parse().ok()).unwrap_or(ORDERS);
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    // It draws another seed each time, and prints it when a run fails.
    let scheduler = shuttle::scheduler::RandomScheduler::new(orders);
    shuttle::Runner::new(scheduler, config).run(program);
}

/// A number that grows, and who waits for it to.
#[derive(Clone, Default)]
struct Number(Arc<Mutex<(u32, Vec<Waker>)>>);

impl Number {
    fn grow(&self) {
        let wakers = {
            let mut state = self.0.lock();
            state.0 += 1;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn reaches(&self, least: u32) -> impl Future<Output = ()> + Send + 'static {
        let number = self.clone();
        poll_fn(move |context| {
            let mut state = number.0.lock();
            if state.0 >= least {
                return Poll::Ready(());
            }
            state.1.push(context.waker().clone());
            Poll::Pending
        })
    }
}

/// Waits for a number in its handler, and counts.
struct Waits {
    number: Number,
    handled: Vec<u32>,
}

struct Until(u32);
struct Get;

impl Processor for Waits {}

impl Handle<Until> for Waits {
    type Reply = ();
    fn handle(&mut self, Until(n): Until, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let reaches = self.number.reaches(n);
        self.handled.push(n);
        cx.reply_async(async move {
            reaches.await;
            Ok(())
        })
    }
}

impl Handle<Get> for Waits {
    type Reply = Vec<u32>;
    fn handle(&mut self, _: Get, _: &mut Cx<'_, Self, Vec<u32>>) -> Outcome<Vec<u32>> {
        Ok(self.handled.clone())
    }
}

/// Wakes meet workers that run the cell, let go of it, steal it and sleep, and messages that come meanwhile.
#[test]
fn shuttle_a_handlers_future_is_woken_whichever_worker_polls_it() {
    in_many_orders(|| {
        let node = Runtime::with_options(Options::default());
        let pool = node.pool("pool", 2).unwrap();
        let number = Number::default();
        let waits = [1, 2].map(|n| {
            let state = Waits {
                number: number.clone(),
                handled: Vec::new(),
            };
            pool.spawn(&format!("waits {n}"), state).unwrap()
        });
        let grows = number.clone();
        let grower = thread::spawn(move || (0..3).for_each(|_| grows.grow()));
        for n in 1..=3 {
            waits.iter().for_each(|w| w.send(Until(n)).unwrap());
        }
        for w in &waits {
            assert_eq!(w.call(Get).wait().unwrap(), [1, 2, 3]);
        }
        grower.join().unwrap();
        assert!(node.shutdown(Duration::from_secs(60)).is_clean());
    });
}
