//! A call to one of several: who that is is decided when it is put on its way.

use super::pool_address::{Member, PoolAddress, wait_at};
use crate::call::Call;
use crate::error::CallError;
use crate::exit::Exit;
use crate::pending::{CleanUp, CutShort, Operation};
use crate::processor::Handle;
use crate::queue::Waiter;
use crate::runtime::RuntimeCore;
use crate::sync::{AtomicBool, Mutex, Relaxed};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// See the module's documentation. What comes after the choice is an ordinary [`Call`].
pub(crate) struct PoolCall<P: Handle<M>, M> {
    pool: PoolAddress<P>,
    key: Option<u64>,
    /// The thread will block for it: members that only this thread can run are the last choice.
    blocks: AtomicBool,
    state: Mutex<State<P, M>>,
}

struct State<P: Handle<M>, M> {
    /// Until somebody is chosen.
    message: Option<M>,
    chosen: Option<Chosen<P, M>>,
}

struct Chosen<P: Handle<M>, M> {
    member: Arc<Member<P>>,
    call: Arc<Call<P, M>>,
}

impl<P: Handle<M>, M> Clone for Chosen<P, M> {
    fn clone(&self) -> Self {
        Self {
            member: self.member.clone(),
            call: self.call.clone(),
        }
    }
}

impl<P: Handle<M>, M: Send + 'static> PoolCall<P, M> {
    pub(crate) fn new(pool: PoolAddress<P>, key: Option<u64>, message: M) -> Self {
        Self {
            pool,
            key,
            blocks: AtomicBool::new(false),
            state: Mutex::new(State {
                message: Some(message),
                chosen: None,
            }),
        }
    }

    fn chosen(&self) -> Option<Chosen<P, M>> {
        self.state.lock().chosen.clone()
    }

    /// Who gets it; `None` if all have ended.
    fn choose(&self) -> Option<Arc<Member<P>>> {
        let members = self.pool.now();
        if let Some(key) = self.key {
            return self.pool.of_key(&members, key);
        }
        let blocks = self.blocks.load(Relaxed);
        let mut full = Vec::new();
        for member in self.pool.in_order(&members) {
            if member.address.is_closed() {
                self.pool.let_go(&member);
            } else if member.address.has_room() && !(blocks && member.address.only_here()) {
                return Some(member);
            } else {
                full.push(member);
            }
        }
        wait_at(full)
    }

    fn chosen_or_choose(&self) -> Option<Chosen<P, M>> {
        if let Some(chosen) = self.chosen() {
            return Some(chosen);
        }
        let member = self.choose()?;
        let message = self.state.lock().message.take()?;
        let call = member.address.call_operation(message);
        let chosen = Chosen { member, call };
        self.state.lock().chosen = Some(chosen.clone());
        Some(chosen)
    }

    /// Chooses somebody, again if that one has ended, and has the call begin there.
    fn begin_by(
        &self,
        ticket: &mut Waiter,
        begin: impl Fn(Arc<Call<P, M>>, &mut Waiter) -> Poll<Result<(), CallError>>,
    ) -> Poll<Result<(), CallError>> {
        loop {
            let Some(chosen) = self.chosen_or_choose() else {
                return Poll::Ready(Err(CallError::Stopped(Exit::Stopped)));
            };
            match begin(chosen.call.clone(), ticket) {
                Poll::Ready(Ok(())) => {
                    chosen.member.count_sent();
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(CallError::Stopped(exit))) => {
                    chosen.call.retreat(ticket);
                    if !self.choose_again(&chosen) {
                        return Poll::Ready(Err(CallError::Stopped(exit)));
                    }
                }
                other => return other,
            }
        }
    }

    /// The chosen one has ended before the message was queued. False if the message cannot be had back.
    fn choose_again(&self, chosen: &Chosen<P, M>) -> bool {
        self.pool.let_go(&chosen.member);
        let message = chosen.call.take_back();
        let mut state = self.state.lock();
        // What was chosen is held by the caller, too: nothing is dropped under the lock.
        state.chosen = None;
        state.message = message;
        state.message.is_some()
    }
}

impl<P: Handle<M>, M: Send + 'static> Operation<P::Reply, CallError> for PoolCall<P, M> {
    fn begin(self: Arc<Self>, ticket: &mut Waiter, waker: &Waker) -> Poll<Result<(), CallError>> {
        self.begin_by(ticket, |call, ticket| call.begin(ticket, waker))
    }

    fn go_on(self: Arc<Self>, ticket: &mut Waiter, waker: &Waker) -> Poll<Result<(), CallError>> {
        self.begin_by(ticket, |call, ticket| call.go_on(ticket, waker))
    }

    fn retreat(&self, ticket: &mut Waiter) {
        if let Some(chosen) = self.chosen() {
            chosen.call.retreat(ticket);
            // Nothing was started: the next attempt chooses afresh.
            let message = chosen.call.take_back();
            let mut state = self.state.lock();
            if message.is_some() {
                state.chosen = None;
                state.message = message;
            }
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<P::Reply, CallError>> {
        match self.chosen() {
            Some(chosen) => chosen.call.poll(waker),
            None => Poll::Pending,
        }
    }

    fn is_done(&self) -> bool {
        self.chosen().is_some_and(|chosen| chosen.call.is_done())
    }

    fn abandon(&self, ticket: &mut Waiter) {
        if let Some(chosen) = self.chosen() {
            chosen.call.abandon(ticket);
        }
    }

    fn refuse_to_block(&self) -> Option<CallError> {
        if let Some(chosen) = self.chosen() {
            return chosen.call.refuse_to_block();
        }
        self.blocks.store(true, Relaxed);
        let members = self.pool.now();
        let asked = match self.key {
            Some(key) => self.pool.of_key(&members, key).into_iter().collect(),
            None => members.to_vec(),
        };
        let only_here = |m: &Arc<Member<P>>| m.address.only_here();
        if asked.is_empty() || !asked.iter().all(only_here) {
            return None;
        }
        let names = asked.iter().map(|m| m.address.name().clone());
        Some(CallError::Deadlock(names.collect()))
    }

    fn clean_up(self: Arc<Self>) -> Option<CleanUp> {
        self.chosen()?.call.clean_up()
    }

    fn timeout(&self) -> CallError {
        CallError::Timeout
    }

    fn cut_short(&self, why: CutShort) -> CallError {
        CallError::cut_short(why)
    }

    fn what(&self) -> &'static str {
        "call"
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.pool.runtime().clone()
    }

    fn limit(&self) -> Duration {
        self.pool.runtime().options.call_limit
    }
}
