//! The page in a real browser, without a screen.
//!
//! The browser is driven by its own protocol, over two pipes: messages are JSON, and each ends with a zero byte.

use crate::support::{LIMIT, Service};
use mproc_axum_bridge::Add;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::{env, fs, thread};

/// What the browser is called, by those who package it.
const NAMES: [&str; 7] = [
    "chromium",
    "chromium-browser",
    "chromium-headless-shell",
    "headless_shell",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];

/// The first that is in `PATH`, or else in playwright's cache.
fn find_browser() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path)
        .flat_map(|place| NAMES.map(|name| place.join(name)))
        .find(|program| program.is_file());
    in_path.or_else(|| {
        let cache = match env::var_os("PLAYWRIGHT_BROWSERS_PATH") {
            Some(cache) => PathBuf::from(cache),
            None => PathBuf::from(env::var_os("HOME")?).join(".cache/ms-playwright"),
        };
        // <cache>/chromium-1200/chrome-linux/chrome, and alike.
        let browsers = fs::read_dir(cache).ok()?.filter_map(Result::ok);
        let systems = browsers
            .filter(|browser| {
                browser
                    .file_name()
                    .to_string_lossy()
                    .starts_with("chromium")
            })
            .filter_map(|browser| fs::read_dir(browser.path()).ok())
            .flatten();
        let mut programs = systems
            .filter_map(Result::ok)
            .flat_map(|system| NAMES.map(|name| system.path().join(name)));
        programs.find(|program| program.is_file())
    })
}

/// A browser with one page. It is killed when this is dropped.
struct Browser {
    process: Child,
    orders: ChildStdin,
    /// Whole messages.
    answers: Receiver<Value>,
    next_id: u64,
    session: Option<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn start(program: &std::path::Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // It reads from descriptor 3 and writes to descriptor 4.
        let mut process = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 0</dev/null 1>&2"#])
            .arg(program)
            .args(["--headless", "--remote-debugging-pipe", "--no-first-run"])
            // The only page is ours, and those who run tests as root have no sandbox.
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-proxy-server", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let says = BufReader::new(process.stdout.take().unwrap());
        let (tell, answers) = mpsc::channel();
        thread::spawn(move || {
            for message in says.split(0).map_while(Result::ok) {
                // Nobody waits for more.
                let _ = tell.send(serde_json::from_slice(&message).unwrap());
            }
        });
        let mut browser = Self {
            process,
            orders,
            answers,
            next_id: 1,
            session: None,
            _profile: profile,
        };
        let page = browser.order("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.order("Target.attachToTarget", attach);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        browser
    }

    /// Has the browser carry this out, and returns the result.
    #[track_caller]
    fn order(&mut self, method: &str, params: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        let mut order = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        let mut message = serde_json::to_vec(&order).unwrap();
        message.push(0);
        self.orders.write_all(&message).unwrap();
        loop {
            // Between answers there are events.
            let mut message = self.answers.recv_timeout(LIMIT).expect(method);
            if message["id"] == json!(id) {
                assert_eq!(message["error"], Value::Null, "{method}");
                return message["result"].take();
            }
        }
    }

    /// Runs this on the page, and returns what it comes to; a promise, when it is fulfilled.
    #[track_caller]
    fn run(&mut self, script: &str) -> Value {
        let params = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.order("Runtime.evaluate", params);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{script}");
        answer["result"]["value"].take()
    }

    /// Waits until the element with this id shows this text.
    #[track_caller]
    fn shows(&mut self, id: &str, text: &str) {
        let (id, text) = (json!(id), json!(text));
        self.run(&format!(
            "new Promise((shown) => {{
                const look = () => document.getElementById({id})?.textContent === {text} && shown();
                const changes = {{ subtree: true, childList: true, characterData: true }};
                new MutationObserver(look).observe(document, changes);
                look();
            }})"
        ));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_page_shows_what_others_add_and_its_buttons_work() {
    let Some(program) = find_browser() else {
        // Not by `println`, which is shown for tests that fail.
        let why = "there is no chromium and no chrome, neither in PATH nor in playwright's cache";
        writeln!(std::io::stderr(), "browser test skipped: {why}").unwrap();
        return;
    };
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let service = tokio.block_on(Service::start());
    let mut browser = Browser::start(&program);
    let url = format!("http://{}/", service.address);
    let went = browser.order("Page.navigate", json!({ "url": url }));
    assert_eq!(went["errorText"], Value::Null);
    browser.shows("total", "0");
    // From elsewhere.
    for n in [2, 3] {
        service.counter.call(Add(n)).wait().unwrap();
    }
    browser.shows("total", "5");
    browser.run("document.getElementById('add').click()");
    browser.shows("total", "6");
    browser.shows("answer", "6");
    let list = "[...document.querySelectorAll('#changes li')].map((li) => li.textContent).join()";
    assert_eq!(browser.run(list), "6,5,2");
    // A service, which is not there at first.
    browser.run("document.getElementById('square').click()");
    browser.shows("answer", "503: nobody serves it");
    let _server = service.serve_square();
    browser.run("document.getElementById('square').click()");
    browser.shows("answer", "36");
    drop(browser);
    tokio.block_on(service.end());
}
