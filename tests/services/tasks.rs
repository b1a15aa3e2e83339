//! Long tasks.

use super::*;
use mproc::{Fault, GoalHandle, TaskCx, TaskError, TaskOptions};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

type Handle = GoalHandle<u32, u32, String>;

/// What a task is told by its test.
enum Do {
    Say(u32),
    Return(&'static str),
    Fail,
    Panic,
    /// Waits until it is asked to end early.
    Await,
    Accept,
    Refuse,
}

struct Puppet {
    tell: Sender<Do>,
    /// What the task tells: that it has begun, with its goal, and that it was asked to end early.
    told: Receiver<String>,
    _server: mproc::TaskServer,
}

fn puppet(node: &Node, name: &str, options: TaskOptions<u32>) -> Puppet {
    let (tell, orders) = channel();
    let (say, told) = channel();
    let inside = Mutex::new((orders, say));
    let run = move |goal: u32, task: &TaskCx<u32>| {
        let inside = inside.lock().unwrap_or_else(|poison| poison.into_inner());
        let (orders, say) = &*inside;
        let _ = say.send(format!("begins {goal}"));
        while let Ok(order) = orders.recv() {
            match order {
                Do::Say(n) => task.feedback(n),
                Do::Return(text) => return Ok(text.to_owned()),
                Do::Fail => return Err(Fault::new("it broke")),
                Do::Panic => panic!("it burst"),
                Do::Await => {
                    let asked = task.wait_for_cancel(LONG);
                    let _ = say.send(format!("asked {asked}"));
                }
                Do::Accept => task.accept_cancel(),
                Do::Refuse => task.refuse_cancel("not now"),
            }
        }
        Err(Fault::new("its test has ended"))
    };
    Puppet {
        tell,
        told,
        _server: node.task_with(name, options, run).unwrap(),
    }
}

impl Puppet {
    fn does(&self, orders: impl IntoIterator<Item = Do>) {
        orders
            .into_iter()
            .for_each(|order| self.tell.send(order).unwrap());
    }

