//! Names, owners and modes: what a domain's directory has to be, and what is said of one that is not.

use mproc_shm::{
    Change, ConnectError, Directory, DirectoryProblem, Domain, Entry, NodeId, Removal,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

fn base() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn lab() -> Domain {
    Domain::new("lab").unwrap()
}

fn open(base: &TempDir) -> Directory {
    Directory::open_at(base.path(), &lab()).unwrap()
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// What is wrong with `<base>/mproc/lab`.
fn refused(base: &Path) -> (DirectoryProblem, String) {
    let error = Directory::open_at(base, &lab()).unwrap_err();
    (error.problem(), error.to_string())
}

/// A socket file to which nobody listens, as a killed process leaves it.
fn leave_socket(path: &Path) {
    let fd = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    bind(&fd, &SocketAddrUnix::new(path).unwrap()).unwrap();
}

#[test]
fn directory_is_made_for_its_owner_alone() {
    let base = base();
    let directory = open(&base);
    let path = base.path().join("mproc/lab");
    assert_eq!(directory.path(), path);
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&base.path().join("mproc")), 0o700);
    // And is found again.
    open(&base);
}

#[test]
fn open_permissions_are_refused_at_each_level() {
    for folder in ["mproc", "mproc/lab"] {
        for wrong in [0o755, 0o770, 0o701, 0o1777] {
            let base = base();
            open(&base);
            let path = base.path().join(folder);
            set_mode(&path, wrong);
            let (problem, text) = refused(base.path());
            assert_eq!(problem, DirectoryProblem::OpenPermissions);
            let mode = wrong & 0o777;
            let expected = format!(
                "cannot use directory {path:?}: its mode is {mode:04o}, not 0700; run chmod 700 on it"
            );
            assert_eq!(text, expected);
        }
    }
}

#[test]
fn directory_that_shuts_out_its_owner_is_refused() {
    let base = base();
    open(&base);
    let path = base.path().join("mproc/lab");
    set_mode(&path, 0o000);
    let (problem, text) = refused(base.path());
    set_mode(&path, 0o700);
    assert_eq!(problem, DirectoryProblem::OwnerShutOut);
    assert!(text.contains("chmod 700"), "{text}");
}

#[test]
fn link_is_refused_even_to_a_good_directory() {
    for folder in ["mproc", "mproc/lab"] {
        let base = base();
        open(&base);
        let path = base.path().join(folder);
        let elsewhere = base.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        let (problem, text) = refused(base.path());
        assert_eq!(problem, DirectoryProblem::Link);
        let expected = format!(
            "cannot use directory {path:?}: it is a symbolic link, which is not followed; remove it"
        );
        assert_eq!(text, expected);
    }
}

#[test]
fn file_is_refused() {
    let base = base();
    fs::write(base.path().join("mproc"), "").unwrap();
    let (problem, text) = refused(base.path());
    assert_eq!(problem, DirectoryProblem::NotADirectory);
    assert!(
        text.ends_with("mproc\": it is not a directory; remove it"),
        "{text}"
    );
}

#[test]
fn directory_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        // Only root can make one.
        return;
    }
    for folder in ["mproc", "mproc/lab"] {
        let base = base();
        open(&base);
        let path = base.path().join(folder);
        if let Err(error) = std::os::unix::fs::chown(&path, Some(4242), None) {
            println!("skipped: chown: {error}");
            return;
        }
        let (problem, text) = refused(base.path());
        assert_eq!(problem, DirectoryProblem::OtherUser);
        let expected = format!(
            "cannot use directory {path:?}: it belongs to user 4242, this process runs as user 0; "
        );
        assert!(
            text.starts_with(&expected) && text.contains("XDG_RUNTIME_DIR"),
            "{text}"
        );
    }
}

#[test]
fn base_that_is_missing_relative_or_a_file_is_refused_with_a_remedy() {
    let base = base();
    let file = base.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, expected) in [
        (base.path().join("missing"), DirectoryProblem::Missing),
        ("relative".into(), DirectoryProblem::Relative),
        (file, DirectoryProblem::NotADirectory),
    ] {
        let (problem, text) = refused(&path);
        assert_eq!(problem, expected);
        // It was given by the program: the environment has nothing to do with it.
        assert!(
            text.ends_with("give a directory that exists, by its whole path"),
            "{text}"
        );
        assert!(text.contains(&format!("{path:?}")), "{text}");
    }
}

