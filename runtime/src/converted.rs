//! An operation whose result and errors become others.

use crate::name::Name;
use crate::pending::{CleanUp, CutShort, Operation};
use crate::queue::Waiter;
use crate::runtime::RuntimeCore;
use crate::waits_for::Debt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

pub(crate) struct Converted<T, E, R, F> {
    pub(crate) op: Arc<dyn Operation<T, E>>,
    pub(crate) result: R,
    pub(crate) error: F,
}

impl<T, E, U, G, R, F> Operation<U, G> for Converted<T, E, R, F>
where
    R: Fn(T) -> Result<U, G> + Send + Sync,
    F: Fn(E) -> G + Send + Sync,
{
    fn begin(self: Arc<Self>, waiter: &mut Waiter, waker: &Waker) -> Poll<Result<(), G>> {
        self.op.clone().begin(waiter, waker).map_err(&self.error)
    }

    fn start(self: Arc<Self>, waiter: &mut Waiter, waker: &Waker) -> Poll<Result<(), G>> {
        self.op.clone().start(waiter, waker).map_err(&self.error)
    }

    fn go_on(self: Arc<Self>, waiter: &mut Waiter, waker: &Waker) -> Poll<Result<(), G>> {
        self.op.clone().go_on(waiter, waker).map_err(&self.error)
    }

    fn has_result(&self) -> bool {
        self.op.has_result()
    }

    fn cancel(&self, waiter: &mut Waiter) -> bool {
        self.op.cancel(waiter)
    }

    fn detach(&self, waiter: &mut Waiter) {
        self.op.detach(waiter);
    }

    fn clean_up(self: Arc<Self>) -> Option<CleanUp> {
        self.op.clone().clean_up()
    }

    fn cut_short(&self, why: CutShort) -> G {
        (self.error)(self.op.cut_short(why))
    }

    fn what(&self) -> &'static str {
        self.op.what()
    }

    fn retreat(&self, waiter: &mut Waiter) {
        self.op.retreat(waiter);
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<U, G>> {
        self.op.poll(waker).map(|done| match done {
            Ok(result) => (self.result)(result),
            Err(error) => Err((self.error)(error)),
        })
    }

    fn is_done(&self) -> bool {
        self.op.is_done()
    }

    fn abandon(&self, waiter: &mut Waiter) {
        self.op.abandon(waiter);
    }

    fn refuse_to_block(&self) -> Option<G> {
        self.op.refuse_to_block().map(&self.error)
    }

    fn debt(self: Arc<Self>) -> Option<Debt> {
        self.op.clone().debt()
    }

    fn deadlock(&self, circle: Vec<Name>) -> G {
        (self.error)(self.op.deadlock(circle))
    }

    fn timeout(&self) -> G {
        (self.error)(self.op.timeout())
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.op.runtime()
    }

    fn limit(&self) -> Duration {
        self.op.limit()
    }
}
