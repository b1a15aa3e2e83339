//! What the compiler says of a message that its processor does not handle.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const PROGRAM: &str = r#"
use mproc_runtime::{Address, Cx, Handle, Outcome, Permit, Processor};
use std::time::Duration;

pub struct Ask;
pub struct Tell;

pub struct Zero;
impl Processor for Zero {}

pub struct One;
impl Processor for One {}
impl Handle<Ask> for One {
    type Reply = ();
    fn handle(&mut self, _: Ask, _: &mut Cx<'_, Self>) -> Outcome<()> { Ok(()) }
}

pub struct Two;
impl Processor for Two {}
impl Handle<Ask> for Two {
    type Reply = ();
    fn handle(&mut self, _: Ask, _: &mut Cx<'_, Self>) -> Outcome<()> { Ok(()) }
}
impl Handle<u8> for Two {
    type Reply = ();
    fn handle(&mut self, _: u8, _: &mut Cx<'_, Self>) -> Outcome<()> { Ok(()) }
}

pub fn send(zero: &Address<Zero>, one: &Address<One>, two: &Address<Two>) {
    let _ = zero.send(Tell);
    let _ = one.send(Tell);
    let _ = two.send(Tell);
}
pub fn try_send(one: &Address<One>) { let _ = one.try_send(Tell); }
pub fn send_timeout(one: &Address<One>) { let _ = one.send_timeout(Tell, Duration::ZERO); }
pub fn call(one: &Address<One>) { let _ = one.call(Tell); }
pub fn permit(one: Permit<One>) { let _ = one.send(Tell); }
"#;

/// Makes a package of its own beside the tests, which sees this runtime and the versions that are locked here.
fn package() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_errors");
    fs::create_dir_all(package.join("src")).unwrap();
    let runtime = root.join("runtime");
    let manifest = format!(
        "[package]\nname = \"compile-errors\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nmproc-runtime = {{ path = {runtime:?} }}\n\n[workspace]\n"
    );
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    fs::write(package.join("src/lib.rs"), PROGRAM).unwrap();
    package
}

/// The errors of the program, as (line of the source, first sentence).
fn errors() -> Vec<(String, String)> {
    let package = package();
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--quiet", "--message-format=json"])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut errors = Vec::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let message = &line["message"];
        // The summary at the end stands at no line.
        let Some(source) = message["spans"][0]["text"][0]["text"].as_str() else {
            continue;
        };
        if message["level"] == "error" {
            let sentence = message["message"].as_str().unwrap_or_default();
            errors.push((source.trim().to_owned(), sentence.to_owned()));
        }
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.is_empty(), "the compiler was not reached: {stderr}");
    errors
}

/// The compiler used to guess the message from the only handler, and to report mismatched types; without any handler it
/// spoke of messages of type `_`.
#[test]
fn a_message_without_a_handler_is_named_by_the_compiler() {
    let errors = errors();
    let said = |processor: &str| {
        let sentence = format!("`{processor}` does not handle messages of type `Tell`");
        errors.iter().filter(|(_, e)| *e == sentence).count()
    };
    assert_eq!(said("Zero"), 1, "{errors:#?}");
    assert_eq!(said("Two"), 1, "{errors:#?}");
    // By `send`, `try_send`, `send_timeout`, `call` and a permit.
    assert_eq!(said("One"), 5, "{errors:#?}");
    assert_eq!(errors.len(), 7, "{errors:#?}");
}
