//! `skynet` by the peers. Actors that need several kilobytes each are asked for a tenth of the tree: all of them may live at once.

use std::{pin::Pin, sync::Arc};

use mproc_benches::{
    check::{Report, report},
    harness::{Answer, Workload},
    skynet::{CHILDREN, HUNDRED_K_NAME, MILLION_NAME, SKYNET, Tally, measure},
};

use crate::executors::{ActixThreads, at_once, two_workers};

pub(crate) fn workloads() -> Vec<Workload> {
    let by = |who, variant, n, run| Workload {
        question: &SKYNET,
        who,
        variant,
        n,
        run,
    };
    vec![
        by("tokio", MILLION_NAME, 1_000_000, tokio),
        by("actix", MILLION_NAME, 1_000_000, actix),
        by("tokio", HUNDRED_K_NAME, 100_000, tokio),
        by("actix", HUNDRED_K_NAME, 100_000, actix),
        by("kameo", HUNDRED_K_NAME, 100_000, kameo),
        by("xtra", HUNDRED_K_NAME, 100_000, xtra),
    ]
}

type Growing = Pin<Box<dyn Future<Output = u64> + Send>>;

/// A task for each, whose handle its parent awaits: no channel is needed.
fn branch(first: u64, leaves: u64) -> Growing {
    Box::pin(async move {
        if leaves == 1 {
            return first;
        }
        let leaves = leaves / CHILDREN;
        let children: Vec<_> = (0..CHILDREN)
            .map(|child| tokio::spawn(branch(first + child * leaves, leaves)))
            .collect();
        let mut sum = 0;
        for child in children {
            sum += child.await.expect("a branch does not panic");
        }
        sum
    })
}

fn tokio(n: u64) -> Answer {
    let runtime = two_workers()?;
    let (report, outcome) = report();
    measure(n, &outcome, || {
        runtime.spawn(async move { report.give(branch(0, n).await) });
    })
}

/// Whom an actor tells its sum.
enum Above<A> {
    Parent(A),
    Top(Arc<Report<u64>>),
}

/// A leaf, or a sum of ten.
struct Branch<A> {
    above: Option<Above<A>>,
    tally: Tally,
}

impl<A> Branch<A> {
    fn below(above: Above<A>) -> Self {
        Self {
            above: Some(above),
            tally: Tally::default(),
        }
    }

    fn top(report: Report<u64>) -> Self {
        Self::below(Above::Top(Arc::new(report)))
    }

    /// Says the sum to whoever waits for it, by `tell` if that is an actor.
    fn say(&mut self, sum: u64, tell: impl FnOnce(A)) {
        match self.above.take() {
            Some(Above::Parent(parent)) => tell(parent),
            Some(Above::Top(report)) => report.give(sum),
            None => unreachable!("each says its sum once"),
        }
    }
}

/// Grows the tree below.
struct Grow {
    first: u64,
    leaves: u64,
}

impl Grow {
    /// What the children grow.
    fn parts(&self) -> impl Iterator<Item = Self> + use<> {
        let (first, leaves) = (self.first, self.leaves / CHILDREN);
        (0..CHILDREN).map(move |child| Self {
            first: first + child * leaves,
            leaves,
        })
    }
}

struct Sum(u64);

mod actix_branch {
    use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message};

    use super::{Above, Branch, Grow, Sum};

    pub(super) struct ActixBranch(pub(super) Branch<Addr<Self>>);

    impl Actor for ActixBranch {
        type Context = Context<Self>;
    }

    impl Message for Grow {
        type Result = ();
    }

    impl Message for Sum {
        type Result = ();
    }

    impl ActixBranch {
        fn tell(&mut self, sum: u64, cx: &mut Context<Self>) {
            self.0.say(sum, |parent| parent.do_send(Sum(sum)));
            cx.stop();
        }
    }

    impl Handler<Grow> for ActixBranch {
        type Result = ();

        fn handle(&mut self, grow: Grow, cx: &mut Context<Self>) {
            if grow.leaves == 1 {
                return self.tell(grow.first, cx);
            }
            for part in grow.parts() {
                let above = Above::Parent(cx.address());
                Self(Branch::below(above)).start().do_send(part);
            }
        }
    }

    impl Handler<Sum> for ActixBranch {
        type Result = ();

        fn handle(&mut self, Sum(sum): Sum, cx: &mut Context<Self>) {
            if let Some(sum) = self.0.tally.add(sum) {
                self.tell(sum, cx);
            }
        }
    }
}

