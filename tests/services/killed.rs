//! Processes that are killed while they serve or call. The actors are this binary again; they say on their output what they do.

use super::calls::gated;
use super::*;
use mproc::{Event, ServeOptions};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

const ROLE: &str = "SERVICES_ROLE";
const BASE: &str = "SERVICES_BASE";

/// What an actor does; as a test of its own it does nothing.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let base = std::env::var(BASE).unwrap();
    let node = node_in(Path::new(&base));
    match role.as_str() {
        "server" => {
            let served = node.serve("deep", |n: u32| {
                println!("@ handles {n}");
                if n == 0 {
                    loop {
                        std::thread::park();
                    }
                }
                Ok(n + 1)
            });
            let _server = served.unwrap();
            println!("@ serves");
            loop {
                std::thread::park();
            }
        }
        "caller" => {
            let client = node.client::<u32, u32>("deep").unwrap();
            client.wait_for_service(LONG).unwrap();
            let calls: Vec<_> = (0..5).map(|n| begun(&client, n)).collect();
            println!("@ calls");
            for call in calls {
                println!("@ {:?}", get(call));
            }
        }
        "starter" => {
            let client = node.task_client::<u32, u32, u32>("errand").unwrap();
            client.wait_for_server(LONG).unwrap();
            let task = client.start(3).wait_timeout(LONG).unwrap();
            println!("@ started");
            println!("@ {:?}", task.result().wait());
        }
        "idle" => {
            let served = node.serve("deep", |n: u32| Ok(n + 1));
            let _server = served.unwrap();
            let caller = node_in(Path::new(&base));
            let client = caller.client::<u32, u32>("deep").unwrap();
            client.wait_for_service(LONG).unwrap();
            assert_eq!(get(client.call(1)), Ok(2));
            // Until what the call has set going is over.
            until("it sleeps", || {
                let before = wakes_of_services();
                std::thread::sleep(Duration::from_millis(50));
                wakes_of_services() == before
            });
            // On a busy machine a thread goes to sleep late. Who polls is awake in each of these intervals.
            let mut woken = 0;
            for _ in 0..20 {
                let before = wakes_of_services();
                // The subject: what happens while time passes and nothing else.
                std::thread::sleep(Duration::from_millis(700));
                woken = wakes_of_services() - before;
                if woken == 0 {
                    break;
                }
            }
            println!("@ woken {woken} times");
        }
        "leaves" => {
            drop(node);
            let path = PathBuf::from(&base);
            // What is made once for the process is made before it counts.
            (0..2).for_each(|_| serves_and_ends(&path));
            let before = what_is_held();
            (0..10).for_each(|_| serves_and_ends(&path));
            until("all is given back", || {
                let held = what_is_held();
                held.iter().zip(&before).all(|(now, before)| now <= before)
            });
            println!("@ holds nothing");
        }
        other => panic!("{other}"),
    }
}

/// How often threads that deal with services went to sleep in this process.
fn wakes_of_services() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let paths = tasks.map(|task| task.unwrap().path());
    let named = |path: &std::path::PathBuf| {
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        name.trim() == "mproc services"
    };
    let mut found = 0;
    let of = |path: std::path::PathBuf| {
        found += 1;
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |count| count.trim().parse().unwrap())
    };
    let wakes = paths.filter(named).map(of).sum();
    assert_eq!(found, 2, "one for each node");
    wakes
}

/// Two nodes call each other's services and tasks, and end while some of that is under way.
fn serves_and_ends(base: &Path) {
    let (serve, call) = (node_in(base), node_in(base));
    let gated = gated(&serve, "gated", ServeOptions::new());
    let tasks = serve.task("work", |goal: u32, task: &mproc::TaskCx<u32>| {
        task.wait_for_cancel(LONG);
        Ok(goal)
    });
    let tasks = tasks.unwrap();
    let client = call.client::<u32, u32>("gated").unwrap();
    client.wait_for_service(LONG).unwrap();
    gated.go.send(()).unwrap();
    assert_eq!(get(client.call(1)), Ok(2));
    let waits = client.call(2).start();
    client.call(3).start().detach();
    let work = call.task_client::<u32, u32, u32>("work").unwrap();
    work.wait_for_server(LONG).unwrap();
    let task = work.start(1).wait_timeout(LONG).unwrap();
    let feedback = task.next_feedback().start();
    drop(gated);
    drop(tasks);
    let _report = serve.shutdown(LONG);
    // Answered at the end, or told of it.
    let _either = waits.wait();
    drop((feedback, task));
    let _report = call.shutdown(LONG);
}

