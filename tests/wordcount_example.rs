//! The example `wordcount` as a program: on trees of which the counts are known, on this repository's sources, and on what makes
//! no sense.

#[path = "support/examples.rs"]
mod examples;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use examples::example;

fn wordcount(arguments: &[&str], path: Option<&Path>) -> Output {
    let mut command = Command::new(example("wordcount"));
    command.args(arguments).args(path);
    command.output().unwrap()
}

#[track_caller]
fn good(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The row of the table that shows this word: how often it was counted.
fn times<'a>(shown: &'a str, word: &str) -> Option<&'a str> {
    shown.lines().find_map(|line| {
        let mut cells = line.split_whitespace().skip_while(|cell| *cell == "│");
        (cells.next() == Some(word)).then(|| cells.next())?
    })
}

#[test]
fn words_of_a_small_tree_are_counted() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("deep")).unwrap();
    fs::write(tree.path().join("one.txt"), "The cat. the-DOG, the 3 cats!").unwrap();
    fs::write(tree.path().join("deep/two.md"), "the Äpfel äpfel\n").unwrap();
    fs::write(tree.path().join("three.jpg"), "the the the").unwrap();
    for threads in ["1", "2", "7"] {
        let shown = good(wordcount(&["--threads", threads], Some(tree.path())));
        assert_eq!(times(&shown, "the"), Some("4"), "{shown}");
        assert_eq!(times(&shown, "äpfel"), Some("2"), "{shown}");
        assert_eq!(times(&shown, "3"), Some("1"), "{shown}");
        assert!(shown.contains("2 files"), "{shown}");
        assert!(shown.contains("10 words, 6 different ones"), "{shown}");
        assert!(
            shown.contains("checked: a plain loop found the same"),
            "{shown}"
        );
    }
    let all = wordcount(&["--extensions", "", "--top", "1"], Some(tree.path()));
    let all = good(all);
    assert_eq!(times(&all, "the"), Some("7"), "{all}");
    assert_eq!(times(&all, "cat"), None, "{all}");
}

#[test]
fn this_repository_is_counted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in ["runtime/src", "src"] {
        let shown = good(wordcount(
            &["--extensions", "rs,.md"],
            Some(&path.join(part)),
        ));
        assert!(
            shown.contains("checked: a plain loop found the same"),
            "{shown}"
        );
        assert!(times(&shown, "self").is_some(), "{shown}");
    }
}

#[test]
fn what_cannot_be_read_is_counted_and_left_out() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("good.txt"), "good").unwrap();
    for n in 0..7 {
        fs::write(tree.path().join(format!("{n}.txt")), b"bad \xff bad").unwrap();
    }
    let output = wordcount(&[], Some(tree.path()));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("left out: 7"), "{errors}");
    assert!(errors.contains("no text in UTF-8"), "{errors}");
    assert!(errors.contains("and 2 more"), "{errors}");
    let shown = good(output);
    assert!(shown.contains("1 files"), "{shown}");
    assert!(shown.contains("1 words, 1 different ones"), "{shown}");
}

#[test]
fn an_empty_tree_has_no_words() {
    let tree = tempfile::tempdir().unwrap();
    let shown = good(wordcount(&["--check", "true"], Some(tree.path())));
    assert!(shown.contains("0 words, 0 different ones"), "{shown}");
}

#[test]
fn the_plain_loop_can_be_left_out() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("a.txt"), "a").unwrap();
    let shown = good(wordcount(&["--check", "false"], Some(tree.path())));
    assert!(!shown.contains("checked"), "{shown}");
}

#[test]
fn bad_arguments_are_refused_with_a_reason() {
    let refused = |arguments: &[&str], reason: &str| {
        let output = wordcount(arguments, None);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(reason), "{errors}");
    };
    refused(&["/no/such/place"], "cannot read /no/such/place");
    refused(&["--threads", "0"], "--threads");
    refused(&["--top", "many"], "--top");
    refused(&["--nonsense"], "--nonsense");
}