/// On one arbiter: an actor starts others where it is.
fn actix(n: u64) -> Answer {
    use actix::Actor as _;
    use actix_branch::ActixBranch;

    let there = ActixThreads::start(1);
    let (report, outcome) = report();
    let root =
        ActixBranch::start_in_arbiter(there.arbiter(0), |_| ActixBranch(Branch::top(report)));
    measure(n, &outcome, || {
        root.do_send(Grow {
            first: 0,
            leaves: n,
        });
    })
}

mod kameo_branch {
    use kameo::{
        Actor,
        actor::{ActorRef, Spawn as _},
        error::Infallible,
        mailbox,
        message::{Context, Message},
    };

    use super::{Above, Branch, Grow, Sum};

    pub(super) struct KameoBranch(pub(super) Branch<ActorRef<Self>>);

    impl Actor for KameoBranch {
        type Args = Self;
        type Error = Infallible;

        async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
            Ok(args)
        }
    }

    impl KameoBranch {
        pub(super) fn start(branch: Branch<ActorRef<Self>>) -> ActorRef<Self> {
            Self::spawn_with_mailbox(Self(branch), mailbox::unbounded())
        }

        fn tell(&mut self, sum: u64, cx: &mut Context<Self, ()>) {
            self.0.say(sum, |parent| {
                parent
                    .tell(Sum(sum))
                    .try_send()
                    .expect("the parent is there");
            });
            cx.stop();
        }
    }

    impl Message<Grow> for KameoBranch {
        type Reply = ();

        async fn handle(&mut self, grow: Grow, cx: &mut Context<Self, ()>) {
            if grow.leaves == 1 {
                return self.tell(grow.first, cx);
            }
            for part in grow.parts() {
                let above = Above::Parent(cx.actor_ref().clone());
                let child = Self::start(Branch::below(above));
                child.tell(part).try_send().expect("the child is there");
            }
        }
    }

    impl Message<Sum> for KameoBranch {
        type Reply = ();

        async fn handle(&mut self, Sum(sum): Sum, cx: &mut Context<Self, ()>) {
            if let Some(sum) = self.0.tally.add(sum) {
                self.tell(sum, cx);
            }
        }
    }
}

fn kameo(n: u64) -> Answer {
    let runtime = two_workers()?;
    let _on = runtime.enter();
    let (report, outcome) = report();
    let root = kameo_branch::KameoBranch::start(Branch::top(report));
    measure(n, &outcome, || {
        root.tell(Grow {
            first: 0,
            leaves: n,
        })
        .try_send()
        .expect("the root is there");
    })
}

mod xtra_branch {
    use xtra::{Actor, Address, Context, Handler, Mailbox};

    use super::{Above, Branch, Grow, Sum};

    pub(super) struct XtraBranch(pub(super) Branch<Address<Self>>);

    impl Actor for XtraBranch {
        type Stop = ();

        async fn stopped(self) {}
    }

    impl XtraBranch {
        async fn tell(&mut self, sum: u64, cx: &mut Context<Self>) {
            let mut above = None;
            self.0.say(sum, |parent| above = Some(parent));
            if let Some(parent) = above {
                let _ = parent.send(Sum(sum)).detach().await;
            }
            cx.stop_self();
        }
    }

    /// With the actor's own address: it has no other while nobody else keeps one.
    pub(super) struct GrowAs(pub(super) Address<XtraBranch>, pub(super) Grow);

    impl Handler<GrowAs> for XtraBranch {
        type Return = ();

        async fn handle(&mut self, GrowAs(me, grow): GrowAs, cx: &mut Context<Self>) {
            if grow.leaves == 1 {
                return self.tell(grow.first, cx).await;
            }
            for part in grow.parts() {
                let above = Above::Parent(me.clone());
                let child = xtra::spawn_tokio(Self(Branch::below(above)), Mailbox::unbounded());
                let grow = GrowAs(child.clone(), part);
                let _ = child.send(grow).detach().await;
            }
        }
    }

    impl Handler<Sum> for XtraBranch {
        type Return = ();

        async fn handle(&mut self, Sum(sum): Sum, cx: &mut Context<Self>) {
            if let Some(sum) = self.0.tally.add(sum) {
                self.tell(sum, cx).await;
            }
        }
    }
}

fn xtra(n: u64) -> Answer {
    let runtime = two_workers()?;
    let _on = runtime.enter();
    let (report, outcome) = report();
    let root = xtra_branch::XtraBranch(Branch::top(report));
    let root = xtra::spawn_tokio(root, xtra::Mailbox::unbounded());
    measure(n, &outcome, || {
        let grow = Grow {
            first: 0,
            leaves: n,
        };
        let _ = at_once(root.send(xtra_branch::GrowAs(root.clone(), grow)).detach())
            .expect("the root is there");
    })
}
