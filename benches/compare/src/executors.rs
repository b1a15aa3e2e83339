//! Threads on which the tasks and actors of the peers run.
//!
//! The counterpart of a driver of `mproc` is one thread. For tokio, kameo and ractor that is a
//! runtime of the kind `current_thread`; for actix, an `Arbiter`.

use std::{
    io,
    pin::pin,
    sync::mpsc,
    task::{Context, Poll, Waker},
    thread::{self, JoinHandle},
};

use actix::{Arbiter, ArbiterHandle, System};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

/// A runtime of one thread, for futures that the calling thread itself awaits.
pub(crate) fn here() -> Runtime {
    let runtime = Builder::new_current_thread().build();
    runtime.expect("a runtime can be made")
}

/// A thread that runs a tokio runtime until this is dropped.
#[derive(Debug)]
pub(crate) struct TokioThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TokioThread {
    /// Starts the thread.
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime can be made");
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            // Ends when the sender is dropped, too.
            let _ = runtime.block_on(stopped);
        });
        Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The runtime of this thread.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for TokioThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A thread that runs the system of actix, and the threads of its arbiters, until this is dropped.
#[derive(Debug)]
pub(crate) struct ActixThreads {
    system: System,
    arbiters: Vec<ArbiterHandle>,
    thread: Option<JoinHandle<()>>,
}

impl ActixThreads {
    /// Starts the system, which sleeps, and this many arbiters.
    pub(crate) fn start(arbiters: usize) -> Self {
        let (give, take) = mpsc::channel();
        let thread = thread::spawn(move || {
            let system = System::new();
            let arbiters: Vec<_> = (0..arbiters).map(|_| Arbiter::new()).collect();
            let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
            give.send((System::current(), handles))
                .expect("the starting thread waits");
            system.run().expect("the system of actix runs");
            for arbiter in arbiters {
                arbiter.stop();
                let _ = arbiter.join();
            }
        });
        let (system, arbiters) = take.recv().expect("the system of actix starts");
        Self {
            system,
            arbiters,
            thread: Some(thread),
        }
    }

    /// The arbiter with this index.
    pub(crate) fn arbiter(&self, index: usize) -> &ArbiterHandle {
        &self.arbiters[index]
    }
}

impl Drop for ActixThreads {
    fn drop(&mut self) {
        self.system.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A tokio runtime of two workers, the counterpart of a pool of two threads.
pub(crate) fn two_workers() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
}

/// Runs a future that has nothing to wait for, as sending without a bound: it must be asked once.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}
