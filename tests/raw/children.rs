//! Between real processes: this binary starts itself as the other one.

use super::*;
use mproc::{PublisherOptions, TypeInfo};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// Set for the other process: the directory of its domain.
const DIRECTORY: &str = "RAW_TESTS_DIRECTORY";

/// The other process: it has the types, and does what it is told by lines.
#[test]
fn other_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let node = node_in(Path::new(&directory));
    let goals = node.subscription(&GOAL).unwrap();
    let poses = node.publisher(&POSE).unwrap();
    let _server = node.serve("square", |n: u32| Ok(n * n)).unwrap();
    let say = |line: &str| {
        println!("say {line}");
        std::io::stdout().flush().unwrap();
    };
    say(&serde_json::to_string(&GOAL.info()).unwrap());
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "take" => {
                let goal = recv(&goals);
                say(&format!("{} at {}", goal.name, goal.speed));
            }
            "publish" => {
                poses.wait_for_subscribers(1, LONG).unwrap();
                let pose = Pose {
                    x: 1.0,
                    y: 2.0,
                    flags: [3; 8],
                };
                poses.publish(pose).unwrap();
            }
            "flush" => say(&format!("{:?}", poses.flush(LONG))),
            other => panic!("{other}"),
        }
    }
}

struct Other {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Other {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "children::other_process", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    fn said(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("it has said less").unwrap();
            // The test harness writes lines of its own, and one without an end before the first.
            if let Some((_, said)) = line.split_once("say ") {
                return said.to_owned();
            }
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let ended = self.child.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success(), "the other process ended well");
        }
    }
}

#[test]
fn a_program_without_the_types_takes_part() {
    let directory = TempDir::new().unwrap();
    let mut other = Other::start(directory.path());
    let node = node_in(directory.path());

    // What it says of the type is all that is known here.
    let info: TypeInfo = serde_json::from_str(&other.said()).unwrap();
    let goals = node
        .raw_publisher("robot/goal", &info, PublisherOptions::new())
        .unwrap();
    goals.wait_for_subscribers(1, LONG).unwrap();
    goals
        .publish(b"\x82\xa4name\xa4door\xa5speed\xca\x3f\x00\x00\x00", &[])
        .unwrap();
    other.tell("take");
    assert_eq!(other.said(), "door at 0.5");

    let tap = node.tap("robot/pose", SubscriptionOptions::new()).unwrap();
    other.tell("publish");
    let sample = recv(&tap);
    assert_eq!(sample.topic(), "robot/pose");
    assert_eq!(sample.bytes()[16..], [3; 8]);
    other.tell("flush");
    drop(sample);
    assert_eq!(other.said(), "Ok(())");

    let square = node.raw_client("square").unwrap();
    square.wait_for_service(LONG).unwrap();
    assert_eq!(square.call(vec![7]).limit(LONG).wait(), Ok(vec![49]));
}