    fn says(&self, what: &str) {
        assert_eq!(self.told.recv_timeout(LONG).as_deref(), Ok(what));
    }
}

fn started(pair: &Pair, name: &str, goal: u32) -> Handle {
    let client = pair.call.task_client(name).unwrap();
    client.wait_for_server(LONG).unwrap();
    client.start(goal).wait_timeout(LONG).unwrap()
}

#[test]
fn a_task_tells_how_far_it_is_and_then_its_result() {
    both(|pair| {
        let puppet = puppet(&pair.serve, "count", TaskOptions::new());
        let task = started(pair, "count", 7);
        puppet.says("begins 7");
        let next = task.next_feedback();
        puppet.does([Do::Say(10)]);
        let first = next.wait_timeout(LONG).unwrap().unwrap();
        assert_eq!((first.value, first.gap), (10, 0));
        puppet.does([Do::Say(20), Do::Say(30), Do::Return("done")]);
        let rest: Vec<_> = task.feedback().map(|feedback| feedback.value).collect();
        assert_eq!(rest, [20, 30], "what is there at the end is read, too");
        assert_eq!(task.result().wait_timeout(LONG), Ok("done".to_owned()));
    });
}

#[test]
fn a_goal_is_refused_with_the_reason() {
    both(|pair| {
        let even = |goal: &u32| match goal % 2 {
            0 => Ok(()),
            _ => Err(format!("{goal} is odd")),
        };
        let puppet = puppet(&pair.serve, "even", TaskOptions::new().accept(even));
        let client = pair.call.task_client::<u32, u32, String>("even").unwrap();
        client.wait_for_server(LONG).unwrap();
        let refused = client.start(3).wait_timeout(LONG).unwrap_err();
        assert_eq!(refused, TaskError::Refused("3 is odd".to_owned()));
        let task = client.start(4).wait_timeout(LONG).unwrap();
        puppet.says("begins 4");
        let busy = client.start(6).wait_timeout(LONG).unwrap_err();
        assert_eq!(
            busy,
            TaskError::Refused("busy with 1 of 1 tasks".to_owned())
        );
        puppet.does([Do::Return("four")]);
        assert_eq!(task.result().wait_timeout(LONG), Ok("four".to_owned()));
        let task = client.start(8).wait_timeout(LONG).unwrap();
        puppet.does([Do::Return("eight")]);
        assert_eq!(task.result().wait_timeout(LONG), Ok("eight".to_owned()));
    });
}

#[test]
fn a_task_that_fails_or_panics_ends_as_failed_with_the_reason() {
    both(|pair| {
        let puppet = puppet(&pair.serve, "fragile", TaskOptions::new());
        for (order, reason) in [(Do::Fail, "it broke"), (Do::Panic, "panicked: it burst")] {
            let task = started(pair, "fragile", 1);
            puppet.does([order]);
            let failed = task.result().wait_timeout(LONG).unwrap_err();
            assert_eq!(failed, TaskError::Failed(reason.to_owned()));
        }
    });
}

#[test]
fn a_task_accepts_or_refuses_to_be_cancelled() {
    both(|pair| {
        let puppet = puppet(&pair.serve, "stubborn", TaskOptions::new());
        let task = started(pair, "stubborn", 1);
        puppet.does([
            Do::Await,
            Do::Refuse,
            Do::Await,
            Do::Accept,
            Do::Return("late"),
        ]);
        let refused = task.cancel().wait_timeout(LONG).unwrap_err();
        assert_eq!(refused, TaskError::CancelRefused("not now".to_owned()));
        assert_eq!(task.cancel().wait_timeout(LONG), Ok(()));
        assert_eq!(task.result().wait_timeout(LONG), Err(TaskError::Cancelled));
        puppet.says("begins 1");
        puppet.says("asked true");
        puppet.says("asked true");
        // One that is over cannot be cancelled.
        let task = started(pair, "stubborn", 2);
        puppet.does([Do::Return("over")]);
        assert_eq!(task.next_feedback().wait_timeout(LONG), Ok(None));
        let refused = task.cancel().wait_timeout(LONG).unwrap_err();
        assert_eq!(refused, TaskError::CancelRefused("it has ended".to_owned()));
        assert_eq!(task.result().wait_timeout(LONG), Ok("over".to_owned()));
    });
}

#[test]
fn a_task_for_which_nobody_waits_is_asked_to_end() {
    both(|pair| {
        let puppet = puppet(&pair.serve, "lonely", TaskOptions::new());
        let give_up: [fn(Handle); 3] = [
            drop,
            |task| drop(task.result()),
            |task| {
                let late = task.result().wait_timeout(Duration::from_millis(1));
                assert_eq!(late, Err(TaskError::Service(ServiceError::Timeout)));
            },
        ];
        for give_up in give_up {
            let task = started(pair, "lonely", 1);
            puppet.says("begins 1");
            puppet.does([Do::Await, Do::Accept, Do::Return("")]);
            give_up(task);
            puppet.says("asked true");
            // It is over when the next may begin.
            until("it is over", || {
                let client = pair.call.task_client::<u32, u32, String>("lonely").unwrap();
                match client.start(2).wait_timeout(LONG) {
                    Ok(task) => {
                        puppet.does([Do::Return("free")]);
                        assert_eq!(task.result().wait_timeout(LONG), Ok("free".to_owned()));
                        puppet.says("begins 2");
                        true
                    }
                    Err(error) => {
                        assert!(matches!(error, TaskError::Refused(_)), "{error:?}");
                        false
                    }
                }
            });
        }
    });
}

#[test]
fn a_detached_task_goes_on_and_its_result_is_fetched_later_and_once() {
    both(|pair| {
        let puppet = puppet(&pair.serve, "errand", TaskOptions::new());
        let task = started(pair, "errand", 5);
        let id = task.detach().wait_timeout(LONG).unwrap();
        puppet.does([Do::Say(1), Do::Return("fetched")]);
        let client = pair.call.task_client::<u32, u32, String>("errand").unwrap();
        let again = client.attach(id);
        assert_eq!(
            again
                .next_feedback()
                .wait_timeout(LONG)
                .unwrap()
                .unwrap()
                .value,
            1
        );
        assert_eq!(again.result().wait_timeout(LONG), Ok("fetched".to_owned()));
        let unknown = client.attach(id).result().wait_timeout(LONG);
        assert_eq!(unknown, Err(TaskError::Unknown));
        assert_eq!(
            client.attach(99).result().wait_timeout(LONG),
            Err(TaskError::Unknown)
        );
    });
}

#[test]
fn of_too_much_feedback_the_oldest_is_dropped_and_counted() {
    both(|pair| {
        let puppet = puppet(&pair.serve, "chatty", TaskOptions::new());
        let task = started(pair, "chatty", 1);
        puppet.does((1..=100).map(Do::Say));
        puppet.does([Do::Return("")]);
        let over = TaskError::CancelRefused("it has ended".to_owned());
        // It says all before it looks whether it should end, so that nothing is read meanwhile.
        until("it has ended", || {
            task.cancel().wait_timeout(LONG) == Err(over.clone())
        });
        let said: Vec<_> = task.feedback().collect();
        assert_eq!(said.len(), 64);
        assert_eq!((said[0].value, said[0].gap), (37, 36));
        assert!(said[1..].iter().all(|feedback| feedback.gap == 0));
    });
}

#[test]
fn the_end_of_the_server_is_told_at_once_and_asks_tasks_to_end() {
    both(|pair| {
        let puppet = puppet(&pair.serve, "closing", TaskOptions::new());
        let task = started(pair, "closing", 1);
        puppet.says("begins 1");
        puppet.does([Do::Await, Do::Return("")]);
        let next = {
            let mut next = task.next_feedback();
            next.begin();
            next
        };
        if pair.is_between() {
            until("all have come", || {
                pair.served("mproc/task/closing").requests == 3
            });
        }
        let Puppet {
            told,
            _server: server,
            ..
        } = puppet;
        drop(server);
        for error in [
            next.wait_timeout(LONG).map(drop).unwrap_err(),
            task.result().wait_timeout(LONG).map(drop).unwrap_err(),
        ] {
            assert!(
                matches!(&error, TaskError::Service(ServiceError::Gone(_))),
                "{error:?}"
            );
        }
        assert_eq!(told.recv_timeout(LONG).as_deref(), Ok("asked true"));
    });
}

#[test]
fn a_result_that_nobody_fetches_is_kept_for_the_time_that_was_said() {
    let node = Node::simulated_with(5, Options::default());
    let options = TaskOptions::new().keep(Duration::from_secs(10)).at_once(2);
    let run = |goal: u32, task: &TaskCx<u32>| {
        task.wait_for_cancel(Duration::from_secs(u64::from(goal)));
        Ok(goal)
    };
    let _server = node.task_with("kept", options, run).unwrap();
    let client = node.task_client::<u32, u32, u32>("kept").unwrap();
    let detached = |goal| {
        let task = client.start(goal).wait().unwrap();
        task.detach().wait().unwrap()
    };
    let (short, long) = (detached(1), detached(6));
    node.advance(Duration::from_secs(12));
    // The first ended 11 s ago, the second 6 s ago.
    assert_eq!(
        client.attach(short).result().wait(),
        Err(TaskError::Unknown)
    );
    assert_eq!(client.attach(long).result().wait(), Ok(6));
}

#[test]
fn tasks_run_at_once_up_to_their_number_and_a_client_that_never_comes_back_cancels() {
    let node = Node::simulated_with(9, Options::default());
    let ended = Arc::new(Mutex::new(Vec::new()));
    let log = ended.clone();
    let run = move |goal: u32, task: &TaskCx<u32>| {
        let asked = task.wait_for_cancel(Duration::from_secs(3600));
        log.lock().unwrap().push((goal, asked));
        Ok(goal)
    };
    let _server = node
        .task_with("many", TaskOptions::new().at_once(3), run)
        .unwrap();
    let client = node.task_client::<u32, u32, u32>("many").unwrap();
    let tasks: Vec<_> = (0..3).map(|n| client.start(n).wait().unwrap()).collect();
    assert!(matches!(client.start(3).wait(), Err(TaskError::Refused(_))));
    assert_eq!(*ended.lock().unwrap(), []);
    drop(tasks);
    node.advance(Duration::from_secs(1));
    ended.lock().unwrap().sort_unstable();
    assert_eq!(*ended.lock().unwrap(), [(0, true), (1, true), (2, true)]);
}

// A panic of what decides about goals ended the server, and with it all tasks that ran.
#[test]
fn a_panic_about_one_goal_leaves_the_other_tasks_alone() {
    both(|pair| {
        let (go, may_go) = channel::<()>();
        let may_go = std::sync::Mutex::new(may_go);
        let options = TaskOptions::new()
            .at_once(2)
            .accept(|goal: &u32| match goal {
                0 => panic!("nothing is no goal"),
                _ => Ok(()),
            });
        let run = move |goal: u32, _: &TaskCx<u32>| {
            may_go.lock().unwrap().recv_timeout(LONG)?;
            Ok(goal + 1)
        };
        let _server = pair.serve.task_with("picky", options, run).unwrap();
        let client = pair.call.task_client::<u32, u32, u32>("picky").unwrap();
        client.wait_for_server(LONG).unwrap();
        let first = client.start(1).wait_timeout(LONG).unwrap();
        let refused = client.start(0).wait_timeout(LONG).unwrap_err();
        assert!(
            refused.to_string().contains("nothing is no goal"),
            "{refused}"
        );
        go.send(()).unwrap();
        assert_eq!(first.result().wait_timeout(LONG), Ok(2));
        let again = client.start(2).wait_timeout(LONG).unwrap();
        go.send(()).unwrap();
        assert_eq!(again.result().wait_timeout(LONG), Ok(3));
    });
}

#[test]
fn a_start_whose_ticket_is_detached_or_cancelled_does_what_it_says() {
    both(|pair| {
        let (told, seen) = channel();
        let run = move |goal: u32, task: &TaskCx<u32>| {
            let asked = match goal {
                0 => task.wait_for_cancel(LONG),
                _ => task.is_cancel_requested(),
            };
            told.send((goal, asked))?;
            Ok(goal)
        };
        let options = TaskOptions::new().at_once(2);
        let _server = pair.serve.task_with("started", options, run).unwrap();
        let client = pair.call.task_client::<u32, u32, u32>("started").unwrap();
        client.wait_for_server(LONG).unwrap();
        client.start(7).start().detach();
        assert_eq!(seen.recv_timeout(LONG), Ok((7, false)));
        // Whether it was accepted before it is cancelled or not: nobody waits for it, and it is asked to end.
        let mut ticket = client.start(0).start();
        until("it is accepted", || ticket.is_done());
        assert!(!ticket.cancel(), "it is done");
        drop(ticket);
        assert_eq!(seen.recv_timeout(LONG), Ok((0, true)));
    });
}