/// Descriptors, threads and mapped memory of nodes in this process.
fn what_is_held() -> [usize; 3] {
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let shared = maps.lines().filter(|line| line.contains("memfd:"));
    [
        count("/proc/self/fd"),
        count("/proc/self/task"),
        shared.count(),
    ]
}

struct Actor {
    child: Child,
    lines: Receiver<String>,
}

impl Actor {
    fn start(role: &str, base: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::role", "--nocapture", "--test-threads=1"])
            .env_remove("MPROC_DOMAIN")
            .env(ROLE, role)
            .env(BASE, base)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, ours)) = line.split_once("@ ")
                    && tell.send(ours.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn says(&self, what: &str) {
        let line = self.lines.recv_timeout(LONG);
        assert_eq!(line.as_deref(), Ok(what));
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_that_is_killed_while_calls_wait_is_an_error_at_once() {
    let base = TempDir::new().unwrap();
    let node = node_in(base.path());
    let client = node.client::<u32, u32>("deep").unwrap();
    let mut server = Actor::start("server", base.path());
    server.says("serves");
    client.wait_for_service(LONG).unwrap();
    assert_eq!(get(client.call(6)), Ok(7));
    server.says("handles 6");
    let running = begun(&client, 0);
    let queued = begun(&client, 1);
    server.says("handles 0");
    let unavailable = node.events().unwrap();
    server.kill();
    for call in [running, queued] {
        // Long before any limit: the wait has none to speak of.
        let error = call.wait_timeout(LONG).unwrap_err();
        let ServiceError::Gone(text) = &error else {
            panic!("{error:?}");
        };
        let process = format!("process {}", server.child.id());
        assert!(text.contains(&process), "{text}");
    }
    until("nobody serves it", || client.server_count() == 0);
    assert_eq!(client.call(1).wait(), Err(ServiceError::NoServer));
    let mut events = unavailable.iter();
    let gone = Event::ServerUnmatched {
        service: "deep".to_owned(),
        servers: 0,
    };
    assert!(events.any(|event| *event == gone));
    // Another takes its place.
    let again = Actor::start("server", base.path());
    again.says("serves");
    client.wait_for_service(LONG).unwrap();
    assert_eq!(get(client.call(8)), Ok(9));
}

#[test]
fn a_caller_that_is_killed_takes_its_queued_requests_with_it() {
    let base = TempDir::new().unwrap();
    let node = node_in(base.path());
    let gated = gated(&node, "deep", ServeOptions::new());
    let mut caller = Actor::start("caller", base.path());
    caller.says("calls");
    assert_eq!(gated.begins.recv_timeout(LONG), Ok(0));
    until("all have come", || snapshot(&node, "deep").requests == 5);
    caller.kill();
    until("all are cancelled", || {
        snapshot(&node, "deep").requests_cancelled == 5
    });
    gated.go.send(()).unwrap();
    gated.go.send(()).unwrap();
    let own = node.client::<u32, u32>("deep").unwrap();
    assert_eq!(get(own.call(100)), Ok(101));
    assert_eq!(gated.begins.try_iter().collect::<Vec<_>>(), [100]);
    let served = snapshot(&node, "deep");
    assert_eq!((served.replies, served.replies_dropped), (0, 0));
}

#[test]
fn a_client_that_is_killed_cancels_its_task() {
    let base = TempDir::new().unwrap();
    let node = node_in(base.path());
    let (told, asked) = channel();
    let told = std::sync::Mutex::new(told);
    let run = move |goal: u32, task: &mproc::TaskCx<u32>| {
        let was_asked = task.wait_for_cancel(LONG);
        let _ = told.lock().unwrap().send((goal, was_asked));
        Ok(goal)
    };
    let _server = node.task("errand", run).unwrap();
    let mut starter = Actor::start("starter", base.path());
    starter.says("started");
    assert!(asked.try_recv().is_err());
    starter.kill();
    assert_eq!(asked.recv_timeout(LONG), Ok((3, true)));
}

#[test]
#[cfg(target_os = "linux")]
fn nodes_that_serve_and_call_sleep_when_nothing_happens() {
    let base = TempDir::new().unwrap();
    let idle = Actor::start("idle", base.path());
    idle.says("woken 0 times");
}

#[test]
fn nodes_that_served_and_called_leave_nothing_behind() {
    let base = TempDir::new().unwrap();
    let actor = Actor::start("leaves", base.path());
    actor.says("holds nothing");
}
