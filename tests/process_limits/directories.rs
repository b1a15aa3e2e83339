//! Directories and names that cannot be used.

use super::*;
use crate::actor::{Actor, say, start};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

const NUMBERS: Topic<u64> = Topic::new("numbers");

/// Makes a node by the environment, and a publisher. A node for itself makes one, too.
pub(crate) fn act() {
    let said = |error: Error| format!("{:?}: {error}", error.kind());
    let answer = match Node::new().map(|node| (node.publisher(&NUMBERS), node)) {
        // Its socket is removed before the answer is heard.
        Ok((Ok(_publisher), node)) => format!("joined {:?}", node.domain()),
        Ok((Err(error), _node)) => format!("not joined: {}", said(error)),
        Err(error) => format!("no node: {}", said(error)),
    };
    say(&format!("answer {answer}"));
}

fn answer(base: &Path, more: &[(&str, &OsStr)]) -> String {
    let mut actor: Actor = start("environment", base, more);
    actor.wait_for("answer")
}

fn with_runtime(runtime: &OsStr) -> String {
    let more = [
        ("MPROC_DOMAIN", DOMAIN.as_ref()),
        ("XDG_RUNTIME_DIR", runtime),
    ];
    let text = answer(Path::new("/"), &more);
    // The environment gives the domain: the node is made all the same, and whoever needs the others is told.
    assert!(!text.starts_with("no node"), "{text}");
    text
}

fn says(text: &str, what: &[&str]) {
    for what in what {
        assert!(text.contains(what), "{what:?} is not in: {text}");
    }
}

#[test]
fn directory_that_cannot_be_used_is_named_with_what_to_do() {
    let base = base();
    let path = base.path().to_str().unwrap();
    // It works before anything is wrong.
    assert_eq!(
        with_runtime(base.path().as_ref()),
        r#"joined Some("limits")"#
    );
    let own = format!("{path}/mproc");
    let domain = format!("{own}/{DOMAIN}");
    for folder in [&own, &domain] {
        fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
        let text = with_runtime(base.path().as_ref());
        says(&text, &["Io", folder, "777", "chmod"]);
        fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        // Only root can give a directory away, and not everywhere.
        if let Err(error) = chown(folder, Some(12345), None) {
            println!("skipped: chown: {error}");
        } else {
            let text = with_runtime(base.path().as_ref());
            says(&text, &["Io", folder, "12345", "user"]);
            chown(folder, Some(0), None).unwrap();
        }
    }
    fs::remove_dir(&domain).unwrap();
    symlink("/tmp", &domain).unwrap();
    let text = with_runtime(base.path().as_ref());
    says(&text, &["Io", &domain, "symbolic link", "remove it"]);
    fs::remove_file(&domain).unwrap();
    fs::write(&domain, "").unwrap();
    let text = with_runtime(base.path().as_ref());
    says(&text, &["Io", &domain, "directory", "remove it"]);
    fs::remove_file(&domain).unwrap();
    assert_eq!(
        with_runtime(base.path().as_ref()),
        r#"joined Some("limits")"#
    );
}

#[test]
fn runtime_directory_that_cannot_be_used_is_named_with_what_to_do() {
    let base = base();
    let text = with_runtime("here".as_ref());
    says(
        &text,
        &["InvalidSetting", "\"here\"", "relative", "XDG_RUNTIME_DIR"],
    );
    let missing = base.path().join("missing");
    let text = with_runtime(missing.as_ref());
    says(
        &text,
        &[
            "InvalidSetting",
            missing.to_str().unwrap(),
            "does not exist",
            "XDG_RUNTIME_DIR",
        ],
    );
    let file = base.path().join("file");
    fs::write(&file, "").unwrap();
    let text = with_runtime(file.as_ref());
    says(
        &text,
        &[
            "Io",
            file.to_str().unwrap(),
            "not a directory",
            "XDG_RUNTIME_DIR",
        ],
    );
}

/// Who was told by the program where to look is not sent to the environment.
#[test]
fn directory_of_the_program_is_not_blamed_on_the_environment() {
    let domain = |path: &Path| DomainOptions::new(DOMAIN).unwrap().directory(path);
    let base = base();
    for path in [Path::new("here"), &base.path().join("missing")] {
        let built = Node::builder().domain_with(domain(path)).build();
        let text = built.unwrap_err().to_string();
        says(&text, &[path.to_str().unwrap()]);
        assert!(!text.contains("XDG_RUNTIME_DIR"), "{text}");
    }
}

#[test]
fn name_that_is_no_domain_is_refused_with_the_reason() {
    let base = base();
    let long = "x".repeat(65);
    let odd = OsString::from_vec(vec![b'a', 0xFF]);
    let cases: [(&OsStr, &str); 5] = [
        ("../x".as_ref(), "starts with a dot"),
        ("".as_ref(), "empty"),
        (long.as_ref(), "more than 64 bytes"),
        ("a/b".as_ref(), "'/' at byte 1"),
        (&odd, "not UTF-8"),
    ];
    for (name, expected) in cases {
        let more = [
            ("MPROC_DOMAIN", name),
            ("XDG_RUNTIME_DIR", base.path().as_ref()),
        ];
        let text = answer(base.path(), &more);
        says(
            &text,
            &["no node", "InvalidSetting", "MPROC_DOMAIN", expected],
        );
    }
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
}
