//! One actor for each actor crate: it hands every number it receives to a function.

/// An actor whose state is a function that takes the numbers.
#[derive(Debug)]
pub(crate) struct Taker<F>(pub(crate) F);

/// The message of [`Taker`], where the crate wants a type of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number(pub(crate) u64);

pub(crate) mod kameo {
    use kameo::{
        Actor,
        actor::{ActorRef, Spawn as _},
        error::Infallible,
        mailbox,
        message::{Context, Message},
    };
    use tokio::runtime::Handle;

    use super::{Number, Taker};

    impl<F: FnMut(u64) + Send + 'static> Actor for Taker<F> {
        type Args = Self;
        type Error = Infallible;

        async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
            Ok(args)
        }
    }

    impl<F: FnMut(u64) + Send + 'static> Message<Number> for Taker<F> {
        type Reply = ();

        async fn handle(&mut self, Number(number): Number, _: &mut Context<Self, ()>) {
            (self.0)(number);
        }
    }

    /// Starts an actor with a mailbox of this capacity, or without a bound.
    pub(crate) fn start<F>(on: &Handle, capacity: Option<usize>, take: F) -> ActorRef<Taker<F>>
    where
        F: FnMut(u64) + Send + 'static,
    {
        let _on = on.enter();
        Taker::spawn_with_mailbox(
            Taker(take),
            capacity.map_or_else(mailbox::unbounded, mailbox::bounded),
        )
    }
}

pub(crate) mod ractor {
    use std::{error::Error, marker::PhantomData};

    use ractor::{Actor, ActorProcessingErr, ActorRef};
    use tokio::runtime::Handle;

    struct Taker<F>(PhantomData<fn(F)>);

    impl<F: FnMut(u64) + Send + 'static> Actor for Taker<F> {
        type Msg = u64;
        type State = F;
        type Arguments = F;

        async fn pre_start(&self, _: ActorRef<u64>, take: F) -> Result<F, ActorProcessingErr> {
            Ok(take)
        }

        async fn handle(
            &self,
            _: ActorRef<u64>,
            number: u64,
            take: &mut F,
        ) -> Result<(), ActorProcessingErr> {
            take(number);
            Ok(())
        }
    }

    /// Starts an actor. Its mailbox has no bound: ractor has no other.
    pub(crate) fn start<F>(on: &Handle, take: F) -> Result<ActorRef<u64>, Box<dyn Error>>
    where
        F: FnMut(u64) + Send + 'static,
    {
        let (actor, _) = on.block_on(Actor::spawn(None, Taker(PhantomData), take))?;
        Ok(actor)
    }
}

pub(crate) mod actix {
    use actix::{Actor, Addr, ArbiterHandle, Context, Handler, Message};

    use super::{Number, Taker};

    impl<F: FnMut(u64) + Unpin + 'static> Actor for Taker<F> {
        type Context = Context<Self>;
    }

    impl Message for Number {
        type Result = ();
    }

    impl<F: FnMut(u64) + Unpin + 'static> Handler<Number> for Taker<F> {
        type Result = ();

        fn handle(&mut self, Number(number): Number, _: &mut Context<Self>) {
            (self.0)(number);
        }
    }

    /// Starts an actor with a mailbox of this capacity, which `do_send` goes around.
    pub(crate) fn start<F>(on: &ArbiterHandle, capacity: usize, take: F) -> Addr<Taker<F>>
    where
        F: FnMut(u64) + Unpin + Send + 'static,
    {
        Taker::start_in_arbiter(on, move |cx| {
            cx.set_mailbox_capacity(capacity);
            Taker(take)
        })
    }
}