#[test]
fn nonsense_is_no_domain() {
    for (name, text) in [
        ("", "domain has an empty name"),
        ("..", "domain \"..\" starts with a dot"),
        (
            "a/b",
            "domain \"a/b\" has '/' at byte 1; letters, digits, '-', '_' and '.' are allowed",
        ),
        (
            "\u{e9}",
            "domain \"\u{e9}\" has '\u{e9}' at byte 0; letters, digits, '-', '_' and '.' are allowed",
        ),
    ] {
        assert_eq!(Domain::new(name).unwrap_err().to_string(), text);
    }
    assert!(Domain::new(&"x".repeat(64)).is_ok());
    let long = Domain::new(&"x".repeat(65)).unwrap_err().to_string();
    assert!(long.ends_with("has more than 64 bytes"), "{long}");
}

#[test]
fn path_may_be_longer_than_a_socket_address() {
    let base = base();
    let deep = base.path().join("d".repeat(150));
    fs::create_dir(&deep).unwrap();
    let directory = Directory::open_at(&deep, &lab()).unwrap();
    let (listener, own) = directory.bind(node(1)).unwrap();
    let connection = directory.connect(&own.entry()).unwrap();
    assert!(listener.accept().unwrap().is_some());
    assert!(!connection.process.has_ended());
}

#[test]
fn entry_is_there_while_its_owner_listens() {
    let base = base();
    let directory = open(&base);
    fs::write(base.path().join("mproc/lab/notes.txt"), "not ours").unwrap();
    fs::write(base.path().join("mproc/lab/007-x.sock"), "nor this").unwrap();
    let (_listener, own) = directory.bind(node(1)).unwrap();
    let entry = own.entry();
    assert_eq!(entry.pid, std::process::id());
    assert_eq!(directory.list().unwrap(), [entry]);
    assert_eq!(directory.remove_stale(&entry).unwrap(), Removal::Alive);
    drop(own);
    assert_eq!(directory.list().unwrap(), []);
    assert!(matches!(directory.connect(&entry), Err(ConnectError::Gone)));
    assert_eq!(directory.remove_stale(&entry).unwrap(), Removal::Removed);
}

#[test]
fn stale_socket_is_refused_and_removed() {
    let base = base();
    let directory = open(&base);
    let entry = Entry {
        pid: 4_000_000,
        node: node(2),
    };
    leave_socket(
        &directory
            .path()
            .join(format!("{}-{}.sock", entry.pid, entry.node)),
    );
    assert_eq!(directory.list().unwrap(), [entry]);
    assert!(matches!(
        directory.connect(&entry),
        Err(ConnectError::Stale)
    ));
    // While another cleans, it is left to that one.
    let other = openat(&directory, ".", OFlags::DIRECTORY, Mode::empty()).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    assert_eq!(directory.remove_stale(&entry).unwrap(), Removal::Busy);
    // One that starts meanwhile does not wait.
    let (_listener, own) = directory.bind(node(1)).unwrap();
    drop(other);
    assert_eq!(directory.remove_stale(&entry).unwrap(), Removal::Removed);
    assert_eq!(directory.list().unwrap(), [own.entry()]);
}

#[test]
fn what_one_left_who_was_killed_while_it_bound_is_removed_by_the_next() {
    let base = base();
    let directory = open(&base);
    let left = directory.path().join(format!(".77-{}.new", node(3)));
    leave_socket(&left);
    // Not while somebody else may be between bind and rename.
    let other = openat(&directory, ".", OFlags::DIRECTORY, Mode::empty()).unwrap();
    flock(&other, FlockOperation::LockShared).unwrap();
    let first = directory.bind(node(1)).unwrap();
    assert!(left.exists());
    drop(other);
    let second = directory.bind(node(2)).unwrap();
    assert!(!left.exists());
    drop((first, second));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn changes_tell_who_comes_and_goes() {
    let base = base();
    let directory = open(&base);
    let mut changes = directory.changes().unwrap();
    let is_ready = |changes: &dyn AsFd| {
        let fd = changes.as_fd();
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .unwrap()
            == 1
    };
    assert!(!is_ready(&changes));
    let (listener, own) = directory.bind(node(1)).unwrap();
    let entry = own.entry();
    assert!(is_ready(&changes));
    // The hidden name is not told, and who is told of can be connected to at once.
    assert_eq!(changes.read().unwrap(), [Change::Appeared(entry)]);
    directory.connect(&entry).unwrap();
    drop((listener, own));
    assert_eq!(changes.read().unwrap(), [Change::Gone(entry)]);
    assert_eq!(changes.read().unwrap(), []);
    rustix::fs::unlinkat(rustix::fs::CWD, directory.path(), AtFlags::REMOVEDIR).unwrap();
    assert_eq!(changes.read().unwrap(), [Change::DirectoryGone]);
    assert!(directory.bind(node(2)).is_err());
}
