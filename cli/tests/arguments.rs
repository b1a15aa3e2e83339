//! What is said of wrong arguments, and of help.

mod support;

use support::Place;

#[test]
fn a_wrong_domain_is_named() {
    let ran = Place::new().run(&["--domain", "../x", "list"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains(r#""../x""#), "{ran:?}");
}

#[test]
fn a_wrong_look_limit_is_refused() {
    let place = Place::new();
    for limit in ["0", "-1", "601", "NaN", "x", ""] {
        let ran = place.run(&["list", &format!("--look-limit={limit}")]);
        assert_eq!(ran.code, Some(2), "{limit}: {ran:?}");
        assert!(ran.err.contains("--look-limit"), "{ran:?}");
    }
    for limit in ["0.05", "600"] {
        place.run(&["list", "--look-limit", limit]).ok();
    }
    let mut command = place.command(&["list"]);
    let output = command.env("MPROC_LOOK_LIMIT", "never").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn help_is_everywhere() {
    let place = Place::new();
    let commands = [
        "list",
        "info",
        "echo",
        "hz",
        "bw",
        "delay",
        "pub",
        "call",
        "graph",
        "top",
        "record",
        "play",
        "doctor",
        "bench",
        "completions",
    ];
    let all = place.run(&["--help"]);
    for command in commands {
        assert!(all.ok().contains(command));
        for help in ["--help", "-h"] {
            let help = place.run(&[command, help]);
            assert!(help.ok().contains("Examples:"), "{command}: {help:?}");
        }
    }
}

#[test]
fn wrong_arguments_have_the_code_2_and_a_reason() {
    let place = Place::new();
    for (arguments, reason) in [
        (&["lst"][..], "list"),
        (&["list", "topcs"], "topics"),
        (&["list", "topics", "a*"], "mixes *"),
        (&["echo"], "<TOPIC>"),
        (
            &["echo", "a", "--once", "--count", "2"],
            "cannot be used with",
        ),
        (&["echo", "a", "--json", "--csv"], "cannot be used with"),
        (
            &["echo", "a", "--raw", "--field", "x"],
            "cannot be used with",
        ),
        (&["echo", "a", "--count", "0"], "1.."),
        (&["echo", "a", "--field", "x..y"], "a name or an index"),
        (&["echo", "a", "--filter", "x > 1 y"], "not clear"),
        (&["echo", "a", "--timeout", "soon"], "number of seconds"),
        (&["echo", "a", "--queue", "0"], "between 1 and 4096"),
        (&["hz", "a", "--window", "1 minute"], "number of samples"),
        (&["pub", "a"], "VALUE"),
        (&["pub", "a", "1", "--stdin"], "cannot be used with"),
        (&["pub", "a", "1", "--rate", "0"], "between"),
        (&["call", "a", "{"], "no JSON"),
        (&["graph", "--format", "svg"], "possible values"),
        (&["graph", "a//b"], "segment"),
        (&["graph", "--watch", "61"], "between 0 and 60"),
        (&["completions", "cmd"], "possible values"),
    ] {
        let ran = place.run(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(reason), "{arguments:?}: {ran:?}");
        assert!(ran.out.is_empty(), "{ran:?}");
    }
}

#[test]
fn arguments_that_are_not_utf_8_do_no_harm() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    for command in ["list", "info", "echo", "hz", "pub", "call", "graph"] {
        let ran = Place::new().run(&[command.as_ref(), odd]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(!ran.err.contains("panicked"), "{ran:?}");
    }
}

#[test]
fn each_shell_gets_its_completions() {
    let place = Place::new();
    for (shell, word) in [
        ("bash", "complete -F _mproc"),
        ("zsh", "#compdef mproc"),
        ("fish", "complete -c mproc"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let ran = place.run(&["completions", shell]);
        assert!(ran.ok().contains(word), "{shell}");
        assert!(
            ran.out.contains("bandwidth") || ran.out.contains("bw"),
            "{shell}"
        );
    }
}
